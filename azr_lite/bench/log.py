"""How much memory and time a log of a million rollouts costs: to open, to show a page of, and to read through.

Comes in: how many rollouts.  Goes out: seconds and MiB, each measured in a fresh process, with their bars.
Not covered: re-scoring; logs on a disk that is not cached.

The log is written from one recorded rollout, its numbers changed, so that its lines are as long as real ones.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from azr_lite.config import config_text
from azr_lite.environment import describe_environment
from azr_lite.errors import RunDirectoryError
from azr_lite.presets import preset
from azr_lite.rundir import LOGS, rollout_line, write_json, write_text
from azr_lite.triplet import Role, Rollout, Verdict

MAX_MIB, MAX_SECONDS = 500, 2.0
ROWS = 384
"""Rollouts a step, as in the paper."""

PAGES = {
    "newest step": ["show"],
    "a step in the middle, worst 5": ["show", "--worst", "5", "--step"],
    "watch, one picture": ["watch"],
}
"""What is opened without being read, and the words it is measured by; a last word that lacks its value gets the middle step."""

PASSES = {
    "replay, a step in the middle": ["replay", "--step"],
    "report": ["report"],
    "browse": ["browse"],
    "doctor": ["doctor"],
    "analyse": ["analyse"],
}
"""What reads a log through, and so has a bar of memory only."""

_PROBE = """
import sys, time
began, spent = time.perf_counter(), time.process_time()
from azr_lite.cli import main
from azr_lite.progress import peak_mib
if sys.argv[1] == "browse":
    from azr_lite.observe import browse
    browse(sys.argv[2])._repr_html_()
else:
    main(sys.argv[1:])
