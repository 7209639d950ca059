"""The numbers of one step, ``role/type/name``, and the table of every logged number: its formula, unit, healthy range.

`step_metrics` computes what follows from rollouts and proposals. The trainer adds loss and gradient, `progress.py` wall
time, memory and energy. Keys of the table are patterns: {role} is propose or solve, {type} a task type, {part} a reward
part, {reason} a reason code, {kind} an outcome of the sandbox, {percent} a rounded percentage. Healthy ranges are this
project's experience with nano runs and the paper's figures: a number outside is a reason to look, not a verdict.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from azr_lite.buffer import normal_form
from azr_lite.errors import ConfigError
from azr_lite.prompts.base import ANSWER
from azr_lite.tasks.base import get_task_type
from azr_lite.triplet import InductionTask, ProposalAttempt, Role, Rollout, Task

STAGES = ("generate", "sandbox", "update", "rest")
"""The keys of timing.jsonl that are seconds and sum to the step's wall time."""


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; 0.0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def across(line: Mapping[str, float], start: str, end: str) -> list[float]:
    """A step's number of one name for all its (role, type) groups: ``across(line, "solve/", "/ok")``.

    Reasons that share the name are no such number.
    """
    return [value for key, value in line.items() if key.startswith(start) and key.endswith(end) and key.count("/") == 2]


def spread(values: Sequence[float]) -> float:
    """Population standard deviation; 0.0 of nothing."""
    middle = mean(values)
    return math.sqrt(mean([(value - middle) ** 2 for value in values]))


def step_metrics(
    rollouts: Sequence[Rollout],
    proposals: Sequence[ProposalAttempt],
    sizes: Mapping[str, int],
    ages: Mapping[str, float],
    executor: Mapping[str, int],
    worlds: Mapping[int, int],
) -> dict[str, float]:
    """All that can be counted about one step: each (role, type), each type's proposals, buffers, executor, tokens.

    `sizes`, `ages`: tasks in each buffer, and their mean age in steps. `executor`: number of its outcomes in this step,
    by kind. `worlds`: this step's accepted proposals, by the number of worlds their programs were run in.
    """
    numbers: dict[str, float] = {}
    loss_size = {id(r): len(r.completion_ids) * abs(r.advantage * r.weight) for r in rollouts}
    total = sum(loss_size.values())
    new = {proposal.task.id for proposal in proposals if proposal.task is not None}
    for group in dict.fromkeys(r.group for r in rollouts):
        own = [r for r in rollouts if r.group == group]
        numbers |= {f"{group}/{name}": value for name, value in _of_group(own).items()}
        numbers[f"{group}/loss_share"] = sum(loss_size[id(r)] for r in own) / total if total else 0.0
        old = [float(r.verdict.ok) for r in own if r.role == Role.SOLVE and r.task_id not in new and r.weight > 0]
        if old:
            numbers[f"{group}/old_ok"] = mean(old)
    for name in dict.fromkeys(proposal.type for proposal in proposals):
        own_proposals = [proposal for proposal in proposals if proposal.type == name]
        numbers |= {f"propose/{name}/{key}": value for key, value in _of_proposals(own_proposals).items()}
        numbers[f"buffer/{name}"] = float(sizes[name])
        numbers[f"buffer/{name}/age"] = float(ages[name])
    for kind, count in sorted(executor.items()):
        numbers[f"executor/{kind}"] = float(count)
    if worlds:
        numbers["validation/worlds"] = float(min(worlds))
    replies = [attempt.completion for proposal in proposals for attempt in (proposal, *proposal.attempts)]
    numbers["tokens/generated"] = float(sum(len(reply.ids) for reply in replies))
    numbers["tokens/trained"] = float(sum(len(r.completion_ids) for r in rollouts if r.weight > 0))
    return numbers


