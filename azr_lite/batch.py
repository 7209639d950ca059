"""From a step's rollouts to its training batch: advantages, loss weights, a fixed number of rows, dealt over the updates.

Comes in: rollouts with their rewards.  Goes out: exactly `Config.rows` rollouts, ready for the trainer.
Not covered: the estimators themselves (`advantages.py`), what is paid (`rewards.py`).
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from azr_lite.advantages import estimate, loss_weights
from azr_lite.config import Config
from azr_lite.triplet import Role, Rollout


def with_advantages(c: Config, rollouts: Sequence[Rollout]) -> list[Rollout]:
    """The same rollouts with their advantages, from `Config.estimator` over the whole batch (rollouts of all processes)."""
    groups = [r.group for r in rollouts]
    lengths = [len(r.completion_ids) for r in rollouts]
    prompts = [(r.group, r.task_id) if r.role == Role.SOLVE else (r.group, index) for index, r in enumerate(rollouts)]
    advantages_B = estimate(c.estimator, [r.reward for r in rollouts], groups, prompts, lengths, c.whitening)
    return [dataclasses.replace(r, advantage=float(a)) for r, a in zip(rollouts, advantages_B, strict=True)]


def with_weights_and_padding(c: Config, rollouts: Sequence[Rollout]) -> list[Rollout]:
    """The same rollouts with their loss weights, then padding: copies of the shortest rollout with weight 0, up to `Config.rows`."""
    shortest = min(rollouts, key=lambda r: len(r.prompt_ids) + len(r.completion_ids))
    padding = []
    for role, rows in ((Role.PROPOSE, c.batch_size), (Role.SOLVE, c.solver_rows)):
        missing = len(c.task_types) * rows - sum(r.role == role for r in rollouts)
        padding += [dataclasses.replace(shortest, role=role, advantage=0.0, weight=0.0)] * missing
    trained = {Role.PROPOSE: c.train_proposer, Role.SOLVE: c.train_solver}
    counts = [trained[r.role] for r in rollouts] + [False] * len(padding)
    batch = [*rollouts, *padding]
    weights_B = loss_weights([r.group for r in batch], [len(r.completion_ids) for r in batch], counts, c.role_balanced_loss)
    return [dataclasses.replace(r, weight=float(w)) for r, w in zip(batch, weights_B, strict=True)]


def deal(batch: list[Rollout], updates: int, rng: random.Random, by_role: bool) -> list[Rollout]:
    """The batch in the order of its `updates`, equally many rows each; every (role, type) is spread evenly over them.

    Rows are shuffled, sorted by group, and given out in turn like cards. `by_role`: each update also gets equally many rows of each
    role, padding included.
    """
    if updates == 1:
        return batch
    shuffled = rng.sample(batch, len(batch))
    shuffled.sort(key=lambda r: (by_role and r.role, r.weight == 0, r.group))
    return [rollout for update in range(updates) for rollout in shuffled[update::updates]]
