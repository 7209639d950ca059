"""Notebooks 00 to 04 with numpy and matplotlib and nothing else, three of them as on macOS and Windows; Colab's versions meet our ranges."""

import os
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from azr_lite.course.build import FOLDER, ROOT
from azr_lite.course.lessons import COURSE
from tests.bare import bare_environment

LIGHT = [lesson for lesson in COURSE if not lesson.torch and lesson.number <= "04"]

SYSTEM = {"01": "darwin", "03": "win32", "04": "darwin"}
"""What a notebook is told to run on here; Linux for the others. 00 plays a whole step, which takes minutes without a fork server (it passes)."""

LIBRARIES = "import asyncio, multiprocessing, subprocess, urllib.request, numpy, matplotlib.pyplot"
"""Those that choose their platform when they are imported: done before ours is faked. The standard library underneath stays Linux'."""

COLAB = {
    "numpy": "2.0.2",
    "matplotlib": "3.10.0",
    "ipywidgets": "7.7.1",
    "ipykernel": "6.17.1",
    "jinja2": "3.1.6",
    "rich": "13.9.4",
    "nbclient": "0.10.2",
}
"""What Colab's machines are known to carry (their published list of 2025); our open ranges must not force a change of any."""


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
    assert "not started" in ran.stdout


def test_colabs_versions_are_in_our_ranges():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [Requirement(line) for line in [*project["dependencies"], *extras["notebooks"], *extras["observe"]]]
    checked = {
        need.name for need in wanted if need.name in COLAB and need.specifier.contains(Version(COLAB[need.name]))
    }
    assert checked == COLAB.keys()


def test_no_notebook_installs_vllm():
    for lesson in COURSE:
        assert "vllm" not in lesson.extra
