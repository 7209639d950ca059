"""What only running tells the run doctor: accepted programs of a run, a sample of them, run again."""

from __future__ import annotations

import random
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from azr_lite.observe.doctor import ONE_WORLD, Finding
from azr_lite.observe.reader import form_checked, log_lines, open_run
from azr_lite.rundir import RunDir
from azr_lite.sandbox import Validation
from azr_lite.sandbox.literal import read_arguments
from azr_lite.sandbox.wire import render
from azr_lite.triplet import Reason
from azr_lite.verifier import ProgramRunner, open_executor


def rerun(path: str | Path, programs: int, executor: ProgramRunner | None = None) -> list[Finding]:
    """Findings about so many accepted proposals, drawn evenly over the run and run again. `executor`: one that is open.

    A proposal enters the buffer when it gave one output in every world. When it does not do so now, no reward for it
    can be trusted: the validation was left out, ran in one world only, or the executor lied.
    """
    run = open_run(path)
    with form_checked(run):
        sample = _sample(run, programs)
        items = [(task["program"], [read_arguments(text) for text in _texts(task, "input")]) for task in sample]
        with open_executor(run.config()) if executor is None else nullcontext(executor) as running:
            verdicts = [_verdict(task, one) for task, one in zip(sample, running.validate_many(items), strict=True)]
    sick = "azr-lite doctor --sandbox; see that validation runs before the buffer, and with this run's limits"
    findings = []
    for name, cure in (("non-determinism leak", ONE_WORLD), ("executor sickness", sick)):
        bad = [f"{task['id']} ({why})" for task, (what, why) in zip(sample, verdicts, strict=True) if what == name]
        if bad:
            shown = f"{len(bad)} of {len(sample)} accepted programs run again: {', '.join(bad[:3])}"
            findings.append(Finding(name, shown, cure))
    return findings


def _sample(run: RunDir, count: int) -> list[dict[str, Any]]:
    """Different accepted tasks, each as likely as any other, in one pass that holds no more than it keeps."""
    rng, sample, seen = random.Random(0), [], 0
    for line in log_lines(run, "tasks.jsonl"):
        if not (line["ok"] and line["task"] and line["step"] >= 0):
            continue
        seen += 1
        if len(sample) < count:
            sample.append(line["task"])
        elif (place := rng.randrange(seen)) < count:
            sample[place] = line["task"]
    return sample


def _texts(task: dict[str, Any], what: str) -> list[str]:
    return [task[what]] if what in task else list(task[f"{what}s"])


def _verdict(task: dict[str, Any], found: Validation) -> tuple[str, str]:
    """The illness that a second run shows, and how; empty where it gave the same."""
    if found.reason == Reason.NON_DETERMINISTIC:
        return "non-determinism leak", found.detail
    if not found.ok:
        return "executor sickness", str(found.reason)
    same = [render(value) for value in found.outputs] == _texts(task, "output")
    return ("", "") if same else ("executor sickness", "another output")
