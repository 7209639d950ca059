"""pass@k by enumeration, bootstrap by known distributions, Wilson and McNemar by published values."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.scores import bootstrap, bootstrap_means, curve, mcnemar, pass_at_k, wilson


@pytest.mark.parametrize("n", range(1, 9))
def test_pass_at_k_is_the_share_of_draws_with_a_right_reply(n):
    for right in range(n + 1):
        for k in range(1, n + 1):
            draws = list(combinations([True] * right + [False] * (n - right), k))
            assert pass_at_k(n, right, k) == pytest.approx(sum(map(any, draws)) / len(draws), abs=1e-12), (n, right, k)


def test_pass_at_k_is_stable_for_many_replies():
    assert pass_at_k(100_000, 1, 50_000) == pytest.approx(0.5)
    assert pass_at_k(10_000, 3, 1) == pytest.approx(3e-4, rel=1e-9)
    assert pass_at_k(1000, 501, 500) == 1.0


@pytest.mark.parametrize(("n", "right", "k"), [(4, 1, 5), (4, 1, 0), (4, 5, 1), (4, -1, 1), (0, 0, 1)])
def test_impossible_counts_are_refused_in_words(n, right, k):
    with pytest.raises(EvaluationError, match=r"replies.*(expected|take k)"):
        pass_at_k(n, right, k)


def test_bootstrap_repeats_for_a_seed_and_has_the_width_of_the_binomial():
    values = np.array([1.0] * 120 + [0.0] * 280)
    one, same = (bootstrap(values, np.random.default_rng(seed)) for seed in (1, 1))
    assert one == same
    assert not np.array_equal(*(bootstrap_means(values, np.random.default_rng(seed), 100) for seed in (1, 2)))
    standard_error = (0.3 * 0.7 / 400) ** 0.5
    assert one.mean == pytest.approx(0.3)
    assert (one.high - one.low) / 2 == pytest.approx(1.96 * standard_error, rel=0.05)
    assert one.low < 0.3 < one.high


def test_resamples_do_not_depend_on_how_they_are_chunked(monkeypatch):
    values = np.random.default_rng(0).random(50)
    whole = bootstrap_means(values, np.random.default_rng(3), 1000)
    monkeypatch.setattr("azr_lite.evaluation.scores._CHUNK", 700)
    assert np.array_equal(whole, bootstrap_means(values, np.random.default_rng(3), 1000))


def test_curve_is_paired_and_monotone():
    rng = np.random.default_rng(7)
    base = {str(i): (16, int(rng.integers(0, 9))) for i in range(60)}
    trained = {str(i): (16, min(16, base[str(i)][1] + 3)) for i in reversed(range(60))}
    points = curve(base, trained, (1, 2, 4, 8, 16), np.random.default_rng(1), draws=2000)
    assert [p.k for p in points] == [1, 2, 4, 8, 16]
    assert points[0].gain.mean == pytest.approx(3 / 16)
    assert points[0].gain.high - points[0].gain.low < 1e-9  # each question gains the same, so pairing leaves no spread
    assert all(a.base.mean <= b.base.mean and a.trained.mean <= b.trained.mean for a, b in pairwise(points))
    assert points[-1].trained.mean == 1.0
    with pytest.raises(EvaluationError, match="not of the same questions"):
        curve(base, {"0": (16, 1)}, (1,), np.random.default_rng(1))
    assert curve(base, trained, (), np.random.default_rng(1)) == []
    with pytest.raises(EvaluationError, match="pass@17 cannot be estimated from 16 replies"):
        curve(base, trained, (17,), np.random.default_rng(1))


def test_nothing_to_resample():
    with pytest.raises(EvaluationError, match="no questions"):
        bootstrap([], np.random.default_rng(0))


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(right, n, low, high):
    assert wilson(right, n) == pytest.approx((low, high), abs=5e-5)


def test_mcnemar_sums_the_binomial_tail():
    # 2 * (1 + 8) / 2^8 and 2 * (1 + 20 + 190 + 1140 + 4845 + 15504) / 2^20, added by hand
    assert mcnemar(7, 1) == mcnemar(1, 7) == pytest.approx(18 / 256)
    assert mcnemar(15, 5) == pytest.approx(43400 / 1048576)
