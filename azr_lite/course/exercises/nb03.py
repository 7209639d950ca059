"""Exercises of notebook 03, rewards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from azr_lite.course.checks import Mistake, exercise
from azr_lite.rewards import Reward, answer_reward, learnability, proposal_reward, solve_rate
from azr_lite.triplet import Verdict

RIGHT = Verdict(ok=True, well_formed=True, score=1.0)
PARTLY = Verdict(ok=False, well_formed=True, score=0.6)
BARELY = Verdict(ok=False, well_formed=True, score=0.2)
WRONG = Verdict(ok=False, well_formed=True)
SHAPELESS = Verdict(ok=False, well_formed=False)


def proposer_reward(verdict: Verdict, scores: Sequence[float]) -> float:
    """What one proposal earns whose replies got these scores: the ladder, then learnability of the solve rate."""
    return proposal_reward(verdict, solve_rate(scores) if verdict.ok else None).total


def expected_learnability(p: float, n: int, zero: Literal["paper", "upstream"] = "paper") -> float:
    """Expected learnability of a task that each of n independent replies solves with probability p; exact.

    (1 - p) - (1 - p)^n: the reward 1 - p that is meant, less the chance that all n replies fail. With n = 1 nothing is
    left. ValueError unless 0 <= p <= 1 and n >= 1.
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"probability {p} is not between 0 and 1")
    if n < 1:
        raise ValueError(f"{n} replies; at least 1 is needed")
    never, always = (1.0 - p) ** n, p**n
    return 1.0 - p - never + (0.0 if zero == "paper" else -0.5 * (never + always))


def _of_two(rate: Callable[[Sequence[float]], float]) -> Callable[[Sequence[float]], float]:
    """A mistaken `solve_rate` that refuses fewer than two scores, as it should."""

    def mistaken(scores: Sequence[float]) -> float:
        if len(scores) < 2:
            raise ValueError("at least two")
        return float(rate(scores))

    return mistaken


exercise(
    name="solve_rate", key=solve_rate, points=1,
    probes=lambda: [([1.0, 0.0, 0.0, 0.0],), ([1.0, 1.0],), ([0.5, 1.0, 0.0],), ([1.0, 0.0, 0.0],), ([1.0],), ([],)],
    hint="The mean of the list; ValueError where it holds fewer than two scores.",
    mistakes=[
        Mistake(lambda scores: sum(scores) / len(scores),
            "one reply (or none) is accepted: r̄ would then always be 0 or 1, and no task could ever be learnable. "
            "Raise a ValueError for fewer than two"),
        Mistake(lambda scores: sum(scores) / len(scores) if scores else 0.0,
            "without any score it says 0, as if the task had been tried, and one score is accepted. Raise a "
            "ValueError for fewer than two"),
        Mistake(lambda scores: sum(scores) / len(scores) if len(scores) > 1 else None, "with one score it returns None; whoever called it would go on with that. `raise ValueError(...)` stops them"),
        Mistake(_of_two(lambda scores: sum(score > 0 for score in scores) / len(scores)), "a score of 0.5 counts as a whole success; it says that half of the hidden pairs were solved. Take the mean of the scores"),
        Mistake(_of_two(lambda scores: sum(score == 1 for score in scores) / len(scores)), "it counts only full marks; a reply that solved half of its hidden pairs has score 0.5. Take the mean"),
        Mistake(_of_two(sum), "it is the sum; divide by the number of replies"),
        Mistake(_of_two(max), "it takes the best reply: that says whether *any* of the replies was right (pass@n), and a task solved once in eight would look as easy as one solved always"),
        Mistake(_of_two(lambda scores: sum(scores) / 8), "it divides by 8 whatever comes in; n is a setting (the nano preset uses 6), so divide by the length of the list"),
    ],
)  # fmt: skip

