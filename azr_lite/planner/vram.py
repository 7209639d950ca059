"""Bytes of one GPU, part by part, in the update and in generation: each part one function, its formula in its docstring.

Comes in: a `Shape` and a `Config`.  Goes out: two `Memory`s, in GB (1e9 bytes).
Not covered: which card (`hardware.py`), time (`speed.py`), main memory, what a debugger or another program holds.

Letters: h hidden, i intermediate, L layers, V vocabulary, T tokens of a micro-batch, N weights, r adapter rank, e bytes of a number.
Activations were fitted to peaks measured on a CPU, operation by operation (tests/test_hardware.py), not to a GPU.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from azr_lite.config import Config
from azr_lite.planner.shapes import Shape

GB = 1e9
CONTEXT = 0.6 * GB
"""CUDA context, kernels and the allocator's rounding."""
VLLM_OVERHEAD = 1.2 * GB
"""vLLM's CUDA graphs and workspace, beside its weights and cache."""
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a 4-bit weight: the digit, an 8-bit scale for 64 of them, a float32 scale for 256 scales."""


@dataclass(frozen=True)
class Memory:
    """What one GPU holds at one moment, in GB (1e9 bytes), part by part."""

    weights: float = 0.0
    adapters: float = 0.0
    gradients: float = 0.0
    optimiser: float = 0.0
    activations: float = 0.0
    head: float = 0.0
    cache: float = 0.0
    vllm: float = 0.0
    context: float = 0.0

    @property
    def total(self) -> float:
        return sum(dataclasses.asdict(self).values())

    def scaled(self, factor: float) -> Memory:
        """Every part times a factor (the probe's correction)."""
        return Memory(**{name: value * factor for name, value in dataclasses.asdict(self).items()})


# ---------------------------------------------------------------- what stays: weights, gradients, moments


def number_bytes(config: Config, cpu: bool) -> int:
    """e: 2 in 16-bit arithmetic, 4 in float32 (dtype='float32', or a CPU unless it says otherwise)."""
    return 4 if config.dtype == "float32" or (cpu and config.dtype == "auto" and config.tuning != "qlora") else 2


def shards(config: Config) -> int:
    """Parts that full tuning's states are cut into (FSDP2, ZeRO-3). Adapters are copied to every process instead (DDP)."""
    return max(1, config.processes) if config.tuning == "full" else 1


def trainable_parameters(shape: Shape, config: Config) -> int:
    """N for full tuning, else the adapters': L·r·Σ(inputs + outputs), twice where each role has its own."""
    if config.tuning == "full":
        return shape.parameters
    return shape.adapter_parameters(config.lora_rank) * (2 if config.roles == "split" else 1)


def weight_bytes(shape: Shape, config: Config, cpu: bool = False) -> float:
    """Full: 4·N (float32 masters). LoRA: e·N. QLoRA: 0.516 B a weight of the layers' linear maps, e for the rest."""
    if config.tuning == "full":
        return 4 * shape.parameters / shards(config)
    e = number_bytes(config, cpu)
    if config.tuning == "lora":
        return e * shape.parameters
    return NF4 * shape.linear_parameters + e * (shape.parameters - shape.linear_parameters)


def adapter_bytes(shape: Shape, config: Config) -> float:
    """4 B a weight: adapters are always float32. With gradients and AdamW's moments: 16."""
    return 0 if config.tuning == "full" else 4 * trainable_parameters(shape, config)


def gradient_bytes(shape: Shape, config: Config) -> float:
    """4 B a trained weight, sharded as the weights are; DDP keeps a second copy in its buckets."""
    buckets = 2 if config.tuning != "full" and config.processes > 1 else 1
    return 4 * trainable_parameters(shape, config) * buckets / shards(config)


def optimiser_bytes(shape: Shape, config: Config) -> float:
    """Two moments a trained weight: 8 B in AdamW, 2 B in its 8-bit forms (paged ones can move to main memory besides)."""
    return (8 if config.optimizer == "adamw" else 2) * trainable_parameters(shape, config) / shards(config)


def autocast_copy_bytes(shape: Shape, config: Config, cpu: bool = False) -> float:
    """Full tuning computes in 16 bits over float32 masters. One GPU: autocast keeps a copy, 2·N, through a forward pass.

    Sharded: no copy, but two layers (2 B) and the head (4·V·h) are gathered whole at any moment.
    """
    if config.tuning != "full" or number_bytes(config, cpu) == 4:
        return 0
    if shards(config) == 1:
        return 2 * shape.parameters
    return 2 * 2 * shape.layer_parameters + 4 * shape.head_parameters


# ---------------------------------------------------------------- the update


def layer_activation_bytes(shape: Shape, e: int, residual: int | None = None) -> float:
    """One layer's tensors kept for its backward pass, a token: 2·(4i + 12h), or 4·(4i + 9h) in float32.

    4i: gate, its SiLU, up, their product. The rest: norms' inputs (in float32 always) and outputs, q, k, v, attention's result.
    Where the residual stream is float32 under 16-bit arithmetic (full tuning) the norms keep 4·h more.
    """
    if e == 4:
        return 4 * (4 * shape.intermediate + 9 * shape.hidden)
    return 2 * (4 * shape.intermediate + 12 * shape.hidden) + 2 * ((residual or e) - e) * shape.hidden


def backward_workspace_bytes(shape: Shape, e: int) -> float:
    """Gradients and casts in flight while one layer is differentiated, a token: 2·(3i + 7h), or 4·(2i + h) in float32."""
    return 4 * (2 * shape.intermediate + shape.hidden) if e == 4 else 2 * (3 * shape.intermediate + 7 * shape.hidden)


def activation_bytes(shape: Shape, config: Config, tokens: int, cpu: bool = False) -> float:
    """T·(L·h·s + one layer) with gradient checkpointing, T·(L layers) without; and one layer's backward workspace.

    s: bytes of the residual stream, 4 for full tuning (its embedding is float32), else e.
    """
    e = number_bytes(config, cpu)
    residual = 4 if config.tuning == "full" else e
    one = layer_activation_bytes(shape, e, residual)
    kept = shape.layers * shape.hidden * residual + one if config.gradient_checkpointing else shape.layers * one
    return tokens * (kept + backward_workspace_bytes(shape, e))


def head_bytes(shape: Shape, config: Config, tokens: int, cpu: bool = False) -> float:
    """TRL 1.16's chunked head never holds T·V logits: min(T, 4096)·min(V, 32768)·e + 4·T·h, and 4·V·h where the head trains."""
    tile = min(tokens, 4096) * min(shape.vocab, 32768) * number_bytes(config, cpu)
    return tile + 4 * tokens * shape.hidden + (4 * shape.head_parameters if config.tuning == "full" else 0)


def update_memory(shape: Shape, config: Config, *, tokens: int = 0, cpu: bool = False) -> Memory:
    """The peak of the update: everything but a cache. `tokens`: T; 0: micro-batches of the longest sequences."""
    tokens = tokens or config.micro_batch_size * (config.max_prompt_tokens + config.max_reply_tokens)
    awake = config.generation == "vllm" and not config.vllm_sleep
    return Memory(
        weights=(weight_bytes(shape, config, cpu) + autocast_copy_bytes(shape, config, cpu)) / GB,
        adapters=adapter_bytes(shape, config) / GB,
        gradients=gradient_bytes(shape, config) / GB,
        optimiser=optimiser_bytes(shape, config) / GB,
        activations=activation_bytes(shape, config, tokens, cpu) / GB,
        head=head_bytes(shape, config, tokens, cpu) / GB,
        vllm=vllm_weight_bytes(shape, config) / GB if awake else 0,
        context=context_bytes(config) / GB,
    )


# ---------------------------------------------------------------- generation


def cache_bytes_per_token(shape: Shape, e: int = 2) -> int:
    """Keys and values of one token: 2·L·(kv heads)·(head size)·e."""
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * e


def prefill_bytes(shape: Shape, config: Config, rows: int, prompt: int, cpu: bool = False) -> float:
    """transformers reads all prompts of a chunk at once: rows·prompt·e·(4i + 7h) in the widest layer, with unmerged adapters."""
    return rows * prompt * number_bytes(config, cpu) * (4 * shape.intermediate + 7 * shape.hidden)


def sampling_bytes(shape: Shape, rows: int) -> float:
    """Logits of one position, and what sampling makes of them: rows·V·14."""
    return 14 * rows * shape.vocab


def chunk_memory(shape: Shape, config: Config, rows: int, prompt: int, reply: int, cpu: bool = False) -> Memory:
    """transformers' generate, where it is fullest: reading the prompts, or at the last token of the longest replies."""
    e = number_bytes(config, cpu)
    # Growing the cache copies one layer's at a time.
    caches = [
        rows * length * cache_bytes_per_token(shape, e) * (1 + 1 / shape.layers) for length in (prompt, prompt + reply)
    ]
    reading, end = prefill_bytes(shape, config, rows, prompt, cpu), sampling_bytes(shape, rows)
    cache, work = (caches[0], reading) if caches[0] + reading > caches[1] + end else (caches[1], end)
    gathered = autocast_copy_bytes(shape, config, cpu)
    return Memory(
        weights=(weight_bytes(shape, config, cpu) + gathered) / GB,
        adapters=adapter_bytes(shape, config) / GB,
        optimiser=optimiser_bytes(shape, config) / GB,
        activations=work / GB,
        cache=cache / GB,
        context=context_bytes(config) / GB,
    )


def solver_prompt_tokens(config: Config) -> int:
    """Longest solver prompt planned for: 500 of instructions and input, and a program that filled half of a longest reply."""
    return min(config.max_prompt_tokens, 500 + config.max_reply_tokens // 2)


def generation_chunks(config: Config) -> list[tuple[int, int]]:
    """(rows, prompt tokens) of the fullest chunks: proposals with the longest prompts, and solver's prompts.

    Prompts are sorted by length before they are cut into chunks, so the two seldom share one.
    """
    types = len(config.task_types)
    proposals = min(config.generation_chunk, types * config.batch_size)
    solves = min(config.generation_chunk, types * max(config.batch_size * config.n_mc, config.solver_rows))
    return [(proposals, config.max_prompt_tokens), (solves, solver_prompt_tokens(config))]


def generation_memory(shape: Shape, config: Config, card_gb: float = 0, *, cpu: bool = False) -> Memory:
    """The peak while replies are made; gradients are freed by then, moments stay."""
    if config.generation == "transformers":
        chunks = [
            chunk_memory(shape, config, rows, prompt, config.max_reply_tokens, cpu)
            for rows, prompt in generation_chunks(config)
        ]
        return max(chunks, key=lambda memory: memory.total)
    colocated = config.generation == "vllm"
    return Memory(
        weights=weight_bytes(shape, config, cpu) / GB,
        adapters=adapter_bytes(shape, config) / GB,
        optimiser=optimiser_bytes(shape, config) / GB,
        cache=vllm_cache_bytes(shape, config, card_gb) / GB,
        vllm=vllm_weight_bytes(shape, config) / GB if colocated else 0,
        context=context_bytes(config) / GB,
    )


def vllm_weight_bytes(shape: Shape, config: Config) -> float:
    """vLLM's own 16-bit copy, cut over `vllm_tensor_parallel` GPUs: 2·N / parallel."""
    return 2 * shape.parameters / config.vllm_tensor_parallel


def vllm_cache_bytes(shape: Shape, config: Config, card_gb: float) -> float:
    """What is left of vLLM's share: vllm_memory x card - weights - overhead. Negative: the share is too small."""
    if config.generation != "vllm":
        return 0
    return config.vllm_memory * card_gb * GB - vllm_weight_bytes(shape, config) - VLLM_OVERHEAD


def context_bytes(config: Config) -> float:
    """0.6 GB of CUDA context; 1.2 more where vLLM is at home on the same GPU."""
    return CONTEXT + (VLLM_OVERHEAD if config.generation == "vllm" else 0)
