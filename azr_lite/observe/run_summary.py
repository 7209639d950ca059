"""A run as the doctor sees it: settings, curves, rewards and advantages, summed up in one pass over each log.

Two things are exact, whatever the run learned: whether each reply earned what its verdict and solve rate say (paper
equations 4 to 6), and whether the advantages follow the rewards.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from azr_lite.config import Config
from azr_lite.errors import RunDirectoryError
from azr_lite.metrics import across, mean
from azr_lite.observe.measures import programs, shape
from azr_lite.observe.reader import Line, by_step, form_checked, log_lines
from azr_lite.rewards import NOT_WELL_FORMED, WRONG, learnability
from azr_lite.rundir import RunDir

POOLED = 10
"""Replies of one (role, type) needed to pool over steps: their baselines differ, and a handful correlates by luck."""
SHORT = 4
"""Steps that a curve needs to be judged: a single step of a small batch has groups with one reward by luck."""
EQUAL = 1e-6
"""Rewards this close are equal: they were written by the same arithmetic."""

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


class Moments:
    """Running sums of pairs, in constant memory: `correlation` is Pearson's r, None where either does not vary."""

    def __init__(self) -> None:
        self.n, self.x, self.y, self.xx, self.yy, self.xy = 0, 0.0, 0.0, 0.0, 0.0, 0.0

    def add(self, x: float, y: float) -> None:
        self.n += 1
        self.x, self.y = self.x + x, self.y + y
        self.xx, self.yy, self.xy = self.xx + x * x, self.yy + y * y, self.xy + x * y

    @property
    def correlation(self) -> float | None:
        n = max(1, self.n)
        vx, vy = self.xx - self.x * self.x / n, self.yy - self.y * self.y / n
        if self.n < 2 or vx <= 1e-9 or vy <= 1e-9:
            return None
        return (self.xy - self.x * self.y / self.n) / math.sqrt(vx * vy)


@dataclass
class RoleCheck:
    """One role's rewards against what its verdicts earn, and its advantages against its rewards."""

    replies: int = 0
    wrong: int = 0
    """Replies with a reward they did not earn."""
    first: int | None = None
    """The first step with such a reply."""
    impossible: int = 0
    """Valid proposals that nobody solved, with a reward above 0."""
    easy: int = 0
    """Valid proposals that everybody solved, with a reward above 0."""
    upside_down: int = 0
    """Well-formed wrong answers with a reward of -1 or less, where -0.5 is due."""
    length: Moments = field(default_factory=Moments)
    """Tokens of a reply with a wrong reward, and what it got beyond its due."""
    rate: Moments = field(default_factory=Moments)
    """Solve rate of every valid proposal, and its reward."""
    within: list[float] = field(default_factory=list)
    """Correlation of reward and advantage in each baseline group of each step."""
    pooled: dict[str, Moments] = field(default_factory=dict)
    """Reward and advantage of every reply, by task type."""
    groups: int = 0
    """Baseline groups of four or more whose rewards differ."""
    silent: int = 0
    """Those of them whose advantages are all 0."""
    weight: float = 0.0
    """Sum of the absolute loss weights."""

    def add(self, line: Line, zero: str) -> None:
        """One more reply; `zero`: see `due`."""
        rate, reward, verdict = line["solve_rate"], line["reward"], line["verdict"]
        self.replies += 1
        self.weight += abs(line["weight"])
        self.pooled.setdefault(line["type"], Moments()).add(reward, line["advantage"])
        valid = line["role"] == "propose" and verdict["ok"] and rate is not None
        if valid:
            self.rate.add(rate, reward)
        surplus = reward - due(line, zero)
        if abs(surplus) <= EQUAL:
            return
        self.wrong += 1
        self.first = line["step"] if self.first is None else self.first
        self.length.add(line["tokens"], surplus)
        if valid:
            self.impossible += rate == 0 and reward > 0
            self.easy += rate == 1 and reward > 0
        elif line["role"] == "solve" and verdict["well_formed"] and not verdict["ok"]:
            self.upside_down += reward <= NOT_WELL_FORMED

    def add_group(self, lines: list[Line]) -> None:
        """One baseline group of one step."""
        rewards = [line["reward"] for line in lines]
        if len(lines) < 4 or max(rewards) - min(rewards) <= EQUAL:
            return
        self.groups += 1
        moments = Moments()
        for line in lines:
            moments.add(line["reward"], line["advantage"])
        if not any(line["advantage"] for line in lines):
            self.silent += 1
        elif moments.correlation is not None:
            self.within.append(moments.correlation)

    @property
    def correlation(self) -> float | None:
        """The mean correlation; inside groups where a whole log allows it, else pooled by (role, type)."""
        pooled = [m.correlation for m in self.pooled.values() if m.n >= POOLED and m.correlation is not None]
        found = self.within or pooled
        return mean(found) if found else None


