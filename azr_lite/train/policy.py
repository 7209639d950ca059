"""Find a policy and make it trainable: nano, hub id, local folder or GGUF file; full, LoRA or QLoRA."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from huggingface_hub import errors as hub
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.initialization import no_init_weights

from azr_lite.config import OBJECT, Config
from azr_lite.environment import cpu_arithmetic, gets_weights, sharding
from azr_lite.errors import ModelError, first_line
from azr_lite.planner.vram import nvidia_smi
from azr_lite.prompts.base import chat_prompt, untrained_tags
from azr_lite.train.source import fetch, local_model, refuse_old_torchao


@dataclass
class Policy:
    """A loaded policy; `compute` as in `Precision`. `peft_config`: None when all weights are trained.

    `reasons`: one line per choice made. `untrained`: tags to be written without their own token.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    style: str
    peft_config: Any
    device: torch.device
    compute: torch.dtype
    reasons: list[str] = field(default_factory=list)
    untrained: frozenset[str] = frozenset()


def load_policy(config: Config, model: Any = None, tokenizer: Any = None) -> Policy:
    """Load what `config.model` names, or take the model given, as `config.tuning` wants it. Raises ModelError."""
    refuse_old_torchao(config.tuning)
    precision = choose_precision(config)
    if config.model.startswith(OBJECT):
        model, tokenizer, origin = _take(config, model, tokenizer, precision)
    else:
        model, tokenizer, origin = _load(config, precision)
    reasons = [origin, precision.reason]
    reasons += _give_pad_token(tokenizer, model, config.model)
    reasons += _drop_sampling_defaults(model)
    style, why = _choose_style(config, tokenizer, model)
    found = [{} if gets_weights() else untrained_tags(model, tokenizer)]
    (untrained,) = broadcast_object_list(found) if sharding() else found  # of the process that has weights
    reasons.append(why)
    reasons += [
        f"{tag} is a token this model was never taught ({cause}); it is written as ordinary text"
        for tag, cause in untrained.items()
    ]
    peft_config = None
    if config.tuning != "full":
        from peft import LoraConfig

        # No dropout: sampling and scoring must see the same policy (trl#3000).
        settings = {"lora_dropout": 0.0, "target_modules": "all-linear", "bias": "none", "task_type": "CAUSAL_LM"}
        if config.lora_layers == "upper":
            settings |= upper_half(model)
        peft_config = LoraConfig(r=config.lora_rank, lora_alpha=config.lora_alpha, **settings)
        where = "all linear layers" if config.lora_layers == "all" else "the linear layers of the upper half"
        reasons.append(f"{config.tuning}: float32 adapters of rank {config.lora_rank} on {where}, no dropout")
    if config.roles == "split":
        reasons.append("split roles: two sets of adapters; the proposer's is in each checkpoint's folder proposer/")
    chosen = precision.device, precision.compute, reasons
    return Policy(model, tokenizer, style, peft_config, *chosen, frozenset(untrained))


# ---------------------------------------------------------------- device and types


@dataclass(frozen=True)
class Precision:
    """`weights`: the type of stored weights. `compute`: the type of arithmetic; autocast unless float32."""

    device: torch.device
    weights: torch.dtype
    compute: torch.dtype
    reason: str


