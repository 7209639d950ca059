"""What is shipped: the source distribution and the wheel, built from this tree, installed alone, and used as a person would.

The repository is not importable in any of these processes. Libraries come from the environment of the tests, so nothing is downloaded.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.bare import bare_environment

ROOT = Path(__file__).parents[1]
WHOLE = ROOT / "data_samples" / "runs" / "whole" / "nano-small"
MOST = 5_000_000
"""Bytes of either archive: PyPI's default limit is 20 times as much, and a course's room has a slow line."""
TRAINING = "torch, transformers, trl, peft, accelerate, datasets"
CORE = ("jinja2", "numpy", "rich", "tyro")
SHARE = ".data/data/share/azr-lite/"
SECRETS = {
    "HF_TOKEN": "hf_secretQmVcXz", "WANDB_API_KEY": "wandbsecretLkJhGf", "OPENAI_API_KEY": "sk-secretPoIuYt", "AWS_SECRET_ACCESS_KEY": "awssecretMnBvCx",
}  # fmt: skip


def tracked(*folders):
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {line for line in listed.stdout.splitlines() if (ROOT / line).is_file()}


def read_by_notebooks():
    """What notebooks read of data_samples. The runs of a real model, a megabyte of notebook 07, are downloaded there."""
    from azr_lite.course.build import FOLDER
    from azr_lite.course.recorded_runs import PATIENTS, SAMPLE, WHOLE

    text = "".join(source.read_text(encoding="utf-8") for source in sorted(FOLDER.glob("*.py")))
    files = set(re.findall(r'\brecorded\(\s*"([^"]+)"', text))
    samples = {f"bugs/{folder}" for folder, _ in PATIENTS.values()} | set(re.findall(r'\bsample\("(.+?)"\)', text))
    files |= {f"runs/{one}/{file}" for one in samples for file in SAMPLE} | {
        f"runs/whole/nano-small/{file}" for file in WHOLE
    }
    return {f"data_samples/{name}" for name in files if not name.startswith("benchmarks/real/")}


def build(kind, tree, out):
    code = f"import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(out)], cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
    return out / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The source distribution of the tree as it is, and the wheel built from that (so whatever it lacks is missed)."""
    pytest.importorskip("setuptools", minversion="77")
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for name in tracked():
        if not name.startswith("notebooks/"):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    source = build("sdist", tree, out)
    with tarfile.open(source) as archive:
        archive.extractall(tree / "unpacked", filter="data")
    return source, build("wheel", next((tree / "unpacked").iterdir()), out)


@pytest.fixture(scope="module")
def site(archives, tmp_path_factory):
    """The wheel, unpacked: what stands in for site-packages."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(archives[1]) as archive:
        archive.extractall(folder)
    return folder


def test_the_archives_hold_the_package_and_no_more(archives):
    source, wheel = archives
    package = tracked("azr_lite")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    data = {name.partition(SHARE)[2] for name in names if SHARE in name}
    assert {name for name in names if ".dist-info/" not in name and SHARE not in name} == package
    assert data <= tracked("data_samples")
    assert read_by_notebooks() <= data
    for needed in (
        "nano/weights/model.safetensors",
        "evaluation/shipped/cruxeval.jsonl.gz",
        "observe/templates/report.html",
        "integrations/lm_eval_tasks/_azr",
        "train/launch/fsdp2.yaml",
    ):
        assert f"azr_lite/{needed}" in names
    with tarfile.open(source) as archive:
        files = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    made = {"PKG-INFO", "setup.cfg"} | {name for name in files if name.startswith("azr_lite.egg-info/")}
    assert files == package | data | made | {"pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"}
    assert max(source.stat().st_size, wheel.stat().st_size) < MOST


def test_the_metadata_says_what_a_registry_shows(archives):
    from email import message_from_bytes

    from azr_lite.course.lessons import REPOSITORY

    with zipfile.ZipFile(archives[1]) as archive:
        said = message_from_bytes(archive.read(next(name for name in archive.namelist() if name.endswith("/METADATA"))))
    assert said["Author"] == "The AZR Lite authors"
    assert said["License-Expression"] == "Apache-2.0"
    assert f"Repository, https://github.com/{REPOSITORY}" in said.get_all("Project-URL")
    assert said["Description-Content-Type"] == "text/markdown"
    assert said.get_payload().startswith("# AZR Lite")


# ---------------------------------------------------------------- installed with nothing but the core


@pytest.fixture(scope="module")
def core(archives, tmp_path_factory):
    """The command of an environment that holds the wheel and the core's libraries: what `pip install azr-lite` gives."""
    python, held = bare_environment(tmp_path_factory.mktemp("core"), CORE)
    assert not held & {"torch", "transformers", "trl"}
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        str(archives[1]),
    ]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
    return python.parent / "azr-lite"


