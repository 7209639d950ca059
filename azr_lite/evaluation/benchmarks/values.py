"""Values that a scored program returned, as text: written beside the program, read and compared outside.

Comes in: any object (`encode`, in the confined process), or bytes that process wrote (`decode`).  Goes out: one line of tagged
JSON; builtin values.  The tags are those of `sandbox/wire.py`; the caps are not: reference answers have integers of 100,000 bits.
Subclasses are written as what they are underneath (a Counter as a dict, a numpy number as a number): on the line there is no
class left that could lie about equality.  What has no plain form becomes an `Opaque`, equal to nothing.
Not covered: which values are right (`second_judge.py`).  Imports only the standard library: the confined process runs it by path.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping, Set
from decimal import Decimal
from fractions import Fraction
from json.encoder import encode_basestring_ascii as _quote  # type: ignore[attr-defined]
from typing import Any, Final

_JSON_INT: Final = 1 << 53
DEPTH: Final = 200


class Unreadable(ValueError):
    """A line that `encode` would not write."""


class Opaque:
    """Something that is not None and has no plain form; not even equal to itself."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


def encode(value: Any, level: int = 0) -> str:
    """The value as one line of ASCII. RecursionError for what is nested deeper than 200."""
    if level > DEPTH:
        raise RecursionError("nested too deep")
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return str(_quote(str.__str__(value)))
    if isinstance(value, int):
        number = int.__index__(value)
        return str(number) if -_JSON_INT < number < _JSON_INT else f'{{"i":"{number:x}"}}'
    if isinstance(value, float):
        return _float(float.__float__(value))
    if isinstance(value, complex):
        return f'{{"c":[{_float(value.real)},{_float(value.imag)}]}}'
    if isinstance(value, list):
        return f"[{','.join([encode(item, level + 1) for item in list.__iter__(value)])}]"
    if isinstance(value, tuple):
        return f'{{"t":[{",".join([encode(item, level + 1) for item in tuple.__iter__(value)])}]}}'
    if isinstance(value, dict):
        pairs = [f"[{encode(key, level + 1)},{encode(item, level + 1)}]" for key, item in dict.items(value)]
        return f'{{"d":[{",".join(pairs)}]}}'
    if isinstance(value, Set):
        return f'{{"s":[{",".join(sorted([encode(item, level + 1) for item in value]))}]}}'
    if isinstance(value, bytes | bytearray):
        return f'{{"b":"{bytes(value).hex()}"}}'
    if isinstance(value, Fraction):
        return f'{{"q":["{value.numerator:x}","{value.denominator:x}"]}}'
    if isinstance(value, Decimal):
        return f'{{"m":{_quote(str(value))}}}'
    if type(value).__module__ == "numpy" and callable(getattr(value, "tolist", None)):
        return encode(value.tolist(), level + 1)
    if isinstance(value, Mapping) and not isinstance(value, deque):
        return encode(dict(value.items()), level + 1)
    return '{"o":null}'


def _float(value: float) -> str:
    return repr(value) if math.isfinite(value) else f'{{"f":"{value!r}"}}'


class _Tag:
    __slots__ = ("body", "key")

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        if len(pairs) != 1:
            raise Unreadable("an object must have one key")
        self.key, self.body = pairs[0]


def _int_token(text: str) -> int:
    if len(text) > 17:
        raise Unreadable("number too long")
    return int(text)


def _float_token(text: str) -> float:
    if len(text) > 30:
        raise Unreadable("number too long")
    return float(text)


def _no_token(text: str) -> None:
    raise Unreadable(f"{text} is not JSON")


_reader = json.JSONDecoder(
    object_pairs_hook=_Tag, parse_int=_int_token, parse_float=_float_token, parse_constant=_no_token
)


def decode(text: str) -> Any:
    """The value of a line that nobody vouches for. Raises `Unreadable` and nothing else; its cost is bounded by its length."""
    try:
        return _build(_reader.decode(text), 0)
    except (ValueError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}"[:200]) from None


def _build(tree: Any, level: int) -> Any:
    if level > DEPTH:
        raise Unreadable("nested too deep")
    if type(tree) is list:
        return [_build(item, level + 1) for item in tree]
    if type(tree) is not _Tag:
        return tree
    key, body = tree.key, tree.body
    if key == "t" and type(body) is list:
        return tuple([_build(item, level + 1) for item in body])
    if key == "s" and type(body) is list:
        return {_hashable(_build(item, level + 1)) for item in body}
    if key == "d" and type(body) is list and all(type(pair) is list and len(pair) == 2 for pair in body):
        return {_hashable(_build(key, level + 1)): _build(item, level + 1) for key, item in body}
    if key == "i" and type(body) is str:
        return int(body, 16)
    if key == "f" and body in ("inf", "-inf", "nan"):
        return float(body)
    if key == "c" and type(body) is list and len(body) == 2:
        real, imaginary = (_build(part, level + 1) for part in body)
        if type(real) is type(imaginary) is float:
            return complex(real, imaginary)
    if key == "b" and type(body) is str:
        return bytes.fromhex(body)
    if key == "q" and type(body) is list and len(body) == 2 and all(type(part) is str for part in body):
        return Fraction(int(body[0], 16), int(body[1], 16))
    if key == "m" and type(body) is str and len(body) < 10_000 and "e" not in body.lower():
        return Decimal(body)
    if key == "o":
        return Opaque()
    raise Unreadable("unknown tag")


def _hashable(value: Any) -> Any:
    return frozenset(value) if type(value) is set else value
