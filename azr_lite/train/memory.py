"""Recovery from running out of memory: micro-batches and sampling chunks are halved, and the run goes on with the same gradients.

Comes in: work that ran out of memory.  Goes out: the same work in smaller pieces; one line for people.
Not covered: what fits (`hardware.py`); several processes, whose collective calls must stay in step: there the run stops with a
sentence, and `azr-lite resume --micro-batch-size` goes on from the last checkpoint.

The loss is a sum over rows divided by the tokens of the whole update, so a micro-batch in two halves gives the same gradient.
A backward pass that fails half-way has already added to some gradients: the update's earlier micro-batches are played again.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from transformers import Trainer

from azr_lite.errors import TrainingError

Result = TypeVar("Result")


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA's error, and the one of torch's allocator on CPUs."""
    return isinstance(error, Exception) and (
        isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)
    )


def free_memory() -> None:
    """Give back what the failed work held. Call it outside the except block: a traceback keeps tensors alive."""
    gc.collect()
    clear_device_cache()


def in_halves(work: Callable[[Any], Result], rows: Any) -> list[Result]:
    """`work` on all rows at once, or on halves (of halves …) where memory runs out; results in the order of the rows."""
    try:
        return [work(rows)]
    except Exception as error:
        if len(rows) == 1 or not is_out_of_memory(error):
            raise
    free_memory()
    half = -(-len(rows) // 2)
    return in_halves(work, rows[:half]) + in_halves(work, rows[half:])


class OutOfMemoryRecovery:
    """Mixin of the trainer that survives running out of memory. Expects a GRPOTrainer beside it, and `note` for people."""

    note: Callable[[str], None]
    _parts = 1  # pieces a micro-batch is split into
    _pieces = 1  # pieces a sampling chunk is split into

    @property
    def can_recover(self) -> bool:
        """Whether halving is possible: one process with whole weights, so that no other waits in a collective call."""
        return self.accelerator.num_processes == 1 and not (self.is_fsdp_enabled or self.is_deepspeed_enabled)

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
        losses = [
            Trainer.training_step(self, model, rows_of(batch, slice(start, start + size)), num_items_in_batch)
            for start in range(0, rows, size)
        ]
        return torch.stack(losses).sum()

    def _halve_micro_batch(self, error: Exception, rows: int) -> None:
        """Called while `error` is handled: raises it again unless halving may help."""
        if not is_out_of_memory(error):
            raise error
        if not self.can_recover:
            raise TrainingError(
                "a GPU ran out of memory in the update, and several processes cannot change their micro-batches alone; "
                f"go on with `azr-lite resume {self.args.output_dir} --micro-batch-size {max(1, rows // 2)}` and as many processes"
            ) from error
        if self._parts >= rows:
            raise TrainingError(
                "out of memory with a single sequence at a time; shorten max_prompt_tokens and max_reply_tokens, switch gradient_checkpointing on, "
                "or choose a smaller model (azr-lite plan says what fits)"
            ) from error
        self._parts = min(2 * self._parts, rows)
        self.note(
            f"out of memory in the update: micro-batches are now {-(-rows // self._parts)} sequences (the update stays the same)"
        )

    def sample_in_pieces(self, sample: Callable[[Sequence[Any], int], list[Any]], prompts: Sequence[Any]) -> list[Any]:
        """`sample(prompts, piece)` over the pieces of a chunk; twice as many pieces, from now on, when memory runs out.

        Collective sampling (sharded weights) is not split: every process must sample equally often.
        """
        while True:
            size = max(1, -(-len(prompts) // self._pieces))
            try:
                pieces = [
                    sample(prompts[start : start + size], start // size) for start in range(0, len(prompts), size)
                ]
                return [row for piece in pieces for row in piece]
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1 or self.is_fsdp_enabled or self.is_deepspeed_enabled:
                    raise TrainingError(
                        "out of memory while sampling; lower generation_chunk or max_reply_tokens, or choose a smaller model "
                        "(azr-lite plan says what fits)"
                    ) from error
            self._pieces *= 2
            self.note(f"out of memory while sampling: chunks are now {-(-len(prompts) // self._pieces)} replies")
            free_memory()


def rows_of(batch: dict[str, Any], rows: slice) -> dict[str, Any]:
    """Some rows of TRL's batch: tensors are indexed in their first dimension; what has no rows (counts, None) stays as it is."""
    return {
        name: value[rows] if isinstance(value, torch.Tensor) and value.dim() else value for name, value in batch.items()
    }
