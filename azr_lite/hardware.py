"""Does a run fit a GPU, how long would it take, and what to change where it does not: from settings alone.

Comes in: a preset's name or a `Config`, and a card.  Goes out: a `Plan`.
Not covered: the formulae (`vram.py`, `speed.py`), printing (`plan_text.py`), measuring on a real GPU (`gpu_probe.py`).

Nothing is loaded or downloaded. Memory is counted; times are estimates from assumed throughput.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
from dataclasses import dataclass
from typing import Any

from azr_lite.config import Config
from azr_lite.errors import ConfigError
from azr_lite.known_models import Shape, shape_of
from azr_lite.presets import PRESETS, preset
from azr_lite.speed import CARDS, CPU, Card, Seconds, assumed_work, disk_gb, find_card, run_hours, step_seconds
from azr_lite.vram import (
    GB,
    Memory,
    cache_bytes_per_token,
    generation_memory,
    solver_prompt_tokens,
    trainable_parameters,
    update_memory,
    vllm_cache_bytes,
)

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
        raise ConfigError("no GPU is here and the preset's name names none; say which one to plan for, such as --gpu 16GB")
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
    for _ in range(2):  # a second round, because a change may open the way to an earlier one (smaller weights: vLLM's share)
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
    ladders += [[{name: value} for value in _halvings(getattr(c, name))] for name in ("micro_batch_size", "generation_chunk")]
    if c.generation == "vllm":
        ladders.append([] if c.vllm_sleep else [{"vllm_sleep": True}])
        ladders.append([{"vllm_memory": round(c.vllm_memory + step, 2)} for step in (-0.05, -0.1, -0.15, 0.05, 0.1, 0.15, 0.2, 0.3)])
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
