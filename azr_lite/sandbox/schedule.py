"""One job, as many children as it takes: who answered, who is to blame, what runs again.

A missing answer is blamed on the first input without one, but only booked when that input ran *first in its child*.
Else it runs again at the head of a new child, so no input ever suffers for its neighbours' time or memory. One that was
asleep runs again too, behind all that waits by then: machine or trainer may have stood still and not the program.
"""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from azr_lite.errors import InfrastructureError, SandboxError
from azr_lite.sandbox import wire
from azr_lite.sandbox.outcome import Kind, Limits, Outcome

TRIES: Final = 3
PLAIN: Final = "plain"
"""The detail of an exit by which the child says that its program is plain."""
PATIENCE: Final = 2
"""Timeouts in one job after which its other inputs are not tried."""
WORLDS: Final = "ABCDEFGH"
"""A judges. A and B validate every program, and the others one that may see order, hash, identity or randomness."""
MAX_ANSWER: Final = wire.ROOM + 8192 + wire.CAPS.size
"""Bytes read from one child; beyond it the child is killed and its run void."""
MAX_SOURCE: Final = 32768
"""Bytes of a program; a longer one is not run."""


def hash_seed(world: str, seed: int) -> int:
    """PYTHONHASHSEED of a run's world."""
    offset = (0, 24301, 7, 40503, 1299709, 65537, 999983, 31)[WORLDS.index(world)]
    return (offset + 2654435761 * seed) % 2**32


@dataclass(frozen=True)
class Ended:
    """What one child left: its bytes, its fate ("exit", "infra", or an outcome's kind), why, and its CPU seconds."""

    data: bytes
    fate: str
    detail: str = ""
    cpu_s: float = 0.0


@dataclass(frozen=True)
class Attempt:
    """One child to be: what it reads, what it may use, whom to tell."""

    request: bytes
    limits: Limits
    world: str
    done: Callable[[Ended], None]
    failed: Callable[[BaseException], None]


@dataclass(frozen=True)
class Plan:
    """A program and the inputs that share its children.

    `strict`: stop at the first outcome that is not "ok" (a validation fails as a whole); the rest stay "infra".
    `backwards`: run the last input first. `look`: say of every outcome whether the program is `plain`.
    """

    program: str
    inputs: Sequence[tuple[Any, ...]]
    entry: str
    world: str
    limits: Limits
    strict: bool = False
    backwards: bool = False
    look: bool = False


class PlanRun:
    """One plan on its way. `deliver` gets the outcomes, in input order, or the exception that ended it."""

    def __init__(
        self,
        plan: Plan,
        submit: Callable[[Attempt], None],
        deliver: Callable[[list[Outcome] | BaseException], None],
        stats: Counter[str],
    ) -> None:
        self.plan, self.submit, self.deliver, self.stats = plan, submit, deliver, stats
        count = len(plan.inputs)
        self.outcomes = [Outcome("infra", detail="not run")] * count
        self.texts: list[str] = [""] * count
        self.waiting: list[int] = []
        for index in reversed(range(count)) if plan.backwards else range(count):
            try:
                self.texts[index] = wire.encode_arguments(plan.inputs[index])
                self.waiting.append(index)
            except wire.WireError as error:
                self.outcomes[index] = Outcome("rejected", detail=f"input: {clean(str(error))}")
        self.tries = 0
        self.timeouts = 0
        self.doubted = False

    def start(self) -> None:
        """Ask for a child, or deliver when there is nothing left to ask."""
        plan = self.plan
        if self.waiting and len(plan.program.encode("utf-8", "replace")) > MAX_SOURCE:
            too_long = f"syntax_error: the program is longer than {MAX_SOURCE} bytes"
            self._book_rest(Outcome("rejected", detail=too_long))
        if not self.waiting:
            self.deliver(self.outcomes)
            return
        self.tries += 1
        texts = [self.texts[i] for i in self.waiting]
        request = json.dumps([plan.program, plan.entry, texts, plan.limits.recursion, plan.look]).encode()
        self.stats["children"] += 1
        self.submit(Attempt(request, plan.limits, plan.world, self._ended, self.deliver))

    def _ended(self, ended: Ended) -> None:
        try:
            self._book(ended)
        except Exception as error:
            self.deliver(SandboxError(f"the sandbox's own bookkeeping failed: {error!r}"))

    def _book(self, ended: Ended) -> None:
        if ended.fate == "infra":
            self.stats["infra"] += 1
            if self.tries >= TRIES:
                why = f"the sandbox failed {TRIES} times on one job: {ended.detail}. Nothing was booked; start again"
                self.deliver(InfrastructureError(why))
            else:
                self.start()
            return
        self.tries = 0
        asked = len(self.waiting)
        answers = read_answers(ended.data, asked, whole=ended.fate == "exit")
        if answers is None or ended.fate == "protocol":
            self._book_rest(Outcome("protocol", detail="wrote something that is not an answer"))
            self.deliver(self.outcomes)
            return
        if ended.fate != "exit":
            answers = answers[: asked - 1]
        each = 1000 * ended.cpu_s / max(1, len(answers))
        for answer in answers:
            self._take(replace(answer, cpu_ms=each, plain=ended.detail == PLAIN))
        self.doubted = ended.detail == "asleep" and not self.doubted
        if not answers and not self.doubted:
            kind: Any = "crash" if ended.fate == "exit" else ended.fate
            self._take(Outcome(kind, detail=ended.detail or "ended without an answer", cpu_ms=1000 * ended.cpu_s))
            self.timeouts += kind == "timeout"
        if self.timeouts >= PATIENCE:
            self._book_rest(Outcome("timeout", detail=f"not tried: {PATIENCE} inputs of this job ran out of time"))
        if self.plan.strict and any(not o.ok and o.kind != "infra" for o in self.outcomes):
            self.waiting = []
        self.start()

    def _take(self, outcome: Outcome) -> None:
        self.outcomes[self.waiting.pop(0)] = outcome
        self.stats[outcome.kind] += 1

    def _book_rest(self, outcome: Outcome) -> None:
        while self.waiting:
            self._take(outcome)


