"""Who writes replies: a sampler's protocol, and a sampler by transformers or vLLM."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from transformers import DynamicCache, GenerationConfig, StoppingCriteria
from transformers.modeling_outputs import CausalLMOutputWithPast
from trl.models.utils import unwrap_model_for_generation

from azr_lite.codec import Codec, Ended, Sample, draw_seed, seeded
from azr_lite.errors import TrainingError

if TYPE_CHECKING:
    from azr_lite.train.trainer import SelfPlayTrainer


Result = TypeVar("Result")
CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"
"""What models call their cache. transformers 5.24 renamed it, and 5.40 will forget the old name."""


class Sampler(Protocol):
    """One sample per prompt. Depends on its arguments (and the weights) alone; `seed` stands for all randomness.

    `ended`: of each row (or of none) the rule that ends its reply beside an end token. A row may stop there; whoever
    asks cuts what goes beyond.
    """

    def __call__(
        self, prompt_ids: list[list[int]], *, greedy: bool, seed: int, ended: Sequence[Ended | None] | None = None
    ) -> list[Sample]: ...


class PolicySampler:
    """Samples from the model in training. (A vLLM server draws from its own generator, whatever the seed.)"""

    def __init__(self, trainer: SelfPlayTrainer) -> None:
        self.trainer, self.halving = trainer, Halving(trainer.note)

    def __call__(
        self, prompt_ids: list[list[int]], *, greedy: bool, seed: int, ended: Sequence[Ended | None] | None = None
    ) -> list[Sample]:
        trainer, device = self.trainer, self.trainer.accelerator.device
        codec = trainer.codec

        def replies(rows: range) -> list[list[int]]:
            """Of this process's own copy of the weights."""
            whole = unwrap_model_for_generation(
                trainer.model_wrapped, trainer.accelerator, generation_kwargs=trainer.generation_kwargs
            )
            own, prompts = draw_seed(seed, rows.start) if rows.start else seed, prompt_ids[rows.start : rows.stop]
            with whole as model, seeded(own, device), trainer.accelerator.autocast():
                stop = [EndedRows(codec, ended[rows.start :])] if ended else None
                return sample_replies(
                    model, prompts, trainer.generation_config, codec.eos_ids, device, stopping_criteria=stop
                )

        with likeliest(trainer) if greedy else nullcontext():
            if trainer.use_vllm or trainer.is_sharded:
                self.keep_awake()
                with seeded(seed, device), trainer.accelerator.autocast():
                    ids_BT, logps_BT = self._by_trl(prompt_ids, ended)
            else:
                ids_BT, logps_BT = self.halving(replies, range(len(prompt_ids))), None
        limit = trainer.config.max_reply_tokens
        cut = [ids[-1] not in codec.eos_ids and len(ids) >= limit for ids in ids_BT]
        return list(zip(ids_BT, logps_BT or [None] * len(ids_BT), cut, strict=True))

    def _by_trl(self, prompt_ids: list[list[int]], ended: Sequence[Ended | None] | None) -> tuple[list, list | None]:
        """Ids and log-probabilities. vLLM alone in its process goes on, 32 tokens at first, with what has not ended."""
        trainer, limit = self.trainer, self.trainer.config.max_reply_tokens
        engine = trainer.vllm_generation if trainer.use_vllm else None
        if not ended or engine is None or engine.mode == "server" or engine.tensor_parallel_size > 1:
            return trainer._generate_single_turn(prompt_ids, None, {}, 1)
        ids_BT, logps_BT = [[] for _ in prompt_ids], [[] for _ in prompt_ids]
        rows, done = list(range(len(prompt_ids))), 0
        try:
            while rows and done < limit:
                size = engine.max_completion_length = min(max(32, done), limit - done)
                found = trainer._generate_single_turn([[*prompt_ids[row], *ids_BT[row]] for row in rows], None, {}, 1)
                going, done = [], done + size
                for row, ids, logps in zip(rows, *found, strict=True):
                    ids_BT[row] += ids
                    logps_BT[row] += logps
                    over = len(ids) < size or ids[-1] in trainer.codec.eos_ids
                    if not (over or (ended[row] and ended[row](trainer.codec.text(ids_BT[row])))):
                        going.append(row)
                rows = going
        finally:
            engine.max_completion_length = limit
        return ids_BT, logps_BT

    def keep_awake(self) -> None:
        """From here until `rest`, vLLM on the trainer's GPUs keeps weights and cache in memory.

        TRL alone would let it sleep after each call, and hand it all weights again before the next.
        """
        trainer = self.trainer
        if trainer.use_vllm and (engine := trainer.vllm_generation).enable_sleep_mode:
            if engine._llm_weights_sleeping:
                engine.sync_weights()  # wakes the weights
                trainer._last_loaded_step = trainer.state.global_step
            engine.llm.wake_up(tags=["kv_cache"])
            engine.enable_sleep_mode = False

    def rest(self) -> None:
        """Give the memory of vLLM to the update."""
        if self.trainer.args.vllm_enable_sleep_mode and not (engine := self.trainer.vllm_generation).enable_sleep_mode:
            engine.llm.sleep(level=2)
            engine.enable_sleep_mode = engine._llm_weights_sleeping = True


