"""The comparison of runs that differ in their seed only: gains with intervals, a table, and a figure.

Intervals are 95 % percentile bootstraps that draw seeds and, within task types, *skeletons* (the sequence of operation
kinds) with replacement: problems that share a skeleton are not independent, and seeds share the problems.

Letters in names of arrays here: S seeds, I held-out problems, C skeletons (clusters of problems).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from azr_lite.course.figures import figure
from azr_lite.evaluation.scores import scores_until
from azr_lite.metrics import STAGES, across
from azr_lite.observe.style import png
from azr_lite.rundir import write_bytes

RESAMPLES = 2000
TARGET = 0.15
"""The gain in held-out accuracy whose time is measured."""


def compare_runs(paths: Sequence[Path]) -> dict[str, Any]:
    """Before, after and gain of runs that differ in their seed only: by type, by type and stratum, pooled over types.

    Pooled ("all") is the mean over task types, each weighing the same.
    """
    pairs = [_evaluations(path) for path in paths]
    keys = [(i["type"], i["stratum"], i["id"]) for i in pairs[0][0]]
    types = list(dict.fromkeys(k[0] for k in keys))
    names = [name for type_ in types for name in (type_, *sorted({f"{t}/{s}" for t, s, _ in keys if t == type_}))]
    before_SI, after_SI = (np.array([[float(i["right"]) for i in pair[side]] for pair in pairs]) for side in (0, 1))
    labels = [f"{i['type']} {_skeleton(i['prompt'], i['id'])}" for i in pairs[0][0]]
    clusters = np.unique(labels, return_inverse=True)[1]
    tokens = [float(np.mean([np.mean([i["tokens"] for i in pair[side]]) for pair in pairs])) for side in (0, 1)]
    own_I = {name: np.array([float(name in (k[0], f"{k[0]}/{k[1]}")) for k in keys]) for name in names}
    weights_I = {"all": sum(own_I[type_] / own_I[type_].sum() for type_ in types), **own_I}
    draws = _draws(len(paths), clusters, np.array([types.index(k[0]) for k in keys]))
    return {
        "scores": {name: _numbers(before_SI, after_SI, weights, draws) for name, weights in weights_I.items()},
        "reply_tokens": {"before": tokens[0], "after": tokens[1]},
        "steps": _summary(paths[0])["steps"],
        "training_seconds": [training_seconds(path) for path in paths],
        "seconds_to_target": [seconds_to_target(path) for path in paths],
        "program_operations": [_operations(path) for path in paths],
        "curve": [accuracies(path) for path in paths],
    }


def _draws(seeds: int, clusters: Any, types: Any) -> list[tuple[Any, Any]]:
    """`RESAMPLES` bootstrap draws: each seed's weight, shape (S,), and how often each problem was drawn, shape (I,)."""
    rng = np.random.default_rng(0)
    groups = [np.unique(clusters[types == t]) for t in np.unique(types)]
    found = []
    for _ in range(RESAMPLES):
        times_S = np.bincount(rng.integers(seeds, size=seeds), minlength=seeds)
        times_C = np.zeros(clusters.max() + 1)
        for group in groups:
            times_C += np.bincount(rng.choice(group, size=len(group)), minlength=len(times_C))
        found.append((times_S / seeds, times_C[clusters]))
    return found


