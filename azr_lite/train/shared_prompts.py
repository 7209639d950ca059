"""Attention over prompts that rows share: keys and values of a prompt are kept, and read, once for all its rows.

For decoding on a CPU, one token per row and pass. A model of transformers asks for it by name.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SHARED_PROMPTS = "shared_prompts"
"""Name of this attention for `set_attn_implementation`."""


class Rows:
    """Which of the U prompts each of the B live rows goes on from, and how many reply tokens are in the cache.

    Rows of one prompt are neighbours. Where the prompts have unequal numbers of rows, each gets the N slots of the
    largest: `slots`, shape (U·N,), says which row stands in a slot (any row, where none does), and `place_B` the
    slot of each row.
    """

    def __init__(self, prompt_B: torch.Tensor, real_US: torch.Tensor, dtype: torch.dtype) -> None:
        self.columns, self.bias, blocked_US = 0, None, real_US == 0
        if blocked_US.any():
            self.bias = torch.zeros(real_US.shape, dtype=dtype).masked_fill_(blocked_US, -torch.inf)[:, None, None]
        self.arrange(prompt_B)

    def arrange(self, prompt_B: torch.Tensor) -> torch.Tensor:
        """Go on with these rows. Gives the indices of the prompts they go on from; the others are dropped."""
        prompts, prompt_B = prompt_B.unique_consecutive(return_inverse=True)
        counts_U = torch.bincount(prompt_B)
        self.prompt_B, self.most, B = prompt_B, int(counts_U.max()), len(prompt_B)
        within_B = torch.arange(B) - (counts_U.cumsum(0) - counts_U)[prompt_B]
        self.place_B = prompt_B * self.most + within_B
        self.slots = torch.zeros(len(counts_U) * self.most, dtype=torch.long)
        self.slots[self.place_B] = torch.arange(B)
        self.even = len(self.slots) == B
        if self.bias is not None:
            self.bias = self.bias[prompts]
        return prompts

    def by_prompt(self, x_BKGE: torch.Tensor) -> torch.Tensor:
        """The rows of each prompt together: shape (U, K, N·G, E)."""
        _, K, G, E = x_BKGE.shape
        x = x_BKGE if self.even else x_BKGE[self.slots]
        return x.view(-1, self.most, K, G, E).transpose(1, 2).reshape(-1, K, self.most * G, E)

    def by_row(self, x_UKME: torch.Tensor, G: int) -> torch.Tensor:
        """`by_prompt` undone: shape (B, K, G, E)."""
        U, K, _, E = x_UKME.shape
        x = x_UKME.reshape(U, K, self.most, G, E).transpose(1, 2).reshape(U * self.most, K, G, E)
        return x if self.even else x[self.place_B]


class SharedLayer(DynamicLayer):
    """One layer's keys and values: of the prompts, (U, K, S, E), and of the replies, (B, K, room, E).

    Given to the attention function in the place of the keys.
    """

    def __init__(self, keys_UKSE: torch.Tensor, values_UKSE: torch.Tensor, rows: Rows) -> None:
        super().__init__()
        self.prompt_keys, self.prompt_values, self.rows = keys_UKSE, values_UKSE, rows
        self.both = keys_UKSE.new_empty(2, len(rows.prompt_B), keys_UKSE.shape[1], 32, keys_UKSE.shape[3])

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        at = self.rows.columns
        if at == self.both.shape[3]:
            self.both = torch.cat((self.both, torch.empty_like(self.both)), dim=3)
        self.both[0, :, :, at], self.both[1, :, :, at] = key_states[:, :, 0], value_states[:, :, 0]
        return self, value_states

    def keep(self, kept: torch.Tensor, prompts: torch.Tensor) -> None:
        self.both = self.both[:, kept]
        if len(prompts) < len(self.prompt_keys):
            self.prompt_keys, self.prompt_values = self.prompt_keys[prompts], self.prompt_values[prompts]

    def attend(self, query_BHTE: torch.Tensor, scaling: float | None) -> torch.Tensor:
        """Attention of one new token per row to its prompt and its reply, shape (B, 1, H, E).

        Two softmaxes, joined by their normalisers: the share of the reply is σ(log Z_reply - log Z_prompt).
        """
        flash, rows = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu, self.rows
        B, H, _, E = query_BHTE.shape
        K, columns = self.both.shape[2], rows.columns + 1
        query = query_BHTE.reshape(B, K, H // K, E).to(self.both.dtype)
        of_prompt, log_prompt = flash(
            rows.by_prompt(query), self.prompt_keys, self.prompt_values, attn_mask=rows.bias, scale=scaling
        )
        own_keys, own_values = self.both[:, :, :, :columns]
        of_reply, log_reply = flash(query, own_keys, own_values, scale=scaling)
        of_prompt, log_prompt = rows.by_row(of_prompt, H // K), rows.by_row(log_prompt[..., None], H // K)
        share = torch.sigmoid(log_reply[..., None] - log_prompt).to(query.dtype)
        return torch.lerp(of_prompt, of_reply, share).reshape(B, 1, H, E)

    def get_seq_length(self) -> int:
        return self.prompt_keys.shape[2] + self.rows.columns


def attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor | SharedLayer,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention function of the sampling copy: reading prompts its own, after that `SharedLayer.attend`.

    ValueError for a kind of attention that is not the plain one.
    """
    if strange := sorted(name for name in ("sliding_window", "softcap", "s_aux") if options.get(name) is not None):
        raise ValueError(f"attention with {strange[0]}")
    if isinstance(key, SharedLayer):
        return key.attend(query, scaling), None
    query, key = query.to(value.dtype), key.to(value.dtype)
    return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)


AttentionInterface.register(SHARED_PROMPTS, attention)
AttentionMaskInterface.register(SHARED_PROMPTS, sdpa_mask)
