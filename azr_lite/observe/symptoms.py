"""A run as the doctor sees it: its settings, curves, pay and advantages, summed up in one pass over the logs.

Comes in: a run directory or a kept sample of one.  Goes out: a `RunSummary`.
Not covered: what the numbers mean for its health (`doctor.py`); what it wrote (`azr_lite.observe.analysis`).

Lines are read one at a time; only one step is held. Two things are exact, whatever the run learned: whether each reply was paid
what its verdict and solve rate earn (paper equations 4 to 6), and whether the advantages follow the rewards.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from azr_lite.config import Config
from azr_lite.errors import RunDirectoryError
from azr_lite.measures import Moments, programs, shape
from azr_lite.metrics import across, mean
from azr_lite.observe.reader import Line, StepLog
from azr_lite.rewards import NOT_WELL_FORMED, WRONG, learnability
from azr_lite.rundir import RunDir

POOLED = 10
"""Replies of one (role, type) needed to pool over steps: their baselines differ, and a handful correlates by luck."""
SHORT = 4
"""Steps that a curve needs to be judged: a single step of a small batch has groups with one reward by luck."""
PAID = 1e-6
"""Rewards this close are equal: they were written by the same arithmetic."""


@dataclass
class RewardCheck:
    """One role's rewards against what its verdicts earn. `first`: the first step with a wrong one. Correlations over wrong ones only."""

    replies: int = 0
    wrong: int = 0
    first: int | None = None
    impossible: int = 0
    """Valid proposals that nobody solved and that were paid above 0."""
    easy: int = 0
    """Valid proposals that everybody solved and that were paid above 0."""
    upside_down: int = 0
    """Well-formed wrong answers paid no more than -1, where -0.5 is due."""
    length: Moments = field(default_factory=Moments)
    """Tokens of a wrongly paid reply, and what it got beyond its due."""
    rate: Moments = field(default_factory=Moments)
    """Solve rate of every valid proposal, and its reward."""


@dataclass
class AdvantageCheck:
    """One role's advantages against its rewards. `within`: correlations inside each step's baseline group; `pooled`: over the run."""

    within: list[float] = field(default_factory=list)
    pooled: dict[str, Moments] = field(default_factory=dict)
    groups: int = 0
    silent: int = 0
    """Baseline groups whose rewards differ and whose advantages are all 0."""
    weight: float = 0.0

    @property
    def correlation(self) -> float | None:
        """The mean correlation; inside groups where a whole log allows it, else pooled by (role, type)."""
        if self.within:
            return mean(self.within)
        found = [m.correlation for m in self.pooled.values() if m.n >= POOLED and m.correlation is not None]
        return mean(found) if found else None


