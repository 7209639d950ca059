"""The jail for commands that handle untrusted programs: what it holds, what it says, where it refuses."""

import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from azr_lite.errors import UnsafeError
from azr_lite.evaluation.benchmarks.jail import run_script

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the jail is made of Linux")
FALLBACK = "namespaces"
"""Leaving this out gives what Docker gives: no namespaces, no root of one's own; Landlock and the call filter must
do."""


def run(tmp_path, program, skip="", seconds=20, request=None, name="program.py", **more):
    (tmp_path / name).write_text(program)
    with (tmp_path / "out").open("w+b") as out:
        ended = run_script(tmp_path / name, [], request, out, seconds=seconds, skip=skip.split(","), **more)
        out.seek(0)
        return SimpleNamespace(code=ended.code, stdout=out.read(), stderr=ended.errors.encode(), layers=ended.layers)


@pytest.fixture(params=["", FALLBACK, "landlock"])
def skip(request):
    return request.param


def test_a_command_runs_unprivileged_and_says_what_held_it(tmp_path):
    ended = run(
        tmp_path,
        "import os, sys; print(os.getuid(), sys.stdin.read(), os.getcwd() == os.environ['HOME'])",
        request="hi",
    )
    assert (ended.code, ended.stderr) == (0, b"")
    uid, text, inside = ended.stdout.decode().split()
    assert int(uid) == os.getuid() or (os.getuid() == 0 and int(uid) > 1000)
    assert (text, inside) == ('"hi"', "True")
    assert ended.layers["no_new_privs"] == ended.layers["system_calls"] == ended.layers["no_capabilities"] == "on"


def test_nothing_of_the_callers_environment_goes_in(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret-token")
    ended = run(tmp_path, "import os; print(dict(os.environ))")
    assert b"secret-token" not in ended.stdout
    assert b"'HOME'" in ended.stdout


@pytest.mark.parametrize("target", ["('127.0.0.1', {port})", "('192.0.2.1', 80)"])
def test_no_network(tmp_path, skip, target):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        place = target.format(port=server.getsockname()[1])
        ended = run(tmp_path, f"import socket; socket.create_connection({place}, 2); print('connected')", skip)
        assert ended.code != 0
        assert b"connected" not in ended.stdout
        with pytest.raises(TimeoutError):
            server.accept()
    datagram = (
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9)); print('sent')"
    )
    assert b"sent" not in run(tmp_path, datagram, skip).stdout


def test_the_network_namespace_alone_holds_the_network(tmp_path):
    ended = run(tmp_path, "import socket; socket.create_connection(('127.0.0.1', 9), 2)", "system_calls,landlock")
    assert ended.layers["namespaces"] == "on", "this machine has no namespaces to test"
    assert b"unreachable" in ended.stderr


def test_files_of_the_caller_are_out_of_reach(tmp_path, skip):
    secret, mark = tmp_path / "home" / "token", tmp_path / "written"
    secret.parent.mkdir()
    secret.write_text("s3cret")
    secret.chmod(0o666)
    ended = run(tmp_path, f"print(open({str(secret)!r}).read())", skip)
    assert ended.code != 0
    assert b"s3cret" not in ended.stdout
    for path in (mark, Path.home() / "azr-jail-test", Path("/tmp/azr-jail-test"), Path(sys.prefix) / "azr-jail-test"):
        assert run(tmp_path, f"open({str(path)!r}, 'w').write('x')", skip).code != 0
        assert not path.exists()
    assert run(tmp_path, "open('here', 'w').write('x'); print(open('here').read())", skip).stdout == b"x\n"


def test_what_is_installed_and_our_own_package_are_not_there(tmp_path, skip):
    installed = Path(pytest.__file__).parent / "__init__.py"
    assert run(tmp_path, f"open({str(installed)!r})", skip).code != 0
    assert b"ModuleNotFoundError" in run(tmp_path, "import azr_lite", skip).stderr
    package = Path(__file__).parents[1] / "azr_lite" / "evaluation" / "shipped"
    assert run(tmp_path, f"import os; print(os.listdir({str(package)!r}))", skip).code != 0


@pytest.mark.parametrize("skip", ["", FALLBACK])
def test_what_is_installed_can_be_had_when_asked_for(tmp_path, skip):
    program = "import numpy; print(numpy.arange(3).sum())"
    ended = run(tmp_path, program, skip, seconds=60, packages=["numpy"])
    assert ended.stdout == b"3\n", ended.stderr
    assert b"ModuleNotFoundError" in run(tmp_path, program, skip).stderr


