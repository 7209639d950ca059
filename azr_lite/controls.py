"""Controls: the same run with one thing taken away, to tell learning from luck.

Comes in: the name of a control.  Goes out: a context in which every run of this process is that control.
Not covered: bugs made on purpose (`learn/bugs.py`). No setting reaches this module: a control is no way to run.

A control replaces one stage of `SelfPlay`, so that sampling, sandbox, trainer and evaluation stay what they are.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from azr_lite.errors import ConfigError
from azr_lite.selfplay import SelfPlay
from azr_lite.tasks.base import get_task_type
from azr_lite.triplet import ProposalAttempt, Rollout


def no_update(self: SelfPlay, rollouts: Sequence[Rollout]) -> list[Rollout]:
    """Advantages of zero: every gradient is zero, and no weight changes."""
    return [dataclasses.replace(rollout, advantage=0.0) for rollout in rollouts]


def shuffled_rewards(self: SelfPlay, rollouts: Sequence[Rollout]) -> list[Rollout]:
    """TRR++ of the same rewards dealt out at random within each (role, type): as large updates, with nothing to learn."""
    rng = random.Random(f"{self.config.seed}/{self.record.step}/shuffled rewards")
    dealt = list(rollouts)
    for group in dict.fromkeys(r.group for r in rollouts):
        rows = [row for row, r in enumerate(rollouts) if r.group == group]
        rewards = [rollouts[row].reward for row in rows]
        rng.shuffle(rewards)
        for row, reward in zip(rows, rewards, strict=True):
            dealt[row] = dataclasses.replace(rollouts[row], reward=reward)
    advantages = [r.advantage for r in _ADVANTAGES(self, dealt)]
    return [dataclasses.replace(r, advantage=a) for r, a in zip(rollouts, advantages, strict=True)]


def no_references(self: SelfPlay, step: int) -> list[ProposalAttempt]:
    """Games that show K triplets of the buffer show the zero triplet, whatever the buffer holds. (Others still get a program.)"""
    proposals = []
    for proposal in _REFERENCES(self, step):
        game = get_task_type(proposal.type)
        if game.propose_from == "own":
            references = [game.zero_task()]
            proposal = ProposalAttempt(
                proposal.type, references, game.propose_prompt(self.style, references, self.rules)
            )
        proposals.append(proposal)
    return proposals


_ADVANTAGES, _REFERENCES = SelfPlay.advantages, SelfPlay.sample_references

CONTROLS: dict[str, tuple[str, Callable[..., Any]]] = {
    "no update": ("advantages", no_update),
    "shuffled rewards": ("advantages", shuffled_rewards),
    "no references": ("sample_references", no_references),
}
"""Name: the stage of `SelfPlay` that is replaced, and what takes its place."""


@contextmanager
def control(name: str) -> Iterator[None]:
    """Every run inside is that control. ConfigError for an unknown name."""
    if name not in CONTROLS:
        raise ConfigError(f"there is no control {name!r}; known: {', '.join(CONTROLS)}")
    with replaced(SelfPlay, *CONTROLS[name]):
        yield


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Put `value` in the place of an attribute, and the old one back afterwards."""
    old = owner.__dict__[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, old)
