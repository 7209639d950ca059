"""The mini-language: thirty one-line operations on short strings, short lists of small integers, and small integers.

A program is ``def f(x):``, one ``x = …`` per line, ``return x``: real Python, which the ordinary sandbox runs. Its
*skeleton* is the kinds of its operations in order. Some pairs and triples of kinds are held out for the evaluation.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from azr_lite.buffer import task_key
from azr_lite.triplet import InductionTask, Task, Triplet

LETTERS = "abcdefgh"
DIGITS = "0123456789"
MAX_ITEMS = 9
MAX_INT = 60
STR, LIST, INT = "str", "list", "int"

Value = Any  # a string, a list of integers, or an integer


@dataclass(frozen=True)
class Kind:
    """A kind of operation.

    `name` also stands for it in messages. `takes`, `gives`: types of the value before and after. `template`: its
    expression. `forth` does what the template says, `back` is a canonical way back (None where it fails). `holes`: for
    each constant the characters it may be.
    """

    name: str
    takes: str
    gives: str
    template: str
    forth: Callable[..., Value]
    back: Callable[..., Value | None]
    holes: tuple[str, ...] = ()


def _replaced(v: str, a: str, b: str) -> str | None:
    return None if a in v or a == b else v.replace(b, a) if b in v else v


# fmt: off
_BOTH = (
    ("flip", "x[::-1]", lambda v: v[::-1], lambda v: v[::-1]),
    ("tail", "x[1:]", lambda v: v[1:], lambda v: v[:1] + v),
    ("chop", "x[:-1]", lambda v: v[:-1], lambda v: v + v[-1:]),
    ("left", "x[1:] + x[:1]", lambda v: v[1:] + v[:1], lambda v: v[-1:] + v[:-1]),
    ("right", "x[-1:] + x[:-1]", lambda v: v[-1:] + v[:-1], lambda v: v[1:] + v[:1]),
    ("front", "x[:1] + x", lambda v: v[:1] + v, lambda v: v[1:] if v[:1] == v[1:2] else None),
    ("back", "x + x[-1:]", lambda v: v + v[-1:], lambda v: v[:-1] if v[-1:] == v[-2:-1] else None),
    ("double", "x + x", lambda v: v + v, lambda v: v[: len(v) // 2] if 2 * v[: len(v) // 2] == v else None),
)
"""Name, template, forth and back of the kinds that work on strings and on lists alike."""

KINDS = (
    *(Kind(name, t, t, template, forth, back) for t in (STR, LIST) for name, template, forth, back in _BOTH),
    Kind("caps", STR, STR, "x.upper()", str.upper, lambda v: v.lower() if v == v.upper() else None),
    Kind("swap", STR, STR, "x.swapcase()", str.swapcase, lambda v: v.swapcase()),
    Kind("end", STR, STR, "x + '{}'", lambda v, c: v + c, lambda v, c: v[:-1] if v[-1:] == c else None, (LETTERS,)),
    Kind("start", STR, STR, "'{}' + x", lambda v, c: c + v, lambda v, c: v[1:] if v[:1] == c else None, (LETTERS,)),
    Kind("turn", STR, STR, "x.replace('{}', '{}')", str.replace, _replaced, (LETTERS, LETTERS)),
    Kind("order", STR, STR, "''.join(sorted(x))",
         lambda v: "".join(sorted(v)), lambda v: v if list(v) == sorted(v) else None),
    Kind("size", STR, INT, "len(x)", len, lambda v: "a" * v if 0 < v <= MAX_ITEMS else None),
    Kind("size", LIST, INT, "len(x)", len, lambda v: [1] * v if 0 < v <= MAX_ITEMS else None),
    Kind("sort", LIST, LIST, "sorted(x)", sorted, lambda v: v if v == sorted(v) else None),
    Kind("put", LIST, LIST, "x + [{}]",
         lambda v, c: [*v, int(c)], lambda v, c: v[:-1] if v[-1:] == [int(c)] else None, (DIGITS,)),
    Kind("push", LIST, LIST, "[{}] + x",
         lambda v, c: [int(c), *v], lambda v, c: v[1:] if v[:1] == [int(c)] else None, (DIGITS,)),
    Kind("raise", LIST, LIST, "[v + {} for v in x]",
         lambda v, c: [i + int(c) for i in v], lambda v, c: [i - int(c) for i in v], ("123",)),
    Kind("top", LIST, INT, "max(x)", max, lambda v: [v]),
    Kind("low", LIST, INT, "min(x)", min, lambda v: [v]),
    Kind("first", LIST, INT, "x[0]", lambda v: v[0], lambda v: [v]),
    Kind("last", LIST, INT, "x[-1]", lambda v: v[-1], lambda v: [v]),
    Kind("more", INT, INT, "x + {}",
         lambda v, c: v + int(c), lambda v, c: v - int(c) if v >= int(c) else None, ("123456789",)),
    Kind("twice", INT, INT, "x * 2", lambda v: v * 2, lambda v: v // 2 if v % 2 == 0 else None),
    Kind("box", INT, LIST, "[x]", lambda v: [v], lambda v: v[0] if len(v) == 1 else None),
    Kind("pair", INT, LIST, "[x, {}]",
         lambda v, c: [v, int(c)], lambda v, c: v[0] if len(v) == 2 and v[1] == int(c) else None, (DIGITS,)),
    Kind("count", INT, LIST, "list(range(x))",
         lambda v: list(range(v)), lambda v: len(v) if v == list(range(len(v))) and v else None),
)
# fmt: on


@dataclass(frozen=True)
class Op:
    """One operation of a program: a kind with its constants filled in."""

    kind: Kind
    constants: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return self.kind.template.format(*self.constants)

    @property
    def hint(self) -> str:
        """The operation in words, as induction messages name it."""
        return " ".join((self.kind.name, *self.constants))

    def apply(self, value: Value) -> Value:
        return self.kind.forth(value, *self.constants)

    def undo(self, value: Value) -> Value | None:
        """One value that `apply` takes to `value`, the same every time; None where the canonical way back fails."""
        if type_of(value) != self.kind.gives:
            return None
        before = self.kind.back(value, *self.constants)
        return before if before is not None and fits(before) and self.apply(before) == value else None


def type_of(value: Value) -> str:
    return INT if isinstance(value, int) else STR if isinstance(value, str) else LIST


def fits(value: Value) -> bool:
    """Whether a value is small enough for this world, and not empty."""
    if isinstance(value, int):
        return 0 <= value <= MAX_INT
    if not 1 <= len(value) <= MAX_ITEMS:
        return False
    return isinstance(value, str) or all(isinstance(item, int) and 0 <= item <= MAX_INT for item in value)


def program_text(ops: tuple[Op, ...]) -> str:
    return "\n".join(("def f(x):", *(f"    x = {op.text}" for op in ops), "    return x"))


def states(ops: tuple[Op, ...], value: Value) -> list[Value] | None:
    """The input and the value after each operation; None when one does not fit."""
    found = [value]
    for op in ops:
        found.append(op.apply(found[-1]))
        if not fits(found[-1]):
            return None
    return found


_CHAIN = re.compile(r"def \w+\(x\):\n(?P<steps>(?:    x = .*\n)*)    return (?P<last>.*)")
_PATTERNS = {
    re.compile(re.escape(kind.template).replace(r"'\{\}'", r"'[^']*'").replace(r"\{\}", r"\d+")): kind.name
    for kind in KINDS
}


@lru_cache(maxsize=65536)
def skeleton(program: str) -> tuple[str, ...] | None:
    """The kinds of a program in order, or None for what is not a plain chain of this language's operations."""
    try:
        found = _CHAIN.fullmatch(ast.unparse(ast.parse(program)))
    except (SyntaxError, ValueError):
        return None
    if found is None:
        return None
    texts = re.findall("    x = (.*)\n", found["steps"]) + ([] if found["last"] == "x" else [found["last"]])
    names = [next((name for pattern, name in _PATTERNS.items() if pattern.fullmatch(text)), None) for text in texts]
    return None if None in names else tuple(names)


