"""Prompts to token ids, token ids to completions, and the seeds of sampling.

Comes in: prompts as text, sampled token ids.  Goes out: `Completion`s whose ids are never tokenised again.
Not covered: the sampling loop itself (TRL's, or the nano sampler), reading replies (`parsing.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import GenerationConfig, PreTrainedTokenizerBase

from azr_lite.config import Config
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


class Generation:
    """The trainer's part that makes replies. Expects a GRPOTrainer beside it, and `config`, `codec` and `sampler`."""

    config: Config
    codec: Codec
    sampler: Sampler | None
    generation_config: GenerationConfig
    accelerator: Accelerator
    _is_greedy = False
    _playing, _calls = -1, 0  # the self-play step (-1: before the first) and the sampling calls made in it

    @contextmanager
    def greedy(self) -> Iterator[None]:
        """The likeliest token instead of a sampled one, for evaluation; leaves the run's random numbers alone."""
        sampling, self._is_greedy = self.generation_config, True
        plain = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}
        self.generation_config = type(sampling)(**{**sampling.to_diff_dict(), **plain})
        try:
            yield
        finally:
            self.generation_config, self._is_greedy = sampling, False

    @torch.no_grad()
    def generate(self, prompts: Sequence[str]) -> list[Completion]:
        """One completion a prompt, same order. Every process passes the same list and gets all completions.

        Prompts are sorted by length and cut into chunks; a chunk's seed depends on the run's seed, the step, the call and the
        chunk, so a resumed run and any number of processes sample the same.
        """
        known = {prompt: self.codec.encode(prompt) for prompt in dict.fromkeys(prompts)}
        texts, ids = [known[p][0] for p in prompts], [known[p][1] for p in prompts]
        order = sorted(range(len(prompts)), key=lambda i: len(ids[i]))
        size = max(len(prompts), 1) if self.sampler else self.config.generation_chunk
        chunks = [order[i : i + size] for i in range(0, len(order), size)]
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        collective = self.is_fsdp_enabled or self.is_deepspeed_enabled  # then every process must sample equally often
        found: list[tuple[int, Sample]] = []
        for number in range(rank, -(-len(chunks) // world) * world, world):
            if number < len(chunks):
                found += zip(chunks[number], self._sample([ids[i] for i in chunks[number]], number), strict=True)
            elif collective:
                self._sample([ids[i] for i in chunks[0]], number)
        self._calls += not self._is_greedy
        samples = dict(gather_object(found))
        return [self.codec.completion(texts[i], ids[i], samples[i]) for i in range(len(prompts))]

    def _sample(self, prompt_ids: list[list[int]], number: int) -> list[Sample]:
        seed = draw_seed(self.config.seed, self._playing, self._calls, number)
        if self.sampler is not None:
            return self.sampler(prompt_ids, greedy=self._is_greedy, seed=seed)
        with seeded(seed, self.accelerator.device), self.accelerator.autocast():
            ids_BT, logps_BT = self._generate_single_turn(prompt_ids, None, {}, 1)
        limit = self.config.max_reply_tokens
        cut = [ids[-1] not in self.codec.eos_ids and len(ids) >= limit for ids in ids_BT]
        return list(zip(ids_BT, logps_BT or [None] * len(ids_BT), cut, strict=True))
