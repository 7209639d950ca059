"""Replay: a step's verdicts, rewards, advantages and loss weights, made again from the log alone and held against it.

Comes in: a run directory and a step.  Goes out: a `Replay` with every difference, named by file, line and field.
Not covered: the model (texts are taken from the log), and two things that only it could tell: which seeds of sampling led to these
texts, and how many tokens a prompt has (a proposal rejected as too long for the solver is believed).

Nothing recorded is used twice: verdicts are made from the texts in the sandbox, rewards from those verdicts, advantages from those
rewards. So one wrong number in the log shows as exactly that one.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from azr_lite.advantages import with_advantages, with_weights_and_padding
from azr_lite.buffer import task_key
from azr_lite.config import Config
from azr_lite.errors import RunDirectoryError
from azr_lite.observe.reader import Line, StepLog, open_run
from azr_lite.prompts import get_style
from azr_lite.rewards import answer_reward, proposal_reward, solve_rate
from azr_lite.selfplay import SelfPlay, round_robin
from azr_lite.tasks.base import get_task_type
from azr_lite.triplet import (
    Completion,
    ProposalAttempt,
    Reason,
    Rejection,
    Role,
    Rollout,
    SolveAttempt,
    Task,
    rollout_of,
    task_from_json,
)
from azr_lite.verifier import ProgramRunner, open_executor

ROUNDING = 1e-12
"""Relative; another processor may sum in another order."""

_SOLVER_PROMPT = re.compile(r"the solver's prompt would have (\d+) tokens")


@dataclass(frozen=True, slots=True)
class Difference:
    """One number or word that the log has otherwise. `line` counts the step's lines in `file` from 1."""

    file: str
    line: int
    what: str
    recorded: Any
    rebuilt: Any

    def __str__(self) -> str:
        return f"{self.file}, line {self.line} of the step, {self.what}: recorded {self.recorded!r}, rebuilt {self.rebuilt!r}"


@dataclass
class Replay:
    """What one replay found. `compared`: how many values of each kind; `rounded`: numbers equal but for rounding."""

    step: int
    compared: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    executions: int = 0
    rounded: int = 0
    believed: int = 0

    @property
    def exact(self) -> bool:
        return not self.differences

    def __str__(self) -> str:
        return text_of(self)

    def as_json(self) -> str:
        return as_json(self)

    def hold(self, file: str, line: int, what: str, recorded: Any, rebuilt: Any) -> None:
        """Count one comparison, and keep it where it fails."""
        self.compared[re.sub(r"\d+", "", what).split(".")[0].strip()] += 1
        if recorded == rebuilt:
            return
        if (
            isinstance(recorded, float)
            and isinstance(rebuilt, float)
            and abs(recorded - rebuilt) <= ROUNDING * max(1.0, abs(rebuilt))
        ):
            self.rounded += 1
            return
        self.differences.append(Difference(file, line, what, recorded, rebuilt))


def replay(path: str | Path, step: int | None = None, executor: ProgramRunner | None = None) -> Replay:
    """Rebuild step number `step` of a run (None: the newest). `executor`: one that is open already; otherwise one is started with the run's limits.

    Raises RunDirectoryError (no such step, a log missing or damaged), UnsafeError, InfrastructureError.

    Examples:
        >>> found = replay("data_samples/runs/whole/nano-small", step=3)
        >>> found.exact, found.compared["reward"]
        (True, 71)
    """
    run = open_run(path)
    config = run.config()
    if step is None:
        step = StepLog(run, "metrics.jsonl").last_step()
        if step is None:
            raise RunDirectoryError(f"{run.path} has no whole step yet; wait for its first")
    log = StepLog(run, "tasks.jsonl")
    proposal_lines, rows = list(log.lines(step)), list(StepLog(run, "rollouts.jsonl").lines(step))
    written = StepLog(run, "metrics.jsonl").last_step()
    if written is None or written < step:  # its line there is the last thing that a step writes
        raise RunDirectoryError(
            f"step {step} of {run.path} is not whole: the run is still writing it, or was killed; replay an earlier one"
        )
    with open_executor(config) if executor is None else nullcontext(executor) as running:
        reserved = None
        if config.model == "nano":
            from azr_lite.nano.language import is_reserved as reserved
        play = SelfPlay(
            config, get_style("chat"), running, count_tokens=lambda prompt: 0, reserved=reserved
        )  # all styles share the prefill
        try:
            return _Rebuilt(
                play, step, proposal_lines, rows, _earlier_tasks(log, config, step, proposal_lines, rows)
            ).result
        except (KeyError, TypeError, AttributeError) as error:
            raise RunDirectoryError(
                f"the log of step {step} in {run.path} is not in this azr_lite's form ({error!r}); restore it from a copy, or use the version in run.json"
            ) from error


