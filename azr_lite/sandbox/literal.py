"""Strict reader of Python literals in model-written text: a plain value or `LiteralError`, within milliseconds.

Whatever would have to be evaluated is refused: calls (but `set(...)`, `frozenset(...)`, `float('inf')`), names,
attributes, operators, comprehensions, f-strings, keyword arguments. Nothing is ever evaluated or compiled.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection
from typing import Any, Final

from azr_lite.sandbox.wire import CAPS

MAX_TEXT: Final = 4096
MAX_DIGITS: Final = 1234
"""Decimal digits of the largest integer that may cross the wire (4,096 bits)."""

_SPACE = re.compile(r"(?:[ \t\r\n\f]+|#[^\n]*)*")
_STRING = re.compile(
    r"""(?P<prefix>(?i:|[rbu]|br|rb))(?P<quote>'''|\"\"\"|'(?!'')|"(?!""))(?P<body>(?:\\.|[^\\])*?)(?P=quote)""",
    re.DOTALL,
)
_QUOTE = re.compile(r"""(?i:|[rbu]|br|rb)['"]""")
_ESCAPE = re.compile(
    r"\\([0-7]{1,3}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|N\{[A-Za-z0-9 -]{1,100}\}|.)", re.DOTALL
)
_NUMBER = re.compile(
    r"0[xX](?:_?[0-9a-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+"
    r"|(?:[0-9](?:_?[0-9])*(?:\.(?:[0-9](?:_?[0-9])*)?)?|\.[0-9](?:_?[0-9])*)(?:[eE][+-]?[0-9](?:_?[0-9])*)?[jJ]?"
    r"|infj?|nan"
)
_INFINITY = re.compile(r"float\(\s*(?P<quote>['\"])(?P<sign>[+-]?)inf(?P=quote)\s*\)")
_NAME = re.compile(r"[^\W\d]\w*")
_CONSTANTS: Final[dict[str, Any]] = {"None": None, "True": True, "False": False}
_ESCAPES: Final = {"\n": "", **dict(zip("\\'\"abfnrtv", "\\'\"\a\b\f\n\r\t\v", strict=True))}


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
    items, comma = _Reader(text, max_text).items_to_end()
    return items[0] if len(items) == 1 and not comma else tuple(items)


def read_arguments(text: str, max_text: int = MAX_TEXT) -> tuple[Any, ...]:
    """The positional arguments written between a call's brackets: ``1, 2`` is two, ``(1, 2)`` is one. Raises
    `LiteralError`.

    Examples:
        >>> read_arguments("1, 2"), read_arguments("(1, 2)")
        ((1, 2), ((1, 2),))
    """
    return tuple(_Reader(text, max_text).items_to_end()[0])


class _Reader:
    def __init__(self, text: str, max_text: int) -> None:
        if type(text) is not str:
            raise LiteralError("expected text")
        if len(text) > max_text:
            raise LiteralError(f"{len(text)} characters, limit {max_text}")
        self.text, self.at = text, 0

    def items_to_end(self) -> tuple[list[Any], bool]:
        items, comma = self._items("", 0)
        if not items:
            raise LiteralError("expected a literal, found nothing")
        return items, comma

    def _fail(self, what: str) -> LiteralError:
        found = ascii(self.text[self.at : self.at + 20]) if self.at < len(self.text) else "the end"
        return LiteralError(f"expected {what}, found {found} at character {self.at}")

    def _peek(self) -> str:
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
        return self.text[self.at : self.at + 1]

    def _take(self, expected: str) -> None:
        if self._peek() != expected:
            raise self._fail(f"'{expected}'")
        self.at += 1

    def _items(self, close: str, depth: int) -> tuple[list[Any], bool]:
        """Values up to `close`, which is taken ("" = end of text), and whether a comma stood after the last."""
        items: list[Any] = []
        comma = True
        while self._peek() != close:
            if not comma:
                raise self._fail("',' or the end" if not close else f"',' or '{close}'")
            items.append(self._value(depth))
            comma = self._peek() == ","
            self.at += comma
        self.at += len(close)
        return items, comma and bool(items)

    def _value(self, depth: int) -> Any:
        char = self._peek()
        if depth >= CAPS.depth and char in ("[", "(", "{", "s", "f"):
            raise LiteralError(f"brackets nested deeper than {CAPS.depth}")
        if char == "[":
            self.at += 1
            return self._items("]", depth + 1)[0]
        if char == "(":
            self.at += 1
            items, comma = self._items(")", depth + 1)
            return items[0] if len(items) == 1 and not comma else tuple(items)
        if char == "{":
            self.at += 1
            return self._braces(depth + 1)
        match = _STRING.match(self.text, self.at)
        if match:
            return self._strings(match, depth)
        if _QUOTE.match(self.text, self.at):
            raise LiteralError("a string that does not end")
        if char in "+-.0123456789" and char:
            return self._number()
        return self._name(depth)

    def _braces(self, depth: int) -> dict[Any, Any] | set[Any]:
        """A dict or a set, from behind its opening brace."""
        entries: list[Any] = []
        keyed = self._peek() == "}"  # {} is a dict
        comma = True
        while self._peek() != "}":
            if not comma:
                raise self._fail("'}'" if keyed else "',' or '}'")
            entry = self._value(depth)
            keyed = keyed or (not entries and self._peek() == ":")
            if keyed:
                self._take(":")
                entry = (entry, self._value(depth))
            entries.append(entry)
            comma = self._peek() == ","
            self.at += comma
        self.at += 1
        return _hashed(dict if keyed else set, entries)

    def _name(self, depth: int) -> Any:
        match = _NAME.match(self.text, self.at)
        if not match:
            raise self._fail("a literal")
        name = match[0]
        if name in ("set", "frozenset"):
            self.at = match.end()
            self._take("(")
            items, _ = self._items(")", depth + 1)
            if items and (len(items) > 1 or type(items[0]) not in (set, list, tuple, frozenset)):
                raise LiteralError(f"only {name}() and {name}([...]) are literals, not {name}(...)")
            return _hashed(set if name == "set" else frozenset, items[0] if items else ())
        if spelled := _INFINITY.match(self.text, self.at):
            self.at = spelled.end()
            return float(spelled["sign"] + "inf")
        if name in _CONSTANTS:
            self.at = match.end()
            return _CONSTANTS[name]
        if name in ("inf", "infj", "nan", "nanj"):
            return self._number()
        raise self._fail("a literal")

    def _number(self) -> Any:
        negative = self._peek() == "-"
        value, imaginary = self._signed()
        if imaginary:
            return complex(0.0, value)
        if self._peek() not in ("+", "-"):
            return value
        second, imaginary = self._signed()
        if not imaginary:
            raise self._fail("a literal, not a sum")
        try:  # (-0+1j): as `repr` means it; Python's own reader drops the sign
            return complex(value or (-0.0 if negative else 0.0), second)
        except OverflowError:
            raise LiteralError("integer too large for a complex number") from None

    def _signed(self) -> tuple[Any, bool]:
        """One number with at most one sign, and whether it is imaginary (then as a float)."""
        sign = self._peek()
        self.at += sign in ("+", "-")
        self._peek()
        match = _NUMBER.match(self.text, self.at)
        if not match:
            raise self._fail("a number")
        if match[0] == "nan":
            raise LiteralError("nan is never equal to itself")
        self.at = match.end()
        following = self.text[self.at : self.at + 1]
        if following.isalnum() or following in ("_", "."):
            raise self._fail("the end of the number")
        return _convert(match[0].replace("_", "").lower(), "-" if sign == "-" else "")

    def _strings(self, match: re.Match[str] | None, depth: int) -> str | bytes:
        """Adjacent string literals, joined as Python joins them; outside brackets only on one line."""
        parts: list[Any] = []
        while match:
            end = self.at = match.end()
            parts.append(_string(match["prefix"].lower(), match["quote"], match["body"]))
            self._peek()
            match = _STRING.match(self.text, self.at)
            if match and not depth and "\n" in self.text[end : self.at]:
                raise self._fail("',' between two strings on two lines")
        if len({type(part) for part in parts}) > 1:
            raise LiteralError("bytes and text side by side")
        return b"".join(parts) if type(parts[0]) is bytes else "".join(parts)


def _hashed(kind: Callable[[Collection[Any]], Any], items: Collection[Any]) -> Any:
    if len(items) > CAPS.hashed:
        raise LiteralError(f"more than {CAPS.hashed} elements in one set or dict")
    try:
        return kind(items)
    except TypeError:
        raise LiteralError("a list, dict or set cannot be hashed") from None


def _convert(body: str, sign: str) -> tuple[Any, bool]:
    """What the digits of a number say, and whether it is imaginary."""
    if body[:2] in ("0x", "0o", "0b"):
        if len(body) > 4 * MAX_DIGITS:
            raise LiteralError("integer too long")
        value = int(sign + body, 0)
    elif body.endswith("j"):
        return float(sign + body[:-1]), True
    elif not body.isdecimal():
        return float(sign + body), False
    elif len(body) > MAX_DIGITS:
        raise LiteralError(f"{len(body)} digits, limit {MAX_DIGITS}")
    elif body[0] == "0" and body.strip("0"):
        raise LiteralError("an integer may not start with 0")
    else:
        value = int(sign + body)
    if value.bit_length() > CAPS.int_bits:
        raise LiteralError(f"an integer of more than {CAPS.int_bits} bits")
    return value, False


def _string(prefix: str, quote: str, body: str) -> str | bytes:
    binary = "b" in prefix
    if len(quote) == 1 and "\n" in body and "\n" in re.sub(r"(?s)\\.", "", body):
        raise LiteralError("a string that does not end")
    if binary and not body.isascii():
        raise LiteralError("bytes may only hold ASCII characters")
    if "r" not in prefix and "\\" in body:
        body = _ESCAPE.sub(lambda match: _escaped(match[1], binary), body)
    try:
        return body.encode("latin-1") if binary else body.encode().decode()
    except UnicodeEncodeError:
        raise LiteralError("a lone surrogate is not text") from None


def _escaped(code: str, binary: bool) -> str:
    """What a backslash and `code` mean."""
    kind, rest = code[0], code[1:]
    if code in _ESCAPES:
        return _ESCAPES[code]
    if kind in "01234567":
        return chr(int(code, 8) & 0xFF if binary else int(code, 8))
    if kind not in "xuUN" or (binary and kind != "x"):
        return "\\" + code
    try:
        return unicodedata.lookup(rest[1:-1]) if kind == "N" else chr(int(rest, 16))
    except (KeyError, ValueError, OverflowError):
        what = "an unknown \\N{...} name" if kind == "N" else f"a broken \\{kind} escape"
        raise LiteralError(what) from None
