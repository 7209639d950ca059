"""Replay and re-scoring: a step's verdicts, rewards and advantages, made again from the log alone.

Replay uses nothing recorded twice: verdicts are made from the texts in the sandbox, rewards from those verdicts,
advantages from those rewards. So one wrong number in the log shows as exactly that one. Two things only the model
could tell: which seeds of sampling led to these texts, and how many tokens a prompt has (a proposal rejected as too
long for the solver is believed).

Re-scoring needs no sandbox. It rewards the recorded verdicts by other rules. The replies are those of the recorded run,
so this compares the signal, not what the policy would have become.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from azr_lite.advantages import with_advantages, with_weights_and_padding
from azr_lite.buffer import task_key
from azr_lite.config import Config
from azr_lite.errors import ConfigError, RunDirectoryError
from azr_lite.observe.reader import Line, by_step, first_and_last_step, form_checked, log_lines, step_lines
from azr_lite.prompts import get_style
from azr_lite.rewards import NOT_WELL_FORMED, WRONG, answer_reward, proposal_reward
from azr_lite.rundir import RunDir
from azr_lite.selfplay import SelfPlay
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
    Verdict,
    task_from_json,
)
from azr_lite.verifier import ProgramRunner, open_executor

ROUNDING = 1e-12
"""Relative; another processor may sum in another order."""

MOST_PRINTED = 20
"""Differences that are printed; the others are counted."""

TASKS, ROLLOUTS = "tasks.jsonl", "rollouts.jsonl"
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

    def compare(self, file: str, line: int, recorded: Line, rebuilt: Mapping[str, Any], under: str = "") -> None:
        """Count one comparison per value of `rebuilt`, and keep those that fail. `under` begins their names."""
        for name, value in rebuilt.items():
            what, was, now = under + name, recorded[name], str(value) if isinstance(value, str) else value
            self.compared[re.sub(r"\d+", "", what).split(".")[0].strip()] += 1
            if was == now:
                continue
            both = isinstance(was, float) and isinstance(now, float)
            if both and abs(was - now) <= ROUNDING * max(1.0, abs(now)):
                self.rounded += 1
            else:
                self.differences.append(Difference(file, line, what, was, now))

    def __repr__(self) -> str:
        """What was compared, and each difference, for people."""
        values, different = self.compared.total(), self.differences
        counts = ", ".join(f"{count} {what}" for what, count in sorted(self.compared.items()))
        lines = [f"step {self.step}: {values} values rebuilt with {self.executions} executions in the sandbox"]
        lines += textwrap.wrap(counts, 80, initial_indent="  ", subsequent_indent="  ")
        if self.believed:
            too_long = f"{self.believed} proposals too long for the solver"
            lines.append(f"  {too_long} were believed: no tokenizer is used here")
        if self.rounded:
            lines.append(f"  {self.rounded} of them are equal but for rounding ({ROUNDING:g})")
        if self.exact:
            return "\n".join([*lines, "the log is exact: verdicts, rewards, advantages and weights are as recorded"])
        lines.append(f"{len(different)} value{'s differ' if len(different) > 1 else ' differs'} from the record:")
        lines += [f"  {difference}" for difference in different[:MOST_PRINTED]]
        if len(different) > MOST_PRINTED:
            lines.append(f"  … and {len(different) - MOST_PRINTED} more")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        names = ("step", "exact", "compared", "executions", "rounded", "believed")
        facts = {name: getattr(self, name) for name in names}
        return {**facts, "differences": [asdict(difference) for difference in self.differences]}


def replay(run: RunDir, step: int | None = None, executor: ProgramRunner | None = None) -> Replay:
    """Rebuild one step of a run. The arguments are those of `Run.replay`.

    Raises RunDirectoryError (no such step, a log missing or damaged), UnsafeError, InfrastructureError.
    """
    config = run.config()
    last = first_and_last_step(run, "metrics.jsonl")[1]
    step = last if step is None else step
    lines, rows = step_lines(run, TASKS, step), step_lines(run, ROLLOUTS, step)
    if last < step:  # its line in metrics.jsonl is the last thing that a step writes
        why = "the run is still writing it, or was killed"
        raise RunDirectoryError(f"step {step} of {run.path} is not whole: {why}; replay an earlier one")
    reserved = None
    if config.model == "nano":
        from azr_lite.nano.language import is_reserved as reserved
    with open_executor(config) if executor is None else nullcontext(executor) as running, form_checked(run):
        style = get_style("chat")  # all styles share the prefill
        play = SelfPlay(config, style, running, count_tokens=lambda prompt: 0, reserved=reserved)
        known, found = _earlier_tasks(run, config, step, lines, rows), Replay(step)
        proposals = _validate(play, found, lines, known)
        _measure(play, found, lines, proposals)
        known |= {proposal.task.id: proposal.task for proposal in proposals if proposal.task is not None}
        _reward(play, found, rows, proposals, known)
        found.executions = play.verifier.executions
    return found


def _validate(play: SelfPlay, found: Replay, lines: list[Line], known: dict[str, Task]) -> list[ProposalAttempt]:
    """Stage 3 again: parse and run every proposal."""
    proposals = []
    for line in lines:
        references = [_task(known, i, line["type"], found.step) for i in line["parents"]]
        proposals.append(ProposalAttempt(line["type"], references, "", _completion(line)))
    play.validate(proposals)
    for at, (line, proposal) in enumerate(zip(lines, proposals, strict=True), start=1):
        said = _SOLVER_PROMPT.fullmatch(line["detail"])
        if said and proposal.task is not None and int(said[1]) > play.config.max_prompt_tokens:
            proposal.result = Rejection(Reason.TOO_LONG, line["detail"])
            found.believed += 1
        verdict = proposal.verdict
        words = {"ok": verdict.ok, "reason": verdict.reason, "detail": verdict.detail}
        found.compare(TASKS, at, line, words, "verdict.")
        if line["ok"] and proposal.task is not None:
            rebuilt, names = proposal.task.to_json(), ("program", "input", "output", "inputs", "outputs", "message")
            own = {name: rebuilt.get(name) for name in names if name in line["task"]}
            found.compare(TASKS, at, line["task"], own, "task.")
    return proposals


def _measure(play: SelfPlay, found: Replay, lines: list[Line], proposals: list[ProposalAttempt]) -> None:
    """Stages 4 and 5 again: judge the Monte-Carlo replies, take their mean."""
    for line, proposal in zip(lines, proposals, strict=True):
        if proposal.task is not None:
            proposal.attempts = [SolveAttempt(proposal.task, "", _completion(answer)) for answer in line["answers"]]
    play.judge([attempt for proposal in proposals for attempt in proposal.attempts])
    play.learnability([proposal for proposal in proposals if len(proposal.attempts) > 1])
    for at, (line, proposal) in enumerate(zip(lines, proposals, strict=True), start=1):
        for number, (answer, attempt) in enumerate(zip(line["answers"], proposal.attempts, strict=False), start=1):
            rebuilt = {"score": attempt.verdict.score, "reason": attempt.verdict.reason}
            found.compare(TASKS, at, answer, rebuilt, f"answer {number}.")
        found.compare(TASKS, at, line, {"solve_rate": proposal.rate})


def _reward(
    play: SelfPlay, found: Replay, rows: list[Line], proposals: list[ProposalAttempt], known: dict[str, Task]
) -> None:
    """Stages 7 to 11 again. Which replies train the solver follows from the log, but for older tasks."""
    numbered = list(enumerate(rows, start=1))
    proposed = [(at, row) for at, row in numbered if row["role"] == Role.PROPOSE]
    solved = [(at, row) for at, row in numbered if row["role"] == Role.SOLVE]
    rewarded = [proposal for proposal in proposals if proposal.verdict.reason != Reason.RESERVED]
    complete = len(rewarded) == len(proposed)
    if not complete:
        found.differences.append(Difference(ROLLOUTS, 1, "number of proposals", len(proposed), len(rewarded)))
    for (at, row), proposal in zip(proposed, rewarded, strict=False):
        proposal.completion = _completion(row)
        if proposal.task is not None and proposal.rate is None:
            found.compare(ROLLOUTS, at, row, {"reward": "none: valid, but the log has no replies to it"})
            complete = False
    answers = [SolveAttempt(_task(known, r["task_id"], r["type"], found.step), "", _completion(r)) for _, r in solved]
    play.judge(answers)
    reused = play.solve(proposals, extra=[])
    queues = {name: iter([a for a in reused if a.task.type == name]) for name in play.config.task_types}
    for (at, row), answer in zip(solved, answers, strict=True):
        if (first := next(queues[row["type"]], None)) is not None:
            found.compare(ROLLOUTS, at, row, {"task_id": first.task.id, "text": first.completion.text})
            answer.task, answer.rate = first.task, first.rate
    if complete:
        rollouts = play.advantages(play.reward(proposals, answers))
        batch = with_weights_and_padding(play.config, rollouts)
        for (at, row), rollout in zip([*proposed, *solved], batch, strict=False):
            _compare_rollout(found, at, row, rollout)


def _compare_rollout(found: Replay, at: int, row: Line, rebuilt: Rollout) -> None:
    found.compare(ROLLOUTS, at, row["verdict"], rebuilt.verdict.to_json(), "verdict.")
    found.compare(ROLLOUTS, at, row, {"reward": rebuilt.reward})
    none = dict.fromkeys(sorted({*row["reward_parts"], *rebuilt.reward_parts}))
    found.compare(ROLLOUTS, at, none | row["reward_parts"], none | rebuilt.reward_parts, "reward_parts.")
    rest = {name: getattr(rebuilt, name) for name in ("task_id", "solve_rate", "advantage", "weight")}
    found.compare(ROLLOUTS, at, row, rest)


def _completion(line: Line) -> Completion:
    """A logged reply with its lengths. (Older logs lack these fields: only a cut reply is rejected as truncated.)"""
    cut = line.get("truncated", line.get("reason") == Reason.TRUNCATED)
    prompt_ids, ids = (tuple(range(line.get(name, 1))) for name in ("prompt_tokens", "tokens"))
    return Completion("", prompt_ids, ids or (0,), line["text"], cut)


def _task(known: dict[str, Task], task_id: str, kind: str, step: int) -> Task:
    if task_id not in known:
        what = f"the {kind} task {task_id or '(no id)'} that step {step} uses"
        raise RunDirectoryError(f"tasks.jsonl does not hold {what}; restore it from a copy")
    return known[task_id]


def _earlier_tasks(run: RunDir, config: Config, step: int, lines: list[Line], rows: list[Line]) -> dict[str, Task]:
    """The tasks that this step refers to: zero tasks, seeds (also converted to other types), proposals."""
    known: dict[str, Task] = {}
    for name in config.task_types:
        if (zero := get_task_type(name).zero_task()) is not None:
            known[task_key(zero)] = replace(zero, id=task_key(zero))
            known.setdefault("", zero)
    wanted = {i for line in lines for i in line["parents"]} | {row["task_id"] for row in rows} - {""}
    for line in log_lines(run, TASKS):
        if line["step"] >= step:
            break
        if not line["ok"]:
            continue
        task = task_from_json(line["task"])
        for name in config.task_types if line["step"] < 0 else ():
            twin = get_task_type(name).convert_from(task) if name != task.type else None
            if twin is not None and (key := task_key(twin)) in wanted:
                known[key] = replace(twin, id=key)
        if task.id in wanted:
            known.setdefault(task.id, task)
    return known


# ---------------------------------------------------------------- other rewards

LADDER = {"not_well_formed": NOT_WELL_FORMED, "wrong": WRONG}
"""Rungs of the format ladder that can be changed beside the settings, and the paper's reward for them."""

