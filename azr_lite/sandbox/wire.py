"""Values on the wire: what may cross between trainer and child, how it is written, and when two values are equal.

Exact builtin types only: a subclass (IntEnum, namedtuple, defaultdict, a `str` child) is refused, never normalised.
Lists are arrays. Other types are one-key objects: t tuple, d pairs, s set, z frozenset, i big int (hex), f inf, b
bytes, c complex. The child runs this file by path.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii as _quote  # type: ignore[attr-defined]
from math import inf
from typing import Any, Final

SIZE: Final = 65536
"""Characters of one value's text."""
DEPTH: Final = 40
NODES: Final = 20000
INT_BITS: Final = 4096
ROOM: Final = 1 << 20
"""Bytes of answers after which a child stops; what is left runs in another."""
PLAIN: Final = 7
"""Exit status of a child that found its program `plain`; any other says nothing."""
HASHED: Final = 1000
"""Elements of one set or dict: 9,000 colliding keys cost 0.9 s to build, 1,000 cost 9 ms."""

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
    """Writes one value; `left` counts nodes and characters down. `ordered` sorts dicts too (canonical text)."""

    def __init__(self, size: int, depth: int, nodes: int, ordered: bool) -> None:
        self.size, self.depth, self.nodes, self.ordered = size, depth, nodes, ordered

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
        if kind is float:
            return self._float(value)
        if level >= self.depth:
            raise _too_deep(value, self.depth)
        if kind is list:
            return f"[{self._items(value, level)}]"
        if kind is tuple:
            return f'{{"t":[{self._items(value, level)}]}}'
        if kind is dict:
            return self._dict(value, level)
        if kind is set or kind is frozenset:
            if len(value) > HASHED:
                raise WireError(TOO_LONG, f"a set of more than {HASHED} elements")
            texts = sorted([self.write(item, level + 1) for item in value])
            return f'{{"{"s" if kind is set else "z"}":[{",".join(texts)}]}}'
        if kind is bytes:
            if 2 * len(value) > self.size:
                raise WireError(TOO_LONG, "bytes too long")
            self.size -= 2 * len(value)
            return f'{{"b":"{value.hex()}"}}'
        if kind is complex:
            if value != value:
                raise WireError(NOT_A_NUMBER, "not a number")
            return f'{{"c":["{value.real!r}","{value.imag!r}"]}}'
        name = getattr(kind, "__name__", "?")
        raise WireError(NOT_LITERAL, f"a value of type {name if type(name) is str else '?'} is not a literal")

    def _items(self, items: list[Any] | tuple[Any, ...], level: int) -> str:
        if len(items) > self.nodes:
            raise WireError(TOO_LONG, "too many values inside one value")
        return ",".join([self.write(item, level + 1) for item in items])

    def _dict(self, value: dict[Any, Any], level: int) -> str:
        if len(value) > HASHED:
            raise WireError(TOO_LONG, f"a dict of more than {HASHED} keys")
        pairs = [f"[{self.write(key, level + 1)},{self.write(item, level + 1)}]" for key, item in value.items()]
        if self.ordered:
            pairs.sort()
        return f'{{"d":[{",".join(pairs)}]}}'

    def _int(self, value: int) -> str:
        if -_JSON_INT < value < _JSON_INT:
            return str(value)
        if value.bit_length() > INT_BITS:
            raise WireError(TOO_LONG, f"an integer of more than {INT_BITS} bits")
        text = f'{{"i":"{value:x}"}}'
        self.size -= len(text)
        if self.size < 0:
            raise WireError(TOO_LONG, "too much text")
        return text

    def _float(self, value: float) -> str:
        if value != value:
            raise WireError(NOT_A_NUMBER, "not a number")
        if value in (inf, -inf):
            return '{"f":"inf"}' if value > 0 else '{"f":"-inf"}'
        return repr(value)

    def _str(self, value: str) -> str:
        self.size -= len(value)
        if self.size < 0:
            raise WireError(TOO_LONG, "too much text")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise WireError(NOT_LITERAL, "a lone surrogate is not text") from None
        return str(_quote(value))


def _too_deep(value: Any, depth: int) -> WireError:
    """Nested too deep, or holding itself (which no literal does): found among the first `NODES` values below."""
    seen, waiting = {id(value)}, [value]
    while waiting and len(seen) < NODES:
        holder = waiting.pop()
        for item in [*holder, *holder.values()] if type(holder) is dict else holder:
            if item is value:
                return WireError(NOT_LITERAL, f"a {type(value).__name__} that holds itself")
            if type(item) in (list, tuple, dict) and id(item) not in seen:
                seen.add(id(item))
                waiting.append(item)
    return WireError(TOO_LONG, f"nested deeper than {depth}")