def choose_precision(config: Config) -> Precision:
    """Device and types for these settings on this machine, the same at every call. Raises ModelError."""
    found, stays = torch.cuda.is_available(), config.model == "nano" and config.device == "auto"
    wanted = config.device != "cpu" and not stays
    on_gpu = found and wanted
    if wanted and not found and (unseen := _unseen_gpu()):
        raise ModelError(
            f"{unseen}; install a torch that fits (https://pytorch.org/get-started/locally), or train on the CPU with "
            "device='cpu'"
        )
    if config.device == "cuda" and not on_gpu:
        raise ModelError("device='cuda', but torch sees no GPU here; install torch with CUDA or use device='auto'")
    if config.dtype == "float16" and not on_gpu:
        raise ModelError("dtype='float16' trains on GPUs only; use dtype='auto'")
    half, why = _half(config, on_gpu)
    if config.tuning == "full":
        # Pure bfloat16 training rounds updates of 1e-6 to zero: 16 bits mean 16-bit arithmetic over float32 weights.
        weights = torch.float32
        compute = half if half and (on_gpu or config.dtype != "auto") else torch.float32
        what = f"float32 weights (all are trained), {str(compute)[6:]} arithmetic"
    elif config.tuning == "qlora":
        weights = compute = half or torch.bfloat16
        why = why if half else "4-bit kernels know no other, though it is slow here"
        what = f"4-bit base, arithmetic in {str(weights)[6:]}: {why}"
    else:
        weights = compute = half or torch.float32
        what = f"frozen base and arithmetic in {str(weights)[6:]}: {why}"
    device = torch.device("cuda" if on_gpu else "cpu")
    where = "a GPU is here" if on_gpu else "as set" if config.device == "cpu" else "no GPU is here"
    where = "where nano has its own sampler" if stays and found else where
    return Precision(device, weights, compute, f"device {device.type}: {where}; {what}")


def _unseen_gpu() -> str:
    """Which GPU the driver has and torch does not see, and why; empty where there is none, or hidden on purpose."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or not (found := nvidia_smi("name,driver_version")):
        return ""
    needs = f"wants CUDA {torch.version.cuda}: a newer driver" if torch.version.cuda else "was built for CPUs"
    return f"torch does not see this machine's GPU ({found[0]}): torch {torch.__version__} {needs}"


def _half(config: Config, on_gpu: bool) -> tuple[torch.dtype | None, str]:
    """The 16-bit type to compute in (None for float32), and why."""
    if config.dtype != "auto":
        return None if config.dtype == "float32" else getattr(torch, config.dtype), "as set"
    if on_gpu:
        exact = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if exact else torch.float16, "this machine has it"
    if config.model == "nano":
        return None, "casting so small a model costs more than 16 bits save"
    if cpu_arithmetic() != "float32":
        return torch.bfloat16, "this machine has it"
    return None, "the machine has no 16-bit arithmetic"


def in_type(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """The model, changed in place, with weights of this type. (`model.to` would also round the position code.)"""
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    return model


# ---------------------------------------------------------------- weights and tokenizer


def _load(config: Config, precision: Precision) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """Model, tokenizer, and a line saying where they came from."""
    named, options = config.model, _load_options(config, precision)
    path = local_model(named)
    if named == "nano":
        from azr_lite.nano.model import WEIGHTS

        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(WEIGHTS))  # AutoTokenizer would split as Qwen's does
        model = _read(named, str(WEIGHTS), options)
        return model, tokenizer, f"nano: embedded model, {_size(model)}"
    if named.endswith(".gguf"):
        model, tokenizer = _load_gguf(path, config.tuning, options)
        return model, tokenizer, f"{path.name}: GGUF weights unpacked to {_size(model)}"
    if path is None:
        try:
            fetch(named)
        except Exception as error:
            raise ModelError(_what_failed(named, "model", error)) from error
    source = named if path is None else str(path)
    tokenizer = _guarded(named, "tokenizer", AutoTokenizer, source, padding_side="left")
    model = _read(named, source, options)
    return model, tokenizer, f"{named}: {_size(model)}"


def _read(named: str, source: str, options: dict[str, Any]) -> PreTrainedModel:
    """The model; where the first process hands out the weights, memory that nothing has touched stands in for them."""
    if not gets_weights() or "quantization_config" in options:
        return _guarded(named, "model", AutoModelForCausalLM, source, **options)
    config = _guarded(named, "model", AutoConfig, source)
    with no_init_weights():
        model = AutoModelForCausalLM.from_config(config, dtype=options["dtype"], trust_remote_code=False)
    model.tie_weights()
    with suppress(OSError):  # not every model has such a file
        model.generation_config = GenerationConfig.from_pretrained(source)
    return model


def _take(config: Config, model: Any, tokenizer: Any, precision: Precision) -> tuple[Any, Any, str]:
    """A model that a Python program gave, on the CPU and in the type that training wants."""
    if model is None:
        why = f"the model of this run was an object of a Python program ({config.model.removeprefix(OBJECT)})"
        raise ModelError(f"{why}, and is not kept; give a folder that holds it")
    if not isinstance(model, PreTrainedModel):
        raise ModelError(f"the model given is a {type(model).__name__}; give a model of transformers, without adapters")
    tokenizer.padding_side = "left"
    model = in_type(model.cpu(), precision.weights).requires_grad_(True)
    return model, tokenizer, f"the {type(model).__name__} given, which is trained in place: {_size(model)}"


def _load_options(config: Config, precision: Precision) -> dict[str, Any]:
    """Dense weights are always read into the memory of the CPU; a GPU gets its own (or its pieces) in training."""
    if config.tuning != "qlora":
        return {"dtype": precision.weights}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("tuning='qlora' needs bitsandbytes; pip install 'azr-lite[gpu]', or use tuning='lora'")
    from accelerate import PartialState
    from transformers import BitsAndBytesConfig

    four_bit = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=precision.weights,
    )
    # Quantizing happens on the device itself; under a launcher each process has its own.
    place = f"cuda:{PartialState().local_process_index}" if precision.device.type == "cuda" else "cpu"
    return {"dtype": precision.weights, "quantization_config": four_bit, "device_map": {"": place}}


def _load_gguf(path: Path, tuning: str, options: dict[str, Any]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model out of a GGUF file, without the marks that forbid training it; for QLoRA by way of a folder."""
    named, source, unpack = str(path), str(path.parent), {"quantization_config": GgufConfig(dequantize=True)}
    dtype = torch.float32 if tuning == "qlora" else options["dtype"]
    tokenizer = _guarded(named, "tokenizer", AutoTokenizer, source, gguf_file=path.name, padding_side="left")
    model = _guarded(named, "model", AutoModelForCausalLM, source, gguf_file=path.name, dtype=dtype, **unpack)
    for name in ("hf_quantizer", "is_quantized", "quantization_method"):
        model.__dict__.pop(name, None)
    model.config.__dict__.pop("quantization_config", None)
    if tuning == "qlora":
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            loaded = _guarded(named, "model", AutoModelForCausalLM, folder, **options)
        # adapters note their base, which is not the folder just gone
        loaded.config._name_or_path = loaded.name_or_path = model.name_or_path
        model = loaded
    return model, tokenizer