SETTINGS = ("estimator", "whitening", "zero_learnability")


@dataclass(frozen=True, slots=True)
class StepComparison:
    """One step, as recorded (first of each pair) and re-scored (second).

    `reward`: mean reward of each (role, type). `silent`: groups in which all advantages are 0. `size`: mean
    |advantage|. `turned`: share of rollouts whose advantage changed its sign (or became or ceased to be 0).
    `correlation`: of the two advantages over the step, 1.0 where they are equal, 0.0 where one of them is constant.
    """

    step: int
    rollouts: int
    reward: dict[str, tuple[float, float]]
    silent: tuple[int, int]
    size: tuple[float, float]
    turned: float
    correlation: float

    def __str__(self) -> str:
        rewards = []
        for role in Role:
            pairs = [pair for group, pair in self.reward.items() if group.startswith(f"{role}/")]
            old, new = (float(np.mean(side)) for side in zip(*pairs, strict=True)) if pairs else (0.0, 0.0)
            rewards.append(f"{f'{old:+.2f} → {new:+.2f}':>14}")
        silent = f"{self.silent[0]} → {self.silent[1]}"
        tail = f"{silent:>13}  {self.turned:6.2f}  {self.correlation:7.3f}"
        return f"{self.step:6d}  {self.rollouts:8d}  {'  '.join(rewards)}  {tail}"


