"""Values on the wire: what may cross between trainer and child, how it is written, and when two values are equal.

Exact builtin types only: a subclass (IntEnum, namedtuple, defaultdict, a `str` child) is refused, never normalised.
Lists are arrays. Other types are one-key objects: t tuple, d pairs, s set, z frozenset, i big int (hex), f inf, b
bytes, c complex. The child runs this file by path.
"""

from __future__ import annotations

import struct
from functools import partial
from json import JSONDecoder
from json.encoder import encode_basestring_ascii as _quote  # type: ignore[attr-defined]
from math import inf
from typing import Any, Final, NamedTuple


class Caps(NamedTuple):
    """What one value may have at most."""

    size: int = 65536  # characters of its text
    nodes: int = 20000
    depth: int = 40
    int_bits: int = 4096
    hashed: int = 1000  # elements of a set or dict: 9,000 colliding keys cost 0.9 s to build, 1,000 cost 9 ms


CAPS: Final = Caps()
UNCAPPED: Final = Caps(1 << 40, 1 << 40, 200, 1 << 40, 1 << 40)  # benchmarks' right answers: long dicts and integers
ROOM: Final = 1 << 20
"""Bytes of answers after which a child stops; what is left runs in another."""
PLAIN: Final = 7
"""Exit status of a child that found its program `plain`; any other says nothing."""

START: Final = struct.Struct("=QddQ")
"""From trainer to fork server: id, CPU seconds, wall seconds, bytes of memory."""
REPORT: Final = struct.Struct("=QBid")
"""From fork server to trainer: id, one of the marks below, wait status, CPU seconds."""
ENDED, TIMED_OUT, ASLEEP, RUNNING, NO_FORK = range(5)

ALLOWED_IMPORTS: Final = frozenset(
    "math cmath itertools functools operator collections heapq bisect string re copy json statistics fractions decimal "
    "numbers typing dataclasses enum abc array textwrap".split()
)
"""Modules a program may import: deterministic, pure, and present in the sandbox."""

NOT_LITERAL: Final = "output_not_literal"
TOO_LONG: Final = "output_too_long"
NOT_A_NUMBER: Final = "not_a_number"
_JSON_INT: Final = 1 << 53