@dataclass
class RunSummary:
    """Everything the checks read. `curves`: name to one value per step (mean over task types); see `CURVES`."""

    config: Config
    steps: list[int] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)
    buffers: dict[str, list[tuple[float, float | None]]] = field(default_factory=dict)
    """Size and mean age by type and step."""
    executor: Counter[str] = field(default_factory=Counter)
    roles: dict[str, RoleCheck] = field(default_factory=lambda: {"propose": RoleCheck(), "solve": RoleCheck()})
    parents: dict[str, Counter[bool]] = field(default_factory=dict)
    """Proposals that were shown references, by type and whether one was of the buffer (the zero triplet has no id)."""
    coverage: list[float] = field(default_factory=list)
    """Each step's different AST shapes / programs proposed, where there are eight or more."""
    asked: int = 0
    same: int = 0
    """Tasks with three or more answers, and those whose answers are all the same text."""
    gain: dict[str, float] | None = None

    @property
    def not_logged(self) -> list[str]:
        """What this run did not log, so that no check could look at it."""
        return [*(name for name in CURVES if name not in self.curves), *([] if self.asked else ["answers"])]

    def ends(self, name: str) -> tuple[float, float] | None:
        """Mean of a curve's first and last fifth, at least two steps each; None for less than `SHORT` steps."""
        values = self.curves.get(name, [])
        if len(values) < SHORT:
            return None
        part = max(len(values) // 5, 2)
        return mean(values[:part]), mean(values[-part:])

    def add_metrics(self, line: Line) -> None:
        """One line of metrics.jsonl."""
        self.steps.append(line["step"])
        for name, (start, end) in CURVES.items():
            if values := across(line, start, end) if end else [line[start]] if start in line else []:
                self.curves.setdefault(name, []).append(mean(values))
        for key, value in line.items():
            if key.startswith("executor/"):
                self.executor[key.removeprefix("executor/")] += int(value)
            elif key.startswith("buffer/") and not key.endswith("/age"):
                self.buffers.setdefault(key.removeprefix("buffer/"), []).append((value, line.get(f"{key}/age")))

    def add_rollouts(self, lines: list[Line]) -> None:
        """The lines of rollouts.jsonl of one step."""
        per_prompt = self.config.estimator in ("grpo", "dr_grpo", "rloo")
        groups: dict[Any, list[Line]] = {}
        for line in lines:
            role, kind = line["role"], line["type"]
            self.roles[role].add(line, self.config.zero_learnability)
            prompt = line["prompt"] if per_prompt and role == "solve" else ""
            groups.setdefault((role, kind, prompt), []).append(line)
            if role == "propose" and line["parents"]:
                self.parents.setdefault(kind, Counter())[any(line["parents"])] += 1
        for (role, _, _), own in groups.items():
            self.roles[role].add_group(own)
        written = [p for line in lines if line["role"] == "propose" for p in programs(line["text"])[:1]]
        shapes = [frozenset(found.items()) for p in written if (found := shape(p)) is not None]
        if len(shapes) >= 8:  # fewer are different by luck alone
            self.coverage.append(len(set(shapes)) / len(shapes))


def summarise(run: RunDir) -> RunSummary:
    """One pass over each log. RunDirectoryError for a log that is missing, damaged or of another form."""
    found = RunSummary(run.config())
    with form_checked(run):
        for line in log_lines(run, "metrics.jsonl"):
            found.add_metrics(line)
        if not found.steps:
            raise RunDirectoryError(f"{run.path} holds no whole step yet; wait for its first")
        last = -1
        for step, lines in by_step(run, "rollouts.jsonl"):
            found.add_rollouts(lines)
            last = step
        # metrics.jsonl is written last; a kept sample has gaps
        if last < (found.steps[-1] if (run.path / "run.json").exists() else 0):
            where = f"{run.path / 'rollouts.jsonl'} ends before step {found.steps[-1]} of metrics.jsonl"
            raise RunDirectoryError(f"{where}; restore it from a copy")
        for line in log_lines(run, "tasks.jsonl") if (run.path / "tasks.jsonl").exists() else ():
            if line["step"] >= 0 and len(line["answers"]) >= 3:
                found.asked += 1
                found.same += len({answer["text"] for answer in line["answers"]}) == 1
        summary = run.summary()
        found.gain = summary["gain"]["all"] if summary and summary.get("gain") else None
    return found


def due(line: Line, zero: str) -> float:
    """What a logged reply earns by equations 4 to 6: proposals -1 or learnability(r-bar); answers -1, -0.5, or the
    score.

    `zero`: `Config.zero_learnability`.
    """
    verdict = line["verdict"]
    if line["role"] == "propose":
        if not verdict["ok"] or line["solve_rate"] is None:
            return NOT_WELL_FORMED
        return learnability(line["solve_rate"], zero)  # type: ignore[arg-type]
    if not verdict["well_formed"]:
        return NOT_WELL_FORMED
    return verdict["score"] if verdict["score"] > 0 else WRONG
