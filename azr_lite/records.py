"""What goes through the stages of one self-play step, and the lines it leaves in the log.

Comes in: completions, verdicts, rewards.  Goes out: `ProposalAttempt`, `SolveAttempt`, `Record`; rollouts and lines for tasks.jsonl.
Not covered: the stages that fill these in (`selfplay.py`), writing the lines (`rundir.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from azr_lite.rewards import Reward
from azr_lite.triplet import Completion, Rejection, Role, Rollout, Task, TaskType, Verdict


@dataclass
class ProposalAttempt:
    """One proposal as it passes through stages 1 to 6; what is not known yet is None.

    `prompt`, `references`: stage 1. `completion`: stage 2. `result` (a task, or why there is none), `fresh` (the task is new to its
    buffer and to this step): stage 3. `rate`: r-bar, stage 5.
    """

    type: TaskType
    references: list[Task]
    prompt: str
    completion: Completion | None = None
    result: Task | Rejection | None = None
    fresh: bool = False
    rate: float | None = None

    @property
    def task(self) -> Task | None:
        """The valid task; None before stage 3 and for a rejected proposal."""
        return None if isinstance(self.result, Rejection) else self.result

    @property
    def verdict(self) -> Verdict:
        if isinstance(self.result, Rejection):
            return self.result.verdict
        return Verdict(ok=True, well_formed=True, score=1.0)


@dataclass
class SolveAttempt:
    """One attempt of the solver at one task, stages 4 to 9. `rate`: r-bar of its task, None where the task was not measured this step."""

    task: Task
    prompt: str
    completion: Completion | None = None
    verdict: Verdict | None = None
    rate: float | None = None


@dataclass
class Record:
    """What one step leaves for the log: lines for tasks.jsonl, trained rollouts, numbers for metrics.jsonl. Seeding is step -1."""

    step: int
    tasks: list[dict[str, Any]] = field(default_factory=list)
    rollouts: list[Rollout] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    sampled_tokens: int = 0
    """Tokens of all replies of the step: proposals, Monte-Carlo replies, and those that only stage 7 needs. For the sampling speed."""


def rollout_of(
    role: Role,
    name: TaskType,
    completion: Completion,
    verdict: Verdict,
    reward: Reward,
    task_id: str,
    parents: tuple[str, ...],
    rate: float | None,
) -> Rollout:
    """A reply that is trained on, with its verdict and its reward."""
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
        reward=reward.total,
        reward_parts=reward.parts,
        task_id=task_id,
        parents=parents,
        solve_rate=rate,
    )


def task_line(proposal: ProposalAttempt, attempts: Sequence[SolveAttempt], step: int) -> dict[str, Any]:
    """One line of tasks.jsonl: a proposal, accepted or rejected with its reason, and the Monte-Carlo `attempts` at its task."""
    return {
        "step": step,
        "type": proposal.type,
        "ok": proposal.task is not None,
        "reason": proposal.verdict.reason,
        "detail": proposal.verdict.detail,
        "fresh": proposal.fresh,
        "parents": [reference.id for reference in proposal.references],
        "solve_rate": proposal.rate,
        "task": proposal.task.to_json() if proposal.task is not None else None,
        "text": proposal.completion.text,
        "tokens": len(proposal.completion.ids),
        "truncated": proposal.completion.truncated,
        "answers": [
            {
                "text": a.completion.text,
                "score": a.verdict.score,
                "reason": a.verdict.reason,
                "tokens": len(a.completion.ids),
                "truncated": a.completion.truncated,
            }
            for a in attempts
        ],
    }
