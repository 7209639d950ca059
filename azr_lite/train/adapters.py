"""Adapters beyond the ordinary: one for each role, and a guard for the base that vLLM's weight sync would wear away."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch

from azr_lite.errors import ModelError
from azr_lite.triplet import Role

NAMES = {Role.SOLVE: "default", Role.PROPOSE: "proposer"}
"""The solver is PEFT's default adapter, which a checkpoint loads as; the proposer lies in its subfolder."""


class SplitRoles:
    """Proposer and solver as two adapters on one frozen base. Both start as the base; one optimiser trains both."""

    def __init__(self, model: Any, peft_config: Any) -> None:
        model.add_adapter(NAMES[Role.PROPOSE], peft_config)
        self.model = model
        self.parameters = {
            role: [p for name, p in model.named_parameters() if ".lora_" in name and f".{adapter}." in name]
            for role, adapter in NAMES.items()
        }
        self.act_as(Role.SOLVE)

    def act_as(self, role: Role) -> None:
        """Put this role's adapter to work; both stay trainable (PEFT freezes the one at rest)."""
        self.model.set_adapter(NAMES[role])
        for parameter in chain(*self.parameters.values()):
            parameter.requires_grad_(True)

    def touch(self, role: Role) -> torch.Tensor:
        """Zero, but with a gradient (of zero) for every weight of the *other* role: DDP waits for all of them."""
        idle = self.parameters[Role.PROPOSE if role == Role.SOLVE else Role.SOLVE]
        return 0.0 * torch.stack([p.sum() for p in idle]).sum()


def protect_frozen_weights(model: Any, engine: Any) -> None:
    """After each weight sync of `engine` (TRL's VLLMGeneration), write the frozen weights back bit for bit.

    TRL hands vLLM merged weights: adapters are added to the base and subtracted again, which in bfloat16 is no round
    trip (after 100 syncs the base has moved by 5e-4 of its size, and goes on; trl#6688). Costs one copy of the adapted
    layers in CPU memory. ModelError for a quantized base, where each sync moves weights by about 5 % (trl#3466).
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    kept: list[tuple[torch.nn.Parameter, torch.Tensor]] = []
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            for parameter in module.get_base_layer().parameters(recurse=False):
                if not parameter.is_floating_point():
                    raise ModelError(
                        f"{name} is quantized, which TRL's weight sync to vLLM destroys; use generation='transformers'"
                    )
                kept.append((parameter, parameter.detach().to("cpu", copy=True)))
    sync = engine.sync_weights

    def sync_and_restore(*args: Any, **kwargs: Any) -> Any:
        try:
            return sync(*args, **kwargs)
        finally:
            with torch.no_grad():
                for parameter, original in kept:
                    parameter.copy_(original)

    engine.sync_weights = sync_and_restore
