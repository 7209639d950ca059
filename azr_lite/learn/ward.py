"""Six recorded runs without their names, for notebook 07; and the one whole run that is kept.

Comes in: a letter.  Goes out: the run's folder, and what it suffers from, as the run doctor calls it.
Not covered: the diagnosis (`observe/doctor.py`); what each wrong guess gets to hear (`exercises/nb07.py`).

Students: the table below is the answer sheet.
"""

from __future__ import annotations

from pathlib import Path

from azr_lite.learn.recorded import recorded

PATIENTS: dict[str, tuple[str, str]] = {
    "A": ("impossible-tasks", "impossible tasks"),
    "B": ("healthy", "healthy"),
    "C": ("sign-flip", "sign flip"),
    "D": ("length-blow-up", "length blow-up"),
    "E": ("greedy-monte-carlo", "identical answers"),
    "F": ("trivial-tasks", "easy tasks"),
}
"""Letter: folder in ``data_samples/runs/bugs``, and the name of what it has."""

SAMPLE = ("config.json", "metrics.jsonl", "rollouts.jsonl", "summary.json")
WHOLE = (*SAMPLE, "run.json", "tasks.jsonl", "timing.jsonl", *(f"eval/{name}" for name in ("before.json", "before.jsonl", "step-14.json", "step-14.jsonl")))  # fmt: skip


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
    paths = [recorded(f"runs/{name}/{file}") for file in files]  # all of them: where they are not here, each is fetched
    return paths[0].parent
