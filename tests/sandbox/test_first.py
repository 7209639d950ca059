"""The executor end to end, once."""

from __future__ import annotations

from azr_lite.sandbox import Executor


def test_runs_and_validates() -> None:
    with Executor() as executor:
        assert [o.value for o in executor.run("def f(a, b): return a + b", [(1, 2), ("x", "y")])] == [3, "xy"]
        assert executor.validate("def f(a): return sorted(a)", [([2, 1],)]).outputs == ([1, 2],)
        assert executor.validate("def f(a): return id(a)", [([2, 1],)]).reason == "non_deterministic"
