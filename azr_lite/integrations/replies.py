"""Replies that another library sampled, put through self-play's own stages."""

from __future__ import annotations

import atexit
import functools
from collections.abc import Iterable, Sequence

from azr_lite.config import Config
from azr_lite.prompts import get_style
from azr_lite.sandbox import Executor
from azr_lite.selfplay import SelfPlay
from azr_lite.tasks.base import get_task_type
from azr_lite.triplet import Completion, SolveAttempt, Task, Verdict

TYPES = ("deduction", "abduction", "induction")


@functools.cache
def _executor() -> Executor:
    """One per process, from the first call to the end."""
    executor = Executor()
    atexit.register(executor.close)
    return executor


def player(style: str, task_types: Sequence[str] = TYPES, tasks: Iterable[Task] = ()) -> SelfPlay:
    """Self-play whose stages are called one by one, for replies that others sample. `tasks`: in its buffers."""
    config = Config(task_types=tuple(task_types), batch_size=1, micro_batch_size=1, max_prompt_tokens=10**9)
    play = SelfPlay(config, get_style(style), _executor())
    for task in tasks:
        if task.type in config.task_types:
            play.buffers.add(task)
    return play


def solve_prompt(play: SelfPlay, task: Task) -> str:
    """What the solver is asked, with the style's prefill."""
    return get_task_type(task.type).solve_prompt(play.style, task, play.rules)


def written(text: str, thought: str | None = None) -> Completion:
    """A reply that another library sampled; `thought`: what its parser took out. The prefill may be in it, or not."""
    return Completion("", (), (0,), f"{thought}</think>{text}" if thought else text)


def verdicts(play: SelfPlay, replies: Sequence[tuple[Task, Completion]]) -> list[Verdict]:
    """Stage 8 for replies to tasks."""
    attempts = [SolveAttempt(task, solve_prompt(play, task), reply) for task, reply in replies]
    play.judge(attempts)
    return [attempt.verdict for attempt in attempts]