PAIR_SHARE, TRIPLE_SHARE = 0.15, 0.15  # shares of the ordered pairs and triples of operation kinds that are held out


def _draw(names: tuple[str, ...]) -> float:
    """A number in [0, 1) that these names alone decide."""
    return int.from_bytes(hashlib.sha256(" ".join(names).encode()).digest()[:4], "big") / 2**32


def held_skeleton(names: tuple[str, ...]) -> bool:
    """Whether a chain contains a held-out pair or triple."""
    pairs, triples = pairwise(names), zip(names, names[1:], names[2:], strict=False)
    return any(_draw(pair) < PAIR_SHARE for pair in pairs) or any(_draw(triple) < TRIPLE_SHARE for triple in triples)


def is_reserved(program: str) -> bool:
    """Whether a program must stay out of the warm start and of the buffers."""
    names = skeleton(program)
    return names is None or held_skeleton(names)


def depth(task: Task) -> int:
    """How many operations the task's program composes (0 for identity; -1 for a program outside the language)."""
    names = skeleton(task.program)
    return -1 if names is None else len(names)


# ---------------------------------------------------------------- drawing programs, inputs and tasks
#
# The number of composed operations sets the difficulty. `reserved` chooses sides: False gives only programs that
# training may see, True only held-out ones, None either.

