"""HumanEval+, MBPP+ and LiveCodeBench: prompts, extraction, marks. Nothing here runs a program (`judge.py` does).

Protocols, never mixed, part of every suite's name:
* ``evalplus-chat``: the prompt of evalplus' own chat path, words and shape taken from the installed package; the
  prefill ends in an opened python fence; 768 tokens and its stop strings. The paper's HumanEval+ and MBPP+ are this.
* ``evalplus-direct``: what the same path does for a model without chat template: the task's text, to be gone on with.
* ``azr``: the think/answer prompt of self-play in words of our own; the last python fence inside the answer counts.

`Mark.right`: all tests pass for the strictly extracted program: azr, see above; evalplus-chat, the reply up to the
first stop string or closing fence; evalplus-direct, task and reply up to the first stop string. `Mark.lenient`: or they
pass for azr with the last fence wherever it stands; for both others after evalplus' `sanitize`, and **that is the
published way**: compare `lenient` with leaderboards. `Mark.parts`: base and plus of the strict program.
"""

from __future__ import annotations

import base64
import json
import pickletools
import re
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.benchmarks.jail import WORKERS, need
from azr_lite.evaluation.benchmarks.judge import Opinion, first_fault, judge, run_program, sanitize, uncapped
from azr_lite.evaluation.suite import (
    Data,
    Mark,
    Prompt,
    Question,
    Reply,
    Setting,
    read_data,
    shipped,
    think_answer_prompt,
)
from azr_lite.parsing import parse_reply, read_fences
from azr_lite.prompts.base import ANSWER, END_ANSWER, THINK, Style, fence
from azr_lite.triplet import Rejection

SUITES = {
    "humanevalplus": ("humaneval", "HumanEvalPlus.jsonl.gz"),
    "humanevalplus-mini": ("humaneval", "HumanEvalPlus-Mini.jsonl.gz"),
    "mbppplus": ("mbpp", "MbppPlus.jsonl.gz"),
}
"""Name to evalplus' name of the dataset and the file that comes with the package."""
NEEDS = ("task_id", "prompt", "entry_point", "canonical_solution", "base_input", "plus_input", "atol", "contract")
EVALPLUS = "0.3.1"
EVALPLUS_TOKENS, AZR_TOKENS = 768, 4096
"""evalplus' own limit; and room for a thought."""
CHAT_PROMPT = (
    "Please provide a self-contained Python script that solves the following problem in a markdown code block:\n"
    "```\n{}\n```\n"
)
CHAT_PREFILL = (
    "Below is a Python script with a self-contained function that solves the problem and passes corresponding tests:\n"
    "```python\n"
)
"""The words of evalplus' chat path; a test compares them with the installed package."""


def code_suite(name: str, setting: Setting) -> CodeSuite:
    """The suite `name` of `SUITES`.

    EvaluationError for an unknown protocol, unreadable data, or (protocol ``evalplus``) a missing evalplus.
    """
    if setting.code_protocol not in ("evalplus", "azr"):
        raise EvaluationError(f"unknown protocol {setting.code_protocol!r} for code; choose evalplus or azr")
    dataset, file = SUITES[name]
    data = read_data(name, setting.source, NEEDS) if setting.source else shipped(name, file)
    if setting.code_protocol == "azr":
        how, tokens, stop = "azr", AZR_TOKENS, (END_ANSWER,)
    else:
        need("evalplus", EVALPLUS)
        from evalplus.provider.utility import EOS, extra_eos_for_direct_completion

        how, tokens = "evalplus-chat" if setting.style.chat else "evalplus-direct", EVALPLUS_TOKENS
        stop = (*EOS, *(["\n```\n"] if setting.style.chat else extra_eos_for_direct_completion(dataset)))
    return CodeSuite(f"{name}-{how}", how, data, dataset, setting.style, tokens, stop, setting.allow_weak)


