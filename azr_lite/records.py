"""What goes through the stages of one self-play step, and the lines it leaves in the log.

Comes in: completions, verdicts, rewards.  Goes out: `Offer`, `Attempt`, `Record`; rollouts and lines for tasks.jsonl.
Not covered: the stages that fill these in (`selfplay.py`), writing the lines (`rundir.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from azr_lite.rewards import Reward
from azr_lite.triplet import Completion, Rejection, Role, Rollout, Task, TaskType, Verdict


@dataclass
class Offer:
    """A proposal on its way through stages 1 to 6."""

    type: TaskType
    references: list[Task]
    prompt: str
    completion: Completion | None = None
    result: Task | Rejection | None = None
    fresh: bool = False
    rate: float | None = None

    @property
    def task(self) -> Task | None:
        return None if isinstance(self.result, Rejection) else self.result

    @property
    def verdict(self) -> Verdict:
        if isinstance(self.result, Rejection):
            return self.result.verdict
        return Verdict(ok=True, well_formed=True, score=1.0)


@dataclass
class Attempt:
    """One reply to one task, stages 4 to 9. `rate`: r-bar of its task, where the task was solved several times."""

    task: Task
    prompt: str
    completion: Completion | None = None
    verdict: Verdict | None = None
    rate: float | None = None


@dataclass
class Record:
    """What one step leaves for the log: lines for tasks.jsonl, trained rollouts, numbers for metrics.jsonl."""

    step: int
    tasks: list[dict[str, Any]] = field(default_factory=list)
    rollouts: list[Rollout] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)


def rollout_of(
    role: Role,
    name: TaskType,
    completion: Completion,
    verdict: Verdict,
    pay: Reward,
    task_id: str,
    parents: tuple[str, ...],
    rate: float | None,
) -> Rollout:
    """A reply that is trained on, with its verdict and its pay."""
    return Rollout(
        role=role,
        type=name,
        prompt=completion.prompt,
        text=completion.text,
        prompt_ids=completion.prompt_ids,
        completion_ids=completion.ids,
        logps=completion.logps,
        truncated=completion.truncated,
        verdict=verdict,
        reward=pay.total,
        reward_parts=pay.parts,
        task_id=task_id,
        parents=parents,
        solve_rate=rate,
    )


def task_line(offer: Offer, tries: Sequence[Attempt], step: int) -> dict[str, Any]:
    """One line of tasks.jsonl: a proposal, accepted or rejected with its reason, and the replies that measured it."""
    line: dict[str, Any] = {
        "step": step,
        "type": offer.type,
        "ok": offer.task is not None,
        "reason": offer.verdict.reason,
        "detail": offer.verdict.detail,
        "fresh": offer.fresh,
        "parents": [reference.id for reference in offer.references],
        "solve_rate": offer.rate,
        "task": offer.task.to_json() if offer.task is not None else None,
        "text": offer.completion.text,
        "tokens": len(offer.completion.ids),
        "truncated": offer.completion.truncated,
        "answers": [
            {
                "text": a.completion.text,
                "score": a.verdict.score,
                "reason": a.verdict.reason,
                "tokens": len(a.completion.ids),
                "truncated": a.completion.truncated,
            }
            for a in tries
        ],
    }
    return line
