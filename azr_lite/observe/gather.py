"""What a report says of one run, gathered by streaming its files once or twice.

Comes in: a run directory, ended, being written, or the sample of one.  Goes out: a `Picture`: numbers, curves, findings, cost, settings.
Not covered: proposals (`proposals.py`, `lineage.py`), words and pages (`report.py`).

Memory does not grow with the run: curves are thinned, of each logged number only its bounds are kept. What is missing is said in `notes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from azr_lite.config import Config
from azr_lite.errors import ConfigError, EvaluationError, RunDirectoryError
from azr_lite.evaluation.results import Result, read_result
from azr_lite.evaluation.scores import Item, compare_paired
from azr_lite.metrics import STAGES
from azr_lite.observe.catalogue import Metric, metric_of
from azr_lite.observe.figures import Curve, Point
from azr_lite.observe.reader import Line, StepLog, open_run
from azr_lite.presets import preset
from azr_lite.rundir import RunDir

MOST_NUMBERS = 2000
"""Different logged numbers that are judged; more would be a foreign log."""

CURVES: dict[str, tuple[str, str]] = {
    "reply length": ("solve", "tokens"),
    "solve rate": ("propose", "solve_rate"),
    "valid share": ("propose", "ok"),
    "solved share": ("solve", "ok"),
}
"""Name of a curve: role and last part of the keys it is drawn from."""


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


@dataclass
class Finding:
    """A number that left its healthy range."""

    key: str
    metric: Metric
    outside: int = 0
    steps: int = 0
    first: int = 0
    last: int = 0
    worst: float = 0.0
    newest: float = 0.0

    @property
    def share(self) -> float:
        return self.outside / max(1, self.steps)

    def take(self, step: int, value: float) -> None:
        """The value of one more step."""
        self.steps, self.newest = self.steps + 1, value
        if self.metric.healthy(value):
            return
        if not self.outside:
            self.first, self.worst = step, value
        self.outside, self.last = self.outside + 1, step
        if self._far(value) > self._far(self.worst):
            self.worst = value

    def _far(self, value: float) -> float:
        bounds = (self.metric.low, self.metric.high)
        return max((abs(value - bound) for bound in bounds if bound is not None), default=0.0)


@dataclass
class Picture:
    """All that is said of one run, except its proposals."""

    run: RunDir
    config: Config
    info: dict[str, Any]
    summary: dict[str, Any] | None
    name: str
    steps: int = 0
    gains: list[Gain] = field(default_factory=list)
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    held_out: dict[str, list[Point]] = field(default_factory=dict)
    curves: dict[str, dict[str, Curve]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    totals: dict[str, float] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    settings: list[tuple[str, Any, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    last_items: list[Item] = field(default_factory=list, repr=False)

    @property
    def state(self) -> str:
        if self.summary is None:
            return "not ended: still running, or killed"
        return "finished" if self.summary.get("finished") else "stopped before its last step"

    @property
    def all(self) -> Gain | None:
        """The pooled gain."""
        return next((gain for gain in self.gains if gain.type == "all"), None)

    def without_place(self, error: Exception) -> str:
        """What an error says, for a page: no folder of this machine stands on one."""
        return str(error).replace(f"{self.run.path}/", "").replace(str(self.run.path), "the run")

    def curve(self, name: str, of: str) -> Curve:
        return self.curves.setdefault(name, {}).setdefault(of, Curve())


def gather(path: str | Path) -> Picture:
    """Everything but the proposals. RunDirectoryError or EvaluationError says what is missing, damaged or foreign."""
    run = open_run(path)
    try:
        info = run.info() if (run.path / "run.json").exists() else {}
        picture = Picture(run, run.config(), info, run.summary(), str(path))
        if not info:
            picture.notes.append(
                "run.json is missing (only a sample of the run was kept): command, versions and hardware are not known"
            )
        _check_info(info)
        _metrics(picture)
        _timing(picture)
        _evaluations(picture)
        picture.settings = _settings(picture.config)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise RunDirectoryError(
            f"{path} is not in this azr_lite's form ({error!r}); use the version named in run.json"
        ) from error
    return picture


def _check_info(info: dict[str, Any]) -> None:
    """TypeError where a part of run.json is no object: the page would trip over it."""
    own = {name: info.get(name) or {} for name in ("environment", "sandbox", "model")}
    own["versions"] = own["environment"].get("versions", {}) if isinstance(own["environment"], dict) else {}
    for name, value in own.items():
        if not isinstance(value, dict):
            raise TypeError(f"{name} in run.json is no object")


def lines_of(picture: Picture, name: str, wanted: Callable[[bytes], bool] | None = None) -> Iterator[Line]:
    """All lines of one log (`wanted`: see `StepLog.since`), or none and a note where the file is missing."""
    try:
        log = StepLog(picture.run, name)
    except RunDirectoryError:
        picture.notes.append(f"{name} is missing (only a sample of the run was kept, or it has not begun)")
        return
    yield from log.since(wanted=wanted)


def _numbers(line: Line) -> Iterator[tuple[str, float]]:
    for key, value in line.items():
        if isinstance(value, int | float) and math.isfinite(value) and key != "step":
            yield key, float(value)


def _metrics(picture: Picture) -> None:
    found: dict[str, Finding] = {}
    wanted = {(role, last): name for name, (role, last) in CURVES.items()}
    for line in lines_of(picture, "metrics.jsonl"):
        step, means = line["step"], {}
        picture.steps = step + 1
        for key, value in _numbers(line):
            _judge(found, key, step, value, "metrics.jsonl")
            role, _, rest = key.partition("/")
            of, _, last = rest.rpartition("/")
            if (name := wanted.get((role, last))) and "/" not in of and of in picture.config.task_types:
                picture.curve(name, of).add(step + 1, value)
                means.setdefault(name, []).append(value)
            if key.startswith("tokens/"):
                picture.totals[key] = picture.totals.get(key, 0.0) + value
        for name, values in means.items():
            picture.curve(name, "all").add(step + 1, sum(values) / len(values))
    picture.findings = sorted((f for f in found.values() if f.outside), key=lambda f: (-f.share, f.key))


def _judge(found: dict[str, Finding], key: str, step: int, value: float, file: str) -> None:
    finding = found.get(key)
    if finding is None and len(found) < MOST_NUMBERS and (row := metric_of(key, file)) is not None:
        finding = found[key] = Finding(key, row)
    if finding is not None:
        finding.take(step, value)


def _timing(picture: Picture) -> None:
    for line in lines_of(picture, "timing.jsonl"):
        for key, value in _numbers(line):
            if key in STAGES:
                picture.stages[key] = picture.stages.get(key, 0.0) + value
            elif key.endswith("_j"):
                picture.totals[key] = picture.totals.get(key, 0.0) + value
            elif key.endswith("memory_mib"):
                picture.totals[key] = max(picture.totals.get(key, 0.0), value)
    if not picture.stages and picture.summary:
        picture.stages = {
            name: float(value) for name, value in picture.summary.get("seconds", {}).items() if name in STAGES
        }


def _evaluations(picture: Picture) -> None:
    """Held-out points of every evaluation, and the paired gain of the last over the first, from the items themselves."""
    folder, names = picture.run.path / "eval", {}
    for file in folder.glob("*.json"):
        number = "0" if file.stem == "before" else file.stem.removeprefix("step-")
        if number.isdecimal() and number.isascii():
            names[int(number)] = file.stem
    first: Result | None = None
    last: Result | None = None
    try:
        for step in sorted(names):
            found = read_result(folder, names[step])
            if found is None:  # a run that is being resumed takes evaluations back
                continue
            first, last = first or found, found
            for of in ("all", *picture.config.task_types):
                if of in found.scores:
                    score = found.scores[of]
                    picture.held_out.setdefault(of, []).append(
                        Point(step, score["accuracy"], score["low"], score["high"])
                    )
    except EvaluationError as error:  # the rest of the report does not hang on it
        if all(
            (folder / f"{name}.jsonl").exists() for name in names.values()
        ):  # else a sample was kept: `_from_summary` says so
            picture.notes.append(picture.without_place(error))
        first = None
    if first is None or last is None:
        _from_summary(picture)
        return
    picture.baselines, picture.last_items = last.record["baselines"], last.items
    if first is last:
        picture.notes.append("only one held-out evaluation is there: no gain can be given yet")
        return
    try:
        changes = compare_paired(first.items, last.items)
    except ValueError as error:
        raise EvaluationError(f"{folder}: {error}") from error
    for of, row in changes.items():
        before, after = first.scores[of], last.scores[of]
        picture.gains.append(_gain(of, before, after, row))


def _gain(of: str, before: dict[str, Any], after: dict[str, Any], row: dict[str, Any]) -> Gain:
    numbers = [
        float(number) for number in (before["accuracy"], after["accuracy"], row["gain"], row["low"], row["high"])
    ]
    return Gain(of, int(after["n"]), *numbers, int(row["won"]), int(row["lost"]), float(row["p"]), row.get("form_gain"))


def _from_summary(picture: Picture) -> None:
    """Held-out points and gains from summary.json, where the answers themselves were not kept."""
    summary = picture.summary or {}
    points = summary.get("curves", {}).get("held-out accuracy", [])
    picture.held_out = {"all": [Point(float(x), float(y)) for x, y in points]} if points else {}
    for of, row in (summary.get("gain") or {}).items():
        picture.gains.append(_gain(of, summary["before"][of], summary["after"][of], row))
    picture.gains.sort(key=lambda gain: gain.type != "all")
    picture.notes.append(
        "the held-out answers (eval/) are not there to be read: gains are those of summary.json"
        if picture.gains
        else "the run has no held-out evaluation yet, or was told to make none: there is no gain to report"
    )


def _settings(config: Config) -> list[tuple[str, Any, Any]]:
    """(setting, the preset's value, this run's) where they differ."""
    try:
        base = preset(config.preset).to_json()
    except ConfigError:
        base = Config().to_json()
    own = config.to_json()
    return [
        (name, base.get(name), value)
        for name, value in own.items()
        if value != base.get(name) and name not in ("output_dir", "preset")
    ]
