"""K01-K16: files, network, kernel, with every Python-level defence already lost.  x86_64 call numbers."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys

import pytest

import azr_lite.sandbox
from azr_lite.sandbox import Executor, Level
from azr_lite.sandbox.pool import _ZYGOTE
from tests.sandbox.conftest import NATIVE, Case

EPERM = 1
CONTAINED = {"policy", "crash", "exception", "value", "rejected", "memory"}


@pytest.fixture(autouse=True)
def shown_here(strict: Executor) -> None:
    if strict.level is Level.WEAK or platform.machine() != "x86_64":
        pytest.skip(f"cannot be shown here: level {strict.level.name}, {platform.machine()}, {strict.layers}")


def denied(case: Case, body: str, *inputs: object) -> None:
    """The body must raise, be killed, or return [-1, an errno] from `call`."""
    for outcome in case(NATIVE + "def f(x):\n" + "".join(f"    {line}\n" for line in body.splitlines()), *inputs):
        refused = (
            outcome.kind == "ok"
            and type(outcome.value) is list
            and outcome.value[0] == -1
            and outcome.value[1] == EPERM
        )
        assert refused or outcome.kind in CONTAINED, outcome


@pytest.mark.parametrize("place", ["/azr_attack", "/tmp/azr_attack", "/dev/shm/azr_attack", "azr_attack"])
def test_K01_writes(case: Case, place: str) -> None:
    denied(case, f"return open({place!r}, 'w').write('x')")
    denied(case, f"return call(2, {place.encode()!r}, 65, 438)")
    denied(case, f"return call(257, -100, {place.encode()!r}, 65, 438)")
    assert not os.path.exists(place)


@pytest.mark.parametrize(
    "place", ["/etc/passwd", os.path.expanduser("~"), azr_lite.sandbox.__file__, "/", "/proc", "/sys"]
)
def test_K02_reads(case: Case, place: str) -> None:
    denied(case, f"return posix.listdir({place!r})")
    denied(case, f"return posix.open({place!r}, 0)")
    denied(case, f"return list(posix.stat({place!r}))")
    denied(case, f"return call(257, -100, {place.encode()!r}, 0)")


def test_K03_environment_is_empty(strict: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZR_SECRET", "hunter2hunter2")
    with Executor(workers=1) as fresh:
        found = fresh.run(NATIVE + "def f(x): return sorted(k.decode() for k in posix.environ)", [(1,)])[0].value
        assert set(found) <= {"PYTHONHASHSEED", "PYTHONUTF8", "LC_CTYPE"}


def test_K04_proc(case: Case) -> None:
    for name in ("self/maps", "self/environ", "1/cmdline", "self/fd", "meminfo", "sys/kernel/core_pattern"):
        denied(case, f"return open('/proc/{name}', 'rb').read(10)")


def test_K05_trainer_memory(case: Case) -> None:
    pid = os.getpid()
    denied(case, f"return open('/proc/{pid}/mem', 'rb').read(1)")
    denied(case, f"return call(310, {pid}, 0, 0, 0, 0, 0)")
    denied(case, f"return call(311, {pid}, 0, 0, 0, 0, 0)")


def test_K06_tcp(case: Case) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        denied(
            case, f"s = sys.modules['_socket'].socket()\ns.connect(('127.0.0.1', {server.getsockname()[1]}))\nreturn 1"
        )
        denied(case, "return call(41, 2, 1, 0)")
        with pytest.raises(BlockingIOError):
            server.accept()


def test_K07_udp_and_ipv6(case: Case) -> None:
    for family, kind in ((2, 2), (10, 1), (10, 2), (16, 3), (17, 3), (40, 1)):
        denied(case, f"return call(41, {family}, {kind}, 0)")


def test_K08_unix_sockets(case: Case) -> None:
    for kind in (1, 2, 5):
        denied(case, f"return call(41, 1, {kind}, 0)")
        denied(case, f"return call(53, 1, {kind}, 0, ctypes.create_string_buffer(8))")


def test_K09_signals(case: Case) -> None:
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        for target in ("posix.getppid()", "-1", "0", "1", str(victim.pid), str(os.getpid())):
            for number in (signal.SIGTERM, signal.SIGKILL):
                denied(case, f"return call(62, {target}, {int(number)})")
        denied(case, f"return call(234, {victim.pid}, {victim.pid}, 9)")
        denied(case, "return call(424, 3, 9, 0, 0)")
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


def test_K10_ptrace(case: Case) -> None:
    denied(case, f"return call(101, 16, {os.getpid()}, 0, 0)")
    denied(case, "return call(101, 0, 0, 0, 0)")


@pytest.mark.parametrize("number", [272, 165, 166, 308, 161, 155, 428, 429, 430, 442])
def test_K11_namespaces_and_mounts(case: Case, number: int) -> None:
    denied(case, f"return call({number}, 0x10000000, 0, 0, 0, 0)")


def test_K12_executable_memory(case: Case) -> None:
    denied(case, "return call(9, 0, 4096, 7, 0x22, -1, 0)")
    denied(
        case,
        "b = ctypes.create_string_buffer(8192)\na = (ctypes.addressof(b) + 4095) & ~4095\nreturn call(10, a, 4096, 5)",
    )
    denied(case, "return call(329, 0, 4096, 7, -1)")


@pytest.mark.parametrize(
    "number", [425, 426, 427, 321, 250, 248, 249, 323, 298, 175, 246, 304, 319, 447, 317, 157, 302, 141, 203]
)
def test_K13_dangerous_calls(case: Case, number: int) -> None:
    denied(case, f"return call({number}, 22, 2, 0, 0, 0)")


def test_K14_raw_sweep_is_the_allow_list(strict: Executor) -> None:
    """Every call with 3 as first argument (the channel, so that read and write count) and zeros."""
    sys.path.insert(0, os.path.dirname(_ZYGOTE))
    try:
        import lockdown  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    allowed = {lockdown.number(name, "x86_64") for name in lockdown.CHILD_CALLS}
    outcomes = strict.run(
        NATIVE + "def f(n): return call(n, 3, 0, 0, 0, 0, 0)", [(n,) for n in range(470)], isolate=True
    )
    reached = {
        n for n, o in enumerate(outcomes) if not (o.kind == "policy" or (o.kind == "ok" and o.value == [-1, EPERM]))
    }
    assert reached <= allowed | {335, 336}  # uretprobe and uprobe: exempt from seccomp by the kernel's design, harmless
    assert allowed <= reached


def test_K15_foreign_entries(case: Case) -> None:
    for number in (0x40000000, 0x40000000 + 39, 0x40000000 + 1):
        denied(case, f"return call({number}, 0, 0, 0)")


def test_K16_no_memory_between_two_runs(strict: Executor) -> None:
    """Whatever could carry a bit to the next child, asked for by both: shared memory, IPC, locks, file offsets,
    priorities."""
    tries = [
        "call(29, 77, 4096, 950)", "call(64, 77, 1, 950)", "call(68, 77, 950)", "call(240, b'/q', 66, 438, 0)", "call(73, 0, 2)",
        "call(8, 1, 5, 0)", "call(319, b'x', 0)", "call(141, 0, 0, 10)", "call(72, 0, 4, 2048)", "call(16, 0, 0x5421, 0)",
        "call(203, 0, 8, b'x' * 8)", "call(251, 1, 0, 0)", "call(302, 0, 7, b'x' * 16, 0)", "call(95, 0)",
    ]  # fmt: skip
    for attempt in tries:
        for outcome in strict.run(NATIVE + f"def f(x): return {attempt}", [(1,), (2,)], isolate=True):
            assert outcome.kind == "policy" or outcome.value == [-1, EPERM], attempt
    first, second = strict.run(
        NATIVE + "def f(x):\n    sys.flag = getattr(sys, 'flag', 0) + 1\n    return sys.flag",
        [(1,), (2,)],
        isolate=True,
    )
    assert (first.value, second.value) == (1, 1)
