"""The exercises' checks: each passes the package's own function, and names each listed mistake."""

import math
import subprocess
import sys
import textwrap
from fractions import Fraction

import pytest

from azr_lite.course import check, checks
from azr_lite.course.checks import Exercise, ExerciseError, Mistake, exercises, judge_answer, same
from azr_lite.rewards import learnability

ALL = pytest.mark.parametrize("name", exercises())


@ALL
def test_the_key_is_right_and_a_stub_is_not_started(name):
    one = exercises()[name]
    assert judge_answer(name, one.key).state == "right"
    assert judge_answer(name, ...).state == "not started"
    if callable(one.key) and one.observe is None:
        assert judge_answer(name, lambda *_: ...).state == "not started"
        assert judge_answer(name, lambda *_: None).state == "wrong"


@ALL
def test_each_mistake_is_called_by_its_name(name):
    one = exercises()[name]
    assert len(one.mistakes) >= 3
    assert len({mistake.says for mistake in one.mistakes}) == len(one.mistakes)
    for number, mistake in enumerate(one.mistakes):
        found = judge_answer(name, mistake.wrong)
        assert (found.state, found.mistake, found.because) == ("wrong", number, mistake.says)


def test_the_course_has_thirty_exercises_and_every_lesson_one():
    from azr_lite.course.lessons import COURSE

    assert len(exercises()) >= 30
    assert {one.notebook for one in exercises().values()} == {lesson.number for lesson in COURSE}


@pytest.fixture
def double(monkeypatch):
    one = Exercise(
        name="double",
        key=lambda x: 2 * x,
        probes=lambda: [(1,), (3,), (0.5,)],
        mistakes=[Mistake(lambda x: x * x, "squared")],
        hint="Add it to itself.",
        notebook="00",
    )
    exercises()
    monkeypatch.setitem(checks._EXERCISES, "double", one)
    return one


def test_a_mistake_is_found_beside_what_is_right(double):
    assert judge_answer("double", lambda x: 2 if x == 1 else x * x).because == "you may have this mistake: squared"
    assert judge_answer("double", lambda x: x * x).because == "squared"
    assert judge_answer("double", lambda x: x + x).state == "right"


def test_a_wrong_value_that_is_looked_at_in_parts_shows_the_part():
    swapped = list(exercises()["stage_order"].key)
    swapped[0], swapped[1] = swapped[1], swapped[0]
    assert (
        "does 'sample_references' come before 'propose'? gave False, expected True"
        in judge_answer("stage_order", swapped).because
    )


def test_a_mistake_nobody_foresaw_shows_the_first_wrong_probe(double):
    assert judge_answer("double", lambda x: x).because == "double(1) gave 1, expected 2. Add it to itself."
    assert (
        judge_answer("double", lambda x: {}[x]).because == "double(1) gave KeyError: 1, expected 2. Add it to itself."
    )
    assert judge_answer("double", lambda x: x / 10 + x / 5).because.startswith("double(1) gave 0.3, expected 2.")
    assert "not a function" in judge_answer("double", 4).because


def test_a_number_too_large_for_floats_and_for_print_is_just_wrong(double):
    assert "a value of type int that cannot be shown, expected 2" in judge_answer("double", lambda x: 10**5000).because


def test_none_for_a_value_is_not_called_a_missing_return():
    assert judge_answer("patient_a", None).because.startswith("None is not it. Choose one of")


def test_the_folder_is_wanted_and_not_its_name():
    from azr_lite.train.checkpoints import last_whole_checkpoint

    assert (
        judge_answer("last_whole_checkpoint", lambda run_dir: str(last_whole_checkpoint(run_dir) or "") or None).state
        == "wrong"
    )
    assert (
        judge_answer(
            "last_whole_checkpoint", lambda run_dir: (found := last_whole_checkpoint(run_dir)) and found.resolve()
        ).state
        == "right"
    )


def test_the_right_error_is_no_sign_of_a_mistake_that_raises_it_too():
    def unguarded(n, right, k):
        return 1 - math.comb(n - right, k) / math.comb(n, k)

    assert judge_answer("pass_at_k", unguarded).because.startswith("pass_at_k(4, 2, 8) gave ZeroDivisionError")