def encode(value: Any, size: int = SIZE, depth: int = DEPTH, nodes: int = NODES) -> str:
    """ASCII tagged JSON of a plain value. Raises `WireError` for anything else, or over a cap; never cuts.

    Examples:
        >>> encode([1, (2.5, "a"), {3: None}])
        '[1,{"t":[2.5,"a"]},{"d":[[3,null]]}]'
    """
    text = _Writer(size, depth, nodes, False).write(value)
    if len(text) > size:
        raise WireError(TOO_LONG, f"{len(text)} characters, limit {size}")
    return text


def encode_arguments(arguments: tuple[Any, ...]) -> str:
    """`encode` for an argument tuple: the tuple itself is not a level. Raises `WireError`."""
    return _Writer(SIZE, DEPTH, NODES, False).write(arguments, -1)


def encode_request(program: str, entry: str, inputs: list[str], recursion: int, look: bool = False) -> bytes:
    """What a child reads; `inputs` come from `encode_arguments`. `look`: shall it say whether the program is plain?"""
    return f"[{json.dumps(program)},{json.dumps(entry)},[{','.join(inputs)}],{recursion},{json.dumps(look)}]".encode()


class Tag:
    """A one-key JSON object on its way to a value."""

    __slots__ = ("body", "key")

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        if len(pairs) != 1:
            raise WireError(NOT_LITERAL, "an object must have one key")
        self.key, self.body = pairs[0]


_decoder = json.JSONDecoder(object_pairs_hook=Tag)
"""What JSON does not have (NaN, Infinity) or writes otherwise (1e2) is not canonical: `decode` refuses it."""


def parse(text: str) -> Any:
    """JSON text to arrays, scalars and `Tag`s. Raises `WireError`."""
    try:
        return _decoder.decode(text)
    except (ValueError, RecursionError, MemoryError) as error:
        raise WireError(NOT_LITERAL, f"not JSON: {error}"[:200]) from None


def build(tree: Any, level: int = 0) -> Any:
    """A value, freshly made, from what `parse` gave. Raises `WireError`."""
    if type(tree) is not list and type(tree) is not Tag:
        return tree
    if level >= DEPTH:
        raise WireError(TOO_LONG, "nested too deep")
    if type(tree) is list:
        return [build(item, level + 1) for item in tree]
    key, body = tree.key, tree.body
    if key in ("t", "s", "z", "d") and type(body) is list:
        if key == "t":
            return tuple([build(item, level + 1) for item in body])
        return _hashed(key, body, level)
    try:
        if key == "c" and type(body) is list and len(body) == 2 and type(body[0]) is type(body[1]) is str:
            return complex(float(body[0]), float(body[1]))
        if key == "f" and body in ("inf", "-inf"):
            return float(body)
        if key == "i" and type(body) is str and len(body) <= INT_BITS // 4 + 1:
            return int(body, 16)
        if key == "b" and type(body) is str:
            return bytes.fromhex(body)
    except ValueError:
        pass
    raise WireError(NOT_LITERAL, "unknown tag")


def _hashed(key: str, body: list[Any], level: int) -> Any:
    if len(body) > HASHED:
        raise WireError(TOO_LONG, "too many elements")
    try:
        if key == "d":
            pairs = [build(pair, level) for pair in body if type(pair) is list and len(pair) == 2]
            value: Any = dict(pairs)
        else:
            value = {build(item, level + 1) for item in body}
    except TypeError:
        raise WireError(NOT_LITERAL, "an element cannot be hashed") from None
    if len(value) != len(body):
        raise WireError(NOT_LITERAL, "the same element twice")
    return frozenset(value) if key == "z" else value


def decode(text: str) -> Any:
    """The value of `text`, which must be exactly what `encode` writes for it. Raises `WireError` and nothing else.

    Examples:
        >>> decode('{"t":[2.5,"a"]}')
        (2.5, 'a')
    """
    if len(text) > SIZE:
        raise WireError(TOO_LONG, f"{len(text)} characters, limit {SIZE}")
    value = build(parse(text))
    if encode(value) != text:
        raise WireError(NOT_LITERAL, "not canonical")
    return value


def canonical(value: Any) -> str:
    """One text per value: types kept apart, sets and dicts sorted. Raises `WireError` for what is not plain."""
    return _Writer(1 << 30, DEPTH, 1 << 30, True).write(value)


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
