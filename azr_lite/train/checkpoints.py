"""Which checkpoints can be trusted: sealing, finding and dropping a run's checkpoint-N folders; their copy elsewhere.

A checkpoint counts only when it is sealed: ``whole.json``, written last and atomically, lists every file with its
size. A process killed while saving leaves an unsealed folder, which is never resumed from.
"""

from __future__ import annotations

import errno
import filecmp
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from azr_lite.config import CHANGEABLE_ON_RESUME, Config
from azr_lite.environment import describe_environment
from azr_lite.errors import ConfigError, RunDirectoryError
from azr_lite.rundir import LOGS, RunDir, write_json

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
    return bool(listed) and listed.items() <= _sizes(checkpoint).items()


def last_whole_checkpoint(run_dir: str | Path) -> Path | None:
    """The newest checkpoint that can be resumed from, or None."""
    return next((path for path in _newest_first(Path(run_dir)) if is_whole(path)), None)


def drop_old(run_dir: str | Path, keep: int, also: Path | None = None) -> None:
    """Delete all but the `keep` newest whole checkpoints and `also` (the best one); folders cut by a kill go too."""
    whole = [path for path in _newest_first(Path(run_dir)) if is_whole(path)]
    for path in _newest_first(Path(run_dir)):
        if path not in whole[:keep] and not (path in whole and path == also):
            _remove(path)


def load_state(checkpoint: str | Path) -> dict[str, Any]:
    """The self-play state of a whole checkpoint; RunDirectoryError otherwise."""
    path = Path(checkpoint)
    if not is_whole(path):
        raise RunDirectoryError(f"{path} is not a whole checkpoint; `azr-lite resume` finds the newest whole one")
    return json.loads((path / STATE).read_text(encoding="utf-8"))


def step_of(checkpoint: Path | None) -> int:
    """Optimiser updates done when this checkpoint was written; 0 where there is none."""
    return int(checkpoint.name.removeprefix("checkpoint-")) if checkpoint else 0


def why_not(write: Callable[[], Any]) -> str:
    """Why this could not be written on some process, the same words on all, or nothing. Other errors are raised."""
    from accelerate.utils import gather_object

    reason = ""
    try:
        write()
    except Exception as error:
        if not (reason := _writing_failed(error)):
            raise
    return next(filter(None, gather_object([reason])), "")


def _writing_failed(error: BaseException) -> str:
    """Why writing a checkpoint failed, in a few words; empty for an error that is not about writing."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, RunDirectoryError):
        return _writing_failed(error.__cause__) if error.__cause__ else ""
    text = str(error)
    if type(error).__name__ == "SafetensorError":  # with the system's words in it
        return _NO_ROOM if _NO_ROOM in text else text
    # torch.save names its zip writer
    torch_writer = ("PytorchStreamWriter", "inline_container", "unexpected pos", "file write failed", "iostream error")
    return _NO_ROOM if isinstance(error, RuntimeError) and any(words in text for words in torch_writer) else ""


def abandon(folder: Path, reason: str, size: float) -> None:
    """Remove a checkpoint that could not be written, so that its room is free again, and raise RunDirectoryError.

    `size`: about how large it would be (bytes), where the run has no other to judge by.
    """
    shutil.rmtree(folder, ignore_errors=True)
    whole = last_whole_checkpoint(folder.parent)
    further = f"`azr-lite resume {folder.parent}` goes on from {whole.name if whole else 'the start'}"
    if reason == _NO_ROOM:
        size = sum(_sizes(whole).values()) if whole else size
        amount = f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
        raise RunDirectoryError(f"no room for a checkpoint of about {amount} at {folder}; free some; {further}")
    raise RunDirectoryError(f"the checkpoint at {folder} could not be written ({reason}); check that disk; {further}")


def expected_bytes(parameters: Iterable[Any]) -> float:
    """A checkpoint's size before there is one: the parameters that are trained, and two float32 moments per number."""
    return sum(p.numel() * (p.element_size() + 8) for p in parameters if p.requires_grad)


_NO_ROOM = os.strerror(errno.ENOSPC)


def _newest_first(run_dir: Path) -> list[Path]:
    found = [p for p in run_dir.glob("checkpoint-*") if p.is_dir() and p.name.removeprefix("checkpoint-").isdecimal()]
    return sorted(found, key=step_of, reverse=True)


def _sizes(checkpoint: Path) -> dict[str, int]:
    files = (p for p in checkpoint.rglob("*") if p.is_file() and p.name != SEAL)
    return {str(p.relative_to(checkpoint)): p.stat().st_size for p in sorted(files)}


# ---------------------------------------------------------------- the copy elsewhere

FILES = ("config.json", "run.json", "summary.json", *LOGS)
HUB = "hub:"


