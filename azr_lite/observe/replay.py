"""Replay: a step's verdicts, rewards, advantages and loss weights, made again from the log alone and compared with it.

Nothing recorded is used twice: verdicts are made from the texts in the sandbox, rewards from those verdicts,
advantages from those rewards. So one wrong number in the log shows as exactly that one. Two things only the model
could tell: which seeds of sampling led to these texts, and how many tokens a prompt has (a proposal rejected as too
long for the solver is believed).
"""

from __future__ import annotations

import dataclasses
import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from azr_lite.advantages import with_advantages, with_weights_and_padding
from azr_lite.buffer import task_key
from azr_lite.config import Config
from azr_lite.errors import RunDirectoryError
from azr_lite.observe.reader import Line, first_and_last_step, form_checked, log_lines, step_lines
from azr_lite.prompts import get_style
from azr_lite.rewards import answer_reward, proposal_reward, solve_rate
from azr_lite.rundir import RunDir
from azr_lite.selfplay import SelfPlay, round_robin
from azr_lite.tasks import get_task_type
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

MOST_PRINTED = 20
"""Differences that are printed; the others are counted."""

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
        place = f"{self.file}, line {self.line} of the step, {self.what}"
        return f"{place}: recorded {self.recorded!r}, rebuilt {self.rebuilt!r}"


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

    def compare(self, file: str, line: int, what: str, recorded: Any, rebuilt: Any) -> None:
        """Count one comparison, and keep it where it fails."""
        self.compared[re.sub(r"\d+", "", what).split(".")[0].strip()] += 1
        if recorded == rebuilt:
            return
        both = isinstance(recorded, float) and isinstance(rebuilt, float)
        if both and abs(recorded - rebuilt) <= ROUNDING * max(1.0, abs(rebuilt)):
            self.rounded += 1
        else:
            self.differences.append(Difference(file, line, what, recorded, rebuilt))

    def __repr__(self) -> str:
        """What was compared, and each difference, for people."""
        values, different = self.compared.total(), self.differences
        counts = ", ".join(f"{count} {what}" for what, count in sorted(self.compared.items()))
        lines = [f"step {self.step}: {values} values rebuilt with {self.executions} executions in the sandbox"]
        lines += textwrap.wrap(counts, 80, initial_indent="  ", subsequent_indent="  ")
        if self.believed:
            lines.append(
                f"  {self.believed} proposals too long for the solver were believed: no tokenizer is used here"
            )
        if self.rounded:
            lines.append(f"  {self.rounded} of them are equal but for rounding ({ROUNDING:g})")
        if self.exact:
            return "\n".join([*lines, "the log is exact: verdicts, rewards, advantages and weights are as recorded"])
        lines.append(f"{len(different)} value{'s differ' if len(different) > 1 else ' differs'} from the record:")
        lines += [f"  {difference}" for difference in different[:MOST_PRINTED]]
        if len(different) > MOST_PRINTED:
            lines.append(f"  … and {len(different) - MOST_PRINTED} more")
        return "\n".join(lines)

    def as_json(self) -> str:
        names = ("exact", "compared", "executions", "rounded", "believed")
        facts = {"step": self.step, **{name: getattr(self, name) for name in names}}
        differences = [dataclasses.asdict(difference) for difference in self.differences]
        return json.dumps({**facts, "differences": differences}, indent=1, ensure_ascii=False)


def replay(run: RunDir, step: int | None = None, executor: ProgramRunner | None = None) -> Replay:
    """Rebuild one step of a run. The arguments are those of `Run.replay`.

    Raises RunDirectoryError (no such step, a log missing or damaged), UnsafeError, InfrastructureError.
    """
    config = run.config()
    last = first_and_last_step(run, "metrics.jsonl")[1]
    step = last if step is None else step
    proposal_lines = step_lines(run, "tasks.jsonl", step)
    rows = step_lines(run, "rollouts.jsonl", step)
    if last < step:  # its line in metrics.jsonl is the last thing that a step writes
        why = "the run is still writing it, or was killed"
        raise RunDirectoryError(f"step {step} of {run.path} is not whole: {why}; replay an earlier one")
    reserved = None
    if config.model == "nano":
        from azr_lite.nano.language import is_reserved as reserved
    with open_executor(config) if executor is None else nullcontext(executor) as running, form_checked(run):
        style = get_style("chat")  # all styles share the prefill
        play = SelfPlay(config, style, running, count_tokens=lambda prompt: 0, reserved=reserved)
        known = _earlier_tasks(run, config, step, proposal_lines, rows)
        return _Rebuild(play, step, proposal_lines, rows, known).result


