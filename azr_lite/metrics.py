"""The numbers of one step, from its rollouts and proposals: a flat dict, keys ``role/type/name``.

The trainer adds loss and gradient, `progress.py` wall time, memory and energy. What each number means, and what is
healthy, stands in one table: `observe/catalogue.py`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from azr_lite.triplet import ProposalAttempt, Role, Rollout

STAGES = ("generate", "sandbox", "update", "rest")
"""The keys of timing.jsonl that are seconds and sum to the step's wall time."""


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; 0.0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def across(line: Mapping[str, float], start: str, end: str) -> list[float]:
    """A step's number of one name for all its (role, type) groups: ``across(line, "solve/", "/ok")``.

    Reasons that share the name are no such number.
    """
    return [value for key, value in line.items() if key.startswith(start) and key.endswith(end) and key.count("/") == 2]


def spread(values: Sequence[float]) -> float:
    """Population standard deviation; 0.0 of nothing."""
    middle = mean(values)
    return math.sqrt(mean([(value - middle) ** 2 for value in values]))


def step_metrics(
    rollouts: Sequence[Rollout],
    proposals: Sequence[ProposalAttempt],
    sizes: Mapping[str, int],
    ages: Mapping[str, float],
    executor: Mapping[str, int],
    worlds: Mapping[int, int],
) -> dict[str, float]:
    """All that can be counted about one step: each (role, type), each type's proposals, buffers, executor, tokens.

    `sizes`, `ages`: tasks in each buffer, and their mean age in steps. `executor`: number of its outcomes in this step,
    by kind. `worlds`: this step's accepted proposals, by the number of worlds their programs were run in.
    """
    numbers: dict[str, float] = {}
    loss_size = {id(r): len(r.completion_ids) * abs(r.advantage * r.weight) for r in rollouts}
    total = sum(loss_size.values())
    for group in dict.fromkeys(r.group for r in rollouts):
        own = [r for r in rollouts if r.group == group]
        numbers |= {f"{group}/{name}": value for name, value in _of_group(own).items()}
        numbers[f"{group}/loss_share"] = sum(loss_size[id(r)] for r in own) / total if total else 0.0
    for name in dict.fromkeys(proposal.type for proposal in proposals):
        own_proposals = [proposal for proposal in proposals if proposal.type == name]
        numbers |= {f"propose/{name}/{key}": value for key, value in _of_proposals(own_proposals).items()}
        numbers[f"buffer/{name}"] = float(sizes[name])
        numbers[f"buffer/{name}/age"] = float(ages[name])
    for kind, count in sorted(executor.items()):
        numbers[f"executor/{kind}"] = float(count)
    if worlds:
        numbers["validation/worlds"] = float(min(worlds))
    replies = [attempt.completion for proposal in proposals for attempt in (proposal, *proposal.attempts)]
    numbers["tokens/generated"] = float(sum(len(reply.ids) for reply in replies))
    numbers["tokens/trained"] = float(sum(len(r.completion_ids) for r in rollouts if r.weight > 0))
    return numbers


def _of_group(own: Sequence[Rollout]) -> dict[str, float]:
    """One (role, type): reward and its parts, form, lengths, advantages; the solver's reasons."""
    advantages, rewards = [r.advantage for r in own], [r.reward for r in own]
    numbers = {
        "reward": mean(rewards),
        "reward_std": spread(rewards),
        "well_formed": mean([float(r.verdict.well_formed) for r in own]),
        "ok": mean([float(r.verdict.ok) for r in own]),
        "tokens": mean([len(r.completion_ids) for r in own]),
        "truncated": mean([float(r.truncated) for r in own]),
        "no_signal": float(len(set(rewards)) == 1),
        "advantage_mean": mean(advantages),
        "advantage_std": spread(advantages),
    }
    for part in sorted({name for r in own for name in r.reward_parts}):
        numbers[f"part/{part}"] = mean([r.reward_parts.get(part, 0.0) for r in own])
    lengths: dict[str, list[int]] = {"right": [], "wrong": [], "truncated": []}
    for r in own:
        lengths["truncated" if r.truncated else "right" if r.verdict.ok else "wrong"].append(len(r.completion_ids))
    numbers |= {f"tokens_{name}": mean(values) for name, values in lengths.items() if values}
    if own[0].role == Role.SOLVE:
        numbers |= _reasons([r.verdict.reason for r in own])
    return numbers


def _of_proposals(own: Sequence[ProposalAttempt]) -> dict[str, float]:
    """One type's proposals: how hard their tasks are, how new, and why others were rejected."""
    rates = [proposal.rate for proposal in own if proposal.rate is not None]
    fresh = [float(proposal.is_new) for proposal in own if proposal.task is not None]
    numbers = {
        "solve_rate": mean(rates),
        "learnable": mean([float(0 < rate < 1) for rate in rates]),
        "never_solved": mean([float(rate == 0) for rate in rates]),
        "always_solved": mean([float(rate == 1) for rate in rates]),
        "fresh": mean(fresh),
        "duplicates": float(fresh.count(0.0)),
    }
    for percent, count in sorted(Counter(math.floor(100 * rate + 0.5) for rate in rates).items()):
        numbers[f"solved/{percent:03d}"] = float(count)
    return numbers | _reasons([proposal.verdict.reason for proposal in own])


def _reasons(codes: Sequence[str]) -> dict[str, float]:
    return {f"reason/{code}": float(count) for code, count in sorted(Counter(map(str, codes)).items()) if code}
