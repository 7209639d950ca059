"""Does a run fit a GPU, and what to change where it does not: from settings alone, without loading anything."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from azr_lite.config import Config
from azr_lite.environment import memory_gib
from azr_lite.errors import ConfigError, ModelError
from azr_lite.planner import vram
from azr_lite.planner.vram import CPU, GB, Card, Memory, Shape, detect_gpu, find_card, shape_of
from azr_lite.presets import PRESETS, preset

USABLE = 0.92  # share of a card that a run may fill; the rest is lost to fragmentation and the desktop


@dataclass(frozen=True)
class Advice:
    """One setting with another value, planned again, and the peak in GB that it leads to."""

    setting: str
    value: Any
    gb: float
    fits: bool

    @property
    def text(self) -> str:
        return f"{self.setting}={self.value}: {self.gb:.1f} GB, {'fits' if self.fits else 'still too much'}"


@dataclass(frozen=True)
class Plan:
    """What one GPU must hold, in GB (1e9), and a rough estimate of the time.

    `problem`: why it cannot run whatever the peak (vLLM's share is too small), else empty.
    """

    config: Config
    card: Card
    shape: Shape
    update: Memory
    generation: Memory
    step_seconds: float
    problem: str = ""
    advice: tuple[Advice, ...] = ()

    @property
    def peak_gb(self) -> float:
        """The fuller of the two phases: what must fit."""
        return max(self.update.total, self.generation.total)

    @property
    def hours(self) -> float:
        """A rough estimate of all steps, without seeding and evaluation."""
        return self.config.steps * self.step_seconds / 3600

    @property
    def usable_gb(self) -> float:
        return USABLE * self.card.gb

    @property
    def fits(self) -> bool:
        return not self.problem and self.peak_gb <= self.usable_gb

    def as_dict(self) -> dict[str, Any]:
        """The plan for JSON, with all settings. `step_seconds` and `hours` are rough."""
        totals = {name: getattr(self, name) for name in ("fits", "peak_gb", "usable_gb", "hours")}
        return {"preset": self.config.preset, **totals, **dataclasses.asdict(self)}


def plan(config: Config | str, gpu: str | float | None = None) -> Plan:
    """Plan the memory of a run, and roughly its time. Nothing is loaded or downloaded.

    Args:
        config: a preset's name, or a `Config`.
        gpu: a card ('T4', 'RTX 4090', 'cpu'), its memory in GB ('16GB', 16), or several of either ('3x24GB', which
            sets `processes`). None: this machine's GPU, else the card that the preset is named after.

    Returns:
        A `Plan`: memory by part in update and generation, whether it fits, and advice where it does not.

    Raises:
        ConfigError: an unknown preset or card, or settings that a run would refuse.
        ModelError: a model whose shape is not known.

    Examples:
        >>> plan("lora-1.5b-16gb", gpu="T4").fits
        True
    """
    config = preset(config) if isinstance(config, str) else config
    several = re.fullmatch(r"\s*([1-9]\d*)\s*[x×]\s*(.+)", str(gpu))
    if several:
        config, gpu = config.replace(processes=int(several[1])), several[2]
    card = find_card(gpu) if gpu is not None else _card_here(config)
    config = config.replace(device="cpu" if card.name == CPU.name else "auto")
    found = _plan(with_sampler(config, card), card)
    return found if found.fits else dataclasses.replace(found, advice=_advise(found))


def plan_all() -> list[Plan]:
    """Every preset on its natural card, the same on every machine: where vLLM is a choice, without it."""
    choices = {name: preset(name).generation.replace("auto", "transformers") for name in PRESETS}
    return [plan(preset(name, generation=how), natural_gpu(preset(name))) for name, how in choices.items()]


def with_sampler(config: Config, card: Card | None = None) -> Config:
    """generation="auto" decided: vLLM where it is installed and fits the card (None: this machine's GPU)."""
    if config.generation != "auto":
        return config
    with suppress(ConfigError, ModelError):  # a model without vLLM, or of a shape that is not known
        beside, card = config.replace(generation="vllm"), card or detect_gpu()
        if importlib.util.find_spec("vllm") and card and _plan(beside, card).fits:
            return beside
    return config.replace(generation="transformers")


def natural_gpu(config: Config) -> str | None:
    """The card a preset is named after; 'cpu' for nano and smoke; None where the name says nothing."""
    if config.model == "nano" or config.preset == "smoke" or config.device == "cpu":
        return "cpu"
    found = re.search(r"\d+gb$", config.preset)
    return "80gb" if config.preset.startswith("paper-") else found and found[0]


def _card_here(config: Config) -> Card:
    natural = natural_gpu(config)
    if natural == "cpu":
        return dataclasses.replace(CPU, gb=memory_gib() * 2**30 / GB if memory_gib() else CPU.gb)
    here = detect_gpu()
    if here is None and natural is None:
        raise ConfigError("this machine has no GPU and the preset names none; give one, such as --gpu 16GB")
    return here or find_card(natural)


def _plan(config: Config, card: Card) -> Plan:
    shape, problem = shape_of(config.model), ""
    update, generation = vram.update_memory(shape, config), vram.generation_memory(shape, config, card.gb)
    length = config.max_prompt_tokens + config.max_reply_tokens
    least = length * vram.cache_bytes_per_token(shape) / config.vllm_tensor_parallel / GB
    if config.generation == "vllm" and generation.cache < least:
        problem = (
            f"vLLM's share of {config.vllm_memory * card.gb:.1f} GB leaves {generation.cache:.1f} GB of cache, and one "
            f"sequence of {length} tokens needs {least:.1f}; raise vllm_memory"
        )
    return Plan(config, card, shape, update, generation, step_seconds(shape, config, card), problem)


# ---------------------------------------------------------------- advice

_CHANGES: dict[str, tuple[Any, ...]] = {
    "gradient_checkpointing": (True,),
    "micro_batch_size": (32, 16, 8, 4, 2, 1),
    "generation_chunk": (256, 128, 64, 32, 16, 8, 4, 2, 1),
    "vllm_memory": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
    "optimizer": ("adamw_8bit",),
    "tuning": ("lora", "qlora"),
    "max_reply_tokens": (4096, 2048, 1024, 512),
    "max_prompt_tokens": (4096, 2048, 1024),
    "processes": (2, 4, 8, 16),  # adapters are copied: no help
}
"""Values to try of each setting, cheapest first: what costs nothing, then time, what is learned, and money."""


def _advise(first: Plan) -> tuple[Advice, ...]:
    """Single changes that save 3 % or more, planned again: the first value that fits, else the one that saves most."""
    found = []
    for name, values in _CHANGES.items():
        plans = []
        for value in values:
            with suppress(ConfigError):  # settings that do not go together
                plans.append(_plan(first.config.replace(**{name: value}), first.card))
        best = next((one for one in plans if one.fits), min(plans, key=lambda one: one.peak_gb, default=first))
        if best.fits or best.peak_gb < 0.97 * first.peak_gb:
            found.append(Advice(name, getattr(best.config, name), best.peak_gb, best.fits))
    return tuple(found)


# ---------------------------------------------------------------- time, roughly

VALID, BANDWIDTH_USED, ARITHMETIC_USED = 0.6, 0.6, 0.3
"""Guesses: the share of proposals that become tasks, and of a card's bandwidth (decoding) and arithmetic (update)."""


def assumed_tokens(config: Config) -> tuple[float, float]:
    """Mean tokens of a prompt and of a reply: 850, and half of the longest reply but at most 600; of files 150, 20."""
    if config.prompts.startswith("file"):
        said = {"file": 20}.get(config.prompts, 60) if config.generation != "vllm-server" else config.max_reply_tokens
        return min(config.max_prompt_tokens, 150), min(config.max_reply_tokens, said)
    return min(config.max_prompt_tokens, 850), min(config.max_reply_tokens / 2, 600)


def step_seconds(shape: Shape, config: Config, card: Card) -> float:
    """A rough estimate of one self-play step: sampling, the update, and a tenth for the rest.

    A decoded position takes as long as reading weights and cache, or its arithmetic, and launching each layer.
    transformers decodes chunks, each until its longest reply ends; vLLM up to 256 rows, then the longest one alone.
    The update takes 6 operations per weight and token, 4 under adapters (3 in the upper half), 2 more with
    checkpointing; packed, a prompt counts once for its n replies.
    """
    c, (prompt, reply), gpus = config, assumed_tokens(config), max(1, config.processes)
    weights = shape.linear_parameters + shape.head_parameters  # all but the embedding, which is a look-up
    # 4-bit weights are unpacked at every position, which takes as long as reading 9 bytes each.
    bytes_read, launch = {"full": (4, 1e-3), "lora": (2, 1.8e-3), "qlora": (9, 2.5e-3)}[c.tuning]
    if c.generation.startswith("vllm"):
        bytes_read, launch = 2, 0.15e-3
    rate = card.tflops * 1e12 * ARITHMETIC_USED

    def position(rows: float) -> float:
        moved = bytes_read * weights + rows * (prompt + reply / 2) * vram.cache_bytes_per_token(shape)
        reading = moved / (card.bandwidth * GB * BANDWIDTH_USED)
        return max(reading, 2 * rows * weights / rate) + launch * shape.layers

    measured, trained = VALID * c.batch_size * c.n_mc, c.solver_rows
    solves = measured + trained if c.solver_data == "separate" else max(measured, trained)
    own = len(c.task_types) * (c.batch_size + solves) / gpus
    if c.generation.startswith("vllm"):
        own *= c.vllm_tensor_parallel
        rows = min(own, 256)
        sampling = own / rows * reply * position(rows) + (c.max_reply_tokens - reply) * position(1)
    else:
        rows = own if c.model == "nano" else min(own, c.generation_chunk)
        longest = 3 * reply if c.prompts.startswith("file") else c.max_reply_tokens
        sampling = math.ceil(own / rows) * longest * position(rows)
    operations = 6 if c.tuning == "full" else 3 if c.lora_layers == "upper" else 4
    tokens = c.rows * reply + prompt * (c.rows / c.n_mc if vram.shares_prompts(c) else c.rows)
    update = (operations + 2 * c.gradient_checkpointing) * tokens / gpus * weights / rate
    return 1.1 * (sampling + update)
