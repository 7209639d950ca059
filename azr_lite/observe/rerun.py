"""What only running tells: accepted programs of a run, a sample of them, run again.

Comes in: a run directory and an executor.  Goes out: findings for the run doctor.
Not covered: what curves tell (`doctor.py`), a step's rewards (`replaying.py`, which is exact for the step it makes again).

A proposal enters the buffer when it gave one output in every world. When it does not do so now, nothing that was paid for it can be
trusted: the validation was left out, ran in one world only, or the executor lied.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from azr_lite.errors import RunDirectoryError
from azr_lite.observe.doctor import ONE_WORLD, Finding
from azr_lite.observe.reader import Line, StepLog, open_run
from azr_lite.sandbox import Validation
from azr_lite.sandbox.literal import LiteralError, read_arguments
from azr_lite.sandbox.wire import render
from azr_lite.triplet import Reason
from azr_lite.verifier import ProgramRunner, open_executor


def rerun(path: str | Path, programs: int, executor: ProgramRunner | None = None) -> list[Finding]:
    """Run so many accepted proposals again, drawn evenly over the run.

    `executor`: one that is open; otherwise one with the run's limits.
    """
    run = open_run(path)
    config = run.config()
    sample = _drawn(StepLog(run, "tasks.jsonl"), programs)
    try:
        items = [(task["program"], [read_arguments(text) for text in _texts(task, "input")]) for task in sample]
    except (KeyError, TypeError, LiteralError) as error:
        raise RunDirectoryError(
            f"tasks.jsonl of {path} is not in this azr_lite's form ({error!r}); use the version named in run.json"
        ) from error
    with open_executor(config) if executor is None else nullcontext(executor) as running:
        return _judged(sample, running.validate_many(items))


def _drawn(log: StepLog, count: int) -> list[dict[str, Any]]:
    """Different accepted tasks, each as likely as any other, in one pass that holds no more than it keeps."""
    rng, kept, seen = random.Random(0), [], 0
    for line in log.since():
        task = _accepted(line)
        if task is None:
            continue
        seen += 1
        if len(kept) < count:
            kept.append(task)
        elif (place := rng.randrange(seen)) < count:
            kept[place] = task
    return kept


def _accepted(line: Line) -> dict[str, Any] | None:
    return line["task"] if line["ok"] and line["task"] and line["step"] >= 0 else None


def _texts(task: dict[str, Any], what: str) -> list[str]:
    return [task[what]] if what in task else list(task[f"{what}s"])


def _judged(sample: Sequence[dict[str, Any]], found: Sequence[Validation]) -> list[Finding]:
    leaks, others = [], []
    for task, one in zip(sample, found, strict=True):
        if one.reason == Reason.NON_DETERMINISTIC:
            leaks.append(f"{task['id']} ({one.detail})")
        elif not one.ok:
            others.append(f"{task['id']} ({one.reason})")
        elif [render(value) for value in one.outputs] != _texts(task, "output"):
            others.append(f"{task['id']} (another output)")
    findings = []
    for name, bad, cure in (
        ("non-determinism leak", leaks, ONE_WORLD),
        (
            "executor sickness",
            others,
            "azr-lite doctor --sandbox; see that validation runs before the buffer, and with this run's limits",
        ),
    ):
        if bad:
            findings.append(
                Finding(name, f"{len(bad)} of {len(sample)} accepted programs run again: {', '.join(bad[:3])}", cure)
            )
    return findings
