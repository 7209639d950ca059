"""The command line under FSDP2 on CPU processes: accelerate has FSDP for GPUs only, and is told that these are some.

Started twice by tests/test_processes.py, with the variables that `accelerate launch --config_file fsdp2.yaml` sets. The nano
sampler, which reads whole weights, is replaced by transformers' generate.
"""

import os

import torch

import azr_lite.train.trainer
from azr_lite.train.generation import PolicySampler


def without_sampler():
    build = azr_lite.train.trainer.SelfPlayTrainer
    azr_lite.train.trainer.choose_sampler = lambda trainer, dtype: PolicySampler(trainer)  # not that for CPUs
    azr_lite.train.trainer.SelfPlayTrainer = lambda *args, sampler=None, **names: build(*args, **names)
    return build


if __name__ == "__main__":
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    from azr_lite.cli import main
    from azr_lite.train.distributed import end

    def gloo(self, *_, **__):
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo")
        return "gloo", DistributedType.MULTI_GPU

    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState._prepare_backend = gloo
    without_sampler()
    raise SystemExit(end(main()))
