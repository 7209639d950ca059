"""Figures in notebooks: what `show` hands to the front end."""

import io

import pytest

pytest.importorskip("matplotlib", reason="figures need the [notebooks] extra")
pytest.importorskip("IPython", reason="figures need the [notebooks] extra")


def test_a_figure_is_small_whole_and_has_its_alt_text(monkeypatch):
    from PIL import Image

    from azr_lite.learn import figures
    from azr_lite.observe.style import png

    shown = []
    monkeypatch.setattr(figures, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda data, raw, metadata: shown.append((data, metadata)))
    made, (axis,) = figures.figure(1, 1, (4.0, 3.0))
    for place in range(5):
        figures.line(axis, f"n = {place}", [0, 1, 2], [0, place, 1], place)
    figures.show(made, "Five lines that rise and fall")
    ((data, metadata),) = shown
    assert data["image/png"] == png(made)
    assert Image.open(io.BytesIO(data["image/png"])).size == (400, 300)
    assert metadata["image/png"]["alt"] == "Five lines that rise and fall"
