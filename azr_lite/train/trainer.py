"""Self-play on TRL: `SelfPlayTrainer` is a GRPOTrainer whose batch comes from `SelfPlay.step` and whose advantages are TRR++.

Comes in: a `Policy`, a `SelfPlay`, a `Config`.  Goes out: updated weights, checkpoints, one report a self-play step.
Not covered: who earns what (`selfplay.py`, `advantages.py`), loading (`models.py`), when to save and stop (`boundary.py`), the run
directory's logs (`loop.py`).

TRL keeps the PPO-clip loss, the chunked LM head, gradient accumulation, processes, adapters and checkpoints.
The private TRL names this file leans on are listed, with what to mend, in tests/test_drift.py.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import split_tensor_dict

from azr_lite.codec import Codec
from azr_lite.config import Config
from azr_lite.errors import ConfigError, TrainingError
from azr_lite.prompts.base import Style
from azr_lite.train.adapters import SplitRoles, protect_frozen_weights
from azr_lite.train.checkpoints import (
    Budget,
    abandon,
    drop_old,
    last_whole_checkpoint,
    load_state,
    seal,
    size_of,
    writing_failed,
)
from azr_lite.train.diagnostics import gradient_shares
from azr_lite.train.distributed import ShardedExecutor, keep_precision, rows_of_rank
from azr_lite.train.generation import Generation, Sampler
from azr_lite.train.memory import OutOfMemoryRecovery, in_halves, is_out_of_memory
from azr_lite.train.policy import Policy
from azr_lite.triplet import Completion, Role, Rollout


def training_arguments(config: Config, policy: Policy, run_dir: Path) -> GRPOConfig:
    """One generation batch is one self-play step; ConfigError where it cannot be split over the processes."""
    on_cpu = policy.device.type == "cpu"
    world = TrainingArguments(output_dir=str(run_dir), use_cpu=on_cpu, report_to="none").world_size
    micro_batches = config.micro_batches(world)
    return GRPOConfig(
        output_dir=str(run_dir),
        use_cpu=on_cpu,
        seed=config.seed,
        bf16=policy.compute is torch.bfloat16,
        fp16=policy.compute is torch.float16,
        # one generation batch = one self-play step = `updates_per_step` optimiser steps
        max_steps=config.steps * config.updates_per_step,
        per_device_train_batch_size=config.micro_batch_size,
        gradient_accumulation_steps=micro_batches,
        steps_per_generation=micro_batches * config.updates_per_step,
        num_generations=2,  # TRL's least; advantages are replaced, so its prompt groups mean nothing
        # the loss
        loss_type="dapo",
        epsilon=config.clip,
        beta=0.0,
        scale_rewards="none",
        mask_truncated_completions=False,  # a cut reply must earn its -1
        # sampling
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=0,
        max_completion_length=config.max_reply_tokens,
        use_transformers_continuous_batching=config.continuous_batching,
        **_vllm(config, on_cpu),
        # the optimiser
        optim=_optimizer(config, on_cpu),
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant",
        adam_beta2=config.adam_beta2,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        gradient_checkpointing=config.gradient_checkpointing,
        disable_dropout=True,
        ddp_find_unused_parameters=False,  # split roles touch the idle adapter (`adapters.SplitRoles.touch`)
        # watching and saving
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",  # trackers get a step's own numbers, not an update's: `trackers.py`
        disable_tqdm=True,
        save_strategy="steps",
        save_steps=(config.save_every or config.steps) * config.updates_per_step,
        save_total_limit=None,  # `_save_checkpoint` drops old ones itself, after the new one is whole
        dataloader_pin_memory=False,
    )


def _optimizer(config: Config, on_cpu: bool) -> str:
    if config.optimizer == "adamw":
        return "adamw_torch" if on_cpu else "adamw_torch_fused"
    if on_cpu:
        raise ConfigError(
            f"optimizer={config.optimizer!r} runs on GPUs only, and there is none here; use optimizer='adamw'"
        )
    return config.optimizer


def _vllm(config: Config, on_cpu: bool) -> dict[str, Any]:
    """TRL's words for vLLM. Of its importance-sampling modes only one is offered: the sequence modes (TRL's default) drop or
    cap whole replies of thousands of tokens as soon as the sum of their small differences is large (trl#4772)."""
    if config.continuous_batching and on_cpu:
        raise ConfigError("continuous_batching is for 16-bit models on GPUs, and there is none here; switch it off")
    if config.generation == "transformers":
        return {}
    require_vllm(config, on_cpu)
    return {
        "use_vllm": True,
        "vllm_mode": "colocate" if config.generation == "vllm" else "server",
        "vllm_server_base_url": config.vllm_server if config.generation == "vllm-server" else None,
        "vllm_gpu_memory_utilization": config.vllm_memory,
        "vllm_enable_sleep_mode": config.vllm_sleep and config.generation == "vllm",
        "vllm_tensor_parallel_size": config.vllm_tensor_parallel,
        "vllm_max_model_length": config.max_prompt_tokens + config.max_reply_tokens,
        "vllm_importance_sampling_correction": config.importance_sampling != "off",
        "vllm_importance_sampling_mode": "token_truncate",
    }


def require_vllm(config: Config, on_cpu: bool) -> None:
    """ConfigError where vLLM cannot run at all."""
    if on_cpu:
        raise ConfigError(
            f"generation={config.generation!r} needs a GPU, and there is none here; use generation='transformers'"
        )
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            f"generation={config.generation!r} needs vLLM; pip install 'azr-lite[vllm]', or use generation='transformers'"
        )


