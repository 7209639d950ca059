"""Builds the jail of `jail.py` from the layers of the fork server (`sandbox/lockdown.py`), and runs the command in it.

Exec'd by path as ``jail_launcher.py SOCKET_FD``: the order (JSON) comes on the socket, answers go back, and its end
means to kill. launcher (this file, outside) -unshare, fork-> first (process 1 inside, reaps) -fork-> the command.
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

sys.path.insert(0, str(Path(__file__).parents[2] / "sandbox"))
import lockdown  # type: ignore[import-not-found]

DEVICES: Final = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"]
PROCESSES: Final = 16
_SET_DUMPABLE, _SET_CHILD_SUBREAPER, _CANNOT_START = 4, 36, 127


class Jail:
    """The layers, put on one by one; `layers`: name to "on" or "off: why"."""

    def __init__(self, order: dict[str, Any], caller: int) -> None:
        self.order, self.caller = order, caller
        self.layers: dict[str, str] = {}

    def put(self, name: str, layer: Callable[[], Any]) -> None:
        self.layers[name] = "off: left out" if name in self.order["skip"] else lockdown.attempt(layer)

    def on(self, *names: str) -> bool:
        return any(self.layers.get(name) == "on" for name in names)

    def lock(self) -> bool:
        """Put on all layers but the namespaces. True when each of rights, network and files is held by one at least."""
        scratch, read = self.order["scratch"], self.order["read"]
        if self.on("namespaces"):
            self.put("own_root", lambda: lockdown.empty_root(read, [scratch, *DEVICES]))
        above = (folder for path in (scratch, *read) for folder in Path(path).resolve().parents)
        if self.on("own_root") or all(folder.stat().st_mode & 1 for folder in above):  # every user may go through
            self.put("own_uid", self.own_uid)
        lockdown.die_with_parent()
        lockdown.attempt(lockdown.last_to_live)
        self.put("landlock", self.landlock)
        self.put("no_capabilities", lockdown.no_capabilities)
        self.put("limits", self.limits)
        self.put("system_calls", lambda: lockdown.check(lockdown.filter_installer("jail")()))
        return self.on("no_new_privs") and self.on("namespaces", "system_calls") and self.on("own_root", "landlock")

    def own_uid(self) -> None:
        """Leave root for a uid of this jail alone; scratch goes with it. A plain user may not, and keeps his own."""
        scratch, uid = Path(self.order["scratch"]), self.order["uid"]
        for path in (scratch, *scratch.iterdir()):
            os.chown(path, uid, uid)
        lockdown.own_uid(uid)

    def landlock(self) -> None:
        """Folders above what may be read can be listed: imports need that."""
        read = self.order["read"]
        rules = [(path, lockdown.READ) for path in read] + [(os.path.dirname(path), lockdown.LIST) for path in read]
        lockdown.landlock([*rules, *((path, lockdown.ALL) for path in (self.order["scratch"], *DEVICES))])

    def limits(self) -> None:
        """Per process: address space, file size, no core files; and processes, where they are not the user's others."""
        wanted = {resource.RLIMIT_AS: self.order["memory"], resource.RLIMIT_FSIZE: self.order["file"]}
        wanted[resource.RLIMIT_CORE] = 0
        if self.on("namespaces", "own_uid"):
            wanted[resource.RLIMIT_NPROC] = PROCESSES
        for which, value in wanted.items():
            hard = resource.getrlimit(which)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(which, (value, value))

    def tell(self, **words: Any) -> None:
        os.write(self.caller, json.dumps(words).encode() + b"\n")

    def run(self) -> None:
        """Process 1 of the jail: lock, say which layers are on, run the command, end with its exit status."""
        try:
            allowed = self.lock() or self.order["allow_weak"]
            self.tell(layers=self.layers, runs=allowed)
            if not allowed:
                os._exit(_CANNOT_START)
            child = os.fork()
            if child == 0:
                os.setsid()
                os.chdir(self.order["scratch"])
                os.set_inheritable(self.caller, False)
                os.execve(self.order["argv"][0], self.order["argv"], self.order["env"])
            lockdown.prctl(_SET_DUMPABLE, 0, 0, 0, 0)  # out of the command's reach
            while True:
                pid, state = os.wait()
                if pid == child:
                    code = os.waitstatus_to_exitcode(state)
                    os._exit(code if code >= 0 else 128 - code)
        except BaseException as error:
            self.tell(error=f"{type(error).__name__}: {error}")
            os._exit(_CANNOT_START)


def main(caller: int) -> None:
    """Make the namespaces, start process 1 in them, and kill it when the time or the caller is gone."""
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
    in_time = [end for end, _ in poll.poll(1000 * jail.order["seconds"])] == [ended]
    os.kill(first, signal.SIGKILL)  # in time it is dead already
    code = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])  # with a pid namespace: when all in it are gone
    if not jail.on("namespaces"):
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
