"""pass@k by enumeration, bootstrap by known distributions, Wilson and McNemar by published values."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.scores import Item, bootstrap, compare_paired, mcnemar, pass_at_k, summarize, wilson


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
    one, same = (bootstrap(values, seed) for seed in (1, 1))
    assert one == same
    assert bootstrap(values, 1, draws=100) != bootstrap(values, 2, draws=100)
    standard_error = (0.3 * 0.7 / 400) ** 0.5
    low, high = one
    assert (high - low) / 2 == pytest.approx(1.96 * standard_error, rel=0.05)
    assert low < 0.3 < high


def items(rights):
    """Sixteen replies to each question, the first of them right."""
    return [
        Item(name, "deduction", "", n < right, True, "", "p", "t", 1, False, sample=n)
        for name, right in rights.items()
        for n in range(16)
    ]


def test_the_curve_is_paired_and_monotone():
    rng = np.random.default_rng(7)
    base = {str(i): int(rng.integers(0, 9)) for i in range(60)}
    trained = {str(i): min(16, base[str(i)] + 3) for i in reversed(range(60))}
    gains = compare_paired(items(base), items(trained))["all"]
    curves = [summarize(items(rights))["all"] for rights in (base, trained)]
    ks = [key for key in gains if key.startswith("pass@")]
    assert ks == ["pass@1", "pass@2", "pass@4", "pass@8", "pass@16"]
    gain = gains["pass@1"]
    assert gain["gain"] == pytest.approx(3 / 16)
    assert gain["high"] - gain["low"] < 1e-9  # each question gains the same, so pairing leaves no spread
    assert all(own[a]["accuracy"] <= own[b]["accuracy"] for own in curves for a, b in pairwise(ks))
    assert curves[1]["pass@16"]["accuracy"] == 1.0


def test_nothing_to_resample():
    with pytest.raises(EvaluationError, match="no questions"):
        bootstrap([])


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
    [
        *[(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
        *[(5, 10, 0.2366, 0.7634), (20, 20, 0.8389, 1.0)],
    ],
)
def test_wilson_gives_the_published_intervals(right, n, low, high):
    assert wilson(right, n) == pytest.approx((low, high), abs=5e-5)


def test_mcnemar_sums_the_binomial_tail():
    # 2 * (1 + 8) / 2^8 and 2 * (1 + 20 + 190 + 1140 + 4845 + 15504) / 2^20, added by hand
    assert mcnemar(7, 1) == mcnemar(1, 7) == pytest.approx(18 / 256)
    assert mcnemar(15, 5) == pytest.approx(43400 / 1048576)
    assert [mcnemar(0, 0), mcnemar(5, 0), mcnemar(3, 3)] == [1.0, 0.0625, 1.0]
    assert mcnemar(10, 2) == pytest.approx(0.0385742, abs=1e-6)
