"""The warm start: ``python -m azr_lite.nano.pretrain [--examples N] [--seed S] [--out FOLDER]``, an hour on one core.

What it contains (`demonstrations.Mixture` holds the numbers): fresh random tasks of the mini-language of one to four
operations, never a reserved composition; in the first fifth one operation only. Solver examples of the three task types
with the right answer: some with an empty thought, some with a thought that traces the states one operation at a time.
The first token of the reply, which decides whether to think, is learned only from a sub-sample in which `habit` of the
examples think: so the model *can* think, but seldom does. Proposer examples with an empty thought: a valid task
unrelated to the references shown. No reward is used here.

Deterministic in its arguments on one machine and thread count. Files are written whole or not at all. The learning rate
decays to zero, so that a low rate afterwards is no gain by itself.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from azr_lite.nano.demonstrations import Demonstration, Mixture, demonstration
from azr_lite.nano.model import WEIGHTS, fresh_nano

IGNORE = -100


@dataclass(frozen=True)
class WarmStart:
    """How the warm start is trained."""

    examples: int = 340_000
    seed: int = 0
    batch: int = 64
    pool: int = 24
    muon_lr: float = 0.01
    adam_lr: float = 0.005
    warm_up: float = 0.02
    single: float = 0.2
    threads: int = 1


def encode(tokenizer: Any, demonstrations: list[Demonstration]) -> list[tuple[list[int], int, bool]]:
    """Token ids with end token, length of the prompt, and whether the first reply token counts."""
    prompts = tokenizer([d.prompt for d in demonstrations])["input_ids"]
    replies = tokenizer([d.reply for d in demonstrations])["input_ids"]
    eos = tokenizer.eos_token_id
    return [(p + r + [eos], len(p), d.decide) for p, r, d in zip(prompts, replies, demonstrations, strict=True)]


def batches(tokenizer: Any, plan: WarmStart, mixture: Mixture) -> Iterator[list[tuple[list[int], int, bool]]]:
    """Fresh examples without end, batched by length within pools, batches of a pool in random order."""
    rng = random.Random(f"warm start/{plan.seed}")
    count = 0
    while True:
        single = count < plan.single * plan.examples
        drawn = encode(tokenizer, [demonstration(rng, mixture, single) for _ in range(plan.batch * plan.pool)])
        count += len(drawn)
        drawn.sort(key=lambda item: len(item[0]))
        starts = list(range(0, len(drawn), plan.batch))
        rng.shuffle(starts)
        for start in starts:
            yield drawn[start : start + plan.batch]


def loss_of(model: Any, batch: list[tuple[list[int], int, bool]], pad: int) -> Any:
    """Mean cross-entropy over the reply tokens of a batch, nats per token; the first only where it is to be learned."""
    import torch

    width = max(len(ids) for ids, _, _ in batch)
    ids_BT = torch.full((len(batch), width), pad)
    labels_BT = torch.full((len(batch), width), IGNORE)
    for row, (ids, start, decide) in enumerate(batch):
        ids_BT[row, : len(ids)] = torch.tensor(ids)
        first = start if decide else start + 1
        labels_BT[row, first : len(ids)] = ids_BT[row, first : len(ids)]
    keep_BT = labels_BT[:, 1:] != IGNORE
    hidden_BTD = model.model(input_ids=ids_BT[:, :-1], use_cache=False).last_hidden_state
    return torch.nn.functional.cross_entropy(model.lm_head(hidden_BTD[keep_BT]), labels_BT[:, 1:][keep_BT])


def train(plan: WarmStart, mixture: Mixture, *, log: Any = print) -> tuple[Any, Any, dict[str, float]]:
    """Model, tokenizer and numbers about the training."""
    import torch

    torch.set_num_threads(plan.threads)
    model, tokenizer = fresh_nano(plan.seed)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        torch.optim.Muon(matrices, lr=plan.muon_lr, momentum=0.95, weight_decay=0.0, adjust_lr_fn="original"),
        torch.optim.AdamW(others, lr=plan.adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    peaks = (plan.muon_lr, plan.adam_lr)
    total, started, recent = plan.examples // plan.batch, time.time(), 0.0
    stream = batches(tokenizer, plan, mixture)
    model.train()
    for step in range(total):
        scale = min(1.0, (step + 1) / max(1, plan.warm_up * total)) * min(1.0, 1.25 * (1 - step / total))
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * scale
        loss = loss_of(model, next(stream), tokenizer.pad_token_id)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        recent = loss.item() if step == 0 else 0.98 * recent + 0.02 * loss.item()
        if not math.isfinite(recent):
            raise FloatingPointError(f"the loss is {recent} at step {step}; lower the learning rates")
        if (step + 1) % max(1, total // 50) == 0 or step == 0:
            spent = time.time() - started
            left = spent * (total / (step + 1) - 1)
            log(f"step {step + 1}/{total} loss {recent:.4f} {spent:.0f} s, {left:.0f} s to go", flush=True)
    return model.eval(), tokenizer, {"final_loss": round(recent, 4), "seconds": round(time.time() - started)}


def write(
    folder: Path, model: Any, tokenizer: Any, plan: WarmStart, mixture: Mixture, numbers: dict[str, float]
) -> None:
    """All files, beside the target first, then moved into its place."""
    beside = folder.with_name(folder.name + ".new")
    shutil.rmtree(beside, ignore_errors=True)
    model.save_pretrained(str(beside))
    tokenizer.save_pretrained(str(beside))
    (beside / "warm_start.json").write_text(
        json.dumps({"plan": asdict(plan), "mixture": asdict(mixture), **numbers}, indent=1) + "\n"
    )
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(beside, folder)


def main(plan: WarmStart, mixture: Mixture, out: Path = WEIGHTS) -> None:
    """Train the nano model's warm start and write its folder."""
    model, tokenizer, numbers = train(plan, mixture)
    write(out, model, tokenizer, plan, mixture, numbers)
    print(f"wrote {out}: {sum(p.numel() for p in model.parameters()):,} parameters, {numbers}")


if __name__ == "__main__":
    import tyro

    tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,))
