"""Self-play on TRL: a GRPOTrainer whose batch comes from `SelfPlay.step` and whose advantages are TRR++."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from accelerate.utils import gather_object
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from datasets import Dataset
from transformers import PrinterCallback, Trainer
from trl import GRPOTrainer
from trl.trainer import grpo_trainer
from trl.trainer.utils import split_tensor_dict

from azr_lite.config import Config
from azr_lite.errors import TrainingError, first_line
from azr_lite.prompts.base import Codec, Sample, Style, draw_seed
from azr_lite.selfplay import SelfPlay
from azr_lite.train.arguments import training_arguments
from azr_lite.train.callbacks import Schedule
from azr_lite.train.checkpoints import abandon, expected_bytes, load_state, seal, why_not
from azr_lite.train.cpu import choose_sampler
from azr_lite.train.diagnostics import gradient_shares
from azr_lite.train.distributed import keep_precision
from azr_lite.train.generation import PolicySampler, Sampler, start_vllm
from azr_lite.train.policy import Policy
from azr_lite.train.scoring import Scorer, micro_batches
from azr_lite.triplet import Completion, Role, Rollout

ADAPTERS = {Role.SOLVE: "default", Role.PROPOSE: "proposer"}
"""Of split roles. The solver's is PEFT's default, which a checkpoint loads as; the proposer's lies in its subfolder."""


