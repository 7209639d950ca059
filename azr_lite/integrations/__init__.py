"""Parts of azr_lite inside other libraries: TRL, verifiers, datasets, lm-evaluation-harness. One file each.

Nothing but the command line imports them, and each needs its library (the extra [integrations]).
"""

from __future__ import annotations

import atexit
import functools
from collections.abc import Sequence

from azr_lite.prompts import Style
from azr_lite.sandbox import Executor
from azr_lite.tasks.base import Answer, get_task_type
from azr_lite.triplet import Rejection, Role, Rules, Task, Verdict
from azr_lite.verifier import Verifier, guarded

TYPES = ("deduction", "abduction", "induction")


@functools.cache
def shared_verifier() -> Verifier:
    """This process's verifier. Its executor starts with the first call and ends with the process."""
    executor = Executor()
    atexit.register(executor.close)
    return Verifier(executor, Rules())


def verdicts(style: Style, replies: Sequence[tuple[Task, str]]) -> list[Verdict]:
    """Judge replies to tasks, each as (task, text of the reply).

    The style's prefill is put before the text, whether or not the model was given it: a reply that opens its thought
    itself reads the same.
    """

    def parsed(task: Task, text: str) -> Answer | Rejection:
        kind, rules = get_task_type(task.type), shared_verifier().rules
        reply = style.read(Role.SOLVE, kind.solve_prompt(style, task, rules), text, rules)
        return reply if isinstance(reply, Rejection) else guarded(kind.parse_answer, reply, task, rules)

    return shared_verifier().judge([(task, parsed(task, text)) for task, text in replies])
