"""Slides from the executed notebooks, by nbconvert: each heading opens a slide, what stands under it follows.

    python -m azr_lite.course.slides [03 ...] [--folder build/slides]

reveal.js itself is loaded from a CDN when they are shown. Set-up cells and collapsed hints are left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from azr_lite.course.build import FOLDER, NotebookError, tags
from azr_lite.course.lessons import BEGIN, COURSE
from azr_lite.rundir import write_text


def on_slides(notebook: Any) -> Any:
    """The same notebook with every cell's place in the show (`slide_type`)."""
    for cell in notebook.cells:
        kind = "-"
        if cell.cell_type == "markdown":
            if cell.source.startswith(("# ", "## ", BEGIN)):
                kind = "slide"
            elif cell.source.startswith("###"):
                kind = "subslide"
            elif cell.source.startswith("<details>"):
                kind = "skip"
        elif {"setup", "parameters"} & set(tags(cell)):
            kind = "skip"
        cell.metadata["slideshow"] = {"slide_type": kind}
    return notebook


def slides(source: Path) -> str:
    """An executed notebook as reveal.js HTML. NotebookError where there is none."""
    import nbformat
    from nbconvert import SlidesExporter

    if not source.exists():
        raise NotebookError(f"there is no {source}; run make notebooks first")
    no_prompts = {"exclude_input_prompt": True, "exclude_output_prompt": True}
    exporter = SlidesExporter(reveal_scroll=True, reveal_number="c/t", **no_prompts)
    return exporter.from_notebook_node(on_slides(nbformat.read(source, as_version=4)))[0]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m azr_lite.course.slides", description="Slides of the course.")
    parser.add_argument("numbers", nargs="*", help="such as 03; all where none is named")
    parser.add_argument("--folder", type=Path, default=Path("build/slides"), help="where the slides go")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for lesson in COURSE:
        if not given.numbers or lesson.number in given.numbers:
            write_text(given.folder / f"{lesson.stem}.slides.html", slides(FOLDER / f"{lesson.stem}.ipynb"))
            print(given.folder / f"{lesson.stem}.slides.html")


if __name__ == "__main__":
    main()
