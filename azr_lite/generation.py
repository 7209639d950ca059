"""The trainer's part that makes replies: chunks, roles, greedy evaluation, many processes.

Comes in: prompts as text.  Goes out: `Completion`s whose ids are never tokenised again.
Not covered: the sampling loops themselves (`sampling.py`, TRL's for vLLM and sharded weights, the nano sampler), text and tokens
(`codec.py`), reading replies (`parsing.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import GenerationConfig
from trl.models.utils import unwrap_model_for_generation

from azr_lite.codec import Codec, Sample, draw_seed, seeded
from azr_lite.config import Config
from azr_lite.sampling import sample_replies
from azr_lite.triplet import Completion, Role


class Sampler(Protocol):
    """Replaces TRL's generation. Must depend on its arguments (and the weights) alone; `seed` stands for all randomness."""

    def __call__(self, prompt_ids: list[list[int]], *, greedy: bool, seed: int) -> list[Sample]: ...


class Generation:
    """Mixin of the trainer that makes replies. Expects a GRPOTrainer and `memory.OutOfMemoryRecovery` beside it, `config`, `codec`, `sampler`."""

    config: Config
    codec: Codec
    sampler: Sampler | None
    accelerator: Accelerator
    _is_greedy = False
    _selfplay_step, _sampling_calls = -1, 0  # the self-play step (-1: before the first) and the sampling calls made in it

    @contextmanager
    def greedy(self) -> Iterator[None]:
        """The likeliest token instead of a sampled one, for evaluation; leaves the run's random numbers alone."""
        owner = self.vllm_generation if self.use_vllm else self
        names = ("temperature", "top_p", "top_k") if self.use_vllm else ("generation_config",)
        kept = {name: getattr(owner, name) for name in names}
        if self.use_vllm:
            owner.temperature, owner.top_p, owner.top_k = 0.0, 1.0, 0  # vLLM's way to say so
        else:
            plain = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}
            owner.generation_config = GenerationConfig(**{**owner.generation_config.to_diff_dict(), **plain})
        self._is_greedy = True
        try:
            yield
        finally:
            self._is_greedy = False
            for name, value in kept.items():
                setattr(owner, name, value)

    def act_as(self, role: Role) -> None:
        """Sample and score as this role; only split roles make a difference."""

    @torch.no_grad()
    def generate(self, prompts: Sequence[str], role: Role = Role.SOLVE) -> list[Completion]:
        """One completion a prompt, same order. Every process passes the same list and gets all completions.

        Prompts are sorted by length and cut into chunks; a chunk's seed depends on the run's seed, the step, the call and the
        chunk, so a resumed run and any number of processes sample the same. (vLLM draws from its own generator.)
        """
        self.act_as(role)
        known = {prompt: self.codec.encode(prompt) for prompt in dict.fromkeys(prompts)}
        texts, ids = [known[p][0] for p in prompts], [known[p][1] for p in prompts]
        order = sorted(range(len(prompts)), key=lambda i: len(ids[i]))
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        chunks = self._chunks(order, world)
        found: list[tuple[int, Sample]] = []
        for number in range(rank, -(-len(chunks) // world) * world, world):
            if number < len(chunks):
                found += zip(chunks[number], self._sample([ids[i] for i in chunks[number]], number), strict=True)
            elif self._collective:
                self._sample([ids[i] for i in chunks[0]], number)
        self._sampling_calls += not self._is_greedy
        samples = dict(gather_object(found))
        return [self.codec.completion(texts[i], ids[i], samples[i]) for i in range(len(prompts))]

    @property
    def _collective(self) -> bool:
        """Sharded weights: every process must sample equally often."""
        return self.is_fsdp_enabled or self.is_deepspeed_enabled

    def _chunks(self, order: list[int], world: int) -> list[list[int]]:
        """Which prompts are sampled together. vLLM batches by itself, but wants one call a process and equally many prompts in each."""
        if self.use_vllm:
            filled = order + order[:1] * (-len(order) % world)
            return [filled[rank::world] for rank in range(world)] if filled else []
        size = max(len(order), 1) if self.sampler else self.config.generation_chunk
        return [order[i : i + size] for i in range(0, len(order), size)]

    def _sample(self, prompt_ids: list[list[int]], number: int) -> list[Sample]:
        seed = draw_seed(self.config.seed, self._selfplay_step, self._sampling_calls, number)
        if self.sampler is not None:
            return self.sampler(prompt_ids, greedy=self._is_greedy, seed=seed)
        if self.use_vllm or self._collective or self.config.continuous_batching:
            with seeded(seed, self.accelerator.device), self.accelerator.autocast():
                ids_BT, logps_BT = self._generate_single_turn(prompt_ids, None, {}, 1)
        else:
            sample = lambda rows, piece: self._sample_here(rows, draw_seed(seed, piece) if piece else seed)  # noqa: E731
            ids_BT, logps_BT = self.sample_in_pieces(sample, prompt_ids), None
        limit = self.config.max_reply_tokens
        cut = [ids[-1] not in self.codec.eos_ids and len(ids) >= limit for ids in ids_BT]
        return list(zip(ids_BT, logps_BT or [None] * len(ids_BT), cut, strict=True))

    def _sample_here(self, prompt_ids: Sequence[list[int]], seed: int) -> list[list[int]]:
        device = self.accelerator.device
        with (
            unwrap_model_for_generation(self.model_wrapped, self.accelerator, generation_kwargs=self.generation_kwargs) as model,
            seeded(seed, device),
            self.accelerator.autocast(),
        ):
            return sample_replies(model, prompt_ids, self.generation_config, self.codec.eos_ids, device)
