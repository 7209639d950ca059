"""A second copy of a run, for machines that go away: pushed after each checkpoint, fetched back to go on.

Comes in: a run directory and a place: a folder (Google Drive, a mounted disk) or ``hub:USER/REPO``.  Goes out: the copy, under the
run's name in that place: settings, logs, evaluations, the newest whole checkpoint and the best one.
Not covered: when to push (`longrun.py`), copying in the background, emptying the hub's history of replaced checkpoints.

Logs go first and the checkpoint after them: a copy cut short holds a whole older checkpoint and logs that resuming cuts back to it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from azr_lite.checkpoints import SEAL, is_whole, last_whole_checkpoint, step_of
from azr_lite.errors import RunDirectoryError
from azr_lite.rundir import LOGS


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
            repo_id=self.repository, folder_path=self.run_dir, path_in_repo=self.name, allow_patterns=patterns, commit_message=message
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
            raise RunDirectoryError(f"cannot fetch {self}: {_short(error)}; check the network and `hf auth login`") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _files(self) -> list[str]:
        api = _api()
        return list(api.list_repo_files(self.repository)) if api.repo_exists(self.repository) else []

    def _checkpoints(self, holding: str = "") -> set[str]:
        parts = [name.split("/") for name in self._files()]
        return {p[1] for p in parts if p[0] == self.name and len(p) > 2 and p[1].startswith("checkpoint-") and holding in ("", p[2])}


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
    if is_whole(target) and (target / SEAL).read_bytes() == (source / SEAL).read_bytes() and not _changed(source / SEAL, target / SEAL):
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
