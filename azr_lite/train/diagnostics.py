"""Does this trainer learn in the right direction (the self-test), which task types move it (gradient shares), and in
which prompt style does its policy propose (the trial)?"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from accelerate.utils import gather_object
from accelerate.utils.memory import should_reduce_batch_size

from azr_lite.errors import TrainingError
from azr_lite.prompts.base import Style
from azr_lite.selfplay import SelfPlay
from azr_lite.tasks.base import get_task_type
from azr_lite.triplet import Role

if TYPE_CHECKING:
    from azr_lite.train.trainer import SelfPlayTrainer

PROMPT, REPLY = "def f(x):\n    return x + 1\n# f(2) == ", "3"


class SelfTestResult(NamedTuple):
    """Change of the reply's log-probability (nats) by one update that rewards it, and by one that punishes it."""

    raised: float
    lowered: float
    sentence: str


def self_test(trainer: SelfPlayTrainer) -> SelfTestResult:
    """Before the first step: the trainer's own loss must make a rewarded reply likelier, and a punished one less so.

    Adam's first step, the learning rate times the sign of the gradient, is made on a copy of each trained weight, in
    its own type; what the copies moved by, times the slopes of the reply's log-probability, is the effect. Weights and
    random numbers stay as they are. TrainingError for a wrong direction, and where rounding swallows the step.
    """
    started, rate = time.perf_counter(), trainer.args.learning_rate
    device, was_training, trained = trainer.accelerator.device, trainer.model.training, trainer.trained()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        trainer.model.train()
        batch = _one_reply(trainer)
        ids_BT = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        logps_BT, _, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids_BT, torch.ones_like(ids_BT), batch["completion_ids"].shape[1], compute_entropy=True
        )
        slopes = torch.autograd.grad(logps_BT.float().sum(), trained, allow_unused=True)

        def effects(advantage: float) -> tuple[float, float]:
            """Of the step as stored, and as it would be without rounding."""
            given, stored, exact = batch | {"advantages": torch.tensor([advantage], device=device)}, 0.0, 0.0
            for weight, found, slope in zip(trained, gradient_of(trainer, given, [0]), slopes, strict=True):
                if slope is not None:
                    step = -rate * found.sign()
                    moved = (weight.detach().float() + step).to(weight.dtype) - weight.detach()
                    stored, exact = stored + float((moved * slope).sum()), exact + float((step * slope).sum())
            return stored, exact

        (raised, expected), (lowered, _) = effects(+1.0), effects(-1.0)
        trainer.model.train(was_training)
    trainer._metrics["train"].clear()
    if abs(raised) < abs(expected) / 2:
        raise TrainingError(
            f"the learning self-test failed: rounding swallows {1 - raised / expected:.0%} of an update with learning "
            f"rate {rate:g}; use dtype='float32' or a higher learning_rate"
        )
    if not raised > 0 > lowered:
        raise TrainingError(
            f"the learning self-test failed: the rewarded reply's log-probability moves by {raised:+.2g}, the punished "
            f"one's by {lowered:+.2g}, but they must rise and fall; try dtype='float32' or another tuning"
        )
    sentence = (
        f"one update moves a reply's log-probability by {raised:+.2g} when rewarded, {lowered:+.2g} when punished "
        f"(learning rate {rate:g}, {time.perf_counter() - started:.1f} s)"
    )
    return SelfTestResult(raised, lowered, sentence)


TRIAL_PROPOSALS = 16


def choose_prompts(trainer: SelfPlayTrainer, styles: Sequence[Style]) -> str:
    """Before a new run: its prompt style becomes the one in which the untrained policy proposes most valid tasks.

    Proposed from the zero task of the first type that has one. The first style, unless a later one gets more. Random
    numbers, buffers and counts stay as they are. Returns the figures in a sentence.
    """
    play, calls, started, valid = trainer.selfplay, trainer._sampling_calls, time.perf_counter(), {}
    types = trainer.config.task_types
    name = next((name for name in types if get_task_type(name).zero_task()), types[0])
    for style in styles:
        trainer.codec.style = style
        trial = SelfPlay(trainer.config, style, play.verifier.executor, count_tokens=trainer.count_tokens)
        trial.special_tokens = play.special_tokens
        rng = random.Random(f"{trainer.config.seed}/trial")
        proposals = [trial._new_proposal(name, rng) for _ in range(TRIAL_PROPOSALS)]
        trial.propose(proposals, trainer.generate)
        trial.validate(proposals)
        valid[style.name] = sum(proposal.task is not None for proposal in proposals)
    trainer._sampling_calls = calls
    trainer.codec.style = play.style = best = max(styles, key=lambda style: valid[style.name])
    figures = ", ".join(f"{style} {count}" for style, count in valid.items())
    seconds = time.perf_counter() - started
    return f"{best.name} prompts: of {TRIAL_PROPOSALS} {name} proposals were valid: {figures} ({seconds:.0f} s)"


