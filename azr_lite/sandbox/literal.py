"""Strict reader of Python literals in model-written text: a plain value or `LiteralError`, within milliseconds.

Python's own parser reads the text; nothing is compiled or evaluated. Of its tree only literals are taken, and
`set(...)`, `frozenset(...)`, `float('inf')`, ``inf`` and ``(1+2j)``. All else that would have to be evaluated is
refused: other calls, names, attributes, operators, comprehensions, f-strings, keyword arguments.
"""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any, Final

MAX_TEXT: Final = 4096
MAX_DEPTH: Final = 40
MAX_BITS: Final = 4096
"""Of the largest integer that may cross the wire."""
MAX_HASHED: Final = 1000
_INFINITIES: Final = ("inf", "+inf", "-inf")


class LiteralError(ValueError):
    """Text that is not a literal, or one that is too long or too deep."""


def read_value(text: str, max_text: int = MAX_TEXT) -> Any:
    """The value of one literal; ``1, 2`` is a tuple as in Python. Raises `LiteralError`.

    Examples:
        >>> read_value("[1, -2.5, 'a']"), read_value("1, 2")
        ([1, -2.5, 'a'], (1, 2))
        >>> read_value("__import__('os')")
        Traceback (most recent call last):
        azr_lite.sandbox.literal.LiteralError: expected a literal, found "__import__('os')" at character 0
    """
    values, comma = _Reader(text, max_text).values()
    return values if comma else values[0]


def read_arguments(text: str, max_text: int = MAX_TEXT) -> tuple[Any, ...]:
    """The positional arguments written between a call's brackets: ``1, 2`` is two, ``(1, 2)`` is one. Raises
    `LiteralError`.

    Examples:
        >>> read_arguments("1, 2"), read_arguments("(1, 2)")
        ((1, 2), ((1, 2),))
    """
    return _Reader(text, max_text).values()[0]


