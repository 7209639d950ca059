"""`dashboard(run)`: a picture in a notebook that follows a run, and stays as a plain PNG when the run has ended.

Comes in: a run directory, being written or ended.  Goes out: one output of the cell, renewed in place; outside of a notebook a `Figure`.
Not covered: reading logs (`watch.View` does it, bounded in memory), colours (`style.py`), the terminal's screen (`watch.py`).

The picture is a plain image with a line of text for those who do not see it: no widget, no script, nothing that a saved notebook could lose.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azr_lite.errors import ConfigError, RunDirectoryError
from azr_lite.metrics import STAGES, mean
from azr_lite.observe.catalogue import Metric, metric_of
from azr_lite.observe.figures import Curve
from azr_lite.observe.rollouts import printable
from azr_lite.observe.style import figure, line, look, png, style
from azr_lite.observe.surroundings import in_notebook, picture
from azr_lite.observe.watch import View, findings
from azr_lite.progress import clock

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PATIENCE_S = 600.0
"""Following ends when no file of the run has changed for this long (or for thirty steps, where steps are slow)."""

SHARE_OF_TIME = 0.2
"""Drawing takes at most this share of one core, which the run may need itself."""

WIDEST = 50
"""Characters of a title that fit over a panel."""

MARGINS = {"left": 0.052, "right": 0.99, "bottom": 0.085, "top": 0.9, "wspace": 0.2, "hspace": 0.36}
"""Of the picture, as shares of it and of a panel; those beside the panels are the least (`_make_room`)."""

SICK = "#F6E7E4"
"""Ground of what lies outside of a number's healthy range."""


@dataclass(frozen=True)
class Panel:
    """One chart. `lines`: label and logged key of each; {type} makes a line of every type, * the mean over types. `wears`: whose look."""

    title: str
    lines: Mapping[str, str]
    file: str = "metrics.jsonl"
    wears: str = ""

    @property
    def metric(self) -> Metric:
        """The row of the catalogue that gives unit and healthy range."""
        key = next(iter(self.lines.values())).replace("{type}", "deduction").replace("*", "deduction")
        row = metric_of(key, self.file)
        assert row is not None, key
        return row


PANELS: tuple[Panel, ...] = (
    Panel("Solve rate of new tasks", {"{type}": "propose/{type}/solve_rate"}),
    Panel("Proposals", {"valid": "propose/*/ok", "learnable": "propose/*/learnable"}),
    Panel("Reward", {"propose": "propose/*/reward", "solve": "solve/*/reward"}),
    Panel("Reply length", {"propose": "propose/*/tokens", "solve": "solve/*/tokens"}),
    Panel("Entropy", {"entropy": "entropy"}, wears="all"),
    Panel("Gradient norm", {"gradient norm": "grad_norm"}, wears="all"),
    Panel("Time of a step", {stage: stage for stage in STAGES}, "timing.jsonl"),
    Panel("Sampling", {"sampling speed": "tokens_per_s"}, "timing.jsonl", wears="generate"),
)
"""The charts after the first, which is held-out accuracy."""


class Followed(View):
    """A `View` that keeps the curves of the panels too: at most 200 points each, neighbours averaged."""

    def _forget(self) -> None:
        super()._forget()
        self.drawn: dict[tuple[str, str], Curve] = {}

    def _forget_times(self) -> None:
        super()._forget_times()
        self.timed: dict[tuple[str, str], Curve] = {}

    def _take(self, line: dict[str, Any]) -> None:
        super()._take(line)
        self._keep("metrics.jsonl", self.drawn, line)

    def _take_times(self, line: dict[str, Any]) -> None:
        super()._take_times(line)
        self._keep("timing.jsonl", self.timed, line)

    def _keep(self, file: str, curves: dict[tuple[str, str], Curve], line: dict[str, Any]) -> None:
        types = self.config.task_types
        for panel in (panel for panel in PANELS if panel.file == file):
            for label, key in panel.lines.items():
                if "{type}" in key:
                    values = {name: [line.get(key.format(type=name))] for name in types}
                else:
                    values = {label: [line.get(key.replace("*", name)) for name in types]}
                for name, own in values.items():
                    if numbers := [value for value in own if isinstance(value, int | float)]:
                        curves.setdefault((panel.title, name), Curve()).add(line["step"] + 1, mean(numbers))

    def lines(self, panel: Panel) -> dict[str, Curve]:
        """The curves of one panel, by label."""
        curves = self.timed if panel.file == "timing.jsonl" else self.drawn
        return {label: curve for (title, label), curve in curves.items() if title == panel.title and curve.buckets}

    @property
    def quiet_s(self) -> float:
        """Seconds since a file of the run changed last; RunDirectoryError where the run is gone."""
        newest = 0.0
        for path in (self.run.path, self.run.path / "eval", *self.run.path.glob("*"), *self.run.path.glob("eval/*")):
            try:
                newest = max(newest, path.stat().st_mtime)
            except FileNotFoundError:  # there is no eval yet, or a temporary name that is renamed by now
                continue
        if not self.run.path.is_dir():
            raise RunDirectoryError(f"{self.run.path} is gone; it was moved or deleted while it was followed")
        return time.time() - newest

    @property
    def given_up(self) -> bool:
        """Whether the run has been quiet too long to be waited for."""
        return not self.ended and self.quiet_s > max(PATIENCE_S, 30 * mean(list(self.pace)))

    @property
    def headline(self) -> str:
        """Where the run stands, in a line."""
        name = printable(self.run.path.resolve().name).replace("\n", " ")
        place = f"{name}: {self.done} of {self.config.steps} steps"
        if self.ended:
            return f"{place}, {self.state}"
        if self.given_up:
            return f"{place}, nothing written for {clock(self.quiet_s)}: killed or asleep, no longer followed"
        left = f", {self.left} left" if self.pace and self.done else ""
        return f"{place}, {self.state}{left}"

    @property
    def left(self) -> str:
        """Time to the last step at the pace of the last twenty."""
        return clock(mean(list(self.pace)) * max(0, self.config.steps - self.done))


