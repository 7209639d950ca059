"""The stand-in policy of notebooks 00 and 01, and the diagram of the loop that it is played through."""

import random
import re
from inspect import getsource

import pytest

from azr_lite.course.diagram import STAGES, WHO, loop_diagram, strip
from azr_lite.course.scripted_policy import OPS, ScriptedPolicy, read_ops
from azr_lite.nano.language import KINDS, draw_run, make_triplet, program_text, type_of
from azr_lite.presets import preset
from azr_lite.prompts.words import COMPACT
from azr_lite.sandbox import Executor
from azr_lite.selfplay import SelfPlay
from azr_lite.triplet import Role

SMALL = preset("nano").replace(batch_size=8, solver_batch_size=8, n_mc=8, updates_per_step=1)


@pytest.fixture(scope="module")
def executor():
    with Executor(workers=1, allow_weak=True) as made:
        yield made


def played(executor, steps=1, **habits):
    play, policy = SelfPlay(SMALL, COMPACT, executor), ScriptedPolicy(3, **habits)
    play.seed(policy)
    return play, [play.step(policy, step) for step in range(steps)]


def test_it_reads_every_program_of_the_mini_language():
    assert {(op.kind.name, op.kind.takes) for op in OPS} == {(kind.name, kind.takes) for kind in KINDS}
    rng = random.Random(0)
    for depth in range(5):
        ops, run = draw_run(rng, depth)
        assert program_text(read_ops(program_text(ops), type_of(run[0]))) == program_text(ops)
    assert read_ops("def f(x):\n    x = x + 99\n    return x", "int") is None


def test_without_slips_every_deduction_is_right_and_every_proposal_valid(executor):
    play, _ = played(executor, slip=0.0, stray=0.0)
    lines = [line for line in play.record.tasks if line["type"] == "deduction"]
    assert [line["solve_rate"] for line in lines] == [1.0] * 8
    assert all(line["ok"] or line["type"] == "induction" for line in play.record.tasks)


def test_solve_rates_lie_between_and_fall_with_the_length_of_programs(executor):
    play, policy = SelfPlay(SMALL, COMPACT, executor), ScriptedPolicy(1, slip=0.2, stray=0.0)
    rates = {1: [], 4: []}
    rng = random.Random(2)
    for depth, found in rates.items():
        for _ in range(60):
            task = make_triplet("deduction", *draw_run(rng, depth))
            attempts = [play._new_attempt(task) for _ in range(4)]
            for attempt in attempts:
                attempt.completion = policy.complete(attempt.prompt)
            play.judge(attempts)
            found += [attempt.verdict.score for attempt in attempts]
    easy, hard = (sum(found) / len(found) for found in rates.values())
    assert 0.7 < easy < 0.9
    assert 0.2 < hard < easy - 0.2


def test_a_step_with_it_is_a_real_step_and_the_same_twice(executor):
    first, rollouts = played(executor, 2)
    _, again = played(executor, 2)
    assert rollouts == again
    assert [len(batch) for batch in rollouts] == [SMALL.rows] * 2
    assert len({rollout.group for rollout in rollouts[1]}) == 6
    assert any(0 < line["solve_rate"] < 1 for line in first.record.tasks if line["ok"])


def test_strays_break_rules_that_the_verifier_names(executor):
    play, _ = played(executor, 1, stray=1.0)
    reasons = {str(line["reason"]) for line in play.record.tasks}
    assert reasons >= {"not_well_formed", "forbidden_import", "exception"}
    assert "" not in {str(line["reason"]) for line in play.record.tasks if line["type"] != "induction"}


def test_prompts_of_another_style_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="style 'compact'"):
        ScriptedPolicy().complete("Here is your puzzle.")
    assert ScriptedPolicy()(["invent deduction\n"], Role.PROPOSE)[0].text.endswith("</answer>")


def test_the_diagrams_numbers_are_those_of_the_code():
    lines = re.findall(r"self\.(\w+)\(.*# (\d+)", getsource(SelfPlay.step))
    assert [(name, int(number)) for name, number in lines] == [(stage.name, stage.number) for stage in STAGES]
    assert {stage.who for stage in STAGES} == set(WHO)


def test_the_diagram_and_the_strip_show_every_stage():
    (axis,) = loop_diagram().axes
    shown = [text.get_text() for text in axis.texts]
    assert sorted(int(text) for text in shown if text.isdigit()) == [stage.number for stage in STAGES]
    assert all(any(stage.title in text for text in shown) for stage in STAGES)
    panels = strip([f"panel of {stage.name}\n" * 12 for stage in STAGES]).axes
    for panel, stage in zip(panels, STAGES, strict=False):
        words = [text.get_text() for text in panel.texts]
        assert words[:2] == [str(stage.number), stage.title]
        assert words[2].count(f"panel of {stage.name}") == 9
