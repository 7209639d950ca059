"""Every notebook of the course, executed: with the worked solutions typed in, and with each known mistake."""

import re

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


UNSOLVED = {"00", "01", "02", "03", "04"}
"""Those that test_notebooks_light.py runs as they are."""


@pytest.mark.parametrize(
    "lesson", [one for one in COURSE if one.number not in {*UNSOLVED, "05"}], ids=lambda lesson: lesson.number
)
def test_it_runs_with_the_worked_solutions(lesson):  # 05 does so further down, the others in the next test
    text = said(execute(solved(lesson), "ci", seconds=300))
    for name in own(lesson):
        assert f"✓ {name}: right" in text


@LESSONS
def test_each_known_mistake_is_named_and_it_runs_to_its_end(lesson):
    """With the worked solutions behind the mistakes, or with nothing solved and, as graded, no cells that take long."""
    notebook = solved(lesson) if lesson.number in UNSOLVED else read(FOLDER / f"{lesson.stem}.py")
    if lesson.number in ("05", "06", "07"):
        text = "\n".join(cell.source for cell in notebook.cells)
        for name in own(lesson):
            assert re.search(rf"^{name} = check\.use\({name}, fallback=[^)]*\b{name}\b", text, re.MULTILINE), name
        notebook.cells = [cell for cell in notebook.cells if "long" not in tags(cell)]
    notebook = execute(with_mistakes(notebook), "ci", seconds=300)
    seen = set()
    for cell in notebook.cells:
        for name in defined(cell) if cell.cell_type == "code" and "exercise" in tags(cell) else ():
            if "mistake" not in cell.metadata:
                last = f"✓ {name}: right" if lesson.number in UNSOLVED else f"○ {name}: not started"
                assert last in printed(cell)
                seen.add(name)
                continue
            mistakes = exercises()[name].mistakes
            number = cell.metadata["mistake"] % len(mistakes)
            assert f"✗ {name}: wrong because {' '.join(mistakes[number].says.split())}" in printed(cell)
            seen.add((name, number))
    assert seen == {*own(lesson)} | {(name, n) for name, one in own(lesson).items() for n in range(len(one.mistakes))}


def test_what_was_solved_in_notebooks_01_to_04_trains_the_model_of_05(tmp_path):
    """As a student would, in one folder: five notebooks, every worked solution typed into its cell."""
    for lesson in COURSE[1:5]:
        notebook = solved(lesson)
        notebook.cells = [cell for cell in notebook.cells if {"setup", "parameters", "exercise"} & set(tags(cell))]
        for cell in notebook.cells:
            if "exercise" in tags(cell):
                cell.source = re.sub(
                    r"^check\.(\w+)\(.*", r"check.use(\1, fallback=None)", cell.source, flags=re.MULTILINE
                )
        execute(notebook, "ci", folder=tmp_path, seconds=300)
    ran = execute(solved(COURSE[5]), "ci", folder=tmp_path, seconds=300)
    taken = next(cell for cell in ran.cells if "judges = {" in cell.source)
    assert taken.source.count("check.mine(") == 6, "judge_* in one loop"
    assert printed(taken).count("yours, from my_work.py") == 8, printed(taken)
    kept = (tmp_path / "my_work.py").read_text()
    for name, source in solutions(ran).items():
        assert f"✓ {name}: right" in said(ran)
        assert source in kept
