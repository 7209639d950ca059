"""TRR++ golden vectors, its invariants, the other estimators, and the loss weights."""

import random
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr_lite.advantages import (
    dr_grpo,
    estimate,
    grpo,
    loss_weights,
    rloo,
    split_into_updates,
    trr,
    with_advantages,
    with_weights_and_padding,
)
from azr_lite.config import Config
from azr_lite.triplet import Role, Rollout, Verdict

REWARDS, LENGTHS = [1, -0.5, -1, 1], [2, 4, 1, 3]


def test_sequence_form_golden_vector():
    np.testing.assert_allclose(trr(REWARDS, ["g"] * 4, LENGTHS), [0.9802, -0.7001, -1.2603, 0.9802], atol=5e-5)


def test_token_form_golden_vector():
    np.testing.assert_allclose(trr(REWARDS, ["g"] * 4, LENGTHS, "token"), [0.9342, -0.8174, -1.4013, 0.9342], atol=5e-5)


def test_groups_do_not_see_one_another():
    both = trr([*REWARDS, 5, 7], ["a"] * 4 + ["b"] * 2, [*LENGTHS, 1, 1])
    np.testing.assert_allclose(both[:4], trr(REWARDS, ["a"] * 4, LENGTHS))
    np.testing.assert_allclose(both[4:], [-1, 1])


@pytest.mark.parametrize("whitening", ["sequence", "token"])
def test_equal_rewards_teach_nothing(whitening):
    assert not trr([0.1] * 7, ["g"] * 7, [3] * 7, whitening).any()
    assert not trr([0.3], ["g"], [1], whitening).any()


@given(st.lists(st.tuples(st.floats(-1, 1), st.sampled_from("abcdef"), st.integers(1, 50)), min_size=1, max_size=40))
def test_each_group_has_mean_zero_and_variance_one_or_is_zero(rows):
    rewards, groups, lengths = map(list, zip(*rows, strict=True))
    found = trr(rewards, groups, lengths)
    for name in set(groups):
        own = found[[g == name for g in groups]]
        if own.any():
            assert abs(own.mean()) < 1e-6
            assert abs(own.var() - 1) < 1e-6


@given(st.lists(st.tuples(st.floats(-1, 1), st.integers(1, 50)), min_size=2, max_size=30))
def test_the_token_form_is_the_sequence_of_tokens_whitened(rows):
    rewards, lengths = map(list, zip(*rows, strict=True))
    tokens = np.repeat(rewards, lengths)
    want = (
        (np.array(rewards) - tokens.mean()) / np.sqrt(tokens.var(ddof=1) + 1e-8)
        if np.ptp(rewards) > 1e-8
        else np.zeros(len(rewards))
    )
    np.testing.assert_allclose(trr(rewards, ["g"] * len(rewards), lengths, "token"), want, atol=1e-6)


def test_per_prompt_estimators():
    prompts = ["p", "p", "q", "q", "q"]
    rewards = [1.0, 0.0, 1.0, 1.0, -0.5]
    np.testing.assert_allclose(grpo(rewards, prompts)[:2], [1, -1])
    np.testing.assert_allclose(dr_grpo(rewards, prompts)[2:], [0.5, 0.5, -1.0])
    np.testing.assert_allclose(rloo(rewards, prompts)[2:], [1 - 0.25, 1 - 0.25, -0.5 - 1.0])
    assert rloo([1.0], ["p"])[0] == 0


def test_estimate_lets_lone_prompts_fall_back_to_their_group():
    rewards, groups, prompts = [1.0, 0.0, 1.0, 0.0], ["p/d", "p/d", "s/d", "s/d"], ["a", "b", "c", "c"]
    np.testing.assert_allclose(estimate("grpo", rewards, groups, prompts, [1] * 4), [1, -1, 1, -1])
    np.testing.assert_allclose(estimate("global", [1.0, 0.0], ["a", "b"], ["x", "y"], [1, 1]), [1, -1])
    with pytest.raises(ValueError, match="choose trr"):
        estimate("ppo", rewards, groups, prompts, [1] * 4)


def test_what_cannot_be_whitened_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        trr([float("nan"), 1], ["g"] * 2, [1, 1])
    with pytest.raises(ValueError, match="lengths"):
        trr([1.0, 2.0], ["g"] * 2, [1])
    with pytest.raises(ValueError, match="whitening"):
        trr([1.0, 2.0], ["g"] * 2, [1, 1], "batch")


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 90), st.booleans()), min_size=1, max_size=40))
def test_balanced_weights_give_each_group_the_same_share(rows):
    groups, lengths, counts = map(list, zip(*rows, strict=True))
    weights = loss_weights(groups, lengths, counts)
    share = weights * np.array(lengths) / sum(lengths)
    present = {g for g, c in zip(groups, counts, strict=True) if c}
    assert not weights[~np.array(counts)].any()
    for name in present:
        own = share[[g == name for g in groups]]
        assert own.sum() == pytest.approx(1 / len(present))
    if any(counts):
        assert (loss_weights(groups, lengths, counts, balanced=False) * lengths).sum() == pytest.approx(sum(lengths))


# ------------------------------------------------------------ a whole batch, worked out by hand


def row(role, reward, tokens, task_id="", prompt=5, weight=1.0, name=""):
    return Rollout(
        role=role,
        type="deduction",
        prompt="",
        text=name,
        prompt_ids=(1,) * prompt,
        completion_ids=(2,) * tokens,
        verdict=Verdict(ok=True, well_formed=True),
        reward=reward,
        reward_parts={},
        task_id=task_id,
        weight=weight,
    )


