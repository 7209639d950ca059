"""Buffers: each problem once, oldest out first, order kept through a restart."""

import dataclasses
import json
import random

from azr_lite.buffer import Buffer, Buffers, normal_form, task_key
from azr_lite.triplet import InductionTask, Triplet


def task(number, name="deduction"):
    return Triplet(name, f"def f(x):\n    return x + {number}", "1", str(1 + number))


def test_duplicates_are_refused_whatever_their_spelling():
    buffer = Buffer(10)
    assert buffer.add(task(1))
    assert not buffer.add(task(1))
    assert not buffer.add(Triplet("deduction", "def f(value):\n    return value + 1", "1", "2"))
    assert buffer.add(dataclasses.replace(task(1), input="2", output="3"))
    assert len(buffer) == 2


def test_a_full_buffer_drops_its_oldest():
    buffer = Buffer(3)
    for number in range(5):
        buffer.add(task(number))
    assert [t.output for t in buffer] == ["3", "4", "5"]


def test_samples_are_distinct_and_uniform():
    buffer = Buffer(10)
    for number in range(5):
        buffer.add(task(number))
    rng = random.Random(0)
    counts = dict.fromkeys(range(5), 0)
    for _ in range(2000):
        chosen = buffer.sample(rng, 2)
        assert chosen[0].id != chosen[1].id
        for t in chosen:
            counts[int(t.output) - 1] += 1
    assert all(700 < count < 900 for count in counts.values())
    assert len(buffer.sample(rng, 99)) == 5


def test_programs_come_from_deduction_and_abduction_alone_each_once():
    """A game of one's own may keep programs that raise: induction would be asked for inputs on which they return."""
    buffers = Buffers(["errors", "deduction", "abduction", "induction"], 10)
    buffers.add(task(3, "errors"))
    buffers.add(task(1))
    buffers.add(task(1, "abduction"))
    buffers.add(task(2, "abduction"))
    buffers.add(InductionTask("induction", "def f(x):\n    return 0", ("1", "2"), ("0", "0"), "m", 1))
    assert [t.program[-1] for t in buffers.programs()] == ["1", "2"]


def test_state_survives_json_with_order_and_ids():
    buffers = Buffers(["deduction", "induction"], 4)
    for number in range(6):
        buffers.add(task(number))
    buffers.add(
        InductionTask("induction", "def f(x):\n    return x", ("1", "2"), ("1", "2"), "m", 1, step=3, parents=("a",))
    )
    restored = Buffers(["deduction", "induction"], 4)
    restored.load_state_dict(json.loads(json.dumps(buffers.state_dict())))
    assert restored.state_dict() == buffers.state_dict()
    assert [t.id for t in restored.of["deduction"]] == [task_key(task(n)) for n in range(2, 6)]


def test_a_seed_serves_the_types_that_share_its_form_and_keeps_its_parents():
    buffers = Buffers(["deduction", "abduction", "induction"], 10)
    for number in range(3):
        buffers.add_seed(task(number), ("p",), target=2)
    assert buffers.sizes() == {"deduction": 2, "abduction": 2, "induction": 0}
    for name in ("deduction", "abduction"):
        assert [(t.type, t.parents) for t in buffers.of[name]] == [(name, ("p",))] * 2
        assert [t.id for t in buffers.of[name]] == [task_key(task(n, name)) for n in range(2)]


def test_ages_are_counted_from_the_step_a_task_came_from():
    buffers = Buffers(["deduction", "abduction"], 10)
    for number, step in enumerate((-1, 2, 5)):
        buffers.add(dataclasses.replace(task(number), step=step))
    assert buffers.ages(6) == {"deduction": (7 + 4 + 1) / 3, "abduction": 0.0}


def test_a_restored_buffer_still_drops_its_oldest():
    buffers = Buffers(["deduction"], 2)
    buffers.load_state_dict({"deduction": [task(number).to_json() for number in range(2)]})
    buffers.add(task(2))
    assert [t.output for t in buffers.of["deduction"]] == ["2", "3"]


def test_calls_by_keyword_follow_a_renamed_argument():
    one = "def f(a):\n    def g(b):\n        return b\n    return g(b=a)"
    assert normal_form(one) == normal_form(one.replace("b", "c"))
    assert normal_form(one) != normal_form(one.replace("g(b=a)", "g(b=1)"))
