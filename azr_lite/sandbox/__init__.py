"""Running model-written Python: hostile programs lose.  `Executor` is the whole public interface.

Comes in: programs and argument tuples.  Goes out: `Outcome`s and `Validation`s, plain values only.
NOT defended: a kernel bug reachable through the child's three dozen system calls (and uprobe's two, which no seccomp filter sees);
CPU side channels and covert timing between children; physical load (a program may use its second of CPU and its memory); at level
WEAK (macOS, Windows, no seccomp: refused unless allowed) anything a program of the same user can do.  Not certain either: a program
whose result hangs on the order of a small set may agree by chance in all three hash seeds and pass for deterministic.
Who needs more puts the whole trainer into a virtual machine.  Importing this starts nothing.
"""

from azr_lite.sandbox.executor import Executor
from azr_lite.sandbox.outcome import Job, Level, Limits, Outcome, Validation

__all__ = ["Executor", "Job", "Level", "Limits", "Outcome", "Validation"]
