"""`azr-lite watch`: one screen of 80 columns and 24 lines that follows a run.

Comes in: a run directory, being written or ended.  Goes out: a live screen on a terminal, one picture anywhere else.
Not covered: the notebook's dashboard and the report; single rollouts (`azr-lite show`).

Logs are read from where the last look ended; of the past only a fixed number of points is kept. Nothing is drawn that has not changed.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from azr_lite.errors import RunDirectoryError
from azr_lite.evaluation.results import evaluated_step
from azr_lite.metrics import STAGES, across, mean
from azr_lite.observe.catalogue import metric_of
from azr_lite.observe.figures import Point
from azr_lite.observe.reader import Tail, open_run
from azr_lite.observe.rollouts import printable
from azr_lite.progress import clock, spark

HISTORY = 4000
"""Points kept of each curve; older ones are thinned to every second."""

SILENT_S = 120.0
"""A run whose log has not grown for longer than this, and for longer than ten steps, is called silent."""

CURVES: tuple[tuple[str, str, str, str], ...] = (
    ("held-out accuracy", "", "", "%"),
    ("solved in training", "solve/", "/ok", "%"),
    ("proposer's reward", "propose/", "/reward", ""),
    ("tasks' solve rate", "propose/", "/solve_rate", "%"),
    ("valid proposals", "propose/", "/ok", "%"),
    ("solver's tokens", "solve/", "/tokens", ""),
    ("entropy", "entropy", "", ""),
    ("gradient norm", "grad_norm", "", ""),
)
"""Name, beginning and end of the metrics' keys whose mean is drawn, and how the ends are printed."""


class View:
    """What is known of a run so far; `look` reads what is new. RunDirectoryError where the run cannot be read."""

    def __init__(self, path: str | Path) -> None:
        self.run = open_run(path)
        self.config = self.run.config()
        self.metrics = Tail(self.run.path / "metrics.jsonl")
        self.timing = Tail(self.run.path / "timing.jsonl")
        self._forget()
        self._forget_times()
        self.look()

    def _forget(self) -> None:
        self.curves: dict[str, deque[float]] = {name: deque() for name, *_ in CURVES}
        self.every, self.last, self.seen = 1, {}, 0

    def _forget_times(self) -> None:
        self.pace: deque[float] = deque(maxlen=20)
        self.clock: dict[str, float] = {}

    def _take_times(self, line: dict[str, Any]) -> None:
        self._check(self.timing, line)
        self.pace.append(sum(line.get(name, 0.0) for name in STAGES))
        self.clock = line

    def look(self) -> None:
        """Read what the logs gained. A log that a resumed run has cut back is read anew."""
        again, lines = self.metrics.new()
        if again:
            self._forget()
        while lines:
            for line in lines:
                self._take(line)
            lines = self.metrics.new()[1]
        again, lines = self.timing.new()
        if again:
            self._forget_times()
        while lines:
            for line in lines:
                self._take_times(line)
            lines = self.timing.new()[1]
        self.held_out = self._held_out()
        self.curves["held-out accuracy"] = deque(point.y for point in self.held_out.get("all", []))
        summary = self.run.summary()
        self.summary = summary if summary is not None and summary.get("steps", 0) >= self.done else None

    def _check(self, log: Tail, line: dict[str, Any]) -> None:
        if wrong := [name for name, value in line.items() if not isinstance(value, int | float)]:
            raise RunDirectoryError(
                f"{log.path} is not in this azr_lite's form ({wrong[0]} is no number); use the version named in run.json"
            )

    def _take(self, line: dict[str, Any]) -> None:
        self._check(self.metrics, line)
        self.last, self.seen = line, self.seen + 1
        if self.seen % self.every:
            return
        for name, start, end, _ in CURVES[1:]:
            values = across(line, start, end) if end else [line[start]] if start in line else []
            if values:
                self.curves[name].append(mean(values))
        if len(self.curves[CURVES[1][0]]) > HISTORY:
            self.every *= 2
            self.curves = {name: deque(list(values)[::2]) for name, values in self.curves.items()}

    def _held_out(self) -> dict[str, list[Point]]:
        """Every evaluation made so far, over all problems and by type, with its interval where that was kept."""
        found: dict[int, dict[str, Point]] = {}
        for path in (self.run.path / "eval").glob("*.json"):
            try:
                step, scores = evaluated_step(path), json.loads(path.read_text(encoding="utf-8"))["scores"]
                kept = {of: scores[of] for of in ("all", *(of for of in self.config.task_types if of in scores))}
                found[step] = {
                    of: Point(step, float(own["accuracy"]), own.get("low"), own.get("high")) for of, own in kept.items()
                }
            except (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError):
                continue  # another suite's, or half-written
        if not found and (summary := self.run.summary()) is not None:
            found = {
                step: {"all": Point(step, accuracy)}
                for step, accuracy in summary.get("curves", {}).get("held-out accuracy", [])
            }
        points: dict[str, list[Point]] = {}
        for _, own in sorted(found.items()):
            for of, point in own.items():
                points.setdefault(of, []).append(point)
        return points

    @property
    def done(self) -> int:
        """Steps finished."""
        return int(self.last.get("step", -1)) + 1

    @property
    def ended(self) -> bool:
        return self.summary is not None

    @property
    def state(self) -> str:
        if self.summary is not None:
            return "finished" if self.summary.get("finished") else "stopped"
        if not self.last:
            return "starting"
        age = time.time() - self.metrics.path.stat().st_mtime if self.metrics.path.exists() else 0.0
        return f"silent {clock(age)}" if age > max(SILENT_S, 10 * mean(list(self.pace))) else "running"


