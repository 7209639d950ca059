"""A picture in a notebook that follows a run, and stays as a plain PNG when the run has ended.

It is an image with a line of text for those who do not see it: no widget, no script, nothing that a saved notebook
could lose.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from azr_lite.errors import ConfigError
from azr_lite.metrics import STAGES, Metric, mean, metric_of
from azr_lite.observe.follow import Curve, Followed
from azr_lite.observe.rollouts import printable
from azr_lite.observe.style import figure, in_notebook, line, look, picture, png, style
from azr_lite.observe.watch import to_look_at
from azr_lite.progress import clock
from azr_lite.rundir import RunDir

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARE_OF_TIME = 0.2
"""Drawing takes at most this share of one core, which the run may need itself."""

WIDEST = 50
"""Characters of a title that fit over a panel."""

UNHEALTHY = "#F6E7E4"
"""Ground of what lies outside of a number's healthy range."""


@dataclass(frozen=True)
class Panel:
    """One chart. `lines`: label and logged key of each; {type} makes one line per type, * the mean over types.

    `look_of`: the name whose look the lines have, where it is not their label.
    """

    title: str
    lines: Mapping[str, str]
    look_of: str = ""

    @property
    def metric(self) -> Metric:
        """The row of the catalogue that gives unit and healthy range."""
        key = next(iter(self.lines.values())).replace("{type}", "deduction").replace("*", "deduction")
        row = metric_of(key)
        assert row is not None, key
        return row

    def curves(self, run: Followed) -> dict[str, Curve]:
        """The curves that the run has of it, by label."""
        keys = {
            label.format(type=name): key.format(type=name)
            for label, key in self.lines.items()
            for name in run.config.task_types
        }
        return {label: run.curves[key] for label, key in keys.items() if key in run.curves and run.curves[key].buckets}


PANELS: tuple[Panel, ...] = (
    Panel("Solve rate of new tasks", {"{type}": "propose/{type}/solve_rate"}),
    Panel("Proposals", {"valid": "propose/*/ok", "learnable": "propose/*/learnable"}),
    Panel("Reward", {"propose": "propose/*/reward", "solve": "solve/*/reward"}),
    Panel("Reply length", {"propose": "propose/*/tokens", "solve": "solve/*/tokens"}),
    Panel("Entropy", {"entropy": "entropy"}, look_of="all"),
    Panel("Gradient norm", {"gradient norm": "grad_norm"}, look_of="all"),
    Panel("Time of a step", {stage: stage for stage in STAGES}),
    Panel("Sampling", {"sampling speed": "tokens_per_s"}, look_of="generate"),
)
"""The charts after the first, which is held-out accuracy."""


def dashboard(run: RunDir, refresh_s: float = 2.0, once: bool = False) -> Figure | None:
    """Follow a run in a notebook; the arguments are those of `Run.dashboard`. Raises RunDirectoryError, ConfigError."""
    if not refresh_s > 0:
        raise ConfigError(f"refresh_s is {refresh_s}; it must be more than 0 seconds")
    if not in_notebook():
        return draw(Followed(run))
    from IPython.display import display

    try:
        followed, handle, shown = Followed(run), None, ""
        while True:
            began, state = time.perf_counter(), description(followed)
            if state != shown:
                data, about, shown = *picture(png(draw(followed)), state, state), state
                if handle is None:
                    handle = display(data, metadata=about, raw=True, display_id=True)
                else:
                    handle.update(data, metadata=about, raw=True)
            if once or followed.ended or followed.given_up:
                return None
            time.sleep(max(refresh_s, (time.perf_counter() - began) / SHARE_OF_TIME))
            followed.look()
    except KeyboardInterrupt:  # the square button: the last picture stays, the run goes on
        return None


def description(run: Followed) -> str:
    """The picture in words: the same titles, which state what was found."""
    panels = [_title(panel, panel.curves(run), run) for panel in PANELS]
    return "; ".join([headline(run), _held_out_title(run), *panels]) + f". {to_look_at(run).plain.strip()}."


def headline(run: Followed) -> str:
    """Where the run stands, in a line."""
    name = printable(run.run.path.resolve().name).replace("\n", " ")
    place = f"{name}: {run.done} of {run.config.steps} steps"
    if run.given_up:
        return f"{place}, nothing written for {clock(run.quiet_s)}: killed or asleep, no longer followed"
    left = f", {run.left} left" if run.left and run.done else ""
    return f"{place}, {run.state}{left}"


def draw(run: Followed) -> Figure:
    """The picture of what is known now."""
    made, axes = figure(3, 3, (12.5, 9.0))
    made.get_layout_engine().set(rect=(0.005, 0.03, 0.985, 0.92), wspace=0.02, hspace=0.03)  # for headline and note
    with style():
        _held_out(axes[0], run)
        for axis, panel in zip(axes[1:], PANELS, strict=True):
            _draw_panel(axis, panel, run)
        for axis in axes:
            axis.set_xlim(-0.02 * max(1, run.done), 1.03 * max(1, run.done))
            axis.xaxis.get_major_locator().set_params(integer=True)
        for axis in axes[-3:]:
            axis.set_xlabel("self-play step")
        made.text(0.012, 0.972, headline(run), fontsize=13, fontweight="bold")
        note = f"{to_look_at(run).plain.strip()}. Tinted ground: outside of the healthy range."
        made.text(0.012, 0.012, note, color="#444444")
    return made


