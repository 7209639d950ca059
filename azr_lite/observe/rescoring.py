"""Re-scoring: what a recorded run would have earned under other rewards or another estimator. No model, no sandbox.

The replies are those of the recorded run: this compares the signal, not what the policy would have become.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from azr_lite.advantages import with_advantages
from azr_lite.config import Config
from azr_lite.errors import ConfigError
from azr_lite.observe.reader import Line, by_step, form_checked
from azr_lite.rewards import NOT_WELL_FORMED, WRONG, answer_reward, proposal_reward
from azr_lite.rundir import RunDir
from azr_lite.triplet import Role, Rollout, Verdict

LADDER = {"not_well_formed": NOT_WELL_FORMED, "wrong": WRONG}
"""Rungs of the format ladder that can be changed beside the settings, and the paper's reward for them."""

SETTINGS = ("estimator", "whitening", "zero_learnability")


@dataclass(frozen=True, slots=True)
class StepComparison:
    """One step, as recorded (first of each pair) and re-scored (second).

    `reward`: mean reward of each (role, type). `silent`: groups in which all advantages are 0. `size`: mean
    |advantage|. `turned`: share of rollouts whose advantage changed its sign (or became or ceased to be 0).
    `correlation`: of the two advantages over the step, 1.0 where they are equal, 0.0 where one of them is constant.
    """

    step: int
    rollouts: int
    reward: dict[str, tuple[float, float]]
    silent: tuple[int, int]
    size: tuple[float, float]
    turned: float
    correlation: float

    def role_reward(self, role: Role) -> str:
        """Mean reward of a role over its types, before and after, for people."""
        pairs = [pair for group, pair in self.reward.items() if group.startswith(f"{role}/")]
        old, new = (float(np.mean(side)) for side in zip(*pairs, strict=True)) if pairs else (0.0, 0.0)
        return f"{old:+.2f} → {new:+.2f}"


class Rescoring(list[StepComparison]):
    """The comparisons of all steps; printed in 80 columns, one line per step."""

    def __repr__(self) -> str:
        lines = ["  step  rollouts  propose reward    solve reward  silent groups  turned  correl."]
        for one in self:
            rewards = "  ".join(f"{one.role_reward(role):>14}" for role in Role)
            silent = f"{one.silent[0]} → {one.silent[1]}"
            tail = f"{silent:>13}  {one.turned:6.2f}  {one.correlation:7.3f}"
            lines.append(f"{one.step:6d}  {one.rollouts:8d}  {rewards}  {tail}")
        return "\n".join(lines)


def rescore(run: RunDir, **changes: Any) -> Rescoring:
    """Reward a recorded run otherwise; the changes are those of `Run.rescore`.

    Raises ConfigError for a change that the log cannot answer, RunDirectoryError for what is missing or damaged.
    """
    for name, value in changes.items():
        if name not in SETTINGS and name not in LADDER:
            known = ", ".join((*SETTINGS, *LADDER))
            raise ConfigError(f"{name} cannot be re-scored from a log; what can be changed is {known}")
        if name in LADDER and not (isinstance(value, int | float) and np.isfinite(value)):
            raise ConfigError(f"{name} is {value!r}; give a finite number (the paper: {LADDER[name]})")
    config = run.config().replace(**{name: changes[name] for name in SETTINGS if name in changes})
    ladder = {name: float(changes.get(name, value)) for name, value in LADDER.items()}
    with form_checked(run):
        return Rescoring(
            _compare(step, [_rollout(line) for line in lines], config, ladder)
            for step, lines in by_step(run, "rollouts.jsonl")
        )


def _rollout(line: Line) -> Rollout:
    counts = {"prompt_ids": (), "completion_ids": tuple(range(line["tokens"]))}
    verdict = Verdict.from_json(line["verdict"])
    return Rollout.from_json({**line, **counts, "role": Role(line["role"]), "verdict": verdict})


def _reward(rollout: Rollout, config: Config, ladder: Mapping[str, float]) -> float:
    """The reward under the changed rules, from the recorded verdict and solve rate."""
    if rollout.role == Role.PROPOSE:
        reward = proposal_reward(rollout.verdict, rollout.solve_rate, config.zero_learnability)
    else:
        reward = answer_reward(rollout.verdict)
    (name, value), *_ = reward.parts.items()
    if name == "form":
        return ladder["not_well_formed"]
    return ladder["wrong"] if value == WRONG else value


def _compare(step: int, old: Sequence[Rollout], config: Config, ladder: Mapping[str, float]) -> StepComparison:
    new = with_advantages(config, [replace(r, reward=_reward(r, config, ladder)) for r in old])
    before, after = np.array([r.advantage for r in old]), np.array([r.advantage for r in new])
    groups = np.array([r.group for r in old])
    rewards = [np.array([r.reward for r in side]) for side in (old, new)]
    rows = {group: groups == group for group in dict.fromkeys(r.group for r in old)}
    return StepComparison(
        step=step,
        rollouts=len(old),
        reward={group: (float(rewards[0][own].mean()), float(rewards[1][own].mean())) for group, own in rows.items()},
        silent=(
            sum(not before[own].any() for own in rows.values()),
            sum(not after[own].any() for own in rows.values()),
        ),
        size=(float(np.abs(before).mean()), float(np.abs(after).mean())),
        turned=float(np.mean(np.sign(before) != np.sign(after))),
        correlation=_correlation(before, after),
    )


def _correlation(before: np.ndarray, after: np.ndarray) -> float:
    if np.array_equal(before, after):
        return 1.0
    return float(np.corrcoef(before, after)[0, 1]) if before.std() > 0 and after.std() > 0 else 0.0


def read_changes(pairs: Sequence[str]) -> dict[str, str | float]:
    """Changes for `rescore`, from NAME=VALUE as they are typed. ConfigError for what is none."""
    changes: dict[str, str | float] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        try:
            changes[name] = float(value) if name in LADDER else value
        except ValueError:
            equals = ""
        if not equals:
            raise ConfigError(f"--rescore takes NAME=VALUE, not {pair!r}; such as: --rescore estimator=global wrong=-1")
    return changes
