"""An evaluation as a person reads it: one table of scores, one of gains; at most 80 columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from azr_lite.evaluation.benchmarks import beside_paper
from azr_lite.evaluation.runner import Evaluation


def print_tables(evaluation: Evaluation, console: Console) -> None:
    """What ``azr-lite eval`` shows: scores, gains over the base, the paper's numbers beside them, and notes."""
    console.print(score_table(evaluation))
    if evaluation.base is not None:
        console.print(_gain_table(evaluation, evaluation.base))
    if lines := paper_lines(evaluation):
        console.print(lines, markup=False, soft_wrap=True)
    for line in _notes(evaluation):
        console.print(f"· {line}", markup=False, soft_wrap=True)


def score_table(evaluation: Evaluation) -> Table:
    """Accuracy with its 95 % interval; lenient accuracy; the best answer without reasoning; cut replies."""
    rows = []
    for name, result in evaluation.results.items():
        scores = result.scores["all"]
        nulls = [rate for rates in result.record["baselines"].values() for rate in rates.values()]
        interval = f"{_points(scores['low'])}–{_points(scores['high'])}"
        numbers = (_points(scores["accuracy"]), interval, _points(scores["lenient"]))
        null, cut = _points(max(nulls)) if nulls else "–", f"{100 * result.record['truncated']:.0f}"
        rows.append((_plain(name), str(scores["n"]), *numbers, null, cut))
    columns = ("suite", "n", "accuracy, %", "95 %", "lenient", "null", "cut, %")
    return _table(_short(evaluation.model), columns, rows)


def _gain_table(evaluation: Evaluation, base: Evaluation) -> Table:
    """Points gained over the base on the same questions (bootstrap interval), McNemar's p, the part that is form."""
    rows = []
    for name, gains in evaluation.comparison.items():
        gain, before, after = gains["all"], base.results[name].scores["all"], evaluation.results[name].scores["all"]
        both = (_points(before["accuracy"]), _points(after["accuracy"]))
        points = _gain(gain["gain"], gain["boot_low"], gain["boot_high"])
        rows.append((_plain(name), str(after["n"]), *both, points, f"{gain['p']:.3f}", _points(gain["form_gain"], "+")))
    columns = ("suite", "n", "base", "now", "gain, points", "p", "of it form")
    return _table(f"{_short(base.model)} → {_short(evaluation.model)}", columns, rows)


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column == "suite" else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _points(share: float, sign: str = "") -> str:
    return f"{100 * share:{sign}.1f}"


def _gain(mean: float, low: float, high: float) -> str:
    return f"{_points(mean, '+')} [{_points(low, '+')}, {_points(high, '+')}]"


def _short(model: str) -> str:
    """A model's name that fits into a line: of a long path, the last part."""
    return model if len(model) <= 36 else Path(model).name[-36:]


def _plain(suite: str) -> str:
    """The name without its protocol, which `_notes` tells."""
    return re.sub(r"-(evalplus-chat|evalplus-direct|azr)$", "", suite)


def _notes(evaluation: Evaluation) -> list[str]:
    """What to know before believing the tables: protocols, pass@k, where everything lies."""
    protocols: dict[str, list[str]] = {}
    for name, result in evaluation.results.items():
        protocols.setdefault(result.record["protocol"], []).append(name)
    lines = [f"{', '.join(names)}: {protocol}" for protocol, names in protocols.items()]
    for name, result in evaluation.results.items():
        curve = [
            f"{key} {_points(value['accuracy'])} [{_points(value['low'])}, {_points(value['high'])}]"
            for key, value in result.scores["all"].items()
            if key.startswith("pass@")
        ]
        if curve:
            lines.append(f"{name}: {', '.join(curve)}")
    for name, points in evaluation.pass_at_k.items():
        gains = [f"pass@{p['k']} {_gain(*(p['gain'][key] for key in ('mean', 'low', 'high')))}" for p in points]
        lines.append(f"{name}, points gained over the base: {', '.join(gains)}")
    return [*lines, f"every prompt, reply and mark: {evaluation.folder}/"]


def paper_lines(evaluation: Evaluation) -> str:
    """CAvg, MAvg and AVG beside the paper's rows, where any of its suites was asked; else empty."""
    own = evaluation.as_in_paper
    if not own:
        return ""
    model = evaluation.origin if evaluation.origin.count("/") <= 1 else Path(evaluation.origin).name
    return beside_paper(model, *([evaluation.base.as_in_paper] if evaluation.base else []), own)
