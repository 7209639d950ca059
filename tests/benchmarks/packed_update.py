"""What packed prompts save in the update: CPU seconds and tokens read for 8 replies to a prompt of 300 tokens.

`OMP_NUM_THREADS=1 python -m tests.benchmarks.packed_update --models smollm2=X.gguf qwen=FOLDER --out X.json`

Loss and gradient of the trainer itself, LoRA of rank 16 on the upper half, bfloat16, one thread. Prompts are real code, replies
random tokens, so that no two begin alike.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import random
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from azr_lite.config import Config
from azr_lite.train.diagnostics import gradient_of
from azr_lite.train.policy import Policy, load_policy
from azr_lite.train.scoring import Tree
from azr_lite.train.trainer import SelfPlayTrainer
from azr_lite.triplet import Role
from tests.tiny import PLAIN, Scripted, rollout, weigh

N, PROMPT = 8, 300


def batch_of(trainer: SelfPlayTrainer, reply: int) -> tuple[dict[str, torch.Tensor], int, int]:
    """TRL's tensors for N replies to one prompt; tokens that are read packed, and unpacked."""
    rng, tokenizer = random.Random(0), trainer.processing_class
    prompt = tokenizer(inspect.getsource(random), add_special_tokens=False)["input_ids"][:PROMPT]
    replies = [[rng.randrange(1000, 30_000) for _ in range(reply)] for _ in range(N)]
    rows = [rollout(Role.SOLVE, "deduction", prompt, ids, float(i % 2)) for i, ids in enumerate(replies)]
    rows = weigh(trainer.config, rows)
    prompt_BT, reply_BT = torch.tensor([prompt] * N), torch.tensor(replies)
    batch = {
        "prompt_ids": prompt_BT,
        "prompt_mask": torch.ones_like(prompt_BT),
        "completion_ids": reply_BT,
        "completion_mask": torch.ones_like(reply_BT),
        "weights": torch.tensor([r.weight for r in rows]),
        "advantages": torch.tensor([r.advantage for r in rows]),
        "num_items_in_batch": torch.tensor(N * reply),
    }
    return batch, len(Tree.of([[*prompt, *ids] for ids in replies]).tokens), N * (PROMPT + reply)


def update(trainer: SelfPlayTrainer, batch: dict[str, torch.Tensor], repeats: int) -> float:
    """CPU seconds of loss and gradient, the median of so many."""
    seconds: list[float] = []
    for _ in range(repeats):
        started = time.process_time()
        gradient_of(trainer, batch, range(N))
        seconds.append(time.process_time() - started)
    return statistics.median(seconds)


def measure(path: str, repeats: int) -> list[dict[str, Any]]:
    settings: dict[str, Any] = {
        "model": path,
        "tuning": "lora",
        "lora_layers": "upper",
        "dtype": "bfloat16",
        "device": "cpu",
    }
    settings |= {
        "task_types": ("deduction",),
        "batch_size": N,
        "micro_batch_size": N,
        "entropy_coef": 0.0,
        "max_reply_tokens": 64,
    }
    config = Config(**settings)
    policy = load_policy(config)
    found, trainers = [], {}
    for packs in (True, False):
        own = Policy(policy.model, policy.tokenizer, policy.style, policy.peft_config, policy.device, policy.compute)
        with tempfile.TemporaryDirectory() as folder:
            if trainers:  # the second trainer adapts the model of the first
                own.model = trainers[True].model.unload()
            player = Scripted(lambda generate, step: [])
            trainers[packs] = SelfPlayTrainer(config.replace(pack_prompts=packs), own, PLAIN, player, Path(folder))
            trainer = trainers[packs]
            update(trainer, batch_of(trainer, 1)[0], 1)  # to warm up
            for reply in (10, 64):
                batch, *tokens = batch_of(trainer, reply)
                seconds = update(trainer, batch, repeats)
                line = {"packed": packs, "reply_tokens": reply, "tokens": tokens[not packs], "cpu_s": round(seconds, 3)}
                print(path, line, flush=True)
                found.append(line)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME=PATH")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "command": "OMP_NUM_THREADS=1 python -m tests.benchmarks.packed_update --models smollm2=X.gguf qwen=FOLDER",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "setting": f"{N} replies to a prompt of {PROMPT} tokens, LoRA r 16 on the upper half, bfloat16, one thread",
        "models": {},
    }
    for named in given.models:
        name, _, path = named.partition("=")
        lines = measure(path, given.repeats)
        took = {(line["packed"], line["reply_tokens"]): line["cpu_s"] for line in lines}
        faster = {str(reply): round(took[False, reply] / took[True, reply], 2) for reply in (10, 64)}
        result["models"][name] = {"updates": lines, "times_faster": faster}
    text = json.dumps(result, indent=1)
    given.out.write_text(text + "\n") if given.out else print(text)


if __name__ == "__main__":
    main()
