"""The abuse suite: attacks the sandbox on this very machine and counts what got out.

Every attack is harmless where it succeeds (signal 0, one fork, one small file that is removed again), so the suite is
safe on a person's own machine even at level WEAK, where it is expected to find leaks. Two attacks are weaker than they
could be: tracing seizes (attaching would stop the trainer for good), and mounting asks for a type that no kernel has
(allowed: ENODEV).
"""

from __future__ import annotations

import os
import socket
import tempfile
import textwrap
import time
import warnings
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any, Final

from azr_lite.errors import ConfigError
from azr_lite.sandbox.executor import Executor
from azr_lite.sandbox.outcome import Level, Limits, Outcome

LIMITS: Final = Limits(cpu_s=0.25, wall_factor=3.0)
WIDTH: Final = 80
SLACK_S: Final = 8.0
"""How much later than its hard deadline a hang may end on a busy machine before it counts as a leak."""

PRELUDE: Final = """
import statistics
sys = statistics.mean.__globals__['sys']
posix = sys.modules['posix']
def call(name, *a):
    lockdown = sys.modules['lockdown']
    number = lockdown.number(name, lockdown.platform.machine()) if type(name) is str else name
    return number >= 0 and lockdown.libc.syscall(number, *a) >= 0
def opens_socket(family, kind):
    return call(41 if sys.modules['lockdown'].platform.machine() == 'x86_64' else 198, family, kind, 0)
def f(x):
"""

GETS_OUT: Final[dict[str, str]] = {
    "write a file in /tmp": "posix.close(posix.open(MARK, 65, 0o600)); return True",
    "write a file in the working folder": (
        "posix.close(posix.open('azr_attack', 65, 0o600)); posix.unlink('azr_attack'); return True"
    ),
    "read /etc/passwd": "return posix.read(posix.open('/etc/passwd', 0), 1) == b'r'",
    "list the root folder": "return len(posix.listdir('/')) > 0",
    "read this kit's source": "return posix.open(KIT, 0) >= 0",
    "stat the home folder": "return bool(posix.stat(HOME))",
    "read /proc/self/maps": "return posix.open('/proc/self/maps', 0) >= 0",
    "read the trainer's memory file": "return posix.open(f'/proc/{TRAINER}/mem', 0) >= 0",
    "read the trainer's memory": "return call('process_vm_readv', TRAINER, 0, 0, 0, 0, 0)",
    "trace the trainer": "return call('ptrace', 0x4206, TRAINER, 0, 0)",
    "see the trainer's environment": "return any(b'AZR_ABUSE' in key for key in posix.environ)",
    "signal the trainer": "posix.kill(TRAINER, 0); return True",
    "signal every process": "posix.kill(-1, 0); return True",
    "signal the parent": "posix.kill(posix.getppid(), 0); return True",
    "fork": "pid = posix.fork()\n    if pid == 0: posix._exit(0)\n    return True",
    "raw clone": "return call('clone', 17, 0, 0, 0, 0)",
    "start a thread": "sys.modules['_thread'].start_new_thread(len, ('',)); return True",
    "run a shell": "return posix.system('exit 0') == 0",
    "spawn a program": "posix.posix_spawn('/bin/true', ['true'], {}); return True",
    "new session": "posix.setsid(); return True",
    "connect over TCP": "s = sys.modules['_socket'].socket(); s.connect(('127.0.0.1', PORT)); return True",
    "open an internet socket": "return opens_socket(2, 2)",
    "open a unix socket": "return opens_socket(1, 1)",
    "executable memory": "return sys.modules['mmap'].mmap(-1, 4096, prot=7) is not None",
    "executable memory, raw": "return call('mmap', 0, 4096, 7, 0x22, -1, 0)",
    "new namespaces": "return call('unshare', 0x10000000)",
    "mount": (
        "call('mount', b'none', b'/', b'no such type', 0, 0); return sys.modules['lockdown'].ctypes.get_errno() == 19"
    ),
    "chroot": "posix.chroot('/'); return True",
    "io_uring": "return call('io_uring_setup', 1, b'\\x00' * 120)",
    "bpf": "return call('bpf', 0, b'\\x00' * 64, 64)",
    "keyring": "return call('keyctl', 0, -3, 1)",
    "userfaultfd": "return call('userfaultfd', 0)",
    "perf events": "return call('perf_event_open', b'\\x00' * 128, 0, -1, -1, 0)",
    "raise its own limits": "sys.modules['resource'].setrlimit(6, (9, 9)); return True",
    "another program's address space (clone3)": "return call('clone3', b'\\x00' * 88, 88)",
    "change its priority": "return posix.nice(1) >= 0",
    "change its own filter": "return call('seccomp', 0, 0, 0)",
    "pretend the sandbox failed": "posix._exit(77)",
    "answer twice": 'posix.write(3, b\'{"s":"ok","v":true}\\n\'); return True',
    "return an object that equals everything": (
        "return type('L', (int,), {'__eq__': lambda s, o: True, '__hash__': None})(1)"
    ),
}
"""Leaks when `f` returns True (or, for the last ones, when anything but a refusal comes back)."""

