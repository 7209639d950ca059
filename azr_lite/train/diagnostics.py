"""Does this trainer learn in the right direction (the self-test), and which task types move it (gradient shares)?

The self-test makes two synthetic updates from the same weights, through the trainer's own loss and optimiser class: one
rewards a reply, one punishes it. Adam's first step follows the sign of the gradient, so for a small enough step the
reply's log-probability must rise in the one and fall in the other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from azr_lite.errors import TrainingError

if TYPE_CHECKING:
    from azr_lite.train.trainer import SelfPlayTrainer

PROMPT, REPLY = "def f(x):\n    return x + 1\n# f(2) == ", "3"
FACTORS = (1, 10, 100, 1000, 10_000)
"""Multiples of the run's learning rate, up to `LARGEST`: it may be too small to be seen after one step."""
LARGEST = 1e-2
NOISE = {torch.float32: 1e-4, torch.float16: 0.05, torch.bfloat16: 0.3}
"""Changes of the log-probability (nats, over the reply) below this are rounding in the given arithmetic."""


@dataclass(frozen=True)
class SelfTestResult:
    """Change of the reply's log-probability (nats) when it was rewarded and when it was punished."""

    raised: float
    lowered: float
    learning_rate: float
    seconds: float

    @property
    def sentence(self) -> str:
        return (
            f"one update moves a reply's log-probability by {self.raised:+.2g} when rewarded, {self.lowered:+.2g} when "
            f"punished (learning rate {self.learning_rate:g}, {self.seconds:.1f} s)"
        )


def self_test(trainer: SelfPlayTrainer) -> SelfTestResult:
    """Before the first step; weights and random numbers stay as they are, bit for bit.

    TrainingError when a rewarded reply does not become likelier, or a punished one not less likely.
    """
    started = time.perf_counter()
    device, was_training = trainer.accelerator.device, trainer.model.training
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        trainer.model.train()
        raised, rate = _update(trainer, +1.0)
        lowered, _ = _update(trainer, -1.0)
        trainer.model.train(was_training)
    trainer._metrics["train"].clear()
    if raised <= 0 or lowered >= 0:
        raise TrainingError(
            f"the learning self-test failed: the rewarded reply's log-probability moved by {raised:+.2g}, the punished "
            f"one's by {lowered:+.2g}, but they must rise and fall; lower learning_rate, or try dtype='float32'"
        )
    return SelfTestResult(raised, lowered, rate, time.perf_counter() - started)


def _update(trainer: SelfPlayTrainer, advantage: float) -> tuple[float, float]:
    """One optimiser step on one reply, at growing learning rates until the change can be told from rounding.

    Returns the change of the reply's log-probability (nats) and the rate. The weights are put back after each try.
    """
    noise = NOISE[torch.bfloat16 if trainer.args.bf16 else torch.float16 if trainer.args.fp16 else torch.float32]
    # under FSDP the model itself shows pieces at one time and gathered copies at another
    trained = trainer.trained()
    if trainer.optimizer is not None:
        trained = [p for group in trainer.optimizer.param_groups for p in group["params"] if p.requires_grad]
    weights = [p.detach().clone() for p in trained]
    batch = _batch(trainer, advantage)
    trainer.compute_loss(trainer.model, batch).backward()
    optimizer_class, options = trainer.get_optimizer_cls_and_kwargs(trainer.args, trainer.model)
    before, moved, base = _log_probability(trainer, batch), 0.0, trainer.args.learning_rate
    for rate in [base * factor for factor in FACTORS if factor == 1 or base * factor <= LARGEST]:
        optimizer_class(trained, **{**options, "lr": rate, "weight_decay": 0.0}).step()
        _gather_anew(trainer)
        moved = _log_probability(trainer, batch) - before
        with torch.no_grad():
            for parameter, weight in zip(trained, weights, strict=True):
                parameter.copy_(weight)
        _gather_anew(trainer)
        if abs(moved) > noise or not math.isfinite(moved):
            break
    for parameter in trained:
        parameter.grad = None
    if not math.isfinite(moved) or abs(moved) <= noise:
        what = "changes nothing" if math.isfinite(moved) else f"makes a log-probability {moved}"
        raise TrainingError(
            f"the learning self-test failed: a learning rate of {rate:g} {what}; try dtype='float32' or another tuning"
        )
    return moved, rate


def _gather_anew(trainer: SelfPlayTrainer) -> None:
    """FSDP keeps the copies that a forward pass gathered for a backward pass; here they would be of other weights."""
    for module in trainer.model.modules():
        if hasattr(module, "reshard"):
            module.reshard()


def _batch(trainer: SelfPlayTrainer, advantage: float) -> dict[str, torch.Tensor]:
    """A batch of one row, prompt and reply, with the keys and shapes of TRL's; B = 1."""
    tokenizer, device = trainer.processing_class, trainer.accelerator.device
    prompt = tokenizer(PROMPT, add_special_tokens=False)["input_ids"]
    reply = [*tokenizer(REPLY, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    prompt_BT, reply_BT = torch.tensor([prompt], device=device), torch.tensor([reply], device=device)
    return {
        "prompt_ids": prompt_BT,
        "prompt_mask": torch.ones_like(prompt_BT),
        "completion_ids": reply_BT,
        "completion_mask": torch.ones_like(reply_BT),
        "advantages": torch.tensor([advantage], device=device),
        "weights": torch.ones(1, device=device),
        "num_items_in_batch": torch.tensor(len(reply), device=device),
    }


@torch.no_grad()
def _log_probability(trainer: SelfPlayTrainer, batch: dict[str, torch.Tensor]) -> float:
    """log pi(reply and end of sequence | prompt), summed over its tokens."""
    ids_BT = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    length = batch["completion_ids"].shape[1]
    logps_BT, _, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model, ids_BT, torch.ones_like(ids_BT), length, compute_entropy=True
    )
    return float(logps_BT.float().sum())


def gradient_shares(
    groups: Mapping[str, Sequence[int]], gradient_of: Callable[[Sequence[int]], list[torch.Tensor]]
) -> dict[str, float]:
    """``ROLE/TYPE/gradient_share`` per group (of its gradient's length; sum 1), and the roles' ``gradient_cosine``.

    `groups`: the rows of each group. `gradient_of`: the gradient of some rows, one tensor per trained weight.
    """
    norms: dict[str, float] = {}
    of_role: dict[str, list[torch.Tensor]] = {}
    for group, rows in groups.items():
        found, role = gradient_of(rows), group.split("/")[0]
        norms[group] = _norm(found)
        of_role[role] = [a + b for a, b in zip(of_role[role], found, strict=True)] if role in of_role else found
    total = sum(norms.values())
    numbers = {f"{group}/gradient_share": norm / total if total else 0.0 for group, norm in norms.items()}
    one, two = of_role.values()
    if (length := _norm(one) * _norm(two)) > 0:
        numbers["gradient_cosine"] = sum(float((a * b).sum()) for a, b in zip(one, two, strict=True)) / length
    return numbers


def _norm(tensors: Sequence[torch.Tensor]) -> float:
    return float(torch.stack([t.norm() for t in tensors]).norm())
