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
from collections.abc import Callable, Iterable
from typing import Final

import syscalls  # type: ignore[import-not-found]

OWN_UID: Final = 61337
"""A uid nobody else has: signals and RLIMIT_NPROC are per uid, and `nobody` is shared."""

_NEW_USER: Final = 0x10000000
_NEW_ALL: Final = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
"""CLONE_NEW: NS (mount), CGROUP, UTS, IPC, USER, PID, NET."""
_NOSUID, _NOSUID_NODEV, _NOSUID_NODEV_NOEXEC = 2, 2 | 4, 2 | 4 | 8
_RDONLY, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 32, 4096, 16384, 1 << 18
_DETACH: Final = 2
_SET_PDEATHSIG, _SET_DUMPABLE, _SET_SECCOMP, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
_MOUNT_SETATTR, _RECURSIVE = 442, 0x8000
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
LIST, READ, ALL = 8, 1 | 4 | 8, -1
"""Landlock's rights on a path: list a folder; read and run what is in it; everything."""
_FILE_RIGHTS: Final = 1 | 2 | 4 | 1 << 14 | 1 << 15
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


def own_uid(uid: int = OWN_UID) -> None:
    """Leave root (and every group) for a uid of our own; nothing to do for a plain user."""
    if os.geteuid() != 0:
        raise OSError(errno.EPERM, "not root: the user's own uid stays")
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    check(prctl(_SET_DUMPABLE, 1, 0, 0, 0))  # or /proc/self/uid_map stays root's


def new_namespaces(as_root: bool = False) -> None:
    """New user, mount, pid, net, ipc, uts, cgroup namespaces; the next fork is pid 1. `as_root`: no user namespace."""
    if as_root and libc.unshare(_NEW_ALL & ~_NEW_USER) == 0:
        return
    uid, gid = os.geteuid(), os.getegid()
    check(libc.unshare(_NEW_ALL))
    for path, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{path}", "w") as file:
            file.write(text)


def empty_root(read: Iterable[str] = (), write: Iterable[str] = ()) -> None:
    """Pivot into a read-only tmpfs, empty but for the paths to `read` and to `write`. Needs the namespaces."""
    check(libc.mount(None, b"/", None, _REC | _PRIVATE, None))
    root, options = "/tmp", b"size=4k,nr_inodes=2,mode=555"
    if read:
        root, options = "/sys", b"size=4m,mode=755"  # what is shown may lie in /tmp
    check(libc.mount(b"none", root.encode(), b"tmpfs", _NOSUID_NODEV_NOEXEC, options))
    for path in read:
        _show(path, root, _NOSUID_NODEV | _RDONLY)
    for path in write:
        _show(path, root, _NOSUID if path.startswith("/dev/") else _NOSUID_NODEV)
    os.chdir(root)
    check(libc.syscall(_PIVOT_ROOT[platform.machine()], b".", b"."))
    check(libc.umount2(b".", _DETACH))
    os.chdir("/")
    check(libc.mount(None, b"/", None, _REMOUNT | _BIND | _RDONLY | _NOSUID_NODEV_NOEXEC, None))


def _show(path: str, root: str, flags: int) -> None:
    """Bind a path, links followed, to its place under `root`."""
    place = root + path
    if os.path.isdir(path):
        os.makedirs(place, exist_ok=True)
    elif not os.path.exists(place):
        os.makedirs(os.path.dirname(place), exist_ok=True)
        os.close(os.open(place, os.O_CREAT, 0o644))
    check(libc.mount(os.path.realpath(path).encode(), place.encode(), None, _BIND | _REC, None))
    attributes = (ctypes.c_uint64 * 4)(flags, 0, 0, 0)
    if libc.syscall(_MOUNT_SETATTR, -100, place.encode(), _RECURSIVE, attributes, 32) < 0 and flags & _RDONLY:
        check(libc.mount(None, place.encode(), None, _REMOUNT | _BIND | flags, None))  # before Linux 5.12


def landlock(allowed: Iterable[tuple[str, int]] = ()) -> None:
    """Deny every file, TCP port, abstract socket and outside signal that this kernel's Landlock knows.

    `allowed`: paths with what stays possible there (`LIST`, `READ`, `ALL`).
    """
    abi = check(libc.syscall(_LANDLOCK_CREATE, None, 0, 1))
    rights = (1 << _LANDLOCK_FS.get(abi, 16)) - 1
    handled = (ctypes.c_uint64 * 3)(rights, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset = check(libc.syscall(_LANDLOCK_CREATE, handled, size, 0))
    try:
        for path, right in allowed:
            _allow(ruleset, path, right & rights)
        check(libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, right: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not os.path.isdir(path):
        right &= _FILE_RIGHTS
    rule = ctypes.create_string_buffer(right.to_bytes(8, "little") + fd.to_bytes(4, "little"), 12)
    check(libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0))
    os.close(fd)


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
