"""The table of the Absolute Zero paper, its averages, and our row beside it.

The averages as the paper defines them (its main table), in points of 100:
    CAvg = (HumanEval+ + MBPP+ + LiveCodeBench) / 3
    MAvg = (AIME24 + AIME25 + AMC23 + MATH500 + Minerva + OlympiadBench) / 6
    AVG  = (CAvg + MAvg) / 2
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from azr_lite.errors import EvaluationError

CODE = ("humaneval+", "mbpp+", "livecodebench")
MATHS = ("aime24", "aime25", "amc23", "math500", "minerva", "olympiadbench")
SUITES = CODE + MATHS
HEADS = ("HE+", "MBP+", "LCB", "A24", "A25", "AMC", "M500", "Min", "Oly", "CAvg", "MAvg", "AVG")
"""Headings of the columns: those of `SUITES`, then the averages."""
DIFFERENCES = (
    "Not the same protocol: the paper's numbers are single runs of one training seed, one greedy reply per question; "
    "its code columns use EvalPlus's chat prompt with a prefilled ```python fence (25 to 30 points above raw "
    "completion for base models) and LiveCodeBench v5, which we cannot have offline; its mathematics allows 16,000 "
    "tokens. One AIME question of 30 is 3.3 points, so its AIME columns are mostly noise. Compare base with trained "
    "under one protocol; across the two tables compare gains at most."
)
_TABLE = """
Qwen2.5-7B               73.2 65.3 17.5  6.7  3.3 37.5 64.8 25.0 27.7 52.0 27.5 39.8
Qwen2.5-7B + AZR         71.3 69.1 25.3 13.3 13.3 52.5 74.4 38.2 38.5 55.2 38.4 46.8
Qwen2.5-7B-Coder         80.5 69.3 19.9  6.7  3.3 40.0 54.0 17.3 21.9 56.6 23.9 40.2
Qwen2.5-7B-Coder + AZR   83.5 69.6 31.7 20.0 10.0 57.5 72.6 36.4 38.2 61.6 39.1 50.4
Qwen2.5-3B-Coder         67.1 65.9 20.0  3.3  3.3 20.0 51.0 18.4 16.6 51.2 18.8 35.0
Qwen2.5-3B-Coder + AZR   71.3 69.0 24.4  3.3  3.3 37.5 62.0 26.1 27.0 54.9 26.5 40.7
Qwen2.5-14B-Coder        76.8 71.7 31.4  0.0  0.0 37.5 54.8 10.7 18.5 60.0 20.2 40.1
Qwen2.5-14B-Coder + AZR  80.5 71.2 39.0 23.3 20.0 65.0 78.6 32.0 39.3 63.6 43.0 53.3
Qwen2.5-14B              78.0 66.7 21.7  6.7  3.3 35.0 66.2 28.3 32.4 55.5 28.7 42.1
Qwen2.5-14B + AZR        70.7 68.8 35.2 10.0 20.0 62.5 76.2 40.4 42.5 58.2 41.9 50.1
Llama3.1-8B              31.7 53.7  0.0  0.0  0.0  2.5 10.6  5.5  2.1 28.5  3.4 16.0
Llama3.1-8B + AZR        35.4 50.8  8.5  3.3  0.0  5.0 13.2 14.0  5.0 31.6  6.8 19.2
"""
"""Every row of the paper's main table that this project has at hand, in the order of `HEADS`."""


@dataclass(frozen=True)
class Averages:
    """The paper's three averages, in the unit of the scores given; None where one of the parts is `missing`."""

    code: float | None
    maths: float | None
    all: float | None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class PaperRow:
    """One line of the paper's table, in points of 100: scores by suite, averages as printed."""

    model: str
    trained: bool
    scores: Mapping[str, float]
    averages: Averages


def _row(line: str) -> PaperRow:
    words = line.split()
    numbers = [float(word) for word in words[-len(HEADS) :]]
    scores = dict(zip(SUITES, numbers[: len(SUITES)], strict=True))
    return PaperRow(words[0], "+ AZR" in line, scores, Averages(*numbers[len(SUITES) :]))


PAPER = tuple(map(_row, _TABLE.strip().splitlines()))
"""Base first, then trained."""


