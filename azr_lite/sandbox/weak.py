"""The weak backend (macOS, Windows): a fresh Python per execution, with resource limits and a watchdog. No isolation.

A program runs as the user and can read files, use the network and start processes. Memory is limited only where
RLIMIT_AS works (not on macOS or Windows). `Executor` refuses this backend unless `allow_weak`. Tested on Linux only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from azr_lite.errors import SandboxError
from azr_lite.sandbox.schedule import MAX_ANSWER, Attempt, Ended, fate_of_exit, hash_seed

_HARNESS: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "harness.py")
WALL_FACTOR: Final = 5.0
"""Most wall time per CPU second: nobody watches a CPU clock here."""
_LAYERS: Final = ("seccomp", "no_new_privs", "namespaces", "empty_root", "landlock", "no_capabilities", "own_uid")


class WeakPool:
    """`workers` threads, each with one child at a time. The same interface as `pool.Pool`."""

    def __init__(self, workers: int, seed: int) -> None:
        self.seed = seed
        self.layers = dict.fromkeys(_LAYERS, f"off: not available on {sys.platform}")
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="azr-weak")
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    @property
    def beat(self) -> float:
        """Always moving: every execution has a timer of its own."""
        return time.monotonic()

    def submit(self, attempt: Attempt) -> None:
        """Queue one execution. Any thread."""
        try:
            self._threads.submit(self._run, attempt)
        except RuntimeError:
            attempt.failed(SandboxError("the executor was closed"))

    def close(self) -> None:
        """Kill what runs and refuse the rest."""
        self._closed = True
        for process in list(self._running):
            _kill(process)
        self._threads.shutdown(wait=True)

    def _run(self, attempt: Attempt) -> None:
        if self._closed:
            attempt.failed(SandboxError("the executor was closed"))
            return
        try:
            ended = self._execute(attempt)
        except Exception as error:  # whatever it is, the caller waits for an answer
            ended = Ended(b"", "infra", f"cannot run Python: {error}")
        attempt.done(ended)

    def _execute(self, attempt: Attempt) -> Ended:
        limits = attempt.limits
        environment = {"PYTHONHASHSEED": str(hash_seed(attempt.world, self.seed)), "PYTHONUTF8": "1"}
        if sys.platform == "win32":
            environment["SYSTEMROOT"] = os.environ.get("SYSTEMROOT", "")
        process = subprocess.Popen(
            [sys.executable, "-s", "-S", "-P", "-B", _HARNESS, str(limits.cpu_s), str(limits.memory_mb)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=sys.platform != "win32",
            cwd=os.path.dirname(sys.executable),
        )
        self._running.add(process)
        started = time.monotonic()
        wall = limits.cpu_s * min(limits.wall_factor, WALL_FACTOR) + 1.5
        late = threading.Timer(wall, _kill, [process])
        late.start()
        try:
            data = _talk(process, attempt.request)
            if len(data) > MAX_ANSWER:
                return Ended(b"", "protocol", "too much output")
            status = process.wait()
        finally:
            late.cancel()
            _kill(process)
            process.wait()
            self._running.discard(process)
        spent = time.monotonic() - started
        if spent >= wall:
            return Ended(data, "timeout", "out of time" if sys.platform == "win32" else "asleep", spent)
        fate, detail = fate_of_exit(status, spent > limits.cpu_s)
        # where no limit on memory works, the kernel's own killer is the limit
        return Ended(data, "memory" if fate == "infra" else fate, detail, spent)


def _talk(process: subprocess.Popen[bytes], request: bytes) -> bytes:
    """Write the request, read at most one byte more than an answer may have."""
    with suppress(OSError), process.stdin as pipe:
        pipe.write(request)
    with process.stdout as pipe:
        return pipe.read(MAX_ANSWER + 1)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