class _Rebuild:
    """One step, stage by stage. `result` holds what came of it."""

    def __init__(
        self, play: SelfPlay, step: int, proposal_lines: Sequence[Line], rows: Sequence[Line], known: dict[str, Task]
    ) -> None:
        self.play, self.proposal_lines, self.known, self.result = play, proposal_lines, known, Replay(step)
        self.proposals = self.validate()
        self.measure()
        numbered = list(enumerate(rows, start=1))
        proposed = self.reward_proposals([(at, row) for at, row in numbered if row["role"] == Role.PROPOSE])
        solved = self.reward_answers([(at, row) for at, row in numbered if row["role"] == Role.SOLVE])
        rebuilt = dict([*proposed, *solved])
        if rebuilt and len(rebuilt) == len(rows):
            batch = with_advantages(play.config, [rebuilt[at] for at in sorted(rebuilt)])
            for (at, row), rollout in zip(numbered, with_weights_and_padding(play.config, batch), strict=False):
                self.compare_rollout(at, row, rollout)
        self.result.executions = play.verifier.executions

    def validate(self) -> list[ProposalAttempt]:
        """Stage 3 again: parse and run every proposal."""
        proposals = [
            ProposalAttempt(line["type"], [self.task(i, line["type"]) for i in line["parents"]], "", _completion(line))
            for line in self.proposal_lines
        ]
        self.play.validate(proposals)
        for at, (line, proposal) in enumerate(zip(self.proposal_lines, proposals, strict=True), start=1):
            said = _SOLVER_PROMPT.fullmatch(line["detail"]) if line["reason"] == Reason.TOO_LONG else None
            if said and proposal.task is not None and int(said[1]) > self.play.config.max_prompt_tokens:
                proposal.result = Rejection(Reason.TOO_LONG, line["detail"])
                self.result.believed += 1
            self.compare_task(at, "verdict.ok", line["ok"], proposal.verdict.ok)
            self.compare_task(at, "verdict.reason", line["reason"], str(proposal.verdict.reason))
            self.compare_task(at, "verdict.detail", line["detail"], proposal.verdict.detail)
            if line["ok"] and proposal.task is not None:
                rebuilt = proposal.task.to_json()
                for name in ("program", "input", "output", "inputs", "outputs", "message"):
                    if name in line["task"]:
                        self.compare_task(at, f"task.{name}", line["task"][name], rebuilt.get(name))
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
                self.compare_task(at, f"answer {number}.score", answer["score"], attempt.verdict.score)
                self.compare_task(at, f"answer {number}.reason", answer["reason"], str(attempt.verdict.reason))
            proposal.rate = solve_rate([a.verdict.score for a in own]) if len(own) > 1 else None
            for attempt in own:
                attempt.rate = proposal.rate
            self.compare_task(at, "solve_rate", line["solve_rate"], proposal.rate)

    def reward_proposals(self, rows: Sequence[tuple[int, Line]]) -> Iterator[tuple[int, Rollout]]:
        """Stage 9 again for proposals; those of held-out programs have no row."""
        pairs = zip(self.proposal_lines, self.proposals, strict=True)
        rewarded = [proposal for line, proposal in pairs if line["reason"] != Reason.RESERVED]
        if len(rewarded) != len(rows):
            wrong = Difference("rollouts.jsonl", 1, "number of proposals", len(rows), len(rewarded))
            self.result.differences.append(wrong)
        for (at, row), proposal in zip(rows, rewarded, strict=False):
            if proposal.task is not None and proposal.rate is None:
                self.compare_row(at, "reward", row["reward"], "none: valid, but the log has no replies to it")
                continue
            reward = proposal_reward(proposal.verdict, proposal.rate, self.play.config.zero_learnability)
            task_id = proposal.task.id if proposal.task is not None else ""
            yield at, _rollout(row, proposal.verdict, reward, task_id, proposal.rate)

    def reward_answers(self, rows: Sequence[tuple[int, Line]]) -> Iterator[tuple[int, Rollout]]:
        """Stages 7 to 9 again for answers. Which replies train the solver follows from the log, but for older tasks."""
        config = self.play.config
        self.known |= {proposal.task.id: proposal.task for proposal in self.proposals if proposal.task is not None}
        attempts = [SolveAttempt(self.task(row["task_id"], row["type"]), "", _completion(row)) for _, row in rows]
        self.play.judge(attempts)
        reused: dict[str, list[SolveAttempt]] = {}
        if config.solver_data == "reuse":
            for name in config.task_types:
                own = [proposal for proposal in self.proposals if proposal.type == name]
                reused[name] = round_robin(own)[: config.solver_rows]
        for (at, row), attempt in zip(rows, attempts, strict=True):
            queue = reused.get(row["type"])
            first = queue.pop(0) if queue else None
            if first is not None:
                self.compare_row(at, "task_id", row["task_id"], first.task.id)
                self.compare_row(at, "text", row["text"], first.completion.text)
            task_id, rate = (row["task_id"], None) if first is None else (first.task.id, first.rate)
            yield at, _rollout(row, attempt.verdict, answer_reward(attempt.verdict), task_id, rate)

    def compare_rollout(self, at: int, row: Line, rebuilt: Rollout) -> None:
        for name, value in rebuilt.verdict.to_json().items():
            self.compare_row(at, f"verdict.{name}", row["verdict"][name], str(value) if name == "reason" else value)
        self.compare_row(at, "reward", row["reward"], rebuilt.reward)
        parts = row["reward_parts"]
        for name in sorted({*parts, *rebuilt.reward_parts}):
            self.compare_row(at, f"reward_parts.{name}", parts.get(name), rebuilt.reward_parts.get(name))
        for name in ("task_id", "solve_rate", "advantage", "weight"):
            self.compare_row(at, name, row[name], getattr(rebuilt, name))

    def compare_task(self, at: int, what: str, recorded: Any, rebuilt: Any) -> None:
        self.result.compare("tasks.jsonl", at, what, recorded, rebuilt)

    def compare_row(self, at: int, what: str, recorded: Any, rebuilt: Any) -> None:
        self.result.compare("rollouts.jsonl", at, what, recorded, rebuilt)

    def task(self, task_id: str, kind: str) -> Task:
        if task_id in self.known:
            return self.known[task_id]
        what = f"the {kind} task {task_id or '(no id)'} that step {self.result.step} uses"
        raise RunDirectoryError(f"tasks.jsonl does not hold {what}; restore it from a copy")


