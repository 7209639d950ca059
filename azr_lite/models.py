"""Find a policy and make it trainable: nano, hub id, local folder, GGUF file; full, LoRA or QLoRA.

Comes in: a `Config`.  Goes out: a `Policy`: model, tokenizer, prompt style, adapter settings, and each choice with its reason.
Not covered: what fits on this machine (`hardware.py`), the update (`trainer.py`), merging and publishing (`publish.py`).

Weights that are trained are always float32 masters: at a rate of 1e-6 most updates of a bfloat16 weight round to nothing.
"""

from __future__ import annotations

import importlib.util
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from azr_lite.config import Config
from azr_lite.errors import ModelError


@dataclass(frozen=True)
class Precision:
    """Where the policy lives and in which types. `compute`: the type of arithmetic; autocast unless float32."""

    device: str
    weights: torch.dtype
    compute: torch.dtype
    reason: str


@dataclass
class Policy:
    """A loaded policy. `compute`: the type of arithmetic (autocast unless float32). `peft_config`: None when all weights are
    trained. `reasons`: one line for each choice made."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    style: str
    peft_config: Any
    device: torch.device
    dtype: torch.dtype
    compute: torch.dtype
    reasons: list[str] = field(default_factory=list)


def load_policy(config: Config) -> Policy:
    """Load what `config.model` names, as `config.tuning` wants it. Raises ModelError with one sentence."""
    precision = choose_precision(config)
    model, tokenizer, origin = _load(config, precision)
    reasons = [origin, precision.reason]
    reasons += _give_pad_token(tokenizer, config.model)
    style, why = _choose_style(config, tokenizer)
    reasons.append(why)
    model.config.use_cache = True
    peft_config = None
    if config.tuning != "full":
        peft_config = _adapters(config)
        reasons.append(f"{config.tuning}: rank {config.lora_rank} adapters on all linear layers, float32, no dropout")
    return Policy(model, tokenizer, style, peft_config, torch.device(precision.device), precision.weights, precision.compute, reasons)


# ---------------------------------------------------------------- device and types


def choose_precision(config: Config) -> Precision:
    """Device and types for these settings on this machine. The same answer every time it is asked."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ModelError("device='cuda', but torch sees no GPU here; install torch with CUDA or use device='auto'")
    device = "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"
    if config.dtype == "float16" and device == "cpu":
        raise ModelError("dtype='float16' trains on GPUs only; use dtype='auto'")
    half = _half(config, device)
    where = f"{device}: {'a GPU is here' if device == 'cuda' else 'asked for' if config.device == 'cpu' else 'no GPU here'}"
    if config.tuning == "full":
        compute = half if half is not None and (device == "cuda" or config.dtype != "auto") else torch.float32
        arithmetic = f"{_short(compute)} arithmetic"
        return Precision(device, torch.float32, compute, f"{where}; float32 weights (all are trained), {arithmetic}")
    weights = half or torch.float32
    if config.tuning == "qlora" and half is None:
        weights = torch.bfloat16  # the 4-bit kernels compute in 16 bits even where that is slow
    why = "as set" if config.dtype != "auto" else "the machine has it" if half else "no 16-bit arithmetic here"
    base = "4-bit base, computing in" if config.tuning == "qlora" else "frozen base in"
    return Precision(device, weights, weights, f"{where}; {base} {_short(weights)}: {why}")


def _half(config: Config, device: str) -> torch.dtype | None:
    """The 16-bit type to compute in, or None for float32."""
    if config.dtype != "auto":
        return None if config.dtype == "float32" else getattr(torch, config.dtype)
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if config.model == "nano":
        return None  # so small that casting costs more than it saves
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else None


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# ---------------------------------------------------------------- loading


def _load(config: Config, precision: Precision) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """Model, tokenizer, and a line saying where they came from."""
    named = config.model
    if named == "nano":
        from azr_lite.nano.model import load_nano

        model, tokenizer = load_nano()
        return _dense(config, precision, model, tokenizer), tokenizer, f"nano: embedded model, {_size(model)}"
    path = Path(named).expanduser()
    if named.endswith(".gguf"):
        model, tokenizer = _load_gguf(path)
        origin = f"{path.name}: GGUF weights unpacked to {_size(model)}"
        return _dense(config, precision, model, tokenizer), tokenizer, origin
    if path.exists():
        _check_folder(path)
    elif named.startswith((".", "/", "~")) or named.count("/") > 1 or "\\" in named:
        raise ModelError(f"there is no model at {named}; give an existing folder, a .gguf file, a hub id or 'nano'")
    source = str(path) if path.exists() else named
    tokenizer = _guarded(named, "tokenizer", AutoTokenizer.from_pretrained, source, padding_side="left")
    model = _guarded(named, "model", AutoModelForCausalLM.from_pretrained, source, **_load_options(config, precision))
    return model, tokenizer, f"{named}: {_size(model)}"


def _load_options(config: Config, precision: Precision) -> dict[str, Any]:
    if config.tuning != "qlora":
        return {"dtype": precision.weights}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("tuning='qlora' needs bitsandbytes; pip install 'azr-lite[gpu]', or use tuning='lora'")
    from accelerate import PartialState
    from transformers import BitsAndBytesConfig

    four_bit = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=precision.weights
    )
    # Quantizing happens on the device itself; under a launcher each process has its own.
    place = f"cuda:{PartialState().local_process_index}" if precision.device == "cuda" else "cpu"
    return {"dtype": precision.weights, "quantization_config": four_bit, "device_map": {"": place}}


