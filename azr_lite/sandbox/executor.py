"""`Executor`: run programs, validate tasks, take a whole training step at once.

A program's failure is an outcome. Only the sandbox's own failures raise: `InfrastructureError` (failed again and again
on one job), `UnsafeError` (no kernel isolation and not allowed), `SandboxError`. For asyncio: `asyncio.to_thread`.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from functools import partial
from typing import Any, Final

from azr_lite.errors import SandboxError, UnsafeError
from azr_lite.sandbox import wire
from azr_lite.sandbox.outcome import Job, Level, Limits, Outcome, Validation
from azr_lite.sandbox.schedule import WORLDS, Plan, PlanRun

DEFAULT_LIMITS = Limits()
LAST_RESORT: Final = (10.0, 6)
"""Seconds between two looks at the I/O thread, and how many must find it where it was to call it dead."""
Inputs = Sequence[tuple[Any, ...]]


def cores_here() -> int:
    """The cores that this process may use, which in a container or under taskset are fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Executor:
    """Runs programs that nobody trusts. A context manager; any thread may call it.

    `level`, `layers` (each "on" or "off: why") and `advice`, for a person, say how much stands between a program and
    this machine. `_skip` leaves layers out: for tests and the benchmark only.

    Args:
        limits: CPU time, memory and sizes that one child may use.
        workers: Fork servers per world (default: one per core but one, up to 8).
        seed: The run's seed; hash seeds are drawn from it.
        allow_weak: Run model code even where the kernel offers no isolation.

    Raises:
        UnsafeError: The kernel offers no isolation and `allow_weak` is off.
        SandboxError: No child can be started.

    Examples:
        >>> with Executor(workers=1) as executor:
        ...     [outcome] = executor.run("f = lambda x: x * 2", [(21,)])
        >>> outcome.value
        42
    """

    def __init__(
        self,
        limits: Limits = DEFAULT_LIMITS,
        workers: int | None = None,
        allow_weak: bool = False,
        *,
        seed: int = 0,
        _skip: str = "",
    ) -> None:
        self.limits = limits
        self.workers = workers or max(1, min(8, cores_here() - 1))
        self._stats: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._engine: Any
        if sys.platform == "linux":
            from azr_lite.sandbox.pool import Pool

            self._engine = Pool(self.workers, self._stats, seed, _skip)
        else:
            from azr_lite.sandbox.weak import WeakPool

            self._engine = WeakPool(self.workers, seed)
        self.layers: dict[str, str] = dict(self._engine.layers)
        self.level: Level = level_of(self.layers)
        self.advice = advice(self.level, self.layers)
        if self.level is Level.WEAK and not allow_weak:
            self.close()
            raise UnsafeError(self.advice)
        if self.level is Level.WEAK:
            note = f"WEAK isolation: model-written programs have your rights. {self.advice}"
            warnings.warn(note, RuntimeWarning, stacklevel=2)
        elif self.level is Level.KERNEL:
            logging.getLogger("azr_lite.sandbox").warning(self.advice)

    def run(
        self,
        program: str,
        inputs: Inputs,
        *,
        entry: str = "f",
        world: str = "A",
        limits: Limits | None = None,
        isolate: bool = False,
    ) -> list[Outcome]:
        """Call `entry` of `program` on each argument tuple; one outcome per tuple, in the same order.

        Raises ValueError for an unknown world, TypeError for arguments that are no tuple.
        """
        return self.run_many([Job(program, tuple(inputs), entry, world, limits, isolate)])[0]

    def run_many(self, jobs: Sequence[Job]) -> list[list[Outcome]]:
        """Run a whole step's jobs; one list of outcomes per job. Raises as `run`."""
        shares = [[(one,) for one in job.inputs] if job.isolate else [job.inputs] for job in jobs]
        plans = [
            Plan(job.program, inputs, job.entry, job.world, job.limits or self.limits)
            for job, share in zip(jobs, shares, strict=True)
            for inputs in share
        ]
        found = iter(self._run_plans(plans))
        return [[outcome for _ in share for outcome in next(found)] for share in shares]

    def validate(self, program: str, inputs: Inputs) -> Validation:
        """Run in two worlds on half the CPU time, and in six more where the child found that order, hash, identity or
        randomness may be at work; accepted when all outcomes are ok and equal."""
        return self.validate_many([(program, inputs)])[0]

    def validate_many(self, items: Sequence[tuple[str, Inputs]]) -> list[Validation]:
        """`validate` for many programs at once."""
        # But for the time, the very world of `run`: nothing tells a program which of the two it is in.
        a = replace(self.limits, cpu_s=self.limits.cpu_s / 2)
        b = replace(a, recursion=a.recursion * 9 // 10, memory_mb=a.memory_mb * 3 // 4)
        plans = [Plan(program, inputs, "f", "A", a, strict=True) for program, inputs in items]
        plans += [replace(plan, world="B", limits=b, backwards=True, look=True) for plan in plans]
        outcomes = self._run_plans(plans)
        first, second = outcomes[: len(items)], outcomes[len(items) :]
        found = [verdict(*both) for both in zip(first, second, strict=True)]
        doubtful = [i for i, outcomes in enumerate(second) if found[i].ok and not all(o.plain for o in outcomes)]
        plans = [Plan(*items[i], "f", world, b, strict=True) for i in doubtful for world in WORLDS[2:]]
        more = iter(self._run_plans(plans))
        for i in doubtful:
            found[i] = verdict(first[i], second[i], *(next(more) for _ in WORLDS[2:]))
        return found

    def stats(self) -> dict[str, int]:
        """Counters since the start: outcomes by kind, and children, infra (failures of the sandbox itself),
        respawns."""
        return {"children": 0, "infra": 0, "respawns": 0, **self._stats}

    def close(self) -> None:
        """End every process of this executor. Twice is fine."""
        self._engine.close()

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run_plans(self, plans: Sequence[Plan]) -> list[list[Outcome]]:
        """Run every plan and wait. Raises the first exception, or `SandboxError` where nothing moves any more."""
        for plan in plans:
            if plan.world not in WORLDS:
                raise ValueError(f"unknown world {plan.world!r}: use one of {', '.join(WORLDS)}")
            if wrong := [one for one in plan.inputs if type(one) is not tuple]:
                raise TypeError(f"an input is a tuple of arguments, as in (1,); got {wrong[0]!r:.60}")
        if not plans:
            return []
        finished: Future[None] = Future()
        results: list[list[Outcome]] = [[]] * len(plans)
        left = len(plans)

        def deliver(index: int, found: list[Outcome] | BaseException) -> None:
            nonlocal left
            with self._lock:
                if finished.done():
                    return
                if isinstance(found, BaseException):
                    finished.set_exception(found)
                    return
                results[index] = found
                left -= 1
                if left == 0:
                    finished.set_result(None)

        for index, plan in enumerate(plans):
            PlanRun(plan, self._engine.submit, partial(deliver, index), self._stats).start()
        beat, still = -1, 0
        while not wait([finished], LAST_RESORT[0]).done:
            still = still + 1 if beat == self._engine.beat else 0
            beat = self._engine.beat
            if still >= LAST_RESORT[1]:
                raise SandboxError("the sandbox's I/O thread has stopped; start again")
        finished.result()
        return results


def level_of(layers: dict[str, str]) -> Level:
    """The level that these layers add up to."""
    on = {name for name, state in layers.items() if state == "on"}
    if not {"seccomp", "no_new_privs"} <= on:
        return Level.WEAK
    return Level.FULL if {"namespaces", "empty_root"} <= on or "landlock" in on else Level.KERNEL


def probe() -> Executor:
    """An executor, closed again, whose level, layers and advice say what this machine offers.

    Raises `SandboxError` when not even a fork server starts.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with Executor(workers=1, allow_weak=True) as executor:
            return executor


def advice(level: Level, layers: dict[str, str]) -> str:
    """One sentence: what this level means here."""
    missing = ", ".join(f"{name} ({state})" for name, state in layers.items() if state != "on")
    if level is Level.FULL:
        also = f" Missing, but not needed: {missing}." if missing else ""
        return "Kernel isolation with at least two independent layers." + also
    if level is Level.KERNEL:
        return (
            f"Isolated by the system-call filter alone; missing: {missing}. "
            "A newer Docker, or a plain Linux user, gives more."
        )
    return (
        f"No kernel isolation: {missing}. Model-written programs are refused unless allow_weak is set. "
        "Use Linux: WSL2 on Windows, Docker or a virtual machine on macOS."
    )


def verdict(first: Sequence[Outcome], *others: Sequence[Outcome]) -> Validation:
    """What the worlds together say about a program. "infra": not run, since an earlier input had failed."""
    for index, outcome in enumerate(first):
        if outcome.kind not in ("ok", "infra"):
            return Validation(False, (), *_reason(outcome), index)
    for second in others:
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            if other.kind in ("timeout", "memory"):
                return Validation(False, (), *_reason(other), index)
            if other.kind == "infra" or (other.ok and wire.canonical(one.value) == wire.canonical(other.value)):
                continue
            differs = f"{_show(one)} in one world, {_show(other)} in another"
            return Validation(False, (), "non_deterministic", differs, index)
    return Validation(True, tuple(outcome.value for outcome in first), worlds=1 + len(others))


def _reason(outcome: Outcome) -> tuple[str, str]:
    if outcome.kind in ("value", "rejected"):
        reason, _, detail = outcome.detail.partition(": ")
        return ("policy", outcome.detail) if reason == "input" else (reason, detail)
    return outcome.kind, outcome.detail


def _show(outcome: Outcome) -> str:
    return wire.render(outcome.value)[:60] if outcome.ok else f"{outcome.kind} ({outcome.detail[:60]})"
