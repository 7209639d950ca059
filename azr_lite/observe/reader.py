"""Reads a run's directory, finished or being written: its logs step by step, and its curves so far.

Memory does not grow with the logs.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from azr_lite.errors import RunDirectoryError
from azr_lite.evaluation.scores import scores_until
from azr_lite.metrics import STAGES, Metric, mean, metric_of
from azr_lite.pace import clock
from azr_lite.rundir import Log, RunDir

Line = dict[str, Any]
T = TypeVar("T")


def open_run(path: str | Path) -> RunDir:
    """A run, or the sample of one that `course.recorded_runs.keep_sample` left (no run.json).

    RunDirectoryError says what is missing or foreign.
    """
    has_run, *has_sample = ((Path(path) / name).exists() for name in ("run.json", "config.json", "metrics.jsonl"))
    run = RunDir(Path(path)) if all(has_sample) and not has_run else RunDir.open(path)
    for log in sorted(run.path.glob("*.jsonl")) if (run.path / "summary.json").exists() else ():
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            if file.read(1) not in (b"", b"\n"):
                print(f"{log} ends in the middle of a line, left out here; a copy may have it whole", file=sys.stderr)
    return run


@contextmanager
def form_checked(run: RunDir) -> Iterator[None]:
    """A log whose lines have other fields than expected inside becomes one sentence, a RunDirectoryError."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError) as error:
        raise RunDirectoryError(
            f"the logs of {run.path} are not in this azr_lite's form ({error!r}); use the version named in run.json"
        ) from error


def drawn(lines: Iterable[T], most: int) -> list[T]:
    """At most so many of them, each as likely as any other, in one pass that holds no more than it keeps."""
    rng, kept = random.Random(0), []
    for count, line in enumerate(lines, start=1):
        if len(kept) < most:
            kept.append(line)
        elif (place := rng.randrange(count)) < most:
            kept[place] = line
    return kept


def by_step(run: RunDir, name: str) -> Iterator[tuple[int, list[Line]]]:
    """Each step of a log with its lines, in order; one step is held at a time."""
    for step, lines in itertools.groupby(run.read(name), key=lambda line: line["step"]):
        yield step, list(lines)


def first_and_last_step(run: RunDir, name: str) -> tuple[int, int]:
    """Of the whole lines of a log; RunDirectoryError where there is none."""
    steps = list(dict.fromkeys(line["step"] for line in run.read(name)))
    if not steps:
        raise RunDirectoryError(f"{run.path / name} holds no whole line yet; wait for the run's first step")
    return steps[0], steps[-1]


def step_lines(run: RunDir, name: str, step: int | None) -> list[Line]:
    """The lines of one step (None: the newest), in order; RunDirectoryError where the step is not there."""
    lines: list[Line] = []
    for number, lines in by_step(run, name):
        if number == step:
            return lines
    if step is None and lines:
        return lines
    first, last = first_and_last_step(run, name)
    held = "the seeding only, as -1" if last < 0 else f"steps {max(first, 0)} to {last}"
    seeding = ", and the seeding as -1" if first < 0 <= last else ""
    raise RunDirectoryError(f"{run.path / name} has no line of step {step}; it holds {held}{seeding}")


# ---------------------------------------------------------------- curves

POINTS = 200  # most points of one curve; a longer one has neighbours averaged
SHORT = 4  # values that a curve needs to have ends: one step of a small batch has groups with one reward by luck
SILENT_S = 120.0  # a run is called silent when its log has not grown for longer than this and than ten steps
PATIENCE_S = 1800.0  # and is no longer waited for when for longer than this and than thirty steps


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a curve. `low`, `high`: its interval, where one is known."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass
class Steps:
    """How many steps something was so, and the first and the last of them."""

    count: int = 0
    first: int = 0
    last: int = 0

    def add(self, step: int) -> None:
        self.first, self.last = self.first if self.count else step, step
        self.count += 1


