"""Has the run passed its best? The stop rule on the held-out evaluations.

Comes in: the evaluations kept under eval/.  Goes out: the best step, and how many evaluations in a row lie significantly below it.
Not covered: evaluating (`evaluation/`), stopping and saving (`longrun.py`).

Nothing is remembered between calls: the files say it all, so a resumed run decides as an unbroken one. Each evaluation is compared
with the best so far on the same items; "significantly below" is McNemar's exact test at 5 %, because the normal interval is too
narrow where few items changed. (The best of many is partly luck: that is why one evaluation below it is not enough to stop.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from azr_lite.evaluation.kept import read_items
from azr_lite.evaluation.scores import Item, overall_gain, score

LEVEL = 0.05
"""Significance of one evaluation's fall below the best."""


@dataclass(frozen=True)
class Standing:
    """`best_step` 0 is the model before training. `below`: evaluations in a row significantly under the best."""

    best_step: int
    best_accuracy: float
    below: int
    step: int
    accuracy: float


def standing(evaluations: Sequence[tuple[int, Sequence[Item]]]) -> Standing | None:
    """Where the newest of these evaluations, (step, items) in order of steps, stands against the best; None without any.

    Of equal accuracies the earlier one is the best.
    """
    if not evaluations:
        return None
    best_step, best = evaluations[0]
    below = 0
    for step, items in evaluations[1:]:
        gain, p = overall_gain(best, items)
        below = below + 1 if gain < 0 and p < LEVEL else 0
        if gain > 0:
            best_step, best = step, items
    step, items = evaluations[-1]
    return Standing(best_step, score(best).accuracy, below, step, score(items).accuracy)


def read_standing(run_dir: Path, every: int, done: int) -> Standing | None:
    """`standing` of the evaluations kept under eval/, up to step `done`. Only evaluations on schedule count: one made at an interrupt must change nothing."""
    steps = [0, *range(every, done + 1, every)] if every else [0]
    found = []
    for step in steps:
        path = run_dir / "eval" / (f"step-{step}.jsonl" if step else "before.jsonl")
        if path.exists():
            found.append((step, read_items(path)))
    return standing(found)
