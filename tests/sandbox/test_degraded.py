"""G01-G09: layers missing, for real where this machine lets us (x86_64 call numbers), each with the abuse suite,
which runs with all layers in test_command.py."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from azr_lite.errors import ConfigError, SandboxError, UnsafeError
from azr_lite.sandbox import Executor, Level, Limits
from azr_lite.sandbox.abuse import abuse_suite
from azr_lite.sandbox.executor import level_of, probe
from tests.benchmarks.sandbox_speed import EVERYTHING
from tests.sandbox.conftest import QUICK, kinds

ROOT = Path(__file__).parents[2]
UNSHARE, MOUNT, LANDLOCK, PIDFD_OPEN, SETRESUID = 272, 165, 444, 434, 117


def situation(prefix: list[str], deny: tuple[int, ...], attacks: str) -> dict[str, Any]:
    """Report of `degraded.py`, run behind `prefix` with these calls denied; skips, saying why, where that cannot be
    done."""
    if prefix and shutil.which(prefix[0]) is None:
        pytest.skip(f"no {prefix[0]} here")
    if prefix and os.geteuid() != 0:
        pytest.skip("needs root to arrange")
    python = interpreter(prefix) if prefix[:1] == ["setpriv"] else sys.executable
    command = [*prefix, python, "-B", "-m", "tests.sandbox.degraded", ",".join(map(str, deny)), attacks]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=150, env={**os.environ, "HOME": "/root"}, check=False
    )
    if done.returncode != 0:
        if "unshare failed" in done.stderr or "setpriv:" in done.stderr:
            pytest.skip(f"cannot be arranged here: {done.stderr[-200:]}")
        raise AssertionError(done.stderr)
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def interpreter(prefix: list[str]) -> str:
    """An interpreter that the process behind `prefix` can start (a person's own may lie in a closed home folder)."""
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        probing = "import subprocess, sys; assert sys.version_info >= (3, 11); subprocess.run([sys.executable, '-c', ''], check=True)"
        if (
            os.path.exists(python)
            and subprocess.run([*prefix, python, "-c", probing], capture_output=True, check=False).returncode == 0
        ):
            return python
    pytest.skip("no interpreter that an unprivileged user can start")


NO_USERNS = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
SITUATIONS: dict[str, tuple[list[str], tuple[int, ...], str, tuple[str, ...]]] = {
    "G01_user_namespaces_forbidden": (["unshare", "-U", "-r", "sh", "-c", NO_USERNS, "sh"], (), "FULL", ("namespaces", "empty_root")),
    "G02_docker_like": (
        ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"], (UNSHARE, MOUNT), "FULL", ("namespaces", "empty_root"),
    ),
    "G02_docker_plain_user": (  # .devcontainer/Dockerfile
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], (UNSHARE, MOUNT), "FULL", ("own_uid", "namespaces", "empty_root"),
    ),
    "G02_no_cap_sys_admin": (["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"], (), "FULL", ()),
    "G02_older_docker": (
        ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"], (UNSHARE, MOUNT, LANDLOCK), "KERNEL", ("namespaces", "landlock"),
    ),
    "G03_no_landlock": ([], (LANDLOCK,), "FULL", ("landlock",)),
    "G04_no_pidfd": ([], (PIDFD_OPEN,), "FULL", ("pidfd",)),
    "G04_no_pidfd_no_namespaces": ([], (PIDFD_OPEN, UNSHARE), "FULL", ("pidfd", "namespaces")),
    "G07_plain_user": (["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], (), "FULL", ("own_uid",)),
    "G09_half_way": ([], (MOUNT,), "FULL", ("empty_root",)),
}  # fmt: skip

ENDED_ALIKE = {"G02_docker_like", "G02_no_cap_sys_admin", "G02_older_docker", "G03_no_landlock", "G09_half_way"}
"""What never ends is ended there as with all layers, or as in G01: landlock and the empty root have no part in it."""


@pytest.mark.parametrize("name", SITUATIONS)
def test_no_leak(name: str) -> None:
    prefix, deny, level, missing = SITUATIONS[name]
    if probe().level is Level.WEAK:
        pytest.skip("no kernel isolation here at all")
    facts = situation(prefix, deny, "escapes" if name in ENDED_ALIKE else "suite")
    assert facts["leaks"] == 0, facts
    assert facts["level"] == level, facts
    for layer in missing:
        assert facts["layers"][layer].startswith("off: "), facts


def test_G05_no_seccomp_refuses_and_weak_warns() -> None:
    with pytest.raises(UnsafeError, match="allow_weak") as refusal:
        Executor(QUICK, workers=1, _skip="seccomp")
    assert "WSL2" in str(refusal.value)
    with (
        pytest.warns(RuntimeWarning, match="WEAK"),
        Executor(QUICK, workers=1, allow_weak=True, _skip="seccomp") as weak,
    ):
        assert weak.level is Level.WEAK
        assert weak.run("def f(x): return x", [(1,)])[0].value == 1


def test_kernel_level_logs_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING, "azr_lite.sandbox"),
        Executor(QUICK, workers=1, _skip="namespaces,landlock") as executor,
    ):
        assert executor.level is Level.KERNEL
    assert len(caplog.records) == 1
    assert "landlock (off" in caplog.records[0].message


