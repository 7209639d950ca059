"""The trusted reader: a hostile child's bytes to outcomes. It never raises, whatever the bytes."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from azr_lite.sandbox import wire
from azr_lite.sandbox.outcome import Limits, Outcome

MAX_ANSWER: Final = wire.ROOM + 8192
"""Bytes read from one child, not counting its last value; beyond it the child is killed and its run void."""

_OK: Final = b'{"s":"ok","v":'
_NOT_NAME = re.compile(r"[^A-Za-z0-9_]")
_NOT_PLAIN = re.compile(r"[^ -~]+")
_REJECTIONS: Final = ("forbidden_import", "syntax_error", "no_entry")
_VALUES: Final = (wire.NOT_LITERAL, wire.TOO_LONG, wire.NOT_A_NUMBER)


def clean(text: str, limit: int = 200) -> str:
    """Printable ASCII on one line: nothing that breaks a log, a prompt or a terminal."""
    return _NOT_PLAIN.sub(" ", text)[:limit].strip()


def read_answers(data: bytes, asked: int, limits: Limits, whole: bool) -> list[Outcome] | None:
    """Outcomes in the order of the lines. `whole`: the child ended by itself, so a half line is a lie and not an
    accident."""
    lines = data.split(b"\n")
    if lines.pop() and whole:
        return None
    if len(lines) > asked:
        return None
    outcomes: list[Outcome] = []
    for line in lines:
        outcome = _read(line, limits)
        if outcome is None:
            return None
        outcomes.append(outcome)
    return outcomes


def _read(line: bytes, limits: Limits) -> Outcome | None:
    try:
        text = line.decode("ascii")
        if line.startswith(_OK) and line.endswith(b"}"):
            return Outcome("ok", wire.decode(text[len(_OK) : -1], limits.output_bytes, limits.depth, limits.nodes))
        if len(line) > 8192:
            return None
        pairs: Any = json.loads(
            text, object_pairs_hook=list, parse_int=_refuse, parse_float=_refuse, parse_constant=_refuse
        )
    except (ValueError, RecursionError, MemoryError):
        return None
    return _failure(pairs)


def _failure(pairs: Any) -> Outcome | None:
    if type(pairs) is not list or not all(type(p) is tuple and type(p[1]) is str for p in pairs):
        return None
    keys, values = [key for key, _ in pairs], [value for _, value in pairs]
    if keys == ["s"]:
        return Outcome("memory", detail="MemoryError") if values == ["mem"] else None
    if keys != ["s", "t", "m"]:
        return None
    status, name, message = values
    if status == "exc":
        return Outcome(
            "exception", detail=f"{_NOT_NAME.sub('', name)[:64] or 'Exception'}: {clean(message)}".rstrip(": ")
        )
    if status == "rej" and name in _REJECTIONS:
        return Outcome("rejected", detail=f"{name}: {clean(message)}")
    if status == "value" and name in _VALUES:
        return Outcome("value", detail=f"{name}: {clean(message)}")
    return None


def _refuse(token: str) -> None:
    raise ValueError(f"{token[:20]} has no place here")
