"""The ladder from a laptop to eight GPUs: named settings, each number with its source and reason.

"paper" is arXiv 2505.03335. Settings a preset does not name keep the defaults of `Config`, which are the paper's.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azr_lite.config import Config, check_names
from azr_lite.errors import ConfigError

Choices = dict[str, tuple[Any, str]]
"""Setting: (value, source and reason)."""


@dataclass(frozen=True)
class Preset:
    """A named rung. `about`: for whom. `choices`: settings that differ from `Config`, each with its reason."""

    name: str
    about: str
    choices: Choices


_PAPER_RUNS = {
    "3b": ("Qwen/Qwen2.5-Coder-3B", 2, 1),
    "7b": ("Qwen/Qwen2.5-Coder-7B", 4, 1),
    "7b-base": ("Qwen/Qwen2.5-7B", 4, 1),
    "14b": ("Qwen/Qwen2.5-Coder-14B", 8, 2),
    "14b-base": ("Qwen/Qwen2.5-14B", 8, 2),
    "llama8b": ("meta-llama/Llama-3.1-8B", 4, 1),
}
"""The paper's models: hub id, the authors' number of 80 GB GPUs, and GPUs per copy of the model in vLLM."""

_LADDER = {
    "nano": "the embedded model of half a million weights: learns in minutes on a laptop",
    "smoke": "a real model for two steps on a CPU, to see that everything fits together; no learning is to be expected",
    "cpu-0.5b": "a real model learns on two CPU cores: half a billion weights, prompts in the form of a Python file",
    "lora-0.5b-8gb": "the smallest coder, on one 8 GB GPU; on a CPU it gained a little, trained on deduction alone",
    "lora-1.5b-16gb": "one 16 GB GPU (T4, Colab): the smallest size that is a reasonable bet",
    "qlora-3b-16gb": "3B on one 16 GB GPU, over a 4-bit base; slower sampling than lora-3b-24gb",
    "lora-3b-24gb": "3B on one 24 GB GPU, 16-bit base",
    "qlora-7b-24gb": "7B on one 24 GB GPU, over a 4-bit base",
    "full-3b-80gb": "all weights of 3B on one 80 GB GPU, beside a sleeping vLLM",
    "full-7b-8x80gb": "all weights of 7B on eight 80 GB GPUs (accelerate launch; azr-lite launch-file fsdp2)",
    "full-14b-8x80gb": "all weights of 14B on eight 80 GB GPUs (accelerate launch; azr-lite launch-file fsdp2)",
    **{
        f"paper-{name}": f"hyper-parameters of the paper for {model} on {gpus} x 80 GB (docs: what else differs)"
        for name, (model, gpus, _) in _PAPER_RUNS.items()
    },
}
"""Every preset and what it is for, smallest first."""

# ---------------------------------------------------------------- what the rungs share

_CURES: Choices = {
    "prompts": ("file", "the form that coder models were trained on; no tags to lose, prompts of 100 tokens"),
    "references": (1, "one short program; more are copied rather than varied"),
    "reference_tasks": ("learnable", "programs that were solved sometimes lead to more of their kind"),
    "proposals_per_prompt": (4, "a baseline of its own for each prompt"),
    "repeated_programs": ("penalty", "else the proposer settles on a few programs, and nothing is left to learn"),
    "zero_learnability": ("upstream", "-0.5: tasks that are always or never solved teach nothing"),
    "estimator": ("rloo", "one baseline per role favours short answers, because easy tasks have short ones"),
    "proposer_estimator": ("rloo", "as the solver's"),
    "n_mc": (16, "eight replies call too many tasks always or never solved"),
    "temperature": (0.8, "an untrained model's proposals: 20 of 32 valid, 14 at temperature 1"),
    "kl_coef": (0.03, "half as many answers change without a reason"),
    "adam_beta2": (0.98, "tens of updates in all: the second moment must be warm after a few of them"),
    "pack_prompts": (True, "a prompt with 16 replies is read once"),
}
"""With these a half-billion-parameter model learnt; in 15 steps it did without them too (docs: A real model learns)."""

_ADAPTERS: Choices = {
    **_CURES,
    "tuning": ("lora", "2 bytes per weight instead of 16, the same reward curve (TRL, LoRA without regret)"),
    "learning_rate": (5e-5, "what taught half a billion weights on a CPU; the best rate hardly depends on the size"),
    "weight_decay": (0.0, "adapters start at zero effect; decay pulls towards the base and adds a knob for nothing"),
    "gradient_checkpointing": (True, "activations of a packed micro-batch would not fit beside the weights otherwise"),
    "generation": ("auto", "planned: a fifth of the time per step with vLLM on the same card"),
    "vllm_memory": (0.5, "half of the card while replies are sampled: a copy of the weights and its cache"),
    "max_prompt_tokens": (1024, "one reference, or a task, of any usual length"),
    "eval_problems": (100, "per type: half-intervals of about 10 points in a few minutes"),
    "eval_every": (25, "a curve of five points over 100 steps; the stop rule reads it"),
    "stop_patience": (3, "evaluations in a row below the best: small models do collapse (reference runs, 0.5-3B)"),
    "save_every": (25, "whole checkpoints; save_minutes adds one whenever two minutes could be lost"),
}

_FULL: Choices = {
    "gradient_checkpointing": (True, "sequences of up to 14,240 tokens (full-3b-80gb: 8,192)"),
    "micro_batch_size": (1, "one long sequence at a time; rows are sorted by length, so short ones waste nothing"),
    "generation": ("vllm", "replies of thousands of tokens: transformers' generate would take most of an hour"),
    "eval_problems": (100, "per type: half-intervals of about 10 points"),
    "eval_every": (25, "twenty points over 500 steps"),
    "save_every": (25, "a full checkpoint holds 12 bytes per weight; save_minutes adds one within a tenth of the time"),
    "memory_mb": (512, "the paper's programs may build larger values than the short ones of small models"),
}

_EIGHT_GPUS: Choices = {
    **_FULL,
    "processes": (8, "sharded weights; a single process would not fit"),
    "vllm_memory": (0.4, "32 GB of vLLM on each GPU"),
    "stop_patience": (3, "as the adapter rungs"),
}

_PAPER: Choices = {
    "reply_reading": ("lenient", "the authors' code reads so"),
    **_FULL,
    "solver_data": ("separate", "paper: Monte-Carlo replies only measure r-bar; tasks are solved anew for the update"),
    "cpu_seconds": (5.0, "paper: 10 s of wall time; here of processor time, and half of it to validate a proposal"),
    "vllm_memory": (0.4, "32 GB of vLLM on each GPU"),
}


def _small(batch: int, micro_batch: int) -> Choices:
    """Sizes for one small GPU: `batch` proposals per type, updates of `micro_batch` rows at once."""
    packed = {8: "eight replies and the prompts they share", 16: "the replies to one task"}
    return {
        "steps": (100, "what was seen to learn on a CPU took 25"),
        "batch_size": (batch, "proposals per type, four per prompt"),
        "solver_batch_size": (3 * batch, "the replies to tasks that were solved sometimes"),
        "updates_per_step": (2, "few steps, so two updates of each"),
        "seed_batch_factor": (1, "as many seeds as proposals of a step"),
        "seed_rounds": (20, "weak models find few valid seeds; then the run starts with those it has"),
        "max_reply_tokens": (256, "a proposal has 50 to 80 tokens, an answer fewer; longer ones are cut and earn -1"),
        "entropy_coef": (0.0, "code; the bonus needs a pass over the whole vocabulary and hardly acts at 0.001"),
        "micro_batch_size": (micro_batch, f"{packed[micro_batch]}, as one sequence"),
        "generation_chunk": (64, "short sequences; azr-lite plan says what they take"),
    }


_CODER_3B = ("Qwen/Qwen2.5-Coder-3B-Instruct", "the smallest with direct evidence (paper); Qwen research licence")

_CHOICES: dict[str, Choices] = {
    # From nano/NOTES.md, found on development seeds.
    "nano": {
        "model": ("nano", "ships with the package; no download"),
        "steps": (50, "search: no further gain from 60; under three minutes on two cores"),
        "batch_size": (32, "a (role, type) group large enough for a stable baseline"),
        "solver_batch_size": (96, "about half of the Monte-Carlo replies; the update is already a third of a step"),
        "n_mc": (6, "a little below the paper's 8: sampling is two fifths of a step here"),
        "references": (2, "short prompts; none at all slows learning clearly (ablation without references)"),
        "seed_batch_factor": (2, "64 seeds per type, there after three rounds"),
        "learning_rate": (2e-4, "search: at 1e-4 nothing moved, at 4e-4 proposals lose their form"),
        "adam_beta2": (0.98, "200 updates in all: the second moment must be warm after a few of them"),
        "weight_decay": (0.0, "nothing to regularise: data never repeats"),
        "entropy_coef": (0.0, "authors' code"),
        "updates_per_step": (4, "small updates, many of them: 200 in three minutes"),
        "micro_batch_size": (24, "four per update, for up to four processes; unpacked, 96 were slower by padding"),
        "pack_prompts": (True, "six replies to a task are one sequence: 0.6 of the update's time, the same gain"),
        "induction_inputs": (6, "the form the warm start knows"),
        "induction_shown": (3, "half of them"),
        "max_prompt_tokens": (320, "the longest prompt of the mini-language"),
        "generation_chunk": (48, "96 proposals make two chunks, which two processes share; no slower than 384"),
        "max_reply_tokens": (192, "step-by-step replies over four operations"),
        "eval_every": (10, "a curve of six points"),
        "gradient_share_every": (10, "five points; each measurement takes about a fifth of a step"),
        "save_every": (25, "twice in a run"),
    },
    "smoke": {
        "model": ("HuggingFaceTB/SmolLM2-135M-Instruct", "the smallest instruct model; a .gguf of it will do"),
        "tuning": ("lora", "the code path of the GPU rungs"),
        "steps": (2, "the second step starts from changed weights"),
        "prompts": ("file", "the form in which a model this size proposes something valid: about one in ten"),
        "temperature": (0.8, "more of them than at 1"),
        "batch_size": (4, "so that some are valid; minutes on two cores"),
        "n_mc": (2, "the least that gives an r-bar between 0 and 1"),
        "references": (1, "a short prompt"),
        "seed_batch_factor": (1, "as few seeds as possible"),
        "seed_rounds": (1, "that seeding runs at all"),
        "learning_rate": (1e-5, "any will do: two steps teach nothing"),
        "micro_batch_size": (2, "fits everywhere"),
        "pack_prompts": (True, "as on the GPU rungs: a prompt is read once for its replies"),
        "max_prompt_tokens": (1024, "one reference fits"),
        "max_reply_tokens": (96, "minutes on two cores"),
        "generation_chunk": (16, "one chunk"),
        "eval_problems": (4, "that evaluation runs at all"),
        "save_every": (1, "that saving runs at all"),
    },
    "cpu-0.5b": {
        "model": ("Qwen/Qwen2.5-Coder-0.5B-Instruct", "the smallest coder; Apache-2.0; a .gguf of it will do"),
        "device": ("cpu", "what it is for; on a GPU take lora-0.5b-8gb"),
        "tuning": ("lora", "the base stays in bfloat16, 1 GB"),
        "lora_layers": ("upper", "the backward pass ends half-way"),
        "task_types": (("deduction",), "the type that a model of this size can propose and solve sometimes"),
        "steps": (25, "an hour on two cores"),
        **_CURES,
        "batch_size": (40, "ten prompts with four proposals each"),
        "solver_batch_size": (152, "all replies to nine tasks that were solved sometimes; 192 rows split evenly"),
        "seed_batch_factor": (1, "40 seeds"),
        "seed_rounds": (3, "about half of the untrained proposals are valid"),
        "learning_rate": (5e-5, "2e-4 damaged the model in seven steps"),
        "weight_decay": (0.0, "adapters start at zero effect"),
        "entropy_coef": (0.0, "authors' code"),
        "updates_per_step": (2, "few steps, so two updates of each"),
        "micro_batch_size": (16, "the replies to one task, packed into one sequence of some hundred tokens"),
        "max_prompt_tokens": (512, "one reference of usual length is 100"),
        "max_reply_tokens": (160, "a proposal has 50 to 80 tokens, an answer 4 to 24"),
        "eval_problems": (100, "half-intervals of about 9 points in half a minute"),
        "eval_every": (10, "a curve of four points"),
        "save_every": (10, "adapters are small"),
    },
    "lora-0.5b-8gb": {
        "model": ("Qwen/Qwen2.5-Coder-0.5B-Instruct", "the smallest coder; Apache-2.0"),
        **_ADAPTERS,
        **_small(32, micro_batch=16),
    },
    "lora-1.5b-16gb": {
        "model": ("Qwen/Qwen2.5-Coder-1.5B-Instruct", "a reasonable bet by the evidence of others; Apache-2.0"),
        **_ADAPTERS,
        **_small(32, micro_batch=16),
    },
    "qlora-3b-16gb": {
        "model": _CODER_3B,
        **_ADAPTERS,
        "tuning": ("qlora", "weights of 2 instead of 6 GB leave room for 64 sequences of cache"),
        "vllm_memory": (0.6, "vLLM's copy of the weights has 16 bits: 6 GB"),
        **_small(16, micro_batch=8),
        "generation_chunk": (64, "as many as possible: 4-bit layers are slow for few rows"),
    },
    "lora-3b-24gb": {"model": _CODER_3B, **_ADAPTERS, **_small(32, micro_batch=8)},
    "qlora-7b-24gb": {
        "model": ("Qwen/Qwen2.5-Coder-7B-Instruct", "the paper's strongest small base is its coder; Apache-2.0"),
        **_ADAPTERS,
        "tuning": ("qlora", "weights of 5.6 instead of 15 GB"),
        **_small(16, micro_batch=8),
        "generation_chunk": (64, "as many as fit (azr-lite plan)"),
    },
    "full-3b-80gb": {
        "model": ("Qwen/Qwen2.5-Coder-3B", "the paper's 3B; Qwen research licence"),
        **_FULL,
        "batch_size": (32, "half the paper's: one GPU instead of two"),
        "max_prompt_tokens": (4096, "six references of usual length"),
        "max_reply_tokens": (4096, "half the paper's; few replies of a 3B model are longer"),
        "vllm_memory": (0.3, "24 GB for vLLM beside 37 GB of weights and moments"),
        "stop_patience": (3, "as the adapter rungs"),
    },
    "full-7b-8x80gb": {"model": ("Qwen/Qwen2.5-Coder-7B", "the paper's 7B coder; Apache-2.0"), **_EIGHT_GPUS},
    "full-14b-8x80gb": {
        "model": ("Qwen/Qwen2.5-Coder-14B", "the paper's largest; Apache-2.0"),
        **_EIGHT_GPUS,
        "vllm_tensor_parallel": (2, "one copy of 30 GB on two GPUs leaves room for the cache"),
    },
    **{
        f"paper-{name}": {
            "model": (model, "paper"),
            **_PAPER,
            "processes": (gpus, f"the authors' hardware: {gpus} GPUs of 80 GB"),
            "vllm_tensor_parallel": (parallel, "GPUs per copy of the model"),
        }
        for name, (model, gpus, parallel) in _PAPER_RUNS.items()
    },
}
PRESETS: dict[str, Preset] = {name: Preset(name, _LADDER[name], choices) for name, choices in _CHOICES.items()}


def list_presets() -> tuple[str, ...]:
    """Names of all presets, smallest first.

    Returns:
        Names for `preset`, `run` and ``azr-lite run --preset``.

    Examples:
        >>> list_presets()[:3]
        ('nano', 'smoke', 'cpu-0.5b')
    """
    return tuple(PRESETS)


def preset(name: str, **overrides: Any) -> Config:
    """The named preset, or a file of settings (``my.json``, ``my.yaml``), with overrides.

    Args:
        name: one of `list_presets`, or a file: the settings that ``azr-lite run --dry-run --json`` prints, all of them
            or the few that differ from the preset that its "preset" names (nano where it names none).
        overrides: settings by name; see `Config`.

    Returns:
        The checked `Config`.

    Raises:
        ConfigError: naming the nearest known one, for an unknown preset or setting; for a wrong value or file.

    Examples:
        >>> config = preset("nano", steps=5)
        >>> config.steps, config.n_mc, config.rows
        (5, 6, 384)
        >>> preset("nano", task_types=("deduction", "abduction"), batch_size=8).micro_batch_size
        13
        >>> preset("nanno")
        Traceback (most recent call last):
        azr_lite.errors.ConfigError: there is no preset 'nanno'; did you mean 'nano'?
    """
    if Path(name).suffix in (".json", ".yaml", ".yml", ".toml"):
        settings = read_settings(Path(name))
        name, overrides = str(settings.pop("preset", "nano")), {**settings, **overrides}
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(PRESETS)}"
        raise ConfigError(f"there is no preset {name!r}; {hint}")
    own = {setting: value for setting, (value, _) in PRESETS[name].choices.items()}
    return Config(**{"preset": name, **own, **check_names(overrides)})


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a JSON or YAML file. ConfigError in one sentence for a file that is none."""
    kind, hint = "JSON" if path.suffix == ".json" else "YAML", "azr-lite run --dry-run --json prints such a file"
    if path.suffix not in (".json", ".yaml", ".yml"):
        raise ConfigError(f"{path} cannot be read: a file of settings is .json, .yaml or .yml; {hint}")
    if kind == "YAML" and importlib.util.find_spec("yaml") is None:
        raise ConfigError(f"reading {path} needs the package pyyaml; pip install pyyaml, or write it as JSON")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if kind == "JSON":
            settings = json.loads(text)
        else:
            import yaml

            settings = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"the settings file {path} cannot be read ({error.strerror}); {hint}") from error
    except Exception as error:  # yaml has a family of its own, and raises plain errors too
        raise ConfigError(f"{path} is not {kind} ({' '.join(str(error).split())}); {hint}") from error
    if not isinstance(settings, dict):
        found = type(settings).__name__
        raise ConfigError(f'{path} holds {found}, expected an object such as {{"preset": "nano", "steps": 20}}')
    for field in dataclasses.fields(Config):
        if field.type == "float" and isinstance(settings.get(field.name), str):
            with suppress(ValueError):
                settings[field.name] = float(settings[field.name])  # YAML reads 1e-5 as text
    return settings
