"""What a report says of one run, except its proposals: numbers, curves, cost and settings, read in one pass over each
file.

Memory does not grow with the run: curves are thinned, and of each logged number only its bounds are kept. What is
missing is said in `notes`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from azr_lite.config import Config
from azr_lite.errors import ConfigError, EvaluationError
from azr_lite.evaluation.results import Result, read_result
from azr_lite.evaluation.scores import Item, compare_paired
from azr_lite.metrics import STAGES, Metric, metric_of
from azr_lite.observe.charts import Point
from azr_lite.observe.follow import Followed
from azr_lite.observe.reader import Line, form_checked, log_lines
from azr_lite.presets import preset
from azr_lite.rundir import RunDir


@dataclass(frozen=True)
class Gain:
    """Held-out accuracy of one task type before and after, and the paired gain, in shares. `p`: McNemar's."""

    type: str
    n: int
    before: float
    after: float
    gain: float
    low: float
    high: float
    won: int
    lost: int
    p: float
    form_gain: float | None = None

    @property
    def points(self) -> str:
        """The gain and its interval in points."""
        return f"{100 * self.gain:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


def gain_of(of: str, before: dict[str, Any], after: dict[str, Any], row: dict[str, Any]) -> Gain:
    """From two scores of one task type and what `compare_paired` says of them."""
    numbers = [float(row[name]) for name in ("gain", "low", "high")]
    counts = int(row["won"]), int(row["lost"]), float(row["p"]), row.get("form_gain")
    return Gain(of, int(after["n"]), float(before["accuracy"]), float(after["accuracy"]), *numbers, *counts)


@dataclass
class OutOfRange:
    """A logged number, and when it left its healthy range."""

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


