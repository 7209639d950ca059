"""Style for the nano model: one command and the fences, so that prompts stay a few dozen tokens.

Replies have the form of every other style: thought (may be empty), answer, fences.
"""

from __future__ import annotations

from collections.abc import Sequence

from azr_lite.prompts.base import THINK, Style, fence
from azr_lite.triplet import Rules, Triplet


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


def solve_deduction(*, program: str, input: str, rules: Rules) -> str:
    return _body("solve deduction", fence("python", program), fence("input", input))


def solve_abduction(*, program: str, output: str, rules: Rules) -> str:
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
