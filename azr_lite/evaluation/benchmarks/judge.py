"""Whether a program returns what it should, compared by value where the program cannot reach.

The program runs in a jail that holds its inputs and numpy: no expected output, no reference, no dataset. So an
always-equal object, a look into the caller's frames or a patched comparison finds nothing to deceive. Outputs cross as
data (`sandbox/wire.py`). For evalplus' tasks, the reference runs in a jail of its own, and values are compared as
evalplus 0.3.1 compares: ``==``; its tolerance (`atol` of the task, 1e-6 once a float or a sequence of floats was
expected, rtol 1e-7, same type and length); its special cases, from the installed package.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.benchmarks.jail import WORKERS, Ended, ask_script, run_script
from azr_lite.sandbox import wire

SCRIPT = Path(__file__).with_name("jailed_programs.py")
ALL_S = 124.0  # seconds for all inputs of a task, twice evalplus' for either half
CALL_S, CALL_FACTOR = 10.0, 8.0
"""Seconds that a call gets at least, and how many times the reference's slowest; evalplus' own 1.0 and 4.0 fail
right answers on a busy machine."""
SLACK = 4096


# The sandbox's wire format without its caps: right answers hold integers of 100,000 bits and long dicts.
_spec: Any = importlib.util.find_spec(wire.__name__)
uncapped: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(uncapped)
uncapped.SIZE = uncapped.NODES = uncapped.HASHED = uncapped.INT_BITS = 1 << 40
uncapped.DEPTH = 200


@dataclass(frozen=True)
class Opinion:
    """Whether all base inputs, and all inputs, gave the right value; if not, why. `layers`: of its jail."""

    base: bool
    plus: bool
    reason: str
    layers: Mapping[str, str]


def judge(
    rows: Mapping[str, dict[str, Any]], wanted: Iterable[tuple[str, str]], allow_weak: bool = False
) -> dict[tuple[str, str], Opinion]:
    """An opinion on each ``(task id, program)``; `rows`: evalplus' tasks by their ids.

    EvaluationError when a reference does not run; UnsafeError and SandboxError as `run_script`.
    """
    programs: dict[str, list[str]] = {}
    for id, program in wanted:
        programs.setdefault(id, []).append(program)
    with ThreadPoolExecutor(WORKERS) as pool:
        judged = pool.map(lambda id: _judge_task(rows[id], programs[id], allow_weak), programs)
        return {(id, text): found for id, own in zip(programs, judged, strict=True) for text, found in own.items()}


def _judge_task(row: dict[str, Any], programs: list[str], allow_weak: bool) -> dict[str, Opinion]:
    """The reference runs once for all programs."""
    halves, entry, opinions = inputs_of(row), row["entry_point"], {}
    inputs = [arguments for half in halves for arguments in half]
    with tempfile.TemporaryFile() as expected:
        reference = row["prompt"] + row["canonical_solution"]
        began = time.monotonic()  # a busy machine is slow for both
        run_program(reference, entry, inputs, expected, 5 * ALL_S, 5 * ALL_S, allow_weak=allow_weak)
        limits = {"all_seconds": max(ALL_S, 2 * (time.monotonic() - began))}
        limits |= {"file_mb": 64 + 4 * (expected.tell() >> 20), "allow_weak": allow_weak}
        limits["seconds"] = max(CALL_S, CALL_FACTOR * _slowest(row["task_id"], expected))
        for program in programs:
            with tempfile.TemporaryFile() as said:
                ended = run_program(program, entry, inputs, said, **limits)
                place, fault = _first_fault(row, halves, expected, said)
            opinions[program] = Opinion(place >= len(halves[0]), not fault, fault, ended.layers)
    return opinions


def inputs_of(row: dict[str, Any]) -> list[list[tuple[Any, ...]]]:
    """The argument tuples of base and plus; MBPP+ stores tuples, sets and complex numbers as lists and text."""
    given = [row["base_input"], row["plus_input"]]
    if row["task_id"].startswith("Mbpp/"):
        from evalplus.data.mbpp import mbpp_deserialize_inputs

        given = [mbpp_deserialize_inputs(row["task_id"], half) if half else [] for half in given]
    return [[tuple(arguments) for arguments in half] for half in given]


def run_program(
    program: str,
    entry: str,
    inputs: Iterable[tuple[Any, ...]],
    said: IO[bytes],
    seconds: float,
    all_seconds: float = ALL_S,
    file_mb: int = 2048,
    allow_weak: bool = False,
) -> Ended:
    """Run the program in a jail, each call for `seconds`; what `jailed_programs.py` tells of it goes to `said`."""
    texts = [uncapped.encode(arguments) for arguments in inputs]
    request = {"program": program, "entry": entry, "inputs": texts, "seconds": seconds, "all_seconds": all_seconds}
    limits = {"seconds": all_seconds + 10, "file_mb": file_mb, "allow_weak": allow_weak}
    return run_script(SCRIPT, [wire.__file__], request, said, packages=["numpy"], **limits)


def _slowest(task: str, expected: IO[bytes]) -> float:
    """Seconds of the slowest call of the reference. EvaluationError where it failed."""
    expected.seek(0)
    if end := next((line for line in expected if line.startswith(b'["end"')), None):
        return float(json.loads(end)[1])
    problem = f"the reference of {task} does not run on its own inputs, so no program can be checked against it"
    raise EvaluationError(f"{problem}; is the data file whole?")


def _first_fault(
    row: dict[str, Any], halves: Sequence[Sequence[tuple[Any, ...]]], expected: IO[bytes], said: IO[bytes]
) -> tuple[int, str]:
    """The number of the first input that was answered wrongly, and why; the number of all and nothing where none was.

    `expected`, `said`: the lines of `jailed_programs.py` for the reference and for the program.
    """
    expected.seek(0)
    said.seek(0)
    place = 0
    for half in halves:
        oracle = Oracle(row)
        for arguments in half:
            answer = expected.readline()
            found = read_line(said, 4 * len(answer) + SLACK)
            if found[:1] == ["x"]:
                return place, f"input {place}: {' '.join(map(str, found[1:]))[:200]}"
            if not found or found[0] not in ("v", "h", "o"):
                return place, f"input {place}: no answer in time"
            if not oracle.right(arguments, uncapped.parse(answer.decode()), found):
                return place, f"input {place}: wrong"
            place += 1
    return place, "" if read_line(said, SLACK)[:1] == ["end"] else "more answers than inputs"


def sanitize(texts: Sequence[tuple[str, str]]) -> list[str]:
    """``(text, entry point)`` cleaned by evalplus' `sanitize`; the text itself where that takes 20 seconds."""
    request = {"texts": list(texts), "seconds": 20}
    limits = {"seconds": 120 + 20 * len(texts), "packages": ["*"], "allow_weak": True}
    lines = ask_script(SCRIPT, [wire.__file__], request, len(texts), **limits)
    return [text if found is None else found for found, (text, _) in zip(lines, texts, strict=True)]


