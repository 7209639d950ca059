"""Points for students' notebooks: run each again in a process of its own, judge each exercise, add up.

    python -m azr_lite.course.grade student.ipynb --json
    python -m azr_lite.course.grade FOLDER --csv --jobs 4

A student's code runs in a child process without this one's environment, in an empty folder, under a time limit. The
child says what each answer did on the probes; what is right is worked out and compared here, so a patched judge in a
notebook decides nothing. Flagged, and worth no points until a person has looked: the package's own function or key
handed in as an answer, and a child whose judge says "right" where this one does not.

The JSON is what Gradescope's autograders read (``score``, ``tests``). The child has your user's rights on this machine:
grade classes you do not know inside a container.
"""

from __future__ import annotations

import argparse
import ast
import csv
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from azr_lite.course.build import ROOT, NotebookError, defined, tags
from azr_lite.course.checks import Late, Raised, exercise_of, exercises, judge_answer, same, unwrapped
from azr_lite.errors import AzrError

SECONDS, MINUTES = 120, 10
"""What one cell, and one notebook, may take."""

TELLTALE = set("exercise_of judge_answer _EXERCISES azr_lite.course.checks azr_lite.course.exercises own_loop".split())
"""Names that lead to the keys; an honest answer needs none of them."""


# ---------------------------------------------------------------- in the child


def observed(name: str, answer: Any) -> dict[str, Any]:
    """What an answer does on the exercise's probes, as JSON can hold it, and what the judge of this process says."""
    found, task = judge_answer(name, answer), exercise_of(name)
    told = {"name": name, "state": found.state, "output": str(found), "seen": None, "spoiled": None, "own": False}
    if found.state != "not started":
        place = getattr(answer, "__module__", None) or ""
        told["own"] = callable(answer) and place.startswith("azr_lite")
        try:
            told |= {"seen": plain(task.look(answer)), "spoiled": task.spoiled(answer)}
        except TimeoutError:
            pass
    return told


