"""Take a trained model out of its run, as a folder that plain transformers or peft loads, and push it to the hub.

Each export is read back and must give the logits of the model in memory bit for bit before it gets its name. Merging
adds s·B·A to W in float32, so base + adapter, which adds the products instead, differs by rounding.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, ModelCard, errors, hf_hub_download
from huggingface_hub.utils import validate_repo_id
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from azr_lite.config import Config
from azr_lite.errors import PublishError
from azr_lite.export.model_card import Export, model_card
from azr_lite.rundir import RunDir, write_json, write_text
from azr_lite.train.checkpoints import is_whole, step_of
from azr_lite.train.policy import in_type, load_policy

TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "tokenizer.model",
)  # fmt: skip
PUBLIC = (
    "README.md", "config.json", "generation_config.json", "adapter_config.json", "*.safetensors",
    "*.safetensors.index.json", *TOKENIZER,
)  # fmt: skip
"""All that an export holds, and all that is ever uploaded."""
PROBE = (
    "def f(x):\n    return x[::-1] + 'azr' * 3\n\n<think>Step 12: [1, 2]</think><answer>```output\n'cba'\n```</answer>"
)


def export(
    run_dir: str | Path,
    output: str | Path = "",
    *,
    step: str = "last",
    merge: bool = False,
    role: str = "",
    dtype: str = "float32",
    where: str = "",
) -> Path:
    """Write the model of a checkpoint as a folder of its own, whole or not at all; returns the folder.

    `output`: the new folder; empty: inside the run. `step`: last, best (where the run has the stop rule on) or a step's
    number. `merge`: add the adapter to its base. `role`: solver (default) or proposer, of split roles. `dtype`: of
    whole and merged models. `where`: the repository it will be in, for the card.
    PublishError: what was asked for is not there, or the folder cannot be written.
    """
    run = RunDir.open(run_dir)
    config = run.config()
    number, checkpoint = _checkpoint(run, step, config.updates_per_step)
    adapter, role = _adapter(checkpoint, config, role)
    if merge and adapter is None:
        raise PublishError(f"{run.path} trained all weights, so there is nothing to merge; drop --merge")
    if dtype not in ("float32", "bfloat16", "float16"):
        raise PublishError(f"there is no type {dtype!r} to write; choose float32, bfloat16 or float16")
    if dtype != "float32" and adapter is not None and not merge:
        raise PublishError(f"an adapter is exported as it was trained, not in {dtype}; drop --dtype, or add --merge")
    kind = "whole" if adapter is None else "merged" if merge else "adapter"
    name = "-".join(filter(None, ("export", kind, role, f"step-{number}")))
    target = Path(output) if str(output) else run.path / name
    base, *about = _base(config)
    with _appearing(target) as folder:
        if kind == "adapter":
            shutil.copyfile(adapter / "adapter_model.safetensors", folder / "adapter_model.safetensors")
            settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
            write_json(folder / "adapter_config.json", {**settings, "base_model_name_or_path": base})
            _copy_tokenizer(checkpoint, folder)
        else:
            model = _whole(checkpoint) if adapter is None else _merged(config, adapter)
            wanted = _write_model(in_type(model, getattr(torch, dtype)), checkpoint, folder)
            del model  # two copies of a large model need not be in memory at once
            read_back = AutoModelForCausalLM.from_pretrained(folder, dtype=wanted.dtype).eval()
            if not torch.equal(_logits(read_back), wanted):
                raise PublishError("the export, read back, gives other logits; please report this with its base model")
        made = Export(kind, number, dtype, role, base, *about)
        write_text(folder / "README.md", model_card(run, made, where or target.name))
    return target


def _checkpoint(run: RunDir, step: str, updates: int) -> tuple[int, Path]:
    whole = {step_of(path) // updates: path for path in run.path.glob("checkpoint-*") if is_whole(path)}
    if not whole:
        raise PublishError(f"{run.path} has no whole checkpoint; let it train until it saves one")
    if step == "last":
        step = str(max(whole))
    elif step == "best":
        best = ((run.summary() or {}).get("best") or {}).get("checkpoint")
        if not (step := next((str(number) for number, path in whole.items() if path.name == best), "")):
            raise PublishError(f"{run.path} marks no best checkpoint; give a step, or train with --stop-patience")
    if not step.isdecimal() or int(step) not in whole:
        steps = ", ".join(map(str, sorted(whole)))
        raise PublishError(f"{run.path} has no checkpoint of step {step}; choose last, best or one of: {steps}")
    return int(step), whole[int(step)]


def _adapter(checkpoint: Path, config: Config, role: str) -> tuple[Path | None, str]:
    """The adapter's folder (None where all weights were trained), and the role, empty where both share one."""
    if role not in ("", "solver", "proposer"):
        raise PublishError(f"there is no role {role!r}; choose solver or proposer")
    if role and config.roles != "split":
        raise PublishError("this run has the same weights for both roles; drop --role")
    if config.tuning == "full":
        if not (checkpoint / "config.json").exists():
            raise PublishError(f"{checkpoint} holds no weights that transformers reads; export one written by FSDP2")
        return None, ""
    folder = checkpoint / "proposer" if role == "proposer" else checkpoint
    if not (folder / "adapter_model.safetensors").exists():
        raise PublishError(f"{folder} holds no adapter; choose another --step")
    return folder, role or ("solver" if config.roles == "split" else "")


