"""Plans and machines in words: one plan, a table of plans, the reasons of a preset, what this machine offers."""

from __future__ import annotations

import dataclasses
import os
import textwrap
from collections.abc import Sequence
from typing import Any

from azr_lite import __version__
from azr_lite.environment import cpu_arithmetic, describe_environment, missing_libraries
from azr_lite.errors import ConfigError
from azr_lite.planner.plan import USABLE, VALID, Plan, assumed_tokens, natural_gpu, plan
from azr_lite.planner.vram import detect_gpu, trainable_parameters
from azr_lite.presets import PRESETS, preset
from azr_lite.sandbox.executor import probe

VARIABLES = (
    "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "WORLD_SIZE", "HF_HUB_OFFLINE", "WANDB_MODE", "PYTHONIOENCODING", "TERM",
)  # fmt: skip
ROUGH = "rough estimate (to a factor of two)"


def plan_text(found: Plan, *, table: bool = True) -> str:
    """One plan in at most 80 columns: memory by part (the `table`), advice where it does not fit, a rough time."""
    c, card, gpus = found.config, found.card, max(1, found.config.processes)
    spread = ", weights sharded over them" if c.tuning == "full" else ", all weights on each"
    cards = f"{gpus} x {card.name}{spread}" if gpus > 1 else card.name
    trained = trainable_parameters(found.shape, c)
    arithmetic = ""
    if c.device == "cpu":
        in_float32 = c.dtype == "float32" or (c.dtype == "auto" and (c.tuning == "full" or c.model == "nano"))
        arithmetic = f"; arithmetic in {'float32' if in_float32 else cpu_arithmetic()}"
    head = [
        f"{c.preset}: {c.model}, {c.tuning}; {found.shape.parameters:,} weights, {trained:,} trained",
        f"{cards}: {found.usable_gb:.1f} of {card.gb:.1f} GB usable ({USABLE:.0%}){arithmetic}",
    ]
    parts = [f"{'GB':14s}{'update':>10s}{'generation':>12s}"]
    for name in (*dataclasses.asdict(found.update), "total"):
        in_update, in_generation = getattr(found.update, name), getattr(found.generation, name)
        if in_update or in_generation:
            parts.append(f"  {name:12s}{in_update:10.2f}{in_generation:12.2f}")
    verdict = [f"{'FITS' if found.fits else 'DOES NOT FIT'}: {found.peak_gb:.1f} of {found.usable_gb:.1f} GB"]
    if not found.fits:
        verdict += [found.problem] * bool(found.problem)
        verdict += ["to make it fit (each planned again by itself, the cheapest first):"]
        verdict += [f"- {advice.text}" for advice in found.advice]
        if not any(advice.fits for advice in found.advice):
            card_gb = found.peak_gb / USABLE
            verdict.append(f"none is enough: combine some, take a smaller model, or a GPU of {card_gb:.0f} GB")
    prompt, reply = assumed_tokens(c)
    time = f"{found.step_seconds:.0f} s per step, {found.hours:.1f} hours for {c.steps} steps"
    assumed = f"replies of {reply:.0f} tokens, prompts of {prompt:.0f}, {VALID:.0%} of proposals valid"
    rough = [f"{ROUGH}: {time}, without seeding and evaluation ({assumed})"]
    return _wrapped([*head, "", *parts, "", *verdict, "", *rough] if table else [*head, *verdict, *rough])


def plan_table(plans: Sequence[Plan]) -> str:
    """One line per plan, at most 80 columns."""
    rows = [("preset", "model", "GPU", "peak", "s/step*", "hours*", "vLLM*", "basis")]
    for found in plans:
        c, gpus = found.config, max(1, found.config.processes)
        card = "CPU" if c.device == "cpu" else (f"{gpus}x" if gpus > 1 else "") + f"{found.card.gb:g}"
        peak, times = f"{found.peak_gb:.1f}{'' if found.fits else '!'}", (found.step_seconds, found.hours)
        asks = c.generation == "transformers" and c.device != "cpu"
        beside = plan(c.replace(generation="vllm"), found.card.gb) if asks else None
        faster = f"{beside.step_seconds:.0f}" if beside and beside.fits else ""
        basis = "run" if c.device == "cpu" else "plan"
        row = (c.preset, c.model.rpartition("/")[2], card, peak, f"{times[0]:.0f}", f"{times[1]:.1f}", faster, basis)
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" ".join([*map(str.ljust, row[:2], widths), *map(str.rjust, row[2:], widths[2:])]) for row in rows]
    notes = (
        f"GPU, peak in GB of 1e9 bytes; peak: planned, on one GPU (! = does not fit). *: {ROUGH}. vLLM: seconds per "
        "step where it is installed. basis: run = such runs are kept; plan = planned only. "
        "One preset in full: azr-lite plan PRESET"
    )
    return _wrapped([*lines, notes])


