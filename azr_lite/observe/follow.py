"""What is known of a run that may still be written, in bounded memory: what screen, dashboard and report draw."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from azr_lite.errors import RunDirectoryError
from azr_lite.evaluation.scores import evaluated_step
from azr_lite.metrics import STAGES, Metric, mean, metric_of
from azr_lite.observe.charts import Curve, Point
from azr_lite.observe.reader import Line, Log
from azr_lite.progress import clock
from azr_lite.rundir import RunDir

HISTORY = 4000
"""Values kept of each number on the terminal's screen; older ones are thinned to every second."""

SILENT_S = 120.0
"""A run whose log has not grown for longer than this, and for longer than ten steps, is called silent."""

PATIENCE_S = 600.0
"""A run whose files have not changed for this long (or thirty slow steps) is no longer waited for."""

CURVE_KEYS = (
    "propose/{type}/solve_rate", "propose/{type}/ok", "solve/{type}/ok", "solve/{type}/tokens",
    "propose/*/solve_rate", "propose/*/ok", "solve/*/ok", "solve/*/tokens", "propose/*/tokens",
    "propose/*/learnable", "propose/*/reward", "solve/*/reward", "entropy", "grad_norm",
)  # fmt: skip
"""Keys of metrics.jsonl that are drawn: {type} is one curve per task type, * the mean over task types."""

TIME_KEYS = (*STAGES, "tokens_per_s")
"""Keys of timing.jsonl that are drawn."""


@dataclass
class LoggedNumber:
    """A number of metrics.jsonl, and when it left its healthy range."""

    key: str
    metric: Metric
    outside: int = 0
    steps: int = 0
    first: int = 0
    last: int = 0
    worst: float = 0.0
    newest: float = 0.0

    def add(self, step: int, value: float) -> None:
        """The value of one more step."""
        self.steps, self.newest = self.steps + 1, value
        if self.metric.healthy(value):
            return
        if not self.outside:
            self.first, self.worst = step, value
        self.outside, self.last = self.outside + 1, step
        self.worst = max(self.worst, value, key=self._distance)

    def _distance(self, value: float) -> float:
        bounds = (self.metric.low, self.metric.high)
        return max((abs(value - bound) for bound in bounds if bound is not None), default=0.0)


