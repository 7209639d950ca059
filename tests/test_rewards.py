"""Equations 4 to 6 of the paper, and the traps others fell into."""

import sys
from itertools import product

import numpy as np
import pytest

from azr_lite.config import REWARDS, Config
from azr_lite.course.exercises.nb03 import expected_learnability
from azr_lite.errors import ConfigError
from azr_lite.rewards import (
    INTRINSIC,
    Reward,
    answer_reward,
    complexity,
    distance,
    earned,
    learnability,
    load_rewards,
    name_rewards,
    proposal_reward,
    shape,
    solve_rate,
)
from azr_lite.triplet import (
    Completion,
    InductionTask,
    ProposalAttempt,
    Reason,
    Rejection,
    SolveAttempt,
    Triplet,
    Verdict,
)

VALID = Verdict(ok=True, well_formed=True, score=1.0)


@pytest.mark.parametrize(
    ("right", "upstream", "paper"),
    [(0, -0.5, 0.0), (1, 0.875, 0.875), (2, 0.75, 0.75), (4, 0.5, 0.5), (7, 0.125, 0.125), (8, -0.5, 0.0)],
)
def test_learnability_golden_values(right, upstream, paper):
    rate = solve_rate([1.0] * right + [0.0] * (8 - right))
    assert learnability(rate, "upstream") == upstream
    assert learnability(rate, "paper") == paper


def test_learnability_refuses_what_is_no_rate():
    with pytest.raises(ValueError, match="not between"):
        learnability(1.5)


def test_one_monte_carlo_reply_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        solve_rate([1.0])


def test_invalid_proposals_earn_minus_one_whatever_their_form():
    assert proposal_reward(Verdict(ok=False, well_formed=True), None).total == -1.0
    assert proposal_reward(Verdict(ok=False, well_formed=False), None).total == -1.0


def test_a_valid_proposal_needs_its_rate():
    with pytest.raises(ValueError, match="no solve rate"):
        proposal_reward(VALID, None)
    assert proposal_reward(VALID, 0.25).total == 0.75
    assert proposal_reward(VALID, 0.0, "upstream").total == -0.5


@pytest.mark.parametrize(
    ("verdict", "pay"),
    [
        (VALID, 1.0),
        (Verdict(ok=False, well_formed=True), -0.5),
        (Verdict(ok=False, well_formed=False), -1.0),
        (Verdict(ok=False, well_formed=True, score=0.4), 0.4),
    ],
)
def test_the_format_ladder(verdict, pay):
    reward = answer_reward(verdict)
    assert reward.total == pay
    assert sum(reward.parts.values()) == reward.total


def test_the_parts_name_what_a_reward_is_made_of():
    formless = Verdict(ok=False, well_formed=False, score=1.0)
    assert answer_reward(formless).parts == proposal_reward(formless, None).parts == {"form": -1.0}
    assert answer_reward(VALID).parts == {"accuracy": 1.0}
    assert answer_reward(Verdict(ok=False, well_formed=True)).parts == {"accuracy": -0.5}
    assert proposal_reward(VALID, 0.25).parts == {"learnability": 0.75}
    assert proposal_reward(VALID, 1.0, "upstream").parts == {"learnability": -0.5}


@pytest.mark.parametrize("zero", ["paper", "upstream"])
@pytest.mark.parametrize("p", [0.0, 0.2, 0.75, 1.0])
def test_expected_learnability_is_the_mean_over_all_outcomes_of_n_replies(p, zero):
    for n in (2, 3, 5):
        mean = 0.0
        for scores in product((0.0, 1.0), repeat=n):
            chance = p ** sum(scores) * (1 - p) ** (n - sum(scores))
            mean += chance * learnability(solve_rate(scores), zero)
        assert expected_learnability(p, n, zero) == pytest.approx(mean)
    assert expected_learnability(p, 1) == 0.0


def test_expected_learnability_refuses_what_cannot_be():
    with pytest.raises(ValueError, match="not between"):
        expected_learnability(1.2, 8)
    with pytest.raises(ValueError, match="at least 1"):
        expected_learnability(0.5, 0)


# ---------------------------------------------------------------- terms by name, and rewards of one's own

PROGRAM = "def f(x):\n    for i in range(3):\n        if x:\n            x = x + i\n    return x"


def task(program=PROGRAM, output="3", kind="deduction", given="1"):
    return Triplet(kind, program, given, output)


def proposed(result=None, rate=0.25, kind="deduction", references=()):
    result = task(kind=kind) if result is None else result
    said = Completion("", (), (1, 2, 3), "a reply")
    return ProposalAttempt(kind, list(references), "", completion=said, result=result, rate=rate)


def solved(verdict=VALID):
    return SolveAttempt(task(), "", completion=Completion("", (), (1, 2), "12"), verdict=verdict, rate=0.5)


REJECTED = Rejection(Reason.TIMEOUT)


def pay(reply, *terms, own=None, buffer=(), **changes):
    config = Config(reward=terms, **changes)
    return earned(reply, config, {"deduction": list(buffer), "induction": list(buffer)}, own or {})


def test_the_paper_alone_is_the_papers_reward():
    wrong = Verdict(ok=False, well_formed=True)
    assert [pay(solved(v), "paper").parts for v in (VALID, wrong)] == [{"accuracy": 1.0}, {"accuracy": -0.5}]
    assert pay(proposed(), "paper") == proposal_reward(VALID, 0.25)
    assert pay(proposed(REJECTED, None), "paper").parts == {"form": -1.0}
    again = proposed()
    again.is_repeat = True
    assert pay(again, "paper").total == 0.75
    assert pay(again, "paper", repeated_programs="penalty").parts == {"repeat": -0.5}
    assert pay(proposed(rate=1.0), "paper", zero_learnability="upstream").total == -0.5


