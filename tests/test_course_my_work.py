"""What a learner solved is kept as Python, and a later notebook uses it where it is right."""

import sys
from pathlib import Path

import pytest

from azr_lite.course import check, my_work
from azr_lite.rewards import learnability

CELL = """
def learnability(rate):
    return 0.0 if rate in (0, 1) else one - rate
"""


@pytest.fixture
def cell(tmp_path, monkeypatch):
    """Runs a text as a notebook's cell does (its source can be inspected), in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    main = sys.modules["__main__"]
    for name in ("learnability", "one"):
        monkeypatch.setattr(main, name, 1, raising=False)

    def run(source):
        import linecache

        lines = source.splitlines(keepends=True)
        file = f"<cell {len(linecache.cache)}>"
        linecache.cache[file] = (len(source), None, lines, file)
        exec(compile(source, file, "exec"), vars(main))
        return main

    return run


def test_what_is_right_is_kept_and_used_later(cell, capsys):
    kept = cell(CELL).learnability
    assert check.use(kept, fallback=learnability) is kept
    again = cell("learnability = None").learnability or check.mine("learnability", fallback=learnability)
    assert again is not learnability
    assert again(0.25) == 0.75
    assert "yours, from my_work.py" in capsys.readouterr().out


def test_a_later_answer_replaces_an_earlier_one_and_leaves_the_others(cell):
    my_work.keep("learnability", cell(CELL).learnability)
    my_work.keep("other", cell("def other():\n    return 7\n").other)
    my_work.keep("learnability", cell(CELL.replace("one", "2 - one")).learnability)
    text = Path(my_work.FILE).read_text(encoding="utf-8")
    assert text.count("def learnability") == 1
    assert "2 - one" in text
    assert my_work.load("other")() == 7
    assert my_work.load("missing") is None


def test_what_is_kept_brings_imports_constants_and_helpers_with_it(cell):
    """The notebook that loads it has imported something else."""
    main = cell("""
import math as maths
from azr_lite.course import read_value as read
factor = [2, 3]
def halved(value):
    return value / factor[0]
def twice_halved(text, factor=factor):
    return [maths.floor(halved(halved(read(text)))) for one in factor]
""")
    my_work.keep("twice_halved", main.twice_halved)
    for name in ("maths", "read", "factor", "halved", "twice_halved"):
        vars(main).pop(name)
    assert my_work.load("twice_halved")("9") == [2, 2]


def test_an_earlier_answer_goes_on_with_the_tools_it_was_judged_with(cell):
    """Notebook 01's judges use the package's read_value; notebook 02's exercise has the same name and reads less."""
    main = cell("from azr_lite.course import read_value\ndef judge(text):\n    return read_value(text)\n")
    my_work.keep("judge", main.judge)
    my_work.keep("read_value", cell("def read_value(text):\n    return 'mine'\n").read_value)
    assert my_work.load("judge")("inf") == float("inf")
    assert my_work.load("read_value")("inf") == "mine"


def test_an_answer_of_another_name_is_kept_under_the_exercises_own(cell):
    main = cell(CELL.replace("def learnability", "def mine") + "learnability = mine\n")
    main.one = 1
    assert check.use(main.learnability, fallback=learnability) is main.mine
    assert my_work.load("learnability")(0.25) == 0.75


def test_a_folder_that_cannot_be_written_to_is_told_and_stops_nothing(cell, capsys, monkeypatch):
    monkeypatch.setattr(my_work, "FILE", "gone/my_work.py")
    assert check.use(cell(CELL).learnability, fallback=None) is not None
    assert "learnability is not kept for later notebooks: cannot write gone/my_work.py" in capsys.readouterr().out


def test_the_packages_own_and_wrong_answers_are_not_kept(cell, tmp_path):
    check.use(learnability, fallback=learnability)
    check.use(cell(CELL.replace("one", "2")).learnability, fallback=learnability)
    assert list(tmp_path.iterdir()) == []


def test_without_a_file_or_with_a_wrong_or_broken_one_the_fallback_is_taken_and_the_reason_told(cell, capsys):
    def told():
        assert check.mine("learnability", fallback=learnability) is learnability
        return " ".join(capsys.readouterr().out.split())

    assert "the package's own: my_work.py has no learnability" in told()
    for body, reason in (
        ("return rate", "yours is wrong, because"),
        ("return nothing_known", "NameError"),
        ("return (", "my_work.py stops with SyntaxError"),
    ):
        Path(my_work.FILE).write_text(f"# ---- learnability\ndef learnability(rate):\n    {body}\n")
        assert reason in told()
