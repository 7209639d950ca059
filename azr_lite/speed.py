"""How long a step and a run would take, and how much disk: an estimate from datasheets, never a measurement.

Comes in: a `Shape`, a `Config`, a `Card`, the vLLM cache planned.  Goes out: `Seconds` a step by stage, hours, GB of disk.
Not covered: memory (`vram.py`), learning, downloads.

Decoding is taken as bound by memory bandwidth plus a launch overhead a layer, the update as bound by arithmetic. The 4-bit
numbers were chosen to meet three published ones (TRL's 7B QLoRA notebook: 94.5 s a step on a T4, about 33 and 25 on A100s).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from azr_lite.config import Config
from azr_lite.errors import ConfigError
from azr_lite.known_models import Shape
from azr_lite.vram import GB, cache_bytes_per_token, trainable_parameters


@dataclass(frozen=True)
class Card:
    """GB (1e9) of memory, GB/s of bandwidth, dense 16-bit TFLOP/s with float32 sums: the datasheet's numbers."""

    name: str
    gb: float
    bandwidth: float
    tflops: float
    cpu: bool = False


CARDS: dict[str, Card] = {
    card.name.lower().replace(" ", "").replace("-", ""): card
    for card in (
        Card("T4", 16, 320, 65),
        Card("RTX 3060", 12, 360, 25),
        Card("RTX 4060", 8, 272, 30),
        Card("RTX 4060 Ti", 16, 288, 44),
        Card("RTX 3090", 24, 936, 71),
        Card("RTX 4090", 24, 1008, 165),
        Card("L4", 24, 300, 121),
        Card("A10", 24, 600, 125),
        Card("A100-40", 40, 1555, 312),
        Card("A100-80", 80, 2039, 312),
        Card("H100", 80, 3350, 989),
        Card("H200", 141, 4800, 989),
    )
}
BY_SIZE = ((8, "rtx4060"), (12, "rtx3060"), (16, "t4"), (24, "rtx3090"), (40, "a10040"), (80, "a10080"), (141, "h200"))
"""A size alone is taken as this card, and the next smaller one's speed for sizes between."""
CPU = Card("CPU, 2 cores", 8, 20, 0.2, cpu=True)
"""0.2 TFLOP/s in the update; decoding reaches a third of it. (The nano step, measured: half of the plan's time.)"""

BANDWIDTH_USED, FOUR_BIT_BANDWIDTH_USED, ARITHMETIC_USED = 0.6, 0.3, 0.3
OVERHEAD = {"full": 1.0e-3, "lora": 1.8e-3, "qlora": 2.5e-3, "vllm": 0.15e-3, "cpu": 0.5e-3}
"""Seconds a layer and decoded position, by tuning (transformers) or for vLLM."""
VALID = 0.6
"""Share of proposals that become tasks, once the form is learnt."""
PROGRAMS_PER_SECOND = 1000
"""Executions a second in the sandbox on two cores: less than half of what the nano step measures."""
LINKS = 100e9
"""Bytes a second between the GPUs of one machine."""


def find_card(named: str | float) -> Card:
    """'T4', 'RTX 4090', '16GB', 24.0, 'cpu'. ConfigError names the known ones."""
    word = str(named).lower().replace(" ", "").replace("-", "").removeprefix("nvidia").removeprefix("geforce")
    if word == "cpu":
        return CPU
    for alias in (word, "rtx" + word, word.removesuffix("gb"), {"a100": "a10080", "rtx306012gb": "rtx3060"}.get(word, "")):
        if alias in CARDS:
            return CARDS[alias]
    try:
        gb = float(str(named).lower().strip().removesuffix("gb"))
    except ValueError:
        gb = math.nan
    if not 0 < gb < 10_000:
        names = ", ".join(card.name for card in CARDS.values())
        raise ConfigError(f"there is no GPU {named!r} in the planner's table; give its memory, such as 16GB, or one of: {names}")
    like = CARDS[next((name for size, name in reversed(BY_SIZE) if size <= gb), "rtx4060")]
    return dataclasses.replace(like, name=f"{gb:g} GB (as fast as {like.name})", gb=gb)


