"""From marked replies to scores, and from two sets of them to a paired comparison.

Questions are resampled, not replies: an interval says how much another draw of like questions would move the score. The
spread between training seeds is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from azr_lite.errors import EvaluationError
from azr_lite.metrics import mean

SEED = 20_260_101
"""Seed of the bootstrap: a report says the same each time it is made, and one set of resamples serves all scores of the
same questions."""
Z95 = 1.959964
"""The normal distribution has 95 % of its mass within this many standard deviations."""
_CHUNK = 1 << 22
"""Indices drawn at once, so that memory stays at some tens of megabytes."""
Marks = dict[tuple[str, str], list[bool]]
"""(Group, question) to the marks of its replies, in order of the samples."""


@dataclass(frozen=True)
class Item:
    """One reply and its mark (see `suite.Mark`). `type`: the question's group; `stratum`: its difficulty or origin;
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
    """Accuracy over `n` questions (the mean of their shares of right replies) with its 95 % interval: Wilson's where
    each question has one reply, else a bootstrap over questions. `right`: right replies."""

    n: int
    right: int
    accuracy: float
    low: float
    high: float
    standard_error: float


def score(items: Sequence[Item]) -> Score:
    """Accuracy of these items with its interval; 0 with the interval (0, 1) without any."""
    shares = np.array([mean(own) for own in _by_question(items).values()])
    right, n = sum(item.right for item in items), len(shares)
    if n == 0:
        return Score(0, 0, 0.0, 0.0, 1.0, 0.0)
    if n == len(items):
        accuracy = right / n
        return Score(n, right, accuracy, *wilson(right, n), math.sqrt(accuracy * (1 - accuracy) / n))
    found = bootstrap(shares)
    return Score(n, right, found.mean, found.low, found.high, float(shares.std() / math.sqrt(n)))


def summarize(items: Sequence[Item]) -> dict[str, dict[str, Any]]:
    """Scores by group, by ``group/stratum``, and pooled under ``all``; with lenient accuracy, the parts of the
    marks, mean reply length in tokens, well-formed and truncated share; pass@k where questions have several replies."""
    groups: dict[str, list[Item]] = {"all": list(items)}
    for item in items:
        groups.setdefault(item.type, []).append(item)
        if item.stratum:
            groups.setdefault(f"{item.type}/{item.stratum}", []).append(item)
    return {name: _summary(own) for name, own in groups.items()}


def _summary(items: Sequence[Item]) -> dict[str, Any]:
    means = ("lenient", "tokens", "well_formed", "truncated")
    found: dict[str, Any] = asdict(score(items))
    found |= {name: mean([getattr(item, name) for item in items]) for name in means}
    for part in sorted({name for item in items for name in item.parts}):
        found[part] = mean([item.parts.get(part, False) for item in items])
    marks = _by_question(items)
    for k in _several(marks):
        estimate = bootstrap([pass_at_k(len(own), sum(own), k) for own in marks.values()])
        found[f"pass@{k}"] = {"accuracy": estimate.mean, "low": estimate.low, "high": estimate.high}
    return found


def compare_paired(before: Sequence[Item], after: Sequence[Item]) -> dict[str, dict[str, float]]:
    """Gain on the *same* questions, by group and pooled: points gained with a paired 95 % interval, and McNemar's exact
    p.

    `gain` and `low`, `high`: mean of the per-question differences, normal approximation; `boot_low`, `boot_high`:
    bootstrap over questions. `won`, `lost`, `p`: questions newly right, newly wrong, McNemar (of the first reply to
    each). `lenient_gain`: the same with form forgiven, so what was gained in reasoning; `form_gain`: the rest.
    """
    was, now = _same_questions(before, after)
    was_lenient, now_lenient = _by_question(before, "lenient"), _by_question(after, "lenient")
    result = {}
    for name in ("all", *dict.fromkeys(item.type for item in before)):
        keys = [key for key in was if name in ("all", key[0])]
        change, won, lost = _change(was, now, keys)
        lenient = float(_change(was_lenient, now_lenient, keys)[0].mean())
        gain = float(change.mean())
        half = Z95 * math.sqrt(max(0.0, float((change**2).mean()) - gain * gain) / len(keys))
        drawn = bootstrap(change)
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
    """`gain` and `p` of `compare_paired` over all questions, without intervals: what the stop rule asks."""
    was, now = _same_questions(before, after)
    change, won, lost = _change(was, now, was)
    return float(change.mean()), mcnemar(won, lost)


def _same_questions(before: Sequence[Item], after: Sequence[Item]) -> tuple[Marks, Marks]:
    was, now = _by_question(before), _by_question(after)
    if was.keys() != now.keys():
        raise ValueError("the two evaluations are not of the same problems; compare runs with the same held-out set")
    return was, now