def _of_group(own: Sequence[Rollout]) -> dict[str, float]:
    """One (role, type): reward and its parts, form, lengths, advantages; the solver's reasons."""
    advantages, rewards = [r.advantage for r in own], [r.reward for r in own]
    numbers = {
        "reward": mean(rewards),
        "reward_std": spread(rewards),
        "well_formed": mean([float(r.verdict.well_formed) for r in own]),
        "ok": mean([float(r.verdict.ok) for r in own]),
        "tokens": mean([len(r.completion_ids) for r in own]),
        "truncated": mean([float(r.truncated) for r in own]),
        "no_signal": float(len(set(rewards)) == 1),
        "advantage_mean": mean(advantages),
        "advantage_std": spread(advantages),
    }
    for part in sorted({name for r in own for name in r.reward_parts}):
        numbers[f"part/{part}"] = mean([r.reward_parts.get(part, 0.0) for r in own])
    lengths: dict[str, list[int]] = {"right": [], "wrong": [], "truncated": []}
    for r in own:
        lengths["truncated" if r.truncated else "right" if r.verdict.ok else "wrong"].append(len(r.completion_ids))
    numbers |= {f"tokens_{name}": mean(values) for name, values in lengths.items() if values}
    if own[0].role == Role.SOLVE:
        numbers["length_pressure"] = length_pressure(advantages, [len(r.completion_ids) for r in own])
        numbers |= _reasons([r.verdict.reason for r in own])
    return numbers


def length_pressure(advantages_B: Sequence[float], lengths_B: Sequence[int]) -> float:
    """mean(A (L - mean L)) / std L: below 0, the update favours short replies. 0 where all lengths are equal.

    The gradient of one number that every reply shares, the logit of stopping: where each token is the last with
    probability s, it is sum A (1 - s L), and the advantages sum to 0.

    Examples:
        >>> length_pressure([1.0, 1.0, -1.0, -1.0], [2, 2, 12, 12])
        -1.0
    """
    middle = mean(lengths_B)
    pairs = zip(advantages_B, lengths_B, strict=True)
    return mean([a * (n - middle) for a, n in pairs]) / (spread(lengths_B) or 1.0)


def _of_proposals(own: Sequence[ProposalAttempt]) -> dict[str, float]:
    """One type's proposals: how hard their tasks are, how new, and why others were rejected."""
    valid = [proposal for proposal in own if proposal.task is not None]
    rates = [proposal.rate for proposal in own if proposal.rate is not None]
    fresh = [float(proposal.is_new) for proposal in valid]
    numbers = {
        "solve_rate": mean(rates),
        "learnable": mean([float(0 < rate < 1) for rate in rates]),
        "learnable_tasks": float(sum(0 < rate < 1 for rate in rates)),
        "never_solved": mean([float(rate == 0) for rate in rates]),
        "always_solved": mean([float(rate == 1) for rate in rates]),
        "fresh": mean(fresh),
        "duplicates": float(fresh.count(0.0)),
    }
    if valid and get_task_type(valid[0].type).propose_from == "own":
        programs = {normal_form(proposal.task.program) for proposal in valid}
        numbers["distinct_programs"] = len(programs) / len(valid)
        numbers["repeats"] = mean([float(proposal.is_repeat) for proposal in valid])
    if halfway := [proposal for proposal in own if proposal.rate is not None and 0 < proposal.rate < 1]:
        numbers["distinct_answers"] = mean([_distinct(proposal) for proposal in halfway])
    if quoting := [proposal for proposal in valid if proposal.references]:  # a copy: one of them but for names
        numbers["copies"] = mean([float(_same(one.task) in map(_same, one.references)) for one in quoting])
    for percent, count in sorted(Counter(math.floor(100 * rate + 0.5) for rate in rates).items()):
        numbers[f"solved/{percent:03d}"] = float(count)
    return numbers | _reasons([proposal.verdict.reason for proposal in own])


def _distinct(proposal: ProposalAttempt) -> float:
    """Different answers / replies to one task."""
    told = (attempt.completion.text.rpartition(ANSWER)[2] for attempt in proposal.attempts)
    answers = {re.sub(r"\A[^\n]*\n(?:#[^\n]*\n|\n)*(?=assert |def )", "", text).strip() for text in told}
    return len(answers) / len(proposal.attempts)


def _same(task: Task) -> tuple[str, tuple[str, ...]]:  # an induction task is a program with its inputs
    return normal_form(task.program), task.inputs if isinstance(task, InductionTask) else ()


def _reasons(codes: Sequence[str]) -> dict[str, float]:
    return {f"reason/{code}": float(count) for code, count in sorted(Counter(map(str, codes)).items()) if code}


