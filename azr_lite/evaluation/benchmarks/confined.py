"""Run one command of ours on untrusted data: no network, no foreign files, no rights, bounded memory, and an end.

Comes in: argv, a scratch folder, the paths it may read, limits.  Goes out: its exit code, what it wrote, and the layers that held it.
Not covered: running a model's program on plain values (`azr_lite.sandbox` does that, faster and stricter); disk space in scratch;
CPU side channels. What lies in scratch afterwards was written by the untrusted side: read standard output, or `read_back`.
"""

from __future__ import annotations

import itertools
import json
import os
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from azr_lite.errors import SandboxError, UnsafeError

JAIL = Path(__file__).with_name("jail.py")
SYSTEM = (
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/usr/share/zoneinfo",
)
"""What a dynamically linked interpreter needs besides itself."""
GRACE_S = 10.0
_FIRST_UID, _UIDS = 61400, 4000
_turn = itertools.count()


@dataclass(frozen=True)
class Ended:
    """`code`: exit status, -N or 128+N for signal N; None when the deadline killed it. `layers`: name to "on" or "off: why"."""

    code: int | None
    stdout: bytes
    stderr: bytes
    seconds: float
    layers: Mapping[str, str]

    @property
    def timed_out(self) -> bool:
        return self.code is None


def confined(
    argv: Sequence[str | Path],
    *,
    scratch: Path,
    seconds: float,
    read: Iterable[str | Path] = (),
    hide: Iterable[str | Path] = (),
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    memory_mb: int = 4096,
    processes: int = 64,
    file_mb: int = 1024,
    output_bytes: int = 16 << 20,
    stdout_to: IO[bytes] | None = None,
    allow_weak: bool = False,
    _skip: str = "",
) -> Ended:
    """Run `argv` (an absolute path first) to its end or for `seconds`; then nothing of it is left running.

    `scratch`: an existing folder, the only writable place, where it also starts; HOME, TMPDIR and XDG_CACHE_HOME lie in it and
    `env` is added to them; nothing of the caller's environment goes in. `read`: more paths to see, read-only, `hide`: parts of
    them not to see. `memory_mb`: address space of each process. `file_mb`: size of one file, output included. `output_bytes`: more
    standard output or error is cut off (`stdout_to`: goes there instead, whole). `_skip`: layers to leave out, for tests.

    UnsafeError where the kernel cannot hold network and files (with `allow_weak` it runs all the same, but on Linux only);
    SandboxError where the jail fails for another reason.
    """
    if sys.platform != "linux":
        raise UnsafeError(
            "scoring written programs needs Linux, whose kernel can confine them; use WSL2, Docker or a virtual machine"
        )
    scratch = Path(os.path.realpath(scratch))
    for name in ("home", "tmp", "cache"):
        (scratch / name).mkdir(exist_ok=True)
    request = {
        "argv": [str(part) for part in argv],
        "env": {
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(scratch / "home"),
            "TMPDIR": str(scratch / "tmp"),
            "XDG_CACHE_HOME": str(scratch / "cache"),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            **(env or {}),
        },
        "scratch": str(scratch),
        "read": [_place(path) for path in (*read, *SYSTEM)],
        "hide": [_place(path) for path in hide],
        "memory": memory_mb << 20,
        "file": file_mb << 20,
        "processes": processes,
        "uid": _FIRST_UID + (os.getpid() * 16 + next(_turn)) % _UIDS,
        "allow_weak": allow_weak,
        "skip": _skip.split(","),
    }
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        source.write(stdin)
        source.seek(0)
        target = stdout_to if stdout_to is not None else out
        began = time.monotonic()
        said, timed_out = _launch(request, seconds, source, target, err)
        took = time.monotonic() - began
        layers = next((line["layers"] for line in said if "layers" in line), {})
        if any(line.get("runs") is False for line in said):
            missing = ", ".join(f"{name} ({state})" for name, state in layers.items() if state != "on")
            raise UnsafeError(
                f"this machine cannot keep untrusted programs from the network and your files: {missing}. Use Linux with user namespaces "
                "or Landlock, or accept the risk with allow_weak (config: allow_weak)"
            )
        code = next((line["code"] for line in said if "code" in line), None)
        if (code is None and not timed_out) or (fault := next((line["error"] for line in said if "error" in line), "")):
            why = fault if code is not None else "it ended without a word"
            raise SandboxError(f"the jail for {request['argv'][0]} failed ({why}); run `azr-lite doctor --sandbox`")
        return Ended(
            None if timed_out else code,
            b"" if stdout_to else _head(out, output_bytes),
            _head(err, output_bytes),
            took,
            layers,
        )