def _guarded(named: str, what: str, kind: Any, source: str, **options: Any) -> Any:
    """`kind.from_pretrained`, with its many ways to fail turned into one sentence."""
    try:
        return kind.from_pretrained(source, trust_remote_code=False, **options)  # weights only, never code to run
    except torch.OutOfMemoryError as error:
        why = f"{named} does not fit into the memory of the GPU; use tuning='qlora', or a smaller model"
        raise ModelError(why) from error
    except Exception as error:  # readers of files raise whatever struct, numpy or the table of architectures raise
        raise ModelError(_what_failed(named, what, error)) from error


def _what_failed(named: str, what: str, error: Exception) -> str:
    causes: list[BaseException] = [error]
    while (step := causes[-1].__cause__ or causes[-1].__context__) and step not in causes:
        causes.append(step)

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    said, why = str(error).lower(), first_line(error)
    if named.endswith(".gguf"):
        return f"{named} cannot be read as a GGUF language model ({why}); download it again"
    if has(hub.GatedRepoError):
        return f"{named} is gated on the hub; accept its licence there and log in with `hf auth login`"
    if has(hub.RepositoryNotFoundError, hub.HFValidationError):
        return f"the hub has no model {named!r}; check the spelling, or give a folder that exists"
    away = has(hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled, ConnectionError)
    if away or "offline" in said or "couldn't connect" in said:
        return (
            f"{named} is not on this machine and the hub cannot be reached; go online, or give a folder or .gguf file"
        )
    return f"the {what} of {named} cannot be loaded ({why}); check that it is a causal language model"


