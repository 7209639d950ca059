"""Measures against values worked out by hand; the analysis of a run against a log whose numbers are known."""

import json
import math
import shutil
from pathlib import Path

import pytest

from azr_lite.cli import main
from azr_lite.errors import RunDirectoryError
from azr_lite.observe.measures import (
    REFLECTION,
    alarms,
    analyse,
    answer_text,
    complexity,
    distance,
    plans,
    programs,
    shape,
    thought,
)
from azr_lite.observe.reader import open_run
from azr_lite.observe.run_summary import Moments

SAMPLE = Path(__file__).parents[1] / "data_samples" / "runs" / "ablations" / "self-play-seed200"

LOOP = """def f(x):
    for v in x:
        if v > 2 and v < 9 and v != 5:
            return [w for w in x if w]
    return 0
"""


def test_complexity_by_hand():
    plain = complexity("def f(x):\n    return x + 1")
    # Halstead as radon counts: + on x and 1: N = 3, n = 3
    assert plain == {
        "statements": 2, "cyclomatic": 1, "cognitive": 0, "volume": pytest.approx(3 * math.log2(3)),
    }  # fmt: skip
    loop = complexity(LOOP)
    # statements def, for, if, return, return; 1 + 1 branch + 2 loops + 2 ands + 1 condition
    assert (loop["statements"], loop["cyclomatic"]) == (5, 7)
    # for 1, if in it 2, its run of ands 1, the comprehension in both 3 and its condition 1
    assert loop["cognitive"] == 8
    assert complexity("def f(x:") is None
    assert complexity("") is not None


@pytest.mark.parametrize("depth", [150, 500, 5000])
@pytest.mark.parametrize("nest", ["({})", "-{}", "{} + 1", "[{}]"])
def test_a_deep_program_has_measures_or_none_and_no_traceback(nest, depth):
    before, after = nest.split("{}")
    found = complexity(f"def f(x):\n    return {before * depth}x{after * depth}")
    assert found is None if depth > 1000 else found is None or found["cyclomatic"] == 1


def test_a_program_nested_too_deep_has_no_measures_and_no_traceback():
    assert complexity("def f(x):\n    return " + "(" * 500 + "x" + ")" * 500) is None


@pytest.mark.filterwarnings("error")
def test_an_odd_escape_in_a_program_warns_nobody():
    """Python warns about such escapes, from 3.12 on also users: `azr-lite analyse` would print one line for each program."""
    assert complexity(r"def f(x): return '\d'")["statements"] == 2


def test_distance_sees_structure_and_no_names():
    one, same, other = (
        shape("def f(x):\n    return x + 1"),
        shape("def g(yy):\n    return yy + 77"),
        shape("def f(x):\n    return [x]"),
    )
    assert distance(one, same) == 0.0
    # edges of both: Module-FunctionDef, FunctionDef-arguments, arguments-arg, FunctionDef-Return; then Return-BinOp, BinOp-Name, BinOp-Add,
    # BinOp-Constant against Return-List, List-Name
    assert distance(one, other) == pytest.approx(1 - 2 * 4 / (8 + 6))
    assert distance(other, one) == distance(one, other)


def test_words_of_a_reply():
    reply = "I think. Wait, let me check.</think><answer>```python\ndef f(x):\n    return x\n```</answer>"
    assert thought(reply) == "I think. Wait, let me check."
    assert thought("<think>ab</think>c") == "ab"
    assert len(REFLECTION.findall(thought(reply))) == 2
    assert len(REFLECTION.findall("waiter, hmmm")) == 2, "documented: words that begin so count"
    assert programs(answer_text(reply)) == ["def f(x):\n    return x"]
    assert answer_text("no tags ") == "no tags"


def test_comments_as_a_plan():
    assert plans("# 1. sort\n# 2. sum\nx = 1")
    assert plans("# Step one\nx = 1  # and so on")
    assert not plans("# 1. alone\nx = 1")
    assert not plans("# a\n# b\nx = '# 1. no comment'")
    assert not plans("# 1. a\n# 2. b\nx = '''never closed")


def test_alarms_name_the_row_and_show_one_line():
    said = "The aim is to outsmart all these groups\nof intelligent machines and less intelligent humans."
    assert [name for name, _ in alarms(said)] == ["superiority"]
    assert all("\n" not in excerpt and len(excerpt) <= 60 for _, excerpt in alarms(said))
    assert "OS.System" in dict(alarms("x = OS.System('ls')"))["system access"]
    assert alarms("sort the list, then return its sum") == []


def test_correlation_is_pearsons():
    moments = Moments()
    for pair in ((0, 1), (1, 3), (2, 2)):
        moments.add(*pair)
    assert moments.correlation == pytest.approx(0.5)
    flat = Moments()
    flat.add(1, 1)
    flat.add(1, 2)
    assert flat.correlation is None


INPUT = "\n```input\n3\n```"


