"""Deduction: given program and input, find the output. (Upstream calls it ``code_o``.)"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from azr_lite.parsing import ParsedReply, parse_literal
from azr_lite.prompts.base import Style
from azr_lite.sandbox.literal import read_value
from azr_lite.sandbox.wire import compare
from azr_lite.tasks.base import Answer, TripletTaskType, register_task_type
from azr_lite.triplet import Reason, Rejection, Role, Rules, Triplet, Verdict


class Deduction(TripletTaskType):
    """Right when the answer's value equals p(i). Nothing has to be run: the gold is known since validation."""

    name = "deduction"

    def solve_prompt(self, style: Style, task: Triplet, rules: Rules) -> str:
        return style.render(self.words(style, Role.SOLVE)(program=task.program, input=task.input, rules=rules))

    def parse_answer(self, reply: ParsedReply, task: Triplet, rules: Rules) -> Answer | Rejection:
        text = reply.block("output", Reason.NO_ANSWER)
        value = text if isinstance(text, Rejection) else parse_literal("answer", text, rules.max_value_chars)
        return value if isinstance(value, Rejection) else Answer(value=value)

    def judge(self, task: Triplet, answer: Answer, outcomes: Sequence[Any], rules: Rules) -> Verdict:
        right = compare(answer.value, read_value(task.output), rules.equality)
        return Verdict(ok=right, well_formed=True, score=float(right), reason="" if right else Reason.WRONG)


DEDUCTION = register_task_type(Deduction())
