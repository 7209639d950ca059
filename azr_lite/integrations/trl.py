"""Plain `trl.GRPOTrainer` on invented tasks: the data set of prompts, and the verifier as reward functions.

Examples:
    ``GRPOTrainer(model, reward_functions(), train_dataset=dataset("runs/nano-seed0"))``
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets

from azr_lite.errors import ConfigError
from azr_lite.integrations.datasets import TYPES, player, read_rows, solve_prompt, task_of, verdicts, written
from azr_lite.metrics import mean
from azr_lite.rewards import answer_reward
from azr_lite.triplet import Completion, task_from_json

Reward = Callable[..., list[float | None]]


def dataset(run: str | Path, style: str = "r1", task_types: Sequence[str] = TYPES) -> datasets.Dataset:
    """The tasks that a run invented (or what `azr-lite tasks` wrote), as prompts for a solver.

    `style`: r1 (base models), chat (instruct models: conversational prompts) or compact (nano). Rows have `prompt`;
    `task`, which the rewards read; `id`, `type`, `step` and `solve_rate`, to filter by. ConfigError: no such task.
    """
    play, rows = player(style), []
    for row in read_rows(run):
        if row["type"] in task_types:
            text = solve_prompt(play, task := task_of(row))
            if play.style.chat:  # TRL puts nothing after the template, so the model opens its thought itself
                text = [{"role": "user", "content": text.removesuffix(play.style.prefill)}]
            about = {name: row[name] for name in ("id", "type", "step", "solve_rate")}
            rows.append({"prompt": text, "task": task.to_line(), **about})
    if not rows:
        raise ConfigError(f"{run} holds no task of the types {', '.join(task_types)}; name others, or another run")
    return datasets.Dataset.from_list(rows)


def reward_functions(task_types: Sequence[str] = TYPES, style: str = "r1") -> list[Reward]:
    """What `GRPOTrainer` takes as `reward_funcs`: one function per task type, which leaves other rows alone.

    Each gives a solver's self-play reward (`azr_lite.answer_reward`): 1, -0.5 or -1. TRL logs it under the type's name.
    `style`: that of the prompts.
    """
    return [_reward_of(name, style) for name in task_types]


def _reward_of(name: str, style: str) -> Reward:
    play = player(style)

    def reward(completions: Sequence[Any], task: Sequence[str] = (), **more: Any) -> list[float | None]:
        if len(task) != len(completions):
            told = "the training data have no column 'task'; make them with azr_lite.integrations.trl.dataset"
            raise ConfigError(told)
        tasks = [task_from_json(json.loads(line)) for line in task]
        own = [place for place, one in enumerate(tasks) if one.type == name]
        found = verdicts(play, [(tasks[place], _reply(completions[place])) for place in own])
        if found and not any(verdict.well_formed for verdict in found):
            form = f"none of {len(found)} replies has the form that style {style!r} asks for ({found[0].detail})"
            warnings.warn(f"{name}: {form}; do the prompts ask for it, and are replies long enough?", stacklevel=2)
        if found and "log_metric" in more:
            more["log_metric"](f"well_formed/{name}", mean([verdict.well_formed for verdict in found]))
        earned = dict(zip(own, (answer_reward(verdict).total for verdict in found), strict=True))
        return [earned.get(place) for place in range(len(tasks))]

    reward.__name__ = name
    return reward


def _reply(completion: Any) -> Completion:
    """What a model wrote: a text, or the last message of a conversation."""
    if isinstance(completion, str):
        return written(completion)
    message = completion[-1]
    return written(message.get("content") or "", message.get("reasoning_content") or message.get("thinking"))