def line(role, kind, reply, step=0, prompt="", task="", ok=True, parents=()):
    verdict = {"ok": ok, "well_formed": True, "score": float(ok), "reason": "", "detail": ""}
    return {
        "step": step, "role": role, "type": kind, "text": reply, "prompt": prompt, "task_id": task, "verdict": verdict, "tokens": 10 + step,
        "parents": list(parents), "reward": 0.0, "advantage": 0.0, "weight": 1.0, "solve_rate": 0.5, "truncated": False, "reward_parts": {},
    }  # fmt: skip


def fenced(program):
    return f"```python\n{program}\n```"


@pytest.fixture
def made(tmp_path):
    """Two steps written by hand: one that copies its references and thinks aloud, one in which all programs are the same."""
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(SAMPLE / "config.json", run)
    shutil.copy(SAMPLE / "metrics.jsonl", run)
    add, bag, long = (
        "def f(x):\n    return x + 1",
        "def f(x):\n    return [x]",
        "def f(x):\n    if x:\n        x = x + 1\n    return x",
    )
    rows = [
        line("propose", "deduction", f"hmm</think><answer>{fenced(add)}{INPUT}</answer>", prompt=fenced(add), task="a"),
        line("propose", "deduction", f"</think><answer>{fenced(bag)}{INPUT}</answer>", prompt=fenced(bag), task="b"),
        line("propose", "induction", "</think><answer>```input\n1\n```</answer>", prompt=fenced(long), task="c"),
        line("solve", "induction", f"</think><answer>{fenced(bag)}</answer>", task="c"),
        line("solve", "induction", f"</think><answer>{fenced(long)}</answer>", task="c", ok=False),
        *(line("propose", "deduction", f"</think><answer>{fenced(add)}</answer>", 1, fenced(p)) for p in (add, bag)),
        line("solve", "deduction", "we cheat the test</think><answer>1</answer>", 1),
    ]
    (run / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    answers = [{"text": f"</think><answer>{value}</answer>"} for value in (1, 1, 2, 2)]
    tasks = [{"step": -1, "answers": []}, {"step": 0, "answers": answers}]
    (run / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tasks), encoding="utf-8")
    return run


def test_a_known_log_gives_known_numbers(made):
    found = analyse(open_run(made), periods=2)
    first = {name: cells[0] for name, cells in found.measures.items()}
    second = {name: cells[1] for name, cells in found.measures.items()}
    assert (found.steps, found.rollouts, found.periods) == (2, 8, [(0, 0), (1, 1)])
    assert first["tokens/propose/deduction"] == (10, 2)
    assert second["tokens/propose/deduction"] == (11, 2)
    assert first["shapes/coverage"] == (1.0, 1)
    assert second["shapes/coverage"] == (0.5, 1)
    assert first["distance to references"][0] == 0.0
    assert first["gap/cognitive"] == (1.0, 1), "only the right answer counts"
    assert first["answers/different"] == (0.5, 1)
    assert second["answers/different"] is None
    assert first["thought/reflection"] == (pytest.approx(1 / 5), 5)
    assert found.alarming == 1
    assert found.alarms == ["step 1, rollout 3, solve, cheating: we cheat the test</think><answer>1</answer>"]


def test_the_verb_prints_80_columns_and_json(made, recorded, capsys):
    for run in (made, recorded, SAMPLE):
        assert main(["analyse", str(run), "--explain", "--periods", "5"]) == 0
        printed = capsys.readouterr().out
        assert max(map(len, printed.splitlines()[2:])) <= 80
        assert "The monitor is crude" in printed
    assert main(["analyse", str(made), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["measures"]["answers/different"] == [{"mean": 0.5, "n": 1}, None]
    assert "cheating: we cheat" in printed["alarms"][0]


def test_terminal_commands_in_a_reply_are_not_carried_out(made):
    path = made / "rollouts.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("we cheat", "\\u001b[2J we cheat"), encoding="utf-8")
    assert "\x1b" not in str(analyse(open_run(made)))
    assert "\\x1b" in str(analyse(open_run(made)))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: (p / "rollouts.jsonl").unlink(), "is missing"),
        (
            lambda p: (p / "rollouts.jsonl").write_text("not json\n" + (p / "rollouts.jsonl").read_text()),
            "damaged at byte 0",
        ),
        (lambda p: (p / "rollouts.jsonl").write_text('{"step": 0}\n'), "not in this azr_lite's form"),
        (lambda p: (p / "rollouts.jsonl").write_text('{"step": 0, "ro'), "no whole line"),
        (lambda p: (p / "run.json").write_text('{"version": 99}'), "format 99"),
    ],
)
def test_a_log_that_cannot_be_read_is_one_sentence(made, spoil, said, capsys):
    spoil(made)
    with pytest.raises(RunDirectoryError, match=said):
        analyse(open_run(made))
    for verb in ("analyse", "doctor"):
        assert main([verb, str(made)]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "Traceback" not in error
    assert main(["analyse", str(made), "--periods", "0"]) == 1


def test_a_last_line_cut_short_is_left_out(made):
    whole = analyse(open_run(made))
    with (made / "rollouts.jsonl").open("a") as file:
        file.write('{"step": 1, "role": "sol')
    assert analyse(open_run(made)) == whole
