"""transformers' `generate` with the prompt read once for all replies to it.

Comes in: prompts as token ids, most of them several times (the Monte-Carlo replies to one task).  Goes out: sampled ids.
Not covered: vLLM (it shares prefixes by itself), sharded weights (every process must call the model equally often).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig


@torch.no_grad()
def sample_replies(
    model: Any,
    prompt_ids: Sequence[Sequence[int]],
    config: GenerationConfig,
    eos_ids: Collection[int],
    device: torch.device,
    **options: Any,
) -> list[list[int]]:
    """One reply a prompt, ids up to and with the first end-of-sequence token. `model` must be ready to generate.

    `options` go to transformers' `generate`.
    """
    prompts = [tuple(ids) for ids in prompt_ids]
    distinct = {ids: row for row, ids in enumerate(dict.fromkeys(prompts))}
    width = max(map(len, distinct))
    ids_UT = torch.tensor([[config.pad_token_id] * (width - len(ids)) + list(ids) for ids in distinct], device=device)
    mask_UT = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in distinct], device=device)
    of_row_B = torch.tensor([distinct[ids] for ids in prompts], device=device)
    shared = dict(options)
    if len(distinct) < len(prompts) and width > 1:
        shared["past_key_values"] = _read_once(model, ids_UT[:, :-1], mask_UT[:, :-1], of_row_B)
    out_BT = model.generate(input_ids=ids_UT[of_row_B], attention_mask=mask_UT[of_row_B], generation_config=config, **shared)
    return [_until_end(ids, eos_ids) for ids in out_BT[:, width:].tolist()]


def _read_once(model: Any, ids_UT: torch.Tensor, mask_UT: torch.Tensor, of_row_B: torch.Tensor) -> DynamicCache:
    """Keys and values of all but the last prompt token, computed for the U distinct prompts and copied to the B rows."""
    positions_UT = (mask_UT.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    model(input_ids=ids_UT, attention_mask=mask_UT, position_ids=positions_UT, past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.batch_select_indices(of_row_B)
    return cache


def _until_end(ids: list[int], eos_ids: Collection[int]) -> list[int]:
    end = next((place for place, token in enumerate(ids) if token in eos_ids), len(ids) - 1)
    return ids[: end + 1]
