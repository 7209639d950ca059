"""When to save and when to stop, by the clock.

Comes in: when steps begin and end, how long saving and evaluating took.  Goes out: save now? stop now?
Not covered: saving itself (`trainer.py`), stopping because learning went wrong (`stopping.py`).

One process decides for all: clocks differ. Nothing here reaches the algorithm, so a run's results do not depend on it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

SHARE = 0.1
"""Saving may take at most this part of a session's time, where `save_minutes` asks for it."""
WRITE_SPEED = 200e6
"""Bytes a second, for the guess before a first checkpoint has been measured (a plain disk)."""


class Budget:
    """One session's clock; it starts when this is made. All durations in seconds.

    `save_minutes`: how much work may be lost (0: no limit). `max_hours`: how long the session may last (0: no limit).
    """

    def __init__(self, save_minutes: float = 0.0, max_hours: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.save_minutes, self.max_hours, self.clock = save_minutes, max_hours, clock
        self.began = self.safe_since = self.step_began = clock()
        self.steps: deque[float] = deque(maxlen=5)
        """Durations of the last self-play steps."""
        self.saving = 0.0
        """Spent on saving so far."""
        self.save_s = 0.0
        """What the next checkpoint will take: the last one's time, at first a guess."""
        self.evaluation_s = 0.0
        """What the next held-out evaluation will take."""
        self.stretched = False
        """Whether a checkpoint that was due has ever been held back because saving had taken its share of the time."""

    @property
    def step_s(self) -> float:
        """What the next self-play step will take: the longest of the last five."""
        return max(self.steps, default=0.0)

    def train_begins(self) -> None:
        """What came before (loading, seeding, the checkpoint resumed from) cannot be lost, or is done again anyway."""
        self.safe_since = self.clock()

    def step_begins(self) -> None:
        self.step_began = self.clock()

    def step_ends(self) -> None:
        self.steps.append(self.clock() - self.step_began)

    def expect_bytes(self, size: float) -> None:
        """A first checkpoint of about so many bytes lies ahead."""
        self.save_s = size / WRITE_SPEED

    def saved(self, seconds: float) -> None:
        """A checkpoint is whole; it (and its copy elsewhere) took this long."""
        self.saving += seconds
        self.save_s = seconds
        self.safe_since = self.clock()

    def save_due(self) -> bool:
        """Would one step more put more than `save_minutes` of work at risk, and may another checkpoint be paid for?"""
        if not self.save_minutes or self.clock() - self.safe_since + self.step_s <= 60 * self.save_minutes:
            return False
        affordable = self.saving + self.save_s <= SHARE * (self.clock() - self.began)
        self.stretched |= not affordable
        return affordable

    def out_of_time(self, evaluations: int = 1) -> bool:
        """Would one step more, a checkpoint and so many evaluations end after `max_hours`?"""
        ahead = self.step_s + self.save_s + evaluations * self.evaluation_s
        return bool(self.max_hours) and self.clock() - self.began + ahead > 3600 * self.max_hours

    @property
    def interval(self) -> float:
        """Seconds between checkpoints that the share allows, at what the last one took."""
        return self.save_s / SHARE
