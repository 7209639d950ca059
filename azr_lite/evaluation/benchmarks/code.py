"""HumanEval+ and MBPP+: prompts of three protocols, extraction, marks. Nothing here runs a program (`judge.py` does).

Protocols, never mixed, part of every suite's name, and the program that each counts strictly:
* ``evalplus-chat``: evalplus' own chat prompt, stop strings and 768 tokens; the prefill ends in an opened python fence.
  The reply up to the first stop string or closing fence. The paper's HumanEval+ and MBPP+ are this.
* ``evalplus-direct``: what the same path does for a model without chat template: the task's text, and the reply to it
  up to the first stop string.
* ``azr``: self-play's think/answer prompt. The last python block of the answer that defines the function.

`Mark.right`: that program passes all tests. `Mark.lenient`: or, for azr, such a block wherever it stands; for both
others, the reply after evalplus' `sanitize`, and **that is the published way**: compare `lenient` with leaderboards.
`Mark.parts`: base and plus of the strict program.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from azr_lite.evaluation.benchmarks.jail import need
from azr_lite.evaluation.benchmarks.judge import Opinion, judge, sanitize
from azr_lite.evaluation.suite import (
    Extracted,
    Mark,
    Prompt,
    Question,
    Reply,
    Setting,
    Suite,
    blocks_anywhere,
    read_data,
    shipped,
)  # fmt: skip
from azr_lite.parsing import parse_reply
from azr_lite.prompts.base import END_ANSWER, Style
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
    data = read_data(name, setting.source, NEEDS) if setting.source else shipped(name, file)
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
        wanted = sorted({(id, text) for id, one in found for text in (one.strict, one.lenient) if text.strip()})
        opinions = judge(self._rows, wanted, self.allow_weak)
        self.layers.update(next((opinion.layers for opinion in opinions.values()), {}))
        unasked = Opinion(False, False, "wrong", {})
        marks = []
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
    anywhere, reply = blocks_anywhere(text), parse_reply(text)
    lenient = anywhere.block("python", Reason.NO_ANSWER, entry=entry)
    if isinstance(lenient, Rejection):
        lenient = anywhere.fences[-1][1] if anywhere.fences else ""
    strict = reply if isinstance(reply, Rejection) else reply.block("python", Reason.NO_ANSWER, entry=entry)
    if isinstance(strict, Rejection):
        return Extracted("", lenient, False, strict.reason)
    return Extracted(strict, lenient, True)
