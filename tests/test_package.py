"""The package as a whole: light to import, one way of data flow, files that belong together."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest

import azr_lite
from tests.warm import FORKS

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_importing_loads_no_torch():
    code = (
        "import sys, azr_lite, azr_lite.selfplay, azr_lite.loop, azr_lite.cli;"
        "print([m for m in ('torch', 'transformers', 'trl', 'datasets', 'pandas') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_importing_is_quick():
    """Best of five; a start of the bare interpreter is taken off, so that a busy machine does not fail it."""

    def best(code):
        times = []
        for _ in range(5):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append(time.perf_counter() - started)
        return min(times)

    assert best("import azr_lite") - best("pass") < 0.3


def test_public_names_are_the_agreed_ones():
    assert set(azr_lite.__all__) == {
        "run", "resume", "Run", "RunResult", "Config", "preset", "list_presets", "plan", "doctor", "Triplet", "Verdict", "Rollout",
        "TaskType", "register_task_type", "Executor", "Verifier", "learnability", "answer_reward", "trr", "SelfPlay",
        "evaluate", "__version__",
    }  # fmt: skip
    for name in azr_lite.__all__:
        assert getattr(azr_lite, name) is not None


@pytest.mark.parametrize("name", sorted(set(azr_lite.__all__) - {"__version__"}))
def test_public_names_say_what_they_take_and_give(name):
    value = getattr(azr_lite, name)
    text = inspect.getdoc(value) or ""
    assert "\nExamples:\n" in text
    if inspect.isfunction(value):
        signature = inspect.signature(value)
        assert ("\nArgs:\n" in text) == bool(signature.parameters)
        assert ("\nReturns:\n" in text) == (signature.return_annotation not in (None, "None"))


def changed_by_importing_everything():
    """In a fork: public names that are another thing once every module has been imported, or that are modules."""
    before = {name: getattr(azr_lite, name) for name in azr_lite.__all__}
    for found in pkgutil.walk_packages(azr_lite.__path__, "azr_lite.", onerror=print):
        if not found.name.endswith(("__main__", "harness", "jailed_programs")):
            with suppress(ImportError):
                importlib.import_module(found.name)
    return [name for name, was in before.items() if getattr(azr_lite, name) is not was or isinstance(was, ModuleType)]


def test_no_module_hides_a_public_name():
    """Importing a module sets its name on the package, and would replace a function that is called the same."""
    with FORKS.Pool(1) as pool:
        assert pool.apply(changed_by_importing_everything) == []


def test_names_that_load_late_are_offered_to_those_who_press_tab():
    from azr_lite import evaluation

    for module in (azr_lite, evaluation):
        assert set(module.__all__) <= set(dir(module))


def test_constraints_pin_every_dependency_exactly():
    pinned = {
        re.split("==", line)[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    extras = PYPROJECT["project"]["optional-dependencies"]
    wanted = [
        *PYPROJECT["project"]["dependencies"],
        *extras["train"],
        *extras["gpu"],
        *extras["notebooks"],
        *extras["dev"],
        *extras["docs"],
    ]
    names = {re.split(r"[<>=\[; ]", need)[0].lower() for need in wanted} - {"azr-lite"}
    assert names <= pinned


def test_top_level_is_the_agreed_one():
    agreed = {
        "notebooks",
        "azr_lite",
        "data_samples",
        "docs",
        "tests",
        "environment.yml",
        "README.md",
        "pyproject.toml",
        "LICENSE",
        "Makefile",
        "constraints.txt",
        "MANIFEST.in",
        ".ci",
        ".devcontainer",
        ".github",
        ".gitignore",
        ".pre-commit-config.yaml",
    }
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert top <= agreed


def test_no_eval_exec_or_pickle_outside_the_child():
    """The sandbox's child and the program run in the jail are never imported, only started by path."""
    started_by_path = {
        "sandbox/harness.py",
        "sandbox/abuse.py",
        "evaluation/benchmarks/jailed_programs.py",
    }
    learners_own = {"course/my_work.py"}  # runs what the reader of a notebook wrote, in that notebook
    for path in (ROOT / "azr_lite").rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"benchmarks import jailed_programs|benchmarks\.jailed_programs", text), path
        if path.relative_to(ROOT / "azr_lite").as_posix() in started_by_path | learners_own:
            continue
        if (
            path.parent.name == "exercises"
        ):  # a reader that evaluates is a student's mistake, shown on the course's own texts
            text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("Mistake("))
        assert not re.search(r"(^|[^_a-zA-Z.])(eval|exec)\(|pickle\.loads?\(", text), path


def test_the_tree_in_the_design_notes_has_a_line_for_every_root_file_and_room():
    tree = (ROOT / "docs" / "explanation" / "design.md").read_text().split("\nazr_lite/\n")[1].split("```")[0]
    named = set(re.findall(r"^  (\S+)  +\S", tree, re.MULTILINE))
    files = {path.name for path in (ROOT / "azr_lite").glob("[!_]*.py")}
    rooms = {path.parent.name + "/" for path in (ROOT / "azr_lite").glob("*/*.py")}
    assert len(files | rooms) > 20
    assert named == files | rooms


def test_every_file_that_is_not_python_goes_into_the_wheel():
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["azr_lite"]
    shipped = {path for pattern in patterns for path in (ROOT / "azr_lite").glob(pattern)}
    listed = subprocess.run(["git", "ls-files", "azr_lite"], cwd=ROOT, capture_output=True, text=True, check=True)
    other = {ROOT / line for line in listed.stdout.splitlines() if not line.endswith(".py")}
    assert ROOT / "azr_lite" / "train" / "launch" / "fsdp2.yaml" in shipped
    assert other <= shipped
