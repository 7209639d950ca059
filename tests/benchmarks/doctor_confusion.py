"""How often the run doctor is right: runs with a known label, each beside what the doctor called it.

    python -m tests.benchmarks.doctor_confusion --steps 10 --seeds 3 --json > data_samples/benchmarks/doctor.json

Kept samples, and fresh nano runs of the bug museum, the controls and healthy seeds. Progress goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from azr_lite.course.bugs import sick_run
from azr_lite.course.experiments import CONTROLS, control
from azr_lite.environment import describe_environment
from azr_lite.observe.run import Run

NAME = "python -m tests.benchmarks.doctor_confusion"
EXPECTED = {
    "sign flip": "sign flip",
    "no update": "no update",
    "shuffled rewards": "rewards shuffled",
    "trivial tasks": "easy tasks",
    "impossible tasks": "impossible tasks",
    "greedy Monte-Carlo": "identical answers",
    "length blow-up": "length blow-up",
    "no references": "no references",
    "per-role old log-probabilities": "ratio never moves",
    "format collapse": "format ladder upside down",
    "solver only": "proposer untrained",
    "non-determinism leak": "non-determinism leak",
}
"""Label of a run, and the finding that is its right name. Every other label is healthy.
Fresh runs are made in this order, so that a short budget buys first what no kept sample has."""


def fresh(
    folder: Path, labels: list[str], seeds: list[int], minutes: float, made: bool = False, **overrides: Any
) -> Iterator[tuple[str, int, Path]]:
    """Nano runs, one after the other; none is begun after so many minutes.

    `made`: only those that are finished in the folder already.
    """
    end = time.monotonic() + 60 * minutes
    for seed in seeds:
        for label in labels:
            if time.monotonic() > end:
                return
            place = folder / f"seed{seed}"
            own = place / label.replace(" ", "-").lower()
            if made and not any((path / "summary.json").exists() for path in (own, own / "healthy")):
                continue
            if label in CONTROLS:
                with control(label):
                    path = sick_run("healthy", place / label.replace(" ", "-"), seed=seed, **overrides)
            elif label == "solver only":
                path = sick_run("healthy", place / "solver-only", seed=seed, train_proposer=False, **overrides)
            else:
                path = sick_run(label, place, seed=seed, **overrides)
            yield label, seed, path


def kept(folder: Path) -> Iterator[tuple[str, int, Path]]:
    """The runs of data_samples, labelled by their folder's name."""
    names = {name.replace(" ", "-").lower(): name for name in EXPECTED}
    for path in sorted(log.parent for log in folder.glob("*/*/metrics.jsonl")):
        stem, _, seed = path.name.partition("-seed")
        yield names.get(stem, stem), int(seed or 0), path


def row(label: str, seed: int, source: str, path: Path) -> dict[str, Any]:
    """One run: its label, what was expected, what was said."""
    diagnosis = Run(path).diagnose()
    summary, findings = diagnosis.summary, diagnosis.findings
    said = [one.name for one in findings]
    expected = EXPECTED.get(label)
    return {
        "label": label, "seed": seed, "source": source, "steps": summary.steps, "expected": expected, "said": said,
        "right": expected in said if expected else not said, "evidence": [one.evidence for one in findings],
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The confusion table: sick runs called by their name (first, or among others), by another, or healthy; and
    healthy ones called sick."""
    sick, well = [one for one in rows if one["expected"]], [one for one in rows if not one["expected"]]
    return {
        "sick runs": len(sick),
        "called by the right name": sum(one["right"] for one in sick),
        "right name first": sum(one["right"] and one["said"][0] == one["expected"] for one in sick),
        "called by a wrong name only": sum(bool(one["said"]) and not one["right"] for one in sick),
        "missed": sum(not one["said"] for one in sick),
        "healthy runs": len(well),
        "healthy runs called sick": sum(bool(one["said"]) for one in well),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog=NAME, description="The run doctor's confusion table.")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument(
        "--seeds", type=int, default=0, help="of each fresh run, from --first-seed; 0: kept samples only"
    )
    parser.add_argument("--healthy", type=int, default=3, help="healthy seeds, run first")
    parser.add_argument("--first-seed", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=600, help="begin no run after so long")
    parser.add_argument("--made", action="store_true", help="make no run: judge those that are in the folder")
    parser.add_argument("--folder", type=Path, default=Path("runs/diagnoses"))
    parser.add_argument("--kept", type=Path, default=Path("data_samples/runs"))
    parser.add_argument("--json", action="store_true", help="print the tables and every run as JSON")
    given = parser.parse_args()
    rows = [row(label, seed, "kept", path) for label, seed, path in kept(given.kept)]
    began, overrides = time.monotonic(), {"steps": given.steps, "eval_problems": 50}
    first = given.first_seed
    parts = (["healthy"], range(first, first + given.healthy)), (list(EXPECTED), range(first, first + given.seeds))
    for labels, seeds in parts:
        left = given.minutes - (time.monotonic() - began) / 60
        for label, seed, path in fresh(given.folder, labels, list(seeds), left, given.made, **overrides):
            rows.append(row(label, seed, "fresh", path))
            for weights in path.glob("checkpoint-*"):
                shutil.rmtree(weights)
            said = ", ".join(rows[-1]["said"]) or "nothing"
            print(f"{time.monotonic() - began:5.0f} s  {label}, seed {seed}: {said}", file=sys.stderr, flush=True)
    tables = {source: table([one for one in rows if one["source"] == source]) for source in ("kept", "fresh")}
    if given.json:
        facts = {"command": " ".join([NAME, *sys.argv[1:]]), "environment": describe_environment()}
        print(json.dumps({**facts, "tables": tables, "runs": rows}, indent=1))
        return
    for source, counts in tables.items():
        print(f"{source}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
