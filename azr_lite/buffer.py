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
from collections.abc import Iterator, Sequence
from typing import Any

from azr_lite.parsing import dump_source, read_source
from azr_lite.tasks.base import get_task_type
from azr_lite.triplet import SEED_SHARING_TYPES, Rejection, Task, TaskTypeName, task_from_json


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


class Buffer:
    """Tasks of one type, oldest first, each once.

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

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def __contains__(self, task: Task) -> bool:
        return (task.id or task_key(task)) in self._tasks

    def add(self, task: Task) -> bool:
        """Insert (its id becomes its key); False for a duplicate. The oldest task leaves when the buffer is full."""
        key = task.id or task_key(task)
        if key in self._tasks:
            return False
        self._tasks[key] = dataclasses.replace(task, id=key)
        while len(self._tasks) > self.capacity:
            del self._tasks[next(iter(self._tasks))]
        return True

    def sample(self, rng: random.Random, count: int) -> list[Task]:
        """Up to `count` different tasks, uniformly (recency weighting risked collapse in the paper)."""
        tasks = list(self._tasks.values())
        return rng.sample(tasks, min(count, len(tasks)))


class Buffers:
    """The buffers of all task types: `of` maps a task type to its `Buffer`."""

    def __init__(self, types: Sequence[TaskTypeName], capacity: int) -> None:
        self.of: dict[TaskTypeName, Buffer] = {name: Buffer(capacity) for name in types}

    def add(self, task: Task) -> bool:
        """Insert into the buffer of the task's type; False for a duplicate."""
        return self.of[task.type].add(task)

    def add_seed(self, task: Task, parents: tuple[str, ...], target: int) -> None:
        """Insert a task of the untrained policy, also converted to each type that shares its form.

        Buffers that hold `target` tasks get no more.
        """
        for name, buffer in self.of.items():
            converted = task if name == task.type else get_task_type(name).convert_from(task)
            if converted is not None and len(buffer) < target:
                self.add(dataclasses.replace(converted, id=task_key(converted), parents=parents))

    def programs(self) -> list[Task]:
        """Tasks of deduction and abduction, each program once: what induction proposals start from.

        Not those of a task type of one's own: a program that is meant to raise, say, has no return value.
        """
        unique: dict[str, Task] = {}
        for name in SEED_SHARING_TYPES:
            for task in self.of.get(name, ()):
                unique.setdefault(task.program, task)
        return list(unique.values())

    def sizes(self) -> dict[TaskTypeName, int]:
        return {name: len(buffer) for name, buffer in self.of.items()}

    def ages(self, step: int) -> dict[TaskTypeName, float]:
        """Mean age of each buffer's tasks in steps, at step number `step`. Seeds come from step -1."""
        return {
            name: sum(step - task.step for task in buffer) / len(buffer) if len(buffer) else 0.0
            for name, buffer in self.of.items()
        }

    def state_dict(self) -> dict[str, Any]:
        return {name: [task.to_json() for task in buffer] for name, buffer in self.of.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`. Order is kept, so that sampling goes on as without the interruption."""
        for name, rows in state.items():
            buffer = Buffer(self.of[name].capacity)
            for row in rows:
                buffer.add(task_from_json(row))
            self.of[name] = buffer
