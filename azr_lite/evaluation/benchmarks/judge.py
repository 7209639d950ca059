"""Whether a program returns what the reference of its task returns, compared by value where the program cannot reach.

The program runs in a jail that holds its inputs and numpy: no expected output, no reference, no dataset. So an
always-equal object, a look into the caller's frames or a patched comparison finds nothing to deceive. The reference
runs in a jail of its own; outputs cross as data (`sandbox/wire.py`) and are compared here as evalplus 0.3.1 compares:
``==``; its tolerance (`atol` of the task, 1e-6 once a float or a sequence of floats was expected, rtol 1e-7, same type
and length); its special cases, from the installed package.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.benchmarks.jail import WORKERS, Ended, ask_script, run_script
from azr_lite.sandbox import wire

SCRIPT = Path(__file__).with_name("jailed_programs.py")
REFERENCE_S = 62.0
PART_S = 62.0
CALL_S, CALL_FACTOR = 10.0, 8.0
"""Seconds that a call gets at least, and how many times the reference's slowest; evalplus' own 1.0 and 4.0 fail
right answers on a busy machine. A part (all base inputs, all plus inputs) gets `PART_S`, as in evalplus."""
SLACK = 4096
Check = tuple[int, Callable[[list[Any]], bool]]
"""The most bytes that the line of one input may have, and whether the line is right."""


def _uncapped_wire() -> Any:
    """The sandbox's wire format without its caps: right answers hold integers of 100,000 bits and long dicts."""
    spec = importlib.util.spec_from_file_location("azr_lite_uncapped_wire", wire.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.HASHED = module.INT_BITS = 1 << 40  # type: ignore[attr-defined]
    module.DEPTH = 200  # type: ignore[attr-defined]
    return module


uncapped = _uncapped_wire()


@dataclass(frozen=True)
class Opinion:
    """Whether all base inputs, and all plus inputs, gave the right value; if not, why. `layers`: of its jail."""

    base: bool
    plus: bool
    reason: str
    layers: dict[str, str]


def judge(dataset: str, items: Sequence[tuple[dict[str, Any], str]], *, allow_weak: bool = False) -> list[Opinion]:
    """An opinion on each ``(row, program)``; `dataset` is ``humaneval`` or ``mbpp``. The reference runs once per task.

    EvaluationError when a reference does not run; UnsafeError and SandboxError as `run_in_jail`.
    """
    by_task: dict[str, list[int]] = {}
    for place, (row, _) in enumerate(items):
        by_task.setdefault(row["task_id"], []).append(place)
    opinions: dict[int, Opinion] = {}

    def one(places: list[int]) -> None:
        row, programs = items[places[0]][0], [items[place][1] for place in places]
        opinions.update(zip(places, _judge_task(dataset, row, programs, allow_weak), strict=True))

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(one, by_task.values()))
    return [opinions[place] for place in range(len(items))]


def _judge_task(dataset: str, row: dict[str, Any], programs: list[str], allow_weak: bool) -> list[Opinion]:
    entry, opinions = row["entry_point"], []
    parts = [inputs_of(dataset, row, "base_input"), inputs_of(dataset, row, "plus_input")]
    with tempfile.TemporaryFile() as expected:
        reference = row["prompt"] + row["canonical_solution"]
        run_program(reference, entry, parts, expected, seconds=REFERENCE_S, allow_weak=allow_weak)
        limits = {"file_mb": 64 + 4 * (expected.tell() >> 20), "allow_weak": allow_weak}
        limits["seconds"] = max(CALL_S, CALL_FACTOR * _slowest(row["task_id"], len(parts), expected))
        for program in programs:
            with tempfile.TemporaryFile() as said:
                ended = run_program(program, entry, parts, said, **limits)
                expected.seek(0)
                said.seek(0)
                base, plus = (
                    first_fault(said, number, _checks(Oracle(dataset, row), number, inputs, expected))
                    for number, inputs in enumerate(parts)
                )
            opinions.append(Opinion(not base, not base and not plus, base or plus, dict(ended.layers)))
    return opinions


def _checks(oracle: Oracle, number: int, inputs: Sequence[tuple[Any, ...]], expected: IO[bytes]) -> Iterator[Check]:
    skip_to_part(expected, number)
    for arguments in inputs:
        answer = expected.readline()
        yield 4 * len(answer) + SLACK, partial(oracle.right, arguments, uncapped.parse(answer.decode()))


def inputs_of(dataset: str, row: dict[str, Any], column: str) -> list[tuple[Any, ...]]:
    """The argument tuples of a row; MBPP+ stores tuples, sets and complex numbers as lists and text."""
    given = row[column]
    if dataset == "mbpp" and given:
        from evalplus.data.mbpp import mbpp_deserialize_inputs

        given = mbpp_deserialize_inputs(row["task_id"], given)
    return [tuple(arguments) for arguments in given]