@dataclass
class RunSummary:
    """Everything the checks read. `curves`: name to one value a step (mean over task types); see `CURVES`."""

    config: Config
    steps: list[int] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)
    buffers: dict[str, list[tuple[float, float | None]]] = field(default_factory=dict)
    """Size and mean age by type and step."""
    executor: Counter[str] = field(default_factory=Counter)
    rewards: dict[str, RewardCheck] = field(default_factory=lambda: {"propose": RewardCheck(), "solve": RewardCheck()})
    advantages: dict[str, AdvantageCheck] = field(
        default_factory=lambda: {"propose": AdvantageCheck(), "solve": AdvantageCheck()}
    )
    parents: dict[str, Counter[bool]] = field(default_factory=dict)
    """Proposals that were shown references, by type and whether one of them was a task of the buffer (the zero triplet has no id)."""
    coverage: list[float] = field(default_factory=list)
    """Each step's different AST shapes / programs proposed, where there are eight or more."""
    asked: int = 0
    same: int = 0
    """Tasks with three or more answers, and those whose answers are all the same text."""
    gain: dict[str, float] | None = None

    @property
    def unasked(self) -> list[str]:
        """What this run did not log, so that no check could look at it."""
        return [*(name for name in CURVES if name not in self.curves), *(["answers"] if not self.asked else [])]

    def ends(self, name: str) -> tuple[float, float] | None:
        """Mean of the first and of the last fifth of a curve, at least two steps each; None for less than `SHORT` steps."""
        values = self.curves.get(name, [])
        if len(values) < SHORT:
            return None
        part = max(len(values) // 5, 2)
        return mean(values[:part]), mean(values[-part:])


CURVES = {
    "solved": ("solve/", "/ok"),
    "solver well formed": ("solve/", "/well_formed"),
    "solver tokens": ("solve/", "/tokens"),
    "solver truncated": ("solve/", "/truncated"),
    "solver no signal": ("solve/", "/no_signal"),
    "proposer no signal": ("propose/", "/no_signal"),
    "valid": ("propose/", "/ok"),
    "proposer truncated": ("propose/", "/truncated"),
    "solve rate": ("propose/", "/solve_rate"),
    "learnable": ("propose/", "/learnable"),
    "never solved": ("propose/", "/never_solved"),
    "fresh": ("propose/", "/fresh"),
    "clip ratio": ("clip_ratio", ""),
    "gradient norm": ("grad_norm", ""),
    "learning rate": ("learning_rate", ""),
    "worlds": ("validation/worlds", ""),
    "kl": ("kl", ""),
}
"""Curve: how the keys of metrics.jsonl that it averages begin and end. A number that a run did not log has no curve."""


def summarise(run: RunDir) -> RunSummary:
    """One pass over each log. RunDirectoryError, in one sentence, for a log that is missing, damaged or of another form."""
    found = RunSummary(run.config())
    try:
        for line in StepLog(run, "metrics.jsonl").since():
            _add_metrics(found, line)
        if not found.steps:
            raise RunDirectoryError(f"{run.path} holds no whole step yet; wait for its first")
        last = -1
        for step, lines in StepLog(run, "rollouts.jsonl").by_step():
            _add_step(found, lines)
            last = step
        if last < (
            found.steps[-1] if (run.path / "run.json").exists() else 0
        ):  # metrics.jsonl is written last; a kept sample has gaps
            raise RunDirectoryError(
                f"{run.path / 'rollouts.jsonl'} ends before step {found.steps[-1]} of metrics.jsonl; restore it from a copy"
            )
        if (run.path / "tasks.jsonl").exists():
            for line in StepLog(run, "tasks.jsonl").since(0):
                if len(line["answers"]) >= 3:
                    found.asked += 1
                    found.same += len({a["text"] for a in line["answers"]}) == 1
        summary = run.summary()
        found.gain = summary["gain"]["all"] if summary and summary.get("gain") else None
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise RunDirectoryError(
            f"the logs of {run.path} are not in this azr_lite's form ({error!r}); use the version that wrote it"
        ) from error
    return found


def _add_metrics(found: RunSummary, line: Line) -> None:
    found.steps.append(line["step"])
    for name, (start, end) in CURVES.items():
        values = across(line, start, end) if end else [line[start]] if start in line else []
        if values:
            found.curves.setdefault(name, []).append(mean(values))
    for key, value in line.items():
        if key.startswith("executor/"):
            found.executor[key.removeprefix("executor/")] += int(value)
        elif key.startswith("buffer/") and not key.endswith("/age"):
            found.buffers.setdefault(key.removeprefix("buffer/"), []).append((value, line.get(f"{key}/age")))


def _add_step(found: RunSummary, lines: list[Line]) -> None:
    per_prompt = found.config.estimator in ("grpo", "dr_grpo", "rloo")
    groups: dict[Any, list[Line]] = {}
    for line in lines:
        _check_reward(found.rewards[line["role"]], line, found.config)
        found.advantages[line["role"]].weight += abs(line["weight"])
        pooled = found.advantages[line["role"]].pooled.setdefault(line["type"], Moments())
        pooled.add(line["reward"], line["advantage"])
        alone = line["prompt"] if per_prompt and line["role"] == "solve" else ""
        groups.setdefault((line["role"], line["type"], alone), []).append(line)
        if line["role"] == "propose" and line["parents"]:
            found.parents.setdefault(line["type"], Counter())[any(line["parents"])] += 1
    for (role, _, _), own in groups.items():
        _check_group(found.advantages[role], own)
    written = [p for line in lines if line["role"] == "propose" for p in programs(line["text"])[:1]]
    shapes = [frozenset(s.items()) for p in written if (s := shape(p)) is not None]
    if len(shapes) >= 8:  # fewer are different by luck alone
        found.coverage.append(len(set(shapes)) / len(shapes))


def _check_group(checked: AdvantageCheck, own: list[Line]) -> None:
    if len(own) < 4 or max(line["reward"] for line in own) - min(line["reward"] for line in own) <= PAID:
        return
    checked.groups += 1
    moments = Moments()
    for line in own:
        moments.add(line["reward"], line["advantage"])
    if not any(line["advantage"] for line in own):
        checked.silent += 1
    elif moments.correlation is not None:
        checked.within.append(moments.correlation)


def due(line: Line, zero: str) -> float:
    """What a logged reply earns by equations 4 to 6: proposals -1 or learnability(r-bar); answers -1, -0.5, or the score."""
    verdict = line["verdict"]
    if line["role"] == "propose":
        if not verdict["ok"] or line["solve_rate"] is None:
            return NOT_WELL_FORMED
        return learnability(line["solve_rate"], zero)  # type: ignore[arg-type]
    if not verdict["well_formed"]:
        return NOT_WELL_FORMED
    return verdict["score"] if verdict["score"] > 0 else WRONG


def _check_reward(checked: RewardCheck, line: Line, config: Config) -> None:
    rate, reward, verdict = line["solve_rate"], line["reward"], line["verdict"]
    checked.replies += 1
    valid = line["role"] == "propose" and verdict["ok"] and rate is not None
    if valid:
        checked.rate.add(rate, reward)
    surplus = reward - due(line, config.zero_learnability)
    if abs(surplus) <= PAID:
        return
    checked.wrong += 1
    checked.first = line["step"] if checked.first is None else checked.first
    checked.length.add(line["tokens"], surplus)
    if valid:
        checked.impossible += rate == 0 and reward > 0
        checked.easy += rate == 1 and reward > 0
    elif line["role"] == "solve" and verdict["well_formed"] and not verdict["ok"]:
        checked.upside_down += reward <= NOT_WELL_FORMED
