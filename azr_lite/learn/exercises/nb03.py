"""Exercises of notebook 03, rewards."""

from __future__ import annotations

from azr_lite.learn.checks import Mistake, exercise
from azr_lite.rewards import learnability, solve_rate

exercise(
    name="solve_rate",
    key=solve_rate,
    points=1,
    probes=lambda: [([1.0, 0.0, 0.0, 0.0],), ([1.0, 1.0],), ([0.5, 1.0, 0.0],), ([1.0],)],
    mistakes=[
        Mistake(lambda scores: sum(scores) / len(scores) if scores else 0.0, "one reply (or none) is accepted: r̄ would then always be 0 or 1, and no task could ever be learnable. Raise a ValueError for fewer than two"),
        Mistake(lambda scores: sum(s == 1 for s in scores) / len(scores) if len(scores) > 1 else _too_few(), "it counts only full marks; a reply that solved half of its hidden pairs has score 0.5. Take the mean"),
        Mistake(lambda scores: float(sum(scores)) if len(scores) > 1 else _too_few(), "it is the sum; divide by the number of replies"),
    ],
)  # fmt: skip

exercise(
    name="learnability",
    key=learnability,
    points=2,
    probes=lambda: [(0.0,), (0.125,), (0.5,), (0.875,), (1.0,)],
    mistakes=[
        Mistake(lambda rate: 1.0 - rate, "a task that nobody ever solves (r̄ = 0) earns the most: the proposer will learn to ask for the impossible. Zero at both ends"),
        Mistake(lambda rate: 0.0 if rate in (0.0, 1.0) else rate, "it pays for *easy* tasks: the reward should fall as r̄ rises"),
        Mistake(lambda rate: 4 * rate * (1 - rate), "that is 4p(1 − p), a fair idea with its peak at one half; the paper's reward is 1 − r̄, highest for tasks that are *almost* never solved"),
        Mistake(lambda rate: -0.5 if rate in (0.0, 1.0) else 1 - rate, "−0.5 at both ends is what the authors' code does; the paper says 0"),
    ],
)  # fmt: skip


def _too_few() -> float:
    raise ValueError("at least two")
