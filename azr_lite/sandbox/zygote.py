"""The fork server: locked once, then one fork per execution. Started as `zygote.py CONTROL_FD PARENT_PID SKIP`.

Control socket, in: `id, cpu seconds, wall seconds, memory bytes` and a channel descriptor per execution. Out: one
greeting (JSON: layers), then `id, fate, wait status, cpu seconds` for each child that ended, and RUNNING at each tick
of one that has not. Requests and answers run between trainer and child: this process never reads one, so that its
memory, and so the next child's, is the same before every fork.

CPU time is the limit. A child whose CPU clock stands still is asleep and ended; one that dozes, only far out. Both are
counted in this process's own ticks, and the trainer believes them the second time: a busy machine is no verdict.

trainer -exec-> launcher -unshare, fork-> zygote (pid 1 of its namespace) -fork-> child. Each dies with its predecessor.
"""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import select
import socket
import struct
import sys
import time
from array import array
from typing import Any, Final

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # type: ignore[import-not-found]
import lockdown  # type: ignore[import-not-found]
from wire import ASLEEP, ENDED, NO_FORK, REPORT, RUNNING, START, TIMED_OUT  # type: ignore[import-not-found]

CONTROL_FD: Final = 3
CHANNEL_FD: Final = 3
"""In the child the channel takes the control socket's place."""
CANNOT_LOCK: Final = 10
"""SIGUSR1: a locked child cannot send it, so no program can pretend that the sandbox failed."""
POLL_MS: Final = 2
"""How often to look for ended children where pidfd_open is missing."""
TICK_S: Final = 0.1
STILL_TICKS: Final = 10
STILL_S: Final = 0.001
"""Asleep: less CPU time than this in ten ticks."""


class _Child:
    """One running execution and when to look at it next."""

    __slots__ = ("cpu", "fate", "id", "look", "pid", "pidfd", "still", "tick", "ticks", "used")

    def __init__(self, id: int, pid: int, pidfd: int, cpu: float, wall: float) -> None:
        self.id, self.pid, self.pidfd, self.cpu, self.fate = id, pid, pidfd, cpu, ENDED
        self.ticks = math.ceil(wall / TICK_S)
        self.still, self.used = 0, 0.0
        self.tick = time.monotonic() + TICK_S
        self.look = min(self.tick, self.tick - TICK_S + cpu)


class Zygote:
    """The loop: start, watch, kill, reap, report. Single-threaded; ends when the control socket does."""

    def __init__(self, control: socket.socket, pidfd: bool, orphans: bool, lock: Any) -> None:
        self.control, self.use_pidfd, self.orphans, self.lock = control, pidfd, orphans, lock
        self.children: dict[int, _Child] = {}
        self.poll = select.poll()
        self.poll.register(control, select.POLLIN)

    def run(self) -> None:
        while True:
            for fd, _ in self.poll.poll(self._timeout()):
                if fd != CONTROL_FD:
                    self._reap(self.children[fd])
                elif not self._message():
                    return
            if not self.use_pidfd:
                for child in list(self.children.values()):
                    self._reap(child)
            now = time.monotonic()
            for child in list(self.children.values()):
                if child.look <= now:
                    self._look(child, now)

    def _timeout(self) -> int | None:
        if not self.children:
            return None
        if not self.use_pidfd:
            return POLL_MS
        return max(0, math.ceil(1000 * (min(child.look for child in self.children.values()) - time.monotonic())))

    def _message(self) -> bool:
        data, ancillary, _, _ = self.control.recvmsg(START.size, 64)
        if not data:
            return False
        channel = array("i", ancillary[0][2])[0]
        id, cpu, wall, memory = START.unpack(data)
        try:
            pid = os.fork()
        except OSError as error:
            os.close(channel)
            self.control.send(REPORT.pack(id, NO_FORK, error.errno or 0, 0.0))
            return True
        if pid == 0:
            self._child(channel, cpu, memory)
        os.close(channel)
        pidfd = os.pidfd_open(pid) if self.use_pidfd else -pid
        self.children[pidfd] = _Child(id, pid, pidfd, cpu, wall)
        if self.use_pidfd:
            self.poll.register(pidfd, select.POLLIN)
        return True

    def _child(self, channel: int, cpu: float, memory: int) -> None:
        try:
            os.dup2(channel, CHANNEL_FD)
            os.closerange(CHANNEL_FD + 1, 1 << 16)
            if self.orphans:
                lockdown.die_with_parent()
            seconds = math.ceil(cpu) + 1
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
            resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5))
            if self.lock is not None and self.lock() != 0:
                raise OSError("seccomp")
        except BaseException:
            os.kill(os.getpid(), CANNOT_LOCK)
            os._exit(1)
        try:
            os._exit(harness.serve(_request(), _answer))
        finally:
            os._exit(1)

    def _look(self, child: _Child, now: float) -> None:
        try:
            used = time.clock_gettime((~child.pid << 3) | 2)
        except OSError:  # a kernel without such clocks: taken for awake
            used = child.used + STILL_S
        if used >= child.cpu:
            self._kill(child, TIMED_OUT)
            return
        if now >= child.tick:
            child.tick = now + TICK_S
            child.ticks -= 1
            child.still += 1
            if used - child.used >= STILL_S:
                child.still, child.used = 0, used
            if child.ticks <= 0 or child.still >= STILL_TICKS:
                self._kill(child, ASLEEP)
                return
            self.control.send(REPORT.pack(child.id, RUNNING, 0, used))
        child.look = min(child.tick, now + max(child.cpu - used, 0.002))

    def _kill(self, child: _Child, fate: int) -> None:
        if child.fate == ENDED:
            child.fate = fate
            os.kill(child.pid, 9)
        child.look = time.monotonic() + 3600

    def _reap(self, child: _Child) -> None:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid == 0:
            return
        del self.children[child.pidfd]
        if self.use_pidfd:
            self.poll.unregister(child.pidfd)
            os.close(child.pidfd)
        self.control.send(REPORT.pack(child.id, child.fate, status, usage.ru_utime + usage.ru_stime))


