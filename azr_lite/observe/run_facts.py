"""What a report says of one run, except its proposals: gains, settings, where it was made, and what is missing."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from azr_lite.config import Config
from azr_lite.errors import ConfigError, EvaluationError
from azr_lite.evaluation.scores import Item, Result, compare_paired, evaluated_step, read_result
from azr_lite.metrics import STAGES
from azr_lite.observe.charts import Point
from azr_lite.observe.follow import Followed
from azr_lite.observe.reader import form_checked
from azr_lite.presets import preset
from azr_lite.rundir import RunDir


class RunFacts(Followed):
    """A run as a page tells it. `name`, `number`: how the page calls it. `notes`: what is missing.

    `gains`: of every task type and "all", accuracy before and after and the paired gain, in shares.
    """

    def __init__(self, run: RunDir) -> None:
        super().__init__(run)
        self.name, self.number = str(run.path), 0
        self.notes: list[str] = []
        self.gains: list[dict[str, Any]] = []
        self.baselines: dict[str, dict[str, float]] = {}
        self.last_items: list[Item] = []
        self.is_nano = self.config.model == "nano"
        self.info = self._info()
        self.has_log("metrics.jsonl")
        self.has_log("timing.jsonl")
        kept = (run.summary() or {}).get("seconds", {}) if not self.last_times else self.totals
        self.stages = {name: float(seconds) for name, seconds in kept.items() if name in STAGES}
        out_of_range = [number for number in self.numbers.values() if number.outside]
        self.out_of_range = sorted(out_of_range, key=lambda number: (-number.outside / number.steps, number.key))
        results = self._results()
        if results:
            self._compare(results[min(results)], results[max(results)])
        else:
            self._read_gains_of_summary()
        self.settings = _settings(self.config)

    @property
    def all(self) -> dict[str, Any] | None:
        """The pooled gain."""
        return next((gain for gain in self.gains if gain["type"] == "all"), None)

    def without_place(self, error: Exception) -> str:
        """What an error says, for a page: no folder of this machine stands on one."""
        return str(error).replace(f"{self.run.path}/", "").replace(str(self.run.path), "the run")

    def has_log(self, name: str) -> bool:
        """Whether a log is there; if not, a note says so."""
        is_there = (self.run.path / name).exists()
        if not is_there:
            self.notes.append(f"{name} is missing (only a sample of the run was kept, or it has not begun)")
        return is_there

    def _info(self) -> dict[str, Any]:
        """What run.json holds; TypeError where a part of it is no object: the page would trip over it."""
        if not (self.run.path / "run.json").exists():
            unknown = "command, versions and hardware are not known"
            self.notes.append(f"run.json is missing (only a sample of the run was kept): {unknown}")
            return {}
        info = self.run.info()
        parts = {name: info.get(name) or {} for name in ("environment", "sandbox", "model")}
        if isinstance(parts["environment"], dict):
            parts["versions"] = parts["environment"].get("versions", {})
        for name, value in parts.items():
            if not isinstance(value, dict):
                raise TypeError(f"{name} in run.json is no object")
        return info

    def _results(self) -> dict[int, Result]:
        """The evaluations by step; none, and a note, where one of them is damaged."""
        folder, files = self.run.path / "eval", {}
        for file in folder.glob("*.json"):
            with suppress(ValueError):  # another suite's
                files[evaluated_step(file)] = file
        try:
            found = {step: read_result(folder, file.stem) for step, file in files.items()}
        except EvaluationError as error:  # the rest of the report does not hang on it
            # where answers are missing a sample was kept: `_read_gains_of_summary` says so
            if all(file.with_suffix(".jsonl").exists() for file in files.values()):
                self.notes.append(self.without_place(error))
            return {}
        return {step: result for step, result in found.items() if result is not None}  # resuming takes some back

    def _compare(self, first: Result, last: Result) -> None:
        """The paired gain of the last evaluation over the first, from the items."""
        self.baselines, self.last_items = last.record["baselines"], last.items
        if first is last:
            self.notes.append("only one held-out evaluation is there: no gain can be given yet")
            return
        try:
            changes = compare_paired(first.items, last.items)
        except ValueError as error:
            raise EvaluationError(f"{self.run.path / 'eval'}: {error}") from error
        self.gains = [_gain(of, first.scores[of], last.scores[of], row) for of, row in changes.items()]

    def _read_gains_of_summary(self) -> None:
        """Held-out points and gains from summary.json, where the answers themselves were not kept."""
        summary = self.run.summary() or {}
        points = summary.get("curves", {}).get("held-out accuracy", [])
        self.held_out = {"all": [Point(float(x), float(y)) for x, y in points]} if points else {}
        gains = [
            _gain(of, summary["before"][of], summary["after"][of], row)
            for of, row in (summary.get("gain") or {}).items()
        ]
        self.gains = sorted(gains, key=lambda gain: gain["type"] != "all")
        self.notes.append(
            "the held-out answers (eval/) are not there to be read: gains are those of summary.json"
            if gains
            else "the run has no held-out evaluation yet, or was told to make none: there is no gain to report"
        )


def read_facts(run: RunDir) -> RunFacts:
    """Everything but the proposals. RunDirectoryError or EvaluationError says what is missing, damaged or foreign."""
    with form_checked(run):
        return RunFacts(run)


def _gain(of: str, before: dict[str, Any], after: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """From two scores of one task type and what `compare_paired` says of them."""
    numbers = {name: float(row[name]) for name in ("gain", "low", "high", "won", "lost", "p")}
    scores = {"n": int(after["n"]), "before": float(before["accuracy"]), "after": float(after["accuracy"])}
    return {"type": of, "form_gain": row.get("form_gain"), **scores, **numbers}


def _settings(config: Config) -> list[tuple[str, Any, Any]]:
    """(setting, the preset's value, this run's) where they differ."""
    try:
        base = preset(config.preset).to_json()
    except ConfigError:
        base = Config().to_json()
    own = config.to_json().items()
    return [(n, base.get(n), value) for n, value in own if value != base.get(n) and n not in ("output_dir", "preset")]
