"""The proof with a real model: paired statistics over seeds, what is left out, lenient reading, the held-out files."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from azr_lite.buffer import normal_form
from azr_lite.evaluation.reasoning import ReasoningSuite
from azr_lite.evaluation.runner import run_suite
from azr_lite.evaluation.scores import Item, mcnemar
from azr_lite.evaluation.suite import SHIPPED, Reply, read_data
from azr_lite.prompts import get_style
from azr_lite.triplet import Rules, Triplet
from azr_lite.verifier import Verifier
from tests.benchmarks.real_model import (
    as_text,
    compare,
    copies,
    curriculum,
    differences,
    learnable_tasks,
    markdown,
    paired,
    picture,
    replies,
    seen_in_training,
    valid_share,
)
from tests.benchmarks.real_model_sets import FOLDER, chance, forgiven, simple_tasks, suites


def record(seen=(), run="", step=0, **items):
    marks = [text.split(" ")[0] for text in items.values()]
    counts = {name: sum(letter in own for own in marks) for name, letter in (("strict", "s"), ("well_formed", "f"))}
    own = {"items": items, "seen_in_training": list(seen), "n": len(items), **counts}
    return {"run": run, "step": step, "sets": {"cruxeval-o": own}}


BEFORE = record(a="slf 3 1", b="-lf 3 1", c="--- 3 x", d="--f 3 2", e="slf 3 1")
AFTER = record(("e",), a="slf 3 1", b="slf 3 1", c="slf 3 1", d="--f 3 2", e="--- 3 1")


def test_each_measure_counts_its_own_questions():
    found = {name: row["seeds"][0] for name, row in compare(BEFORE, [AFTER])["cruxeval-o"].items()}
    numbers = {name: (row["n"], row["before"], row["after"], row["gained"], row["lost"]) for name, row in found.items()}
    assert numbers["strict"] == (4, 1, 3, 2, 0), "e was trained on, so that its loss does not count"
    assert numbers["lenient"] == (4, 2, 3, 1, 0)
    assert numbers["well formed"] == (4, 3, 4, 1, 0)
    assert numbers["skill"] == (3, 1, 2, 1, 0), "c had no form before"


def test_other_questions_are_refused():
    with pytest.raises(SystemExit, match="different questions of cruxeval-o"):
        differences(BEFORE, [record(a="slf 3 1")], "cruxeval-o", "strict")


def test_seeds_that_agree_are_no_more_than_one_seed_about_the_questions():
    rng = np.random.default_rng(1)
    before = (rng.random(300) < 0.3).astype(float)
    after = np.where(rng.random(300) < 0.2, 1.0, before)
    one, three = paired(before[None], after[None], 2000), paired(np.tile(before, (3, 1)), np.tile(after, (3, 1)), 2000)
    assert three["gain"] == pytest.approx(one["gain"]) == pytest.approx(100 * (after - before).mean())
    assert one["low"] < one["gain"] < one["high"]
    width = {name: row["high"] - row["low"] for name, row in (("one", one), ("three", three))}
    assert width["three"] == pytest.approx(width["one"], rel=0.1), "1/sqrt(3) of it would treat copies as new questions"
    assert three["p_questions"] == one["p_questions"] == one["p"] > three["p"]


def test_the_interval_knows_of_seeds_that_differ():
    before = np.zeros((2, 400))
    alike, apart = np.zeros((2, 400)), np.zeros((2, 400))
    alike[:, :40] = 1
    apart[0, :80] = 1
    a, b = paired(before, alike, 2000), paired(before, apart, 2000)
    assert a["gain"] == b["gain"] == 10
    assert b["low"] == 0, "both seeds drawn may be the one that gained nothing"
    assert a["low"] > 5


def test_tests_count_pairs_or_questions():
    before, after = np.zeros((3, 5)), np.zeros((3, 5))
    after[:, 0] = after[0, 1] = 1
    before[1, 1] = before[1:, 2] = 1
    before[2, 3] = after[2, 3] = np.nan
    found = paired(before, after, 100)
    assert (found["gained"], found["lost"], found["n"]) == (4, 3, 14)
    assert found["p"] == mcnemar(4, 3)
    assert found["p_questions"] == mcnemar(1, 1), "question 1 gained once and lost once"
    assert [seed["n"] for seed in found["seeds"]] == [5, 5, 4]


def test_the_table_shows_points_and_every_seed():
    lines = markdown(compare(BEFORE, [AFTER, BEFORE])).splitlines()
    strict = next(line for line in lines if "| strict |" in line)
    assert "| 9 | 3 (33.3 %) | 5 (55.6 %) | +25.0 [" in strict
    assert strict.endswith("| +50.0, +0.0 |")
    assert len({line.count("|") for line in lines}) == 1


def test_an_item_is_three_marks_tokens_and_the_reply():
    base = {"id": "q", "type": "deduction", "stratum": "", "prompt": "", "tokens": 4, "truncated": False}
    right = Item(right=True, well_formed=True, lenient=True, reason="", text=" 3\n", **base)
    no_literal = Item(right=False, well_formed=True, lenient=False, reason="answer_not_literal", text=" x.y", **base)
    wrong = Item(right=False, well_formed=True, lenient=False, reason="wrong", text=" 4" * 99, **base)
    assert [as_text(item) for item in (right, no_literal)] == ["slf 4  3\n", "--- 4  x.y"]
    assert as_text(wrong) == "--f 4 " + " 4" * 40


@pytest.mark.parametrize(
    ("said", "kind", "value"),
    [
        ("assert f('a') == 'b'", "deduction", "'b'"),
        ("assert f('a') == 'b' == f('c')", "deduction", "'b'"),
        ("assert f('a') == 'b' and f('b') == 'c'", "deduction", "'b'"),
        ("assert f('a') == 'b', 'as it should'", "deduction", "'b'"),
        ("assert f('a') == 'b'  # so", "deduction", "'b'"),
        ("assert f('a') == 'b') extra", "deduction", "'b'"),
        ("assert f('a') == 'b' or True", "deduction", ""),
        ("assert f('a') == [1,", "deduction", ""),
        ("assert 'b' == f('a', [2]) == 'b'", "abduction", "'a', [2]"),
        ("assert 'b' == f('a') and True", "abduction", "'a'"),
        ("assert 'b' == f('a'", "abduction", ""),
        ("assert 'b' == g('a')", "abduction", ""),
    ],
)
def test_what_the_lenient_mark_forgives(said, kind, value):
    assert forgiven(said, kind) == value


def test_a_question_counts_as_seen_whatever_its_spelling_until_the_step_evaluated(tmp_path):
    def line(step, ok, program):
        return json.dumps({"step": step, "ok": ok, "task": {"program": program} if ok else None}) + "\n"

    programs = ("def f(abc):\n    return abc + 1", "def f(x):\n    return x + 2", "def f(x):\n    return x + 3")
    lines = [line(-1, True, programs[0]), line(3, True, programs[1]), line(4, True, programs[2]), line(4, False, "")]
    (tmp_path / "tasks.jsonl").write_text("".join(lines))
    (tmp_path / "run.json").write_text(json.dumps({"version": 1}))
    tasks = [
        ("", Triplet("deduction", f"def f(n):\n    return n + {k}", "1", str(1 + k), id=str(k))) for k in (1, 2, 3)
    ]
    suite = SimpleNamespace(problems=tasks)
    assert seen_in_training(tmp_path, suite, 4) == ["1", "2"]
    assert seen_in_training(tmp_path, suite, 3) == ["1"]


def test_chance_is_what_needs_no_reading_of_the_program(executor):
    def suite(kind):
        given = (("x", "(1, 2)", "(1, 2)"), ("x[0]", "[4]", "4"), ("len(x)", "'abcd'", "4"))
        tasks = [("", Triplet(kind, f"def f(x):\n    return {body}", i, o, id=body)) for body, i, o in given]
        return ReasoningSuite("few", "", tasks, get_style("r1"), Verifier(executor, Rules()))

    assert chance(suite("deduction")) == {"echo": 1, "constant": 2}
    assert chance(suite("abduction")) == {"echo": 1, "constant": 1}


class Told:
    """Answers with the gold outputs, but for what is given by id."""

    def __init__(self, tasks, **said):
        self.of = {task.program + task.input: said.get(task.id, f" {task.output}\n") for task in tasks}

    def describe(self):
        return {"model": "told"}

    def generate(self, prompts, how):
        endings = [prompt.text.rpartition("\n\n")[2].removesuffix(") ==").split("\nassert f(") for prompt in prompts]
        texts = [self.of[program + given] for program, given in endings]
        assert all(prompt.ended(text) for prompt, text in zip(prompts, texts, strict=True))
        return [[Reply(prompt.text, text, 3)] for prompt, text in zip(prompts, texts, strict=True)]


def test_a_set_is_asked_in_the_form_of_a_file_and_marked_three_ways(tmp_path, executor):
    suite = suites(get_style("file"), Verifier(executor, Rules()), ["simple"])["simple"]
    said = {"simple/0": " 'bbd'\n", "simple/1": " 'ddaaeec' and True\n", "simple/2": " x.upper()\n"}
    result = run_suite(Told([task for _, task in suite.problems], **said), suite, tmp_path)
    marks = {item.id: as_text(item)[:3] for item in result.items}
    assert [marks[f"simple/{n}"] for n in range(4)] == ["--f", "-l-", "---", "slf"]
    assert list(marks.values()).count("slf") == 297


def test_the_simple_tasks_are_made_again_and_no_program_is_in_two_sets():
    rows = {path.stem: read_data(path.stem, path).rows for path in FOLDER.glob("*.jsonl")}
    made = [(task.program, task.input, task.output) for task in simple_tasks()]
    assert [(row["program"], row["input"], row["output"]) for row in rows["simple"]] == made
    sets = {name: {normal_form(row["program"]) for row in own} for name, own in rows.items()}
    assert {name: len(own) for name, own in sets.items()} == dict.fromkeys(rows, 300)
    crux = {normal_form(row["code"]) for row in read_data("c", str(SHIPPED / "cruxeval.jsonl.gz")).rows}
    union = set.union(crux, *sets.values())
    assert len(union) == len(crux) + sum(map(len, sets.values()))


def test_the_picture_draws_runs_and_their_evaluations(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    drawn = {}
    monkeypatch.setattr("azr_lite.observe.style.png", lambda made: drawn.update(figure=made) or b"png")
    numbers = {"propose/deduction/ok": 0.5, "propose/deduction/learnable": 0.4, "solve/deduction/tokens": 20.0}
    for seed in (0, 1):
        run = tmp_path / f"r{seed}"
        run.mkdir()
        (run / "run.json").write_text(json.dumps({"version": 1}))
        (run / "config.json").write_text(json.dumps({"batch_size": 40}))
        lines = [{"step": n, **numbers, "solve/deduction/tokens": 20.0 + 4 * n * seed} for n in (0, 1)]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    paths = [tmp_path / "r0", tmp_path / "r1"]
    assert valid_share(paths[0]) == [50, 50]
    assert learnable_tasks(paths[0]) == pytest.approx([8, 8])
    assert [curriculum(paths[1], *steps)["tokens per answer"] for steps in ((1, 2), (2, 2))] == [22, 24]
    assert curriculum(paths[0], 1, 1)["KL"] is None, "none was logged"
    with pytest.raises(SystemExit, match="2 of the steps 1 to 3"):
        curriculum(paths[0], 1, 3)
    after = [record(run="r0", step=2, a="slf 1 1", b="--f 1 1"), record(run="r1", step=2, a="slf 1 1", b="slf 1 1")]
    early = record(run="r0", step=1, a="--f 1 1", b="--f 1 1")
    arms = {"self-play": paths, "shuffled rewards": paths[:1]}
    picture(arms, [record(a="--f 1 1", b="--- 1 1"), early, *after], tmp_path / "x" / "made.png")
    valid, learnable, tokens, gains = drawn["figure"].axes
    for axis, values in ((valid, [50, 50]), (learnable, [8, 8]), (tokens, [20, 22])):
        assert axis.lines[0].get_ydata().tolist() == pytest.approx(values), "the mean over the seeds"
        assert [len(axis.lines), len(axis.collections)] == [2, 1], "two arms; one seed has no band"
    band = tokens.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (20, 24)
    assert [one.lines[0].get_xdata().tolist() for one in gains.containers] == [[75], [50]], (
        "of the last step, not step 1"
    )
    words = [text.get_text() for text in drawn["figure"].legends[0].get_texts()]
    assert words == ["self-play, 2 seeds", "shuffled rewards, 1 seed"]
    assert (tmp_path / "x" / "made.png").read_bytes() == b"png"


PAGE = (Path(__file__).parents[1] / "docs" / "explanation" / "real_model.md").read_text(encoding="utf-8")


def test_the_page_shows_the_replies_that_the_command_prints():
    before, after, count = re.search(r"real_model replies (\S+) (\S+) --count (\d+)`", PAGE).groups()
    before, after = (json.loads((Path(__file__).parents[1] / path).read_text()) for path in (before, after))
    text = replies(before, after, int(count))
    assert text in PAGE
    assert text.count("```text") == int(count) + 1
    marks = {}
    for name, record in (("before", before), ("after", after)):
        for reply in re.findall(rf"^\* {name}: `(.*?)`", text, re.MULTILINE):
            marks.setdefault(name, []).append(
                {
                    item[0]
                    for item in record["sets"]["cruxeval-o"]["items"].values()
                    if item[4:].split(" ", 1)[1].strip().split("\n")[0] == reply
                }
            )
    assert all("-" in own for own in marks["before"][:-1]), marks
    assert all("s" in own for own in marks["after"][:-1]), marks
    assert "s" in marks["before"][-1]
    assert "-" in marks["after"][-1]


def test_answers_that_are_the_argument_itself_are_counted():
    task = {
        task.id: task for _, task in suites(get_style("file"), Verifier(None, Rules()), ["simple"])["simple"].problems
    }
    id, other, third = list(task)[:3]
    items = {
        id: f"--f 4  {task[id].input}\n\n",
        other: "slf 3  'no argument'\n",
        third: f"--- 9  {task[third].input} and words",
    }
    assert copies([{"sets": {"simple": {"items": items}}}], "simple") == [(2, 1, 0)]
