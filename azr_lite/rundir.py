"""The run directory: the only writer of its files, and their reader.

Whole files are written under a temporary name and renamed. Logs are appended step by step; on resume they are cut back
to the checkpoint's step, so that a killed and resumed run leaves the same bytes. Wall-clock numbers live apart, in
``timing.jsonl``, because they are never the same twice.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

from azr_lite.config import Config, config_text
from azr_lite.errors import RunDirectoryError
from azr_lite.triplet import Rollout

VERSION = 1
LOGS = ("metrics.jsonl", "timing.jsonl", "rollouts.jsonl", "tasks.jsonl")


def write_text(path: Path, text: str, option: str = "--output-dir") -> None:
    """`write_bytes`, in UTF-8."""
    write_bytes(path, text.encode("utf-8"), option)


def write_bytes(path: Path, data: bytes | Iterable[bytes], option: str = "--output-dir") -> None:
    """Write a whole file or nothing; RunDirectoryError names the `option` that says where to."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        why = f"cannot write {path}: {error.strerror}; make room or choose another {option}"
        raise RunDirectoryError(why) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    write_text(path, json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


class RunDir:
    """One run's directory. Make one with `create` (new) or `open` (existing)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, config: Config, info: dict[str, Any]) -> RunDir:
        """A new directory with config.json and run.json; RunDirectoryError when something is there already."""
        path = Path(config.output_dir)
        cls.refuse_existing(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunDirectoryError(f"cannot make {path}: {error.strerror}; choose another --output-dir") from error
        run = cls(path)
        run.save_config(config)
        run.save_info(info)
        return run

    @staticmethod
    def refuse_existing(path: Path) -> None:
        """RunDirectoryError where a new run cannot be here: something is."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            again = f"go on with it by `azr-lite resume {quote(str(path))}`, or choose another --output-dir"
            raise RunDirectoryError(f"{path} exists already; {again}")

    def discard(self) -> None:
        """Remove the directory of a run that made nothing yet but an evaluation of the untrained policy."""
        if {entry.name for entry in self.path.iterdir()} <= {"config.json", "run.json", "eval"}:
            shutil.rmtree(self.path)

    @classmethod
    def open(cls, path: str | Path) -> RunDir:
        """An existing run; RunDirectoryError says what is missing or foreign."""
        run = cls(Path(path))
        if not run.path.is_dir():
            start = f"start one with `azr-lite run --output-dir {quote(str(path))}`"
            raise RunDirectoryError(f"there is no run at {path}; {start}")
        version = run.info().get("version")
        if version != VERSION:
            raise RunDirectoryError(
                f"{path} was written in format {version!r} and this azr_lite reads format {VERSION}; use the version "
                "named in run.json"
            )
        return run

    def config(self) -> Config:
        return Config.from_json(self._object("config.json"))

    def info(self) -> dict[str, Any]:
        return self._object("run.json")

    def save_config(self, config: Config) -> None:
        write_text(self.path / "config.json", config_text(config))

    def save_info(self, info: dict[str, Any]) -> None:
        write_json(self.path / "run.json", {"version": VERSION, **info})

    def summary(self) -> dict[str, Any] | None:
        """summary.json, or None while the run has not ended."""
        return self._object("summary.json") if (self.path / "summary.json").exists() else None

    def save_summary(self, summary: dict[str, Any]) -> None:
        write_json(self.path / "summary.json", summary)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, no other process works on this run; RunDirectoryError where one does."""
        with ExitStack() as held:
            try:
                import fcntl

                held.callback(os.close, folder := os.open(self.path, os.O_RDONLY))
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (ImportError, OSError) as error:  # others: Windows, and file systems without locks
                if isinstance(error, BlockingIOError):
                    raise RunDirectoryError(f"another process is at work on {self.path}; wait or end it") from None
            yield

    # ---------------------------------------------------------------- logs

    def append(
        self, step: int, metrics: dict[str, float], timing: dict[str, float], rollouts: list[Rollout], tasks: list[dict]
    ) -> None:
        """Add the lines of one finished step; metrics.jsonl last: a step with a line there has its other lines too."""
        self._append("tasks.jsonl", tasks)
        self._append("rollouts.jsonl", [{"step": step, **rollout_line(r)} for r in rollouts])
        self._append("timing.jsonl", [{"step": step, **timing}])
        self._append("metrics.jsonl", [{"step": step, **metrics}])

    def append_tasks(self, tasks: list[dict[str, Any]]) -> None:
        self._append("tasks.jsonl", tasks)

    def rewind(self, step: int) -> None:
        """Cut every log back to before step number `step` began. What is half-written and later evaluations go too."""
        for left in self.path.rglob(".*.tmp"):  # by a kill
            left.unlink()
        for path in filter(Path.exists, [self.path / name for name in LOGS]):
            with path.open("rb") as file:
                write_bytes(path, (line for line in file if _logged_step(line) < step))
        for path in (self.path / "eval").glob("step-*"):
            made = path.stem.removeprefix("step-")  # a Drive's "step-2 (1)" is none of ours
            if made.isdecimal() and int(made) > max(step, 0):  # of weights that are no more
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def read(self, name: str) -> Iterator[dict[str, Any]]:
        """The lines of one log, in order; RunDirectoryError where it is missing or damaged."""
        log = Log(self.path / name)
        if not log.path.exists():
            why = "the run has not reached its first step, or only a sample of it was kept"
            raise RunDirectoryError(f"{log.path} is missing; {why}")
        yield from log.lines()

    def metrics(self) -> list[dict[str, Any]]:
        return list(self.read("metrics.jsonl"))

    def _append(self, name: str, lines: list[dict[str, Any]]) -> None:
        if not lines:
            return
        text = "".join(json.dumps(line, ensure_ascii=False, sort_keys=True, default=float) + "\n" for line in lines)
        path = self.path / name
        before = path.stat().st_size if path.exists() else 0
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            if path.exists():
                os.truncate(path, before)  # a full disk takes part of the text; cutting it off needs no room
            raise RunDirectoryError(
                f"cannot write {path}: {error.strerror}; make room, then `azr-lite resume {quote(str(self.path))}`"
            ) from error

    def _object(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            if not isinstance(data := json.loads(path.read_text(encoding="utf-8")), dict):
                raise ValueError("it holds no JSON object")
            return data
        except FileNotFoundError:
            raise RunDirectoryError(
                f"{self.path} is not a run directory: {name} is missing; give the folder that azr-lite run made"
            ) from None
        except (ValueError, OSError) as error:
            raise RunDirectoryError(f"{path} cannot be read ({error}); restore it from a copy") from error


class Log:
    """One log, read on from where the last look ended. A log that is not there has no lines; a last line without its
    end is still being written, or was cut by a kill, and is left out."""

    def __init__(self, path: Path) -> None:
        self.path, self.offset, self.inode = path, 0, 0

    def is_rewritten(self) -> bool:
        """Whether a resumed run has cut the log back since the last look."""
        about = self.path.stat() if self.path.exists() else None
        return self.offset > 0 and not (about and about.st_size >= self.offset and about.st_ino == self.inode)

    def lines(self) -> Iterator[dict[str, Any]]:
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


def rollout_line(rollout: Rollout) -> dict[str, Any]:
    """A rollout as logged: everything but the token ids, whose numbers stay."""
    line = rollout.to_json()
    line["prompt_tokens"], line["tokens"] = len(line.pop("prompt_ids")), len(line.pop("completion_ids"))
    line.pop("logps")
    return line


def _logged_step(line: bytes) -> float:
    """Of a log's line; infinity where it is cut or damaged."""
    try:
        return json.loads(line)["step"] if line.endswith(b"\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf
