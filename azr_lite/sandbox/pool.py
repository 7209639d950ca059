"""The trainer's side of the fork servers: one I/O thread, two executions in flight per zygote, deadlines, re-spawn.

The trainer never forks: zygotes are started through `subprocess` (vfork). A zygote that dies or falls silent is killed
and replaced, and what it was running ends as "infra". A fault of the machine (no descriptor, no memory, no process) is
waited out and tried again, `STUMBLES` times. Every attempt stands in `_open` until it is told how it ended.
"""

from __future__ import annotations

import array
import json
import os
import selectors
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from typing import Final

from azr_lite.errors import InfrastructureError, SandboxError, UnsafeError
from azr_lite.sandbox.schedule import MAX_ANSWER, Attempt, Ended, fate_of_exit, hash_seed
from azr_lite.sandbox.wire import ASLEEP, NO_FORK, REPORT, RUNNING, START, TIMED_OUT

IN_FLIGHT: Final = 2
START_S: Final = 60.0
SILENT_S: Final = 15.0
"""A zygote reports ten times a second while a child runs. Silent for so long, it is lost."""
STUMBLES: Final = 7
FIRST_WAIT_S: Final = 0.1
"""Doubled at each stumble: 6 s in all."""
QUIET_S: Final = 0.005
"""Most children end sooner; only after this long is a channel watched (one wake-up an execution instead of three)."""

_ZYGOTE: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "zygote.py")


class _Flight:
    """One execution under way: our end of its channel and what came through it."""

    __slots__ = ("attempt", "channel", "data", "dead_at", "id", "size", "unsent", "watch_at", "watched")

    def __init__(self, id: int, attempt: Attempt, channel: socket.socket) -> None:
        now = time.monotonic()
        self.id, self.attempt, self.channel = id, attempt, channel
        self.data: list[bytes] = []
        self.size, self.watched = 0, False
        self.unsent = struct.pack("=I", len(attempt.request)) + attempt.request
        self.watch_at = now + QUIET_S
        self.dead_at = now + SILENT_S

    def send(self) -> None:
        """Hand over as much of the request as fits. Raises `OSError` when nobody reads any more."""
        try:
            while self.unsent:
                self.unsent = self.unsent[self.channel.send(self.unsent) :]
        except BlockingIOError:
            pass

    def receive(self) -> bool:
        """Read what is there; False when it is more than an answer may be, and then nobody listens any more."""
        try:
            while self.channel.fileno() >= 0 and self.size <= MAX_ANSWER:
                piece = self.channel.recv(1 << 18)
                if not piece:
                    break
                self.data.append(piece)
                self.size += len(piece)
        except (BlockingIOError, ConnectionError):
            pass
        if self.size > MAX_ANSWER:
            self.channel.close()
        return self.size <= MAX_ANSWER


class _Zygote:
    """One fork server process and what it is running."""

    def __init__(self, world: str, seed: int, skip: str) -> None:
        self.world = world
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.setblocking(False)
        self.ready = False
        self.started = time.monotonic()
        self.flights: dict[int, _Flight] = {}
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-s", "-S", "-P", "-B", _ZYGOTE, str(theirs.fileno()), str(os.getpid()), skip],
                env={"PYTHONHASHSEED": str(hash_seed(world, seed)), "PYTHONUTF8": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                cwd="/",
                process_group=0,  # a terminal's Ctrl-C and Ctrl-Z are the trainer's, not a program's
            )
        except BaseException:
            self.control.close()
            raise
        finally:
            theirs.close()

    def end(self) -> None:
        """Kill it and everything below it; returns when it is reaped, or after 5 s."""
        self.control.close()
        for patience in (0.2, 5.0):
            try:
                self.process.wait(patience)
                return
            except subprocess.TimeoutExpired:
                self.process.kill()


