"""The shape of a model, and from it the exact number of its weights. Nothing is downloaded or loaded."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azr_lite.errors import ModelError


@dataclass(frozen=True)
class Shape:
    """A decoder with gated MLPs and RMS norms: what Qwen2, Qwen3, Llama and their kin share.

    `family`: transformers' model_type. `tied`: the head is the embedding. Llama's optional biases are not counted.
    """

    family: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool

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
        """Linear maps and norms of one layer, the biases of Qwen2's q, k and v, and Qwen3's norms of q and k."""
        extra = {"qwen2": sum(outputs for _, outputs in self.linears[:3]), "qwen3": 2 * self.head_dim}
        return self.linear_parameters // self.layers + 2 * self.hidden + extra.get(self.family, 0)

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


KNOWN: dict[str, Shape] = {
    "Qwen/Qwen2.5-0.5B": Shape("qwen2", 24, 896, 4864, 14, 2, 64, 151936, tied=True),
    "Qwen/Qwen2.5-1.5B": Shape("qwen2", 28, 1536, 8960, 12, 2, 128, 151936, tied=True),
    "Qwen/Qwen2.5-3B": Shape("qwen2", 36, 2048, 11008, 16, 2, 128, 151936, tied=True),
    "Qwen/Qwen2.5-7B": Shape("qwen2", 28, 3584, 18944, 28, 4, 128, 152064, tied=False),
    "Qwen/Qwen2.5-14B": Shape("qwen2", 48, 5120, 13824, 40, 8, 128, 152064, tied=False),
    "Qwen/Qwen3-0.6B": Shape("qwen3", 28, 1024, 3072, 16, 8, 128, 151936, tied=True),
    "Qwen/Qwen3-1.7B": Shape("qwen3", 28, 2048, 6144, 16, 8, 128, 151936, tied=True),
    "Qwen/Qwen3-4B": Shape("qwen3", 36, 2560, 9728, 32, 8, 128, 151936, tied=True),
    "Qwen/Qwen3-8B": Shape("qwen3", 36, 4096, 12288, 32, 8, 128, 151936, tied=False),
    "Qwen/Qwen3-14B": Shape("qwen3", 40, 5120, 17408, 40, 8, 128, 151936, tied=False),
    "HuggingFaceTB/SmolLM2-135M": Shape("llama", 30, 576, 1536, 9, 3, 64, 49152, tied=True),
    "HuggingFaceTB/SmolLM2-360M": Shape("llama", 32, 960, 2560, 15, 5, 64, 49152, tied=True),
    "HuggingFaceTB/SmolLM2-1.7B": Shape("llama", 24, 2048, 8192, 32, 32, 64, 49152, tied=True),
    "meta-llama/Llama-3.1-8B": Shape("llama", 32, 4096, 14336, 32, 8, 128, 128256, tied=False),
    "meta-llama/Llama-3.2-1B": Shape("llama", 16, 2048, 8192, 32, 8, 64, 128256, tied=True),
    "meta-llama/Llama-3.2-3B": Shape("llama", 28, 3072, 8192, 24, 8, 128, 128256, tied=True),
}
"""From each model's published config.json. The -Coder, -Instruct and -Base variants have the same shape."""
FAMILIES = ("qwen2", "qwen3", "llama", "mistral")


def shape_of(model: str) -> Shape:
    """The shape of a local folder, 'nano' or a known hub id. Raises ModelError with one sentence."""
    folder = Path(__file__).parents[1] / "nano/weights" if model == "nano" else Path(model).expanduser()
    if not folder.is_dir():
        plain = re.sub("-(coder|instruct|base)(?=-|$)", "", model.lower())
        if known := [shape for name, shape in KNOWN.items() if name.lower() == plain]:
            return known[0]
        raise ModelError(
            f"the shape of {model!r} is not known here, and nothing is downloaded to plan; give a local folder with "
            "its config.json, or the hub id of a Qwen2.5, Qwen3, Llama-3 or SmolLM2 model up to 14B"
        )
    try:
        return shape_of_config(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder}/config.json does not describe a language model ({error!r})") from error


def shape_of_config(facts: dict[str, Any]) -> Shape:
    """The shape in the content of a config.json. Raises ModelError for other families, KeyError for a missing size."""
    family = facts.get("model_type", "")
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ModelError(f"the planner counts models of the families {known}, not {family!r}; plan with a known model")
    heads, hidden = facts["num_attention_heads"], facts["hidden_size"]
    return Shape(
        family=family,
        layers=facts["num_hidden_layers"],
        hidden=hidden,
        intermediate=facts["intermediate_size"],
        heads=heads,
        kv_heads=facts.get("num_key_value_heads") or heads,
        head_dim=facts.get("head_dim") or hidden // heads,
        vocab=facts["vocab_size"],
        tied=bool(facts.get("tie_word_embeddings", False)),
    )
