"""Saving and stopping by the clock, with a clock that the test turns."""

from itertools import pairwise

import pytest

from azr_lite.train.callbacks import SHARE, Budget


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def session(steps: int, step_s: float, save_s: float, **settings: float) -> tuple[Budget, list[int], float]:
    """Play steps of `step_s` seconds until the time is out; the steps saved after, and the seconds it took."""
    clock = Clock()
    budget, saved = Budget(**settings, clock=clock), []
    budget.train_begins()
    for step in range(1, steps + 1):
        budget.step_begins()
        clock.now += step_s
        budget.step_ends()
        if budget.out_of_time():
            break
        if budget.save_due():
            clock.now += save_s
            budget.saved(save_s)
            saved.append(step)
    return budget, saved, clock.now - 1000.0


def test_it_saves_before_more_than_the_allowed_work_is_at_risk():
    _, saved, _ = session(12, step_s=30, save_s=1, save_minutes=2)
    assert saved == [4, 8, 12]  # 120 s at risk are allowed, 150 are not
    _, saved, _ = session(3, step_s=600, save_s=1, save_minutes=2)
    assert saved == [1, 2, 3], "a step that is longer than the limit is saved each time"


def test_zero_never_saves_and_never_stops():
    budget, saved, took = session(50, step_s=3600, save_s=1)
    assert saved == []
    assert took == 50 * 3600
    assert not budget.stretched


def test_saving_takes_at_most_a_tenth_of_the_time():
    budget, saved, took = session(400, step_s=10, save_s=30, save_minutes=0.1)
    assert budget.saving == 30 * len(saved) <= SHARE * took
    assert budget.saving > 0.8 * SHARE * took, "but it uses what it may"
    assert budget.stretched
    gaps = [b - a for a, b in pairwise(saved[1:])]
    assert set(gaps) <= {27, 28}, "every 300 s: 270 s of steps and 30 s of saving"


def test_checkpoints_made_for_other_reasons_count():
    clock = Clock()
    budget = Budget(save_minutes=1, clock=clock)
    clock.now += 99
    budget.step_ends()
    budget.saved(5)  # save_every
    assert not budget.save_due(), "5 s were spent, and 5 s more would pass a tenth of 99"
    clock.now += 1
    assert budget.save_due()


def test_a_large_first_checkpoint_is_not_taken_for_free():
    clock = Clock()
    budget = Budget(save_minutes=1, clock=clock)
    budget.save_s = 100  # a guess
    clock.now += 900
    assert not budget.save_due()
    assert budget.stretched
    clock.now += 101
    assert budget.save_due()


@pytest.mark.parametrize("evaluation_s", [0, 200])
def test_it_stops_in_time_for_the_step_the_checkpoint_and_the_evaluation(evaluation_s):
    clock = Clock()
    budget = Budget(max_hours=1, clock=clock)
    clock.now += 300  # loading, seeding
    budget.evaluation_s = evaluation_s
    budget.save_s = 20
    steps = 0
    while not budget.out_of_time():
        budget.step_begins()
        clock.now += 100 + steps % 5  # up to 104 s
        budget.step_ends()
        steps += 1
        assert steps < 100
    end = clock.now - 1000 + 20 + evaluation_s
    assert end <= 3600
    assert end + 104 > 3600, "and not a whole step earlier than needed"


def test_the_slowest_recent_step_is_expected_again():
    clock = Clock()
    budget = Budget(max_hours=1, clock=clock)
    for seconds in (50, 400, 50, 60):
        budget.step_begins()
        clock.now += seconds
        budget.step_ends()
    assert budget.step_s == 400
    for _ in range(5):
        budget.step_begins()
        clock.now += 10
        budget.step_ends()
    assert budget.step_s == 10