def _change(was: Marks, now: Marks, keys: Iterable[tuple[str, str]]) -> tuple[np.ndarray, int, int]:
    """Per question the difference of the shares right, shape (questions,); first replies newly right, newly wrong."""
    change = np.array([mean(now[key]) - mean(was[key]) for key in keys])
    won = sum(now[key][0] and not was[key][0] for key in keys)
    lost = sum(was[key][0] and not now[key][0] for key in keys)
    return change, won, lost


def compare_pass_at_k(before: Sequence[Item], after: Sequence[Item]) -> list[dict[str, Any]]:
    """pass@k of both on the same questions and the paired gain, each with a bootstrap interval, for k = 1, 2, 4, …
    up to the replies that every question has; empty where that is one."""
    was, now = _same_questions(before, after)
    points = []
    for k in _several(was, now):
        base, trained = (np.array([pass_at_k(len(own[q]), sum(own[q]), k) for q in was]) for own in (was, now))
        estimates = {"base": base, "trained": trained, "gain": trained - base}
        points.append({"k": k, **{name: asdict(bootstrap(values)) for name, values in estimates.items()}})
    return points


def _several(*marks: Marks) -> list[int]:
    """1, 2, 4, … up to the replies that every question has; empty where that is one."""
    most = min((len(replies) for own in marks for replies in own.values()), default=1)
    return [2**i for i in range(most.bit_length())] if most > 1 else []


def _by_question(items: Sequence[Item], what: str = "right") -> Marks:
    found: Marks = {}
    for item in items:
        found.setdefault((item.type, item.id), []).append(getattr(item, what))
    return found


# ---------------------------------------------------------------- small-sample statistics


def wilson(right: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval of the proportion p = right/n, as (low, high) in 0..1; (0, 1) of nothing.

    (p + z²/2n ± z·√(p(1-p)/n + z²/4n²)) / (1 + z²/n)

    Examples:
        >>> low, high = wilson(right=2, n=40)
        >>> print(f"{low:.3f} to {high:.3f}")
        0.014 to 0.165
    """
    if n == 0:
        return 0.0, 1.0
    p, zz = right / n, z * z
    centre = (p + zz / (2 * n)) / (1 + zz / n)
    half = z * math.sqrt(p * (1 - p) / n + zz / (4 * n * n)) / (1 + zz / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar(won: int, lost: int) -> float:
    """Exact two-sided McNemar test: the chance of a split at least this uneven of the items that changed.

    min(1, 2·Σ_{i ≤ min(won, lost)} C(won+lost, i) / 2^(won+lost))

    Examples:
        >>> mcnemar(won=9, lost=1)
        0.021484375
    """
    n, k = won + lost, min(won, lost)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    return min(1.0, 2 * tail)


def pass_at_k(n: int, right: int, k: int) -> float:
    """Unbiased chance that at least one of k replies, drawn from the n made without putting back, is right.

    1 - C(n-c, k) / C(n, k) = 1 - Π_{i=n-c+1..n} (1 - k/i) with c = `right` (Chen et al. 2021, equation 1); the product
    has no large numbers in it, so nothing overflows.  EvaluationError unless 1 ≤ k ≤ n and 0 ≤ c ≤ n.

    Examples:
        >>> [pass_at_k(n=4, right=1, k=k) for k in (1, 2, 4)]
        [0.25, 0.5, 1.0]
    """
    if not 0 <= right <= n:
        raise EvaluationError(f"{right} right replies of {n} make no sense; expected 0 to {n}")
    if not 1 <= k <= n:
        raise EvaluationError(
            f"pass@{k} cannot be estimated from {n} replies to a question; take k from 1 to {n}, or make more replies"
        )
    return 1.0 - math.prod(1.0 - k / i for i in range(n - right + 1, n + 1))


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` questions with its percentile interval. Units: 0..1 for a score, -1..1 for a difference."""

    n: int
    mean: float
    low: float
    high: float


def bootstrap(values: Sequence[float] | np.ndarray, seed: int = SEED, draws: int = 10_000) -> Estimate:
    """Mean of `values` (one per question) with its 95 % percentile interval over `draws` resamples of the questions.

    Values that are all equal give an interval of no width: use `wilson` for plain right/wrong near 0 or 1.

    Examples:
        >>> found = bootstrap([1.0] * 30 + [0.0] * 10, draws=2000)
        >>> found.n, found.mean, found.low < 0.7 < 0.8 < found.high
        (40, 0.75, True)
    """
    array = np.asarray(values, dtype=np.float64)
    count = len(array)
    if count == 0:
        raise EvaluationError("there are no questions to resample; expected at least one")
    rng, step = np.random.default_rng(seed), max(1, _CHUNK // count)
    sizes = [min(step, draws - start) for start in range(0, draws, step)]
    means = np.concatenate([array[rng.integers(0, count, size=(size, count))].mean(axis=-1) for size in sizes])
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(count, float(array.mean()), float(low), float(high))
