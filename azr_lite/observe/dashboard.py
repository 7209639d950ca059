"""A run as it goes on: `azr-lite watch` in a terminal of 80 columns and 24 lines, and a picture in a notebook.

Nothing is drawn that has not changed. The picture is an image with a line of text for those who do not see it: no
widget, no script, nothing that a saved notebook could lose. It stays when the run has ended.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from azr_lite.errors import ConfigError
from azr_lite.metrics import STAGES, mean
from azr_lite.observe.reader import Curve, Followed, Line, Point, open_run
from azr_lite.observe.style import figure, in_notebook, line, look, picture, png, printable, style
from azr_lite.pace import clock
from azr_lite.progress import spark
from azr_lite.rundir import RunDir

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = {
    "solve/*/ok": ("solved in training", "%"),
    "propose/*/reward": ("proposer's reward", ""),
    "propose/*/solve_rate": ("tasks' solve rate", "%"),
    "propose/*/ok": ("valid proposals", "%"),
    "solve/*/tokens": ("solver's tokens", ""),
    "entropy": ("entropy", ""),
    "grad_norm": ("gradient norm", ""),
}
"""Key: its name on the screen, and how its ends are printed."""
COLUMNS = {
    "reward": ("reward", "{:8.2f}"),
    "reward_std": ("spread", "{:8.2f}"),
    "ok": ("right", "{:7.0%}"),
    "well_formed": ("form", "{:7.0%}"),
    "truncated": ("cut", "{:6.0%}"),
    "tokens": ("tokens", "{:8.1f}"),
    "advantage_std": ("adv.", "{:6.2f}"),
    "loss_share": ("loss", "{:7.0%}"),
}
"""Number of a (role, type): its heading and form in the table of the last step."""
STYLES = {"running": "green", "finished": "bold green", "stopped": "yellow", "starting": "cyan"}


def screen(run: Followed) -> Group:
    """The 24 lines. Pure: the same state gives the same lines."""
    headings = "".join(f" {name:>{len(form.format(0.0)) - 1}}" for name, form in COLUMNS.values())
    groups = [f"{role}/{name}" for name in run.config.task_types for role in ("propose", "solve")]
    outcomes = sorted((key for key in run.last if key.startswith("executor/")), key=lambda key: -run.last[key])
    buffers = []
    for name in run.config.task_types:
        size, age = run.last.get(f"buffer/{name}"), run.last.get(f"buffer/{name}/age")
        if size is not None:
            buffers.append(f"{name} {size:.0f}" + ("" if age is None else f" ({age:.1f})"))
    full = round(80 * min(1.0, run.done / run.config.steps))
    left = f" left {run.left}" if run.left else ""
    place = f" {run.done}/{run.config.steps} steps  "
    name = Text(printable(str(run.run.path)).replace("\n", " "), "bold")
    name.truncate(80 - len(place) - len(run.state) - len(left), overflow="ellipsis", pad=True)
    lines = [
        Text.assemble(name, place, (run.state, STYLES.get(run.state, "yellow")), left),
        Text.assemble(("━" * full, "green"), ("━" * (80 - full), "dim")),
        Text(),
        Text(f"  {'over training':20} {'':36} {'first':>8} {'last':>8}", "dim"),
        _curve("held-out accuracy", [point.y for point in run.held_out.get("all", [])], "%"),
        *(_curve(name, run.curves.get(key, Curve()).values, unit) for key, (name, unit) in CURVES.items()),
        Text(),
        Text(f"  {'last step':20}{headings}", "dim"),
        *(_group(group, run) for group in groups[:6]),
        _labelled("buffer (age)", buffers),
        _labelled("executor", [f"{key.removeprefix('executor/')} {run.last[key]:.0f}" for key in outcomes]),
        _labelled("cost", _cost(run.last_times)),
        Text(f"  {to_look_at(run)}", "red" if run.unhealthy() else "dim"),
    ]
    for row in lines:
        row.no_wrap = True
        row.truncate(80, overflow="ellipsis")
    return Group(*lines[:24])


def _curve(name: str, values: Sequence[float], unit: str) -> Text:
    if not values:
        return Text.assemble(f"  {name:20} ", ("not yet", "dim"))
    shown = [f"{100 * v:.1f} %" if unit == "%" else f"{v:.3g}" for v in (values[0], values[-1])]
    return Text.assemble(f"  {name:20} ", (f"{spark(values, 36):36}", "cyan"), f" {shown[0]:>8} {shown[1]:>8}")


def _group(group: str, run: Followed) -> Text:
    text = Text(f"  {group.replace('/', ' '):20}")
    if f"{group}/reward" not in run.last:
        return text.append(" not yet", "dim")
    unhealthy = run.unhealthy()
    for name, (_, form) in COLUMNS.items():
        key, width = f"{group}/{name}", len(form.format(0.0))
        shown = form.format(run.last[key]) if key in run.last else "-".rjust(width)
        if key in unhealthy:  # a mark too: not everybody sees red
            shown = f"!{shown.strip()}".rjust(width)
        text.append(shown, "bold red" if key in unhealthy else "")
    return text


def _labelled(label: str, parts: Sequence[str]) -> Text:
    return Text.assemble((f"  {label:9} ", "dim"), "  ".join(parts))


def _cost(times: Line) -> list[str]:
    total = sum(times.get(name, 0.0) for name in STAGES)
    if not total:
        return ["no times were kept"]
    parts = [f"{total:.1f} s: " + " ".join(f"{name} {times.get(name, 0.0) / total:.0%}" for name in STAGES[:3])]
    units = {"tokens_per_s": "tok/s", "memory_mib": "MiB"}
    return parts + [f"{times[name]:.0f} {unit}" for name, unit in units.items() if name in times]


def to_look_at(run: Followed) -> str:
    """The numbers outside their healthy range, in a line."""
    if not run.last:
        return "waiting for the first step"
    found = [f"{key} {value:.2g}" for key, value in run.unhealthy().items()]
    if not found:
        return "all numbers are in their healthy range; azr-lite show NAME explains one"
    return f"{len(found)} to look at: {', '.join(found[:2])}"


def watch(path: str | Path, interval: float = 1.0, console: Console | None = None) -> None:
    """Follow a run until it ends or Ctrl-C is pressed. Without a terminal that can move its cursor: one picture.

    Raises RunDirectoryError.
    """
    run = Followed(open_run(path))
    console = console or Console(highlight=False)
    if console.is_terminal and not console.is_dumb_terminal and not run.ended:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that the terminal is given back
        with suppress(KeyboardInterrupt), Live(console=console, screen=True, auto_refresh=False) as live:
            shown: object = None
            while not run.ended:
                drawn = screen(run)
                state = (console.size, *(row.plain for row in drawn.renderables))
                if state != shown:
                    live.update(drawn, refresh=True)
                    shown = state
                time.sleep(interval)
                run.look()
        if not run.ended:
            console.print("watch closed; the run goes on without it", style="dim")
            return
    console.print(screen(run))


# ---------------------------------------------------------------- in a notebook


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
            found = {name: points for name, points in run.by_type(self.lines).items() if name != "all"}
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
    Panel("Entropy", "nats per token", {"entropy": "entropy"}, look_of="all"),
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
    """The picture in words: its titles, which state what was found."""
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
    made, axes = figure(3, 3, (12.5, 7.4))
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
    points, percent = panel.points(run), " %" if panel.unit == "share" else ""
    ends = {label: (panel.scale * own[0].y, panel.scale * own[-1].y) for label, own in points.items()}
    if not points:
        found = "not logged" if run.ended else "nothing logged yet"
    elif panel is HELD_OUT:
        newest = points["all"][-1]
        interval = "" if newest.low is None else f" [{100 * newest.low:.0f}, {100 * newest.high:.0f}]"
        found = _change(*ends["all"], percent) + interval
    elif panel.title == "Time of a step":
        found = f"{sum(last for _, last in ends.values()):.1f} s"
    elif isinstance(panel.lines, dict) and len(panel.lines) > 1:
        named = [f"{label} {_change(*own, percent)}" for label, own in list(ends.items())[:2]]
        found = ", ".join(named).replace(" %,", ",")
    else:
        change = _change(*(mean(values) for values in zip(*ends.values(), strict=True)), percent)
        found = f"mean {change}" if len(ends) > 1 else change
    return f"{panel.title}: {found}"


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
        known, grey = [p for p in points["all"] if p.low is not None], look("all").colour
        low, high = [100 * p.low for p in known], [100 * p.high for p in known]
        axis.fill_between([p.x for p in known], low, high, color=grey, alpha=0.2, lw=0)
        level = 100 * points["all"][0].y
        axis.axhline(level, color=grey, linewidth=1.0, linestyle=(0, (1, 2)), label="no update")
    if panel.unit == "share":
        axis.set_ylim(0, 100)
    elif all(p.y >= 0 for own in points.values() for p in own):
        axis.set_ylim(bottom=0)
    if len(axis.get_lines()) > 1:
        place = {"loc": "lower left", "bbox_to_anchor": (-0.01, 0.985), "ncols": 5, "borderpad": 0}
        axis.legend(**place, handlelength=1.9, columnspacing=0.8, handletextpad=0.3)
