"""HumanEval+ and MBPP+: prompts of three protocols, extraction, marks by value where no program can reach them.

Protocols, never mixed, part of every suite's name, and the program that each counts strictly:
* ``evalplus-chat``: evalplus' own chat prompt, stop strings and 768 tokens; the prefill ends in an opened python fence.
  The reply up to the first stop string or closing fence. The paper's HumanEval+ and MBPP+ are this.
* ``evalplus-direct``: what the same path does for a model without chat template: the task's text, and the reply to it
  up to the first stop string.
* ``azr``: self-play's think/answer prompt. The last python block of the answer that defines the function.

`Mark.right`: that program passes all tests. `Mark.lenient`: or, for azr, such a block wherever it stands; for both
others, the reply after evalplus' `sanitize`, and **that is the published way**: compare `lenient` with leaderboards.
`Mark.parts`: base and plus of the strict program.

A program runs in a jail that holds its inputs and numpy: no expected output, no reference, no dataset. So an
always-equal object, a look into the caller's frames or a patched comparison finds nothing to deceive. Outputs cross as
data (`sandbox/wire.py`), the reference runs in a jail of its own, and values are compared as evalplus 0.3.1 compares:
``==``; its tolerance (`atol` of the task, 1e-6 once a float or a sequence of floats was expected, rtol 1e-7, same type
and length); its special cases, from the installed package.
"""

from __future__ import annotations

import functools
import json
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.benchmarks.jail import WORKERS, Ended, ask_script, need, run_script
from azr_lite.evaluation.suite import Extracted, Mark, Prompt, Question, Reply, Setting, Suite, blocks_in, read_data
from azr_lite.parsing import parse_reply
from azr_lite.prompts.base import END_ANSWER, Style
from azr_lite.sandbox import wire
from azr_lite.triplet import Reason, Rejection

SUITES = {
    "humanevalplus": ("humaneval", "HumanEvalPlus.jsonl.gz"),
    "humanevalplus-mini": ("humaneval", "HumanEvalPlus-Mini.jsonl.gz"),
    "mbppplus": ("mbpp", "MbppPlus.jsonl.gz"),
}
"""Name to evalplus' name of the dataset and the file that comes with the package."""
NEEDS = ("task_id", "prompt", "entry_point", "canonical_solution", "base_input", "plus_input", "atol", "contract")
EVALPLUS = "0.3.1"
EVALPLUS_TOKENS, AZR_TOKENS = 768, 4096  # evalplus' own limit; and room for a thought
CHAT_PROMPT = (
    "Please provide a self-contained Python script that solves the following problem in a markdown code block:\n"
    "```\n{}\n```\n"
)
CHAT_PREFILL = (
    "Below is a Python script with a self-contained function that solves the problem and passes corresponding tests:\n"
    "```python\n"
)
"""The words of evalplus' chat path; a test compares them with the installed package."""
AZR_PROMPT = (
    "Write the Python function that is described below. Keep its name and its parameters. Your program must be "
    "complete: with its imports and helper functions, without tests and without printing anything.\n\n"
    "```python\n{}\n```\n\nPut the whole program in one ```python block inside the answer."
)


def code_suite(name: str, setting: Setting) -> CodeSuite:
    """The suite `name` of `SUITES`.

    EvaluationError for unreadable data, or (protocol ``evalplus``) a missing evalplus.
    """
    dataset, file = SUITES[name]
    data = read_data(name, setting.source, NEEDS, shipped=file)
    if setting.options.code_protocol == "azr":
        how, tokens, stop = "azr", AZR_TOKENS, (END_ANSWER,)
    else:
        need("evalplus", EVALPLUS)
        from evalplus.provider.utility import EOS, extra_eos_for_direct_completion

        how, tokens = "evalplus-chat" if setting.style.chat else "evalplus-direct", EVALPLUS_TOKENS
        stop = (*EOS, *(["\n```\n"] if setting.style.chat else extra_eos_for_direct_completion(dataset)))
    own = dataset, setting.style, setting.options.allow_weak
    return CodeSuite(f"{name}-{how}", how, *own, data=data, max_tokens=tokens, stop=stop)


