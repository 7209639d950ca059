"""Buffers with one mistake each, for an exercise of notebook 01: those of learners, and those of real re-implementations.

Not covered: what is said about each (`nb01.py`).
"""

from __future__ import annotations

import random
from typing import Any

from azr_lite import buffer
from azr_lite.triplet import Task


class _Like(buffer.Buffer):
    """The package's buffer, for mistakes to change in one place."""

    def key(self, task: Task) -> Any:
        return buffer.task_key(task)

    def add(self, task: Task) -> bool:
        key = self.key(task)
        if key in self._tasks:
            return False
        self._tasks[key] = task
        while len(self._tasks) > self.capacity:
            del self._tasks[next(iter(self._tasks))]
        return True


class KeepsOldest(_Like):
    def add(self, task: Task) -> bool:
        return len(self._tasks) < self.capacity and super().add(task)


class ByText(_Like):
    def key(self, task: Task) -> Any:
        return task.program, task.input


class NoInputs(_Like):
    def key(self, task: Task) -> Any:
        return buffer.normal_form(task.program)


class Twins(_Like):
    def key(self, task: Task) -> Any:
        return object()


class NoLimit(_Like):
    def add(self, task: Task) -> bool:
        self.capacity = 10**9
        return super().add(task)


class Repeats(_Like):
    def sample(self, rng: random.Random, count: int) -> list[Task]:
        return rng.choices(list(self._tasks.values()), k=count)


class TooMany(_Like):
    def sample(self, rng: random.Random, count: int) -> list[Task]:
        return rng.sample(list(self._tasks.values()), count)


class Newest(_Like):
    def sample(self, rng: random.Random, count: int) -> list[Task]:
        return list(self._tasks.values())[-count:]
