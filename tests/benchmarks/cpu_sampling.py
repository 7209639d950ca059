"""Tokens per second of the sampler for CPUs, against transformers' generate as `PolicySampler` calls it.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.cpu_sampling MODEL [--lora none] [--out FILE]

Equal work in one process: the same rows, every reply as long as the limit. CPU seconds are the measure, for other
programs' load stretches wall-clock seconds; with more than one thread both are all threads'.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from azr_lite.environment import describe_environment, require_training

NAME = "python -m tests.benchmarks.cpu_sampling"


def timed(work: Callable[[], Any], tokens: int, repeats: int) -> dict[str, float]:
    """The fastest of some repeats, by CPU seconds."""
    found = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        found.append((time.process_time() - cpu, time.perf_counter() - wall))
    cpu, wall = min(found)
    return {
        "cpu_seconds": round(cpu, 2),
        "wall_seconds": round(wall, 2),
        "tokens_per_cpu_second": round(tokens / cpu, 1),
    }


def measure(
    source: str, lora: str, rows: int = 64, distinct: int = 8, prompt: int = 300, new: int = 64
) -> dict[str, Any]:
    """Both samplers on `rows` rows of `distinct` prompts. `lora`: adapters of rank 16 on "all" layers, the "upper" half or "none"."""
    require_training(NAME)
    import torch
    from transformers import GenerationConfig

    from azr_lite.config import Config
    from azr_lite.prompts import get_style
    from azr_lite.prompts.base import Codec
    from azr_lite.train.cpu import CpuSampler
    from azr_lite.train.generation import sample_replies, seeded
    from azr_lite.train.policy import load_policy

    settings = {
        "tuning": "lora",
        "lora_layers": "upper" if lora == "upper" else "all",
        "lora_rank": 16,
        "device": "cpu",
        "dtype": "bfloat16",
    }
    policy = load_policy(Config(model=source, **settings))
    model = policy.model.eval()
    if lora != "none":
        from peft import get_peft_model

        model = get_peft_model(model, policy.peft_config)
    text = "".join(path.read_text() for path in sorted(Path(__file__).parents[2].glob("azr_lite/*.py")))
    ids = policy.tokenizer(text[:100_000])["input_ids"]
    prompts = [ids[u * prompt : (u + 1) * prompt] for u in range(distinct) for _ in range(rows // distinct)]
    limits = {"max_new_tokens": new, "pad_token_id": policy.tokenizer.pad_token_id}
    how = GenerationConfig(do_sample=True, temperature=1.0, top_k=0, top_p=1.0, **limits)
    sampler = CpuSampler(model, Codec(policy.tokenizer, get_style("r1"), []), how, torch.bfloat16)
    reason, cpu = sampler.why_not(), torch.device("cpu")
    assert not reason, reason

    def product() -> None:
        with seeded(0, cpu), torch.autocast("cpu", torch.bfloat16):
            found = sample_replies(model, prompts, how, [], cpu)
        assert {len(reply) for reply in found} == {new}

    with torch.no_grad():
        reading = timed(lambda: sampler.read(prompts), distinct * prompt, 1)
    fast = timed(lambda: sampler(prompts, greedy=False, seed=0), rows * new, 2)
    slow = timed(product, rows * new, 1)
    return {
        "adapters": lora,
        "rows": rows,
        "distinct_prompts": distinct,
        "prompt_tokens": prompt,
        "new_tokens": new,
        "nats_from_the_model": round(sampler.disagreement(), 4),
        "fast_sampler": fast,
        "of_which_reading_prompts": reading,
        "transformers_generate": slow,
        "ratio": round(slow["cpu_seconds"] / fast["cpu_seconds"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__.splitlines()[0])
    parser.add_argument("model", help="hub id or folder of a model")
    parser.add_argument("--lora", choices=("none", "upper", "all"), default="upper", help="layers with adapters")
    parser.add_argument("--out", type=Path, help="write the results here too")
    given = parser.parse_args()
    require_training(NAME)
    import torch

    load = os.getloadavg()[0]
    found = measure(given.model, given.lora)
    environment = describe_environment()
    result = {
        "what": NAME,
        "model": Path(given.model).name,
        "environment": environment,
        "threads": torch.get_num_threads(),
    }
    result |= {"load_at_start": round(load, 1), "load_at_end": round(os.getloadavg()[0], 1), **found}
    written = json.dumps(result, indent=1)
    print(written)
    if given.out:
        given.out.write_text(written + "\n")


if __name__ == "__main__":
    main()
