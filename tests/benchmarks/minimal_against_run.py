"""Does `minimal.py` learn as much as the run? ``python tests/benchmarks/minimal_against_run.py --out X.json``

Both play the preset "nano" from the same seed; gains are paired over the same held-out problems, with 95 % intervals.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import azr_lite
from azr_lite.environment import describe_environment
from azr_lite.minimal import AbsoluteZero
from azr_lite.presets import preset
from azr_lite.rundir import write_json
from azr_lite.verifier import open_executor


def gain(before: dict[str, list[bool]], after: dict[str, list[bool]]) -> dict[str, dict[str, float]]:
    """Accuracy before and after and their paired difference with its 95 % interval, per task type and over all."""
    found = {}
    for name in (*before, "all"):
        names = list(before) if name == "all" else [name]
        first, last = (np.array([right for own in names for right in marks[own]]) for marks in (before, after))
        change = last.astype(float) - first
        half = 1.96 * change.std() / len(change) ** 0.5
        found[name] = {"before": first.mean(), "after": last.mean(), "gain": change.mean()}
        found[name] |= {"low": change.mean() - half, "high": change.mean() + half}
    return {name: {key: round(float(value), 4) for key, value in own.items()} for name, own in found.items()}


def play_minimal(steps: int, seed: int) -> dict[str, Any]:
    config = preset("nano", seed=seed)
    with open_executor(config) as executor:
        zero = AbsoluteZero(config, executor)
        before = zero.evaluate(config.eval_problems)
        zero.seed()
        for step in range(steps):
            zero.step(step)
        return gain(before, zero.evaluate(config.eval_problems))


def play_run(steps: int, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = azr_lite.run("nano", steps=steps, seed=seed, eval_every=0, output_dir=f"{folder}/run").path
        marks = []
        for name in ("before", f"step-{steps}"):
            items = [json.loads(line) for line in (Path(path) / "eval" / f"{name}.jsonl").read_text().splitlines()]
            kinds = dict.fromkeys(item["type"] for item in items)
            marks.append({kind: [item["right"] for item in items if item["type"] == kind] for kind in kinds})
    return gain(*marks)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write the figures there, as JSON")
    asked = parser.parse_args()
    report: dict[str, Any] = {"command": " ".join(sys.argv), "steps": asked.steps, "seed": asked.seed}
    for name, play in (("minimal", play_minimal), ("run", play_run)):
        began = time.perf_counter()
        report[name] = play(asked.steps, asked.seed)
        report[name]["seconds"] = round(time.perf_counter() - began, 1)
        print(name, json.dumps(report[name]), flush=True)
    report["date"] = time.strftime("%Y-%m-%d")
    report["environment"] = describe_environment()
    if asked.out is not None:
        write_json(asked.out, report)


if __name__ == "__main__":
    main()
