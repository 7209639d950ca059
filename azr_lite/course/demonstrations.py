"""What the warm start learns from: prompts with replies of both roles, some of them with a thought. None is reserved.

A thought has one operation per line: forward for deduction (``x[::-1] -> 'cba'``), backward from the output for
abduction (``x[::-1] <- 'abc'``). For induction it works the operations that the message names forward on the first
pair, sets the result against the output (``'cba' => 'CBA'``), and tries operations (``x[1:] -> 'ba'``) until one gives
the output: some tries before the right one are wrong, drawn at random from all operations of the type.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from azr_lite.nano.language import (
    Op,
    Value,
    draw_induction_run,
    draw_inputs,
    draw_op,
    draw_run,
    fits,
    make_induction,
    make_triplet,
    message,
    program_text,
    states,
    type_of,
)
from azr_lite.prompts.base import ANSWER, END_ANSWER, END_THINK, fence
from azr_lite.prompts.words import COMPACT
from azr_lite.tasks.base import get_task_type
from azr_lite.triplet import Rules

IDENTITY_SHARE = 0.1
"""How often a proposer example shows the identity function (all that the buffers hold at the start) as a reference."""
RULES = Rules(induction_inputs=6, induction_shown=3)


@dataclass(frozen=True)
class Mixture:
    """Shares of the warm start; all probabilities.

    `depths`: weights of 1, 2, 3 … operations in deduction and abduction examples; `induction_depths`,
    `proposal_depths`: the same for induction and for proposals.
    `tries`: weights of 0, 1, 2 … wrong tries in a thought about induction.
    `traced_single`, `traced`: how many one-operation and longer solver examples come with a thought. `habit`: the share
    of thoughts among those examples in which the *first* token of the reply is learned (in the others it is left out of
    the loss), hence how often the model starts to think. `types`: weights of deduction, abduction, induction.
    """

    depths: tuple[float, ...] = (0.5, 0.2, 0.18, 0.12)
    induction_depths: tuple[float, ...] = (0.6, 0.25, 0.15)
    proposal_depths: tuple[float, ...] = (0.5, 0.3, 0.15, 0.05)
    tries: tuple[float, ...] = (0.55, 0.25, 0.12, 0.08)
    proposals: float = 0.15
    traced_single: float = 0.3
    traced: float = 0.7
    habit: float = 0.12
    types: tuple[float, float, float] = (0.22, 0.26, 0.52)


@dataclass(frozen=True)
class Demonstration:
    """One prompt with the reply to learn. `decide`: whether its first token (think or not) is learned too."""

    prompt: str
    reply: str
    decide: bool


def reply_text(thought: str, *blocks: tuple[str, str]) -> str:
    """A well-formed reply, to follow the prompt's opened think tag."""
    return f"{thought}{END_THINK}{ANSWER}" + "\n".join(fence(tag, text) for tag, text in blocks) + END_ANSWER


def forward_thought(ops: tuple[Op, ...], run: list[Value]) -> str:
    """One line per operation: its text and the value after it."""
    return "\n".join(f"{op.text} -> {state!r}" for op, state in zip(ops, run[1:], strict=True))


def backward_thought(ops: tuple[Op, ...], run: list[Value]) -> str:
    """One line per operation, last first: its text and the value before it."""
    return "\n".join(f"{op.text} <- {state!r}" for op, state in zip(reversed(ops), reversed(run[:-1]), strict=True))


def trying_thought(rng: random.Random, ops: tuple[Op, ...], run: list[Value], wrong: int) -> str:
    """The known operations forward, the gap that is left, up to `wrong` tries that fail, and the one that does not."""
    lines = [f"{op.text} -> {state!r}" for op, state in zip(ops[:-1], run[1:-1], strict=True)]
    lines.append(f"{run[-2]!r} => {run[-1]!r}")
    tried = {ops[-1].text}
    for _ in range(wrong):
        op = _wrong_op(rng, run[-2], run[-1], tried)
        if op is not None:
            tried.add(op.text)
            lines.append(f"{op.text} -> {op.apply(run[-2])!r}")
    lines.append(f"{ops[-1].text} -> {run[-1]!r}")
    return "\n".join(lines)


