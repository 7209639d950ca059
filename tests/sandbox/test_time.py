"""T01-T12: what hangs is killed in time, what is only slow is not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from azr_lite.sandbox import Limits
from tests.sandbox.conftest import NATIVE, Case, kinds

HANGS = {
    "T01_while_true": "def f(x):\n    while True: pass",
    "T03_regex": "import re\ndef f(x): return bool(re.match('(a+)+$', 'a' * 60 + 'b'))",
    "T04_power_tower": "def f(x): return (7 ** 10 ** 8) % 10",
    "T05_swallows_everything": "def f(x):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass",
    "T06_ignores_signals": NATIVE
    + "def f(x):\n    signal = sys.modules.get('_signal')\n    for n in range(1, 32):\n        try: signal.signal(n, signal.SIG_IGN)\n"
    "        except Exception: pass\n    try: signal.setitimer(0, 0)\n    except Exception: pass\n    while True: pass",
    "T09_closes_the_channel": NATIVE + "def f(x):\n    posix.close(3)\n    while True: pass",
    "T11_at_import_level": "while True: pass\ndef f(x): return x",
    "T12_in_a_finalizer": "class D:\n    def __del__(self):\n        while True: pass\ndef f(x):\n    d = D()\n    return 1",
    "T12_in_a_module_finalizer": "class D:\n    def __del__(self):\n        while True: pass\nd = D()\ndef f(x): return 1",
}


@pytest.mark.parametrize("name", HANGS)
def test_hang(case: Case, name: str) -> None:
    assert kinds(case(HANGS[name])) == ["timeout"]


SLEEP = NATIVE + "def f(x):\n    time = sys.modules['time']\n    time.sleep(1000)\n    return 1"


def test_T02_T08_sleeper_is_killed_by_the_wall_guard(case: Case) -> None:
    outcome = case(SLEEP)[0]
    assert outcome.kind == "timeout"
    assert outcome.cpu_ms < 250


def test_T07_busy_machine_is_no_timeout(case: Case) -> None:
    burners = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(4)]
    try:
        program = "def f(x):\n    n = 0\n    for i in range(200_000): n += i\n    return n"
        assert kinds(case(program, limits=Limits(cpu_s=1, wall_factor=20))) == ["ok"]
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def test_T10_hang_in_the_middle_of_a_batch(case: Case) -> None:
    outcomes = case("def f(x):\n    while x == 3: pass\n    return x * x", *range(6))
    assert kinds(outcomes) == ["ok", "ok", "ok", "timeout", "ok", "ok"]
    assert [o.value for o in outcomes if o.ok] == [0, 1, 4, 16, 25]


def test_many_hangs_in_one_job_do_not_add_up(case: Case) -> None:
    outcomes = case("def f(x):\n    while x: pass\n    return x", *range(12))
    assert kinds(outcomes) == ["ok"] + ["timeout"] * 11


def test_neighbours_time_is_not_mine(case: Case) -> None:
    """Twelve inputs of 0.1 s each are more than one child may use; none of them is a timeout."""
    program = "def f(x):\n    n = 0\n    for i in range(1_000_000): n += i & 3\n    return n"
    assert set(kinds(case(program, *range(12)))) == {"ok"}
