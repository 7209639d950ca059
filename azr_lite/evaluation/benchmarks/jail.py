"""Run one of our scripts on untrusted data: no network, no foreign files, no rights, bounded memory, and an end.

What it printed was written by the untrusted side. Disk space in the jail's own folder is not bounded.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from azr_lite.errors import EvaluationError, SandboxError, UnsafeError
from azr_lite.sandbox.executor import cores_here

LAUNCHER = Path(__file__).with_name("jail_launcher.py")
WORKERS = min(8, cores_here())  # jails at a time
_FIRST_UID, _UIDS = 61400, 4000
_turn = itertools.count()


@dataclass(frozen=True)
class Ended:
    """`code`: exit status, -N or 128+N for signal N; None when the deadline ended it. `layers`: name to "on" or
    "off: why"."""

    code: int | None
    errors: str
    layers: Mapping[str, str]


def need(package: str, version: str) -> None:
    """EvaluationError unless this version of the package is installed. Imports nothing of it."""
    try:
        found = metadata.version(package)
    except metadata.PackageNotFoundError:
        found = ""
    if not found.startswith(version):
        problem = f"{package} {found} is installed, but verdicts were checked with {package} {version} only"
        missing = f"this suite needs the package {package} {version}, which is missing"
        raise EvaluationError(f"{problem if found else missing}; pip install 'azr-lite[eval]'")


def ask_script(script: Path, modules: Iterable[str], request: Any, answers: int, **limits: Any) -> list[Any]:
    """As `run_script`: what the script prints, one JSON value per line. EvaluationError where not `answers` come."""
    with tempfile.TemporaryFile() as out:
        ended = run_script(script, modules, request, out, **limits)
        out.seek(0)
        lines = [json.loads(line) for line in out]
    if len(lines) != answers:
        last = (ended.errors.strip().splitlines() or ["it said nothing"])[-1][:200]
        problem = f"{script.name} did not start or finish in its jail ({last})"
        raise EvaluationError(f"{problem}; pip install 'azr-lite[eval]' may fix it")
    return lines


def run_script(
    script: Path,
    modules: Iterable[str],
    request: Any,
    out: IO[bytes],
    *,
    seconds: float,
    packages: Iterable[str] = (),
    memory_mb: int = 4096,
    file_mb: int = 1024,
    allow_weak: bool = False,
    skip: Sequence[str] = (),
) -> Ended:
    """Run `script` with `request` as JSON on its standard input, for `seconds`; then nothing of it is left running.

    It sees copies of itself and of `modules` (files that it imports) in a folder of its own, the standard library and
    the installed `packages` (patterns of names), read-only. Nothing of the caller's environment goes in. Standard
    output goes to `out`. `memory_mb`: address space of each process. `file_mb`: size of one file, output included.
    `skip`: layers to leave out, for tests.

    UnsafeError where the kernel cannot hold network and files (with `allow_weak` it runs all the same, but on Linux
    only); SandboxError where the jail fails for another reason.
    """
    if sys.platform != "linux":
        told = "scoring needs Linux, whose kernel can confine what models write; use WSL2, Docker or a virtual machine"
        raise UnsafeError(told)
    site = sysconfig.get_paths()["purelib"]
    installed = [str(path) for name in packages for end in ("", ".libs") for path in Path(site).glob(name + end)]
    with tempfile.TemporaryDirectory(prefix="azr-jail-") as folder:
        scratch = os.path.realpath(folder)
        for source in (script, *modules):
            shutil.copy(source, scratch)
        order = {
            "argv": [os.path.realpath(sys.executable), "-s", "-S", "-B", os.path.join(scratch, script.name)],
            "env": {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
            | {"HOME": scratch, "TMPDIR": scratch, "PYTHONPATH": site if installed else ""},
            "scratch": scratch,
            "read": sorted({*_interpreter(), *installed}),
            "seconds": seconds,
            "memory": memory_mb << 20,
            "file": file_mb << 20,
            "uid": _FIRST_UID + (os.getpid() * 16 + next(_turn)) % _UIDS,
            "allow_weak": allow_weak,
            "skip": list(skip),
        }
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as errors:
            source.write(json.dumps(request).encode())
            source.seek(0)
            said = _launch(order, stdin=source, stdout=out, stderr=errors)
            errors.seek(0)
            last_words = errors.read(1 << 16).decode(errors="replace")
    layers = said.get("layers", {})
    if said.get("runs") is False:
        missing = ", ".join(f"{name} ({state})" for name, state in layers.items() if state != "on")
        raise UnsafeError(
            f"this machine cannot keep untrusted programs from the network and your files: {missing}. Use Linux with "
            "user namespaces or Landlock, or accept the risk with allow_weak (config: allow_weak)"
        )
    if "code" not in said or "error" in said:
        why = said.get("error", "it ended without a word")
        raise SandboxError(f"the jail for scored programs failed ({why}); run `azr-lite doctor --sandbox`")
    return Ended(said["code"], last_words, layers)


def _interpreter() -> list[str]:
    """This Python and its standard library without installed packages: no data file of ours or theirs can be seen."""
    library = Path(os.path.realpath(sysconfig.get_paths()["stdlib"]))
    paths = [Path(os.path.realpath(sys.executable)), Path("/etc/ld.so.cache"), Path("/usr/share/zoneinfo")]
    paths += [path for path in library.iterdir() if path.name not in ("site-packages", "dist-packages")]
    paths += Path(sys.base_prefix, "lib").glob("libpython3*.so*")
    libraries = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64")
    paths += [path for root in libraries for part in ("*-linux-gnu*", "*.so*") for path in Path(root).glob(part)]
    return [str(path) for path in paths if path.exists()]


def _launch(order: dict[str, Any], **files: IO[bytes]) -> dict[str, Any]:
    """Start the launcher and wait. It ends everything at the deadline, or when our end of the socket closes."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [os.path.realpath(sys.executable), "-s", "-S", "-P", "-B", str(LAUNCHER), str(theirs.fileno())],
            env={"PYTHONUTF8": "1"},
            pass_fds=[theirs.fileno()],
            cwd="/",
            **files,
        )
    with process, ours:
        ours.settimeout(order["seconds"] + 10)
        try:
            ours.sendall(json.dumps(order).encode() + b"\n")
            with ours.makefile("rb") as answers:
                lines = answers.readlines()
        except OSError:  # it died, or did not end in time
            process.kill()
            lines = []
    return {key: value for line in lines for key, value in json.loads(line).items()}