print(time.perf_counter() - began, time.process_time() - spent, peak_mib(), file=sys.stderr)
"""


def bench_log(rollouts: int = 1_000_000, folder: Path | None = None, passes: bool = True) -> dict[str, Any]:
    """Write a log of that many rollouts (about 1.2 KiB each), open it (`passes`: and read it through), measure, and remove it.

    RunDirectoryError without room.
    """
    with tempfile.TemporaryDirectory(dir=folder) as place:
        free, needed = shutil.disk_usage(place).free, 1400 * rollouts
        if free < needed:
            raise RunDirectoryError(
                f"{place} has {free >> 20} MiB free, {needed >> 20} are needed; choose another --folder or fewer --rollouts"
            )
        run, began = Path(place), time.perf_counter()
        size = write_log(run, rollouts)
        wrote = time.perf_counter() - began
        asked = {**PAGES, **(PASSES if passes else {})}
        pages = {name: _measure([words[0], place, *words[1:]], rollouts // ROWS // 2) for name, words in asked.items()}
    ok = all(
        page["mib"] <= MAX_MIB and (name in PASSES or page["seconds"] <= MAX_SECONDS) for name, page in pages.items()
    )
    return {
        "environment": describe_environment(), "rollouts": rollouts, "mib_on_disk": round(size / 2**20), "seconds_to_write": round(wrote, 1),
        "pages": pages, "ok": ok,
    }  # fmt: skip


def write_log(run: Path, rollouts: int) -> int:
    """A run directory with that many rollouts, `ROWS` a step, a quarter of them proposals of three types; the bytes of its logs."""
    c = preset("nano", output_dir=str(run), steps=rollouts // ROWS + 1)
    write_text(run / "config.json", config_text(c))
    write_json(run / "run.json", {"version": 1})
    answers, proposals, tasks = zip(*(_lines(kind) for kind in c.task_types), strict=True)
    each = ROWS // 12  # proposals of a type
    with (
        (run / "rollouts.jsonl").open("w", encoding="utf-8") as rows,
        (run / "tasks.jsonl").open("w", encoding="utf-8") as offers,
    ):
        for start in range(0, rollouts, ROWS):
            step = start // ROWS
            own = [_numbered(line, step, n) for line in proposals for n in range(each)]
            own += [_numbered(line, step, n % each) for line in answers for n in range(3 * each)]
            rows.writelines(own[: rollouts - start])
            offers.writelines(_numbered(line, step, n) for line in tasks for n in range(each))
    numbers = {
        f"{role}/{kind}/{name}": 0.5
        for role in Role
        for kind in c.task_types
        for name in ("ok", "reward", "tokens", "solve_rate")
    }
    steps = range(-(-rollouts // ROWS))
    write_text(
        run / "metrics.jsonl", "".join(json.dumps({"step": step, "loss": 0.0, **numbers}) + "\n" for step in steps)
    )
    write_text(
        run / "timing.jsonl",
        "".join(json.dumps({"step": step, "generate": 0.5, "update": 1.0}) + "\n" for step in steps),
    )
    return sum((run / name).stat().st_size for name in LOGS)


def _lines(kind: str) -> tuple[str, str, str]:
    """An answer, a proposal, and the proposal's line in tasks.jsonl, as long as those of a nano run; -7 is the step, NUMBER the
    proposal."""
    program = "def f(x):\n    x = x + [NUMBER]\n    x = x[::-1]\n    x = x[-1:] + x[:-1]\n    return x"
    thought = "x + [NUMBER] -> [5, 0, NUMBER]\nx[::-1] -> [NUMBER, 0, 5]\nx[-1:] + x[:-1] -> [5, NUMBER, 0]"
    reply = f"{thought}</think><answer>```output\n[5, NUMBER, 0]\n```</answer>"
    invented = f"</think><answer>```python\n{program}\n```\n```input\n[5, 0]\n```</answer>"
    question = f"solve {kind}\n```python\n{program}\n```\n```input\n[5, 0]\n```\n<think>"
    request = f"invent {kind}\n```python\n{program}\n```\n```input\n[5, 0]\n```\n" * 2 + "<think>"
    parents = (f"{kind}xPARENT",)
    own = {"id": f"{kind}x-7xNUMBER", "program": program, "parents": parents, "step": -7, "type": kind}
    pairs = {"inputs": ["[5, 0]"] * 6, "outputs": ["[5, NUMBER, 0]"] * 6, "message": "add, back, turn", "shown": 3}
    own |= pairs if kind == "induction" else {"input": "[5, 0]", "output": "[5, NUMBER, 0]"}
    verdict, n = Verdict(True, True, 1.0), 6
    answer = Rollout(
        Role.SOLVE, kind, question, reply, (0,) * 40, (0,) * 60, verdict, 1.0, {"accuracy": 1.0}, task_id=parents[0]
    )
    proposal = Rollout(Role.PROPOSE, kind, request, invented, (0,) * 40, (0,) * 30, verdict, 0.5, {"learnability": 0.5}, parents=parents,
                       task_id=str(own["id"]), solve_rate=0.5)  # fmt: skip
    answers = [
        {"reason": "" if i % 2 else "wrong", "score": float(i % 2), "text": reply, "tokens": 60, "truncated": False}
        for i in range(n)
    ]
    task = {"answers": answers, "detail": "", "fresh": True, "ok": True, "parents": parents, "reason": "", "solve_rate": 0.5, "step": -7,
            "task": own, "text": invented, "tokens": 30, "truncated": False, "type": kind}  # fmt: skip
    lines = ({"step": -7, **rollout_line(answer)}, {"step": -7, **rollout_line(proposal)}, task)
    return tuple(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in lines)  # type: ignore[return-value]


def _numbered(line: str, step: int, place: int) -> str:
    """The template `line` filled in for one step and proposal: a program of its own, and a parent from the step before."""
    number, before = (1000 * (at % 1000) + place for at in (step, max(0, step - 1)))
    return (
        line.replace("-7", str(step)).replace("PARENT", f"{max(0, step - 1)}x{before}").replace("NUMBER", str(number))
    )


def _measure(words: list[str], middle: int) -> dict[str, Any]:
    """Wall seconds (start of Python included), processor seconds and peak MiB of one command."""
    words = [*words, str(middle)] if words[-1] == "--step" else words
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", _PROBE, *words], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode or any(line.startswith("azr-lite: ") for line in done.stderr.splitlines()):
        raise RunDirectoryError(f"{words[0]} could not be measured: {done.stderr.strip()[-300:]}")
    inside, processor, mib = map(float, done.stderr.split()[-3:])
    return {
        "seconds": round(seconds, 2),
        "of_which_after_start": round(inside, 2),
        "processor": round(processor, 2),
        "mib": round(mib),
    }


def log_table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['rollouts']} rollouts, {result['mib_on_disk']} MiB on disk (written in {result['seconds_to_write']} s)",
        "",
    ]
    for name, page in result["pages"].items():
        bar = "       " if name in PASSES else f"(bar {MAX_SECONDS:g})"
        lines.append(f"  {name:30} {page['seconds']:6.2f} s {bar}  {page['mib']:5d} MiB (bar {MAX_MIB})")
    return "\n".join([*lines, "", "within the bars" if result["ok"] else "a bar is missed"])
