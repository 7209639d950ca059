"""Task types of one's own: the two worked examples, the properties every type must have, and the command line."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import get_args

import pytest

from azr_lite.config import Config
from azr_lite.course import attacks
from azr_lite.course.example_tasks import TABLE_ORDERED, ErrorPrediction, SqlTask, compile_query, same_rows
from azr_lite.course.task_properties import blind, check_task_type
from azr_lite.errors import ConfigError
from azr_lite.presets import preset
from azr_lite.prompts import STYLES
from azr_lite.sandbox.outcome import Kind
from azr_lite.tasks import Rules, base, get_task_type, register_task_type
from azr_lite.tasks.triplets import Deduction, TripletTaskType
from azr_lite.train.preflight import check_prompts
from azr_lite.triplet import Triplet

DIVIDE = [("python", "def f(x):\n    return 1 // x"), ("input", "0")]
RECURSIVE = [("python", "def f(n):\n    return f(n - 1) if n else [][n]"), ("input", "3")]
SELECT = [
    ("sql", "SELECT name FROM items WHERE price > 2 ORDER BY stock DESC;"),
    ("input", "[('kiwi', 3, 7), ('fig', 9, 8)]"),
]


def gold(task):
    return [("output", task.output)]


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))


def test_induction_does_not_start_from_a_type_of_ones_own(registry):
    """Its programs may be meant to raise, and have no outputs then."""
    register_task_type(ErrorPrediction())
    with pytest.raises(ConfigError, match="there are none; add deduction or abduction"):
        Config(task_types=("errors", "induction"))
    assert Config(task_types=("errors", "induction", "abduction")).task_types[0] == "errors"


@pytest.mark.parametrize(
    ("kind", "proposals", "cheats"),
    [
        (
            ErrorPrediction(),
            [DIVIDE, RECURSIVE],
            [[("output", "Exception")], [("output", "KeyError, IndexError, ZeroDivisionError")], []],
        ),
        (SqlTask(), [SELECT], [[("output", "[]")], [("output", "select")], [("output", "[('kiwi',)] * 1")]]),
    ],
    ids=["errors", "sql"],
)
def test_the_worked_examples_have_every_property(registry, executor, kind, proposals, cheats):
    properties = check_task_type(register_task_type(kind), proposals, gold, cheats, executor)
    assert len(properties) == 7
    assert [str(one) for one in properties if not one.ok] == []


def test_the_checks_see_a_leak_a_generous_judge_and_a_borrowed_task(registry, executor):
    class Careless(ErrorPrediction):
        name = "careless"

        def zero_task(self):
            return replace(super().zero_task(), type=self.name)

        def solve_prompt(self, style, task, rules):
            return super().solve_prompt(style, task, rules) + task.output[1]

        def judge(self, task, answer, outcomes, rules):
            return replace(super().judge(task, answer, outcomes, rules), score=1.0)

        def convert_from(self, task):
            return replace(task, type=self.name)

    found = check_task_type(
        register_task_type(Careless()),
        [DIVIDE, [("python", "def f(x):\n    return x"), ("input", "0")]],
        gold,
        [[("output", "no")]],
        executor,
    )
    assert [one.name for one in found if not one.ok] == [
        "proposals become tasks",
        "cheats score 0",
        "the prompt does not know the answer",
        "it takes no other type's tasks unasked",
    ]
    assert "no_error" in found[0].detail


def test_deduction_takes_no_seed_whose_output_is_no_return_value():
    """An error's name is not what the program returns: as a deduction task its gold would be wrong."""
    errors = Triplet("errors", "def f(x):\n    return 1 // x", "0", "'ZeroDivisionError'")
    assert get_task_type("deduction").convert_from(errors) is None
    assert ErrorPrediction().convert_from(replace(errors, type="deduction")) is None
    assert get_task_type("deduction").convert_from(replace(errors, type="abduction")).type == "deduction"


