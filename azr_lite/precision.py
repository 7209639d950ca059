"""Where the policy lives and in which types it is stored and computed, with the reason.

Comes in: a `Config` and this machine.  Goes out: a `Precision`.
Not covered: whether it fits (`hardware.py`), loading (`models.py`).

Weights that are trained are always float32 masters: at a rate of 1e-6 most updates of a bfloat16 weight round to nothing.
Frozen weights (under adapters) are stored in 16 bits wherever the machine computes in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from azr_lite.config import Config
from azr_lite.errors import ModelError


@dataclass(frozen=True)
class Precision:
    """`weights`: the type of stored weights. `compute`: the type of arithmetic; autocast unless float32."""

    device: torch.device
    weights: torch.dtype
    compute: torch.dtype
    reason: str


def choose_precision(config: Config) -> Precision:
    """Device and types for these settings on this machine. The same answer every time it is asked. Raises ModelError."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ModelError("device='cuda', but torch sees no GPU here; install torch with CUDA or use device='auto'")
    on_gpu = config.device != "cpu" and torch.cuda.is_available()
    if config.dtype == "float16" and not on_gpu:
        raise ModelError("dtype='float16' trains on GPUs only; use dtype='auto'")
    device = torch.device("cuda" if on_gpu else "cpu")
    half = _half(config, on_gpu)
    if config.tuning == "full":
        # Plain bfloat16 weights are nobody's wish; a 16-bit dtype asks for 16-bit arithmetic over float32 masters.
        compute = half if half is not None and (on_gpu or config.dtype != "auto") else torch.float32
        weights, what = torch.float32, f"float32 weights (all are trained), {_short(compute)} arithmetic"
    else:
        weights = half or (torch.bfloat16 if config.tuning == "qlora" else torch.float32)
        compute, frozen = weights, "4-bit base, arithmetic" if config.tuning == "qlora" else "frozen base and arithmetic"
        if config.tuning == "qlora" and half is None:
            why = "4-bit kernels know no other, though it is slow here"
        elif config.dtype != "auto":
            why = "as set"
        elif half is not None:
            why = "this machine has it"
        elif config.model == "nano":
            why = "casting so small a model costs more than 16 bits save"
        else:
            why = "the machine has no 16-bit arithmetic"
        what = f"{frozen} in {_short(weights)}: {why}"
    where = "a GPU is here" if on_gpu else "as set" if config.device == "cpu" else "no GPU is here"
    return Precision(device, weights, compute, f"device {device.type}: {where}; {what}")


def _half(config: Config, on_gpu: bool) -> torch.dtype | None:
    """The 16-bit type to compute in, or None for float32."""
    if config.dtype != "auto":
        return None if config.dtype == "float32" else getattr(torch, config.dtype)
    if on_gpu:
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if config.model == "nano":
        return None  # so small that casting costs more than it saves
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else None


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