def is_out_of_memory(error: Exception) -> bool:
    """CUDA's error, and the one of torch's allocator on CPUs."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)


class Halving:
    """Samples many rows in pieces. Where memory runs out, the piece and all that come later are half as large."""

    def __init__(self, note: Callable[[str], None] = lambda line: None) -> None:
        self.note, self.most = note, sys.maxsize

    def __call__(self, work: Callable[[range], list[Result]], rows: range) -> list[Result]:
        """What `work` gives for each row, in order. TrainingError where a single row does not fit."""
        found: list[Result] = []
        while len(found) < len(rows):
            piece = rows[len(found) : len(found) + self.most]
            try:
                found += work(piece)
                continue
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if len(piece) == 1:
                    told = "out of memory while sampling one reply; lower the limit of tokens, or use a smaller model"
                    raise TrainingError(told) from error
            self.most = -(-len(piece) // 2)
            self.note(f"out of memory while sampling: chunks are now {self.most} replies")
            clear_device_cache(garbage_collection=True)  # here, because the error's traceback kept tensors alive
        return found


@contextmanager
def likeliest(trainer: SelfPlayTrainer) -> Iterator[None]:
    """Inside, whoever samples takes the likeliest token."""
    owner = trainer.vllm_generation if trainer.use_vllm else trainer.generation_config
    changed = {"temperature": 0.0, "top_p": 1.0, "top_k": 0}  # vLLM's own way
    if not trainer.use_vllm:
        changed = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}
    kept = {name: getattr(owner, name) for name in changed}
    try:
        vars(owner).update(changed)
        yield
    finally:
        vars(owner).update(kept)


def distinct_prompts(prompt_ids: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The U distinct of these B prompts, padded on the left, (U, T); their mask, (U, T); and which one each row has."""
    prompts = [tuple(ids) for ids in prompt_ids]
    place = {ids: u for u, ids in enumerate(dict.fromkeys(prompts))}
    width = max(map(len, place))
    ids_UT = torch.tensor([[pad] * (width - len(ids)) + list(ids) for ids in place])
    mask_UT = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in place])
    return ids_UT, mask_UT, torch.tensor([place[ids] for ids in prompts])


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
    ids_UT, mask_UT, of_row_B = (x.to(device) for x in distinct_prompts(prompt_ids, config.pad_token_id))
    width = ids_UT.shape[1]
    if len(ids_UT) < len(of_row_B) and width > 1:
        cache, read_UT = DynamicCache(config=model.config), mask_UT[:, :-1]
        positions_UT = (read_UT.cumsum(-1) - 1).clamp(min=0)
        reading = {"position_ids": positions_UT, CACHE: cache, "use_cache": True, "logits_to_keep": 1}
        model(input_ids=ids_UT[:, :-1], attention_mask=read_UT, **reading)
        cache.batch_select_indices(of_row_B)
        options[CACHE] = cache
    rows = {"input_ids": ids_UT[of_row_B], "attention_mask": mask_UT[of_row_B]}
    out_BT = model.generate(**rows, generation_config=config, **options)
    replies = []
    for ids in out_BT[:, width:].tolist():
        end = next((place for place, token in enumerate(ids) if token in eos_ids), len(ids) - 1)
        replies.append(ids[: end + 1])
    return replies


def is_due(tokens: int) -> bool:
    """Whether to ask if a reply of so many tokens has ended: each time it is read anew. What comes after is cut off."""
    return tokens < 512 or tokens % 8 == 0


class EndedRows(StoppingCriteria):
    """Stops each row of transformers' `generate` whose reply has ended; it is then filled up with padding."""

    def __init__(self, codec: Codec, ended: Sequence[Ended | None]) -> None:
        self.codec, self.ended, self.width, self.done = codec, ended, 0, set()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        """After each new token; `input_ids`: prompts and replies, shape (B, T)."""
        self.width = self.width or input_ids.shape[1] - 1
        for row, ids in enumerate(input_ids[:, self.width :].tolist()):
            rule = self.ended[row]
            if row not in self.done and rule is not None and is_due(len(ids)) and rule(self.codec.text(ids)):
                self.done.add(row)
        return torch.tensor([row in self.done for row in range(len(input_ids))], device=input_ids.device)
