"""Recorded numbers for notebooks: where the files of ``data_samples`` are.

Comes in: a path inside ``data_samples``.  Goes out: that file on this machine.
Not covered: what is in them. A checkout has them all; where the package alone was installed (Colab), each is downloaded once.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from azr_lite.errors import AzrError
from azr_lite.learn.course import REPOSITORY
from azr_lite.rundir import write_text

ROOT = Path(__file__).parents[2]
SECONDS = 20


def recorded(name: str) -> Path:
    """The file ``data_samples/<name>``. AzrError where it is neither here nor to be had."""
    here = ROOT / "data_samples" / name
    if here.exists():
        return here
    kept = Path.home() / ".cache" / "azr-lite" / name
    if not kept.exists():
        source = f"https://raw.githubusercontent.com/{REPOSITORY}/main/data_samples/{name}"
        try:
            with urllib.request.urlopen(source, timeout=SECONDS) as reply:
                text = reply.read().decode("utf-8")
        except (urllib.error.URLError, TimeoutError) as error:
            raise AzrError(
                f"data_samples/{name} is not here and could not be downloaded from {source} ({error}); clone the repository"
            ) from error
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, text)
    return kept
