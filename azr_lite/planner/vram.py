"""What graphics cards hold, and the bytes that a run takes of one: part by part, each formula in its docstring.

Letters: h hidden, i intermediate, L layers, V vocabulary, T tokens of a micro-batch, N weights, e bytes per number.
Activations were fitted to peaks measured on a CPU, operation by operation (tests/test_planner.py), not on a GPU.
"""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azr_lite.config import Config
from azr_lite.errors import ConfigError, ModelError

GB = 1e9
CONTEXT = 0.6 * GB  # CUDA context, kernels and the allocator's rounding; on a CPU, Python and its libraries
VLLM_OVERHEAD = 1.2 * GB  # vLLM's CUDA graphs and workspace, beside its weights and cache
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes per 4-bit weight: the digit, an 8-bit scale for 64 of them, a float32 scale for 256 scales."""

# ---------------------------------------------------------------- cards


@dataclass(frozen=True)
class Card:
    """A datasheet's GB (1e9) of memory, GB/s of bandwidth, and dense 16-bit TFLOP/s with float32 sums."""

    name: str
    gb: float
    bandwidth: float
    tflops: float


CARDS = (
    Card("RTX 4060", 8, 272, 30),
    Card("RTX 3060", 12, 360, 25),
    Card("T4", 16, 320, 65),
    Card("RTX 4060 Ti", 16, 288, 44),
    Card("RTX 3090", 24, 936, 71),
    Card("RTX 4090", 24, 1008, 165),
    Card("L4", 24, 300, 121),
    Card("A10", 24, 600, 125),
    Card("A100-80", 80, 2039, 312),
    Card("A100-40", 40, 1555, 312),
    Card("H100", 80, 3350, 989),
    Card("H200", 141, 4800, 989),
)
"""The first of a size stands for every card of that size whose name is not known."""
CPU = Card("CPU, 2 cores", 16, 40, 0.7)


def find_card(named: str | float) -> Card:
    """The card called 'T4', 'RTX 4090', '16GB', 24.0 or 'cpu'. Raises ConfigError, which lists the known ones."""
    word = _plain(str(named)).removesuffix("gb")
    if word == "cpu":
        return CPU
    for card in CARDS:
        key, size = _plain(card.name), f"{card.gb:g}"
        if word in (key, key.removeprefix("rtx"), key.removesuffix(size), key + size):
            return card
    try:
        gb = float(str(named).lower().removesuffix("gb"))
    except ValueError:
        gb = 0
    if not 0 < gb < 10_000:
        names = ", ".join(card.name for card in CARDS)
        raise ConfigError(
            f"GPU {named!r} is not in the planner's table; give its memory, such as 16GB or 3x24GB, or one of: {names}"
        )
    like = max((card for card in CARDS if card.gb <= gb), key=lambda card: card.gb, default=CARDS[0])
    return dataclasses.replace(like, name=f"{gb:g} GB (as fast as {like.name})", gb=gb)


def nvidia_smi(fields: str) -> list[str]:
    """A line per NVIDIA GPU of this machine with these fields of it; none without the driver."""
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []


def detect_gpu() -> Card | None:
    """This machine's first NVIDIA GPU; None without one."""
    try:
        name, mebibytes = nvidia_smi("name,memory.total")[0].rsplit(",", 1)
        gb = float(mebibytes) * 2**20 / GB
    except (IndexError, ValueError):
        return None
    known = [card for card in CARDS if _plain(card.name).removesuffix(f"{card.gb:g}") in _plain(name)]
    like = min(known, key=lambda card: abs(card.gb - gb)) if known else find_card(gb)
    return dataclasses.replace(like, name=name.strip(), gb=gb)


def _plain(name: str) -> str:
    return name.lower().replace(" ", "").replace("-", "")


# ---------------------------------------------------------------- shapes


