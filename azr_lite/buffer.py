"""The task buffers, one per task type: where references and tasks come from.

Differences from the authors' code, on purpose: duplicates (same normalised syntax tree, same inputs) are refused, and a
full buffer drops its *oldest* tasks (theirs keeps them, which freezes it).
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from azr_lite.parsing import dump_source, read_source
from azr_lite.tasks.base import get_task_type
from azr_lite.triplet import SEED_SHARING_TYPES, Rejection, Task, TaskTypeName, task_from_json

NEWEST, ENOUGH = 200, 8
"""Learnable tasks that references are drawn from: the newest so many, once there are enough."""


@functools.lru_cache(maxsize=4096)
def normal_form(program: str) -> str:
    """A digest that is equal for programs that differ only in local spelling: docstrings, annotations, variable names.

    Used to tell duplicates in the buffers: arguments and local variables are numbered in order of appearance.

    Examples:
        >>> normal_form("def f(a): return a + 1") == normal_form("def f(b): return b + 1")
        True
    """
    tree = read_source(program)
    if isinstance(tree, Rejection):
        return hashlib.sha256(program.encode(errors="surrogatepass")).hexdigest()[:16]
    local: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            local.setdefault(node.arg, f"v{len(local)}")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            local.setdefault(node.id, f"v{len(local)}")
    for node in ast.walk(tree):
        is_block = isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and len(node.body) > 1
        if is_block and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        if isinstance(node, ast.arg):
            node.arg, node.annotation = local[node.arg], None
        elif isinstance(node, ast.Name):
            node.id = local.get(node.id, node.id)
        elif isinstance(node, ast.keyword) and node.arg in local:
            node.arg = local[node.arg]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
    return hashlib.sha256((dump_source(tree) or program).encode()).hexdigest()[:16]


def task_key(task: Task) -> str:
    """A digest that is equal for two tasks that pose the same problem: same type, normalised program and inputs.

    Examples:
        >>> from azr_lite.triplet import Triplet
        >>> a, b = (Triplet("deduction", f"def f({x}): return {x} * 2", "3", "6") for x in "xy")
        >>> task_key(a) == task_key(b)
        True
    """
    text = "\x00".join((task.type, normal_form(task.program), *task.inputs))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=4096)
def _kinds(program: str) -> frozenset[str]:
    """The kinds of node in its syntax tree; none where it does not parse."""
    tree = read_source(program)
    return frozenset() if isinstance(tree, Rejection) else frozenset(type(node).__name__ for node in ast.walk(tree))


def _likeness(a: Task, b: Task) -> float:
    """Kinds of node that both programs have / those that either has."""
    one, other = _kinds(a.program), _kinds(b.program)
    return len(one & other) / max(1, len(one | other))


def sample_unlike(rng: random.Random, tasks: Sequence[Task], count: int) -> list[Task]:
    """Up to `count` different tasks: the first uniformly, each next the one of eight drawn that is least like any
    chosen before."""
    left, chosen = list(tasks), []
    while left and len(chosen) < count:
        drawn = rng.sample(range(len(left)), min(len(left), 8 if chosen else 1))
        chosen.append(left.pop(min(drawn, key=lambda at: max((_likeness(left[at], one) for one in chosen), default=0))))
    return chosen


class Buffer:
    """Tasks of one type, oldest first, each once, with their solve rates where those are known.

    `forms`: the normal form of each program in it, and how many tasks have it.

    Examples:
        >>> from azr_lite.triplet import Triplet
        >>> buffer = Buffer(capacity=2)
        >>> tasks = [Triplet("deduction", f"def f(x): return x + {n}", "0", str(n)) for n in (1, 2, 3)]
        >>> [buffer.add(task) for task in [tasks[0], *tasks]]
        [True, False, True, True]
        >>> [task.output for task in buffer]
        ['2', '3']
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._tasks: dict[str, Task] = {}
        self._rates: dict[str, float | None] = {}
        self.forms: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def __contains__(self, task: Task) -> bool:
        return (task.id or task_key(task)) in self._tasks

    def add(self, task: Task, rate: float | None = None) -> bool:
        """Insert (its id becomes its key); False for a duplicate. The oldest task leaves when the buffer is full.

        `rate`: r-bar of the task when it was proposed; None where nobody measured it, as for seeds.
        """
        key = task.id or task_key(task)
        if key in self._tasks:
            return False
        self._tasks[key], self._rates[key] = dataclasses.replace(task, id=key), rate
        self.forms[normal_form(task.program)] += 1
        while len(self._tasks) > self.capacity:
            oldest = next(iter(self._tasks))
            del self._rates[oldest]
            self.forms[normal_form(self._tasks.pop(oldest).program)] -= 1
        return True

    def learnable(self) -> list[Task]:
        """The tasks that were solved sometimes: 0 < r-bar < 1."""
        return [self._tasks[key] for key, rate in self._rates.items() if rate is not None and 0 < rate < 1]

    def sample(self, rng: random.Random, count: int) -> list[Task]:
        """Up to `count` different tasks, uniformly (recency weighting risked collapse in the paper)."""
        return rng.sample([*self], min(count, len(self)))

    def to_json(self) -> list[dict[str, Any]]:
        """Its tasks, oldest first, with the solve rates that are known."""
        rates = {key: {"solve_rate": rate} for key, rate in self._rates.items() if rate is not None}
        return [task.to_json() | rates.get(key, {}) for key, task in self._tasks.items()]


