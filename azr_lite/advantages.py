"""From rewards to advantages, and from roles to loss weights: first pure functions of arrays, then whole batches.

Arrays are float64 of shape (B,). The batch must be the *global* one: statistics per process would be another algorithm.

    TRR++ (paper section 3.3):  A = (R - mean_g) / std_g over each group g = (role, type); A = 0 where std_g = 0.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from azr_lite.config import Config
from azr_lite.triplet import Role, Rollout

Array = NDArray[np.float64]
TINY = 1e-8
"""Added to the variance in the token form (as in the authors' code); spreads below it count as none."""


def _rows_of(groups_B: Sequence[Hashable]) -> list[NDArray[np.intp]]:
    """The row numbers of each group, in order of first appearance."""
    seen: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups_B):
        seen.setdefault(group, []).append(row)
    return [np.array(rows) for rows in seen.values()]


def whiten_sequences(rewards: Array) -> Array:
    """(R - mean) / population std over the sequences of one group; zeros where all rewards are equal.

    Examples:
        >>> whiten_sequences(np.array([1.0, 1.0, -0.5, -0.5])).tolist()
        [1.0, 1.0, -1.0, -1.0]
    """
    spread = rewards.std()
    return (rewards - rewards.mean()) / spread if spread > TINY else np.zeros_like(rewards)


def whiten_tokens(rewards: Array, lengths: Array) -> Array:
    """The same with statistics over reply *tokens* (the authors' code): a reply of L tokens counts L times.

    Unbiased variance, and 1 / sqrt(variance + 1e-8).
    """
    total = lengths.sum()
    mean = (rewards * lengths).sum() / total
    if total < 2 or np.ptp(rewards) <= TINY:
        return np.zeros_like(rewards)
    variance = (lengths * (rewards - mean) ** 2).sum() / (total - 1)
    return (rewards - mean) / np.sqrt(variance + TINY)


def trr(
    rewards_B: Sequence[float], groups_B: Sequence[Hashable], lengths_B: Sequence[int], whitening: str = "sequence"
) -> Array:
    """Task-relative REINFORCE++ (section 3.3): one baseline and one scale for each (role, type).

    Args:
        rewards_B: One reward per sequence.
        groups_B: The baseline group of each, such as "solve/deduction".
        lengths_B: Reply tokens of each; they count with "token" only.
        whitening: Statistics over sequences ("sequence", the paper) or over reply tokens ("token", the authors' code).

    Returns:
        Advantages, float64, shape (B,); 0 where a group's rewards are all equal.

    Raises:
        ValueError: Another whitening, rewards and lengths that differ in number, or a reward that is not finite.

    Examples:
        A proposer who earns 0 is compared with one who earns 0.5, not with solvers, whose rewards have another range:

        >>> groups = ["propose/deduction"] * 2 + ["solve/deduction"] * 2
        >>> trr([0.5, 0.0, 1.0, -0.5], groups, lengths_B=[9, 9, 30, 30]).tolist()
        [1.0, -1.0, 1.0, -1.0]
    """
    rewards, lengths = np.asarray(rewards_B, dtype=np.float64), np.asarray(lengths_B, dtype=np.float64)
    if rewards.shape != lengths.shape:
        raise ValueError(f"{len(rewards)} rewards but {len(lengths)} lengths; give one length per reward")
    if not np.isfinite(rewards).all():
        row = int(np.argmin(np.isfinite(rewards)))
        raise ValueError(f"the reward of row {row} is not finite; every reply needs a number as its reward")
    advantages_B = np.zeros(len(rewards))
    for rows in _rows_of(groups_B):
        if whitening == "sequence":
            advantages_B[rows] = whiten_sequences(rewards[rows])
        elif whitening == "token":
            advantages_B[rows] = whiten_tokens(rewards[rows], lengths[rows])
        else:
            raise ValueError(f"whitening is {whitening!r}; choose 'sequence' or 'token'")
    return advantages_B


