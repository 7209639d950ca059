"""The stop rule on scripted evaluations."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from azr_lite.evaluation.scores import Item, compare_paired, overall_gain, standing
from azr_lite.loop import read_standing


def items(right: set[int] | int, n: int = 100) -> list[Item]:
    """`right`: which items are right, or how many of the first."""
    rights = set(range(right)) if isinstance(right, int) else right
    return [Item(str(i), "deduction", "", i in rights, True, "", "p", "t", 1, False) for i in range(n)]


def write_evaluation(run_dir: Path, name: str, right: int) -> None:
    (run_dir / "eval").mkdir(parents=True, exist_ok=True)
    (run_dir / "eval" / f"{name}.jsonl").write_text("".join(json.dumps(asdict(item)) + "\n" for item in items(right)))


def found(*rights):
    return standing([(25 * number, items(right)) for number, right in enumerate(rights)])


def test_of_nothing_there_is_no_standing():
    assert standing([]) is None


def test_a_rising_run_is_at_its_best():
    now = found(40, 50, 60)
    assert (now.best_step, now.best_accuracy, now.below) == (50, 0.6, 0)


def test_falls_in_a_row_are_counted_from_the_best():
    assert found(40, 60, 45, 40, 30).below == 3
    assert found(40, 60, 45, 40, 30).best_step == 25
    assert found(60, 40, 40).best_step == 0, "the model before training may be the best"


def test_a_fall_within_noise_is_none():
    assert found(40, 60, 57, 57, 57).below == 0
    assert found(40, 60, 56).below == 0, (
        "4 lost, 0 won: the normal interval would call it significant, McNemar's p is 0.125"
    )
    assert found(40, 60, 54).below == 1, "6 lost, 0 won: p = 0.03"


def test_the_test_is_paired():
    """The same 10 points: significant when ten items are lost, not when fifty are lost and forty won."""
    assert standing([(0, items(60)), (25, items(50))]).below == 1
    assert standing([(0, items(set(range(50)))), (25, items(set(range(50, 90))))]).below == 0


def test_a_recovery_starts_the_count_anew():
    assert found(60, 40, 40, 58, 40).below == 1
    assert found(60, 40, 40, 70).below == 0
    assert found(60, 40, 40, 70).best_step == 75


def test_of_equals_the_first_is_the_best():
    assert found(40, 60, 60).best_step == 25


@pytest.fixture
def run_dir(tmp_path):
    for name, right in {"before": 40, "step-10": 60, "step-13": 99, "step-20": 40, "step-30": 90}.items():
        write_evaluation(tmp_path, name, right)
    return tmp_path


def test_the_files_say_it_all(run_dir):
    now = read_standing(run_dir, every=10, done=20)
    assert (now.best_step, now.below, now.step) == (10, 1, 20), (
        "neither the evaluation of an interrupt at 13 nor the future at 30 counts"
    )
    assert read_standing(run_dir, every=10, done=0).best_step == 0
    assert read_standing(run_dir, every=10, done=30).best_step == 30


def test_the_rule_draws_no_bootstrap(monkeypatch):
    """It looks at every evaluation so far after each one. Intervals that nobody reads would cost more each step."""
    monkeypatch.setattr("azr_lite.evaluation.scores.bootstrap", lambda *_: pytest.fail("an interval was drawn"))
    assert found(40, 60, 45, 40, 30).below == 3


def test_the_rule_sees_the_gain_that_is_reported():
    before, after = items({*range(40)}), items({*range(10, 60)})
    told = compare_paired(before, after)["all"]
    assert overall_gain(before, after) == (told["gain"], told["p"]) != (0.0, 1.0)
