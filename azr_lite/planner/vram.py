"""Bytes on one GPU, part by part, in the update and in generation: one function per part, its formula in its docstring.

Letters: h hidden, i intermediate, L layers, V vocabulary, T tokens of a micro-batch, N weights, e bytes per number.
Activations were fitted to peaks measured on a CPU, operation by operation (tests/test_planner.py), not on a GPU.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from azr_lite.config import Config
from azr_lite.planner.shapes import Shape

GB = 1e9
CONTEXT = 0.6 * GB
"""CUDA context, kernels and the allocator's rounding; on a CPU, Python and its libraries."""
VLLM_OVERHEAD = 1.2 * GB
"""vLLM's CUDA graphs and workspace, beside its weights and cache."""
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes per 4-bit weight: the digit, an 8-bit scale for 64 of them, a float32 scale for 256 scales."""


@dataclass(frozen=True)
class Memory:
    """What one GPU holds at one moment, in GB (1e9 bytes), part by part.

    `head`: chunked logits. `cache`: keys and values. `vllm`: its own weights. `context`: CUDA's, and fragmentation.
    """

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


def _memory(shape: Shape, config: Config, **parts: float) -> Memory:
    """What both phases hold, and these parts, in bytes."""
    held = {
        "weights": weight_bytes(shape, config) + autocast_copy_bytes(shape, config),
        "adapters": adapter_bytes(shape, config),
        "optimiser": optimiser_bytes(shape, config),
        "context": CONTEXT + (VLLM_OVERHEAD if config.generation == "vllm" else 0),
    }
    return Memory(**{name: size / GB for name, size in {**held, **parts}.items()})


# ---------------------------------------------------------------- what stays: weights, gradients, moments


def number_bytes(config: Config) -> int:
    """e: 2 in 16-bit arithmetic, 4 in float32 (dtype='float32', or a CPU unless it says otherwise)."""
    on_cpu = config.device == "cpu" and config.dtype == "auto" and config.tuning != "qlora"
    return 4 if config.dtype == "float32" or on_cpu else 2


def shards(config: Config) -> int:
    """Parts that full tuning's states are cut into (FSDP2, ZeRO-3). Adapters are copied to every process (DDP)."""
    return max(1, config.processes) if config.tuning == "full" else 1


def trainable_parameters(shape: Shape, config: Config) -> int:
    """N for full tuning, else the adapters': rank·L·Σ(inputs + outputs), twice where each role has its own."""
    if config.tuning == "full":
        return shape.parameters
    return shape.adapter_parameters(config.lora_rank) * (2 if config.roles == "split" else 1)


def weight_bytes(shape: Shape, config: Config) -> float:
    """Full: 4·N (float32 masters). LoRA: e·N. QLoRA: 0.516 B per weight of the layers' linear maps, e for the rest."""
    if config.tuning == "full":
        return 4 * shape.parameters / shards(config)
    e = number_bytes(config)
    if config.tuning == "lora":
        return e * shape.parameters
    return NF4 * shape.linear_parameters + e * (shape.parameters - shape.linear_parameters)


def adapter_bytes(shape: Shape, config: Config) -> float:
    """4 B per weight: adapters are always float32. With gradients and AdamW's moments: 16."""
    return 0 if config.tuning == "full" else 4 * trainable_parameters(shape, config)


def gradient_bytes(shape: Shape, config: Config) -> float:
    """4 B per trained weight, sharded as the weights are. DDP keeps a second copy in its buckets."""
    buckets = 2 if config.tuning != "full" and config.processes > 1 else 1
    return 4 * trainable_parameters(shape, config) * buckets / shards(config)


def optimiser_bytes(shape: Shape, config: Config) -> float:
    """Two moments per trained weight: 8 B in AdamW, 2 B in its 8-bit forms (paged ones can move to main memory too)."""
    return (8 if config.optimizer == "adamw" else 2) * trainable_parameters(shape, config) / shards(config)


def autocast_copy_bytes(shape: Shape, config: Config) -> float:
    """Full tuning computes in 16 bits over float32 masters: on one GPU autocast keeps a copy, 2·N, in a forward pass.

    Sharded: no copy, but two layers (2 B) and the head (4·V·h) are gathered whole at any moment.
    """
    if config.tuning != "full" or number_bytes(config) == 4:
        return 0
    if shards(config) == 1:
        return 2 * shape.parameters
    return 2 * 2 * shape.layer_parameters + 4 * shape.head_parameters


# ---------------------------------------------------------------- the update


def layer_activation_bytes(shape: Shape, e: int, residual: int | None = None) -> float:
    """One layer's tensors kept for its backward pass, per token: 2·(4i + 12h), or 4·(4i + 9h) in float32.

    4i: gate, its SiLU, up, their product. The rest: norms' inputs (always float32) and outputs, q, k, v, attention's
    result. Where the residual stream is float32 under 16-bit arithmetic (full tuning) the norms keep 4·h more.
    """
    if e == 4:
        return 4 * (4 * shape.intermediate + 9 * shape.hidden)
    return 2 * (4 * shape.intermediate + 12 * shape.hidden) + 2 * ((residual or e) - e) * shape.hidden


