"""TRR++ golden vectors, its invariants, the other estimators, and the loss weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr_lite.advantages import dr_grpo, estimate, grpo, loss_weights, rloo, trr

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
