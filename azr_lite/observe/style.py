"""How every chart of the project looks: colours, markers, dashes, and one matplotlib figure.

Comes in: the name of what is drawn (a role, a task type, a stage, or any other with its place).  Goes out: its `Look`; a `Figure`
with axes.
Not covered: what is drawn (`panels.py`, `figures.py`, notebooks). matplotlib is imported only where a figure is made.

The colours are those of Okabe and Ito, which people with any colour vision tell apart; marker and dash repeat what the colour says, for
print in grey. Yellow and black are left out: the one vanishes on a white page, the other on a dark one.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from azr_lite.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, GREY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#56B4E9",
    "#CC79A7",
    "#6E6E6E",
)
SOLID, DASHED, DOTTED, MIXED = (), (5.0, 2.0), (1.5, 1.5), (6.0, 2.0, 1.5, 2.0)


@dataclass(frozen=True, slots=True)
class Look:
    """Colour, marker (matplotlib's letter) and dash (lengths of line and gap; empty: solid) of one line."""

    colour: str
    marker: str
    dash: tuple[float, ...] = SOLID

    @property
    def linestyle(self) -> Any:
        """The dash as matplotlib wants it."""
        return (0, self.dash) if self.dash else "solid"


LOOKS: dict[str, Look] = {
    "deduction": Look(BLUE, "o"),
    "abduction": Look(VERMILLION, "s", DASHED),
    "induction": Look(GREEN, "^", MIXED),
    "propose": Look(ORANGE, "D"),
    "solve": Look(SKY, "v", DASHED),
    "valid": Look(ORANGE, "D"),
    "learnable": Look(ORANGE, "P", DOTTED),
    "generate": Look(PURPLE, "o"),
    "sandbox": Look(GREY, "s", DOTTED),
    "update": Look(PURPLE, "^", DASHED),
    "rest": Look(GREY, "x", MIXED),
    "all": Look(GREY, "o"),
}
"""The same look for the same role, type and stage everywhere. Validity and learnability are the proposer's, and wear its colour."""

_COLOURS, _DASHES, _MARKERS = (BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE), (SOLID, DASHED, MIXED, DOTTED), "os^Dvx*"

_SETTINGS: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "figure.facecolor": "white",
    "text.parse_math": False,  # a run's path may hold a dollar
}


def look(name: str, place: int = 0) -> Look:
    """The look of a role, type or stage; of anything else (a run, a type of one's own) that of its place among the lines of the chart."""
    return LOOKS.get(name) or Look(
        _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)], _DASHES[place % len(_DASHES)]
    )


@contextmanager
def style() -> Iterator[None]:
    """The project's style for figures made and drawn inside; ConfigError without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise ConfigError(
            "a figure needs matplotlib, which is not here; install it with: pip install 'azr-lite[notebooks]'"
        ) from None
    with matplotlib.rc_context(_SETTINGS):
        yield


def figure(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.0, 3.6), margins: Mapping[str, float] | None = None
) -> tuple[Figure, list[Any]]:
    """A figure of `size` inches and its axes, row by row. It is no part of pyplot: nothing shows it twice, and it is freed when dropped.

    `margins`: fixed ones (matplotlib's `subplots_adjust`), for a picture that is drawn often; else the best are looked for.
    """
    with style():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        made = Figure(figsize=size, dpi=100, layout="none" if margins else "constrained")
        FigureCanvasAgg(made)
        axes = list(made.subplots(rows, columns, squeeze=False).flat)
        if margins:
            made.subplots_adjust(**margins)
        return made, axes


def line(axis: Any, name: str, x: list[float], y: list[float], place: int = 0, **changes: Any) -> None:
    """One labelled line in its look, with about ten markers however long it is."""
    own = look(name, place)
    settings = {
        "color": own.colour,
        "marker": own.marker,
        "linestyle": own.linestyle,
        "label": name,
        "markevery": max(1, len(x) // 10),
    }
    with style():
        axis.plot(x, y, **{**settings, **changes})


def png(figure: Figure) -> bytes:
    """The figure as a PNG of 256 colours: a third of the size, which a notebook that stores its outputs feels."""
    from PIL import Image  # matplotlib needs it too

    with style():
        figure.canvas.draw()  # `savefig` would draw twice, the first time for the layout alone
    buffer = io.BytesIO()
    drawn = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    drawn.quantize(256, method=Image.Quantize.FASTOCTREE).save(
        buffer, format="png", optimize=True
    )  # other methods tint rare colours
    return buffer.getvalue()
