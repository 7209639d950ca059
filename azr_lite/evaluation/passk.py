"""Several replies to a question: pass@k, avg@n, and bootstrap intervals over the questions.

Comes in: per question, how many replies were made and how many were right.  Goes out: means with percentile intervals, for one
model, for the difference of two on the same questions, and as a curve over k.
Not covered: making the replies; one greedy reply each (`intervals.py` has closed formulas for that).

What is resampled are the questions, not the replies: the interval says how much another draw of like questions would move the
score.  The spread between training seeds is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from azr_lite.errors import EvaluationError

Counts = Mapping[str, tuple[int, int]]
"""Question id to (replies made, replies right)."""

_CHUNK = 1 << 22
"""Indices drawn at once, so that memory stays at some tens of megabytes."""


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` questions with its percentile interval. Units: 0..1 for a score, -1..1 for a difference."""

    n: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class CurvePoint:
    """pass@k of two models on the same questions, and the paired difference trained - base."""

    k: int
    base: Estimate
    trained: Estimate
    gain: Estimate


def pass_at_k(n: int, right: int, k: int) -> float:
    """Unbiased chance that at least one of k replies, drawn from the n made without putting back, is right.

    1 - C(n-c, k) / C(n, k) = 1 - Π_{i=n-c+1..n} (1 - k/i) with c = `right` (Chen et al. 2021, equation 1); the product has no
    large numbers in it, so nothing overflows.  EvaluationError unless 1 ≤ k ≤ n and 0 ≤ c ≤ n.

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
    if n - right < k:
        return 1.0
    miss = 1.0
    for i in range(n - right + 1, n + 1):
        miss *= 1.0 - k / i
    return 1.0 - miss


def per_question(counts: Counts, k: int) -> np.ndarray:
    """pass@k of each question, shape (questions,), in the order of `counts`."""
    return np.array([pass_at_k(n, right, k) for n, right in counts.values()], dtype=np.float64)


def bootstrap_means(values: np.ndarray, rng: np.random.Generator, draws: int = 10_000) -> np.ndarray:
    """Means of `draws` resamples of the questions.

    `values`: shape (questions,) or (columns, questions); all columns share each resample, which is what makes a difference of two
    columns paired.  Result: (draws,) or (columns, draws).
    """
    if values.shape[-1] == 0:
        raise EvaluationError("there are no questions to resample; expected at least one")
    if draws < 1:
        raise EvaluationError(f"{draws} resamples give no interval; expected at least one, better 1000")
    count = values.shape[-1]
    found, left = [], draws
    while left:
        now = min(left, max(1, _CHUNK // count))
        picked = rng.integers(0, count, size=(now, count))
        found.append(np.stack([row[picked].mean(axis=-1) for row in np.atleast_2d(values)]))
        left -= now
    means = np.concatenate(found, axis=-1)
    return means if values.ndim == 2 else means[0]


def _interval(values: np.ndarray, means: np.ndarray, level: float) -> Estimate:
    if not 0 < level < 1:
        raise EvaluationError(f"an interval cannot have level {level}; expected a number between 0 and 1, such as 0.95")
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(len(values), float(values.mean()), float(low), float(high))


def bootstrap(
    values: Sequence[float] | np.ndarray, rng: np.random.Generator, draws: int = 10_000, level: float = 0.95
) -> Estimate:
    """Mean of `values` (one a question) with its percentile interval. The same generator state gives the same interval.

    Values that are all equal give an interval of no width: use `intervals.wilson` for plain right/wrong near 0 or 1.

    Examples:
        >>> found = bootstrap([1.0] * 30 + [0.0] * 10, np.random.default_rng(0), draws=2000)
        >>> found.n, found.mean, found.low < 0.7 < 0.8 < found.high
        (40, 0.75, True)
    """
    array = np.asarray(values, dtype=np.float64)
    return _interval(array, bootstrap_means(array, rng, draws), level)


def curve(
    base: Counts, trained: Counts, ks: Sequence[int], rng: np.random.Generator, draws: int = 10_000, level: float = 0.95
) -> list[CurvePoint]:
    """pass@k of base and trained model over `ks`, every point with intervals. One set of resamples serves the whole curve.

    EvaluationError when the two are not of the same questions, or when some question has fewer than k replies.
    """
    _same(base, trained)
    trained = {name: trained[name] for name in base}
    scores = np.array([[per_question(base, k), per_question(trained, k)] for k in ks])  # (ks, 2, questions)
    if not len(ks):
        return []
    means = bootstrap_means(scores.reshape(2 * len(ks), -1), rng, draws).reshape(len(ks), 2, draws)
    return [
        CurvePoint(
            k,
            _interval(was, was_means, level),
            _interval(now, now_means, level),
            _interval(now - was, now_means - was_means, level),
        )
        for k, (was, now), (was_means, now_means) in zip(ks, scores, means, strict=True)
    ]


def _same(before: Mapping[str, object], after: Mapping[str, object]) -> None:
    if odd := before.keys() ^ after.keys():
        raise EvaluationError(
            f"the two results are not of the same questions ({len(odd)} are in one only, such as {min(odd)}); evaluate both on the same ones"
        )