def _completion(line: Line) -> Completion:
    """A logged reply with its length. (Older logs lack these fields: only a cut reply is rejected as truncated.)"""
    cut = line.get("truncated", line.get("reason") == Reason.TRUNCATED)
    return Completion("", (), tuple(range(max(1, line.get("tokens", 1)))), line["text"], cut)


def _rollout(row: Line, verdict: Any, reward: Any, task_id: str, rate: float | None) -> Rollout:
    completion = Completion("", tuple(range(row["prompt_tokens"])), tuple(range(row["tokens"])), row["text"])
    return rollout_of(Role(row["role"]), row["type"], completion, verdict, reward, task_id, (), rate)


def _earlier_tasks(
    run: RunDir, config: Config, step: int, proposal_lines: Sequence[Line], rows: Sequence[Line]
) -> dict[str, Task]:
    """The tasks that this step refers to: zero tasks, seeds (also converted to other types), proposals."""
    known: dict[str, Task] = {}
    for name in config.task_types:
        if (zero := get_task_type(name).zero_task()) is not None:
            known[task_key(zero)] = dataclasses.replace(zero, id=task_key(zero))
            known.setdefault("", zero)
    wanted = {i for line in proposal_lines for i in line["parents"]} | {row["task_id"] for row in rows} - {""}
    for line in log_lines(run, "tasks.jsonl"):
        if line["step"] >= step:
            break
        if not line["ok"]:
            continue
        task = task_from_json(line["task"])
        if line["step"] < 0:
            twins = [get_task_type(name).convert_from(task) for name in config.task_types if name != task.type]
            for twin in twins:
                if twin is not None and (key := task_key(twin)) in wanted:
                    known[key] = dataclasses.replace(twin, id=key)
        if task.id in wanted:
            known.setdefault(task.id, task)
    return known
