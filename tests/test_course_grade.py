"""The grader: full points for the key, none for the untouched notebook, the right part for a half-solved one."""

import json
import subprocess
import sys

import nbformat
import pytest

from azr_lite.course.build import FOLDER, NotebookError, defined, read, tags, with_key
from azr_lite.course.checks import exercises
from azr_lite.course.grade import grade, text

pytest.importorskip("nbclient", reason="notebooks need the [notebooks] extra")
LESSON = FOLDER / "03_rewards.py"


@pytest.fixture
def save(tmp_path):
    def written(notebook):
        path = tmp_path / "student.ipynb"
        nbformat.write(notebook, path)
        return path

    return written


def points(found):
    return {test["name"]: (test["score"], test["max_score"]) for test in found["tests"]}


OWN = {name: one for name, one in exercises().items() if one.notebook == "03"}


def test_the_untouched_notebook_earns_nothing_and_the_key_everything(save):
    nothing = grade(save(read(LESSON)))
    assert points(nothing) == {name: (0, one.points) for name, one in OWN.items()}
    assert nothing["score"] == 0
    full = grade(save(with_key(read(LESSON))))
    assert points(full) == {name: (one.points, one.points) for name, one in OWN.items()}
    assert full["score"] == full["max_score"] == sum(one.points for one in OWN.values())


def test_a_half_solved_notebook_earns_its_part_although_a_cell_fails_and_one_never_ends(save):
    solved, untouched = with_key(read(LESSON)), read(LESSON)
    right, wrong, endless, broken = list(OWN)[:4]
    for place, cell in enumerate(untouched.cells):
        if cell.cell_type == "code" and "exercise" in tags(cell) and right in defined(cell):
            untouched.cells[place] = solved.cells[place]
        elif cell.cell_type == "code" and "exercise" in tags(cell) and wrong in defined(cell):
            cell.source = f"{wrong} = lambda *a, **k: 17\nraise RuntimeError('a student was here')"
        elif cell.cell_type == "code" and "exercise" in tags(cell) and endless in defined(cell):
            cell.source += "\nwhile True:\n    pass"
        elif cell.cell_type == "code" and "exercise" in tags(cell) and broken in defined(cell):
            cell.source = cell.source.replace("return ...", "return (")
    found = grade(save(untouched), seconds=10)
    assert found["score"] == OWN[right].points
    states = {test["name"]: test["output"].split(":")[1].split(" because")[0].strip() for test in found["tests"]}
    assert states[right] == "right"
    assert states[wrong] == "wrong"
    assert states[broken] == "its cell failed with SyntaxError"
    assert {state for name, state in states.items() if name not in (right, wrong, broken)} == {"not started"}
    assert f"{found['score']:>3}/{found['max_score']:<3} notebook 03" in text(found)


def test_json_is_gradescopes_form(save):
    ran = subprocess.run(
        [sys.executable, "-m", "azr_lite.course.grade", str(save(read(LESSON))), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(ran.stdout)
    assert found["score"] == 0
    assert {"name", "score", "max_score", "output", "status"} <= found["tests"][0].keys()


def test_what_cannot_be_graded_is_one_sentence(tmp_path, save):
    with pytest.raises(NotebookError, match="there is no notebook"):
        grade(tmp_path / "none.ipynb")
    (tmp_path / "broken.ipynb").write_text("{")
    with pytest.raises(NotebookError, match="is not a notebook"):
        grade(tmp_path / "broken.ipynb")
    other = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Something else")])
    with pytest.raises(NotebookError, match="no cell has a title"):
        grade(save(other))
    ran = subprocess.run(
        [sys.executable, "-m", "azr_lite.course.grade", str(tmp_path / "none.ipynb")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