def canonical(suite: str) -> str:
    """The name in `SUITES` of a suite under another spelling; an unknown one as it is, in lower case."""
    name = re.sub(r"-?plus$", "+", suite.lower().replace("_", "-"))
    return "livecodebench" if name in ("lcb", "livecodebench-v5") else name


def averages(scores: Mapping[str, float]) -> Averages:
    """CAvg, MAvg and AVG of suite -> accuracy (all in one unit). Greedy suites only: ``aime24-avg8`` is not the paper's
    AIME24.

    EvaluationError when two spellings of one suite are given.
    """
    own = _by_suite(scores)

    def mean(names: tuple[str, ...]) -> float | None:
        return sum(own[name] for name in names) / len(names) if own.keys() >= set(names) else None

    code, maths = mean(CODE), mean(MATHS)
    both = None if code is None or maths is None else (code + maths) / 2
    return Averages(code, maths, both, tuple(name for name in SUITES if name not in own))


def _by_suite(scores: Mapping[str, float]) -> dict[str, float]:
    own: dict[str, float] = {}
    for suite, value in scores.items():
        if (name := canonical(suite)) in own:
            raise EvaluationError(f"{suite} is a second score of {name}; give one score per suite")
        own[name] = value
    return own


def paper_rows(model: str) -> tuple[PaperRow, ...]:
    """The base and trained row of this model, found by a hub id, path or name; empty when the paper has none.

    Family, size and coder must agree; Instruct, Math and other variants have no row and match nothing.
    """
    key = _key(model)
    return tuple(row for row in PAPER if key is not None and _key(row.model) == key)


def _key(model: str) -> tuple[str, str, bool] | None:
    name = model.rstrip("/").rsplit("/", 1)[-1].lower().replace("_", "-")
    name = re.sub(r"[-.](?:base|hf|4bit|8bit|bnb|bf16|fp16|gguf|q\d\w*)(?=[-.]|$)", "", name)
    match = re.fullmatch(r"(?:meta-)?(qwen2\.5|llama-?3\.1)(-coder)?-(\d+(?:\.\d+)?b)(-coder)?", name)
    return (match[1].replace("-", ""), match[3], bool(match[2] or match[4])) if match else None


def in_paper(accuracies: Mapping[str, float]) -> dict[str, float]:
    """What of suite → accuracy stands in the paper's table, by short name; code only in its protocol (evalplus)."""
    short = {
        re.sub(r"-evalplus-(chat|direct)$|(?<=^livecodebench-v5)-azr$", "", name): accuracy
        for name, accuracy in accuracies.items()
    }
    return {name: accuracy for name, accuracy in short.items() if canonical(name) in SUITES}


def beside_paper(model: str, base: Mapping[str, float], trained: Mapping[str, float] | None = None) -> str:
    """Our scores (0..1 by suite) next to the paper's, in points, at most 80 columns wide, and what sets the two apart.

    Where the paper has no row for the model, the nearest by size is not shown: a sentence says that there is none.
    """
    rows: list[tuple[str, Mapping[str, float], Averages]] = []
    for label, scores in (("ours, base", base), ("ours, trained", trained)):
        if scores is not None:
            own = {name: 100 * value for name, value in _by_suite(scores).items()}
            rows.append((label, own, averages(own)))
    missing = rows[0][2].missing
    found = paper_rows(model)
    rows += [(f"paper, {'trained' if row.trained else 'base'}", row.scores, row.averages) for row in found]
    lines = [f"{model[:78]}: points of 100, - where not measured", " " * 14 + "".join(f"{head:>5}" for head in HEADS)]
    for label, scores, means in rows:
        cells = [scores.get(name) for name in SUITES] + [means.code, means.maths, means.all]
        lines.append(f"{label:<14}" + "".join(f"{'-' if cell is None else format(cell, '.1f'):>5}" for cell in cells))
    told = [f"No average is given where a part is missing: {', '.join(missing)}."] if missing else []
    if not found:
        models = ", ".join(row.model for row in PAPER if not row.trained)
        told.append(f"The paper has no row for {model}; it has {models}.")
    return "\n".join([*lines, *(line for text in (*told, DIFFERENCES) for line in textwrap.wrap(text, 80))])
