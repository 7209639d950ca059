"""Figures in notebooks: the project's style, and alt text with every picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azr_lite.observe.style import figure, in_notebook, line, look, picture, png, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["bars", "figure", "line", "look", "show", "style"]


def show(figure: Figure, alt: str) -> None:
    """The figure under the cell. `alt`: the finding in one sentence, for those who do not see it."""
    drawn = png(figure)
    if not in_notebook():
        print(f"[figure: {alt}]")
        return
    from IPython.display import display

    data, about = picture(drawn, alt, f"[figure: {alt}]")
    display(data, raw=True, metadata=about)


def bars(axis: Any, names: list[str], values: list[float], unit: str) -> None:
    """Horizontal bars, each in the look of its name, with its value beside it."""
    with style():
        places = range(len(names))[::-1]
        axis.barh(list(places), values, color=[look(name, place).colour for place, name in enumerate(names)])
        axis.set_yticks(list(places), names)
        axis.set_xlabel(unit)
        for place, value in zip(places, values, strict=True):
            axis.text(value, place, f" {value:.3g}", va="center", ha="left" if value >= 0 else "right")