def fate_of_exit(code: int, out_of_time: bool) -> tuple[Kind | str, str]:
    """An exit code (below 0: a signal) of a child that was left to itself as a fate and its detail.

    `out_of_time`: by its CPU clock.
    """
    if code >= 0:
        return "exit", {0: "", wire.PLAIN: PLAIN}.get(code, f"exit status {code}")
    number = -code
    if number == signal.SIGUSR1:  # the zygote's own sign; a locked child can send no signal
        return "infra", "a child could not be locked"
    if number == signal.SIGSYS:
        return "policy", "a system call that only an attack makes"
    if number in (signal.SIGXCPU, signal.SIGALRM) or (number == signal.SIGKILL and out_of_time):
        return "timeout", "out of time"
    if number == signal.SIGKILL:
        return "infra", "a child was killed from outside (by the kernel, where the machine's memory runs out)"
    return "crash", f"signal {number}"


# ---------------------------------------------------------------- what a hostile child wrote, read strictly

_OK: Final = b'{"s":"ok","v":'
_NOT_NAME = re.compile(r"[^A-Za-z0-9_]")
_NOT_PLAIN = re.compile(r"[^ -~]+")


def clean(text: str) -> str:
    """Printable ASCII on one line: nothing that breaks a log, a prompt or a terminal."""
    return _NOT_PLAIN.sub(" ", text)[:200].strip()


def read_answers(data: bytes, asked: int, whole: bool) -> list[Outcome] | None:
    """Outcomes in the order of a hostile child's lines, None where they are no answers. Never raises.

    `whole`: the child ended by itself, so a half line is a lie and not an accident.
    """
    lines = data.split(b"\n")
    if (lines.pop() and whole) or len(lines) > asked:
        return None
    outcomes = [_read(line) for line in lines]
    return None if None in outcomes else outcomes


def _read(line: bytes) -> Outcome | None:
    try:
        text = line.decode("ascii")
        if line.startswith(_OK) and line.endswith(b"}"):
            return Outcome("ok", wire.decode(text[len(_OK) : -1]))
        return _failure(json.loads(text, object_pairs_hook=tuple)) if len(line) <= 8192 else None
    except (ValueError, RecursionError, MemoryError):
        return None


def _failure(pairs: Any) -> Outcome | None:
    """`pairs`: a tuple of a JSON object's keys and values. Arrays, which are no answer, are lists."""
    if type(pairs) is not tuple:
        return None
    match pairs:
        case (("s", "mem"),):
            return Outcome("memory", detail="MemoryError")
        case (("s", "exc"), ("t", str(name)), ("m", str(message))):
            name = _NOT_NAME.sub("", name)[:64] or "Exception"
            return Outcome("exception", detail=f"{name}: {clean(message)}".rstrip(": "))
        case (("s", "rej"), ("t", "forbidden_import" | "syntax_error" | "no_entry" as reason), ("m", str(message))):
            return Outcome("rejected", detail=f"{reason}: {clean(message)}")
        case (
            ("s", "value"),
            ("t", wire.NOT_LITERAL | wire.TOO_LONG | wire.NOT_A_NUMBER as reason),
            ("m", str(message)),
        ):
            return Outcome("value", detail=f"{reason}: {clean(message)}")
    return None
