"""One triplet as three task types: what each shows the solver and what it hides, as data and as pictures."""

from __future__ import annotations

import textwrap
from typing import Any

from azr_lite.course.figures import look, style
from azr_lite.triplet import InductionTask, Task, Triplet

INK, PAPER, HIDDEN = "#222222", "#FFFFFF", "#E4E4E4"
COLUMNS = 34
"""Characters of a line in a drawing."""


def visible(task: Task) -> list[tuple[str, str]]:
    """What the solver sees of a task: (tag, text) blocks in the prompt's order, without what it must find."""
    if isinstance(task, InductionTask):
        pairs = list(zip(task.inputs, task.outputs, strict=True))[: task.shown]
        blocks = [block for given, result in pairs for block in (("input", given), ("output", result))]
        return [*blocks, ("message", task.message)]
    if task.type == "deduction":
        return [("python", task.program), ("input", task.input)]
    return [("python", task.program), ("output", task.output)]


def draw_task_type(axis: Any, task: Triplet, type_: str) -> None:
    """The triplet with a grey cover over what is hidden by the type "deduction", "abduction" or "induction"."""
    hides = {"deduction": "output", "abduction": "input", "induction": "program"}[type_]
    parts = {
        "program": (task.program, 0.30, 0.68),
        "input": (task.input, 0.16, 0.10),
        "output": (task.output, 0.02, 0.10),
    }
    with style():
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1)
        axis.axis("off")
        axis.set_title(f"{type_}: find the {hides}", color=look(type_).colour)
        for name, (text, bottom, height) in parts.items():
            _part(axis, name, text, bottom, height, covered=name == hides, colour=look(type_).colour)


def _part(axis: Any, name: str, text: str, bottom: float, height: float, covered: bool, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    shape = "round,pad=0,rounding_size=0.02"
    face, edge = (HIDDEN, colour) if covered else (PAPER, "#B0B0B0")
    border = {"facecolor": face, "edgecolor": edge, "linewidth": 2 if covered else 1}
    axis.add_patch(FancyBboxPatch((0.01, bottom), 0.97, height, shape, **border))
    axis.text(0.03, bottom + height - 0.02, name, fontsize=6.5, color="#777777", va="top")
    font = {"fontsize": 7.5, "family": "monospace", "color": INK}
    if covered:
        if name == "program":
            note = "several pairs are shown, and a message"
            axis.text(0.5, bottom + 0.05, note, fontsize=7, color=INK, ha="center", va="center")
        axis.text(0.5, bottom + height / 2, "?", fontsize=15, fontweight="bold", color=colour, ha="center", va="center")
    elif name == "program":
        lines = []
        for line in text.splitlines():
            lines += textwrap.wrap(line, COLUMNS, subsequent_indent="      ", drop_whitespace=False)
        axis.text(0.05, bottom + height - 0.09, "\n".join(lines), va="top", linespacing=1.3, **font)
    else:
        axis.text(0.24, bottom + height / 2, textwrap.shorten(text, COLUMNS), va="center", **font)