def test_no_text_of_a_query_reaches_the_program(executor):
    for bad in ("select * from items where name = '''", "select name from items where price > f()", "select x from items", "drop table items",
                "select name from items where name = 'a\\'", "select name from items where price > '1'", "select * from items where name = 'a' or 1 = 1"):  # fmt: skip
        with pytest.raises(ValueError, match=r"expected|no column|cannot"):
            compile_query(bad)
    hostile = compile_query('select name from items where name = \'""" + str(items) + """\'')
    assert executor.run(hostile, [([("a", 1, 2)],)])[0].value == []
    assert same_rows([(1,), (2,)], [(2,), (1,)], ordered=False)
    assert TABLE_ORDERED.search(compile_query("select name from items order by price"))
    assert not TABLE_ORDERED.search(compile_query("select name from items where name = '    rows = sorted('"))


def test_a_prompt_may_hold_the_word_and_yet_not_know():
    task = Triplet("errors", "def f(x):\n    return {'KeyError': 1}[x]", "2", "'KeyError'")
    assert blind(lambda t: t.program, task)
    assert not blind(lambda t: t.output[::-1], task)


def test_a_module_of_ones_own_registers_task_types(tmp_path):
    """On the command line, and for whoever reads the settings of such a run later."""
    (tmp_path / "my_types.py").write_text(
        "import azr_lite\nfrom azr_lite.course.example_tasks import ErrorPrediction\nazr_lite.register_task_type(ErrorPrediction())\n"
    )
    (tmp_path / "broken.py").write_text("1 / 0")

    def said(*words):
        command = [
            sys.executable,
            "-P",
            "-m",
            "azr_lite",
            "run",
            "smoke",
            "--dry-run",
            "--json",
            "--task-types",
            "errors",
            "deduction",
            *words,
        ]
        path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **path})

    settings = json.loads(said("--task-module", "my_types").stdout)
    assert settings["task_types"] == ["errors", "deduction"]
    assert settings["task_module"] == "my_types"
    assert (
        "task_module names the module 'broken', which cannot be imported (ZeroDivisionError: division by zero (broken.py, "
        in said("--task-module", "broken").stderr
    )
    assert "--task-module its_module" in said().stderr


def test_a_type_derived_from_a_built_in_one_has_its_words_in_every_style():
    class Mine(Deduction):
        name = "mine"

    task, rules = Triplet("deduction", "def f(x):\n    return x", "1", "1"), Rules()
    for style in STYLES.values():
        assert Mine().propose_prompt(style, [task], rules) == Deduction().propose_prompt(style, [task], rules)
        assert Mine().solve_prompt(style, task, rules) == Deduction().solve_prompt(style, task, rules)

    class Alone(TripletTaskType):
        name = "alone"

    assert Alone.__abstractmethods__
    with pytest.raises(ConfigError, match="the prompt style compact has no words for alone; write its propose_prompt"):
        TripletTaskType.propose_prompt(
            type("Whole", (Alone,), dict.fromkeys(Alone.__abstractmethods__))(), STYLES["compact"], [], rules
        )


def test_prompts_that_nano_cannot_read_are_refused_before_anything_is_loaded(monkeypatch):
    class Mine(Deduction):
        name = "mine"

    types = (ErrorPrediction(), Deduction(), Mine())
    monkeypatch.setattr("azr_lite.tasks.base._REGISTRY", {one.name: one for one in types})
    with pytest.raises(
        ConfigError, match=r"nano reads prompts of 320 tokens, and the shortest for proposals of errors has \d{3}; give"
    ):
        check_prompts(preset("nano", task_types=("errors", "deduction")))
    check_prompts(preset("nano", task_types=("deduction", "mine")))
    with pytest.raises(ConfigError, match="nano reads prompts of 5 tokens, and the shortest for answers of mine has"):
        check_prompts(preset("nano", task_types=("mine",), max_prompt_tokens=5))


def test_it_tells_what_stopped_a_program(executor):
    assert attacks.run_and_explain(executor, "def f(x):\n    return x").startswith("ok: nothing stopped it")
    assert attacks.run_and_explain(executor, "import os\ndef f(x):\n    return 1").endswith("(forbidden_import: os)")
    assert attacks.WORDS.keys() == set(get_args(Kind))
    with pytest.raises(ConfigError, match="no attack is called"):
        attacks.matrix(["nuke"], {"everything": ""})
    found = attacks.matrix(["keyring", "fork"], {"everything": ""})
    assert found == {"keyring": {"everything": True}, "fork": {"everything": True}}
