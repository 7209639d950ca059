"""Evaluation: the three games, code and mathematics, before and after; with intervals, and everything kept.

``evaluate(model, "games")`` asks and marks; see `api.py`. Importing this loads neither torch nor any benchmark's package.
"""

from azr_lite.evaluation.reasoning import held_out_problems
from azr_lite.evaluation.scores import Item, Score, compare_paired, summarize

__all__ = ["Item", "Score", "compare_paired", "evaluate", "held_out_problems", "summarize"]


def __getattr__(name: str):
    if name == "evaluate":
        from azr_lite.evaluation.api import evaluate

        return evaluate
    raise AttributeError(f"module 'azr_lite.evaluation' has no attribute {name!r}")
