"""A whole step's validations and judgements, batched into the executor.

The expected output never enters the sandbox: programs run, and what they return is compared here. An executor failure
is neither right nor wrong: the executor tries again and then raises `InfrastructureError`, and nothing is counted.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from azr_lite.config import Config
from azr_lite.sandbox import Executor, Job, Limits, Outcome, Validation
from azr_lite.tasks.base import Answer, Proposal, get_task_type
from azr_lite.triplet import Reason, Rejection, Rules, Task, TaskTypeName, Verdict


class ProgramRunner(Protocol):
    """What runs programs for the verifier: `sandbox.Executor`, or `ShardedExecutor`, which shares them out."""

    def run_many(self, jobs: Sequence[Job]) -> list[list[Outcome]]: ...

    def validate_many(self, items: Sequence[tuple[str, Sequence[tuple[Any, ...]]]]) -> list[Validation]: ...


def open_executor(config: Config, workers: int | None = None) -> Executor:
    """An executor with a run's limits; `workers`: fork servers, where not the run's own number.

    UnsafeError where the kernel offers no isolation and the run did not allow that.
    """
    limits = Limits(cpu_s=config.cpu_seconds, memory_mb=config.memory_mb)
    return Executor(limits, workers or config.workers or None, config.allow_weak, seed=config.seed)


def rules_of(config: Config) -> Rules:
    """The settings of a run that its task types need."""
    shared = {field.name for field in dataclasses.fields(Rules)} & vars(config).keys()
    return Rules(**{name: getattr(config, name) for name in shared})


def guarded(wanted: Any, work: Callable[..., Any], *arguments: Any) -> Any:
    """What `work` returns, of a `wanted` type or a rejection; an error over one reply rejects it, and ends no run."""
    try:
        if not isinstance(found := work(*arguments), wanted | Rejection):
            raise TypeError(f"{work.__qualname__} gave {found!r:.100}")
        return found
    except Exception as error:
        return Rejection(Reason.INTERNAL, f"{type(error).__name__}: {error}"[:200])


class Verifier:
    """Validates proposals and judges answers, a whole step at a time, and keeps count over the run so far.

    `executions`: programs run, once per input in two worlds. `outcome_counts`: validations by "ok" or reason, and
    judged inputs by the kind of their outcome. `worlds`: accepted proposals by the number of worlds that they ran in.

    Args:
        executor: What runs programs (`Executor`).
        rules: What task types need to know (`rules_of` a config).

    Examples:
        ``Verifier(executor, Rules()).judge([(task, answer)])[0].ok``
    """

    def __init__(self, executor: ProgramRunner, rules: Rules) -> None:
        self.executor, self.rules, self.executions = executor, rules, 0
        self.outcome_counts: Counter[str] = Counter()
        self.worlds: Counter[int] = Counter()

    def validate(self, items: Sequence[tuple[TaskTypeName, Proposal | Rejection]]) -> list[Task | Rejection]:
        """A task or a `Rejection` for each item, in the same order.

        A proposal is run in two worlds, or eight; equal proposals are run once.
        Raises InfrastructureError where the sandbox itself fails.
        """
        wanted = {_key(one): (one.program, one.inputs) for _, one in items if isinstance(one, Proposal)}
        found = dict(zip(wanted, self.executor.validate_many(list(wanted.values())), strict=True))
        self.executions += 2 * sum(len(inputs) for _, inputs in wanted.values())
        self.outcome_counts.update(v.reason or "ok" for v in found.values())
        return [self._task(kind, proposal, found) for kind, proposal in items]

    def _task(self, kind: str, proposal: Proposal | Rejection, found: dict[str, Validation]) -> Task | Rejection:
        if isinstance(proposal, Rejection):
            return proposal
        validation = found[_key(proposal)]
        if not validation.ok:
            reason = validation.reason if validation.reason in {*Reason} else Reason.POLICY
            return Rejection(Reason(reason), validation.detail)
        self.worlds[validation.worlds] += 1
        return guarded(Task, get_task_type(kind).make_task, proposal, validation.outputs, self.rules)

    def judge(self, items: Sequence[tuple[Task, Answer | Rejection]]) -> list[Verdict]:
        """A verdict for each item, in the same order.

        Equal programs on equal inputs are run once; others never share a child process.
        Raises InfrastructureError where the sandbox itself fails.
        """
        to_run = [answer for _, answer in items if isinstance(answer, Answer) and answer.inputs]
        jobs = {_key(answer): Job(answer.program, tuple(answer.inputs)) for answer in to_run}
        found = dict(zip(jobs, self.executor.run_many(list(jobs.values())), strict=True))
        self.executions += sum(len(job.inputs) for job in jobs.values())
        self.outcome_counts.update(outcome.kind for outcomes in found.values() for outcome in outcomes)
        return [self._verdict(task, answer, found) for task, answer in items]

    def _verdict(self, task: Task, answer: Answer | Rejection, found: dict[str, list[Outcome]]) -> Verdict:
        if isinstance(answer, Rejection):
            return answer.verdict
        outcomes = found[_key(answer)] if answer.inputs else []
        verdict = guarded(Verdict, get_task_type(task.type).judge, task, answer, outcomes, self.rules)
        return verdict.verdict if isinstance(verdict, Rejection) else verdict


def _key(one: Proposal | Answer) -> str:
    return f"{one.program}\x00{one.inputs!r}"