@dataclass
class RunFacts:
    """All that is said of one run, except its proposals. `name`: how a page calls it."""

    followed: Followed
    info: dict[str, Any]
    name: str
    gains: list[Gain] = field(default_factory=list)
    held_out: dict[str, list[Point]] = field(default_factory=dict)
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    out_of_range: list[OutOfRange] = field(default_factory=list)
    totals: dict[str, float] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    settings: list[tuple[str, Any, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    last_items: list[Item] = field(default_factory=list, repr=False)

    @property
    def run(self) -> RunDir:
        return self.followed.run

    @property
    def config(self) -> Config:
        return self.followed.config

    @property
    def steps(self) -> int:
        return self.followed.done

    @property
    def state(self) -> str:
        said = {"finished": "finished", "stopped": "stopped before its last step"}
        return said.get(self.followed.state, "not ended: still running, or killed")

    @property
    def all(self) -> Gain | None:
        """The pooled gain."""
        return next((gain for gain in self.gains if gain.type == "all"), None)

    def without_place(self, error: Exception) -> str:
        """What an error says, for a page: no folder of this machine stands on one."""
        return str(error).replace(f"{self.run.path}/", "").replace(str(self.run.path), "the run")

    def lines(self, name: str) -> Iterator[Line]:
        """All lines of one log, or none and a note where the file is missing."""
        if not (self.run.path / name).exists():
            self.notes.append(f"{name} is missing (only a sample of the run was kept, or it has not begun)")
            return iter(())
        return log_lines(self.run, name)


def read_facts(run: RunDir) -> RunFacts:
    """Everything but the proposals. RunDirectoryError or EvaluationError says what is missing, damaged or foreign."""
    with form_checked(run):
        info = run.info() if (run.path / "run.json").exists() else {}
        facts = RunFacts(Followed(run), info, str(run.path))
        if not info:
            unknown = "command, versions and hardware are not known"
            facts.notes.append(f"run.json is missing (only a sample of the run was kept): {unknown}")
        _check_info(info)
        _read_metrics(facts)
        _read_timing(facts)
        _read_evaluations(facts)
        facts.settings = _settings(facts.config)
    return facts


def _check_info(info: dict[str, Any]) -> None:
    """TypeError where a part of run.json is no object: the page would trip over it."""
    parts = {name: info.get(name) or {} for name in ("environment", "sandbox", "model")}
    if isinstance(parts["environment"], dict):
        parts["versions"] = parts["environment"].get("versions", {})
    for name, value in parts.items():
        if not isinstance(value, dict):
            raise TypeError(f"{name} in run.json is no object")


def _finite_numbers(line: Line) -> Iterator[tuple[str, float]]:
    for key, value in line.items():
        if isinstance(value, int | float) and math.isfinite(value) and key != "step":
            yield key, float(value)


def _read_metrics(facts: RunFacts) -> None:
    numbers: dict[str, OutOfRange] = {}
    for line in facts.lines("metrics.jsonl"):
        for key, value in _finite_numbers(line):
            if (row := metric_of(key, "metrics.jsonl")) is not None:
                numbers.setdefault(key, OutOfRange(key, row)).add(line["step"], value)
            if key.startswith("tokens/"):
                facts.totals[key] = facts.totals.get(key, 0.0) + value
    outside = [number for number in numbers.values() if number.outside]
    facts.out_of_range = sorted(outside, key=lambda number: (-number.outside / number.steps, number.key))


def _read_timing(facts: RunFacts) -> None:
    for line in facts.lines("timing.jsonl"):
        for key, value in _finite_numbers(line):
            if key in STAGES:
                facts.stages[key] = facts.stages.get(key, 0.0) + value
            elif key.endswith("_j"):
                facts.totals[key] = facts.totals.get(key, 0.0) + value
            elif key.endswith("memory_mib"):
                facts.totals[key] = max(facts.totals.get(key, 0.0), value)
    if not facts.stages:
        seconds = (facts.run.summary() or {}).get("seconds", {})
        facts.stages = {name: float(value) for name, value in seconds.items() if name in STAGES}


def _read_evaluations(facts: RunFacts) -> None:
    """Held-out points of every evaluation, and the paired gain of the last over the first, from the items."""
    results = _results(facts)
    if not results:
        _read_gains_of_summary(facts)
        return
    first, last = results[min(results)], results[max(results)]
    facts.held_out, facts.baselines, facts.last_items = facts.followed.held_out, last.record["baselines"], last.items
    if first is last:
        facts.notes.append("only one held-out evaluation is there: no gain can be given yet")
        return
    try:
        changes = compare_paired(first.items, last.items)
    except ValueError as error:
        raise EvaluationError(f"{facts.run.path / 'eval'}: {error}") from error
    facts.gains = [gain_of(of, first.scores[of], last.scores[of], row) for of, row in changes.items()]


def _results(facts: RunFacts) -> dict[int, Result]:
    """The evaluations by step; none, and a note, where one of them is damaged."""
    folder, names = facts.run.path / "eval", {}
    for file in folder.glob("*.json"):
        number = "0" if file.stem == "before" else file.stem.removeprefix("step-")
        if number.isdecimal() and number.isascii():
            names[int(number)] = file.stem
    try:
        found = {step: read_result(folder, names[step]) for step in sorted(names)}
    except EvaluationError as error:  # the rest of the report does not hang on it
        # where answers are missing a sample was kept: `_read_gains_of_summary` says so
        if all((folder / f"{name}.jsonl").exists() for name in names.values()):
            facts.notes.append(facts.without_place(error))
        return {}
    return {step: result for step, result in found.items() if result is not None}  # resuming takes evaluations back


def _read_gains_of_summary(facts: RunFacts) -> None:
    """Held-out points and gains from summary.json, where the answers themselves were not kept."""
    summary = facts.run.summary() or {}
    points = summary.get("curves", {}).get("held-out accuracy", [])
    facts.held_out = {"all": [Point(float(x), float(y)) for x, y in points]} if points else {}
    for of, row in (summary.get("gain") or {}).items():
        facts.gains.append(gain_of(of, summary["before"][of], summary["after"][of], row))
    facts.gains.sort(key=lambda gain: gain.type != "all")
    facts.notes.append(
        "the held-out answers (eval/) are not there to be read: gains are those of summary.json"
        if facts.gains
        else "the run has no held-out evaluation yet, or was told to make none: there is no gain to report"
    )


def _settings(config: Config) -> list[tuple[str, Any, Any]]:
    """(setting, the preset's value, this run's) where they differ."""
    try:
        base = preset(config.preset).to_json()
    except ConfigError:
        base = Config().to_json()
    own = config.to_json().items()
    return [(n, base.get(n), value) for n, value in own if value != base.get(n) and n not in ("output_dir", "preset")]
