"""LiveCodeBench code generation, v5: write a program from a contest's text; its tests judge it.

Private tests come as JSON, or as published: base64 of zlib of a pickle of JSON text. Nothing is unpickled: the pickle's
few instructions are read one by one, and any but those of a single text is refused. v5 here means: contest date from
2024-08-01 to before 2025-02-01, the window of the paper's numbers as commonly quoted; it is part of `protocol`. Unlike
the official runner: lines are compared as text with white space normalised, not as decimals; 60 s per test.
"""

from __future__ import annotations

import base64
import json
import pickletools
import tempfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.benchmarks.code import extract_azr
from azr_lite.evaluation.benchmarks.jail import WORKERS
from azr_lite.evaluation.benchmarks.judge import first_fault, run_program, uncapped
from azr_lite.evaluation.suite import Data, Mark, Question, Reply, Setting, read_data, think_answer_prompt
from azr_lite.prompts.base import END_ANSWER, Style, fence

V5 = ("2024-08-01", "2025-02-01")
"""First contest day, and the day after the last."""
NEEDS = (
    *("question_title", "question_content", "question_id", "contest_date"),
    *("starter_code", "public_test_cases", "private_test_cases", "metadata"),
)
TEST_S, ALL_TESTS_S = 60, 600.0
LARGEST_TESTS = 1 << 30
"""Bytes of one problem's private tests, unpacked."""
_TEXT_ONLY = set(
    "PROTO FRAME SHORT_BINUNICODE BINUNICODE BINUNICODE8 UNICODE MEMOIZE BINPUT LONG_BINPUT PUT STOP".split()
)
_STARS = (
    "string re datetime collections heapq bisect copy math random statistics itertools functools operator io json "
    "typing"
).split()
PREAMBLE = "".join(f"from {name} import *\nimport {name}\n" for name in _STARS)
PREAMBLE += "import sys\nsys.setrecursionlimit(50000)\n"
"""Starter codes use names such as `List` without an import: the official runner imports all this, and so do we."""


@dataclass(frozen=True)
class Problem:
    """One problem: `entry` is empty where the program reads standard input. `tests`: input and expected output."""

    row: dict[str, Any]
    entry: str
    tests: tuple[tuple[str, str], ...]


def livecodebench_suite(name: str, setting: Setting) -> LiveCodeBench:
    """The problems of the source whose contest lies in the window of v5. EvaluationError: unreadable, or none."""
    source, (first, after) = setting.source, V5
    if not source:
        raise EvaluationError(f"it is not shipped; give its problems: --data {name}=FILE")
    data = read_data("LiveCodeBench", source, NEEDS)
    rows = tuple(row for row in data.rows if first <= str(row["contest_date"])[:10] < after)
    if not rows:
        raise EvaluationError(
            f"none of the {len(data.rows)} problems of {source} has a contest date from {first} to before {after}"
        )
    problems = {str(row["question_id"]): problem(row) for row in rows}
    if len(problems) < len(rows):
        raise EvaluationError(
            f"{source} holds two problems of the same question_id; give one release, not several files after another"
        )
    protocol = f"azr; contest date from {first} to before {after}; {TEST_S} s a test"
    return LiveCodeBench(f"{name}-azr", protocol, replace(data, rows=rows), setting.style, problems, setting.allow_weak)


def problem(row: dict[str, Any]) -> Problem:
    """A row with its tests unpacked. EvaluationError where they are not what the format says."""
    try:
        public = json.loads(row["public_test_cases"])
        private = json.loads(private_tests(row["private_test_cases"]))
        metadata = row["metadata"] if isinstance(row["metadata"], dict) else json.loads(row["metadata"] or "{}")
        kinds = {test["testtype"] for test in (*public, *private)}
        tests = tuple((str(test["input"]), str(test["output"])) for test in (*public, *private))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EvaluationError(
            f"the tests of LiveCodeBench problem {row['question_id']} cannot be read ({type(error).__name__}: "
            f"{error}); expected a JSON list of testtype, input, output, packed as published or plain"
        ) from error
    entry = metadata.get("func_name") or ""
    if not tests or kinds not in ({"stdin"}, {"functional"}) or (kinds == {"functional"}) != bool(entry):
        raise EvaluationError(
            f"LiveCodeBench problem {row['question_id']} has tests of the kinds {sorted(map(str, kinds))} and the "
            f"function name {entry!r}; expected stdin without, or functional with one"
        )
    return Problem(row, entry.rsplit(".", 1)[-1], tests)


