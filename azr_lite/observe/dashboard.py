"""A picture in a notebook that follows a run, and stays as a plain PNG when the run has ended.

It is an image with a line of text for those who do not see it: no widget, no script, nothing that a saved notebook
could lose.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from azr_lite.errors import ConfigError
from azr_lite.metrics import STAGES, mean
from azr_lite.observe.follow import Followed, Point
from azr_lite.observe.style import figure, in_notebook, line, look, picture, png, printable, style
from azr_lite.observe.watch import to_look_at
from azr_lite.pace import clock
from azr_lite.rundir import RunDir

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Panel:
    """One chart, of what has this `unit`; shares are drawn in percent.

    `lines`: label and logged key of each, where * is the mean over task types; or one such key, with a line per type.
    `look_of`: the name whose look the lines have, where it is not their label.
    """

    title: str
    unit: str
    lines: Mapping[str, str] | str
    look_of: str = ""

    @property
    def scale(self) -> float:
        return 100.0 if self.unit == "share" else 1.0

    def points(self, run: Followed) -> Mapping[str, Sequence[Point]]:
        """What the run has of it, by label."""
        if self is HELD_OUT:
            return run.held_out
        if isinstance(self.lines, str):
            found = {of: points for of, points in run.by_type(self.lines).items() if of != "all"}
        else:
            found = {label: run.curves[key].points for label, key in self.lines.items() if key in run.curves}
        return {label: points for label, points in found.items() if points}


HELD_OUT = Panel("Held-out accuracy", "share", "held_out/*/accuracy")
PANELS = (
    HELD_OUT,
    Panel("Solve rate of new tasks", "share", "propose/*/solve_rate"),
    Panel(
        "Proposals",
        "share",
        {"valid": "propose/*/ok", "learnable": "propose/*/learnable", "different": "propose/*/distinct_programs"},
    ),
    Panel("Reward", "reward, -1 to 1", {"propose": "propose/*/reward", "solve": "solve/*/reward"}),
    Panel("Reply length", "tokens", {"propose": "propose/*/tokens", "solve": "solve/*/tokens"}),
    Panel("Entropy", "nats a token", {"entropy": "entropy"}, look_of="all"),
    Panel("Gradient norm", "norm", {"gradient norm": "grad_norm"}, look_of="all"),
    Panel("Time of a step", "s", {stage: stage for stage in STAGES}),
    Panel("Sampling", "tokens/s", {"sampling speed": "tokens_per_s"}, look_of="generate"),
)


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
            time.sleep(max(refresh_s, 4 * (time.perf_counter() - began)))  # the run may need the core itself
            followed.look()
    except KeyboardInterrupt:  # the square button: the last picture stays, the run goes on
        return None


def description(run: Followed) -> str:
    """The picture in words: the same titles, which state what was found."""
    return f"{'; '.join([headline(run), *(_title(panel, run) for panel in PANELS)])}. {to_look_at(run)}."


def headline(run: Followed) -> str:
    """Where the run stands, in a line."""
    name = printable(run.run.path.resolve().name).replace("\n", " ")
    place = f"{name}: {run.done} of {run.config.steps} steps"
    if run.given_up:
        return f"{place}, nothing written for {clock(run.quiet_s)}: killed or asleep, no longer followed"
    return f"{place}, {run.state}" + (f", {run.left} left" if run.left and run.done else "")


def draw(run: Followed) -> Figure:
    """The picture of what is known now."""
    made, axes = figure(3, 3, (12.5, 9.0))
    made.get_layout_engine().set(rect=(0.005, 0.03, 0.985, 0.92), wspace=0.02, hspace=0.03)  # for headline and note
    with style():
        for axis, panel in zip(axes, PANELS, strict=True):
            _draw_panel(axis, panel, run)
            axis.set_xlim(-0.02 * max(1, run.done), 1.03 * max(1, run.done))
            axis.xaxis.get_major_locator().set_params(integer=True)
        for axis in axes[-3:]:
            axis.set_xlabel("self-play step")
        made.text(0.012, 0.972, headline(run), fontsize=13, fontweight="bold")
        made.text(0.012, 0.012, f"{to_look_at(run)}.", color="#444444")
    return made


def _title(panel: Panel, run: Followed) -> str:
    """What the panel found: first and last values; of lines with names the first two, else the mean."""
    points = panel.points(run)
    if not points:
        return f"{panel.title}: {'not logged' if run.ended else 'nothing logged yet'}"
    percent = " %" if panel.scale == 100.0 else ""
    ends = {label: (panel.scale * own[0].y, panel.scale * own[-1].y) for label, own in points.items()}
    if panel is HELD_OUT:
        newest = points["all"][-1]
        interval = "" if newest.low is None else f" [{100 * newest.low:.0f}, {100 * newest.high:.0f}]"
        return f"{panel.title}: {_change(*ends['all'], percent)}{interval}"
    if panel.title == "Time of a step":
        return f"{panel.title}: {sum(last for _, last in ends.values()):.1f} s"
    if isinstance(panel.lines, dict) and len(panel.lines) > 1:
        changes = ", ".join(f"{label} {_change(*own, percent)}" for label, own in list(ends.items())[:2])
        return f"{panel.title}: {changes.replace(' %,', ',')}"
    change = _change(*(mean(values) for values in zip(*ends.values(), strict=True)), percent)
    return f"{panel.title}: {'mean ' if len(ends) > 1 else ''}{change}"


def _change(first: float, last: float, percent: str) -> str:
    """The text of a change, "first → last"; one number where both print alike."""
    form = "{:.0f}" if percent else "{:,.0f}" if abs(last) >= 100 else "{:.2g}"
    return " → ".join(dict.fromkeys(form.format(value) for value in (first, last))) + percent


def _draw_panel(axis: Any, panel: Panel, run: Followed) -> None:
    points, scale = panel.points(run), panel.scale
    axis.set_title(_title(panel, run), pad=17)  # between title and panel is the legend
    axis.set_ylabel("share, %" if panel.unit == "share" else panel.unit)
    if not points:
        axis.set_yticks([])
        return
    for place, (label, own) in enumerate(points.items()):
        line(axis, panel.look_of or label, [p.x for p in own], [scale * p.y for p in own], place, label=label)
    if panel is HELD_OUT:
        _draw_interval(axis, points["all"])
    if panel.unit == "share":
        axis.set_ylim(0, 100)
    elif all(p.y >= 0 for own in points.values() for p in own):
        axis.set_ylim(bottom=0)
    if len(axis.get_lines()) > 1:
        place = {"loc": "lower left", "bbox_to_anchor": (-0.01, 0.985), "ncols": 5, "borderpad": 0}
        axis.legend(**place, handlelength=1.9, columnspacing=0.8, handletextpad=0.3)


def _draw_interval(axis: Any, points: Sequence[Point]) -> None:
    """The 95 % interval of held-out accuracy, and the first evaluation as the level of no update."""
    known, grey = [p for p in points if p.low is not None], look("all").colour
    low, high = [100 * p.low for p in known], [100 * p.high for p in known]
    axis.fill_between([p.x for p in known], low, high, color=grey, alpha=0.2, lw=0)
    axis.axhline(100 * points[0].y, color=grey, linewidth=1.0, linestyle=(0, (1, 2)), label="no update")
