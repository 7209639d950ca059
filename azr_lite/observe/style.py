"""How every chart of the project looks, and how a notebook shows a picture and a terminal what a model wrote.

The colours are those of Okabe and Ito, which people with any colour vision tell apart. Marker and dash repeat what the
colour says, for print in grey. Yellow and black are left out: the one vanishes on a white page, the other on a dark
one.
"""

from __future__ import annotations

import base64
import html
import io
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from azr_lite.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY, PURPLE, GREY = "#56B4E9", "#CC79A7", "#6E6E6E"
SHARPNESS = 2
"""Pixels of a picture per pixel of the page, for screens that have as many."""
SOLID, DASHED, DOTTED, MIXED = (), (5.0, 2.0), (1.5, 1.5), (6.0, 2.0, 1.5, 2.0)


@dataclass(frozen=True, slots=True)
class Look:
    """Colour, marker (matplotlib's letter) and dash (lengths of line and gap; empty: solid) of one line."""

    colour: str
    marker: str
    dash: tuple[float, ...] = SOLID


LOOKS: dict[str, Look] = {
    "deduction": Look(BLUE, "o"),
    "abduction": Look(VERMILLION, "s", DASHED),
    "induction": Look(GREEN, "^", MIXED),
    "propose": Look(ORANGE, "D"),
    "solve": Look(SKY, "v", DASHED),
    "valid": Look(ORANGE, "D"),
    "learnable": Look(ORANGE, "P", DOTTED),
    "different": Look(ORANGE, "x", DASHED),
    "generate": Look(PURPLE, "o"),
    "sandbox": Look(GREY, "s", DOTTED),
    "update": Look(PURPLE, "^", DASHED),
    "rest": Look(GREY, "x", MIXED),
    "all": Look(GREY, "o"),
}
"""The same look for the same role, type and stage everywhere. Validity and learnability have the proposer's colour."""

_COLOURS, _DASHES, _MARKERS = (BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE), (SOLID, DASHED, MIXED, DOTTED), "os^Dvx*"


def look(name: str, place: int = 0) -> Look:
    """The look of a role, type or stage; else (a run, another type) that of its place in the chart."""
    colour, marker, dash = (choice[place % len(choice)] for choice in (_COLOURS, _MARKERS, _DASHES))
    return LOOKS.get(name) or Look(colour, marker, dash)


@contextmanager
def style() -> Iterator[None]:
    """The project's style for figures made and drawn inside; ConfigError without matplotlib."""
    try:
        import matplotlib.style
    except ImportError:
        need = "a figure needs matplotlib, which is not here"
        raise ConfigError(f"{need}; install it with: pip install 'azr-lite[notebooks]'") from None
    with matplotlib.style.context(Path(__file__).parent / "templates" / "figures.mplstyle"):
        yield


def figure(rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.0, 3.6)) -> tuple[Figure, list[Any]]:
    """A figure of `size` inches and its axes, row by row. It is no part of pyplot: nothing shows it twice."""
    with style():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        made = Figure(figsize=size, dpi=100 * SHARPNESS, layout="constrained")
        FigureCanvasAgg(made)
        return made, list(made.subplots(rows, columns, squeeze=False).flat)


def line(axis: Any, name: str, x: list[float], y: list[float], place: int = 0, **changes: Any) -> None:
    """One labelled line in its look, with about ten markers however long it is."""
    own = look(name, place)
    drawn = {"color": own.colour, "marker": own.marker, "linestyle": (0, own.dash), "markevery": max(1, len(x) // 10)}
    with style():
        axis.plot(x, y, **({"label": name} | drawn | changes))


def png(figure: Figure) -> bytes:
    """The figure as a PNG of 256 colours: a third of the size, which a notebook that stores its outputs feels."""
    from PIL import Image  # matplotlib needs it too

    with style():
        figure.canvas.draw()  # `savefig` would draw twice, the first time for the layout alone
    buffer = io.BytesIO()
    drawn = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    small = drawn.quantize(256, method=Image.Quantize.FASTOCTREE)  # other methods tint rare colours
    small.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel, so that an output can be renewed in place."""
    shell = sys.modules.get("IPython")
    return shell is not None and getattr(shell.get_ipython(), "kernel", None) is not None


def has_viewer() -> bool:
    """Whether somebody looks on: a kernel, and nobody who executes the notebook unseen (who sets `AZR_LITE_STATIC`)."""
    return in_notebook() and not os.environ.get("AZR_LITE_STATIC")


def image(png: bytes, words: str) -> str:
    """A picture as HTML, with its words for those who do not see it."""
    data = base64.b64encode(png).decode()
    about = f'alt="{html.escape(words)}" width="{_wide(png)}" style="max-width: 100%"'
    return f'<img {about} src="data:image/png;base64,{data}">'


def picture(png: bytes, words: str, text: str) -> tuple[dict[str, str], dict[str, Any]]:
    """A picture as data and metadata of an output. `words`: alternative text; `text`: where there are no pictures.

    JupyterLab and notebook 7 drop the alternative text of a plain PNG, so whoever looks on gets HTML. What is stored
    unseen keeps the PNG, which every viewer of stored notebooks shows.
    """
    if has_viewer():
        return {"text/html": image(png, words), "text/plain": text}, {}
    about = {"alt": words, "width": _wide(png)}
    return {"image/png": base64.b64encode(png).decode(), "text/plain": text}, {"image/png": about}


def _wide(png: bytes) -> int:
    """Pixels of the page that a picture takes; its own stand in its header."""
    return struct.unpack(">I", png[16:20])[0] // SHARPNESS


def printable(text: str) -> str:
    """The same text with tabs spread and every other character that is no print written as its escape."""
    text = text.expandtabs(4)
    if text.replace("\n", "").isprintable():  # nearly always, and a hundred times faster
        return text
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
