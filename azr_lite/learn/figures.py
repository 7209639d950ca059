"""Figures in notebooks: the project's style, alt text with every picture, and the diagram of the loop.

Comes in: axes to draw on, or a finished figure.  Goes out: a PNG under the cell, with its alt text; a line of text where there is no notebook.
Not covered: colours and markers (`observe/style.py`), sliders (`widgets.py`).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from azr_lite.observe.style import figure, line, look, png, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure", "in_notebook", "line", "look", "show", "style"]


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    return shell is not None and shell.__class__.__name__ != "TerminalInteractiveShell"


def show(figure: Figure, alt: str) -> None:
    """The figure under the cell. `alt`: what it shows, for those who do not see it (one sentence that states the finding)."""
    picture = _palette(png(figure))
    if not in_notebook():
        print(f"[figure: {alt}]")
        return
    from IPython.display import display

    display({"image/png": picture, "text/plain": f"[figure: {alt}]"}, raw=True, metadata={"image/png": {"alt": alt}})


def _palette(picture: bytes) -> bytes:
    """The same picture in 128 colours: a third of the bytes, of which a notebook may hold 400 KB."""
    from PIL import Image  # comes with matplotlib

    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(128).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def bars(axis: Any, names: list[str], values: list[float], unit: str) -> None:
    """Horizontal bars, each in the look of its name, with its value beside it."""
    with style():
        places = range(len(names))[::-1]
        axis.barh(list(places), values, color=[look(name, place).colour for place, name in enumerate(names)])
        axis.set_yticks(list(places), names)
        axis.set_xlabel(unit)
        for place, value in zip(places, values, strict=True):
            axis.text(value, place, f" {value:.3g}", va="center", ha="left" if value >= 0 else "right")
