"""Line charts as inline SVG. Every word in a chart is escaped."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from azr_lite.observe.follow import Point
from azr_lite.observe.style import look

if TYPE_CHECKING:
    from jinja2 import Environment

WIDTH, HEIGHT = 460, 250
MARGINS = {"left": 52, "right": 14, "top": 54, "bottom": 40}
TEMPLATES = Path(__file__).parent / "templates"


@functools.cache
def templates() -> Environment:
    """The room's jinja templates; what is put into them is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATES)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def chart(title: str, unit: str, lines: Mapping[str, Sequence[Point]], percent: bool = False) -> Markup:
    """One chart over self-play steps. `percent`: y is a share, drawn from 0 to 100. Empty where no line has a point."""
    finite = {name: [p for p in points if math.isfinite(p.x) and math.isfinite(p.y)] for name, points in lines.items()}
    lines = {name: points for name, points in finite.items() if points}
    if not lines:
        return Markup("")
    scale = 100.0 if percent else 1.0
    xs = [p.x for points in lines.values() for p in points]
    ys = [scale * y for points in lines.values() for p in points for y in (p.y, p.low, p.high) if y is not None]
    x_ticks = _ticks(min(xs), max(xs), 6, whole=True)
    y_ticks = [0.0, 25.0, 50.0, 75.0, 100.0] if percent else _ticks(min(0.0, *ys), max(ys), 5)
    x_low, x_high = min(x_ticks[0], *xs), max(x_ticks[-1], *xs)
    y_low, y_high = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)
    room = (WIDTH - 8) / max(3, len(lines))

    def at(x: float, y: float) -> tuple[str, str]:
        across = (x - x_low) / ((x_high - x_low) or 1) * (WIDTH - MARGINS["left"] - MARGINS["right"])
        up = (y - y_low) / ((y_high - y_low) or 1) * (HEIGHT - MARGINS["top"] - MARGINS["bottom"])
        return f"{MARGINS['left'] + across:.1f}", f"{HEIGHT - MARGINS['bottom'] - up:.1f}"

    def short(name: str) -> str:
        """The end of a long name: of a path it says the most."""
        most = int((room - 22) / 5.6)
        return name if len(name) <= most else "…" + name[1 - max(2, most) :]

    drawn = templates().get_template("chart.svg").render(
        title=title, unit=unit, lines=lines, scale=scale, x_ticks=x_ticks, y_ticks=y_ticks, room=room, at=at,
        short=short, look=look, width=WIDTH, height=HEIGHT, **MARGINS,
    )  # fmt: skip
    return Markup(drawn.replace("\n", ""))


def _ticks(low: float, high: float, about: int, whole: bool = False) -> list[float]:
    """Round numbers that span low to high."""
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / about))
    step = next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= about)
    if whole:
        step = max(1.0, step)
    first = math.floor(low / step + 1e-9)
    count = min(50, math.ceil((high - first * step) / step - 1e-9))
    return [round((first + i) * step, 10) for i in range(count + 1)]
