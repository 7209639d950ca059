"""`azr-lite run --dry-run`: what a run would meet on this machine. Nothing is loaded, downloaded or written."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from azr_lite.config import Config
from azr_lite.environment import require_training
from azr_lite.errors import AzrError, ConfigError, ModelError, RunDirectoryError
from azr_lite.planner.plan import Plan, plan
from azr_lite.planner.text import plan_text
from azr_lite.planner.vram import GB, detect_gpu, trainable_parameters
from azr_lite.presets import PRESETS, preset
from azr_lite.prompts.words import COMPACT
from azr_lite.rundir import RunDir
from azr_lite.tasks import get_task_type
from azr_lite.train.checkpoints import last_whole_checkpoint
from azr_lite.train.companions import choose, runs_on_cpu
from azr_lite.train.distributed import check_count, world
from azr_lite.train.source import is_cached, local_model
from azr_lite.verifier import rules_of


def preflight(config: Config, go_on: bool) -> tuple[str, bool]:
    """A line per check, then the plan in short; and whether the run would start."""
    base = preset(config.preset) if config.preset in PRESETS else Config()
    given = {name: value for name, value in vars(config).items() if name not in ("preset", "output_dir")}
    other = [f"{name}={value!r}" for name, value in given.items() if value != getattr(base, name)]
    # on this machine's GPU, else on its CPU
    planned = functools.cache(lambda: plan(config if detect_gpu() else config.replace(device="cpu")))
    changed = f"with {', '.join(other)}" if other else "as it is"
    lines, problems = [f"  settings   {config.preset}, {changed}"], []
    for name, check in {
        "libraries": lambda: require_training("a run") or check_device(config) or "all are here",
        "directory": lambda: _directory(Path(config.output_dir), go_on),
        "model": lambda: _model(config.model),
        "memory": lambda: _memory(config, planned),
        "disk": lambda: _disk(config, planned),
        "processes": lambda: _processes(config),
    }.items():
        try:
            lines.append(f"  {name:<10} {check()}")
        except AzrError as error:
            lines += [f"! {name:<10} {error}"] if str(error) not in problems else []
            problems.append(str(error))
        except ImportError:  # of a library that was said to be missing
            continue
    with suppress(AzrError):
        lines += ["", *plan_text(planned(), table=False).split("\n")]
    told = "! says what is in the way" if problems else "without --dry-run it starts"
    lines += ["", f"nothing was run; {told}"]
    return "\n".join(textwrap.fill(line, 80, subsequent_indent=" " * 13) for line in lines), not problems


def _directory(path: Path, go_on: bool) -> str:
    if go_on and (path / "run.json").exists():
        newest = last_whole_checkpoint(path)
        return f"{path} holds a run, which goes on from {newest.name if newest else 'its start'}"
    RunDir.refuse_existing(path)
    above = next(place for place in path.absolute().parents if place.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise RunDirectoryError(f"cannot make {path} in {above}: not a folder to write to; choose another --output-dir")
    return f"{path} is new"


def _model(named: str) -> str:
    if (path := local_model(named)) is not None:
        return f"{path} is there"
    if named == "nano" or is_cached(named):
        return f"{named} is on this machine"
    from huggingface_hub import HfApi, errors

    try:
        files = HfApi().model_info(named, files_metadata=True, timeout=10).siblings or []
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise ModelError(f"the hub has no model {named!r}; check the spelling, or give a folder that exists") from error
    except Exception as error:  # a network that is away raises anything
        raise ModelError(f"{named} is not on this machine and the hub cannot be reached; go online first") from error
    size = sum(file.size or 0 for file in files if file.rfilename.endswith(".safetensors"))
    return f"{named} is on the hub; the run downloads {size / GB:.1f} GB first"


def _memory(config: Config, planned: Callable[[], Plan]) -> str:
    import psutil

    with suppress(ModelError):  # of a model whose shape is not known
        found = planned()
        needed, room = found.peak_gb, found.usable_gb
        if found.config.device == "cpu":
            needed, room = choose(config)[0] * needed, psutil.virtual_memory().available / GB
        fits = "" if needed <= room else ": it may not fit"
        return f"{needed:.1f} GB planned, {room:.1f} GB free now{fits}"
    return f"{psutil.virtual_memory().available / GB:.1f} GB free"


def _disk(config: Config, planned: Callable[[], Plan]) -> str:
    path = Path(config.output_dir).absolute()
    free = shutil.disk_usage(next(place for place in (path, *path.parents) if place.exists())).free / GB
    with suppress(ModelError):
        each = 12 * trainable_parameters(planned().shape, config) / GB  # the weights and two moments, in float32
        most = (config.keep_checkpoints + 1) * each  # one more while it is written
        fits = "" if most <= free else ": make room, or choose another --output-dir"
        return f"{free:.1f} GB free, checkpoints take up to {most:.2f} GB{fits}"
    return f"{free:.1f} GB free"


def _processes(config: Config) -> str:
    is_launched = "WORLD_SIZE" in os.environ or not runs_on_cpu(config)
    count, _, why = (world(), 0, f"{world()}, as started") if is_launched else choose(config)
    check_count(config, count)
    config.micro_batches(count)
    return f"{why}; {config.rows} sequences per step"


def check_device(config: Config) -> None:
    """ConfigError for settings that need a GPU where the run computes on a CPU, and for vLLM where it is missing."""
    asked = f"generation={config.generation!r}"
    uses_vllm = config.generation.startswith("vllm")
    if runs_on_cpu(config):
        if uses_vllm:
            raise ConfigError(f"{asked} needs a GPU, and there is none here; use generation='transformers'")
        if config.optimizer != "adamw":
            raise ConfigError(f"optimizer={config.optimizer!r} needs a GPU, and there is none here; use 'adamw'")
    if uses_vllm and importlib.util.find_spec("vllm") is None:
        raise ConfigError(f"{asked} needs vLLM; pip install 'azr-lite[vllm]', or use generation='transformers'")


def check_prompts(config: Config) -> None:
    """ConfigError where the shortest prompts of an own task type, those about its first task, are too long for nano."""
    rules, longest, first = rules_of(config), config.max_prompt_tokens, get_task_type("deduction").zero_task()
    for task_type in (get_task_type(name) for name in config.task_types if f"solve/{name}" not in COMPACT.words):
        from tokenizers import Tokenizer

        from azr_lite.nano.model import WEIGHTS

        task, given = task_type.zero_task(), [first] if task_type.propose_from == "programs" else []
        prompts = {"proposals": task_type.propose_prompt(COMPACT, given, rules)}
        prompts |= {"answers": task_type.solve_prompt(COMPACT, task, rules)} if task is not None else {}
        tokenizer = Tokenizer.from_file(str(WEIGHTS / "tokenizer.json"))
        for what, prompt in prompts.items():
            if (tokens := len(tokenizer.encode(prompt).ids)) > longest:
                raise ConfigError(
                    f"nano reads prompts of {longest} tokens, and the shortest for {what} of {task_type.name} has "
                    f"{tokens}; give it a built-in type's words (docs/how-to/task_type.md), or use another --model"
                )
