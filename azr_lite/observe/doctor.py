"""The run doctor: names what a run suffers from, with evidence and a cure.

The exact checks (rewards, advantages, clipping, answers) need no threshold to speak of and are asked first. The others
judge curves: nano runs set their bounds (data_samples/benchmarks/doctor.json says how often they are right), and
"healthy" is what healthy nano runs have. What was not logged is not a number, which is neither above nor below a bound.
"""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from azr_lite.observe.reader import SHORT, Followed, drawn, form_checked, open_run
from azr_lite.observe.run_summary import RunSummary, summarise
from azr_lite.observe.style import printable
from azr_lite.rundir import RunDir
from azr_lite.sandbox.literal import read_arguments
from azr_lite.sandbox.wire import render
from azr_lite.triplet import Reason, task_from_json
from azr_lite.verifier import open_executor

ONE_WORLD = "validate every proposal in two worlds with different hash seeds before it is rewarded or kept"
TOO_SHORT = f"Fewer than {SHORT} steps: rewards and advantages are judged, curves are not."


@dataclass(frozen=True, slots=True)
class Finding:
    """One illness: its name, the numbers that show it, and what to do."""

    name: str
    evidence: str
    cure: str


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor says of one run; printed, for people, in 80 columns."""

    path: Path
    summary: RunSummary
    findings: list[Finding]

    def __repr__(self) -> str:
        found, steps = self.findings, self.summary.steps
        said = f"{len(found)} finding{'s' * (len(found) > 1)}" if found else "nothing found"
        lines = textwrap.wrap(f"{self.path}: {steps} step{'s' * (steps != 1)}, {said}", 80)
        for one in found:
            lines.append(f"\n{one.name}")
            for label, words in (("evidence", one.evidence), ("cure", one.cure)):
                lines += textwrap.wrap(printable(words), 80, initial_indent=f"  {label:9} ", subsequent_indent=" " * 12)
        if steps < SHORT:
            lines.append(f"\n{TOO_SHORT}")
        missing = ", ".join(self.summary.not_logged)
        for note in (self.summary.not_judged, f"Not logged, so not judged: {missing}." if missing else ""):
            lines += ["", *textwrap.wrap(printable(note), 80)] if note else []
        return "\n".join(lines)

    def as_dict(self) -> dict[str, object]:
        return {
            "run": str(self.path),
            "steps": self.summary.steps,
            "sick": bool(self.findings),
            "findings": [asdict(one) for one in self.findings],
            "not_logged": self.summary.not_logged,
            "not_judged": self.summary.not_judged,
        }


def examine(run: RunDir, programs: int = 0) -> Diagnosis:
    """All that ails a run; `programs`: how many of its accepted programs are run again."""
    summary = summarise(Followed(run))
    return Diagnosis(run.path, summary, diagnose(summary) + (rerun(run.path, programs) if programs else []))


def _change(ends: tuple[float, float], digits: int = 2) -> str:
    return f"{ends[0]:.{digits}f} -> {ends[1]:.{digits}f}"


def check_finite(s: RunSummary) -> Iterator[Finding]:
    """Numbers that are none. A loss scale that is being found (float16) overflows in a few early steps."""
    for name, curve in s.curves.items():
        wrong = curve.not_finite
        if wrong.count > 0.1 * curve.count or not math.isfinite(curve.newest):
            shown = f"{name}: not finite in {wrong.count} of {curve.count} steps, from step {wrong.first}"
            cure = "lower learning_rate; dtype float32 or bfloat16 instead of float16"
            yield Finding("numbers not finite", shown, cure)


def check_internal(s: RunSummary) -> Iterator[Finding]:
    """Replies over which azr_lite itself failed. Each counts as rejected, so the run goes on; no reply deserves it."""
    if s.internal.count:
        shown = f"{s.internal.count} logged replies, from step {s.internal.first}: {s.internal_detail}"
        yield Finding("internal errors", shown, "a bug of azr-lite, not of the run: report it with this evidence")


def check_rewards(s: RunSummary) -> Iterator[Finding]:
    """Rewards that are not what equations 4 to 6 say, and what they follow instead. Up to 1 % may be edits by hand."""
    for role, checked in s.roles.items():
        wrong, length, r = checked.wrong, checked.length.correlation or 0.0, checked.rate.correlation
        if wrong.count <= 0.01 * checked.replies:
            continue
        many = f"{wrong.count} of {checked.replies} {role} rewards are not what verdict and solve rate earn"
        many += f", from step {wrong.first}"
        if checked.impossible and not checked.easy:
            shown = f"{many}; {checked.impossible} tasks that nobody solved were rewarded"
            yield Finding("impossible tasks", shown, "reward 0 at solve rate 0")
        if checked.easy:
            follows = "" if r is None else f"; reward and solve rate correlate by {r:+.2f}"
            shown = f"{many}; {checked.easy} tasks that everybody solved were rewarded{follows}"
            yield Finding("easy tasks", shown, "reward 1 - solve rate, and 0 at 1")
        if length > 0.9:
            shown = f"{many}; the surplus follows the length (r {length:+.2f})"
            yield Finding("length blow-up", shown, "reward no reply for its length")
        if checked.upside_down:
            shown = f"{many}; {checked.upside_down} well-formed wrong answers got -1 or less"
            yield Finding("format ladder upside down", shown, "order the ladder: no form -1, wrong -0.5, right 1")
        if not (checked.impossible or checked.easy or length > 0.9 or checked.upside_down):
            yield Finding("rewards not as earned", many, "see what differs: azr-lite replay RUN --step N")


def check_advantages(s: RunSummary) -> Iterator[Finding]:
    """Advantages that are missing, unrelated to the rewards, or opposite to them.

    Healthy correlation of the two: exactly 1 in a group of TRR++, else (and for pooled samples) above 0.5.
    """
    groups, silent = (sum(getattr(checked, name) for checked in s.roles.values()) for name in ("groups", "silent"))
    rate, norm = s.curves["learning rate"].highest, s.curves["gradient norm"].highest
    if groups and silent / groups >= 0.9:
        shown = f"{silent} of {groups} groups with different rewards have no advantage"
        yield Finding("no update", shown, "see that advantages are set")
    elif rate == 0 or 0 <= norm < 1e-6:
        shown = f"largest learning rate {rate:g}, gradient norm {norm:g}"
        yield Finding("no update", shown, "set learning_rate above 0; see that replies earn different rewards")
    for role, checked in s.roles.items():
        r = checked.correlation
        if r is None or r > 0.35:
            continue
        shown = f"{role}: reward and advantage correlate by {r:+.2f} (healthy: near 1)"
        if r < -0.35:
            yield Finding("sign flip", shown, "A = (R - mean) / std: do not negate")
        else:
            yield Finding("rewards shuffled", shown, "keep rows in order")


def check_validation(s: RunSummary) -> Iterator[Finding]:
    """Programs believed after one run: nobody knows whether another run gives the same output (`rerun` tells)."""
    worlds = s.curves["worlds"]
    if once := worlds.outside.count:  # the catalogue calls two worlds and more healthy
        shown = f"in {once} of {worlds.count} steps a program was accepted after a single run"
        yield Finding("non-determinism leak", shown, ONE_WORLD)


def check_roles(s: RunSummary) -> Iterator[Finding]:
    """A role whose replies have no weight in the loss."""
    for name, role in (("proposer", "propose"), ("solver", "solve")):
        trained, checked = getattr(s.config, f"train_{name}"), s.roles[role]
        if checked.replies and (not trained or checked.weight == 0):
            shown = f"train_{name}={trained}; loss weight {checked.weight:g} over {checked.replies} replies"
            yield Finding(f"{name} untrained", shown, f"train_{name}=True")


def check_answers(s: RunSummary) -> Iterator[Finding]:
    """Monte-Carlo replies without chance: solve rates of 0 and 1 only, so nothing is ever learnable."""
    asked = s.curves["valid"].highest != 0  # where no proposal was ever valid, no reply was ever asked for
    never = s.curves["learnable"].highest == 0 and asked and s.config.n_mc >= 2
    if s.same >= 0.95 * s.asked if s.asked else never:
        same = f"{s.same} of {s.asked} tasks have one text for all answers"
        shown = same if s.asked else "every solve rate is 0 or 1 in every step"
        yield Finding("identical answers", shown, "sample the n replies at temperature 1 and apart, never greedily")


def check_backwards(s: RunSummary) -> Iterator[Finding]:
    """Learning in the wrong direction with right advantages: the loss has the wrong sign, or steps are far too long.

    No healthy run lost 0.1 of its valid proposals or held-out accuracy; the noise of 30 replies is 0.2.
    """
    valid, solved, shown = s.curves["valid"].ends, s.curves["solved"].ends, []
    if valid[0] - valid[1] > 0.3:
        shown.append(f"valid proposals {_change(valid)}")
    if s.gain["high"] < -0.1:
        shown.append(f"held-out {100 * s.gain['gain']:+.1f} points (at best {100 * s.gain['high']:+.1f})")
    if shown and not s.gain["high"] >= 0 and solved[1] <= solved[0]:
        cure = "minimise the loss (self_test=True checks it); if it is right, lower learning_rate"
        yield Finding("sign flip", "; ".join(shown), cure)


def check_ratio(s: RunSummary) -> Iterator[Finding]:
    """The importance ratio: never moving, or jumping. Healthy: at most 0.03 clipped, 3 times the median norm."""
    clip, norm, updates = s.curves["clip ratio"], s.curves["gradient norm"], s.config.updates_per_step
    if clip.count >= 5 and clip.highest == 0 and updates > 1 and s.config.learning_rate > 0 and norm.highest > 1e-6:
        shown = f"clip_ratio is exactly 0 in {clip.count} steps of {updates} updates"
        yield Finding("ratio never moves", shown, "take old log-probabilities once per step, before its first update")
    for name, bound in (("clip ratio", 0.3), ("kl", 1.0)):
        if (curve := s.curves[name]).highest > bound:
            shown = f"{name} {curve.highest:.2f} at step {curve.highest_at}"
            yield Finding("ratio or KL spike", shown, "lower learning_rate")
    norms = [point.y for point in norm.points]
    middle = statistics.median_high(norms) if len(norms) >= 5 else 0.0
    if norm.highest > 20 * middle > 0:
        shown = f"gradient norm {norm.highest:.2f} at step {norm.highest_at}, median {middle:.2f}"
        yield Finding("ratio or KL spike", shown, "lower learning_rate or max_grad_norm")


def check_executor(s: RunSummary) -> Iterator[Finding]:
    """Programs that fail by time, memory or crash in numbers: the sandbox may be sick, not the policy. Healthy: 1 %."""
    total = sum(s.executor.values())
    bad = {kind: s.executor[kind] for kind in ("timeout", "memory", "crash", "protocol") if kind in s.executor}
    if total >= 20 and sum(bad.values()) / total > 0.2:
        shown = f"of {total:.0f} executions: " + ", ".join(f"{count:.0f} {kind}" for kind, count in bad.items())
        yield Finding("executor sickness", shown, "azr-lite doctor --sandbox; raise cpu_seconds or memory_mb")


def check_difficulty(s: RunSummary) -> Iterator[Finding]:
    """A proposer that drifts to tasks everybody or nobody solves. Healthy late solve rates: 0.44 to 0.76."""
    rate, learnable, never = (s.curves[name].ends for name in ("solve rate", "learnable", "never solved"))
    if s.curves["valid"].ends[1] < 0.2:
        return  # too few tasks to have a difficulty
    shown = f"solve rate {_change(rate)}"
    if rate[1] >= 0.8 and rate[1] - rate[0] >= 0.05 and learnable[1] <= 0.7 * learnable[0]:
        cure = "check the proposer's reward; raise references; separate adapters for the roles"
        yield Finding("easy tasks", f"{shown}, learnable {_change(learnable)}", cure)
    if (rate[1] <= 0.3 and rate[1] < rate[0]) or never[1] >= 0.6:
        shown += "" if math.isnan(never[1]) else f", never solved {_change(never)}"
        yield Finding("impossible tasks", shown, "reward 0 at solve rate 0; bound the size of programs")


def check_curriculum(s: RunSummary) -> Iterator[Finding]:
    """A proposer that writes few programs again and again, until there is nothing left to learn from them.

    A real model did so within 30 steps (valid 76 -> 151 of 160, learnable 36 -> 4). The prototype's healthy run and all
    of nano's keep their learnable tasks; fewer than 15 steps are too noisy to tell.
    """
    learnable, programs = s.curves["learnable tasks"].ends, s.curves["different programs"].ends
    fewer = programs[1] <= 0.65 and programs[0] - programs[1] >= 0.2
    if s.steps >= 15 and fewer and learnable[1] < 0.65 * learnable[0]:
        shown = f"learnable tasks per step and type {_change(learnable, 1)}, different programs {_change(programs)} "
        cure = "repeated_programs=penalty, reference_tasks=learnable, n_mc=16; with adapters also kl_coef=0.03"
        yield Finding("curriculum collapse", f"{shown}of the valid proposals", cure)


def check_form(s: RunSummary) -> Iterator[Finding]:
    """The form is learned and nothing else."""
    form, right = s.curves["solver well formed"].ends, s.curves["solved"].ends
    if form[1] >= 0.9 and form[1] - form[0] >= 0.2 and right[1] - right[0] <= 0.02:
        cure = "a larger or warmer-started model; easier tasks; a format warm start before self-play"
        yield Finding("form only", f"well formed {_change(form)}, right {_change(right)}", cure)


def check_proposals(s: RunSummary) -> Iterator[Finding]:
    """A proposer that never wrote one valid task, writes known ones, or sees nothing but the identity."""
    valid, fresh = s.curves["valid"], s.curves["fresh"].ends
    if valid.count >= 3 and valid.highest == 0:
        shown = f"not one valid proposal in {valid.count} steps: the buffers stay as they were seeded"
        see = "see the reasons: azr-lite show RUN --role propose --worst 5"
        yield Finding("no valid proposal", shown, f"{see}; take a larger or instruction-tuned model")
    if fresh[1] < 0.3 and not valid.ends[1] < 0.2:
        shown = f"new tasks {_change(fresh)} of the valid ones"
        yield Finding("template collapse", shown, "raise references or temperature; lower learning_rate")
    for name, seen in s.parents.items():
        if seen[False] >= 3 and not seen[True]:
            shown = f"{seen[False]} {name} proposals saw only the zero triplet"
            yield Finding("no references", shown, "show tasks of the buffer (references)")


def check_lotteries(s: RunSummary) -> Iterator[Finding]:
    """Tasks that reward chance: few different answers, at a solve rate that stays in the middle; and copied tasks."""
    rate, distinct, right = (s.curves[name].ends for name in ("solve rate", "distinct", "solved"))
    if s.steps >= 20 and 0.1 <= rate[1] <= 0.75 and distinct[1] <= 0.5 and right[1] - right[0] <= 0.02:
        shown = f"different answers {_change(distinct)}, solve rate {_change(rate)}, right {_change(right)}"
        cure = "look at tasks solved half of the time: azr-lite report RUN; exclude randomness"
        yield Finding("lottery", shown, cure)
    if (copies := s.curves["copies"].ends)[1] > 0.3:
        shown = f"{_change(copies)} of valid proposals are one of their references"
        yield Finding("copied references", shown, "reward repeated programs less; fewer references; higher temperature")


def check_length(s: RunSummary) -> Iterator[Finding]:
    """Replies that are cut, or that grow until they are and earn nothing by it.

    Length alone is no illness: in the 50 steps of `make run` replies grow threefold, a tenth is cut, and it helps.
    """
    tokens = s.curves["solver tokens"].ends
    for role in ("solver", "proposer"):
        cut = s.curves[f"{role} truncated"].ends
        if cut[1] > 0.2:
            yield Finding("truncation", f"{role}: {_change(cut)} of replies are cut", "raise max_reply_tokens")
        if role == "solver" and not s.gain["low"] > 0 and tokens[1] >= 2 * tokens[0] and cut[1] >= 0.1:
            shown = f"{_change(tokens, 0)} tokens, {cut[1]:.2f} cut"
            yield Finding("length blow-up", shown, "whitening=token; check that no reward grows with length")


def check_groups(s: RunSummary) -> Iterator[Finding]:
    """Groups in which everybody earns the same teach nothing (TRL: frac_reward_zero_std). Healthy: 0."""
    for role in ("proposer", "solver"):
        if (ends := s.curves[f"{role} no signal"].ends)[1] > 0.25:
            shown = f"{role}: {_change(ends)} of groups have one reward"
            cure = "raise batch_size or temperature; see what else the doctor finds"
            yield Finding("zero-variance groups", shown, cure)


def check_gain(s: RunSummary) -> Iterator[Finding]:
    """A long run whose held-out gain is at most 0 at its upper 95 % bound."""
    if s.steps >= 60 and s.gain["high"] <= 0:
        shown = f"held-out {100 * s.gain['gain']:+.1f} points in {s.steps} steps"
        yield Finding("no learning", shown, "see the other findings; easier tasks, a larger model, more steps")


CHECKS: tuple[Callable[[RunSummary], Iterator[Finding]], ...] = (
    check_finite, check_internal, check_rewards, check_advantages, check_validation, check_roles, check_answers,
    check_backwards, check_ratio, check_executor, check_difficulty, check_curriculum, check_form, check_proposals,
    check_lotteries, check_length, check_groups, check_gain,
)  # fmt: skip
"""The exact ones first, so that the first finding is the cause and later ones may be its effects."""


def diagnose(summary: RunSummary) -> list[Finding]:
    """All findings, the surest first; one of each name (its evidence joined)."""
    found: dict[str, Finding] = {}
    for check in CHECKS:
        for one in check(summary):
            old = found.get(one.name)
            found[one.name] = one if old is None else Finding(one.name, f"{old.evidence}; {one.evidence}", old.cure)
    return list(found.values())


def rerun(path: str | Path, programs: int) -> list[Finding]:
    """Findings about so many accepted proposals, drawn evenly over the run and run again in the sandbox.

    A proposal enters the buffer when it gave one output in every world. When it does not do so now, no reward for it
    can be trusted: the validation was left out, ran in one world only, or the executor lied.
    """
    run = open_run(path)
    leaks, sick = [], []
    with form_checked(run):
        accepted = (one for one in run.read("tasks.jsonl") if one["ok"] and one["task"] and one["step"] >= 0)
        sample = [task_from_json(one["task"]) for one in drawn(accepted, programs)]
        items = [(task.program, [read_arguments(text) for text in task.inputs]) for task in sample]
        with open_executor(run.config()) as executor:
            validations = executor.validate_many(items)
        for task, one in zip(sample, validations, strict=True):
            if one.reason == Reason.NON_DETERMINISTIC:
                leaks.append(f"{task.id} ({one.detail})")
            elif not one.ok or tuple(render(value) for value in one.outputs) != task.outputs:
                sick.append(f"{task.id} ({one.reason or 'another output'})")
    see = "azr-lite doctor --sandbox; see that validation runs before the buffer, and with this run's limits"
    shown = f"of {len(sample)} accepted programs run again"
    return [
        Finding(name, f"{len(bad)} {shown}: {', '.join(bad[:3])}", cure)
        for name, bad, cure in (("non-determinism leak", leaks, ONE_WORLD), ("executor sickness", sick, see))
        if bad
    ]
