"""The mini-language, its generator and the held-out rule: deterministic, true, and disjoint from what training sees."""

import ast
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azr_lite.buffer import task_key
from azr_lite.course.demonstrations import RULES, Mixture, demonstration, propose_example, solve_example, way_back
from azr_lite.nano.language import (
    KINDS,
    STRATA,
    depth,
    draw_run,
    draw_task,
    fits,
    held_out,
    is_reserved,
    program_text,
    skeleton,
)
from azr_lite.parsing import parse_program, parse_reply
from azr_lite.tasks import get_task_type
from azr_lite.triplet import Rejection

TYPES = ("deduction", "abduction", "induction")


def test_twenty_to_thirty_operations():
    assert 20 <= len({kind.name for kind in KINDS}) <= 30


def test_generator_is_deterministic():
    first, second = ([draw_task(random.Random(seed), "deduction", 3) for seed in range(30)] for _ in range(2))
    assert first == second
    assert draw_task(random.Random(5), "induction", 2) == draw_task(random.Random(5), "induction", 2)
    assert held_out(12, 3) == held_out(12, 3) != held_out(12, 4)


def test_programs_have_the_value_claimed():
    sandbox = pytest.importorskip("azr_lite.sandbox")
    tasks = [draw_task(random.Random(seed), "deduction", 1 + seed % 4, reserved=None) for seed in range(40)]
    jobs = [sandbox.Job(program=task.program, inputs=((ast.literal_eval(task.input),),)) for task in tasks]
    with sandbox.Executor(workers=1) as executor:
        for task, (outcome,) in zip(tasks, executor.run_many(jobs), strict=True):
            assert outcome.kind == "ok", (task, outcome)
            assert outcome.value == ast.literal_eval(task.output)


@given(st.integers(0, 2**32), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_programs_are_in_the_parsers_spelling_and_values_fit(seed, size):
    ops, run = draw_run(random.Random(seed), size, reserved=None)
    program = program_text(ops)
    assert parse_program(program, 4096) == program
    assert skeleton(program) == tuple(op.kind.name for op in ops)
    assert all(fits(state) for state in run)
    space: dict = {}
    exec(program, space)
    assert space["f"](run[0]) == run[-1]
    assert space["f"](way_back(ops, run)[0]) == run[-1]


def test_held_out_problems_are_reserved_by_composition():
    found = held_out(60, 0)
    assert set(found) == set(TYPES)
    for type_, tasks in found.items():
        assert len({task.id for task in tasks}) == 60
        assert all(is_reserved(task.program) and task.id == task_key(task) and task.type == type_ for task in tasks)
        assert {depth(task) for task in tasks} == set(STRATA[type_])


def test_nothing_reserved_in_the_warm_start():
    rng = random.Random(11)
    held = {task.program for tasks in held_out(90, 0).values() for task in tasks}
    for _ in range(1500):
        text = demonstration(rng, Mixture())
        for source in (text.prompt, text.reply):
            for block in source.split("```python\n")[1:]:
                program = block.split("\n```")[0]
                assert not is_reserved(program)
                assert program not in held


@pytest.mark.parametrize(
    "program",
    [
        "def f(x):\n    return x[::-1].upper()",
        "def f(y):\n    return y",
        "import math\ndef f(x):\n    return x",
        "def f(x):\n    y = x\n    return y",
        "1 +",
    ],
)
def test_other_spellings_are_reserved(program):
    assert is_reserved(program)


def test_identity_and_one_operation_are_free():
    assert not is_reserved("def f(x):\n    return x")
    assert not is_reserved("def f(x):\n    return x[::-1]")


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("traced", [False, True])
def test_demonstrated_answers_are_well_formed_and_right(type_, traced):
    rng = random.Random(7)
    game = get_task_type(type_)
    for size in (1, 2, 3):
        prompt, text = solve_example(rng, type_, size, traced)
        reply = parse_reply("<think>" + text)
        assert not isinstance(reply, Rejection)
        assert prompt.startswith("solve " + type_)
        assert bool(reply.thought) == traced
        assert len(reply.fences) == 1
    for _ in range(20):
        prompt, text = propose_example(rng, type_, Mixture())
        reply = parse_reply("<think>" + text)
        reference = draw_task(random.Random(1), "deduction", 1)
        assert not isinstance(game.parse_proposal(reply, [reference], RULES), Rejection)