class Boundary(TrainerCallback):
    """Saves and stops between self-play steps, never inside one."""

    def __init__(self, trainer: SelfPlayTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        state.save_steps = args.save_steps  # a resumed state brings the interval it was saved with
        if self.trainer.on_begin is not None:
            self.trainer.on_begin()
        self.trainer.clock.restart()
        if not self.trainer.budget.save_s:
            self.trainer.budget.expect_bytes(self.trainer.expected_bytes())
        self.trainer.budget.train_begins()

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % self.trainer.config.updates_per_step == 0:
            self.trainer.budget.step_begins()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Decide together whether to save or stop: any process may ask to stop, the main process's clock says when time is up."""
        config, budget = self.trainer.config, self.trainer.budget
        if state.global_step % config.updates_per_step:
            return
        budget.step_ends()
        late = budget.out_of_time(evaluations=2 if config.eval_every else 1)
        asked = gather_object([(self.trainer.stop_asked, late, budget.save_due())])
        _, late, due = asked[0]
        if late and not control.should_training_stop:
            self.trainer.stopped = "max_hours"
        if late or any(stop for stop, _, _ in asked):
            control.should_training_stop = control.should_save = True
        elif due:
            control.should_save = True


class Clock:
    """Where one self-play step's wall time went, in seconds. `seconds`: what self-play counts for generation and sandbox, growing."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.seconds = seconds
        self.restart()

    def restart(self) -> None:
        """A new step begins now."""
        self.began, self.played, self.before = time.perf_counter(), 0.0, dict(self.seconds)

    @contextmanager
    def playing(self) -> Iterator[None]:
        """Around the self-play; what comes after it is the update."""
        yield
        self.played = time.perf_counter()

    def read(self) -> dict[str, float]:
        """Seconds for generate, sandbox, update, and the rest (parsing, saving); starts the next step."""
        parts = {name: self.seconds[name] - self.before[name] for name in ("generate", "sandbox")}
        now = time.perf_counter()
        parts["update"] = now - self.played
        parts["rest"] = max(0.0, now - self.began - sum(parts.values()))
        self.restart()
        return parts


__all__ = ["Player", "SelfPlayTrainer", "ShardedExecutor", "build_trainer", "last_whole_checkpoint"]


class Player(Protocol):
    """What the trainer needs of `SelfPlay`."""

    seconds: dict[str, float]

    def step(self, generate: Callable[[Sequence[str], Role], list[Completion]], step: int) -> list[Rollout]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def build_trainer(
    config: Config,
    policy: Policy,
    style: Style,
    selfplay: Player,
    run_dir: Path,
    *,
    on_step: Callable[[dict[str, Any]], None] | None = None,
    note: Callable[[str], None] = lambda line: None,
    sampler: Sampler | None = None,
) -> SelfPlayTrainer:
    """The trainer of one run. ConfigError where the batch cannot be split over the processes.

    `sampler` (nano's) serves where it applies: all weights trained, float32 on a CPU, the whole distribution at temperature 1.
    """
    plain = policy.peft_config is None and policy.device.type == "cpu" and policy.compute is torch.float32
    plain = plain and config.temperature == config.top_p == 1
    args = training_arguments(config, policy, run_dir)
    return SelfPlayTrainer(
        config, policy, style, selfplay, args, on_step=on_step, note=note, sampler=sampler if plain else None
    )


class SelfPlayTrainer(OutOfMemoryRecovery, Generation, GRPOTrainer):
    """A GRPOTrainer whose batches are self-play steps. Every process calls every method with the same arguments (SPMD)."""

    def __init__(
        self,
        config: Config,
        policy: Policy,
        style: Style,
        selfplay: Player,
        args: GRPOConfig,
        *,
        on_step: Callable[[dict[str, Any]], None] | None = None,
        note: Callable[[str], None] = lambda line: None,
        sampler: Sampler | None = None,
    ) -> None:
        placeholder = Dataset.from_dict(
            {"prompt": [""] * (config.rows // args.num_generations)}
        )  # one epoch is one self-play step
        super().__init__(
            model=policy.model,
            args=args,
            processing_class=policy.tokenizer,
            reward_funcs=[_attached_reward],
            rollout_func=_rows_for_trl,
            train_dataset=placeholder,
            peft_config=policy.peft_config,
        )
        self.split = SplitRoles(self.model, policy.peft_config) if config.roles == "split" else None
        if self.use_vllm and policy.peft_config is not None:
            protect_frozen_weights(self.model, self.vllm_generation)
        keep_precision(self.accelerator)
        self.model.train()  # once run in eval mode on a CPU, bitsandbytes' 4-bit layers pass no gradient; there is no dropout anyway
        for (
            parameter
        ) in self.model.parameters():  # TRL rounds adapters over a 4-bit base to bfloat16; small updates would vanish
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        self.config, self.selfplay, self.on_step, self.note, self.sampler = config, selfplay, on_step, note, sampler
        self.codec = Codec(policy.tokenizer, style, self.eos_token_ids, policy.untrained)
        self.count_tokens = self.codec.count_tokens
        self.rollouts: list[Rollout] = []
        self._scored: list[Rollout] = []  # the rows whose old log-probabilities are being computed
        self.stop_asked = False
        self.budget = Budget(config.save_minutes, config.max_hours)
        self.stopped = ""
        """Name of the setting that ended the run early: max_hours, or stop_patience."""
        self.best_checkpoint: Path | None = None
        """Never dropped, however many newer ones there are."""
        self.on_saved: Callable[[], None] = lambda: None
        """Called on every process when a checkpoint is whole."""
        self.on_begin: Callable[[], None] | None = None
        """Called once inside `train`, before the first step, when the weights are where they stay."""
        self._entropies_BT: torch.Tensor | None = None
        self._sampled_BT: torch.Tensor | None = None
        self._update_logs: list[dict[str, float]] = []
        self._gradient_shares: dict[str, float] = {}
        self.current_gradient_accumulation_steps = (
            args.gradient_accumulation_steps
        )  # until `train` sets it; the self-test comes before
        self.clock = Clock(selfplay.seconds)
        self.remove_callback(PrinterCallback)
        self.add_callback(Boundary(self))

    @property
    def steps_done(self) -> int:
        """Self-play steps finished, those before a resume included."""
        return self.state.global_step // self.config.updates_per_step

    def request_stop(self) -> None:
        """Finish the current self-play step, save, and return from `train`. One process asking is enough."""
        self.stop_asked = True

    def save_now(self, *, stop: str = "") -> None:
        """From inside `on_step`, on every process: save after this step; with `stop` (the setting that says so), end the run too."""
        self.control.should_save = True
        if stop:
            self.stopped, self.control.should_training_stop = stop, True

    # ------------------------------------------------------------------ one self-play step in, tensors out

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """One self-play step. TRL turns this process's rows into tensors; the advantages are ours (TRL's own way, trl#4525)."""
        c = self.config
        self._selfplay_step, self._sampling_calls = self.steps_done, 0
        with self.clock.playing():
            rollouts = self.selfplay.step(self.generate, self._selfplay_step)
        if len(rollouts) != c.rows:
            raise TrainingError(
                f"step {self._selfplay_step} gave {len(rollouts)} rollouts, not the {c.rows} of the batch; SelfPlay must fill it up"
            )
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        self.rollouts = rows_of_rank(
            rollouts, c.updates_per_step, c.micro_batch_size, rank, world, by_role=self.split is not None
        )
        self._sampled_BT, self._scored = self._sampled_logps(), self.rollouts
        batch = super()._generate_and_score_completions(inputs)
        self._sampled_BT, self._scored = None, []
        weights_B = torch.tensor([r.weight for r in self.rollouts], device=self.accelerator.device)
        batch["weights"] = weights_B
        batch["advantages"] = torch.tensor(
            [r.advantage * r.weight for r in self.rollouts], device=self.accelerator.device
        )
        if self.split is not None:
            batch["proposes"] = torch.tensor(
                [r.role == Role.PROPOSE for r in self.rollouts], device=self.accelerator.device
            )
        measure = c.gradient_share_every and (self._selfplay_step + 1) % c.gradient_share_every == 0
        self._gradient_shares = gradient_shares(self, batch) if measure else {}
        return batch

    def act_as(self, role: Role) -> None:
        if self.split is not None:
            self.split.act_as(role)

    def _sampled_logps(self) -> torch.Tensor | None:
        """Log-probabilities kept from sampling save the forward pass for the old ones, where both have the same arithmetic."""
        if self.use_vllm or self.args.bf16 or self.args.fp16 or any(r.logps is None for r in self.rollouts):
            return None
        logps_BT = torch.nn.utils.rnn.pad_sequence([torch.tensor(r.logps) for r in self.rollouts], batch_first=True)
        return logps_BT.to(self.accelerator.device)

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, torch.Tensor]:
        """TRL's method without its shuffle: update u must get the u-th block of rows. A micro-batch (a dict) stays as it is."""
        if isinstance(generation_batch, dict):
            return generation_batch
        place = self._step % self.args.steps_per_generation
        if place == 0:
            self._buffered_inputs = split_tensor_dict(
                self._generate_and_score_completions(generation_batch), self.args.steps_per_generation
            )
        return self._buffered_inputs[place]

    # ------------------------------------------------------------------ the loss

    def _get_per_token_logps_and_entropies(
        self, model, input_ids_BT, attention_mask_BT, logits_to_keep, batch_size=None, **kwargs
    ):
        """TRL's method, one micro-batch at a time, each only as wide as its longest row.

        Replies end at different columns, so rows are first shifted to the right edge, and what comes back is shifted to its place again.
        """
        if self._sampled_BT is not None:
            return self._sampled_BT, None, None
        B, width = input_ids_BT.shape
        columns_T = torch.arange(width, device=input_ids_BT.device)
        parts: list[Any] = []
        of_trl = super()._get_per_token_logps_and_entropies

        def score(rows: torch.Tensor) -> None:
            if self._scored:
                self.act_as(self._scored[int(rows[0])].role)
            mask_BT = attention_mask_BT[rows]
            padding_B = width - 1 - (columns_T * mask_BT).amax(dim=1)  # columns after the reply's last token
            shifted_BT = (columns_T - padding_B[:, None]) % width
            mask_BT, ids_BT = mask_BT.gather(1, shifted_BT), input_ids_BT[rows].gather(1, shifted_BT)
            kept = logits_to_keep - int(padding_B.min())  # columns of the longest reply among these rows
            first = min(
                int(mask_BT.any(dim=0).nonzero()[0]), width - kept - 1
            )  # columns before it are padding in every row
            found = of_trl(model, ids_BT[:, first:], mask_BT[:, first:], kept, **kwargs)
            sources_BT = columns_T[:logits_to_keep] + (kept - logits_to_keep + padding_B)[:, None]  # undoes the shift
            parts.append([_take_columns(x, sources_BT) if x is not None and x.dim() == 2 else x for x in found])

        for rows in torch.arange(B).split(batch_size or B):
            if torch.is_grad_enabled():
                score(rows)  # what is kept for the backward pass is as large in two halves: `training_step` recovers
            else:
                in_halves(score, rows)
        logps, entropies, aux = zip(*parts, strict=True)
        self._entropies_BT = torch.cat(entropies) if entropies[0] is not None else None
        return torch.cat(logps), self._entropies_BT, aux[0] if aux[0] is None else torch.stack(aux).mean()

    def _compute_loss(self, model, inputs):
        """TRL's token mean of the clipped objective, less the entropy bonus, weighted like the advantages.

        (TRL's own bonus is a mean over each micro-batch: it would count padding rows, and change with `micro_batch_size`.)
        """
        role = (
            Role.PROPOSE
            if self.split is not None and bool(inputs.get("proposes", torch.zeros(1)).all())
            else Role.SOLVE
        )
        self.act_as(role)
        loss = super()._compute_loss(model, inputs)
        if self.split is not None and self.accelerator.num_processes > 1:
            loss = loss + self.split.touch(role)
        entropies_BT, self._entropies_BT = self._entropies_BT, None
        if self.config.entropy_coef:
            share = self.current_gradient_accumulation_steps / (
                self.accelerator.num_processes * self.args.steps_per_generation
            )
            weighted_BT = entropies_BT * inputs["completion_mask"] * inputs["weights"][:, None]
            loss = loss - self.config.entropy_coef * weighted_BT.sum() / (inputs["num_items_in_batch"] * share)
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss of step {self._selfplay_step} is {loss.item()}; {_REMEDY}")
        return loss

    def _get_grad_norm(self, model, grad_norm=None):
        """Checked before the optimiser moves. (float16's scaler skips such an update by itself.)"""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if not math.isfinite(float(norm)) and self.accelerator.scaler is None:
            raise TrainingError(f"the gradient of step {self._selfplay_step} has norm {float(norm)}; {_REMEDY}")
        return norm

    # ------------------------------------------------------------------ reports

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Called by transformers after each update; reports a self-play step once, after its last update."""
        super().log(logs, start_time)
        if "loss" not in logs:
            return
        self._update_logs.append(logs)
        if len(self._update_logs) < self.config.updates_per_step:
            return
        seen, self._update_logs = self._update_logs, []
        names = {"loss": "loss", "grad_norm": "grad_norm", "clip_ratio": "clip_ratio/region_mean", "entropy": "entropy"}
        report = {name: math.fsum(log[key] for log in seen) / len(seen) for name, key in names.items()}
        report |= self._gradient_shares
        report |= {"step": self.steps_done - 1, "learning_rate": seen[-1]["learning_rate"], "timing": self.clock.read()}
        if self.on_step is not None:
            self.on_step(report)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: TRL would put a README of its own into the run directory."""

    # ------------------------------------------------------------------ checkpoints

    def _save_checkpoint(self, model, trial) -> None:
        """transformers' checkpoint, then selfplay.json and the seal that makes it whole; then the oldest go."""
        root = Path(self.args.output_dir)
        folder = root / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            shutil.rmtree(folder, ignore_errors=True)  # what a killed run left half-written
        self.accelerator.wait_for_everyone()
        began = self.budget.clock()
        reason = _attempt(lambda: GRPOTrainer._save_checkpoint(self, model, trial))
        if not reason:
            reason = _attempt(lambda: seal(folder, self.selfplay.state_dict()) if self.args.should_save else None)
        if reason:
            whole = last_whole_checkpoint(root)
            abandon(folder, reason, size_of(whole) if whole else self.expected_bytes())
        if self.args.should_save:
            drop_old(root, self.config.keep_checkpoints, self.best_checkpoint)
        self.on_saved()
        self.budget.saved(self.budget.clock() - began)

    def expected_bytes(self) -> float:
        """A checkpoint's size before there is one: what is trained, and two float32 moments for each of its numbers."""
        return sum(p.numel() * (p.element_size() + 8) for p in self.model.parameters() if p.requires_grad)

    def train(self, resume_from_checkpoint: str | Path | None = None, **kwargs: Any) -> Any:
        """transformers' `train`; it resumes from a whole checkpoint only, and the self-play's state comes back with the weights."""
        if resume_from_checkpoint:
            self.selfplay.load_state_dict(load_state(resume_from_checkpoint))
        try:
            return super().train(
                resume_from_checkpoint=str(resume_from_checkpoint) if resume_from_checkpoint else None, **kwargs
            )
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(
                f"out of memory where halving does not help (perhaps the optimiser's state): {str(error).splitlines()[0][:120]}; use optimizer='adamw_8bit', "
                "tuning='lora' or a smaller model (azr-lite plan says what fits)"
            ) from error

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """transformers', which leaves only the active adapter trainable, and the model in eval mode."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.model.train()
        self.act_as(Role.SOLVE)


def _attempt(write: Callable[[], Any]) -> str:
    """Why this could not be written on some process, the same words on all, or nothing. Other errors are raised as they are."""
    reason = ""
    try:
        write()
    except Exception as error:
        reason = writing_failed(error)
        if not reason:
            raise
    return next(filter(None, gather_object([reason])), "")


def _take_columns(values_BT: torch.Tensor, columns_BT: torch.Tensor) -> torch.Tensor:
    """Of each row the values at its columns; zero for a column past the last. The two may differ in width."""
    width = values_BT.shape[1]
    return values_BT.gather(1, columns_BT.clamp(max=width - 1)) * (columns_BT < width)


_REMEDY = "nothing was changed by it: lower learning_rate, or use dtype='float32'; `azr-lite resume` goes back to the last checkpoint"


def _rows_for_trl(prompts: list[str], trainer: SelfPlayTrainer) -> dict[str, Any]:
    """TRL's `rollout_func`: the placeholder prompts are ignored, the rows of this process's self-play are given."""
    rows = trainer.rollouts
    return {
        "prompt_ids": [list(r.prompt_ids) for r in rows],
        "completion_ids": [list(r.completion_ids) for r in rows],
        # vLLM's are needed for importance weights; otherwise the policy that trains scores its replies itself
        "logprobs": [list(r.logps or ()) for r in rows] if trainer.use_vllm else None,
        "attached": [r.reward for r in rows],
    }


def _attached_reward(completions: list[str], attached: list[float], **_: Any) -> list[float]:
    """TRL wants a reward function: rewards were settled in self-play, and serve here for trackers only."""
    return attached
