"""Evaluation: the three games, code and mathematics, before and after; with intervals, and everything kept.

``evaluate(model, "games")`` asks and marks; see `api.py`. Importing this loads nothing else: each name is loaded at first use.
"""

from azr_lite.lazy import lazy_names

_LAZY = {
    "evaluate": "azr_lite.evaluation.api",
    "Evaluation": "azr_lite.evaluation.api",
    "held_out_problems": "azr_lite.evaluation.reasoning",
    "Item": "azr_lite.evaluation.scores",
    "Score": "azr_lite.evaluation.scores",
    "compare_paired": "azr_lite.evaluation.scores",
    "summarize": "azr_lite.evaluation.scores",
}
__all__ = sorted(_LAZY)

__getattr__, __dir__ = lazy_names(__name__, _LAZY)
