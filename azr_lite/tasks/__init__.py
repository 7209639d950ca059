"""The task types: the paper's three, and those that the modules named in AZR_LITE_TASK_TYPES register.

``AZR_LITE_TASK_TYPES=my_tasks PYTHONPATH=. azr-lite run --task-types errors deduction`` makes a task type of your own
known to the command line, to a resumed run and to every process of a launch. These modules are imported, so they run
with your rights. (The variable's old name, AZR_LITE_GAMES, still works.)
"""

import importlib
import os

from azr_lite.errors import ConfigError
from azr_lite.tasks import abduction, deduction, induction
from azr_lite.tasks.base import Answer, Proposal, TaskType, get_task_type, list_task_types, register_task_type
from azr_lite.triplet import Rules

__all__ = [
    "Answer", "Proposal", "Rules", "TaskType", "abduction", "deduction", "get_task_type", "induction",
    "list_task_types", "register_task_type",
]  # fmt: skip

for _name in filter(None, (os.environ.get("AZR_LITE_TASK_TYPES") or os.environ.get("AZR_LITE_GAMES", "")).split(",")):
    try:
        importlib.import_module(_name.strip())
    except ImportError as error:
        raise ConfigError(
            f"AZR_LITE_TASK_TYPES names the module {_name.strip()!r}, which cannot be imported ({error}); put its "
            "folder on PYTHONPATH"
        ) from error
