"""A fast sampler for real language models on a CPU: transformers' own layers around packed weights and shared prompts.

* Weights in bfloat16 are packed once into oneDNN's layout. An adapter is not merged: bfloat16 would round its small
  updates away. Its two thin matrices are applied beside the packed one, as they are in the update.
* Equal prompts are read once and kept once: the rows of a prompt attend to its keys together.
* Rows that have ended leave the batch, and each row has its own random numbers, so that no row depends on the others.

The copy of the model that samples shares every tensor with the model in training; it only adds the packed weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners import lora
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, Cache, DynamicCache, GenerationConfig
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from azr_lite.errors import first_line
from azr_lite.prompts.base import Codec, Ended, Sample
from azr_lite.train.generation import CACHE, Halving, PolicySampler, Sampler, distinct_prompts, is_due

if TYPE_CHECKING:
    from azr_lite.train.trainer import SelfPlayTrainer

SHARED_PROMPTS = "shared_prompts"  # name of this attention for `set_attn_implementation`
BLOCK = 64  # tokens whose probabilities are summed first, when one is drawn
READ_AT_ONCE = 8192  # prompt tokens, padding included, that one forward pass reads
LEAVE = 7 / 8
"""Ended rows leave once the others are no more than this share of the batch: each time the cache is copied."""


class SamplingLinear(nn.Module):
    """y = x Wᵀ + b, and + s (x Aᵀ) Bᵀ for each adapter at work. In bfloat16, W is packed.

    `refresh` reads the weights of the layer in training again; those that did not change stay packed.
    """

    def __init__(self, layer: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.source, self.dtype = (layer,), dtype  # a tuple: not a child, whose mode `eval` would change
        self.base = (layer.get_base_layer() if isinstance(layer, lora.LoraLayer) else layer,)
        self.packed: torch.Tensor | None = None
        self.packed_from: Any = None

    def refresh(self) -> None:
        (layer,), (base,), self.low = self.source, self.base, []
        if self.dtype == torch.bfloat16 and self.packed_from != (base.weight.data_ptr(), base.weight._version):
            self.packed_from = base.weight.data_ptr(), base.weight._version
            self.packed = torch.ops.mkldnn._reorder_linear_weight(base.weight.detach().to(self.dtype), 64)
        self.bias = base.bias if base.bias is None else base.bias.detach().to(self.dtype)
        for name in layer.active_adapters if isinstance(layer, lora.LoraLayer) and not layer.disable_adapters else ():
            if name in layer.lora_A:
                up = layer.scaling[name] * layer.lora_B[name].weight
                self.low.append((layer.lora_A[name].weight.to(self.dtype), up.t().contiguous().to(self.dtype)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.to(self.dtype)
        if self.packed is None:
            y = F.linear(x, self.base[0].weight, self.bias)
        else:
            y = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        for down, up in self.low:
            y.view(-1, y.shape[-1]).addmm_(F.linear(x, down).view(-1, len(down)), up)
        return y


class CpuSampler:
    """Samples from a model on a CPU: at `config.temperature`, from all tokens, at most `config.max_new_tokens` of them.

    `dtype`: of the arithmetic. `note` is told when memory runs short.
    """

    def __init__(
        self,
        model: Any,
        codec: Codec,
        config: GenerationConfig,
        dtype: torch.dtype,
        note: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.codec, self.config, self.dtype, self.halving = codec, config, dtype, Halving(note)
        self.base = model.get_base_model() if hasattr(model, "get_base_model") else model
        shared: dict[int, Any] = {id(x): x for x in chain(self.base.parameters(), self.base.buffers())}
        for module in self.base.modules():
            if isinstance(module, lora.LoraLayer) or type(module) is nn.Linear:
                shared[id(module)] = SamplingLinear(module, dtype)
        self.model = copy.deepcopy(self.base, shared).eval()
        for module in self.model.modules():
            vars(module).pop("forward", None)  # gradient checkpointing's, bound to the layers in training
        self.model.set_attn_implementation(SHARED_PROMPTS)

    def why_not(self) -> str:
        """Why this model cannot be sampled here exactly; empty where it can."""
        for layer in self.base.modules():
            plain = type(layer) is lora.Linear and type(layer.get_base_layer()) is nn.Linear
            if isinstance(layer, BaseTunerLayer) and (not plain or layer.lora_variant or any(layer.lora_bias.values())):
                return "its adapters are not plain LoRA on linear layers"
        if self.dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return "the processor has no bfloat16"
        try:
            far = self.disagreement()
        except Exception as error:  # of a model's own code, which may be anything
            return f"{type(error).__name__}: {first_line(error)}"
        near = far <= (1e-3 if self.dtype == torch.float32 else 0.15)  # not so where a number is NaN
        return "" if near else f"log-probabilities differ by {far:.2g}"

    @torch.no_grad()
    def disagreement(self) -> float:
        """The mean difference between its log-probabilities and the model's own, after short made-up texts."""
        self._refresh()
        ids_BT = torch.randint(self.model.config.vocab_size, (2, 10), generator=torch.Generator().manual_seed(0))
        prompts = [ids_BT[0, :7].tolist(), ids_BT[1, 2:7].tolist()]
        logits_BV, positions_B, rows, cache = self.read(prompts)
        ours = [logits_BV] + [self.step(ids_BT[:, 7 + t], positions_B + t, rows, cache) for t in range(3)]
        whole = [self.base(input_ids=ids_BT[b : b + 1, first:], use_cache=False) for b, first in ((0, 0), (1, 2))]
        theirs_BTV = torch.stack([out.logits[0, -4:] for out in whole]).float().log_softmax(-1)
        return float((torch.stack(ours, dim=1).float().log_softmax(-1) - theirs_BTV).abs().mean())

    @torch.no_grad()
    def __call__(
        self, prompt_ids: list[list[int]], *, greedy: bool, seed: int, ended: Sequence[Ended | None] | None = None
    ) -> list[Sample]:
        """One reply per prompt, in order. `ended`: for each row what says of its decoded reply that it is over.

        Log-probabilities come with the replies in float32 only: in bfloat16 those of a batch differ too much from
        those of the update. Row i's random numbers depend on `seed` and i alone.
        """
        self._refresh()
        generator = torch.Generator().manual_seed(seed)
        drawn_BT = torch.rand(len(prompt_ids), self.config.max_new_tokens, dtype=torch.float64, generator=generator)
        tests = list(ended or [None] * len(prompt_ids))
        order = sorted(range(len(prompt_ids)), key=lambda i: (len(prompt_ids[i]), tuple(prompt_ids[i])))

        def replies(places: range) -> list[Sample]:
            rows = [order[place] for place in places]
            return self._replies([prompt_ids[i] for i in rows], drawn_BT[rows], [tests[i] for i in rows], greedy)

        of_row = dict(zip(order, self.halving(replies, range(len(order))), strict=True))
        return [of_row[i] for i in range(len(order))]

    def read(self, prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Cache]:
        """Reads the U distinct of these B prompts, of which equal ones are neighbours.

        Gives the logits of the first token, (B, V); prompt lengths, (B,); the rows; and the cache to go on with.
        """
        ids_US, real_US, prompt_B = distinct_prompts(prompts, self.config.pad_token_id)
        positions_US = (real_US.cumsum(-1) - 1).clamp(min=0)
        logits, caches = [], []
        for part in torch.arange(len(ids_US)).split(max(1, READ_AT_ONCE // ids_US.shape[1])):
            caches.append(DynamicCache(config=self.model.config))
            some = {"input_ids": ids_US[part], "attention_mask": real_US[part], "position_ids": positions_US[part]}
            out = self.model(**some, **{CACHE: caches[-1]}, use_cache=True, logits_to_keep=1)
            logits.append(out.logits[:, -1])
        rows, layers = Rows(prompt_B, real_US, caches[0].layers[0].values.dtype), []
        for parts in zip(*(cache.layers for cache in caches), strict=True):
            values_UKSE = torch.cat([part.values for part in parts])
            keys_UKSE = torch.cat([part.keys for part in parts]).to(values_UKSE.dtype)
            layers.append(SharedLayer(keys_UKSE, values_UKSE, rows))
        return torch.cat(logits)[prompt_B], real_US.sum(-1)[prompt_B], rows, Cache(layers=layers)

    def step(self, tokens_B: torch.Tensor, positions_B: torch.Tensor, rows: Rows, cache: Cache) -> torch.Tensor:
        """The logits, (B, V), after one more token of each row."""
        of_model = {CACHE: cache, "use_cache": True, "logits_to_keep": 1}
        logits_BV = self.model(input_ids=tokens_B[:, None], position_ids=positions_B[:, None], **of_model).logits[:, -1]
        rows.columns += 1
        return logits_BV

    def _replies(
        self, prompts: Sequence[Sequence[int]], drawn_BT: torch.Tensor, ended: Sequence[Ended | None], greedy: bool
    ) -> list[Sample]:
        """Token after token, until every row has ended or is at the limit. `live`: the rows still computed."""
        ids: list[list[int]] = [[] for _ in prompts]
        logps: list[list[float]] = [[] for _ in prompts]
        done, live = [False] * len(prompts), torch.arange(len(prompts))
        logits_BV, positions_B, rows, cache = self.read(prompts)
        for t in range(self.config.max_new_tokens):
            tokens_B, logps_B = draw(logits_BV, self.config.temperature, None if greedy else drawn_BT[live, t])
            for i, token, logp in zip(live.tolist(), tokens_B.tolist(), logps_B.tolist(), strict=True):
                if not done[i]:
                    ids[i].append(token)
                    logps[i].append(logp)
                    over = ended[i] is not None and is_due(len(ids[i])) and ended[i](self.codec.text(ids[i]))
                    done[i] = token in self.codec.eos_ids or bool(over)
            going = torch.tensor([not done[i] for i in live.tolist()]).nonzero()[:, 0]
            if not len(going) or t + 1 == self.config.max_new_tokens:
                break
            if len(going) <= LEAVE * len(live):
                live, tokens_B, positions_B = live[going], tokens_B[going], positions_B[going]
                prompts_left = rows.arrange(rows.prompt_B[going])
                for layer in cache.layers:
                    layer.keep(going, prompts_left)
            logits_BV = self.step(tokens_B, positions_B + t, rows, cache)
        exact = self.dtype == torch.float32
        return [(ids[i], logps[i] if exact else None, not done[i]) for i in range(len(prompts))]

    def _refresh(self) -> None:
        for module in self.model.modules():
            if isinstance(module, SamplingLinear):
                module.refresh()


def choose_sampler(trainer: SelfPlayTrainer, dtype: torch.dtype) -> Sampler:
    """The fast sampler where it is exact, else transformers' generate or vLLM; a note says which, and why.

    `dtype`: of the arithmetic.
    """
    if trainer.use_vllm:
        return PolicySampler(trainer)
    reason, in_type = "", str(dtype).removeprefix("torch.")
    if trainer.is_sharded:
        reason = "the weights are spread over processes"
    elif trainer.accelerator.device.type != "cpu":
        reason = "there is a GPU"
    else:
        model = trainer.accelerator.unwrap_model(trainer.model)
        made = CpuSampler(model, trainer.codec, trainer.generation_config, dtype, trainer.note)
        reason = made.why_not()
    if reason:
        trainer.note(f"sampling: transformers' generate in {in_type}, not the fast sampler for CPUs: {reason}")
        return PolicySampler(trainer)
    trainer.note(f"sampling: the fast sampler for CPUs, in {in_type}")
    return made


def draw(logits_BV: torch.Tensor, temperature: float, uniform_B: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    """Tokens and their log-probabilities, both (B,): the likeliest without `uniform_B`, else by the inverse CDF."""
    few = range(0, len(logits_BV), 8)  # rows at a time: their numbers stay in the processor's cache
    parts = [_draw(logits_BV[i : i + 8], temperature, None if uniform_B is None else uniform_B[i : i + 8]) for i in few]
    tokens, logps = zip(*parts, strict=True)
    return torch.cat(tokens), torch.cat(logps)


def _draw(logits_BV: torch.Tensor, temperature: float, uniform_B: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    """The token is the first whose cumulated probability exceeds u; blocks are cumulated first, then within one."""
    x_BV = logits_BV.to(torch.float32, copy=True)
    if uniform_B is not None and temperature != 1:
        x_BV /= temperature
    tokens_B1 = x_BV.argmax(-1, keepdim=True)
    weights_BV = x_BV.sub_(x_BV.gather(1, tokens_B1)).exp_()
    if uniform_B is not None:
        short = -weights_BV.shape[1] % BLOCK
        blocks_BNM = (F.pad(weights_BV, (0, short)) if short else weights_BV).view(len(weights_BV), -1, BLOCK)
        block_B1, rest_B1 = _first_above(blocks_BNM.sum(-1), uniform_B[:, None])
        inside_BM = blocks_BNM[torch.arange(len(blocks_BNM)), block_B1[:, 0]]
        tokens_B1 = block_B1 * BLOCK + _first_above(inside_BM, rest_B1)[0]
    return tokens_B1[:, 0], (weights_BV.gather(1, tokens_B1) / weights_BV.sum(-1, keepdim=True)).log()[:, 0]


def _first_above(weights_BN: torch.Tensor, share_B1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the cumulated weights first exceed this share of all, and which share of the weight there is left."""
    sums_BN = weights_BN.double().cumsum(-1)
    total_B1 = sums_BN[:, -1:]
    target_B1 = torch.minimum(share_B1 * total_B1, total_B1.nextafter(torch.zeros(())))
    place_B1 = torch.searchsorted(sums_BN, target_B1, right=True)
    here_B1 = weights_BN.double().gather(1, place_B1)
    return place_B1, ((target_B1 - sums_BN.gather(1, place_B1) + here_B1) / here_B1).clamp(0, 1)


# ---------------------------------------------------------------- attention over prompts that rows share


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
