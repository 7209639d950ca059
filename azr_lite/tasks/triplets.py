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
from azr_lite.triplet import SEED_SHARING_TYPES, Reason, Rejection, Role, Rules, Task, Triplet, Verdict

IDENTITY = "def f(x):\n    return x"


class TripletTaskType(TaskType):
    """One program, one input, one output; the solver is shown two of the three."""

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
        if isinstance(source, Rejection) or isinstance(given, Rejection):
            return source if isinstance(source, Rejection) else given
        program = parse_program(source, rules.max_program_chars)
        if isinstance(program, Rejection):
            return program
        arguments = parse_arguments(given, rules.max_value_chars)
        return arguments if isinstance(arguments, Rejection) else Proposal(program, (arguments,))

    def make_task(self, proposal: Proposal, outputs: Sequence[Any], rules: Rules) -> Triplet | Rejection:
        given, output = argument_text(proposal.inputs[0]), render(outputs[0])
        return unreadable((given,), (output,), rules) or Triplet(self.name, proposal.program, given, output)


class Deduction(TripletTaskType):
    """Given program and input, find the output. (Upstream calls it ``code_o``.)

    Right when the answer's value equals p(i). Nothing has to be run: the gold is known since validation.
    """

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


class Abduction(TripletTaskType):
    """Given program and output, find an input that produces it. (Upstream calls it ``code_i``.)

    Right when p(i') equals o: any such i' counts. It is parsed as literals, never pasted into source.
    """

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


DEDUCTION, ABDUCTION = register_task_type(Deduction()), register_task_type(Abduction())
