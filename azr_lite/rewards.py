"""What each reply earns: learnability, accuracy, and the format ladder around both.

Paper section 3.2 (equations 4 to 6):

    learnability(r) = 0 if r in {0, 1} else 1 - r
    R(reply)        = -1 not well formed or, for a proposal, not valid;  -0.5 a wrong answer;  else the role's reward

Not in the paper: -0.5 for a valid proposal whose program the run has seen (`Config.repeated_programs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from azr_lite.triplet import Verdict

NOT_WELL_FORMED = -1.0
WRONG = -0.5
REPEATED = -0.5


@dataclass(frozen=True, slots=True)
class Reward:
    """The reward of one reply. `total` trains the policy; `parts` name what it is made of and sum to it."""

    total: float
    parts: dict[str, float]


def _sum_of(**parts: float) -> Reward:
    return Reward(sum(parts.values()), parts)


def solve_rate(scores: Sequence[float]) -> float:
    """r-bar of equation 4: the mean score, 0 to 1, of the Monte-Carlo replies to one task.

    ValueError for fewer than two: one reply would make r-bar 0 or 1 always, and learnability zero for every task.

    Examples:
        >>> solve_rate([1.0, 0.0, 0.0, 0.0])
        0.25
    """
    if len(scores) < 2:
        raise ValueError(f"{len(scores)} Monte-Carlo replies; at least 2 are needed to tell a learnable task")
    return sum(scores) / len(scores)


def learnability(rate: float, zero: Literal["paper", "upstream"] = "paper") -> float:
    """Reward of a valid proposal (equation 4).

    Args:
        rate: Mean success of the solver, in [0, 1].
        zero: What a task earns that is always or never solved: 0 ("paper") or -0.5 ("upstream", the authors' code).

    Returns:
        1 - rate, or the value for `zero` where the rate is 0 or 1.

    Raises:
        ValueError: The rate lies outside [0, 1].

    Examples:
        >>> [learnability(rate) for rate in (0.0, 0.25, 0.75, 1.0)]
        [0.0, 0.75, 0.25, 0.0]
        >>> learnability(1.0, zero="upstream")
        -0.5
    """
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"solve rate {rate} is not between 0 and 1")
    if rate in (0.0, 1.0):
        return 0.0 if zero == "paper" else WRONG
    return 1.0 - rate


def expected_learnability(p: float, n: int, zero: Literal["paper", "upstream"] = "paper") -> float:
    """Expected learnability of a task that each of n independent replies solves with probability p; exact.

    (1 - p) - (1 - p)^n: the reward 1 - p that is meant, less the chance that all n replies fail. With n = 1 nothing is
    left. ValueError unless 0 <= p <= 1 and n >= 1.

    Examples:
        >>> [expected_learnability(0.25, n) for n in (1, 2, 8)]
        [0.0, 0.1875, 0.6498870849609375]
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"probability {p} is not between 0 and 1")
    if n < 1:
        raise ValueError(f"{n} replies; at least 1 is needed")
    never, always = (1.0 - p) ** n, p**n
    return 1.0 - p - never + (0.0 if zero == "paper" else WRONG * (never + always))


def proposal_reward(
    verdict: Verdict, rate: float | None, zero: Literal["paper", "upstream"] = "paper", repeated: bool = False
) -> Reward:
    """The proposer's reward (equations 4 and 6). `rate`: r-bar, without which a valid proposal is a ValueError.

    `repeated`: pay the penalty for a program that the run has seen, whatever the rate.

    Examples:
        >>> proposal_reward(Verdict(ok=True, well_formed=True), rate=0.25)
        Reward(total=0.75, parts={'learnability': 0.75})
        >>> proposal_reward(Verdict(ok=False, well_formed=True, reason="timeout"), rate=None).total
        -1.0
    """
    if not verdict.ok:
        return _sum_of(form=NOT_WELL_FORMED)
    if rate is None:
        raise ValueError("a valid proposal has no solve rate, so it has no reward; judge its Monte-Carlo replies first")
    return _sum_of(repeat=REPEATED) if repeated else _sum_of(learnability=learnability(rate, zero))


def answer_reward(verdict: Verdict) -> Reward:
    """The solver's reward (equations 5 and 6).

    Args:
        verdict: What was found about the answer.

    Returns:
        1 (or the fraction scored) where it is right, -0.5 where it is wrong, -1 where it is not well formed.

    Examples:
        >>> answer_reward(Verdict(ok=True, well_formed=True, score=1.0)).total
        1.0
        >>> answer_reward(Verdict(ok=False, well_formed=True, reason="wrong"))
        Reward(total=-0.5, parts={'accuracy': -0.5})
    """
    if not verdict.well_formed:
        return _sum_of(form=NOT_WELL_FORMED)
    return _sum_of(accuracy=verdict.score if verdict.score > 0 else WRONG)
