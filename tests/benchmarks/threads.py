"""How fast nano steps are with torch's default threads, with one thread, and as `azr-lite run` chooses.

    python -m tests.benchmarks.threads [--steps 6] [--rounds 3] [--busy] [--json]

The three take turns, each round in another order; what counts is the median over rounds of the ratio within a round.
With --busy one process that never rests runs beside them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from azr_lite.environment import describe_environment
from azr_lite.metrics import STAGES

NAME = "python -m tests.benchmarks.threads"
ARMS = {"default threads": str(os.cpu_count()), "one thread": "1", "azr-lite run": None}
"""What OMP_NUM_THREADS says; None: nothing."""
BARS = {False: ("default threads", 0.75), True: ("one thread", 1.5)}
"""Beside a busy process or not: whom `azr-lite run` is compared with, and the ratio it must not pass."""


def play(arm: str, steps: int, folder: Path) -> float:
    """Seconds of the steps of one nano run, without its start."""
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    env |= {"OMP_NUM_THREADS": ARMS[arm]} if ARMS[arm] else {}
    only_steps = "--no-self-test --eval-problems 0 --eval-every 0 --save-every 0 --gradient-share-every 0".split()
    words = ["run", "--preset", "nano", "--device", "cpu", "--steps", str(steps), "--output-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "azr_lite", *words, *only_steps], env=env, check=True, capture_output=True)
    lines = (folder / "timing.jsonl").read_text().splitlines()
    return sum(line[stage] for line in map(json.loads, lines) for stage in STAGES)


@contextlib.contextmanager
def busy_process() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def bench_threads(steps: int, rounds: int, busy: bool) -> dict[str, Any]:
    """Seconds of each arm in each round, ratios, and whether all arms wrote the same rollouts."""
    arms, found, loads = list(ARMS), [], []
    same = True
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as place, busy_process() if busy else contextlib.nullcontext():
            order = arms[number % 3 :] + arms[: number % 3]
            found.append({arm: play(arm, steps, Path(place, arm)) for arm in order})
            loads.append(os.getloadavg()[0])
            same &= len({Path(place, arm, "rollouts.jsonl").read_bytes() for arm in arms}) == 1
    rival, bar = BARS[busy]
    ratio = statistics.median(one["azr-lite run"] / one[rival] for one in found)
    return {
        "what": NAME,
        "environment": describe_environment(),
        "steps": steps,
        "busy": busy,
        "load": loads,
        "seconds": found,
        "same_rollouts": same,
        "ratios": {arm: statistics.median(one["azr-lite run"] / one[arm] for one in found) for arm in arms},
        "bar": {"against": rival, "ratio": ratio, "bar": bar, "pass": ratio <= bar},
    }


def text(result: dict[str, Any]) -> str:
    """The result for people."""
    beside = "beside one busy process" if result["busy"] else "as idle as this machine was"
    loads = ", ".join(f"{load:.1f}" for load in result["load"])
    lines = [f"nano, {result['steps']} steps, {beside}; load after each round: {loads}"]
    for arm in ARMS:
        seconds = " ".join(f"{one[arm]:7.1f}" for one in result["seconds"])
        lines.append(f"  {arm:16} {seconds} s   azr-lite run takes {result['ratios'][arm]:.2f} of it")
    bar = result["bar"]
    lines.append(f"  {'pass' if bar['pass'] else 'FAIL'}: {bar['ratio']:.2f} of {bar['against']}, at most {bar['bar']}")
    return "\n".join([*lines, f"  rollouts {'are the same, byte for byte' if result['same_rollouts'] else 'DIFFER'}"])


def main() -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", action="store_true", help="beside a process that never rests")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args()
    result = bench_threads(given.steps, given.rounds, given.busy)
    print(json.dumps(result, indent=1) if given.json else text(result))


if __name__ == "__main__":
    main()