def plain(value: Any) -> Any:
    """A value as numbers, texts, lists and dicts, by which two answers can be compared in another process."""
    value = unwrapped(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Raised):
        return {"raised": value.kind}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"": type(value).__name__} | {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return f"{type(value).__name__} {value}"


def child() -> None:
    """Run the cells that standard input holds, and print a line per exercise."""
    from IPython.core.interactiveshell import InteractiveShell

    asked, out = json.load(sys.stdin), os.fdopen(os.dup(1), "w", encoding="utf-8")
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        stream.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    shell = InteractiveShell.instance()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a grader in the background has it ignored
    for source, names in asked["cells"]:
        for name in names:
            shell.user_ns.pop(name, None)
        clock = threading.Timer(asked["seconds"], os.kill, (os.getpid(), signal.SIGINT))  # checks use SIGALRM
        clock.start()
        ran = shell.run_cell(source)
        clock.cancel()
        error = ran.error_before_exec or ran.error_in_exec
        for name in names:
            if error is not None and name not in shell.user_ns:
                late = isinstance(error, KeyboardInterrupt)
                why = f"ran for {asked['seconds']} seconds" if late else f"failed with {type(error).__name__}: {error}"
                told = {"name": name, "state": "wrong", "output": f"✗ {name}: its cell {why}"}
            else:
                told = observed(name, shell.user_ns.get(name, ...))
            print(json.dumps(told), file=out, flush=True)


# ---------------------------------------------------------------- here


def lesson_number(notebook: Any) -> str:
    """The number in a notebook's title (``# 03 · Rewards``). NotebookError where there is none."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (found := re.search(r"^# (\d\d) ", cell.source, re.MULTILINE)):
            return found[1]
    wanted = "grade a notebook of the course, with its first cell left in"
    raise NotebookError(f"no cell has a title such as '# 03 · Rewards'; {wanted}")


def grade(path: str | Path, seconds: int = SECONDS, minutes: float = MINUTES) -> dict[str, Any]:
    """Points per exercise, in Gradescope's form. Cells tagged `long` are left out.

    A cell that fails or runs too long costs only what depends on it. NotebookError for any other file.
    """
    import nbformat

    path = Path(path)
    if not path.is_file():
        raise NotebookError(f"there is no notebook {path}; give the path of a student's .ipynb")
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:
        kind = type(error).__name__
        raise NotebookError(f"{path} is not a notebook ({kind}); give an .ipynb as Jupyter saves it") from error
    number = lesson_number(notebook)
    own = {name for name, one in exercises().items() if one.notebook == number}
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and "long" not in tags(cell)]
    cells = [(cell.source, sorted(own.intersection(defined(cell) or _named(cell.source, own)))) for cell in code]
    told, ended = _run(cells, seconds, minutes)
    tests, flagged = [], []
    for name, one in exercises().items():
        if one.notebook == number:
            found = told.get(name, {"output": f"○ {name}: not started{ended}"})
            right = found.get("state") == "right" and _is_right(name, found)
            why = _suspicious(name, found, right, [source for source, names in cells if name in names])
            flagged += [f"{name}: {why}"] * bool(why)
            output = f"? {name}: flagged: {why}; have a look" if why else found["output"]
            score, status = (one.points, "passed") if right and not why else (0, "failed")
            tests.append({"name": name, "score": score, "max_score": one.points, "output": output, "status": status})
    total = {key: sum(test[key] for test in tests) for key in ("score", "max_score")}
    return {"lesson": number, **total, "flagged": flagged, "tests": tests}


def _run(cells: Sequence[Any], seconds: int, minutes: float) -> tuple[dict[str, Any], str]:
    """What the child told of each exercise, the last word counting, and how it ended if not well."""
    paths = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    with tempfile.TemporaryDirectory(prefix="azr-lite-grade-") as folder:
        own = {"HOME": folder, "PYTHONPATH": paths, "AZR_LITE_PROFILE": "ci", "AZR_LITE_STATIC": "1"}
        own |= {name: os.environ[name] for name in ("PATH", "LANG", "OMP_NUM_THREADS") if name in os.environ}
        started = subprocess.Popen(
            [sys.executable, "-c", "from azr_lite.course.grade import child; child()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
            cwd=folder, env=own, start_new_session=True,
        )  # fmt: skip
        try:
            said, _ = started.communicate(json.dumps({"cells": cells, "seconds": seconds}), timeout=60 * minutes)
            ended = "" if started.returncode == 0 else f" (the notebook's process ended with {started.returncode})"
        except subprocess.TimeoutExpired as error:
            said = error.stdout or b""
            said = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
            ended = f" (stopped after {minutes:g} minutes)"
        finally:
            try:
                os.killpg(started.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            started.wait()
    told = {}
    for line in said.splitlines():
        try:
            one = json.loads(line)
            told[one["name"]] = {"seen": None, "spoiled": None, "own": False, **one, "output": str(one["output"])}
        except (ValueError, KeyError, TypeError):
            pass  # no line of ours
    return told, ended


def _is_right(name: str, found: Mapping[str, Any]) -> bool:
    """Whether what was seen is what the key does, by this process's own look. (1e-4: tensors may have 32 bits.)"""
    if found["seen"] is None or found["spoiled"] is not None:
        return False
    task = exercise_of(name)
    if isinstance(task.key, Late):
        _ = task.key.function
    return same(found["seen"], plain(task.look(task.key)), 1e-4)


def _suspicious(name: str, found: Mapping[str, Any], right: bool, sources: Sequence[str]) -> str:
    """Why a person should look at an answer, or ""."""
    if not right:
        return "its notebook's judge was changed" if found.get("state") == "right" else ""
    if found["own"]:
        return "it is the package's own function"
    words = {word for source in sources for word in _words(source)}
    used = sorted(words & (TELLTALE | {f"az.{name}", f"course.{name}"}))
    return f"it goes through {used[0]}" if used else ""


def _words(source: str) -> set[str]:
    """Names, attributes and modules that a cell speaks of, its `check.use` lines left out."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:
        return set()
    found = {node.id for node in nodes if isinstance(node, ast.Name)}
    found |= {word for node in nodes if isinstance(node, ast.Attribute) for word in (node.attr, ast.unparse(node))}
    found |= {f"{node.module}" for node in nodes if isinstance(node, ast.ImportFrom)}
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    return found | {alias.name for node in imports for alias in node.names}


def _named(source: str, own: set[str]) -> set[str]:
    """The exercise whose check a cell calls, where the cell cannot be parsed: a syntax error hides what it defines."""
    return {name for name in own if f"check.{name}({name})" in source}


# ---------------------------------------------------------------- a class


def grade_folder(folder: Path, jobs: int, seconds: int = SECONDS, minutes: float = MINUTES) -> list[dict[str, Any]]:
    """One row per notebook under the folder, in the order of their paths; a file that cannot be graded has an error."""

    def row(path: Path) -> dict[str, Any]:
        name = str(path.relative_to(folder))
        try:
            return {"file": name, "error": "", **grade(path, seconds, minutes)}
        except AzrError as error:
            nothing = {"lesson": "", "score": 0, "max_score": 0, "flagged": [], "tests": []}
            return {"file": name, "error": str(error), **nothing}

    paths = sorted(path for path in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(row, paths))


def write_csv(rows: Sequence[Mapping[str, Any]], out: Any) -> None:
    """One line per notebook: points in all and per exercise, and what was flagged."""
    names = list(dict.fromkeys(test["name"] for row in rows for test in row["tests"]))
    writer = csv.writer(out)
    writer.writerow(["file", "lesson", "score", "max_score", "flagged", "error", *names])
    for row in rows:
        points = {test["name"]: test["score"] for test in row["tests"]}
        cells = [row[key] for key in ("file", "lesson", "score", "max_score")]
        writer.writerow([*cells, "; ".join(row["flagged"]), row["error"], *(points.get(name, "") for name in names)])


def text(found: Mapping[str, Any]) -> str:
    """The table for a terminal."""
    lines = [f"{test['score']:>3}/{test['max_score']:<3} {test['output']}" for test in found["tests"]]
    return "\n".join([*lines, f"{found['score']:>3}/{found['max_score']:<3} notebook {found['lesson']}"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m azr_lite.course.grade", description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path, help="a notebook, or a folder of them")
    parser.add_argument("--json", action="store_true", help="Gradescope's results.json on standard output")
    parser.add_argument("--csv", action="store_true", help="of a folder: one line per notebook on standard output")
    parser.add_argument("--jobs", type=int, default=2, help="of a folder: notebooks at a time")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="what one cell may take")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="what one notebook may take")
    given = parser.parse_args()
    limits = (given.seconds, given.minutes)
    try:
        if given.notebook.is_dir():
            rows = grade_folder(given.notebook, given.jobs, *limits)
            if given.csv:
                write_csv(rows, sys.stdout)
            else:
                print(json.dumps(rows, ensure_ascii=False, indent=1))
            return 0
        found = grade(given.notebook, *limits)
    except AzrError as error:
        print(f"azr-lite: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found, ensure_ascii=False, indent=1) if given.json else text(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
