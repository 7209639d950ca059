"""Running model-written Python: hostile programs lose. `Executor` is the whole public interface.

NOT defended:
* a kernel bug reachable through the child's three dozen system calls (and uprobe's two, which no seccomp filter sees)
* CPU side channels and covert timing between children
* physical load: a program may use its second of CPU and its memory
* anything a program of the same user can do at level WEAK (macOS, Windows, no seccomp), which is refused unless allowed
* a program whose result depends on the order of a small set: it may agree by chance in all eight worlds and pass

For stronger isolation run the whole trainer in a virtual machine. Importing this package starts nothing.
"""

from azr_lite.sandbox.executor import Executor
from azr_lite.sandbox.outcome import Job, Level, Limits, Outcome, Validation

__all__ = ["Executor", "Job", "Level", "Limits", "Outcome", "Validation"]
