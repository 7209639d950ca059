"""On a CPU `azr-lite run` becomes several processes: this one and its companions, which run the same command line.

Threads of one computation wait for each other by spinning: beside another busy process they are many times slower
than one thread. Processes wait asleep: at worst they are as fast as one, and on idle cores they share all the work.

This process is the first of them: it prints, it writes, and signals are its own. Companions notice its end, however
it comes, by the end of their standard input.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from azr_lite.config import Config
from azr_lite.environment import cpu_arithmetic, free_port, require_training
from azr_lite.errors import ConfigError, ModelError, TrainingError
from azr_lite.planner.plan import plan
from azr_lite.sandbox.executor import cores_here

STARTED = "AZR_LITE_STARTED"
"""The variable that tells all processes of the run how they were started: a fact for people."""
PACKED = 1.3  # peak memory in bfloat16 against the plan's: weights are also kept packed, for sampling
GPU_FILES = ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/dxg", "/dev/kfd")
"""Without one of these torch, whose import takes seconds, finds no GPU."""


@contextmanager
def companions(settings: Callable[[], Config], words: Sequence[str] | None) -> Iterator[None]:
    """Inside, the run with these settings is made by as many processes as `choose` says; `words`: their command line.

    Nothing is started where `words` is None, a launcher has started the processes, or the run is on a GPU. Variables
    stay set: the process must end with the run.
    """
    if STARTED in os.environ and os.environ.get("RANK", "0") != "0":
        threading.Thread(target=_end_with_the_first, daemon=True).start()
    if words is None or "WORLD_SIZE" in os.environ or not runs_on_cpu(config := settings()):
        yield
        return
    require_training("a run")
    count, threads, os.environ[STARTED] = choose(config)
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)
    others = _start(count, words) if count > 1 else []
    if others:
        threading.Thread(target=_watch_until_they_meet, args=(others,), daemon=True).start()
    try:
        yield
    except (TrainingError, RuntimeError) as error:
        for rank, (process, said) in enumerate(others, 1):
            _tell(rank, process, said, str(error))
        raise
    finally:
        for process, _ in others:
            process.stdin.close()
        for process, _ in others:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def choose(config: Config) -> tuple[int, int, str]:
    """Processes for a run on this CPU, threads of each (0: as OMP_NUM_THREADS says), and why.

    As many as cores, while each has room in memory and a whole share of every update's micro-batches. Nano computes
    with one thread; a real model uses the cores that are left over with more.
    """
    cores = usable_cores()
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted and not config.processes:
        return 1, 0, f"one process, its threads as OMP_NUM_THREADS says: {wanted}"
    room = _processes_in_memory(config)
    count, why = min(cores, room), _times(cores, "core") + f", memory for {room}" * (room < cores)
    if config.processes:  # another number than was started is refused later
        count, why = config.processes if config.processes <= cores else 1, "as set"
    while count > 1 and not _splits(config, count):
        count, why = count - 1, f"{_times(cores, 'core')}, and the batch splits no further"
    own = 1 if config.model == "nano" else max(1, cores // count)
    threads = min(own, int(wanted)) if wanted.isdigit() else own
    return count, threads, f"{_times(count, 'process')} of {_times(threads, 'thread')}: {why}"


def usable_cores() -> int:
    """Physical cores that this process may use, by its affinity and its container's quota."""
    import psutil

    mine = cores_here()
    return max(1, min(mine, psutil.cpu_count(logical=False) or mine, math.floor(min(mine, _container("cpu.max")))))


def _processes_in_memory(config: Config) -> int:
    """How many processes have room, by the planner's peak; one where it does not know the model."""
    import psutil

    with suppress(ModelError):
        share = 1.0
        if config.dtype == "auto" and config.tuning == "lora" and cpu_arithmetic() != "float32":
            config, share = config.replace(dtype="bfloat16"), PACKED
        free = min(psutil.virtual_memory().available, _container("memory.max"))
        return max(1, int(0.9 * free / 1e9 / max(1.0, share * plan(config.replace(processes=0), "cpu").peak_gb)))
    return 1


def _container(name: str) -> float:
    """A limit of the container this process is in (cgroup v2), infinite where there is none. cpu.max: in cores."""
    with suppress(OSError, ValueError):
        first, *period = Path("/sys/fs/cgroup", name).read_text().split()
        return int(first) / int(*period or (1,))
    return math.inf


def _splits(config: Config, count: int) -> bool:
    with suppress(ConfigError):
        return config.micro_batches(count) > 0
    return False


def runs_on_cpu(config: Config) -> bool:
    """Whether a run with these settings computes on the CPU of this machine."""
    if config.device == "auto" and config.model != "nano" and any(Path(file).exists() for file in GPU_FILES):
        import torch

        return not torch.cuda.is_available()
    return config.device != "cuda"


def _start(count: int, words: Sequence[str]) -> list[tuple[subprocess.Popen, IO[bytes]]]:
    """The companions of this process, each with a file of what it says on its standard error."""
    names = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "RANK": "0", "LOCAL_RANK": "0"}
    os.environ |= {**names, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    others = []
    for rank in map(str, range(1, count)):
        path = os.pathsep.join(filter(None, sys.path))
        said = tempfile.TemporaryFile()  # noqa: SIM115
        # a session of its own: the terminal's Ctrl-C goes to the first process, which tells the others
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "azr_lite", *words],
            env={**os.environ, "RANK": rank, "LOCAL_RANK": rank, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        others.append((process, said))
    return others


def _tell(rank: int, process: subprocess.Popen, said: IO[bytes], known: str) -> None:
    """Print how a companion failed, unless the first process says the same."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(1)
    said.seek(0)
    last = said.read().decode(errors="replace").strip()
    if process.returncode and not (known and known in last):
        died = f"was ended by signal {-process.returncode}; " * (process.returncode < 0) + (last or "it said nothing")
        print(f"azr-lite: process {rank} of this run: {died}", file=sys.stderr)


def _watch_until_they_meet(others: list[tuple[subprocess.Popen, IO[bytes]]]) -> None:
    """End this process where a companion fails before all have met: until then nothing else would notice."""
    while not getattr(sys.modules.get("torch.distributed"), "is_initialized", bool)():  # bool() is False
        for rank, (process, said) in enumerate(others, 1):
            if process.poll():
                _tell(rank, process, said, "")
                os._exit(1)
        time.sleep(0.5)


def _end_with_the_first() -> None:
    os.read(0, 1)  # takes no lock that Python's end would wait for
    os._exit(1)


def _times(number: int, what: str) -> str:
    plural = what + ("es" if what.endswith("s") else "s")
    return f"one {what}" if number == 1 else f"{number} {plural}"
