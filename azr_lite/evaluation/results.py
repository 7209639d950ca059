"""An evaluation as files: NAME.json (the record), NAME.jsonl (every item), NAME.replies.jsonl (not yet finished)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.scores import Item, overall_gain, score
from azr_lite.rundir import write_text

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
    """The self-play step of an evaluation made in training: 0 of ``before``, N of ``step-N``; else ValueError."""
    return 0 if path.stem == "before" else int(path.stem.removeprefix("step-"))


def scores_until(folder: Path, step: int) -> dict[int, dict[str, dict[str, Any]]]:
    """The scores of every evaluation made in training up to and including this step, by step."""
    paths = {evaluated_step(path): path for path in folder.glob("*.json")}
    return {made: json.loads(paths[made].read_text(encoding="utf-8"))["scores"] for made in paths if made <= step}


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
            f"{path} has another version's format {version} (known: {VERSION}); evaluate again in another folder"
        )
    return Result(name, items, record)


class WaitingReplies:
    """Replies of an unfinished suite: a heading, then one row per chunk; a line cut short is made again."""

    def __init__(self, path: Path, heading: dict[str, Any]) -> None:
        self.path = path
        whole = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # what follows the last newline is torn
        rows = [json.loads(line) for line in whole]
        if rows and rows[0] != json.loads(json.dumps(heading)):
            raise EvaluationError(
                f"{path} waits for another evaluation to go on; choose another --output-dir, or remove that file"
            )
        self.rows = {row["chunk"]: row for row in rows[1:]}
        write_text(path, "".join(line.decode() + "\n" for line in whole) or json.dumps(heading) + "\n")

    def add(self, row: dict[str, Any]) -> None:
        self.rows[row["chunk"]] = row
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise EvaluationError(
                f"cannot write {self.path}: {error.strerror}; make room, then run this again: it goes on"
            ) from error


FALL = 0.05
"""Significance from which an evaluation counts as a fall below the best."""


@dataclass(frozen=True)
class Standing:
    """The newest held-out evaluation against the best. `best_step` 0: the model before training. `below`: evaluations
    in a row that are significantly under the best."""

    best_step: int
    best_accuracy: float
    below: int
    step: int
    accuracy: float


def standing(evaluations: Sequence[tuple[int, Sequence[Item]]]) -> Standing | None:
    """Where the newest of these evaluations, (step, items) in order of steps, stands against the best; None of none.

    Of equal accuracies the earlier one is the best.
    """
    if not evaluations:
        return None
    best_step, best = evaluations[0]
    below = 0
    for step, items in evaluations[1:]:
        gain, p = overall_gain(best, items)
        below = below + 1 if gain < 0 and p < FALL else 0
        if gain > 0:
            best_step, best = step, items
    step, items = evaluations[-1]
    return Standing(best_step, score(best).accuracy, below, step, score(items).accuracy)
