"""Figures and sliders in notebooks: what `show` and `explore` hand to the front end."""

import base64
import io

import pytest

pytest.importorskip("matplotlib", reason="figures need the [notebooks] extra")
pytest.importorskip("IPython", reason="figures need the [notebooks] extra")


def test_a_figure_is_small_whole_and_has_its_alt_text(monkeypatch):
    from PIL import Image

    from azr_lite.course import figures
    from azr_lite.observe.style import png

    shown = []
    monkeypatch.setattr(figures, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda data, raw, metadata: shown.append((data, metadata)))
    made, (axis,) = figures.figure(1, 1, (4.0, 3.0))
    for place in range(5):
        figures.line(axis, f"n = {place}", [0, 1, 2], [0, place, 1], place)
    figures.show(made, "Five lines that rise and fall")
    ((data, metadata),) = shown
    assert base64.b64decode(data["image/png"]) == png(made)
    assert Image.open(io.BytesIO(png(made))).size == (800, 600), "two pixels per pixel of the page"
    assert metadata["image/png"] == {"alt": "Five lines that rise and fall", "width": 400}


def test_who_looks_on_gets_the_alt_text_in_the_page_and_a_stored_notebook_the_png(monkeypatch):
    """JupyterLab shows a plain PNG without its alt text."""
    from azr_lite.observe import style

    monkeypatch.delenv("AZR_LITE_STATIC", raising=False)
    monkeypatch.setattr(style, "in_notebook", lambda: True)
    words = 'A "quoted" <b> & a line'
    _, (made, *_) = style.figure(1, 1, (4.0, 3.0))
    drawn = style.png(made.figure)
    data, about = style.picture(drawn, words, "text")
    assert set(data) == {"text/html", "text/plain"}
    assert about == {}
    assert 'alt="A &quot;quoted&quot; &lt;b&gt; &amp; a line"' in data["text/html"]
    assert f"base64,{base64.b64encode(drawn).decode()}" in data["text/html"]
    assert ' width="400" ' in data["text/html"]
    monkeypatch.setenv("AZR_LITE_STATIC", "1")
    data, about = style.picture(drawn, words, "text")
    assert base64.b64decode(data["image/png"]) == drawn
    assert about == {"image/png": {"alt": words, "width": 400}}


def test_a_moved_slider_draws_anew_and_says_in_the_alt_text_what_is_seen():
    pytest.importorskip("ipywidgets", reason="sliders need the [notebooks] extra")
    from azr_lite.course.widgets import sliders

    def draw(axis, height, sign):
        axis.bar([0], [height if sign == "plus" else -height])
        axis.set_title(f"a bar of {height}")

    *rows, picture = sliders(
        draw, {"height": 2, "sign": "plus"}, "bars", (3.0, 2.0), {"height": [1, 2], "sign": ["plus", "minus"]}
    ).children
    controls, labels = zip(*(row.children for row in rows), strict=True)
    assert [control.value for control in controls] == [2, "plus"]
    seen = [picture.value]
    assert 'alt="a bar of 2 (height = 2, sign = plus)"' in picture.value
    for control, value in zip(controls, (1, "minus"), strict=True):
        control.value = value
        assert picture.value not in seen
        seen.append(picture.value)
    assert 'alt="a bar of 1 (height = 1, sign = minus)"' in picture.value
    assert [label.value for label in labels] == ["1", "minus"]
