"""`azr-lite list`: the runs in a folder, one line each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from azr_lite.errors import AzrError, RunDirectoryError
from azr_lite.observe.follow import Followed
from azr_lite.observe.style import printable
from azr_lite.rundir import RunDir


@dataclass(frozen=True)
class Listed:
    """One run. `gain`: held-out points gained over the untrained policy, so far; None where not measured."""

    path: str
    state: str
    done: int = 0
    steps: int = 0
    gain: float | None = None
    model: str = ""


def list_runs(folder: Path) -> list[Listed]:
    """The runs in this folder and one level below, by name; RunDirectoryError where there is none."""
    found = sorted({path.parent for depth in ("", "*/", "*/*/") for path in folder.glob(f"{depth}run.json")})
    if not found:
        what = "holds no run" if folder.is_dir() else "is no folder"
        raise RunDirectoryError(f"{folder} {what}; give the folder of your runs, or start one with azr-lite run nano")
    return [_listed(path) for path in found]


def _listed(path: Path) -> Listed:
    try:
        run = Followed(RunDir.open(path))
    except AzrError:
        return Listed(str(path), "not readable")
    held_out = run.held_out.get("all", [])
    gain = 100 * (held_out[-1].y - held_out[0].y) if len(held_out) > 1 else None
    return Listed(str(path), run.state, run.done, run.config.steps, gain, run.config.model.rpartition("/")[2])


def table(runs: Sequence[Listed]) -> str:
    """In 80 columns."""
    lines = [f"{'run':34} {'state':12} {'steps':>9} {'gain':>6}  model"]
    for one in runs:
        path = printable(one.path)
        name = path if len(path) <= 34 else f"…{path[-33:]}"
        steps, gain = f"{one.done}/{one.steps}" if one.steps else "", "" if one.gain is None else f"{one.gain:+.1f}"
        lines.append(f"{name:34} {one.state:12.12} {steps:>9} {gain:>6}  {printable(one.model):.14}".rstrip())
    return "\n".join(lines)
