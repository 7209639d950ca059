"""Paired comparison against values computed apart, and the frozen problems."""

import pytest

from azr_lite.errors import ConfigError, EvaluationError
from azr_lite.evaluation.generators import PolicyInTraining
from azr_lite.evaluation.reasoning import ReasoningSuite, held_out_problems
from azr_lite.evaluation.runner import answer
from azr_lite.evaluation.scores import Item, Result, compare_paired, score, scores_until, summarize
from azr_lite.evaluation.suite import Options
from azr_lite.prompts import get_style
from azr_lite.triplet import Completion, Rules
from azr_lite.verifier import Verifier
from tests.scripted import block, wrap


def item(number, right, name="deduction", stratum="2 ops"):
    return Item(str(number), name, stratum, right, True, "", "p", "t", 5, False)


def test_paired_gain():
    before = [item(i, i < 20) for i in range(100)]
    after = [item(i, 10 <= i < 50) for i in range(100)]
    found = compare_paired(before, after)["all"]
    assert (found["won"], found["lost"], found["gain"]) == (30, 10, pytest.approx(0.2))
    assert found["high"] - found["gain"] == pytest.approx(1.959964 * ((0.4 - 0.04) / 100) ** 0.5)


def test_a_score_counts_questions():
    one = score([item(i, i == 0) for i in range(4)])
    assert (one["n"], one["right"], one["accuracy"]) == (4, 1, 0.25)
    assert one["standard_error"] == pytest.approx((0.25 * 0.75 / 4) ** 0.5)
    several = score([item(0, True), item(0, False), item(0, False), item(1, True)])
    assert (several["n"], several["right"], several["accuracy"]) == (2, 2, pytest.approx(2 / 3))
    assert several["standard_error"] == pytest.approx((1 / 3) / 2**0.5)


def test_the_evaluations_until_a_step_are_those_up_to_it(tmp_path):
    for name, accuracy in (("before", 0.1), ("step-2", 0.2), ("step-10", 0.3)):
        Result(name, [], {"scores": {"all": {"accuracy": accuracy}}}).keep(tmp_path)
    (tmp_path / "humaneval.json").write_text('{"scores": {}}')
    (tmp_path / "step-1.json").write_text('{"scores": {"al')
    (tmp_path / "step-5.json").write_text("[]")
    for step, known in ((0, [0]), (2, [0, 2]), (9, [0, 2]), (10, [0, 2, 10])):
        assert sorted(scores_until(tmp_path, step)) == known
    assert scores_until(tmp_path, 10)[10]["all"]["accuracy"] == 0.3


def test_different_problems_are_not_compared():
    with pytest.raises(EvaluationError, match="not of the same problems"):
        compare_paired([item(1, True)], [item(2, True)])


def test_scores_by_type_and_stratum():
    found = summarize([item(0, True), item(1, False), item(2, True, "abduction", "3 ops")])
    assert found["all"]["accuracy"] == pytest.approx(2 / 3)
    assert found["deduction/2 ops"]["n"] == 2
    assert found["abduction"]["right"] == 1
    assert score([])["low"] == 0.0


def test_frozen_problems_are_solved_by_their_own_golds_and_not_by_null_answers(executor):
    rules = Rules()
    problems = held_out_problems("some/model", ("deduction", "abduction", "induction"), 40, 0)
    assert len(problems) == 120
    assert len({task.id for _, task in problems}) == 120
    golds = iter([task for _, task in problems])

    def oracle(prompts):
        return [complete(prompt, gold(next(golds))) for prompt in prompts]

    suite = ReasoningSuite("frozen", "azr", problems, get_style("chat"), Verifier(executor, rules))
    items = answer(PolicyInTraining(oracle, "gold"), suite, suite.questions())
    assert [i.id for i in items if not i.right] == []
    silly = PolicyInTraining(lambda prompts: [complete(p, block("output", "None")) for p in prompts], "silly")
    nothing = answer(silly, suite, suite.questions())
    assert sum(i.right for i in nothing) <= 6


def complete(prompt, answer):
    return Completion(prompt, (1,), (2,), wrap(answer).removeprefix("<think>"))  # the prompt ends with it


def gold(task):
    if task.type == "deduction":
        return block("output", task.output)
    return block("input", task.input) if task.type == "abduction" else block("python", task.program)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"chunk": 0}, "chunk is 0"),
        ({"temperature": -0.5}, "temperature is -0.5"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"samples": 2, "temperature": 0.0}, "several greedy replies"),
        ({"reasoning_protocol": "mine"}, "for reasoning; choose from: azr, assert-direct"),
    ],
)
def test_an_option_that_cannot_be_is_refused_before_anything_is_loaded(asked, told):
    with pytest.raises(ConfigError, match=told):
        Options(**asked)