def mirror_of(sync_to: str, run_dir: Path) -> FolderMirror | HubMirror | None:
    """The second copy of this run; None where `sync_to` is empty."""
    if sync_to.startswith(HUB):
        return HubMirror(sync_to.removeprefix(HUB), run_dir)
    target = Path(sync_to).expanduser() / run_dir.resolve().name
    if sync_to and target.resolve() == run_dir.resolve():
        raise ConfigError(f"sync_to is {sync_to!r}, where the run itself is; give another folder, or '' for no copy")
    return FolderMirror(target, run_dir) if sync_to else None


class Mirror:
    """The copy of one run, wherever it lies. A place that is away raises whatever its library raises.

    `newest_step`: updates in the newest whole checkpoint there; 0 for a copy without one; None where there is no copy.
    `push`: copy what changed: settings, logs, evaluations, the newest whole checkpoint, and the `best`.
    `_download`: copy everything into a folder, and return where in it the run is.
    """

    run_dir: Path
    advice: str

    def fetch(self) -> None:
        """The copy becomes the run directory; it appears there whole or not at all."""
        temporary = self.run_dir.with_name(f".{self.run_dir.name}.fetch")
        shutil.rmtree(temporary, ignore_errors=True)
        self.run_dir.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(self._download(temporary), self.run_dir)
        except Exception as error:
            raise RunDirectoryError(f"cannot fetch {self} to {self.run_dir}: {_short(error)}; {self.advice}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _small_files(self) -> list[str]:
        """What is copied but checkpoints, relative to the run: settings, logs, evaluations (items before records)."""
        found = [self.run_dir / name for name in FILES] + sorted((self.run_dir / "eval").glob("*.json*"), reverse=True)
        return [path.relative_to(self.run_dir).as_posix() for path in found if path.is_file()]

    def _checkpoints_to_copy(self, best: Path | None) -> list[Path]:
        """The newest whole checkpoint first."""
        found = dict.fromkeys([last_whole_checkpoint(self.run_dir), best])
        return [path for path in found if path is not None and is_whole(path)]


class FolderMirror(Mirror):
    """The copy in a folder. A file or checkpoint appears there under its name only once it is complete."""

    advice = "make room, or check that it is mounted"

    def __init__(self, target: Path, run_dir: Path) -> None:
        self.target, self.run_dir = target, run_dir

    def __str__(self) -> str:
        return str(self.target)

    def newest_step(self) -> int | None:
        self._check_mounted()
        if not (self.target / "run.json").exists():
            return None
        return step_of(last_whole_checkpoint(self.target))

    def push(self, best: Path | None = None) -> None:
        self._check_mounted()
        for left in self.target.glob(".*.tmp"):  # by a kill
            _remove(left)
        for name in self._small_files():
            if _changed(self.run_dir / name, self.target / name):
                _replace(self.run_dir / name, self.target / name)
        wanted = {path.name: path for path in self._checkpoints_to_copy(best)}
        for name, checkpoint in wanted.items():
            if not is_whole(self.target / name) or _changed(checkpoint / SEAL, self.target / name / SEAL):
                _replace(checkpoint, self.target / name)
        for old in self.target.glob("checkpoint-*") if wanted else ():
            if old.name not in wanted:
                _remove(old)

    def _check_mounted(self) -> None:
        above = self.target.parent.parent
        if not above.is_dir():  # making it would fill the local disk in the place of a Drive that is not mounted
            raise OSError(f"{above} is not there; is it mounted?")

    def _download(self, temporary: Path) -> Path:
        return shutil.copytree(self.target, temporary, ignore=shutil.ignore_patterns(".*"))


class HubMirror(Mirror):
    """The copy in a repository of the Hugging Face hub (private when it is made here)."""

    advice = "check the network and `hf auth login`"

    def __init__(self, repository: str, run_dir: Path) -> None:
        from huggingface_hub import HfApi

        self.repository, self.run_dir, self.name, self.api = repository, run_dir, run_dir.resolve().name, HfApi()

    def __str__(self) -> str:
        return f"{HUB}{self.repository}/{self.name}"

    def newest_step(self) -> int | None:
        files = self._files()
        sealed = [step_of(file.parent) for file in files if file.match(f"checkpoint-*/{SEAL}")]
        return max(sealed, default=0) if Path("run.json") in files else None

    def push(self, best: Path | None = None) -> None:
        wanted = [path.name for path in self._checkpoints_to_copy(best)]
        self.api.create_repo(self.repository, private=True, exist_ok=True)
        self.api.upload_folder(
            repo_id=self.repository,
            folder_path=self.run_dir,
            path_in_repo=self.name,
            allow_patterns=[*self._small_files(), *(f"{name}/*" for name in wanted)],
            commit_message=f"{self.name}: {wanted[0] if wanted else 'logs'}",
        )
        there = {file.parts[0] for file in self._files() if file.parts[0].startswith("checkpoint-")}
        for old in there.difference(wanted) if wanted else ():
            self.api.delete_folder(f"{self.name}/{old}", repo_id=self.repository)

    def _download(self, temporary: Path) -> Path:
        self.api.snapshot_download(self.repository, allow_patterns=[f"{self.name}/*"], local_dir=temporary)
        return temporary / self.name

    def _files(self) -> list[Path]:
        """What is there of this run, relative to it."""
        there = self.api.repo_exists(self.repository)
        found = map(Path, self.api.list_repo_files(self.repository) if there else ())
        return [path.relative_to(self.name) for path in found if path.is_relative_to(self.name)]


def try_push(mirror: FolderMirror | HubMirror, best: Path | None = None) -> str:
    """Push; what went wrong in one sentence, or nothing. A copy that fails is tried again with the next checkpoint."""
    try:
        mirror.push(best)
    except Exception as error:  # a Drive or a network that is away raises anything, and must not end the run
        return f"the copy to {mirror} failed ({_short(error)}); the run goes on, and the next checkpoint tries again"
    return ""


def _short(error: BaseException) -> str:
    if isinstance(error, shutil.Error):  # a list with one entry per file that failed
        return str(error.args[0][0][2])
    return " ".join(str(error).split())[:200] or type(error).__name__


def _changed(source: Path, target: Path) -> bool:
    return not (target.exists() and filecmp.cmp(source, target))


def _replace(source: Path, target: Path) -> None:
    """Copy a file or a checkpoint under a temporary name, then rename."""
    temporary = target.with_name(f".{target.name}.tmp")
    _remove(temporary)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if source.is_dir():
            shutil.copytree(source, temporary, copy_function=shutil.copyfile)
            _remove(target)
        else:
            shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    """A file, or a checkpoint: its seal first, so that a kill in the middle leaves nothing that looks whole."""
    if path.is_dir():
        (path / SEAL).unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


# ---------------------------------------------------------------- the directory of a new run


def make_directory(config: Config, go_on: bool, note: Callable[[str], None]) -> bool:
    """Make the directory of a new run; False where there is one to go on with: here, or fetched back from `sync_to`.

    Called on the main process. RunDirectoryError where something is in the way of a new run or in the place of its
    copy, or where the copy cannot be reached. ConfigError where that run has other settings.
    """
    run_dir, mirror = Path(config.output_dir), mirror_of(config.sync_to, Path(config.output_dir))
    if not (go_on and (run_dir / "run.json").exists()):
        try:
            there = mirror.newest_step() if mirror is not None else None
        except Exception as error:
            why = f"cannot look for a copy at {mirror} ({error}); mount it, check the network, or drop --sync-to"
            raise RunDirectoryError(why) from error
        if there is None:
            left = list(run_dir.glob("*"))  # by a kill that came before run.json
            for path in left if go_on and all(p.name == "config.json" or p.suffix == ".tmp" for p in left) else ():
                path.unlink()
            RunDir.create(config, {"environment": describe_environment()})
            return True
        if not go_on:
            raise RunDirectoryError(f"{mirror} holds a copy of a run already; use --go-on, or another --sync-to")
        note(f"fetching the run back from {mirror}")
        mirror.fetch()
    besides = ("preset", "output_dir", *(["prompts"] if config.prompts == "auto" else []))  # then a trial chose them
    if foreign := foreign_settings(RunDir.open(run_dir).config(), config, besides=besides):
        names = ", ".join(foreign)
        raise ConfigError(f"{run_dir} holds a run with other settings ({names}); give the same or another --output-dir")
    return False


def find_start(config: Config, summary: dict[str, Any] | None) -> Path | None:
    """The newest whole checkpoint, or None to begin anew. RunDirectoryError where going on would destroy what is kept:
    a copy that is ahead of the run, or the record of a run whose checkpoints are gone."""
    run_dir, there = Path(config.output_dir), None
    newest, mirror = last_whole_checkpoint(run_dir), mirror_of(config.sync_to, run_dir)
    with suppress(Exception):  # away just now: what is here goes on
        there = mirror and mirror.newest_step()
    if (there or 0) > step_of(newest):
        both = f"the copy at {mirror} is ahead of {run_dir} ({there} updates against {step_of(newest)})"
        raise RunDirectoryError(f"{both}; delete the one you do not want, or resume with another --sync-to")
    if summary and not newest:  # it was saved before its summary was written
        lost = f"{run_dir} holds the record of {summary['steps']} steps and no whole checkpoint"
        raise RunDirectoryError(f"{lost}: it would begin anew; bring a checkpoint back, or start a new run")
    return newest


def foreign_settings(old: Config, new: Config, besides: Sequence[str] = ()) -> list[str]:
    """Names of the settings that differ and that a resumed run cannot change; those in `besides` do not count."""
    was, now = old.to_json(), new.to_json()
    return [name for name in was if name not in (*CHANGEABLE_ON_RESUME, *besides) and was[name] != now[name]]
