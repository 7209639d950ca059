"""Systems that are not Linux, as far as one can be acted here: POSIX modules and calls taken away, `sys.platform` changed.

Nothing was ever run on a real Windows or macOS. The sandbox's own behaviour there: tests/sandbox/test_degraded.py; the notebooks':
tests/test_notebooks_light.py.
"""

import ast
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.bare import bare_environment

ROOT = Path(__file__).parents[1]
POSIX_ONLY = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog")
LINUX_ONLY = {
    "azr_lite.sandbox.zygote": "started by path",
    "azr_lite.sandbox.lockdown": "imported by the fork server",
    "azr_lite.evaluation.benchmarks.jail_launcher": "started by path",
}
"""Modules of the other side of the sandbox; `Executor` and `run_script` choose or refuse before they are reached."""
NOT_IMPORTED = {"azr_lite.sandbox.harness", "azr_lite.evaluation.benchmarks.jailed_programs"}
"""Children's programs, which find their neighbours by path."""

SCRIPT = """
import asyncio, concurrent.futures.process, importlib, json, multiprocessing.connection, os, pkgutil, subprocess, sys, tempfile, urllib.request
import jinja2, numpy, rich.console, rich.progress, tyro
for name in {posix!r}:
    sys.modules[name] = None
for name in ("fork", "sched_getaffinity", "geteuid", "getuid", "killpg", "sysconf", "pidfd_open"):
    if hasattr(os, name):
        delattr(os, name)
sys.platform = "win32"
import azr_lite
from azr_lite.cli import main
wrong = {{}}
for info in pkgutil.walk_packages(azr_lite.__path__, "azr_lite."):
    if info.name not in {left_out!r}:
        try:
            importlib.import_module(info.name)
        except ImportError as error:
            wrong[info.name] = (error.name or str(error)).split(".")[0]
statuses = [main(words) for words in json.loads(sys.argv[1])]
print(json.dumps({{"wrong": wrong, "statuses": statuses, "stdlib": sorted(sys.stdlib_module_names)}}))
"""


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_only_the_far_side_of_the_sandbox_imports_what_windows_lacks():
    """Modules with torch included, which the test below cannot import without it."""
    found = set()
    for path in (ROOT / "azr_lite").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            if set(names) & set(POSIX_ONLY):
                found.add(name_of(path))
    assert found == LINUX_ONLY.keys()


@pytest.fixture(scope="module")
def as_on_windows(tmp_path_factory):
    """What the core's modules and verbs do there: import troubles, exit statuses, and what was printed."""
    python, _ = bare_environment(tmp_path_factory.mktemp("windows"), ("jinja2", "numpy", "rich", "tyro", "pygments"))
    whole = str(ROOT / "data_samples" / "runs" / "whole" / "nano-small")
    verbs = (
        ["--help"], ["run", "--preset", "nano", "--dry-run", "--json"], ["plan"], ["doctor"], ["show", whole, "--step", "2", "--worst", "1"], ["doctor", whole],
        ["report", whole, "--output", "report.html"],
    )  # fmt: skip
    script = SCRIPT.format(posix=POSIX_ONLY, left_out={*LINUX_ONLY, *NOT_IMPORTED})
    surroundings = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    command = [str(python), "-c", script, json.dumps(verbs)]
    done = subprocess.run(command, cwd=python.parent, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stdout


def test_the_core_is_importable_without_posix(as_on_windows):
    facts, _ = as_on_windows
    ours = {
        module: lacking
        for module, lacking in facts["wrong"].items()
        if lacking in facts["stdlib"] or lacking == "azr_lite"
    }
    assert ours == {}, "these import what Windows has not"


def test_looking_and_planning_work_and_the_doctor_tells_the_truth(as_on_windows):
    facts, printed = as_on_windows
    assert facts["statuses"] == [0] * 7
    assert "sandbox           WEAK: without seccomp (off: not available on win32)" in printed
