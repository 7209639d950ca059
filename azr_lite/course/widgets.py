"""Sliders in notebooks, static first: a grid of pictures for everyone, then controls where a live front end is there.

GitHub, nbviewer, CI and screen readers get the grid. Nothing of the sliders is stored in the notebook.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from azr_lite.course.figures import figure, show, style
from azr_lite.observe.style import has_viewer, image

if TYPE_CHECKING:
    from ipywidgets import VBox

Draw, Size = Callable[..., None], tuple[float, float]


def explore(draw: Draw, alt: str, static: Sequence[dict[str, Any]], size: Size = (3.2, 2.6), **choices: Any) -> None:
    """`draw(axis, **values)` for each of the `static` choices of values side by side; then sliders over `choices`.

    `alt` says what the grid shows. Every value of `static` must be one of `choices`.
    """
    for name, value in (item for values in static for item in values.items()):
        if value not in choices[name]:
            raise ValueError(f"{name} = {value!r} is not among its choices {list(choices[name])!r}")
    grid, axes = figure(1, len(static), (size[0] * len(static), size[1]))
    for axis, values in zip(axes, static, strict=True):
        with style():
            draw(axis, **values)
    show(grid, alt)
    if has_viewer() and find_spec("ipywidgets"):
        from IPython.display import display

        made = sliders(draw, dict(static[0]), alt, size, choices)._repr_mimebundle_()
        display({**made, "text/plain": "The sliders need a running kernel: run this cell again."}, raw=True)


def sliders(draw: Draw, start: dict[str, Any], alt: str, size: Size, choices: dict[str, Sequence[Any]]) -> VBox:
    """A slider for each of `choices`, set to `start`, and the picture of their values under them. Needs ipywidgets."""
    import ipywidgets

    from azr_lite.observe.style import png

    def control(name: str, values: Sequence[Any]) -> Any:
        return ipywidgets.SelectionSlider(
            options=list(values),
            value=start.get(name, values[0]),
            description=name.replace("_", " "),
            continuous_update=False,
            readout=False,  # it cuts long words
            style={"description_width": "90px"},
        )

    controls = {name: control(name, values) for name, values in choices.items()}
    chosen = {name: ipywidgets.Label(layout=ipywidgets.Layout(margin="2px 2px 2px 14px")) for name in choices}
    wide, high = 1.6 * size[0], 1.4 * size[1]
    # `Image` has no alt text; the page must not jump
    picture = ipywidgets.HTML(layout=ipywidgets.Layout(min_height=f"{100 * high:.0f}px"))

    def redraw(_: Any = None) -> None:
        made, (axis,) = figure(1, 1, (wide, high))
        with style():
            draw(axis, **{name: slider.value for name, slider in controls.items()})
        for name, label in chosen.items():
            label.value = str(controls[name].value)
        title = " ".join((axis.get_title(loc="left") or axis.get_title() or alt).split())
        values = ", ".join(f"{name} = {label.value}" for name, label in chosen.items())
        picture.value = image(png(made), f"{title} ({values})")

    for slider in controls.values():
        slider.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([*(ipywidgets.HBox([controls[name], chosen[name]]) for name in choices), picture])
