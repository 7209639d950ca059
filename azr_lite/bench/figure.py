"""The picture of `azr-lite bench nano --figure FILE`: held-out accuracy, reply length and program length over the steps.

Comes in: run directories that evaluated on the way (`eval_every`).  Goes out: one PNG, whose titles say what it finds.
Not covered: anything interactive. Needs matplotlib (extra ``notebooks``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from azr_lite.bench.learning import accuracies, operations_by_step, training_seconds
from azr_lite.errors import ConfigError
from azr_lite.metrics import across

COLOURS = {"self-play": "#1b6ca8", "solver only": "#2a9d8f", "shuffled rewards": "#c1554b", "no update": "#777777"}


def reply_tokens(path: Path) -> list[float]:
    """Mean tokens of a solver's reply, by step, averaged over task types."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [float(np.mean(across(line, "solve/", "/tokens"))) for line in lines]


def operations(path: Path) -> list[float]:
    """Mean operations of a valid proposal, by step."""
    return [float(np.mean(depths)) for depths in operations_by_step(path).values()]


def draw(paths: dict[str, Sequence[Path]], file: Path, machine: str) -> None:
    """`paths`: runs of each arm, one a seed. Lines are means over seeds, bands their range."""
    try:
        import matplotlib
    except ImportError:
        raise ConfigError("--figure needs matplotlib; install it with: pip install 'azr-lite[notebooks]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.8), constrained_layout=True)
    curves = {arm: [accuracies(path) for path in own] for arm, own in paths.items()}
    first = next(iter(paths))
    start, end = (float(np.mean([list(run.values())[i] for run in curves[first]])) for i in (0, -1))
    minutes = np.mean([training_seconds(path) for path in paths[first]]) / 60
    for arm, runs in curves.items():
        steps = sorted(set.intersection(*(set(run) for run in runs)))
        _line(axes[0], steps, 100 * np.array([[run[step] for step in steps] for run in runs]), arm)
    for arm, own in paths.items():
        for axis, series in (
            (axes[1], [reply_tokens(path) for path in own]),
            (axes[2], [operations(path) for path in own]),
        ):
            length = min(map(len, series))
            _line(axis, range(1, length + 1), np.array([values[:length] for values in series]), arm)
    tokens = np.array([reply_tokens(path) for path in paths[first]]).mean(0)
    depths = np.array([operations(path) for path in paths[first]]).mean(0)
    axes[0].set_title(
        f"Held-out accuracy, {minutes:.1f} minutes of self-play:\n{100 * start:.0f} → {100 * end:.0f} %", fontsize=10
    )
    axes[1].set_title(
        f"The solver learns to think:\n{tokens[0]:.0f} → {tokens[-3:].mean():.0f} tokens a reply", fontsize=10
    )
    axes[2].set_title(
        f"The proposer moves to harder programs:\n{depths[0]:.1f} → {depths[-3:].mean():.1f} operations", fontsize=10
    )
    axes[0].legend(frameon=False, fontsize=8, loc="center right")
    for axis in axes:
        axis.set_xlabel("self-play step")
        axis.spines[["top", "right"]].set_visible(False)
    seeds = len(paths[first])
    figure.text(
        0.995, -0.02, f"nano, {seeds} seeds (lines: mean, bands: range), {machine}", ha="right", va="top", fontsize=7
    )
    beside = file.with_name(f".{file.name}.new")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(beside, dpi=110, format="png", bbox_inches="tight")
    os.replace(beside, file)
    pyplot.close(figure)


def _line(axis: Any, x: Sequence[int], values_SX: Any, arm: str) -> None:
    colour = COLOURS.get(arm)
    (drawn,) = axis.plot(x, values_SX.mean(0), label=arm, color=colour, linewidth=1.8)
    axis.fill_between(x, values_SX.min(0), values_SX.max(0), color=drawn.get_color(), alpha=0.15, linewidth=0)
