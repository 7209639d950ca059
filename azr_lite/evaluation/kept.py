"""A finished evaluation as files: NAME.json (the record) and NAME.jsonl (every item), read and spelled.

Comes in: a folder and a name.  Goes out: a `Result`; EvaluationError for what is damaged or of another format.
Not covered: making one (`harness.py`), the statistics (`scores.py`). Looking at a run needs no more than this, so it stands alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.scores import Item

VERSION = 1


@dataclass(frozen=True)
class Result:
    """One suite answered by one model. `record`: what NAME.json holds."""

    name: str
    items: list[Item]
    record: dict[str, Any]

    @property
    def scores(self) -> dict[str, dict[str, Any]]:
        return self.record["scores"]


def lines_of(items: Sequence[Item]) -> str:
    """Items as JSON lines."""
    return "".join(json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in items)


def read_items(path: Path) -> list[Item]:
    """Inverse of `lines_of`, from a file."""
    return [Item(**json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n") if line]


def evaluated_step(path: Path) -> int:
    """The self-play step of an evaluation made in training: 0 of ``before``, N of ``step-N``. ValueError for another name."""
    return 0 if path.stem == "before" else int(path.stem.removeprefix("step-"))


def scores_until(folder: Path, step: int) -> dict[int, dict[str, dict[str, Any]]]:
    """The scores of every evaluation made in training up to and including this step, by step."""
    steps = {path: evaluated_step(path) for path in folder.glob("*.json")}
    return {
        made: json.loads(path.read_text(encoding="utf-8"))["scores"] for path, made in steps.items() if made <= step
    }


def read_result(folder: Path, name: str) -> Result | None:
    """A finished evaluation, or None where there is none. EvaluationError for a damaged one."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        items = read_items(path.with_suffix(".jsonl"))
        version = record["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(
            f"{path} cannot be read ({type(error).__name__}: {error}); remove it and its .jsonl, and evaluate again"
        ) from error
    if version != VERSION:
        raise EvaluationError(
            f"{path} was written by another version of azr-lite (format {version}, known: {VERSION}); evaluate again elsewhere"
        )
    return Result(name, items, record)
