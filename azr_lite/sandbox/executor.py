"""`Executor`: run programs, validate tasks, take a whole training step at once.

A program's failure is an outcome. Only the sandbox's own failures raise: `InfrastructureError` (failed twice on one
job), `UnsafeError` (no kernel isolation and not allowed), `SandboxError`.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

from azr_lite.errors import UnsafeError
from azr_lite.sandbox import wire
from azr_lite.sandbox.outcome import Job, Level, Limits, Outcome, Validation
from azr_lite.sandbox.schedule import Plan, PlanRun

DEFAULT_LIMITS = Limits()
_UNORDERED: Final = re.compile(r"\b(?:set|frozenset|hash|keys)\b|\{[^{}:]+(?:\}|,|\bfor\b)")
"""The words, and the braces without a colon, that make sets. Too many matches cost a child each, too few leave two
worlds."""
T = TypeVar("T")
Inputs = Sequence[tuple[Any, ...]]


class Executor:
    """Runs programs that nobody trusts. A context manager; any thread may call it; each method has an asyncio twin `a…`.

    `_skip` leaves layers out and `_inject(try number) -> bool` fails executions: for tests and the benchmark only.

    Args:
        limits: CPU time, memory and sizes that one child may use.
        workers: Fork servers per world (default: one per core but one, up to 8).
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
        _skip: str = "",
        _inject: Callable[[int], bool] | None = None,
    ) -> None:
        self.limits = limits
        self.workers = workers or max(1, min(8, (os.cpu_count() or 2) - 1))
        self._inject = _inject
        self._stats: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._engine: Any
        if sys.platform == "linux":
            from azr_lite.sandbox.pool import Pool

            self._engine = Pool(self.workers, self._stats, _skip)
        else:
            from azr_lite.sandbox.weak import WeakPool

            self._engine = WeakPool(self.workers)
        self.layers: dict[str, str] = dict(self._engine.layers)
        self.level: Level = level_of(self.layers)
        if self.level is Level.WEAK:
            self._accept_weak(allow_weak)
        elif self.level is Level.KERNEL:
            logging.getLogger("azr_lite.sandbox").warning(
                "isolated by the system-call filter alone; missing: %s", _missing(self.layers)
            )

    def _accept_weak(self, allowed: bool) -> None:
        missing = _missing(self.layers)
        if not allowed:
            self.close()
            raise UnsafeError(
                f"this machine offers no kernel isolation for model-written programs: {missing}. Use Linux (WSL2 on "
                "Windows, Docker or a virtual machine on macOS), or accept the risk with allow_weak=True (config: "
                "allow_weak)"
            )
        warnings.warn(
            f"model-written programs run with WEAK isolation, as you: {missing}", RuntimeWarning, stacklevel=3
        )

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
        """Call `entry` of `program` on each argument tuple; one outcome per tuple, in the same order."""
        return self.run_many([Job(program, tuple(inputs), entry, world, limits, isolate)])[0]

    def run_many(self, jobs: Sequence[Job]) -> list[list[Outcome]]:
        """Run a whole step's jobs; one list of outcomes per job."""
        return self._submit_jobs(jobs).result()

    def validate(self, program: str, inputs: Inputs) -> Validation:
        """Run in two worlds (three where sets are at work) on half the CPU time; accepted when all outcomes are ok and
        equal."""
        return self.validate_many([(program, inputs)])[0]

    def validate_many(self, items: Sequence[tuple[str, Inputs]]) -> list[Validation]:
        """`validate` for many programs at once."""
        return self._submit_validations(items).result()

    async def arun(self, program: str, inputs: Inputs, **options: Any) -> list[Outcome]:
        """`run` for asyncio, with the same options."""
        return (await self.arun_many([Job(program, tuple(inputs), **options)]))[0]

    async def arun_many(self, jobs: Sequence[Job]) -> list[list[Outcome]]:
        """`run_many` for asyncio."""
        import asyncio

        return await asyncio.wrap_future(self._submit_jobs(jobs))

    async def avalidate(self, program: str, inputs: Inputs) -> Validation:
        """`validate` for asyncio."""
        return (await self.avalidate_many([(program, inputs)]))[0]

    async def avalidate_many(self, items: Sequence[tuple[str, Inputs]]) -> list[Validation]:
        """`validate_many` for asyncio."""
        import asyncio

        return await asyncio.wrap_future(self._submit_validations(items))

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

    def _submit_jobs(self, jobs: Sequence[Job]) -> Future[list[list[Outcome]]]:
        plans: list[Plan] = []
        owners: list[int] = []
        for index, job in enumerate(jobs):
            for inputs in [(one,) for one in job.inputs] if job.isolate else [job.inputs]:
                plans.append(Plan(job.program, inputs, job.entry, job.world, job.limits or self.limits))
                owners.append(index)

        def combine(found: list[list[Outcome]]) -> list[list[Outcome]]:
            outcomes: list[list[Outcome]] = [[] for _ in jobs]
            for owner, part in zip(owners, found, strict=True):
                outcomes[owner].extend(part)
            return outcomes

        return self._start(plans, combine)

    def _submit_validations(self, items: Sequence[tuple[str, Inputs]]) -> Future[list[Validation]]:
        # But for the time, the very world of `run`: nothing tells a program which of the two it is in.
        a = replace(self.limits, cpu_s=self.limits.cpu_s / 2)
        b = replace(a, recursion=a.recursion * 9 // 10, memory_mb=a.memory_mb * 3 // 4)
        plans: list[Plan] = []
        worlds: list[int] = []
        for program, inputs in items:
            mine = [
                Plan(program, inputs, "f", "A", a, strict=True),
                Plan(program, inputs, "f", "B", b, strict=True, backwards=True),
            ]
            if order_may_matter(program, inputs):
                mine.append(Plan(program, inputs, "f", "C", b, strict=True))
            plans += mine
            worlds.append(len(mine))

        def combine(found: list[list[Outcome]]) -> list[Validation]:
            rest = iter(found)
            return [verdict(*islice(rest, count)) for count in worlds]

        return self._start(plans, combine)

    def _start(self, plans: Sequence[Plan], combine: Callable[[list[list[Outcome]]], T]) -> Future[T]:
        """Start every plan; the future gets `combine` of their outcomes, or the first exception."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        results: list[list[Outcome]] = [[]] * len(plans)
        left = len(plans)

        def deliver(index: int, found: list[Outcome] | BaseException) -> None:
            nonlocal left
            with self._lock:
                if future.done():
                    return
                if isinstance(found, BaseException):
                    future.set_exception(found)
                    return
                results[index] = found
                left -= 1
                if left == 0:
                    future.set_result(combine(results))

        runs = [
            PlanRun(plan, self._engine.submit, partial(deliver, index), self._stats, self._inject)
            for index, plan in enumerate(plans)
        ]
        for run in runs:
            run.start()
        if not runs:
            future.set_result(combine(results))
        return future


def level_of(layers: dict[str, str]) -> Level:
    """The level that these layers add up to."""
    on = {name for name, state in layers.items() if state == "on"}
    if not {"seccomp", "no_new_privs"} <= on:
        return Level.WEAK
    return Level.FULL if {"namespaces", "empty_root"} <= on or "landlock" in on else Level.KERNEL


@dataclass(frozen=True)
class Probe:
    """The level, every layer ("on" or "off: why"), and advice for a person."""

    level: Level
    layers: dict[str, str]
    advice: str


def probe(skip: str = "") -> Probe:
    """Look. Raises `SandboxError` when not even a fork server starts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with Executor(workers=1, allow_weak=True, _skip=skip) as executor:
            return Probe(executor.level, executor.layers, advice(executor.level, executor.layers))


def advice(level: Level, layers: dict[str, str]) -> str:
    """One sentence: what this level means here."""
    missing = _missing(layers)
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


def _missing(layers: dict[str, str]) -> str:
    return ", ".join(f"{name} ({state})" for name, state in layers.items() if state != "on")


def order_may_matter(program: str, inputs: Inputs) -> bool:
    """Whether sets or hashes may be at work. Two hash seeds order a set of two strings alike every second time, so a
    third seed helps."""
    return _UNORDERED.search(program) is not None or any(
        type(value) in (set, frozenset) for one in inputs for value in one
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
            if other.kind != "infra" and (
                other.kind != "ok" or wire.canonical(one.value) != wire.canonical(other.value)
            ):
                return Validation(
                    False, (), "non_deterministic", f"{_show(one)} in one world, {_show(other)} in another", index
                )
    return Validation(True, tuple(outcome.value for outcome in first), worlds=1 + len(others))


def _reason(outcome: Outcome) -> tuple[str, str]:
    if outcome.kind in ("value", "rejected"):
        reason, _, detail = outcome.detail.partition(": ")
        return ("policy", outcome.detail) if reason == "input" else (reason, detail)
    return outcome.kind, outcome.detail


def _show(outcome: Outcome) -> str:
    return wire.render(outcome.value)[:60] if outcome.ok else f"{outcome.kind} ({outcome.detail[:60]})"
