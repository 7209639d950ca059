"""Runs before the command of `confined.py`: build the jail, lock it, start the command, outlive neither it nor the caller.

Exec'd by path as ``jail.py CONTROL_FD STATUS_FD`` with the request (JSON) on the control pipe; the pipe's end is the order to kill.
Comes in: argv, env, scratch, paths, limits.  Goes out: on the status pipe one line with the layers, one with the wait status.
Not covered: how much disk the command fills; what it writes into scratch is untrusted.

launcher (this file, outside) -unshare, fork-> first (process 1 inside, reaps) -fork-> the command. The layers that the fork server
has too come from `sandbox/lockdown.py`; here the root is not empty, and the system-call filter refuses only the network and what
could undo the jail.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import resource
import select
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

sys.path.insert(
    0, os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "sandbox")
)
import lockdown  # type: ignore[import-not-found]
import syscalls  # type: ignore[import-not-found]

_USER, _REST = 0x10000000, 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000
"""CLONE_NEW: USER; and NS (mount), CGROUP, UTS, IPC, PID, NET."""
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
_MOUNT_SETATTR, _RECURSIVE = 442, 0x8000
_SET_DUMPABLE, _SET_CHILD_SUBREAPER = 4, 36
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_LIST, _READ, _FILE_RIGHTS = 8, 1 | 4 | 8, 1 | 2 | 4 | 1 << 14 | 1 << 15
_SOCKET: Final = {"x86_64": 41, "aarch64": 198}
_REFUSED: Final = (
    "ptrace,process_vm_readv,process_vm_writev,pidfd_getfd,unshare,setns,mount,umount2,pivot_root,chroot,bpf,perf_event_open,userfaultfd,"
    "io_uring_setup,io_uring_enter,io_uring_register,keyctl,add_key,request_key,open_by_handle_at,move_mount,fsopen,mount_setattr"
).split(",")
DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
FACTS: Final = ("/proc/meminfo", "/proc/stat", "/proc/cpuinfo")
"""The rest of /proc would show other processes."""
SHARED: Final = "/dev/shm"
CANNOT_START: Final = 127


def namespaces(request: dict[str, Any]) -> None:
    """Mount, pid, network, IPC, host-name and cgroup namespaces: as root directly, else inside a user namespace of our own."""
    try:
        lockdown.check(lockdown.libc.unshare(_REST))
    except OSError:
        uid, gid = os.geteuid(), os.getegid()
        lockdown.check(lockdown.libc.unshare(_REST | _USER))
        for path, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{path}", "w") as file:
                file.write(text)


def own_root(request: dict[str, Any]) -> None:
    """A root of its own that holds nothing but the named paths, all read-only but scratch and shared memory."""
    mount, check = lockdown.libc.mount, lockdown.check
    places, links = follow([*request["read"], *DEVICES, *FACTS])
    check(mount(None, b"/", None, _REC | _PRIVATE, None))
    check(mount(b"none", b"/tmp", b"tmpfs", _NOSUID | _NODEV, b"size=1m,mode=755"))
    os.mkdir("/tmp/old")
    check(lockdown.libc.syscall(lockdown._PIVOT_ROOT[platform.machine()], b"/tmp", b"/tmp/old"))
    os.chdir("/")
    for path in places:
        _bind(path, path not in DEVICES)
    _bind(request["scratch"], False)
    for path, target in links.items():
        if not os.path.lexists(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.symlink(target, path)
    for path in request["hide"]:
        if os.path.isdir(path):
            check(mount(b"none", path.encode(), b"tmpfs", _NOSUID | _NODEV | _RDONLY, b"size=4k,mode=755"))
        elif os.path.exists(path):
            check(mount(b"/dev/null", path.encode(), None, _BIND, None))
    os.makedirs(SHARED, exist_ok=True)
    check(mount(b"none", SHARED.encode(), b"tmpfs", _NOSUID | _NODEV | _NOEXEC, b"size=256m,mode=1777"))
    check(lockdown.libc.umount2(b"/old", 2))
    os.rmdir("/old")
    os.makedirs("/tmp", exist_ok=True)
    check(mount(None, b"/", None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV, None))


def follow(paths: list[str]) -> tuple[list[str], dict[str, str]]:
    """What is to be bound, whole folders first and nothing inside them; and the links that lead there."""
    places: set[str] = set()
    links: dict[str, str] = {}
    for path in paths:
        while os.path.islink(path):
            links[path] = os.readlink(path)
            path = os.path.join(os.path.dirname(path), links[path])
            path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        if os.path.exists(path):
            places.add(path)
    return [
        path
        for path in sorted(places)
        if not any(path.startswith(other.rstrip("/") + "/") for other in places - {path})
    ], links


def _bind(path: str, readonly: bool) -> None:
    """Show one path of the old root at the same place of the new one."""
    old = "/old" + path
    if os.path.isdir(old):
        os.makedirs(path, exist_ok=True)
    elif not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT, 0o644))
    lockdown.check(lockdown.libc.mount(old.encode(), path.encode(), None, _BIND | _REC, None))
    attributes = (ctypes.c_uint64 * 4)(
        _NOSUID | (_RDONLY if readonly else 0) | (0 if path in DEVICES else _NODEV), 0, 0, 0
    )
    if lockdown.libc.syscall(_MOUNT_SETATTR, -100, path.encode(), _RECURSIVE, attributes, 32) < 0 and readonly:
        lockdown.check(
            lockdown.libc.mount(None, path.encode(), None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV, None)
        )


def landlock(request: dict[str, Any]) -> None:
    """Only the named paths, no TCP, and from ABI 6 no abstract socket and no signal to the outside."""
    syscall, check = lockdown.libc.syscall, lockdown.check
    abi = check(syscall(_LANDLOCK_CREATE, None, 0, 1))
    rights = (1 << lockdown._LANDLOCK_FS.get(abi, 16)) - 1
    handled = (ctypes.c_uint64 * 3)(rights, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    ruleset = check(syscall(_LANDLOCK_CREATE, handled, 8 if abi < 4 else 16 if abi < 6 else 24, 0))
    writable = [request["scratch"], SHARED, *DEVICES]
    readable = [part for whole in request["read"] for part in expand(whole, request["hide"])]
    for path, allowed in [*((path, rights) for path in writable), *((path, _READ) for path in FACTS), *readable]:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        if not os.path.isdir(path):
            allowed &= _FILE_RIGHTS
        rule = ctypes.create_string_buffer(allowed.to_bytes(8, "little") + fd.to_bytes(4, "little"), 12)
        check(syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0))
        os.close(fd)
    check(syscall(_LANDLOCK_RESTRICT, ruleset, 0))
    os.close(ruleset)


def expand(path: str, hide: list[str]) -> Iterator[tuple[str, int]]:
    """The path and what may be done there, or its parts where something inside it is hidden: Landlock can only add.

    The names in a folder with hidden parts can still be listed; imports need that.
    """
    if path in hide:
        return
    if not any(hidden.startswith(path.rstrip("/") + "/") for hidden in hide):
        yield path, _READ
        return
    yield path, _LIST
    for name in sorted(os.listdir(path)):
        yield from expand(os.path.join(path, name), hide)


def own_uid(request: dict[str, Any]) -> None:
    """Leave root for a uid of this jail alone; scratch goes with it. Nothing to do for a plain user."""
    if os.geteuid() != 0:
        raise OSError(errno.EPERM, "not root: the user's own uid stays")
    uid = request["uid"]
    for folder, folders, files in os.walk(request["scratch"]):
        for path in (folder, *(os.path.join(folder, name) for name in (*folders, *files))):
            os.chown(path, uid, uid, follow_symlinks=False)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def open_to_all(path: str) -> bool:
    """Whether every user may go through all folders above the path."""
    parts = os.path.realpath(path).split("/")
    return all(os.stat("/".join(parts[:end]) or "/").st_mode & 1 for end in range(1, len(parts)))


def system_calls(request: dict[str, Any]) -> None:
    """Refuse every socket but local ones, and the calls that could reach around the other layers."""
    arch = platform.machine()
    refused = sorted({syscalls.number(name, arch) for name in _REFUSED} - {-1})
    load, equal, above, give = 0x20, 0x15, 0x35, 0x06
    deny, allow = (give, 0, 0, syscalls.EPERM), (give, 0, 0, syscalls.ALLOW)
    code = [(load, 0, 0, 4), (equal, 1, 0, syscalls.AUDIT_ARCH[arch]), (give, 0, 0, syscalls.KILL), (load, 0, 0, 0)]
    if arch == "x86_64":
        code += [(above, 0, 1, 0x40000000), (give, 0, 0, syscalls.KILL)]
    for number in refused:
        code += [(equal, 0, 1, number), deny]
    code += [(equal, 1, 0, _SOCKET[arch]), allow, (load, 0, 0, 16), (equal, 0, 1, 1), allow, deny]
    program = lockdown._Program(len(code), (lockdown._Filter * len(code))(*code))
    lockdown.check(lockdown.prctl(22, 2, ctypes.addressof(program), 0, 0))


def limits(request: dict[str, Any], counted: bool) -> None:
    """Per process: address space, file size, descriptors; `counted`: and how many processes, where the count is the jail's own."""
    values = {resource.RLIMIT_AS: request["memory"], resource.RLIMIT_FSIZE: request["file"], resource.RLIMIT_CORE: 0}
    if counted:
        values[resource.RLIMIT_NPROC] = request["processes"]
    for which, value in values.items():
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def safe(layers: dict[str, str]) -> bool:
    """Whether no network, no foreign files and no new rights are each held by at least one layer."""
    on = {name for name, state in layers.items() if state == "on"}
    return "no_new_privs" in on and bool(on & {"namespaces", "system_calls"}) and bool(on & {"own_root", "landlock"})


