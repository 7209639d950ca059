"""One strict executor for the attack cases, and what must hold after every one of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from azr_lite.sandbox import Executor, Limits, Outcome

QUICK = Limits(cpu_s=0.3, wall_factor=4.0)
LATEST_S = 0.3 * 4 + 0.5 + 2 + 6
"""Wall guard, grace, and six seconds for a busy machine."""

NATIVE = """
import statistics
sys = statistics.mean.__globals__['sys']
posix = sys.modules['posix']
ctypes = sys.modules['ctypes']
libc = sys.modules['lockdown'].libc
def call(*a):
    ctypes.set_errno(0)
    r = libc.syscall(*a)
    return [r, ctypes.get_errno()]
"""
"""What an attacker who got out of the import list has: the interpreter's modules and raw system calls."""


def descendants(root: int) -> list[int]:
    """Processes below `root`, zombies too."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents.setdefault(int((entry / "stat").read_text().rpartition(")")[2].split()[1]), []).append(
                    int(entry.name)
                )
            except (OSError, IndexError):
                continue
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = parents.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def eventually(check: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            return True
        time.sleep(0.01)
    return check()


@pytest.fixture(scope="module")
def strict() -> Iterator[Executor]:
    with Executor(QUICK, workers=1) as executor:
        executor.validate("def f(x): return x", [(1,)])
        yield executor


Case = Callable[..., list[Outcome]]


@pytest.fixture
def case(strict: Executor) -> Iterator[Case]:
    """Run a program; afterwards: an ordinary run is right, no process, file or descriptor is left, the deadline was
    kept."""
    processes, open_files = len(descendants(os.getpid())), descriptors()
    temporary = {place: set(os.listdir(place)) for place in ("/tmp", "/dev/shm") if os.path.isdir(place)}
    slowest = 0.0

    def run(program: str, *inputs: Any, **options: Any) -> list[Outcome]:
        nonlocal slowest
        arguments = [i if type(i) is tuple else (i,) for i in inputs] or [(1,)]
        started = time.monotonic()
        outcomes = strict.run(program, arguments, **options)
        slowest = max(slowest, (time.monotonic() - started) / (len(arguments) + 1))
        assert len(outcomes) == len(arguments)
        return outcomes

    yield run
    assert strict.run("def f(a, b):\n    return sorted(a) + [len(b)]", [([2, 1], "xyz")])[0].value == [1, 2, 3]
    assert eventually(lambda: len(descendants(os.getpid())) == processes), "a process is left"
    assert descriptors() == open_files, "a descriptor is left"
    for place, before in temporary.items():
        assert not [name for name in set(os.listdir(place)) - before if "azr_attack" in name], "a file is left"
    assert slowest < LATEST_S, "the deadline was not kept"


def kinds(outcomes: list[Outcome]) -> list[str]:
    return [outcome.kind for outcome in outcomes]
