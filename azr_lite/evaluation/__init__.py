"""Evaluation: the three games, code and mathematics, before and after; with intervals, and everything kept.

``evaluate(model, "games")`` asks and marks; see `api.py`. Importing this loads nothing else: each name is loaded at first use.
"""

from typing import Any

_LAZY = {
    "evaluate": "api",
    "Evaluation": "api",
    "held_out_problems": "reasoning",
    "Item": "scores",
    "Score": "scores",
    "compare_paired": "scores",
    "summarize": "scores",
}
__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'azr_lite.evaluation' has no attribute {name!r}; it offers {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(f"azr_lite.evaluation.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return __all__
