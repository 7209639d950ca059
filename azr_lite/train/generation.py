"""Who writes replies and who scores them: a sampler's protocol, a sampler by transformers or vLLM, and the scorer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from transformers import DynamicCache, GenerationConfig, StoppingCriteria
from trl.models.utils import unwrap_model_for_generation

from azr_lite.codec import Codec, Ended, Sample, draw_seed, seeded
from azr_lite.errors import ConfigError, TrainingError
from azr_lite.train import packing
from azr_lite.triplet import Role

if TYPE_CHECKING:
    from azr_lite.train.trainer import SelfPlayTrainer


Result = TypeVar("Result")


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


class Scorer:
    """Log-probabilities of replies, each at the temperature of its row's role, one micro-batch at a time.

    A micro-batch is packed (train/packing.py), or trimmed to its longest row and given to `of_trl`, TRL's method, which
    knows one temperature. `proposes_B`: which rows of the micro-batch to come are proposals; None: none.
    """

    def __init__(self, trainer: SelfPlayTrainer, of_trl: Callable[..., Any]) -> None:
        """A note where prompts cannot be packed; ConfigError where a setting would then have no effect."""
        self.trainer, self.config, self.of_trl = trainer, trainer.config, of_trl
        self.proposes_B: torch.Tensor | None = None
        self._found: tuple[torch.Tensor, torch.Tensor | None] | None = None
        self.packs = self.config.pack_prompts
        if not self.packs:
            return
        if reason := "its weights are spread over processes" if trainer.is_sharded else packing.why_not(trainer.model):
            told = f"this model cannot read packed prompts ({reason})"
            if self.config.proposer_temperature:
                raise ConfigError(f"proposer_temperature needs pack_prompts, and {told}; use proposer_temperature=0")
            trainer.note(f"the update reads a prompt once per reply: {told}")
            self.packs = False

    def replies(
        self,
        model: Any,
        ids_BT: torch.Tensor,
        mask_BT: torch.Tensor,
        width: int,
        size: int | None,
        loss: bool,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """What TRL's method returns: log-probabilities and, for the `loss`, entropies, both (B, `width`), and one more.

        Where they are not for the loss they are the old ones of the trainer's `rollouts`: those of two roles go through
        their adapters, those kept from sampling are given as they are, and those that the loss makes itself stay zero.
        """
        trainer, B = self.trainer, len(ids_BT)
        of_old = [] if loss else trainer.rollouts
        if of_old and self.keeps_sampled():
            return self.sampled(), None, None
        own = self.scores_itself(B) if of_old else 0
        parts: list[Any] = [(mask_BT.new_zeros((own, width), dtype=torch.float32), None, None)] if own else []

        def score(rows: torch.Tensor) -> None:
            if of_old:
                trainer.act_as(of_old[int(rows[0])].role)
                self.proposes_B = torch.tensor([of_old[row].role == Role.PROPOSE for row in rows])
            parts.append(self._micro_batch(model, ids_BT[rows], mask_BT[rows], width, loss, **kwargs))

        for rows in torch.arange(own, B).split(size or B):
            if torch.is_grad_enabled():
                score(rows)  # `training_step` recovers
            else:
                halving = Halving(trainer.note)
                halving(lambda piece, rows=rows: [score(rows[piece.start : piece.stop])] * len(piece), range(len(rows)))
        logps, entropies, aux = zip(*parts, strict=True)
        self._found = torch.cat(logps), torch.cat(entropies) if loss else None
        return *self._found, aux[0] if aux[0] is None else torch.stack(aux).mean()

    def taken(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities and entropies as the loss got them; they are forgotten here, and with them the roles."""
        found, self._found, self.proposes_B = self._found, None, None
        return found

    @torch.no_grad()
    def base(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Log-probabilities under the model with its adapter off, the untrained policy. Afterwards, act as a role."""
        ids_BT = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        mask_BT = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        with self.trainer.accelerator.unwrap_model(self.trainer.model).disable_adapter():
            width = inputs["completion_ids"].shape[1]
            return self._micro_batch(self.trainer.model, ids_BT, mask_BT, width, False)[0]

    def keeps_sampled(self) -> bool:
        """Log-probabilities kept from sampling save a forward pass, where sampling and scoring compute alike."""
        args, rollouts = self.trainer.args, self.trainer.rollouts
        return not (self.trainer.use_vllm or args.bf16 or args.fp16 or any(r.logps is None for r in rollouts))

    def sampled(self) -> torch.Tensor:
        """Those of the trainer's `rollouts`, (B, longest reply)."""
        logps = [torch.tensor(r.logps) for r in self.trainer.rollouts]
        return torch.nn.utils.rnn.pad_sequence(logps, batch_first=True).to(self.trainer.accelerator.device)

    def scores_itself(self, rows: int) -> int:
        """Of so many rows of a step those of the first update, if its loss makes the old log-probabilities itself."""
        kept = self.trainer.use_vllm or self.keeps_sampled()
        return 0 if kept else rows // self.config.updates_per_step

    def _micro_batch(
        self, model: Any, ids_BT: torch.Tensor, mask_BT: torch.Tensor, width: int, entropy: bool, **kwargs: Any
    ) -> Sequence[torch.Tensor | None]:
        """Trimming: replies end at different columns, so rows are shifted to the right edge first, and what comes back
        is shifted back.
        """
        if self.packs:
            of_role = {False: float(self.config.temperature)}
            of_role[True] = float(self.config.proposer_temperature) or of_role[False]
            proposes_B = [False] * len(ids_BT) if self.proposes_B is None else self.proposes_B.tolist()
            with self.trainer.accelerator.autocast():
                temperatures_B = [of_role[proposes] for proposes in proposes_B]
                given = ids_BT, mask_BT, width, temperatures_B, entropy
                return *packing.score(model, *given, entropy and bool(self.config.entropy_coef)), None
        T = ids_BT.shape[1]
        columns_T = torch.arange(T, device=ids_BT.device)
        padding_B = T - 1 - (columns_T * mask_BT).amax(dim=1)  # columns after the reply's last token
        shifted_BT = (columns_T - padding_B[:, None]) % T
        mask_BT, ids_BT = mask_BT.gather(1, shifted_BT), ids_BT.gather(1, shifted_BT)
        kept = width - int(padding_B.min())  # columns of the longest reply among these rows
        # columns before the first are padding in every row
        first = min(int(mask_BT.any(dim=0).nonzero()[0]), T - kept - 1)
        found = self.of_trl(model, ids_BT[:, first:], mask_BT[:, first:], kept, compute_entropy=entropy, **kwargs)
        sources_BT = columns_T[:width] + (kept - width + padding_B)[:, None]  # undoes the shift
        return [_take_columns(x, sources_BT) if x is not None and x.dim() == 2 else x for x in found]


def _take_columns(values_BT: torch.Tensor, columns_BT: torch.Tensor) -> torch.Tensor:
    """Of each row the values at its columns; zero for a column past the last. The two may differ in width."""
    width = values_BT.shape[1]
    return values_BT.gather(1, columns_BT.clamp(max=width - 1)) * (columns_BT < width)


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