class Pool:
    """Fork servers for the worlds that were asked for. Thread-safe through `submit`."""

    def __init__(self, workers: int, stats: Counter[str], seed: int = 0, skip: str = "") -> None:
        self.workers, self.stats, self.seed, self.skip = workers, stats, seed, skip
        self.layers: dict[str, str] = {}
        self.greeted = threading.Event()
        self.broken: Exception | None = None
        self.beat = 0
        """Grows as long as the I/O thread goes round."""
        self._open: dict[int, Attempt] = {}
        self._inbox: deque[Attempt] = deque()
        self._queues: dict[str, deque[Attempt]] = {"A": deque()}
        self._short = {"A"}
        """Worlds that lack a fork server."""
        self._zygotes: list[_Zygote] = []
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_write.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, lambda _: self._wake_read.recv(4096))
        self._next_id = 0
        self._stumbles, self._resume_at = 0, 0.0
        self._closing = False
        self._asleep = False
        self._thread = threading.Thread(target=self._main, name="azr-sandbox", daemon=True)
        self._thread.start()
        if not self.greeted.wait(START_S * STUMBLES) or self.broken:
            self.close()
            raise self.broken or SandboxError("the fork server did not start")

    def submit(self, attempt: Attempt) -> None:
        """Queue one execution. Any thread."""
        self._open[id(attempt)] = attempt
        self._inbox.append(attempt)
        if self.broken is not None:
            attempt.failed(self.broken)
        elif self._asleep:
            self._wake()

    def close(self) -> None:
        """End everything and wait for it. What was running is told "infra"-like: `SandboxError`."""
        self._closing = True
        self._wake()
        self._thread.join(60.0)

    def _wake(self) -> None:
        try:
            self._wake_write.send(b"x")
        except OSError:
            pass

    def _main(self) -> None:
        try:
            while not self._closing and self.broken is None:
                self.beat += 1
                self._dispatch()
                self._asleep = True  # before the inbox is looked at: whoever appends later, wakes
                ready = self._selector.select(self._deadlines())
                self._asleep = False
                for key, events in ready:
                    key.data(events)
        except Exception as error:
            self.broken = SandboxError(f"the sandbox's I/O thread failed: {error!r}")
        finally:
            self._end()

    def _end(self) -> None:
        self.broken = reason = self.broken or SandboxError("the executor was closed")
        self.greeted.set()
        for zygote in self._zygotes:
            zygote.control.close()
            for flight in zygote.flights.values():
                flight.channel.close()
        while self._open:
            self._open.popitem()[1].failed(reason)
        for zygote in self._zygotes:
            zygote.end()
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()

    def _stumble(self, why: str) -> None:
        """The machine lacks something just now: wait, twice as long each time, and give up in the end."""
        self.stats["infra"] += 1
        self._stumbles += 1
        self._resume_at = time.monotonic() + FIRST_WAIT_S * 2 ** (self._stumbles - 1)
        if self._stumbles >= STUMBLES:
            self.broken = InfrastructureError(
                f"the sandbox failed {STUMBLES} times in a row: {why}. Nothing was booked. Free descriptors, memory or "
                "processes, look with `azr-lite doctor --sandbox`, and start again"
            )

    def _spawn(self, world: str) -> None:
        """Start what is missing of a world's fork servers. Worlds after the second run few programs: one server."""
        if self._resume_at:  # another world's did not start
            return
        wanted = self.workers if world in "AB" else 1
        for _ in range(wanted - sum(z.world == world for z in self._zygotes)):
            try:
                zygote = _Zygote(world, self.seed, self.skip)
            except OSError as error:
                self._stumble(f"no fork server could be started ({error.strerror})")
                return
            self._zygotes.append(zygote)
            self._selector.register(zygote.control, selectors.EVENT_READ, lambda _, z=zygote: self._control(z))
        self._short.discard(world)

    def _dispatch(self) -> None:
        while self._inbox:
            attempt = self._inbox.popleft()
            if attempt.world not in self._queues:
                self._queues[attempt.world] = deque()
                self._short.add(attempt.world)
            self._queues[attempt.world].append(attempt)
        if time.monotonic() < self._resume_at:
            return
        self._resume_at = 0.0
        for world in list(self._short):
            self._spawn(world)
        for load in range(IN_FLIGHT):
            for zygote in list(self._zygotes):
                queue = self._queues[zygote.world]
                if queue and zygote.ready and len(zygote.flights) == load and not self._resume_at:
                    self._launch(zygote, queue.popleft())

    def _launch(self, zygote: _Zygote, attempt: Attempt) -> None:
        limits = attempt.limits
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            self._again(attempt, f"no channel to a child ({error.strerror})")
            return
        ours.setblocking(False)
        self._next_id += 1
        flight = _Flight(self._next_id, attempt, ours)
        zygote.flights[flight.id] = flight
        message = START.pack(flight.id, limits.cpu_s, limits.cpu_s * limits.wall_factor + 0.5, limits.memory_mb << 20)
        try:
            flight.send()
            zygote.control.sendmsg(
                [message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))]
            )
        except OSError as error:
            self._lose(zygote, f"the fork server is gone ({error.strerror})")
        finally:
            theirs.close()
        if flight.unsent:
            self._watch(flight)

    def _again(self, attempt: Attempt, why: str) -> None:
        self._queues[attempt.world].appendleft(attempt)
        self._stumble(why)

    def _land(self, flight: _Flight, ended: Ended) -> None:
        """An execution is over: tell its owner, once."""
        self._unwatch(flight)
        flight.channel.close()
        if self._open.pop(id(flight.attempt), None):
            flight.attempt.done(ended)

    def _watch(self, flight: _Flight) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if flight.unsent else 0)
        if flight.channel.fileno() >= 0:
            self._selector.register(flight.channel, events, lambda e: self._channel(flight, e))
            flight.watched = True

    def _channel(self, flight: _Flight, events: int) -> None:
        if flight.channel.fileno() < 0:  # closed by a report in the same round of events
            return
        before = flight.size
        try:
            if events & selectors.EVENT_WRITE:
                flight.send()
        except OSError:
            flight.unsent = b""
        self._unwatch(flight)
        if flight.receive() and (flight.size > before or not events & selectors.EVENT_READ):
            self._watch(flight)
        else:  # the channel is closed; only the report is missing
            flight.watch_at = float("inf")

    def _unwatch(self, flight: _Flight) -> None:
        if flight.watched:
            self._selector.unregister(flight.channel)
            flight.watched = False

    def _control(self, zygote: _Zygote) -> None:
        try:
            data = zygote.control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose(zygote, "the fork server died")
        elif not zygote.ready:
            self._greet(zygote, data)
        elif len(data) == REPORT.size:
            self._report(zygote, *REPORT.unpack(data))

    def _greet(self, zygote: _Zygote, data: bytes) -> None:
        layers = json.loads(data)["layers"]
        self.layers = self.layers or layers
        worse = [name for name, state in layers.items() if state != "on" and self.layers.get(name) == "on"]
        if worse:
            self.broken = UnsafeError(
                f"{', '.join(worse)} worked when the run began and does not any more; start again to accept it"
            )
        zygote.ready = True
        self._stumbles = 0
        self.greeted.set()

    def _report(self, zygote: _Zygote, id: int, mark: int, status: int, cpu_s: float) -> None:
        if mark == RUNNING:
            if id in zygote.flights:
                zygote.flights[id].dead_at = time.monotonic() + SILENT_S
            return
        flight = zygote.flights.pop(id, None)
        if flight is None:
            return
        if mark == NO_FORK:
            self._unwatch(flight)
            flight.channel.close()
            self._again(flight.attempt, f"no child could be forked ({os.strerror(status)})")
            return
        self._stumbles = 0
        if not flight.receive():
            ended = Ended(b"", "protocol", "too much output", cpu_s)
        elif mark in (TIMED_OUT, ASLEEP):
            detail = "asleep" if mark == ASLEEP else "out of time"
            ended = Ended(b"".join(flight.data), "timeout", detail, cpu_s)
        else:
            fate = fate_of_exit(os.waitstatus_to_exitcode(status), cpu_s >= flight.attempt.limits.cpu_s)
            ended = Ended(b"".join(flight.data), *fate, cpu_s)
        self._land(flight, ended)

    def _lose(self, zygote: _Zygote, why: str) -> None:
        """A zygote is no use any more: kill it and tell what it was running. `_dispatch` starts another."""
        if zygote not in self._zygotes:
            return
        self._zygotes.remove(zygote)
        self._short.add(zygote.world)
        self._selector.unregister(zygote.control)
        zygote.process.kill()
        zygote.end()
        self.stats["respawns"] += 1
        self._resume_at = self._resume_at or time.monotonic()
        if not zygote.ready:
            self._stumble(f"the fork server does not start: {why}")
        flights, zygote.flights = list(zygote.flights.values()), {}
        for flight in flights:
            self._land(flight, Ended(b"", "infra", why))

    def _deadlines(self) -> float | None:
        """Act where a deadline has passed; seconds until the next one, None where nothing is awaited."""
        now, coming = time.monotonic(), []
        for zygote in list(self._zygotes):
            if not zygote.ready:
                coming.append(zygote.started + START_S)
                if coming[-1] < now:
                    self._lose(zygote, "the fork server did not start in time")
            for flight in list(zygote.flights.values()):
                if flight.dead_at <= now:
                    self._lose(zygote, "the fork server kept silent past a deadline")
                    break
                if flight.watch_at <= now and not flight.watched:
                    self._watch(flight)
                coming += [flight.dead_at] if flight.watched else [flight.dead_at, flight.watch_at]
        if self._resume_at:
            coming.append(self._resume_at)
        if self._inbox:
            return 0
        return max(0.0, min(coming) - now) if coming else None
