"""HumanEval+ and MBPP+: prompts of three protocols, extraction, marks. Nothing here runs a program (`judge.py` does).

Protocols, never mixed, part of every suite's name:
* ``evalplus-chat``: the prompt of evalplus' own chat path, words and shape taken from the installed package; the
  prefill ends in an opened python fence; 768 tokens and its stop strings. The paper's HumanEval+ and MBPP+ are this.
* ``evalplus-direct``: what the same path does for a model without chat template: the task's text, to be gone on with.
* ``azr``: the think/answer prompt of self-play in words of our own; the last python fence inside the answer counts.

`Mark.right`: base and plus tests pass for the strictly extracted program: azr, see above; evalplus-chat, the reply up
to the first stop string or closing fence; evalplus-direct, task and reply up to the first stop string. `Mark.lenient`:
or they pass for azr with the last fence wherever it stands; for both others after evalplus' `sanitize`, and **that is
the published way**: compare `lenient` with leaderboards. `Mark.parts`: base and plus of the strict program.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.benchmarks.jail import need
from azr_lite.evaluation.benchmarks.judge import Opinion, judge, sanitize
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
from azr_lite.parsing import parse_reply
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
CANNOT_PASS = {
    "HumanEval/32": "evalplus 0.3.1 passes no program for this task, not even the reference (its pull request 201 "
    "skips the count)"
}
"""Kept as it is, so that scores stay comparable: the ceiling of HumanEval and HumanEval+ is 163 of 164."""
_CHAT_WORDS = ("Please provide a self-contained", "Below is a Python script with a self-contained function that solves")
_FENCE = re.compile(
    r"^[ \t]*```[ \t]*(?P<tag>[A-Za-z0-9+]*)[ \t]*\n(?P<text>.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE
)


def code_suite(name: str, setting: Setting) -> CodeSuite:
    """The suite `name` of `SUITES`.

    EvaluationError for an unknown name or protocol, unreadable data, or (protocol ``evalplus``) a missing evalplus.
    """
    protocol, source = setting.code_protocol, setting.source
    if protocol not in ("evalplus", "azr"):
        raise EvaluationError(f"unknown protocol {protocol!r} for code; choose evalplus or azr")
    if name not in SUITES:
        raise EvaluationError(f"unknown code suite {name!r}; choose from {', '.join(SUITES)}")
    dataset, file = SUITES[name]
    questions = read_data(name, source, NEEDS) if source else shipped(name, file)
    how = protocol if protocol == "azr" else "evalplus-chat" if setting.style.chat else "evalplus-direct"
    return CodeSuite(f"{name}-{how}", how, questions, dataset, setting.style, setting.allow_weak)


@dataclass
class CodeSuite:
    """A `suite.Suite`; protocols: see the top of this file. `max_tokens` 0: as the protocol says."""

    name: str
    protocol: str
    data: Data
    dataset: str
    style: Style
    allow_weak: bool = False
    samples: int = 1
    temperature: float = 0.0
    max_tokens: int = 0
    stop: tuple[str, ...] = ()
    layers: dict[str, str] = field(default_factory=dict)
    """What held the programs of the last grading; filled by `grade`."""

    def __post_init__(self) -> None:
        self._rows = {row["task_id"]: row for row in self.data.rows}
        own = self.protocol == "azr"
        self.max_tokens = self.max_tokens or (AZR_TOKENS if own else EVALPLUS_TOKENS)
        self.stop = (END_ANSWER,) if own else stop_strings(self.dataset, self.protocol == "evalplus-chat")

    def questions(self) -> list[Question]:
        """All tasks in the order of the data."""
        return [Question(row["task_id"], self.dataset + "+", self._prompt(row["prompt"])) for row in self.data.rows]

    def _prompt(self, task: str) -> Prompt:
        if self.protocol == "evalplus-direct":
            return Prompt(_start(task))
        if self.protocol == "evalplus-chat":
            text, prefill = chat_prompt(task)
            return Prompt(text, prefill, chat=True)
        return think_answer_prompt(self.style, azr_body(task))

    def grade(self, replies: Sequence[tuple[Question, Reply]]) -> list[Mark]:
        """Extract, score strict and lenient programs together, mark.

        EvaluationError, SandboxError, UnsafeError: nothing could be scored.
        """
        need("evalplus", EVALPLUS)
        found = [self.extract(question, reply) for question, reply in replies]
        dirty = [place for place, one in enumerate(found) if one.clean]
        texts = [(found[place].lenient, self._rows[replies[place][0].id]["entry_point"]) for place in dirty]
        for place, text in zip(dirty, sanitize(texts) if texts else [], strict=True):
            found[place] = replace(found[place], lenient=text)
        pairs = list(zip((question.id for question, _ in replies), found, strict=True))
        wanted = sorted({(id, text) for id, one in pairs for text in (one.strict, one.lenient) if text.strip()})
        wanted = [(id, text) for id, text in wanted if id not in CANNOT_PASS]
        verdicts = judge(self.dataset, [(self._rows[id], text) for id, text in wanted], allow_weak=self.allow_weak)
        if verdicts:
            self.layers = verdicts[0].layers
        opinions = dict(zip(wanted, verdicts, strict=True))
        marks = []
        for id, one in pairs:
            unasked = Opinion(False, False, CANNOT_PASS.get(id, "wrong"), {})
            strict, lenient = (opinions.get((id, text), unasked) for text in (one.strict, one.lenient))
            right = one.well_formed and strict.plus
            parts = {"base": one.well_formed and strict.base, "plus": right}
            marks.append(Mark(right, right or lenient.plus, one.well_formed, one.reason or strict.reason, parts))
        return marks

    def extract(self, question: Question, reply: Reply) -> Extracted:
        """The two programs of a reply; no verdict yet."""
        if self.protocol == "azr":
            return extract_azr(question.prompt.prefill + reply.text)
        text = _cut(reply.text, self.stop).replace("\t", "    ")  # evalplus does both to every completion
        reason = "truncated" if reply.truncated else ""
        if self.protocol == "evalplus-direct":
            whole = _start(self._rows[question.id]["prompt"]) + text
            return Extracted(whole, whole, not reply.truncated, reason, clean=True)
        program = re.split(r"^[ \t]*```", text, maxsplit=1, flags=re.MULTILINE)[0]
        reason = reason or ("" if program.strip() else "empty")
        return Extracted(program, text, not reason, reason, clean=True)

    def baselines(self, questions: Sequence[Question]) -> dict[str, dict[str, float]]:
        """Empty: no program that needs no reasoning passes the tests."""
        return {}


@dataclass(frozen=True)
class Extracted:
    """`clean`: `lenient` is still to go through evalplus' `sanitize`. `reason`: why the reply is not well formed."""

    strict: str
    lenient: str
    well_formed: bool
    reason: str = ""
    clean: bool = False


