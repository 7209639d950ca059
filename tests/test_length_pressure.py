"""Why one baseline for all tasks of a type favours short answers: docs/explanation/short_answers.md, worked out."""

import contextlib
import io
import math
import re
from pathlib import Path

import numpy as np
import pytest

from azr_lite.advantages import estimate
from azr_lite.metrics import length_pressure

PAGE = (Path(__file__).parents[1] / "docs" / "explanation" / "short_answers.md").read_text(encoding="utf-8")


def tasks_of_two_kinds(seed=0, n=400):
    """Rewards, tasks and lengths: short answers to easy tasks; within a task, right and wrong ones are equally long."""
    rng = np.random.default_rng(seed)
    tasks = rng.integers(0, 40, n)
    easy = tasks < 20
    rewards = np.where(rng.random(n) < np.where(easy, 0.9, 0.2), 1.0, -0.5)
    lengths = np.where(easy, 3, 12) + rng.integers(0, 3, n)
    return rewards, tasks.tolist(), lengths.tolist()


def advantages(estimator, rewards, tasks, lengths):
    return estimate(estimator, rewards, ["solve"] * len(tasks), tasks, lengths)


def test_the_example_prints_what_the_page_says():
    code, said = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL).groups()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    assert printed.getvalue() == said


def test_the_gradient_of_a_logit_of_stopping_is_minus_s_times_the_sum_of_advantage_and_length():
    rewards, tasks, lengths = tasks_of_two_kinds()
    advantages_B, lengths_B = advantages("trr", rewards, tasks, lengths), np.array(lengths)

    def objective(logit):
        s = 1 / (1 + math.exp(-logit))
        return float((advantages_B * ((lengths_B - 1) * math.log(1 - s) + math.log(s))).sum())

    logit, step = -1.5, 1e-5
    slope = (objective(logit + step) - objective(logit - step)) / (2 * step)
    s = 1 / (1 + math.exp(-logit))
    assert slope == pytest.approx(-s * (advantages_B * lengths_B).sum(), rel=1e-6)
    assert slope == pytest.approx(-s * len(lengths) * lengths_B.std() * length_pressure(advantages_B, lengths))
    assert slope > 0  # it stops earlier


@pytest.mark.parametrize("estimator", ["trr", "global", "grpo", "dr_grpo", "rloo"])
def test_one_baseline_pulls_and_a_baseline_per_prompt_does_not(estimator):
    pulls = [length_pressure(advantages(estimator, *data), data[2]) for data in map(tasks_of_two_kinds, range(20))]
    assert (np.mean(pulls) < -0.5) == (estimator in ("trr", "global"))
    assert abs(np.mean(pulls)) < 0.05 or estimator in ("trr", "global")


def test_the_part_between_tasks_is_zero_per_prompt_and_all_of_it_with_one_baseline():
    rewards, tasks, lengths = tasks_of_two_kinds()
    means = {task: np.mean([n for n, other in zip(lengths, tasks, strict=True) if other == task]) for task in tasks}
    between = [means[task] for task in tasks]
    assert length_pressure(advantages("rloo", rewards, tasks, lengths), between) == pytest.approx(0, abs=1e-12)
    one = advantages("trr", rewards, tasks, lengths)
    assert length_pressure(one, between) == pytest.approx(length_pressure(one, lengths), abs=0.05)


def test_equal_lengths_pull_nowhere():
    assert length_pressure([1.0, -1.0], [5, 5]) == 0.0
