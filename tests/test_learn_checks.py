"""The exercises' checks: each passes the package's own function, and names each listed mistake."""

import subprocess
import sys
import textwrap

import pytest

from azr_lite.learn import check, checks
from azr_lite.learn.checks import Exercise, ExerciseError, Mistake, exercises, judge, same

ALL = pytest.mark.parametrize("name", exercises())


@ALL
def test_the_key_is_right_and_a_stub_is_not_started(name):
    one = exercises()[name]
    assert judge(name, one.key).state == "right"
    assert judge(name, ...).state == "not started"
    if callable(one.key) and one.observe is None:
        assert judge(name, lambda *_: ...).state == "not started"
        assert judge(name, lambda *_: None).state == "wrong"


@ALL
def test_each_mistake_is_called_by_its_name(name):
    one = exercises()[name]
    assert len(one.mistakes) >= 3
    assert len({mistake.says for mistake in one.mistakes}) == len(one.mistakes)
    for number, mistake in enumerate(one.mistakes):
        found = judge(name, mistake.wrong)
        assert (found.state, found.mistake, found.because) == ("wrong", number, mistake.says)


def test_the_course_has_thirty_exercises_and_every_lesson_one():
    from azr_lite.learn.course import COURSE

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
    assert judge("double", lambda x: 2 if x == 1 else x * x).because == "squared"
    assert judge("double", lambda x: x + x).state == "right"


def test_a_wrong_value_that_is_looked_at_in_parts_shows_the_part():
    swapped = list(exercises()["stage_order"].key)
    swapped[0], swapped[1] = swapped[1], swapped[0]
    assert "does 'sample_references' come before 'propose'? gave False, expected True" in judge("stage_order", swapped).because


def test_a_mistake_nobody_foresaw_shows_the_first_wrong_probe(double):
    assert judge("double", lambda x: x).because == "double(1) gave 1, expected 2. Add it to itself."
    assert judge("double", lambda x: {}[x]).because == "double(1) gave KeyError: 1, expected 2. Add it to itself."
    assert "not a function" in judge("double", 4).because


def test_learners_loops_end(double, monkeypatch):
    monkeypatch.setattr(checks, "SECONDS", 1)

    def spin(x):
        while True:
            pass

    assert "still running" in judge("double", spin).because


def test_learners_cannot_change_the_probes(double, monkeypatch):
    given = [([1, 2],)]
    monkeypatch.setitem(checks._EXERCISES, "double", Exercise(name="double", key=sum, mistakes=[], probes=lambda: given, notebook="00"))
    assert judge("double", lambda xs: xs.clear() or 0).state == "wrong"
    assert judge("double", sum).state == "right"


def test_an_answer_that_changes_what_it_was_given_is_wrong(double, monkeypatch):
    def one(key):
        return Exercise(name="double", key=key, mistakes=[], probes=lambda: [([1, 2],), ([],)], notebook="00")

    def emptying(xs):
        return sum(xs.pop() for _ in range(len(xs)))

    monkeypatch.setitem(checks._EXERCISES, "double", one(sum))
    found = judge("double", emptying)
    assert found.state == "wrong"
    assert "work on a copy (seen in double([1, 2]))" in found.because
    monkeypatch.setitem(checks._EXERCISES, "double", one(emptying))
    assert judge("double", emptying).state == "right"


def test_use_goes_on_with_what_is_right(double, capsys):
    def mine(x):
        return x + x

    def stub(x):
        return ...

    assert check.use(mine, fallback=double.key, name="double") is mine
    assert capsys.readouterr().out == ""
    assert check.use(stub, fallback=double.key, name="double") is double.key
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
    assert not same("1", 1)
    assert not same([1], [1, 2])
    assert not same({"a": 1}, {"b": 1})
    assert not same(0.5, True)


def test_checks_need_numpy_at_most():
    code = """
        import sys
        from azr_lite.learn.checks import exercises
        exercises()
        heavy = {"torch", "transformers", "pandas", "rich", "matplotlib", "jinja2", "tyro", "IPython"} & set(sys.modules)
        print(sorted(heavy))
    """
    found = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
