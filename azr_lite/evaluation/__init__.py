"""Evaluation of reasoning, code and mathematics, with intervals; everything is kept (see `runner.evaluate`)."""

from azr_lite import lazy_names

_LAZY = {
    **dict.fromkeys(("evaluate", "Evaluation"), "azr_lite.evaluation.runner"),
    "held_out_problems": "azr_lite.evaluation.reasoning",
    **dict.fromkeys(("Item", "compare_paired", "summarize"), "azr_lite.evaluation.scores"),
}
__all__ = sorted(_LAZY)

__getattr__, __dir__ = lazy_names(__name__, _LAZY)
