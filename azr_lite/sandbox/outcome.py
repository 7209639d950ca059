"""The nouns of the sandbox: limits, jobs, outcomes, validations, levels."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["ok", "exception", "value", "timeout", "memory", "policy", "crash", "protocol", "rejected", "infra"]


class Level(enum.Enum):
    """How much stands between a program and the machine."""

    FULL = "seccomp and at least one of {namespaces with an empty root, Landlock}"
    KERNEL = "seccomp only"
    WEAK = "no kernel isolation: a fresh process with resource limits"


@dataclass(frozen=True)
class Limits:
    """What one child may use. CPU time is the limit. A child that uses none for a second is asleep and ended; wall time
    alone (`wall_factor` x CPU + 0.5 s) only ends one that dozes. Either counts the second time."""

    cpu_s: float = 1.0
    wall_factor: float = 30.0
    memory_mb: int = 256
    recursion: int = 1000


@dataclass(frozen=True)
class Job:
    """One program and the argument tuples to call it with. `isolate`: one child per input (of different rewards)."""

    program: str
    inputs: tuple[tuple[Any, ...], ...]
    entry: str = "f"
    world: str = "A"
    limits: Limits | None = None
    isolate: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of one input. `value` only for "ok". "value" = returned something that is no literal (`detail`:
    reason: text), "rejected" = never run (syntax, forbidden import), "protocol" = wrote what no answer looks like."""

    kind: Kind
    value: Any = None
    detail: str = ""
    cpu_ms: float = 0.0
    plain: bool = field(default=False, repr=False, compare=False)
    """In a world that looked for it: the program cannot see order, hash, identity or randomness."""

    @property
    def ok(self) -> bool:
        return self.kind == "ok"


@dataclass(frozen=True)
class Validation:
    """Whether a program gave the same plain values in all its worlds. If not: why, and at which input (-1: none)."""

    ok: bool
    outputs: tuple[Any, ...] = ()
    reason: str = ""
    detail: str = ""
    index: int = -1
    worlds: int = field(default=1, compare=False)
    """Worlds that agreed: the evidence for an accepted program. One means that it was run once and believed."""
