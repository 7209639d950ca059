"""Two closed formulas of small-sample statistics: Wilson's interval of a proportion, and McNemar's exact test of two paired ones.

Comes in: counts.  Goes out: floats.  Not covered: scores that are means of several replies (`passk.py` bootstraps those).
"""

from __future__ import annotations

import math

Z95 = 1.959964
"""The normal distribution has 95 % of its mass within this many standard deviations."""


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
