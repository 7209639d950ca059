"""Every notebook of the course, executed: as it is, with the worked solutions typed in, and with each known mistake."""

import pytest

from azr_lite.course.build import FOLDER, defined, execute, printed, read, tags
from azr_lite.course.checks import exercises
from azr_lite.course.lessons import COURSE
from tests.course_cells import solutions, with_mistakes

pytest.importorskip("nbclient", reason="notebooks need the [notebooks] extra")
LESSONS = pytest.mark.parametrize("lesson", COURSE, ids=lambda lesson: lesson.number)


def own(lesson):
    return {name: one for name, one in exercises().items() if one.notebook == lesson.number}


def said(notebook):
    return " ".join(printed(cell) for cell in notebook.cells if cell.cell_type == "code" and "exercise" in tags(cell))


@LESSONS
def test_it_runs_to_its_end_with_nothing_solved(lesson):
    text = said(execute(read(FOLDER / f"{lesson.stem}.py"), "ci", seconds=300))
    for name in own(lesson):
        assert f"○ {name}: not started" in text


def solved(lesson):
    """The notebook as a student leaves it who typed every worked solution into its cell."""
    notebook = read(FOLDER / f"{lesson.stem}.py")
    shown = solutions(notebook)
    for cell in notebook.cells:
        if "exercise" in tags(cell):
            (name,) = defined(cell)
            given = "import ast\n" if "import ast" in cell.source else ""
            cell.source = f"{given}{shown[name]}\n\ncheck.{name}({name})"
    return notebook


@LESSONS
def test_it_runs_with_the_worked_solutions(lesson):
    text = said(execute(solved(lesson), "ci", seconds=300))
    for name in own(lesson):
        assert f"✓ {name}: right" in text


@LESSONS
def test_each_known_mistake_is_named_in_the_notebook(lesson):
    notebook = execute(with_mistakes(read(FOLDER / f"{lesson.stem}.py")), "ci", seconds=300)
    seen = set()
    for cell in notebook.cells:
        for name in defined(cell) if "mistake" in cell.metadata else ():
            mistakes = exercises()[name].mistakes
            number = cell.metadata["mistake"] % len(mistakes)
            assert f"✗ {name}: wrong because {' '.join(mistakes[number].says.split())}" in printed(cell)
            seen.add((name, number))
    assert seen == {(name, number) for name, one in own(lesson).items() for number in range(len(one.mistakes))}


def test_worked_solutions_solve_notebook_05_and_are_kept_with_what_was_written_before(tmp_path):
    """As a student would: a function of notebook 03 lies in my_work.py, and six more are typed into their cells."""
    notebook = solved(COURSE[5])
    shown = solutions(notebook)
    before = "# ---- learnability\ndef learnability(rate):\n    return 0.0 if rate in (0, 1) else 1 - rate\n"
    (tmp_path / "my_work.py").write_text(before)
    ran = execute(notebook, "ci", folder=tmp_path, seconds=300)
    text = " ".join(printed(cell) for cell in ran.cells if cell.cell_type == "code")
    kept = (tmp_path / "my_work.py").read_text()
    assert "learnability yours, from my_work.py" in text
    assert before.strip() in kept
    for name, source in shown.items():
        assert f"✓ {name}: right" in text
        assert source in kept
