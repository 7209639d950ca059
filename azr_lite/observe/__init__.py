"""Looking at a run: what its numbers mean, what it wrote, why it was paid. Reads a run directory; no training code imports it.

`replay` makes a step again from the log, `rescore` pays a recorded run otherwise. In a notebook `dashboard` follows a run, `explore`
filters its proposals with widgets, `browse` shows them on a page that needs no kernel. On a terminal: `azr-lite show`, `replay`,
`watch`, `report`.
Not covered: training (`loop.py`), held-out scores (`evaluation/`).
"""

from azr_lite.observe.dashboard import dashboard
from azr_lite.observe.explorer import Explorer, explore
from azr_lite.observe.replay import Difference, Replay, replay
from azr_lite.observe.report import Browser, browse
from azr_lite.observe.rescoring import StepComparison, rescore

__all__ = ["Browser", "Difference", "Explorer", "Replay", "StepComparison", "browse", "dashboard", "explore", "replay", "rescore"]