def _size(model: PreTrainedModel) -> str:
    n = model.num_parameters()
    return f"{n / 1e9:.2f} billion weights" if n >= 1e9 else f"{n / 1e6:.2f} million weights"


# ---------------------------------------------------------------- padding, sampling, prompts


def _give_pad_token(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, name: str) -> list[str]:
    """A padding token for every tokenizer. The loss masks by length, so a pad that equals eos hides no real eos."""
    known = model.get_input_embeddings().num_embeddings
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer of {name} has no end-of-sequence token; set one and save it")
    if tokenizer.eos_token_id >= known:
        raise ModelError(f"the tokenizer and the model of {name} do not match; check the folder")
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id < known:
        return []
    tokenizer.pad_token = tokenizer.eos_token
    return [f"the tokenizer has no usable padding token; {tokenizer.pad_token!r} serves (padding is masked by length)"]


def _drop_sampling_defaults(model: PreTrainedModel) -> list[str]:
    """Forget the top-k, repetition penalty and so on of many chat models: what is sampled must be what is scored."""
    own = model.generation_config
    ids = {name: getattr(own, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model.generation_config = GenerationConfig(**ids)
    harmless = {*ids, "transformers_version", "max_length", "max_new_tokens", "use_cache", "do_sample"}
    dropped = ", ".join(
        f"{name}={value}"
        for name, value in own.to_diff_dict().items()
        if name not in harmless and not name.startswith(("_", "output_"))
    )
    return [f"dropped the model's own sampling settings: {dropped}"] if dropped else []


def _choose_style(config: Config, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> tuple[str, str]:
    """Prompt style and why. Base models may ship a chat template they were never trained on: no reply would end."""
    template = bool(tokenizer.chat_template)
    if config.prompts == "chat" and not template:
        raise ModelError("prompts='chat', but the tokenizer has no chat template; use prompts='r1' or prompts='auto'")
    if config.prompts == "chat":
        chat_prompt(tokenizer, "question")
    if config.prompts != "auto":
        return config.prompts, f"{config.prompts} prompts: as set"
    if config.model == "nano":
        return "compact", "compact prompts: the nano model knows no others"
    if not template:
        return "r1", "r1 prompts: the tokenizer has no chat template, so it is a base model"
    ends = model.generation_config.eos_token_id or tokenizer.eos_token_id  # the model's own word first
    chat = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
    try:
        chat_prompt(tokenizer, "question")
        closing = str(tokenizer.apply_chat_template(chat, tokenize=False)).rpartition("answer")[2]
    except Exception as error:
        return "r1", f"r1 prompts: {first_line(error)}"
    if any(tokenizer.convert_ids_to_tokens(end) in closing for end in (ends if isinstance(ends, list) else [ends])):
        return "chat", "chat prompts: the tokenizer has a chat template"
    return "r1", "r1 prompts: the model does not stop where the chat template ends replies, so it is a base model"


def upper_half(model: PreTrainedModel) -> dict[str, Any]:
    """`LoraConfig`'s settings for adapters on the linear layers of the upper half of the model's blocks."""
    blocks = getattr(model.get_decoder(), "layers", None)
    if blocks is None:
        raise ModelError(f"lora_layers='upper', but {type(model).__name__} has no list of layers; use 'all'")
    linear = {name.rpartition(".")[2] for name, part in blocks.named_modules() if isinstance(part, torch.nn.Linear)}
    upper = list(range(len(blocks) // 2, len(blocks)))
    return {"target_modules": sorted(linear), "layers_to_transform": upper, "layers_pattern": "layers"}