def dashboard(run: str | Path, refresh_s: float = 2.0, once: bool = False) -> Figure | None:
    """Follow a run in a notebook until it ends, falls silent for ten minutes, or the kernel is interrupted; the last picture stays.

    `once`: draw and return. Outside of a notebook it draws once and returns the `Figure`. Raises RunDirectoryError, ConfigError.
    """
    if not refresh_s > 0:
        raise ConfigError(f"refresh_s is {refresh_s}; it must be more than 0 seconds")
    if not in_notebook():
        return draw(Followed(run))
    from IPython.display import display

    try:
        view, handle, shown = Followed(run), None, ""
        while True:
            began, state = time.perf_counter(), description(view)
            if state != shown:
                data, about, shown = *picture(png(draw(view)), state, state), state
                if handle is None:
                    handle = display(data, metadata=about, raw=True, display_id=True)
                else:
                    handle.update(data, metadata=about, raw=True)
            if once or view.ended or view.given_up:
                return None
            time.sleep(max(refresh_s, (time.perf_counter() - began) / SHARE_OF_TIME))
            view.look()
    except KeyboardInterrupt:  # the square button: the last picture stays, the run goes on
        return None


def description(view: Followed) -> str:
    """The picture in words: the same titles, which state what was found."""
    panels = [_title(panel, view.lines(panel), view) for panel in PANELS]
    return (
        "; ".join([view.headline, _held_out_title(view), *(title for title in panels if title)]) + "." + _look_at(view)
    )


def _look_at(view: Followed) -> str:
    return f" {findings(view.last).plain.strip()}."


def draw(view: Followed) -> Figure:
    """The picture of what is known now."""
    made, axes = figure(3, 3, size=(12.5, 9.0), margins=MARGINS)
    with style():
        _held_out(axes[0], view)
        for axis, panel in zip(axes[1:], PANELS, strict=True):
            _panel(axis, panel, view)
        for axis in axes:
            axis.set_xlim(-0.02 * max(1, view.done), 1.03 * max(1, view.done))
            axis.xaxis.get_major_locator().set_params(integer=True)
        for axis in axes[-3:]:
            axis.set_xlabel("self-play step")
        _make_room(made, axes)
        made.text(0.012, 0.972, view.headline, fontsize=13, fontweight="bold")
        made.text(
            0.012, 0.012, f"{_look_at(view).strip()} Tinted ground: outside of the healthy range.", color="#444444"
        )
    return made


def _make_room(made: Figure, axes: Sequence[Any]) -> None:
    """Wider margins where a panel's numbers are long: they push its label to the left, into the next panel or out of the picture."""
    renderer = made.canvas.get_renderer()
    needed = 4 + max(axis.bbox.x0 - axis.yaxis.get_tightbbox(renderer).x0 for axis in axes)
    left = max(MARGINS["left"], needed / made.bbox.width)
    panel = ((MARGINS["right"] - left) * made.bbox.width - 2 * needed) / 3
    made.subplots_adjust(left=left, wspace=max(MARGINS["wspace"], needed / panel))


