"""How far a long piece of work is: a bar on a terminal; elsewhere a dated line, at most one every `QUIET_S` seconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

QUIET_S = 30.0
"""The least time between two lines where the output is no terminal (a pipe, a file), in seconds."""


def clock(seconds: float) -> str:
    """A duration for people: 2h05m, 3m07s, 12s."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def stamp() -> str:
    """Date and time of now, as a line on a pipe begins."""
    return time.strftime("%Y-%m-%d %H:%M:%S  ")


class Pace:
    """Inside `with`, call it with what is done so far of `total` (`begun`: before); it tells the time left.

    `console`: where to print; not given: standard error. ``with Pace("evaluation", 300) as tell: tell(20)``
    """

    def __init__(self, what: str, total: float, *, begun: float = 0, unit: str = "", console: Console | None = None):
        from rich.console import Console

        self.what, self.total, self.begun, self.done, self.unit = what, total, begun, begun, unit
        self.console, self.bar = console or Console(stderr=True, highlight=False), None

    def __enter__(self) -> Pace:
        self.began = self.told = time.perf_counter()
        if self.console.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn

            columns = TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.fields[said]}")
            self.bar: Any = Progress(*columns, console=self.console, transient=True, refresh_per_second=2)
            self.bar.start()
            self.row = self.bar.add_task(self.what, total=self.total, completed=self.begun, said="")
        return self

    def __call__(self, done: float | None = None) -> None:
        """So much is done; not given: as much as before, but time has passed."""
        self.done = self.done if done is None else min(done, self.total)
        now = time.perf_counter()
        if self.bar is not None:
            self.bar.update(self.row, total=self.total, completed=self.done, said=self._said(now))
        elif now - self.told >= QUIET_S:
            self.told = now
            self.console.print(f"{stamp()}{self.what}: {self._said(now)}", markup=False, soft_wrap=True)

    def __exit__(self, *_: object) -> None:
        self.told = float("inf")
        if self.bar is not None:
            self.bar.stop()

    def _said(self, now: float) -> str:
        form = "{:.0f}" if isinstance(self.total, int) else "{:.1f}"
        said = f"{form} of {form}{{}}".format(self.done, self.total, self.unit)
        left = (now - self.began) * (self.total - self.done) / (self.done - self.begun) if self.done > self.begun else 0
        return f"{said}, {clock(left)} left" if left else said
