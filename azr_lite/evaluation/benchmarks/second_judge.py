"""A second opinion on programs that evalplus passed: what they return, compared by value where the program cannot reach.

Comes in: rows of HumanEval+ or MBPP+ and programs.  Goes out: an `Opinion` on each.
The program runs in a jail (`witness.py`) that holds its inputs and nothing else: no expected output, no reference, no dataset, of the
installed packages only numpy. So an always-equal object, a look into the caller's frames or a patched comparison finds nothing
to deceive. The reference runs in a jail of its own; both sides' outputs are read back as builtin values.
Compared as evalplus 0.3.1 does: ``==``; its tolerance (`atol` of the task, 1e-6 once a float or a sequence of floats was expected,
rtol 1e-7, same type and length) and its eleven special cases, which are taken from the installed evalplus.
Nothing is uncheckable. A value of more than 16 MB as text (Mbpp/255) is compared as text, so 1 and True differ there; one without a
plain form (an iterator, a match object) is right only where "not None" is all that is asked.
Not covered: the verdict itself (`code.py` wants both judges), time limits finer than 62 s a call.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.benchmarks import values
from azr_lite.evaluation.benchmarks.confined import confined, interpreter, site_packages

WITNESS = (Path(__file__).with_name("run_in_jail.py"), Path(values.__file__))
CALL_S = 62
PART_S = 80.0
SLACK = 4096
MEMORY_MB = 4096


@dataclass(frozen=True)
class Opinion:
    """Whether all base inputs, and all plus inputs, gave the right value; if not, why."""

    base: bool
    plus: bool
    reason: str = ""


def second_judge(
    dataset: str, items: Sequence[tuple[dict[str, Any], str]], *, parallel: int = 1, allow_weak: bool = False
) -> list[Opinion]:
    """An opinion on each ``(row, program)``; `dataset` is ``humaneval`` or ``mbpp``. The reference runs once a task.

    EvaluationError when a reference does not run; UnsafeError as `confined`.
    """
    by_task: dict[str, list[int]] = {}
    for place, (row, _) in enumerate(items):
        by_task.setdefault(row["task_id"], []).append(place)
    opinions: dict[int, Opinion] = {}

    def one(places: list[int]) -> None:
        row = items[places[0]][0]
        parts = [inputs_of(dataset, row, "base_input"), inputs_of(dataset, row, "plus_input")]
        with tempfile.TemporaryFile() as expected:
            run_in_jail(
                row["prompt"] + row["canonical_solution"], row["entry_point"], parts, expected, allow_weak=allow_weak
            )
            size = expected.seek(0, 2)
            for place in places:
                with tempfile.TemporaryFile() as said:
                    run_in_jail(
                        items[place][1],
                        row["entry_point"],
                        parts,
                        said,
                        file_mb=64 + 4 * (size >> 20),
                        allow_weak=allow_weak,
                    )
                    opinions[place] = _opinion(dataset, row, parts, expected, said)

    with ThreadPoolExecutor(parallel) as pool:
        list(pool.map(one, by_task.values()))
    return [opinions[place] for place in range(len(items))]


def inputs_of(dataset: str, row: dict[str, Any], column: str) -> list[tuple[Any, ...]]:
    """The argument tuples of a row; MBPP+ stores tuples, sets and complex numbers as lists and text."""
    given = row[column]
    if dataset == "mbpp" and given:
        from evalplus.data.mbpp import mbpp_deserialize_inputs

        given = mbpp_deserialize_inputs(row["task_id"], given)
    return [tuple(arguments) for arguments in given]


def run_in_jail(
    program: str,
    entry: str,
    parts: Sequence[Sequence[Any]],
    out: IO[bytes],
    *,
    way: str = "call",
    seconds: int = CALL_S,
    part_s: float = PART_S,
    file_mb: int = 2048,
    before: str = "",
    allow_weak: bool = False,
) -> None:
    """Run a program in a jail and write to `out` what it returns (way "call") or prints ("script"), as `witness.py` puts it.

    `parts`: argument tuples or texts of standard input. `seconds`: for one of them, `part_s` for a part. `before`: run ahead of it.
    """
    argv, read, hide = interpreter("numpy")
    lines = [[values.encode(one) if way == "call" else one for one in part] for part in parts]
    request = {"program": program, "entry": entry, "parts": lines, "way": way, "seconds": seconds, "before": before}
    request["path"] = [site_packages()]
    with tempfile.TemporaryDirectory(prefix="azr-judge-") as scratch:
        for source in WITNESS:  # into scratch, for the folder they come from also holds the answers
            shutil.copy(source, scratch)
        confined(
            [*argv, Path(scratch, WITNESS[0].name)], scratch=Path(scratch), seconds=part_s * len(parts), read=read, hide=hide,
            stdin=json.dumps(request).encode(), memory_mb=MEMORY_MB, processes=16, file_mb=file_mb, stdout_to=out, allow_weak=allow_weak,
        )  # fmt: skip


def _opinion(
    dataset: str, row: dict[str, Any], parts: Sequence[list[tuple[Any, ...]]], expected: IO[bytes], said: IO[bytes]
) -> Opinion:
    expected.seek(0)
    said.seek(0)
    found = [
        _part(Oracle(dataset, row), number, inputs, expected, said, number == len(parts) - 1)
        for number, inputs in enumerate(parts)
    ]
    return Opinion(not found[0], not found[1], found[0] or found[1])


def _part(
    oracle: Oracle, number: int, inputs: list[tuple[Any, ...]], expected: IO[bytes], said: IO[bytes], last: bool
) -> str:
    """Why the part is wrong, or nothing. Both files stand before or in an earlier part."""
    header, after = (f'{{"part":{place}}}\n'.encode() for place in (number, number + 1))
    if not _skip_to(header, expected):
        raise EvaluationError(
            f"the reference of {oracle.task} does not run, so no program can be checked against it; is the data file whole?"
        )
    if not _skip_to(header, said):
        return "the program ended the process that ran it"
    for place, arguments in enumerate(inputs):
        wanted = expected.readline()
        if not wanted.startswith((b'{"v":', b'{"h":')):
            raise EvaluationError(
                f"the reference of {oracle.task} fails on its own input {place} ({wanted[:200].decode()}); is the data file whole?"
            )
        line = said.readline(4 * len(wanted) + SLACK)
        if not line.startswith((b'{"v":', b'{"h":')) or not line.endswith(b"}\n"):
            return f"input {place}: " + (
                line[5:-2].decode(errors="replace")[:200] if line.startswith(b'{"x":') else "no value in time"
            )
        if b'{"h":' in (wanted[:5], line[:5]):
            same = wanted == line
        else:
            same = oracle.right(arguments, wanted[5:-2].decode(), line[5:-2].decode(errors="replace"))
        if not same:
            return f"input {place}: another value"
    rest = said.readline(SLACK)
    if rest == (b"" if last else after):
        said.seek(-len(rest), 1)
        return ""
    return "more values than inputs"


def _skip_to(header: bytes, file: IO[bytes]) -> bool:
    while line := file.readline(1 << 20):
        if line == header:
            return True
    return False


class Oracle:
    """Equality as evalplus has it for one task. `atol` grows once floats were expected, and stays: one object a part."""

    def __init__(self, dataset: str, row: dict[str, Any]) -> None:
        from evalplus.eval import _special_oracle, is_floats

        self.special, self.is_floats = _special_oracle, is_floats
        self.dataset, self.task, self.entry, self.atol = dataset, row["task_id"], row["entry_point"], row["atol"]

    def right(self, arguments: tuple[Any, ...], wanted: str, said: str) -> bool:
        """`wanted` and `said` are encoded values."""
        try:
            return bool(self._right(arguments, values.decode(wanted), values.decode(said)))
        except Exception:  # incomparable: evalplus counts every exception of a comparison as wrong
            return False

    def _right(self, arguments: tuple[Any, ...], exp: Any, out: Any) -> bool:
        import numpy

        exact, special = out == exp, self.special
        if self.dataset == "mbpp":
            if self.entry == "are_equivalent":
                exact = True
            elif self.entry == "sum_div":
                exact = exact or out == 0
            elif self.entry == "surface_Area":
                exact = exact or abs(out - special._surface_Area(*arguments)) <= self.atol
            elif self.entry == "digit_distance_nums":
                exact = exact or out == special._digit_distance_nums(*arguments)
            elif self.entry in special.MBPP_OUTPUT_SET_EQ_TASKS:
                exact = set(out) == set(exp)
            elif self.entry in special.MBPP_OUTPUT_NOT_NONE_TASKS:
                exp = exp is not None
                exact = exp == (out if isinstance(out, bool) else out is not None)
        elif self.entry == "find_zero":
            return abs(special._poly(*arguments, out)) <= self.atol
        if self.atol == 0 and self.is_floats(exp):
            self.atol = 1e-6
        if exact or self.atol == 0:
            return exact
        if type(out) is not type(exp) or (isinstance(exp, list | tuple) and len(out) != len(exp)):
            return False
        return bool(numpy.allclose(out, exp, rtol=1e-07, atol=self.atol))
