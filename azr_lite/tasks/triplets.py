"""Deduction and abduction: one program, one input, one output, of which the solver is shown two."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from azr_lite.parsing import ParsedReply, parse_arguments, parse_literal, parse_program
from azr_lite.prompts.base import Style
from azr_lite.sandbox.literal import read_value
from azr_lite.sandbox.wire import compare, render
from azr_lite.tasks.base import Answer, Proposal, TaskType, argument_text, register_task_type, unreadable
from azr_lite.triplet import SEED_SHARING_TYPES, Reason, Rejection, Role, Rules, Task, Triplet, Verdict, rejection_in

IDENTITY = "def f(x):\n    return x"


class TripletTaskType(TaskType):
    """What both have in common: the proposer's side, and equality with the output."""

    def zero_task(self) -> Triplet:
        """The zero triplet of the paper: identity on "Hello world"."""
        return Triplet(type=self.name, program=IDENTITY, input=render("Hello world"), output=render("Hello world"))

    def convert_from(self, task: Task) -> Triplet | None:
        """Deduction and abduction share their seeds. What other types call output may be no return value."""
        shared = isinstance(task, Triplet) and self.name in SEED_SHARING_TYPES and task.type in SEED_SHARING_TYPES
        return dataclasses.replace(task, type=self.name, id="") if shared else None

    def propose_prompt(self, style: Style, references: Sequence[Task], rules: Rules) -> str:
        return style.render(self.words(style, Role.PROPOSE)(references=references, rules=rules))

    def parse_proposal(self, reply: ParsedReply, references: Sequence[Task], rules: Rules) -> Proposal | Rejection:
        source = reply.block("python", Reason.NO_PROGRAM, last=False)
        given = reply.block("input", Reason.NO_INPUT, last=False)
        if refused := rejection_in(source, given):
            return refused
        program = parse_program(source, rules.max_program_chars)
        arguments = parse_arguments(given, rules.max_value_chars)
        return rejection_in(program, arguments) or Proposal(program, (arguments,))

    def make_task(self, proposal: Proposal, outputs: Sequence[Any], rules: Rules) -> Triplet | Rejection:
        given, output = argument_text(proposal.inputs[0]), render(outputs[0])
        return unreadable((given,), (output,), rules) or Triplet(self.name, proposal.program, given, output)

    def judge(self, task: Triplet, answer: Answer, outcomes: Sequence[Any], rules: Rules) -> Verdict:
        """Of the answer's value or, where its program was run, of what that returned."""
        for outcome in outcomes:
            if outcome.kind != "ok":
                return Verdict(ok=False, well_formed=True, reason=outcome.kind, detail=outcome.detail)
        value = outcomes[0].value if outcomes else answer.value
        right = compare(value, read_value(task.output), rules.equality)
        return Verdict(ok=right, well_formed=True, score=float(right), reason="" if right else Reason.WRONG)


class Deduction(TripletTaskType):
    """Given program and input, find the output. (Upstream calls it ``code_o``.)

    Nothing has to be run to judge an answer: the output is known since validation.
    """

    name = "deduction"

    def solve_prompt(self, style: Style, task: Triplet, rules: Rules) -> str:
        return style.render(self.words(style, Role.SOLVE)(program=task.program, input=task.input, rules=rules))

    def parse_answer(self, reply: ParsedReply, task: Triplet, rules: Rules) -> Answer | Rejection:
        value = parse_literal("answer", reply.block("output", Reason.NO_ANSWER), rules.max_value_chars)
        return value if isinstance(value, Rejection) else Answer(value=value)


class Abduction(TripletTaskType):
    """Given program and output, find an input that produces it: any does. (Upstream calls it ``code_i``.)

    An answer is parsed as literals, never pasted into source.
    """

    name = "abduction"

    def solve_prompt(self, style: Style, task: Triplet, rules: Rules) -> str:
        return style.render(self.words(style, Role.SOLVE)(program=task.program, output=task.output, rules=rules))

    def parse_answer(self, reply: ParsedReply, task: Triplet, rules: Rules) -> Answer | Rejection:
        given = parse_literal("input in the answer", reply.block("input", Reason.NO_ANSWER), rules.max_value_chars)
        return given if isinstance(given, Rejection) else Answer(program=task.program, inputs=(given,))


DEDUCTION, ABDUCTION = register_task_type(Deduction()), register_task_type(Abduction())
