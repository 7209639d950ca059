"""Style for the nano model: one command and the fences, so that prompts stay a few dozen tokens.

Replies have the form of every other style: thought (may be empty), answer, fences.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from azr_lite.prompts.base import THINK, Style, fence
from azr_lite.triplet import Rules, Triplet


def _write(
    command: str,
    *,
    references: Sequence[Triplet] = (),
    pairs: Sequence[tuple[str, str]] = (),
    rules: Rules,
    **given: str,
) -> str:
    """The command, then a fence around everything that is given, in order."""
    fences = [fence(*block) for task in references for block in (("python", task.program), ("input", task.input))]
    fences += [fence(*block) for pair in pairs for block in zip(("input", "output"), pair, strict=True)]
    fences += [fence("python" if name == "program" else name, text) for name, text in given.items()]
    return "\n".join((command, *fences, ""))


COMPACT = Style(
    name="compact",
    frame=str,
    prefill=THINK,
    words={
        f"{role}/{task_type}": partial(_write, f"{verb} {task_type}")
        for role, verb in (("propose", "invent"), ("solve", "solve"))
        for task_type in ("deduction", "abduction", "induction")
    },
)
"""The words of the nano model."""
