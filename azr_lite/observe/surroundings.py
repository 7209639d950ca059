"""Whether a notebook shows what is displayed, and whether anybody is there to move a slider.

Not covered: what is displayed (`panels.py`, `explorer.py`, `learn/`).
"""

from __future__ import annotations

import importlib.util
import os
import sys


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel, so that an output can be renewed in place."""
    shell = sys.modules.get("IPython")
    return shell is not None and getattr(shell.get_ipython(), "kernel", None) is not None


def has_widgets() -> bool:
    """Whether ipywidgets is installed."""
    return importlib.util.find_spec("ipywidgets") is not None


def live() -> bool:
    """Whether widgets would answer: a kernel, ipywidgets, and nobody who executes the notebook unseen (who sets `AZR_LITE_STATIC`)."""
    return in_notebook() and has_widgets() and not os.environ.get("AZR_LITE_STATIC")