def main(control: int, status: int) -> None:
    request = _read_request(control)
    layers: dict[str, str] = {}

    def put(name: str, layer: Callable[[dict[str, Any]], None], needs: str = "") -> None:
        if name in request["skip"]:
            layers[name] = "off: left out"
        elif needs and layers[needs] != "on":
            layers[name] = f"off: needs {needs}"
        else:
            layers[name] = lockdown.attempt(lambda: layer(request))

    lockdown.check(lockdown.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    put("no_new_privs", lambda _: lockdown.no_new_privs())
    put("namespaces", namespaces)
    first = os.fork()
    if first == 0:
        os.close(control)
        _first(request, layers, put, status)
    poll = select.poll()
    poll.register(control, select.POLLIN | select.POLLHUP)
    poll.register(os.pidfd_open(first), select.POLLIN)
    if any(fd == control for fd, _ in poll.poll()):
        os.kill(first, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(
        os.waitpid(first, 0)[1]
    )  # with a pid namespace: returns when everything in it is gone
    _kill_orphans()
    os.write(status, json.dumps({"code": code}).encode() + b"\n")
    os._exit(0)


def _read_request(control: int) -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\n"):
        piece = os.read(control, 1 << 16)
        if not piece:
            os._exit(1)
        data += piece
    return json.loads(data)


def _first(request: dict[str, Any], layers: dict[str, str], put: Any, status: int) -> None:
    """Process 1 of the jail: lock, say which layers are on, run the command, hand its wait status up."""
    try:
        put("own_root", own_root, "namespaces")
        if layers["own_root"] == "on" or all(map(open_to_all, [request["scratch"], *request["read"]])):
            put("own_uid", own_uid)
        else:
            layers["own_uid"] = "off: what is needed lies in a folder that is root's alone"
        lockdown.die_with_parent()
        lockdown.attempt(lockdown.last_to_live)
        put("landlock", landlock)
        put("no_capabilities", lambda _: lockdown.no_capabilities())
        counted = layers["namespaces"] == "on" or layers["own_uid"] == "on"
        limits(request, counted)
        layers["limits"] = "on" if counted else "off: processes cannot be counted apart from the user's others"
        put("system_calls", system_calls)
        allowed = safe(layers) or request["allow_weak"]
        os.write(status, json.dumps({"layers": layers, "runs": allowed}).encode() + b"\n")
        if not allowed:
            os._exit(CANNOT_START)
        child = os.fork()
        if child == 0:
            lockdown.prctl(_SET_DUMPABLE, 1, 0, 0, 0)
            os.setsid()
            os.chdir(request["scratch"])
            os.set_inheritable(status, False)
            try:
                os.execve(request["argv"][0], request["argv"], request["env"])
            except OSError as error:
                os.write(2, f"{request['argv'][0]} cannot be started: {error.strerror}\n".encode())
                os._exit(CANNOT_START)
        lockdown.prctl(_SET_DUMPABLE, 0, 0, 0, 0)
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        while True:
            pid, state = os.wait()
            if pid == child:
                code = os.waitstatus_to_exitcode(state)
                if code < 0 and layers["namespaces"] != "on":
                    os.kill(os.getpid(), -code)
                os._exit(code if code >= 0 else 128 - code)
    except BaseException as error:
        os.write(status, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode() + b"\n")
        os._exit(CANNOT_START)


def _kill_orphans() -> None:
    """Without a pid namespace: what the command left behind is ours now (subreaper), and so in turn what that leaves."""
    while True:
        try:
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                children = [int(pid) for pid in file.read().split()]
        except OSError:
            children = []
        if not children:
            return
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:  # only these: what they leave behind comes to us now, and would be waited for in vain
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
