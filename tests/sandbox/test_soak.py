"""Long and wide: 1,000 executions, five in a hundred hostile; threads; a running event loop."""

from __future__ import annotations

import asyncio
import os
import threading

from azr_lite.sandbox import Executor, Limits
from tests.benchmarks.sandbox_speed import soak
from tests.sandbox.conftest import QUICK, descriptors


def test_soak_of_a_thousand() -> None:
    result = soak(1000)
    assert result["wrong"] == 0
    assert result["descriptors_grown"] == 0
    assert result["zombies"] == 0
    assert result["memory_grown_mb"] <= 8


def test_many_threads_one_executor() -> None:
    with Executor(QUICK, workers=1) as executor:
        wrong: list[object] = []

        def work(k: int) -> None:
            for i in range(15):
                outcome = executor.run("def f(a, b): return [a, b]", [(k, i)])[0]
                if outcome.value != [k, i]:
                    wrong.append(outcome)

        threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_inside_a_running_event_loop() -> None:
    """As in Jupyter; `asyncio.to_thread` makes any call one that can be awaited."""

    async def main(executor: Executor) -> None:
        one, found = await asyncio.gather(
            asyncio.to_thread(executor.run, "def f(x): return x", [(1,)]),
            asyncio.to_thread(executor.validate, "def f(x): return [x]", [(1,)]),
        )
        assert (one[0].value, found.outputs) == (1, ([1],))
        assert executor.run("def f(x): return x", [(3,)])[0].value == 3

    with Executor(QUICK, workers=1) as executor:
        asyncio.run(main(executor))


def test_the_trainer_never_forks(monkeypatch) -> None:
    def refuse() -> int:
        raise AssertionError("the trainer forked")

    monkeypatch.setattr(os, "fork", refuse)
    with Executor(QUICK, workers=1) as executor:
        assert executor.validate("def f(x): return x", [(1,)]).ok


def test_empty_work() -> None:
    before = descriptors()
    with Executor(QUICK, workers=1) as executor:
        assert executor.run_many([]) == []
        assert executor.run("def f(x): return x", []) == []
        assert executor.validate_many([]) == []
        assert executor.run("def f(): return 7", [()])[0].value == 7
        assert executor.run("def g(x): return 7", [(1,)], entry="g")[0].value == 7
        assert executor.run("def g(x): return 7", [(1,)])[0].detail.startswith("NameError")
        assert executor.run("x" * 40_000, [(1,)])[0].kind == "rejected"
        big = "def f(x):\n    return x\n" + "#" * 30_000
        assert (
            executor.run(big, [("a" * 60_000,)] * 12, limits=Limits())[11].value == "a" * 60_000
        )  # more than a socket holds, both ways
    assert descriptors() == before
