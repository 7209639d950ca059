"""The grader: full points for the key, none for the untouched notebook, the right part for a half-solved one."""

import csv
import io
import json
import subprocess
import sys
import textwrap

import nbformat
import pytest

from azr_lite.course.build import FOLDER, NotebookError, defined, read, tags
from azr_lite.course.checks import exercises
from azr_lite.course.grade import grade, grade_folder, text, write_csv
from tests.course_cells import solutions, with_key

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


def solved(**instead):
    """Notebook 03 with the worked solutions in its cells, or with these sources instead of some."""
    notebook = read(LESSON)
    shown = solutions(notebook) | instead
    for cell in notebook.cells:
        if cell.cell_type == "code" and "exercise" in tags(cell):
            (name,) = defined(cell)
            cell.source = f"{shown[name]}\n\ncheck.{name}({name})"
    return notebook


def test_the_untouched_notebook_earns_nothing_and_the_worked_solutions_everything(save):
    command = [sys.executable, "-m", "azr_lite.course.grade", str(save(read(LESSON))), "--json"]
    nothing = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert {"name", "score", "max_score", "output", "status"} <= nothing["tests"][0].keys(), "Gradescope's form"
    assert points(nothing) == {name: (0, one.points) for name, one in OWN.items()}
    assert nothing["score"] == 0
    full = grade(save(solved()))
    assert points(full) == {name: (one.points, one.points) for name, one in OWN.items()}
    assert full["score"] == full["max_score"] == sum(one.points for one in OWN.values())
    assert full["flagged"] == []


def test_the_packages_own_functions_the_keys_and_a_patched_judge_are_flagged_and_earn_nothing(save):
    found = grade(save(with_key(read(LESSON))))
    assert found["score"] == 0
    assert [line.split(":")[0] for line in found["flagged"]] == list(OWN)
    patched = """
        from azr_lite.course import checks
        checks.judge_answer = lambda name, mine: checks.Judgement(name, "right")
        def solve_rate(scores):
            return 17.0
    """
    cheats = grade(
        save(
            solved(
                learnability="def learnability(rate):\n    return az.learnability(rate)",
                expected_learnability="expected_learnability = course.expected_learnability",
                solve_rate=textwrap.dedent(patched),
                answer_reward="def answer_reward(verdict):\n    return -1",
            )
        )
    )
    told = {line.split(": ", 1)[0]: line.split(": ", 1)[1] for line in cheats["flagged"]}
    assert told["learnability"] == "it goes through az.learnability"
    assert told["expected_learnability"] == "it is the package's own function"
    assert cheats["score"] == 0
    assert "✗ solve_rate: wrong" in cheats["tests"][0]["output"]


def test_a_judge_that_was_changed_inside_is_found_out(save):
    notebook = solved(solve_rate="def solve_rate(scores):\n    return 17.0")
    notebook.cells.insert(0, nbformat.v4.new_code_cell(
        "import azr_lite.course.grade as g\n"
        "from azr_lite.course.checks import Judgement\n"
        "g.judge_answer = lambda name, mine: Judgement(name, 'right', 'all is well')"
    ))  # fmt: skip
    found = grade(save(notebook))
    assert points(found)["solve_rate"] == (0, 1)
    assert found["flagged"] == ["solve_rate: its notebook's judge was changed"]


def test_a_folder_becomes_a_table_and_what_cannot_be_read_a_row(save, tmp_path):
    one = save(solved())
    (tmp_path / "class" / "anna").mkdir(parents=True)
    one.rename(tmp_path / "class" / "anna" / "03.ipynb")
    (tmp_path / "class" / "clara.ipynb").write_text("{")
    rows = grade_folder(tmp_path / "class", jobs=2)
    assert [row["file"] for row in rows] == ["anna/03.ipynb", "clara.ipynb"]
    assert rows[0]["score"] == rows[0]["max_score"]
    assert "is not a notebook" in rows[1]["error"]
    write_csv(rows, out := io.StringIO())
    table = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [line["score"] for line in table] == ["10", "0"]
    assert table[0]["proposer_reward"] == "3"


def test_a_notebook_that_no_signal_ends_is_stopped(save):
    endless = "import time\nwhile True:\n    try:\n        time.sleep(9)\n    except BaseException:\n        pass"
    notebook = read(LESSON)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(endless))
    found = grade(save(notebook), minutes=0.1)
    assert found["score"] == 0
    assert "stopped after 0.1 minutes" in found["tests"][0]["output"]


def test_a_half_solved_notebook_earns_its_part_although_a_cell_fails_and_one_never_ends(save):
    whole, untouched = solved(), read(LESSON)
    right, wrong, endless, broken = list(OWN)[:4]
    for place, cell in enumerate(untouched.cells):
        if cell.cell_type == "code" and "exercise" in tags(cell) and right in defined(cell):
            untouched.cells[place] = whole.cells[place]
        elif cell.cell_type == "code" and "exercise" in tags(cell) and wrong in defined(cell):
            cell.source = f"{wrong} = lambda *a, **k: 17\nraise RuntimeError('a student was here')"
        elif cell.cell_type == "code" and "exercise" in tags(cell) and endless in defined(cell):
            cell.source += "\nwhile True:\n    pass"
        elif cell.cell_type == "code" and "exercise" in tags(cell) and broken in defined(cell):
            cell.source = cell.source.replace("return ...", "return (")
    found = grade(save(untouched), seconds=6)
    assert found["score"] == OWN[right].points
    states = {test["name"]: test["output"].split(":")[1].split(" because")[0].strip() for test in found["tests"]}
    assert states[right] == "right"
    assert states[wrong] == "wrong"
    assert states[broken] == "its cell failed with SyntaxError"
    assert {state for name, state in states.items() if name not in (right, wrong, broken)} == {"not started"}
    assert f"{found['score']:>3}/{found['max_score']:<3} notebook 03" in text(found)


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
