"""Induction: given input/output pairs and a message, write the program. (Upstream calls it ``code_f``.)

The proposer is given a program and invents inputs and the message; half of the pairs stay hidden and judge the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from azr_lite.parsing import ParsedReply, parse_arguments, parse_program
from azr_lite.prompts.base import Style
from azr_lite.sandbox.literal import read_arguments, read_value
from azr_lite.sandbox.wire import canonical, compare, render
from azr_lite.tasks.base import Answer, Proposal, TaskType, argument_text, register_task_type
from azr_lite.triplet import InductionTask, Reason, Rejection, Rules, Task, Verdict

MAX_MESSAGE_CHARS = 500


class Induction(TaskType):
    """Right when the answer reproduces every hidden pair (or, with ``induction_scoring="fraction"``, by its share)."""

    name = "induction"
    propose_from = "programs"

    def propose_prompt(self, style: Style, references: Sequence[Task], rules: Rules) -> str:
        return style.render(style.words["propose/induction"](program=references[0].program, rules=rules))

    def parse_proposal(self, reply: ParsedReply, references: Sequence[Task], rules: Rules) -> Proposal | Rejection:
        blocks, messages = reply.blocks("input"), reply.blocks("message")
        if len(messages) != 1 or not messages[0].strip():
            return Rejection(Reason.NO_MESSAGE, f"{len(messages)} message blocks, expected 1 that is not empty")
        if len(blocks) < rules.induction_inputs:
            return Rejection(Reason.TOO_FEW_INPUTS, f"{len(blocks)} input blocks, expected {rules.induction_inputs}")
        message = " ".join(messages[0].split())
        if len(message) > MAX_MESSAGE_CHARS:
            return Rejection(Reason.TOO_LONG, f"message has {len(message)} characters, limit {MAX_MESSAGE_CHARS}")
        program = references[0].program
        if leaks(message, program):
            return Rejection(Reason.MESSAGE_LEAKS, "the message contains a line of the program")
        inputs = []
        for block in blocks[-rules.induction_inputs :]:
            arguments = parse_arguments(block, rules.max_value_chars)
            if isinstance(arguments, Rejection):
                return arguments
            inputs.append(arguments)
        if len({canonical(arguments) for arguments in inputs}) < len(inputs):
            return Rejection(Reason.TOO_FEW_INPUTS, "two inputs are the same")
        return Proposal(program, tuple(inputs), message)

    def make_task(self, proposal: Proposal, outputs: Sequence[Any], rules: Rules) -> InductionTask | Rejection:
        texts = tuple(render(output) for output in outputs)
        longest = max(map(len, texts))
        if longest > rules.max_value_chars:
            return Rejection(
                Reason.OUTPUT_TOO_LONG, f"an output has {longest} characters, limit {rules.max_value_chars}"
            )
        if len(set(texts)) == 1:
            return Rejection(Reason.CONSTANT_OUTPUT, "all outputs are equal, so a constant would be right")
        inputs = tuple(argument_text(arguments) for arguments in proposal.inputs)
        return InductionTask(self.name, proposal.program, inputs, texts, proposal.message, rules.induction_shown)

    def solve_prompt(self, style: Style, task: InductionTask, rules: Rules) -> str:
        pairs = list(zip(task.inputs, task.outputs, strict=True))[: task.shown]
        return style.render(style.words["solve/induction"](pairs=pairs, message=task.message, rules=rules))

    def parse_answer(self, reply: ParsedReply, task: InductionTask, rules: Rules) -> Answer | Rejection:
        blocks = reply.blocks("python")
        if len(blocks) != 1:
            return Rejection(Reason.NO_ANSWER, f"{len(blocks)} python blocks, expected 1")
        program = parse_program(blocks[0], rules.max_program_chars)
        if isinstance(program, Rejection):
            return program
        return Answer(program=program, inputs=tuple(read_arguments(text) for text in task.inputs[task.shown :]))

    def judge(self, task: InductionTask, answer: Answer, outcomes: Sequence[Any], rules: Rules) -> Verdict:
        gold = [read_value(text) for text in task.outputs[task.shown :]]
        hits = sum(o.kind == "ok" and compare(o.value, g, rules.equality) for o, g in zip(outcomes, gold, strict=True))
        share = hits / len(gold)
        failed = next((o for o in outcomes if o.kind != "ok"), None)
        right = hits == len(gold)
        score = share if rules.induction_scoring == "fraction" else float(right)
        reason = "" if right else failed.kind if failed else Reason.WRONG
        return Verdict(ok=right, well_formed=True, score=score, reason=reason, detail=failed.detail if failed else "")


def leaks(message: str, program: str) -> bool:
    """Whether a line of the program's code stands in the message, spacing aside. Plain words (``return x``) may."""
    squeezed = re.sub(r"\s+", "", message)
    lines = (re.sub(r"\s+", "", line) for line in program.splitlines())
    return "deff(" in squeezed or any(len(line) >= 5 and not line.isidentifier() and line in squeezed for line in lines)


INDUCTION = register_task_type(Induction())
