"""Prompts to token ids, token ids to completions, and the seeds of sampling.

Comes in: prompts as text, sampled token ids.  Goes out: `Completion`s whose ids are never tokenised again.
Not covered: the sampling itself (`trainer.py` calls TRL's, or the nano sampler), reading replies (`parsing.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from transformers import PreTrainedTokenizerBase

from azr_lite.prompts.base import Style
from azr_lite.triplet import Completion

Sample = tuple[Sequence[int], Sequence[float] | None, bool]
"""Sampled ids, their log-probabilities (or None), and whether the token limit cut them."""


class Sampler(Protocol):
    """Replaces TRL's generation. Must depend on its arguments (and the weights) alone; `seed` stands for all randomness."""

    def __call__(self, prompt_ids: list[list[int]], *, greedy: bool, seed: int) -> list[Sample]: ...


class Codec:
    """The one place where text becomes tokens and back, the same for counting, sampling and training."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, style: Style, eos_ids: Sequence[int]) -> None:
        self.tokenizer, self.style, self.eos_ids = tokenizer, style, frozenset(eos_ids)
        bos, plain = tokenizer.bos_token_id, tokenizer("a", add_special_tokens=False)["input_ids"]
        default = tokenizer("a")["input_ids"]
        adds_bos = bos is not None and default[:1] == [bos] and plain[:1] != [bos]
        self.prefix = [bos] if adds_bos and not style.chat else []  # a chat template writes its own

    def encode(self, prompt: str) -> tuple[str, list[int]]:
        """The text the model sees (a chat template goes around the user's message) and its ids."""
        if self.style.chat:
            message = [{"role": "user", "content": prompt}]
            prompt = self.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        return prompt, self.prefix + list(self.tokenizer(prompt, add_special_tokens=False)["input_ids"])

    def count_tokens(self, prompt: str) -> int:
        return len(self.encode(prompt)[1])

    def completion(self, prompt: str, prompt_ids: Sequence[int], sample: Sample) -> Completion:
        """One `Completion`; its text is without the end-of-sequence token, its ids are with it."""
        ids, logps, truncated = sample
        spoken = ids[:-1] if ids[-1] in self.eos_ids else ids
        text = self.tokenizer.decode(list(spoken), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return Completion(prompt, tuple(prompt_ids), tuple(ids), text, truncated, tuple(logps) if logps is not None else None)


def draw_seed(*parts: Any) -> int:
    """A 63-bit seed from anything printable: the same on every machine and after every resume."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8], "big") >> 1


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """torch draws from `seed` inside; the generators outside are left as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
