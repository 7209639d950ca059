"""What this machine's kernel offers, found by locking a fork server down and asking it.

Comes in: nothing (tests: layers to leave out).  Goes out: the level, the layers, and one sentence on what to do.
Not covered: whether the layers hold (`abuse.py` attacks them).  Takes about 0.1 s.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from azr_lite.sandbox.executor import Executor
from azr_lite.sandbox.outcome import Level


@dataclass(frozen=True)
class Probe:
    """The level, every layer ("on" or "off: why"), and advice for a person."""

    level: Level
    layers: dict[str, str]
    advice: str


def probe(skip: str = "") -> Probe:
    """Look. Raises `SandboxError` when not even a fork server starts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with Executor(workers=1, allow_weak=True, _skip=skip) as executor:
            return Probe(executor.level, executor.layers, advice(executor.level, executor.layers))


def advice(level: Level, layers: dict[str, str]) -> str:
    """One sentence: what this level means here."""
    missing = ", ".join(f"{name} ({state})" for name, state in layers.items() if state != "on")
    if level is Level.FULL:
        return "Kernel isolation with at least two independent layers." + (f" Missing, but not needed: {missing}." if missing else "")
    if level is Level.KERNEL:
        return f"Isolated by the system-call filter alone; missing: {missing}. A newer Docker, or a plain Linux user, gives more."
    return (
        f"No kernel isolation: {missing}. Model-written programs are refused unless allow_weak is set. Use Linux: WSL2 on "
        "Windows, Docker or a virtual machine on macOS."
    )