@dataclass(frozen=True)
class Shape:
    """A decoder with gated MLPs and RMS norms: what Qwen2, Qwen3, Llama and their kin share.

    `family`: transformers' model_type. `tied`: the head is the embedding. Llama's optional biases are not counted.
    """

    family: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of one layer's linear maps: q, k, v, o, gate, up, down."""
        h, i, q, kv = self.hidden, self.intermediate, self.heads * self.head_dim, self.kv_heads * self.head_dim
        return ((h, q), (h, kv), (h, kv), (q, h), (h, i), (h, i), (i, h))

    @property
    def linear_parameters(self) -> int:
        """What a 4-bit base quantises: all layers' linear maps, without biases, embedding and head."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linears)

    @property
    def layer_parameters(self) -> int:
        """Linear maps and norms of one layer, the biases of Qwen2's q, k and v, and Qwen3's norms of q and k."""
        extra = {"qwen2": sum(outputs for _, outputs in self.linears[:3]), "qwen3": 2 * self.head_dim}
        return self.linear_parameters // self.layers + 2 * self.hidden + extra.get(self.family, 0)

    @property
    def head_parameters(self) -> int:
        """vocab x hidden: the embedding, and once more the head unless they are tied."""
        return self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """All weights; a tied head counts once."""
        return self.layers * self.layer_parameters + self.hidden + self.head_parameters * (1 if self.tied else 2)

    def adapter_parameters(self, rank: int) -> int:
        """LoRA on all linear maps: rank x (inputs + outputs) each; the head has none."""
        return self.layers * rank * sum(inputs + outputs for inputs, outputs in self.linears)


KNOWN: dict[str, Shape] = {
    "Qwen/Qwen2.5-0.5B": Shape("qwen2", 24, 896, 4864, 14, 2, 64, 151936, tied=True),
    "Qwen/Qwen2.5-1.5B": Shape("qwen2", 28, 1536, 8960, 12, 2, 128, 151936, tied=True),
    "Qwen/Qwen2.5-3B": Shape("qwen2", 36, 2048, 11008, 16, 2, 128, 151936, tied=True),
    "Qwen/Qwen2.5-7B": Shape("qwen2", 28, 3584, 18944, 28, 4, 128, 152064, tied=False),
    "Qwen/Qwen2.5-14B": Shape("qwen2", 48, 5120, 13824, 40, 8, 128, 152064, tied=False),
    "Qwen/Qwen3-0.6B": Shape("qwen3", 28, 1024, 3072, 16, 8, 128, 151936, tied=True),
    "Qwen/Qwen3-1.7B": Shape("qwen3", 28, 2048, 6144, 16, 8, 128, 151936, tied=True),
    "Qwen/Qwen3-4B": Shape("qwen3", 36, 2560, 9728, 32, 8, 128, 151936, tied=True),
    "Qwen/Qwen3-8B": Shape("qwen3", 36, 4096, 12288, 32, 8, 128, 151936, tied=False),
    "Qwen/Qwen3-14B": Shape("qwen3", 40, 5120, 17408, 40, 8, 128, 151936, tied=False),
    "HuggingFaceTB/SmolLM2-135M": Shape("llama", 30, 576, 1536, 9, 3, 64, 49152, tied=True),
    "HuggingFaceTB/SmolLM2-360M": Shape("llama", 32, 960, 2560, 15, 5, 64, 49152, tied=True),
    "HuggingFaceTB/SmolLM2-1.7B": Shape("llama", 24, 2048, 8192, 32, 32, 64, 49152, tied=True),
    "meta-llama/Llama-3.1-8B": Shape("llama", 32, 4096, 14336, 32, 8, 128, 128256, tied=False),
    "meta-llama/Llama-3.2-1B": Shape("llama", 16, 2048, 8192, 32, 8, 64, 128256, tied=True),
    "meta-llama/Llama-3.2-3B": Shape("llama", 28, 3072, 8192, 24, 8, 128, 128256, tied=True),
}
"""From each model's published config.json. The -Coder, -Instruct and -Base variants have the same shape."""
FAMILIES = ("qwen2", "qwen3", "llama", "mistral")


def shape_of(model: str) -> Shape:
    """The shape of a local folder, 'nano' or a known hub id. Raises ModelError with one sentence."""
    folder = Path(__file__).parents[1] / "nano/weights" if model == "nano" else Path(model).expanduser()
    if not folder.is_dir():
        plain = re.sub("-(coder|instruct|base)(?=-|$)", "", model.lower())
        for name, shape in KNOWN.items():
            if name.lower() == plain:
                return shape
        raise ModelError(
            f"the shape of {model!r} is not known here, and nothing is downloaded to plan; give a local folder with "
            "its config.json, or the hub id of a Qwen2.5, Qwen3, Llama-3 or SmolLM2 model up to 14B"
        )
    try:
        return shape_of_config(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder}/config.json does not describe a language model ({error!r})") from error


