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
from pathlib import Path
from typing import Any

from azr_lite.errors import RunDirectoryError
from azr_lite.rundir import write_json

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
        raise RunDirectoryError(f"{path} is not a whole checkpoint; resume from the newest whole one of its run (azr-lite resume does)")
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
        raise RunDirectoryError(f"no room for a checkpoint of about {amount} at {folder}; free some or choose another disk; {on}")
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