def _numbers(before_SI: Any, after_SI: Any, weights_I: Any, draws: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
    """One row of the table: n, and before, after and gain with intervals, over the problems that have a weight."""

    def mean(values_SI: Any, times_S: Any, times_I: Any) -> float:
        w = weights_I * times_I
        return float(times_S @ (values_SI @ w) / w.sum()) if w.sum() else float("nan")

    gain_SI = after_SI - before_SI
    ones_S, ones_I = np.full(len(gain_SI), 1 / len(gain_SI)), np.ones(gain_SI.shape[1])
    result: dict[str, Any] = {"n": int((weights_I > 0).sum())}
    for name, values in (("before", before_SI), ("after", after_SI), ("gain", gain_SI)):
        spread = [mean(values, *draw) for draw in draws]
        low, high = np.nanpercentile(spread, [2.5, 97.5])
        result[name] = {"mean": mean(values, ones_S, ones_I), "low": float(low), "high": float(high)}
    result["gain"]["by_seed"] = [mean(gain_SI[[seed]], np.ones(1), ones_I) for seed in range(len(gain_SI))]
    return result


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _summary(path: Path) -> dict[str, Any]:
    return json.loads((path / "summary.json").read_text(encoding="utf-8"))


def _evaluations(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The held-out problems of a run, as answered before and after it."""
    return _lines(path / "eval" / "before.jsonl"), _lines(path / "eval" / f"step-{_summary(path)['steps']}.jsonl")


def _skeleton(prompt: str, fallback: str) -> str:
    """The kinds of operations of the program in a prompt; induction hides its program, so its message stands for it."""
    from azr_lite.nano.language import skeleton

    if "```python\n" in prompt:
        return str(skeleton(prompt.split("```python\n")[1].split("\n```")[0]))
    if "```message\n" in prompt:
        return " ".join(word.split()[0] for word in prompt.split("```message\n")[1].split("\n```")[0].split(", "))
    return fallback


def accuracies(path: Path) -> dict[int, float]:
    """Held-out accuracy by step: the mean over task types of every evaluation the run kept."""
    found = {}
    for step, scores in scores_until(path / "eval").items():
        found[step] = float(np.mean([scores[name]["accuracy"] for name in scores if "/" not in name and name != "all"]))
    return dict(sorted(found.items()))


def seconds_to_target(path: Path, points: float = TARGET) -> float | None:
    """Seconds of training until an evaluation on the way was `points` above the first; None where none was."""
    scores = accuracies(path)
    reached = next((step for step, accuracy in scores.items() if accuracy >= scores[0] + points), None)
    return None if reached is None else training_seconds(path, reached)


def training_seconds(path: Path, steps: int | None = None) -> float:
    """Seconds of generation, sandbox, update and the rest, of the first `steps` steps or of all."""
    return round(sum(line[name] for line in _lines(path / "timing.jsonl")[:steps] for name in STAGES), 1)


def _operations_by_step(path: Path) -> list[list[int]]:
    """Operations of each valid proposal, by step; without seeding and programs outside the mini-language."""
    from azr_lite.nano.language import skeleton

    found: dict[int, list[int]] = {}
    for entry in _lines(path / "tasks.jsonl"):
        names = skeleton(entry["task"]["program"]) if entry["ok"] and entry["step"] >= 0 else None
        if names is not None:
            found.setdefault(entry["step"], []).append(len(names))
    return [depths for _, depths in sorted(found.items())]


def operations_per_proposal(path: Path) -> list[float]:
    """Mean operations of a valid proposal, by step."""
    return [float(np.mean(depths)) for depths in _operations_by_step(path)]


def reply_tokens(path: Path) -> list[float]:
    """Mean tokens of a solver's reply, by step, averaged over task types."""
    return [float(np.mean(across(line, "solve/", "/tokens"))) for line in _lines(path / "metrics.jsonl")]


def _operations(path: Path) -> dict[str, float]:
    """Mean operations of valid proposals in the first and the last tenth of the run: where the proposer went."""
    depths = _operations_by_step(path)
    tenth = max(1, len(depths) // 10)
    parts = {"first": depths[:tenth], "last": depths[-tenth:]}
    return {name: float(np.mean(np.concatenate(part))) if part else float("nan") for name, part in parts.items()}


def accuracy_line(path: Path) -> str:
    summary = _summary(path)
    return f"{100 * summary['before']['all']['accuracy']:.1f} -> {100 * summary['after']['all']['accuracy']:.1f} %"


def nano_table(result: dict[str, Any]) -> str:
    """The result for people, within 80 columns."""
    lines = [f"{len(result['seeds'])} seeds, held-out accuracy in %, greedy; brackets: 95 % intervals"]
    for arm, found in result["arms"].items():
        seconds = found["training_seconds"]
        lines += ["", f"{arm}: {found['steps']} steps, {min(seconds):.0f}-{max(seconds):.0f} s of training per seed"]
        for name, numbers in found["scores"].items():
            before, after, gain = (numbers[key] for key in ("before", "after", "gain"))
            title = ("    " if "/" in name else "  ") + name.split("/")[-1]
            lines.append(
                f"{title:15} n {numbers['n']:4d}  {100 * before['mean']:5.1f} -> {100 * after['mean']:5.1f}"
                f"   {100 * gain['mean']:+5.1f} [{100 * gain['low']:+5.1f}, {100 * gain['high']:+5.1f}]"
            )
        reached = [seconds for seconds in found["seconds_to_target"] if seconds is not None]
        if reached:
            lines.append(
                f"  {100 * TARGET:.0f} points above the start after {min(reached):.0f}-{max(reached):.0f} s of training"
                f" ({len(reached)} of {len(seconds)} seeds)"
            )
        first, last = (np.mean([o[key] for o in found["program_operations"]]) for key in ("first", "last"))
        tokens = found["reply_tokens"]
        lines.append(f"  operations per proposal {first:.2f} -> {last:.2f}")
        lines.append(f"  tokens per held-out reply {tokens['before']:.0f} -> {tokens['after']:.0f}")
    forced = {name: 100 * found["accuracy"] for name, found in result["base_made_to_think"].items() if "/" not in name}
    forced.pop("all", None)
    each = ", ".join(f"{name} {value:.1f}" for name, value in forced.items())
    lines += ["", "the untrained model, made to think on every problem:"]
    lines.append(f"  {np.mean(list(forced.values())):.1f} ({each})")
    return "\n".join(lines)


COLOURS = {"self-play": "#1b6ca8", "solver only": "#2a9d8f", "shuffled rewards": "#c1554b", "no update": "#777777"}


def draw_curves(paths: dict[str, Sequence[Path]], file: Path, machine: str) -> None:
    """The figure of `--figure`: accuracy, reply length and program length over the steps, as a PNG whose titles say
    what it finds.

    `paths`: runs of each arm, one per seed. Lines are means over seeds, bands their range.
    ConfigError without matplotlib.
    """
    made, axes = figure(1, 3, (12, 3.8))
    curves = {arm: [accuracies(path) for path in own] for arm, own in paths.items()}
    for arm, own in paths.items():
        steps = sorted(set.intersection(*(set(run) for run in curves[arm])))
        _line(axes[0], steps, 100 * np.array([[run[step] for step in steps] for run in curves[arm]]), arm)
        for axis, series in ((axes[1], map(reply_tokens, own)), (axes[2], map(operations_per_proposal, own))):
            rows = list(series)
            length = min(map(len, rows))
            _line(axis, range(1, length + 1), np.array([row[:length] for row in rows]), arm)
    first = next(iter(paths))
    start, end = (float(np.mean([list(run.values())[i] for run in curves[first]])) for i in (0, -1))
    minutes = np.mean([training_seconds(path) for path in paths[first]]) / 60
    tokens, depths = (
        np.mean([series(path) for path in paths[first]], axis=0) for series in (reply_tokens, operations_per_proposal)
    )
    titles = (
        f"Held-out accuracy, {minutes:.1f} minutes of self-play:\n{100 * start:.0f} → {100 * end:.0f} %",
        f"The solver learns to think:\n{tokens[0]:.0f} → {tokens[-3:].mean():.0f} tokens per reply",
        f"The proposer moves to harder programs:\n{depths[0]:.1f} → {depths[-3:].mean():.1f} operations",
    )
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title)
        axis.set_xlabel("self-play step")
    axes[0].legend(loc="center right")
    made.supxlabel(
        f"nano, {len(paths[first])} seeds (lines: mean, bands: range), {machine}", ha="right", x=0.995, size=7
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, png(made), "--figure")


def _line(axis: Any, x: Sequence[int], values_SX: Any, arm: str) -> None:
    (drawn,) = axis.plot(x, values_SX.mean(0), label=arm, color=COLOURS.get(arm))
    axis.fill_between(x, values_SX.min(0), values_SX.max(0), color=drawn.get_color(), alpha=0.15, linewidth=0)
