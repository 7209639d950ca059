"""M01-M12: memory, processes, exits."""

from __future__ import annotations

import os
import threading

import pytest

from azr_lite.sandbox import Executor, Limits
from tests.sandbox.conftest import NATIVE, Case, descendants, descriptors, kinds

SWALLOWS = "def f(x):\n    keep = []\n    while True:\n        try: keep.append('a' * 10**7 + str(len(keep)))\n        except MemoryError: pass"
CASES = {
    "M01_bytearray": ("def f(x): return len(bytearray(1_200_000_000))", {"memory"}),
    "M02_slow_growth": ("def f(x):\n    a = ['x' * 999]\n    while True: a += a", {"memory"}),
    "M03_memory_error_swallowed": (SWALLOWS, {"timeout", "memory", "crash"}),
    "M04_fork": (NATIVE + "def f(x): return posix.fork()", {"policy"}),
    "M04_raw_clone": (NATIVE + "def f(x): return call(56, 17, 0, 0, 0, 0)", {"policy"}),
    "M05_thread": (
        NATIVE + "def f(x): return sys.modules['_thread'].start_new_thread(print, ())",
        {"policy", "exception"},
    ),
    "M06_spawn": (NATIVE + "def f(x): return posix.posix_spawn('/bin/sh', ['sh'], {})", {"policy", "exception"}),
    "M06_system": (NATIVE + "def f(x): return posix.system('touch /tmp/azr_attack') and 0", {"policy", "ok"}),
    "M06_exec": (NATIVE + "def f(x): return posix.execv('/bin/sh', ['sh', '-c', 'id'])", {"policy"}),
    "M06_import_subprocess": ("import subprocess\ndef f(x): return 1", {"rejected"}),
    "M07_orphan": (NATIVE + "def f(x):\n    posix.setsid()\n    return posix.fork()", {"policy", "exception"}),
    "M08_recursion": ("def f(x): return f(x)", {"exception"}),
    "M09_c_stack": (
        NATIVE
        + "sys.setrecursionlimit(10**9)\ndef f(x):\n    a = []\n    for _ in range(2 * 10**5): a = [a]\n    return repr(a)",
        {"crash", "memory", "exception"},
    ),
    "M10_exit_0": (NATIVE + "def f(x): posix._exit(0)", {"crash"}),
    "M10_system_exit": ("def f(x): raise SystemExit(0)", {"exception"}),
    "M10_keyboard_interrupt": ("def f(x): raise KeyboardInterrupt", {"exception"}),
    "M11_abort": (NATIVE + "def f(x): posix.abort()", {"crash", "policy"}),
    "M11_kill_self": (NATIVE + "def f(x): posix.kill(posix.getpid(), 9)", {"policy"}),
    "M11_segfault": (NATIVE + "def f(x): return ctypes.string_at(1)", {"crash"}),
    "M11_pretend_infra": (NATIVE + "def f(x): posix._exit(77)", {"crash"}),
    "M11_usr1": (NATIVE + "def f(x): call(234, posix.getpid(), posix.getpid(), 10)\n", {"value", "ok", "policy"}),
}


@pytest.mark.parametrize("name", CASES)
def test_case(case: Case, name: str) -> None:
    program, expected = CASES[name]
    outcome = case(program, limits=Limits(cpu_s=3) if name == "M09_c_stack" else None)[0]
    assert outcome.kind in expected, outcome
    if name == "M08_recursion":
        assert outcome.detail.startswith("RecursionError")


def test_M05_M07_isolated_inputs_after_an_attack(case: Case) -> None:
    program = NATIVE + "def f(x):\n    return posix.fork() if x == 1 else x"
    assert kinds(case(program, 0, 1, 2, isolate=True)) == ["ok", "policy", "ok"]


def test_M12_two_hundred_executions_leave_nothing() -> None:
    before = len(descendants(os.getpid())), threading.active_count(), descriptors()
    with Executor(workers=1) as executor:
        executor.run("def f(x): return x", [(1,)])
        inside = len(descendants(os.getpid())), threading.active_count(), descriptors()
        for i in range(200):
            assert executor.run("def f(x): return x", [(i,)])[0].value == i
        assert (len(descendants(os.getpid())), threading.active_count(), descriptors()) == inside
    assert (len(descendants(os.getpid())), threading.active_count(), descriptors()) == before
