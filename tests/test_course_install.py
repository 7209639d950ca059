"""The install cell, run as a notebook runs it: in an environment of its own, with a pip that only writes down what it is asked."""

import json
import os
import subprocess

import pytest

from azr_lite.course.build import ROOT
from azr_lite.course.lessons import ADDRESS, COURSE, install_cell, lesson_of
from tests.bare import bare_environment

PIP = """
import json, pathlib, sys
pathlib.Path("asked.json").write_text(json.dumps(sys.argv[1:]))
if pathlib.Path("offline").exists():
    print("WARNING: Retrying after connection broken\\nERROR: No matching distribution found for jinja2" + " (Caused by)" * 50, file=sys.stderr)
    sys.exit(1)
for name in pathlib.Path("brings").read_text().split():
    (pathlib.Path(__file__).parent / f"{name}.py").touch()
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    return bare_environment(tmp_path_factory.mktemp("bare"), ())[0]


@pytest.fixture
def run(python, tmp_path):
    """Runs the cell of a notebook in a folder with these modules installed; gives the process, and what pip was asked or None."""
    site, here = tmp_path / "site", tmp_path / "here"
    site.mkdir()
    here.mkdir()
    (site / "pip.py").write_text(PIP)

    def made(number, installed="", brings="", files=(), offline=False):
        for name in installed.split():
            (site / f"{name}.py").touch()
        for name in files:
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            (here / name).touch()
        (here / "brings").write_text(brings)
        if offline:
            (here / "offline").touch()
        lesson = lesson_of(number)
        script = install_cell(lesson) + "\nprint('ready', missing())"
        surroundings = {"PATH": os.environ["PATH"], "PYTHONPATH": str(site)}
        done = subprocess.run(
            [str(python), "-c", script], cwd=here, env=surroundings, capture_output=True, text=True, check=False
        )
        asked = here / "asked.json"
        return done, json.loads(asked.read_text()) if asked.exists() else None

    return made


def test_where_all_is_there_nothing_happens(run):
    done, asked = run("03", installed="azr_lite numpy matplotlib")
    assert (done.returncode, done.stdout, asked) == (0, "ready []\n", None)


def test_a_checkout_is_used_as_it_is_and_what_it_lacks_is_installed_from_it(run):
    done, asked = run("03", installed="numpy", brings="matplotlib", files=("azr_lite/__init__.py", "pyproject.toml"))
    assert done.stdout.endswith("ready []\n")
    assert asked[:3] == ["install", "-q", "-e"]
    assert asked[3].endswith("/here[notebooks]")
    assert "Installing matplotlib from" in done.stdout


def test_a_checkout_with_all_libraries_needs_no_pip(run):
    done, asked = run("03", installed="numpy matplotlib", files=("azr_lite/__init__.py", "pyproject.toml"))
    assert (done.stdout, asked) == ("ready []\n", None)


def test_a_wheel_beside_the_notebook_comes_before_the_address(run):
    wheel = "azr_lite-0.1.0-py3-none-any.whl"
    done, asked = run("08", installed="numpy", brings="azr_lite matplotlib jinja2 rich tyro", files=(wheel,))
    assert done.stdout.endswith("ready []\n")
    assert asked[2].endswith(f"{wheel}[notebooks]")


def test_without_either_it_comes_from_the_repository_and_never_by_its_bare_name(run):
    done, asked = run("05", brings=" ".join(lesson_of("05").modules.split()))
    assert done.stdout.endswith("ready []\n")
    assert asked == ["install", "-q", f"azr-lite[train,notebooks] @ {ADDRESS}"]


def test_an_installed_core_is_told_what_is_missing_in_one_sentence(run):
    done, asked = run("05", installed="azr_lite numpy matplotlib jinja2 rich tyro", offline=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "needs torch, transformers, trl, peft, accelerate, datasets, safetensors, which pip could not" in done.stderr
    assert "(ERROR: No matching distribution found for jinja2 (Caused by)" in done.stderr
    assert "). Go online, or put" in done.stderr
    assert len(done.stderr) < 400, "pip's own words are cut"
    assert asked is not None


def test_a_pip_that_says_yes_and_brings_nothing_is_not_believed(run):
    done, _ = run("03", installed="azr_lite numpy")
    assert done.returncode == 1
    assert "(they are still missing)" in done.stderr


def test_each_notebook_names_what_its_extra_brings():
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    trained = {line.partition(">")[0] for line in extras["train"]} - {"gguf"}
    for lesson in COURSE:
        assert lesson.torch == (trained <= set(lesson.modules.split())), lesson.number
