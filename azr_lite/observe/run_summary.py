"""A run as the doctor sees it: its curves, and its replies, rewards and advantages in one pass over the log.

Two things are exact, whatever the run learned: whether each reply earned what its verdict and solve rate say (paper
equations 4 to 6), and whether the advantages follow the rewards.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from azr_lite.advantages import estimator_of
from azr_lite.config import PER_PROMPT, Config
from azr_lite.errors import RunDirectoryError
from azr_lite.metrics import mean
from azr_lite.observe.reader import Curve, Followed, Line, Steps, by_step, form_checked
from azr_lite.rewards import NOT_WELL_FORMED, answer_reward, proposal_reward
from azr_lite.rundir import Log
from azr_lite.triplet import Reason, Verdict

POOLED = 10  # replies of one (role, type) needed to pool over steps, whose baselines differ: few correlate by luck
EQUAL = 1e-6  # rewards this close are equal: they were written by the same arithmetic

JUDGED = {
    "solved": "solve/*/ok", "solver well formed": "solve/*/well_formed", "solver tokens": "solve/*/tokens",
    "solver truncated": "solve/*/truncated", "solver no signal": "solve/*/no_signal",
    "proposer no signal": "propose/*/no_signal", "valid": "propose/*/ok", "proposer truncated": "propose/*/truncated",
    "solve rate": "propose/*/solve_rate", "learnable": "propose/*/learnable", "never solved": "propose/*/never_solved",
    "learnable tasks": "propose/*/learnable_tasks", "different programs": "propose/*/distinct_programs",
    "fresh": "propose/*/fresh", "copies": "propose/*/copies", "distinct": "propose/*/distinct_answers",
    "clip ratio": "clip_ratio", "gradient norm": "grad_norm",
    "learning rate": "learning_rate", "worlds": "validation/worlds", "kl": "kl",
}  # fmt: skip
"""The curves that are judged, and their keys in `Followed.curves`."""


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
    weight: float = 0.0  # sum of the absolute loss weights
    wrong: Steps = field(default_factory=Steps)  # replies with a reward that they did not earn; of them:
    impossible: int = 0  # valid proposals that nobody solved, with a reward above 0
    easy: int = 0  # valid proposals that everybody solved, with a reward above 0
    upside_down: int = 0  # well-formed wrong answers with -1 or less, where -0.5 is due
    length: Moments = field(default_factory=Moments)  # tokens, and what the reward is beyond its due
    rate: Moments = field(default_factory=Moments)  # solve rate and reward of every valid proposal
    pooled: dict[str, Moments] = field(default_factory=dict)  # reward and advantage of every reply, by task type
    groups: int = 0  # baseline groups of four or more whose rewards differ
    silent: int = 0  # those of them whose advantages are all 0
    within: Curve = field(default_factory=Curve)  # correlation of reward and advantage in each of the others

    def add(self, line: Line, config: Config) -> None:
        """One more reply. A reward of one's own is not judged."""
        rate, reward, verdict = line["solve_rate"], line["reward"], line["verdict"]
        self.replies += 1
        self.weight += abs(line["weight"])
        self.pooled.setdefault(line["type"], Moments()).add(reward, line["advantage"])
        valid = line["role"] == "propose" and verdict["ok"] and rate is not None
        if valid:
            self.rate.add(rate, reward)
        surplus = reward - due_in(line, config) if config.knows_reward else 0.0
        if abs(surplus) <= EQUAL:
            return
        self.wrong.add(line["step"])
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
            self.within.add(lines[0]["step"], moments.correlation)

    @property
    def correlation(self) -> float | None:
        """The mean correlation; inside groups where a whole log allows it, else pooled by (role, type)."""
        if self.within.count:
            return self.within.total / self.within.count
        pooled = [m.correlation for m in self.pooled.values() if m.n >= POOLED and m.correlation is not None]
        return mean(pooled) if pooled else None


def due(line: Line, zero: Any = "paper") -> float:
    """What a logged reply earns by its verdict and solve rate (equations 4 to 6). `zero`: `Config.zero_learnability`.

    A proposal that nobody was asked to solve earns what a rejected one does. That a program was a repeat is believed:
    only the whole run before it could tell.
    """
    verdict, rate = Verdict.from_json(line["verdict"]), line["solve_rate"]
    if line["role"] == "solve":
        return answer_reward(verdict).total
    repeated = "repeat" in line.get("reward_parts", ())
    return NOT_WELL_FORMED if rate is None else proposal_reward(verdict, rate, zero, repeated).total