# ---------------------------------------------------------------- what a step is made of


@dataclass(frozen=True)
class Work:
    """Counts of one self-play step, assumed. Tokens are means."""

    proposals: int
    solves: int
    reply_tokens: int
    proposal_prompt_tokens: int
    solver_prompt_tokens: int

    @property
    def replies(self) -> int:
        return self.proposals + self.solves


def assumed_work(config: Config) -> Work:
    """60 % of proposals valid; replies of half the limit, at most 600 tokens; prompts of 500 + 150 a reference, and of 350."""
    types = len(config.task_types)
    valid = VALID * types * config.batch_size
    solves = valid * config.n_mc
    if config.solver_data == "separate":
        solves += types * config.solver_rows
    else:
        solves += max(0.0, types * config.solver_rows - solves)
    compact = config.model == "nano"
    prompts = (40 + 60 * config.references, 80) if compact else (500 + 150 * config.references, 350)
    limit = config.max_prompt_tokens
    return Work(
        proposals=types * config.batch_size,
        solves=round(solves),
        reply_tokens=max(1, min(config.max_reply_tokens // 2, 600)),
        proposal_prompt_tokens=min(limit, prompts[0]),
        solver_prompt_tokens=min(limit, prompts[1]),
    )


def read_bytes(shape: Shape, config: Config) -> float:
    """Bytes of weights that one decoded position moves. 4-bit layers are unpacked each time: 0.5 read, 2 written, 2 read."""
    e = 4 if config.tuning == "full" and config.generation == "transformers" else 2
    if config.generation != "transformers":
        return e * shape.arithmetic_parameters / config.vllm_tensor_parallel
    if config.tuning == "qlora":
        return 4.5 * shape.linear_parameters + 2 * shape.head_parameters
    return e * shape.arithmetic_parameters


def decode_seconds(shape: Shape, config: Config, card: Card, rows: float, length: float) -> float:
    """One position of `rows` replies whose caches hold `length` tokens: bytes / bandwidth, or arithmetic, plus overhead."""
    flops = 2 * rows * shape.arithmetic_parameters
    if card.cpu:
        return flops / (card.tflops * 1e12 / 3) + shape.layers * OVERHEAD["cpu"]
    vllm = config.generation != "transformers"
    used = FOUR_BIT_BANDWIDTH_USED if config.tuning == "qlora" else BANDWIDTH_USED
    moved = read_bytes(shape, config) + rows * length * cache_bytes_per_token(shape)
    overhead = shape.layers * OVERHEAD["vllm" if vllm else config.tuning]
    return max(moved / (card.bandwidth * GB * used), flops / (card.tflops * 1e12 * ARITHMETIC_USED)) + overhead


def sample_seconds(shape: Shape, config: Config, card: Card, replies: int, prompt: int, cache_gb: float = 0) -> float:
    """All replies of one call. transformers: each chunk runs until its longest reply, taken as the limit.

    vLLM: as many replies at once as its cache holds (at most 256), then the longest reply to its end.
    """
    limit, mean = config.max_reply_tokens, max(1, min(config.max_reply_tokens // 2, 600))
    engines = max(1, config.processes)
    prefill = 2 * shape.arithmetic_parameters * replies * prompt / engines / (card.tflops * 1e12 * ARITHMETIC_USED)
    if config.generation == "transformers":
        rows = replies if config.model == "nano" else min(config.generation_chunk, replies)
        chunks = math.ceil(math.ceil(replies / max(1, rows)) / engines)
        return prefill + chunks * limit * decode_seconds(shape, config, card, rows, prompt + limit / 2)
    engines = max(1, engines // config.vllm_tensor_parallel)
    own, length = replies / engines, prompt + mean / 2
    room = cache_gb * GB * config.vllm_tensor_parallel / (cache_bytes_per_token(shape) * (prompt + mean)) if cache_gb > 0 else 256
    rows = max(1.0, min(256.0, own, room))
    steady = own * mean / rows * decode_seconds(shape, config, card, rows, length)
    return prefill + steady + (limit - mean) * decode_seconds(shape, config, card, 4, limit)


@dataclass(frozen=True)
class Seconds:
    """One step by stage, as the run's own log splits it."""

    generate: float
    sandbox: float
    update: float
    rest: float

    @property
    def total(self) -> float:
        return self.generate + self.sandbox + self.update + self.rest


def step_seconds(shape: Shape, config: Config, card: Card, cache_gb: float = 0) -> Seconds:
    """Stages of one step. Update: tokens x weights x FLOPs / arithmetic.

    A weight costs 6 FLOPs a token where it is trained, 4 under adapters, 2 more with checkpointing, and 2 more where old
    log-probabilities are computed first (vLLM's importance weights; several updates a step).
    """
    work = assumed_work(config)
    generate = sample_seconds(shape, config, card, work.proposals, work.proposal_prompt_tokens, cache_gb)
    generate += sample_seconds(shape, config, card, work.solves, work.solver_prompt_tokens, cache_gb)
    own = len(config.task_types) * config.batch_size
    tokens = own * work.proposal_prompt_tokens + (config.rows - own) * work.solver_prompt_tokens + config.rows * work.reply_tokens
    again = config.updates_per_step > 1 or (config.generation != "transformers" and config.importance_sampling != "off")
    flops = (6 if config.tuning == "full" else 4) + 2 * config.gradient_checkpointing + 2 * again
    world = max(1, config.processes)
    rate = card.tflops * 1e12 * (1 if card.cpu else ARITHMETIC_USED) * (0.75 if config.tuning == "qlora" else 1)
    update = tokens * shape.arithmetic_parameters * flops / world / rate
    if config.tuning == "full" and world > 1:  # each micro-batch gathers all weights twice and scatters gradients once
        update += 3 * 2 * shape.parameters / LINKS * config.rows / (config.micro_batch_size * world)
    sandbox = (4 * work.proposals + 2 * work.solves) / PROGRAMS_PER_SECOND
    hand_over = 2 * (2 * shape.parameters) / 5e9 + 5 if config.generation != "transformers" else 0
    return Seconds(generate, sandbox, update, 0.05 * (generate + update) + hand_over)


def run_hours(shape: Shape, config: Config, card: Card, step: Seconds, cache_gb: float = 0) -> float:
    """Steps, seeding (proposals until 60 % of them fill the buffers) and evaluations (greedy, as many as configured)."""
    work = assumed_work(config)
    rounds = min(config.seed_rounds, math.ceil(config.seed_batch_factor / VALID))
    seeding = rounds * sample_seconds(shape, config, card, work.proposals, work.proposal_prompt_tokens, cache_gb)
    times = 2 + (config.steps // config.eval_every if config.eval_every else 0) if config.eval_problems else 0
    problems = len(config.task_types) * config.eval_problems
    evaluations = times * sample_seconds(shape, config, card, problems, work.solver_prompt_tokens, cache_gb) if times else 0
    return (config.steps * step.total + seeding + evaluations) / 3600


def disk_gb(shape: Shape, config: Config) -> float:
    """Download (2·N), keep_checkpoints + 1 checkpoints of 12 B a trained weight (4 + moments), 2 KB of log a reply."""
    work = assumed_work(config)
    moments = 8 if config.optimizer == "adamw" else 2
    checkpoints = (config.keep_checkpoints + 1) * (4 + moments) * trainable_parameters(shape, config)
    download = 0 if config.model == "nano" else 2 * shape.parameters
    return (download + checkpoints + 2000 * work.replies * config.steps) / GB
