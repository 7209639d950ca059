"""A few workers that compare answers, each under a deadline; one that hangs or dies is killed and replaced.

Comes in: pairs of a right answer and a proposed one.  Goes out: one `Verdict` a pair, in order.
Not covered: how two answers are compared (`maths_worker.py`), what is taken out of a reply (`maths.py`).
One process and one `select` loop here: no threads, and no fork of a process that may hold torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from azr_lite.errors import EvaluationError

START_SECONDS = 120.0
"""For starting a worker, which imports sympy: a second on an idle machine."""
MATH_VERIFY = "0.9."


@dataclass(frozen=True)
class Job:
    """`answer`: the content of a box; or None, and `text`: the end of a reply that has none."""

    gold: str
    answer: str | None = None
    text: str = ""

    def line(self) -> bytes:
        body = (
            {"gold": self.gold, "text": self.text}
            if self.answer is None
            else {"gold": self.gold, "answer": self.answer}
        )
        return json.dumps(body).encode() + b"\n"


@dataclass(frozen=True)
class Verdict:
    """`reason`: empty when right; else ``wrong``, ``timeout``, ``crashed``, ``memory``, ``unreadable`` or why it was refused."""

    right: bool
    reason: str = ""


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    until: float
    job: int | None = None
    ready: bool = False
    buffer: bytearray = field(default_factory=bytearray)


def check_math_verify() -> None:
    """EvaluationError unless math-verify 0.9 is installed. Imports nothing of it."""
    try:
        version = metadata.version("math-verify")
    except metadata.PackageNotFoundError:
        raise EvaluationError(
            "grading mathematics needs the package math-verify, which is missing; pip install 'azr-lite[eval]'"
        ) from None
    if not version.startswith(MATH_VERIFY):
        raise EvaluationError(
            f"math-verify {version} is installed, but verdicts were checked with {MATH_VERIFY}x only; pip install 'azr-lite[eval]'"
        )


class Grader:
    """``with Grader(workers=2) as grader: grader.grade(jobs)``. Workers start at the first job and end with the block.

    `deadline`: seconds of wall clock for one answer.  `memory_mb`: address space of a worker.
    """

    def __init__(self, workers: int | None = None, deadline: float = 10.0, memory_mb: int = 2048) -> None:
        if deadline <= 0 or memory_mb < 256 or (workers is not None and workers < 1):
            raise EvaluationError(
                f"a grader with {workers} workers, {deadline} s and {memory_mb} MB cannot work; expected at least 1, more than 0 s and 256 MB"
            )
        self.count = workers or max(
            1, min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        )
        self.deadline, self.memory_mb = deadline, memory_mb
        self.layers: dict[str, str] = {}
        """Confinement of the last worker that started: layer to "on" or "off: why"."""
        self.replaced = 0
        self._workers: list[_Worker] = []

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *exc: object) -> None:
        while self._workers:
            self._end(self._workers[-1])

    def grade(self, jobs: Sequence[Job]) -> list[Verdict]:
        """One verdict a job. EvaluationError when math-verify is missing or a worker cannot start; never for an answer."""
        check_math_verify()
        unique = list(dict.fromkeys(jobs))
        verdicts: dict[int, Verdict] = {}
        waiting, crashed = deque(range(len(unique))), set[int]()
        while len(verdicts) < len(unique):
            while len(self._workers) < min(self.count, len(unique) - len(verdicts)):
                self._start()
            for worker in self._workers:
                if worker.ready and worker.job is None and waiting:
                    worker.job, worker.until = waiting.popleft(), time.monotonic() + self.deadline
                    with contextlib.suppress(BrokenPipeError):  # its death is seen below
                        assert worker.process.stdin is not None
                        worker.process.stdin.write(unique[worker.job].line())
                        worker.process.stdin.flush()
            for worker, answer in self._wait():
                job = worker.job
                if (
                    answer is None and job is not None and job not in crashed
                ):  # once more: the machine may have been short of memory
                    crashed.add(job)
                    waiting.appendleft(job)
                elif job is not None:
                    verdicts[job] = Verdict(**answer) if answer else Verdict(False, "crashed")
                worker.job = None
            for worker in [
                w for w in self._workers if (w.job is not None or not w.ready) and time.monotonic() > w.until
            ]:
                if worker.job is not None:
                    verdicts[worker.job] = Verdict(False, "timeout")
                self._end(worker, failed_start=not worker.ready)
        place = {job: index for index, job in enumerate(unique)}
        return [verdicts[place[job]] for job in jobs]

    def _wait(self) -> list[tuple[_Worker, dict[str, Any] | None]]:
        """Workers that answered, or died (None), until the next deadline at most."""
        busy = [worker for worker in self._workers if worker.job is not None or not worker.ready]
        found: list[tuple[_Worker, dict[str, Any] | None]] = []
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                assert worker.process.stdout is not None
                selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
            until = min((worker.until for worker in busy), default=0.0)
            events = selector.select(max(0.0, until - time.monotonic()) + 0.01)
        for key, _ in events:
            worker = key.data
            piece = os.read(key.fd, 65536)
            worker.buffer += piece
            if not piece:
                self._end(worker, failed_start=not worker.ready)
                found.append((worker, None))
            elif worker.buffer.endswith(b"\n"):
                answer = json.loads(bytes(worker.buffer))
                worker.buffer.clear()
                if worker.ready:
                    found.append((worker, answer))
                elif answer["ready"]:
                    worker.ready, self.layers = True, answer["layers"]
                else:
                    self._end(worker)
                    raise EvaluationError(
                        f"math-verify cannot be imported ({answer['error']}); pip install 'azr-lite[eval]'"
                    )
        return found

    def _start(self) -> None:
        home = str(Path(__file__).resolve().parents[3])
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        # -P: a sympy.py in the current folder is not imported. The fixed hash seed makes verdicts repeatable.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "azr_lite.evaluation.benchmarks.maths_worker", str(self.memory_mb)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={
                "PYTHONPATH": home,
                "PYTHONHASHSEED": "0",
                "PYTHONDONTWRITEBYTECODE": "1",
                "OMP_NUM_THREADS": "1",
                "LC_ALL": "C.UTF-8",
            },
            start_new_session=True,
        )
        self._workers.append(_Worker(process, errors, time.monotonic() + START_SECONDS))

    def _end(self, worker: _Worker, failed_start: bool = False) -> None:
        """Kill it and whatever it started. EvaluationError with its last words when it never became ready."""
        self._workers.remove(worker)
        self.replaced += worker.job is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
        for stream in (worker.process.stdin, worker.process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        worker.errors.seek(0)
        last = (worker.errors.read()[-2000:].decode("utf-8", "replace").strip().splitlines() or ["it said nothing"])[-1]
        worker.errors.close()
        if failed_start:
            raise EvaluationError(
                f"a process that grades mathematics did not start ({last[:200]}); pip install 'azr-lite[eval]' may mend it"
            )
