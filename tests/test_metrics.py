"""The numbers of a step, against values worked out by hand."""

from __future__ import annotations

import pytest

from azr_lite.metrics import step_metrics
from azr_lite.triplet import (
    Completion,
    ProposalAttempt,
    Reason,
    Rejection,
    Role,
    Rollout,
    SolveAttempt,
    Triplet,
    Verdict,
)

WRONG = Verdict(ok=False, well_formed=True, reason="wrong")
FORMLESS = Verdict(ok=False, well_formed=False, reason="no_answer")
RIGHT = Verdict(ok=True, well_formed=True, score=1.0)
COPIED = Triplet("deduction", "def f(a):\n    return a  # the same", "2", "2", id="c")
OTHER = Triplet("deduction", "def f(x):\n    return -x", "1", "-1", id="o")
TASK = Triplet("deduction", "def f(x):\n    return x", "1", "1", id="t")


def row(role, verdict, reward, tokens, advantage, weight=1.0, truncated=False, parts=None):
    return Rollout(
        role=role,
        type="deduction",
        prompt="",
        text="",
        prompt_ids=(1,),
        completion_ids=(0,) * tokens,
        verdict=verdict,
        reward=reward,
        reward_parts=parts or {"accuracy": reward},
        truncated=truncated,
        advantage=advantage,
        weight=weight,
    )


def reply(tokens, text=""):
    return Completion(prompt="", prompt_ids=(1,), ids=(0,) * tokens, text=text)


def proposal(result, rate=None, is_new=False, tokens=5, answers=(), references=(), is_repeat=False):
    made = ProposalAttempt("deduction", list(references), "", reply(tokens), result, is_new)
    made.rate = rate
    made.is_repeat = is_repeat
    made.attempts = [SolveAttempt(TASK, "", reply(n, f"<answer>{n}</answer>"), RIGHT) for n in answers]
    return made


@pytest.fixture(scope="module")
def numbers():
    solved = [
        row(Role.SOLVE, RIGHT, 1.0, 2, 2.0),
        row(Role.SOLVE, WRONG, -0.5, 4, -1.0),
        row(Role.SOLVE, WRONG, -0.5, 6, -1.0, weight=0.5),
        row(Role.SOLVE, FORMLESS, -1.0, 8, 0.0, truncated=True, parts={"format": -1.0}),
    ]
    proposed = [row(Role.PROPOSE, RIGHT, 0.75, 10, 0.5), row(Role.PROPOSE, RIGHT, 0.75, 20, 0.5, weight=0.0)]
    proposals = [
        proposal(TASK, 0.25, True, answers=(1, 2, 1, 1), references=[COPIED]),
        proposal(TASK, 0.0, True, answers=(3, 4), references=[OTHER]),
        proposal(OTHER, 1.0, False, is_repeat=True),
        proposal(TASK, 0.125, False, answers=(2, 2), is_repeat=True),
        proposal(TASK, 0.0, False),
        proposal(Rejection(Reason.NO_PROGRAM, "none"), tokens=7),
    ]
    return step_metrics(
        [*solved, *proposed],
        proposals,
        sizes={"deduction": 9},
        ages={"deduction": 1.5},
        executor={"ok": 3, "timeout": 1},
        worlds={2: 3, 3: 1},
    )


WANTED = {
    # the solver's four replies: 1, -0.5, -0.5, -1
    "solve/deduction/reward": -0.25,
    "solve/deduction/reward_std": 0.75,  # squared distances 1.5625, 0.0625, 0.0625, 0.5625: mean 0.5625
    "solve/deduction/part/accuracy": 0.0,
    "solve/deduction/part/format": -0.25,
    "solve/deduction/well_formed": 0.75,
    "solve/deduction/ok": 0.25,
    "solve/deduction/tokens": 5,
    "solve/deduction/tokens_right": 2,
    "solve/deduction/tokens_wrong": 5,
    "solve/deduction/tokens_truncated": 8,
    "solve/deduction/truncated": 0.25,
    "solve/deduction/no_signal": 0,
    "solve/deduction/advantage_mean": 0,
    "solve/deduction/advantage_std": 1.5**0.5,  # squares 4, 1, 1, 0
    "solve/deduction/length_pressure": -1.5 / 5**0.5,  # -3·2 + 1·1 - 1·1 + 3·0 over 4; lengths' squares 9, 1, 1, 9
    "solve/deduction/reason/wrong": 2,
    "solve/deduction/reason/no_answer": 1,
    "solve/deduction/loss_share": 11 / 16,  # 2·2 + 4·1 + 6·0.5 = 11 beside the proposer's 10·0.5 = 5
    # the proposer's two rows
    "propose/deduction/reward": 0.75,
    "propose/deduction/reward_std": 0,
    "propose/deduction/no_signal": 1,
    "propose/deduction/loss_share": 5 / 16,
    # its six proposals, of which five are valid, with r-bar 0.25, 0, 1, 0.125 and 0
    "propose/deduction/solve_rate": 0.275,
    "propose/deduction/learnable": 0.4,
    "propose/deduction/learnable_tasks": 2,
    "propose/deduction/distinct_programs": 0.4,  # two programs in five tasks
    "propose/deduction/repeats": 0.4,
    "propose/deduction/never_solved": 0.4,
    "propose/deduction/always_solved": 0.2,
    "propose/deduction/fresh": 0.4,
    "propose/deduction/duplicates": 3,
    "propose/deduction/solved/000": 2,
    "propose/deduction/solved/013": 1,
    "propose/deduction/solved/025": 1,
    "propose/deduction/solved/100": 1,
    "propose/deduction/reason/no_program": 1,
    "buffer/deduction": 9,
    "buffer/deduction/age": 1.5,
    "executor/ok": 3,
    "executor/timeout": 1,
    "validation/worlds": 2,
    "propose/deduction/distinct_answers": 0.5,  # 2 of 4 at r-bar 0.25, 1 of 2 at 0.125
    "propose/deduction/copies": 0.5,  # of the two that had references
    "solve/deduction/old_ok": 0.25,
    "tokens/generated": 5 * 5 + 7 + (1 + 2 + 1 + 1) + (3 + 4) + (2 + 2),
    "tokens/trained": 2 + 4 + 6 + 8 + 10,  # not the row without weight
}


@pytest.mark.parametrize("key", WANTED)
def test_a_number_is_what_its_formula_says(key, numbers):
    assert numbers[key] == pytest.approx(WANTED[key])


def test_no_number_is_left_out(numbers):
    proposer = {"part/accuracy", "well_formed", "ok", "tokens", "tokens_right", "truncated"}
    proposer |= {"advantage_mean", "advantage_std"}
    assert numbers.keys() - WANTED.keys() == {f"propose/deduction/{name}" for name in proposer}
