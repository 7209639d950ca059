"""Replay and re-scoring: a step's verdicts, rewards and advantages, made again from the log alone.

Replay makes verdicts from the texts, in the sandbox, rewards from those verdicts, advantages from those rewards. So one
wrong number in the log shows as exactly that one. Only the model could tell how many tokens a prompt has: a proposal
rejected as too long for the solver is believed.
Re-scoring rewards the recorded verdicts by other rules. The replies are those of the recorded run, so this compares the
signal, not what the policy would have become.
"""

from __future__ import annotations

import itertools
import json
import math
import textwrap
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from azr_lite.advantages import with_advantages, with_weights_and_padding
from azr_lite.config import Config
from azr_lite.errors import ConfigError, RunDirectoryError
from azr_lite.observe.reader import Line, by_step, first_and_last_step, form_checked, step_lines
from azr_lite.observe.run_summary import due_in
from azr_lite.prompts import get_style
from azr_lite.rewards import load_rewards, name_rewards
from azr_lite.rundir import RunDir, rollout_line
from azr_lite.selfplay import SelfPlay
from azr_lite.tasks.base import get_task_type
from azr_lite.triplet import Completion, ProposalAttempt, Rejection, Rollout, SolveAttempt, Task, task_from_json
from azr_lite.verifier import ProgramRunner, open_executor

TASKS, ROLLOUTS = "tasks.jsonl", "rollouts.jsonl"
GIVEN = {
    TASKS: {"step", "type", "parents", "text", "tokens", "truncated"},
    ROLLOUTS: {"step", "role", "type", "prompt", "prompt_tokens", "parents"},
}
"""What replay takes from the log as it is; all other values are rebuilt and compared."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that the log has otherwise. `line` counts the step's lines in `file` from 1."""

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
    """What one replay found. `compared`: values per field; `believed`: proposals too long for the solver.

    `unknown`: why the run's own reward is not at hand: then no reward or advantage was compared.
    """

    step: int
    compared: Counter[str] = field(default_factory=Counter)
    executions: int = 0
    believed: int = 0
    unknown: str = ""
    differences: list[Difference] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        return not self.differences

    def compare(self, file: str, number: int, recorded: Line, rebuilt: Line) -> None:
        """Hold every rebuilt value of one line against the log."""
        for name, value in json.loads(json.dumps(rebuilt)).items():
            was, now = dict(_values(name, recorded[name])), dict(_values(name, value))
            for what in {**now, **was}:
                if GIVEN[file].intersection(what.split(".")):
                    continue
                self.compared[name] += 1
                one, other = was.get(what), now.get(what)
                both = isinstance(one, float) and isinstance(other, float)
                if not math.isclose(one, other, rel_tol=1e-12) if both else one != other:  # sums may round otherwise
                    self.differences.append(Difference(file, number, what, one, other))

    def __repr__(self) -> str:
        """How much was compared, and the first differences, for people."""
        values, number = self.compared.total(), len(self.differences)
        lines = [f"step {self.step}: {values} values rebuilt with {self.executions} executions in the sandbox"]
        if self.believed:
            lines.append(f"  {self.believed} proposals too long for the solver were believed: no tokenizer is here")
        if self.unknown:
            lines += textwrap.wrap(f"Rewards and advantages were not compared: {self.unknown}.", 80)
        if self.exact:
            what = "tasks, verdicts and solve rates" if self.unknown else "verdicts, rewards, advantages and weights"
            return "\n".join([*lines, f"the log is exact: {what} are as recorded"])
        lines.append(f"{number} {'values differ' if number > 1 else 'value differs'} from the record:")
        return "\n".join([*lines, *(f"  {one}" for one in self.differences[:20])])

    def as_dict(self) -> dict[str, Any]:
        differences = [asdict(difference) for difference in self.differences]
        return {**vars(self), "exact": self.exact, "differences": differences}