def test_G06_level_and_layers_are_plain_data(strict: Executor) -> None:
    assert strict.level in Level
    assert json.loads(json.dumps(strict.layers)) == strict.layers
    assert all(state == "on" or state.startswith("off: ") for state in strict.layers.values())
    assert level_of({**strict.layers, "seccomp": "off: EPERM"}) is Level.WEAK
    assert probe().advice


def test_G08_another_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; sys.platform = 'win32'; import azr_lite.sandbox, azr_lite.sandbox.weak, azr_lite.sandbox.executor; print('ok')"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        == "ok\n"
    )
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UnsafeError, match="darwin"):
        Executor(QUICK)
    limits = Limits(cpu_s=1, wall_factor=3)
    with pytest.warns(RuntimeWarning, match="WEAK"), Executor(limits, workers=2, allow_weak=True) as weak:
        program = "def f(x):\n    while x == 2: pass\n    if x == 3: raise ValueError('three')\n    return x"
        assert kinds(weak.run(program, [(1,), (2,), (3,), (4,)])) == ["ok", "timeout", "exception", "ok"]
        assert weak.validate("def f(x): return hash('a')", [(1,)]).reason == "non_deterministic"
        assert weak.run("def f(x): return 'a' * 10**10", [(1,)])[0].kind == "memory"
        sleeper = "import statistics\ndef f(x): statistics.mean.__globals__['sys'].modules['time'].sleep(99)"
        assert weak.run(sleeper, [(1,)])[0].kind in ("timeout", "exception")


def test_a_layer_that_is_lost_during_the_run_stops_it() -> None:
    import os

    from tests.sandbox.conftest import descendants, eventually

    with Executor(QUICK, workers=1) as executor:
        executor._engine.skip = "landlock"
        os.kill(descendants(executor._engine._zygotes[0].process.pid)[0], 9)
        assert eventually(lambda: executor._engine.broken is not None)
        with pytest.raises(SandboxError, match="landlock worked when the run began"):
            executor.run("def f(x): return x", [(1,)])


def test_attacks_that_succeed_harm_nobody() -> None:
    """With every layer left out the trainer goes on (attaching to it would stop it for good) and nothing is mounted
    over its root."""
    code = (
        "from azr_lite.sandbox.abuse import abuse_suite\n"
        f"report = abuse_suite({EVERYTHING!r}, only=('trace the trainer', 'mount'))\n"
        "print(len(report.attacks), report.level.name)"
    )
    before = Path("/proc/self/mounts").read_text()
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.split() == ["5", "WEAK"]
    assert Path("/proc/self/mounts").read_text() == before


def test_an_unknown_attack_is_named() -> None:
    with pytest.raises(ConfigError, match="no attack is called 'nuke'"):
        abuse_suite(only=("nuke",))
