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


# ---------------------------------------------------------------- the system-call filter, for x86_64 and aarch64
#
# Whatever is not named here returns EPERM, so an innocent open() is an ordinary exception. Calls that only an attack
# makes, a foreign architecture and x32 numbers kill the process.

Instruction = tuple[int, int, int, int]
"""code, jump if true, jump if false, constant: one `struct sock_filter`."""

AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW: Final = 0x7FFF0000
EPERM: Final = 0x00050001
KILL: Final = 0x80000000

_TABLE: Final = (
    # the child and the zygote
    "read 0 63,write 1 64,close 3 57,mmap 9 222,mprotect 10 226,munmap 11 215,brk 12 214,mremap 25 216,"
    "madvise 28 233,rt_sigaction 13 134,rt_sigprocmask 14 135,rt_sigreturn 15 139,sigaltstack 131 132,"
    "restart_syscall 219 128,futex 202 98,getpid 39 172,gettid 186 178,getppid 110 173,getuid 102 174,"
    "geteuid 107 175,getgid 104 176,getegid 108 177,exit 60 93,exit_group 231 94,clock_gettime 228 113,"
    "clock_getres 229 114,gettimeofday 96 169,time 201 -1,getcpu 309 168,getrusage 98 165,nanosleep 35 101,"
    "clock_nanosleep 230 115,sched_yield 24 124,getrandom 318 278,"
    # the zygote alone
    "recvmsg 47 212,sendto 44 206,clone 56 220,fork 57 -1,set_robust_list 273 99,rseq 334 293,wait4 61 260,"
    "pidfd_open 434 434,poll 7 -1,ppoll 271 73,dup2 33 -1,dup3 292 24,close_range 436 436,prlimit64 302 261,"
    "prctl 157 167,seccomp 317 277,pidfd_send_signal 424 424,kill 62 129,"
    # nobody
    "vfork 58 -1,clone3 435 435,execve 59 221,execveat 322 281,ptrace 101 117,process_vm_readv 310 270,"
    "process_vm_writev 311 271,tkill 200 130,pidfd_getfd 438 438,unshare 272 97,setns 308 268,mount 165 40,"
    "umount2 166 39,pivot_root 155 41,chroot 161 51,bpf 321 280,perf_event_open 298 241,userfaultfd 323 282,"
    "io_uring_setup 425 425,io_uring_enter 426 426,io_uring_register 427 427,keyctl 250 219,add_key 248 217,"
    "request_key 249 218,init_module 175 105,finit_module 313 273,delete_module 176 106,kexec_load 246 104,"
    "kexec_file_load 320 294,reboot 169 142,open_by_handle_at 304 265,move_mount 429 429,fsopen 430 430,"
    "mount_setattr 442 442,modify_ldt 154 -1"
)
CALLS: Final = {name: (int(x86), int(arm)) for name, x86, arm in map(str.split, _TABLE.split(","))}
"""Name to (x86_64 number, aarch64 number); -1 where the architecture has no such call."""
_NAMES: Final = list(CALLS)
CHILD_CALLS: Final = frozenset(_NAMES[: _NAMES.index("recvmsg")])
ZYGOTE_CALLS: Final = CHILD_CALLS | frozenset(_NAMES[_NAMES.index("recvmsg") : _NAMES.index("vfork")])
HOSTILE_CALLS: Final = frozenset(_NAMES[_NAMES.index("vfork") :])
"""Killed in both roles; the child is killed for the zygote's process calls too."""
_CHILD_KILLED: Final = HOSTILE_CALLS | {"clone", "fork", "kill", "pidfd_send_signal", "pidfd_open"}

JAIL_REFUSED: Final = HOSTILE_CALLS - {"vfork", "clone3", "execve", "execveat", "tkill", "modify_ldt"}
"""The jail of scored programs runs whole interpreters with threads: all is allowed but these and non-local sockets."""
_SOCKET: Final = {"x86_64": 41, "aarch64": 198}
_LOCAL: Final = 1

