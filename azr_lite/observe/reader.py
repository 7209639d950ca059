"""The one reader of a run's logs: line by line, so that a log of any size fits, finished or being written.

A last line without its end is still being written, and is left out.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from azr_lite.errors import RunDirectoryError
from azr_lite.rundir import RunDir

Line = dict[str, Any]
T = TypeVar("T")


def open_run(path: str | Path) -> RunDir:
    """A run, or the sample of one that `course.recorded_runs.keep_sample` left (no run.json).

    RunDirectoryError says what is missing or foreign.
    """
    has_run, *has_sample = ((Path(path) / name).exists() for name in ("run.json", "config.json", "metrics.jsonl"))
    run = RunDir(Path(path)) if all(has_sample) and not has_run else RunDir.open(path)
    for log in sorted(run.path.glob("*.jsonl")) if (run.path / "summary.json").exists() else ():
        with log.open("rb") as file:
            if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) and file.read(1) != b"\n":
                cure = "restore it from a copy, or `azr-lite resume` the run"
                print(f"{log} ends in the middle of a line, which is left out; {cure}", file=sys.stderr)
    return run


@contextmanager
def form_checked(run: RunDir) -> Iterator[None]:
    """A log whose lines have other fields than expected inside becomes one sentence, a RunDirectoryError."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError) as error:
        raise RunDirectoryError(
            f"the logs of {run.path} are not in this azr_lite's form ({error!r}); use the version named in run.json"
        ) from error


class Log:
    """One log, read on from where the last look ended. A log that is not there has no lines."""

    def __init__(self, path: Path) -> None:
        self.path, self.offset, self.inode = path, 0, 0

    def is_rewritten(self) -> bool:
        """Whether a resumed run has cut the log back since the last look. If so, it is read from its start again."""
        about = self.path.stat() if self.path.exists() else None
        if not self.offset or (about and about.st_size >= self.offset and about.st_ino == self.inode):
            return False
        self.offset = 0
        return True

    def lines(self) -> Iterator[Line]:
        """The whole lines after the last look; RunDirectoryError for a damaged one."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            self.inode = os.fstat(file.fileno()).st_ino
            file.seek(self.offset)
            while (raw := file.readline()).endswith(b"\n"):
                try:
                    line = json.loads(raw)
                except ValueError:
                    line = None
                if not (isinstance(line, dict) and isinstance(line.get("step"), int)):
                    cure = "restore it from a copy, or `azr-lite resume` from the last checkpoint"
                    raise RunDirectoryError(f"{self.path} is damaged at byte {self.offset}; {cure}")
                self.offset += len(raw)
                yield line


def log_lines(run: RunDir, name: str) -> Iterator[Line]:
    """All lines of one log, such as ``rollouts.jsonl``; RunDirectoryError where it is missing or damaged."""
    log = Log(run.path / name)
    if not log.path.exists():
        why = "the run has not reached its first step, or only a sample of it was kept"
        raise RunDirectoryError(f"{log.path} is missing; {why}")
    yield from log.lines()


def drawn(lines: Iterable[T], most: int) -> list[T]:
    """At most so many of them, each as likely as any other, in one pass that holds no more than it keeps."""
    rng, kept = random.Random(0), []
    for count, line in enumerate(lines, start=1):
        if len(kept) < most:
            kept.append(line)
        elif (place := rng.randrange(count)) < most:
            kept[place] = line
    return kept


def by_step(run: RunDir, name: str) -> Iterator[tuple[int, list[Line]]]:
    """Each step of a log with its lines, in order; one step is held at a time."""
    for step, lines in itertools.groupby(log_lines(run, name), key=lambda line: line["step"]):
        yield step, list(lines)


def first_and_last_step(run: RunDir, name: str) -> tuple[int, int]:
    """Of the whole lines of a log; RunDirectoryError where there is none."""
    first = last = None
    for line in log_lines(run, name):
        first, last = line["step"] if first is None else first, line["step"]
    if first is None or last is None:
        raise RunDirectoryError(f"{run.path / name} holds no whole line yet; wait for the run's first step")
    return first, last


def step_lines(run: RunDir, name: str, step: int | None) -> list[Line]:
    """The lines of one step (None: the newest), in order; RunDirectoryError where the step is not there."""
    lines: list[Line] = []
    for number, lines in by_step(run, name):
        if number == step:
            return lines
    if step is None and lines:
        return lines
    first, last = first_and_last_step(run, name)
    held = "the seeding only, as -1" if last < 0 else f"steps {max(first, 0)} to {last}"
    seeding = ", and the seeding as -1" if first < 0 <= last else ""
    raise RunDirectoryError(f"{run.path / name} has no line of step {step}; it holds {held}{seeding}")
