"""The kernel layers of the fork server, through ctypes: namespaces, empty root, Landlock, capabilities, seccomp.

Every layer may be missing ("off: why"); only the caller decides whether what is left is enough. Linux only, executed by
path.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
from collections.abc import Callable
from typing import Final

import syscalls  # type: ignore[import-not-found]

OWN_UID: Final = 61337
"""A uid nobody else has: signals and RLIMIT_NPROC are per uid, and `nobody` is shared."""

_NEW_ALL: Final = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
"""CLONE_NEW: NS (mount), CGROUP, UTS, IPC, USER, PID, NET."""
_NOSUID_NODEV_NOEXEC: Final = 2 | 4 | 8
_RDONLY, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 32, 4096, 16384, 1 << 18
_DETACH: Final = 2
_SET_PDEATHSIG, _SET_DUMPABLE, _SET_SECCOMP, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}
_LANDLOCK_FS: Final = {1: 13, 2: 14, 3: 15, 4: 15}
"""Landlock ABI to the number of file-system rights it knows; from 5 on there are 16."""

libc = ctypes.CDLL(None, use_errno=True)
prctl = libc.prctl
prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]


class _Filter(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_Filter))]


def check(result: int) -> int:
    """The result of a C call, or `OSError` with its errno."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def attempt(layer: Callable[[], None]) -> str:
    """Put one layer on: "on", or "off: " and the errno's name."""
    try:
        layer()
    except OSError as error:
        return f"off: {errno.errorcode.get(error.errno or 0, 'error')} ({error.strerror})"
    except Exception as error:
        return f"off: {type(error).__name__}: {error}"
    return "on"


def no_new_privs() -> None:
    check(prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def die_with_parent() -> None:
    check(prctl(_SET_PDEATHSIG, 9, 0, 0, 0))


def own_uid() -> None:
    """Leave root (and every group) for a uid of our own; nothing to do for a plain user."""
    if os.geteuid() != 0:
        raise OSError(errno.EPERM, "not root: the user's own uid stays")
    os.setgroups([])
    os.setresgid(OWN_UID, OWN_UID, OWN_UID)
    os.setresuid(OWN_UID, OWN_UID, OWN_UID)
    check(prctl(_SET_DUMPABLE, 1, 0, 0, 0))  # or /proc/self/uid_map stays root's


def new_namespaces() -> None:
    """New user, mount, pid, net, ipc, uts, cgroup namespaces; the next fork is pid 1."""
    uid, gid = os.geteuid(), os.getegid()
    check(libc.unshare(_NEW_ALL))
    for path, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{path}", "w") as file:
            file.write(text)


def empty_root() -> None:
    """Pivot into an empty, read-only tmpfs. Needs the namespaces."""
    check(libc.mount(None, b"/", None, _REC | _PRIVATE, None))
    check(libc.mount(b"none", b"/tmp", b"tmpfs", _NOSUID_NODEV_NOEXEC, b"size=4k,nr_inodes=2,mode=555"))
    os.chdir("/tmp")
    check(libc.syscall(_PIVOT_ROOT[platform.machine()], b".", b"."))
    check(libc.umount2(b".", _DETACH))
    os.chdir("/")
    check(libc.mount(None, b"/", None, _REMOUNT | _BIND | _RDONLY | _NOSUID_NODEV_NOEXEC, None))


def landlock(kept: int = 0) -> None:
    """Deny every file, TCP port, abstract socket and outside signal that this kernel's Landlock knows; `kept`: file
    rights not denied."""
    abi = check(libc.syscall(_LANDLOCK_CREATE, None, 0, 1))
    handled = (ctypes.c_uint64 * 3)(
        ((1 << _LANDLOCK_FS.get(abi, 16)) - 1) & ~kept, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0
    )
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset = check(libc.syscall(_LANDLOCK_CREATE, handled, size, 0))
    try:
        check(libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0))
    finally:
        os.close(ruleset)


def no_capabilities() -> None:
    """Empty the bounding set and all capability sets."""
    for capability in range(64):
        if prctl(_CAPBSET_DROP, capability, 0, 0, 0) < 0 and ctypes.get_errno() == errno.EINVAL:
            break
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    check(libc.capset(header, (ctypes.c_uint32 * 6)()))


def limits() -> None:
    """Limits that never differ between children."""
    for which in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(which, (0, 0))
    stack = resource.getrlimit(resource.RLIMIT_STACK)[1]
    soft = 8 << 20 if stack == resource.RLIM_INFINITY else min(8 << 20, stack)
    resource.setrlimit(resource.RLIMIT_STACK, (soft, soft))


def last_to_live() -> None:
    """First to be killed when memory runs out, last to be scheduled."""
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    os.nice(5)


def filter_installer(role: str) -> Callable[[], int]:
    """A call that puts this role's seccomp filter on the calling process; 0 when done. Assembled once, cheap to
    call."""
    code = syscalls.assemble(platform.machine(), role)
    program = _Program(len(code), (_Filter * len(code))(*code))
    address = ctypes.addressof(program)

    def install(keep: _Program = program) -> int:
        return int(prctl(_SET_SECCOMP, 2, address, 0, 0))

    return install
