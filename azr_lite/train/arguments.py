"""TRL's arguments of a run, from its configuration."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch
from trl import GRPOConfig

from azr_lite.config import Config
from azr_lite.environment import free_port
from azr_lite.train.distributed import world
from azr_lite.train.policy import Policy


def training_arguments(config: Config, policy: Policy, run_dir: Path) -> GRPOConfig:
    """One generation batch is one self-play step; ConfigError where it cannot be split over the processes."""
    on_cpu = policy.device.type == "cpu"
    # what torch wants in its place would still broadcast them once
    warnings.filterwarnings("ignore", ".*broadcast_buffers. is deprecated", FutureWarning)
    micro_batches = config.micro_batches(world())
    optimizer = config.optimizer
    if optimizer == "adamw":
        optimizer = "adamw_torch" if on_cpu else "adamw_torch_fused"
    args = GRPOConfig(
        output_dir=str(run_dir),
        use_cpu=on_cpu,
        seed=config.seed,
        bf16=policy.compute is torch.bfloat16,
        fp16=policy.compute is torch.float16,
        # one generation batch = one self-play step = `updates_per_step` optimiser steps
        max_steps=config.steps * config.updates_per_step,
        per_device_train_batch_size=config.micro_batch_size,
        gradient_accumulation_steps=micro_batches,
        steps_per_generation=micro_batches * config.updates_per_step,
        num_generations=2,  # TRL's least; advantages are replaced, so its prompt groups mean nothing
        # the loss
        loss_type="dapo",
        epsilon=config.clip,
        beta=0.0,
        scale_rewards="none",
        mask_truncated_completions=False,  # a truncated reply must earn its -1
        # sampling
        temperature=config.temperature,
        top_k=0,
        max_completion_length=config.max_reply_tokens,
        **_vllm(config),
        # the optimiser
        optim=optimizer,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant",
        adam_beta2=config.adam_beta2,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        gradient_checkpointing=config.gradient_checkpointing,
        disable_dropout=True,
        ddp_broadcast_buffers=False,  # processes make unequally many forward passes; the buffers are constants
        ddp_find_unused_parameters=False,  # split roles touch the idle adapter (`_compute_loss`)
        # logging and saving
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",  # trackers get the numbers of a step, not of an update (`progress.Trackers`)
        disable_tqdm=True,
        save_strategy="steps",
        save_steps=(config.save_every or config.steps) * config.updates_per_step,
        save_total_limit=None,  # `Schedule` drops old checkpoints itself, once the new one is whole
        dataloader_pin_memory=False,
    )
    args._n_gpu = min(args.n_gpu, 1)  # a process trains on one GPU: transformers would put nn.DataParallel over all
    return args


def _vllm(config: Config) -> dict[str, Any]:
    """TRL's options for vLLM. Its sequence modes of importance sampling drop or cap whole long replies (trl#4772)."""
    if not config.generation.startswith("vllm"):
        return {}
    if config.generation == "vllm" and world() == 1:
        os.environ.setdefault("MASTER_PORT", str(free_port()))  # vLLM's; of two runs TRL would give both 29500
    return {
        "use_vllm": True,
        "vllm_mode": "colocate" if config.generation == "vllm" else "server",
        "vllm_server_base_url": config.vllm_server if config.generation == "vllm-server" else None,
        "vllm_group_port": free_port(),  # where weights go to the server; TRL would give all runs 51216
        "vllm_gpu_memory_utilization": config.vllm_memory,
        "vllm_enable_sleep_mode": config.generation == "vllm",
        "vllm_tensor_parallel_size": config.vllm_tensor_parallel,
        "vllm_max_model_length": config.max_prompt_tokens + config.max_reply_tokens,
        "vllm_importance_sampling_correction": True,
        "vllm_importance_sampling_mode": "token_truncate",
    }