@dataclass
class CodeSuite:
    """A `suite.Suite`; protocols: see the top of this file."""

    name: str
    protocol: str
    data: Data
    dataset: str
    style: Style
    max_tokens: int
    stop: tuple[str, ...]
    allow_weak: bool = False
    samples: int = 1
    temperature: float = 0.0
    parts: ClassVar[tuple[str, ...]] = ("base", "plus")

    def __post_init__(self) -> None:
        self._rows = {row["task_id"]: row for row in self.data.rows}
        self.layers: Mapping[str, str] = {}  # what held the programs of the last grading

    def questions(self) -> list[Question]:
        """All tasks in the order of the data."""
        return [Question(id, self.dataset + "+", self._prompt(row["prompt"])) for id, row in self._rows.items()]

    def _prompt(self, task: str) -> Prompt:
        if self.protocol == "evalplus-direct":
            return Prompt(_start(task))
        if self.protocol == "evalplus-chat":
            return Prompt(CHAT_PROMPT.format(task.strip()), CHAT_PREFILL, chat=True)
        return think_answer_prompt(self.style, azr_body(task))

    def grade(self, replies: Sequence[tuple[Question, Reply]]) -> list[Mark]:
        """Extract, score strict and lenient programs together, mark.

        EvaluationError, SandboxError, UnsafeError: nothing could be scored.
        """
        found = [(question.id, one) for (question, _), one in zip(replies, self.extract(replies), strict=True)]
        wanted = sorted({(id, text) for id, one in found for text in (one.strict, one.lenient) if text.strip()})
        opinions = self.opinions(wanted)
        self.layers = next((opinion.layers for opinion in opinions.values()), {})
        unasked = Opinion(False, False, "wrong", {})
        marks = []
        for id, one in found:
            strict, lenient = (opinions.get((id, text), unasked) for text in (one.strict, one.lenient))
            right = one.well_formed and strict.plus
            parts = {part: one.well_formed and getattr(strict, part) for part in self.parts}
            marks.append(Mark(right, right or lenient.plus, one.well_formed, one.reason or strict.reason, parts))
        return marks

    def opinions(self, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Opinion]:
        """Of each task's id and program."""
        need("evalplus", EVALPLUS)
        return judge(self._rows, wanted, self.allow_weak)

    def extract(self, replies: Sequence[tuple[Question, Reply]]) -> list[Extracted]:
        """The two programs of each reply; no verdict yet."""
        if self.protocol.startswith("azr"):
            return [extract_azr(question.prompt.prefill + reply.text) for question, reply in replies]
        rows = [self._rows[question.id] for question, _ in replies]
        found = [self._extract_evalplus(row, reply) for row, (_, reply) in zip(rows, replies, strict=True)]
        cleaned = sanitize([(one.lenient, row["entry_point"]) for one, row in zip(found, rows, strict=True)])
        return [replace(one, lenient=text) for one, text in zip(found, cleaned, strict=True)]

    def _extract_evalplus(self, row: dict[str, Any], reply: Reply) -> Extracted:
        end = min([reply.text.find(word) for word in self.stop if word in reply.text], default=len(reply.text))
        text = reply.text[:end].replace("\t", "    ")  # evalplus does both to every completion
        reason = "truncated" if reply.truncated else ""
        if self.protocol == "evalplus-direct":
            whole = _start(row["prompt"]) + text
            return Extracted(whole, whole, not reason, reason)
        program = re.split(r"^[ \t]*```", text, maxsplit=1, flags=re.MULTILINE)[0]
        reason = reason or ("" if program.strip() else "empty")
        return Extracted(program, text, not reason, reason)

    def baselines(self, questions: Sequence[Question]) -> dict[str, dict[str, float]]:
        """Empty: no program that needs no reasoning passes the tests."""
        return {}


@dataclass(frozen=True)
class Extracted:
    """`reason`: why the reply is not well formed."""

    strict: str
    lenient: str
    well_formed: bool
    reason: str = ""


