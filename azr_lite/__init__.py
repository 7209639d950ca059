"""azr_lite: Absolute Zero self-play, small enough to read, correct, and safe to run.

``azr_lite.run("nano")`` trains; ``azr_lite.resume(path)`` goes on. Importing this package loads no torch.
"""

from azr_lite.lazy import lazy_names

__version__ = "0.1.0"

_LAZY = {
    "run": "azr_lite.loop",
    "resume": "azr_lite.loop",
    "RunResult": "azr_lite.loop",
    "Config": "azr_lite.config",
    "preset": "azr_lite.presets",
    "presets": "azr_lite.presets",
    "doctor": "azr_lite.planner.plan",
    "plan": "azr_lite.planner.plan",
    "Plan": "azr_lite.planner.plan",
    "Executor": "azr_lite.sandbox",
}
__all__ = sorted(["__version__", *_LAZY])

__getattr__, __dir__ = lazy_names(__name__, _LAZY)
