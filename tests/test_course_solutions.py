"""Every exercise has a worked solution that is short, says why, and is right when it is typed into its cell; what is
nearly that solution is not right."""

import ast
import copy
import re

import pytest

from azr_lite.course.build import FOLDER, read, tags
from azr_lite.course.checks import exercises, judge_answer
from azr_lite.course.lessons import COURSE
from tests.course_cells import solutions

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


# ---------------------------------------------------------------- mutants

SWAPS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Pow: ast.Mult, ast.Mod: ast.FloorDiv,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.GtE, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.LtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


def mutants(source):
    """At most thirty programs that differ from this one in one operator, number, text, branch or statement."""
    tree = ast.parse(source)
    made = []
    said = {id(part) for node in ast.walk(tree) if isinstance(node, ast.Raise) for part in ast.walk(node)}
    for place, node in enumerate(ast.walk(tree)):
        for change in () if id(node) in said else changes(node):
            other = copy.deepcopy(tree)
            change(list(ast.walk(other))[place])
            made.append(ast.unparse(other))
    made = [text for text in dict.fromkeys(made) if text != ast.unparse(tree)]
    step = max(1, len(made) / 30)
    return [made[int(n * step)] for n in range(min(30, len(made)))]


def changes(node):
    if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in SWAPS:
        yield lambda one: setattr(one, "op", SWAPS[type(one.op)]())
    if isinstance(node, ast.Compare):
        yield lambda one: setattr(one, "ops", [SWAPS[type(one.ops[0])](), *one.ops[1:]])
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield lambda one: setattr(one, "value", one.value + 1)
        yield lambda one: setattr(one, "value", -one.value - 0.5)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield lambda one: setattr(one, "value", one.value[:-1])
    if isinstance(node, ast.IfExp):
        yield lambda one: (body := one.body, setattr(one, "body", one.orelse), setattr(one, "orelse", body))
        yield lambda one: setattr(one, "orelse", one.body)
    if isinstance(node, ast.If):
        yield lambda one: setattr(one, "test", ast.Constant(True))
        yield lambda one: setattr(one, "test", ast.Constant(False))
    if isinstance(node, ast.Return) and node.value is not None:
        yield lambda one: setattr(one, "value", ast.Constant(None))
    if isinstance(node, ast.Tuple | ast.List) and len(node.elts) > 1 and isinstance(node.ctx, ast.Load):
        yield lambda one: one.elts.reverse()
        yield lambda one: one.elts.pop()
    if isinstance(node, ast.Call) and len(node.args) == 2 and ast.unparse(node.func) not in ("max", "min"):
        yield lambda one: one.args.reverse()
    if isinstance(node, ast.UnaryOp):
        yield lambda one: setattr(one, "op", ast.UAdd() if isinstance(one.op, ast.USub) else ast.Not())


@TYPED
def test_what_is_nearly_a_solution_is_not_right(lesson):
    """Of an exercise's mutants at most three in ten may pass: those that do the same (`in (1, 0)` for `in (0, 1)`)."""
    names, shown = typed(lesson)
    for name in own(lesson):
        if callable(exercises()[name].key):
            made, passed = mutants(shown[name]), []
            assert len(made) >= 2, name
            for source in made:
                exec(source, changed := dict(names))
                passed += [source] * (judge_answer(name, changed[name]).state == "right")
            assert len(passed) <= max(1, 0.3 * len(made)), f"{name}: {len(passed)} of {len(made)}\n" + "\n\n".join(
                passed
            )