def test_free_settings_may_come_in_any_collection():
    free = sorted(exercises()["may_change"].key)
    for mine in (free, tuple(free), frozenset(free), dict.fromkeys(free)):
        assert judge_answer("may_change", mine).state == "right"
    assert "gave ['--steps'], expected []" in judge_answer("may_change", {*free, "--steps"}).because
    assert 'whether "steps" is free gave False' in judge_answer("may_change", set()).because
    assert judge_answer("may_change", None).state == "wrong"


def test_bytes_are_asked_of_every_optimiser_and_of_any_number_of_gpus():
    from azr_lite.planner import vram

    def uncounted(shape, config):
        return vram.weight_bytes(shape, config) if config.processes else 0.0

    def forgets_paged(shape, config):
        return vram.optimiser_bytes(shape, config) * (4 if config.optimizer == "paged_adamw_8bit" else 1)

    assert "processes=0" in judge_answer("weight_bytes", uncounted).because
    assert "paged_adamw_8bit" in judge_answer("optimiser_bytes", forgets_paged).because


def test_learners_loops_end(double, monkeypatch):
    monkeypatch.setattr(checks, "SECONDS", 1)

    def spin(x):
        while True:
            pass

    assert "still running" in judge_answer("double", spin).because
    assert "gave SystemExit: 3" in judge_answer("double", lambda x: sys.exit(3)).because


def test_learners_cannot_change_the_probes(double, monkeypatch):
    given = [([1, 2],)]
    monkeypatch.setitem(
        checks._EXERCISES, "double", Exercise(name="double", key=sum, mistakes=[], probes=lambda: given, notebook="00")
    )
    assert judge_answer("double", lambda xs: xs.clear() or 0).state == "wrong"
    assert judge_answer("double", sum).state == "right"


def test_an_answer_that_changes_what_it_was_given_is_wrong(double, monkeypatch):
    def one(key):
        return Exercise(name="double", key=key, mistakes=[], probes=lambda: [([1, 2],), ([],)], notebook="00")

    def emptying(xs):
        return sum(xs.pop() for _ in range(len(xs)))

    monkeypatch.setitem(checks._EXERCISES, "double", one(sum))
    found = judge_answer("double", emptying)
    assert found.state == "wrong"
    assert "work on a copy (seen in double([1, 2]))" in found.because
    monkeypatch.setitem(checks._EXERCISES, "double", one(emptying))
    assert judge_answer("double", emptying).state == "right"


def test_use_goes_on_with_what_is_right(double, capsys):
    def mine(x):
        return x + x

    def stub(x):
        return ...

    assert check.use(mine, fallback=double.key, name="double") is mine
    assert capsys.readouterr().out == ""
    assert check.use(stub, fallback=double.key, name="double") is double.key
    mine = lambda rate: 0.0 if rate in (0, 1) else 1 - rate  # noqa: E731
    assert check.use(mine, fallback=learnability) is mine, "a function may have any name"
    assert "going on with the package's own" in capsys.readouterr().out


def test_words_for_unknown_exercises_and_revealed_keys(capsys):
    with pytest.raises(ExerciseError, match="did you mean learnability"):
        check.learnabilty(print)
    check.reveal("learnability")
    assert "def learnability" in capsys.readouterr().out
    check.list("03")
    assert "learnability" in capsys.readouterr().out


def test_equality_of_numbers_texts_and_containers():
    import numpy as np

    assert same(np.array([1.0, 2.0]), [1, 2.0000000001])
    assert same((1, [2.0]), [1, (2,)])
    assert same(float("nan"), float("nan"))
    assert same(True, True)
    assert same(Fraction(1, 8), 0.125)
    assert not same("1", 1)
    assert not same([1], [1, 2])
    assert not same({"a": 1}, {"b": 1})
    assert not same(0.5, True)


def test_checks_need_numpy_at_most():
    code = """
        import sys
        from azr_lite.course.checks import exercises
        exercises()
        heavy = {"torch", "transformers", "pandas", "rich", "matplotlib", "jinja2", "tyro", "IPython"} & set(sys.modules)
        print(sorted(heavy))
    """
    found = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
