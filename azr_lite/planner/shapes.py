"""The shape of a model, and from it the exact number of its weights. Nothing is downloaded or loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from azr_lite.errors import ModelError


@dataclass(frozen=True)
class Shape:
    """A decoder with gated MLPs and RMS norms: what Qwen2, Qwen3, Llama and their kin share."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    """The output head is the embedding."""
    qkv_bias: bool = False
    output_bias: bool = False
    """A bias after attention's output projection (Llama's attention_bias)."""
    mlp_bias: bool = False
    qk_norm: bool = False
    family: str = "qwen2"
    """transformers' model_type."""

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of one layer's linear maps: q, k, v, o, gate, up, down."""
        h, i, q, kv = self.hidden, self.intermediate, self.heads * self.head_dim, self.kv_heads * self.head_dim
        return ((h, q), (h, kv), (h, kv), (q, h), (h, i), (h, i), (i, h))

    @property
    def linear_parameters(self) -> int:
        """What a 4-bit base quantises: all layers' linear maps, without biases, embedding and head."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linears)

    @property
    def layer_parameters(self) -> int:
        """Linear maps, biases and norms of one layer."""
        h, q, kv = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim
        biases = self.qkv_bias * (q + 2 * kv) + self.output_bias * h + self.mlp_bias * (2 * self.intermediate + h)
        return self.linear_parameters // self.layers + biases + 2 * h + self.qk_norm * 2 * self.head_dim

    @property
    def head_parameters(self) -> int:
        """vocab x hidden: the embedding, and once more the head unless they are tied."""
        return self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """All weights; a tied head counts once."""
        return self.layers * self.layer_parameters + self.hidden + self.head_parameters * (1 if self.tied else 2)

    def adapter_parameters(self, rank: int) -> int:
        """LoRA on all linear maps: rank x (inputs + outputs) each; the head has none."""
        return self.layers * rank * sum(inputs + outputs for inputs, outputs in self.linears)

    @property
    def arithmetic_parameters(self) -> int:
        """Weights each token is multiplied with: linear maps and the head (the embedding is a look-up)."""
        return self.linear_parameters + self.head_parameters


_qwen2 = partial(Shape, qkv_bias=True, family="qwen2")
_qwen3 = partial(Shape, qk_norm=True, family="qwen3")
_llama = partial(Shape, family="llama")

# layers, hidden, intermediate, heads, key-value heads, head size, vocabulary: from each model's published config.json
_QWEN25 = {
    "0.5B": _qwen2(24, 896, 4864, 14, 2, 64, 151936, tied=True),
    "1.5B": _qwen2(28, 1536, 8960, 12, 2, 128, 151936, tied=True),
    "3B": _qwen2(36, 2048, 11008, 16, 2, 128, 151936, tied=True),
    "7B": _qwen2(28, 3584, 18944, 28, 4, 128, 152064, tied=False),
    "14B": _qwen2(48, 5120, 13824, 40, 8, 128, 152064, tied=False),
}
_QWEN3 = {
    "0.6B": _qwen3(28, 1024, 3072, 16, 8, 128, 151936, tied=True),
    "1.7B": _qwen3(28, 2048, 6144, 16, 8, 128, 151936, tied=True),
    "4B": _qwen3(36, 2560, 9728, 32, 8, 128, 151936, tied=True),
    "8B": _qwen3(36, 4096, 12288, 32, 8, 128, 151936, tied=False),
    "14B": _qwen3(40, 5120, 17408, 40, 8, 128, 151936, tied=False),
}
_SMOL = {
    "135M": _llama(30, 576, 1536, 9, 3, 64, 49152, tied=True),
    "360M": _llama(32, 960, 2560, 15, 5, 64, 49152, tied=True),
    "1.7B": _llama(24, 2048, 8192, 32, 32, 64, 49152, tied=True),
}
_LLAMA3 = {
    "3.1-8B": _llama(32, 4096, 14336, 32, 8, 128, 128256, tied=False),
    "3.2-1B": _llama(16, 2048, 8192, 32, 8, 64, 128256, tied=True),
    "3.2-3B": _llama(28, 3072, 8192, 24, 8, 128, 128256, tied=True),
}

KNOWN: dict[str, Shape] = {
    name_of.format(size) + end: shape
    for name_of, ends, shapes in (
        ("Qwen/Qwen2.5-{}", ("", "-Instruct"), _QWEN25),
        ("Qwen/Qwen2.5-Coder-{}", ("", "-Instruct"), _QWEN25),
        ("Qwen/Qwen3-{}", ("", "-Base"), _QWEN3),
        ("HuggingFaceTB/SmolLM2-{}", ("", "-Instruct"), _SMOL),
        ("meta-llama/Llama-{}", ("", "-Instruct"), _LLAMA3),
    )
    for size, shape in shapes.items()
    for end in ends
}
"""Hub ids whose shape is known here."""

FAMILIES = ("qwen2", "qwen3", "llama", "mistral")
"""model_types with the parts `Shape` counts."""


def shape_of(model: str) -> Shape:
    """The shape of a local folder, a .gguf file, 'nano' or a known hub id. Raises ModelError with one sentence."""
    path = Path(__file__).parents[1] / "nano/weights" if model == "nano" else Path(model).expanduser()
    if model.endswith(".gguf"):
        return shape_of_gguf(path)
    known = {name.lower(): shape for name, shape in KNOWN.items()}
    if not path.is_dir() and model.lower() in known:
        return known[model.lower()]
    if not path.is_dir():
        raise ModelError(
            f"the shape of {model!r} is not known here, and nothing is downloaded to plan; give a local folder with "
            "its config.json, a .gguf file, or the hub id of a Qwen2.5, Qwen3, Llama-3 or SmolLM2 model up to 14B"
        )
    try:
        return shape_of_config(json.loads((path / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path}/config.json does not describe a language model ({error!r}); give what save_pretrained made"
        ) from error


def shape_of_config(facts: dict[str, Any]) -> Shape:
    """The shape in the content of a config.json.

    Raises ModelError for families with other parts, KeyError where a size is missing.
    """
    family = facts.get("model_type", "")
    if family not in FAMILIES:
        raise ModelError(
            f"the planner counts models of the families {', '.join(FAMILIES)}, and this one is {family!r}; "
            "plan with a known model"
        )
    heads, hidden = facts["num_attention_heads"], facts["hidden_size"]
    bias = bool(facts.get("attention_bias", False))
    return Shape(
        layers=facts["num_hidden_layers"],
        hidden=hidden,
        intermediate=facts["intermediate_size"],
        heads=heads,
        kv_heads=facts.get("num_key_value_heads") or heads,
        head_dim=facts.get("head_dim") or hidden // heads,
        vocab=facts["vocab_size"],
        tied=bool(facts.get("tie_word_embeddings", False)),
        qkv_bias=family == "qwen2" or bias,
        output_bias=family != "qwen2" and bias,
        mlp_bias=bool(facts.get("mlp_bias", False)),
        qk_norm=family == "qwen3",
        family=family,
    )


def shape_of_gguf(path: Path) -> Shape:
    """The shape in a GGUF file's header and list of tensors; no weights are read. Raises ModelError."""
    if not path.is_file():
        raise ModelError(f"there is no file {path}; give the path of an existing .gguf file")
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise ModelError("reading GGUF files needs the package gguf; pip install gguf") from error
    try:
        reader = GGUFReader(str(path))
        family = str(reader.fields["general.architecture"].contents())
        number = {name.removeprefix(f"{family}."): field.contents() for name, field in reader.fields.items()}
        tensors = {tensor.name: tensor.shape for tensor in reader.tensors}
        facts = {
            "model_type": family,
            "num_hidden_layers": number["block_count"],
            "hidden_size": number["embedding_length"],
            "intermediate_size": number["feed_forward_length"],
            "num_attention_heads": number["attention.head_count"],
            "num_key_value_heads": number.get("attention.head_count_kv"),
            "head_dim": number.get("attention.key_length"),
            "vocab_size": int(tensors["token_embd.weight"][-1]),
            "tie_word_embeddings": "output.weight" not in tensors,
        }
    except Exception as error:  # the reader raises whatever struct, numpy or its own tables raise
        raise ModelError(
            f"{path} cannot be read as a GGUF language model ({error!r}); download it again or choose another"
        ) from error
    return shape_of_config(facts)
