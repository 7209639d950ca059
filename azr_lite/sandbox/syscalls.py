"""Which system calls a locked process may make, and the BPF program that says so, for x86_64 and aarch64.

Whatever is not named here returns EPERM, so an innocent `open()` is an ordinary exception. Calls that only an attack
makes, a foreign architecture and x32 numbers kill the process.
"""

from __future__ import annotations

from typing import Final

Instruction = tuple[int, int, int, int]
"""code, jump if true, jump if false, constant: one `struct sock_filter`."""

AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW: Final = 0x7FFF0000
EPERM: Final = 0x00050001
KILL: Final = 0x80000000

_X86, _ARM = 0, 1
CALLS: Final[dict[str, tuple[int, int]]] = {}
"""Name to (x86_64 number, aarch64 number); -1 where the architecture has no such call."""
for _entry in (
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
).split(","):
    _name, _x86, _arm = _entry.split()
    CALLS[_name] = (int(_x86), int(_arm))

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
    return CALLS[name][_X86 if arch == "x86_64" else _ARM]


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
    leaves: dict[int, list[Instruction]] = {}
    for name in CALLS:
        if (call := number(name, arch)) < 0:
            continue
        if name in killed:
            leaves[call] = _return(KILL)
        elif name in allowed:
            leaves[call] = _return(ALLOW)
            if name in ("mmap", "mprotect"):
                leaves[call] = _not_executable()
            elif role == "child" and name in ("read", "write"):
                leaves[call] = (
                    _only_descriptors(0, CHILD_CHANNEL) if name == "read" else _only_descriptors(1, 2, CHILD_CHANNEL)
                )
    return _program(arch, leaves, _return(EPERM))


def _program(arch: str, leaves: dict[int, list[Instruction]], otherwise: list[Instruction]) -> list[Instruction]:
    edges: list[tuple[int, list[Instruction]]] = [(0, otherwise)]
    for call in range(max(leaves) + 2):
        leaf = leaves.get(call, otherwise)
        if leaf != edges[-1][1]:
            edges.append((call, leaf))
    if arch == "x86_64":
        edges.append((0x40000000, _return(KILL)))
    head: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_JUMP_EQ, 1, 0, AUDIT_ARCH[arch]),
        *_return(KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    return head + _tree(edges)


def _tree(edges: list[tuple[int, list[Instruction]]]) -> list[Instruction]:
    if len(edges) == 1:
        return edges[0][1]
    middle = len(edges) // 2
    low, high = _tree(edges[:middle]), _tree(edges[middle:])
    if len(low) > 255:
        raise ValueError("the filter's jumps are too long")
    return [(_JUMP_GE, len(low), 0, edges[middle][0]), *low, *high]
