"""Recorded numbers for notebooks: the files of ``data_samples``, from the checkout or else downloaded once."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from azr_lite.course.lessons import REPOSITORY
from azr_lite.errors import AzrError
from azr_lite.rundir import write_text

ROOT = Path(__file__).parents[2]
SECONDS = 20

PATIENTS: dict[str, tuple[str, str]] = {
    "A": ("impossible-tasks", "impossible tasks"),
    "B": ("healthy", "healthy"),
    "C": ("sign-flip", "sign flip"),
    "D": ("length-blow-up", "length blow-up"),
    "E": ("greedy-monte-carlo", "identical answers"),
    "F": ("trivial-tasks", "easy tasks"),
}
"""The six runs of notebook 08. Letter: folder in ``data_samples/runs/bugs``, and the name of what it has."""

SAMPLE = ("config.json", "metrics.jsonl", "rollouts.jsonl", "summary.json")
EVALUATIONS = tuple(f"eval/{name}" for name in ("before.json", "before.jsonl", "step-14.json", "step-14.jsonl"))
WHOLE = (*SAMPLE, "run.json", "tasks.jsonl", "timing.jsonl", *EVALUATIONS)


def recorded(name: str) -> Path:
    """The file ``data_samples/<name>``. AzrError where it is neither here nor can be downloaded."""
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
                f"data_samples/{name} is not here and {source} could not be downloaded ({error}); clone the repository"
            ) from error
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, text)
    return kept


def sample(name: str) -> Path:
    """The folder of one kept sample of `data_samples/runs`, such as ``bugs/healthy``."""
    return _folder(name, SAMPLE)


def patient(letter: str) -> Path:
    """The folder of one of the six, A to F."""
    return sample(f"bugs/{PATIENTS[letter][0]}")


def whole_run() -> Path:
    """The folder of the kept whole run: nano, 14 steps, two task types."""
    return _folder("whole/nano-small", WHOLE)


def _folder(name: str, files: tuple[str, ...]) -> Path:
    paths = [recorded(f"runs/{name}/{file}") for file in files]  # where they are not here, each is downloaded
    return paths[0].parent
