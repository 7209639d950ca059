"""The mini-language: thirty one-line operations on short strings, short lists of small integers, and small integers.

A program is ``def f(x):``, one ``x = …`` per line, ``return x``: real Python, which the ordinary sandbox runs. Its
*skeleton* is the kinds of its operations in order. Some pairs and triples of kinds are held out for the evaluation.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from azr_lite.triplet import Task

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
    expression. `forth` does what the template says, `back` is a canonical way back (None where it fails). `holes`: the
    type of each constant ("letter" or "digit"). `digits`: those that may be constants.
    """

    name: str
    takes: str
    gives: str
    template: str
    forth: Callable[..., Value]
    back: Callable[..., Value | None]
    holes: tuple[str, ...] = ()
    digits: str = DIGITS


def _halves(v: Value) -> Value | None:
    half = len(v) // 2
    return v[:half] if v[:half] == v[half:] else None


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
    ("double", "x + x", lambda v: v + v, _halves),
)
"""Name, template, forth and back of the kinds that work on strings and on lists alike."""

_KINDS = (
    *(Kind(name, STR, STR, template, forth, back) for name, template, forth, back in _BOTH),
    *(Kind(name, LIST, LIST, template, forth, back) for name, template, forth, back in _BOTH),
    Kind("caps", STR, STR, "x.upper()", str.upper, lambda v: v.lower() if v == v.upper() else None),
    Kind("swap", STR, STR, "x.swapcase()", str.swapcase, lambda v: v.swapcase()),
    Kind("end", STR, STR, "x + '{}'", lambda v, c: v + c, lambda v, c: v[:-1] if v[-1:] == c else None, ("letter",)),
    Kind("start", STR, STR, "'{}' + x", lambda v, c: c + v, lambda v, c: v[1:] if v[:1] == c else None, ("letter",)),
    Kind("turn", STR, STR, "x.replace('{}', '{}')", str.replace, _replaced, ("letter", "letter")),
    Kind("order", STR, STR, "''.join(sorted(x))",
         lambda v: "".join(sorted(v)), lambda v: v if list(v) == sorted(v) else None),
    Kind("size", STR, INT, "len(x)", len, lambda v: "a" * v if 0 < v <= MAX_ITEMS else None),
    Kind("size", LIST, INT, "len(x)", len, lambda v: [1] * v if 0 < v <= MAX_ITEMS else None),
    Kind("sort", LIST, LIST, "sorted(x)", sorted, lambda v: v if v == sorted(v) else None),
    Kind("put", LIST, LIST, "x + [{}]",
         lambda v, c: [*v, int(c)], lambda v, c: v[:-1] if v[-1:] == [int(c)] else None, ("digit",)),
    Kind("push", LIST, LIST, "[{}] + x",
         lambda v, c: [int(c), *v], lambda v, c: v[1:] if v[:1] == [int(c)] else None, ("digit",)),
    Kind("raise", LIST, LIST, "[v + {} for v in x]",
         lambda v, c: [i + int(c) for i in v], lambda v, c: [i - int(c) for i in v], ("digit",), "123"),
    Kind("top", LIST, INT, "max(x)", max, lambda v: [v]),
    Kind("low", LIST, INT, "min(x)", min, lambda v: [v]),
    Kind("first", LIST, INT, "x[0]", lambda v: v[0], lambda v: [v]),
    Kind("last", LIST, INT, "x[-1]", lambda v: v[-1], lambda v: [v]),
    Kind("more", INT, INT, "x + {}",
         lambda v, c: v + int(c), lambda v, c: v - int(c) if v >= int(c) else None, ("digit",), "123456789"),
    Kind("twice", INT, INT, "x * 2", lambda v: v * 2, lambda v: v // 2 if v % 2 == 0 else None),
    Kind("box", INT, LIST, "[x]", lambda v: [v], lambda v: v[0] if len(v) == 1 else None),
    Kind("pair", INT, LIST, "[x, {}]",
         lambda v, c: [v, int(c)], lambda v, c: v[0] if len(v) == 2 and v[1] == int(c) else None, ("digit",)),
    Kind("count", INT, LIST, "list(range(x))",
         lambda v: list(range(v)), lambda v: len(v) if v == list(range(len(v))) and v else None),
)
# fmt: on
KINDS: dict[tuple[str, str], Kind] = {(kind.name, kind.takes): kind for kind in _KINDS}
"""By (name, type taken): some names work on strings and lists alike, with the same text."""


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


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.escape(template).replace(r"'\{\}'", r"('[^']*')").replace(r"\{\}", r"(\d+)"))


_PATTERNS = {_pattern(template): name for template, name in {k.template: k.name for k in _KINDS}.items()}


@lru_cache(maxsize=65536)
def skeleton(program: str) -> tuple[str, ...] | None:
    """The kinds of a program in order, or None for what is not a plain chain of this language's operations."""
    try:
        first, *steps, last = ast.unparse(ast.parse(program)).splitlines()
    except (SyntaxError, ValueError):
        return None
    known_form = re.fullmatch(r"def \w+\(x\):", first) and all(step.startswith("    x = ") for step in steps)
    if not known_form or not last.startswith("    return "):
        return None
    texts = [step.removeprefix("    x = ") for step in steps]
    if last != "    return x":
        texts.append(last.removeprefix("    return "))
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