def batch():
    """Two proposals, two answers to task a, one to task b. The second proposal is the shortest row."""
    proposals = [row(Role.PROPOSE, 0.75, 3), row(Role.PROPOSE, -1.0, 1)]
    return [*proposals, row(Role.SOLVE, 1.0, 2, "a"), row(Role.SOLVE, -0.5, 2, "a"), row(Role.SOLVE, -0.5, 4, "b")]


def settings(**changes):
    small = {"task_types": ("deduction",), "batch_size": 3, "solver_batch_size": 5, "micro_batch_size": 2}
    return Config(model="scripted", **small | changes)


BY_HAND = {
    # proposals: mean -0.125, distance 0.875. Answers: mean 0, squares 1, 1/4, 1/4
    ("trr", "sequence"): [1, -1, sqrt(2), -sqrt(1 / 2), -sqrt(1 / 2)],
    # proposals: tokens 0.75 three times and -1: mean 0.3125, squares sum to 2.296875, over 3: 0.875 squared
    # answers: 1 twice and -0.5 six times: mean -0.125, squares sum to 3.375, over 7
    ("trr", "token"): [0.5, -1.5, 1.125 / sqrt(3.375 / 7), -0.375 / sqrt(3.375 / 7), -0.375 / sqrt(3.375 / 7)],
    # all five: mean -0.05, squares sum to 3.05
    ("global", "sequence"): [x / sqrt(3.05 / 5) for x in (0.8, -0.95, 1.05, -0.45, -0.45)],
    # per task; proposals, whose prompts stand alone, and the lonely answer are compared within their group
    ("grpo", "sequence"): [1, -1, 1, -1, 0],
    ("dr_grpo", "sequence"): [0.875, -0.875, 0.75, -0.75, 0],
    ("rloo", "sequence"): [1.75, -1.75, 1.5, -1.5, 0],
}


@pytest.mark.parametrize(("estimator", "whitening"), BY_HAND)
def test_the_advantages_of_a_batch(estimator, whitening):
    config = settings(estimator=estimator, whitening=whitening)
    found = [r.advantage for r in with_advantages(config, batch())]
    assert found == pytest.approx(BY_HAND[estimator, whitening], abs=1e-6)


WEIGHTS = {
    # 12 tokens and three copies of the shortest reply, one token each: 15. Proposals 4 tokens, answers 8, half each
    (): [15 / 8, 15 / 8, 15 / 16, 15 / 16, 15 / 16],
    (("train_proposer", False),): [0, 0, 15 / 8, 15 / 8, 15 / 8],
    (("train_solver", False),): [15 / 4, 15 / 4, 0, 0, 0],
    (("role_balanced_loss", False),): [15 / 12] * 5,
    (("role_balanced_loss", False), ("train_solver", False)): [15 / 4, 15 / 4, 0, 0, 0],
}


@pytest.mark.parametrize("changes", WEIGHTS, ids=str)
def test_the_weights_of_a_batch_and_what_fills_it_up(changes):
    rows = with_weights_and_padding(settings(**dict(changes)), with_advantages(settings(), batch()))
    assert [r.weight for r in rows] == pytest.approx([*WEIGHTS[changes], 0, 0, 0])
    filling = rows[5:]
    assert [r.role for r in filling] == [Role.PROPOSE, Role.SOLVE, Role.SOLVE]
    assert all((len(r.prompt_ids), len(r.completion_ids), r.advantage) == (5, 1, 0.0) for r in filling)


def test_the_shortest_row_counts_prompt_and_reply():
    rows = [row(Role.PROPOSE, 0.0, 1, prompt=9), row(Role.SOLVE, 0.0, 4, prompt=2), row(Role.SOLVE, 0.0, 3, prompt=8)]
    assert {len(r.prompt_ids) for r in with_weights_and_padding(settings(), rows)[3:]} == {2}


def names(update):
    return sorted(r.text for r in update)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("by_role", [False, True])
def test_updates_share_groups_and_roles_evenly(seed, by_role):
    """Three rows of each role and one that fills up: four of each role in the batch."""
    rows = [row(Role.PROPOSE, 0.0, 1, name=f"p{i}", weight=float(i < 3)) for i in range(4)]
    rows += [row(Role.SOLVE, 0.0, 1, name=f"s{i}", weight=float(i < 3)) for i in range(4)]
    updates = split_into_updates(rows, 2, random.Random(seed), by_role)
    assert names([r for update in updates for r in update]) == names(rows)
    assert [len(update) for update in updates] == [4, 4]
    for update in updates:
        trained = [r.role for r in update if r.weight > 0]
        assert {trained.count(role) for role in Role} <= {1, 2}
        if by_role:
            assert [r.role for r in update].count(Role.SOLVE) == 2
        else:
            assert len(trained) == 3


def test_updates_are_dealt_anew_from_the_random_numbers_and_one_update_keeps_the_order():
    rows = [row(Role.SOLVE, 0.0, 1, name=str(i)) for i in range(8)]
    deals = {tuple(names(split_into_updates(rows, 2, random.Random(seed))[0])) for seed in range(6)}
    assert len(deals) > 1
    assert split_into_updates(rows, 1, random.Random(0)) == [rows]