def _launch(request: dict[str, Any], seconds: float, *files: IO[bytes]) -> tuple[list[dict[str, Any]], bool]:
    """Start the launcher, wait, and close its control pipe at the deadline: it then kills everything and says so."""
    control_read, control_write = os.pipe()
    status_read, status_write = os.pipe()
    try:
        process = subprocess.Popen(
            [os.path.realpath(sys.executable), "-s", "-S", "-P", "-B", str(JAIL), str(control_read), str(status_write)],
            env={"PYTHONUTF8": "1"},
            pass_fds=(control_read, status_write),
            stdin=files[0],
            stdout=files[1],
            stderr=files[2],
            cwd="/",
        )
    finally:
        os.close(control_read)
        os.close(status_write)
    timed_out = False
    try:
        with open(control_write, "wb", buffering=0, closefd=False) as control:
            control.write(json.dumps(request).encode() + b"\n")
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        timed_out = True
    except BrokenPipeError:
        pass
    finally:
        os.close(control_write)
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with open(status_read, "rb") as status:
            lines = status.read(1 << 20).splitlines()
    return [json.loads(line) for line in lines], timed_out


def _place(path: str | Path) -> str:
    """Absolute, links resolved but for the last part (a virtual environment's python must stay a link)."""
    whole = os.path.abspath(path)
    return os.path.join(os.path.realpath(os.path.dirname(whole)), os.path.basename(whole))


def _head(file: IO[bytes], size: int) -> bytes:
    file.seek(0)
    return file.read(size)


def read_back(path: Path, limit: int) -> bytes:
    """A file that the confined side wrote, if it is a plain file of at most `limit` bytes (a link could name any file of ours)."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            facts = os.fstat(file.fileno())
            if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1 and facts.st_size <= limit:
                return file.read(limit)
    except OSError:
        pass
    raise SandboxError(
        f"{path} is not a plain file of at most {limit} bytes, as the confined command should have written"
    )


def interpreter(*packages: str) -> tuple[list[str], list[str], list[str]]:
    """``(argv, read, hide)`` for a Python without an environment: standard library and the top-level names `packages`, nothing else
    installed.

    So no data file of ours, or of another package, can be seen; the caller puts `sys.path` right (`site_packages`).
    """
    python = os.path.realpath(sys.executable)
    library = os.path.realpath(sysconfig.get_paths()["stdlib"])
    paths = [python, library, *_shared_library()]
    for name in packages:
        paths += [
            str(path) for path in (*Path(site_packages()).glob(name), *Path(site_packages()).glob(f"{name}.libs"))
        ]
    hide = [os.path.join(root, name) for root in {library, *SYSTEM} for name in ("site-packages", "dist-packages")]
    hide += (
        [str(path) for path in Path("/usr/local/lib").glob("python3*")] if not library.startswith("/usr/local/") else []
    )
    return [python, "-s", "-S", "-P", "-B"], paths, [path for path in hide if os.path.isdir(path) and path not in paths]


def environment() -> tuple[list[str], list[str]]:
    """``(argv, read)`` for the Python that runs now, with all that is installed in it."""
    python = os.path.join(os.path.realpath(os.path.dirname(sys.executable)), os.path.basename(sys.executable))
    prefixes = {sys.prefix, sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]}
    links = [python]
    while os.path.islink(links[-1]):
        links.append(_place(os.path.join(os.path.dirname(links[-1]), os.readlink(links[-1]))))
    return [python, "-s", "-P", "-B"], [*sorted(prefixes), *links, sysconfig.get_paths()["stdlib"], *_shared_library()]


def site_packages() -> str:
    """Where installed packages lie."""
    return sysconfig.get_paths()["purelib"]


def _shared_library() -> list[str]:
    """libpython, where the interpreter is linked to one that lies outside the system's folders."""
    return [str(path) for path in Path(sys.base_prefix, "lib").glob("libpython3*.so*")]
