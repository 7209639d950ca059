"""Style for the nano model: almost no words, one command and the fences, so that prompts stay a few dozen tokens.

Comes in: references, a program, or a task, with the keyword arguments of `prompts/words.py`.  Goes out: a prompt.
Replies have the form of every other style: thought (may be empty), answer, fences.
Not covered: the rules in full sentences, which a model of half a million parameters could not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from azr_lite.prompts.base import THINK, Style, fence
from azr_lite.triplet import Triplet

if TYPE_CHECKING:
    from azr_lite.triplet import Rules


def _body(command: str, *blocks: str) -> str:
    return "\n".join((command, *blocks, ""))


def _examples(references: Sequence[Triplet]) -> list[str]:
    return [block for task in references for block in (fence("python", task.program), fence("input", task.input))]


def propose_deduction(*, references: Sequence[Triplet], rules: Rules) -> str:
    return _body("invent deduction", *_examples(references))


def propose_abduction(*, references: Sequence[Triplet], rules: Rules) -> str:
    return _body("invent abduction", *_examples(references))


def propose_induction(*, program: str, rules: Rules) -> str:
    return _body("invent induction", fence("python", program))


def solve_deduction(*, program: str, input: str) -> str:
    return _body("solve deduction", fence("python", program), fence("input", input))


def solve_abduction(*, program: str, output: str) -> str:
    return _body("solve abduction", fence("python", program), fence("output", output))


def solve_induction(*, pairs: Sequence[tuple[str, str]], message: str, rules: Rules) -> str:
    blocks = [block for given, result in pairs for block in (fence("input", given), fence("output", result))]
    return _body("solve induction", *blocks, fence("message", message))


COMPACT = Style(
    name="compact",
    frame=str,
    prefill=THINK,
    words={
        "propose/deduction": propose_deduction,
        "propose/abduction": propose_abduction,
        "propose/induction": propose_induction,
        "solve/deduction": solve_deduction,
        "solve/abduction": solve_abduction,
        "solve/induction": solve_induction,
    },
)
"""The words of the nano model."""
