"""Exercises of notebook 08, reading a run: what a reply should have earned, six diagnoses, a paired test, pass@k."""

from __future__ import annotations

import math
from typing import Any

from azr_lite.course.checks import Mistake, exercise
from azr_lite.course.recorded_runs import PATIENTS
from azr_lite.evaluation.scores import mcnemar, pass_at_k
from azr_lite.observe.run_summary import due
from azr_lite.rewards import learnability

Line = dict[str, Any]


def _line(role: str, ok: bool, form: bool = True, score: float = 0.0, rate: float | None = None) -> Line:
    return {"role": role, "solve_rate": rate, "verdict": {"ok": ok, "well_formed": form, "score": score}}


PROPOSED = [_line("propose", True, score=1.0, rate=rate) for rate in (0.0, 0.25, 0.625, 1.0)]
LINES = [
    *PROPOSED,
    _line("propose", False),
    _line("propose", False, form=False),
    _line("propose", False, rate=0.25),
    _line("propose", True, score=1.0),
    _line("solve", True, score=1.0, rate=0.5),
    _line("solve", False, rate=0.5),
    _line("solve", False, form=False, rate=0.5),
    _line("solve", False, score=0.4, rate=0.5),
]
"""Each kind of logged reply once, and two proposals that only a hand-made log holds: rejected with a solve rate, and valid without one. The
last is an induction answer that reproduced two of five pairs, where shares are rewarded."""


def _proposals_earn(reward: Any) -> Any:
    """A mistaken `due`: valid proposals earn `reward(rate, zero)`."""

    def mistaken(line: Line, zero: str) -> float:
        valid = line["role"] == "propose" and line["verdict"]["ok"]
        return reward(line["solve_rate"], zero) if valid else due(line, zero)

    return mistaken


def _replaced(role: str, when: Any, value: float) -> Any:
    """A mistaken `due`: replies of that role whose verdict is such earn `value`."""
    return lambda line, zero: value if line["role"] == role and when(line["verdict"]) else due(line, zero)


exercise(
    name="due", key=due, points=2,
    probes=lambda: [(line, zero) for zero in ("paper", "upstream") for line in LINES],
    hint="Proposal: not ok or without solve rate -1, else learnability(r̄, zero). Answer: no form -1, score 0 gives -0.5, else the score.",
    mistakes=[
        Mistake(_proposals_earn(learnability), "it raises an error for a proposal that is ok and has no solve rate (nobody was asked to solve it): −1, before learnability is asked"),
        Mistake(lambda line, zero: due({**line, "solve_rate": line["solve_rate"] or None}, zero), "it takes a solve rate of 0 for none at all: in Python 0.0 is as false as None. Ask `is None`"),
        Mistake(_proposals_earn(lambda rate, zero: rate), "it gives a valid proposal r̄, as if a good teacher were one whose pupils never fail. One of the six patients was rewarded just so. Learnability *falls* as r̄ rises"),
        Mistake(_proposals_earn(lambda rate, zero: 1.0 - rate), "it gives 1 − r̄ at the ends too, so a task that nobody ever solves earns most of all. Learnability has a special value at r̄ = 0 and r̄ = 1; az.learnability knows it"),
        Mistake(_proposals_earn(lambda rate, zero: learnability(rate, "paper")), "it does not look at `zero`: with 'upstream', tasks that are always or never solved earn −0.5. Pass it on to learnability"),
        Mistake(_replaced("propose", lambda verdict: not verdict["ok"], 0.0), "a rejected proposal earns 0, as much as a valid one that is too easy. Then writing nonsense costs nothing; the ladder says −1"),
        Mistake(_replaced("solve", lambda verdict: verdict["well_formed"] and verdict["score"] == 0, -1.0), "a well-formed wrong answer earns −1, like a reply without form. Then the form is worth nothing by itself, and a beginner who is never right has nothing to climb; it earns −0.5"),
        Mistake(lambda line, zero: (-0.5 if line["role"] == "solve" and line["verdict"]["well_formed"] and not line["verdict"]["ok"] else due(line, zero)), "every answer that is not fully right earns −0.5; where shares are rewarded, an induction answer with score 0.4 earns 0.4. Go by the score, not by `ok`"),
    ],
)  # fmt: skip

# ---------------------------------------------------------------- the six patients
# What speaks against each wrong guess. Shares are means of the first and of the last fifth of the run (data_samples/runs/bugs).

