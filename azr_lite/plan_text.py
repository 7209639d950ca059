"""A plan as text of at most 80 columns, the table of all presets, and the reasons of a preset's settings.

Comes in: `Plan`s.  Goes out: text.
Not covered: any number of its own (`hardware.py`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from azr_lite.errors import ConfigError
from azr_lite.hardware import USABLE, Plan
from azr_lite.presets import PRESETS
from azr_lite.speed import ARITHMETIC_USED, BANDWIDTH_USED, FOUR_BIT_BANDWIDTH_USED, VALID, assumed_work
from azr_lite.vram import solver_prompt_tokens, trainable_parameters

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

MEASURED = {"nano": "2.3 s/step (azr-lite bench step)"}
"""What was measured, by preset. Nothing else has been run on its card yet."""


def plan_text(plan: Plan) -> str:
    """One plan in full: memory by part, times, what was assumed, advice where it does not fit."""
    c, work = plan.config, assumed_work(plan.config)
    processes = max(1, c.processes)
    spread = f" x {processes}, {'sharded' if c.tuning == 'full' else 'copied'}" if processes > 1 else ""
    trained = trainable_parameters(plan.shape, c)
    lines = [f"{c.preset}: {c.model}, {c.tuning}", f"{_count(plan.shape.parameters)} weights, {_count(trained)} trained"]
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
    rates = f"{bandwidth:.0%} of the memory bandwidth in decoding, {ARITHMETIC_USED:.0%} of the arithmetic in the update"
    card = "two plain CPU cores" if plan.card.cpu else f"{plan.card.bandwidth:g} GB/s and {plan.card.tflops:g} TFLOP/s, of which {rates}"
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
    lines = [f"{'preset':16s} {'model':22s} {'tuning':6s} {'card':>6s} {'GB':>5s}  {'s/step':>6s} {'hours':>6s} {'disk':>5s}"]
    for plan in plans:
        cells = _cells(plan)
        lines.append(
            f"{cells[0]:16s} {cells[1]:22s} {cells[2]:6s} {cells[3]:>6s} {cells[4]:>5s}{' ' if plan.fits else '!'} {cells[5]:>6s} "
            f"{cells[6]:>6s} {cells[7]:>5s}"
        )
    notes = "GB: planned peak of one GPU, in GB of 1e9 bytes (! = does not fit). s/step, hours: estimates, not measured."
    return "\n".join([*lines, *_wrap(notes + " One preset in full: azr-lite plan PRESET")])


def plan_markdown(plans: Sequence[Plan]) -> str:
    """The README's table."""
    lines = ["| preset | model | tuning | GPUs | planned GB a GPU | s/step (estimate) | hours (estimate) | disk, GB | measured |"]
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
    return (c.preset, model, c.tuning, card, f"{plan.peak_gb:.1f}", f"{plan.seconds.total:.0f}", f"{plan.hours:.1f}", f"{plan.disk_gb:.1f}")


def _count(weights: int) -> str:
    return f"{weights:,}"


def _wrap(text: str, bullet: str = "") -> list[str]:
    # Long words too: a folder's path may be a line by itself.
    return textwrap.wrap(text, WIDTH, initial_indent=bullet, subsequent_indent=" " * len(bullet), break_on_hyphens=False)
