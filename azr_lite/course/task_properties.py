"""Properties that every task type must have: checked before a model is trained on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from azr_lite.parsing import ParsedReply
from azr_lite.prompts import get_style
from azr_lite.prompts.base import fence
from azr_lite.tasks.base import TaskType
from azr_lite.triplet import Rejection, Rules, Task, Verdict, task_from_json
from azr_lite.verifier import ProgramRunner, Verifier


@dataclass(frozen=True)
class Property:
    """One property: whether it holds, and for which case it does not."""

    name: str
    ok: bool
    detail: str = ""

    def __str__(self) -> str:
        return f"{'✓' if self.ok else '✗'} {self.name}" + (f": {self.detail}" if self.detail else "")


Blocks = Sequence[tuple[str, str]]
"""The fenced blocks of a reply: ``[("python", "def f..."), ("input", "1")]``."""


def reply_of(blocks: Blocks) -> ParsedReply:
    """A well-formed reply with these blocks."""
    return ParsedReply("", "\n".join(fence(*block) for block in blocks), tuple(blocks))


def blind(prompt: Callable[[Any], str], task: Any, hidden: str = "output") -> bool:
    """Whether the prompt keeps the hidden field to itself: it must not change when that field does.

    Looking for the answer's text would raise false alarms (a 1 stands everywhere) and overlook another spelling.
    """
    return prompt(replace(task, **{hidden: "'something else altogether'"})) == prompt(task)


def guess_rate(answers: Sequence[str]) -> float:
    """The score of one who always gives the most frequent answer; 0.0 without answers. What a model must beat."""
    return max(Counter(answers).values()) / len(answers) if answers else 0.0


def check_task_type(
    kind: TaskType,
    proposals: Sequence[Blocks],
    gold: Callable[[Any], Blocks],
    cheats: Sequence[Blocks],
    executor: ProgramRunner,
    hidden: str = "output",
) -> list[Property]:
    """Play tasks of this type, which must be registered, with these replies.

    `gold(task)`: a right answer to a task; `cheats`: answers that must never score.
    """
    rules, style = Rules(), get_style("chat")
    verifier = Verifier(executor, rules)
    zero = kind.zero_task()
    references = [zero] if zero is not None else []
    parsed = [(kind.name, kind.parse_proposal(reply_of(blocks), references, rules)) for blocks in proposals]
    results = verifier.validate(parsed)
    tasks: list[Task] = references + [result for result in results if not isinstance(result, Rejection)]
    refused = [f"{result.reason} ({result.detail})" for result in results if isinstance(result, Rejection)]

    def judged(task: Task, blocks: Blocks) -> Verdict:
        return verifier.judge([(task, kind.parse_answer(reply_of(blocks), task, rules))])[0]

    def prompt(task: Task) -> str:
        return kind.solve_prompt(style, task, rules)

    right = [judged(task, gold(task)) for task in tasks]
    scoring = [(blocks, task) for task in tasks for blocks in cheats if judged(task, blocks).score > 0]
    tried = f"{len(cheats)} cheats x {len(tasks)} tasks"
    again = verifier.validate(parsed) == results and [judged(task, gold(task)) for task in tasks] == right
    own = [kind.convert_from(replace(task, type="another")) is None for task in tasks]
    return [
        Property("proposals become tasks", not refused, "; ".join(refused)),
        _all("a right answer scores 1", tasks, [verdict.score == 1.0 for verdict in right]),
        Property("cheats score 0", not scoring, repr(scoring[0][0])[:90] if scoring else tried),
        _all("the prompt does not know the answer", tasks, [blind(prompt, task, hidden) for task in tasks]),
        Property("playing again gives the same tasks and verdicts", again),
        _all("a task survives being saved", tasks, [task_from_json(task.to_json()) == task for task in tasks]),
        _all("it takes no other type's tasks unasked", tasks, own),
    ]


def _all(name: str, tasks: Sequence[Task], good: Sequence[bool]) -> Property:
    bad = [task for task, one in zip(tasks, good, strict=True) if not one]
    return Property(name, not bad, f"not for {bad[0].program[:60]!r}" if bad else f"{len(tasks)} tasks")