class WireError(ValueError):
    """A value that may not cross. `reason` is one of the three codes above."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class _Writer:
    """Writes one value; `size` (characters) and `nodes` count down. `ordered` sorts dicts too (canonical text)."""

    def __init__(self, caps: Caps, ordered: bool = False) -> None:
        self.size, self.nodes, self.depth, self.int_bits, self.hashed, self.ordered = *caps, ordered

    def write(self, value: Any, level: int = 0) -> str:
        self.nodes -= 1
        if self.nodes < 0:
            raise WireError(TOO_LONG, "too many values inside one value")
        kind = type(value)
        if value is None:
            return "null"
        if kind is bool:
            return "true" if value else "false"
        if kind is int:
            return self._int(value)
        if kind is str:
            return self._str(value)
        if kind is float and value == value:
            return repr(value) if value not in (inf, -inf) else f'{{"f":"{value!r}"}}'
        if level >= self.depth and kind in (list, tuple, dict, set, frozenset):
            raise self._too_deep(value)
        if kind is list:
            return f"[{self._items(value, level)}]"
        if kind is tuple:
            return f'{{"t":[{self._items(value, level)}]}}'
        if kind is dict:
            return self._dict(value, level)
        if kind is set or kind is frozenset:
            if len(value) > self.hashed:
                raise WireError(TOO_LONG, f"a set of more than {self.hashed} elements")
            texts = sorted([self.write(item, level + 1) for item in value])
            return f'{{"{"s" if kind is set else "z"}":[{",".join(texts)}]}}'
        if kind is bytes:
            self._take(2 * len(value), "bytes too long")
            return f'{{"b":"{value.hex()}"}}'
        if kind is complex and value == value:
            return f'{{"c":["{value.real!r}","{value.imag!r}"]}}'
        if kind is complex or kind is float:
            raise WireError(NOT_A_NUMBER, "not a number")
        name = getattr(kind, "__name__", "?")
        raise WireError(NOT_LITERAL, f"a value of type {name if type(name) is str else '?'} is not a literal")

    def _take(self, count: int, problem: str = "too much text") -> None:
        self.size -= count
        if self.size < 0:
            raise WireError(TOO_LONG, problem)

    def _items(self, items: list[Any] | tuple[Any, ...], level: int) -> str:
        if len(items) > self.nodes:
            raise WireError(TOO_LONG, "too many values inside one value")
        return ",".join([self.write(item, level + 1) for item in items])

    def _dict(self, value: dict[Any, Any], level: int) -> str:
        if len(value) > self.hashed:
            raise WireError(TOO_LONG, f"a dict of more than {self.hashed} keys")
        pairs = [f"[{self.write(key, level + 1)},{self.write(item, level + 1)}]" for key, item in value.items()]
        if self.ordered:
            pairs.sort()
        return f'{{"d":[{",".join(pairs)}]}}'

    def _int(self, value: int) -> str:
        if -_JSON_INT < value < _JSON_INT:
            return str(value)
        if value.bit_length() > self.int_bits:
            raise WireError(TOO_LONG, f"an integer of more than {self.int_bits} bits")
        text = f'{{"i":"{value:x}"}}'
        self._take(len(text))
        return text

    def _str(self, value: str) -> str:
        self._take(len(value))
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise WireError(NOT_LITERAL, "a lone surrogate is not text") from None
        return str(_quote(value))

    def _too_deep(self, value: Any) -> WireError:
        """Nested too deep, or holding itself (which no literal does): found among the first values below."""
        seen, waiting = {id(value)}, [value]
        while waiting and len(seen) < CAPS.nodes:
            holder = waiting.pop()
            for item in [*holder, *holder.values()] if type(holder) is dict else holder:
                if item is value:
                    return WireError(NOT_LITERAL, f"a {type(value).__name__} that holds itself")
                if type(item) in (list, tuple, dict) and id(item) not in seen:
                    seen.add(id(item))
                    waiting.append(item)
        return WireError(TOO_LONG, f"nested deeper than {self.depth}")


def encode(value: Any, caps: Caps = CAPS) -> str:
    """ASCII tagged JSON of a plain value. Raises `WireError` for anything else, or over a cap; never cuts.

    Examples:
        >>> encode([1, (2.5, "a"), {3: None}])
        '[1,{"t":[2.5,"a"]},{"d":[[3,null]]}]'
    """
    text = _Writer(caps).write(value)
    if len(text) > caps.size:
        raise WireError(TOO_LONG, f"{len(text)} characters, limit {caps.size}")
    return text


def encode_arguments(arguments: tuple[Any, ...]) -> str:
    """`encode` for an argument tuple: the tuple itself is not a level. Raises `WireError`."""
    return _Writer(CAPS).write(arguments, -1)


def _untag(pairs: list[tuple[str, Any]], caps: Caps) -> Any:
    """The value that a one-key JSON object stands for. ValueError or TypeError for any other object."""
    ((key, body),) = pairs
    if type(body) is list:
        if key == "t":
            return tuple(body)
        if key == "c" and len(body) == 2 and type(body[0]) is type(body[1]) is str:
            return complex(float(body[0]), float(body[1]))
        if key in ("s", "z", "d") and len(body) <= caps.hashed:
            value = set(body) if key != "d" else dict([pair for pair in body if type(pair) is list and len(pair) == 2])
            if len(value) == len(body):  # nothing is there twice
                return frozenset(value) if key == "z" else value
    elif type(body) is str:
        if key == "f" and body in ("inf", "-inf"):
            return float(body)
        if key == "i" and len(body) <= caps.int_bits // 4 + 1:
            return int(body, 16)
        if key == "b":
            return bytes.fromhex(body)
    raise ValueError("an unknown object")


_decoders = {c: JSONDecoder(object_pairs_hook=partial(_untag, caps=c), parse_constant=int) for c in (CAPS, UNCAPPED)}
"""`int` refuses NaN and Infinity, which JSON does not have."""


def parse(text: str, caps: Caps = CAPS) -> Any:
    """The value, freshly made, of what `encode` wrote, or of another spelling of it. Raises `WireError`."""
    try:
        return _decoders[caps].decode(text)
    except (ValueError, TypeError, RecursionError) as error:  # TypeError: an element cannot be hashed
        raise WireError(NOT_LITERAL, f"not a value: {error}"[:200]) from None


def decode(text: str) -> Any:
    """The value of `text`, which must be exactly what `encode` writes for it. Raises `WireError` and nothing else.

    Examples:
        >>> decode('{"t":[2.5,"a"]}')
        (2.5, 'a')
    """
    if len(text) > CAPS.size:
        raise WireError(TOO_LONG, f"{len(text)} characters, limit {CAPS.size}")
    value = parse(text)
    if encode(value) != text:
        raise WireError(NOT_LITERAL, "not canonical")
    return value


def canonical(value: Any) -> str:
    """One text per value: types kept apart, sets and dicts sorted. Raises `WireError` for what is not plain."""
    return _Writer(CAPS._replace(size=1 << 30, nodes=1 << 30), ordered=True).write(value)


def compare(a: Any, b: Any, mode: str = "python") -> bool:
    """Equality of plain values. `python`: `==` (True == 1 == 1.0). `typed`: types and the sign of zero count. NaN:
    never.

    Examples:
        >>> compare([1, True], [1.0, 1]), compare([1, True], [1.0, 1], mode="typed")
        (True, False)
    """
    if mode not in ("python", "typed"):
        raise ValueError(f"unknown equality mode {mode!r}: use 'python' or 'typed'")
    try:
        same = canonical(a) == canonical(b)
    except WireError:
        return False
    return same or (mode == "python" and bool(a == b))


def render(value: Any) -> str:
    """Source text in `repr` style, the same on every run: sets are written in canonical order. Raises `WireError`.

    Examples:
        >>> render({"b", "a"}), render({1: {"x"}})
        ("{'a', 'b'}", "{1: {'x'}}")
    """
    canonical(value)
    return _render(value)


def _render(value: Any) -> str:
    kind = type(value)
    if kind is list:
        return f"[{', '.join(map(_render, value))}]"
    if kind is tuple:
        return f"({_render(value[0])},)" if len(value) == 1 else f"({', '.join(map(_render, value))})"
    if kind is dict:
        return "{" + ", ".join(f"{_render(key)}: {_render(item)}" for key, item in value.items()) + "}"
    if kind is set or kind is frozenset:
        kinds = {type(item) for item in value}  # others have no total order (frozensets compare by inclusion)
        natural = kinds <= {int, float, bool} or kinds == {str}
        items = [_render(item) for item in (sorted(value) if natural else sorted(value, key=canonical))]
        if kind is frozenset:
            return f"frozenset({{{', '.join(items)}}})" if items else "frozenset()"
        return f"{{{', '.join(items)}}}" if items else "set()"
    return repr(value)