def why_text(name: str) -> str:
    """Each setting of a preset with its reason. Raises ConfigError for settings that come from no preset."""
    if name not in PRESETS:
        raise ConfigError(f"--why explains presets only, and {name!r} is not one; known: {', '.join(PRESETS)}")
    lines = [f"{name}: {PRESETS[name].about}"]
    for setting, (value, reason) in PRESETS[name].choices.items():
        lines += [f"{setting} = {value}", f"    {reason}"]
    return _wrapped([*lines, "Every other setting is the default: azr-lite run --help-all says what and why."])


def _wrapped(lines: Sequence[str]) -> str:
    """Lines of at most 80 columns; a continuation is indented as its line, and under a list's text."""
    found: list[str] = []
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip(" -")))
        found += textwrap.wrap(line, 80, subsequent_indent=indent, break_on_hyphens=False) or [""]
    return "\n".join(found)


# ---------------------------------------------------------------- this machine


def doctor() -> None:
    """Print what this machine offers: cores, memory, GPU, libraries, sandbox, and the presets that fit.

    Takes no arguments and returns None. In a terminal: ``azr-lite doctor``.

    Raises:
        SandboxError: the sandbox cannot start here.

    Examples:
        ``azr_lite.doctor()``
    """
    print(machine_text(describe_machine()))


def describe_machine() -> dict[str, Any]:
    """The doctor's facts. `presets`: those that one device of this machine holds; `missing`: libraries for training."""
    return {**describe_setup(), "presets": fitting_presets(), "missing": missing_libraries()}


def describe_setup() -> dict[str, Any]:
    """The facts that a bug report needs. `variables`: those of the environment that change what a run does."""
    gpu = detect_gpu()
    sandbox = probe()
    return {
        **describe_environment(),
        "arithmetic": cpu_arithmetic(),
        "gpu": {"name": gpu.name, "gb": round(gpu.gb, 1)} if gpu else None,
        "sandbox": {"level": sandbox.level.name, "layers": sandbox.layers},
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def fitting_presets() -> list[str]:
    """Presets for one device that this machine's GPU, or its CPU and memory, would hold by their plans."""
    gpu = detect_gpu()  # once: nvidia-smi is slow
    one_device = (c for c in map(preset, PRESETS) if c.processes <= 1 and (gpu or natural_gpu(c) == "cpu"))
    return [c.preset for c in one_device if plan(c, None if natural_gpu(c) == "cpu" else gpu.gb).fits]


def machine_text(facts: dict[str, Any]) -> str:
    """The facts of `describe_machine` or `describe_setup`, in 80 columns."""
    gpu, layers = facts["gpu"], facts["sandbox"]["layers"]
    off = ", ".join(f"{name} ({state})" for name, state in layers.items() if state != "on")
    walls = f"without {off}" if off else f"all of {', '.join(layers)}"
    lines = {
        "azr-lite": f"{__version__}, commit {(facts['git'] or 'not known')[:12]}",
        "python": f"{facts['python']} on {facts['platform']}",
        "cores": f"{facts['cores']}, language models in {facts['arithmetic']}",
        "memory": f"{facts['memory_gib']} GiB" if facts["memory_gib"] else "not known",
        "gpu": f"{gpu['name']}, {gpu['gb']} GB" if gpu else "none found (by nvidia-smi)",
        "libraries": ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
        "sandbox": f"{facts['sandbox']['level']}: {walls}",
        "variables": ", ".join(f"{name}={value}" for name, value in facts["variables"].items()) or "none",
    }
    if "presets" in facts:
        missing = ", ".join(facts["missing"])
        lines["presets that fit"] = ", ".join(facts["presets"]) or "none"
        lines["training"] = f"needs {missing}: pip install 'azr-lite[train]'" if missing else "everything is here"
    shape = {"subsequent_indent": " " * 18, "break_on_hyphens": False, "break_long_words": False}
    return "\n".join(textwrap.fill(f"{name:<17} {value}", 80, **shape) for name, value in lines.items())
