"""Builds the jail of `jail.py`, locks it, starts the command; outlives neither it nor the caller.

Exec'd by path as ``jail_launcher.py SOCKET_FD``: the request (JSON) comes on the socket, answers go back, and its end
is the order to kill. launcher (this file, outside) -unshare, fork-> first (process 1 inside, reaps) -fork-> the
command. The layers are those of the fork server (`sandbox/lockdown.py`), with paths that may be read.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_AZR_LITE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(_AZR_LITE, "sandbox"))
import lockdown  # type: ignore[import-not-found]  # noqa: E402

_SET_DUMPABLE, _SET_CHILD_SUBREAPER = 4, 36
DEVICES: Final = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"]
LIMITS: Final = {
    "memory": resource.RLIMIT_AS,
    "file": resource.RLIMIT_FSIZE,
    "core": resource.RLIMIT_CORE,
    "processes": resource.RLIMIT_NPROC,
}
CANNOT_START: Final = 127


class Jail:
    """The layers, put on one by one; `layers`: name to "on" or "off: why"."""

    def __init__(self, request: dict[str, Any], caller: int) -> None:
        self.request, self.caller = request, caller
        self.layers: dict[str, str] = {}

    def put(self, name: str, layer: Callable[[], Any], needs: str = "") -> None:
        if name in self.request["skip"]:
            self.layers[name] = "off: left out"
        elif needs and self.layers[needs] != "on":
            self.layers[name] = f"off: needs {needs}"
        else:
            self.layers[name] = lockdown.attempt(layer)

    def lock(self) -> bool:
        """All layers but the namespaces; whether the command may run."""
        request, layers = self.request, self.layers
        scratch, read = request["scratch"], request["read"]
        self.put("own_root", lambda: lockdown.empty_root(read, [scratch, *DEVICES]), "namespaces")
        if layers["own_root"] == "on" or all(map(open_to_all, [scratch, *read])):
            self.put("own_uid", self.own_uid)
        else:
            layers["own_uid"] = "off: what is needed lies in a folder that is root's alone"
        lockdown.die_with_parent()
        lockdown.attempt(lockdown.last_to_live)
        self.put("landlock", self.landlock)
        self.put("no_capabilities", lockdown.no_capabilities)
        counted = layers["namespaces"] == "on" or layers["own_uid"] == "on"
        self.limits(counted)
        layers["limits"] = "on" if counted else "off: processes cannot be counted apart from the user's others"
        self.put("system_calls", lambda: lockdown.check(lockdown.filter_installer("jail")()))
        return safe(layers) or request["allow_weak"]

    def own_uid(self) -> None:
        """Leave root for a uid of this jail alone; scratch goes with it. A plain user may not, and keeps his own."""
        scratch, uid = Path(self.request["scratch"]), self.request["uid"]
        for path in (scratch, *scratch.rglob("*")):
            os.chown(path, uid, uid, follow_symlinks=False)
        lockdown.own_uid(uid)

    def landlock(self) -> None:
        """Folders above what may be read can be listed: imports need that."""
        read = self.request["read"]
        rules = [(path, lockdown.READ) for path in read] + [(os.path.dirname(path), lockdown.LIST) for path in read]
        lockdown.landlock([*rules, *((path, lockdown.ALL) for path in (self.request["scratch"], *DEVICES))])

    def limits(self, counted: bool) -> None:
        """Per process: address space, file size; `counted`: and processes, where the count is the jail's own."""
        for name, which in LIMITS.items():
            if counted or name != "processes":
                value, hard = self.request[name], resource.getrlimit(which)[1]
                value = value if hard == resource.RLIM_INFINITY else min(value, hard)
                resource.setrlimit(which, (value, value))

    def tell(self, **words: Any) -> None:
        os.write(self.caller, json.dumps(words).encode() + b"\n")

    def run(self) -> None:
        """Process 1 of the jail: lock, say which layers are on, run the command, hand its wait status up."""
        try:
            allowed = self.lock()
            self.tell(layers=self.layers, runs=allowed)
            if not allowed:
                os._exit(CANNOT_START)
            child = os.fork()
            if child == 0:
                self.start()
            lockdown.prctl(_SET_DUMPABLE, 0, 0, 0, 0)
            os.dup2(os.open("/dev/null", os.O_RDWR), 0)
            while True:
                pid, state = os.wait()
                if pid == child:
                    code = os.waitstatus_to_exitcode(state)
                    os._exit(code if code >= 0 else 128 - code)
        except BaseException as error:
            self.tell(error=f"{type(error).__name__}: {error}")
            os._exit(CANNOT_START)

    def start(self) -> None:
        """Become the command."""
        lockdown.prctl(_SET_DUMPABLE, 1, 0, 0, 0)
        os.setsid()
        os.chdir(self.request["scratch"])
        os.set_inheritable(self.caller, False)
        os.execve(self.request["argv"][0], self.request["argv"], self.request["env"])


def safe(layers: dict[str, str]) -> bool:
    """Whether no network, no foreign files and no new rights are each held by at least one layer."""
    on = {name for name, state in layers.items() if state == "on"}
    return "no_new_privs" in on and bool(on & {"namespaces", "system_calls"}) and bool(on & {"own_root", "landlock"})


def open_to_all(path: str) -> bool:
    """Whether every user may go through all folders above the path."""
    parts = os.path.realpath(path).split("/")
    return all(os.stat("/".join(parts[:end]) or "/").st_mode & 1 for end in range(1, len(parts)))


def main(caller: int) -> None:
    os.umask(0o022)
    with open(caller, "rb", closefd=False) as file:
        jail = Jail(json.loads(file.readline()), caller)
    lockdown.check(lockdown.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    jail.put("no_new_privs", lockdown.no_new_privs)
    jail.put("namespaces", lambda: lockdown.new_namespaces(as_root=True))
    first = os.fork()
    if first == 0:
        jail.run()
    ended, poll = os.pidfd_open(first), select.poll()
    for end in (ended, caller):
        poll.register(end, select.POLLIN)
    in_time = [end for end, _ in poll.poll(1000 * jail.request["seconds"])] == [ended]
    os.kill(first, signal.SIGKILL)  # in time it is dead already
    code = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])  # with a pid namespace: when all in it are gone
    if jail.layers["namespaces"] != "on":
        _kill_orphans()
    jail.tell(code=code if in_time else None)


def _kill_orphans() -> None:
    """Without a pid namespace: what the command left behind is ours now (subreaper), and what that leaves, too."""
    while children := [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:  # only these: what they leave behind comes to us now, and would be waited for in vain
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