def is_local(named: str) -> bool:
    """Whether a model's name is a place of this machine, not an id of the hub."""
    is_path = named.endswith(".gguf") or named.startswith((".", "/", "~")) or named.count("/") != 1
    return is_path or Path(named).expanduser().exists()


def _base(config: Config) -> tuple[str, bool, str, str]:
    """What training started from, and its licence where the model itself names one: the last fields of `Export`."""
    named, path = config.model, Path(config.model).expanduser()
    if named == "nano":
        return "nano", False, "apache-2.0", ""
    local = is_local(named)
    licences: tuple[Any, Any] = "", ""
    with suppress(Exception):  # no page, no network, no access, no such field: then the licence is simply not known
        page = path / "README.md" if local else Path(hf_hub_download(named, "README.md"))
        data = ModelCard(page.read_text(encoding="utf-8"), ignore_metadata_errors=True).data
        licences = data.get("license"), data.get("license_name")
    # Only names: they come from a stranger's page and go into ours.
    plain = (name if isinstance(name, str) and re.fullmatch(r"[\w.+ -]{1,60}", name) else "" for name in licences)
    return path.resolve().name if local else named, not local, *plain


def _whole(checkpoint: Path) -> torch.nn.Module:
    """The model in float32. DeepSpeed writes model.safetensors in 16 bits, which round small updates away."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    if (checkpoint / "latest").exists():
        if importlib.util.find_spec("deepspeed") is None:
            raise PublishError(f"only DeepSpeed reads the float32 weights of {checkpoint}; pip install deepspeed")
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

        model.load_state_dict(get_fp32_state_dict_from_zero_checkpoint(str(checkpoint)))
    return model


def _merged(config: Config, adapter: Path) -> torch.nn.Module:
    """Base + adapter in float32 as one model."""
    from peft import PeftModel

    # QLoRA quantised 16-bit weights unless told otherwise; a CPU has no float16
    dtype = "bfloat16" if config.tuning == "qlora" and config.dtype != "float32" else "float32"
    settings = Config(model=config.model, prompts=config.prompts, device="cpu", dtype=dtype, tuning=config.tuning)
    model = load_policy(settings).model
    model = model.dequantize().float() if config.tuning == "qlora" else model
    return PeftModel.from_pretrained(model, str(adapter)).base_model.merge_and_unload()


def _write_model(model: torch.nn.Module, checkpoint: Path, folder: Path) -> torch.Tensor:
    """Weights and tokenizer, in a form that plain transformers reads as the same model. Returns its logits then."""
    model.eval().save_pretrained(folder)
    _copy_tokenizer(checkpoint, folder)
    qwen2 = model.config.model_type == "qwen2" and not model.config.use_sliding_window
    if qwen2 and not _tokenizes_alike(checkpoint, folder):
        model = _as_llama(model).eval()
        model.save_pretrained(folder)
    if not _tokenizes_alike(checkpoint, folder):
        raise PublishError(f"AutoTokenizer changes the tokenizer of {checkpoint}; export the adapter instead")
    return _logits(model)


def _as_llama(model: torch.nn.Module) -> torch.nn.Module:
    """The same function in Llama's form: Qwen2 is Llama with biases on q, k and v, so o gets one of zero.

    For Qwen2 models with a tokenizer of their own (nano): AutoTokenizer gives every Qwen2 model Qwen's splitting rule.
    """
    own, settings = ("model_type", "architectures"), model.config.to_dict()
    shared = {name: value for name, value in settings.items() if hasattr(LlamaConfig(), name) and name not in own}
    twin = LlamaForCausalLM(LlamaConfig(**{**shared, "attention_bias": True, "mlp_bias": False}))
    biases = {name: weight for name, weight in twin.state_dict().items() if name.endswith("o_proj.bias")}
    zeros = {name: torch.zeros_like(weight) for name, weight in biases.items()}
    twin.load_state_dict({**model.state_dict(), **zeros})
    twin.generation_config = model.generation_config
    return in_type(twin, model.dtype)


@torch.no_grad()
def _logits(model: Any) -> torch.Tensor:
    """The model's logits, shape (1, 48, V), on 48 token ids spread over the vocabulary."""
    ids = torch.arange(1, 49) * 7919 % model.config.vocab_size
    return model(input_ids=ids[None]).logits


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A folder to write into that gets its name at the end; nothing stays after an error."""
    if target.exists():
        raise PublishError(f"{target} exists already; remove it, or choose another --output")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for file in temporary.iterdir():  # safetensors makes files that only their owner reads
            file.chmod(temporary.stat().st_mode & 0o666)
        os.replace(temporary, target)
    except OSError as error:
        problem = f"cannot write {target}: {error.strerror or error}"
        raise PublishError(f"{problem}; make room, or choose another --output") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _copy_tokenizer(checkpoint: Path, folder: Path) -> None:
    """Copy the tokenizer as it was trained with, without what its settings say of this machine."""
    for name in TOKENIZER:
        if (checkpoint / name).exists():
            shutil.copyfile(checkpoint / name, folder / name)
    settings = json.loads((checkpoint / "tokenizer_config.json").read_text(encoding="utf-8"))
    own = ("is_local", "local_files_only", "name_or_path")
    write_json(folder / "tokenizer_config.json", {name: value for name, value in settings.items() if name not in own})


def _tokenizes_alike(checkpoint: Path, folder: Path) -> bool:
    """Whether AutoTokenizer reads the folder as the checkpoint's tokenizer.json stands."""
    if not (checkpoint / "tokenizer.json").exists():
        return True  # a tokenizer in Python is its own class, nothing is rebuilt
    meant = PreTrainedTokenizerFast(tokenizer_file=str(checkpoint / "tokenizer.json"))
    return AutoTokenizer.from_pretrained(str(folder))(PROBE)["input_ids"] == meant(PROBE)["input_ids"]