exercise(
    name="learnability", key=learnability, points=2,
    probes=lambda: [(0.0,), (0.125,), (0.5,), (0.875,), (1.0,), (0.015625,), (0.984375,), (0.001,), (0.999,)],
    hint="0 at both ends, 1 − r̄ between them.",
    mistakes=[
        Mistake(lambda rate: 1.0 - rate, "a task that nobody ever solves (r̄ = 0) earns the most: the proposer will learn to ask for the impossible. Zero at both ends"),
        Mistake(lambda rate: 0.0 if rate in (0.0, 1.0) else rate, "it rewards *easy* tasks: the reward should fall as r̄ rises"),
        Mistake(lambda rate: 4 * rate * (1 - rate), "that is 4r̄(1 − r̄), a fair idea with its peak at one half; the paper's reward is 1 − r̄, highest for tasks that are *almost* never solved"),
        Mistake(lambda rate: -0.5 if rate in (0.0, 1.0) else 1 - rate, "−0.5 at both ends is what the authors' code does; the paper says 0"),
        Mistake(lambda rate: 1 - rate if rate > 0.5 else 0.0, "it gives nothing for tasks that are solved half of the time or less; only a task *never* solved earns nothing"),
    ],
)  # fmt: skip

exercise(
    name="expected_learnability", key=expected_learnability, points=2,
    probes=lambda: [(0.5, 1), (0.25, 8), (0.0, 4), (1.0, 4), (0.9, 2), (0.3, 3)],
    hint="For every outcome of the n replies: its chance times its reward. Only one outcome does not earn 1 − r̄.",
    mistakes=[
        Mistake(lambda p, n: 0.0 if p in (0.0, 1.0) else 1.0 - p, "it is the learnability of the true p. Nobody knows p: r̄ is drawn anew from n replies, and the mean of a bent function is not that function of the mean"),
        Mistake(lambda p, n: 1.0 - p, "it is what learnability *means* to give; n plays no part in it. When all n replies fail, r̄ is 0 and the reward is 0, not 1: take that case out"),
        Mistake(lambda p, n: 1.0 - p - (1.0 - p) ** n - p**n, "it also takes out the case that all n replies are right; there 1 − r̄ is 0 already, so nothing must be subtracted"),
        Mistake(lambda p, n: (1.0 - p) * (1.0 - (1.0 - p) ** n), "it multiplies 1 − p by the chance that some reply is right, as if the two were independent. They are not: the case that is lost is the one that would have earned most (1 − r̄ = 1)"),
        Mistake(lambda p, n: (1.0 - p) * (1.0 - p**n - (1.0 - p) ** n), "it multiplies 1 − p by the chance that the task is learnable, as if the two were independent; r̄ decides both. Go through the outcomes one by one: only one of them earns something other than 1 − r̄"),
        Mistake(lambda p, n: 1.0 - p - p**n, "it takes out the case that all n replies are *right*; that one earns 1 − 1 = 0 anyway. Which case would earn 1 by 1 − r̄ but earns 0?"),
        Mistake(lambda p, n: p * (1.0 - p), "that is right for n = 2 only; what changes with n is the chance that all replies fail"),
    ],
)  # fmt: skip


def _rewarded(
    shapeless: float, wrong: float, right: Callable[[float], float], enough: Callable[[Verdict], bool]
) -> Callable[[Verdict], Reward]:
    def reward(verdict: Verdict) -> Reward:
        if not verdict.well_formed:
            return Reward(shapeless, {"form": shapeless})
        amount = right(verdict.score) if enough(verdict) else wrong
        return Reward(amount, {"accuracy": amount})

    return reward


def _formless(verdict: Verdict) -> Reward:
    amount = verdict.score if verdict.score > 0 else -0.5
    return Reward(amount, {"accuracy": amount})


