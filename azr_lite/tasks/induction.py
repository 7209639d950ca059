"""Induction: given input/output pairs and a message, write the program. (Upstream calls it ``code_f``.)

The proposer is given a program and invents inputs and the message; half of the pairs stay hidden and judge the answer.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from azr_lite.parsing import ParsedReply, parse_arguments, parse_program, read_source
from azr_lite.prompts.base import Style
from azr_lite.sandbox.literal import read_arguments, read_value
from azr_lite.sandbox.wire import canonical, compare, render
from azr_lite.tasks.base import Answer, Proposal, TaskType, argument_text, register_task_type, unreadable
from azr_lite.triplet import InductionTask, Reason, Rejection, Role, Rules, Task, Verdict, rejection_in

_COMPUTES = (
    ast.BinOp, ast.BoolOp, ast.Compare, ast.Call, ast.Subscript, ast.IfExp, ast.Lambda, ast.ListComp, ast.SetComp,
    ast.DictComp, ast.GeneratorExp,
)  # fmt: skip


class Induction(TaskType):
    """Right when the answer reproduces every hidden pair (or, with ``induction_scoring="fraction"``, by its share)."""

    name = "induction"
    propose_from = "programs"

    def propose_prompt(self, style: Style, references: Sequence[Task], rules: Rules) -> str:
        return style.render(self.words(style, Role.PROPOSE)(program=references[0].program, rules=rules))

    def parse_proposal(self, reply: ParsedReply, references: Sequence[Task], rules: Rules) -> Proposal | Rejection:
        blocks, message = reply.blocks("input"), reply.block("message", Reason.NO_MESSAGE, last=False)
        if isinstance(message, Rejection):
            return message
        message = " ".join(message.split())
        if not message:
            return Rejection(Reason.NO_MESSAGE, "the message is empty")
        if len(blocks) < rules.induction_inputs:
            return Rejection(Reason.TOO_FEW_INPUTS, f"{len(blocks)} input blocks, expected {rules.induction_inputs}")
        if len(message) > rules.max_message_chars:
            return Rejection(Reason.TOO_LONG, f"message has {len(message)} characters, limit {rules.max_message_chars}")
        program = references[0].program
        if leaks(message, program):
            return Rejection(Reason.MESSAGE_LEAKS, "the message contains code of the program")
        inputs = [parse_arguments(block, rules.max_value_chars) for block in blocks[-rules.induction_inputs :]]
        if refused := rejection_in(*inputs):
            return refused
        if len({canonical(arguments) for arguments in inputs}) < len(inputs):
            return Rejection(Reason.TOO_FEW_INPUTS, "two inputs are the same")
        return Proposal(program, tuple(inputs), message)

    def make_task(self, proposal: Proposal, outputs: Sequence[Any], rules: Rules) -> InductionTask | Rejection:
        texts = tuple(render(output) for output in outputs)
        inputs = tuple(argument_text(arguments) for arguments in proposal.inputs)
        if refused := unreadable(inputs, texts, rules):
            return refused
        if len(set(texts)) == 1:
            return Rejection(Reason.CONSTANT_OUTPUT, "all outputs are equal, so a constant would be right")
        return InductionTask(self.name, proposal.program, inputs, texts, proposal.message, rules.induction_shown)

    def solve_prompt(self, style: Style, task: InductionTask, rules: Rules) -> str:
        pairs = list(zip(task.inputs, task.outputs, strict=True))[: task.shown]
        return style.render(self.words(style, Role.SOLVE)(pairs=pairs, message=task.message, rules=rules))

    def parse_answer(self, reply: ParsedReply, task: InductionTask, rules: Rules) -> Answer | Rejection:
        program = parse_program(reply.block("python", Reason.NO_ANSWER), rules.max_program_chars, answer=True)
        if isinstance(program, Rejection):
            return program
        return Answer(program=program, inputs=tuple(read_arguments(text) for text in task.inputs[task.shown :]))

    def judge(self, task: InductionTask, answer: Answer, outcomes: Sequence[Any], rules: Rules) -> Verdict:
        gold = [read_value(text) for text in task.outputs[task.shown :]]
        hits = sum(o.kind == "ok" and compare(o.value, g, rules.equality) for o, g in zip(outcomes, gold, strict=True))
        failed, right = next((o for o in outcomes if o.kind != "ok"), None), hits == len(gold)
        score = hits / len(gold) if rules.induction_scoring == "fraction" else float(right)
        reason = "" if right else failed.kind if failed else Reason.WRONG
        return Verdict(ok=right, well_formed=True, score=score, reason=reason, detail=failed.detail if failed else "")


def leaks(message: str, program: str) -> bool:
    """Whether the message holds code of the program, spacing aside: a line of it, or an expression that computes.

    Plain words (``return x``), names and literals may stand in it.
    """
    squeezed = _squeezed(message)
    pieces = itertools.chain(map(_squeezed, program.split("\n")), _squeezed_expressions(program))
    return "deff(" in squeezed or any(
        len(piece) >= 5 and not piece.isidentifier() and piece in squeezed for piece in pieces
    )


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text).replace('"', "'")


def _squeezed_expressions(program: str) -> Iterator[str]:
    """Every expression that computes: slices of the squeezed program, since a long chain holds thousands of them."""
    tree = read_source(program)
    nodes = () if isinstance(tree, Rejection) else ast.walk(tree)
    bytes_kept = ([0] * (len(char.encode()) - 1) + [not char.isspace()] for char in program)
    kept = [0, *itertools.accumulate(itertools.chain.from_iterable(bytes_kept))]  # characters kept before each byte
    squeezed = _squeezed(program)
    lines = [0, *itertools.accumulate(len(line.encode()) + 1 for line in program.split("\n"))]
    for node in nodes:
        if isinstance(node, _COMPUTES):
            start, end = lines[node.lineno - 1] + node.col_offset, lines[node.end_lineno - 1] + node.end_col_offset
            yield squeezed[slice(*(kept[min(at, len(kept) - 1)] for at in (start, end)))]


INDUCTION = register_task_type(Induction())
