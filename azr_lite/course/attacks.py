"""Hostile programs for notebook 02: which layer stops which attack, and judging without telling the gold.

Never left out are the own uid, the dropped capabilities and the resource limits: a learner may be root.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from azr_lite.sandbox import Executor, Outcome
from azr_lite.sandbox.abuse import abuse_suite
from azr_lite.sandbox.wire import compare

ATTACKS = (
    "write a file in /tmp", "read /etc/passwd", "stat the home folder", "read the trainer's memory",
    "signal the parent", "signal every process", "connect over TCP", "open a unix socket", "keyring", "io_uring",
    "new namespaces", "change its priority", "fork", "run a shell", "answer twice",
    "return an object that equals everything", "spin", "eat memory",
)  # fmt: skip
"""Attacks of the abuse suite that differ in what stops them."""

LAYERS: Mapping[str, str] = {
    "limits only": "namespaces,landlock,seccomp",
    "+ Landlock": "namespaces,seccomp",
    "+ namespaces": "landlock,seccomp",
    "+ both": "seccomp",
    "+ seccomp": "namespaces,landlock",
    "everything": "",
}
"""Column: the layers left out. Each "+" adds to "limits only"; the namespaces bring the empty root with them."""

WORDS: Mapping[str, str] = {
    "ok": "nothing stopped it: it returned a plain value, which is all that an answer can be",
    "exception": "Python or the kernel said no, and the program did not catch it",
    "value": "the wire stopped it: only exact built-in literals cross",
    "timeout": "the clock stopped it: processor time is the limit, wall time the guard",
    "memory": "the memory limit stopped it",
    "policy": "the system-call filter killed it",
    "crash": "it ended itself without an answer, which is never a right one",
    "protocol": "the trusted reader threw its run away: what came through the channel is no answer",
    "rejected": "it never ran: the program's text was refused",
    "infra": "the sandbox itself failed: nothing is booked, it must run again",
}
"""Kind of outcome: what it tells."""


def columns() -> dict[str, str]:
    """The columns that this machine can show: layers can be left out on Linux only."""
    return dict(LAYERS) if sys.platform == "linux" else {"everything": ""}


def matrix(names: Sequence[str] = ATTACKS, layers: Mapping[str, str] | None = None) -> dict[str, dict[str, bool]]:
    """Attack, then column: whether it was contained. About two seconds per column."""
    found: dict[str, dict[str, bool]] = {name: {} for name in names}
    for column, skip in (columns() if layers is None else layers).items():
        for attack in abuse_suite(skip, only=names).attacks:
            if attack.name in found:
                found[attack.name][column] = attack.contained
    return found


def run_and_explain(executor: Executor, program: str, argument: Any = 1) -> str:
    """Run one program as the trainer would run a solver's; one sentence says what became of it, and by which layer."""
    (outcome,) = executor.run(program, [(argument,)])
    return f"{outcome.kind}: {WORDS[outcome.kind]}" + (f" ({outcome.detail})" if outcome.detail else "")


def judge_candidate(
    run: Callable[[str, list[tuple[Any, ...]]], list[Outcome]], program: str, candidate: tuple[Any, ...], gold: Any
) -> bool:
    """Abduction: whether `program` turns `candidate` (an argument tuple) into `gold`. `run` is `Executor.run`.

    The sandbox gets program and candidate, never the gold. What did not end as "ok" is not right.
    """
    (outcome,) = run(program, [candidate])
    return outcome.ok and compare(outcome.value, gold)
