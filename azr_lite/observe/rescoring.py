"""Re-scoring: what a recorded run would have been paid under other rewards or another estimator. No model, no sandbox.

Comes in: a run directory and changes.  Goes out: one comparison a step.
Not covered: what the policy would have *become*. The replies are those of the recorded run: this compares the signal, not the learning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from azr_lite.advantages import with_advantages
from azr_lite.config import Config
from azr_lite.errors import ConfigError, RunDirectoryError
from azr_lite.observe.reader import Line, StepLog, open_run
from azr_lite.rewards import NOT_WELL_FORMED, WRONG, answer_reward, proposal_reward
from azr_lite.triplet import Role, Rollout, Verdict

LADDER = {"not_well_formed": NOT_WELL_FORMED, "wrong": WRONG}
"""Rungs of the format ladder that can be changed beside the settings, and what the paper pays for them."""

SETTINGS = ("estimator", "whitening", "zero_learnability")


@dataclass(frozen=True, slots=True)
class StepComparison:
    """One step, as recorded (first of each pair) and re-scored (second).

    `reward`: mean reward of each (role, type). `silent`: groups in which all advantages are 0. `size`: mean |advantage|.
    `turned`: share of rollouts whose advantage changed its sign (or became or ceased to be 0).
    `correlation`: of the two advantages over the step, 1.0 where they are equal, 0.0 where one of them is constant.
    """

    step: int
    rollouts: int
    reward: dict[str, tuple[float, float]]
    silent: tuple[int, int]
    size: tuple[float, float]
    turned: float
    correlation: float


class Rescoring(list[StepComparison]):
    """The comparisons of all steps; printed, one line per step."""

    def __str__(self) -> str:
        return table(self)


def rescore(run: str | Path, config_changes: Mapping[str, Any] | None = None, **more: Any) -> Rescoring:
    """Pay a recorded run otherwise. Changes: estimator, whitening, zero_learnability (as in `Config`); not_well_formed, wrong (rewards).

    Raises ConfigError for a change that the log cannot answer, RunDirectoryError for what is missing or damaged.
    """
    changes = {**(config_changes or {}), **more}
    directory = open_run(run)
    settings, ladder = _sorted_changes(changes)
    config = directory.config().replace(**settings)
    log = StepLog(directory, "rollouts.jsonl")
    try:
        return Rescoring(
            _compare(step, [_rollout(line) for line in lines], config, ladder) for step, lines in log.by_step()
        )
    except (KeyError, TypeError) as error:
        raise RunDirectoryError(
            f"{log.path} is not in this azr_lite's form ({error!r}); use the version named in run.json"
        ) from error


def _sorted_changes(changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    for name, value in changes.items():
        if name not in SETTINGS and name not in LADDER:
            raise ConfigError(
                f"{name} cannot be re-scored from a log; what can be changed is {', '.join((*SETTINGS, *LADDER))}"
            )
        if name in LADDER and not (isinstance(value, int | float) and np.isfinite(value)):
            raise ConfigError(f"{name} is {value!r}; give a finite number (the paper: {LADDER[name]})")
    ladder = {**LADDER, **{name: float(changes[name]) for name in LADDER if name in changes}}
    return {name: changes[name] for name in SETTINGS if name in changes}, ladder


def _rollout(line: Line) -> Rollout:
    counts = {"prompt_ids": (), "completion_ids": tuple(range(line["tokens"]))}
    return Rollout.from_json(
        {**line, **counts, "role": Role(line["role"]), "verdict": Verdict.from_json(line["verdict"])}
    )


def _paid(rollout: Rollout, config: Config, ladder: Mapping[str, float]) -> float:
    """The reward under the changed rules, from the recorded verdict and solve rate."""
    if rollout.role == Role.PROPOSE:
        pay = proposal_reward(rollout.verdict, rollout.solve_rate, config.zero_learnability)
    else:
        pay = answer_reward(rollout.verdict)
    (name, value), *_ = pay.parts.items()
    if name == "form":
        return ladder["not_well_formed"]
    return ladder["wrong"] if value == WRONG else value


def _compare(step: int, old: Sequence[Rollout], config: Config, ladder: Mapping[str, float]) -> StepComparison:
    new = with_advantages(config, [replace(r, reward=_paid(r, config, ladder)) for r in old])
    before, after = np.array([r.advantage for r in old]), np.array([r.advantage for r in new])
    rewards, silent = {}, [0, 0]
    for group in dict.fromkeys(r.group for r in old):
        rows = [row for row, r in enumerate(old) if r.group == group]
        rewards[group] = (
            float(np.mean([old[row].reward for row in rows])),
            float(np.mean([new[row].reward for row in rows])),
        )
        silent = [silent[0] + (not before[rows].any()), silent[1] + (not after[rows].any())]
    return StepComparison(
        step=step,
        rollouts=len(old),
        reward=rewards,
        silent=(silent[0], silent[1]),
        size=(float(np.abs(before).mean()), float(np.abs(after).mean())),
        turned=float(np.mean(np.sign(before) != np.sign(after))),
        correlation=_correlation(before, after),
    )


def _correlation(before: np.ndarray, after: np.ndarray) -> float:
    if np.array_equal(before, after):
        return 1.0
    return float(np.corrcoef(before, after)[0, 1]) if before.std() > 0 and after.std() > 0 else 0.0


def table(found: Sequence[StepComparison]) -> str:
    """For people, 80 columns: one line a step."""
    lines = ["  step  rollouts  proposer's pay    solver's pay  silent groups  turned  correl."]
    for one in found:
        pay = []
        for role in Role:
            pairs = [pair for group, pair in one.reward.items() if group.startswith(f"{role}/")]
            old, new = (float(np.mean(side)) for side in zip(*pairs, strict=True)) if pairs else (0.0, 0.0)
            pay.append(f"{old:+.2f} → {new:+.2f}")
        silent = f"{one.silent[0]} → {one.silent[1]}"
        lines.append(
            f"{one.step:6d}  {one.rollouts:8d}  {pay[0]:>14}  {pay[1]:>14}  {silent:>13}  {one.turned:6.2f}  {one.correlation:7.3f}"
        )
    return "\n".join(lines)
