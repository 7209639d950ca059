"""Draws programs, inputs and tasks of the mini-language; the number of composed operations sets the difficulty.

`reserved` chooses sides: False gives only programs that training may see, True only held-out ones, None either.
"""

from __future__ import annotations

import dataclasses
import random
from collections import defaultdict

from azr_lite.buffer import task_key
from azr_lite.nano.language import INT, KINDS, LETTERS, LIST, STR, Kind, Op, Value, held_skeleton, program_text, states
from azr_lite.triplet import InductionTask, Task, Triplet

MAX_TRIES = 2000
INDUCTION_INPUTS, INDUCTION_SHOWN = 6, 3
TYPE_WEIGHTS = {STR: 0.5, LIST: 0.4, INT: 0.1}
_TO_INT_WEIGHT = 0.35

_BY_TYPE: dict[str, list[Kind]] = defaultdict(list)
for _kind in KINDS.values():
    _BY_TYPE[_kind.takes].append(_kind)
_WEIGHTS = {t: [_TO_INT_WEIGHT if k.gives == INT and t != INT else 1.0 for k in kinds] for t, kinds in _BY_TYPE.items()}


def draw_value(rng: random.Random, type_: str) -> Value:
    """A small input: two to five letters, two to five digits, or an integer up to 9."""
    if type_ == INT:
        return rng.randint(1, 9)
    length = rng.randint(2, 5)
    if type_ == STR:
        return "".join(rng.choice(LETTERS) for _ in range(length))
    return [rng.randint(0, 9) for _ in range(length)]


def draw_op(rng: random.Random, takes: str) -> Op:
    """One operation on values of the type `takes`, with constants."""
    kind = rng.choices(_BY_TYPE[takes], _WEIGHTS[takes])[0]
    constants: list[str] = []
    for hole in kind.holes:
        pool = kind.digits if hole == "digit" else LETTERS
        constants.append(rng.choice([c for c in pool if hole == "digit" or c not in constants]))
    return Op(kind, tuple(constants))


def draw_ops(rng: random.Random, depth: int, reserved: bool | None = False) -> tuple[Op, ...]:
    """A chain of `depth` operations whose types fit together. ValueError where none is found."""
    for _ in range(MAX_TRIES):
        takes = rng.choices(list(TYPE_WEIGHTS), list(TYPE_WEIGHTS.values()))[0]
        ops: list[Op] = []
        for _ in range(depth):
            ops.append(draw_op(rng, takes))
            takes = ops[-1].kind.gives
        if reserved is None or held_skeleton(tuple(op.kind.name for op in ops)) == reserved:
            return tuple(ops)
    side = "held-out" if reserved else "free"
    raise ValueError(
        f"no {side} chain of {depth} operations in {MAX_TRIES} draws; ask for 2 to 4, which both sides have"
    )


def draw_run(rng: random.Random, depth: int, reserved: bool | None = False) -> tuple[tuple[Op, ...], list[Value]]:
    """A chain with an input: the operations and all states from the input to the output, each within bounds."""
    for _ in range(MAX_TRIES):
        ops = draw_ops(rng, depth, reserved)
        run = states(ops, _value_for(rng, ops))
        if run is not None:
            return ops, run
    raise ValueError(f"no runnable chain of {depth} operations in {MAX_TRIES} draws; ask for fewer operations")


def _value_for(rng: random.Random, ops: tuple[Op, ...]) -> Value:
    """An input; letters that the program replaces or adds are more likely in it, so that replacing does something."""
    value = draw_value(rng, ops[0].kind.takes if ops else STR)
    letters = [op.constants[0] for op in ops if op.kind.name == "turn"]
    if isinstance(value, str) and letters and rng.random() < 0.8:
        spot = rng.randrange(len(value))
        value = value[:spot] + rng.choice(letters) + value[spot + 1 :]
    return value


def make_triplet(type_: str, ops: tuple[Op, ...], run: list[Value]) -> Triplet:
    """The task for a chain and its states (without an id)."""
    return Triplet(type=type_, program=program_text(ops), input=repr(run[0]), output=repr(run[-1]))


def draw_inputs(rng: random.Random, ops: tuple[Op, ...]) -> list[list[Value]] | None:
    """States for different inputs whose outputs are not all equal; None when the chain hardly allows it."""
    runs: list[list[Value]] = []
    for _ in range(12 * INDUCTION_INPUTS):
        run = states(ops, _value_for(rng, ops))
        if run is not None and run[0] not in [known[0] for known in runs]:
            runs.append(run)
        if len(runs) == INDUCTION_INPUTS:
            return runs if any(known[-1] != runs[0][-1] for known in runs) else None
    return None


def message(ops: tuple[Op, ...]) -> str:
    """The message of an induction task: all operations but the last, in words."""
    return ", ".join((*(op.hint for op in ops[:-1]), "then ?"))


def draw_induction_run(
    rng: random.Random, depth: int, reserved: bool | None = False
) -> tuple[tuple[Op, ...], list[list[Value]]]:
    """A chain and its states on `INDUCTION_INPUTS` inputs."""
    for _ in range(MAX_TRIES):
        ops = draw_ops(rng, depth, reserved)
        runs = draw_inputs(rng, ops)
        if runs is not None:
            return ops, runs
    raise ValueError(f"no induction task of depth {depth} in {MAX_TRIES} draws; ask for fewer operations")


def make_induction(ops: tuple[Op, ...], runs: list[list[Value]]) -> InductionTask:
    """The task for a chain and its states on several inputs (without an id)."""
    inputs, outputs = tuple(repr(run[0]) for run in runs), tuple(repr(run[-1]) for run in runs)
    return InductionTask("induction", program_text(ops), inputs, outputs, message(ops), INDUCTION_SHOWN)


def draw_task(rng: random.Random, type_: str, depth: int, reserved: bool | None = False) -> Task:
    """A task with its id. The message of an induction task names all operations but the last."""
    if type_ == "induction":
        task: Task = make_induction(*draw_induction_run(rng, depth, reserved))
    else:
        task = make_triplet(type_, *draw_run(rng, depth, reserved))
    return dataclasses.replace(task, id=task_key(task))


STRATA = {"deduction": (2, 3, 4), "abduction": (2, 3, 4), "induction": (2, 3)}
"""Operations composed in the held-out tasks of each type."""


def held_out(n: int, seed: int) -> dict[str, list[Task]]:
    """`n` different tasks of each type, its depths in turn; deterministic in (n, seed)."""
    found: dict[str, list[Task]] = {}
    for type_, strata in STRATA.items():
        rng = random.Random(f"held-out/{seed}/{type_}")
        tasks: dict[str, Task] = {}
        for _ in range(200 * n + 1000):
            if len(tasks) == n:
                break
            task = draw_task(rng, type_, strata[len(tasks) % len(strata)], reserved=True)
            tasks.setdefault(task.id, task)
        if len(tasks) < n:
            raise ValueError(f"only {len(tasks)} different held-out {type_} tasks were found; ask for fewer than {n}")
        found[type_] = list(tasks.values())
    return found
