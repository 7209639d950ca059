"""The model to evaluate: a hub id, a folder, a GGUF file, nano, or a run of ours (its newest checkpoint, an earlier one, its start).

Comes in: a name as typed.  Goes out: a generator, the prompt style that suits the model, and what to call it.
Not covered: asking it anything (`harness.py`); how weights are read (`models.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azr_lite.config import Config
from azr_lite.environment import quiet_libraries, require_training
from azr_lite.errors import EvaluationError
from azr_lite.evaluation.generators import ServerGenerator, TransformersGenerator, VllmGenerator
from azr_lite.evaluation.suite import Generator
from azr_lite.prompts import get_style
from azr_lite.prompts.base import Style
from azr_lite.rundir import RunDir
from azr_lite.train.checkpoints import is_whole, last_whole_checkpoint, step_of


@dataclass(frozen=True)
class OpenedModel:
    """A model that is loaded and ready to be asked. `folder`: a run's directory, where its results go; None for other models. `model`: the hub id or path of the base model.
    `chunk`: questions asked at once. `reasons`: one line for each choice made while loading."""

    generator: Generator
    style: Style
    model: str
    folder: Path | None
    chunk: int
    reasons: tuple[str, ...] = ()


def open_model(
    named: str, *, prompts: str = "auto", device: str = "auto", chunk: int = 16, server: str = "", vllm: bool = False
) -> OpenedModel:
    """Load what `named` means: a model's name, or a run's folder, ``RUN@12`` for its step 12, ``RUN@0`` for the model it started from.

    `server`: the URL of an OpenAI-compatible server that serves it instead. Raises EvaluationError or ModelError with one sentence.
    """
    if server:
        style = get_style("chat" if prompts == "auto" else prompts)
        generator = ServerGenerator(server, named)
        return OpenedModel(generator, style, named, None, 8 * generator.parallel)
    require_training("a model read here")
    base, _, step = named.rpartition("@") if "@" in named else (named, "", "")
    folder = Path(base)
    is_run = (folder / "run.json").is_file()
    if (
        not is_run
        and not folder.exists()
        and "/" in base
        and (runs := sorted(p.parent.name for p in folder.parent.glob("*/run.json")))
    ):
        # A misspelt run looks like a hub id: without this, the hub would be asked for it, for a minute where there is no network.
        raise EvaluationError(
            f"there is no run at {base}; {folder.parent} holds {', '.join(runs[:8])}; give one of these"
        )
    if step and not is_run:
        raise EvaluationError(f"{base} is no run, so it has no step {step}; give the folder of a run before the @")
    run = RunDir.open(folder) if is_run else None
    config = run.config() if run else Config(model=named)
    checkpoint = _checkpoint(folder, step, config.updates_per_step) if run else None
    config = Config(
        model=config.model,
        prompts=config.prompts if prompts == "auto" else prompts,
        device=device,
        tuning="qlora"
        if config.tuning == "qlora"
        else "lora",  # nothing is trained, so 16 bits where the machine has them
        updates_per_step=config.updates_per_step,
    )
    return _open(config, checkpoint, named, folder if run else None, chunk, vllm)


def _open(
    config: Config, checkpoint: Path | None, named: str, folder: Path | None, chunk: int, vllm: bool
) -> OpenedModel:
    quiet_libraries()  # before transformers is imported
    from azr_lite.codec import Codec
    from azr_lite.train.policy import load_policy

    adapter = checkpoint if checkpoint is not None and (checkpoint / "adapter_config.json").exists() else None
    nano = config.model == "nano"
    whole = checkpoint if checkpoint is not None and adapter is None and not nano else None
    policy = load_policy(config.replace(model=str(whole)) if whole else config)
    if adapter is not None:
        from peft import PeftModel

        policy.model = PeftModel.from_pretrained(policy.model, str(adapter))
    elif nano and checkpoint is not None:
        from safetensors.torch import load_file

        policy.model.load_state_dict(load_file(checkpoint / "model.safetensors"), strict=False)
        policy.model.tie_weights()
    policy.model.to(policy.device)
    reasons = tuple(
        line for line in policy.reasons if "adapters of rank" not in line
    )  # there are none, or those of the run
    style = get_style(policy.style)
    ends = policy.model.generation_config.eos_token_id
    eos = {policy.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
    codec = Codec(policy.tokenizer, style, sorted(eos), policy.untrained)
    name = named if checkpoint is None or "@" in named else f"{named}@{_step(checkpoint, config.updates_per_step)}"
    if vllm:
        if adapter is not None:
            raise EvaluationError(
                "vLLM reads whole models here; merge the adapter first (azr-lite export RUN --merge), or leave --vllm away"
            )
        generator: Any = VllmGenerator(str(whole or config.model), codec)
        return OpenedModel(generator, style, config.model, folder, 256, reasons)
    sampler = None
    if nano and adapter is None:
        from azr_lite.nano.sampler import NanoSampler

        sampler, chunk = (
            NanoSampler(policy.model, policy.tokenizer.eos_token_id, policy.tokenizer.pad_token_id, 256),
            384,
        )
    generator = TransformersGenerator(policy, codec, name, sampler)
    return OpenedModel(generator, style, config.model, folder, chunk, reasons)


def _checkpoint(folder: Path, step: str, updates: int) -> Path | None:
    """The checkpoint meant; None: the model before training."""
    if not step:
        found = last_whole_checkpoint(folder)
        if found is None:
            raise EvaluationError(
                f"{folder} has no whole checkpoint yet; let it train, or give {folder}@0 for the model it starts from"
            )
        return found
    if step == "0":
        return None
    known = sorted(_step(path, updates) for path in folder.glob("checkpoint-*") if is_whole(path))
    if not step.isdecimal() or int(step) not in known:
        raise EvaluationError(f"{folder} has no checkpoint of step {step}; it has: {', '.join(map(str, [0, *known]))}")
    return folder / f"checkpoint-{int(step) * updates}"


def _step(checkpoint: Path, updates: int) -> int:
    return step_of(checkpoint) // updates