def run_program(
    program: str,
    entry: str,
    parts: Sequence[Sequence[Any]],
    out: IO[bytes],
    *,
    seconds: float,
    part_seconds: float = PART_S,
    way: str = "call",
    before: str = "",
    file_mb: int = 2048,
    allow_weak: bool = False,
) -> Ended:
    """Run a program in a jail and write to `out` what it returns (way "call") or prints ("script"), as
    `jailed_programs.py` puts it.

    `parts`: argument tuples, or texts of standard input. `seconds`: for one of them. `before`: is run ahead of it.
    """
    lines = [[encode(one) if way == "call" else one for one in part] for part in parts]
    request = {"program": program, "entry": entry, "parts": lines, "way": way, "before": before}
    request |= {"seconds": seconds, "part_seconds": part_seconds}
    limits = {"seconds": (part_seconds + 5) * len(parts) + 5, "file_mb": file_mb, "allow_weak": allow_weak}
    return run_script(SCRIPT, [wire.__file__], request, out, packages=["numpy"], **limits)


def sanitize(texts: Sequence[tuple[str, str]]) -> list[str]:
    """``(text, entry point)`` cleaned by evalplus' `sanitize`; the text itself where that takes 20 seconds."""
    request = {"way": "sanitize", "texts": list(texts), "seconds": 20}
    limits = {"seconds": 120 + 20 * len(texts), "packages": ["*"], "allow_weak": True}
    lines = ask_script(SCRIPT, [wire.__file__], request, len(texts), **limits)
    return [text if found is None else found for (_, found), (text, _) in zip(lines, texts, strict=True)]


def encode(value: Any) -> str:
    return str(uncapped.encode(value, size=1 << 40, depth=200, nodes=1 << 40))


def skip_to_part(said: IO[bytes], number: int) -> bool:
    """Read up to the head of a part; whether there is one."""
    header = b'["part", %d]\n' % number
    return any(line == header for line in iter(partial(said.readline, 1 << 20), b""))


def read_line(said: IO[bytes], most: int) -> list[Any]:
    """The next line as parsed JSON, if it has at most `most` bytes; an empty list for what is no line of ours."""
    line = said.readline(most)
    try:
        found = uncapped.parse(line.decode()) if line.endswith(b"\n") else []
    except (uncapped.WireError, UnicodeDecodeError):
        return []
    return found if type(found) is list else []


def first_fault(said: IO[bytes], number: int, checks: Iterable[Check]) -> str:
    """Why part `number` of what a program said is wrong, or nothing. `said` stands before or in an earlier part."""
    if not skip_to_part(said, number):
        return "the program ended the process that ran it"
    for place, (most, right) in enumerate(checks):
        found = read_line(said, most)
        if found[:1] == ["x"]:
            return f"input {place}: {' '.join(map(str, found[1:]))[:200]}"
        if not found or found[0] not in ("v", "h", "o", "p"):
            return f"input {place}: no answer in time"
        if not right(found):
            return f"input {place}: wrong"
    return "" if read_line(said, SLACK)[:1] == ["end"] else "more answers than inputs"


def _slowest(task: str, parts: int, expected: IO[bytes]) -> float:
    """Seconds of the slowest call of the reference. EvaluationError where it failed."""
    expected.seek(0)
    ends = [json.loads(line)[1] for line in expected if line.startswith(b'["end"')]
    if len(ends) < parts:
        raise EvaluationError(
            f"the reference of {task} does not run on its own inputs, so no program can be checked against it; is the "
            "data file whole?"
        )
    return float(max(ends))


class Oracle:
    """Equality as evalplus has it for one task. `atol` grows once floats were expected: one object per part."""

    def __init__(self, dataset: str, row: dict[str, Any]) -> None:
        from evalplus.eval import _special_oracle, is_floats

        self.special, self.is_floats = _special_oracle, is_floats
        self.dataset, self.entry, self.atol = dataset, row["entry_point"], row["atol"]

    def right(self, arguments: tuple[Any, ...], wanted: list[Any], said: list[Any]) -> bool:
        """`wanted` and `said`: parsed lines of `jailed_programs.py`; a digest of a long value equals its like only."""
        if "h" in (wanted[0], said[0]):
            return wanted == said
        try:
            exp, out = (uncapped.build(line[1]) if line[0] == "v" else object() for line in (wanted, said))
            same_type = type(out) is type(exp) and wanted[2:] == said[2:]
            return bool(self._right(arguments, exp, out, same_type))
        except Exception:  # incomparable: evalplus counts every exception of a comparison as wrong
            return False

    def _right(self, arguments: tuple[Any, ...], exp: Any, out: Any, same_type: bool) -> bool:
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
        if not same_type or (isinstance(exp, list | tuple) and len(out) != len(exp)):
            return False
        return bool(numpy.allclose(out, exp, rtol=1e-07, atol=self.atol))