AGAINST: dict[str, dict[str, str]] = {
    "A": {
        "healthy": "held-out accuracy ends where it began (−0.3 points), while the solve rate of new tasks falls from 71 to 25 %. Harder tasks alone are no illness; look "
        "at the reward of a proposal with r̄ = 0",
        "sign flip": "93 % of its proposals are still valid at the end, and held-out accuracy did not fall. A policy pushed the wrong way loses both",
        "easy tasks": "the solve rate of new tasks falls, from 71 to 25 %: its tasks get harder, not easier",
        "identical answers": "39 % of its tasks end with a solve rate strictly between 0 and 1. If all answers to a task are the same, r̄ can only be 0 or 1",
        "length blow-up": "its replies do grow, from 15 to 35 tokens, but your audit finds every *answer* rewarded as due, and length is rewarded nowhere. Look at the "
        "proposals it found",
    },
    "B": {
        "sign flip": "held-out accuracy rose by 6.7 points and 96 % of its proposals are valid: it goes uphill",
        "easy tasks": "the solve rate of new tasks falls from 72 to 53 %, and more of them are learnable than before",
        "impossible tasks": "the solve rate falls, but to 53 %, and learnable tasks *rise* from 38 to 55 %: the proposer moves to the middle, where it is rewarded. Your audit found "
        "no wrong reward",
        "identical answers": "55 % of its tasks end with a solve rate strictly between 0 and 1, which n equal answers cannot give",
        "length blow-up": "its replies grow from 14 to 23 tokens, but your audit found no wrong reward: no answer is rewarded for length. Thoughts grow because they make answers right",
    },
    "C": {
        "healthy": "held-out accuracy falls by 44 points, and 2 % of its proposals are valid at the end. Nothing about that is well",
        "easy tasks": "the solve rate of new tasks falls to 21 %, and hardly any task is left: 2 % of its proposals are valid",
        "impossible tasks": "the solve rate does fall, but a proposer that hunts for impossible tasks keeps writing *valid* ones, for only they are rewarded. Here 2 % are valid, and your "
        "audit found all of them rewarded correctly",
        "identical answers": "more than a third of its few valid tasks have a solve rate strictly between 0 and 1, at the start and at the end",
        "length blow-up": "its replies get *shorter*, from 14 to 12 tokens",
    },
    "D": {
        "healthy": "its held-out curve is the best of all six, and still something is wrong: your audit finds that not one of its kept answers got the reward it was due",
        "sign flip": "held-out accuracy rose by 23.7 points; a flipped sign goes downhill",
        "easy tasks": "the solve rate of new tasks falls from 72 to 63 %, and your audit finds its *proposals* rewarded correctly",
        "impossible tasks": "63 % of its tasks' replies are right at the end, more tasks are learnable than before, and your audit finds its *proposals* rewarded correctly",
        "identical answers": "52 % of its tasks end with a solve rate strictly between 0 and 1; equal answers cannot do that",
    },
    "E": {
        "healthy": "one of its curves is *exactly* constant for twenty steps, at zero. Nothing that is measured by sampling stays exactly constant",
        "sign flip": "94 % of its proposals are still valid, and held-out accuracy moved by −2.0 points [−6.6, +2.6]: it goes nowhere rather than down",
        "easy tasks": "the solve rate hardly moves (74 to 77 %), and your audit finds every proposal rewarded correctly. But every *valid* proposal earns the same: how much, and why?",
        "impossible tasks": "77 % of its tasks' replies are right at the end",
        "length blow-up": "its replies stay at 15 to 16 tokens, and your audit found no wrong reward",
    },
    "F": {
        "healthy": "the solve rate of new tasks climbs from 76 to 87 %, and learnable tasks halve, from 34 to 17 %: its lessons teach less and less. Your audit "
        "found all its proposals rewarded wrongly",
        "sign flip": "97 % of its proposals are valid, and it solves *more* of its own tasks than before: it follows its rewards, so the sign is right. Are the rewards?",
        "impossible tasks": "the solve rate of new tasks climbs to 87 %: they are anything but impossible",
        "identical answers": "17 % of its tasks still end with a solve rate strictly between 0 and 1. It falls, but it is not zero throughout",
        "length blow-up": "its replies stay at 14 to 15 tokens",
    },
}  # fmt: skip