def backward_workspace_bytes(shape: Shape, e: int) -> float:
    """Gradients and casts in flight while one layer is differentiated, per token: 2·(3i + 7h); float32: 4·(2i + h)."""
    return 4 * (2 * shape.intermediate + shape.hidden) if e == 4 else 2 * (3 * shape.intermediate + 7 * shape.hidden)


def activation_bytes(shape: Shape, config: Config, tokens: int) -> float:
    """T·(L·h·s + one layer) with gradient checkpointing, T·(L layers) without; and one layer's backward workspace.

    s: bytes of the residual stream, 4 for full tuning (its embedding is float32), else e.
    """
    e = number_bytes(config)
    residual = 4 if config.tuning == "full" else e
    one = layer_activation_bytes(shape, e, residual)
    kept = shape.layers * shape.hidden * residual + one if config.gradient_checkpointing else shape.layers * one
    return tokens * (kept + backward_workspace_bytes(shape, e))


def head_bytes(shape: Shape, config: Config, tokens: int) -> float:
    """TRL's chunked head never holds T·V logits: min(T, 4096)·min(V, 32768)·e + 4·T·h; 4·V·h more where it trains."""
    tile = min(tokens, 4096) * min(shape.vocab, 32768) * number_bytes(config)
    return tile + 4 * tokens * shape.hidden + (4 * shape.head_parameters if config.tuning == "full" else 0)


def update_memory(shape: Shape, config: Config, *, tokens: int = 0) -> Memory:
    """The peak of the update. `tokens`: T; 0: micro-batches of the longest sequences."""
    tokens = tokens or config.micro_batch_size * (config.max_prompt_tokens + config.max_reply_tokens)
    return _memory(
        shape,
        config,
        gradients=gradient_bytes(shape, config),
        activations=activation_bytes(shape, config, tokens),
        head=head_bytes(shape, config, tokens),
    )


# ---------------------------------------------------------------- generation


def cache_bytes_per_token(shape: Shape, e: int = 2) -> int:
    """Keys and values of one token: 2·L·(key-value heads)·(head size)·e."""
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * e


def prefill_bytes(shape: Shape, config: Config, rows: int, prompt: int) -> float:
    """transformers reads all prompts of a chunk at once: rows·prompt·e·(4i + 7h), with unmerged adapters."""
    return rows * prompt * number_bytes(config) * (4 * shape.intermediate + 7 * shape.hidden)


def chunk_memory(shape: Shape, config: Config, rows: int, prompt: int, reply: int) -> Memory:
    """transformers' generate, where it is fullest: reading the prompts, or at the last token of the longest replies.

    Sampling makes rows·V·14 bytes of the logits of one position.
    """
    per_token = cache_bytes_per_token(shape, number_bytes(config)) * (1 + 1 / shape.layers)  # growing copies one layer
    reading = (rows * prompt * per_token, prefill_bytes(shape, config, rows, prompt))
    end = (rows * (prompt + reply) * per_token, 14 * rows * shape.vocab)
    cache, work = max(reading, end, key=sum)
    return _memory(shape, config, activations=work, cache=cache)


def generation_memory(shape: Shape, config: Config, card_gb: float = 0) -> Memory:
    """The peak while replies are sampled; gradients are freed by then, moments stay.

    transformers: the fuller of two chunks, proposals with the longest prompts, and solver prompts. (Prompts are sorted
    by length before they are cut into chunks, so the two seldom share one.)
    """
    if config.generation == "transformers":
        types = len(config.task_types)
        proposals = min(config.generation_chunk, types * config.batch_size)
        solves = min(config.generation_chunk, types * max(config.batch_size * config.n_mc, config.solver_rows))
        chunks = ((proposals, config.max_prompt_tokens), (solves, solver_prompt_tokens(config)))
        found = [chunk_memory(shape, config, rows, prompt, config.max_reply_tokens) for rows, prompt in chunks]
        return max(found, key=lambda memory: memory.total)
    return _memory(
        shape,
        config,
        weights=weight_bytes(shape, config),  # vLLM computes: no forward pass, no copy for autocast
        cache=max(0, vllm_cache_bytes(shape, config, card_gb)),
        vllm=vllm_weight_bytes(shape, config) if config.generation == "vllm" else 0,
    )


def solver_prompt_tokens(config: Config) -> int:
    """Longest solver prompt: 500 tokens of instructions and input, and a program of half the longest reply."""
    return min(config.max_prompt_tokens, 500 + config.max_reply_tokens // 2)


def vllm_weight_bytes(shape: Shape, config: Config) -> float:
    """vLLM's own 16-bit copy, cut over `vllm_tensor_parallel` GPUs: 2·N / parallel."""
    return 2 * shape.parameters / config.vllm_tensor_parallel


def vllm_cache_bytes(shape: Shape, config: Config, card_gb: float) -> float:
    """What is left of vLLM's share: vllm_memory x card - weights - overhead. Negative: the share is too small."""
    if config.generation != "vllm":
        return 0
    return config.vllm_memory * card_gb * GB - vllm_weight_bytes(shape, config) - VLLM_OVERHEAD