# ---------------------------------------------------------------- what each number means


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table. `low`, `high`: the healthy range (None: open). `when`: logged only then; empty: always."""

    pattern: str
    name: str
    formula: str
    unit: str
    low: float | None
    high: float | None
    source: str
    when: str = ""
    file: str = "metrics.jsonl"

    def healthy(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    @property
    def range(self) -> str:
        """The healthy range in words."""
        if self.low == self.high:
            return "any" if self.low is None else f"{self.low:g}"
        if self.low is None or self.high is None:
            return f"at least {self.low:g}" if self.high is None else f"at most {self.high:g}"
        return f"{self.low:g} to {self.high:g}"


_G, _P = "{role}/{type}/", "propose/{type}/"
_REWARDS, _TRR, _RATE = "paper section 3.2, rewards.py", "paper section 3.3, advantages.py", "paper equation 4"
_LADDER, _KEY = "paper section 3.2 (equation 6), parsing.py", "buffer.py (task_key)"


def _rows(file: str, *rows: tuple[str | float | None, ...]) -> list[Metric]:
    return [Metric(*row, file=file) for row in rows]


METRICS: tuple[Metric, ...] = (
    *_rows("metrics.jsonl",
    ("step", "step", "self-play steps are counted from 0", "steps", 0, None, "rundir.py"),
    (_G + "reward", "mean reward", "mean of R over the group's replies", "reward, -1 to 1", -0.9, None, _REWARDS),
    (_G + "reward_std", "spread of rewards", "population std of R over the group", "reward", 1e-6, None, _REWARDS),
    (_G + "part/{part}", "a part of the reward", "mean over the group of that part of R (0 where a reply has none); "
     "parts sum to R", "reward", None, None, _REWARDS, "where some reply of the group has this part"),
    ("solve/{type}/length_pressure", "pull on the length", "mean of A x (tokens - mean tokens) / std of tokens. Below "
     "0 short replies are favoured, as by one baseline where easy tasks have short answers", "advantage", -0.5, 0.5,
     "metrics.py (length_pressure)"),
    (_G + "well_formed", "well-formed share", "replies of thought and answer / replies", "share", 0.5, 1, _LADDER),
    (_G + "ok", "valid or right share", "valid proposals / proposals; right answers / answers", "share", 0.05, None,
     "paper section 3.1, verifier.py"),
    ("solve/{type}/old_ok", "right share on old tasks", "right answers / answers to tasks of earlier steps, solved "
     "again for training", "share", None, None, "selfplay.py", "where old tasks were solved again"),
    (_G + "reason/{reason}", "rejections by reason", "replies that failed for this reason (proposals: the held-out "
     "ones count too)", "replies", 0, None, "triplet.py (Reason)", "where some reply failed so"),
    (_G + "tokens", "reply length", "mean tokens of a reply, its end included", "tokens", 2, None, "paper figure 6"),
    (_G + "tokens_right", "length of right replies", "mean tokens of valid proposals or right answers that were not "
     "cut", "tokens", 2, None, "paper figure 6", "where there is one"),
    (_G + "tokens_wrong", "length of wrong replies", "mean tokens of the others that were not cut", "tokens", 2, None,
     "paper figure 6", "where there is one"),
    (_G + "tokens_truncated", "length of cut replies", "mean tokens of replies cut by max_reply_tokens", "tokens", 1,
     None, "selfplay.py", "where there is one"),
    (_G + "truncated", "truncated share", "replies cut by max_reply_tokens / replies", "share", 0, 0.2, "selfplay.py"),
    (_G + "no_signal", "group without signal", "1 where all rewards of the group are equal (each advantage is then 0), "
     "else 0", "0 or 1", 0, 0, _TRR),
    (_G + "advantage_mean", "mean advantage", "mean of A over the group; 0 by construction for sequence whitening",
     "advantage", -0.5, 0.5, _TRR),
    (_G + "advantage_std", "spread of advantages", "population std of A over the group; 1 by construction for sequence "
     "whitening", "advantage", 0.5, 2, _TRR),
    (_G + "loss_share", "share of the update", "sum of tokens x |A x weight| of the group / the same of all groups: "
     "gradient_share at no cost", "share", 0.02, 0.9, "metrics.py"),
    (_G + "gradient_share", "share of the gradient", "L2 norm of the group's part of the gradient, first update of the "
     "step, before clipping / the sum of these norms", "share", 0.02, 0.9, "diagnostics.py",
     "every gradient_share_every steps"),
    (_P + "solve_rate", "mean solve rate", "mean over valid proposals of r-bar, the success of their n Monte-Carlo "
     "replies", "share", 0.1, 0.95, _RATE),
    (_P + "learnable", "learnable share", "those with 0 < r-bar < 1 / valid proposals", "share", 0.05, None, _RATE),
    (_P + "learnable_tasks", "learnable tasks", "valid proposals with 0 < r-bar < 1: what both roles can learn from",
     "tasks", 1, None, _RATE),
    (_P + "never_solved", "share at 0", "those with r-bar = 0 / valid proposals", "share", 0, 0.8, _RATE),
    (_P + "always_solved", "share at 1", "those with r-bar = 1 / valid proposals", "share", 0, 0.9, _RATE),
    (_P + "solved/{percent}", "histogram of solve rates", "valid proposals whose r-bar, rounded to a percent, is this",
     "proposals", 0, None, "metrics.py", "where there is one"),
    (_P + "fresh", "share of new tasks", "valid proposals not in the buffer and not twice in the step / valid "
     "proposals", "share", 0.3, 1, _KEY),
    (_P + "distinct_programs", "different programs", "different programs, names aside, among the step's valid "
     "proposals / valid proposals. It sinks before learnable tasks do", "share", 0.6, 1, "buffer.py (normal_form)",
     "where a proposal that brings its program was valid"),
    (_P + "repeats", "repeated programs", "valid proposals whose program, names aside, came before: in a buffer or in "
     "the step / valid proposals", "share", 0, 0.6, "buffer.py (normal_form)",
     "where a proposal that brings its program was valid"),
    (_P + "duplicates", "duplicates", "valid proposals of known problems", "proposals", 0, None, _KEY),
    (_P + "distinct_answers", "distinct answers", "different answers / n replies, mean over tasks with 0 < r-bar < 1. "
     "A lottery, which nobody can learn, keeps it high at a steady r-bar", "share", 0, 0.8, "metrics.py",
     "where there is such a task"),
    (_P + "copies", "copied references", "valid proposals whose program is that of a reference but for names / valid "
     "proposals with references", "share", 0, 0.3, "metrics.py", "where a valid proposal had references"),
    ("buffer/{type}", "buffer size", "tasks in the buffer after the step", "tasks", 1, None,
     "paper section 3.1, buffer.py"),
    ("buffer/{type}/age", "buffer age", "mean over the buffer of (this step - the step a task came from); seeds come "
     "from step -1", "steps", 0, None, "buffer.py"),
    ("executor/{kind}", "executor outcomes", "programs validated and inputs judged in this step, by what came of them",
     "executions", 0, None, "verifier.py, sandbox/", "where there is one"),
    ("validation/worlds", "worlds of a validation", "fewest worlds (hash seed, memory, order of their own) in which an "
     "accepted proposal's program gave the same output; 1: it was run once and believed", "worlds", 2, 8,
     "sandbox/executor.py (verdict)", "where a proposal was accepted"),
    ("tokens/generated", "tokens generated", "tokens of all proposals and Monte-Carlo replies", "tokens", 1, None,
     "selfplay.py"),
    ("tokens/trained", "tokens trained", "tokens of rollouts with weight above 0", "tokens", 1, None, "selfplay.py"),
    ("loss", "loss", "mean over the step's updates of the PPO-clip loss less the entropy bonus. Near 0 at all times: "
     "it says nothing about learning", "loss", -1, 1, "paper section 3.3, trainer.py"),
    ("grad_norm", "gradient norm", "global L2 norm before clipping, mean over updates", "norm", 1e-6, 10, "trainer.py"),
    ("gradient_cosine", "agreement of the roles", "cosine between the proposer's and the solver's part of the gradient "
     "of the step's first update; below 0 they pull against each other", "cosine", -0.5, 1, "diagnostics.py",
     "every gradient_share_every steps, where both parts are above 0"),
    ("clip_ratio", "clipped share", "tokens whose ratio was clipped / tokens, mean over updates; 0 with one update per "
     "step", "share", 0, 0.2, "paper section 3.3 (PPO), TRL"),
    ("entropy", "entropy", "mean entropy of the policy over the reply tokens", "nats per token", 0.02, 5, "TRL"),
    ("kl", "distance from the base", "mean over the reply tokens that count of k3 = q/p - log(q/p) - 1, p the policy's "
     "probability of the token, q the untrained model's; mean over micro-batches", "nats per token", 0, 0.5,
     "trainer.py", "where kl_coef is above 0"),
    ("learning_rate", "learning rate", "that of the step's last update", "1", 0, None, "config.py"),
    ),
    *_rows("timing.jsonl",
    ("generate", "time for sampling", "wall time of proposals and replies", "s", 0, None, "selfplay.py"),
    ("sandbox", "time for verdicts", "wall time of validation and judgement", "s", 0, None, "selfplay.py"),
    ("update", "time for the update", "wall time from the last stage of self-play to the end of the optimiser step",
     "s", 0, None, "callbacks.py"),
    ("rest", "time for the rest", "the step less the three others: parsing, saving, logging", "s", 0, None,
     "callbacks.py"),
    ("tokens_per_s", "sampling speed", "tokens sampled in the step / time for sampling", "tokens/s", 1, None,
     "progress.py"),
    ("memory_mib", "peak memory", "largest resident memory of the main process so far", "MiB", 0, None, "progress.py"),
    ("gpu_memory_mib", "peak GPU memory", "largest memory of torch's allocator so far, first GPU of the main process",
     "MiB", 0, None, "progress.py", "on a GPU"),
    ("cpu_energy_j", "processor energy", "processor time of the main process x 8 W per core; an estimate, right to a "
     "factor of 2 either way", "J", 0, None, "progress.py"),
    ),
    *_rows("eval/*.json",
    ("held_out/{type}/accuracy", "held-out accuracy", "right greedy replies / held-out problems, after so many steps",
     "share", None, None, "evaluation/scores.py", "at evaluations"),
    ("held_out/{type}/tokens", "held-out reply length", "mean tokens of the greedy replies to held-out problems",
     "tokens", 2, None, "evaluation/scores.py", "at evaluations"),
    ),
    *_rows("summary.json",
    ("gain/{type}", "gain", "held-out accuracy at the end less that of the untrained policy, same problems", "share", 0,
     None, "evaluation/scores.py", "at the end"),
    ),
)  # fmt: skip
"""The table. tests/test_observe_catalogue.py holds it against what a run logs, in both directions."""

_HOLES = {"role": "(?:propose|solve)", "type": "[^/]+", "percent": r"\d{3}"}
"""What stands for a name in braces; for any other: letters."""


@functools.cache
def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", lambda hole: _HOLES.get(hole[1], "[a-z_]+"), pattern))


@functools.lru_cache(maxsize=4096)
def metric_of(key: str, file: str = "") -> Metric | None:
    """The row a logged key belongs to, or None. `file`: of that log only."""
    known = (m for m in METRICS if not file or m.file == file or m.pattern == "step")
    return next((m for m in known if _regex(m.pattern).fullmatch(key)), None)


def find(name: str) -> list[Metric]:
    """The rows meant by a logged key, a pattern, or the last part of one. ConfigError names the nearest otherwise.

    Examples:
        >>> [row.pattern for row in find("solve_rate")]
        ['propose/{type}/solve_rate']
        >>> find("solve/deduction/tokens")[0].unit
        'tokens'
    """
    if exact := metric_of(name):
        return [exact]
    called = {m: (m.pattern, m.name, *m.pattern.split("/")[-2:]) for m in METRICS}
    if found := [m for m in METRICS if name == m.pattern] or [m for m in METRICS if name in called[m]]:
        return found
    words = {word: m.pattern for m in METRICS for word in called[m]}
    close = difflib.get_close_matches(name, words, 3) + difflib.get_close_matches(name.split("/")[-1], words, 3)
    near = list(dict.fromkeys(words[word] for word in close))[:3]
    hint = f"did you mean {' or '.join(near)}?" if near else "`azr-lite show metrics` lists all"
    raise ConfigError(f"no run and no logged number is called {name!r}; {hint}")


def explain(metric: Metric) -> list[tuple[str, str]]:
    """Label and text of each fact about one number."""
    facts = {"formula": metric.formula, "unit": metric.unit, "healthy": metric.range, "source": metric.source}
    return [*facts.items(), ("logged", f"{metric.file}, {metric.when or 'every step'}")]


def describe_metrics(name: str) -> str:
    """What ``azr-lite show`` prints: the meaning of a logged number, or, for "metrics", a table of all; 80 columns."""
    if name == "metrics":
        rows = [f"{metric.pattern:34} {metric.name:26} {metric.range}" for metric in METRICS]
        head = f"{'number':34} {'name':26} healthy"
        return "\n".join([head, "", *rows, "", "azr-lite show NAME explains one: formula, unit, source."])
    found = []
    for metric in find(name):
        lines = [f"{metric.pattern}: {metric.name}"]
        for label, text in explain(metric):
            lines += textwrap.wrap(text, 80, initial_indent=f"  {label:8} ", subsequent_indent=" " * 11)
        found.append("\n".join(lines))
    return "\n\n".join(found)
