"""Several processes, one algorithm: who trains which rows, who runs which jobs.

Comes in: the same lists on every process (SPMD).  Goes out: this process's rows; all results, in order, on every process.
Not covered: gradients (DDP), sampling (`generation.py`). With one process everything here is the identity.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object

from azr_lite.errors import AzrError, ConfigError, TrainingError
from azr_lite.train.checkpoints import step_of
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


def rows_of_rank(
    rollouts: Sequence[Rollout], updates: int, micro: int, rank: int, world: int, by_role: bool = False
) -> list[Rollout]:
    """This process's rows, longest first within each update, so that the rows of a micro-batch are about equally long.

    `by_role`: one role after the other, so that each micro-batch holds rows of one (their numbers must be divisible by `micro`).

    Update u is the u-th contiguous block of `rollouts`; its micro-batches are dealt to the processes in turn, so that the
    number of processes changes neither an update's rows nor the rows that share a micro-batch.
    """
    block = len(rollouts) // updates
    mine: list[Rollout] = []
    for start in range(0, len(rollouts), block):
        ordered = sorted(
            rollouts[start : start + block],
            key=lambda r: (by_role and r.role, -len(r.prompt_ids) - len(r.completion_ids)),
        )
        for first in range(rank * micro, block, world * micro):
            mine += ordered[first : first + micro]
    return mine


if TYPE_CHECKING:
    from azr_lite.config import Config

T = TypeVar("T")

FILES = Path(__file__).with_name("launch")

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others in one exchange. Longer than any honest wait (the slowest share of a step's replies, a
slow disk); a dead process on the same machine is noticed at once by the launcher, one on another machine after this time."""


def launch_file(name: str) -> Path:
    """The path of a shipped launch file; ConfigError names the known ones."""
    known = sorted(path.stem for path in FILES.glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"there is no launch file {name!r}; choose one of: {', '.join(known)}")
    return FILES / f"{name}.yaml"


def world() -> int:
    """Processes the launcher started for this run."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def is_main() -> bool:
    """The first process of all: the only one that writes files and speaks."""
    return int(os.environ.get("RANK") or 0) == 0


def sharding() -> str:
    """``FSDP`` or ``DeepSpeed`` where the launcher wants weights cut over the processes, else empty."""
    for name in ("FSDP", "DeepSpeed"):
        if os.environ.get(f"ACCELERATE_USE_{name.upper()}", "").lower() in ("true", "1"):
            return name
    return ""


def workers(config: Config) -> int | None:
    """Fork servers of this process: as set, or its share of the machine's (None: the executor decides)."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    if config.workers or local == 1:
        return config.workers or None
    return max(1, min(8, ((os.cpu_count() or 1) - 1) // local))


def check_processes(config: Config) -> list[str]:
    """Facts about how this run was started. ConfigError where it would not be the run that was asked for."""
    cut, vllm = sharding(), config.generation != "transformers"
    file = "fsdp2" if config.tuning == "full" else "ddp"
    if config.processes and config.processes != world():
        raise ConfigError(
            f"this run wants {config.processes} processes and {world()} {'was' if world() == 1 else 'were'} started; start it with "
            f"`accelerate launch --config_file $(azr-lite launch-file {file}) --num_processes {config.processes} -m azr_lite ...`, or set "
            "processes=0 (without GPUs use torchrun: accelerate launch --cpu --num_processes 2 starts one process only)"
        )
    config.micro_batches(world())
    if cut and vllm and config.tuning != "full":
        raise ConfigError(
            f"tuning={config.tuning!r} with vLLM does not work under {cut}: vLLM cannot be handed adapters whose base is cut into pieces; "
            "use ddp.yaml for adapters (azr-lite launch-file ddp)"
        )
    facts = [
        f"{world()} processes"
        + (f", weights cut over them by {cut}" if cut else ", each with a whole copy of the weights")
    ]
    if cut and not vllm:
        facts.append(
            f"generation='transformers' under {cut} gathers every layer anew for every token: expect it to be 10 to 50 times slower than "
            "generation='vllm'"
        )
    return facts if world() > 1 or cut else []


def join(config: Config) -> None:
    """Meet the other processes. Before the model is loaded: only then does FSDP keep all but the first from reading the weights."""
    if world() == 1 and not sharding():
        return
    from accelerate import PartialState

    from azr_lite.train.policy import choose_precision

    found = PartialState(cpu=choose_precision(config).device.type == "cpu", timeout=PATIENCE).num_processes
    if found != world():
        raise ConfigError(
            f"the launcher started {world()} processes, but accelerate finds {found}; use torchrun or accelerate launch with azr-lite's files"
        )


def leave() -> None:
    """Part from the other processes after a run that ended well."""
    if world() > 1:
        from accelerate import PartialState

        PartialState().destroy_process_group()


def end(status: int) -> int:
    """The exit status of the command; one of several processes ends here, without Python's tidying up.

    Gloo's threads outlive its group, and one that wakes while Python ends aborts the process ("terminate called without an active
    exception"): a finished run would now and then be reported as failed.
    """
    if world() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def by_main(work: Callable[[], T]) -> T:
    """Run `work` on the first process only; every process gets its result, or raises its error, so that none waits for one that has stopped."""
    if world() == 1:
        return work()
    from accelerate.utils import broadcast_object_list

    told: list = [None, None]
    if is_main():
        try:
            told[0] = work()
        except AzrError as error:
            told[1] = error
    value, failed = broadcast_object_list(told)
    if failed is not None:
        raise failed
    return value


@contextmanager
def explain_lost_process(path: Path) -> Iterator[None]:
    """Inside, an error of the connection to another process of the run in `path` becomes a TrainingError in one sentence."""
    try:
        yield
    except RuntimeError as error:  # gloo raises it plain, NCCL a subclass
        if world() == 1 or not _is_lost(error):
            raise
        if threading.current_thread() is threading.main_thread():
            signal.signal(
                signal.SIGTERM, signal.SIG_IGN
            )  # the launcher sends it to those left; this one ends by itself, and says why
        saved = sorted((step_of(p.parent) for p in path.glob("checkpoint-*/whole.json")), reverse=True)
        kept = f"nothing before checkpoint-{saved[0]} is lost" if saved else "it had saved nothing yet"
        raise TrainingError(
            f"another process of this run died (look above for its reason); {kept}: azr-lite resume {path}"
        ) from error


def _is_lost(error: RuntimeError) -> bool:
    from torch.distributed import DistError

    words = (
        "connection closed by peer",
        "connection reset by peer",
        "connection refused",
        "broken pipe",
        "gloo",
        "nccl",
        "timed out",
    )
    return isinstance(error, DistError) or any(word in str(error).lower() for word in words)