def extract_azr(text: str) -> Extracted:
    """Strict: a well-formed reply and the last python fence of its answer.

    Lenient: the last python fence anywhere, else the last of any kind.
    """
    fences, _ = read_fences(text.replace(THINK, THINK + "\n").replace(ANSWER, ANSWER + "\n"))
    python = [body for label, body in fences if label == "python"]
    lenient = (python or [body for _, body in fences] or [""])[-1]
    reply = parse_reply(text)
    if isinstance(reply, Rejection):
        return Extracted("", lenient, False, reply.reason)
    blocks = reply.blocks("python")
    return Extracted(blocks[-1], lenient, True) if blocks else Extracted("", lenient, False, "no_answer")


def azr_body(task: str) -> str:
    """Our words around a task of either dataset, for the think/answer prompt."""
    return "\n\n".join(
        (
            "Write the Python function that is described below. Keep its name and its parameters. Your program must be "
            "complete: with its imports and helper functions, without tests and without printing anything.",
            fence("python", task.strip()),
            "Put the whole program in one ```python block inside the answer.",
        )
    )


def _start(task: str) -> str:
    """The text that evalplus lets a model without chat template go on with."""
    return task.strip() + "\n"


# ---------------------------------------------------------------- LiveCodeBench

V5 = ("2024-08-01", "2025-02-01")
"""Release v5 as the paper's numbers are commonly quoted: the first contest day, and the day after the last."""
LIVE_NEEDS = (
    *("question_title", "question_content", "question_id", "contest_date"),
    *("starter_code", "public_test_cases", "private_test_cases", "metadata"),
)
LIVE_TOKENS, TEST_S, ALL_TESTS_S = 8096, 60, 600.0
_TEXT_ONLY = {"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT", "STOP"}
_TEXT_ONLY |= {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}
_STARS = (
    "string re datetime collections heapq bisect copy math random statistics itertools functools operator io json "
    "typing"
).split()
PREAMBLE = "".join(f"from {name} import *\nimport {name}\n" for name in _STARS)
PREAMBLE += "import sys\nsys.setrecursionlimit(50000)\n"
"""Starter codes use names such as `List` without an import: the official runner imports all this, and so do we."""


def livecodebench_suite(name: str, setting: Setting) -> LiveCodeBench:
    """The problems of the source whose contest lies in the window of v5. EvaluationError: unreadable, or none."""
    source, (first, after) = setting.source, V5
    if not source:
        raise EvaluationError(f"it is not shipped; give its problems: --data {name}=FILE")
    data = read_data("LiveCodeBench", source, LIVE_NEEDS)
    rows = tuple(row for row in data.rows if first <= str(row["contest_date"])[:10] < after)
    if not rows:
        raise EvaluationError(
            f"none of the {len(data.rows)} problems of {source} has a contest date from {first} to before {after}"
        )
    protocol = f"azr; contest date from {first} to before {after}; {TEST_S} s a test"
    chosen, how = replace(data, rows=rows), (LIVE_TOKENS, (END_ANSWER,), setting.allow_weak)
    return LiveCodeBench(f"{name}-azr", protocol, chosen, "livecodebench", setting.style, *how)


class LiveCodeBench(CodeSuite):
    """Write a program from a contest's text; it is right when every public and private test is.

    Unlike the official runner: lines are compared as text with white space normalised, not as decimals; 60 s per test.
    """

    parts = ()

    def __post_init__(self) -> None:
        self.problems = {str(row["question_id"]): Problem.of(row) for row in self.data.rows}
        self.layers = {}

    def questions(self) -> list[Question]:
        """All problems of the window in the order of the data; the stratum is the difficulty."""
        return [
            Question(id, self.dataset, think_answer_prompt(self.style, one.body()), str(one.row.get("difficulty", "")))
            for id, one in self.problems.items()
        ]

    def opinions(self, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Opinion]:
        """Of each problem's id and program."""
        with ThreadPoolExecutor(WORKERS) as pool:
            return dict(zip(wanted, pool.map(lambda key: self._opinion(*key), wanted), strict=True))

    def _opinion(self, id: str, program: str) -> Opinion:
        problem = self.problems[id]
        limits = {"all_seconds": min(TEST_S * len(problem.tests), ALL_TESTS_S), "file_mb": 512}
        with tempfile.TemporaryFile() as said:
            ended = run_program(
                program, problem.entry, problem.inputs(), said,
                seconds=TEST_S, before=PREAMBLE, allow_weak=self.allow_weak, **limits,
            )  # fmt: skip
            checks = ((64 * len(text) + (1 << 16), partial(problem.right, text)) for _, text in problem.tests)
            _, fault = first_fault(said, checks)
        return Opinion(not fault, not fault, fault, ended.layers)


