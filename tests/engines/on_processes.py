"""Our command line, or our loading and training, under FSDP2 or ZeRO-3 on CPU processes; started by accelerate's own launcher.

``accelerate launch --config_file FILE -m tests.engines.on_processes memory FOLDER`` writes FOLDER/rank-N.json; any other words are
azr-lite's own. Bent: accelerate has FSDP for GPUs only and is told that these are some; nano's sampler, which reads whole weights.
"""

import gc
import json
import os
import sys
from pathlib import Path
from unittest import mock

import psutil
import torch
from accelerate import PartialState
from accelerate.utils import DistributedType

from azr_lite.cli import main
from azr_lite.environment import gets_weights, sharding
from azr_lite.train.distributed import end, join
from azr_lite.train.policy import load_policy
from azr_lite.train.trainer import SelfPlayTrainer
from tests.fsdp_on_cpu import without_sampler
from tests.tiny import PLAIN, Scripted, sampled_script, tiny_config

MB = 2**20


def bend() -> None:
    def gloo(self, *_, **__):
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo")
        return "gloo", DistributedType.MULTI_GPU

    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    if sharding() == "FSDP":
        PartialState._prepare_backend = gloo
    without_sampler()


def resident() -> float:
    return psutil.Process().memory_info().rss / MB


def measure_memory(folder: Path) -> None:
    """What loading a model takes of each process, in MiB: as we do it, as it would be if each read the weights, and after an update."""
    config = tiny_config(model=str(folder / "model"), device="auto", max_prompt_tokens=64, task_types=("deduction",))
    join(config)
    torch.ones(1).exp()  # what torch loads at its first operation is not the model's
    facts = {}
    for name in ("each_reads", "first_reads"):
        with mock.patch("azr_lite.train.policy.gets_weights", gets_weights if name == "first_reads" else lambda: False):
            before = resident()
            policy = load_policy(config)
            facts[name] = resident() - before
        kept, policy = policy, None
        if name == "each_reads":
            del kept
            gc.collect()
    facts["whole_model"] = sum(p.numel() * 4 for p in kept.model.parameters()) / MB
    trainer = SelfPlayTrainer(config, kept, PLAIN, Scripted(sampled_script(config)), folder / "run")
    trainer.args.save_strategy = "no"
    trainer.train()
    facts["grad_norm"] = next(line["grad_norm"] for line in trainer.state.log_history if "grad_norm" in line)
    (folder / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    bend()
    if sys.argv[1] == "memory":
        measure_memory(Path(sys.argv[2]))
        end(0)
    raise SystemExit(end(main()))
