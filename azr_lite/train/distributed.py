"""Multi-process runs: checks, initialisation, main-process helpers, and what each process trains and executes.

Every process runs the same program on the same lists (SPMD). With one process everything here is the identity.
"""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from azr_lite.config import Config
from azr_lite.environment import sharding
from azr_lite.errors import AzrError, ConfigError, TrainingError
from azr_lite.sandbox.executor import cores_here
from azr_lite.train.checkpoints import last_whole_checkpoint
from azr_lite.train.companions import STARTED
from azr_lite.verifier import ProgramRunner

T = TypeVar("T")
FILES = Path(__file__).with_name("launch")
PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others in one exchange, and notices a death on another machine at the latest."""
ECHO = 3.0  # seconds within which a second signal is the launcher's echo of the first
LOST = re.compile(r"connection (closed by|reset by|refused)|broken pipe|gloo|nccl|timed out", re.IGNORECASE)
"""Words in the error of a connection whose other end is gone."""


def launch_file(name: str) -> Path:
    """The path of a shipped launch file. ConfigError names the known ones."""
    known = sorted(path.stem for path in FILES.glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"there is no launch file {name!r}; choose one of: {', '.join(known)}")
    return FILES / f"{name}.yaml"


def world() -> int:
    """Processes the launcher started for this run."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def is_main() -> bool:
    """The first process of all: the only one that writes files and prints."""
    return int(os.environ.get("RANK") or 0) == 0


def check_sharding(checkpoint: Path) -> None:
    """ConfigError where a checkpoint written under FSDP, DeepSpeed or neither would be read under another of these."""
    # each writes weights and moments in pieces, which it alone reads
    pieces = {"FSDP": "pytorch_model_fsdp*", "DeepSpeed": "latest"}
    was = next((name for name, files in pieces.items() if any(checkpoint.glob(files))), "")
    if was != sharding():
        ways = {"": "whole weights on each process", "FSDP": "fsdp2.yaml", "DeepSpeed": "zero3.yaml"}
        raise ConfigError(
            f"{checkpoint} was written with {ways[was]} and this run was started with {ways[sharding()]}; resume as it "
            f"was started (any number of processes), or start a new run from its weights: --model {checkpoint}"
        )