def _values(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every value within a logged one, by its path, such as verdict.ok or answers.1.score."""
    if isinstance(value, dict | list):
        for name, part in value.items() if isinstance(value, dict) else enumerate(value, start=1):
            yield from _values(f"{path}.{name}", part)
    else:
        yield path, value


def replay(run: RunDir, step: int | None = None, executor: ProgramRunner | None = None, rewards: Any = None) -> Replay:
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
        style = get_style("chat" if config.prompts == "auto" else config.prompts)  # what `auto` means is read alike
        found = Replay(step)
        try:
            own = load_rewards(config, {} if rewards is None else name_rewards(rewards)[1])
        except ConfigError as error:
            own, found.unknown = {}, str(error)
        play = SelfPlay(config, style, running, count_tokens=lambda prompt: 0, reserved=reserved, rewards=own)
        _fill_buffers(play, run, step)
        _compare_step(play, found, lines, rows)
        found.executions = play.verifier.executions
    return found


def _compare_step(play: SelfPlay, found: Replay, lines: list[Line], rows: list[Line]) -> None:
    """Stages 3 to 11 again, from the texts."""
    known = {task.id: task for buffer in play.buffers.of.values() for task in buffer}

    def task(name: str, kind: str) -> Task:
        if name in known:
            return known[name]
        raise RunDirectoryError(f"tasks.jsonl lacks the {kind} task {name} that the step uses; restore it from a copy")

    proposals = []
    for line in lines:
        references = [task(i, line["type"]) for i in line["parents"]]
        prompt = get_task_type(line["type"]).propose_prompt(play.style, references, play.rules)  # but for the hint
        proposals.append(ProposalAttempt(line["type"], references, prompt, _completion(line)))
    play.validate(proposals)  # 3
    for line, proposal in zip(lines, proposals, strict=True):
        by_tokenizer = line["detail"].startswith(("the solver's prompt would have", "it holds the text "))
        if proposal.task is not None and by_tokenizer:
            proposal.result, proposal.is_new = Rejection(line["reason"], line["detail"]), False
            found.believed += 1
        if proposal.task is not None:
            known[proposal.task.id] = proposal.task
            proposal.attempts = [_attempt(play, proposal.task, answer) for answer in line["answers"]]
    play.judge([attempt for proposal in proposals for attempt in proposal.attempts])  # 4
    play.learnability([proposal for proposal in proposals if len(proposal.attempts) > 1])  # 5
    play.insert([proposal for proposal in proposals if proposal.rate is not None], found.step)  # 6
    for number, (line, proposal) in enumerate(zip(lines, proposals, strict=True), start=1):
        found.compare(TASKS, number, line, proposal.log_line(found.step))
    if unmeasured := sum(proposal.task is not None and proposal.rate is None for proposal in proposals):
        found.differences.append(Difference(TASKS, 1, "number of valid proposals without replies", unmeasured, 0))
        return
    if found.unknown:
        return
    measured = Counter(attempt.task.type for attempt in play.solve(proposals, extra=[]))
    extra = []
    for row in rows:
        if row["role"] == "solve":
            measured[row["type"]] -= 1  # the Monte-Carlo replies come first
            if measured[row["type"]] < 0:
                extra.append(_attempt(play, task(row["task_id"], row["type"]), row))
    play.judge(extra)  # 8
    rewarded = play.reward(proposals, play.solve(proposals, extra))  # 7, 9
    if len(rewarded) != len(rows):
        found.differences.append(Difference(ROLLOUTS, 1, "number of rollouts", len(rows), len(rewarded)))
        return
    pairs = zip(rewarded, rows, strict=True)
    rollouts = [replace(r, prompt=row["prompt"], prompt_ids=tuple(range(row["prompt_tokens"]))) for r, row in pairs]
    batch = with_weights_and_padding(play.config, play.advantages(rollouts))  # 10, 11
    for number, (row, rollout) in enumerate(zip(rows, batch, strict=False), start=1):
        found.compare(ROLLOUTS, number, row, rollout_line(rollout))


def _attempt(play: SelfPlay, asked: Task, line: Line) -> SolveAttempt:
    prompt = get_task_type(asked.type).solve_prompt(play.style, asked, play.rules)
    return SolveAttempt(asked, prompt, _completion(line))


def _completion(line: Line) -> Completion:
    """A logged reply with its length; what the tokens were is not logged."""
    return Completion("", (), tuple(range(line["tokens"])), line["text"], line["truncated"])


def _fill_buffers(play: SelfPlay, run: RunDir, step: int) -> None:
    """The buffers as they stood before the step: seeds, which other types share, and proposals."""
    c = play.config
    target = min(c.seed_batch_factor * c.batch_size, c.buffer_capacity)
    for line in itertools.takewhile(lambda line: line["step"] < step, run.read(TASKS)):
        if line["ok"] and line["step"] < 0:
            play.buffers.add_seed(task_from_json(line["task"]), tuple(line["parents"]), target)
        elif line["ok"]:
            play.buffers.add(task_from_json(line["task"]), line["solve_rate"])


# ---------------------------------------------------------------- other rewards

SETTINGS = ("estimator", "whitening", "zero_learnability")  # those whose other values a log can answer


@dataclass(frozen=True, slots=True)
class StepComparison:
    """One step, as recorded (first of each pair) and re-scored (second).

    `reward`: mean reward of each (role, type). `silent`: groups in which all advantages are 0. `turned`: share of
    rollouts whose advantage changed its sign (or became or ceased to be 0). `correlation`: of the two advantages over
    the step, 1.0 where they are equal, 0.0 where one of them is constant.
    """

    step: int
    rollouts: int
    reward: dict[str, tuple[float, float]]
    silent: tuple[int, int]
    turned: float
    correlation: float


class Rescoring(list[StepComparison]):
    """The comparisons of all steps; printed in 80 columns, one line per step."""

    def __repr__(self) -> str:
        lines = ["  step  rollouts  propose reward    solve reward  silent groups  turned  correl."]
        for one in self:
            line = f"{one.step:6d}{one.rollouts:10d}"
            for role in ("propose/", "solve/"):
                pairs = [pair for group, pair in one.reward.items() if group.startswith(role)] or [(0.0, 0.0)]
                line += "{:>16}".format("{:+.2f} → {:+.2f}".format(*np.mean(pairs, axis=0)))
            silent = "{} → {}".format(*one.silent)
            lines.append(f"{line}{silent:>15}{one.turned:8.2f}{one.correlation:9.3f}")
        return "\n".join(lines)


def rescore(run: RunDir, **changes: Any) -> Rescoring:
    """Reward a recorded run otherwise; the changes are those of `Run.rescore`.

    Raises ConfigError for a change that the log cannot answer, RunDirectoryError for what is missing or damaged.
    """
    if unknown := [name for name in changes if name not in SETTINGS]:
        raise ConfigError(f"{unknown[0]} cannot be re-scored from a log; what can be changed is {', '.join(SETTINGS)}")
    config = run.config().replace(**changes)
    if "zero_learnability" in changes and not config.knows_reward:
        raise ConfigError("zero_learnability cannot be re-scored: this run's reward is its own; drop it")
    with form_checked(run):
        return Rescoring(_rescore_step(lines, config) for _, lines in by_step(run, ROLLOUTS))


def _rescore_step(lines: list[Line], config: Config) -> StepComparison:
    old = [Rollout.from_json({**line, "prompt_ids": (), "completion_ids": range(line["tokens"])}) for line in lines]
    earned = [due_in(line, config) if config.knows_reward else line["reward"] for line in lines]
    new = with_advantages(config, [replace(r, reward=reward) for r, reward in zip(old, earned, strict=True)])
    before, after = sides = [np.array([r.advantage for r in side]) for side in (old, new)]
    groups = np.array([r.group for r in old])
    rows = {group: groups == group for group in dict.fromkeys(groups.tolist())}
    correlation = float(np.array_equal(before, after))
    if not correlation and before.std() > 0 and after.std() > 0:
        correlation = float(np.corrcoef(before, after)[0, 1])
    rewards = [np.array([r.reward for r in side]) for side in (old, new)]
    return StepComparison(
        step=lines[0]["step"],
        rollouts=len(old),
        reward={group: tuple(float(side[own].mean()) for side in rewards) for group, own in rows.items()},
        silent=tuple(sum(not side[own].any() for own in rows.values()) for side in sides),
        turned=float(np.mean(np.sign(before) != np.sign(after))),
        correlation=correlation,
    )