def read_line(said: IO[bytes], most: int) -> list[Any]:
    """The next line as parsed JSON, if it has at most `most` bytes; an empty list for what is no line of ours."""
    line = said.readline(most)
    try:
        found = uncapped.parse(line.decode()) if line.endswith(b"\n") else []
    except (uncapped.WireError, UnicodeDecodeError):
        return []
    return found if type(found) is list else []


class Oracle:
    """Equality as evalplus has it for one task. `atol` grows once floats were expected: one object per half."""

    def __init__(self, row: dict[str, Any]) -> None:
        from evalplus.eval import _special_oracle, is_floats

        self.special, self.is_floats = _special_oracle, is_floats
        self.task, self.entry, self.atol = row["task_id"], row["entry_point"], row["atol"]

    def right(self, arguments: tuple[Any, ...], wanted: list[Any], said: list[Any]) -> bool:
        """`wanted` and `said`: parsed lines of `jailed_programs.py`; a digest of a long value equals its like only."""
        if "h" in (wanted[0], said[0]):
            return wanted == said
        try:
            exp, out = (line[1] if line[0] == "v" else object() for line in (wanted, said))
            same_type = type(out) is type(exp) and wanted[2:] == said[2:]
            return bool(self._right(arguments, exp, out, same_type))
        except Exception:  # incomparable: evalplus counts every exception of a comparison as wrong
            return False

    def _right(self, arguments: tuple[Any, ...], exp: Any, out: Any, same_type: bool) -> bool:
        import numpy

        exact, special = out == exp, self.special
        if self.task.startswith("Mbpp/"):
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
        elif self.task == "HumanEval/32":
            return False  # evalplus 0.3.1 passes no program here, not even the reference (its pull request 201)
        if self.atol == 0 and self.is_floats(exp):
            self.atol = 1e-6
        if exact or self.atol == 0:
            return exact
        if not same_type or (isinstance(exp, list | tuple) and len(out) != len(exp)):
            return False
        return bool(numpy.allclose(out, exp, rtol=1e-07, atol=self.atol))