def _request() -> bytes:
    need, parts = 4, b""
    while len(parts) < need:
        piece = os.read(CHANNEL_FD, 1 << 18)
        if not piece:
            os._exit(0)
        parts += piece
        if need == 4 and len(parts) >= 4:
            need = 4 + struct.unpack("=I", parts[:4])[0]
    return parts[4:]


def _answer(line: bytes) -> None:
    while line:
        line = line[os.write(CHANNEL_FD, line) :]


def _launch(parent: int, skip: set[str]) -> None:
    """Lock down, fork the zygote, and outlive neither it nor the trainer."""
    layers: dict[str, str] = {}

    def put(name: str, layer: Any) -> None:
        layers[name] = "off: left out" if name in skip else lockdown.attempt(layer)

    trainer = -1
    if "pidfd" not in skip and hasattr(os, "pidfd_open"):
        try:
            trainer = os.pidfd_open(parent)
        except OSError:
            pass
    layers["pidfd"] = "on" if trainer >= 0 else "off: not available"
    if os.getppid() != parent:
        os._exit(1)
    harness.prepare()
    lockdown.attempt(lockdown.last_to_live)
    put("no_new_privs", lockdown.no_new_privs)
    put("own_uid", lockdown.own_uid)
    put("namespaces", lockdown.new_namespaces)
    zygote = os.fork()
    if zygote == 0:
        if trainer >= 0:
            os.close(trainer)
        _serve(layers, put, trainer >= 0)
        os._exit(0)
    os.close(CONTROL_FD)
    _wait(zygote, trainer, parent)
    os._exit(0)


def _wait(zygote: int, trainer: int, parent: int) -> None:
    poll = select.poll()
    if trainer >= 0:
        poll.register(trainer, select.POLLIN)
        poll.register(os.pidfd_open(zygote), select.POLLIN)
    while os.waitpid(zygote, os.WNOHANG)[0] == 0:
        if os.getppid() != parent:
            os.kill(zygote, 9)
            return
        poll.poll(None if trainer >= 0 else 200)


def _serve(layers: dict[str, str], put: Any, pidfd: bool) -> None:
    if layers["namespaces"] == "on":
        put("empty_root", lockdown.empty_root)
    else:
        layers["empty_root"] = "off: needs namespaces"
    put("landlock", lockdown.landlock)
    put("no_capabilities", lockdown.no_capabilities)
    lockdown.attempt(lockdown.die_with_parent)
    lockdown.attempt(lockdown.limits)
    layers["rlimits"] = "on"
    control = socket.socket(fileno=CONTROL_FD)
    lock = lockdown.filter_installer("child")
    stage = lockdown.filter_installer("zygote")
    gc.collect()
    gc.freeze()
    put("seccomp", lambda: lockdown.check(stage()) and None)
    locked = layers["seccomp"] == "on"
    control.send(json.dumps({"layers": layers, "python": sys.version.split()[0]}).encode())
    try:
        Zygote(control, pidfd, layers["namespaces"] != "on", lock if locked else None).run()
    except OSError:
        pass


if __name__ == "__main__":
    if int(sys.argv[1]) != CONTROL_FD:
        os.dup2(int(sys.argv[1]), CONTROL_FD)
    os.closerange(CONTROL_FD + 1, 1 << 16)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)
    _launch(int(sys.argv[2]), set(filter(None, sys.argv[3].split(","))))
