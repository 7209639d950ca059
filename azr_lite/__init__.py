"""azr_lite: Absolute Zero self-play, small enough to read, correct, and safe to run.

``azr_lite.run("nano")`` trains; ``azr_lite.resume(path)`` goes on. Importing this package loads no torch.
"""

from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "run": "azr_lite.loop",
    "resume": "azr_lite.loop",
    "RunResult": "azr_lite.loop",
    "Config": "azr_lite.config",
    "preset": "azr_lite.presets",
    "presets": "azr_lite.presets",
    "doctor": "azr_lite.machine",
    "plan": "azr_lite.hardware",
    "Plan": "azr_lite.hardware",
    "Executor": "azr_lite.sandbox",
}
__all__ = sorted(["__version__", *_LAZY])


def __getattr__(name: str) -> Any:
    """Load a public name at first use (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module 'azr_lite' has no attribute {name!r}; it offers {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
