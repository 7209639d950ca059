"""azr_lite: Absolute Zero self-play, small enough to read, correct, and safe to run.

``azr_lite.run("nano")`` trains and ``azr_lite.resume(path)`` goes on. Importing this package loads no torch.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_LAZY = {
    # train
    "run": "azr_lite.loop",
    "resume": "azr_lite.loop",
    "RunResult": "azr_lite.loop",
    "Config": "azr_lite.config",
    "preset": "azr_lite.presets",
    "list_presets": "azr_lite.presets",
    # what a machine can do
    "plan": "azr_lite.planner.plan",
    "doctor": "azr_lite.planner.text",
    # the algorithm
    "Triplet": "azr_lite.triplet",
    "Verdict": "azr_lite.triplet",
    "Rollout": "azr_lite.triplet",
    "TaskType": "azr_lite.tasks",
    "register_task_type": "azr_lite.tasks",
    "Executor": "azr_lite.sandbox",
    "Verifier": "azr_lite.verifier",
    "learnability": "azr_lite.rewards",
    "answer_reward": "azr_lite.rewards",
    "trr": "azr_lite.advantages",
    "SelfPlay": "azr_lite.selfplay",
    # measure and look
    "evaluate": "azr_lite.evaluation",
    "Run": "azr_lite.observe.run",
}
__all__ = sorted(["__version__", *_LAZY])


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` (PEP 562) for `package`, whose public names load at first use.

    `modules`: public name → its module. No module may be called like one of its package's names: importing it would
    hide the function.
    """
    offered = sorted(modules)

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it offers {', '.join(offered)}")
        return getattr(import_module(modules[name]), name)

    return load, lambda: sorted({*vars(sys.modules[package]), *offered})


__getattr__, __dir__ = lazy_names(__name__, _LAZY)
