"""Every suite by name, the groups that users type, and the Absolute Zero paper's table beside ours.

The paper's averages, in points of 100: CAvg of its three code columns, MAvg of its six of mathematics, AVG of both.
LiveCodeBench is not among our suites, so of ours only MAvg can be had.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence

from azr_lite.evaluation import reasoning
from azr_lite.evaluation.benchmarks import code, maths
from azr_lite.evaluation.suite import Setting, Suite

REASONING = ("cruxeval-o-strict", "cruxeval-i-strict", "induction-hint", "induction-nohint")
BUILDERS: dict[str, Callable[[str, Setting], Suite]] = {
    **dict.fromkeys((*REASONING, "cruxeval-o-all", "cruxeval-i-all", "held-out"), reasoning.build),
    **dict.fromkeys(code.SUITES, code.code_suite),
    **dict.fromkeys(maths.NAMES, maths.maths_suite),
}
"""Name to the function that builds the suite of that name for a `Setting`; EvaluationError where it cannot be had."""

CODE = ("humanevalplus", "mbppplus")
GROUPS = {"reasoning": REASONING, "code": CODE, "math": maths.NAMES, "all": (*REASONING, *CODE, *maths.NAMES)}
GROUPS["games"] = REASONING  # the old spelling

# ---------------------------------------------------------------- the paper

IN_PAPER = (*CODE, "livecodebench", "aime24", "aime25", "amc23", "math500", "minerva", "olympiadbench")
HEADS = ("HE+", "MBP+", "LCB", "A24", "A25", "AMC", "M500", "Min", "Oly", "CAvg", "MAvg", "AVG")
DIFFERENCES = (
    "Not the same protocol: the paper's numbers are single runs of one training seed, one greedy reply per question; "
    "its code columns use EvalPlus's chat prompt with a prefilled ```python fence (25 to 30 points above raw "
    "completion for base models) and LiveCodeBench, which we do not ask; its mathematics allows 16,000 tokens. "
    "One AIME question of 30 is 3.3 points, so its AIME columns are mostly noise. Compare base with trained "
    "under one protocol; across the two tables compare gains at most."
)
PAPER = """
Qwen2.5-7B         base     73.2 65.3 17.5  6.7  3.3 37.5 64.8 25.0 27.7 52.0 27.5 39.8
Qwen2.5-7B         trained  71.3 69.1 25.3 13.3 13.3 52.5 74.4 38.2 38.5 55.2 38.4 46.8
Qwen2.5-Coder-7B   base     80.5 69.3 19.9  6.7  3.3 40.0 54.0 17.3 21.9 56.6 23.9 40.2
Qwen2.5-Coder-7B   trained  83.5 69.6 31.7 20.0 10.0 57.5 72.6 36.4 38.2 61.6 39.1 50.4
Qwen2.5-Coder-3B   base     67.1 65.9 20.0  3.3  3.3 20.0 51.0 18.4 16.6 51.2 18.8 35.0
Qwen2.5-Coder-3B   trained  71.3 69.0 24.4  3.3  3.3 37.5 62.0 26.1 27.0 54.9 26.5 40.7
Qwen2.5-Coder-14B  base     76.8 71.7 31.4  0.0  0.0 37.5 54.8 10.7 18.5 60.0 20.2 40.1
Qwen2.5-Coder-14B  trained  80.5 71.2 39.0 23.3 20.0 65.0 78.6 32.0 39.3 63.6 43.0 53.3
Qwen2.5-14B        base     78.0 66.7 21.7  6.7  3.3 35.0 66.2 28.3 32.4 55.5 28.7 42.1
Qwen2.5-14B        trained  70.7 68.8 35.2 10.0 20.0 62.5 76.2 40.4 42.5 58.2 41.9 50.1
Llama-3.1-8B       base     31.7 53.7  0.0  0.0  0.0  2.5 10.6  5.5  2.1 28.5  3.4 16.0
Llama-3.1-8B       trained  35.4 50.8  8.5  3.3  0.0  5.0 13.2 14.0  5.0 31.6  6.8 19.2
"""
"""Rows of the paper's main table in the order of `HEADS`, by the base model's name on the hub."""


def maths_average(scores: Mapping[str, float]) -> float | None:
    """MAvg of suite → accuracy, in its unit; None where one of the six suites is missing."""
    six = IN_PAPER[3:]
    return sum(scores[suite] for suite in six) / len(six) if scores.keys() >= set(six) else None


def paper_rows(model: str) -> dict[str, tuple[float, ...]]:
    """The numbers of `HEADS` by "base" and "trained", for a hub id, path or name; empty where the paper has no row."""
    name = re.sub("-(unsloth-)?bnb-4bit$", "", model.rstrip("/").rsplit("/", 1)[-1])
    rows = (line.split() for line in PAPER.strip().splitlines())
    return {kind: tuple(map(float, numbers)) for own, kind, *numbers in rows if own == name}


def beside_paper(model: str, base: Mapping[str, float], trained: Mapping[str, float] | None = None) -> str:
    """Our scores (0..1 by suite) next to the paper's, in points, at most 80 columns wide, and what sets the two apart.

    Where the paper has no row for the model, the nearest by size is not shown: a sentence says that there is none.
    """
    rows: dict[str, Sequence[float | None]] = {}
    for label, scores in (("ours, base", base), ("ours, trained", trained)):
        if scores is not None:
            own = {name: 100 * value for name, value in scores.items()}
            rows[label] = [*map(own.get, IN_PAPER), None, maths_average(own), None]
    found = paper_rows(model)
    rows |= {f"paper, {kind}": numbers for kind, numbers in found.items()}
    lines = [f"{model[:78]}: points of 100, - where not measured", " " * 14 + "".join(f"{head:>5}" for head in HEADS)]
    for label, cells in rows.items():
        lines.append(f"{label:<14}" + "".join(f"{'-' if cell is None else format(cell, '.1f'):>5}" for cell in cells))
    told = ["No average is given where a part is missing."]
    if not found:
        models = ", ".join(dict.fromkeys(line.split()[0] for line in PAPER.strip().splitlines()))
        told.append(f"The paper has no row for {model}; it has {models}.")
    return "\n".join([*lines, *(line for text in (*told, DIFFERENCES) for line in textwrap.wrap(text, 80))])
