"""Notebooks 00 to 04 with numpy and matplotlib and nothing else; and what Colab has installed meets our ranges."""

import importlib.metadata as metadata
import os
import re
import subprocess
import tomllib
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from azr_lite.learn.course import COURSE
from azr_lite.learn.notebooks import FOLDER, ROOT

LIGHT = [lesson for lesson in COURSE if not lesson.torch and lesson.number <= "04"]

COLAB = {
    "numpy": "2.0.2",
    "matplotlib": "3.10.0",
    "ipywidgets": "7.7.1",
    "ipykernel": "6.17.1",
    "jinja2": "3.1.6",
    "pygments": "2.19.2",
    "rich": "13.9.4",
    "nbclient": "0.10.2",
}
"""What Colab's machines are known to carry (their published list of 2025); our open ranges must not force a change of any."""


def needed(name, found):
    """The distributions that one needs, with all they need in turn."""
    if name in found:
        return
    found.add(name)
    for line in metadata.requires(name) or []:
        need = Requirement(line)
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            needed(re.sub(r"[-_.]+", "-", need.name).lower(), found)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A fresh environment that holds numpy, matplotlib and what they need, linked from this one."""
    place = tmp_path_factory.mktemp("bare")
    venv.create(place, with_pip=False, symlinks=True)
    site = next(place.glob("lib/python*/site-packages"))
    names: set[str] = set()
    for name in ("numpy", "matplotlib"):
        needed(name, names)
    for name in names:
        for top in {Path(str(file)).parts[0] for file in metadata.files(name) or []} - {"..", "__pycache__"}:
            origin = Path(str(metadata.distribution(name).locate_file(top)))
            if origin.exists() and not (site / top).exists():
                (site / top).symlink_to(origin)
    return place / "bin" / "python", names


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
    surroundings = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AZR_LITE_PROFILE": "ci", "PYTHONIOENCODING": "utf-8"}
    ran = subprocess.run(
        [str(bare[0]), str(FOLDER / f"{lesson.stem}.py")], capture_output=True, text=True, cwd=tmp_path, env=surroundings, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "not started" in ran.stdout


def test_colabs_versions_are_in_our_ranges():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [Requirement(line) for line in [*project["dependencies"], *project["optional-dependencies"]["notebooks"]]]
    checked = {need.name for need in wanted if need.name in COLAB and need.specifier.contains(Version(COLAB[need.name]))}
    assert checked == COLAB.keys()


def test_no_notebook_installs_vllm():
    for lesson in COURSE:
        assert "vllm" not in lesson.extra