@pytest.mark.parametrize("skip", ["", FALLBACK])
def test_the_deadline_ends_everything_also_what_left_its_group(tmp_path, skip):
    grandchild = "import os, time\nfor i in range(2):\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n            time.sleep(61.5)\n"
    mark = f"azr-{os.getpid()}-{time.monotonic_ns()}"
    began = time.monotonic()
    ended = run(tmp_path, grandchild + "time.sleep(60)", skip, seconds=1, name=f"{mark}.py")
    assert ended.code is None
    assert time.monotonic() - began < 5
    assert [pid for pid in os.listdir("/proc") if pid.isdigit() and mark.encode() in command(pid)] == []


@pytest.mark.parametrize("skip", ["", FALLBACK])
def test_what_a_finished_command_leaves_behind_is_ended_too(tmp_path, skip):
    mark = f"azr-{os.getpid()}-{time.monotonic_ns()}"
    program = "import os, time\nif os.fork() == 0:\n    os.setsid(); time.sleep(60)"
    ended = run(tmp_path, program, skip, name=f"{mark}.py")
    assert ended.code == 0
    assert [pid for pid in os.listdir("/proc") if pid.isdigit() and mark.encode() in command(pid)] == []


def command(pid):
    try:
        return Path("/proc", pid, "cmdline").read_bytes()
    except OSError:
        return b""


def test_memory_processes_and_files_are_bounded(tmp_path):
    assert b"MemoryError" in run(tmp_path, "bytearray(700 << 20)", memory_mb=512).stderr
    assert run(tmp_path, "bytearray(300 << 20)", memory_mb=512).code == 0
    bomb = "import os, time\nfor i in range(40):\n    if os.fork() == 0: time.sleep(5); os._exit(0)"
    assert b"BlockingIOError" in run(tmp_path, bomb).stderr
    assert run(tmp_path, "open('big', 'wb').write(bytes(9 << 20))", file_mb=8).code != 0


def test_the_exit_status_comes_back(tmp_path):
    assert run(tmp_path, "import sys; sys.exit(7)").code == 7
    assert run(tmp_path, "import os; os.abort()").code in (-6, 134)


@pytest.mark.parametrize("skip", ["namespaces,system_calls", "namespaces,landlock", "no_new_privs"])
def test_without_kernel_isolation_it_refuses_unless_told(tmp_path, skip):
    with pytest.raises(UnsafeError, match="allow_weak"):
        run(tmp_path, "print('ran', flush=True)", skip)
    assert (tmp_path / "out").read_bytes() == b""
    ended = run(tmp_path, "print(1)", skip, allow_weak=True)
    assert ended.stdout == b"1\n"
    assert any(state != "on" for state in ended.layers.values())


def test_a_plain_user_gets_the_same_jail(tmp_path):
    python = "/usr/bin/python3"
    ready = (
        os.getuid() == 0
        and os.path.exists(python)
        and subprocess.run([python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]).returncode == 0
    )
    if not ready:
        pytest.skip("needs root and a system Python that other users may run")
    copy = tmp_path / "copy"
    import shutil

    shutil.copytree(
        Path(__file__).parents[1] / "azr_lite",
        copy / "azr_lite",
        ignore=shutil.ignore_patterns("shipped", "__pycache__", "weights"),
    )
    for folder in itertools.takewhile(lambda place: place != Path(tempfile.gettempdir()), (copy, *copy.parents)):
        folder.chmod(0o755)
    probe = copy / "probe.py"
    probe.write_text("import os, socket; print(os.getuid(), flush=True); socket.create_connection(('127.0.0.1', 9))")
    program = (
        "import tempfile, pathlib\nfrom azr_lite.evaluation.benchmarks.jail import run_script\n"
        "with tempfile.TemporaryFile() as out:\n"
        f"    e = run_script(pathlib.Path({str(probe)!r}), [], None, out, seconds=20)\n"
        "    out.seek(0); print(out.read().decode(), e.code, dict(e.layers), e.errors[-300:])\n"
    )
    done = subprocess.run(
        [python, "-c", program],
        user=65534,
        group=65534,
        extra_groups=[],
        cwd=copy,
        env={"TMPDIR": "/tmp"},
        capture_output=True,
    )
    assert done.stdout.startswith(b"65534"), done.stderr.decode()[-500:]
    assert b" 1 {" in done.stdout
    assert b"'own_root': 'on'" in done.stdout or b"'landlock': 'on'" in done.stdout
