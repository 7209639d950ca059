"""How much memory and time a log of a million rollouts costs to open, and to show a page of.

Comes in: how many rollouts.  Goes out: seconds and MiB, each measured in a fresh process, with their bars.
Not covered: reading all of it (`rescore` does, a step at a time); logs on a disk that is not cached.

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

from azr_lite.config import save_config
from azr_lite.errors import RunDirectoryError
from azr_lite.presets import preset
from azr_lite.rundir import rollout_line, write_json, write_text
from azr_lite.triplet import Role, Rollout, Verdict

MAX_MIB, MAX_SECONDS = 500, 2.0
ROWS = 384
"""Rollouts a step, as in the paper."""

PAGES = {
    "newest step": ["show"],
    "a step in the middle, worst 5": ["show", "--worst", "5", "--step"],
    "watch, one picture": ["watch"],
}
"""What is measured, and the words it is measured by; a last word that lacks its value gets the middle step."""

_PROBE = (
    "import sys, time; began = time.perf_counter(); from azr_lite.cli import main; from azr_lite.meter import peak_mib; "
    "status = main(sys.argv[1:]); print(status, time.perf_counter() - began, peak_mib(), file=sys.stderr)"
)


def bench_log(rollouts: int = 1_000_000, folder: Path | None = None) -> dict[str, Any]:
    """Write a log of that many rollouts (about 1 KiB each), open it, measure, and remove it. RunDirectoryError without room."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        free, needed = shutil.disk_usage(place).free, 1400 * rollouts
        if free < needed:
            raise RunDirectoryError(
                f"{place} has {free >> 20} MiB free, {needed >> 20} are needed; choose another --folder or fewer --rollouts"
            )
        run, began = Path(place), time.perf_counter()
        size = write_log(run, rollouts)
        wrote = time.perf_counter() - began
        pages = {name: _measure([words[0], place, *words[1:]], rollouts // ROWS // 2) for name, words in PAGES.items()}
    ok = all(page["seconds"] <= MAX_SECONDS and page["mib"] <= MAX_MIB for page in pages.values())
    return {"rollouts": rollouts, "mib_on_disk": round(size / 2**20), "seconds_to_write": round(wrote, 1), "pages": pages, "ok": ok}


def write_log(run: Path, rollouts: int) -> int:
    """A run directory with that many rollouts, `ROWS` a step; its rollouts' bytes."""
    c = preset("nano", output_dir=str(run), steps=rollouts // ROWS + 1)
    write_text(run / "config.json", save_config(c))
    write_json(run / "run.json", {"version": 1})
    text = "<think>" + "x = x + 1 gives 2; " * 20 + "</think><answer>```output\n2\n```</answer>"
    prompt = "solve deduction\n```python\ndef f(x):\n    return x + 1\n```\n```input\n1\n```\n" + "# a comment\n" * 20
    one = Rollout(Role.SOLVE, "deduction", prompt, text, (0,) * 90, (0,) * 120, Verdict(True, True, 1.0), 1.0, {"accuracy": 1.0})
    line = json.dumps({"step": -7, **rollout_line(one)}, ensure_ascii=False, sort_keys=True) + "\n"
    before, after = line.split('"step": -7')
    with (run / "rollouts.jsonl").open("w", encoding="utf-8") as file, (run / "metrics.jsonl").open("w", encoding="utf-8") as metrics:
        for start in range(0, rollouts, ROWS):
            step = start // ROWS
            file.write(f'{before}"step": {step}{after}' * min(ROWS, rollouts - start))
            metrics.write(json.dumps({"step": step, "loss": 0.0, "solve/deduction/ok": 0.5, "solve/deduction/reward": 0.1}) + "\n")
    return (run / "rollouts.jsonl").stat().st_size


def _measure(words: list[str], middle: int) -> dict[str, Any]:
    """Wall seconds (start of Python included) and peak MiB of one command."""
    words = [*words, str(middle)] if words[-1] == "--step" else words
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", _PROBE, *words], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    status, inside, mib = (done.stderr.split() or ["1"])[-3:] if len(done.stderr.split()) >= 3 else ("1", "0", "0")
    if status != "0":
        raise RunDirectoryError(f"the page could not be shown: {done.stderr.strip()[-300:]}")
    return {"seconds": round(seconds, 2), "of_which_after_start": round(float(inside), 2), "mib": round(float(mib))}


def log_table(result: dict[str, Any]) -> str:
    lines = [f"{result['rollouts']} rollouts, {result['mib_on_disk']} MiB on disk (written in {result['seconds_to_write']} s)", ""]
    for name, page in result["pages"].items():
        lines.append(f"  {name:32} {page['seconds']:6.2f} s (bar {MAX_SECONDS:g})  {page['mib']:5d} MiB (bar {MAX_MIB})")
    return "\n".join([*lines, "", "within the bars" if result["ok"] else "a bar is missed"])
