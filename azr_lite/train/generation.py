"""The trainer's part that makes replies: chunks, roles, greedy evaluation, several processes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import DynamicCache, GenerationConfig
from trl.models.utils import unwrap_model_for_generation

from azr_lite.codec import Codec, Sample, draw_seed, seeded
from azr_lite.config import Config
from azr_lite.triplet import Completion, Role

if TYPE_CHECKING:
    from azr_lite.train.adapters import SplitRoles


class Sampler(Protocol):
    """Replaces TRL's generation. Depends on its arguments (and the weights) alone; `seed` stands for all randomness."""

    def __call__(self, prompt_ids: list[list[int]], *, greedy: bool, seed: int) -> list[Sample]: ...


class Generation:
    """Mixin of the trainer that makes replies. Expects a GRPOTrainer and `memory.OutOfMemoryRecovery` beside it."""

    config: Config
    codec: Codec
    sampler: Sampler | None
    split: SplitRoles | None
    accelerator: Accelerator
    _is_greedy = False
    _selfplay_step, _sampling_calls = -1, 0  # the self-play step (-1: before the first), the sampling calls made in it

    @contextmanager
    def greedy(self) -> Iterator[None]:
        """The likeliest token instead of a sampled one, for evaluation; leaves the run's random numbers alone."""
        if self.use_vllm:
            owner, changed = self.vllm_generation, {"temperature": 0.0, "top_p": 1.0, "top_k": 0}  # vLLM's own way
        else:
            plain = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}
            settings = GenerationConfig(**{**self.generation_config.to_diff_dict(), **plain})
            owner, changed = self, {"generation_config": settings}
        kept = {name: getattr(owner, name) for name in changed}
        try:
            self._is_greedy = True
            for name, value in changed.items():
                setattr(owner, name, value)
            yield
        finally:
            self._is_greedy = False
            for name, value in kept.items():
                setattr(owner, name, value)

    def act_as(self, role: Role) -> None:
        """Sample and score as this role; only split roles make a difference."""
        if self.split is not None:
            self.split.act_as(role)

    @torch.no_grad()
    def generate(self, prompts: Sequence[str], role: Role = Role.SOLVE) -> list[Completion]:
        """One completion per prompt, same order. Every process passes the same list and gets all completions.

        Prompts are sorted by length and cut into chunks. A chunk's seed depends on the run's seed, the step, the call
        and the chunk, so a resumed run and any number of processes sample the same. (vLLM draws from its own
        generator.)
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
            elif self.is_sharded:
                self._sample([ids[i] for i in chunks[0]], number)
        self._sampling_calls += not self._is_greedy
        samples = dict(gather_object(found))
        return [self.codec.completion(texts[i], ids[i], samples[i]) for i in range(len(prompts))]

    def _chunks(self, order: list[int], world: int) -> list[list[int]]:
        """Which prompts are sampled together. vLLM wants one call per process with equally many prompts."""
        if self.use_vllm:
            filled = order + order[:1] * (-len(order) % world)
            return [filled[rank::world] for rank in range(world)] if filled else []
        size = max(len(order), 1) if self.sampler else self.config.generation_chunk
        return [order[i : i + size] for i in range(0, len(order), size)]

    def _sample(self, prompt_ids: list[list[int]], number: int) -> list[Sample]:
        seed = draw_seed(self.config.seed, self._selfplay_step, self._sampling_calls, number)
        if self.sampler is not None:
            return self.sampler(prompt_ids, greedy=self._is_greedy, seed=seed)
        if self.use_vllm or self.is_sharded:
            with seeded(seed, self.accelerator.device), self.accelerator.autocast():
                ids_BT, logps_BT = self._generate_single_turn(prompt_ids, None, {}, 1)
        else:
            ids_BT, logps_BT = self.sample_in_pieces(self._sample_here, prompt_ids, seed), None
        limit = self.config.max_reply_tokens
        cut = [ids[-1] not in self.codec.eos_ids and len(ids) >= limit for ids in ids_BT]
        return list(zip(ids_BT, logps_BT or [None] * len(ids_BT), cut, strict=True))

    def _sample_here(self, prompt_ids: Sequence[list[int]], seed: int) -> list[list[int]]:
        """Replies of this process's own copy of the weights."""
        device, options = self.accelerator.device, self.generation_kwargs
        unwrapped = unwrap_model_for_generation(self.model_wrapped, self.accelerator, generation_kwargs=options)
        with unwrapped as model, seeded(seed, device), self.accelerator.autocast():
            return sample_replies(model, prompt_ids, self.generation_config, self.codec.eos_ids, device)


@torch.no_grad()
def sample_replies(
    model: Any,
    prompt_ids: Sequence[Sequence[int]],
    config: GenerationConfig,
    eos_ids: Collection[int],
    device: torch.device,
    **options: Any,
) -> list[list[int]]:
    """One reply per prompt: ids up to and with the first end-of-sequence token. `model` must be ready to generate.

    Equal prompts are read once: keys and values of all but the last prompt token are computed for the U distinct
    prompts and copied to the B rows. `options` go to transformers' `generate`.
    """
    prompts = [tuple(ids) for ids in prompt_ids]
    distinct = {ids: row for row, ids in enumerate(dict.fromkeys(prompts))}
    width = max(map(len, distinct))
    ids_UT = torch.tensor([[config.pad_token_id] * (width - len(ids)) + list(ids) for ids in distinct], device=device)
    mask_UT = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in distinct], device=device)
    of_row_B = torch.tensor([distinct[ids] for ids in prompts], device=device)
    if len(distinct) < len(prompts) and width > 1:
        cache, read_UT = DynamicCache(config=model.config), mask_UT[:, :-1]
        positions_UT = (read_UT.cumsum(-1) - 1).clamp(min=0)
        reading = {"position_ids": positions_UT, "past_key_values": cache, "use_cache": True, "logits_to_keep": 1}
        model(input_ids=ids_UT[:, :-1], attention_mask=read_UT, **reading)
        cache.batch_select_indices(of_row_B)
        options["past_key_values"] = cache
    rows = {"input_ids": ids_UT[of_row_B], "attention_mask": mask_UT[of_row_B]}
    out_BT = model.generate(**rows, generation_config=config, **options)
    replies = []
    for ids in out_BT[:, width:].tolist():
        end = next((place for place, token in enumerate(ids) if token in eos_ids), len(ids) - 1)
        replies.append(ids[: end + 1])
    return replies
