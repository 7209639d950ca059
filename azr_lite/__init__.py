"""azr_lite: Absolute Zero self-play, small enough to read, correct, and safe to run.

``azr_lite.run("nano")`` trains and ``azr_lite.resume(path)`` goes on. Importing this package loads no torch.
"""

from azr_lite.lazy import lazy_names

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

__getattr__, __dir__ = lazy_names(__name__, _LAZY)
