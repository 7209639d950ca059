"""Recovery from running out of memory: micro-batches and sampling chunks are halved, and the run goes on.

The loss is a sum over rows divided by the tokens of the whole update, so a micro-batch in two halves gives the same
gradient. A backward pass that fails half-way has already added to some gradients, so the update's earlier micro-batches
are played again. Several processes stop with a sentence instead: their collective calls must stay in step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from transformers import Trainer

from azr_lite.codec import draw_seed
from azr_lite.errors import TrainingError

Result = TypeVar("Result")


def is_out_of_memory(error: Exception) -> bool:
    """CUDA's error, and the one of torch's allocator on CPUs."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)


def free_memory() -> None:
    """Give back what the failed work held. Call it outside the except block: a traceback keeps tensors alive."""
    clear_device_cache(garbage_collection=True)


def in_halves(work: Callable[[Any], Result], rows: Any) -> list[Result]:
    """`work` on all rows at once, or on halves (of halves …) where memory runs out; results in the rows' order."""
    try:
        return [work(rows)]
    except Exception as error:
        if len(rows) == 1 or not is_out_of_memory(error):
            raise
    free_memory()
    half = -(-len(rows) // 2)
    return in_halves(work, rows[:half]) + in_halves(work, rows[half:])


def rows_of(batch: dict[str, Any], rows: slice) -> dict[str, Any]:
    """Some rows of TRL's batch: tensors are indexed in their first dimension; what has no rows (counts, None) stays."""
    return {name: x[rows] if isinstance(x, torch.Tensor) and x.dim() else x for name, x in batch.items()}


class OutOfMemoryRecovery:
    """Mixin of the trainer that survives running out of memory. Expects a GRPOTrainer beside it."""

    note: Callable[[str], None]
    _parts = 1  # pieces a micro-batch is split into
    _pieces = 1  # pieces a sampling chunk is split into

    @property
    def is_sharded(self) -> bool:
        """Under FSDP or DeepSpeed: every process must make the same passes."""
        return self.is_fsdp_enabled or self.is_deepspeed_enabled

    @property
    def can_recover(self) -> bool:
        """Whether halving is possible: one process with whole weights, so that no other waits in a collective call."""
        return self.accelerator.num_processes == 1 and not self.is_sharded

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward of one micro-batch, in as many parts as fit. (TRL's adds a counter and a clock only.)"""
        batch = self._prepare_inputs(inputs)
        if self._step % self.current_gradient_accumulation_steps == 0:
            self._update, self._seen = [], copy.deepcopy(self._metrics["train"])
        waiting = [batch]
        while True:
            try:
                for one in waiting:
                    loss = self._in_parts(model, one, num_items_in_batch)
                break
            except Exception as error:
                self._halve_micro_batch(error, len(batch["advantages"]))
            free_memory()
            model.zero_grad(set_to_none=True)
            self._metrics["train"], waiting = copy.deepcopy(self._seen), [*self._update, batch]
        self._update.append(batch)
        self._step += 1
        return loss

    def _in_parts(self, model: Any, batch: dict[str, Any], num_items_in_batch: Any) -> torch.Tensor:
        rows = len(batch["advantages"])
        size = -(-rows // self._parts)
        parts = [rows_of(batch, slice(start, start + size)) for start in range(0, rows, size)]
        return torch.stack([Trainer.training_step(self, model, part, num_items_in_batch) for part in parts]).sum()

    def _halve_micro_batch(self, error: Exception, rows: int) -> None:
        """Called while `error` is handled: raises it again unless halving may help."""
        if not is_out_of_memory(error):
            raise error
        if not self.can_recover:
            raise TrainingError(
                "out of memory in the update, and several processes cannot halve micro-batches alone; go on with "
                f"`azr-lite resume {self.args.output_dir} --micro-batch-size {max(1, rows // 2)}` and as many processes"
            ) from error
        if self._parts >= rows:
            raise TrainingError(
                "out of memory with a single sequence at a time; lower max_prompt_tokens, max_reply_tokens, or switch "
                "gradient_checkpointing on (azr-lite plan says what fits)"
            ) from error
        self._parts = min(2 * self._parts, rows)
        size = -(-rows // self._parts)
        self.note(f"out of memory in the update: micro-batches are now {size} sequences (the update stays the same)")

    def sample_in_pieces(
        self, sample: Callable[[Sequence[Any], int], list[Any]], prompts: Sequence[Any], seed: int
    ) -> list[Any]:
        """`sample(prompts, seed)` over a chunk's pieces, of which there are twice as many once memory has run out."""
        while True:
            size = max(1, -(-len(prompts) // self._pieces))
            try:
                found = []
                for piece, start in enumerate(range(0, len(prompts), size)):
                    found += sample(prompts[start : start + size], draw_seed(seed, piece) if piece else seed)
                return found
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    raise TrainingError(
                        "out of memory while sampling; lower generation_chunk or max_reply_tokens"
                    ) from error
            self._pieces *= 2
            self.note(f"out of memory while sampling: chunks are now {-(-len(prompts) // self._pieces)} replies")
            free_memory()
