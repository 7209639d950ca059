"""The nano policy: a Qwen2-shaped model of half a million parameters, with its tokenizer. Imports torch when loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

WEIGHTS = Path(__file__).parent / "weights"


def load_nano(folder: Path | str = WEIGHTS) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """The shipped policy and tokenizer (float32, CPU)."""
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

    model = Qwen2ForCausalLM.from_pretrained(str(folder))
    return model.float(), PreTrainedTokenizerFast.from_pretrained(str(folder))