def _change(first: float, last: float, percent: bool) -> str:
    """The text of a change, "first → last"; one number where both print alike."""
    form = "{:.0f}" if percent else "{:,.0f}" if abs(last) >= 100 else "{:.2g}"
    scale = 100.0 if percent else 1.0
    ends = dict.fromkeys(form.format(scale * value) for value in (first, last))
    return " → ".join(ends) + (" %" if percent else "")


def _held_out_title(view: Followed) -> str:
    points = view.held_out.get("all", [])
    if not points:
        return "Held-out accuracy: no evaluation yet"
    first, last = points[0], points[-1]
    if last is first:
        return f"Held-out accuracy: {100 * first.y:.0f} % before training"
    interval = "" if last.low is None or last.high is None else f" [{100 * last.low:.0f}, {100 * last.high:.0f}]"
    return f"Held-out accuracy: {_change(first.y, last.y, True)}{interval}"


def _held_out(axis: Any, view: Followed) -> None:
    """Held-out accuracy over all problems with its 95 % interval, by type, and the first evaluation as the level of no update."""
    axis.set_title(_held_out_title(view), pad=17)
    axis.set_ylabel("right, %")
    axis.set_ylim(0, 100)
    for place, (of, points) in enumerate(view.held_out.items()):
        thin = {} if of == "all" else {"linewidth": 1.0, "markersize": 3.5}
        line(axis, of, [p.x for p in points], [100 * p.y for p in points], place, **thin)
    if overall := view.held_out.get("all"):
        known = [p for p in overall if p.low is not None and p.high is not None]
        axis.fill_between(
            [p.x for p in known],
            [100 * p.low for p in known],
            [100 * p.high for p in known],
            color=look("all").colour,
            alpha=0.2,
            lw=0,
        )
        axis.axhline(
            100 * overall[0].y, color=look("all").colour, linewidth=1.0, linestyle=(0, (1, 2)), label="no update"
        )
        _legend(axis)


def _title(panel: Panel, lines: Mapping[str, Curve], view: Followed) -> str:
    """What the panel found: its first and last values; with several lines the mean, or each by name where there are two."""
    if not lines:
        return f"{panel.title}: {'not kept' if view.ended else 'nothing logged yet'}"
    percent, ends = panel.metric.unit == "share", {label: (c.points[0].y, c.points[-1].y) for label, c in lines.items()}
    if panel.title == "Time of a step":
        return f"Time of a step: {sum(last for _, last in ends.values()):.1f} s"
    if panel.title == "Sampling":
        speed = f"Sampling: {ends['sampling speed'][1]:,.0f} tokens/s"
        return speed if view.ended or view.given_up else f"{speed}, {view.left} left"
    if len(ends) == 2:
        changes = ", ".join(f"{label} {_change(first, last, percent)}" for label, (first, last) in ends.items())
        named = f"{panel.title}: {changes.replace(' %,', ',')}"
        if len(named) <= WIDEST:
            return named
    first, last = (mean([own[end] for own in ends.values()]) for end in (0, 1))
    return f"{panel.title}: {'mean ' if len(ends) > 1 else ''}{_change(first, last, percent)}"


def _panel(axis: Any, panel: Panel, view: Followed) -> None:
    lines, row = view.lines(panel), panel.metric
    percent = row.unit == "share"
    scale = 100.0 if percent else 1.0
    axis.set_title(_title(panel, lines, view), pad=17 if len(lines) > 1 else 8)
    axis.set_ylabel("share, %" if percent else row.unit)
    for place, (label, curve) in enumerate(lines.items()):
        points, own = curve.points, look(panel.wears or label, place)
        worn = {"color": own.colour, "marker": own.marker, "linestyle": own.linestyle}
        line(axis, label, [p.x for p in points], [scale * p.y for p in points], place, **worn)
    if not lines:
        axis.set_yticks([])
    elif percent:
        axis.set_ylim(0, 100)
    else:
        least = min(point.y for curve in lines.values() for point in curve.points)
        axis.set_ylim(bottom=0.0 if least >= 0 else None)
    low, high = axis.get_ylim()
    sick = [(low, scale * row.low)] if row.low is not None else []
    sick += [(scale * row.high, high)] if row.high is not None else []
    for start, end in sick if lines else ():
        if start < end:  # outside of the healthy range, as far as it is in sight
            axis.axhspan(start, end, color=SICK, zorder=0, linewidth=0)
    axis.set_ylim(low, high)
    if len(lines) > 1:
        _legend(axis)


def _legend(axis: Any) -> None:
    """Above the axes, where it hides no line and does not jump about."""
    axis.legend(
        loc="lower left",
        bbox_to_anchor=(-0.01, 0.985),
        ncols=5,
        borderpad=0,
        handlelength=1.9,
        columnspacing=0.8,
        handletextpad=0.3,
    )
