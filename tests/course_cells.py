"""Notebooks with other answers in their cells: the worked solutions, the package's own, each known mistake."""

from __future__ import annotations

import ast
import copy
import re
from types import SimpleNamespace

from azr_lite.course.build import assigned, defined, tags
from azr_lite.course.checks import exercises


def solutions(notebook) -> dict[str, str]:
    """The worked solutions that a notebook shows folded under its exercises: source by the exercise's name."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    shown = r"<summary>Solution</summary>\n\n```python\n(.*?)\n```\n\nWhy: "
    found = [SimpleNamespace(source=source) for source in re.findall(shown, prose, re.DOTALL)]
    return {name: cell.source for cell in found for name in defined(cell)}


def with_key(notebook):
    """A copy with the package's own answer after every stub."""
    made = copy.deepcopy(notebook)
    for cell in made.cells:
        if cell.cell_type == "code" and "exercise" in tags(cell):
            cell.source = answered(cell, "key")
    return made


def with_mistakes(notebook):
    """A copy in which each exercise's cell comes once for each of its mistakes, and then as it was.

    `cell.metadata.mistake` is the mistake's number.
    """
    made = copy.deepcopy(notebook)
    made.cells = []
    for cell in copy.deepcopy(notebook.cells):
        names = defined(cell) if cell.cell_type == "code" and "exercise" in tags(cell) else []
        for number in range(max((len(exercises()[name].mistakes) for name in names), default=0)):
            own = copy.deepcopy(cell)
            own.id, own.metadata["mistake"] = f"{cell.id}-{number}", number
            own.source = answered(cell, f"mistakes[{number} % len(_of(NAME).mistakes)].wrong")
            made.cells.append(own)
        made.cells.append(cell)
    return made


def answered(cell, what: str) -> str:
    """A cell's source with ``NAME = ...`` after its stubs, so that the check judges this instead."""
    lines, body = cell.source.splitlines(), ast.parse(cell.source).body
    for name in defined(cell):
        end = max(node.end_lineno for node in body if name in assigned(node))
        answer = f"_of({name!r}).{what.replace('NAME', repr(name))}"
        lines[end - 1] += f"\nfrom azr_lite.course.checks import exercise_of as _of; {name} = {answer}"
    return "\n".join(lines)
