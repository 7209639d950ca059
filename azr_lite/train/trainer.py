"""Self-play on TRL: a GRPOTrainer whose batch comes from `SelfPlay.step` and whose advantages are TRR++."""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import PrinterCallback, Trainer
from trl import GRPOTrainer
from trl.trainer.utils import split_tensor_dict

from azr_lite.codec import Codec
from azr_lite.config import Config
from azr_lite.errors import TrainingError
from azr_lite.prompts.base import Style
from azr_lite.selfplay import SelfPlay
from azr_lite.train.adapters import SplitRoles, protect_frozen_weights
from azr_lite.train.arguments import training_arguments
from azr_lite.train.callbacks import Reports, Schedule
from azr_lite.train.checkpoints import abandon, expected_bytes, load_state, seal, writing_failed
from azr_lite.train.diagnostics import gradient_shares
from azr_lite.train.distributed import keep_precision, rows_of_rank
from azr_lite.train.generation import Generation, Sampler
from azr_lite.train.memory import OutOfMemoryRecovery, free_memory, in_halves, is_out_of_memory, rows_of
from azr_lite.train.policy import Policy
from azr_lite.triplet import Role, Rollout


class SelfPlayTrainer(OutOfMemoryRecovery, Generation, GRPOTrainer):
    """A GRPOTrainer whose batches are self-play steps. Every process calls every method with the same arguments (SPMD).

    The way of a rollout: TRL calls `_play` (its `rollout_func`), turns this process's rows into tensors and buffers
    them; `_generate_and_score_completions` adds advantages and weights; `_prepare_inputs` gives each update its block
    of rows; `_compute_loss` makes the loss. Reports, saving and stopping are callbacks (train/callbacks.py).

    Overridden, because TRL 1.16 and transformers have no hook for it:

    * `_generate_and_score_completions`: advantages of our own (TRL's maintainers name this way, trl#4525).
    * `_prepare_inputs`: TRL shuffles rows between the updates of a step; ours stay in their blocks.
    * `_get_per_token_logps_and_entropies`: padding is trimmed per micro-batch; those kept from sampling are used.
    * `_compute_loss`: the role's adapter, an entropy bonus per token, a loss that is not finite.
    * `_get_grad_norm`: a gradient that is not finite, seen before the optimiser moves.
    * `training_step` (memory.py): recovery from running out of memory.
    * `_save_checkpoint`, `_load_from_checkpoint`, `train`: full disks; both adapters trainable; the self-play's state.

    Handed on outside TRL's arguments: `rollouts` (this process's rows of the current step), `_entropies_BT` (TRL's
    loss does not return them), and the two numbers that seed sampling (generation.py).
    """

    def __init__(
        self,
        config: Config,
        policy: Policy,
        style: Style,
        selfplay: SelfPlay,
        run_dir: Path,
        *,
        schedule: Schedule | None = None,
        on_begin: Callable[[], None] = lambda: None,
        on_step: Callable[[dict[str, Any]], None] = lambda report: None,
        note: Callable[[str], None] = lambda line: None,
        sampler: Sampler | None = None,
    ) -> None:
        """`on_begin`: called inside `train`, before the first step, when the weights are where they stay. `on_step`:
        called with the report of each step. `note`: takes sentences for people. `sampler` (nano's) serves where it
        applies: all weights trained, float32 on a CPU, the whole distribution at temperature 1.

        ConfigError where the batch cannot be split over the processes.
        """
        args = training_arguments(config, policy, run_dir)
        self.config, self.selfplay, self.note = config, selfplay, note
        self.schedule = schedule or Schedule(config, run_dir, note)
        self.reports = Reports(config.updates_per_step, selfplay.seconds, on_begin, on_step)
        super().__init__(
            model=policy.model,
            args=args,
            processing_class=policy.tokenizer,
            reward_funcs=[_attached_reward],
            rollout_func=lambda prompts, trainer: trainer._play(),  # the prompts are placeholders
            # one epoch is one self-play step
            train_dataset=Dataset.from_dict({"prompt": [""] * (config.rows // args.num_generations)}),
            peft_config=policy.peft_config,
            callbacks=[self.reports, self.schedule],
        )
        self.remove_callback(PrinterCallback)
        self.split = SplitRoles(self.model, policy.peft_config) if config.roles == "split" else None
        if self.use_vllm and policy.peft_config is not None:
            protect_frozen_weights(self.model, self.vllm_generation)
        keep_precision(self.accelerator)
        self.model.train()  # bitsandbytes' 4-bit layers, once run in eval mode on a CPU, pass no gradient
        for parameter in self.trained():
            parameter.data = parameter.data.float()  # TRL rounds adapters over a 4-bit base to bfloat16
        plain = policy.peft_config is None and policy.device.type == "cpu" and policy.compute is torch.float32
        self.sampler = sampler if plain and config.temperature == 1 else None
        self.codec = Codec(policy.tokenizer, style, self.eos_token_ids, policy.untrained)
        self.count_tokens = self.codec.count_tokens
        self.rollouts: list[Rollout] = []
        self._entropies_BT: torch.Tensor | None = None
        # until `train` sets it; the self-test comes before
        self.current_gradient_accumulation_steps = args.gradient_accumulation_steps

    @property
    def steps_done(self) -> int:
        """Self-play steps finished, those before a resume included."""
        return self.state.global_step // self.config.updates_per_step

    def trained(self) -> list[torch.nn.Parameter]:
        """The weights that are trained."""
        return [p for p in self.model.parameters() if p.requires_grad]

    # ------------------------------------------------------------------ one self-play step in, tensors out

    def _play(self) -> dict[str, Any]:
        """TRL's `rollout_func`: plays one self-play step and gives this process's rows."""
        c, step = self.config, self.steps_done
        self._selfplay_step, self._sampling_calls = step, 0
        rollouts = self.selfplay.step(self.generate, step)
        self.reports.play_ended()
        if len(rollouts) != c.rows:
            raise TrainingError(
                f"step {step} gave {len(rollouts)} rollouts, not the {c.rows} of the batch SelfPlay must fill"
            )
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        by_role = self.split is not None
        self.rollouts = rows_of_rank(rollouts, c.updates_per_step, c.micro_batch_size, rank, world, by_role=by_role)
        return {
            "prompt_ids": [list(r.prompt_ids) for r in self.rollouts],
            "completion_ids": [list(r.completion_ids) for r in self.rollouts],
            # vLLM's are needed for importance weights; otherwise the policy that trains scores its replies itself
            "logprobs": [list(r.logps or ()) for r in self.rollouts] if self.use_vllm else None,
            "attached": [r.reward for r in self.rollouts],
        }

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """One self-play step (`_play`) as TRL's tensors, with our advantages in the place of TRL's."""
        batch = super()._generate_and_score_completions(inputs)
        rows, device = self.rollouts, self.accelerator.device
        batch["weights"] = torch.tensor([r.weight for r in rows], device=device)
        batch["advantages"] = torch.tensor([r.advantage * r.weight for r in rows], device=device)
        if self.split is not None:
            batch["proposes"] = torch.tensor([r.role == Role.PROPOSE for r in rows], device=device)
        every = self.config.gradient_share_every
        if every and (self.steps_done + 1) % every == 0:
            self._log_gradient_shares(batch)
        return batch

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, torch.Tensor]:
        """TRL's method without its shuffle: update u gets the u-th block of rows. A micro-batch (dict) is returned."""
        if isinstance(generation_batch, dict):
            return generation_batch
        parts = self.args.steps_per_generation
        place = self._step % parts
        if place == 0:
            self._buffered_inputs = split_tensor_dict(self._generate_and_score_completions(generation_batch), parts)
        return self._buffered_inputs[place]

    # ------------------------------------------------------------------ the loss

    def _get_per_token_logps_and_entropies(
        self, model, input_ids_BT, attention_mask_BT, logits_to_keep, batch_size=None, compute_entropy=False, **kwargs
    ):
        """TRL's method, one micro-batch at a time, each only as wide as its longest row.

        The loss asks with `compute_entropy`. Without it TRL asks for the old log-probabilities of `rollouts`: those
        of two roles go through their adapters, and those kept from sampling are given as they are.

        Replies end at different columns, so rows are shifted to the right edge first, and what comes back is shifted
        back.
        """
        of_old = self.rollouts if not compute_entropy else []
        if of_old and (sampled_BT := self._sampled_logps()) is not None:
            return sampled_BT, None, None
        B, width = input_ids_BT.shape
        columns_T = torch.arange(width, device=input_ids_BT.device)
        parts: list[Any] = []
        of_trl = super()._get_per_token_logps_and_entropies

        def score(rows: torch.Tensor) -> None:
            if of_old:
                self.act_as(of_old[int(rows[0])].role)
            mask_BT = attention_mask_BT[rows]
            padding_B = width - 1 - (columns_T * mask_BT).amax(dim=1)  # columns after the reply's last token
            shifted_BT = (columns_T - padding_B[:, None]) % width
            mask_BT, ids_BT = mask_BT.gather(1, shifted_BT), input_ids_BT[rows].gather(1, shifted_BT)
            kept = logits_to_keep - int(padding_B.min())  # columns of the longest reply among these rows
            # columns before the first are padding in every row
            first = min(int(mask_BT.any(dim=0).nonzero()[0]), width - kept - 1)
            found = of_trl(
                model, ids_BT[:, first:], mask_BT[:, first:], kept, compute_entropy=compute_entropy, **kwargs
            )
            sources_BT = columns_T[:logits_to_keep] + (kept - logits_to_keep + padding_B)[:, None]  # undoes the shift
            parts.append([_take_columns(x, sources_BT) if x is not None and x.dim() == 2 else x for x in found])

        for rows in torch.arange(B).split(batch_size or B):
            if torch.is_grad_enabled():
                score(rows)  # halves would keep as much for the backward pass: `training_step` recovers
            else:
                in_halves(score, rows)
        logps, entropies, aux = zip(*parts, strict=True)
        self._entropies_BT = torch.cat(entropies) if compute_entropy else None
        return torch.cat(logps), self._entropies_BT, aux[0] if aux[0] is None else torch.stack(aux).mean()

    def _sampled_logps(self) -> torch.Tensor | None:
        """Log-probabilities kept from sampling save a forward pass, where sampling and scoring compute alike."""
        if self.use_vllm or self.args.bf16 or self.args.fp16 or any(r.logps is None for r in self.rollouts):
            return None
        logps_BT = torch.nn.utils.rnn.pad_sequence([torch.tensor(r.logps) for r in self.rollouts], batch_first=True)
        return logps_BT.to(self.accelerator.device)

    def _compute_loss(self, model, inputs):
        """TRL's token mean of the clipped objective, less the entropy bonus, weighted like the advantages.

        (TRL's own bonus is a mean over each micro-batch: it would count padding rows, and change with
        `micro_batch_size`.)
        """
        role = Role.PROPOSE if "proposes" in inputs and bool(inputs["proposes"].all()) else Role.SOLVE
        self.act_as(role)
        loss = super()._compute_loss(model, inputs)
        world = self.accelerator.num_processes
        if self.split is not None and world > 1:
            loss = loss + self.split.touch(role)
        entropies_BT, self._entropies_BT = self._entropies_BT, None
        if self.config.entropy_coef:
            share = self.current_gradient_accumulation_steps / (world * self.args.steps_per_generation)
            weighted_BT = entropies_BT * inputs["completion_mask"] * inputs["weights"][:, None]
            loss = loss - self.config.entropy_coef * weighted_BT.sum() / (inputs["num_items_in_batch"] * share)
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss of step {self.steps_done} is {loss.item()}; {_REMEDY}")
        return loss

    def _get_grad_norm(self, model, grad_norm=None):
        """Checked before the optimiser moves. (float16's scaler skips such an update by itself.)"""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if not math.isfinite(float(norm)) and self.accelerator.scaler is None:
            raise TrainingError(f"the gradient of step {self.steps_done} has norm {float(norm)}; {_REMEDY}")
        return norm

    # ------------------------------------------------------------------ whose gradient it is

    def _log_gradient_shares(self, batch: dict[str, Any]) -> None:
        """Measure the groups' shares of the first update's gradient and put them among TRL's metrics.

        Left out under FSDP and DeepSpeed, and where memory does not suffice (then `note` says so).
        """
        if self.is_sharded:
            return
        groups = {f"{role}/{name}": [] for role in Role for name in self.config.task_types}
        for place, row in enumerate(self.rollouts[: len(self.rollouts) // self.config.updates_per_step]):
            groups[row.group] += [place] if row.weight else []
        counters, found = copy.deepcopy(self._metrics["train"]), None
        try:
            found = gradient_shares(groups, lambda rows: self.gradient_of(batch, rows))
        except Exception as error:
            if not (is_out_of_memory(error) and self.can_recover):
                raise
        self._metrics["train"] = counters
        if found is None:
            free_memory()
            self.note(
                "out of memory while measuring gradient shares: left out (gradient_share_every=0 switches it off)"
            )
            return
        for name, value in found.items():
            counters[name].append(value)

    def gradient_of(self, batch: dict[str, Any], rows: Sequence[int]) -> list[torch.Tensor]:
        """The part of these rows in the gradient of their update, unclipped: one float32 tensor per trained weight.

        The loss is a sum over rows, so any rows may share a micro-batch. Every process goes through equally many
        micro-batches, filled up with rows of weight 0: TRL's loss exchanges statistics of equal shape.
        """
        trained, device = self.trained(), self.accelerator.device
        size = -(-self.config.micro_batch_size // self._parts)
        most = max(gather_object([len(rows)]))
        total = [torch.zeros_like(p, dtype=torch.float32) for p in trained]
        for start in range(0, most, size):
            own = list(rows[start : start + size])
            part = rows_of(batch, torch.tensor(own + [0] * (min(size, most - start) - len(own)), device=device))
            for name in ("advantages", "weights"):
                part[name][len(own) :] = 0.0
            with self.compute_loss_context_manager():
                loss = self._compute_loss(self.model, part)
            for summed, found in zip(total, torch.autograd.grad(loss, trained, allow_unused=True), strict=True):
                if found is not None:  # None: the other role's adapter
                    summed += found
        if self.accelerator.num_processes > 1:
            total = [self.accelerator.reduce(summed, reduction="mean") for summed in total]
        return total

    # ------------------------------------------------------------------ checkpoints

    def _save_checkpoint(self, model, trial) -> None:
        """transformers' checkpoint (TRL's adds a model card), then selfplay.json and the seal that makes it whole."""
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            shutil.rmtree(folder, ignore_errors=True)  # what a killed run left half-written
        self.accelerator.wait_for_everyone()
        reason = _attempt(lambda: Trainer._save_checkpoint(self, model, trial))
        if not reason:
            reason = _attempt(lambda: seal(folder, self.selfplay.state_dict()) if self.args.should_save else None)
        if reason:
            abandon(folder, reason, expected_bytes(self.trained()))

    def train(self, resume_from_checkpoint: str | Path | None = None, **kwargs: Any) -> Any:
        """transformers' `train`; it resumes from a whole checkpoint only, and the self-play's state comes back too."""
        if resume_from_checkpoint:
            self.selfplay.load_state_dict(load_state(resume_from_checkpoint))
        try:
            return super().train(resume_from_checkpoint and str(resume_from_checkpoint), **kwargs)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(
                f"out of memory where halving does not help: {str(error).splitlines()[0][:120]}; use "
                "optimizer='adamw_8bit', tuning='lora' or a smaller model (azr-lite plan says what fits)"
            ) from error

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """transformers', which leaves only the active adapter trainable, and the model in eval mode."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.model.train()
        self.act_as(Role.SOLVE)


def _attempt(write: Callable[[], Any]) -> str:
    """Why this could not be written on some process, the same words on all, or nothing. Other errors are raised."""
    reason = ""
    try:
        write()
    except Exception as error:
        if not (reason := writing_failed(error)):
            raise
    return next(filter(None, gather_object([reason])), "")


def _take_columns(values_BT: torch.Tensor, columns_BT: torch.Tensor) -> torch.Tensor:
    """Of each row the values at its columns; zero for a column past the last. The two may differ in width."""
    width = values_BT.shape[1]
    return values_BT.gather(1, columns_BT.clamp(max=width - 1)) * (columns_BT < width)


_REMEDY = "lower learning_rate, or use dtype='float32'; `azr-lite resume` goes back to the last checkpoint"


def _attached_reward(completions: list[str], attached: list[float], **_: Any) -> list[float]:
    """TRL wants a reward function; rewards were settled in self-play, and only TRL's statistics read these."""
    return attached
