"""Abduction: given program and output, find an input that produces it. (Upstream calls it ``code_i``.)"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from azr_lite.parsing import ParsedReply, parse_literal
from azr_lite.prompts.base import Style
from azr_lite.sandbox.literal import read_value
from azr_lite.sandbox.wire import compare
from azr_lite.tasks.base import Answer, TripletTaskType, register_task_type
from azr_lite.triplet import Reason, Rejection, Role, Rules, Triplet, Verdict


class Abduction(TripletTaskType):
    """Right when p(i') equals o: any such i' counts. It is parsed as literals, never pasted into source."""

    name = "abduction"

    def solve_prompt(self, style: Style, task: Triplet, rules: Rules) -> str:
        return style.render(self.words(style, Role.SOLVE)(program=task.program, output=task.output, rules=rules))

    def parse_answer(self, reply: ParsedReply, task: Triplet, rules: Rules) -> Answer | Rejection:
        text = reply.block("input", Reason.NO_ANSWER)
        if not isinstance(text, Rejection):
            text = parse_literal("input in the answer", text, rules.max_value_chars)
        return text if isinstance(text, Rejection) else Answer(program=task.program, inputs=(text,))

    def judge(self, task: Triplet, answer: Answer, outcomes: Sequence[Any], rules: Rules) -> Verdict:
        (outcome,) = outcomes
        if outcome.kind != "ok":
            return Verdict(ok=False, well_formed=True, reason=outcome.kind, detail=outcome.detail)
        right = compare(outcome.value, read_value(task.output), rules.equality)
        return Verdict(ok=right, well_formed=True, score=float(right), reason="" if right else Reason.WRONG)


ABDUCTION = register_task_type(Abduction())