def extract_azr(text: str) -> Extracted:
    """Strict: a well-formed reply and the last python fence of its answer.

    Lenient: the last python fence anywhere, else the last of any kind.
    """
    lines = text.replace(THINK, THINK + "\n").replace(ANSWER, ANSWER + "\n")
    fences = [(match["tag"].lower(), match["text"]) for match in _FENCE.finditer(lines)]
    python = [body for tag, body in fences if tag in ("python", "py", "python3")]
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


def _cut(text: str, stop: Sequence[str]) -> str:
    return text[: min([text.find(word) for word in stop if word in text], default=len(text))]


# ---------------------------------------------------------------- evalplus' own words


def stop_strings(dataset: str, chat: bool) -> tuple[str, ...]:
    """Where evalplus ends a reply, on its chat path or its direct one. EvaluationError without the right evalplus."""
    need("evalplus", EVALPLUS)
    from evalplus.provider.utility import EOS, extra_eos_for_direct_completion

    return (*EOS, "\n```\n") if chat else (*EOS, *extra_eos_for_direct_completion(dataset))


def chat_prompt(task: str) -> tuple[str, str]:
    """The user's message and the prefill of evalplus' chat path, made by evalplus around a stand-in tokenizer.

    The words around the task are two constants of its `run_codegen`.
    """
    from evalplus.codegen import run_codegen
    from evalplus.provider.utility import make_raw_chat_prompt

    class Tokenizer:
        chat_template = "stand-in"

        def apply_chat_template(self, messages: list[dict[str, Any]], tokenize: bool) -> str:
            return f"{messages[0]['content']}\0{messages[1]['content']}"

    constants = [text for text in run_codegen.__code__.co_consts if isinstance(text, str)]
    instruction, response = (next(text for text in constants if text.startswith(start)) for start in _CHAT_WORDS)
    user, _, prefill = make_raw_chat_prompt(_start(task), instruction, response, Tokenizer()).partition("\0")
    return user, prefill
