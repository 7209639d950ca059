"""An evaluation as a person reads it: one table of scores, one of gains; at most 80 columns."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from azr_lite.evaluation.benchmarks import beside_paper
from azr_lite.evaluation.runner import Evaluation


def print_tables(evaluation: Evaluation, console: Console) -> None:
    """What ``azr-lite eval`` shows: scores, gains over the base, the paper's numbers beside them, and notes."""
    console.print(score_table(evaluation))
    if evaluation.base is not None:
        console.print(gain_table(evaluation))
    if lines := paper_lines(evaluation):
        console.print(lines, markup=False, soft_wrap=True)
    for line in notes(evaluation):
        console.print(f"· {line}", markup=False, soft_wrap=True)


def score_table(evaluation: Evaluation) -> Table:
    """Accuracy with its 95 % interval; lenient accuracy; the best answer without reasoning; cut replies."""
    table = Table(title=short(evaluation.model))
    for column in ("suite", "n", "accuracy, %", "95 %", "lenient", "null", "cut, %"):
        table.add_column(column, justify="left" if column == "suite" else "right")
    for name, result in evaluation.results.items():
        scores = result.scores["all"]
        nulls = [rate for rates in result.record["baselines"].values() for rate in rates.values()]
        table.add_row(
            _plain(name),
            str(scores["n"]),
            f"{100 * scores['accuracy']:.1f}",
            f"{100 * scores['low']:.1f}–{100 * scores['high']:.1f}",
            f"{100 * scores['lenient']:.1f}",
            f"{100 * max(nulls):.1f}" if nulls else "–",
            f"{100 * result.record['truncated']:.0f}",
        )
    return table


def gain_table(evaluation: Evaluation) -> Table:
    """Points gained over the base on the same questions (bootstrap interval), McNemar's p, the part that is form."""
    assert evaluation.base is not None
    table = Table(title=f"{short(evaluation.base.model)} → {short(evaluation.model)}")
    for column in ("suite", "n", "base", "now", "gain, points", "p", "of it form"):
        table.add_column(column, justify="left" if column == "suite" else "right")
    for name, gains in evaluation.comparison.items():
        gain = gains["all"]
        before, after = evaluation.base.results[name].scores["all"], evaluation.results[name].scores["all"]
        table.add_row(
            _plain(name),
            str(after["n"]),
            f"{100 * before['accuracy']:.1f}",
            f"{100 * after['accuracy']:.1f}",
            f"{100 * gain['gain']:+.1f} [{100 * gain['boot_low']:+.1f}, {100 * gain['boot_high']:+.1f}]",
            f"{gain['p']:.3f}",
            f"{100 * gain['form_gain']:+.1f}",
        )
    return table


def short(model: str) -> str:
    """A model's name that fits into a line: of a long path, the last part."""
    return model if len(model) <= 36 else Path(model).name[-36:]


def _plain(suite: str) -> str:
    """The name without its protocol, which `notes` tells."""
    return re.sub(r"-(evalplus-chat|evalplus-direct|azr)$", "", suite)


def notes(evaluation: Evaluation) -> list[str]:
    """What to know before believing the tables: protocols, pass@k, where everything lies."""
    lines = []
    protocols: dict[str, list[str]] = {}
    for name, result in evaluation.results.items():
        protocols.setdefault(result.record["protocol"], []).append(name)
    lines += [f"{', '.join(names)}: {protocol}" for protocol, names in protocols.items()]
    for name, result in evaluation.results.items():
        curve = {key: value for key, value in result.scores["all"].items() if key.startswith("pass@")}
        if curve:
            lines.append(f"{name}: " + ", ".join(_point(key, value) for key, value in curve.items()))
    for name, points in evaluation.pass_at_k.items():
        gains = (f"pass@{p['k']} {_signed(p['gain'])}" for p in points)
        lines.append(f"{name}, points gained over the base: {', '.join(gains)}")
    lines.append(f"every prompt, reply and mark: {evaluation.folder}/")
    return lines


def paper_lines(evaluation: Evaluation) -> str:
    """CAvg, MAvg and AVG beside the paper's rows, where any of its suites was asked; else empty."""
    own = evaluation.as_in_paper
    if not own:
        return ""
    base = evaluation.base.as_in_paper if evaluation.base else None
    model = evaluation.origin if evaluation.origin.count("/") <= 1 else Path(evaluation.origin).name
    return beside_paper(model, own) if base is None else beside_paper(model, base, own)


def _signed(gain: dict[str, float]) -> str:
    return f"{100 * gain['mean']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]"


def _point(name: str, value: dict[str, Any]) -> str:
    return f"{name} {100 * value['accuracy']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"
