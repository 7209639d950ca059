"""Several processes, one algorithm: who trains which rows, who runs which jobs.

Comes in: the same lists on every process (SPMD).  Goes out: this process's rows; all results, in order, on every process.
Not covered: gradients (DDP), sampling (`generation.py`). With one process everything here is the identity.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object

from azr_lite.triplet import Rollout

if TYPE_CHECKING:
    from azr_lite.verifier import ProgramRunner


class ShardedExecutor:
    """An executor whose jobs are dealt to all processes: each runs every world-th job, and all get all results."""

    def __init__(self, executor: ProgramRunner) -> None:
        self.executor = executor

    def run_many(self, jobs: Sequence[Any]) -> list[Any]:
        return _shared_out(jobs, self.executor.run_many)

    def validate_many(self, items: Sequence[Any]) -> list[Any]:
        return _shared_out(items, self.executor.validate_many)


def _shared_out(jobs: Sequence[Any], work: Callable[[Sequence[Any]], list[Any]]) -> list[Any]:
    """`work` on every world-th job here, and the results of all jobs, in order, on every process; an error of one is raised on all."""
    state = PartialState()
    mine = range(state.process_index, len(jobs), state.num_processes)
    results, failure = [], None
    try:
        results = work([jobs[i] for i in mine])
    except Exception as error:  # told to all, so that none waits for a process that has stopped
        failure = error
    found: dict[int, Any] = {}
    for rank, (own, failed) in enumerate(gather_object([(results, failure)])):
        if failed is not None:
            raise failed
        found |= zip(range(rank, len(jobs), state.num_processes), own, strict=True)
    return [found[i] for i in range(len(jobs))]


def keep_precision(accelerator: Accelerator) -> None:
    """FSDP2: sum gradients in float32, and leave outputs as they are.

    accelerate casts what is trained to float32 masters and computes in bfloat16 (accelerate/utils/fsdp_utils.py), as wanted; but
    its policy also sums gradients in bfloat16, and rounds what the model returns, so our float32 log-probabilities, to it.
    """
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    policy = plugin.mixed_precision_policy if plugin is not None and plugin.fsdp_version == 2 else None
    if policy is not None:
        plugin.mixed_precision_policy = dataclasses.replace(policy, reduce_dtype=torch.float32, output_dtype=None)


def rows_of_rank(rollouts: Sequence[Rollout], updates: int, micro: int, rank: int, world: int, by_role: bool = False) -> list[Rollout]:
    """This process's rows, longest first within each update, so that the rows of a micro-batch are about equally long.

    `by_role`: one role after the other, so that each micro-batch holds rows of one (their numbers must be divisible by `micro`).

    Update u is the u-th contiguous block of `rollouts`; its micro-batches are dealt to the processes in turn, so that the
    number of processes changes neither an update's rows nor the rows that share a micro-batch.
    """
    block = len(rollouts) // updates
    mine: list[Rollout] = []
    for start in range(0, len(rollouts), block):
        ordered = sorted(rollouts[start : start + block], key=lambda r: (by_role and r.role, -len(r.prompt_ids) - len(r.completion_ids)))
        for first in range(rank * micro, block, world * micro):
            mine += ordered[first : first + micro]
    return mine
