"""Whole steps of self-play with a policy that writes adversarial text: none ends the run, none takes long."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from azr_lite.config import Config
from azr_lite.prompts import get_style
from azr_lite.selfplay import SelfPlay
from azr_lite.triplet import Reason, task_from_json
from tests.adversarial import Adversary

SMALL = Config(
    model="adversary", batch_size=3, solver_batch_size=3, n_mc=2, references=2, seed_batch_factor=1, seed_rounds=1,
    micro_batch_size=1, max_prompt_tokens=100_000, cpu_seconds=0.2,
)  # fmt: skip


def play(executor, seed, steps, reading="strict"):
    """Steps of self-play against the adversary; what must hold of each is asserted."""
    run = SelfPlay(SMALL.replace(seed=seed, reply_reading=reading), get_style("chat"), executor)
    run.special_tokens = ("<|im_end|>",)
    policy = Adversary(seed)
    run.seed(policy)
    reasons = set()
    for step in range(steps):
        rollouts = run.step(policy, step)
        assert len(rollouts) == run.config.rows
        assert all(math.isfinite(r.reward) and math.isfinite(r.advantage) for r in rollouts)
        state = json.loads(json.dumps(run.state_dict()))
        run.load_state_dict(state)
        assert run.state_dict() == state
        reasons |= {line["reason"] for line in run.record.tasks} | {r.verdict.reason for r in run.record.rollouts}
        for line in run.record.tasks:
            if line["ok"]:
                task = task_from_json(line["task"])
                assert not any(
                    tag in text for tag in ("</answer>", "<|im_end|>") for text in (task.program, *task.outputs)
                )
    assert Reason.INTERNAL not in reasons
    return reasons


@pytest.fixture(scope="module")
def few():
    from azr_lite.sandbox import Executor, Limits

    with Executor(Limits(cpu_s=0.2), workers=1) as executor:
        yield executor


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**31), reading=st.sampled_from(["strict", "lenient"]))
def test_no_reply_ends_a_step(few, seed, reading):
    play(few, seed, steps=5, reading=reading)


def test_the_adversary_reaches_every_corner(few):
    """Else the test above would prove little."""
    reasons = play(few, seed=1, steps=10)
    assert len(reasons) >= 14, sorted(reasons)