@dataclass
class Curve:
    """A number over the steps: at most `POINTS` averages of neighbouring values, and what averages would hide.

    `metric`: its row of the catalogue, which says what is `outside` of the healthy range. `count`: steps with a value.
    `total`: the sum of the finite values.
    """

    metric: Metric | None = None
    buckets: list[list[float]] = field(default_factory=list)
    """Of each average: sum of the steps, sum of the finite values, count of values, count of finite ones."""
    count: int = 0
    total: float = 0.0
    newest: float = 0.0
    highest: float = -math.inf
    highest_at: int = 0
    outside: Steps = field(default_factory=Steps)
    not_finite: Steps = field(default_factory=Steps)

    def add(self, step: int, value: float) -> None:
        finite = math.isfinite(value)
        self.count, self.newest = self.count + 1, value
        if not self.buckets or self.buckets[-1][2] == self.buckets[0][2]:  # all but the last are as full as the first
            self.buckets.append([0.0, 0.0, 0, 0])
        last = self.buckets[-1]
        last[:] = last[0] + step, last[1] + (value if finite else 0.0), last[2] + 1, last[3] + finite
        if len(self.buckets) > POINTS:
            pairs = [self.buckets[i : i + 2] for i in range(0, len(self.buckets), 2)]
            self.buckets = [[sum(column) for column in zip(*pair, strict=True)] for pair in pairs]
        if not finite:
            self.not_finite.add(step)
            return
        self.total += value
        if value > self.highest:
            self.highest, self.highest_at = value, step
        if self.metric is not None and not self.metric.healthy(value):
            self.outside.add(step)

    @property
    def values(self) -> list[float]:
        """The averages; not a number where no value was finite."""
        return [total / finite if finite else math.nan for _, total, _, finite in self.buckets]

    @property
    def ends(self) -> tuple[float, float]:
        """Mean of its first and last fifth, at least two values each; not a number for less than `SHORT` values."""
        values = [point.y for point in self.points]
        part = max(len(values) // 5, 2)
        return (mean(values[:part]), mean(values[-part:])) if len(values) >= SHORT else (math.nan, math.nan)

    @property
    def points(self) -> list[Point]:
        """The averages that are finite, over the steps done."""
        return [Point(steps / n + 1, total / finite) for steps, total, n, finite in self.buckets if finite]


class Followed:
    """A run so far; `look` reads what is new. RunDirectoryError where the run cannot be read, or is gone.

    `curves`: of every logged number, by its key; ``solve/*/ok`` is the mean over task types.
    """

    def __init__(self, run: RunDir) -> None:
        self.run, self.config = run, run.config()
        self._start()
        self.look()

    def _start(self) -> None:
        self.metrics, self.timing = Log(self.run.path / "metrics.jsonl"), Log(self.run.path / "timing.jsonl")
        self.last: dict[str, float] = {}
        self.last_times: dict[str, float] = {}
        self.lines = 0
        self.pace: deque[float] = deque(maxlen=20)
        self.curves: dict[str, Curve] = {}

    def look(self) -> None:
        """Read what the logs gained. Where a resumed run has cut one back, both are read anew."""
        if not self.run.path.is_dir():
            raise RunDirectoryError(f"{self.run.path} is gone; it was moved or deleted while it was followed")
        if self.metrics.is_rewritten() or self.timing.is_rewritten():
            self._start()
        for line in self.metrics.lines():
            self._add(self.metrics, line)
            self.last, self.lines = line, self.lines + 1
        for line in self.timing.lines():
            self._add(self.timing, line)
            self.last_times = line
            self.pace.append(sum(line.get(name, 0.0) for name in STAGES))
        self.held_out = self._held_out()
        summary = self.run.summary()
        self.summary = summary if summary is not None and summary.get("steps", 0) >= self.done else None

    def _add(self, log: Log, line: dict[str, float]) -> None:
        over_types: dict[str, list[float]] = {}
        step = int(line["step"])
        for key, value in line.items():
            if not isinstance(value, int | float):
                form = f"is not in this azr_lite's form ({key} is no number)"
                raise RunDirectoryError(f"{log.path} {form}; use the version named in run.json")
            if key not in self.curves:
                self.curves[key] = Curve(metric_of(key, "metrics.jsonl"))
            self.curves[key].add(step, value)
            if len(parts := key.split("/")) == 3:
                over_types.setdefault(f"{parts[0]}/*/{parts[2]}", []).append(value)
        for key, values in over_types.items():
            self.curves.setdefault(key, Curve()).add(step, mean(values))

    def _held_out(self) -> dict[str, list[Point]]:
        """Every evaluation made so far, over all problems and by type, with its interval where that was kept."""
        found: dict[int, dict[str, Point]] = {}
        for at, scores in sorted(scores_until(self.run.path / "eval").items()):
            with suppress(ValueError, KeyError, TypeError, AttributeError):  # in another form
                own = {of: scores[of] for of in ("all", *self.config.task_types) if of in scores}
                found[at] = {of: Point(at, float(s["accuracy"]), s.get("low"), s.get("high")) for of, s in own.items()}
        if not found:
            curve = (self.run.summary() or {}).get("curves", {}).get("held-out accuracy", [])
            found = {step: {"all": Point(step, accuracy)} for step, accuracy in sorted(curve)}
        kinds = dict.fromkeys(of for points in found.values() for of in points)
        return {of: [points[of] for points in found.values() if of in points] for of in kinds}

    def by_type(self, key: str) -> dict[str, list[Point]]:
        """The points of a key such as ``solve/*/ok``, by task type and of "all"."""
        keys = {name: key.replace("*", name) for name in self.config.task_types} | {"all": key}
        return {of: self.curves[own].points for of, own in keys.items() if own in self.curves}

    def unhealthy(self) -> dict[str, float]:
        """The numbers of the last step that are outside their healthy range."""
        known = ((key, value, self.curves[key].metric) for key, value in self.last.items())
        return {key: value for key, value, metric in known if metric and not metric.healthy(value)}

    @property
    def done(self) -> int:
        """Steps finished."""
        return int(self.last.get("step", -1)) + 1

    @property
    def ended(self) -> bool:
        return self.summary is not None

    @property
    def state(self) -> str:
        """finished, stopped, starting, running, or silent for how long."""
        if self.summary is not None:
            return "finished" if self.summary.get("finished") else "stopped"
        if not self.last and not self.given_up:
            return "starting"
        return f"silent {clock(self.quiet_s)}" if self.quiet_s > max(SILENT_S, 10 * mean(self.pace)) else "running"

    @property
    def left(self) -> str:
        """Time to the last step at the pace of the last twenty; empty where it is not known or the run has ended."""
        return "" if self.ended or not self.pace else clock(mean(self.pace) * max(0, self.config.steps - self.done))

    @property
    def quiet_s(self) -> float:
        """Seconds since metrics.jsonl grew, or the run began."""
        log = self.metrics.path
        return time.time() - (log if log.exists() else self.run.path).stat().st_mtime

    @property
    def given_up(self) -> bool:
        """Whether the run has been quiet too long to be waited for."""
        return not self.ended and self.quiet_s > max(PATIENCE_S, 30 * mean(self.pace))