def due_in(line: Line, config: Config) -> float:
    """`due` by the terms of a run's reward, none of them the user's own. The values of intrinsic terms are believed."""
    weights, parts = config.reward_weights, line.get("reward_parts", {})
    extra = sum(parts.get(name, 0.0) for name in weights)
    return due(line, config.zero_learnability) * weights.get("paper", 0.0) + extra


@dataclass
class RunSummary:
    """What the checks read. `curves`: those of `JUDGED` by name, empty where the run did not log the number."""

    config: Config
    steps: int = 0
    curves: dict[str, Curve] = field(default_factory=lambda: {name: Curve() for name in JUDGED})
    executor: dict[str, float] = field(default_factory=dict)  # outcomes, by kind
    gain: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("gain", "low", "high"), math.nan))  # held out
    roles: dict[str, RoleCheck] = field(default_factory=lambda: {"propose": RoleCheck(), "solve": RoleCheck()})
    parents: dict[str, Counter[bool]] = field(default_factory=dict)
    """Proposals that were shown references, by type and whether one was of the buffer (the zero triplet has no id)."""
    asked: int = 0  # tasks with three or more answers
    same: int = 0  # those of them whose answers are all the same text
    internal: Steps = field(default_factory=Steps)  # replies over which azr_lite failed
    internal_detail: str = ""  # of the first of them

    @property
    def not_logged(self) -> list[str]:
        """What this run did not log, so that no check could look at it."""
        return [*(name for name, curve in self.curves.items() if not curve.count), *([] if self.asked else ["answers"])]

    @property
    def not_judged(self) -> str:
        """What the doctor leaves alone although it was logged."""
        own = ", ".join(self.config.reward)
        return "" if self.config.knows_reward else f"Rewards are this run's own ({own}), so they are not judged."

    def add_step(self, lines: list[Line]) -> None:
        """The lines of rollouts.jsonl of one step."""
        several = self.config.proposals_per_prompt > 1
        groups: dict[Any, list[Line]] = {}
        for line in lines:
            role, kind = line["role"], line["type"]
            self.roles[role].add(line, self.config)
            self.add_reason(line["step"], line["verdict"]["reason"], line["verdict"]["detail"])
            per_prompt = estimator_of(self.config, role) in PER_PROMPT
            prompt = line["prompt"] if per_prompt and (several or role == "solve") else ""
            groups.setdefault((role, kind, prompt), []).append(line)
            if role == "propose" and line["parents"]:
                self.parents.setdefault(kind, Counter())[any(line["parents"])] += 1
        for (role, _, _), own in groups.items():
            self.roles[role].add_group(own)

    def add_reason(self, step: int, reason: str, detail: str) -> None:
        """Why a reply was rejected."""
        if reason == Reason.INTERNAL:
            self.internal.add(step)
            self.internal_detail = self.internal_detail or detail


def summarise(run: Followed) -> RunSummary:
    """One pass over rollouts and tasks. RunDirectoryError for a log that is missing, damaged or of another form."""
    place, directory = run.run.path, run.run
    if not run.lines:
        raise RunDirectoryError(f"{place} holds no whole step yet; wait for its first")
    with form_checked(directory):
        curves = {name: run.curves.get(key, Curve()) for name, key in JUDGED.items()}
        outcomes = ((key, curve.total) for key, curve in run.curves.items() if key.startswith("executor/"))
        executor = {key.removeprefix("executor/"): total for key, total in outcomes}
        found, last = RunSummary(run.config, run.lines, curves, executor), -1
        if run.summary and run.summary.get("gain"):
            found.gain = run.summary["gain"]["all"]
        for step, lines in by_step(directory, "rollouts.jsonl"):
            found.add_step(lines)
            last = step
        # metrics.jsonl is written last; a kept sample has gaps
        if last < (run.done - 1 if (place / "run.json").exists() else 0):
            where = f"{place / 'rollouts.jsonl'} ends before step {run.done - 1} of metrics.jsonl"
            raise RunDirectoryError(f"{where}; restore it from a copy")
        for line in Log(place / "tasks.jsonl").lines():
            if line["step"] < 0:  # a seed, which no line of rollouts.jsonl holds
                found.add_reason(line["step"], line["reason"], line["detail"])
            elif len(line["answers"]) >= 3:
                found.asked += 1
                found.same += len({answer["text"] for answer in line["answers"]}) == 1
    return found
