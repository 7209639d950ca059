"""Runs in the jail: one scored program, and what it returns or prints, told without judging.

Standard input: JSON ``{"program", "entry", "before", "way", "parts", "seconds", "part_seconds"}``; a part is a list of
encoded argument tuples (way "call") or texts of standard input ("script"). Standard output: JSON lines, for each part
``["part", N]``, then one line per input, ``["v", value, class]``, ``["h", digest]`` of a long value, ``["o"]`` for a
value without a plain form, ``["p", printed text]`` or ``["x", exception]`` (the part ends there), at last ``["end",
seconds of the slowest input]``. Expected answers are never here; a program that writes these lines itself has only said
what it returns. Way "sanitize" runs no program: it cleans texts as evalplus does, one line ``["s", text or null]``
each.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping, Set
from decimal import Decimal
from fractions import Fraction
from typing import Any

import wire  # type: ignore[import-not-found]  # a copy lies beside this file

wire.HASHED = wire.INT_BITS = 1 << 40
wire.DEPTH = DEPTH = 200
PRINTED = 4 << 20
"""Bytes of a script's output that are kept; more than that is an exception."""
LONG = 16 << 20
"""Characters. Of a longer value only the digest is told: Mbpp/255 returns 0.9 GB, which nobody wants to read back."""


def main() -> None:
    request = json.load(sys.stdin.buffer)
    channel = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if request["way"] == "sanitize":
        return sanitize(request, channel)
    for number, inputs in enumerate(request["parts"]):
        in_child(run_part, request, number, inputs, channel)
    os._exit(0)


def in_child(work: Any, *arguments: Any) -> int:
    """The wait status: 0 when the work gave no fault. What a program leaves behind does not reach the next."""
    pid = os.fork()
    if pid == 0:
        fault: Any = True
        try:
            fault = work(*arguments)
        finally:
            os._exit(bool(fault))
    return os.waitpid(pid, 0)[1]


def run_part(request: dict[str, Any], number: int, inputs: list[str], channel: int) -> bool:
    """Whether anything failed; then the rest would only cost time."""
    say(channel, "part", number)
    until, slowest = time.monotonic() + request["part_seconds"], 0.0
    space: dict[str, Any] = {}
    try:
        if request["way"] == "call":
            alarm(request, until)
            exec(request["before"], space)
            exec(compile(request["program"], "<program>", "exec"), space)
            entry = find_entry(space, request["entry"])
        for text in inputs:
            began = time.monotonic()
            alarm(request, until)
            if request["way"] == "call":
                tell_value(channel, entry(*wire.build(wire.parse(text))))
            elif in_child(run_script, request, text, channel):
                return True
            slowest = max(slowest, time.monotonic() - began)
    except BaseException as error:
        say(channel, "x", f"{type(error).__name__}: {str(error)[:200]}")
        return True
    say(channel, "end", slowest)
    return False


def alarm(request: dict[str, Any], until: float) -> None:
    """The process dies after the time for one input, or with its part."""
    left = min(request["seconds"], until - time.monotonic())
    signal.setitimer(signal.ITIMER_REAL, max(left, 0.01))


def find_entry(space: dict[str, Any], name: str) -> Any:
    """The function, or the method of a class `Solution` that was asked for."""
    if name not in space and "Solution" in space:
        return getattr(space["Solution"](), name)
    return space[name]


def tell_value(channel: int, value: Any) -> None:
    """`class` is empty for builtin types: evalplus grants its tolerance to equal types only."""
    try:
        exact = plain(value)
        text = wire.encode(exact, size=1 << 40, depth=DEPTH, nodes=1 << 40)
    except (TypeError, wire.WireError):
        return say(channel, "o")
    if len(text) > LONG:
        return say(channel, "h", hashlib.sha256(text.encode()).hexdigest())
    name = type(value).__name__ if type(value) is not type(exact) else ""
    write(channel, f'["v",{text},{json.dumps(name)}]\n')


def plain(value: Any, level: int = 0) -> Any:
    """The value in builtin types: a Counter as a dict, a numpy number as a number. TypeError for what has no plain
    form.

    So no class is left on the line that could lie about equality. RecursionError for what is nested deeper than
    `DEPTH`.
    """
    if level > DEPTH:
        raise RecursionError("nested too deep")
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float, complex, bytes, bytearray):
        if isinstance(value, kind):
            return bytes(value) if kind is bytearray else kind(value)
    if isinstance(value, list | tuple | Set):
        kind = list if isinstance(value, list) else tuple if isinstance(value, tuple) else frozenset if level else set
        return kind(plain(item, level + 1) for item in value)
    if isinstance(value, Mapping) and not isinstance(value, deque):
        return {plain(key, level + 1): plain(item, level + 1) for key, item in value.items()}
    if isinstance(value, Fraction | Decimal) and value == float(value):
        return float(value)
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        return value.item()
    raise TypeError(f"{type(value).__name__} has no plain form")


def run_script(request: dict[str, Any], text: str, channel: int) -> str:
    source, target = os.memfd_create("stdin"), os.memfd_create("stdout")
    os.pwrite(source, text.encode(), 0)
    os.dup2(source, 0)
    os.dup2(target, 1)
    sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115
    fault = ""
    try:
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])
        space: dict[str, Any] = {"__name__": "__main__", "exit": sys.exit, "quit": sys.exit}
        exec(request["before"], space)
        exec(compile(request["program"], "<program>", "exec"), space)
    except SystemExit as error:
        if error.code not in (None, 0):
            fault = f"SystemExit: {error.code}"
    except BaseException as error:
        fault = f"{type(error).__name__}: {str(error)[:200]}"
    sys.stdout.flush()
    size = os.fstat(target).st_size
    if not fault and size > PRINTED:
        fault = "too much output"
    told = ("x", fault) if fault else ("p", os.pread(target, size, 0).decode(errors="replace"))
    say(channel, *told)
    return fault


def sanitize(request: dict[str, Any], channel: int) -> None:
    from evalplus.sanitize import sanitize as clean

    def too_long(*_: Any) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, too_long)
    for text, entry in request["texts"]:
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])
        try:
            cleaned = clean(text, entry)
        except Exception:
            cleaned = None
        signal.setitimer(signal.ITIMER_REAL, 0)
        say(channel, "s", cleaned)
    os._exit(0)


def say(channel: int, *words: Any) -> None:
    write(channel, json.dumps(words) + "\n")


def write(channel: int, text: str) -> None:
    data = text.encode()
    while data:
        data = data[os.write(channel, data) :]


if __name__ == "__main__":
    main()
