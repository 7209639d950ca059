"""How much of an update comes from each (role, type): the norms of the groups' gradients, measured.

Comes in: the trainer and a step's batch, before the first update.  Goes out: `gradient_share` of each group, and the cosine between
the roles' gradients; weights, gradients, random numbers and TRL's counters stay as they are, so training is the same with and without.
Not covered: the stand-in that costs nothing (`loss_share` in `metrics.py`); weights cut over processes (FSDP, DeepSpeed): nothing is
measured there. Adam divides by its second moments afterwards, so a share of the gradient is not quite one of the movement.

Only the rows of the step's first update are taken: their groups' gradients add up to what the optimiser sees then, and one more
pass over them is all it costs (with `updates_per_step` of 4, a quarter of the step's update). Memory: up to four float32 copies of
what is trained.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object

from azr_lite.memory import free_memory, is_out_of_memory, rows_of
from azr_lite.triplet import Role

if TYPE_CHECKING:
    from azr_lite.trainer import SelfPlayTrainer


def gradient_shares(trainer: SelfPlayTrainer, batch: dict[str, Any]) -> dict[str, float]:
    """``ROLE/TYPE/gradient_share`` for each group, and ``gradient_cosine``; empty under FSDP and DeepSpeed, and where memory does not suffice
    (then `note` says so). Every process calls it (SPMD)."""
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        return {}
    counters = copy.deepcopy(trainer._metrics["train"])
    try:
        return _numbers(trainer, batch)
    except Exception as error:
        if not (is_out_of_memory(error) and trainer.can_recover):
            raise
    finally:
        trainer._metrics["train"] = counters
    free_memory()
    trainer.note("out of memory while measuring gradient shares: left out in this step; gradient_share_every=0 switches them off")
    return {}


def _numbers(trainer: SelfPlayTrainer, batch: dict[str, Any]) -> dict[str, float]:
    norms: dict[str, float] = {}
    of_role: dict[Role, list[torch.Tensor]] = {}
    for role in Role:
        for name in trainer.config.task_types:
            group = f"{role}/{name}"
            found = group_gradient(trainer, batch, group)
            norms[group] = _norm(found)
            of_role[role] = [a + b for a, b in zip(of_role[role], found, strict=True)] if role in of_role else found
    total = sum(norms.values())
    numbers = {f"{group}/gradient_share": norm / total if total else 0.0 for group, norm in norms.items()}
    one, two = (of_role[role] for role in Role)
    if (length := _norm(one) * _norm(two)) > 0:
        numbers["gradient_cosine"] = sum(float((a * b).sum()) for a, b in zip(one, two, strict=True)) / length
    return numbers


def group_gradient(trainer: SelfPlayTrainer, batch: dict[str, Any], group: str) -> list[torch.Tensor]:
    """This group's part of the first update's gradient, one float32 tensor for each trained weight, unclipped.

    The loss is a sum over rows, so any rows may share a micro-batch. Where processes have different numbers of them, all go through
    equally many: TRL's loss exchanges statistics of equal shape.
    """
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    first_update = trainer.rollouts[: len(trainer.rollouts) // trainer.config.updates_per_step]
    rows = [place for place, r in enumerate(first_update) if r.group == group and r.weight]
    size = -(-trainer.config.micro_batch_size // trainer._parts)
    most = max(gather_object([len(rows)]))
    total = [torch.zeros_like(p, dtype=torch.float32) for p in trained]
    for start in range(0, most, size):
        loss = _loss(trainer, batch, rows[start : start + size], min(size, most - start))
        for own, found in zip(total, torch.autograd.grad(loss, trained, allow_unused=True), strict=True):
            if found is not None:  # the other role's adapter
                own += found
    if trainer.accelerator.num_processes > 1:
        total = [trainer.accelerator.reduce(own, reduction="mean") for own in total]
    return total


def _loss(trainer: SelfPlayTrainer, batch: dict[str, Any], rows: Sequence[int], width: int) -> torch.Tensor:
    """The trainer's loss of these rows of the batch, filled up to `width` rows with padding of weight 0."""
    part = rows_of(batch, torch.tensor([*rows, *[0] * (width - len(rows))], device=trainer.accelerator.device))
    for name in ("advantages", "weights"):
        part[name][len(rows) :] = 0.0
    with trainer.compute_loss_context_manager():
        return trainer._compute_loss(trainer.model, part)


def _norm(tensors: Sequence[torch.Tensor]) -> float:
    return float(torch.stack([t.norm() for t in tensors]).norm())
