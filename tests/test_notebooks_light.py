"""Notebooks 00 to 04 with numpy and matplotlib and nothing else, three of them as on macOS and Windows; Colab's versions meet our ranges."""

import importlib.metadata as metadata
import os
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from azr_lite.course.build import FOLDER, ROOT
from azr_lite.course.checks import exercises
from azr_lite.course.lessons import COURSE
from tests.bare import bare_environment

LIGHT = [lesson for lesson in COURSE if not lesson.torch and lesson.number <= "04"]

SYSTEM = {"01": "darwin", "03": "win32", "04": "darwin"}
"""What a notebook is told to run on here; Linux for the others. 00 plays a whole step, which takes minutes without a fork server (it passes)."""

LIBRARIES = "import asyncio, multiprocessing, subprocess, urllib.request, numpy, matplotlib.pyplot"
"""Those that choose their platform when they are imported: done before ours is faked. The standard library underneath stays Linux'."""

COLAB = {
    "numpy": "2.0.2", "pandas": "2.2.2", "matplotlib": "3.10.0", "jinja2": "3.1.6", "rich": "13.9.4",
    "ipywidgets": "7.7.1", "ipykernel": "6.17.1", "jupytext": "1.19.3", "nbclient": "0.10.4", "nbconvert": "7.17.1",
    "torch": "2.11.0+cu128", "transformers": "5.9.0", "peft": "0.19.1", "accelerate": "1.13.0", "datasets": "4.0.0",
    "safetensors": "0.7.0",
}  # fmt: skip
"""What Colab's GPU machines carry: pip-freeze.gpu.txt of github.com/googlecolab/backend-info at 03a89033 (June 2026, the newest
that we could read; read on 2026-11-30)."""
PYTHONS = ("3.12.12", "3.13.0")
"""Colab's Python: 3.13 since 2026-08-25 (github.com/googlecolab/colabtools/issues/6081), 3.12 in its runtimes 2025.10 to 2026.07."""
REPLACED = {"transformers", "peft", "accelerate", "datasets"}
"""Those that are older there than [train] allows: the install cell of a notebook with torch replaces them. Torch stays."""


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A fresh environment that holds numpy, matplotlib and what they need, linked from this one."""
    return bare_environment(tmp_path_factory.mktemp("bare"), ("numpy", "matplotlib"))


def test_the_bare_environment_is_bare(bare):
    python, names = bare
    code = "import importlib.util as u; print([n for n in ('torch', 'rich', 'tyro', 'jinja2', 'IPython', 'jupytext', 'azr_lite') if u.find_spec(n)])"
    found = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    assert {"numpy", "matplotlib"} <= names
    assert len(names) < 15


@pytest.mark.parametrize("lesson", LIGHT, ids=lambda lesson: lesson.number)
def test_the_first_notebooks_need_no_more(lesson, bare, tmp_path):
    """The source is a plain script: it runs without Jupyter too, from the local tree, as the install cell finds it."""
    (tmp_path / "notebooks").symlink_to(FOLDER)
    (tmp_path / "azr_lite").symlink_to(ROOT / "azr_lite")
    (tmp_path / "data_samples").symlink_to(ROOT / "data_samples")
    surroundings = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AZR_LITE_PROFILE": "ci",
        "PYTHONIOENCODING": "utf-8",
    }
    system = SYSTEM.get(lesson.number, "linux")
    script = f"import runpy, sys; {LIBRARIES}; sys.platform = {system!r}; runpy.run_path({str(FOLDER / lesson.stem) + '.py'!r}, run_name='__main__')"
    ran = subprocess.run(
        [str(bare[0]), "-c", script], capture_output=True, text=True, cwd=tmp_path, env=surroundings, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    if lesson.number == "01":
        assert f"not available on {system}" in ran.stdout + ran.stderr, (
            "the learner must be told that nothing locks programs away"
        )
    own = [name for name, one in exercises().items() if one.notebook == lesson.number]
    assert all(f"○ {name}: not started" in ran.stdout for name in own)


def test_colabs_versions_are_in_our_ranges_but_for_those_that_are_known_to_be_replaced():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: list(map(Requirement, lines)) for name, lines in project["optional-dependencies"].items()}
    light = [*map(Requirement, project["dependencies"]), *extras["notebooks"], *extras["observe"]]
    assert all(python in SpecifierSet(project["requires-python"]) for python in PYTHONS)
    assert refused(light) == set(), "a notebook without torch must not change what is there"
    assert refused(extras["train"]) == REPLACED
    assert COLAB.keys() - {need.name for need in (*light, *extras["train"])} == {"pandas"}


def refused(needs):
    """Which of Colab's versions these requirements do not accept."""
    return {need.name for need in needs if need.name in COLAB and COLAB[need.name] not in need.specifier}


def test_what_replaces_colabs_versions_leaves_its_numpy_and_pandas_alone():
    pytest.importorskip("trl", reason="the replacing versions come with the [train] extra")
    brought = [Requirement(line) for name in ("trl", *REPLACED) for line in metadata.requires(name) or ()]
    asked = [need for need in brought if need.marker is None or need.marker.evaluate({"extra": ""})]
    assert refused(need for need in asked if need.name in ("numpy", "pandas")) == set()


def test_no_notebook_installs_vllm():
    for lesson in COURSE:
        assert "vllm" not in lesson.extra