def _load_gguf(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A dense model out of a GGUF file, without the marks that forbid training it."""
    if not path.is_file():
        raise ModelError(f"there is no file {path}; give the path of an existing .gguf file")
    if importlib.util.find_spec("gguf") is None:
        raise ModelError("reading GGUF files needs the package gguf; pip install gguf")
    from transformers import GgufConfig

    options = {"gguf_file": path.name}
    unpack = {"quantization_config": GgufConfig(dequantize=True), "dtype": torch.float32}
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), padding_side="left", **options)
        model = AutoModelForCausalLM.from_pretrained(str(path.parent), **options, **unpack)
    except Exception as error:  # the reader raises whatever struct, numpy or the architecture table raise
        raise ModelError(
            f"{path} cannot be read as a GGUF language model ({_first_line(error)}); download it again or choose another"
        ) from error
    for name in ("hf_quantizer", "is_quantized", "quantization_method"):
        model.__dict__.pop(name, None)
    model.config.__dict__.pop("quantization_config", None)
    return model, tokenizer


def _dense(config: Config, precision: Precision, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A model that is in memory already, in the types wanted; for QLoRA it goes through a folder, which bitsandbytes loads."""
    if config.tuning != "qlora":
        return model.to(precision.weights)
    with tempfile.TemporaryDirectory() as folder:
        model.to(precision.weights).save_pretrained(folder)
        return _guarded(folder, "model", AutoModelForCausalLM.from_pretrained, folder, **_load_options(config, precision))


def _check_folder(path: Path) -> None:
    if path.is_file():
        raise ModelError(f"{path} is a file, but not .gguf; give a .gguf file or the model's folder")
    if not (path / "config.json").exists():
        if (path / "adapter_config.json").exists():
            raise ModelError(f"{path} holds only an adapter; merge it into its base first (azr-lite export) and give that folder")
        raise ModelError(f"{path} holds no model (config.json is missing); give a folder that save_pretrained made")


def _guarded(named: str, what: str, load: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a loader; turn its many ways to fail into one sentence."""
    from huggingface_hub import errors as hub

    try:
        return load(*args, **kwargs)
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        causes = _causes(error)
        if any(isinstance(e, hub.GatedRepoError) for e in causes):
            raise ModelError(f"{named} is gated on the hub; accept its licence there and log in with `hf auth login`") from error
        if any(isinstance(e, hub.RepositoryNotFoundError | hub.HFValidationError) for e in causes):
            raise ModelError(f"the hub has no model {named!r}; check the spelling, or give a folder that exists") from error
        away = (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled, ConnectionError)
        if any(isinstance(e, away) for e in causes) or "offline" in str(error).lower() or "couldn't connect" in str(error).lower():
            raise ModelError(
                f"{named} is not on this machine and the hub cannot be reached; go online, or give a local folder or .gguf file"
            ) from error
        raise ModelError(
            f"the {what} of {named} cannot be loaded ({_first_line(error)}); check that it is a causal language model"
        ) from error


def _causes(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step not in chain:
        chain.append(step)
        step = step.__cause__ or step.__context__
    return chain


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _size(model: PreTrainedModel) -> str:
    n = model.num_parameters()
    return f"{n / 1e9:.2f} billion weights" if n >= 1e9 else f"{n / 1e6:.2f} million weights"


# ---------------------------------------------------------------- tokenizer, prompts, adapters


def _give_pad_token(tokenizer: PreTrainedTokenizerBase, name: str) -> list[str]:
    """A padding token for every tokenizer. The loss masks by length, so a pad that equals eos hides no real eos."""
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer of {name} has no end-of-sequence token, so replies could never end; set one and save it")
    if tokenizer.pad_token_id is not None:
        return []
    taken = {tokenizer.eos_token, tokenizer.bos_token}
    spare = [t for t in tokenizer.all_special_tokens if t not in taken]
    spare += [t for t in tokenizer.get_added_vocab() if t not in taken and t not in spare]
    named_pad = [t for t in spare if "pad" in t.lower()]
    choice = named_pad[0] if named_pad else tokenizer.unk_token if tokenizer.unk_token in spare else tokenizer.eos_token
    tokenizer.pad_token = choice
    return [f"the tokenizer has no padding token; {choice!r} serves (padding is masked by length, so it hides nothing)"]


def _choose_style(config: Config, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    has_template = bool(tokenizer.chat_template)
    if config.prompts == "chat" and not has_template:
        raise ModelError("prompts='chat', but the tokenizer has no chat template; use prompts='r1' (base models) or prompts='auto'")
    if config.prompts != "auto":
        return config.prompts, f"{config.prompts} prompts: as set"
    if config.model == "nano":
        return "compact", "compact prompts: the nano model knows no others"
    if has_template:
        return "chat", "chat prompts: the tokenizer has a chat template"
    return "r1", "r1 prompts: the tokenizer has no chat template, so this is taken for a base model"


def _adapters(config: Config) -> Any:
    from peft import LoraConfig

    # No dropout: sampling and scoring must see the same policy (trl#3000).
    return LoraConfig(
        r=config.lora_rank, lora_alpha=config.lora_alpha, lora_dropout=0.0, target_modules="all-linear", bias="none", task_type="CAUSAL_LM"
    )