def shape_of_config(facts: dict[str, Any]) -> Shape:
    """The shape in the content of a config.json. Raises ModelError for other families, KeyError for a missing size."""
    family = facts.get("model_type", "")
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ModelError(f"the planner counts models of the families {known}, not {family!r}; plan with a known model")
    heads, hidden = facts["num_attention_heads"], facts["hidden_size"]
    kv_heads, head_dim = facts.get("num_key_value_heads") or heads, facts.get("head_dim") or hidden // heads
    layers, intermediate, vocab = facts["num_hidden_layers"], facts["intermediate_size"], facts["vocab_size"]
    tied = bool(facts.get("tie_word_embeddings", False))
    return Shape(family, layers, hidden, intermediate, heads, kv_heads, head_dim, vocab, tied)


# ---------------------------------------------------------------- weights, gradients, moments


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


def number_bytes(config: Config) -> int:
    """e: 2 in 16-bit arithmetic, 4 in float32 (dtype='float32', or a CPU unless it says otherwise)."""
    on_cpu = config.device == "cpu" and config.dtype == "auto" and config.tuning != "qlora"
    return 4 if config.dtype == "float32" or on_cpu else 2


def shards(config: Config) -> int:
    """Parts that full tuning's states are cut into (FSDP2, ZeRO-3). Adapters are copied to every process (DDP)."""
    return max(1, config.processes) if config.tuning == "full" else 1


def trainable_parameters(shape: Shape, config: Config) -> int:
    """N for full tuning, else the adapters': rank·L·Σ(inputs + outputs), twice where each role has its own."""
    adapters = shape.adapter_parameters(config.lora_rank) * (2 if config.roles == "split" else 1)
    return shape.parameters if config.tuning == "full" else adapters


def weight_bytes(shape: Shape, config: Config) -> float:
    """Full: 4·N (float32 masters). LoRA: e·N. QLoRA: 0.516 B per weight of the layers' linear maps, e for the rest."""
    if config.tuning == "full":
        return 4 * shape.parameters / shards(config)
    quantised = shape.linear_parameters if config.tuning == "qlora" else 0
    return NF4 * quantised + number_bytes(config) * (shape.parameters - quantised)


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
    return 2 * shape.parameters if shards(config) == 1 else 4 * (shape.layer_parameters + shape.head_parameters)


# ---------------------------------------------------------------- the update


def layer_activation_bytes(shape: Shape, e: int, residual: int = 2) -> float:
    """One layer's tensors kept for its backward pass, per token: 2·(4i + 12h), or 4·(4i + 9h) in float32.

    4i: gate, its SiLU, up, their product. The rest: norms' inputs (always float32) and outputs, q, k, v, attention's
    result. Where the residual stream is float32 under 16-bit arithmetic (full tuning) the norms keep 4·h more.
    """
    i, h = shape.intermediate, shape.hidden
    return 4 * (4 * i + 9 * h) if e == 4 else 2 * (4 * i + (10 + residual) * h)


def backward_workspace_bytes(shape: Shape, e: int) -> float:
    """Gradients and casts in flight while one layer is differentiated, per token: 2·(3i + 7h); float32: 4·(2i + h)."""
    i, h = shape.intermediate, shape.hidden
    return 4 * (2 * i + h) if e == 4 else 2 * (3 * i + 7 * h)


