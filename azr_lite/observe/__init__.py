"""Looking at a run: what its numbers mean, what it wrote, why it was paid. Reads a run directory; no training code imports it.

`replay` makes a step again from the log, `rescore` pays a recorded run otherwise. In a notebook `dashboard` follows a run, `explore`
filters its proposals with widgets, `browse` shows them on a page that needs no kernel. On a terminal: `azr-lite show`, `replay`,
`watch`, `report`. Names load at first use: the style of figures needs no more than matplotlib.
Not covered: training (`loop.py`), held-out scores (`evaluation/`).
"""

from azr_lite.lazy import lazy_names

_LAZY = {
    "Browser": "azr_lite.observe.report",
    "Difference": "azr_lite.observe.replay",
    "Explorer": "azr_lite.observe.explorer",
    "Replay": "azr_lite.observe.replay",
    "StepComparison": "azr_lite.observe.rescoring",
    "browse": "azr_lite.observe.report",
    "dashboard": "azr_lite.observe.dashboard",
    "explore": "azr_lite.observe.explorer",
    "replay": "azr_lite.observe.replay",
    "rescore": "azr_lite.observe.rescoring",
}
__all__ = sorted(_LAZY)

__getattr__, __dir__ = lazy_names(__name__, _LAZY)
