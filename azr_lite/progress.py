"""What a person sees while a run goes on: one line a step with an ETA, and the table at the end.

Comes in: the numbers of each step.  Goes out: text on the terminal; nothing on a pipe but the facts and the table.
Not covered: files, plots, the live dashboard.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console
from rich.table import Table

from azr_lite.config import Config
from azr_lite.metrics import STAGES, mean

BARS = "▁▂▃▄▅▆▇█"


class Reporter:
    """Prints for people. Step lines only where the output is a terminal; facts and tables always (unless `quiet`)."""

    def __init__(self, config: Config, quiet: bool = False) -> None:
        self.config, self.quiet = config, quiet
        self.console = Console(highlight=False, soft_wrap=False)

    def facts(self, lines: Sequence[str]) -> None:
        """Sentences about the run, one a line."""
        for line in lines:
            if not self.quiet:
                self.console.print(f"[dim]·[/dim] {line}", markup=True)

    def start(self, done: int) -> None:
        """Training begins with `done` steps finished before: the heading of the step lines."""
        self.first, self.began = done, time.perf_counter()
        if not self.quiet and self.console.is_terminal:
            self.console.print("[dim] done   solve  propose  tasks' r̄  valid  reply len   s/step    left[/dim]")

    def step(self, step: int, metrics: dict[str, float], timing: dict[str, float]) -> None:
        """One line about a finished step, with the time left at the pace so far; nothing on a pipe."""
        if self.quiet or not self.console.is_terminal:
            return
        types = self.config.task_types
        of = lambda pattern: mean([metrics[key] for name in types if (key := pattern.format(name)) in metrics])  # noqa: E731
        done = step + 1
        pace = (time.perf_counter() - self.began) / max(1, done - self.first)
        left = clock(pace * (self.config.steps - done))
        self.console.print(
            f"{done:5d}  {of('solve/{}/ok'):6.2f}  {of('propose/{}/reward'):7.2f}  {of('propose/{}/solve_rate'):8.2f}"
            f"  {of('propose/{}/ok'):5.2f}  {of('solve/{}/tokens'):9.1f}  {sum(timing[name] for name in STAGES):7.1f}  {left:>6}"
        )

    def evaluation(self, name: str, scores: dict[str, dict[str, Any]]) -> None:
        """Held-out accuracy by task type, in one line."""
        parts = [f"{key} {value['accuracy']:.3f}" for key, value in scores.items() if "/" not in key]
        self.facts([f"held-out accuracy, {name}: {', '.join(parts)}"])

    def table(self, summary: dict[str, Any], path: Path) -> None:
        """The end of a run: gains, curves, where everything is, how to go on."""
        if self.quiet:
            return
        if "gain" in summary:
            self.console.print(gain_table(summary))
        for name, points in summary.get("curves", {}).items():
            if len(points) > 1:
                self.console.print(f"{name:>18} {spark([value for _, value in points])}  {points[0][1]:.2f} → {points[-1][1]:.2f}")
        seconds = summary["seconds"]["this session"]
        word = quote(str(path))
        end = f"finished; a page of it: azr-lite report {word}" if summary["finished"] else f"stopped; go on with: azr-lite resume {word}"
        if self.first >= self.config.steps:  # resumed when all was done: say so, or it looks like training
            end = f"no step was left to do; further: azr-lite resume {word} --steps {self.config.steps + 10}"
        self.console.print(f"{summary['steps']} steps, this session {clock(seconds)}, {end}\nEverything is in {path}", soft_wrap=True)


def gain_table(summary: dict[str, Any]) -> Table:
    """Held-out accuracy before and after, by type, with 95 % intervals (Wilson; paired for the gain)."""
    table = Table(title="Held-out accuracy (greedy), before → after self-play")
    for column in ("task", "n", "before", "after", "gain, points", "reply len"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for name, gain in summary["gain"].items():
        before, after = summary["before"][name], summary["after"][name]
        table.add_row(
            "all types" if name == "all" else name,
            str(before["n"]),
            f"{100 * before['accuracy']:.1f} %",
            f"{100 * after['accuracy']:.1f} %",
            f"{100 * gain['gain']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]",
            f"{before['tokens']:.0f} → {after['tokens']:.0f}",
            style="bold" if name == "all" else None,
        )
    return table


def spark(values: Sequence[float], width: int = 40) -> str:
    """The values as bars of eight heights, from their lowest to their highest; at most `width`, neighbours averaged.

    A mean that is no finite number is drawn as ×.
    """
    parts = min(width, len(values))
    cuts = [round(i * len(values) / parts) for i in range(parts + 1)]
    means = [mean(values[a:b]) for a, b in pairwise(cuts)]
    finite = [value for value in means if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    step = (high - low) / (len(BARS) - 1)
    return "".join("×" if not math.isfinite(v) else BARS[round((v - low) / step)] if 0 < step < math.inf else BARS[0] for v in means)


def clock(seconds: float) -> str:
    """A duration for people: 2h05m, 3m07s, 12s."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
