"""Slides: every heading opens one, set-up stays out."""

import nbformat
import pytest

from azr_lite.course.build import FOLDER, NotebookError, tags
from azr_lite.course.slides import on_slides, slides

pytest.importorskip("nbconvert", reason="slides need the [notebooks] extra")
LESSON = FOLDER / "03_rewards.ipynb"


def test_headings_open_slides_and_setup_is_left_out():
    cells = on_slides(nbformat.read(LESSON, as_version=4)).cells
    kinds = [cell.metadata["slideshow"]["slide_type"] for cell in cells]
    assert kinds.count("slide") >= 4
    assert all(kind == "skip" for cell, kind in zip(cells, kinds, strict=True) if "setup" in tags(cell))
    shown = slides(LESSON)
    assert shown.count("<section>") > kinds.count("slide")
    assert "find_spec" not in shown
    assert "Who is a good teacher" in shown or "who is a good teacher" in shown


def test_a_missing_notebook_is_one_sentence(tmp_path):
    with pytest.raises(NotebookError, match="run make notebooks first"):
        slides(tmp_path / "none.ipynb")