def activation_bytes(shape: Shape, config: Config, tokens: int) -> float:
    """T·(L·h·s + one layer) with gradient checkpointing, T·(L layers) without; and one layer's backward workspace.

    L: the layers that a gradient passes; half of them with lora_layers="upper".
    s: bytes of the residual stream, 4 for full tuning (its embedding is float32), else e.
    """
    e = number_bytes(config)
    residual = 4 if config.tuning == "full" else e
    one = layer_activation_bytes(shape, e, residual)
    layers = -(-shape.layers // 2) if config.lora_layers == "upper" else shape.layers
    kept = layers * shape.hidden * residual + one if config.gradient_checkpointing else layers * one
    return tokens * (kept + backward_workspace_bytes(shape, e))


def head_bytes(shape: Shape, config: Config, tokens: int) -> float:
    """TRL's chunked head never holds T·V logits: min(T, 4096)·min(V, 32768)·e + 4·T·h; 4·V·h more where it trains."""
    tile = min(tokens, 4096) * min(shape.vocab, 32768) * number_bytes(config)
    return tile + 4 * tokens * shape.hidden + (4 * shape.head_parameters if config.tuning == "full" else 0)


def shares_prompts(config: Config) -> bool:
    """Whether several rows of a micro-batch answer one prompt, which is then read once."""
    return config.pack_prompts and config.solver_data == "reuse"


def longest_pass(config: Config) -> int:
    """Tokens of the largest micro-batch: all replies of full length; packed, a prompt once for those that share it."""
    rows = config.micro_batch_size
    prompts = -(-rows // config.proposals_per_prompt) if shares_prompts(config) else rows
    return rows * config.max_reply_tokens + prompts * config.max_prompt_tokens


def update_memory(shape: Shape, config: Config, *, tokens: int = 0) -> Memory:
    """The peak of the update, while vLLM sleeps. `tokens`: T; 0: those of `longest_pass`."""
    tokens = tokens or longest_pass(config)
    activations, head = activation_bytes(shape, config, tokens), head_bytes(shape, config, tokens)
    return _memory(shape, config, gradients=gradient_bytes(shape, config), activations=activations, head=head)


# ---------------------------------------------------------------- generation


def cache_bytes_per_token(shape: Shape, e: int = 2) -> int:
    """Keys and values of one token: 2·L·(key-value heads)·(head size)·e."""
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * e


def chunk_memory(shape: Shape, config: Config, rows: int, prompt: int, reply: int) -> Memory:
    """transformers' generate, where it is fullest: reading the prompts, or at the last token of the longest replies.

    All prompts are read at once: rows·prompt·e·(4i + 7h), with unmerged adapters. At the end, sampling makes rows·V·14
    bytes of the logits of one position.
    """
    e = number_bytes(config)
    per_token = cache_bytes_per_token(shape, e) * (1 + 1 / shape.layers)  # growing copies one layer
    reading = rows * prompt * per_token, rows * prompt * e * (4 * shape.intermediate + 7 * shape.hidden)
    end = rows * (prompt + reply) * per_token, 14 * rows * shape.vocab
    cache, work = max(reading, end, key=sum)
    return _memory(shape, config, activations=work, cache=cache)


def generation_memory(shape: Shape, config: Config, card_gb: float = 0) -> Memory:
    """The peak while replies are sampled; gradients are freed by then, moments stay.

    vLLM on this GPU: its own 16-bit weights, cut over `vllm_tensor_parallel` GPUs: 2·N / parallel; and the cache, which
    is the rest of its share: vllm_memory x card - weights - overhead, at least 0.
    transformers: the fuller of two chunks, proposals with the longest prompts, and solver prompts of at most 500 tokens
    and a program of half the longest reply. (Prompts are sorted by length, so the two seldom share a chunk.)
    """
    if config.generation.startswith("vllm"):
        own = 2 * shape.parameters / config.vllm_tensor_parallel if config.generation == "vllm" else 0
        cache = max(0.0, config.vllm_memory * card_gb * GB - own - VLLM_OVERHEAD) if own else 0
        # the trainer's weights rest: no forward pass, no copy for autocast
        return _memory(shape, config, weights=weight_bytes(shape, config), cache=cache, vllm=own)
    prompt, reply = config.max_prompt_tokens, config.max_reply_tokens
    proposals, solves = config.batch_size, max(config.batch_size * config.n_mc, config.solver_rows)
    chunks = [
        chunk_memory(shape, config, min(config.generation_chunk, len(config.task_types) * rows), tokens, reply)
        for rows, tokens in ((proposals, prompt), (solves, min(prompt, 500 + reply // 2)))
    ]
    return max(chunks, key=lambda memory: memory.total)