NEVER_ENDS: Final[dict[str, str]] = {
    "spin": "while True: pass",
    "swallow every exception and spin": (
        "while True:\n        try:\n            while True: pass\n        except BaseException: pass"
    ),
    "hang in C": "return (7 ** 10 ** 8) % 10",
    "sleep": "sys.modules['time'].sleep(10**6); return 1",
    "close the channel and spin": "posix.close(3)\n    while True: pass",
    "hang in a finalizer": (
        "f.d = type('D', (), {'__del__': lambda s: [0 for _ in iter(int, 1)]})()\n    del f.d\n    return 1"
    ),
    "eat memory": "keep = ['x' * 999]\n    while True: keep += keep",
    "flood the channel": "while True: posix.write(3, b'a' * 60000)",
    "overflow the C stack": (
        "sys.setrecursionlimit(10**9)\n    a = []\n    for _ in range(10**5): a = [a]\n    return repr(a)"
    ),
}
"""Leaks when it ends as "ok", or past its deadline."""


@dataclass(frozen=True)
class Attack:
    """One attack and what became of it."""

    name: str
    contained: bool
    detail: str


@dataclass(frozen=True)
class Report:
    """What `azr-lite doctor --sandbox` prints."""

    level: Level
    layers: dict[str, str]
    attacks: tuple[Attack, ...]
    seconds: float

    @property
    def leaks(self) -> int:
        return sum(not attack.contained for attack in self.attacks)

    def text(self) -> str:
        """Layers, attacks and the count, one per line, 80 columns wide."""
        lines = [*textwrap.wrap(f"level {self.level.name}: {self.level.value}", WIDTH), ""]
        lines += [f"  layer {name:16} {state}"[:WIDTH] for name, state in self.layers.items()]
        lines.append("")
        lines += [
            f"  {'contained' if a.contained else 'LEAK     '}  {a.name}: {a.detail}"[:WIDTH] for a in self.attacks
        ]
        lines += ["", f"{len(self.attacks)} attacks, {self.leaks} leaks, {self.seconds:.1f} s"]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The same for `--json`."""
        return {**asdict(self), "level": self.level.name, "leaks": self.leaks}


def abuse_suite(skip: str = "", only: Collection[str] = ()) -> Report:
    """Run every attack, or `only` those of these names, and the three looks afterwards.

    `skip`: layers to leave out (tests, notebook 02). Raises `SandboxError` when no fork server starts.
    """
    if unknown := set(only) - GETS_OUT.keys() - NEVER_ENDS.keys():
        raise ConfigError(f"no attack is called {min(unknown)!r}; the names are the keys of GETS_OUT and NEVER_ENDS")
    started = time.monotonic()
    os.environ["AZR_ABUSE"] = "a secret of the trainer"
    try:
        with warnings.catch_warnings(), socket.create_server(("127.0.0.1", 0)) as server:
            warnings.simplefilter("ignore", RuntimeWarning)
            mark = os.path.join(tempfile.gettempdir(), f"azr_attack_{os.getpid()}")
            facts = {"MARK": mark, "KIT": __file__, "HOME": os.path.expanduser("~")}
            facts |= {"TRAINER": os.getpid(), "PORT": server.getsockname()[1]}
            head = "".join(f"{name} = {value!r}\n" for name, value in facts.items()) + PRELUDE
            with Executor(LIMITS, workers=1, allow_weak=True, _skip=skip) as executor:
                attacks = [
                    _attack(executor, name, head, body, leaked)
                    for bodies, leaked in ((GETS_OUT, _got_out), (NEVER_ENDS, lambda outcome: outcome.ok))
                    for name, body in bodies.items()
                    if not only or name in only
                ]
                if left := os.path.exists(mark):
                    os.unlink(mark)
                attacks.append(Attack("leave a file behind", not left, "found it" if left else "none"))
                outcome = executor.run("def f(a, b): return sorted(a) + [len(b)]", [([2, 1], "xyz")])[0]
                attacks.append(Attack("spoil the next program's result", outcome.value == [1, 2, 3], outcome.kind))
                pids = [zygote.process.pid for zygote in getattr(executor._engine, "_zygotes", ())]
                report = executor.level, executor.layers
            # each launcher takes its whole pid namespace with it
            alive = [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
            attacks.append(Attack("outlive the executor", not alive, f"pids {alive}" if alive else "none"))
    finally:
        del os.environ["AZR_ABUSE"]
    return Report(*report, tuple(attacks), time.monotonic() - started)


def _attack(executor: Executor, name: str, head: str, body: str, leaked: Callable[[Outcome], bool]) -> Attack:
    started = time.monotonic()
    outcome = executor.run(f"{head}    {body}", [(1,)])[0]
    took = time.monotonic() - started
    late = took > LIMITS.cpu_s * LIMITS.wall_factor + 0.5 + SLACK_S
    out = leaked(outcome)
    detail = _said(outcome, out) + (f", only after {took:.1f} s" if late else "")
    return Attack(name, not late and not out, detail)


def _said(outcome: Outcome, leaked: bool) -> str:
    if outcome.ok:
        return f"returned {outcome.value!r}"[:80] if leaked else "refused"
    if outcome.kind == "exception":
        return outcome.detail.partition(":")[0]
    if outcome.kind == "policy":
        return "killed"
    return f"{outcome.kind}: {outcome.detail.partition(':')[0]}"


def _got_out(outcome: Outcome) -> bool:
    return outcome.kind == "infra" or (outcome.ok and outcome.value is not False)
