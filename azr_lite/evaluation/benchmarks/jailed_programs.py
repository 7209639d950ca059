"""Runs in the jail: one scored program, and what it returns or prints, told without judging.

Standard input: JSON ``{"program", "entry", "before", "inputs", "seconds", "all_seconds"}``; `inputs` are encoded
argument tuples, or, without an entry, texts of standard input. Standard output: one JSON line per input, ``["v", value,
class]``, ``["h", digest]`` of a long value, ``["o"]`` for a value without a plain form, ``["p", printed text]`` or
``["x", exception]`` (that ends it), at last ``["end", seconds of the slowest input]``. Expected answers are never here;
a program that writes these lines itself has only said what it returns.

With ``{"texts", "seconds"}`` it runs no program: it cleans texts as evalplus does, one line with text or null for each.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Set
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
    (sanitize if "texts" in request else run)(request, channel)
    os._exit(0)


def run(request: dict[str, Any], channel: int) -> None:
    """Tell what the program answers to each input. Nothing more is told after a fault or when the time is over."""
    until, slowest = time.monotonic() + request["all_seconds"], 0.0

    def left() -> float:
        return float(max(min(request["seconds"], until - time.monotonic()), 0.01))

    try:
        if request["entry"]:
            signal.setitimer(signal.ITIMER_REAL, left())
            entry = load(request)
        for text in request["inputs"]:
            began = time.monotonic()
            if request["entry"]:
                signal.setitimer(signal.ITIMER_REAL, left())
                tell_value(channel, entry(*wire.build(wire.parse(text))))
            elif not in_child(left(), run_script, request, text, channel):
                return
            slowest = max(slowest, time.monotonic() - began)
    except BaseException as error:
        return say(channel, "x", name(error))
    say(channel, "end", slowest)


def load(request: dict[str, Any]) -> Any:
    """The function, or the method of a class `Solution`, that was asked for."""
    space: dict[str, Any] = {}
    exec(request["before"], space)
    exec(compile(request["program"], "<program>", "exec"), space)
    if request["entry"] not in space and "Solution" in space:
        return getattr(space["Solution"](), request["entry"])
    return space[request["entry"]]


def in_child(seconds: float, work: Callable[..., bool], *arguments: Any) -> bool:
    """What the work says; False when it ends its process or takes longer."""
    pid = os.fork()
    if pid == 0:
        done = False
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            done = work(*arguments)
        finally:
            os._exit(not done)
    return os.waitpid(pid, 0)[1] == 0


def run_script(request: dict[str, Any], text: str, channel: int) -> bool:
    """Run the program on this standard input and tell what it prints; whether it ended well."""
    source, target = os.memfd_create("stdin"), os.memfd_create("stdout")
    os.pwrite(source, text.encode(), 0)
    os.dup2(source, 0)
    os.dup2(target, 1)
    sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115
    fault = ""
    try:
        space: dict[str, Any] = {"__name__": "__main__", "exit": sys.exit, "quit": sys.exit}
        exec(request["before"], space)
        exec(compile(request["program"], "<program>", "exec"), space)
    except BaseException as error:
        if not isinstance(error, SystemExit) or error.code not in (None, 0):
            fault = name(error)
    sys.stdout.flush()
    size = os.fstat(target).st_size
    if not fault and size > PRINTED:
        fault = "too much output"
    said = ("x", fault) if fault else ("p", os.pread(target, size, 0).decode(errors="replace"))
    say(channel, *said)
    return not fault


def tell_value(channel: int, value: Any) -> None:
    """`class` is empty for builtin types: evalplus grants its tolerance to equal types only."""
    try:
        exact = plain(value)
        text = wire.encode(exact, size=1 << 40, depth=DEPTH, nodes=1 << 40)
    except (TypeError, wire.WireError):
        return say(channel, "o")
    if len(text) > LONG:
        return say(channel, "h", hashlib.sha256(text.encode()).hexdigest())
    write(channel, f'["v",{text},{json.dumps("" if type(value) is type(exact) else type(value).__name__)}]\n')


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
    if isinstance(value, Mapping):
        return {plain(key, level + 1): plain(item, level + 1) for key, item in value.items()}
    if isinstance(value, Fraction | Decimal) and value == float(value):
        return float(value)
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        return value.item()
    raise TypeError(f"{type(value).__name__} has no plain form")


def sanitize(request: dict[str, Any], channel: int) -> None:
    from evalplus.sanitize import sanitize as clean

    def tell_cleaned(text: str, entry: str) -> bool:
        write(channel, json.dumps(clean(text, entry)) + "\n")
        return True

    for text, entry in request["texts"]:
        if not in_child(request["seconds"], tell_cleaned, text, entry):
            write(channel, "null\n")


def name(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


def say(channel: int, *words: Any) -> None:
    write(channel, json.dumps(words) + "\n")


def write(channel: int, text: str) -> None:
    data = text.encode()
    while data:
        data = data[os.write(channel, data) :]


if __name__ == "__main__":
    main()
