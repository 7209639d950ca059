"""Who writes replies: a sampler's protocol, and a sampler by transformers or vLLM, both through TRL."""

from __future__ import annotations

import itertools
import math
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from unittest import mock

import torch
from accelerate.utils import is_peft_model
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import DynamicCache, GenerationConfig, StoppingCriteria
from transformers.modeling_outputs import CausalLMOutputWithPast
from trl.generation import vllm_generation
from trl.models.utils import unwrap_model_for_generation

from azr_lite.errors import TrainingError
from azr_lite.prompts.base import Codec, Ended, Sample, draw_seed

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
        trainer, codec, device = self.trainer, self.trainer.codec, self.trainer.accelerator.device

        def replies(rows: range) -> list[list[int]]:
            """Of this process's own copy of the weights."""
            prompts, own = prompt_ids[rows.start : rows.stop], draw_seed(seed, rows.start) if rows.start else seed
            stop = [EndedRows(codec, ended[rows.start :])] if ended else None
            how = {"generation_kwargs": trainer.generation_kwargs}
            whole = unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator, **how)
            with whole as model, seeded(own, device), trainer.accelerator.autocast():
                given = model, prompts, trainer.generation_config, codec.eos_ids, device
                return sample_replies(*given, stopping_criteria=stop)

        with likeliest(trainer) if greedy else nullcontext():
            if trainer.use_vllm or trainer.is_sharded:
                self.keep_awake()
                with seeded(seed, device), trainer.accelerator.autocast():
                    ids_BT, logps_BT = self._by_trl(prompt_ids, ended)
            else:
                ids_BT, logps_BT = self.halving(replies, range(len(prompt_ids))), None
        samples, limit = [], trainer.config.max_reply_tokens
        for ids, logps in zip(ids_BT, logps_BT or [None] * len(ids_BT), strict=True):
            if not ids:  # an engine gave up. TRL needs a token, and takes one of unknown probability as it is
                ids, logps = [trainer.eos_token_ids[0]], logps_BT and [math.nan]
            samples.append((ids, logps, len(ids) >= limit and ids[-1] not in codec.eos_ids))
        return samples

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


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """torch draws from `seed` inside; the generators outside are left as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


class Halving:
    """Samples many rows in pieces. Where memory runs out, the piece and all that come later are half as large."""

    def __init__(self, note: Callable[[str], None] = lambda line: None) -> None:
        self.note, self.most = note, sys.maxsize

    def __call__(self, work: Callable[[range], list[Result]], rows: range) -> list[Result]:
        """What `work` gives for each row, in order. TrainingError where a single row does not fit."""
        found: list[Result] = []
        while piece := rows[len(found) : len(found) + self.most]:
            try:
                found += work(piece)
                continue
            except Exception as error:
                if not should_reduce_batch_size(error):
                    raise
                if len(piece) == 1:
                    told = "out of memory with one reply at a time; lower the limit of tokens, or use a smaller model"
                    raise TrainingError(told) from error
            self.most = -(-len(piece) // 2)
            self.note(f"out of memory: chunks are now {self.most} replies")
            clear_device_cache(garbage_collection=True)  # here, because the error's traceback kept tensors alive
        return found


def likeliest(trainer: SelfPlayTrainer) -> AbstractContextManager:
    """Inside, whoever samples takes the likeliest token."""
    if trainer.use_vllm:
        return mock.patch.multiple(trainer.vllm_generation, temperature=0.0, top_p=1.0, top_k=0)
    return mock.patch.multiple(trainer.generation_config, do_sample=False, temperature=1.0, top_p=1.0, top_k=50)


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


# ---------------------------------------------------------------- vLLM, started by TRL


def start_vllm(model: Any, max_num_seqs: int, **options: Any) -> Any:
    """For TRL's `VLLMGeneration`: with room for 256 sequences (vLLM's own default), and adapters beside the base.

    TRL has no argument for either: it gives as many as a process trains on, and Monte-Carlo solves are far more; and it
    merges adapters into the base and subtracts them again, which in bfloat16 is no round trip (trl#6688, #3466).
    """
    kind = WithAdapters if is_peft_model(model) else vllm_generation.VLLMGeneration
    return kind(model=model, max_num_seqs=max(256, max_num_seqs), **options)


class WithAdapters(vllm_generation.VLLMGeneration):
    """TRL's vLLM beside the trainer. Its base stays, and a sync hands over nothing but the adapters, one file each.

    It samples with the adapter that is active in the trainer. A 4-bit base is given once, in 16 bits, as the trainer
    reads it: vLLM's own 4-bit form would be another policy. Asleep, the base waits in the memory of the CPU.
    """

    def _init_vllm(self) -> None:
        start = vars(vllm_generation)["LLM"]  # there only where vLLM is installed
        self.handed, self.numbers = {}, itertools.count(1)
        rank = max(settings.r for settings in self.model.peft_config.values())

        def start_with_adapters(**options: Any) -> Any:
            own = {"enable_lora": True, "max_loras": 2, "max_lora_rank": max(8, 1 << (rank - 1).bit_length())}
            llm = start(**{**options, **own, "quantization": None})
            self._give_four_bit_base(llm.llm_engine.model_executor.driver_worker.model_runner.model)
            generate, sleep = llm.generate, llm.sleep
            acting = lambda: self.handed[self.model.active_adapter]  # noqa: E731
            llm.generate = lambda *args, **how: generate(*args, lora_request=acting(), **how)
            llm.sleep = lambda level: sleep(level=1)  # TRL's level 2 forgets the base
            return llm

        with mock.patch.object(vllm_generation, "LLM", start_with_adapters):
            super()._init_vllm()

    def _give_four_bit_base(self, model: Any) -> None:
        for name, module in self.model.base_model.model.named_modules():
            weight = None if isinstance(module, BaseTunerLayer) else getattr(module, "weight", None)
            if getattr(weight, "quant_state", None) is not None:
                from bitsandbytes.functional import dequantize_4bit
                from vllm.lora.layers import BaseLayerWithLoRA

                # vLLM's wrappers of layers with adapters take the plain name since 0.32
                inside = "" if hasattr(BaseLayerWithLoRA, "load_weights") else ".base_layer"
                place = f"{name.removesuffix('.base_layer')}{inside}.weight"
                model.load_weights([(place, dequantize_4bit(weight.data, weight.quant_state))])

    def _iter_named_params(self) -> Iterator[Any]:
        """TRL's sync asks for the weights to hand over: none."""
        from vllm.lora.request import LoRARequest

        with tempfile.TemporaryDirectory() as folder:
            self.model.save_pretrained(folder, save_embedding_layers=False)
            for name in self.model.peft_config:
                path = folder if name == "default" else os.path.join(folder, name)
                self.handed[name] = LoRARequest(name, next(self.numbers), path)  # a number that vLLM knows is not read
                self.llm.llm_engine.add_lora(self.handed[name])
        return iter(())
