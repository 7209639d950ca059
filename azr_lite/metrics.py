"""The numbers of one step, from its rollouts and offers.

Comes in: what a step left.  Goes out: one flat dict of floats, keys ``role/type/name``.
Not covered: loss and gradient (the trainer adds them), files (`rundir.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from azr_lite.triplet import Rollout

if TYPE_CHECKING:
    from azr_lite.selfplay import Attempt, Offer


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; 0.0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def step_metrics(rollouts: Sequence[Rollout], offers: Sequence[Offer], tries: Sequence[Attempt], sizes: dict[str, int]) -> dict[str, float]:
    """Reward, form, validity and solve rates for each (role, type), buffer sizes, token counts."""
    numbers: dict[str, float] = {}
    for group in dict.fromkeys(r.group for r in rollouts):
        own = [r for r in rollouts if r.group == group]
        numbers[f"{group}/reward"] = mean([r.reward for r in own])
        numbers[f"{group}/well_formed"] = mean([float(r.verdict.well_formed) for r in own])
        numbers[f"{group}/ok"] = mean([float(r.verdict.ok) for r in own])
        numbers[f"{group}/tokens"] = mean([len(r.completion_ids) for r in own])
        numbers[f"{group}/truncated"] = mean([float(r.truncated) for r in own])
        numbers[f"{group}/no_signal"] = float(len({r.reward for r in own}) == 1)
    for name in dict.fromkeys(offer.type for offer in offers):
        rates = [offer.rate for offer in offers if offer.type == name and offer.rate is not None]
        fresh = [float(offer.fresh) for offer in offers if offer.type == name and offer.task is not None]
        numbers[f"propose/{name}/solve_rate"] = mean(rates)
        numbers[f"propose/{name}/learnable"] = mean([float(0 < rate < 1) for rate in rates])
        numbers[f"propose/{name}/fresh"] = mean(fresh)
        numbers[f"buffer/{name}"] = float(sizes[name])
    numbers["tokens/generated"] = float(sum(len(o.completion.ids) for o in offers) + sum(len(t.completion.ids) for t in tries))
    numbers["tokens/trained"] = float(sum(len(r.completion_ids) for r in rollouts if r.weight > 0))
    return numbers