class _Rebuilt:
    """One step, stage by stage. `result` holds what came of it."""

    def __init__(
        self, play: SelfPlay, step: int, proposal_lines: Sequence[Line], rows: Sequence[Line], known: dict[str, Task]
    ) -> None:
        self.play, self.proposal_lines, self.known, self.result = play, proposal_lines, known, Replay(step)
        self.proposals = self.validate()
        self.measure()
        own = [(at, row) for at, row in enumerate(rows, start=1) if row["role"] == Role.PROPOSE]
        asked = [(at, row) for at, row in enumerate(rows, start=1) if row["role"] == Role.SOLVE]
        rebuilt = {at: pair for at, *pair in [*self.pay_proposers(own), *self.pay_solvers(asked)]}
        pairs = [rebuilt[at] for at in sorted(rebuilt)]
        if pairs and len(pairs) == len(rows):
            scored = with_weights_and_padding(
                play.config, with_advantages(play.config, [rollout for _, rollout in pairs])
            )
            for at, ((row, _), rollout) in enumerate(zip(pairs, scored, strict=False), start=1):
                self.compare(at, row, rollout)
        self.result.executions = play.verifier.executions

    def validate(self) -> list[ProposalAttempt]:
        """Stage 3 again: parse and run every proposal."""
        proposals = [
            ProposalAttempt(line["type"], [self.task(i, line["type"]) for i in line["parents"]], "", _completion(line))
            for line in self.proposal_lines
        ]
        self.play.validate(proposals)
        for at, (line, proposal) in enumerate(zip(self.proposal_lines, proposals, strict=True), start=1):
            told = _SOLVER_PROMPT.fullmatch(line["detail"]) if line["reason"] == Reason.TOO_LONG else None
            if told and proposal.task is not None and int(told[1]) > self.play.config.max_prompt_tokens:
                proposal.result = Rejection(Reason.TOO_LONG, line["detail"])
                self.result.believed += 1
            self.hold_task(at, "verdict.ok", line["ok"], proposal.verdict.ok)
            self.hold_task(at, "verdict.reason", line["reason"], str(proposal.verdict.reason))
            self.hold_task(at, "verdict.detail", line["detail"], proposal.verdict.detail)
            if line["ok"] and proposal.task is not None:
                for name in ("program", "input", "output", "inputs", "outputs", "message"):
                    if name in line["task"]:
                        rebuilt = getattr(proposal.task, name, None)
                        self.hold_task(
                            at,
                            f"task.{name}",
                            line["task"][name],
                            list(rebuilt) if isinstance(rebuilt, tuple) else rebuilt,
                        )
        return proposals

    def measure(self) -> None:
        """Stages 4 and 5 again: judge the Monte-Carlo replies, take their mean."""
        for line, proposal in zip(self.proposal_lines, self.proposals, strict=True):
            answers = line["answers"] if proposal.task is not None else []
            proposal.attempts = [SolveAttempt(proposal.task, "", _completion(answer)) for answer in answers]
        self.play.judge([attempt for proposal in self.proposals for attempt in proposal.attempts])
        for at, (line, proposal) in enumerate(zip(self.proposal_lines, self.proposals, strict=True), start=1):
            own = proposal.attempts
            for number, (answer, attempt) in enumerate(zip(line["answers"], own, strict=False), start=1):
                self.hold_task(at, f"answer {number}.score", answer["score"], attempt.verdict.score)
                self.hold_task(at, f"answer {number}.reason", answer["reason"], str(attempt.verdict.reason))
            proposal.rate = solve_rate([a.verdict.score for a in own]) if len(own) > 1 else None
            for attempt in own:
                attempt.rate = proposal.rate
            self.hold_task(at, "solve_rate", line["solve_rate"], proposal.rate)

    def pay_proposers(self, rows: Sequence[tuple[int, Line]]) -> Iterable[tuple[int, Line, Rollout]]:
        """Stage 9 again for proposals; those of held-out programs have no row."""
        paid = [
            proposal
            for line, proposal in zip(self.proposal_lines, self.proposals, strict=True)
            if line["reason"] != Reason.RESERVED
        ]
        if len(paid) != len(rows):
            self.result.differences.append(Difference("rollouts.jsonl", 1, "number of proposals", len(rows), len(paid)))
        for (at, row), proposal in zip(rows, paid, strict=False):
            if proposal.task is not None and proposal.rate is None:
                self.hold_row(at, "reward", row["reward"], "none: valid, but the log has no replies to it")
                continue
            pay = proposal_reward(proposal.verdict, proposal.rate, self.play.config.zero_learnability)
            task_id = proposal.task.id if proposal.task is not None else ""
            yield at, row, _rollout(row, proposal.verdict, pay, task_id, proposal.rate)

    def pay_solvers(self, rows: Sequence[tuple[int, Line]]) -> Iterable[tuple[int, Line, Rollout]]:
        """Stages 7 to 9 again for answers. Which replies train the solver follows from the log, up to those to older tasks."""
        config = self.play.config
        self.known |= {proposal.task.id: proposal.task for proposal in self.proposals if proposal.task is not None}
        attempts = [SolveAttempt(self.task(row["task_id"], row["type"]), "", _completion(row)) for _, row in rows]
        self.play.judge(attempts)
        reused = {
            name: round_robin([p for p in self.proposals if p.type == name])[: config.solver_rows]
            if config.solver_data == "reuse"
            else []
            for name in config.task_types
        }
        for (at, row), attempt in zip(rows, attempts, strict=True):
            queue = reused.get(row["type"], [])
            first = queue.pop(0) if queue else None
            if first is not None:
                self.hold_row(at, "task_id", row["task_id"], first.task.id)
                self.hold_row(at, "text", row["text"], first.completion.text)
            pay = answer_reward(attempt.verdict)
            task_id = first.task.id if first is not None else row["task_id"]
            yield at, row, _rollout(row, attempt.verdict, pay, task_id, first.rate if first is not None else None)

    def compare(self, at: int, row: Line, rebuilt: Rollout) -> None:
        for name, value in rebuilt.verdict.to_json().items():
            self.hold_row(at, f"verdict.{name}", row["verdict"][name], str(value) if name == "reason" else value)
        self.hold_row(at, "reward", row["reward"], rebuilt.reward)
        parts = row["reward_parts"]
        for name in sorted({*parts, *rebuilt.reward_parts}):
            self.hold_row(at, f"reward_parts.{name}", parts.get(name), rebuilt.reward_parts.get(name))
        for name in ("task_id", "solve_rate", "advantage", "weight"):
            self.hold_row(at, name, row[name], getattr(rebuilt, name))

    def hold_task(self, at: int, what: str, recorded: Any, rebuilt: Any) -> None:
        self.result.hold("tasks.jsonl", at, what, recorded, rebuilt)

    def hold_row(self, at: int, what: str, recorded: Any, rebuilt: Any) -> None:
        self.result.hold("rollouts.jsonl", at, what, recorded, rebuilt)

    def task(self, task_id: str, kind: str) -> Task:
        if task_id in self.known:
            return self.known[task_id]
        raise RunDirectoryError(
            f"tasks.jsonl does not hold the {kind} task {task_id or '(no id)'} that step {self.result.step} uses; restore it from a copy"
        )


