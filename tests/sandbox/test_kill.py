"""Zygote, launcher or trainer killed at random moments: nothing left running, nothing invented."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from azr_lite.errors import InfrastructureError, SandboxError
from azr_lite.sandbox import Executor, Job
from tests.sandbox.conftest import QUICK, descendants, eventually

ROOT = Path(__file__).parents[2]
SLOW = "def f(x):\n    n = 0\n    for i in range(100_000): n += 1\n    return x"
TRAINER = """
import sys
from azr_lite.sandbox import Executor, Job
with Executor(workers=1, _skip=sys.argv[1]) as executor:
    executor.validate("def f(x): return x", [(1,)])
    print("ready", flush=True)
    while True:
        executor.run_many([Job("def f(x):\\n    while True: pass", ((1,), (2,))), Job("def f(x): return x", ((1,),))])
"""


def gone(pids: list[int]) -> bool:
    return not any(
        os.path.exists(f"/proc/{pid}") and "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3]
        for pid in pids
    )


@pytest.mark.parametrize("skip", ["", "namespaces", "pidfd", "namespaces,pidfd"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_trainer_killed(skip: str, number: int) -> None:
    trainer = subprocess.Popen(
        [sys.executable, "-c", TRAINER, skip], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert trainer.stdout is not None
    with trainer.stdout:
        assert trainer.stdout.readline() == b"ready\n"
        time.sleep(random.random() * 0.3)
        below = descendants(trainer.pid)
        assert len(below) >= 4
        trainer.send_signal(number)
        trainer.wait()
    assert eventually(lambda: gone(below)), "something outlived the trainer"


def test_trainer_killed_while_its_own_fork_holds_the_sockets() -> None:
    code = TRAINER.replace(
        "    print(", "    import os, time\n    if os.fork() == 0: time.sleep(30); os._exit(0)\n    print("
    )
    trainer = subprocess.Popen(
        [sys.executable, "-c", code, ""], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert trainer.stdout is not None
    try:
        assert trainer.stdout.readline() == b"ready\n"
        below = descendants(trainer.pid)
        fork = [pid for pid in below if b"while True: pass" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        trainer.kill()
        trainer.wait()
        assert eventually(lambda: gone([pid for pid in below if pid not in fork]))
    finally:
        trainer.stdout.close()
        for pid in fork:
            os.kill(pid, 9)


@pytest.mark.parametrize("who", ["launcher", "zygote", "children"])
def test_killed_inside_a_wave(who: str) -> None:
    """Whatever is killed, every verdict that is given is right, and the next run works."""
    rng, others = random.Random(who), set(descendants(os.getpid()))  # of the session's own sandbox, for one
    with Executor(QUICK, workers=1) as executor:
        executor.run("def f(x): return x", [(1,)])
        stop = threading.Event()

        def killer() -> None:
            for _ in range(2):
                stop.wait(rng.uniform(0.1, 0.6))
                launcher = executor._engine._zygotes[0].process.pid
                below = descendants(launcher)
                victims = {"launcher": [launcher], "zygote": below[:1], "children": below[1:]}[who]
                for pid in victims:
                    try:
                        os.kill(pid, 9)
                    except ProcessLookupError:
                        continue

        thread = threading.Thread(target=killer)
        thread.start()
        for _ in range(6):
            try:
                found = executor.run_many([Job(SLOW, ((i,),)) for i in range(20)])
            except InfrastructureError:
                continue
            assert [o[0].value for o in found] == list(range(20))
        stop.set()
        thread.join()
        assert executor.run("def f(x): return x", [(5,)])[0].value == 5
        pids = [pid for pid in descendants(os.getpid()) if pid not in others]
    assert pids
    assert eventually(lambda: gone(pids))


def test_silent_zygote_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azr_lite.sandbox.pool.SILENT_S", 3.0)
    with Executor(QUICK, workers=1) as executor:
        executor.run("def f(x): return x", [(1,)])
        zygote = descendants(executor._engine._zygotes[0].process.pid)[0]
        os.kill(zygote, signal.SIGSTOP)
        assert executor.run("def f(x): return x", [(6,)])[0].value == 6
        assert executor.stats()["infra"] == 1


def test_close_while_running() -> None:
    executor = Executor(QUICK, workers=1)
    failures: list[BaseException] = []

    def wave() -> None:
        try:
            executor.run_many([Job("def f(x):\n    while True: pass", ((1,),))] * 20)
        except SandboxError as error:
            failures.append(error)

    thread = threading.Thread(target=wave)
    thread.start()
    time.sleep(0.4)
    executor.close()
    thread.join(10)
    assert not thread.is_alive()
    assert len(failures) == 1
    executor.close()
    with pytest.raises(SandboxError, match="closed"):
        executor.run("def f(x): return x", [(1,)])
