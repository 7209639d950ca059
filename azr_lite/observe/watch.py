"""`azr-lite watch`: one screen of 80 columns and 24 lines that follows a run. Nothing is drawn that has not changed."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from azr_lite.metrics import STAGES
from azr_lite.observe.follow import Followed
from azr_lite.observe.reader import Line, open_run
from azr_lite.observe.style import printable
from azr_lite.progress import spark

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
    buffers = [_buffer(name, run.last) for name in run.config.task_types if f"buffer/{name}" in run.last]
    outcomes = sorted((key for key in run.last if key.startswith("executor/")), key=lambda key: -run.last[key])
    full = round(80 * min(1.0, run.done / run.config.steps))
    lines = [
        _head(run),
        Text.assemble(("━" * full, "green"), ("━" * (80 - full), "dim")),
        Text(),
        Text(f"  {'over training':20} {'':36} {'first':>8} {'last':>8}", "dim"),
        _curve("held-out accuracy", [point.y for point in run.held_out.get("all", [])], "%"),
        *(_curve(name, run.values(key), unit) for key, (name, unit) in CURVES.items()),
        Text(),
        Text(f"  {'last step':20}{headings}", "dim"),
        *(_group(group, run) for group in groups[:6]),
        _labelled("buffer (age)", buffers),
        _labelled("executor", [f"{key.removeprefix('executor/')} {run.last[key]:.0f}" for key in outcomes]),
        _labelled("cost", _cost(run.last_times)),
        Text(f"  {to_look_at(run)}", "red" if run.unhealthy() else "dim"),
    ]
    for line in lines:
        line.no_wrap = True
        line.truncate(80, overflow="ellipsis")
    return Group(*lines[:24])


def _head(run: Followed) -> Text:
    left = f" left {run.left}" if run.left else ""
    place = f" {run.done}/{run.config.steps} steps  "
    name = Text(printable(str(run.run.path)).replace("\n", " "), "bold")
    name.truncate(80 - len(place) - len(run.state) - len(left), overflow="ellipsis", pad=True)
    return Text.assemble(name, place, (run.state, STYLES.get(run.state, "yellow")), left)


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


def _buffer(name: str, last: Line) -> str:
    age = last.get(f"buffer/{name}/age")
    return f"{name} {last[f'buffer/{name}']:.0f}" + ("" if age is None else f" ({age:.1f})")


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
    found = run.unhealthy()
    if not found:
        return "all numbers are in their healthy range; azr-lite show NAME explains one"
    return f"{len(found)} to look at: " + ", ".join(f"{key} {value:.2g}" for key, value in list(found.items())[:2])


def watch(path: str | Path, interval: float = 1.0, console: Console | None = None) -> int:
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
                picture = screen(run)
                state = (console.size, *(line.plain for line in picture.renderables))
                if state != shown:
                    live.update(picture, refresh=True)
                    shown = state
                time.sleep(interval)
                run.look()
                run.check_there()
        if not run.ended:
            console.print("watch closed; the run goes on without it", style="dim")
            return 0
    console.print(screen(run))
    return 0
