"""Every exercise has a worked solution that is short, says why, and is right when it is typed into its cell."""

import ast
import re

import pytest

from azr_lite.course.build import FOLDER, read, solutions, tags
from azr_lite.course.checks import exercises, judge_answer
from azr_lite.course.lessons import COURSE

LESSONS = pytest.mark.parametrize("lesson", COURSE, ids=lambda lesson: lesson.number)
TYPED = pytest.mark.parametrize(
    "lesson", [lesson for lesson in COURSE if lesson.number != "05"], ids=lambda lesson: lesson.number
)
"""Those of 05 need torch: tests/test_course_own_loop.py types them."""
GIVEN = "import ast\nimport json\nimport math\nimport numpy as np\nimport azr_lite as az\nfrom azr_lite import course\n"


def own(lesson):
    return {name: one for name, one in exercises().items() if one.notebook == lesson.number}


def typed(lesson):
    """The names of a notebook after its imports and with all solutions typed in."""
    notebook = read(FOLDER / f"{lesson.stem}.py")
    names = {}
    exec(GIVEN, names)
    for cell in notebook.cells:
        if cell.cell_type == "code" and tags(cell) == ["setup"]:
            imports = [node for node in ast.parse(cell.source).body if isinstance(node, ast.Import | ast.ImportFrom)]
            exec(ast.unparse(ast.Module(imports, [])), names)
    shown = solutions(notebook)
    for source in dict.fromkeys(shown.values()):
        exec(source, names)
    return names, shown


@LESSONS
def test_every_exercise_shows_a_short_solution_with_a_reason(lesson):
    notebook = read(FOLDER / f"{lesson.stem}.py")
    shown = solutions(notebook)
    assert shown.keys() == own(lesson).keys()
    for source in shown.values():
        assert source.count("\n") <= 16
        assert max(map(len, source.splitlines())) <= 100


@LESSONS
def test_every_exercise_says_what_it_costs_and_is_worth(lesson):
    prose = "\n".join(cell.source for cell in read(FOLDER / f"{lesson.stem}.py").cells if cell.cell_type == "markdown")
    told = re.findall(r"Exercises? \d( to \d)?[^(]*\(([^)]*); difficulty [1-5] of 5, importance [1-5] of 5\)", prose)
    points = sum(int(re.search(r"(\d+) points?", words)[1]) * (6 if several else 1) for several, words in told)
    assert points == sum(one.points for one in own(lesson).values())


@TYPED
def test_a_solution_is_right_when_it_is_typed_into_its_cell(lesson):
    names, _ = typed(lesson)
    for name in own(lesson):
        assert judge_answer(name, names[name]).state == "right", name