@dataclass(frozen=True)
class CodeSuite(Suite):
    """Protocols: see the top of this file. `layers`: what held the programs that were graded."""

    dataset: str
    style: Style
    allow_weak: bool = False
    layers: dict[str, str] = field(default_factory=dict, init=False)

    @functools.cached_property
    def _rows(self) -> dict[str, dict[str, Any]]:
        return {row["task_id"]: row for row in self.data.rows}

    def questions(self) -> list[Question]:
        return [Question(id, self.dataset + "+", self._prompt(row["prompt"])) for id, row in self._rows.items()]

    def _prompt(self, task: str) -> Prompt:
        if self.protocol == "evalplus-direct":
            return Prompt(task.strip() + "\n")
        if self.protocol == "evalplus-chat":
            return Prompt(CHAT_PROMPT.format(task.strip()), CHAT_PREFILL, chat=True)
        return Prompt(self.style.frame(AZR_PROMPT.format(task.strip())), self.style.prefill, self.style.chat)

    def grade(self, replies: Sequence[tuple[Question, Reply]]) -> list[Mark]:
        """Extract, score strict and lenient programs together, mark.

        EvaluationError, SandboxError, UnsafeError: nothing could be scored.
        """
        need("evalplus", EVALPLUS)
        found = [(question.id, one) for (question, _), one in zip(replies, self.extract(replies), strict=True)]
        programs: dict[str, set[str]] = {}
        for id, one in found:
            for text in filter(str.strip, (one.strict, one.lenient)):
                programs.setdefault(id, set()).add(text)
        opinions: dict[tuple[str, str], Opinion] = {}
        with ThreadPoolExecutor(WORKERS) as pool:
            for own in pool.map(lambda id: judge(self._rows[id], sorted(programs[id]), self.allow_weak), programs):
                opinions |= own
        self.layers.update(next((opinion.layers for opinion in opinions.values()), {}))
        unasked, marks = Opinion(False, False, "wrong", {}), []
        for id, one in found:
            strict, lenient = (opinions.get((id, text), unasked) for text in (one.strict, one.lenient))
            right = one.well_formed and strict.plus
            parts = {"base": one.well_formed and strict.base, "plus": right}
            marks.append(Mark(right, right or lenient.plus, one.well_formed, one.reason or strict.reason, parts))
        return marks

    def extract(self, replies: Sequence[tuple[Question, Reply]]) -> list[Extracted]:
        """The two programs of each reply; no verdict yet."""
        pairs = [(self._rows[question.id], question.prompt.prefill, reply) for question, reply in replies]
        if self.protocol == "azr":
            return [extract_azr(prefill + reply.text, row["entry_point"]) for row, prefill, reply in pairs]
        found = [self._extract_evalplus(row, reply) for row, _, reply in pairs]
        cleaned = sanitize([(one.lenient, row["entry_point"]) for one, (row, *_) in zip(found, pairs, strict=True)])
        return [replace(one, lenient=text) for one, text in zip(found, cleaned, strict=True)]

    def _extract_evalplus(self, row: dict[str, Any], reply: Reply) -> Extracted:
        end = min([reply.text.find(word) for word in self.stop if word in reply.text], default=len(reply.text))
        text = reply.text[:end].replace("\t", "    ")  # evalplus does both to every completion
        reason = "truncated" if reply.truncated else ""
        if self.protocol == "evalplus-direct":
            whole = row["prompt"].strip() + "\n" + text
            return Extracted(whole, whole, not reason, reason)
        program = re.split(r"^[ \t]*```", text, maxsplit=1, flags=re.MULTILINE)[0]
        reason = reason or ("" if program.strip() else "empty")
        return Extracted(program, text, not reason, reason)


def extract_azr(text: str, entry: str) -> Extracted:
    """Strict: a well-formed reply and the last python block of its answer that defines `entry`.

    Lenient: the last such block anywhere, else the last of any kind.
    """
    anywhere, reply = blocks_in(text), parse_reply(text)
    lenient = anywhere.block("python", Reason.NO_ANSWER, entry=entry)
    if isinstance(lenient, Rejection):
        lenient = anywhere.fences[-1][1] if anywhere.fences else ""
    strict = reply if isinstance(reply, Rejection) else reply.block("python", Reason.NO_ANSWER, entry=entry)
    if isinstance(strict, Rejection):
        return Extracted("", lenient, False, strict.reason)
    return Extracted(strict, lenient, True)


