"""Every suite by its name, and what is said beside the paper's rows; replies are scripted, no model is loaded."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from azr_lite.errors import EvaluationError
from azr_lite.evaluation import runner
from azr_lite.evaluation.benchmarks import BUILDERS, GROUPS, code, maths
from azr_lite.evaluation.generators import OpenedModel
from azr_lite.evaluation.runner import paper_lines, score_table
from azr_lite.evaluation.suite import Setting
from azr_lite.prompts import get_style
from azr_lite.triplet import Rules
from azr_lite.verifier import Verifier
from tests.scripted import ScriptedGenerator

CODE_SUITES, MATHS_SUITES = code.SUITES, maths.NAMES
AIME = [{"id": str(n), "problem": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(4)]


@pytest.fixture
def scripted(monkeypatch):
    """`evaluate` opens this script whatever model it is asked for."""

    def use(answer, model="Qwen/Qwen2.5-Coder-3B"):
        opened = OpenedModel(ScriptedGenerator(answer, name=model), get_style("chat"), model, None, 8)
        monkeypatch.setattr(runner, "open_model", lambda named, **how: opened)

    return use


def boxed(prompt, sample):
    question = re.search(r"What is (\d) \+ (\d)\?", prompt.text)
    value = int(question[1]) + int(question[2]) if question else "?"
    return f"\nso\n</think>\n<answer>\\boxed{{{value}}}</answer>"


def test_suites_are_asked_by_name_and_those_that_cannot_be_had_say_why(scripted, tmp_path):
    scripted(boxed)
    (tmp_path / "aime.jsonl").write_text("".join(json.dumps(row) + "\n" for row in AIME))
    data = {name: str(tmp_path / "aime.jsonl") for name in ("aime24", "aime25", "amc23")}
    told = []
    data["minerva"] = str(tmp_path / "none.jsonl")
    names = "math500,aime24,aime25,amc23,minerva"
    found = runner.evaluate("m", names, items=3, data=data, output_dir=tmp_path / "out", tell=told.append)
    assert found.results["aime24"].scores["all"]["accuracy"] == 1.0
    assert found.results["aime24"].record["asked"]["data"]["source"] == data["aime24"]
    assert set(found.left_out) == {"minerva"}
    assert any("there is no file" in line for line in told)
    assert (tmp_path / "out" / "math500-3.json").exists()
    text = paper_lines(found)
    assert "paper, trained" in text
    assert "40.7" in text, "the paper's average for this model"
    assert "CAvg" in text
    assert max(map(len, text.splitlines())) <= 80
    assert len(score_table(found).rows) == 4
    with pytest.raises(EvaluationError, match="there is no file"):
        runner.evaluate("m", "minerva", data=data, output_dir=tmp_path / "other")


@pytest.mark.parametrize("name", BUILDERS)
def test_every_name_has_a_suite_or_names_its_file(name, scripted, executor):
    if name in CODE_SUITES:
        pytest.importorskip("evalplus", reason="comes with azr-lite[eval]")
    if name in MATHS_SUITES:
        pytest.importorskip("math_verify", reason="comes with azr-lite[eval]")
    setting = Setting("some/model", get_style("chat"), Verifier(executor, Rules()))
    if name.startswith(("aime", "amc", "minerva", "olympiad")):
        own = str(Path(__file__))  # a file that holds no questions: data that is not shipped is looked for there
        with pytest.raises(EvaluationError, match="cannot be read as questions"):
            BUILDERS[name](name, replace(setting, source=own))
        return
    suite = BUILDERS[name](name, setting)
    assert suite.name.startswith(name)
    questions = suite.questions()
    assert len({q.id for q in questions}) == len(questions) > 100
    assert all(q.prompt.chat for q in questions[:3])


def test_groups_are_made_of_known_suites_and_games_is_the_old_word_for_reasoning():
    assert {name for group in GROUPS.values() for name in group} <= set(BUILDERS)
    assert GROUPS["games"] == GROUPS["reasoning"]


def test_scores_in_another_protocol_are_not_the_papers(scripted, tmp_path):
    from azr_lite.evaluation.runner import Evaluation
    from azr_lite.evaluation.scores import Result

    def result(name, accuracy):
        return Result(name, [], {"scores": {"all": {"accuracy": accuracy}}})

    names = {"humanevalplus-azr": 0.1, "mbppplus-evalplus-chat": 0.2, "math500": 0.5}
    found = Evaluation("m", "m", tmp_path, {name: result(name, value) for name, value in names.items()}, {})
    assert found.as_in_paper == {"mbppplus": 0.2, "math500": 0.5}


OFFLINE = """
import sys
from azr_lite.evaluation import runner
from tests.scripted import ScriptedGenerator
from azr_lite.evaluation.generators import OpenedModel
from azr_lite.prompts import get_style
opened = OpenedModel(ScriptedGenerator(lambda prompt, sample: "no", name="m"), get_style("chat"), "m", None, 8)
runner.open_model = lambda named, **how: opened
names = "cruxeval-o-strict,cruxeval-i-strict,induction-hint,held-out,humanevalplus-mini,math500"
found = runner.evaluate("m", names, items=2, output_dir=sys.argv[1])
print(sorted(found.results), found.left_out, sum(len(r.items) for r in found.results.values()))
"""


def test_every_shipped_suite_runs_without_any_network(tmp_path):
    """In a network namespace that has not even a loopback."""
    pytest.importorskip("evalplus", reason="comes with azr-lite[eval]")
    alone = ["unshare", "--net", "--map-root-user"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("this machine gives no network namespaces to ordinary users")
    done = subprocess.run(
        [*alone, sys.executable, "-c", OFFLINE, str(tmp_path / "out")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "humanevalplus-mini-evalplus-chat" in done.stdout
    assert " {} 16" in done.stdout  # nothing left out; held-out has three groups
