"""Runs in the jail: one scored program, and what it returns, told without judging.

Standard input: JSON ``{"program", "entry", "inputs", "seconds", "all_seconds"}``; `inputs` are encoded argument tuples.
Standard output: one JSON line per input, ``["v", value, class]``, ``["h", digest]`` of a long value, ``["o"]`` for a
value without a plain form, or ``["x", exception]`` (that ends it), at last ``["end", seconds of the slowest input]``.
Expected answers are never here; a program that writes these lines itself has only said what it returns.

With ``{"texts", "seconds"}`` it runs no program: it cleans texts as evalplus does, one line with text or null for each.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Set
from decimal import Decimal
from fractions import Fraction
from typing import Any

import wire  # type: ignore[import-not-found]  # a copy lies beside this file

LONG = 16 << 20  # characters; of a longer value only the digest is told: Mbpp/255 returns 0.9 GB


def main() -> None:
    request = json.load(sys.stdin.buffer)
    channel = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    (sanitize if "texts" in request else run)(request, channel)
    os._exit(0)


def run(request: dict[str, Any], channel: int) -> None:
    """Tell what the program answers to each input. Nothing more is told after a fault or when the time is over."""
    until, slowest = time.monotonic() + request["all_seconds"], 0.0

    def set_alarm() -> None:
        signal.setitimer(signal.ITIMER_REAL, max(min(request["seconds"], until - time.monotonic()), 0.01))

    try:
        set_alarm()
        space: dict[str, Any] = {}
        exec(compile(request["program"], "<program>", "exec"), space)
        for text in request["inputs"]:
            began = time.monotonic()
            set_alarm()
            tell_value(channel, space[request["entry"]](*wire.parse(text, wire.UNCAPPED)))
            slowest = max(slowest, time.monotonic() - began)
    except BaseException as error:
        return say(channel, "x", f"{type(error).__name__}: {str(error)[:200]}")
    say(channel, "end", slowest)


def tell_value(channel: int, value: Any) -> None:
    """`class` is empty for builtin types: evalplus grants its tolerance to equal types only."""
    try:
        exact = plain(value)
        name = "" if type(value) is type(exact) else type(value).__name__
        del value  # a long one is not held three times
        text = wire.encode(exact, wire.UNCAPPED)
    except (TypeError, wire.WireError):
        return say(channel, "o")
    del exact
    if len(text) > LONG:
        digest = hashlib.sha256()
        for start in range(0, len(text), LONG):
            digest.update(text[start : start + LONG].encode())
        return say(channel, "h", digest.hexdigest())
    write(channel, f'["v",{text},{json.dumps(name)}]\n')


def plain(value: Any, level: int = 0) -> Any:
    """The value in builtin types: a Counter as a dict, a numpy number as a number. No class is left that could lie
    about equality. TypeError for what has no plain form, RecursionError for nesting beyond the cap."""
    if level > wire.UNCAPPED.depth:
        raise RecursionError("nested too deep")
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float, complex, bytes, bytearray):
        if isinstance(value, kind):
            return bytes(value) if kind is bytearray else kind(value)
    if isinstance(value, list | tuple | Set):
        kind = list if isinstance(value, list) else tuple if isinstance(value, tuple) else frozenset if level else set
        return kind(plain(item, level + 1) for item in value)
    if isinstance(value, Mapping):
        return {plain(key, level + 1): plain(item, level + 1) for key, item in value.items()}
    if isinstance(value, Fraction | Decimal) and value == float(value):
        return float(value)
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        return value.item()
    raise TypeError(f"{type(value).__name__} has no plain form")


def sanitize(request: dict[str, Any], channel: int) -> None:
    """Each text in a process of its own, which an alarm ends."""
    from evalplus.sanitize import sanitize as clean

    for text, entry in request["texts"]:
        pid = os.fork()
        if pid == 0:
            signal.setitimer(signal.ITIMER_REAL, request["seconds"])
            write(channel, json.dumps(clean(text, entry)) + "\n")
            os._exit(0)
        if os.waitpid(pid, 0)[1] != 0:
            write(channel, "null\n")


def say(channel: int, *words: Any) -> None:
    write(channel, json.dumps(words) + "\n")


def write(channel: int, text: str) -> None:
    data = text.encode()
    while data:
        data = data[os.write(channel, data) :]


if __name__ == "__main__":
    main()