def screen(view: View) -> Group:
    """The 24 lines. Pure: the same view gives the same lines."""
    c, last = view.config, view.last
    lines = [*_head(view), Text()]
    lines.append(Text(f"  {'over training':20} {'':36} {'first':>8} {'last':>8}", "dim"))
    for name, _, _, unit in CURVES:
        lines.append(_curve(name, list(view.curves[name]), unit))
    lines.append(Text())
    lines.append(
        Text(
            f"  {'last step':20} {'reward':>7} {'spread':>7} {'right':>6} {'form':>6} {'cut':>5} {'tokens':>7} {'adv.':>5} {'loss':>6}",
            "dim",
        )
    )
    groups = [f"{role}/{name}" for name in c.task_types for role in ("propose", "solve")]
    for group in groups[:6]:
        lines.append(_group(group, last))
    lines += [_buffers(view), _executor(view), _cost(view)]
    lines.append(findings(last))
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
        line.truncate(80, overflow="ellipsis")
    return Group(*lines[:24])


def _head(view: View) -> list[Text]:
    steps, done = view.config.steps, view.done
    left = "" if view.ended or not view.pace else f" left {clock(mean(list(view.pace)) * max(0, steps - done))}"
    state, place = view.state, f"{done}/{steps} steps  "
    width = 79 - len(place) - len(state) - len(left)
    name = printable(str(view.run.path)).replace("\n", " ")
    if cell_len(name) > width:
        while cell_len(name) >= width:
            name = name[1:]
        name = "…" + name
    name += " " * (width - cell_len(name))  # an ideograph fills two columns
    style = {"running": "green", "finished": "bold green", "stopped": "yellow", "starting": "cyan"}.get(state, "yellow")
    head = Text.assemble((f"{name} ", "bold"), place, (state, style), left)
    full = round(80 * min(1.0, done / steps))
    return [head, Text.assemble(("━" * full, "green"), ("━" * (80 - full), "dim"))]


def _curve(name: str, values: list[float], unit: str) -> Text:
    if not values:
        return Text.assemble(f"  {name:20} ", ("not yet" if name != "held-out accuracy" else "none", "dim"))
    shown = [f"{100 * v:.1f} %" if unit == "%" else f"{v:.3g}" for v in (values[0], values[-1])]
    return Text.assemble(f"  {name:20} ", (f"{spark(values, 36):36}", "cyan"), f" {shown[0]:>8} {shown[1]:>8}")


def _group(group: str, last: Mapping[str, float]) -> Text:
    if f"{group}/reward" not in last:
        return Text.assemble(f"  {group.replace('/', ' '):20} ", ("not yet", "dim"))
    text = Text(f"  {group.replace('/', ' '):20}")
    columns = (("reward", "{:8.2f}"), ("reward_std", "{:8.2f}"), ("ok", "{:7.0%}"), ("well_formed", "{:7.0%}"), ("truncated", "{:6.0%}"),
               ("tokens", "{:8.1f}"), ("advantage_std", "{:6.2f}"), ("loss_share", "{:7.0%}"))  # fmt: skip
    for name, form in columns:
        value = last.get(f"{group}/{name}")
        row = metric_of(f"{group}/{name}")
        sick = value is not None and row is not None and not row.healthy(value)
        shown = form.format(value) if value is not None else "-".rjust(len(form.format(0.0)))
        if sick:  # a mark too: not everybody sees red
            shown = f"!{shown.strip()}".rjust(len(shown))
        text.append(shown, "bold red" if sick else "")
    return text