CHILD_CHANNEL: Final = 3
"""The descriptor of the child's only way out."""

_LOAD, _JUMP_GE, _JUMP_EQ, _JUMP_SET, _RETURN = 0x20, 0x35, 0x15, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_PROT_EXEC: Final = 4


def number(name: str, arch: str) -> int:
    """The call's number, or -1 where the architecture lacks it."""
    return CALLS[name][0 if arch == "x86_64" else 1]


def _return(action: int) -> list[Instruction]:
    return [(_RETURN, 0, 0, action)]


def _only_descriptors(*allowed: int) -> list[Instruction]:
    tests = [(_JUMP_EQ, len(allowed) - i, 0, fd) for i, fd in enumerate(allowed)]
    return [(_LOAD, 0, 0, _ARGUMENTS_AT), *tests, *_return(EPERM), *_return(ALLOW)]


def _not_executable() -> list[Instruction]:
    return [(_LOAD, 0, 0, _ARGUMENTS_AT + 16), (_JUMP_SET, 0, 1, _PROT_EXEC), *_return(EPERM), *_return(ALLOW)]


def assemble(arch: str, role: str) -> list[Instruction]:
    """The filter for one role ("child", "zygote", "jail"): a balanced tree over call numbers, a dozen steps deep."""
    if role == "jail":
        refused = {number(name, arch): _return(EPERM) for name in JAIL_REFUSED if number(name, arch) >= 0}
        return _program(arch, {**refused, _SOCKET[arch]: _only_descriptors(_LOCAL)}, _return(ALLOW))
    allowed, killed = (CHILD_CALLS, _CHILD_KILLED) if role == "child" else (ZYGOTE_CALLS, HOSTILE_CALLS)
    narrow = {"mmap": _not_executable(), "mprotect": _not_executable()}
    if role == "child":
        narrow |= {"read": _only_descriptors(0, CHILD_CHANNEL), "write": _only_descriptors(1, 2, CHILD_CHANNEL)}
    leaves: dict[int, list[Instruction]] = {}
    for name in allowed | killed:
        if (call := number(name, arch)) >= 0:
            leaves[call] = _return(KILL) if name in killed else narrow.get(name, _return(ALLOW))
    return _program(arch, leaves, _return(EPERM))


def _program(arch: str, leaves: dict[int, list[Instruction]], otherwise: list[Instruction]) -> list[Instruction]:
    edges: list[tuple[int, list[Instruction]]] = [(0, otherwise)]
    for call in range(max(leaves) + 2):
        leaf = leaves.get(call, otherwise)
        if leaf != edges[-1][1]:
            edges.append((call, leaf))
    if arch == "x86_64":
        edges.append((0x40000000, _return(KILL)))
    known_arch = [(_LOAD, 0, 0, _ARCH_AT), (_JUMP_EQ, 1, 0, AUDIT_ARCH[arch]), *_return(KILL)]
    return [*known_arch, (_LOAD, 0, 0, _NUMBER_AT), *_tree(edges)]


def _tree(edges: list[tuple[int, list[Instruction]]]) -> list[Instruction]:
    if len(edges) == 1:
        return edges[0][1]
    middle = len(edges) // 2
    low, high = _tree(edges[:middle]), _tree(edges[middle:])
    if len(low) > 255:
        raise ValueError("the filter's jumps are too long")
    return [(_JUMP_GE, len(low), 0, edges[middle][0]), *low, *high]


def filter_installer(role: str) -> Callable[[], int]:
    """A call that puts this role's seccomp filter on the calling process; 0 when done. Assembled once, cheap to
    call."""
    code = assemble(platform.machine(), role)
    program = _Program(len(code), (_Filter * len(code))(*code))
    address = ctypes.addressof(program)

    def install(keep: _Program = program) -> int:
        return int(prctl(_SET_SECCOMP, 2, address, 0, 0))

    return install