class Buffers:
    """The buffers of all task types: `of` maps a task type to its `Buffer`."""

    def __init__(self, types: Sequence[TaskTypeName], capacity: int) -> None:
        self.of: dict[TaskTypeName, Buffer] = {name: Buffer(capacity) for name in types}

    def add(self, task: Task, rate: float | None = None) -> bool:
        """Insert into the buffer of the task's type; False for a duplicate."""
        return self.of[task.type].add(task, rate)

    def add_seed(self, task: Task, parents: tuple[str, ...], target: int) -> None:
        """Insert a task of the untrained policy, also converted to each type that shares its form.

        Buffers that hold `target` tasks get no more.
        """
        for name, buffer in self.of.items():
            converted = task if name == task.type else get_task_type(name).convert_from(task)
            if converted is not None and len(buffer) < target:
                self.add(dataclasses.replace(converted, id=task_key(converted), parents=parents))

    def tasks(self, types: Sequence[TaskTypeName], choice: str = "all") -> list[Task]:
        """All tasks of these types; for "learnable" the newest 200 that were solved sometimes, once there are eight."""
        buffers = [self.of[name] for name in types if name in self.of]
        if choice == "learnable":
            found = sorted((task for buffer in buffers for task in buffer.learnable()), key=lambda task: task.step)
            if len(found) >= ENOUGH:
                return found[-NEWEST:]
        return [task for buffer in buffers for task in buffer]

    def programs(self, choice: str = "all") -> list[Task]:
        """Tasks of deduction and abduction, each program once: what induction proposals start from.

        Not those of a task type of one's own: a program that is meant to raise, say, has no return value.
        """
        unique: dict[str, Task] = {}
        for task in self.tasks(SEED_SHARING_TYPES, choice):
            unique.setdefault(task.program, task)
        return list(unique.values())

    def is_repeat(self, task: Task) -> bool:
        """Whether a buffer holds the program that was proposed, but for names. Never where the program was given."""
        own = {name: buffer for name, buffer in self.of.items() if get_task_type(name).propose_from == "own"}
        return task.type in own and any(buffer.forms[normal_form(task.program)] for buffer in own.values())

    def sizes(self) -> dict[TaskTypeName, int]:
        return {name: len(buffer) for name, buffer in self.of.items()}

    def ages(self, step: int) -> dict[TaskTypeName, float]:
        """Mean age of each buffer's tasks in steps, at step number `step`. Seeds come from step -1."""
        return {
            name: sum(step - task.step for task in buffer) / len(buffer) if len(buffer) else 0.0
            for name, buffer in self.of.items()
        }

    def state_dict(self) -> dict[str, Any]:
        return {name: buffer.to_json() for name, buffer in self.of.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`, in the same order, so that sampling goes on as without the interruption.

        A state of an older azr_lite holds no solve rates.
        """
        for name, rows in state.items():
            self.of[name] = Buffer(self.of[name].capacity)
            for row in rows:
                self.of[name].add(task_from_json(row), row.get("solve_rate"))