def contents(folder: Path) -> list[tuple[str, int]]:
    """The files of an export with their sizes, as they would be uploaded. PublishError where the folder is none."""
    found = {path for pattern in PUBLIC for path in folder.glob(pattern) if path.is_file()}
    foreign = sorted({path for path in folder.glob("*") if not path.name.startswith(".")} - found)
    if foreign:  # such as the random states of a checkpoint, whose other files look like an export's
        problem = f"{folder} holds {foreign[0].name}, which no export does"
    elif not (folder / "README.md").is_file() or not list(folder.glob("*.safetensors")):
        problem = f"{folder} is neither a run nor an exported model"
    else:
        return [(path.name, path.stat().st_size) for path in sorted(found)]
    raise PublishError(f"{problem}; give a run's folder, or what azr-lite export wrote")


# ---------------------------------------------------------------- the hub


def listing(folder: Path) -> str:
    """The files of an exported folder with their sizes, one per line."""
    return "\n".join(f"{size:>14,} bytes  {name}" for name, size in contents(folder))


@contextmanager
def to_upload(source: Path, repo: str, **choice: Any) -> Iterator[Path]:
    """The folder that goes to the hub: `source` if it was exported before, else a run's export in a temporary place."""
    if not (source / "run.json").is_file():
        yield source
        return
    with tempfile.TemporaryDirectory(prefix=".push-", dir=source) as room:  # /tmp may be too small for a model
        yield export(source, Path(room) / "export", **choice, where=repo)


def check_repository(repo: str) -> None:
    """PublishError for a name that the hub would not take."""
    with suppress(errors.HFValidationError):
        validate_repo_id(repo)
        if repo.count("/") == 1:
            return
    raise PublishError(f"{repo!r} is not a repository's name; write USER/NAME in letters, digits, '-', '_' and '.'")


def push(folder: Path, repo: str, private: bool = True, kind: str = "model") -> str:
    """Upload an export; returns the repository's address. `private` counts where it is new. Raises PublishError.

    `kind` "dataset": all files of any folder instead.
    """
    check_repository(repo)
    names = [name for name, _ in contents(folder)] if kind == "model" else None
    api = HfApi()
    try:
        url = api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
        what = {"repo_id": repo, "repo_type": kind, "folder_path": folder, "allow_patterns": names}
        api.upload_folder(**what, commit_message="Upload from azr-lite")
    except Exception as error:  # the client raises its own, httpx's and the system's
        raise PublishError(_hub_problem(repo, error)) from error
    return str(url)


def _hub_problem(repo: str, error: Exception) -> str:
    said = " ".join(str(error).split())[:160] or type(error).__name__
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so nothing is pushed; unset it, or look at the files with --dry-run"
    status = 401 if isinstance(error, errors.LocalTokenNotFoundError) else 0
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
    sentences = {
        0: f"the hub cannot be reached ({said}); check the network, then push again: finished files are not sent twice",
        401: "the hub wants a token that it knows; log in with `hf auth login`, or set HF_TOKEN to one that may write",
        403: f"this token may not write to {repo}; use your own user name, or a token with the right to write",
        404: f"the hub has no place for {repo}; check that the user or organisation before the / exists",
    }
    return sentences.get(status, f"the hub refused {repo} ({status}: {said}); try again later")
