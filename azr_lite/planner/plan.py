"""Does a run fit a GPU, and what to change where it does not: from settings alone, without loading anything."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any

from azr_lite.config import Config
from azr_lite.environment import memory_gib
from azr_lite.errors import ConfigError
from azr_lite.planner import vram
from azr_lite.planner.cards import CPU, Card, detect_gpu, find_card
from azr_lite.planner.shapes import Shape, shape_of
from azr_lite.planner.vram import GB, Memory
from azr_lite.presets import PRESETS, preset

USABLE = 0.92
"""Share of a card that a run may fill; the rest is lost to fragmentation and the desktop."""


@dataclass(frozen=True)
class Advice:
    """A change of settings that was planned again, and the peak in GB that it leads to."""

    changes: dict[str, Any]
    gb: float
    fits: bool

    @property
    def text(self) -> str:
        words = ", ".join(f"{name}={value}" for name, value in self.changes.items())
        return f"{words}: {self.gb:.1f} GB, {'fits' if self.fits else 'still too much'}"


@dataclass(frozen=True)
class Plan:
    """What one GPU must hold, in GB (1e9), and a rough estimate of the time."""

    config: Config
    card: Card
    shape: Shape
    update: Memory
    generation: Memory
    step_seconds: float
    disk_gb: float
    problem: str = ""
    """Why it cannot run whatever the peak (vLLM's share is too small); else empty."""
    advice: tuple[Advice, ...] = ()
    no_help: tuple[str, ...] = ()
    """Settings that were tried and do not lower the peak."""

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
        """The plan as numbers and text for JSON; units are in the keys' names."""
        parts = dataclasses.asdict(self)
        del parts["config"], parts["shape"]
        for phase in ("update", "generation"):
            parts[f"{phase}_gb"] = {**parts.pop(phase), "total": getattr(self, phase).total}
        parts["rough_seconds_per_step"], parts["rough_hours"] = parts.pop("step_seconds"), self.hours
        return {
            **{name: getattr(self.config, name) for name in ("preset", "model", "tuning")},
            "processes": max(1, self.config.processes),
            **{name: getattr(self, name) for name in ("fits", "peak_gb", "usable_gb")},
            "parameters": self.shape.parameters,
            "trainable_parameters": vram.trainable_parameters(self.shape, self.config),
            **parts,
        }


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
    first = _plan(shape_of(config.model), config, card)
    if first.fits:
        return first
    advice, no_help = _advise(first)
    return dataclasses.replace(first, advice=advice, no_help=no_help)


def plan_all() -> list[Plan]:
    """Every preset on its natural card, the same on every machine."""
    return [plan(name, natural_gpu(preset(name))) for name in PRESETS]


def natural_gpu(config: Config) -> str | None:
    """The card a preset is named after; 'cpu' for nano and smoke; None where the name says nothing."""
    if config.model == "nano" or config.preset == "smoke" or config.device == "cpu":
        return "cpu"
    if config.preset.startswith("paper-"):
        return "80GB"
    found = re.search(r"(\d+)gb$", config.preset)
    return f"{found[1]}GB" if found else None


def _card_here(config: Config) -> Card:
    natural = natural_gpu(config)
    if natural == "cpu":
        return dataclasses.replace(CPU, gb=memory_gib() * 2**30 / GB if memory_gib() else CPU.gb)
    here = detect_gpu()
    if here is None and natural is None:
        raise ConfigError("no GPU is here and the preset's name names none; give one, such as --gpu 16GB")
    return here or find_card(natural)


def _plan(shape: Shape, config: Config, card: Card) -> Plan:
    problem = ""
    cache = vram.vllm_cache_bytes(shape, config, card.gb) / GB
    length = config.max_prompt_tokens + config.max_reply_tokens
    least = length * vram.cache_bytes_per_token(shape) / config.vllm_tensor_parallel / GB
    if config.generation == "vllm" and cache < least:
        problem = (
            f"vLLM's share of {config.vllm_memory * card.gb:.1f} GB leaves {max(0.0, cache):.1f} GB of cache, and one "
            f"sequence of {length} tokens needs {least:.1f}; raise vllm_memory"
        )
    return Plan(
        config,
        card,
        shape,
        vram.update_memory(shape, config),
        vram.generation_memory(shape, config, card.gb),
        step_seconds(shape, config, card),
        disk_gb(shape, config),
        problem,
    )


# ---------------------------------------------------------------- advice


def _advise(first: Plan) -> tuple[tuple[Advice, ...], tuple[str, ...]]:
    """Changes that lower the peak, each planned again, the cheapest first; and settings that do not lower it.

    Each is tried alone (halvings go on until it fits). Where none is enough, the last one is a sum of changes that is.
    """
    helps: list[Plan] = []
    useless: list[str] = []
    for ladder in _ladders(first.config):
        best = _best(first, ladder)
        if best is not first:
            helps.append(best)
        else:
            useless += [name for name in ladder[0] if name not in useless]
    if helps and not any(found.fits for found in helps) and (together := _combine(first)).fits:
        helps.append(together)
    return tuple(Advice(_changes(first, found), found.peak_gb, found.fits) for found in helps), tuple(useless)


def _ladders(config: Config) -> list[list[dict[str, Any]]]:
    """Families of changes, cheapest first: what costs nothing, then time, then what is learned, then money."""
    vllm, full = config.generation == "vllm", config.tuning == "full"
    shares = [round(config.vllm_memory + by / 100, 2) for by in (-5, -10, -15, 5, 10, 15, 20, 30)]
    families: list[tuple[str, list[Any]]] = [
        ("gradient_checkpointing", [True]),
        ("micro_batch_size", _halvings(config.micro_batch_size)),
        ("generation_chunk", _halvings(config.generation_chunk)),
        ("vllm_memory", shares * vllm),
        ("optimizer", ["adamw_8bit"] * (config.optimizer == "adamw")),
        ("tuning", {"full": ["lora"], "lora": ["qlora"], "qlora": []}[config.tuning]),
        ("max_reply_tokens", _halvings(config.max_reply_tokens)[:2]),
        ("max_prompt_tokens", [value for value in _halvings(config.max_prompt_tokens)[:2] if value >= 700]),
        # Adapters are copied to each process, so more of them save nothing: tried, and named as no help.
        ("processes", [max(1, config.processes) * factor for factor in (2, 4, 8)]),
    ]
    ladders = [[{name: value} for value in values if value != getattr(config, name)] for name, values in families]
    ladders.insert(7, [{"tuning": "qlora", "generation": "transformers"}] * full)  # after tuning alone
    return [ladder for ladder in ladders if ladder]


def _halvings(value: int) -> list[int]:
    return [value >> times for times in range(1, value.bit_length())]


def _best(before: Plan, ladder: list[dict[str, Any]]) -> Plan:
    """The first change that fits, else the smallest peak; `before` if not even 3 % are saved, or a problem is new."""
    tried = []
    for changes in ladder:
        try:
            tried.append(_plan(before.shape, before.config.replace(**changes), before.card))
        except ConfigError:  # settings that do not go together
            continue
        if tried[-1].fits:
            return tried[-1]
    best = min(tried, key=lambda found: found.peak_gb, default=before)
    return best if best.peak_gb < 0.97 * before.peak_gb and (before.problem or not best.problem) else before


def _combine(first: Plan) -> Plan:
    """Changes added up in order until the run fits, without those that prove unnecessary."""
    found = first
    for _ in range(2):  # twice, as a change may open the way to an earlier one (smaller weights: vLLM's share)
        for ladder in _ladders(found.config):
            found = found if found.fits else _best(found, ladder)
    for name in _changes(first, found) if found.fits else ():
        without = _best(found, [{name: getattr(first.config, name)}])
        found = without if without.fits else found
    return found


def _changes(before: Plan, after: Plan) -> dict[str, Any]:
    old, new = before.config.to_json(), after.config.to_json()
    return {name: value for name, value in new.items() if value != old[name]}


# ---------------------------------------------------------------- time and disk, roughly

VALID, BANDWIDTH_USED, ARITHMETIC_USED = 0.6, 0.6, 0.3
"""Guesses: the share of proposals that become tasks, and of a card's bandwidth (decoding) and arithmetic (update)."""


def assumed_tokens(config: Config) -> tuple[float, float]:
    """Mean tokens of a prompt and of a reply: 850, and half of the longest reply but at most 600."""
    return min(config.max_prompt_tokens, 850), min(config.max_reply_tokens / 2, 600)


def replies_per_step(config: Config) -> float:
    """Proposals, Monte-Carlo replies, and solver replies sampled beside them."""
    types = len(config.task_types)
    measured, trained = VALID * types * config.batch_size * config.n_mc, types * config.solver_rows
    solves = measured + trained if config.solver_data == "separate" else max(measured, trained)
    return types * config.batch_size + solves


def step_seconds(shape: Shape, config: Config, card: Card) -> float:
    """A rough estimate of one self-play step: sampling, the update, and a tenth for the rest.

    A decoded position takes as long as reading weights and cache, or its arithmetic, and launching each layer.
    transformers decodes chunks, each until its longest reply ends; vLLM up to 256 rows, then the longest one alone.
    The update takes 6 operations per weight and token, 4 under adapters, 2 more with checkpointing.
    """
    vllm, (prompt, reply) = config.generation != "transformers", assumed_tokens(config)
    # 4-bit weights are unpacked at every position, which takes as long as reading 9 bytes each.
    weight, launch = {"full": (4, 1e-3), "lora": (2, 1.8e-3), "qlora": (9, 2.5e-3)}[config.tuning]
    weight, launch = (2, 0.15e-3) if vllm else (weight, launch)
    rate = card.tflops * 1e12 * ARITHMETIC_USED
    gpus, own = max(1, config.processes), replies_per_step(config) / max(1, config.processes)

    def position(rows: float) -> float:
        moved = weight * shape.arithmetic_parameters + rows * (prompt + reply / 2) * vram.cache_bytes_per_token(shape)
        reading = moved / (card.bandwidth * GB * BANDWIDTH_USED)
        return max(reading, 2 * rows * shape.arithmetic_parameters / rate) + launch * shape.layers

    if vllm:
        own *= config.vllm_tensor_parallel
        rows = min(own, 256)
        sampling = own / rows * reply * position(rows) + (config.max_reply_tokens - reply) * position(1)
    else:
        rows = own if config.model == "nano" else min(own, config.generation_chunk)
        sampling = math.ceil(own / rows) * config.max_reply_tokens * position(rows)
    operations = (6 if config.tuning == "full" else 4) + 2 * config.gradient_checkpointing
    tokens = config.rows * (prompt + reply) / gpus
    return 1.1 * (sampling + operations * tokens * shape.arithmetic_parameters / rate)


def disk_gb(shape: Shape, config: Config) -> float:
    """Download (2·N), keep_checkpoints + 1 checkpoints (4 B per trained weight, and moments), 2 KB of log per reply."""
    moments = 8 if config.optimizer == "adamw" else 2
    checkpoints = (config.keep_checkpoints + 1) * (4 + moments) * vram.trainable_parameters(shape, config)
    download = 0 if config.model == "nano" else 2 * shape.parameters
    return (download + checkpoints + 2000 * replies_per_step(config) * config.steps) / GB