class Followed:
    """A run so far; `look` reads what is new. RunDirectoryError where the run cannot be read."""

    def __init__(self, run: RunDir) -> None:
        self.run, self.config = run, run.config()
        self._start()
        self.look()

    def _start(self) -> None:
        self.metrics, self.timing = Log(self.run.path / "metrics.jsonl"), Log(self.run.path / "timing.jsonl")
        self.last: Line = {}
        self.last_times: Line = {}
        self.pace: deque[float] = deque(maxlen=20)
        self.curves: dict[str, Curve] = {}
        self.totals: dict[str, float] = {}
        self.numbers: dict[str, LoggedNumber] = {}
        self.histories: dict[str, list[float]] = {key: [] for key in CURVE_KEYS if "{type}" not in key}
        self.every, self.seen = 1, 0

    def look(self) -> None:
        """Read what the logs gained. Where a resumed run has cut one back, both are read anew."""
        if self.metrics.is_rewritten() or self.timing.is_rewritten():
            self._start()
        for line in self.metrics.lines():
            self._take_metrics(_numbers_only(self.metrics, line))
        for line in self.timing.lines():
            self._take_times(_numbers_only(self.timing, line))
        self.held_out = self._held_out()
        summary = self.run.summary()
        self.summary = summary if summary is not None and summary.get("steps", 0) >= self.done else None

    def _take_metrics(self, line: Line) -> None:
        self.last, self.seen = line, self.seen + 1
        self._add_to_curves(CURVE_KEYS, line)
        for key, value in _finite(line):
            if (row := metric_of(key, "metrics.jsonl")) is not None:
                self.numbers.setdefault(key, LoggedNumber(key, row)).add(line["step"], value)
            if key.startswith("tokens/"):
                self.totals[key] = self.totals.get(key, 0.0) + value
        if self.seen % self.every:
            return
        for key, history in self.histories.items():
            history += self._mean(line, key)
        if max(map(len, self.histories.values())) > HISTORY:
            self.every *= 2
            self.histories = {name: values[::2] for name, values in self.histories.items()}

    def _take_times(self, line: Line) -> None:
        self.last_times = line
        self.pace.append(sum(line.get(name, 0.0) for name in STAGES))
        self._add_to_curves(TIME_KEYS, line)
        for key, value in _finite(line):
            if key.endswith("memory_mib"):
                self.totals[key] = max(self.totals.get(key, 0.0), value)
            elif key in STAGES or key.endswith("_j"):
                self.totals[key] = self.totals.get(key, 0.0) + value

    def _add_to_curves(self, patterns: Sequence[str], line: Line) -> None:
        keys = (pattern.format(type=name) for pattern in patterns for name in self.config.task_types)
        for key in dict.fromkeys(keys):
            for value in self._mean(line, key):
                self.curves.setdefault(key, Curve()).add(line["step"] + 1, value)

    def _mean(self, line: Line, key: str) -> list[float]:
        """The value of a key, where * is the mean over task types; none where it is not logged."""
        keys = dict.fromkeys(key.replace("*", name) for name in self.config.task_types)
        values = [line[own] for own in keys if own in line]
        return [mean(values)] if values else []

    def _held_out(self) -> dict[str, list[Point]]:
        """Every evaluation made so far, over all problems and by type, with its interval where that was kept."""
        found: list[tuple[int, dict[str, Point]]] = []
        for path in (self.run.path / "eval").glob("*.json"):
            try:
                step, scores = evaluated_step(path), json.loads(path.read_text(encoding="utf-8"))["scores"]
                own = {of: scores[of] for of in ("all", *(of for of in self.config.task_types if of in scores))}
                points = {of: Point(step, float(s["accuracy"]), s.get("low"), s.get("high")) for of, s in own.items()}
            except (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError):
                continue  # another suite's, or half-written
            found.append((step, points))
        if not found:
            curve = (self.run.summary() or {}).get("curves", {}).get("held-out accuracy", [])
            found = [(step, {"all": Point(step, accuracy)}) for step, accuracy in curve]
        curves: dict[str, list[Point]] = {}
        for _, points in sorted(found, key=lambda item: item[0]):
            for of, point in points.items():
                curves.setdefault(of, []).append(point)
        return curves

    def by_type(self, key: str) -> dict[str, list[Point]]:
        """The points of a key such as ``solve/*/ok``, by task type and of "all"."""
        names = {**{name: name for name in self.config.task_types}, "all": "*"}
        keys = {of: key.replace("*", name) for of, name in names.items()}
        return {of: self.curves[own].points for of, own in keys.items() if own in self.curves}

    def unhealthy(self) -> dict[str, float]:
        """The numbers of the last step that are outside their healthy range."""
        rows = {key: metric_of(key) for key in self.last}
        return {key: value for key, value in self.last.items() if (row := rows[key]) and not row.healthy(value)}

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
        if not self.last:
            return "starting"
        age = time.time() - self.metrics.path.stat().st_mtime if self.metrics.path.exists() else 0.0
        return f"silent {clock(age)}" if age > max(SILENT_S, 10 * mean(self.pace)) else "running"

    @property
    def left(self) -> str:
        """Time to the last step at the pace of the last twenty; empty where it is not known or the run has ended."""
        return "" if self.ended or not self.pace else clock(mean(self.pace) * max(0, self.config.steps - self.done))

    @property
    def quiet_s(self) -> float:
        """Seconds since a file of the run changed last; RunDirectoryError where the run is gone."""
        newest = 0.0
        for path in (self.run.path, self.run.path / "eval", *self.run.path.glob("*"), *self.run.path.glob("eval/*")):
            try:
                newest = max(newest, path.stat().st_mtime)
            except FileNotFoundError:  # there is no eval yet, or a temporary name that is renamed by now
                continue
        self.check_there()
        return time.time() - newest

    @property
    def given_up(self) -> bool:
        """Whether the run has been quiet too long to be waited for."""
        return not self.ended and self.quiet_s > max(PATIENCE_S, 30 * mean(self.pace))

    def check_there(self) -> None:
        """RunDirectoryError where the run is gone."""
        if not self.run.path.is_dir():
            raise RunDirectoryError(f"{self.run.path} is gone; it was moved or deleted while it was followed")


def _finite(line: Line) -> Iterator[tuple[str, float]]:
    return ((key, float(value)) for key, value in line.items() if math.isfinite(value) and key != "step")


def _numbers_only(log: Log, line: dict[str, Any]) -> Line:
    wrong = next((name for name, value in line.items() if not isinstance(value, int | float)), None)
    if wrong is not None:
        form = f"is not in this azr_lite's form ({wrong} is no number)"
        raise RunDirectoryError(f"{log.path} {form}; use the version named in run.json")
    return line