class _Reader:
    """`lines`: those of the text, in bytes, as Python's parser counts places in it."""

    def __init__(self, text: str, max_text: int) -> None:
        if type(text) is not str:
            raise LiteralError("expected text")
        if len(text) > max_text:
            raise LiteralError(f"{len(text)} characters, limit {max_text}")
        self.lines = text.encode("utf-8", "replace").splitlines()
        try:
            with warnings.catch_warnings():  # about odd escapes
                warnings.simplefilter("ignore")
                self.tree = ast.parse(f"f(\n{text}\n)", mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            place = (getattr(error, "lineno", 0) or 2) - 2, (getattr(error, "offset", 0) or 1) - 1
            raise self._fail(*place) from None

    def values(self) -> tuple[tuple[Any, ...], bool]:
        """All values, and whether a comma stands between or after them."""
        match self.tree:
            case ast.Call(ast.Name("f"), [], []):
                raise LiteralError("expected a literal, found nothing")
            case ast.Call(ast.Name("f"), arguments, []):
                found = tuple(self._value(node, 0) for node in arguments)
                return found, len(found) > 1 or b"," in re.sub(rb"#[^\r\n]*", b"", self._after(arguments[0]))
        raise self._fail(0, 0)

    def _fail(self, line: int, column: int, what: str = "a literal") -> LiteralError:
        before, rest = b"\n".join([*self.lines[:line], b""]), b"\n".join(self.lines[line:])
        at, text = len((before + rest[:column]).decode(errors="replace")), rest[column:].decode(errors="replace")
        return LiteralError(f"expected {what}, found " + (f"{text[:20]!a} at character {at}" if text else "the end"))

    def _after(self, node: ast.expr) -> bytes:
        """The text behind a node."""
        end = node.end_lineno - 2  # type: ignore[operator]
        return b"\n".join([self.lines[end][node.end_col_offset :], *self.lines[end + 1 :]])

    def _value(self, node: ast.expr, depth: int) -> Any:
        if depth >= MAX_DEPTH and not isinstance(node, ast.Constant):
            raise LiteralError(f"brackets nested deeper than {MAX_DEPTH}")
        match node:
            case ast.Constant(str() | bytes() as value):
                return self._string(node, value, depth)
            case ast.Constant(None | True | False as value):
                return value
            case ast.List(nodes):
                return [self._value(one, depth + 1) for one in nodes]
            case ast.Tuple(nodes):
                return tuple(self._value(one, depth + 1) for one in nodes)
            case ast.Set(nodes):
                return _hashed(set, [self._value(one, depth + 1) for one in nodes])
            case ast.Dict(keys, nodes) if None not in keys:
                values = [self._value(one, depth + 1) for one in nodes]
                return _hashed(dict, list(zip([self._value(one, depth + 1) for one in keys], values, strict=True)))
            case ast.Call(ast.Name("float"), [ast.Constant(text)], []) if text in _INFINITIES:
                return float(text)
            case ast.Call(ast.Name("set" | "frozenset" as name), nodes, []) if len(nodes) <= 1:
                values = [self._value(one, depth + 1) for one in nodes]
                if values and type(values[0]) not in (set, list, tuple, frozenset):
                    raise LiteralError(f"only {name}() and {name}([...]) are literals, not {name}(...)")
                return _hashed(set if name == "set" else frozenset, values[0] if values else [])
        return self._number(node)

    def _string(self, node: ast.expr, value: str | bytes, depth: int) -> str | bytes:
        """Adjacent strings are one, as in Python; but outside brackets, only those on one line."""
        if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise LiteralError("a lone surrogate is not text")
        if depth == 0 and node.end_lineno != node.lineno and not self._after(node).lstrip().startswith(b")"):
            rest = self._after(node)
            own = b"\n".join(self.lines[node.lineno - 2 :])[node.col_offset :].removesuffix(rest)
            try:
                ast.parse(own, mode="eval")
            except SyntaxError:
                raise LiteralError("expected ',' between two strings on two lines") from None
        return value

    def _number(self, node: ast.expr) -> Any:
        """A number with at most one sign, or a complex number as `repr` writes it: ``(-0+1j)`` keeps both signs."""
        match node:
            case ast.BinOp(left, ast.Add() | ast.Sub(), right):
                real, imaginary = self._signed(left), self._signed(right)
                if isinstance(real, complex) or not isinstance(imaginary, complex) or isinstance(right, ast.UnaryOp):
                    raise self._fail(node.lineno - 2, node.col_offset, "a literal, not a sum")
                try:  # the 0 in (-0+1j) is an integer, which has no sign
                    real = float(real) or (-0.0 if _is_minus(left) else 0.0)
                except OverflowError:
                    raise LiteralError("integer too large for a complex number") from None
                return complex(real, -imaginary.imag if isinstance(node.op, ast.Sub) else imaginary.imag)
        return self._signed(node)

    def _signed(self, node: ast.expr) -> Any:
        plain = node.operand if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub) else node
        match plain:
            case ast.Constant(value) if type(value) in (int, float, complex):
                pass
            case ast.Name("inf" | "infj"):
                value = complex(0.0, float("inf")) if plain.id == "infj" else float("inf")
            case ast.Name("nan" | "nanj"):
                raise LiteralError("nan is never equal to itself")
            case _:
                raise self._fail(node.lineno - 2, node.col_offset)
        if type(value) is int and value.bit_length() > MAX_BITS:
            raise LiteralError(f"an integer of more than {MAX_BITS} bits")
        if not _is_minus(node):
            return value
        return complex(0.0, -value.imag) if isinstance(value, complex) else -value


def _is_minus(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)


def _hashed(kind: Any, items: Any) -> Any:
    if len(items) > MAX_HASHED:
        raise LiteralError(f"more than {MAX_HASHED} elements in one set or dict")
    try:
        return kind(items)
    except TypeError:
        raise LiteralError("a list, dict or set cannot be hashed") from None
