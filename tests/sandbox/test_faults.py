"""Faults of the machine, injected: none makes the executor wait for ever, and none is booked as a program's."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from azr_lite.errors import InfrastructureError, SandboxError
from azr_lite.sandbox import Executor, Job, Limits, executor, pool
from tests.sandbox.conftest import NATIVE, QUICK, Case, descendants, eventually, kinds

ROOT = Path(__file__).parents[2]
IDENTITY = "def f(x): return x"
SPIN = "def f(x):\n    while True: pass"
BOUND_S = 60.0


@pytest.fixture(autouse=True)
def bound(monkeypatch: pytest.MonkeyPatch):
    """Seven stumbles take 6 s, here 2 s; the rest is for a busy machine."""
    monkeypatch.setattr(pool, "FIRST_WAIT_S", 0.03)
    started = time.monotonic()
    yield
    assert time.monotonic() - started < BOUND_S


class Failing:
    """Stands for a function: fails so many times, then is what it was."""

    def __init__(self, function: Any, times: int, code: int) -> None:
        self.function, self.times, self.code = function, times, code

    def __call__(self, *given: Any, **options: Any) -> Any:
        if self.times > 0:
            self.times -= 1
            raise OSError(self.code, os.strerror(self.code))
        return self.function(*given, **options)


@pytest.mark.parametrize(
    ("module", "name", "code"), [(pool.socket, "socketpair", errno.EMFILE), (pool.subprocess, "Popen", errno.ENOMEM)]
)
def test_a_shortage_is_waited_out_and_one_that_stays_ends_the_executor(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, code: int
) -> None:
    with Executor(QUICK, workers=1) as running:
        running.run(IDENTITY, [(1,)])
        for times in (1, 4):
            with monkeypatch.context() as patch:
                patch.setattr(module, name, Failing(getattr(module, name), times, code))
                world = "CDEFGH"[times]  # one that has no fork server yet
                assert running.run(IDENTITY, [(7,)], world=world)[0].value == 7
        assert running.stats()["infra"] == 5
        monkeypatch.setattr(module, name, Failing(None, 10**6, code))
        with pytest.raises(InfrastructureError, match=f"7 times in a row: .*{os.strerror(code)}"):
            running.run(IDENTITY, [(7,)], world="C")
        with pytest.raises(InfrastructureError):
            running.run(IDENTITY, [(7,)])


def test_no_memory_at_the_very_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool.subprocess, "Popen", Failing(subprocess.Popen, 2, errno.ENOMEM))
    with Executor(QUICK, workers=1) as running:
        assert running.run(IDENTITY, [(7,)])[0].value == 7
    monkeypatch.setattr(pool.subprocess, "Popen", Failing(None, 10**6, errno.ENOMEM))
    with pytest.raises(InfrastructureError, match="Cannot allocate memory"):
        Executor(QUICK, workers=1)


def test_no_free_descriptor_for_real() -> None:
    """In a process of its own: its limit falls to what is open, with attempts under way, and rises again."""
    code = (
        "import os, resource, threading\n"
        "from azr_lite.sandbox import Executor, Job\n"
        "with Executor(workers=1) as e:\n"
        "    e.validate('def f(x): return x', [(1,)])\n"
        "    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir('/proc/self/fd')) - 1, hard))\n"
        "    threading.Timer(0.7, resource.setrlimit, (resource.RLIMIT_NOFILE, (hard, hard))).start()\n"
        "    found = e.run_many([Job('def f(x): return x', ((i,),), world='AC'[i % 2]) for i in range(20)])\n"
        "    assert [o[0].value for o in found] == list(range(20)), found\n"
        "    print(e.stats()['infra'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=BOUND_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 1 <= int(done.stdout) < pool.STUMBLES * 2


def test_no_process_for_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fork server's own fork fails: it says so, goes on, and the attempt is made again."""
    code = (
        "import array, errno, os, socket, sys\n"
        f"sys.path.insert(0, {os.path.dirname(pool.__file__)!r})\n"
        "import zygote\n"
        "def no_fork(): raise OSError(errno.EAGAIN, 'no')\n"
        "os.fork = no_fork\n"
        "ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0]))]\n"
        "ours.sendmsg([zygote.START.pack(5, 1.0, 9.0, 1 << 28)], rights)\n"
        "server = zygote.Zygote(theirs, True, True, None)\n"
        "assert server._message() and not server.children\n"
        "assert zygote.REPORT.unpack(ours.recv(99)) == (5, zygote.NO_FORK, errno.EAGAIN, 0.0)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=BOUND_S, check=True)
    with Executor(QUICK, workers=1) as running:
        report, marks = running._engine._report, [pool.NO_FORK] * 2

        def first_two(zygote: Any, id: int, mark: int, status: int, cpu_s: float) -> None:
            report(zygote, id, *((marks.pop(), errno.EAGAIN) if marks else (mark, status)), cpu_s)

        monkeypatch.setattr(running._engine, "_report", first_two)
        assert [o.value for o in running.run(IDENTITY, [(7,), (8,)], isolate=True)] == [7, 8]
        assert (running.stats()["infra"], running.stats()["respawns"]) == (2, 0)


@pytest.mark.parametrize("spawn_fails", [0, 3, 10**6])
def test_fork_server_killed_between_pop_and_register(monkeypatch: pytest.MonkeyPatch, spawn_fails: int) -> None:
    with Executor(QUICK, workers=1) as running:
        running.run(IDENTITY, [(1,)])
        make = pool._Flight

        def killed_first(*given: Any) -> Any:
            monkeypatch.setattr(pool, "_Flight", make)
            monkeypatch.setattr(pool.subprocess, "Popen", Failing(subprocess.Popen, spawn_fails, errno.ENOMEM))
            launcher = running._engine._zygotes[0].process
            launcher.kill()
            launcher.wait()
            return make(*given)

        monkeypatch.setattr(pool, "_Flight", killed_first)
        jobs = [Job(IDENTITY, ((i,),)) for i in range(5)]
        if spawn_fails > pool.STUMBLES:
            with pytest.raises(InfrastructureError):
                running.run_many(jobs)
        else:
            assert [o[0].value for o in running.run_many(jobs)] == list(range(5))
            assert running.stats()["respawns"] == 1


def test_a_child_killed_from_outside_is_no_failure_of_its_program() -> None:
    """Once: it runs again. Whenever it runs: an error, and nothing is booked."""
    with Executor(Limits(cpu_s=20), workers=1) as running:
        running.run(IDENTITY, [(1,)])
        zygote = descendants(running._engine._zygotes[0].process.pid)[0]
        stop = threading.Event()

        def killer() -> None:
            while not stop.wait(0.05):
                for child in descendants(zygote):
                    os.kill(child, 9)

        thread = threading.Thread(target=killer)
        thread.start()
        try:
            with pytest.raises(InfrastructureError, match="failed 3 times on one job: a child was killed from outside"):
                running.run(SPIN, [(1,)])
        finally:
            stop.set()
            thread.join()
        slow = "def f(x):\n    n = 0\n    for i in range(3_000_000): n += 1\n    return x"
        timer = threading.Timer(0.05, lambda: [os.kill(child, 9) for child in descendants(zygote)])
        timer.start()
        assert running.run(slow, [(5,)])[0].value == 5
        timer.join()
        assert set(running.stats()) <= {"children", "infra", "respawns", "ok"}


ASLEEP = {
    "sleep": "sys.modules['time'].sleep(1000)",
    "lock": "lock = sys.modules['_thread'].allocate_lock()\n    lock.acquire()\n    lock.acquire()",
    "channel": "posix.read(3, 1)",
}


@pytest.mark.parametrize("name", ASLEEP)
def test_sleepers_end_after_a_second_look(case: Case, name: str) -> None:
    started = time.monotonic()
    outcomes = case(f"{NATIVE}def f(x):\n    {ASLEEP[name]}", limits=Limits(cpu_s=5))
    assert (kinds(outcomes), outcomes[0].detail) == (["timeout"], "asleep")
    assert 1.8 < time.monotonic() - started < 9


def test_one_that_stood_still_with_its_machine_is_run_again() -> None:
    """A second without CPU time ends a child, as on a machine that swaps; alone it is right, and so is its verdict."""
    slow = "def f(x):\n    n = 0\n    for i in range(2_000_000): n += 1\n    return x"
    with Executor(Limits(cpu_s=2), workers=1) as running:
        running.run(IDENTITY, [(1,)])
        (zygote,) = descendants(running._engine._zygotes[0].process.pid)
        stopped: list[int] = []

        def stop() -> None:
            assert eventually(lambda: bool(descendants(zygote)))
            stopped.extend(descendants(zygote))
            os.kill(stopped[0], signal.SIGSTOP)

        thread = threading.Thread(target=stop)
        thread.start()
        started = time.monotonic()
        assert running.run(slow, [(5,), (6,)])[0].value == 5
        assert time.monotonic() - started > 1
        thread.join()
        assert len(stopped) == 1
        assert running.stats() == {"children": 3, "infra": 0, "respawns": 0, "ok": 3}


def test_one_that_dozes_ends_at_the_wall(case: Case) -> None:
    program = (
        NATIVE + "def f(x):\n    while True:\n        sys.modules['time'].sleep(0.05)\n        sum(range(100_000))"
    )
    started = time.monotonic()
    assert case(program, limits=Limits(cpu_s=1.0, wall_factor=2.0))[0].kind == "timeout"
    assert 3 < time.monotonic() - started < 16


def test_a_starved_machine_is_nobodys_timeout() -> None:
    """Thirty loops share the one core that this process may use with its programs."""
    code = (
        "import os, sys\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "import subprocess, time\n"
        "from azr_lite.sandbox import Executor, Limits\n"
        "with Executor(Limits(cpu_s=0.3), workers=1) as e:\n"
        "    e.run('def f(x): return x', [(1,)])\n"
        "    loops = [subprocess.Popen([sys.executable, '-S', '-c', 'while True: pass']) for _ in range(30)]\n"
        "    try:\n"
        "        started = time.monotonic()\n"
        "        slow = 'def f(x):\\n    n = 0\\n    for i in range(1_500_000): n += 1\\n    return x'\n"
        "        print(*[o.kind for o in e.run(slow, [(1,), (2,)], isolate=True)], time.monotonic() - started)\n"
        "    finally:\n"
        "        [loop.kill() for loop in loops]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=BOUND_S, check=False
    )
    first, second, seconds = done.stdout.split() or [done.stderr, "", "0"]
    assert (first, second) == ("ok", "ok")
    assert float(seconds) > 0.3 * 5 + 0.5  # what the wall guard once allowed


def test_a_failing_io_thread_tells_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    with Executor(QUICK, workers=1) as running:
        running.run(IDENTITY, [(1,)])
        monkeypatch.setattr(pool._Flight, "send", lambda flight: 1 / 0)
        with pytest.raises(SandboxError, match="ZeroDivisionError"):
            running.run_many([Job(IDENTITY, ((i,),)) for i in range(5)])
        with pytest.raises(SandboxError, match="ZeroDivisionError"):
            running.run(IDENTITY, [(1,)])


def test_a_dead_io_thread_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "LAST_RESORT", (0.1, 4))
    with Executor(QUICK, workers=1) as running:
        running.run(IDENTITY, [(1,)])
        release = threading.Event()
        monkeypatch.setattr(running._engine, "_deadlines", lambda: release.wait(20))
        with pytest.raises(SandboxError, match="has stopped"):
            running.run(IDENTITY, [(1,)])
        release.set()


