"""Looking at a run: what its numbers mean, what it wrote, why it was paid. Reads a run directory; no training code imports it.

`replay` makes a step again from the log, `rescore` pays a recorded run otherwise. On a terminal: `azr-lite show`, `replay`, `watch`.
Not covered: training (`loop.py`), held-out scores (`evaluation/`).
"""

from azr_lite.observe.replay import Difference, Replay, replay
from azr_lite.observe.rescoring import StepComparison, rescore

__all__ = ["Difference", "Replay", "StepComparison", "replay", "rescore"]
