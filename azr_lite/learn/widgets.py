"""Sliders in notebooks, static first: a grid of pictures that everyone gets, then controls where a live front end is there.

Comes in: a function that draws on one axis, and the values its arguments may take.  Goes out: pictures under the cell, with alt text.
Not covered: browsers of runs (`observe/`).

GitHub, nbviewer, CI and screen readers get the grid. Nothing of the sliders is stored in the notebook.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from azr_lite.learn.figures import figure, show, style
from azr_lite.observe.surroundings import live

Draw = Callable[..., None]


def explore(
    draw: Draw, alt: str, static: Sequence[dict[str, Any]], size: tuple[float, float] = (3.2, 2.6), **choices: Sequence[Any]
) -> None:
    """`draw(axis, **values)` for each of the `static` choices of values side by side; then sliders over `choices`.

    `alt` says what the grid shows. Every value of `static` must be one of `choices`.
    """
    for values in static:
        for name, value in values.items():
            if value not in choices[name]:
                raise ValueError(f"{name} = {value!r} is not among its choices {list(choices[name])!r}")
    made, axes = figure(1, len(static), (size[0] * len(static), size[1]))
    for axis, values in zip(axes, static, strict=True):
        with style():
            draw(axis, **values)
    show(made, alt)
    if live():
        _sliders(draw, dict(static[0]), alt, size, choices)


def _sliders(draw: Draw, start: dict[str, Any], alt: str, size: tuple[float, float], choices: dict[str, Sequence[Any]]) -> None:
    import ipywidgets
    from IPython.display import display

    from azr_lite.observe.style import png

    controls = {
        name: ipywidgets.SelectionSlider(options=list(values), value=start.get(name, values[0]), description=name, continuous_update=False)
        for name, values in choices.items()
    }
    picture = ipywidgets.Image(format="png", alt=alt)

    def redraw(_: Any = None) -> None:
        made, (axis,) = figure(1, 1, (1.6 * size[0], 1.4 * size[1]))
        with style():
            draw(axis, **{name: control.value for name, control in controls.items()})
        picture.value = png(made)

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    display(ipywidgets.VBox([*controls.values(), picture]))
