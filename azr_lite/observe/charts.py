"""Curves of any length in bounded memory, and line charts as inline SVG. Every word in a chart is escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from azr_lite.observe.style import look

POINTS = 200
"""Most points of one curve; a longer one has neighbours averaged."""

WIDTH, HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 54, 40


@dataclass(frozen=True, slots=True)
class Point:
    """One point, with its interval where one is known."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass
class Curve:
    """Averages of at most `POINTS` runs of neighbouring values, as they come."""

    every: int = 1
    buckets: list[list[float]] = field(default_factory=list)

    def add(self, x: float, y: float) -> None:
        """One more value; numbers that are not finite are left out."""
        if not (math.isfinite(x) and math.isfinite(y)):
            return
        if self.buckets and self.buckets[-1][2] < self.every:
            last = self.buckets[-1]
            last[0], last[1], last[2] = last[0] + x, last[1] + y, last[2] + 1
        else:
            self.buckets.append([x, y, 1])
        if len(self.buckets) > POINTS:
            pairs = [self.buckets[i : i + 2] for i in range(0, len(self.buckets), 2)]
            self.buckets = [[sum(column) for column in zip(*pair, strict=True)] for pair in pairs]
            self.every *= 2

    @property
    def points(self) -> list[Point]:
        return [Point(x / n, y / n) for x, y, n in self.buckets]


def chart(
    title: str, unit: str, lines: Mapping[str, Sequence[Point]], percent: bool = False, x_name: str = "self-play step"
) -> Markup:
    """One chart. `percent`: y is a share, drawn from 0 to 100. Empty where no line has a point."""
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

    def at(x: float, y: float) -> tuple[str, str]:
        across = (x - x_low) / ((x_high - x_low) or 1) * (WIDTH - _LEFT - _RIGHT)
        up = (y - y_low) / ((y_high - y_low) or 1) * (HEIGHT - _TOP - _BOTTOM)
        return f"{_LEFT + across:.1f}", f"{HEIGHT - _BOTTOM - up:.1f}"

    def text(kind: str, place: str, words: object) -> str:
        return f'<text class="{kind}" {place}>{escape(words)}</text>'

    name = escape(title)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}"><title>{name}</title>']
    parts.append(text("title", 'x="4" y="16"', title))
    for tick in y_ticks:
        _, y = at(x_low, tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(text("tick", f'text-anchor="end" x="{_LEFT - 6}" y="{y}" dy="4"', f"{tick:g}"))
    for tick in x_ticks:
        x, _ = at(tick, y_low)
        parts.append(text("tick", f'text-anchor="middle" x="{x}" y="{HEIGHT - _BOTTOM + 16}"', f"{tick:g}"))
    across, down = (_LEFT + WIDTH - _RIGHT) // 2, (_TOP + HEIGHT - _BOTTOM) // 2
    parts.append(text("axis", f'text-anchor="middle" x="{across}" y="{HEIGHT - 6}"', x_name))
    parts.append(text("axis", f'text-anchor="middle" transform="translate(12 {down}) rotate(-90)"', unit))
    room = (WIDTH - 8) / max(3, len(lines))
    for place, (name, points) in enumerate(lines.items()):
        own = look(name, place)
        colour, dash = own.colour, " ".join(f"{length:g}" for length in own.dash)
        drawn = [at(p.x, scale * p.y) for p in points]
        for p in points:
            if p.low is not None and p.high is not None:
                (x, top), (_, foot) = at(p.x, scale * p.high), at(p.x, scale * p.low)
                parts.append(f'<line x1="{x}" x2="{x}" y1="{top}" y2="{foot}" stroke="{colour}" stroke-opacity=".4"/>')
        stroke = f'stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dash or "none"}"'
        parts.append(f'<polyline fill="none" {stroke} points="{" ".join(",".join(p) for p in drawn)}"/>')
        if len(points) <= 20:
            parts += [f'<circle cx="{x}" cy="{y}" r="2.6" fill="{colour}"/>' for x, y in drawn]
        left = 4 + place * room
        parts.append(f'<rect x="{left:.0f}" y="28" width="14" height="4" fill="{colour}"/>')
        parts.append(text("tick", f'x="{left + 18:.0f}" y="34"', _short(name, int((room - 22) / 5.6))))
    return Markup("".join([*parts, "</svg>"]))


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


def _short(text: str, most: int) -> str:
    """The end of a long name: of a path it says the most."""
    return text if len(text) <= most else "…" + text[1 - max(2, most) :]