for letter, (_, name) in PATIENTS.items():
    exercise(
        name=f"patient_{letter.lower()}",
        key=name,
        points=1,
        hint="Choose one of: " + ", ".join(repr(other) for _, other in PATIENTS.values()) + ".",
        mistakes=[Mistake(guess, evidence) for guess, evidence in AGAINST[letter].items()],
    )


# ---------------------------------------------------------------- a paired test


def _tail(won: int, lost: int, most: int) -> float:
    n = won + lost
    return sum(math.comb(n, i) for i in range(most + 1)) / 2**n


exercise(
    name="mcnemar", key=mcnemar, points=2,
    probes=lambda: [(30, 13), (13, 30), (3, 0), (5, 5), (1, 0), (8, 2), (0, 0)],
    hint="Twice the chance of at most min(won, lost) heads in won + lost throws of a coin, and never more than 1.",
    mistakes=[
        Mistake(lambda won, lost: mcnemar(won, lost) if won + lost else 0.0, "where nothing changed it says 0, as if that were the greatest surprise. No throws, no surprise: the formula gives 1 for 0 : 0"),
        Mistake(lambda won, lost: min(1.0, _tail(won, lost, min(won, lost))), "that is the one-sided chance. You would have been as surprised by a loss of that size, so both directions count: twice that"),
        Mistake(lambda won, lost: 2 * _tail(won, lost, min(won, lost)), "an even split such as 5 : 5 gives more than 1: its middle is counted from both sides. A chance is at most 1"),
        Mistake(lambda won, lost: min(1.0, 2 * _tail(won, lost, min(won, lost) - 1)), "it leaves the seen split itself out of the sum. The chance of a split *at least as* uneven includes it: sum from 0 to min(won, lost)"),
        Mistake(lambda won, lost: math.erfc(abs(won - lost) / math.sqrt(2 * (won + lost))) if won + lost else 1.0, "that is the chi-square approximation (won − lost)²/(won + lost), which is for large counts: for 3 : 0 it says 0.08, the exact chance is 0.25. Add up the coin throws instead"),
        Mistake(lambda won, lost: min(1.0, 2 * _tail(won, lost, lost)), "it sums up to `lost`, whichever is smaller; for 13 : 30 that is nearly the whole distribution. Take min(won, lost)"),
    ],
)  # fmt: skip

# ---------------------------------------------------------------- pass@k


def _guarded(value: Any) -> Any:
    """A mistaken `pass_at_k` that still refuses what makes no sense."""

    def mistaken(n: int, right: int, k: int) -> float:
        pass_at_k(n, right, k)  # raises EvaluationError for k > n
        return value(n, right, k)

    return mistaken


def _unasked(n: int, right: int, k: int) -> float:
    return 1.0 if n - right < k else pass_at_k(n, right, k)


exercise(
    name="pass_at_k", key=pass_at_k, points=2,
    probes=lambda: [
        (32, 4, 1), (32, 4, 8), (10, 3, 5), (10, 0, 4), (10, 10, 4), (10, 7, 4), (5, 1, 5), (4, 2, 8), (300, 2, 100)],
    hint="1 − C(n − right, k) / C(n, k).",
    mistakes=[
        Mistake(_unasked, "asked for pass@8 of 4 replies it gives a number all the same. Nobody can know what 8 draws would have brought; raise EvaluationError for k above n, before anything else"),
        Mistake(_guarded(lambda n, right, k: 1 - (1 - right / n) ** k), "that is 1 − (1 − p)^k with p = right/n: drawing *with* putting back. Each draw may hit the same wrong reply again, so it is too low: with 1 right of 5, five draws without putting back find it for sure"),
        Mistake(lambda n, right, k: 1 - (1 - right / n) ** k, "that is 1 − (1 − p)^k with p = right/n, which draws with putting back and is biased; and it also answers for k above n. Count the ways to draw k wrong replies out of all ways to draw k"),
        Mistake(_guarded(lambda n, right, k: float(right > 0)), "it asks whether any of *all* n replies is right, which is pass@n, whatever k is"),
        Mistake(_guarded(lambda n, right, k: min(1.0, k * right / n)), "it multiplies pass@1 by k. Two draws can both be right, and that counts once: pass@k is less than k times pass@1"),
    ],
)  # fmt: skip