def grpo(rewards_B: Sequence[float], prompts_B: Sequence[Hashable]) -> Array:
    """GRPO: mean and population std over the replies to one prompt, which are the groups here."""
    return trr(rewards_B, prompts_B, lengths_B=[1] * len(rewards_B))


def dr_grpo(rewards_B: Sequence[float], prompts_B: Sequence[Hashable]) -> Array:
    """Dr. GRPO: the mean over the replies to one prompt, no division by the spread.

    Examples:
        >>> dr_grpo([1.0, 0.0, 0.0, 0.0], ["p"] * 4).tolist()
        [0.75, -0.25, -0.25, -0.25]
    """
    advantages_B = np.array(rewards_B, dtype=np.float64)
    for rows in _rows_of(prompts_B):
        advantages_B[rows] -= advantages_B[rows].mean()
    return advantages_B


def rloo(rewards_B: Sequence[float], prompts_B: Sequence[Hashable]) -> Array:
    """Leave-one-out: each reply against the mean of the *other* replies to its prompt; 0 for a single reply.

    Examples:
        >>> rloo([1.0, 0.0, 0.5], ["p", "p", "alone"]).tolist()
        [1.0, -1.0, 0.0]
    """
    counts = Counter(prompts_B)
    n_B = np.array([counts[prompt] for prompt in prompts_B])
    return dr_grpo(rewards_B, prompts_B) * n_B / np.maximum(n_B - 1, 1)


def estimate(
    estimator: str,
    rewards_B: Sequence[float],
    groups_B: Sequence[Hashable],
    prompts_B: Sequence[Hashable],
    lengths_B: Sequence[int],
    whitening: str = "sequence",
) -> Array:
    """Advantages by the estimator's name in `Config.estimator`. ValueError for an unknown name.

    Per-prompt estimators need several replies per prompt; rows whose prompt stands alone are compared with one another
    within their (role, type) group. `whitening` serves trr and global only.
    """
    if estimator == "trr":
        return trr(rewards_B, groups_B, lengths_B, whitening)
    if estimator == "global":
        return trr(rewards_B, ["all"] * len(rewards_B), lengths_B, whitening)
    per_prompt = {"grpo": grpo, "dr_grpo": dr_grpo, "rloo": rloo}
    if estimator not in per_prompt:
        raise ValueError(f"estimator is {estimator!r}; choose trr, global, {', '.join(per_prompt)}")
    alone = {prompts_B[rows[0]] for rows in _rows_of(prompts_B) if len(rows) == 1}
    keys_B = [("group", g) if p in alone else ("prompt", p) for g, p in zip(groups_B, prompts_B, strict=True)]
    return per_prompt[estimator](rewards_B, keys_B)


def loss_weights(
    groups_B: Sequence[Hashable], lengths_B: Sequence[int], counts_B: Sequence[bool], balanced: bool = True
) -> Array:
    """Factors w for a loss of the form  sum_rows w * sum_tokens(loss) / (tokens of *all* rows).

    `counts_B`: False for padding rows and for roles that are not trained; their weight is 0.
    balanced: each of the G groups present weighs 1/G, a token mean inside (the effect of the authors' micro-batches).
    Otherwise: one token mean over all rows that count.

    Examples:
        Two groups, one with three times the tokens: each still weighs half.

        >>> loss_weights(["short", "long"], lengths_B=[10, 30], counts_B=[True, True]).tolist()
        [2.0, 0.6666666666666666]
    """
    lengths, counts = np.asarray(lengths_B, dtype=np.float64), np.asarray(counts_B, dtype=bool)
    weights_B = np.zeros(len(lengths))
    parts = [rows[counts[rows]] for rows in _rows_of(groups_B if balanced else ["all"] * len(lengths))]
    parts = [rows for rows in parts if lengths[rows].sum()]
    for rows in parts:
        weights_B[rows] = lengths.sum() / (len(parts) * lengths[rows].sum())
    return weights_B


def estimator_of(c: Config, role: str) -> str:
    """The estimator of a role's advantages."""
    return c.estimator if role == Role.SOLVE or c.proposer_estimator == "same" else c.proposer_estimator


