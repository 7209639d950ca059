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


def fresh_nano(seed: int) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """The policy before its warm start: random weights from `seed`, and its tokenizer."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from azr_lite.nano.tokenizer import build_tokenizer, vocabulary

    tokenizer = build_tokenizer()
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(vocabulary()),
        bos_token_id=None,
        eos_token_id=eos,
        pad_token_id=pad,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        use_cache=False,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        rms_norm_eps=1e-6,
        attention_dropout=0.0,
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = eos, pad
    return model, tokenizer