# ---------------------------------------------------------------- the verdict on a program

SCRIPT = Path(__file__).with_name("jailed_programs.py")
ALL_S = 124.0  # seconds for all inputs of a task, twice evalplus' for either half
CALL_S, CALL_FACTOR = 10.0, 8.0
"""Seconds that a call gets at least, and how many times the reference's slowest; evalplus' own 1.0 and 4.0 fail
right answers on a busy machine."""
Inputs = Sequence[tuple[Any, ...]]  # the arguments of each call
SLACK = 4096  # bytes that a line may be longer than expected, besides four times its length


class Opinion(NamedTuple):
    """Whether all base inputs, and all inputs, gave the right value; if not, why. `layers`: of its jail."""

    base: bool
    plus: bool
    reason: str
    layers: Mapping[str, str]


def judge(row: dict[str, Any], programs: Sequence[str], allow_weak: bool) -> dict[tuple[str, str], Opinion]:
    """An opinion on each ``(task id, program)`` of one task; its reference runs once for all programs.

    EvaluationError when the reference does not run; UnsafeError and SandboxError as `run_script`.
    """
    task, entry, opinions = row["task_id"], row["entry_point"], {}
    halves = [row["base_input"], row["plus_input"]]
    if task.startswith("Mbpp/"):  # which stores tuples, sets and complex numbers as lists and text
        from evalplus.data.mbpp import mbpp_deserialize_inputs

        halves = [mbpp_deserialize_inputs(task, half) if half else [] for half in halves]
    halves = [[tuple(arguments) for arguments in half] for half in halves]
    inputs = [arguments for half in halves for arguments in half]
    with tempfile.TemporaryFile() as expected:
        reference = row["prompt"] + row["canonical_solution"]
        began = time.monotonic()  # a busy machine is slow for both
        run_program(reference, entry, inputs, expected, 5 * ALL_S, 5 * ALL_S, file_mb=2048, allow_weak=allow_weak)
        limits = {"all_seconds": max(ALL_S, 2 * (time.monotonic() - began))}
        limits |= {"file_mb": 64 + 4 * (expected.tell() >> 20), "allow_weak": allow_weak}
        expected.seek(0)
        if not (end := next((line for line in expected if line.startswith(b'["end"')), b"")):
            problem = f"the reference of {task} does not run on its own inputs, so no program can be checked against it"
            raise EvaluationError(f"{problem}; is the data file whole?")
        limits["seconds"] = max(CALL_S, CALL_FACTOR * json.loads(end)[1])
        for program in programs:
            with tempfile.TemporaryFile() as said:
                ended = run_program(program, entry, inputs, said, **limits)
                place, fault = _first_fault(row, halves, expected, said)
            opinions[task, program] = Opinion(place >= len(halves[0]), not fault, fault, ended.layers)
    return opinions


def run_program(
    program: str, entry: str, inputs: Inputs, said: IO[bytes], seconds: float, all_seconds: float = ALL_S, **jail: Any
) -> Ended:
    """Run the program in a jail, each call for `seconds`; what `jailed_programs.py` tells of it goes to `said`."""
    texts = [wire.encode(arguments, wire.UNCAPPED) for arguments in inputs]
    request = {"program": program, "entry": entry, "inputs": texts, "seconds": seconds, "all_seconds": all_seconds}
    return run_script(SCRIPT, [wire.__file__], request, said, packages=["numpy"], seconds=all_seconds + 10, **jail)


def _first_fault(row: dict[str, Any], halves: list[Inputs], expected: IO[bytes], said: IO[bytes]) -> tuple[int, str]:
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
            if not oracle.right(arguments, wire.parse(answer.decode(), wire.UNCAPPED), found):
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
        found = wire.parse(line.decode(), wire.UNCAPPED) if line.endswith(b"\n") else []
    except (wire.WireError, UnicodeDecodeError):
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
            return bool(self._equal(arguments, exp, out, same_type))
        except Exception:  # incomparable: evalplus counts every exception of a comparison as wrong
            return False

    def _equal(self, arguments: tuple[Any, ...], exp: Any, out: Any, same_type: bool) -> bool:
        from numpy import allclose

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
        return allclose(out, exp, rtol=1e-07, atol=self.atol)