def _buffers(view: View) -> Text:
    parts = []
    for name in view.config.task_types:
        size, age = view.last.get(f"buffer/{name}"), view.last.get(f"buffer/{name}/age")
        if size is not None:
            parts.append(f"{name} {size:.0f}" + ("" if age is None else f" ({age:.1f})"))
    return Text.assemble(("  buffer (age) ", "dim"), "  ".join(parts))


def _executor(view: View) -> Text:
    said = {key.removeprefix("executor/"): value for key, value in view.last.items() if key.startswith("executor/")}
    return Text.assemble(
        ("  executor  ", "dim"),
        "  ".join(f"{kind} {count:.0f}" for kind, count in sorted(said.items(), key=lambda i: -i[1])),
    )


def _cost(view: View) -> Text:
    clock = view.clock
    total = sum(clock.get(name, 0.0) for name in STAGES)
    if not total:
        return Text.assemble(("  cost      ", "dim"), ("no times were kept", "dim"))
    parts = [f"{total:.1f} s:", *(f"{name} {clock.get(name, 0.0) / total:.0%}" for name in STAGES[:3])]
    if "tokens_per_s" in clock:
        parts.append(f" {clock['tokens_per_s']:.0f} tok/s")
    if "memory_mib" in clock:
        parts.append(f" {clock['memory_mib']:.0f} MiB")
    return Text.assemble(("  cost      ", "dim"), " ".join(parts))


def findings(last: Mapping[str, float]) -> Text:
    """The numbers outside their healthy range, by the catalogue."""
    rows = [
        (key, value) for key, value in last.items() if (row := metric_of(key)) is not None and not row.healthy(value)
    ]
    if not last:
        return Text("  waiting for the first step", "dim")
    if not rows:
        return Text("  all numbers are in their healthy range; azr-lite show NAME explains one", "dim")
    named = ", ".join(f"{key} {value:.2g}" for key, value in rows[:2])
    return Text(f"  {len(rows)} to look at: {named}", "red")


def watch(path: str | Path, interval: float = 1.0, console: Console | None = None) -> int:
    """Follow a run until it ends or q or Ctrl-C is pressed. Without a terminal that can move its cursor: one picture.

    Raises RunDirectoryError.
    """
    view = View(path)
    console = console or Console(highlight=False)
    if not console.is_terminal or console.is_dumb_terminal or view.ended:
        console.print(screen(view))
        return 0
    reason = "closed; the run goes on without it"
    with (
        _terminated(),
        _keys() as pressed,
        Live(console=console, screen=True, auto_refresh=False, transient=True) as live,
    ):
        shown: tuple[Any, ...] = ()
        try:
            while not view.ended:
                picture = screen(view)
                state = (*(line.plain for line in picture.renderables), console.size)
                if state != shown:
                    live.update(picture, refresh=True)
                    shown = state
                if pressed(interval) in ("q", "Q", "\x03", "\x1b"):
                    break
                view.look()
                if not view.run.path.is_dir():
                    raise RunDirectoryError(f"{view.run.path} is gone; it was moved or deleted while it was watched")
            else:
                reason = ""
        except KeyboardInterrupt:
            pass
    if reason:
        console.print(f"watch {reason}", style="dim")
    else:
        console.print(screen(view))
    return 0


@contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM ends the view as Ctrl-C does, so that the terminal is given back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _keys() -> Iterator[Any]:
    """A function that waits so many seconds for a key and returns it, or nothing. The terminal is left as it was found."""
    if not sys.stdin.isatty() or sys.platform == "win32":  # which has no termios; Ctrl-C ends the view
        yield lambda seconds: time.sleep(seconds) or ""
        return
    import termios
    import tty

    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([handle], [], [], seconds)
        return os.read(handle, 1).decode(errors="replace") if ready else ""

    try:
        tty.setcbreak(handle)
        yield pressed
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
