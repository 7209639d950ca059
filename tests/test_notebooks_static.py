"""The course as files: pairs, headers, stubs, sizes, links. Nothing is executed here."""

import ast
import inspect
import json
import re
from importlib import import_module

import nbformat
import pytest

import azr_lite
from azr_lite import course
from azr_lite.course.build import FOLDER, ROOT, defined, measurements, read, readme, tags, with_header
from azr_lite.course.checks import exercises
from azr_lite.course.lessons import BLOB, COURSE, colab, install_cell

LESSONS = pytest.mark.parametrize("lesson", COURSE, ids=lambda lesson: lesson.number)
OPENED = pytest.mark.parametrize("stem", [*(lesson.stem for lesson in COURSE), "index"])


def anchors(text):
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }


@OPENED
def test_what_people_open_is_what_people_edit(stem):
    source, opened = read(FOLDER / f"{stem}.py"), nbformat.read(FOLDER / f"{stem}.ipynb", as_version=4)
    assert [(c.cell_type, c.source, c.id, tags(c)) for c in opened.cells] == [
        (c.cell_type, c.source, c.id, tags(c)) for c in source.cells
    ]


def wrong_calls(source):
    """Calls of the package's functions that they would not take, also in programs that stand in a string."""
    tree, known = ast.parse(source), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {
                one.asname: import_module(one.name) for one in node.names if one.asname and "azr_lite" in one.name
            }
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("azr_lite"):
            for one in node.names:
                inside = getattr(import_module(node.module), one.name, None)
                known[one.asname or one.name] = inside or import_module(f"{node.module}.{one.name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "from azr_lite" in node.value:
            yield from wrong_calls(node.value)
        elif isinstance(node, ast.Call) and not any(isinstance(one, ast.Starred) for one in node.args):
            names = ast.unparse(node.func).split(".")
            found = known.get(names[0])
            for name in names[1:]:
                found = getattr(found, name, None)
            if callable(found) and None not in (given := {one.arg: None for one in node.keywords}):
                try:
                    inspect.signature(found).bind(*node.args, **given)
                except TypeError as error:
                    yield f"{ast.unparse(node)}: {error}"


@LESSONS
def test_each_call_is_one_that_the_package_takes(lesson):
    """Also where only a person's run comes by: tests execute the profile "ci"."""
    cells = [cell.source for cell in read(FOLDER / f"{lesson.stem}.py").cells if cell.cell_type == "code"]
    source = "\n".join(re.sub(r"^([%!].*)$", "pass", cell, flags=re.MULTILINE) for cell in cells)
    assert list(wrong_calls(source)) == []
    assert list(wrong_calls("c = 'from azr_lite.course.experiments import play_arm; play_arm(1, 2, 3, 4, 5)'"))


@OPENED
def test_outputs_are_stored_small_and_clean(stem):
    text = (FOLDER / f"{stem}.ipynb").read_text(encoding="utf-8")
    assert len(text.encode()) <= 400_000
    opened = json.loads(text)
    assert "widgets" not in opened["metadata"]
    code = [cell for cell in opened["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code if "".join(cell["source"]).strip())
    outputs = [out for cell in code for out in cell["outputs"]]
    assert not [out for out in outputs if out["output_type"] == "error"]
    shown = json.dumps(
        [{k: v for k, v in out.get("data", {}).items() if k != "image/png"} or out.get("text", "") for out in outputs]
    )
    assert not re.search(r"(?<![\w.])/(tmp|root|work|home|Users)/", shown)
    assert "Traceback (most recent call last)" not in shown
    assert "widget-view" not in shown
    assert "IProgress" not in shown
    for out in outputs:
        if "image/png" in out.get("data", {}):
            assert len(out["metadata"]["image/png"]["alt"]) > 20


@LESSONS
def test_the_first_cells_are_the_agreed_ones(lesson):
    source = FOLDER / f"{lesson.stem}.py"
    text = source.read_text(encoding="utf-8")
    notebook = read(source)
    assert with_header(lesson.stem, text, measurements()) == text
    assert lesson.number in measurements()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code[0].source == install_cell(lesson)
    assert tags(code[0]) == ["setup", "hide-input"]
    (parameters,) = [cell for cell in code if "parameters" in tags(cell)]
    assert re.findall(r"^(\w+) = ", parameters.source, re.MULTILINE) == ["PROFILE", "SEED", "STEPS"]
    assert 'PROFILE = "auto"' in parameters.source


@LESSONS
def test_every_exercise_has_its_stub_and_its_check(lesson):
    notebook = read(FOLDER / f"{lesson.stem}.py")
    cells = {
        name: cell
        for cell in notebook.cells
        if cell.cell_type == "code" and "exercise" in tags(cell)
        for name in defined(cell)
    }
    assert cells.keys() == {name for name, one in exercises().items() if one.notebook == lesson.number}
    for name, cell in cells.items():
        assert f"check.{name}({name})" in cell.source
        assert "..." in cell.source


@LESSONS
def test_links_and_words_lead_somewhere(lesson):
    prose = "\n".join(cell.source for cell in read(FOLDER / f"{lesson.stem}.py").cells if cell.cell_type == "markdown")
    glossary = anchors((FOLDER / "glossary.md").read_text(encoding="utf-8"))
    links = re.findall(r"\]\(([^)\s]+)\)", prose)
    for link in links:
        page = link.startswith(BLOB)
        if link.startswith("http") and not page:
            continue
        path, _, anchor = link.removeprefix(BLOB).partition("#")
        assert not path or ((ROOT if page else FOLDER) / path).exists(), link
        assert page or not path.endswith(".md"), f"{link} does not open in Colab"
        if path.endswith("glossary.md") and anchor:
            assert anchor in glossary, link
    assert sum("glossary.md#" in link for link in links) >= 3


@LESSONS
def test_figures_say_what_should_be_seen_and_warnings_stand_where_something_can_differ(lesson):
    text = (FOLDER / f"{lesson.stem}.py").read_text(encoding="utf-8")
    assert text.count("**What you should see") >= 1
    assert text.count("**If you see something else") <= 9


@LESSONS
def test_code_is_a_hundred_columns_wide_at_most_and_plots_are_folded(lesson):
    for cell in read(FOLDER / f"{lesson.stem}.py").cells:
        if cell.cell_type == "code":
            assert max(map(len, cell.source.splitlines())) <= 100, cell.source
            drawn = re.search(r"^(figures\.)?show\(|^widgets\.explore\(", cell.source, re.MULTILINE)
            assert bool(drawn) <= ("hide-input" in tags(cell)), cell.source
            if "hide-input" in tags(cell):
                assert "exercise" not in tags(cell)
                assert "check.use(" not in cell.source, "what a learner's answer becomes is not folded away"


def test_the_index_names_every_notebook():
    text = (FOLDER / "index.py").read_text(encoding="utf-8")
    assert with_header("index", text, measurements()) == text
    for lesson in COURSE:
        assert f"({lesson.stem}.ipynb)" in text


def test_the_index_installs_as_the_first_notebook_does():
    code = [cell.source for cell in read(FOLDER / "index.py").cells if cell.cell_type == "code"]
    assert code == [install_cell(COURSE[0]), "from azr_lite.course import check\n\ncheck.list()"]


def test_the_readme_names_every_notebook():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme(text, measurements()) == text
    links = re.findall(r"^\* \d\d \[.+\]\((.+?)\) .+ \[Colab\]\((.+)\)$", text, re.MULTILINE)
    assert links == [(f"notebooks/{lesson.stem}.ipynb", colab(lesson)) for lesson in COURSE]


@OPENED
def test_notebooks_import_the_public_face_and_the_toolbox_alone(stem):
    """`import azr_lite as az` and names of `azr_lite.course`: no deep path that a change of the package would break."""
    code = [cell.source for cell in read(FOLDER / f"{stem}.py").cells if cell.cell_type == "code"]
    nodes = [node for cell in code for node in ast.walk(ast.parse(cell))]
    asked = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            asked += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "az":
            assert node.attr in (*azr_lite.__all__, "__file__"), node.attr
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "course":
            assert node.attr in course.TOOLS, node.attr
    ours = {name for name in asked if name.startswith("azr_lite.")}
    assert {name for name in ours if not name.startswith("azr_lite.course")} == set()


def test_every_tool_of_the_course_is_there():
    pytest.importorskip("torch", reason="checkpoints need the [train] extra")
    for name in course.TOOLS:
        assert getattr(course, name) is not None
