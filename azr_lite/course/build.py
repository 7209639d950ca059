"""The notebooks' builder: pairs sources with what people open, executes, measures, writes headers.

    python -m azr_lite.course.build [03 05 ...]     # what `make notebooks` runs

People edit ``notebooks/NN_name.py`` (jupytext, percent format). This writes ``NN_name.ipynb`` with its outputs beside
it, and seconds and memory to ``data_samples/benchmarks/notebooks.json``.

A cell tagged `exercise` holds one stub and its check; `setup` cells are what exercises need; `long` cells take minutes.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from azr_lite.course.checks import exercises
from azr_lite.course.lessons import BEGIN, BLOB, COURSE, END, header, index_table, lesson_of, readme_table
from azr_lite.errors import AzrError
from azr_lite.rundir import write_json, write_text

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
MEASURED = ROOT / "data_samples" / "benchmarks" / "notebooks.json"
CELL_SECONDS = 1800
FOLDED = '# @title How this is drawn { display-mode: "form" }'
"""What is seen of a folded cell that has no title of its own."""
PEAK = "from azr_lite.progress import peak_mib as _peak; print(_peak())"


class NotebookError(AzrError):
    """A notebook cannot be read, or failed when it was executed."""


def sources() -> list[Path]:
    """The sources of the course, in order, and of the index."""
    return [FOLDER / f"{stem}.py" for stem in (*(lesson.stem for lesson in COURSE), "index")]


def read(source: Path) -> Any:
    """A source as a notebook without outputs; its cells' ids are the same each time."""
    import jupytext

    notebook = jupytext.read(source, fmt="py:percent")
    for place, cell in enumerate(notebook.cells):
        cell["id"] = f"{source.stem}-{place}"
        cell.metadata = {name: value for name, value in cell.metadata.items() if name == "tags"}
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\]\(((?!http)[\w./-]+\.md)", _absolute, cell.source)
        if "hide-input" in tags(cell):
            if not re.match(r"# ?@title ", cell.source):
                cell.source = f"{FOLDED}\n{cell.source}"
            cell.metadata |= {"cellView": "form", "jupyter": {"source_hidden": True}}  # folded in Colab, in JupyterLab
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def _absolute(link: re.Match[str]) -> str:
    """A page where it is rendered: Colab has no files beside a notebook, and Jupyter shows pages as plain text."""
    return f"]({BLOB}{os.path.normpath(f'notebooks/{link[1]}')}"


def tags(cell: Any) -> list[str]:
    return list(cell.metadata.get("tags", ()))


def defined(cell: Any) -> list[str]:
    """The exercises that a cell's top level defines or assigns; none where it does not parse."""
    try:
        body = ast.parse(cell.source).body
    except SyntaxError:
        return []
    known = exercises()
    return [name for name in dict.fromkeys(name for node in body for name in assigned(node)) if name in known]


def assigned(node: ast.stmt) -> list[str]:
    """The names a statement gives a value; none for ``f = check.use(f, ...)``, which is no answer."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if not isinstance(node, ast.Assign) or ast.unparse(node.value).startswith("check.use("):
        return []
    targets = [one for target in node.targets for one in getattr(target, "elts", [target])]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def execute(notebook: Any, profile: str, folder: Path | None = None, seconds: int = CELL_SECONDS) -> Any:
    """Run all cells in a fresh kernel without sliders, with this checkout. Returns the same notebook with outputs.

    `folder`: where it runs (a temporary one otherwise). `seconds`: limit per cell. NotebookError names the cell that
    failed.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    own = {"AZR_LITE_PROFILE": profile, "AZR_LITE_STATIC": "1", "PYTHONPATH": paths, "COLUMNS": "100",
           "HF_HUB_DISABLE_PROGRESS_BARS": "1"}  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="azr-lite-notebook-") as spare:
        client = NotebookClient(
            notebook,
            timeout=seconds,
            startup_timeout=600,  # a busy machine needs minutes to start a kernel
            kernel_name="python3",
            record_timing=False,
            store_widget_state=False,
            resources={"metadata": {"path": str(folder or spare)}},
        )
        client.create_kernel_manager()
        client.km.transport, client.km.ip = "ipc", f"{spare}/kernel"  # sockets in a folder of this user, no open ports
        try:
            client.execute(env={**os.environ, **own})
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            raise NotebookError(f"a notebook stopped: {error}") from error
    notebook.metadata.pop("widgets", None)
    return notebook


def printed(cell: Any) -> str:
    """What a cell printed or showed as text, with single spaces."""
    texts = [out.get("text") or out.get("data", {}).get("text/plain", "") for out in cell.get("outputs", ())]
    return " ".join("".join(texts).split())


# ---------------------------------------------------------------- headers


