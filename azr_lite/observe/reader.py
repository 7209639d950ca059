"""Reading a run without holding it: one step's lines of a log of any size, found by bisection.

Comes in: a run directory, finished or being written.  Goes out: dicts, one line at a time; how far it is, on stderr, where reading
takes long.
Not covered: writing (`rundir.py`), meaning (`catalogue.py`).

Lines of a log are in the order of their steps, so a step's first line is found by some thirty seeks, whatever the size; the
offsets found are kept in memory. A last line without its end is still being written, and is left out; where nobody writes any
more, `open_run` says so.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from azr_lite.errors import RunDirectoryError
from azr_lite.rundir import LOGS, RunDir

Line = dict[str, Any]

PATIENCE_S = 3.0
"""Reading that takes longer than this says how far it is."""

WRITING_S = 2.0
"""A log that has grown within this time may be in the middle of a line without being damaged."""

_SAID: set[tuple[Path, int]] = set()
"""Logs, by their size, of which it was said that they end in the middle of a line."""


def open_run(path: str | Path) -> RunDir:
    """A run, or the sample of one that `RunDir.keep_sample` left (no run.json). RunDirectoryError says what is missing or foreign."""
    folder = Path(path)
    sample = not (folder / "run.json").exists() and all(
        (folder / name).exists() for name in ("config.json", "metrics.jsonl")
    )
    run = RunDir(folder) if sample else RunDir.open(folder)
    _say_what_is_cut(run)
    return run


def _say_what_is_cut(run: RunDir) -> None:
    """One line on stderr, once, for each log whose last line has no end although nobody has been writing it for a while."""
    for name in LOGS:
        path = run.path / name
        try:
            with path.open("rb") as file:
                about = os.fstat(file.fileno())
                if not about.st_size or time.time() - about.st_mtime < WRITING_S or (path, about.st_size) in _SAID:
                    continue
                file.seek(-1, os.SEEK_END)
                if file.read(1) == b"\n":
                    continue
        except OSError:
            continue  # missing, or not to be read: who needs it will say so
        _SAID.add((path, about.st_size))
        print(
            f"azr-lite: {path} ends in the middle of a line, which is left out; restore it from a copy, or resume the run",
            file=sys.stderr,
        )


class StepLog:
    """One log (``rollouts.jsonl``, ``tasks.jsonl``, …), read by step in constant memory."""

    def __init__(self, run: RunDir, name: str) -> None:
        self.path = run.path / name
        if not self.path.exists():
            raise RunDirectoryError(
                f"{self.path} is missing; the run has not reached its first step, or only a sample of it was kept"
            )
        self._offsets: dict[int, int] = {}

    def lines(self, step: int) -> Iterator[Line]:
        """The lines of one step, in order; RunDirectoryError where the step is not there or a line is damaged."""
        found = False
        for line in self.since(step):
            if line["step"] != step:
                break
            found = True
            yield line
        if not found:
            first, last = self.first_step(), self.last_step()
            held = (
                "no whole line"
                if last is None
                else "the seeding only, as -1"
                if last < 0
                else f"steps {max(first, 0)} to {last}" + (", and the seeding as -1" if first < 0 else "")
            )
            raise RunDirectoryError(f"{self.path} has no line of step {step}; it holds {held}")

    def since(
        self, step: int | None = None, until: int | None = None, wanted: Callable[[bytes], bool] | None = None
    ) -> Iterator[Line]:
        """All lines from a step on (None: from the first), up to but not including step `until`.

        `wanted`: asked of every raw line; where it says no, the line is left out and not parsed, which is ten times as fast.
        """
        with self.path.open("rb") as file, _Progress(self.path) as progress:
            offset = 0 if step is None else self._offset(file, step)
            progress.begin(offset, os.fstat(file.fileno()).st_size)
            file.seek(offset)
            while (raw := file.readline()).endswith(b"\n"):
                progress.reached(offset)
                if wanted is not None and raw.endswith(b"}\n") and not wanted(raw):
                    offset += len(raw)
                    continue
                line = _parsed(raw)
                if line is None:
                    raise _damaged(self.path, offset)
                if until is not None and line["step"] >= until:
                    return
                yield line
                offset += len(raw)

    def by_step(self) -> Iterator[tuple[int, list[Line]]]:
        """Each step with its lines, in order; one step is held at a time."""
        for step, lines in itertools.groupby(self.since(), key=lambda line: line["step"]):
            yield step, list(lines)

    def first_step(self) -> int | None:
        """The step of the first line, or None in a log without one."""
        return next((line["step"] for line in self.since()), None)

    def last_step(self) -> int | None:
        """The step of the last whole line, or None in a log without one."""
        with self.path.open("rb") as file:
            size, back = os.fstat(file.fileno()).st_size, 1 << 16
            while True:
                start = max(0, size - back)
                file.seek(start)
                raws = file.read(size - start).splitlines(keepends=True)[0 if start == 0 else 1 :]
                steps = [
                    line["step"] for raw in reversed(raws) if raw.endswith(b"\n") and (line := _parsed(raw)) is not None
                ]
                if not steps and start == 0 and any(raw.endswith(b"\n") for raw in raws):
                    raise _damaged(self.path, 0)
                if steps or start == 0:
                    return steps[0] if steps else None
                back *= 4

    def _offset(self, file: BinaryIO, step: int) -> int:
        """Where the first line of a step not below `step` begins (the end, where there is none)."""
        if step not in self._offsets:
            low, high = 0, os.fstat(file.fileno()).st_size
            while low < high:
                middle = (low + high) // 2
                begin, found = self._at(file, middle)
                if found is None or found >= step:
                    high = middle
                else:
                    low = begin + 1
            begin, found = self._at(file, low)
            if found is None:
                return begin  # nothing there yet: not remembered, the run may still write it
            self._offsets[step] = self._begin(
                file, low
            )  # a damaged line just before may be the step's own: `since` will say so
        return self._offsets[step]

    def _at(self, file: BinaryIO, offset: int) -> tuple[int, int | None]:
        """Where the first whole, readable line that begins at or after `offset` begins, and its step; None past the last."""
        self._begin(file, offset)
        while True:
            begin = file.tell()
            raw = file.readline()
            if not raw.endswith(b"\n"):
                return begin, None
            if (line := _parsed(raw)) is not None:
                return begin, line["step"]

    @staticmethod
    def _begin(file: BinaryIO, offset: int) -> int:
        """Move to where the first line that begins at or after `offset` begins."""
        file.seek(max(0, offset - 1))
        if offset:
            file.readline()  # the rest of the line before, or just its end
        return file.tell()


class _Progress:
    """One line on stderr, in place on a terminal, that says how far a pass over a log is; nothing where it is quick."""

    LINES = 512
    """Between two looks at the clock."""

    def __init__(self, path: Path) -> None:
        self.path, self.seen, self.shown = path, 0, False

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.shown and sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def begin(self, offset: int, size: int) -> None:
        self.first, self.size, self.began = offset, size, time.monotonic()
        self.due = self.began + PATIENCE_S

    def reached(self, offset: int) -> None:
        self.seen += 1
        if self.seen % self.LINES or offset <= self.first or (now := time.monotonic()) < self.due:
            return
        self.shown, terminal = True, sys.stderr.isatty()
        self.due = now + (1 if terminal else 10)
        share = (offset - self.first) / max(1, self.size - self.first)
        left = (now - self.began) * (1 / share - 1)
        said = (
            f"reading {self.path.name}: {share:.0%} of {(self.size - self.first) >> 20} MiB, {max(0, left):.0f} s left"
        )
        print(f"\r\x1b[K{said}" if terminal else said, end="" if terminal else "\n", file=sys.stderr, flush=True)


class Tail:
    """Follows a log that is being written: `new` reads what it gained since the last call, and starts again where a resumed run has cut it."""

    def __init__(self, path: Path) -> None:
        self.path, self.offset, self.file = path, 0, 0

    def new(self) -> tuple[bool, list[Line]]:
        """Whether the file starts anew, and the new whole lines (at most some megabytes at a time)."""
        if not self.path.exists():
            again, self.offset = self.offset > 0, 0
            return again, []
        with self.path.open("rb") as file:
            found = os.fstat(
                file.fileno()
            )  # a resumed run puts another file in its place, which may have outgrown the old one by now
            again = found.st_size < self.offset or (self.offset > 0 and found.st_ino != self.file)
            self.file = found.st_ino
            if again:
                self.offset = 0
            file.seek(self.offset)
            raws = file.readlines(4 << 20)
        lines = []
        for raw in raws:
            if not raw.endswith(b"\n"):
                break
            line = _parsed(raw)
            if line is None:
                raise _damaged(self.path, self.offset)
            lines.append(line)
            self.offset += len(raw)
        return again, lines


def _damaged(path: Path, offset: int) -> RunDirectoryError:
    return RunDirectoryError(
        f"{path} is damaged at byte {offset}; restore it from a copy, or `azr-lite resume` from the last checkpoint"
    )


def _parsed(raw: bytes) -> Line | None:
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("step"), int) else None
