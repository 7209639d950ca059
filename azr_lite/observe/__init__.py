"""Looking at a run: what its numbers mean, what it wrote, why it was paid. Reads a run directory; no training code imports it.

`replay` makes a step again from the log, `rescore` pays a recorded run otherwise. In a notebook `dashboard` follows a run, `explore`
filters its proposals with widgets, `browse` shows them on a page that needs no kernel. On a terminal: `azr-lite show`, `replay`,
`watch`, `report`. Names load at first use: the style of figures needs no more than matplotlib.
Not covered: training (`loop.py`), held-out scores (`evaluation/`).
"""

from typing import Any

_LAZY = {
    "Browser": "report",
    "Difference": "replaying",
    "Explorer": "explorer",
    "Replay": "replaying",
    "StepComparison": "rescoring",
    "browse": "report",
    "dashboard": "panels",
    "explore": "explorer",
    "replay": "replaying",
    "rescore": "rescoring",
}
__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    """Load a public name at first use (PEP 562). No file here is called like one of them: importing it would hide the function."""
    if name not in _LAZY:
        raise AttributeError(f"module 'azr_lite.observe' has no attribute {name!r}; it offers {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(f"azr_lite.observe.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return __all__