def outside(**more):
    return {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8", **more}


NEEDS_AN_EXTRA = {
    "run": ["run", "--preset", "nano", "--steps", "1"],
    "resume": ["resume", "whole", "--steps", "20"],
    "export": ["export", "whole"],
    "push": ["push", "whole", "someone/something"],
    "eval": ["eval", "nano", "--items", "1"],
    "analyse": ["analyse", "whole"],
    "tasks": ["tasks", "whole", "--to", "tasks.parquet"],
    "bench nano": ["bench", "nano", "--seeds", "1"],
}


@pytest.mark.parametrize("verb", NEEDS_AN_EXTRA)
def test_a_missing_extra_is_named_in_one_sentence_and_nothing_is_written(verb, core, tmp_path):
    lacking, extra = ("complexipy, radon", "observe") if verb == "analyse" else (TRAINING, "train")
    shutil.copytree(WHOLE, tmp_path / "whole")
    before = {path.relative_to(tmp_path): path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    done = subprocess.run(
        [core, *NEEDS_AN_EXTRA[verb]], cwd=tmp_path, env=outside(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("azr-lite: ")
    assert line.endswith(f"needs {lacking}, not installed here; pip install 'azr-lite[{extra}]' installs them")
    assert {path.relative_to(tmp_path): path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_what_only_looks_needs_no_extra(core, tmp_path):
    shutil.copytree(WHOLE, tmp_path / "whole")
    for words in (
        ["report", "whole", "--output", "report.html"],
        ["run", "--preset", "nano", "--dry-run", "--json"],
        ["show", "whole", "--step", "2"],
    ):
        done = subprocess.run([core, *words], cwd=tmp_path, env=outside(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").stat().st_size > 50_000


# ---------------------------------------------------------------- with [train]: a whole life of a run, from the wheel alone

DRIVER = """
import json, sys
import azr_lite
from azr_lite.cli import main
print(azr_lite.__file__)
for words in json.loads(sys.argv.pop()):
    sys.argv[1:] = words
    assert main(words) == 0, words
"""
SMALL = (
    "--batch-size 8 --solver-batch-size 16 --n-mc 3 --seed-batch-factor 1 --updates-per-step 1 --micro-batch-size 12 --eval-problems 3 "
    "--eval-every 0 --no-self-test --workers 1 --device cpu"
).split()
LIFE = (
    ["run", "--preset", "nano", "--steps", "1", "--output-dir", "life", *SMALL],
    ["export", "life", "--output", "exported"],
    ["eval", "life", "--suite", "held-out", "--items", "6", "--output-dir", "scores"],
    ["report", "life", "--output", "report.html"],
    ["push", "exported", "someone/something", "--dry-run"],
)


@pytest.fixture(scope="module")
def life(site, tmp_path_factory):
    """The folder, the place of the package, and all that was printed; secrets stood in the environment, and home was elsewhere."""
    pytest.importorskip("trl")
    folder, home = (tmp_path_factory.mktemp(name) for name in ("life", "home-of-ada"))
    environment = outside(PYTHONPATH=str(site), HOME=str(home), USER="ada-lovelace", HF_HUB_OFFLINE="1", **SECRETS)
    command = [sys.executable, "-c", DRIVER, json.dumps(LIFE)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith(str(site / "azr_lite")), "the tests ran the checkout, not the wheel"
    return folder, (site, home), done.stdout.partition("\n")[2] + done.stderr


def test_the_wheel_alone_trains_and_exports(life):
    folder = life[0]
    summary = json.loads((folder / "life" / "summary.json").read_text())
    assert summary["finished"]
    assert (folder / "exported" / "model.safetensors").stat().st_size > 1_000_000
    assert list((folder / "scores").rglob("*.jsonl"))


NOTEBOOKS = """
import sys
from pathlib import Path
from azr_lite.course.build import execute, read
for source in sys.argv[1:]:
    execute(read(Path(source)), "ci", folder=Path.cwd(), seconds=300)
    print(source, __import__("azr_lite").__file__)
"""


def test_notebooks_run_to_their_ends_from_the_wheel_alone_without_a_network(site, tmp_path):
    """Two that read recorded data; in an empty folder, with a home that has no cache."""
    pytest.importorskip("nbclient", reason="notebooks need the [notebooks] extra")
    sources = [next((ROOT / "notebooks").glob(f"{number}_*.py")) for number in ("03", "08")]
    folder = tmp_path / "folder"
    folder.mkdir()
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    environment = outside(PYTHONPATH=str(site), HOME=str(tmp_path / "home"), **nowhere)
    command = [sys.executable, "-c", NOTEBOOKS, *map(str, sources)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count(str(site / "azr_lite")) == len(sources), "the tests ran the checkout, not the wheel"


def test_no_secret_and_no_place_of_this_machine_is_in_any_output(life):
    """What a person may publish. Weights and pickled random states are read too: as bytes."""
    folder, (site, home), printed = life
    graded = _graded(folder, home)
    places = {
        "the checkout": str(ROOT),
        "site": str(site),
        "home": str(home),
        "work folder": str(folder),
        "interpreter": sys.prefix,
    }
    forbidden = {**SECRETS, **places, "user": "ada-lovelace", "host": platform.node()}
    forbidden = {what: text.encode() for what, text in forbidden.items() if len(text) > 3}
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 15
    assert json.loads(graded)["score"] == 0
    contents = {str(path.relative_to(folder)): path.read_bytes() for path in files} | {
        "(printed)": printed.encode(),
        "(grade)": graded,
    }
    found = [(name, what) for name, data in contents.items() for what, text in forbidden.items() if text in data]
    assert found == []
    assert b"/home/" not in b"".join(
        data for name, data in contents.items() if not name.endswith((".safetensors", ".pt", ".pth", ".bin"))
    )


def _graded(folder, home):
    """What the grader says of a notebook whose cells look at the secrets and fail."""
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("nbclient")
    cell = nbformat.v4.new_code_cell(
        "import os\nprint(dict(os.environ))\nraise RuntimeError(os.environ['HF_TOKEN'] + os.getcwd())"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# 03 · Rewards"), cell])
    path = home / "03_rewards.ipynb"
    nbformat.write(notebook, path)
    command = [sys.executable, "-m", "azr_lite.course.grade", str(path), "--json"]
    done = subprocess.run(
        command,
        cwd=folder,
        env=outside(HOME=str(home), PYTHONPATH=str(ROOT), **SECRETS),
        capture_output=True,
        check=False,
    )
    return done.stdout
