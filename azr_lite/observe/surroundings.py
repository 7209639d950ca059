"""Whether a notebook shows what is displayed, whether anybody is there to move a slider, and a picture as either of them gets it.

Comes in: the process; a PNG and its words.  Goes out: yes or no; what `IPython.display` is to show.
Not covered: what is displayed (`panels.py`, `explorer.py`, `learn/`).
"""

from __future__ import annotations

import base64
import html
import importlib.util
import os
import sys
from typing import Any


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel, so that an output can be renewed in place."""
    shell = sys.modules.get("IPython")
    return shell is not None and getattr(shell.get_ipython(), "kernel", None) is not None


def has_widgets() -> bool:
    """Whether ipywidgets is installed."""
    return importlib.util.find_spec("ipywidgets") is not None


def watched() -> bool:
    """Whether somebody looks on: a kernel, and nobody who executes the notebook unseen (who sets `AZR_LITE_STATIC`)."""
    return in_notebook() and not os.environ.get("AZR_LITE_STATIC")


def live() -> bool:
    """Whether widgets would answer: somebody looks on, and ipywidgets is installed."""
    return watched() and has_widgets()


def image(png: bytes, words: str) -> str:
    """A picture as HTML, with its words for those who do not see it."""
    data = base64.b64encode(png).decode()
    return f'<img alt="{html.escape(words)}" src="data:image/png;base64,{data}" style="max-width: 100%">'


def picture(png: bytes, words: str, text: str) -> tuple[dict[str, str], dict[str, Any]]:
    """A picture as data and metadata of an output. `words` are its alternative text, `text` is shown where there are no pictures.

    JupyterLab and notebook 7 drop the alternative text of a plain PNG, so whoever looks on gets HTML. What is stored unseen keeps the
    PNG, which every viewer of stored notebooks shows.
    """
    if watched():
        return {"text/html": image(png, words), "text/plain": text}, {}
    return {"image/png": base64.b64encode(png).decode(), "text/plain": text}, {"image/png": {"alt": words}}
