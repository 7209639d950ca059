"""`azr-lite watch`: one screen of 80 columns and 24 lines that follows a run. Nothing is drawn that has not changed."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from azr_lite.metrics import STAGES
from azr_lite.observe.follow import Followed
from azr_lite.observe.reader import open_run
from azr_lite.observe.rollouts import printable
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
    headings = " ".join(f"{name:>{len(form.format(0.0)) - 1}}" for name, form in COLUMNS.values())
    accuracies = [point.y for point in run.held_out.get("all", [])]
    groups = [f"{role}/{name}" for name in run.config.task_types for role in ("propose", "solve")]
    lines = [
        *_head(run),
        Text(),
        Text(f"  {'over training':20} {'':36} {'first':>8} {'last':>8}", "dim"),
        _curve("held-out accuracy", accuracies, "%", "none"),
        *(_curve(name, run.values(key), unit, "not yet") for key, (name, unit) in CURVES.items()),
        Text(),
        Text(f"  {'last step':20} {headings}", "dim"),
        *(_group(group, run) for group in groups[:6]),
        _labelled("buffer (age)", _buffers(run)),
        _labelled("executor", _executor(run.last)),
        _cost(run.last_times),
        to_look_at(run),
    ]
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
        line.truncate(80, overflow="ellipsis")
    return Group(*lines[:24])


def _head(run: Followed) -> list[Text]:
    steps, done, state = run.config.steps, run.done, run.state
    left = f" left {run.left}" if run.left else ""
    place = f"{done}/{steps} steps  "
    width = 79 - len(place) - len(state) - len(left)  # an ideograph fills two columns
    name = printable(str(run.run.path)).replace("\n", " ")
    while cell_len(name) > width:
        name = "…" + name[2:]
    name = set_cell_size(name, width)
    head = Text.assemble((f"{name} ", "bold"), place, (state, STYLES.get(state, "yellow")), left)
    full = round(80 * min(1.0, done / steps))
    return [head, Text.assemble(("━" * full, "green"), ("━" * (80 - full), "dim"))]


def _curve(name: str, values: Sequence[float], unit: str, without: str) -> Text:
    if not values:
        return Text.assemble(f"  {name:20} ", (without, "dim"))
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


def _labelled(label: str, words: str, look: str = "") -> Text:
    return Text.assemble((f"  {label:9} ", "dim"), (words, look))


def _buffers(run: Followed) -> str:
    parts = []
    for name in run.config.task_types:
        size, age = run.last.get(f"buffer/{name}"), run.last.get(f"buffer/{name}/age")
        if size is not None:
            parts.append(f"{name} {size:.0f}" + ("" if age is None else f" ({age:.1f})"))
    return "  ".join(parts)


def _executor(last: Mapping[str, float]) -> str:
    counts = {key.removeprefix("executor/"): value for key, value in last.items() if key.startswith("executor/")}
    return "  ".join(f"{kind} {count:.0f}" for kind, count in sorted(counts.items(), key=lambda item: -item[1]))


def _cost(times: Mapping[str, float]) -> Text:
    total = sum(times.get(name, 0.0) for name in STAGES)
    if not total:
        return _labelled("cost", "no times were kept", "dim")
    parts = [f"{total:.1f} s:", *(f"{name} {times.get(name, 0.0) / total:.0%}" for name in STAGES[:3])]
    parts += [f" {times['tokens_per_s']:.0f} tok/s"] if "tokens_per_s" in times else []
    parts += [f" {times['memory_mib']:.0f} MiB"] if "memory_mib" in times else []
    return _labelled("cost", " ".join(parts))


def to_look_at(run: Followed) -> Text:
    """The numbers outside their healthy range, in a line."""
    if not run.last:
        return Text("  waiting for the first step", "dim")
    found = run.unhealthy()
    if not found:
        return Text("  all numbers are in their healthy range; azr-lite show NAME explains one", "dim")
    named = ", ".join(f"{key} {value:.2g}" for key, value in list(found.items())[:2])
    return Text(f"  {len(found)} to look at: {named}", "red")


def watch(path: str | Path, interval: float = 1.0, console: Console | None = None) -> int:
    """Follow a run until it ends or q or Ctrl-C is pressed. Without a terminal that can move its cursor: one picture.

    Raises RunDirectoryError.
    """
    run = Followed(open_run(path))
    console = console or Console(highlight=False)
    if console.is_terminal and not console.is_dumb_terminal and not run.ended:
        with suppress(KeyboardInterrupt), _keys() as pressed:
            _follow(run, interval, console, pressed)
        if not run.ended:
            console.print("watch closed; the run goes on without it", style="dim")
            return 0
    console.print(screen(run))
    return 0


def _follow(run: Followed, interval: float, console: Console, pressed: Callable[[float], str]) -> None:
    """Draw what has changed until the run ends or a key says so."""
    shown: tuple[Any, ...] = ()
    with Live(console=console, screen=True, auto_refresh=False, transient=True) as live:
        while not run.ended:
            picture = screen(run)
            state = (*(line.plain for line in picture.renderables), console.size)
            if state != shown:
                live.update(picture, refresh=True)
                shown = state
            if pressed(interval) in ("q", "Q", "\x03", "\x1b"):
                return
            run.look()
            run.check_there()


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """A function that waits so many seconds for a key and returns it, or nothing. The terminal is restored.

    SIGTERM ends the view as Ctrl-C does, so that the terminal is given back.
    """
    on_terminated = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if not sys.stdin.isatty() or sys.platform == "win32":  # which has no termios; Ctrl-C ends the view
            yield lambda seconds: time.sleep(seconds) or ""
            return
        import termios
        import tty

        handle = sys.stdin.fileno()

        def pressed(seconds: float) -> str:
            ready, _, _ = select.select([handle], [], [], seconds)
            return os.read(handle, 1).decode(errors="replace") if ready else ""

        before = termios.tcgetattr(handle)
        try:
            tty.setcbreak(handle)
            yield pressed
        finally:
            termios.tcsetattr(handle, termios.TCSADRAIN, before)
    finally:
        signal.signal(signal.SIGTERM, on_terminated)