def _change(first: float, last: float, percent: bool) -> str:
    """The text of a change, "first → last"; one number where both print alike."""
    form = "{:.0f}" if percent else "{:,.0f}" if abs(last) >= 100 else "{:.2g}"
    scale = 100.0 if percent else 1.0
    ends = dict.fromkeys(form.format(scale * value) for value in (first, last))
    return " → ".join(ends) + (" %" if percent else "")


def _held_out_title(run: Followed) -> str:
    points = run.held_out.get("all", [])
    if not points:
        return "Held-out accuracy: no evaluation yet"
    first, last = points[0], points[-1]
    if last is first:
        return f"Held-out accuracy: {100 * first.y:.0f} % before training"
    interval = "" if last.low is None or last.high is None else f" [{100 * last.low:.0f}, {100 * last.high:.0f}]"
    return f"Held-out accuracy: {_change(first.y, last.y, True)}{interval}"


def _held_out(axis: Any, run: Followed) -> None:
    """Held-out accuracy with its 95 % interval, by type, and the first evaluation as the level of no update."""
    axis.set_title(_held_out_title(run), pad=17)
    axis.set_ylabel("right, %")
    axis.set_ylim(0, 100)
    for place, (of, points) in enumerate(run.held_out.items()):
        thin = {} if of == "all" else {"linewidth": 1.0, "markersize": 3.5}
        line(axis, of, [p.x for p in points], [100 * p.y for p in points], place, **thin)
    if overall := run.held_out.get("all"):
        known, grey = [p for p in overall if p.low is not None and p.high is not None], look("all").colour
        low, high = [100 * p.low for p in known], [100 * p.high for p in known]
        axis.fill_between([p.x for p in known], low, high, color=grey, alpha=0.2, lw=0)
        axis.axhline(100 * overall[0].y, color=grey, linewidth=1.0, linestyle=(0, (1, 2)), label="no update")
        _legend(axis)


def _title(panel: Panel, curves: Mapping[str, Curve], run: Followed) -> str:
    """What the panel found: first and last values; of several lines the mean, or each by name where there are two."""
    if not curves:
        return f"{panel.title}: {'not kept' if run.ended else 'nothing logged yet'}"
    percent = panel.metric.unit == "share"
    ends = {label: (curve.points[0].y, curve.points[-1].y) for label, curve in curves.items()}
    if panel.title == "Time of a step":
        return f"Time of a step: {sum(last for _, last in ends.values()):.1f} s"
    if panel.title == "Sampling":
        speed = f"Sampling: {ends['sampling speed'][1]:,.0f} tokens/s"
        return speed if run.ended or run.given_up else f"{speed}, {run.left} left"
    if len(ends) == 2:
        changes = ", ".join(f"{label} {_change(first, last, percent)}" for label, (first, last) in ends.items())
        named = f"{panel.title}: {changes.replace(' %,', ',')}"
        if len(named) <= WIDEST:
            return named
    first, last = (mean([own[end] for own in ends.values()]) for end in (0, 1))
    return f"{panel.title}: {'mean ' if len(ends) > 1 else ''}{_change(first, last, percent)}"


def _draw_panel(axis: Any, panel: Panel, run: Followed) -> None:
    curves, row = panel.curves(run), panel.metric
    percent = row.unit == "share"
    scale = 100.0 if percent else 1.0
    axis.set_title(_title(panel, curves, run), pad=17 if len(curves) > 1 else 8)
    axis.set_ylabel("share, %" if percent else row.unit)
    for place, (label, curve) in enumerate(curves.items()):
        xs, ys = [p.x for p in curve.points], [scale * p.y for p in curve.points]
        line(axis, panel.look_of or label, xs, ys, place, label=label)
    if not curves:
        axis.set_yticks([])
        return
    if percent:
        axis.set_ylim(0, 100)
    else:
        least = min(point.y for curve in curves.values() for point in curve.points)
        axis.set_ylim(bottom=0.0 if least >= 0 else None)
    low, high = axis.get_ylim()
    least, most = (bound if bound is None else scale * bound for bound in (row.low, row.high))
    for start, end in ((low, least), (most, high)):
        if start is not None and end is not None and start < end:  # as far as it is in sight
            axis.axhspan(start, end, color=UNHEALTHY, zorder=0, linewidth=0)
    axis.set_ylim(low, high)
    if len(curves) > 1:
        _legend(axis)


def _legend(axis: Any) -> None:
    """Above the axes, where it hides no line and does not jump about."""
    place = {"loc": "lower left", "bbox_to_anchor": (-0.01, 0.985), "ncols": 5, "borderpad": 0}
    axis.legend(**place, handlelength=1.9, columnspacing=0.8, handletextpad=0.3)
