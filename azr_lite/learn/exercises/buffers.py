"""The buffer exercise of notebook 01: what is looked at, and buffers with one mistake each, of learners and of real re-implementations.

Comes in: a buffer class.  Goes out: what it did.
Not covered: what is said about each (`nb01.py`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from azr_lite import buffer
from azr_lite.learn.checks import Raised
from azr_lite.triplet import Task, Triplet


def tried(call: Callable[[], Any]) -> Any:
    """What a call gives; an error is an observation too."""
    try:
        return call()
    except TimeoutError:
        raise
    except Exception as error:
        return Raised(type(error).__name__, str(error))


def _task(number: int, input: str = "1", variable: str = "x") -> Triplet:
    return Triplet("deduction", f"def f({variable}):\n    return {variable} + {number}", input, str(number + 1))


SHOWS = (
    "a new task is added",
    "the same task is added again",
    "the same task, with another name for its variable",
    "the same program, with another input",
    "how many are drawn when 99 are wanted and 2 are there",
    "how many are drawn when that is done once more",
    "how many are drawn from a new buffer",
    "what is kept, of four tasks, by a buffer of three",
    "whether 20 draws of three from three tasks all give three",
    "whether a draw of two gives two different tasks",
    "how often each of three tasks is drawn",
    "how many of twenty tasks are ever drawn",
    "whether the same seed draws the same tasks again",
    "the task that had left is added again",
    "what a full buffer of two keeps when its oldest task is offered again, and then a new one",
)


def observed(kind: Any) -> list[Any]:
    """What a buffer class does, in the order of `SHOWS`."""
    made, rng = kind(3), random.Random(0)

    def draw(count: int, store: Any = made, dice: random.Random = rng) -> list[tuple[str, str]]:
        found = store.sample(dice, count)
        if found is ...:
            raise NotImplementedError("sample still returns ...")
        return [(task.program, task.input) for task in found]

    def evenly() -> str:
        counts = Counter(task for _ in range(600) for task in draw(1))
        for which, task in (("oldest", _task(0, "2")), ("newest", _task(2))):
            if set(counts) == {(task.program, task.input)}:
                return f"only the {which}"
        if counts.total() < 600:
            return "less often than it was asked"
        return "about equally" if len(counts) == 3 and min(counts.values()) > 150 else "some more than others"

    def filled(capacity: int, *numbers: int) -> Any:
        store = kind(capacity)
        for number in numbers:
            store.add(_task(number))
        return store

    def twenty() -> int:
        store = filled(20, *range(20))
        return len({task for _ in range(200) for task in draw(3, store)})

    def repeated() -> bool:
        store = filled(20, *range(20))
        return draw(8, store, random.Random(1)) == draw(8, store, random.Random(1))

    seen = [tried(lambda task=task: made.add(task)) for task in (_task(0), _task(0), _task(0, variable="y"), _task(0, "2"))]
    if any(one is ... for one in seen):
        return seen
    seen += [tried(lambda: len(draw(99))) for _ in range(2)]
    seen.append(tried(lambda: len(draw(2, kind(3)))))
    for number in (1, 2):
        tried(lambda number=number: made.add(_task(number)))
    seen.append(tried(lambda: sorted(draw(3))))
    seen.append(tried(lambda: all(len(draw(3)) == 3 for _ in range(20))))
    seen.append(tried(lambda: all(len(set(draw(2))) == 2 for _ in range(20))))
    seen += [tried(look) for look in (evenly, twenty, repeated)]
    seen.append(tried(lambda: made.add(_task(0))))
    seen.append(tried(lambda: sorted(draw(2, filled(2, 0, 1, 0, 2)))))
    return seen


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


class Oldest(_Like):
    def sample(self, rng: random.Random, count: int) -> list[Task]:
        return list(self._tasks.values())[:count]


class Keys(_Like):
    def sample(self, rng: random.Random, count: int) -> Any:
        return rng.sample(list(self._tasks), min(count, len(self._tasks)))


class TakesOut(_Like):
    def sample(self, rng: random.Random, count: int) -> list[Task]:
        drawn = super().sample(rng, count)
        for task in drawn:
            del self._tasks[self.key(task)]
        return drawn


class OwnDice(_Like):
    def sample(self, rng: random.Random, count: int) -> list[Task]:
        return super().sample(random.Random(), count)


class Refreshes(_Like):
    def add(self, task: Task) -> bool:
        known = self._tasks.pop(self.key(task), None) is not None
        return super().add(task) and not known


class NeverForgets(_Like):
    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self.met: set[Any] = set()

    def add(self, task: Task) -> bool:
        key = self.key(task)
        known = key in self.met
        self.met.add(key)
        return not known and super().add(task)


class Favours(_Like):
    def sample(self, rng: random.Random, count: int) -> list[Task]:
        left, drawn = list(self._tasks.values()), []
        while left and len(drawn) < count:
            drawn.append(left.pop(rng.choices(range(len(left)), weights=range(1, len(left) + 1))[0]))
        return drawn