exercise(
    name="answer_reward", key=answer_reward, points=2,
    probes=lambda: [(RIGHT,), (PARTLY,), (BARELY,), (WRONG,), (SHAPELESS,)],
    hint="The parts are called form and accuracy; look at well_formed first, then at score.",
    mistakes=[
        Mistake(_rewarded(-1.0, -1.0, lambda score: score, lambda verdict: verdict.score > 0), "a wrong answer costs as much as a reply without form: there is no rung between them, so a model that is always wrong learns nothing about form"),
        Mistake(_rewarded(0.0, -1.0, lambda score: score, lambda verdict: verdict.score > 0), "the ladder stands on its head: a reply without form (0) earns more than an honest wrong answer (−1). On hard tasks giving up the form earns more, and what has no form cannot be judged"),
        Mistake(_rewarded(-1.0, 0.0, lambda score: score, lambda verdict: verdict.score > 0), "a wrong answer in good form earns 0; the paper gives −0.5 for it"),
        Mistake(_rewarded(-1.0, -0.5, lambda score: 1.0, lambda verdict: verdict.score > 0), "every score above 0 earns the full 1; where scoring is by fraction, 3 of 5 hidden pairs are worth 0.6: the reward is the score"),
        Mistake(_rewarded(-1.0, -0.5, lambda score: score, lambda verdict: verdict.score >= 0.5), "a score under one half is rewarded like a wrong answer; only a score of 0 should be: 1 of 5 hidden pairs earns 0.2"),
        Mistake(_rewarded(-1.0, -0.5, lambda score: score, lambda verdict: verdict.ok), "it looks at `ok`, which is true for fully right answers only; a score of 0.6 then costs −0.5. Look at `score`"),
        Mistake(lambda verdict: answer_reward(verdict).total, "the numbers are right, but they are bare numbers; return Reward(total, parts), so that a plot can tell later what was rewarded"),
        Mistake(_formless, "it never looks at `well_formed`: a reply without form earns −0.5, like a wrong answer, where it should earn −1"),
    ],
)  # fmt: skip


def _sick(*bugs: str) -> Callable[[Verdict, Sequence[float]], float]:
    """The planted bugs of the notebook's cell, those named here left in."""

    def reward(verdict: Verdict, scores: Sequence[float]) -> float:
        if not (verdict.well_formed if "form" in bugs else verdict.ok):
            return -0.5 if "rung" in bugs else -1.0
        rate = sum(scores) / (8 if "eight" in bugs else len(scores))
        if rate == 1.0 or (rate == 0.0 and "impossible" not in bugs):
            return 0.0
        return 1.0 - rate

    return reward


def _rate_first(verdict: Verdict, scores: Sequence[float]) -> float:
    rate = sum(scores) / len(scores)
    return proposal_reward(verdict, rate if verdict.ok else None).total


exercise(
    name="proposer_reward", key=proposer_reward, points=3,
    probes=lambda: [
        (RIGHT, [1.0] * 2 + [0.0] * 6), (RIGHT, [1.0] * 6), (RIGHT, [1.0, 0.0, 0.0]), (RIGHT, [0.0] * 8),
        (RIGHT, [1.0] * 8), (WRONG, [0.0] * 8), (WRONG, [1.0] * 4 + [0.0] * 4), (SHAPELESS, [0.0] * 8), (WRONG, []),
        (SHAPELESS, []),
    ],
    hint="Go through the branches one by one: who enters it, and what does the paper give there?",
    mistakes=[
        Mistake(_rate_first, "it fails on an invalid proposal without replies: the solve rate of an empty list is "
            "0/0. Look at `ok` first, and take the mean only where there is something to take it of"),
        Mistake(_sick("form"), "one bug is left, in the first condition: a proposal can have good form and still be invalid (its program raises an error, say). `well_formed` speaks of the text, `ok` of the task"),
        Mistake(_sick("rung"), "one bug is left, in the first reward: −0.5 is the *solver's* rung for an answer that is wrong. A proposal has no such rung: what is not valid earns −1"),
        Mistake(_sick("eight"), "one bug is left, in the solve rate: with six replies, all of them right, it gives 0.75, and a trivial task earns 0.25"),
        Mistake(_sick("impossible"), "one bug is left, at the ends: a task that no reply solved still earns 1, the highest reward of all"),
        Mistake(_sick("form", "rung", "eight", "impossible"), "more than one bug is left: wherever it is wrong, it says what `sick_reward` says"),
    ],
)  # fmt: skip