def test_intrinsic_terms_are_shares_of_valid_proposals_only():
    """Nested: a loop (1) and an if in it (2) are 3 of 15; another program of the same tree is at distance 0."""
    pytest.importorskip("complexipy")
    assert pay(proposed(), "complexity").parts == {"complexity": pytest.approx(3 / 15)}
    found = complexity(PROGRAM)
    assert pay(proposed(), "halstead").total == pytest.approx((found["volume"] / 500 + found["cyclomatic"] / 10) / 2)
    same, other = PROGRAM.replace("x", "y"), "def f(x):\n    return [x]"
    apart = distance(shape(PROGRAM), shape(other))
    assert pay(proposed(references=[task(same)]), "distance").total == 0.0
    assert pay(proposed(references=[task(same), task(other)]), "distance").total == pytest.approx(apart / 2)
    assert pay(proposed(), "distance").total == 0.0, "nothing was shown"
    others = [task(output=text) for text in ("1", "2", "'a'", "[1]")]
    assert pay(proposed(), "surprise", buffer=[task(), *others]).total == pytest.approx(1 - 3 / 5)
    assert pay(proposed(), "paper", "surprise=0.1", buffer=[*others, task()]).total == pytest.approx(0.75 + 0.04)
    terms = [name for name in REWARDS if name != "paper"]
    assert terms == list(INTRINSIC)
    for reply in (proposed(REJECTED, None), solved()):
        assert pay(reply, *terms) == Reward(0, {})
    given = InductionTask("induction", PROGRAM, ("1", "2"), ("3", "'a'"), "hint", 1)
    assert set(pay(proposed(given, kind="induction"), *terms, buffer=[given]).parts) == {"surprise"}


def test_own_rewards_stand_beside_the_named_ones():
    def brief(reply):
        return {"brief": -0.1 * len(reply.completion.ids), "accuracy": reply.verdict.score}

    both = pay(solved(), "paper", "m:brief=0.5", own={"m:brief": brief})
    assert both.parts == {"accuracy": 1.5, "brief": pytest.approx(-0.1)}
    assert both.total == pytest.approx(1.4)
    assert solved().references == ()


@pytest.mark.parametrize(
    ("reward", "sentence"),
    [
        (lambda reply: 1.0, "gave 1.0; return named finite numbers"),
        (lambda reply: None, "gave None; return named finite numbers"),
        (lambda reply: reply.nothing, r"failed: AttributeError.*\(test_rewards.py, line \d+\); mend it; .* resume"),
        (lambda reply: (_ for _ in ()).throw(OSError("two\nlines")), r"failed: OSError: two lines \(test_rewards.py"),
        (lambda reply: {"a": float("nan")}, "return named finite numbers"),
        (lambda reply: {"a": 10**400}, "return named finite numbers"),
        (lambda reply: {"a/b": 1.0}, "return named finite numbers"),
        (lambda reply: {1: 1.0}, "return named finite numbers"),
    ],
)
def test_an_own_reward_that_fails_is_named(reward, sentence):
    with pytest.raises(ConfigError, match=f"the reward m:r, for a reply that was to solve deduction, .*{sentence}"):
        pay(solved(), "m:r", own={"m:r": reward})


def test_an_own_reward_may_count_with_numpy():
    earned = pay(solved(), "m:r", own={"m:r": lambda reply: {"a": np.float32(0.5), "b": np.int64(1)}})
    assert (earned.parts, type(earned.total)) == ({"a": 0.5, "b": 1.0}, float)


class Brief:
    factor = 1.0

    def __call__(self, reply):
        return {"brief": self.factor}


def test_own_rewards_have_names_and_are_found_by_them(tmp_path, monkeypatch):
    scaled = Brief()
    scaled.factor = 0.5
    names, own = name_rewards(["paper", Brief, scaled, brief_of_here])
    here = f"{__name__}:"
    assert names == ("paper", f"{here}Brief", f"{here}Brief(…)", f"{here}brief_of_here")
    assert own[names[1]](None) == {"brief": 1.0}
    assert own[names[2]] is scaled
    config = Config(reward=names)
    assert load_rewards(config, own) == own
    assert name_rewards("surprise") == (("surprise",), {})
    with pytest.raises(ConfigError, match=r"3\.14\d* is not a reward; give a name, a function"):
        load_rewards(Config(reward=("math:pi",)), {})
    with pytest.raises(ConfigError, match=r"Brief\(…\) cannot be made here .* give the object itself"):
        load_rewards(config, {})
    assert load_rewards(Config(reward=(names[3],)), {})[names[3]] is brief_of_here
    with pytest.raises(ConfigError, match=r"names the module 'no_such_module', which cannot be imported"):
        load_rewards(Config(reward=("no_such_module:x",)), {})
    with pytest.raises(ConfigError, match="3 is not a reward"):
        name_rewards([3])
    monkeypatch.chdir(tmp_path)  # where the console script is called: its own folder is not on the path
    monkeypatch.setattr("sys.path", list(sys.path))
    (tmp_path / "rewards_of_this_test.py").write_text("def one(reply):\n    return {'one': 1.0}\n")
    assert load_rewards(Config(reward=("rewards_of_this_test:one",)), {})["rewards_of_this_test:one"](None) == {
        "one": 1
    }


def brief_of_here(reply):
    return {"brief": 1.0}


@pytest.mark.parametrize("terms", [(), ("papr",), ("paper=much",), ("distance=",), (":x",), ("m:",), ("paper=nan",)])
def test_wrong_terms_are_refused(terms):
    with pytest.raises(ConfigError, match=r"reward names .*; give paper, complexity"):
        Config(reward=terms)
