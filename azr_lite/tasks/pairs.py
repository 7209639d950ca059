"""What deduction and abduction share: proposals that are one program and one input, and how such triplets are made.

Comes in: references, a proposer's reply, the output that the program gave.  Goes out: the prompt, the proposal, the triplet.
Not covered: the two solver sides (`deduction.py`, `abduction.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from azr_lite.parsing import Reply, parse_arguments, parse_program
from azr_lite.prompts.base import Style
from azr_lite.sandbox.wire import render
from azr_lite.tasks.base import Game, Proposal, Rules
from azr_lite.triplet import SEED_SHARING_GAMES, Reason, Rejection, Task, Triplet

IDENTITY = "def f(x):\n    return x"


class PairGame(Game):
    """One program, one input, one output; the solver is shown two of the three."""

    def zero_task(self) -> Triplet:
        """The zero triplet of the paper: identity on "Hello world"."""
        return Triplet(type=self.name, program=IDENTITY, input=render("Hello world"), output=render("Hello world"))

    def adopt(self, task: Task) -> Triplet | None:
        """Deduction and abduction share their seeds. Others do not: what a game of your own calls output may be no return value."""
        shared = isinstance(task, Triplet) and self.name in SEED_SHARING_GAMES and task.type in SEED_SHARING_GAMES
        return dataclasses.replace(task, type=self.name, id="") if shared else None

    def propose_prompt(self, style: Style, references: Sequence[Task], rules: Rules) -> str:
        return style.render(style.words[f"propose/{self.name}"](references=references, rules=rules))

    def parse_proposal(self, reply: Reply, references: Sequence[Task], rules: Rules) -> Proposal | Rejection:
        programs, inputs = reply.blocks("python"), reply.blocks("input")
        if len(programs) != 1:
            return Rejection(Reason.NO_PROGRAM, f"{len(programs)} python blocks, expected 1")
        if len(inputs) != 1:
            return Rejection(Reason.NO_INPUT, f"{len(inputs)} input blocks, expected 1")
        program = parse_program(programs[0], rules.max_program_chars)
        if isinstance(program, Rejection):
            return program
        arguments = parse_arguments(inputs[0], rules.max_value_chars)
        return arguments if isinstance(arguments, Rejection) else Proposal(program, (arguments,))

    def make_task(self, proposal: Proposal, outputs: Sequence[Any], rules: Rules) -> Triplet | Rejection:
        output = render(outputs[0])
        if len(output) > rules.max_value_chars:
            return Rejection(Reason.OUTPUT_TOO_LONG, f"output has {len(output)} characters, limit {rules.max_value_chars}")
        return Triplet(type=self.name, program=proposal.program, input=argument_text(proposal.inputs[0]), output=output)


def argument_text(arguments: tuple[Any, ...]) -> str:
    """The canonical text of an argument list: ``'ab', [1, 2]``."""
    return ", ".join(render(argument) for argument in arguments)