@dataclass(frozen=True)
class Problem:
    """One problem: `entry` is empty where the program reads standard input. `tests`: input and expected output."""

    row: dict[str, Any]
    entry: str
    tests: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, row: dict[str, Any]) -> Problem:
        """A row with its tests unpacked. EvaluationError where they are not what the format says."""
        try:
            tests = [*json.loads(row["public_test_cases"]), *json.loads(private_tests(row["private_test_cases"]))]
            metadata = row["metadata"] if isinstance(row["metadata"], dict) else json.loads(row["metadata"] or "{}")
            pairs = tuple((str(test["input"]), str(test["output"])) for test in tests)
        except (ValueError, KeyError, TypeError, RecursionError, zlib.error) as error:
            raise EvaluationError(
                f"the tests of LiveCodeBench problem {row['question_id']} cannot be read ({type(error).__name__}: "
                f"{error}); expected a JSON list of input and output, packed as published or plain"
            ) from error
        entry = metadata.get("func_name") or ""
        return cls(row, entry.rsplit(".", 1)[-1], pairs)

    def inputs(self) -> list[Any]:
        """What the tests give: texts, or argument tuples, written as one JSON value per line."""
        given = [text for text, _ in self.tests]
        if not self.entry:
            return given
        return [tuple(json.loads(line) for line in text.split("\n") if line.strip()) for text in given]

    def right(self, wanted: str, line: list[Any]) -> bool:
        """Whether a line of `jailed_programs.py` says what a test expects."""
        try:
            if not self.entry:
                return line[0] == "p" and _lines(wanted) == _lines(line[1])
            return line[0] == "v" and bool(_as_json(uncapped.build(line[1])) == json.loads(wanted))
        except (ValueError, TypeError, AttributeError, RecursionError, IndexError):
            return False

    def body(self) -> str:
        """Our words around the problem, for the think/answer prompt."""
        if self.entry:
            how = "Complete this class. Keep the name of the method and its parameters; read nothing and print nothing."
            how += "\n\n" + fence("python", self.row["starter_code"].rstrip())
        else:
            how = "Write a whole program that reads the input from standard input and prints the output, and nothing "
            how += "else, to standard output."
        return "\n\n".join(
            (
                "Solve this problem from a programming contest in Python.",
                f"{self.row['question_title']}\n\n{self.row['question_content'].strip()}",
                how,
                "Put the whole program in one ```python block inside the answer.",
            )
        )


def private_tests(packed: str) -> str:
    """The JSON text of the private tests, which come plain or as published: base64 of zlib of a pickle of that text.

    Nothing is unpickled: any instruction but those of a single text is refused. ValueError, zlib.error.
    """
    if packed.lstrip().startswith("["):
        return packed
    steps = list(pickletools.genops(zlib.decompress(base64.b64decode(packed, validate=True))))
    texts = [argument for _, argument, _ in steps if isinstance(argument, str)]
    if len(texts) != 1 or {opcode.name for opcode, _, _ in steps} - _TEXT_ONLY:
        raise ValueError("the pickle holds more than one text; it will not be loaded")
    return str(texts[0])


def _as_json(value: Any) -> Any:
    return [_as_json(item) for item in value] if isinstance(value, list | tuple) else value


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.strip().splitlines()]
