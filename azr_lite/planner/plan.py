"""Does a run fit a GPU, how long would it take, and what to change where it does not: from settings alone.

Comes in: a preset's name or a `Config`, and a card.  Goes out: a `Plan`.
Not covered: the formulae (`vram.py`, `speed.py`), printing (`plan_text.py`), measuring on a real GPU (`gpu_probe.py`).

Nothing is loaded or downloaded. Memory is counted; times are estimates from assumed throughput.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import subprocess
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from azr_lite.config import Config
from azr_lite.environment import describe_environment, missing_libraries
from azr_lite.errors import ConfigError
from azr_lite.planner.shapes import Shape, shape_of
from azr_lite.planner.vram import (
    GB,
    Memory,
    cache_bytes_per_token,
    generation_memory,
    solver_prompt_tokens,
    trainable_parameters,
    update_memory,
    vllm_cache_bytes,
)
from azr_lite.presets import PRESETS, preset
from azr_lite.sandbox import Executor


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
    for alias in (
        word,
        "rtx" + word,
        word.removesuffix("gb"),
        {"a100": "a10080", "rtx306012gb": "rtx3060"}.get(word, ""),
    ):
        if alias in CARDS:
            return CARDS[alias]
    try:
        gb = float(str(named).lower().strip().removesuffix("gb"))
    except ValueError:
        gb = math.nan
    if not 0 < gb < 10_000:
        names = ", ".join(card.name for card in CARDS.values())
        raise ConfigError(
            f"there is no GPU {named!r} in the planner's table; give its memory, such as 16GB, or one of: {names}"
        )
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
    room = (
        cache_gb * GB * config.vllm_tensor_parallel / (cache_bytes_per_token(shape) * (prompt + mean))
        if cache_gb > 0
        else 256
    )
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
    tokens = (
        own * work.proposal_prompt_tokens
        + (config.rows - own) * work.solver_prompt_tokens
        + config.rows * work.reply_tokens
    )
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
    evaluations = (
        times * sample_seconds(shape, config, card, problems, work.solver_prompt_tokens, cache_gb) if times else 0
    )
    return (config.steps * step.total + seeding + evaluations) / 3600


def disk_gb(shape: Shape, config: Config) -> float:
    """Download (2·N), keep_checkpoints + 1 checkpoints of 12 B a trained weight (4 + moments), 2 KB of log a reply."""
    work = assumed_work(config)
    moments = 8 if config.optimizer == "adamw" else 2
    checkpoints = (config.keep_checkpoints + 1) * (4 + moments) * trainable_parameters(shape, config)
    download = 0 if config.model == "nano" else 2 * shape.parameters
    return (download + checkpoints + 2000 * work.replies * config.steps) / GB


USABLE = 0.92
"""Share of a card that a run may fill; the rest is lost to fragmentation and the desktop."""


@dataclass(frozen=True)
class Advice:
    """A change that was planned again. `gb`: the peak it leads to."""

    changes: dict[str, Any]
    gb: float
    fits: bool

    @property
    def text(self) -> str:
        words = ", ".join(f"{name}={value}" for name, value in self.changes.items())
        return f"{words}: {self.gb:.1f} GB, {'fits' if self.fits else 'still too much'}"


@dataclass(frozen=True)
class Plan:
    """What one GPU must hold, in GB (1e9), and what the run would cost. Times are estimates."""

    config: Config
    card: Card
    shape: Shape
    update: Memory
    generation: Memory
    seconds: Seconds
    hours: float
    disk_gb: float
    problem: str = ""
    """Why it cannot run whatever the peak (vLLM's share is too small); else empty."""
    advice: tuple[Advice, ...] = ()
    no_help: tuple[str, ...] = ()

    @property
    def peak_gb(self) -> float:
        """The fuller of the two phases: what must fit."""
        return max(self.update.total, self.generation.total)

    @property
    def usable_gb(self) -> float:
        return USABLE * self.card.gb

    @property
    def fits(self) -> bool:
        return not self.problem and self.peak_gb <= self.usable_gb

    def as_dict(self) -> dict[str, Any]:
        """The plan as numbers and text for JSON; units are in the keys' names."""
        config, work = self.config, dataclasses.asdict(assumed_work(self.config))
        return {
            "preset": config.preset,
            "model": config.model,
            "parameters": self.shape.parameters,
            "trainable_parameters": trainable_parameters(self.shape, config),
            "tuning": config.tuning,
            "processes": max(1, config.processes),
            "card": dataclasses.asdict(self.card),
            "usable_gb": self.usable_gb,
            "update_gb": {**dataclasses.asdict(self.update), "total": self.update.total},
            "generation_gb": {**dataclasses.asdict(self.generation), "total": self.generation.total},
            "peak_gb": self.peak_gb,
            "fits": self.fits,
            "problem": self.problem,
            "estimated_seconds_a_step": {**dataclasses.asdict(self.seconds), "total": self.seconds.total},
            "estimated_hours": self.hours,
            "disk_gb": self.disk_gb,
            "assumed": {**work, "longest_solver_prompt_tokens": solver_prompt_tokens(config)},
            "advice": [{"changes": a.changes, "gb": a.gb, "fits": a.fits} for a in self.advice],
            "no_help": list(self.no_help),
        }


def plan(config: Config | str, gpu: str | float | None = None) -> Plan:
    """Plan a preset or a `Config` for a card ('T4', '16GB', 16). None: this machine's GPU, else the preset's natural card.

    Raises ConfigError (an unknown preset or card) and ModelError (a model of unknown shape).
    """
    if isinstance(config, str):
        config = preset(config)
    shape = shape_of(config.model)
    first = _plan(shape, config, _card(config, gpu))
    if first.fits:
        return first
    advice, no_help = advise(first)
    return dataclasses.replace(first, advice=advice, no_help=no_help)


def plan_all() -> list[Plan]:
    """Every preset on its natural card, the same on every machine."""
    return [plan(name, natural_gpu(preset(name))) for name in PRESETS]


def _plan(shape: Shape, config: Config, card: Card) -> Plan:
    update = update_memory(shape, config, cpu=card.cpu)
    generation = generation_memory(shape, config, card.gb, cpu=card.cpu)
    cache = vllm_cache_bytes(shape, config, card.gb) / GB
    problem = ""
    if config.generation == "vllm":
        length = config.max_prompt_tokens + config.max_reply_tokens
        least = length * cache_bytes_per_token(shape) / config.vllm_tensor_parallel / GB
        if cache < least:
            problem = (
                f"vLLM's share of {config.vllm_memory * card.gb:.1f} GB leaves {max(0.0, cache):.1f} GB of cache, one sequence of {length} "
                f"tokens needs {least:.1f}; raise vllm_memory"
            )
        cache = max(0.0, cache)
        generation = dataclasses.replace(generation, cache=cache)
        if not config.vllm_sleep:
            update = dataclasses.replace(update, cache=cache)
    seconds = step_seconds(shape, config, card, cache)
    hours = run_hours(shape, config, card, seconds, cache)
    return Plan(config, card, shape, update, generation, seconds, hours, disk_gb(shape, config), problem)


# ---------------------------------------------------------------- which card


def natural_gpu(config: Config) -> str | None:
    """The card a preset is named after; 'cpu' for nano and smoke; None where the name says nothing."""
    if config.model == "nano" or config.preset == "smoke" or config.device == "cpu":
        return "cpu"
    if config.preset.startswith("paper-"):
        return "80GB"
    found = re.search(r"(\d+)gb$", config.preset)
    return f"{found[1]}GB" if found else None


def _card(config: Config, gpu: str | float | None) -> Card:
    if gpu is not None:
        return find_card(gpu)
    natural = natural_gpu(config)
    if natural == "cpu":
        return dataclasses.replace(CPU, gb=_main_memory_gb() or CPU.gb)
    here = detect_gpu()
    if here is None and natural is None:
        raise ConfigError(
            "no GPU is here and the preset's name names none; say which one to plan for, such as --gpu 16GB"
        )
    return here or find_card(natural)


def detect_gpu() -> Card | None:
    """This machine's first NVIDIA GPU, by nvidia-smi; None without one."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()[0]
        name, mebibytes = found.rsplit(",", 1)
        gb = float(mebibytes) * 2**20 / GB
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return None
    plain = name.lower().replace(" ", "").replace("-", "")
    known = [card for key, card in CARDS.items() if key in plain or key.removesuffix("40").removesuffix("80") in plain]
    like = min(known, key=lambda card: (abs(card.gb - gb), -len(card.name)), default=None) or find_card(gb)
    return dataclasses.replace(like, name=name.strip(), gb=gb)


def _main_memory_gb() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GB
    except (ValueError, OSError, AttributeError):
        return None


# ---------------------------------------------------------------- advice


def advise(plan: Plan) -> tuple[tuple[Advice, ...], tuple[str, ...]]:
    """Changes that lower the peak, each planned again, the cheapest first; and settings that do not lower it.

    Each is tried alone (halvings go on until it fits). Where none is enough, the last line is a sum of changes that is.
    """
    helps: list[Advice] = []
    useless: list[str] = []
    for ladder in _ladders(plan.config):
        tried = [found for changes in ladder if (found := _replan(plan, changes)) is not None]
        best = _best(plan, tried)
        if best is not None:
            helps.append(Advice(_changes(plan, best), best.peak_gb, best.fits))
        elif tried:
            useless += [name for name in ladder[0] if name not in useless]
    if helps and not any(advice.fits for advice in helps) and (found := _combine(plan)) is not None:
        helps.append(Advice(_changes(plan, found), found.peak_gb, found.fits))
    return tuple(helps), tuple(useless)


def _best(before: Plan, tried: list[Plan]) -> Plan | None:
    """The first that fits, else the smallest; None where not even 3 % are saved and no obstacle is removed."""
    best = next((found for found in tried if found.fits), min(tried, key=lambda found: found.peak_gb, default=None))
    if best is None or best.fits:
        return best
    return best if best.peak_gb < 0.97 * before.peak_gb and not (best.problem and not before.problem) else None


def _combine(plan: Plan) -> Plan | None:
    """Changes added up in order until the run fits; then those taken back that are not needed. None: nothing fits."""
    found = plan
    for _ in range(
        2
    ):  # a second round, because a change may open the way to an earlier one (smaller weights: vLLM's share)
        for ladder in _ladders(found.config):
            tried = [_replan(found, changes) for changes in ladder]
            found = _best(found, [one for one in tried if one is not None]) or found
            if found.fits:
                for name in [*_changes(plan, found)]:
                    without = _replan(found, {name: getattr(plan.config, name)})
                    found = without if without is not None and without.fits else found
                return found
    return None


def _changes(before: Plan, after: Plan) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(Config)]
    return {name: value for name in names if (value := getattr(after.config, name)) != getattr(before.config, name)}


def _ladders(config: Config) -> list[list[dict[str, Any]]]:
    """Families of changes, cheapest first: what costs nothing, then time, then what is learned, then money."""
    c = config
    ladders = [[] if c.gradient_checkpointing else [{"gradient_checkpointing": True}]]
    ladders += [
        [{name: value} for value in _halvings(getattr(c, name))] for name in ("micro_batch_size", "generation_chunk")
    ]
    if c.generation == "vllm":
        ladders.append([] if c.vllm_sleep else [{"vllm_sleep": True}])
        ladders.append(
            [
                {"vllm_memory": round(c.vllm_memory + step, 2)}
                for step in (-0.05, -0.1, -0.15, 0.05, 0.1, 0.15, 0.2, 0.3)
            ]
        )
    if c.optimizer == "adamw":
        ladders.append([{"optimizer": "adamw_8bit"}])
    if c.tuning == "lora":
        ladders.append([{"tuning": "qlora"}])
    if c.tuning == "full":
        ladders.append([{"tuning": "lora"}])
        ladders.append([{"tuning": "qlora", "generation": "transformers"}])
    ladders.append([{"max_reply_tokens": value} for value in _halvings(c.max_reply_tokens)[:2]])
    ladders.append([{"max_prompt_tokens": value} for value in _halvings(c.max_prompt_tokens)[:2] if value >= 700])
    # Adapters are copied to each process, so more of them save nothing: tried and named as no help.
    ladders.append([{"processes": max(1, c.processes) * factor} for factor in (2, 4, 8)])
    return [ladder for ladder in ladders if ladder]


def _halvings(value: int) -> list[int]:
    found = []
    while value > 1:
        value //= 2
        found.append(value)
    return found


def _replan(plan: Plan, changes: dict[str, Any]) -> Plan | None:
    """The plan with some settings changed; None where the settings do not go together."""
    try:
        config = plan.config.replace(**changes)
    except ConfigError:
        return None
    if config.rows % (config.updates_per_step * config.micro_batch_size * max(1, config.processes)):
        return None
    return _plan(plan.shape, config, plan.card)


def examine() -> dict[str, Any]:
    """All facts. `presets` are those that one device of this machine holds; `missing`: libraries that training needs and are not here."""
    gpu = detect_gpu()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the level below says it
        with Executor(workers=1, allow_weak=True) as executor:
            sandbox = {"level": executor.level.name, "layers": executor.layers}
    return {
        **describe_environment(),
        "gpu": {"name": gpu.name, "gb": round(gpu.gb, 1)} if gpu else None,
        "sandbox": sandbox,
        "presets": fitting(),
        "missing": missing_libraries(),
    }


def fitting() -> list[str]:
    """Presets for one device that this machine's GPU, or its CPU and memory, would hold by their plans. Nothing is loaded."""
    here = detect_gpu()
    found = []
    for name in PRESETS:
        settings = preset(name)
        if settings.processes <= 1 and (here is not None or natural_gpu(settings) == "cpu") and plan(settings).fits:
            found.append(name)
    return found


def doctor() -> None:
    """Print what this machine offers. (In a terminal: ``azr-lite doctor``.)"""
    print(text(examine()))


def text(facts: dict[str, Any]) -> str:
    """The facts in a dozen lines."""
    gpu, sandbox = facts["gpu"], facts["sandbox"]
    missing = [f"{name} ({state})" for name, state in sandbox["layers"].items() if state != "on"]
    lines = {
        "python": f"{facts['python']} on {facts['platform']}",
        "cores": facts["cores"],
        "memory": f"{facts['memory_gib']} GiB" if facts["memory_gib"] else "not known",
        "gpu": f"{gpu['name']}, {gpu['gb']} GB" if gpu else "none found (by nvidia-smi)",
        "libraries": ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
        "sandbox": f"{sandbox['level']}: "
        + (f"without {', '.join(missing)}" if missing else f"all of {', '.join(sandbox['layers'])}"),
        "presets that fit": ", ".join(facts["presets"]) or "none",
        "training": f"needs {', '.join(facts['missing'])}: pip install 'azr-lite[train]'"
        if facts["missing"]
        else "everything is here",
    }
    return "\n".join(f"{name:<17} {value}" for name, value in lines.items())


WIDTH = 80
PARTS = {
    "weights": "weights",
    "adapters": "adapters",
    "gradients": "gradients",
    "optimiser": "optimiser (moments)",
    "activations": "activations",
    "head": "LM head (chunked logits)",
    "cache": "KV cache",
    "vllm": "vLLM's weights",
    "context": "CUDA context, fragmentation",
}

MEASURED = {"nano": "2.3 s/step (tests/benchmarks/nano_step.py)"}
"""What was measured, by preset. Nothing else has been run on its card yet."""


def plan_text(plan: Plan) -> str:
    """One plan in full: memory by part, times, what was assumed, advice where it does not fit."""
    c, work = plan.config, assumed_work(plan.config)
    processes = max(1, c.processes)
    spread = f" x {processes}, {'sharded' if c.tuning == 'full' else 'copied'}" if processes > 1 else ""
    trained = trainable_parameters(plan.shape, c)
    lines = [
        f"{c.preset}: {c.model}, {c.tuning}",
        f"{_count(plan.shape.parameters)} weights, {_count(trained)} trained",
    ]
    lines += [f"on {plan.card.name}{spread}: {plan.usable_gb:.1f} of {plan.card.gb:.1f} GB usable ({USABLE:.0%})", ""]
    lines.append(f"{'GB in memory' if plan.card.cpu else 'GB on one GPU':32s}{'update':>10s}{'generation':>12s}")
    for name, label in PARTS.items():
        label = "Python and libraries" if name == "context" and plan.card.cpu else label
        in_update, in_generation = getattr(plan.update, name), getattr(plan.generation, name)
        if in_update or in_generation:
            lines.append(f"  {label:30s}{in_update:10.2f}{in_generation:12.2f}")
    lines.append(f"  {'peak':30s}{plan.update.total:10.2f}{plan.generation.total:12.2f}")
    lines += ["", f"{'FITS' if plan.fits else 'DOES NOT FIT'}: {plan.peak_gb:.1f} GB of {plan.usable_gb:.1f} usable"]
    if plan.problem:
        lines += _wrap(plan.problem)
    s = plan.seconds
    lines += ["", "estimated, not measured:"]
    lines.append(
        f"  {s.total:.0f} s a step: generation {s.generate:.0f}, sandbox {s.sandbox:.0f}, update {s.update:.0f}, rest {s.rest:.0f}"
    )
    lines.append(f"  {plan.hours:.1f} hours for {c.steps} steps with seeding and evaluation")
    lines.append(f"  {plan.disk_gb:.1f} GB of disk: download, {c.keep_checkpoints} + 1 checkpoints, logs")
    bandwidth = FOUR_BIT_BANDWIDTH_USED if c.tuning == "qlora" else BANDWIDTH_USED
    rates = (
        f"{bandwidth:.0%} of the memory bandwidth in decoding, {ARITHMETIC_USED:.0%} of the arithmetic in the update"
    )
    card = (
        "two plain CPU cores"
        if plan.card.cpu
        else f"{plan.card.bandwidth:g} GB/s and {plan.card.tflops:g} TFLOP/s, of which {rates}"
    )
    lines += _wrap(
        f"assumed: {card}; replies of {work.reply_tokens} tokens on average, {c.max_reply_tokens} at most; prompts of "
        f"{work.proposal_prompt_tokens} (proposer) and {work.solver_prompt_tokens} (solver) tokens; {VALID:.0%} of proposals valid; "
        f"memory for prompts of {c.max_prompt_tokens} and {solver_prompt_tokens(c)} tokens"
    )
    if plan.advice:
        lines += ["", "to make it fit (each planned again, the cheapest first):"]
        lines += [line for advice in plan.advice for line in _wrap(advice.text, "  - ")]
    elif not plan.fits:
        lines += ["", "no change of settings helps: take a smaller model or a larger GPU"]
    if plan.advice and not any(advice.fits for advice in plan.advice):
        lines += _wrap(f"none of it is enough: take a smaller model, or a GPU of {plan.peak_gb / USABLE:.0f} GB")
    if plan.no_help:
        lines += _wrap("no help here: " + ", ".join(plan.no_help))
    return "\n".join(lines)


def plan_table(plans: Sequence[Plan]) -> str:
    """One line a preset; at most 80 columns."""
    lines = [
        f"{'preset':16s} {'model':22s} {'tuning':6s} {'card':>6s} {'GB':>5s}  {'s/step':>6s} {'hours':>6s} {'disk':>5s}"
    ]
    for plan in plans:
        cells = _cells(plan)
        lines.append(
            f"{cells[0]:16s} {cells[1]:22s} {cells[2]:6s} {cells[3]:>6s} {cells[4]:>5s}{' ' if plan.fits else '!'} {cells[5]:>6s} "
            f"{cells[6]:>6s} {cells[7]:>5s}"
        )
    notes = (
        "GB: planned peak of one GPU, in GB of 1e9 bytes (! = does not fit). s/step, hours: estimates, not measured."
    )
    return "\n".join([*lines, *_wrap(notes + " One preset in full: azr-lite plan PRESET")])


def plan_markdown(plans: Sequence[Plan]) -> str:
    """The README's table."""
    lines = [
        "| preset | model | tuning | GPUs | planned GB a GPU | s/step (estimate) | hours (estimate) | disk, GB | measured |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for plan in plans:
        name, _, tuning, card, gb, seconds, hours, disk = _cells(plan)
        model = plan.config.model.rpartition("/")[2]
        card = card if plan.card.cpu else f"{card} GB"
        fits = "" if plan.fits else " (does not fit)"
        lines.append(
            f"| `{name}` | {model} | {tuning} | {card} | {gb}{fits} | {seconds} | {hours} | {disk} | {MEASURED.get(name, 'not measured')} |"
        )
    return "\n".join(lines)


def why_text(name: str) -> str:
    """Each setting of a preset with its reason. ConfigError for settings that come from no preset."""
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r} whose settings could be explained; known: {', '.join(PRESETS)}")
    found = PRESETS[name]
    lines = _wrap(f"{name}: {found.about}")
    for setting, (value, reason) in found.choices.items():
        lines += [f"{setting} = {value}", *_wrap(reason, "    ")]
    return "\n".join([*lines, *_wrap("Every other setting is the default: azr-lite run --help says what and why.")])


def _cells(plan: Plan) -> tuple[str, ...]:
    c, processes = plan.config, max(1, plan.config.processes)
    card = "CPU" if plan.card.cpu else (f"{processes}x" if processes > 1 else "") + f"{plan.card.gb:g}"
    model = c.model.rpartition("/")[2].replace("-Instruct", "-I")
    return (
        c.preset,
        model,
        c.tuning,
        card,
        f"{plan.peak_gb:.1f}",
        f"{plan.seconds.total:.0f}",
        f"{plan.hours:.1f}",
        f"{plan.disk_gb:.1f}",
    )


def _count(weights: int) -> str:
    return f"{weights:,}"


def _wrap(text: str, bullet: str = "") -> list[str]:
    # Long words too: a folder's path may be a line by itself.
    return textwrap.wrap(
        text, WIDTH, initial_indent=bullet, subsequent_indent=" " * len(bullet), break_on_hyphens=False
    )