def workers(config: Config) -> int | None:
    """Fork servers of this process: as set, or its share of the machine's. None: the executor decides."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    if config.workers or local == 1:
        return config.workers or None
    return max(1, min(8, (cores_here() - 1) // local))


def check_count(config: Config, started: int) -> None:
    """ConfigError where a run with these settings wants another number of processes."""
    if config.processes and config.processes != started:
        file = "fsdp2" if config.tuning == "full" else "ddp"
        raise ConfigError(
            f"this run wants {config.processes} processes and {started} {'was' if started == 1 else 'were'} started; "
            f"start it with `accelerate launch --config_file $(azr-lite launch-file {file}) --num_processes "
            f"{config.processes} -m azr_lite ...`, or set processes=0 (without GPUs use torchrun)"
        )


def check_processes(config: Config) -> list[str]:
    """Facts about how this run was started. ConfigError where it is not the run that the settings ask for."""
    cut, vllm = sharding(), config.generation.startswith("vllm")
    check_count(config, world())
    config.micro_batches(world())  # ConfigError where the batch cannot be split over them
    if cut and vllm and config.tuning != "full":
        raise ConfigError(f"vLLM cannot get adapters of a base sharded by {cut}; use ddp.yaml for adapters")
    if world() == 1 and not cut:
        return [os.environ[STARTED]] if STARTED in os.environ else _idle_gpus(config)
    weights = f"weights sharded over them by {cut}" if cut else "each with a whole copy of the weights"
    facts = [os.environ.get(STARTED) or f"{world()} processes, {weights}"]
    if cut and not vllm:
        facts.append(f"generation='transformers' under {cut} is 10 to 50 times slower than generation='vllm'")
    return facts


def _idle_gpus(config: Config) -> list[str]:
    """What a process that was started alone says where it sees several GPUs: it trains on the first."""
    import torch

    from azr_lite.train.policy import choose_precision

    if choose_precision(config).device.type != "cuda" or (count := torch.cuda.device_count()) < 2:
        return []
    return [
        f"{count} GPUs are visible and this run uses the first; for all of them: accelerate launch --config_file "
        f"$(azr-lite launch-file ddp) --num_processes {count} -m azr_lite ..."
    ]


def join(config: Config) -> None:
    """Meet the other processes. Call it before loading: only then does FSDP let one process alone read the weights.

    The precision that a launch file names gives way to the run's: accelerate would compute in it, whatever `dtype` is.
    """
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ
    if world() == 1 and not sharding() and not launched:
        return
    from accelerate import PartialState

    from azr_lite.train.policy import choose_precision

    precision = choose_precision(config)
    if launched:
        short = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
        os.environ["ACCELERATE_MIXED_PRECISION"] = short[str(precision.compute)[6:]]
    found = PartialState(cpu=precision.device.type == "cpu", timeout=PATIENCE).num_processes
    if found != world():
        raise ConfigError(
            f"{world()} processes were started, but accelerate finds {found}; launch with azr-lite's files"
        )


@contextmanager
def one_thread_for_nano(config: Config) -> Iterator[None]:
    """Inside, the nano model computes with one thread, unless OMP_NUM_THREADS is set: see train/companions.py."""
    import torch

    before = torch.get_num_threads()
    if config.model == "nano" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def leave() -> None:
    """Part from the other processes after a run that ended well."""
    if world() > 1:
        from accelerate import PartialState

        PartialState().destroy_process_group()


def end(status: int) -> int:
    """The exit status of the command. One of several processes ends here, without Python's tidying up.

    Gloo's threads outlive its group: one that wakes while Python ends would abort a finished run now and then.
    """
    if world() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


@contextmanager
def explain_lost_process(path: Path) -> Iterator[None]:
    """Inside, a lost connection to another process of the run in `path` becomes a TrainingError in one sentence."""
    try:
        yield
    except RuntimeError as error:  # gloo raises it plain, NCCL a subclass
        from torch.distributed import DistError

        if world() == 1 or not (isinstance(error, DistError) or LOST.search(str(error))):
            raise
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's: this process ends by itself, and says why
        saved = last_whole_checkpoint(path)
        kept = "it had saved nothing yet" if saved is None else f"nothing before {saved.name} is lost"
        raise TrainingError(
            f"another process of this run died (look above for its reason); {kept}: azr-lite resume {path}"
        ) from error


@contextmanager
def interruptible(request_stop: Callable[[str], None], say: Callable[[str], None]) -> Iterator[None]:
    """First Ctrl-C (or SIGTERM): ask with the signal's name for a stop after the step. Second: stop at once.

    A launcher passes on to its processes the Ctrl-C that they have got from the terminal: the echo does not count.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    asked: list[float] = []  # when the first signal came

    def handle(number: int, frame: Any) -> None:
        if not asked:
            asked.append(time.monotonic())
            say("stopping after this step; press Ctrl-C again to stop at once")
            request_stop(signal.Signals(number).name)
        elif STARTED in os.environ or world() == 1 or time.monotonic() - asked[0] >= ECHO:
            signal.signal(number, before[number])
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def by_main(work: Callable[[], T]) -> T:
    """`work` on the main process only; every process gets its result, or raises its error, so that none waits."""
    if world() == 1:
        return work()
    from accelerate.utils import broadcast_object_list

    outcome: list = [None, None]
    try:
        outcome[0] = work() if is_main() else None
    except AzrError as error:
        outcome[1] = error
    value, failed = broadcast_object_list(outcome)
    if failed is not None:
        raise failed
    return value


class ShardedExecutor:
    """Deals an executor's jobs to all processes; each gets the results of all jobs, in order, or the error of any."""

    def __init__(self, executor: ProgramRunner) -> None:
        self.executor = executor

    def run_many(self, jobs: Sequence[Any]) -> list[Any]:
        return self._share_out(jobs, self.executor.run_many)

    def validate_many(self, items: Sequence[Any]) -> list[Any]:
        return self._share_out(items, self.executor.validate_many)

    def _share_out(self, jobs: Sequence[Any], work: Callable[[Sequence[Any]], list[Any]]) -> list[Any]:
        from accelerate import PartialState
        from accelerate.utils import gather_object

        state, everything = PartialState(), [None] * len(jobs)
        try:
            own = work(jobs[state.process_index :: state.num_processes]), None
        except Exception as error:
            own = [], error
        for rank, (results, failure) in enumerate(gather_object([own])):
            if failure is not None:
                raise failure  # on every process, so that none waits for one that has stopped
            everything[rank :: state.num_processes] = results
        return everything


def keep_precision(accelerator: Any) -> None:
    """FSDP2: sum gradients in float32, and leave outputs as they are.

    accelerate's policy sums gradients in bfloat16, and rounds what the model returns: our float32 log-probabilities.
    """
    import torch

    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    policy = plugin.mixed_precision_policy if plugin is not None and plugin.fsdp_version == 2 else None
    if policy is not None:
        plugin.mixed_precision_policy = dataclasses.replace(policy, reduce_dtype=torch.float32, output_dtype=None)