def _one_reply(trainer: SelfPlayTrainer) -> dict[str, torch.Tensor]:
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
        "importance_sampling_ratio": torch.ones(reply_BT.shape, device=device),  # TRL reads it where vLLM samples
        "weights": torch.ones(1, device=device),
        "num_items_in_batch": torch.tensor(len(reply), device=device),
    }


def gradient_shares(trainer: SelfPlayTrainer, batch: dict[str, Any]) -> dict[str, float]:
    """Of a step's first update: ``ROLE/TYPE/gradient_share`` (sum 1), and the roles' ``gradient_cosine``.

    Left out under FSDP and DeepSpeed, and where memory does not suffice (then `note` says so).
    """
    if trainer.is_sharded:
        return {}
    update = trainer.rollouts[: len(trainer.rollouts) // trainer.config.updates_per_step]
    norms: dict[str, float] = {}
    of_role: list[list[torch.Tensor]] = []
    counters = copy.deepcopy(trainer._metrics["train"])
    try:
        for role in Role:
            total = [torch.zeros_like(p, dtype=torch.float32) for p in trainer.trained()]
            for group in (f"{role}/{name}" for name in trainer.config.task_types):
                rows = [i for i, row in enumerate(update) if row.group == group and row.weight]
                found = gradient_of(trainer, batch, rows)
                norms[group] = _norm(found)
                total = [a.add_(b) for a, b in zip(total, found, strict=True)]
            of_role.append(total)
    except Exception as error:
        if not (should_reduce_batch_size(error) and trainer.can_recover):
            raise
        trainer.note("out of memory while measuring gradient shares: left out (gradient_share_every=0 switches it off)")
        return {}
    finally:
        trainer._metrics["train"] = counters
    whole = sum(norms.values())
    numbers = {f"{group}/gradient_share": norm / whole if whole else 0.0 for group, norm in norms.items()}
    if (length := _norm(of_role[0]) * _norm(of_role[1])) > 0:
        numbers["gradient_cosine"] = sum(float((a * b).sum()) for a, b in zip(*of_role, strict=True)) / length
    return numbers


def _norm(tensors: Sequence[torch.Tensor]) -> float:
    return float(torch.stack([t.norm() for t in tensors]).norm())


def gradient_of(trainer: SelfPlayTrainer, batch: dict[str, Any], rows: Sequence[int]) -> list[torch.Tensor]:
    """The part of these rows in the gradient of their update, unclipped: one float32 tensor per trained weight.

    The loss is a sum over rows, so any rows may share a micro-batch. Every process goes through equally many
    micro-batches, filled up with rows of weight 0: TRL's loss exchanges statistics of equal shape.
    """
    trained, device, size = trainer.trained(), trainer.accelerator.device, trainer.rows_at_once
    most = max(gather_object([len(rows)]))
    total = [torch.zeros_like(p, dtype=torch.float32) for p in trained]
    for start in range(0, most, size):
        own = list(rows[start : start + size])
        part = trainer.rows_of(batch, torch.tensor(own + [0] * (min(size, most - start) - len(own)), device=device))
        for name in ("advantages", "weights"):
            part[name][len(own) :] = 0.0
        with trainer.compute_loss_context_manager():
            loss = trainer._compute_loss(trainer.model, part)
        for summed, found in zip(total, torch.autograd.grad(loss, trained, allow_unused=True), strict=True):
            if found is not None:  # None: the other role's adapter
                summed += found
    if trainer.accelerator.num_processes > 1:
        total = [trainer.accelerator.reduce(summed, reduction="mean") for summed in total]
    return total