class Rescoring(list[StepComparison]):
    """The comparisons of all steps; printed in 80 columns, one line per step."""

    def __repr__(self) -> str:
        head = "  step  rollouts  propose reward    solve reward  silent groups  turned  correl."
        return "\n".join([head, *map(str, self)])


def rescore(run: RunDir, **changes: Any) -> Rescoring:
    """Reward a recorded run otherwise; the changes are those of `Run.rescore`.

    Raises ConfigError for a change that the log cannot answer, RunDirectoryError for what is missing or damaged.
    """
    for name, value in changes.items():
        if name not in SETTINGS and name not in LADDER:
            known = ", ".join((*SETTINGS, *LADDER))
            raise ConfigError(f"{name} cannot be re-scored from a log; what can be changed is {known}")
        if name in LADDER and not (isinstance(value, int | float) and np.isfinite(value)):
            raise ConfigError(f"{name} is {value!r}; give a finite number (the paper: {LADDER[name]})")
    config = run.config().replace(**{name: changes[name] for name in SETTINGS if name in changes})
    ladder = {name: float(changes.get(name, value)) for name, value in LADDER.items()}
    with form_checked(run):
        return Rescoring(_compare_step(lines, config, ladder) for _, lines in by_step(run, ROLLOUTS))


def _recorded(line: Line) -> Rollout:
    counts = {"prompt_ids": (), "completion_ids": tuple(range(line["tokens"]))}
    verdict = Verdict.from_json(line["verdict"])
    return Rollout.from_json({**line, **counts, "role": Role(line["role"]), "verdict": verdict})