def test_the_callers_own_mistakes() -> None:
    with Executor(QUICK, workers=1) as running:
        with pytest.raises(ValueError, match="unknown world 'Z': use one of A, B"):
            running.run(IDENTITY, [(1,)], world="Z")
        with pytest.raises(TypeError, match="tuple of arguments"):
            running.run(IDENTITY, [1])  # type: ignore[list-item]
        assert running.run(IDENTITY, [(1,)])[0].ok


def test_values_over_the_cap_are_measured_one_by_one(case: Case) -> None:
    """Forty values of 60 kB are more than one child may say, and one of 70 kB is its own fault alone."""
    outcomes = case("def f(n): return 'a' * n", *[60_000] * 20, 70_000, *[60_000] * 20)
    assert kinds(outcomes) == ["ok"] * 20 + ["value"] + ["ok"] * 20
    assert outcomes[20].detail.startswith("output_too_long")


def test_a_list_that_holds_itself(case: Case) -> None:
    program = "def f(x):\n    x.append([x])\n    return [[x]]"
    assert case(program, [1])[0].detail == "output_not_literal: a list that holds itself"
    deep = "def f(x):\n    for _ in range(50): x = [x, x]\n    return x"
    assert case(deep, 1)[0].detail.startswith("output_too_long")


def test_a_terminals_signals_are_not_a_programs() -> None:
    """Ctrl-C and Ctrl-Z go to a terminal's process group; no fork server and no child is in it."""
    with Executor(QUICK, workers=1) as running:
        running.run(IDENTITY, [(1,)])
        below = descendants(running._engine._zygotes[0].process.pid)
        assert eventually(lambda: bool(below))
        assert os.getpgid(0) not in {os.getpgid(pid) for pid in below}
