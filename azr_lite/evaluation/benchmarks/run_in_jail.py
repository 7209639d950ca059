"""Runs in the jail: one scored program, and what it returns or prints, told without judging.

Comes in: JSON on standard input, ``{"program", "entry", "parts": [[line, ...], ...], "way", "seconds"}``; a line is an encoded argument
list (way "call") or the text of standard input (way "script").  Goes out: for each part a line ``{"part": N}``, then one line an
input: ``{"v": value}`` (or ``{"h": its digest}``), ``{"x": exception}`` (the part ends there), or ``{"p": printed text}``.
Not covered: expected answers. They are never here; a program that writes these lines itself has only said what it returns.
Each part has a process of its own, each script too, so that nothing a program leaves behind reaches the next.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import values  # type: ignore[import-not-found]

PRINTED = 4 << 20
"""Bytes of a script's output that are kept; more than that is an exception."""


LONG = 16 << 20
"""Characters. Of a longer value only the digest is told: Mbpp/255 returns 0.9 GB, which nobody wants to read back."""


def main() -> None:
    request = json.load(sys.stdin.buffer)
    sys.path[0:1] = request["path"]
    channel = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    for number, lines in enumerate(request["parts"]):
        _in_child(_part, request, number, lines, channel)
    os._exit(0)


def _in_child(work: Any, *arguments: Any) -> int:
    """The wait status: 0 when the work was done and gave no fault."""
    pid = os.fork()
    if pid == 0:
        fault: Any = True
        try:
            fault = work(*arguments)
        finally:
            os._exit(bool(fault))
    return os.waitpid(pid, 0)[1]


def _part(request: dict[str, Any], number: int, lines: list[str], channel: int) -> None:
    _say(channel, "part", str(number))
    if request["way"] == "script":
        for text in lines:
            if _in_child(_script, request, text, channel):
                return  # it failed, and the rest would only cost time
    else:
        _calls(request, lines, channel)


def _calls(request: dict[str, Any], lines: list[str], channel: int) -> None:
    space: dict[str, Any] = {}
    seconds = request["seconds"]
    try:
        signal.alarm(seconds)
        exec(request["before"], space)
        exec(compile(request["program"], "<program>", "exec"), space)
        entry = _entry(space, request["entry"])
        for line in lines:
            signal.alarm(seconds)
            text = values.encode(entry(*values.decode(line)))
            if len(text) > LONG:
                _say(channel, "h", f'"{hashlib.sha256(text.encode()).hexdigest()}"')
            else:
                _say(channel, "v", text)
    except BaseException as error:
        _say(channel, "x", json.dumps(f"{type(error).__name__}: {str(error)[:200]}"))


def _entry(space: dict[str, Any], name: str) -> Any:
    """The function, or the method of a class `Solution` that was asked for."""
    if name not in space and "Solution" in space:
        return getattr(space["Solution"](), name)
    return space[name]


def _script(request: dict[str, Any], text: str, channel: int) -> str:
    source, target = os.memfd_create("stdin"), os.memfd_create("stdout")
    os.pwrite(source, text.encode(), 0)
    os.dup2(source, 0)
    os.dup2(target, 1)
    sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115
    fault = ""
    try:
        signal.alarm(request["seconds"])
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
    if fault or size > PRINTED:
        fault = fault or "too much output"
        _say(channel, "x", json.dumps(fault))
    else:
        _say(channel, "p", json.dumps(os.pread(target, size, 0).decode(errors="replace")))
    return fault


def _say(channel: int, key: str, text: str) -> None:
    data = f'{{"{key}":{text}}}\n'.encode()
    while data:
        data = data[os.write(channel, data) :]


if __name__ == "__main__":
    main()