class SelfPlayTrainer(GRPOTrainer):
    """A GRPOTrainer whose batches are self-play steps. Every process calls every method with the same arguments (SPMD).

    The way of a rollout, from top to bottom of this file: TRL calls `_play` (its `rollout_func`), which samples replies
    with `generate`; TRL turns this process's rows into tensors; `_prepare_inputs` adds advantages and weights and gives
    each update its block of rows; `_compute_loss` makes the loss of a micro-batch and `training_step` its gradient.
    Reports, saving and stopping are callbacks (train/callbacks.py).

    Overridden, because TRL 1.16 and transformers have no hook for it:

    * `_prepare_inputs`: our advantages; and TRL shuffles rows between the updates of a step, ours stay in their blocks.
    * `_get_per_token_logps_and_entropies`: prompts packed or padding trimmed, per micro-batch; a temperature for each
      role; those kept from sampling are used.
    * `_compute_loss`: the role's adapter, and an entropy bonus and a KL penalty per token.
    * `training_step`: recovery from running out of memory.
    * `_save_checkpoint`, `_load_from_checkpoint`, `train`: full disks; both adapters trainable; the self-play's state.
    """

    @mock.patch.object(grpo_trainer, "VLLMGeneration", start_vllm)
    def __init__(
        self,
        config: Config,
        policy: Policy,
        style: Style,
        selfplay: SelfPlay,
        run_dir: Path,
        *,
        sampler: Sampler | None = None,
        **told: Any,
    ) -> None:
        """`sampler` (nano's) serves where it applies: all weights trained, float32 on a CPU, the whole distribution at
        temperature 1. `told`: what `Schedule` takes. ConfigError where the batch cannot be split over the processes.
        """
        args = training_arguments(config, policy, run_dir)
        self.config, self.selfplay = config, selfplay
        self.schedule = Schedule(config, run_dir, **told)
        self.note = self.schedule.note
        super().__init__(
            model=policy.model,
            args=args,
            processing_class=policy.tokenizer,
            reward_funcs=[_attached_reward],
            rollout_func=lambda prompts, trainer: trainer._play(),  # the prompts are placeholders
            # one epoch is one self-play step
            train_dataset=Dataset.from_dict({"prompt": [""] * (config.rows // args.num_generations)}),
            peft_config=policy.peft_config,
            callbacks=[self.schedule],
        )
        self.remove_callback(PrinterCallback)
        self.splits = config.roles == "split"
        if self.splits:
            self.model.add_adapter(ADAPTERS[Role.PROPOSE], policy.peft_config)
            self.act_as(Role.SOLVE)
        keep_precision(self.accelerator)
        self.model.train()  # bitsandbytes' 4-bit layers, once run in eval mode on a CPU, pass no gradient
        for parameter in self.trained():
            parameter.data = parameter.data.float()  # TRL rounds adapters over a 4-bit base to bfloat16
        plain = policy.peft_config is None and policy.device.type == "cpu" and policy.compute is torch.float32
        fits = sampler is not None and plain and config.temperature == 1 and config.proposer_temperature in (0, 1)
        self.codec = Codec(policy.tokenizer, style, self.eos_token_ids, policy.untrained)
        self.sampler: Sampler = sampler if fits else choose_sampler(self, policy.compute)
        self.count_tokens = self.codec.count_tokens
        self.rollouts: list[Rollout] = []  # this process's rows of the current step
        self.scorer = Scorer(self, super()._get_per_token_logps_and_entropies)
        self._selfplay_step, self._sampling_calls = -1, 0  # -1: before the first step; the sampling calls made in it
        self.rows_at_once = config.micro_batch_size  # of one forward and backward pass; halved where memory runs out
        self.current_gradient_accumulation_steps = args.gradient_accumulation_steps  # the self-test precedes `train`

    @property
    def steps_done(self) -> int:
        """Self-play steps finished, those before a resume included."""
        return self.state.global_step // self.config.updates_per_step

    @property
    def is_sharded(self) -> bool:
        """Under FSDP or DeepSpeed: every process must make the same passes."""
        return self.is_fsdp_enabled or self.is_deepspeed_enabled

    @property
    def can_recover(self) -> bool:
        """Whether halving is possible: one process with whole weights, so that no other waits in a collective call."""
        return self.accelerator.num_processes == 1 and not self.is_sharded

    def trained(self) -> list[torch.nn.Parameter]:
        """The weights that are trained."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def act_as(self, role: Role) -> None:
        """Sample and score as this role: at its temperature and, with split roles, with its adapter."""
        own = role == Role.PROPOSE and self.config.proposer_temperature
        owner = self.vllm_generation if self.use_vllm else self.generation_config
        owner.temperature = own or self.config.temperature
        if self.splits:
            self.model.set_adapter(ADAPTERS[role])
            self.model.set_requires_grad(list(ADAPTERS.values()))  # `set_adapter` freezes the one at rest

    # ------------------------------------------------------------------ one self-play step in, tensors out

    def _play(self) -> dict[str, Any]:
        """TRL's `rollout_func`: plays one self-play step and gives this process's rows."""
        step, rows, seconds = self.steps_done, self.config.rows, dict(self.selfplay.seconds)
        self._selfplay_step, self._sampling_calls = step, 0
        rollouts = self.selfplay.step(self.generate, step)
        if isinstance(self.sampler, PolicySampler):
            self.sampler.rest()
        self.schedule.played({name: total - seconds[name] for name, total in self.selfplay.seconds.items()})
        if len(rollouts) != rows:
            raise TrainingError(f"step {step} gave {len(rollouts)} rollouts, not the {rows} of the batch")
        self.rollouts = self._rows_here(rollouts)
        return {
            "prompt_ids": [list(r.prompt_ids) for r in self.rollouts],
            "completion_ids": [list(r.completion_ids) for r in self.rollouts],
            # vLLM's are needed for importance weights; otherwise the policy that trains scores its replies itself
            "logprobs": [list(r.logps or ()) for r in self.rollouts] if self.use_vllm else None,
            "attached": [r.reward for r in self.rollouts],
        }

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[str], role: Role = Role.SOLVE, *, greedy: bool = False, tell: Any = None
    ) -> list[Completion]:
        """One completion per prompt, same order. Every process passes the same list and gets all completions.

        Prompts are sorted by length and cut into chunks. A chunk's seed depends on the run's seed, the step, the call
        and the chunk, so a resumed run and any number of processes sample the same. `greedy`: the likeliest tokens, for
        evaluation; leaves the run's random numbers alone. `tell` is told, now and then, how many replies are there.
        """
        self.act_as(role)
        known = {prompt: self.codec.encode(prompt) for prompt in dict.fromkeys(prompts)}
        texts, ids = [known[p][0] for p in prompts], [known[p][1] for p in prompts]
        ended = [self.codec.ended(role, p) for p in prompts]
        order = sorted(range(len(prompts)), key=lambda i: len(ids[i]))
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        chunks = self._chunks(order, world)
        found: list[tuple[int, Sample]] = []
        for number in _dealt(len(chunks), world, rank):
            group = number // self.args.vllm_tensor_parallel_size  # processes with one vLLM together draw the same
            seed = draw_seed(self.config.seed, self._selfplay_step, self._sampling_calls, group)
            if number < len(chunks) or self.is_sharded:  # sharded weights want every process to make the same passes
                chunk = chunks[min(number, len(chunks) - 1)]
                rules = [ended[i] for i in chunk] if any(ended) else None
                samples = self.sampler([ids[i] for i in chunk], greedy=greedy, seed=seed, ended=rules)
                found += zip(chunk, samples, strict=True) if number < len(chunks) else ()
                if tell is not None:
                    tell(len(found) * world)
        self._sampling_calls += not greedy
        of_place = dict(gather_object(found))
        return [self.codec.completion(texts[i], ids[i], of_place[i], ended[i]) for i in range(len(prompts))]

    def _chunks(self, order: list[int], world: int) -> list[list[int]]:
        """Which prompts are sampled together. vLLM wants one call per process with equally many prompts."""
        if self.use_vllm:
            filled = order + order[:1] * (-len(order) % world)
            return [filled[rank::world] for rank in range(world)] if filled else []
        size = self.config.generation_chunk
        return [order[i : i + size] for i in range(0, len(order), size)]

    def _rows_here(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """This process's rows, longest first within each update: those of a micro-batch are about equally long, or,
        where prompts are packed, they answer as few prompts as possible.

        Update u is the u-th contiguous block of `rollouts`. Its micro-batches are dealt to the processes, so
        that the number of processes changes neither an update's rows nor the rows that share a micro-batch. Of split
        roles one comes after the other, each with whole micro-batches, so that each micro-batch holds one role.
        """
        block, micro = len(rollouts) // self.config.updates_per_step, self.config.micro_batch_size
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        mine: list[Rollout] = []
        for start in range(0, len(rollouts), block):
            rows = sorted(rollouts[start : start + block], key=lambda r: -len(r.prompt_ids) - len(r.completion_ids))
            parts = [[row for row in rows if row.role == role] for role in Role] if self.splits else [rows]
            if self.scorer.packs:
                parts = [batch for part in parts for batch in micro_batches(part, micro)]
            ordered = list(chain(*parts))
            for number in _dealt(block // micro, world, rank):
                mine += ordered[number * micro : (number + 1) * micro]
        return mine

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, torch.Tensor]:
        """The next micro-batch, after playing a step where one begins. A micro-batch (dict) is returned as it is.

        TRL's method without its shuffle, and with our advantages in the place of TRL's: update u gets the u-th block
        of rows. Those of the first update need no old log-probabilities, unless some were kept from sampling.
        """
        if isinstance(generation_batch, dict):
            return generation_batch
        parts = self.args.steps_per_generation
        if self._step % parts == 0:
            batch = self._generate_and_score_completions(generation_batch)
            rows, device = self.rollouts, self.args.device
            batch["weights"] = torch.tensor([r.weight for r in rows], device=device)
            batch["advantages"] = torch.tensor([r.advantage * r.weight for r in rows], device=device)
            if self.splits or self.config.proposer_temperature:
                batch["proposes"] = torch.tensor([r.role == Role.PROPOSE for r in rows], device=device)
            self._buffered_inputs = split_tensor_dict(batch, parts)
            if self.scorer.scores_itself(len(rows)):
                for first in (batch, *self._buffered_inputs[: self.args.gradient_accumulation_steps]):
                    first.pop("old_per_token_logps", None)
            every = self.config.gradient_share_every
            if every and (self.steps_done + 1) % every == 0:
                for name, share in gradient_shares(self, batch).items():
                    self._metrics["train"][name].append(share)
        return self._buffered_inputs[self._step % parts]

    # ------------------------------------------------------------------ the loss

    def _get_per_token_logps_and_entropies(
        self, model, input_ids_BT, attention_mask_BT, logits_to_keep, batch_size=None, compute_entropy=False, **kwargs
    ):
        """TRL's method: the loss asks with `compute_entropy`; without it, TRL asks for the old ones of `rollouts`."""
        return self.scorer.replies(
            model, input_ids_BT, attention_mask_BT, logits_to_keep, batch_size, compute_entropy, **kwargs
        )

    def _compute_loss(self, model, inputs):
        """TRL's token mean of the clipped objective, with entropy bonus and KL penalty weighted like the advantages.

            loss = (sum_rows  sum_tokens  -w min(r A, clip(r) A) - w entropy_coef H + w kl_coef k3) / tokens
            k3   = q/p - log(q/p) - 1,   p the policy's probability of the token, q that of the model without adapter

        A padding row, w = 0, counts for nothing. (TRL's own bonus is a mean over each micro-batch, and its KL a mean
        over all rows: they would count padding, and the bonus would change with `micro_batch_size`.)
        """
        role = Role.PROPOSE if "proposes" in inputs and bool(inputs["proposes"].all()) else Role.SOLVE
        self.scorer.proposes_B = inputs.get("proposes")
        base_BT = self.scorer.base(inputs) if self.config.kl_coef else None
        self.act_as(role)
        loss = super()._compute_loss(model, inputs)
        logps_BT, entropies_BT = self.scorer.taken()
        world = self.accelerator.num_processes
        if self.splits and (world > 1 or model is not self.model):  # DDP waits for all weights: those at rest get zeros
            rest = f".{ADAPTERS[Role.PROPOSE if role == Role.SOLVE else Role.SOLVE]}."
            idle = [p.sum() for name, p in self.model.named_parameters() if ".lora_" in name and rest in name]
            loss = loss + 0.0 * torch.stack(idle).sum()
        if not self.config.entropy_coef and base_BT is None:
            return loss
        share = self.current_gradient_accumulation_steps / (world * self.args.steps_per_generation)
        tokens = inputs["num_items_in_batch"] * share
        weights_BT = inputs["completion_mask"] * inputs["weights"][:, None]
        if self.config.entropy_coef:
            loss = loss - self.config.entropy_coef * (entropies_BT * weights_BT).sum() / tokens
        if base_BT is not None:
            k3_BT = (base_BT - logps_BT).exp() - (base_BT - logps_BT) - 1
            loss = loss + self.config.kl_coef * (k3_BT * weights_BT).sum() / tokens
            counted_BT = weights_BT > 0
            sums = torch.stack([(k3_BT.detach() * counted_BT).sum(), counted_BT.sum()])
            total, counted = self.accelerator.reduce(sums, reduction="sum").tolist()
            self._metrics["train"]["kl"].append(total / max(counted, 1.0))
        return loss

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward of one micro-batch, in as many parts as fit. (TRL's adds a counter and a clock only.)

        The loss is a sum over rows divided by the tokens of the whole update, so parts give the same gradient. A
        backward pass that runs out of memory half-way has already added to some gradients, so the update's earlier
        micro-batches are played again.
        """
        batch = self._prepare_inputs(inputs)
        if self._step % self.current_gradient_accumulation_steps == 0:
            self._update, self._counters = [], copy.deepcopy(self._metrics["train"])
        self._update.append(batch)
        waiting = [batch]
        while True:
            try:
                for one in waiting:
                    loss = self._in_parts(model, one, num_items_in_batch)
                break
            except Exception as error:
                self._halve_micro_batch(error)
            clear_device_cache(garbage_collection=True)  # here, because the error's traceback kept tensors alive
            model.zero_grad(set_to_none=True)
            self._metrics["train"], waiting = copy.deepcopy(self._counters), self._update
        self._step += 1
        return loss

    def _in_parts(self, model: Any, batch: dict[str, Any], num_items_in_batch: Any) -> torch.Tensor:
        rows, size = len(batch["advantages"]), self.rows_at_once
        parts = [self.rows_of(batch, slice(start, start + size)) for start in range(0, rows, size)]
        return torch.stack([Trainer.training_step(self, model, part, num_items_in_batch) for part in parts]).sum()

    @staticmethod
    def rows_of(batch: dict[str, Any], rows: Any) -> dict[str, Any]:
        """Some rows of TRL's batch: of each tensor those of its first dimension; what has no rows (counts) stays."""
        return {name: x[rows] if isinstance(x, torch.Tensor) and x.dim() else x for name, x in batch.items()}

    def _halve_micro_batch(self, error: Exception) -> None:
        """Called while `error` is handled: raises it again unless halving may help."""
        if not should_reduce_batch_size(error):
            raise error
        half = -(-self.rows_at_once // 2)
        if not self.can_recover:
            raise TrainingError(
                "out of memory in the update, and several processes cannot halve micro-batches alone; go on with "
                f"`azr-lite resume {self.args.output_dir} --micro-batch-size {half}` and as many processes"
            ) from error
        if self.rows_at_once == 1:
            raise TrainingError(
                "out of memory with a single sequence at a time; lower max_prompt_tokens, max_reply_tokens, or switch "
                "gradient_checkpointing on (azr-lite plan says what fits)"
            ) from error
        self.rows_at_once = half
        self.note(f"out of memory in the update: micro-batches are now {half} sequences (the update stays the same)")

    # ------------------------------------------------------------------ checkpoints

    def _save_checkpoint(self, model, trial) -> None:
        """transformers' checkpoint (TRL's adds a model card), then selfplay.json and the seal that makes it whole."""
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            shutil.rmtree(folder, ignore_errors=True)  # what a killed run left half-written
        self.accelerator.wait_for_everyone()
        reason = why_not(lambda: Trainer._save_checkpoint(self, model, trial))
        if reason := reason or why_not(lambda: self.args.should_save and seal(folder, self.selfplay.state_dict())):
            abandon(folder, reason, expected_bytes(self.trained()))

    def train(self, resume_from_checkpoint: str | Path | None = None, **kwargs: Any) -> Any:
        """transformers' `train`; it resumes from a whole checkpoint only, and the self-play's state comes back too."""
        if resume_from_checkpoint:
            self.selfplay.load_state_dict(load_state(resume_from_checkpoint))
        try:
            return super().train(resume_from_checkpoint and str(resume_from_checkpoint), **kwargs)
        except Exception as error:
            if not should_reduce_batch_size(error):
                raise
            raise TrainingError(
                f"out of memory where halving does not help: {first_line(error)}; use "
                "optimizer='adamw_8bit', tuning='lora' or a smaller model (azr-lite plan says what fits)"
            ) from error

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """transformers', which leaves only the active adapter trainable, and the model in eval mode."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.model.train()
        self.act_as(Role.SOLVE)


def _dealt(count: int, world: int, rank: int) -> list[int]:
    """Numbers of the parts that a process gets of `count`, filled up to a multiple of `world`.

    They are dealt back and forth, because parts are sorted by length: of four, two processes get 0, 3 and 1, 2.
    """
    rounds = range(-(-count // world))
    return [turn * world + (world - 1 - rank if turn % 2 else rank) for turn in rounds]


def _attached_reward(completions: list[str], attached: list[float], **_: Any) -> list[float]:
    """TRL wants a reward function; rewards were settled in self-play, and only TRL's statistics read these."""
    return attached