def _completion(line: Line) -> Completion:
    """A logged reply with its length. (Logs before these fields: only a cut reply is rejected as truncated.)"""
    cut = line.get("truncated", line.get("reason") == Reason.TRUNCATED)
    return Completion("", (), tuple(range(max(1, line.get("tokens", 1)))), line["text"], cut)


def _rollout(row: Line, verdict: Any, pay: Any, task_id: str, rate: float | None) -> Rollout:
    completion = Completion("", tuple(range(row["prompt_tokens"])), tuple(range(row["tokens"])), row["text"])
    return rollout_of(Role(row["role"]), row["type"], completion, verdict, pay, task_id, (), rate)


def _earlier_tasks(
    log: StepLog, config: Config, step: int, proposal_lines: Sequence[Line], rows: Sequence[Line]
) -> dict[str, Task]:
    """The tasks that this step's references and answers name: zero tasks, seeds (and what other games adopted of them), proposals."""
    known: dict[str, Task] = {}
    for name in config.task_types:
        if (zero := get_task_type(name).zero_task()) is not None:
            known[task_key(zero)] = replace(zero, id=task_key(zero))
            known.setdefault("", zero)
    wanted = {i for line in proposal_lines for i in line["parents"]} | {
        row["task_id"] for row in rows if row["task_id"]
    }
    for line in log.since(until=step):
        if not line["ok"]:
            continue
        if line["step"] < 0:
            task = task_from_json(line["task"])
            twins = [get_task_type(name).convert_from(task) for name in config.task_types if name != task.type]
            known |= {
                key: replace(twin, id=key) for twin in twins if twin is not None and (key := task_key(twin)) in wanted
            }
        if line["task"]["id"] in wanted:
            known.setdefault(line["task"]["id"], task_from_json(line["task"]))
    return known


def text_of(found: Replay, limit: int = 20) -> str:
    """For people: what was compared, and each difference."""
    counts = ", ".join(f"{count} {what}" for what, count in sorted(found.compared.items()))
    lines = [
        f"step {found.step}: {sum(found.compared.values())} values rebuilt with {found.executions} executions in the sandbox",
        *textwrap.wrap(counts, 80, initial_indent="  ", subsequent_indent="  "),
    ]
    if found.believed:
        lines.append(f"  {found.believed} proposals too long for the solver were believed: no tokenizer is used here")
    if found.rounded:
        lines.append(f"  {found.rounded} of them are equal but for rounding (1e-12)")
    if found.exact:
        return "\n".join([*lines, "the log is exact: verdicts, rewards, advantages and weights are as recorded"])
    lines.append(f"{len(found.differences)} values differ from the record:")
    lines += [f"  {difference}" for difference in found.differences[:limit]]
    if len(found.differences) > limit:
        lines.append(f"  … and {len(found.differences) - limit} more")
    return "\n".join(lines)


def as_json(found: Replay) -> str:
    rows = [
        {name: getattr(d, name) for name in ("file", "line", "what", "recorded", "rebuilt")} for d in found.differences
    ]
    facts = {"step": found.step, "exact": found.exact, "compared": dict(found.compared), "executions": found.executions}
    return json.dumps(
        {**facts, "rounded": found.rounded, "believed": found.believed, "differences": rows},
        indent=1,
        ensure_ascii=False,
    )