def private_tests(packed: str) -> str:
    """The JSON text of the private tests. ValueError for what is neither JSON nor a packed text."""
    if packed.lstrip().startswith("["):
        return packed
    unpack = zlib.decompressobj()
    try:
        raw = unpack.decompress(base64.b64decode(packed, validate=True), LARGEST_TESTS)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if unpack.unconsumed_tail:
        raise ValueError(f"more than {LARGEST_TESTS} bytes")
    texts = []
    for opcode, argument, _ in pickletools.genops(raw):
        if opcode.name not in _TEXT_ONLY:
            raise ValueError(f"the pickle holds {opcode.name}, not just a text; it will not be loaded")
        if isinstance(argument, str):
            texts.append(argument)
    if len(texts) != 1:
        raise ValueError(f"the pickle holds {len(texts)} texts, expected one")
    return texts[0]


@dataclass
class LiveCodeBench:
    """A `suite.Suite`: greedy, pass@1, prompt and extraction of self-play."""

    name: str
    protocol: str
    data: Data
    style: Style
    problems: dict[str, Problem]
    allow_weak: bool = False
    samples: int = 1
    temperature: float = 0.0
    max_tokens: int = 8096
    stop: tuple[str, ...] = (END_ANSWER,)

    def questions(self) -> list[Question]:
        """All problems of the window in the order of the data; the stratum is the difficulty."""
        return [
            Question(
                id, "livecodebench", think_answer_prompt(self.style, body(one)), str(one.row.get("difficulty", ""))
            )
            for id, one in self.problems.items()
        ]

    def grade(self, replies: Sequence[tuple[Question, Reply]]) -> list[Mark]:
        """A program is right when every public and private test is. UnsafeError, SandboxError as `run_in_jail`."""
        found = [(q.id, extract_azr(q.prompt.prefill + reply.text)) for q, reply in replies]
        wanted = sorted({(id, text) for id, one in found for text in (one.strict, one.lenient) if text.strip()})
        with ThreadPoolExecutor(WORKERS) as pool:
            faults = dict(zip(wanted, pool.map(lambda key: self.fault(*key), wanted), strict=True))
        marks = []
        for id, one in found:
            fault = faults.get((id, one.strict), "empty")
            right = one.well_formed and not fault
            lenient = right or not faults.get((id, one.lenient), "empty")
            marks.append(Mark(right, lenient, one.well_formed, one.reason or fault))
        return marks

    def fault(self, id: str, program: str) -> str:
        """Why the program fails problem `id`, or nothing."""
        problem = self.problems[id]
        inputs = [arguments(given) if problem.entry else given for given, _ in problem.tests]
        limits = {"seconds": TEST_S, "part_seconds": min(TEST_S * len(inputs), ALL_TESTS_S), "file_mb": 512}
        limits |= {"way": "call" if problem.entry else "script", "before": PREAMBLE, "allow_weak": self.allow_weak}
        checks = ((64 * len(text) + (1 << 16), partial(_same, problem, text)) for _, text in problem.tests)
        with tempfile.TemporaryFile() as said:
            run_program(program, problem.entry, [inputs], said, **limits)
            said.seek(0)
            return first_fault(said, 0, checks)

    def baselines(self, questions: Sequence[Question]) -> dict[str, dict[str, float]]:
        """Empty: there are none for programs."""
        return {}


def _same(problem: Problem, wanted: str, line: list[Any]) -> bool:
    try:
        if not problem.entry:
            return line[0] == "p" and _lines(wanted) == _lines(line[1])
        return line[0] == "v" and bool(_as_json(uncapped.build(line[1])) == json.loads(wanted))
    except (ValueError, TypeError, AttributeError, RecursionError, IndexError):
        return False


def _as_json(value: Any) -> Any:
    return [_as_json(item) for item in value] if isinstance(value, list | tuple) else value


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.strip().splitlines()]


def arguments(given: str) -> tuple[Any, ...]:
    """The arguments of a functional test: one JSON value per line."""
    return tuple(json.loads(line) for line in given.split("\n") if line.strip())


def body(problem: Problem) -> str:
    """Our words around a problem, for the think/answer prompt."""
    if problem.entry:
        how = (
            "Complete this class. Keep the name of the method and its parameters; read nothing and print nothing.\n\n"
            + fence("python", problem.row["starter_code"].rstrip())
        )
    else:
        how = (
            "Write a whole program that reads the input from standard input and prints the output, and nothing else, "
            "to standard output."
        )
    return "\n\n".join(
        (
            "Solve this problem from a programming contest in Python.",
            f"{problem.row['question_title']}\n\n{problem.row['question_content'].strip()}",
            how,
            "Put the whole program in one ```python block inside the answer.",
        )
    )
