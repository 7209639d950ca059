"""The task types: the paper's three. One of your own is registered by a module of yours (`Config.task_module`)."""

import importlib
import os
import sys
from types import ModuleType

from azr_lite.errors import ConfigError, cause
from azr_lite.tasks.base import Answer, Proposal, TaskType, get_task_type, list_task_types, register_task_type
from azr_lite.tasks.induction import Induction
from azr_lite.tasks.triplets import Abduction, Deduction
from azr_lite.triplet import Rules

__all__ = [
    "Abduction", "Answer", "Deduction", "Induction", "Proposal", "Rules", "TaskType", "get_task_type", "import_own",
    "list_task_types", "register_task_type",
]  # fmt: skip


def import_own(module: str, what: str) -> ModuleType:
    """The user's module of this name, found in the working directory too. ConfigError says what cannot be imported."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(module)
    except Exception as error:
        why = f"{what} names the module {module!r}, which cannot be imported ({cause(error)})"
        raise ConfigError(f"{why}; mend it, or start in its folder") from error
