"""Both architectures' filters, decided call by call with an interpreter."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

import azr_lite.sandbox
from tests.sandbox.bpf import decide

sys.path.insert(0, os.path.dirname(azr_lite.sandbox.__file__))
import lockdown  # type: ignore[import-not-found]

sys.path.pop(0)

HEADERS = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "/usr/include/asm-generic/unistd.h"}


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
@pytest.mark.parametrize("role", ["child", "zygote"])
def test_every_number_is_decided_as_the_tables_say(arch: str, role: str) -> None:
    program, audit = lockdown.assemble(arch, role), lockdown.AUDIT_ARCH[arch]
    allowed = lockdown.CHILD_CALLS if role == "child" else lockdown.ZYGOTE_CALLS
    names = {lockdown.number(name, arch): name for name in lockdown.CALLS}
    assert len(names) >= len(lockdown.CALLS) - 8
    for number in [*range(1000), 2**31, 2**32 - 1] if arch == "aarch64" else range(1000):
        verdict, steps = decide(program, audit, number, (1000, 0, 0))
        name = names.get(number, "")
        if name in lockdown.HOSTILE_CALLS or (
            role == "child" and name in lockdown.ZYGOTE_CALLS and verdict == lockdown.KILL
        ):
            assert verdict == lockdown.KILL
        elif name in allowed and not (role == "child" and name in ("read", "write")):
            assert verdict == lockdown.ALLOW, name
        else:
            assert verdict == lockdown.EPERM, name
        assert steps <= 20
    assert len(program) < 400


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_arguments_and_foreign_architectures(arch: str) -> None:
    child, audit = lockdown.assemble(arch, "child"), lockdown.AUDIT_ARCH[arch]

    def ask(name: str, *arguments: int) -> int:
        return decide(child, audit, lockdown.number(name, arch), arguments)[0]

    assert [fd for fd in range(20) if ask("read", fd) == lockdown.ALLOW] == [0, 3]
    assert [fd for fd in range(20) if ask("write", fd) == lockdown.ALLOW] == [1, 2, 3]
    for name in ("mmap", "mprotect"):
        assert [prot for prot in range(8) if ask(name, 0, 4096, prot) == lockdown.ALLOW] == [0, 1, 2, 3]
    for name in ("clone", "kill", "pidfd_send_signal", "execve", "ptrace", "bpf"):
        assert ask(name) == lockdown.KILL
    for name in ("recvmsg", "sendto", "prctl", "seccomp", "prlimit64", "wait4", "close_range", "dup3"):
        assert ask(name) == lockdown.EPERM
    for role in ("child", "zygote"):
        for foreign in (0x40000003, 0xC00000B7 if arch == "x86_64" else 0xC000003E, 0):
            assert decide(lockdown.assemble(arch, role), foreign, 0)[0] == lockdown.KILL
        if arch == "x86_64":
            for number in (0x40000000, 0x40000000 + 39, 2**32 - 1):
                assert decide(lockdown.assemble(arch, role), audit, number)[0] == lockdown.KILL


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_numbers_are_the_kernels(arch: str) -> None:
    header = Path(HEADERS[arch])
    if not header.exists():
        pytest.skip(f"no {header} here")
    numbers = {m[1]: int(m[2]) for m in re.finditer(r"#define (?:__NR_|__NR3264_)(\w+)\s+(\d+)", header.read_text())}
    for name in lockdown.CALLS:
        number = lockdown.number(name, arch)
        assert number in (numbers.get(name), -1), name
        assert number >= 0 or name not in numbers or arch == "x86_64", name
