"""Which checkpoints can be trusted: sealing, finding and dropping the checkpoint-N folders of a run.

Comes in: a run directory.  Goes out: the newest whole checkpoint, its self-play state.
Not covered: weights, optimiser and random states inside (transformers writes and reads them).

A checkpoint counts only when it is sealed: ``whole.json``, written last and atomically, lists every file with its size. A
process killed while saving leaves an unsealed folder, which is never resumed from.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from azr_lite.errors import RunDirectoryError
from azr_lite.rundir import LOGS, write_json

SEAL, STATE = "whole.json", "selfplay.json"


def seal(checkpoint: Path, state: dict[str, Any]) -> None:
    """Add the self-play state, then the seal. Call last, once every process has written its files."""
    write_json(checkpoint / STATE, state)
    write_json(checkpoint / SEAL, {"files": _sizes(checkpoint)})


def is_whole(checkpoint: Path) -> bool:
    """Sealed, and every listed file is there in full length."""
    try:
        listed = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    sizes = _sizes(checkpoint)
    return bool(listed) and all(sizes.get(name) == size for name, size in listed.items())


def last_whole_checkpoint(run_dir: str | Path) -> Path | None:
    """The newest checkpoint that can be resumed from, or None."""
    return next((path for path in _newest_first(Path(run_dir)) if is_whole(path)), None)


def sharding_of(checkpoint: Path) -> str:
    """Who wrote the weights and moments in pieces: ``FSDP`` or ``DeepSpeed`` (only the same can read the moments), else empty."""
    if list(checkpoint.glob("pytorch_model_fsdp*")):
        return "FSDP"
    return "DeepSpeed" if (checkpoint / "latest").exists() else ""


def drop_old(run_dir: str | Path, keep: int, also: Path | None = None) -> None:
    """Delete all but the `keep` newest whole checkpoints (and `also`, the best one); folders cut short by a kill go too."""
    whole = [path for path in _newest_first(Path(run_dir)) if is_whole(path)]
    for path in _newest_first(Path(run_dir)):
        if path not in whole[:keep] and not (path in whole and path == also):
            (path / SEAL).unlink(missing_ok=True)  # first, so that a kill in the middle leaves nothing that looks whole
            shutil.rmtree(path, ignore_errors=True)


def load_state(checkpoint: str | Path) -> dict[str, Any]:
    """The self-play state of a whole checkpoint; RunDirectoryError otherwise."""
    path = Path(checkpoint)
    if not is_whole(path):
        raise RunDirectoryError(
            f"{path} is not a whole checkpoint; resume from the newest whole one of its run (azr-lite resume does)"
        )
    return json.loads((path / STATE).read_text(encoding="utf-8"))


def step_of(checkpoint: Path) -> int:
    """Optimiser updates done when this checkpoint was written."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def writing_failed(error: BaseException) -> str:
    """Why writing a checkpoint failed, in a few words; empty for an error that is not about writing.

    transformers raises OSError, safetensors its own error with the system's words in it, and torch.save a RuntimeError that names
    its zip writer.
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, RunDirectoryError):
        return writing_failed(error.__cause__) if error.__cause__ else ""
    text = str(error)
    if type(error).__name__ == "SafetensorError":
        return _NO_ROOM if _NO_ROOM in text else text
    torch_writer = ("PytorchStreamWriter", "inline_container", "unexpected pos", "file write failed", "iostream error")
    return _NO_ROOM if isinstance(error, RuntimeError) and any(words in text for words in torch_writer) else ""


def abandon(folder: Path, reason: str, size: float) -> None:
    """Remove a checkpoint that could not be written, so that its room is free again. `size`: about how large it would be, bytes."""
    shutil.rmtree(folder, ignore_errors=True)
    run_dir = folder.parent
    whole = last_whole_checkpoint(run_dir)
    on = f"`azr-lite resume {run_dir}` goes on from " + (f"{whole.name}" if whole else "the start")
    if reason == _NO_ROOM:
        amount = f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
        raise RunDirectoryError(
            f"no room for a checkpoint of about {amount} at {folder}; free some or choose another disk; {on}"
        )
    raise RunDirectoryError(f"the checkpoint at {folder} could not be written ({reason}); see to that disk; {on}")


def size_of(checkpoint: Path) -> int:
    """Bytes of a checkpoint on disk, its seal not counted."""
    return sum(_sizes(checkpoint).values())


_NO_ROOM = os.strerror(errno.ENOSPC)


def _newest_first(run_dir: Path) -> list[Path]:
    found = [p for p in run_dir.glob("checkpoint-*") if p.is_dir() and p.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=step_of, reverse=True)


def _sizes(checkpoint: Path) -> dict[str, int]:
    files = (p for p in checkpoint.rglob("*") if p.is_file() and p.name != SEAL)
    return {str(p.relative_to(checkpoint)): p.stat().st_size for p in sorted(files)}


SHARE = 0.1
"""Saving may take at most this part of a session's time, where `save_minutes` asks for it."""
WRITE_SPEED = 200e6
"""Bytes a second, for the guess before a first checkpoint has been measured (a plain disk)."""