MAX_TRIES = 2000
INDUCTION_INPUTS, INDUCTION_SHOWN = 6, 3
TYPE_WEIGHTS = {STR: 0.5, LIST: 0.4, INT: 0.1}
_TO_INT_WEIGHT = 0.35

_BY_TYPE = {t: [kind for kind in KINDS if kind.takes == t] for t in (STR, LIST, INT)}
_WEIGHTS = {t: [_TO_INT_WEIGHT if k.gives == INT and t != INT else 1.0 for k in kinds] for t, kinds in _BY_TYPE.items()}


def draw_value(rng: random.Random, ops: tuple[Op, ...]) -> Value:
    """A small input for these operations: two to five letters, two to five digits, or an integer up to 9.

    A letter that the program replaces is more likely in it, so that replacing does something.
    """
    takes = ops[0].kind.takes if ops else STR
    if takes == INT:
        return rng.randint(1, 9)
    length = rng.randint(2, 5)
    if takes == LIST:
        return [rng.randint(0, 9) for _ in range(length)]
    value = [rng.choice(LETTERS) for _ in range(length)]
    replaced = [op.constants[0] for op in ops if op.kind.name == "turn"]
    if replaced and rng.random() < 0.8:
        spot = rng.randrange(length)
        value[spot] = rng.choice(replaced)
    return "".join(value)


def draw_op(rng: random.Random, takes: str) -> Op:
    """One operation on values of the type `takes`, with constants."""
    kind = rng.choices(_BY_TYPE[takes], _WEIGHTS[takes])[0]
    constants: list[str] = []
    for hole in kind.holes:
        constants.append(rng.choice([one for one in hole if one not in constants]))
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
        if run := states(ops, draw_value(rng, ops)):
            return ops, run
    raise ValueError(f"no runnable chain of {depth} operations in {MAX_TRIES} draws; ask for fewer operations")


def make_triplet(type_: str, ops: tuple[Op, ...], run: list[Value]) -> Triplet:
    """The task for a chain and its states (without an id)."""
    return Triplet(type=type_, program=program_text(ops), input=repr(run[0]), output=repr(run[-1]))


def draw_inputs(rng: random.Random, ops: tuple[Op, ...]) -> list[list[Value]] | None:
    """States for different inputs whose outputs are not all equal; None when the chain hardly allows it."""
    runs: list[list[Value]] = []
    for _ in range(12 * INDUCTION_INPUTS):
        if (run := states(ops, draw_value(rng, ops))) and run[0] not in [known[0] for known in runs]:
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
        if runs := draw_inputs(rng, ops):
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