def with_advantages(c: Config, rollouts: Sequence[Rollout]) -> list[Rollout]:
    """The same rollouts with their advantages, by each role's estimator over the whole batch.

    Replies to one task share a prompt, and so do proposals from one, where `Config.proposals_per_prompt` samples
    several. Otherwise a proposal stands alone, even if chance gave two the same references.
    """
    several = c.proposals_per_prompt > 1
    asked = [r.task_id if r.role == Role.SOLVE else r.prompt if several else row for row, r in enumerate(rollouts)]
    advantages_B = np.zeros(len(rollouts))
    for estimator in {estimator_of(c, role) for role in Role}:
        rows = [row for row, r in enumerate(rollouts) if estimator_of(c, r.role) == estimator]
        own = [rollouts[row] for row in rows]
        groups, lengths = [r.group for r in own], [len(r.completion_ids) for r in own]
        prompts = [(r.group, asked[row]) for row, r in zip(rows, own, strict=True)]
        advantages_B[rows] = estimate(estimator, [r.reward for r in own], groups, prompts, lengths, c.whitening)
    return [dataclasses.replace(r, advantage=float(a)) for r, a in zip(rollouts, advantages_B, strict=True)]


def with_weights_and_padding(c: Config, rollouts: Sequence[Rollout]) -> list[Rollout]:
    """The same rollouts with their loss weights, then copies of the shortest with weight 0, up to `Config.rows`."""
    shortest = min(rollouts, key=lambda r: len(r.prompt_ids) + len(r.completion_ids))
    padding = []
    for role, rows in ((Role.PROPOSE, c.batch_size), (Role.SOLVE, c.solver_rows)):
        missing = len(c.task_types) * rows - sum(r.role == role for r in rollouts)
        padding += [dataclasses.replace(shortest, role=role, advantage=0.0, weight=0.0)] * missing
    trained = {Role.PROPOSE: c.train_proposer, Role.SOLVE: c.train_solver}
    counts = [trained[r.role] for r in rollouts] + [False] * len(padding)
    batch = [*rollouts, *padding]
    weights_B = loss_weights(
        [r.group for r in batch], [len(r.completion_ids) for r in batch], counts, c.role_balanced_loss
    )
    return [dataclasses.replace(r, weight=float(w)) for r, w in zip(batch, weights_B, strict=True)]


def by_prompt(rollouts: Sequence[Rollout]) -> list[list[Rollout]]:
    """The rollouts of each prompt, in order of first appearance."""
    return [[rollouts[row] for row in rows] for rows in _rows_of([r.prompt_ids for r in rollouts])]


def split_into_updates(
    rollouts: Sequence[Rollout], updates: int, rng: random.Random, by_role: bool = False, whole_prompts: bool = False
) -> list[list[Rollout]]:
    """The batch in as many parts as there are `updates`, equally large; every (role, type) is spread evenly over them.

    Rows are shuffled, sorted by group, and given out in turn like cards. `by_role`: each update also gets equally many
    rows of each role, padding included. `whole_prompts`: every update gets as many rows of each group, but its rows
    answer as few prompts as possible: at most `updates` - 1 prompts of a group are cut.
    """
    if updates == 1:
        return [list(rollouts)]
    shuffled = rng.sample(rollouts, len(rollouts))
    section = lambda r: (by_role and r.role, r.weight == 0, r.group)  # noqa: E731
    shuffled.sort(key=section)
    if not whole_prompts:
        return [shuffled[update::updates] for update in range(updates)]
    parts: list[list[Rollout]] = [[] for _ in range(updates)]
    dealt = 0
    for _, rows in itertools.groupby(shuffled, key=section):
        answers = [row for own in by_prompt(list(rows)) for row in own]
        turns = sorted(turn % updates for turn in range(dealt, dealt + len(answers)))
        for row, update in zip(answers, turns, strict=True):
            parts[update].append(row)
        dealt += len(answers)
    return parts