def words(notebook: Any) -> int:
    """Words of prose, the header not counted."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown" and BEGIN not in cell.source]
    return len(re.findall(r"\w+", re.sub(r"\(https?://\S+\)", "", " ".join(texts))))


def exercise_minutes(notebook: Any) -> int:
    """The minutes that exercises say they take: "**Exercise 2** (8 minutes, 2 points)", or the same in a heading."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    told = re.findall(r"^(?:#+ |\*\*)Exercises? [^\n]*?\([^)\n]*?(\d+) minutes", prose, re.MULTILINE)
    return sum(map(int, told))


def with_header(stem: str, text: str, measured: Mapping[str, Any]) -> str:
    """A source's text with its header, or the index's table, made anew from the measured table.

    NotebookError where the marks are missing.
    """
    known = exercises().values()
    points = {lesson.number: [one.points for one in known if one.notebook == lesson.number] for lesson in COURSE}
    if stem == "index":
        made = index_table(measured, {number: (len(own), sum(own)) for number, own in points.items()})
    else:
        lesson, notebook = lesson_of(stem[:2]), read(FOLDER / f"{stem}.py")
        own = points[lesson.number]
        work = f"{len(own)} exercises ({sum(own)} points, about {exercise_minutes(notebook)} minutes)"
        made = header(lesson, words(notebook), work, measured.get(lesson.number, {}))
    return _between_marks(text, "\n".join(f"# {line}".rstrip() for line in made.splitlines()), "# ", f"{stem}.py")


def _between_marks(text: str, block: str, comment: str, name: str) -> str:
    pattern = re.compile(re.escape(comment + BEGIN) + ".*?" + re.escape(comment + END), re.DOTALL)
    if not pattern.search(text):
        raise NotebookError(f"{name} has no place for what is generated; it must hold {BEGIN} and {END}")
    return pattern.sub(lambda _: block, text, count=1)


def readme(text: str, measured: Mapping[str, Any]) -> str:
    """The README's text with its table of notebooks made anew."""
    return _between_marks(text, readme_table(measured), "", "README.md")


def measurements() -> dict[str, Any]:
    """The measured table, by lesson number; empty before the first `make notebooks`."""
    return json.loads(MEASURED.read_text(encoding="utf-8"))["notebooks"] if MEASURED.exists() else {}


def write_headers() -> None:
    """Headers of all sources, and the tables of index and README, from the measured table."""
    table = measurements()
    for file in (*sources(), ROOT / "README.md"):
        text = file.read_text(encoding="utf-8")
        made = readme(text, table) if file.suffix == ".md" else with_header(file.stem, text, table)
        if made != text:
            write_text(file, made)


# ---------------------------------------------------------------- make notebooks


def make(numbers: Sequence[str], profile: str) -> None:
    """Execute, measure, write header and outputs, one notebook after the other."""
    import nbformat

    from azr_lite.environment import describe_environment

    table = measurements()
    wanted = [source for source in sources() if not numbers or source.stem[:2] in numbers or source.stem in numbers]
    for place, source in enumerate(wanted):
        print(f"{place + 1}/{len(wanted)} {source.stem} ...", end=" ", flush=True)
        notebook = read(source)
        notebook.cells.append(nbformat.v4.new_code_cell(PEAK))
        began = time.monotonic()
        execute(notebook, profile)
        seconds = time.monotonic() - began
        peak = float(printed(notebook.cells.pop()))
        print(f"{seconds:.0f} s, {peak:.0f} MiB", flush=True)
        if source.stem != "index":
            here, number = describe_environment(), source.stem[:2]
            torch = ("torch", "transformers", "trl") if lesson_of(number).torch else ()
            named = ("azr-lite", "numpy", *torch)
            versions = ", ".join(f"{name} {here['versions'][name]}" for name in named if name in here["versions"])
            table[number] = {
                "seconds": round(seconds, 1),
                "memory_mib": round(peak),
                "cores": here["cores"],
                "gpu": table.get(number, {}).get("gpu", ""),
                "versions": f"Python {here['python']}, {versions}",
                "date": here["date"],
                "profile": profile,
            }
            write_json(MEASURED, {"what": "python -m azr_lite.course.build", "notebooks": dict(sorted(table.items()))})
        write_headers()
        fresh = read(source)
        for cell, run in zip(fresh.cells, notebook.cells, strict=True):
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = run.outputs, run.execution_count
        write_text(source.with_suffix(".ipynb"), nbformat.writes(fresh) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m azr_lite.course.build", description=__doc__.splitlines()[0])
    parser.add_argument("numbers", nargs="*", help="such as 03; all where none is named")
    parser.add_argument("--profile", default="cpu", choices=("ci", "cpu", "gpu"))
    parser.add_argument("--headers", action="store_true", help="only make the headers anew; run nothing")
    given = parser.parse_args()
    if given.headers:
        write_headers()
    else:
        make(given.numbers, given.profile)


if __name__ == "__main__":
    main()
