"""The exercise on determinism of notebook 02: what two worlds said, and judges with one mistake each.

Comes in: a learner's `verdict`.  Goes out: what it made of each pair of worlds.
Not covered: what is said about each mistake (`nb02.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from azr_lite.learn.checks import Raised
from azr_lite.sandbox import Outcome, Validation
from azr_lite.sandbox.executor import verdict


def _ok(*values: Any) -> list[Outcome]:
    return [Outcome("ok", value) for value in values]


LATE, FAT, BROKEN, UNRUN = (
    Outcome("timeout", detail="out of time"),
    Outcome("memory", detail="MemoryError"),
    Outcome("exception", detail="KeyError: 1"),
    Outcome("infra", detail="not run"),
)
WORLDS: dict[str, tuple[list[Outcome], list[Outcome]]] = {
    "the same twice": (_ok(1, "a"), _ok(1, "a")),
    "another order of a list": (_ok(["a", "b"]), _ok(["b", "a"])),
    "1 here, True there": (_ok(1), _ok(True)),
    "the second input differs": (_ok(1, 2), _ok(1, 3)),
    "an exception in the first world": ([BROKEN, UNRUN], [UNRUN, BROKEN]),
    "an exception in the second world only": (_ok(1), [BROKEN]),
    "out of time in the second world": (_ok(1), [LATE]),
    "out of memory in the second world": (_ok(1), [FAT]),
    "sets, written in two orders": (_ok({8, 0}), _ok({0, 8})),
    "dicts, filled in two orders": (_ok({"a": 1, "b": 2}), _ok({"b": 2, "a": 1})),
    "a first input that differs, a second that fails": ([*_ok(1), BROKEN], [*_ok(2), BROKEN]),
    "a first input that differs, a second out of time there": (_ok(1, 2), [*_ok(9), LATE]),
    "a first input not run, a second out of time there": (_ok(1, 2), [UNRUN, LATE]),
    "a first input not run, a second that fails": ([UNRUN, BROKEN], [UNRUN, BROKEN]),
    "two inputs that fail": ([BROKEN, LATE], [BROKEN, LATE]),
    "a second input that failed": ([*_ok(1), LATE], [UNRUN, LATE]),
}


def observed(mine: Callable[[Sequence[Outcome], Sequence[Outcome]], Validation]) -> list[Any]:
    return [_said(mine, *pair) for pair in WORLDS.values()]


def _said(mine: Callable[..., Any], first: Sequence[Outcome], second: Sequence[Outcome]) -> Any:
    try:
        found = mine(first, second)
    except TimeoutError:
        raise
    except Exception as error:
        return Raised(type(error).__name__, str(error))
    return [found.ok, found.outputs, found.reason, found.index] if isinstance(found, Validation) else found


def first_only(first: Sequence[Outcome], second: Sequence[Outcome]) -> Validation:
    return verdict(first)


def loose(first: Sequence[Outcome], second: Sequence[Outcome]) -> Validation:
    found = verdict(first, second)
    if found.reason == "non_deterministic" and first[found.index].value == second[found.index].value:
        return Validation(True, tuple(o.value for o in first))
    return found


def never_late(first: Sequence[Outcome], second: Sequence[Outcome]) -> Validation:
    found = verdict(first, second)
    late = found.reason in ("timeout", "memory") and first[found.index].ok
    return Validation(False, (), "non_deterministic", "", found.index) if late else found


def one_loop(first: Sequence[Outcome], second: Sequence[Outcome]) -> Validation:
    for index, (one, other) in enumerate(zip(first, second, strict=True)):
        if not one.ok:
            return Validation(False, (), one.kind, one.detail, index)
        if one.value != other.value:
            return Validation(False, (), "non_deterministic", "", index)
    return Validation(True, tuple(outcome.value for outcome in first))


def interleaved(first: Sequence[Outcome], second: Sequence[Outcome]) -> Validation:
    for index, (one, other) in enumerate(zip(first, second, strict=True)):
        found = verdict([one], [other])
        if not found.ok:
            return Validation(False, (), found.reason, "", index)
    return verdict(first, second)


def late_first(first: Sequence[Outcome], second: Sequence[Outcome]) -> Validation:
    found = verdict(first, second)
    late = [index for index, other in enumerate(second) if other.kind in ("timeout", "memory")]
    return Validation(False, (), second[late[0]].kind, "", late[0]) if late and found.reason == "non_deterministic" else found


def by_repr(first: Sequence[Outcome], second: Sequence[Outcome]) -> Validation:
    for index, (one, other) in enumerate(zip(first, second, strict=True)):
        if one.ok and other.ok and repr(one.value) != repr(other.value):
            return Validation(False, (), "non_deterministic", "", index)
    return verdict(first, second)


def infra_fails(first: Sequence[Outcome], second: Sequence[Outcome]) -> Validation:
    for index, pair in enumerate(zip(first, second, strict=True)):
        for outcome in pair:
            if not outcome.ok:
                return Validation(False, (), outcome.kind, outcome.detail, index)
    return verdict(first, second)
