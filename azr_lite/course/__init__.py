"""For learners: exercise checks, figures, sliders, the grader, the notebooks' builder, and runs that are sick on purpose.

Comes in: what notebooks hand over.  Goes out: words and pictures under their cells. Imported by nothing else in the package; importing it
loads numpy at most.
Not covered: healthy runs, which need nothing from here.
"""

from __future__ import annotations

import os

from azr_lite.course.checks import check
from azr_lite.errors import ConfigError

__all__ = ["PROFILES", "check", "profile"]

PROFILES = ("ci", "cpu", "gpu")
"""How much a notebook does: seconds for tests, minutes on a laptop, what one GPU is worth."""


def profile(wanted: str = "auto") -> str:
    """The profile of a notebook. "auto": `AZR_LITE_PROFILE` where it is set, else "gpu" where nvidia-smi names one, else "cpu"."""
    if wanted == "auto":
        wanted = os.environ.get("AZR_LITE_PROFILE", "")
    if not wanted:
        from azr_lite.planner.cards import detect_gpu

        wanted = "gpu" if detect_gpu() is not None else "cpu"
    if wanted not in PROFILES:
        raise ConfigError(f"PROFILE is {wanted!r}; choose auto, {', '.join(PROFILES)}")
    return wanted