class Budget:
    """One session's clock; it starts when this is made. All durations in seconds.

    `save_minutes`: how much work may be lost (0: no limit). `max_hours`: how long the session may last (0: no limit).
    """

    def __init__(
        self, save_minutes: float = 0.0, max_hours: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.save_minutes, self.max_hours, self.clock = save_minutes, max_hours, clock
        self.began = self.safe_since = self.step_began = clock()
        self.steps: deque[float] = deque(maxlen=5)
        """Durations of the last self-play steps."""
        self.saving = 0.0
        """Spent on saving so far."""
        self.save_s = 0.0
        """What the next checkpoint will take: the last one's time, at first a guess."""
        self.evaluation_s = 0.0
        """What the next held-out evaluation will take."""
        self.stretched = False
        """Whether a checkpoint that was due has ever been held back because saving had taken its share of the time."""

    @property
    def step_s(self) -> float:
        """What the next self-play step will take: the longest of the last five."""
        return max(self.steps, default=0.0)

    def train_begins(self) -> None:
        """What came before (loading, seeding, the checkpoint resumed from) cannot be lost, or is done again anyway."""
        self.safe_since = self.clock()

    def step_begins(self) -> None:
        self.step_began = self.clock()

    def step_ends(self) -> None:
        self.steps.append(self.clock() - self.step_began)

    def expect_bytes(self, size: float) -> None:
        """A first checkpoint of about so many bytes lies ahead."""
        self.save_s = size / WRITE_SPEED

    def saved(self, seconds: float) -> None:
        """A checkpoint is whole; it (and its copy elsewhere) took this long."""
        self.saving += seconds
        self.save_s = seconds
        self.safe_since = self.clock()

    def save_due(self) -> bool:
        """Would one step more put more than `save_minutes` of work at risk, and may another checkpoint be paid for?"""
        if not self.save_minutes or self.clock() - self.safe_since + self.step_s <= 60 * self.save_minutes:
            return False
        affordable = self.saving + self.save_s <= SHARE * (self.clock() - self.began)
        self.stretched |= not affordable
        return affordable

    def out_of_time(self, evaluations: int = 1) -> bool:
        """Would one step more, a checkpoint and so many evaluations end after `max_hours`?"""
        ahead = self.step_s + self.save_s + evaluations * self.evaluation_s
        return bool(self.max_hours) and self.clock() - self.began + ahead > 3600 * self.max_hours

    @property
    def interval(self) -> float:
        """Seconds between checkpoints that the share allows, at what the last one took."""
        return self.save_s / SHARE


class Mirror(Protocol):
    """The copy of one run, wherever it lies. `keep`: checkpoints to copy beside the newest. A place that is away raises whatever its library raises."""

    def newest_step(self) -> int | None: ...

    def push(self, keep: Iterable[Path] = ()) -> None: ...

    def fetch(self) -> None: ...


FILES = ("config.json", "run.json", "summary.json", *LOGS)
HUB = "hub:"


def mirror_of(sync_to: str, run_dir: Path) -> Mirror | None:
    """The second copy of this run; None where `sync_to` is empty."""
    if not sync_to:
        return None
    if sync_to.startswith(HUB):
        return HubMirror(sync_to.removeprefix(HUB), run_dir)
    return FolderMirror(Path(sync_to).expanduser() / run_dir.resolve().name, run_dir)


def _small_files(run_dir: Path) -> list[Path]:
    """Everything that is copied but checkpoints: settings, logs, evaluations. Paths relative to the run."""
    found = [run_dir / name for name in FILES] + sorted((run_dir / "eval").glob("*.json*"))
    return [path.relative_to(run_dir) for path in found if path.is_file()]


def _checkpoints_to_copy(run_dir: Path, keep: Iterable[Path]) -> list[Path]:
    """The newest whole checkpoint, then the others to keep."""
    newest = last_whole_checkpoint(run_dir)
    others = [path for path in keep if path != newest and is_whole(path)]
    return ([newest] if newest else []) + others


class FolderMirror:
    """The copy in a folder. A file or checkpoint appears there under its name only once it is complete."""

    def __init__(self, target: Path, run_dir: Path) -> None:
        self.target, self.run_dir = target, run_dir

    def __str__(self) -> str:
        return str(self.target)

    def newest_step(self) -> int | None:
        """Updates in the newest whole checkpoint there; 0 for a copy without one; None where there is no copy."""
        self._check_mounted()
        if not (self.target / "run.json").exists():
            return None
        newest = last_whole_checkpoint(self.target)
        return step_of(newest) if newest else 0

    def push(self, keep: Iterable[Path] = ()) -> None:
        """Copy what changed; OSError where the place is away or full."""
        self._check_mounted()
        for name in _small_files(self.run_dir):
            source, target = self.run_dir / name, self.target / name
            if _changed(source, target):
                target.parent.mkdir(parents=True, exist_ok=True)
                _copy_file(source, target)
        wanted = _checkpoints_to_copy(self.run_dir, keep)
        for checkpoint in wanted:
            _copy_checkpoint(checkpoint, self.target / checkpoint.name)
        names = {checkpoint.name for checkpoint in wanted}
        for old in self.target.glob("checkpoint-*") if wanted else ():
            if old.name not in names:
                (old / SEAL).unlink(missing_ok=True)
                shutil.rmtree(old, ignore_errors=True)

    def _check_mounted(self) -> None:
        above = self.target.parent.parent
        if not above.is_dir():  # making it would fill the local disk in the place of a Drive that is not mounted
            raise OSError(f"{above} is not there; is it mounted?")

    def fetch(self) -> None:
        """The copy becomes the run directory; it appears there whole or not at all."""
        temporary = self.run_dir.with_name(f".{self.run_dir.name}.fetch")
        shutil.rmtree(temporary, ignore_errors=True)
        self.run_dir.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copytree(self.target, temporary, ignore=shutil.ignore_patterns(".*"))
            os.replace(temporary, self.run_dir)
        except (OSError, shutil.Error) as error:
            raise RunDirectoryError(
                f"cannot fetch {self.target} to {self.run_dir}: {error}; make room, or check that it is mounted"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


class HubMirror:
    """The copy in a repository of the Hugging Face hub (private when it is made here)."""

    def __init__(self, repository: str, run_dir: Path) -> None:
        self.repository, self.run_dir, self.name = repository, run_dir, run_dir.resolve().name
        self._made = False

    def __str__(self) -> str:
        return f"{HUB}{self.repository}/{self.name}"

    def newest_step(self) -> int | None:
        steps = [step_of(Path(name)) for name in self._checkpoints(SEAL)]
        return max(steps, default=0) if f"{self.name}/run.json" in self._files() else None

    def push(self, keep: Iterable[Path] = ()) -> None:
        api = _api()
        if not self._made:
            api.create_repo(self.repository, private=True, exist_ok=True)
            self._made = True
        wanted = _checkpoints_to_copy(self.run_dir, keep)
        patterns = [*map(str, _small_files(self.run_dir)), *(f"{checkpoint.name}/*" for checkpoint in wanted)]
        message = f"{self.name}: {wanted[0].name if wanted else 'logs'}"
        api.upload_folder(
            repo_id=self.repository,
            folder_path=self.run_dir,
            path_in_repo=self.name,
            allow_patterns=patterns,
            commit_message=message,
        )
        for old in self._checkpoints() - {checkpoint.name for checkpoint in wanted} if wanted else ():
            api.delete_folder(f"{self.name}/{old}", repo_id=self.repository)

    def fetch(self) -> None:
        temporary = self.run_dir.with_name(f".{self.run_dir.name}.fetch")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            _api().snapshot_download(self.repository, allow_patterns=[f"{self.name}/*"], local_dir=temporary)
            os.replace(temporary / self.name, self.run_dir)
        except Exception as error:
            raise RunDirectoryError(
                f"cannot fetch {self}: {_short(error)}; check the network and `hf auth login`"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _files(self) -> list[str]:
        api = _api()
        return list(api.list_repo_files(self.repository)) if api.repo_exists(self.repository) else []

    def _checkpoints(self, holding: str = "") -> set[str]:
        parts = [name.split("/") for name in self._files()]
        return {
            p[1]
            for p in parts
            if p[0] == self.name and len(p) > 2 and p[1].startswith("checkpoint-") and holding in ("", p[2])
        }


def try_push(mirror: Mirror, keep: Iterable[Path] = ()) -> str:
    """Push; what went wrong in one sentence, or nothing. A copy that fails is tried again with the next checkpoint."""
    try:
        mirror.push(keep)
    except Exception as error:  # a Drive or a network that is away raises anything, and must not end the run
        return f"the copy to {mirror} failed ({_short(error)}); the run goes on, and the next checkpoint tries again"
    return ""


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi()


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _changed(source: Path, target: Path) -> bool:
    """Another length, or written since it was copied."""
    try:
        was, now = target.stat(), source.stat()
    except FileNotFoundError:
        return True
    return was.st_size != now.st_size or was.st_mtime_ns < now.st_mtime_ns


def _copy_file(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _copy_checkpoint(source: Path, target: Path) -> None:
    if (
        is_whole(target)
        and (target / SEAL).read_bytes() == (source / SEAL).read_bytes()
        and not _changed(source / SEAL, target / SEAL)
    ):
        return
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(source, temporary, copy_function=shutil.copyfile)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
    except shutil.Error as error:  # copytree's list of one failure a file
        raise OSError(error.args[0][0][2] if error.args and error.args[0] else str(error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