def _changed_reward(rollout: Rollout, config: Config, ladder: Mapping[str, float]) -> float:
    """The reward under the changed rules, from the recorded verdict and solve rate."""
    if rollout.role == Role.PROPOSE:
        reward = proposal_reward(rollout.verdict, rollout.solve_rate, config.zero_learnability)
    else:
        reward = answer_reward(rollout.verdict)
    (name, value), *_ = reward.parts.items()
    if name == "form":
        return ladder["not_well_formed"]
    return ladder["wrong"] if value == WRONG else value


def _compare_step(lines: list[Line], config: Config, ladder: Mapping[str, float]) -> StepComparison:
    old = [_recorded(line) for line in lines]
    new = with_advantages(config, [replace(r, reward=_changed_reward(r, config, ladder)) for r in old])
    before, after = sides = [np.array([r.advantage for r in side]) for side in (old, new)]
    rewards = [np.array([r.reward for r in side]) for side in (old, new)]
    groups = [r.group for r in old]
    rows = {group: np.array(groups) == group for group in dict.fromkeys(groups)}
    correlation = float(np.array_equal(before, after))
    if not correlation and before.std() > 0 and after.std() > 0:
        correlation = float(np.corrcoef(before, after)[0, 1])
    return StepComparison(
        step=lines[0]["step"],
        rollouts=len(old),
        reward={group: tuple(float(side[own].mean()) for side in rewards) for group, own in rows.items()},
        silent=tuple(sum(not side[own].any() for own in rows.values()) for side in sides),
        size=tuple(float(np.abs(side).mean()) for side in sides),
        turned=float(np.mean(np.sign(before) != np.sign(after))),
        correlation=correlation,
    )


def read_changes(pairs: Sequence[str]) -> dict[str, str | float]:
    """Changes for `rescore`, from NAME=VALUE as they are typed. ConfigError for what is none."""
    changes: dict[str, str | float] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        try:
            changes[name] = float(value) if name in LADDER else value
        except ValueError:
            equals = ""
        if not equals:
            raise ConfigError(f"--rescore takes NAME=VALUE, not {pair!r}; such as: --rescore estimator=global wrong=-1")
    return changes
