"""The nano policy: a Qwen2-shaped model of half a million parameters, its tokenizer, and a fast sampler for the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from azr_lite.prompts.base import Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

WEIGHTS = Path(__file__).parent / "weights"


def load_nano(folder: Path | str = WEIGHTS) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """The shipped policy and tokenizer (float32, CPU)."""
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

    model = Qwen2ForCausalLM.from_pretrained(str(folder))
    return model.float(), PreTrainedTokenizerFast.from_pretrained(str(folder))


class NanoSampler:
    """Samples replies by a forward pass of its own with a cache, equal to transformers' logits.

    Equal prompts are read once, chunks are made of prompts of like length, and finished replies leave the batch.
    Weights are read anew at each call, so it always samples from the current policy, at temperature 1, from all tokens.
    """

    def __init__(self, model: Any, eos_id: int, pad_id: int, max_reply_tokens: int, chunk: int = 384) -> None:
        self.model, self.eos_id, self.pad_id = model, eos_id, pad_id
        self.max_reply_tokens, self.chunk = max_reply_tokens, chunk
        c = model.config
        self.heads, self.kv_heads = c.num_attention_heads, c.num_key_value_heads
        self.head_dim = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
        self.eps = c.rms_norm_eps
        self.inverse = 1.0 / c.rope_parameters["rope_theta"] ** (torch.arange(0, self.head_dim, 2) / self.head_dim)

    @torch.inference_mode()
    def __call__(self, prompt_ids: list[list[int]], *, greedy: bool, seed: int, ended: Any = None) -> list[Sample]:
        """One reply per prompt, in order. With `greedy` the seed does not matter; nor does `ended`, for nano."""
        generator = None if greedy else torch.Generator().manual_seed(seed)
        self._read_weights()
        order = sorted(range(len(prompt_ids)), key=lambda i: (len(prompt_ids[i]), prompt_ids[i]))
        results: list[Sample | None] = [None] * len(prompt_ids)
        for start in range(0, len(order), self.chunk):
            rows = order[start : start + self.chunk]
            for row, sample in zip(rows, self._chunk([prompt_ids[i] for i in rows], generator), strict=True):
                results[row] = sample
        return results  # type: ignore[return-value]

    # ------------------------------------------------------------------ the forward pass

    def _read_weights(self) -> None:
        """Views of the live weights, with the three attention and the two gate projections joined."""
        self.layers = []
        for layer in self.model.model.layers:
            a, m = layer.self_attn, layer.mlp
            qkv = a.q_proj, a.k_proj, a.v_proj
            w_qkv, b_qkv = torch.cat([p.weight for p in qkv]), torch.cat([p.bias for p in qkv])
            w_gu = torch.cat([m.gate_proj.weight, m.up_proj.weight])
            ln1, ln2 = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
            self.layers.append((ln1, w_qkv, b_qkv, a.o_proj.weight, ln2, w_gu, m.down_proj.weight))
        self.embedding = self.model.model.embed_tokens.weight
        self.norm, self.head = self.model.model.norm.weight, self.model.lm_head.weight

    def _rms(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self.eps)

    def _rotate(self, x_BHTE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotary position embedding of queries or keys."""
        half = self.head_dim // 2
        swapped = torch.cat((-x_BHTE[..., half:], x_BHTE[..., :half]), dim=-1)
        return x_BHTE * cos + swapped * sin

    def _forward(self, ids_BT: Tensor, positions_BT: Tensor, cache: list[Any], mask: Tensor, at: int) -> Tensor:
        """Hidden states, shape (B, T, D), of T new tokens that stand from column `at` on.

        `cache`: for each layer keys and values, shape (B, key-value heads, columns, E). The new tokens' are added.
        `mask`: added to the attention scores, broadcast over heads; 0 or -1e9.
        """
        b, t = ids_BT.shape
        x = F.embedding(ids_BT, self.embedding)
        cos, sin = self.cos_TE[positions_BT][:, None], self.sin_TE[positions_BT][:, None]
        q_width, k_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        for (ln1, w_qkv, b_qkv, w_o, ln2, w_gu, w_d), (keys, values) in zip(self.layers, cache, strict=True):
            q, k, v = F.linear(self._rms(x, ln1), w_qkv, b_qkv).split((q_width, k_width, k_width), dim=-1)
            q = self._rotate(q.view(b, t, self.heads, self.head_dim).transpose(1, 2), cos, sin)
            keys[:, :, at : at + t] = self._rotate(k.view(b, t, self.kv_heads, self.head_dim).transpose(1, 2), cos, sin)
            values[:, :, at : at + t] = v.view(b, t, self.kv_heads, self.head_dim).transpose(1, 2)
            k, v = keys[:, :, : at + t], values[:, :, : at + t]
            if t == 1:  # the query heads of one key head stand in for the time axis: keys and values are not copied
                groups = self.heads // self.kv_heads
                scores = q.reshape(b, self.kv_heads, groups, self.head_dim) @ k.transpose(-1, -2) * self.head_dim**-0.5
                mixed = (torch.softmax(scores + mask, dim=-1) @ v).reshape(b, 1, q_width)
            else:
                mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
                mixed = mixed.transpose(1, 2).reshape(b, t, q_width)
            x = x + F.linear(mixed, w_o)
            gate, up = F.linear(self._rms(x, ln2), w_gu).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, w_d)
        return self._rms(x, self.norm)

    # ------------------------------------------------------------------ one chunk

    def _chunk(self, prompts: list[list[int]], generator: torch.Generator | None) -> list[Sample]:
        """Reply to B prompts at once: read the U distinct ones, copy their keys and values to the rows, then decode."""
        unique: dict[tuple[int, ...], int] = {}
        distinct_B = torch.tensor([unique.setdefault(tuple(prompt), len(unique)) for prompt in prompts])
        width, room = max(map(len, prompts)), self.max_reply_tokens
        angles_TE = torch.outer(torch.arange(width + room).float(), self.inverse).repeat(1, 2)
        self.cos_TE, self.sin_TE = angles_TE.cos(), angles_TE.sin()
        ids_UT = pad_sequence([torch.tensor(prompt) for prompt in unique], True, self.pad_id, padding_side="left")
        lengths_U = torch.tensor([len(prompt) for prompt in unique])
        shape = (len(unique), self.kv_heads, width, self.head_dim)
        cache = [(torch.zeros(shape), torch.zeros(shape)) for _ in self.layers]
        columns = torch.arange(width)
        real_UT = columns[None] >= (width - lengths_U)[:, None]
        mask_UTT = torch.where(real_UT[:, None, :] & (columns[None, None, :] <= columns[None, :, None]), 0.0, -1e9)
        positions_UT = (columns[None] - (width - lengths_U)[:, None]).clamp(min=0)
        hidden_UD = self._forward(ids_UT, positions_UT, cache, mask_UTT[:, None], 0)[:, -1]
        logits_BV = F.linear(hidden_UD, self.head)[distinct_B]
        pad = (0, 0, 0, room)
        cache = [(F.pad(k[distinct_B], pad), F.pad(v[distinct_B], pad)) for k, v in cache]
        blocked_BT = F.pad(torch.where(real_UT[distinct_B], 0.0, -1e9), (0, room))
        return self._decode(logits_BV, cache, blocked_BT, lengths_U[distinct_B], generator)

    def _decode(
        self, logits_BV: Tensor, cache: list[Any], blocked_BT: Tensor, lengths_B: Tensor, generator: Any
    ) -> list[Sample]:
        """Sample token after token until every row has ended or has `max_reply_tokens`; without a `generator` greedily.

        `logits_BV`: of the first reply token. `blocked_BT`: 0 where a column may be attended to, -1e9 where it is
        padding. `lengths_B`: tokens of each prompt. Inside, `live` holds the rows still computed, `going` which of
        them go on.
        """
        count, room = len(lengths_B), self.max_reply_tokens
        width = blocked_BT.shape[1] - room
        out_ids_BT = torch.full((count, room), self.pad_id)
        out_logps_BT = torch.zeros(count, room)
        ends_B = torch.full((count,), room)
        live = torch.arange(count)
        going = torch.ones(count, dtype=torch.bool)
        for step in range(room):
            logps_BV = torch.log_softmax(logits_BV, dim=-1)
            if generator is None:
                ids = logps_BV.argmax(-1)
            else:  # the same distribution as multinomial, and faster
                ids = (logps_BV.exp() / torch.empty_like(logps_BV).exponential_(generator=generator)).argmax(-1)
            ids = torch.where(going, ids, self.eos_id)  # a few finished rows ride along until they are worth dropping
            out_ids_BT[live, step] = ids
            out_logps_BT[live, step] = logps_BV.gather(1, ids[:, None])[:, 0]
            ended = going & (ids == self.eos_id)
            ends_B[live[ended]] = step + 1
            going = going & ~ended
            if step == room - 1 or not bool(going.any()):
                break
            if going.float().mean().item() < 0.85:
                live, ids, lengths_B, blocked_BT = live[going], ids[going], lengths_B[going], blocked_BT[going]
                cache = [(k[going], v[going]) for k, v in cache]
                going = going[going]
            positions = (lengths_B + step)[:, None]
            mask = blocked_BT[:, None, None, : width + step + 1]
            logits_BV = F.linear(self._forward(ids[:, None], positions, cache, mask, width + step)[:, 0], self.head)
        ids_list, logp_list = out_ids_BT.tolist(), out_logps_BT.tolist()
        return [
            (ids_list[row][:end], logp_list[row][:end], ids_list[row][end - 1] != self.eos_id)
            for row, end in enumerate(ends_B.tolist())
        ]
