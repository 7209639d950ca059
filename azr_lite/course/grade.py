"""Points for a student's notebook: run it again from the start, judge each exercise, add up.

    python -m azr_lite.course.grade student.ipynb --json

The JSON is what Gradescope's autograders read (``score``, ``tests``); otter and nbgrader take each exercise's points
from it too. A student's code runs with the grader's rights: grade classes you do not know inside a container.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from azr_lite.course.build import NotebookError, defined, execute, tags
from azr_lite.course.checks import exercises, judge_answer
from azr_lite.errors import AzrError

MARK, ASK = "azr-lite-grade:", "from azr_lite.course.grade import verdict_line as _verdict"
SECONDS = 120
"""What one cell of a student's notebook may take."""


def verdict_line(name: str, answer: Any) -> str:
    """What a kernel says of one answer, on a line of its own."""
    found = judge_answer(name, answer)
    return MARK + json.dumps({"name": name, "state": found.state, "output": str(found)})


def points_of(number: str, verdicts: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The points of a notebook, in Gradescope's form; an exercise nobody answered counts as not started."""
    tests = []
    for name, one in exercises().items():
        if one.notebook == number:
            found = verdicts.get(name, {"state": "not started", "output": f"○ {name}: not started"})
            score = one.points if found["state"] == "right" else 0
            status = "passed" if found["state"] == "right" else "failed"
            tests.append(
                {"name": name, "score": score, "max_score": one.points, "output": found["output"], "status": status}
            )
    total = {key: sum(test[key] for test in tests) for key in ("score", "max_score")}
    return {"lesson": number, **total, "tests": tests}


def lesson_number(notebook: Any) -> str:
    """The number in a notebook's title (``# 03 · Rewards``). NotebookError where there is none."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (found := re.search(r"^# (\d\d) ", cell.source, re.MULTILINE)):
            return found[1]
    raise NotebookError(
        "no cell has a title such as '# 03 · Rewards'; grade a notebook of the course, with its first cell left in"
    )


def grade(path: str | Path, seconds: int = SECONDS) -> dict[str, Any]:
    """Points per exercise. Cells tagged `long` are left out.

    A cell that fails or runs too long costs only what depends on it. NotebookError for any other file.
    """
    import nbformat

    path = Path(path)
    if not path.is_file():
        raise NotebookError(f"there is no notebook {path}; give the path of a student's .ipynb")
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:
        kind = type(error).__name__
        raise NotebookError(f"{path} is not a notebook ({kind}); give an .ipynb as Jupyter saves it") from error
    number = lesson_number(notebook)
    own = {name for name, one in exercises().items() if one.notebook == number}
    cells: list[Any] = []
    for cell in notebook.cells:
        if cell.cell_type != "code" or "long" in tags(cell):
            continue
        cells.append(cell)
        for name in own.intersection(defined(cell)):
            # at once: later cells may go on with the package's own under the same name
            cells.append(nbformat.v4.new_code_cell(f"{ASK}; print(_verdict({name!r}, {name}))"))
    notebook.cells = cells
    execute(notebook, "ci", go_on=True, seconds=seconds)
    verdicts = {}
    for cell in cells:
        for name in own.intersection(defined(cell) or _named(cell.source, own)):
            if failed := next((out for out in cell.get("outputs", ()) if out["output_type"] == "error"), None):
                said = f"✗ {name}: its cell failed with {failed['ename']}: {failed['evalue']}"
                verdicts[name] = {"name": name, "state": "wrong", "output": said}
        for line in "".join(out.get("text", "") for out in cell.get("outputs", ())).splitlines():
            if cell.source.startswith(ASK) and line.startswith(MARK):
                said = json.loads(line.removeprefix(MARK))
                verdicts[said["name"]] = said
    return points_of(number, verdicts)


def _named(source: str, own: set[str]) -> set[str]:
    """The exercise whose check a cell calls, where the cell cannot be parsed: a syntax error hides what it defines."""
    return {name for name in own if f"check.{name}({name})" in source}


def text(found: Mapping[str, Any]) -> str:
    """The table for a terminal."""
    lines = [f"{test['score']:>3}/{test['max_score']:<3} {test['output']}" for test in found["tests"]]
    return "\n".join([*lines, f"{found['score']:>3}/{found['max_score']:<3} notebook {found['lesson']}"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m azr_lite.course.grade", description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--json", action="store_true", help="Gradescope's results.json on standard output")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="what one cell may take")
    given = parser.parse_args()
    try:
        found = grade(given.notebook, given.seconds)
    except AzrError as error:
        print(f"azr-lite: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found, ensure_ascii=False, indent=1) if given.json else text(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
