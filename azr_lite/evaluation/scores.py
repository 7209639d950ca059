"""From marked replies to scores, and from two sets of them to a paired comparison.

Comes in: items (one reply with its mark each).  Goes out: accuracies with standard errors and 95 % intervals, by group and stratum;
gains on the same questions, split into form and reasoning.
Not covered: marking (the suites), the formulas of the intervals (`intervals.py`, `passk.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from azr_lite.evaluation.intervals import Z95, mcnemar, wilson
from azr_lite.evaluation.passk import bootstrap, curve, pass_at_k
from azr_lite.metrics import mean

SEED = 20_260_101
"""Seed of the bootstrap: a report says the same each time it is made."""


@dataclass(frozen=True)
class Item:
    """One reply and its mark (see `protocol.Mark`). `type`: the question's group; `stratum`: its difficulty or origin;
    `sample`: which of the replies to the question."""

    id: str
    type: str
    stratum: str
    right: bool
    well_formed: bool
    reason: str
    prompt: str
    text: str
    tokens: int
    truncated: bool
    lenient: bool = False
    sample: int = 0
    parts: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """Accuracy over `n` questions (the mean of their shares of right replies) with its 95 % interval: Wilson's where each question
    has one reply, else a bootstrap over questions. `right`: right replies."""

    n: int
    right: int
    accuracy: float
    low: float
    high: float
    standard_error: float


def score(items: Sequence[Item]) -> Score:
    """Accuracy of these items with its interval; 0 with the interval (0, 1) without any."""
    shares = np.array([sum(own) / len(own) for own in _by_question(items, "right").values()])
    right, n = sum(item.right for item in items), len(shares)
    if n == 0:
        return Score(0, 0, 0.0, 0.0, 1.0, 0.0)
    accuracy = float(shares.mean())
    if n == len(items):
        return Score(n, right, accuracy, *wilson(right, n), math.sqrt(accuracy * (1 - accuracy) / n))
    found = bootstrap(shares, np.random.default_rng(SEED))
    return Score(n, right, accuracy, found.low, found.high, float(shares.std() / math.sqrt(n)))


def summarize(items: Sequence[Item]) -> dict[str, dict[str, Any]]:
    """Scores by group, by ``group/stratum``, and pooled under ``all``; with lenient accuracy, the parts of the marks, mean reply
    length in tokens, well-formed and truncated share; pass@k where questions have several replies."""
    groups: dict[str, list[Item]] = {"all": list(items)}
    for item in items:
        groups.setdefault(item.type, []).append(item)
        if item.stratum:
            groups.setdefault(f"{item.type}/{item.stratum}", []).append(item)
    return {name: _summary(own) for name, own in groups.items()}


def _summary(items: Sequence[Item]) -> dict[str, Any]:
    count = max(1, len(items))
    found = {
        **asdict(score(items)),
        "lenient": sum(item.lenient for item in items) / count,
        "tokens": sum(item.tokens for item in items) / count,
        "well_formed": sum(item.well_formed for item in items) / count,
        "truncated": sum(item.truncated for item in items) / count,
    }
    for part in sorted({name for item in items for name in item.parts}):
        found[part] = sum(item.parts.get(part, False) for item in items) / count
    shares = _by_question(items, "right")
    samples = min((len(own) for own in shares.values()), default=1)
    if samples > 1:
        for k in _powers(samples):
            rates = np.array([pass_at_k(len(own), sum(own), k) for own in shares.values()])
            estimate = bootstrap(rates, np.random.default_rng(SEED))
            found[f"pass@{k}"] = {"accuracy": estimate.mean, "low": estimate.low, "high": estimate.high}
    return found


def compare_paired(before: Sequence[Item], after: Sequence[Item]) -> dict[str, dict[str, float]]:
    """Gain on the *same* questions, by group and pooled: points gained with a paired 95 % interval, and McNemar's exact p.

    `gain` and `low`, `high`: mean of the per-question differences, normal approximation; `boot_low`, `boot_high`: bootstrap over
    questions. `won`, `lost`, `p`: questions newly right, newly wrong, McNemar (of the first reply to each). `lenient_gain`: the same
    with form forgiven, so what was gained in reasoning; `form_gain`: the rest.
    """
    was, now = _same_questions(before, after)
    was_lenient, now_lenient = _by_question(before, "lenient"), _by_question(after, "lenient")
    result = {}
    for name in ("all", *dict.fromkeys(item.type for item in before)):
        keys = [key for key in was if name in ("all", key[0])]
        change, won, lost = _change(was, now, keys)
        lenient = float(np.mean([mean(now_lenient[key]) - mean(was_lenient[key]) for key in keys]))
        gain = float(change.mean())
        half = Z95 * math.sqrt(max(0.0, float((change**2).mean()) - gain * gain) / len(keys))
        drawn = bootstrap(change, np.random.default_rng(SEED))
        result[name] = {
            "gain": gain,
            "low": gain - half,
            "high": gain + half,
            "boot_low": drawn.low,
            "boot_high": drawn.high,
            "won": won,
            "lost": lost,
            "p": mcnemar(won, lost),
            "lenient_gain": lenient,
            "form_gain": gain - lenient,
        }
    return result


def overall_gain(before: Sequence[Item], after: Sequence[Item]) -> tuple[float, float]:
    """`gain` and `p` of `compare_paired` over all questions, without its intervals: what the stop rule asks again and again."""
    was, now = _same_questions(before, after)
    change, won, lost = _change(was, now, list(was))
    return float(change.mean()), mcnemar(won, lost)


Marks = dict[tuple[str, str], list[bool]]
"""(Group, question) to the marks of its replies, in order of the samples."""


def _same_questions(before: Sequence[Item], after: Sequence[Item]) -> tuple[Marks, Marks]:
    was, now = _by_question(before, "right"), _by_question(after, "right")
    if was.keys() != now.keys():
        raise ValueError("the two evaluations are not of the same problems; compare runs with the same held-out set")
    return was, now


def _change(was: Marks, now: Marks, keys: Sequence[tuple[str, str]]) -> tuple[np.ndarray, int, int]:
    """Per question the difference of the shares right, shape (questions,); and how many first replies became right, and wrong."""
    change = np.array([mean(now[key]) - mean(was[key]) for key in keys])
    won = sum(now[key][0] and not was[key][0] for key in keys)
    lost = sum(was[key][0] and not now[key][0] for key in keys)
    return change, won, lost


def compare_pass_at_k(before: Sequence[Item], after: Sequence[Item]) -> list[dict[str, Any]]:
    """pass@k of both on the same questions and the paired gain, each with a bootstrap interval, for k = 1, 2, 4, … up to the replies
    that every question has; empty where that is one."""
    was, now = (
        {key[1]: (len(own), sum(own)) for key, own in _by_question(items, "right").items()} for items in (before, after)
    )
    most = min(n for counts in (was, now) for n, _ in counts.values())
    if most == 1:
        return []
    return [asdict(point) for point in curve(was, now, _powers(most), np.random.default_rng(SEED))]


def _powers(most: int) -> list[int]:
    return [2**i for i in range(most.bit_length())]


def _by_question(items: Sequence[Item], what: str) -> Marks:
    found: Marks = {}
    for item in items:
        found.setdefault((item.type, item.id), []).append(getattr(item, what))
    return found
