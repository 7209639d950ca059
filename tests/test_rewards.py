"""Equations 4 to 6 of the paper, and the traps others fell into."""

from itertools import product

import pytest

from azr_lite.rewards import answer_reward, expected_learnability, learnability, proposal_reward, solve_rate
from azr_lite.triplet import Verdict

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