def _wrong_op(rng: random.Random, before: Value, after: Value, tried: set[str]) -> Op | None:
    """An operation not tried yet that makes something else of `before`; of four, the one nearest in length."""
    found = []
    for _ in range(12):
        op = draw_op(rng, type_of(before))
        value = op.apply(before)
        if op.text not in tried and fits(value) and value != after:
            found.append((_gap(value, after), len(found), op))
        if len(found) == 4:
            break
    return min(found)[2] if found else None


def _gap(value: Value, wanted: Value) -> int:
    if type_of(value) != type_of(wanted):
        return 99
    return abs(value - wanted) if isinstance(value, int) else abs(len(value) - len(wanted))


def way_back(ops: tuple[Op, ...], run: list[Value]) -> list[Value]:
    """States of the canonical way back from the output; from where it fails, the states that really occurred."""
    value, found = run[-1], [run[-1]]
    for op in reversed(ops):
        before = op.undo(value)
        if before is None:
            return run
        value = before
        found.insert(0, value)
    return found if states(ops, found[0]) == found else run


def solve_example(rng: random.Random, type_: str, depth: int, traced: bool, wrong: int = 0) -> tuple[str, str]:
    """Prompt and right reply for one fresh task. `wrong`: failing tries in a thought about induction."""
    task_type = get_task_type(type_)
    if type_ == "induction":
        ops, runs = draw_induction_run(rng, depth)
        task = make_induction(ops, runs)
        thought, block = trying_thought(rng, ops, runs[0], wrong) if traced else "", ("python", program_text(ops))
    else:
        ops, run = draw_run(rng, depth)
        task = make_triplet(type_, ops, run)
        if type_ == "deduction":
            thought, block = forward_thought(ops, run), ("output", repr(run[-1]))
        else:
            run = way_back(ops, run)
            thought, block = backward_thought(ops, run), ("input", repr(run[0]))
    return task_type.solve_prompt(COMPACT, task, RULES), reply_text(thought if traced else "", block)


def propose_example(rng: random.Random, type_: str, mixture: Mixture) -> tuple[str, str]:
    """Prompt and valid reply of a proposer: references and the new task are drawn independently."""
    task_type = get_task_type(type_)
    if type_ == "induction":
        while True:
            ops = draw_run(rng, _depth(rng, mixture.proposal_depths))[0]
            runs = draw_inputs(rng, ops)
            if runs is not None:
                break
        prompt = task_type.propose_prompt(COMPACT, [make_triplet("deduction", ops, runs[0])], RULES)
        blocks = [("input", repr(run[0])) for run in runs]
        return prompt, reply_text("", *blocks, ("message", message(ops)))
    references = []
    for _ in range(rng.randint(1, 2)):
        depth = 0 if rng.random() < IDENTITY_SHARE else _depth(rng, mixture.depths)
        references.append(make_triplet(type_, *draw_run(rng, depth)))
    ops, run = draw_run(rng, _depth(rng, mixture.proposal_depths))
    reply = reply_text("", ("python", program_text(ops)), ("input", repr(run[0])))
    return task_type.propose_prompt(COMPACT, references, RULES), reply


def demonstration(rng: random.Random, mixture: Mixture, single: bool = False) -> Demonstration:
    """One draw from the mixture. `single`: with one operation, whatever the weights."""
    type_ = rng.choices(("deduction", "abduction", "induction"), mixture.types)[0]
    if rng.random() < mixture.proposals:
        return Demonstration(*propose_example(rng, type_, mixture), decide=True)
    depth = 1 if single else _depth(rng, mixture.induction_depths if type_ == "induction" else mixture.depths)
    share = mixture.traced_single if depth == 1 else mixture.traced
    traced = rng.random() < share
    keep = mixture.habit * (1 - share) / (share * (1 - mixture.habit))
    decide = not traced or rng.random() < keep
    wrong = rng.choices(range(len(mixture.tries)), mixture.tries)[0]
    return Demonstration(*solve_example(rng, type_, depth, traced, wrong), decide=decide)


def _depth(rng: random.Random, weights: tuple[float, ...]) -> int:
    return rng.choices(range(1, len(weights) + 1), weights)[0]
