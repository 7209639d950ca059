"""The run doctor: names what a run suffers from, with evidence and a cure.

Comes in: a `RunSummary`.  Goes out: `Finding`s, the surest first; none for a healthy run.
Not covered: reading the logs (`symptoms.py`); the machine (`azr-lite doctor` without a path).

Every check is a pure function of the summary. Thresholds are constants with their reason. The exact checks (pay, advantages,
clipping, answers) need no threshold to speak of and are asked first; the others judge curves, and nano runs set their bounds
(data_samples/benchmarks/doctor.json says how often they are right).
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from azr_lite.metrics import mean
from azr_lite.observe.reader import open_run
from azr_lite.observe.symptoms import SHORT, RunSummary, summarise

MISPAID = 0.01
"""Share of replies paid otherwise than they earn. Healthy: exactly 0; the rest is for a log touched by hand."""
UNRELATED, OPPOSITE = 0.35, -0.35
"""Mean correlation of reward and advantage. TRR++: exactly 1 in a group; other estimators and pooled samples: above 0.5."""
SILENT = 0.9
"""Share of groups with different rewards and no advantage at all. Healthy: exactly 0."""
NO_SIGNAL = 0.25
"""Share of groups with equal rewards (TRL logs it as frac_reward_zero_std; advice from practice is to keep it below 0.25). Healthy nano runs: 0."""
SAME_ANSWERS = 0.95
"""Share of tasks whose n >= 3 answers are one text. Healthy nano runs at temperature 1: well below."""
EASY, RISE, FALL = 0.8, 0.05, 0.7
"""Late solve rate, its rise, and the late learnable share as a part of the early one. Healthy nano: at most 0.76."""
HARD, NEVER = 0.3, 0.6
"""Late solve rate; late share of tasks that nobody solves. Healthy nano: at least 0.44 late."""
BACKWARDS = 0.3
"""Fall of valid proposals or of held-out accuracy, as a share. No healthy run lost a tenth; noise on 30 replies is below 0.2."""
FORMED, FORM_RISE, RIGHT_RISE = 0.9, 0.2, 0.02
"""Format-only learning: form arrives, right answers do not."""
CUT = 0.2
"""Truncated share (the catalogue's healthy bound)."""
LONGER, CUT_LONG = 2.0, 0.1
"""Reply length, late over early, together with a truncated share and no held-out gain that is surely above zero: length alone is no
illness, nano runs learn by thinking longer."""
COVERAGE, COVERAGE_FALL, FRESH = 0.1, 0.33, 0.3
"""Different AST shapes among a step's programs late; as a part of the early share; share of new tasks (the catalogue's bound)."""
EXECUTOR = 0.2
"""Executions that failed by time-out, memory, crash or protocol. Healthy nano: below 0.01."""
SPIKE, CLIPPED, KL = 20.0, 0.3, 1.0
"""Gradient norm over its median; clipped share of tokens; KL in nats a token. Healthy nano: 3, 0.03, not logged."""
FLAT_STEPS, FLAT_GAIN = 60, 0.0
"""A run of so many steps whose held-out gain does not have its upper 95 % bound above this has learned nothing."""
ONE_WORLD = "validate every proposal in two worlds with different hash seeds before it is paid or kept"
"""The cure where programs are believed after one run."""
TOO_SHORT = f"Fewer than {SHORT} steps: pay and advantages are judged, curves are not."
SICK_KINDS = ("timeout", "memory", "crash", "protocol")


@dataclass(frozen=True, slots=True)
class Finding:
    """One illness: its name, the numbers that show it, and what to do."""

    name: str
    evidence: str
    cure: str


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor says of one run; printed, for people."""

    path: Path
    summary: RunSummary
    findings: list[Finding]

    def __str__(self) -> str:
        return text(self.path, self.summary, self.findings)

    def as_dict(self) -> dict[str, object]:
        return as_dict(self.path, self.summary, self.findings)


Check = Callable[[RunSummary], Iterator[Finding]]


def check_rewards(s: RunSummary) -> Iterator[Finding]:
    """Replies paid otherwise than equations 4 to 6 say, and for what instead."""
    for role, checked in s.rewards.items():
        if not checked.replies or checked.wrong / checked.replies <= MISPAID:
            continue
        many = f"{checked.wrong} of {checked.replies} {role} rewards are not what verdict and solve rate earn, from step {checked.first}"
        named = False
        if checked.impossible and not checked.easy:
            named = True
            yield Finding(
                "impossible tasks",
                f"{many}; {checked.impossible} tasks nobody solved were paid",
                "pay 0 at solve rate 0",
            )
        if checked.easy:
            named = True
            r = checked.rate.correlation
            shown = "" if r is None else f"; reward and solve rate correlate by {r:+.2f}"
            yield Finding(
                "easy tasks",
                f"{many}; {checked.easy} tasks all solved were paid{shown}",
                "pay 1 - solve rate, and 0 at 1",
            )
        r = checked.length.correlation
        if r is not None and r > 0.9:
            named = True
            yield Finding(
                "length blow-up", f"{many}; the surplus follows the length (r {r:+.2f})", "pay no reply for its length"
            )
        if checked.upside_down:
            named = True
            yield Finding(
                "format ladder upside down", f"{many}; {checked.upside_down} well-formed wrong answers got -1 or less",
                "order the ladder: no form -1, wrong -0.5, right 1",
            )  # fmt: skip
        if not named:
            yield Finding("rewards not as earned", many, "see what differs: azr-lite replay RUN --step N")


def check_advantages(s: RunSummary) -> Iterator[Finding]:
    """Advantages that are missing, unrelated to the rewards, or opposite to them."""
    groups, silent = sum(p.groups for p in s.advantages.values()), sum(p.silent for p in s.advantages.values())
    rates, norms = s.curves.get("learning rate", [1.0]), s.curves.get("gradient norm", [1.0])
    if groups and silent / groups >= SILENT:
        yield Finding(
            "no update",
            f"{silent} of {groups} groups with different rewards have no advantage",
            "see that advantages are set",
        )
    elif max(rates) == 0 or max(norms) < 1e-6:
        yield Finding(
            "no update",
            f"largest learning rate {max(rates):g}, gradient norm {max(norms):g}",
            "set learning_rate above 0",
        )
    for role, checked in s.advantages.items():
        r = checked.correlation
        if r is None or r > UNRELATED:
            continue
        word, cure = (
            ("sign flip", "A = (R - mean) / std: do not negate")
            if r < OPPOSITE
            else ("rewards shuffled", "keep rows in order")
        )
        yield Finding(word, f"{role}: reward and advantage correlate by {r:+.2f} (healthy: near 1)", cure)


def check_backwards(s: RunSummary) -> Iterator[Finding]:
    """Learning in the wrong direction although the advantages are right: the loss has the wrong sign, or the step is far too long."""
    shown = []
    if (ends := s.ends("valid")) and ends[0] - ends[1] > BACKWARDS:
        shown.append(f"valid proposals {ends[0]:.2f} -> {ends[1]:.2f}")
    if s.gain is not None and s.gain["high"] < -BACKWARDS / 3:
        shown.append(f"held-out {100 * s.gain['gain']:+.1f} points (at best {100 * s.gain['high']:+.1f})")
    solved = s.ends("solved")
    if shown and (s.gain is None or s.gain["high"] < 0) and solved and solved[1] <= solved[0]:
        yield Finding(
            "sign flip",
            "; ".join(shown),
            "minimise the loss (self_test=True checks it); if it is right, lower learning_rate",
        )


def check_answers(s: RunSummary) -> Iterator[Finding]:
    """Monte-Carlo replies without chance: solve rates of 0 and 1 only, so nothing is ever learnable."""
    learnable = s.curves.get("learnable", [])
    asked = max(s.curves.get("valid", [1.0])) > 0  # where no proposal was ever valid, no reply was ever asked for
    never = bool(learnable) and asked and max(learnable) == 0 and s.config.n_mc >= 2
    same = s.asked > 0 and s.same / s.asked >= SAME_ANSWERS
    if same or (never and not s.asked):
        how = (
            f"{s.same} of {s.asked} tasks have one text for all answers"
            if s.asked
            else "every solve rate is 0 or 1 in every step"
        )
        yield Finding("identical answers", how, "sample the n replies at temperature 1 and apart, never greedily")


def check_groups(s: RunSummary) -> Iterator[Finding]:
    """Groups in which everybody earns the same teach nothing."""
    for role in ("proposer", "solver"):
        if (ends := s.ends(f"{role} no signal")) and ends[1] > NO_SIGNAL:
            yield Finding("zero-variance groups", f"{role}: {ends[0]:.2f} -> {ends[1]:.2f} of groups have one reward",
                          "raise batch_size or temperature; see what else the doctor finds")  # fmt: skip


def check_difficulty(s: RunSummary) -> Iterator[Finding]:
    """A proposer that drifts to tasks everybody or nobody solves."""
    rate, learnable, never = s.ends("solve rate"), s.ends("learnable"), s.ends("never solved")
    valid = s.ends("valid")
    if (
        rate is None or learnable is None or (valid is not None and valid[1] < 0.2)
    ):  # too few tasks to have a difficulty
        return
    if rate[1] >= EASY and rate[1] - rate[0] >= RISE and learnable[1] <= FALL * learnable[0]:
        yield Finding("easy tasks", f"solve rate {rate[0]:.2f} -> {rate[1]:.2f}, learnable {learnable[0]:.2f} -> {learnable[1]:.2f}",
                      "check the proposer's pay; raise references; separate adapters for the roles")  # fmt: skip
    if (rate[1] <= HARD and rate[1] < rate[0]) or (never is not None and never[1] >= NEVER):
        shown = f", never solved {never[0]:.2f} -> {never[1]:.2f}" if never else ""
        yield Finding("impossible tasks", f"solve rate {rate[0]:.2f} -> {rate[1]:.2f}{shown}",
                      "pay 0 at solve rate 0; bound the size of programs")  # fmt: skip


def check_form(s: RunSummary) -> Iterator[Finding]:
    """The form is learned and nothing else."""
    form, right = s.ends("solver well formed"), s.ends("solved")
    if form and right and form[1] >= FORMED and form[1] - form[0] >= FORM_RISE and right[1] - right[0] <= RIGHT_RISE:
        yield Finding("format-only learning", f"well formed {form[0]:.2f} -> {form[1]:.2f}, right {right[0]:.2f} -> {right[1]:.2f}",
                      "a larger or warmer-started model; easier tasks; a format warm start before self-play")  # fmt: skip


def check_proposals(s: RunSummary) -> Iterator[Finding]:
    """A proposer that never wrote one valid task: the run trains on what it was seeded with."""
    valid = s.curves.get("valid", [])
    if len(valid) >= 3 and max(valid) == 0:
        yield Finding("no valid proposal", f"not one valid proposal in {len(valid)} steps: the buffers stay as they were seeded",
                      "see the reasons: azr-lite show RUN --role propose --worst 5; take a larger or instruction-tuned model")  # fmt: skip


def check_length(s: RunSummary) -> Iterator[Finding]:
    """Replies that are cut, or that grow until they are and earn nothing by it."""
    tokens = s.ends("solver tokens")
    earned = (
        s.gain is not None and s.gain["low"] > 0
    )  # the 50 steps of `make run` think three times as long, a tenth is cut, and it pays
    for role in ("solver", "proposer"):
        if not (cut := s.ends(f"{role} truncated")):
            continue
        if cut[1] > CUT:
            yield Finding(
                "truncation", f"{role}: {cut[0]:.2f} -> {cut[1]:.2f} of replies are cut", "raise max_reply_tokens"
            )
        if role == "solver" and not earned and tokens and tokens[1] >= LONGER * tokens[0] and cut[1] >= CUT_LONG:
            yield Finding("length blow-up", f"{tokens[0]:.0f} -> {tokens[1]:.0f} tokens, {cut[1]:.2f} cut",
                          "whitening=token; check that no reward grows with length")  # fmt: skip


def check_templates(s: RunSummary) -> Iterator[Finding]:
    """The proposer writes one program again and again, or sees nothing but the identity."""
    part = max(1, len(s.coverage) // 5)
    first, last = mean(s.coverage[:part]), mean(s.coverage[-part:])
    if len(s.coverage) >= 4 and (last < COVERAGE or last < COVERAGE_FALL * first):
        yield Finding("template collapse", f"different AST shapes {first:.2f} -> {last:.2f} of a step's programs",
                      "raise references or temperature; lower learning_rate")  # fmt: skip
    valid = s.ends("valid")
    if (fresh := s.ends("fresh")) and fresh[1] < FRESH and (valid is None or valid[1] >= 0.2):
        yield Finding(
            "template collapse",
            f"new tasks {fresh[0]:.2f} -> {fresh[1]:.2f} of the valid ones",
            "raise references or temperature",
        )
    for name, seen in s.parents.items():
        if seen[False] >= 3 and not seen[True]:
            yield Finding(
                "no references",
                f"{seen[False]} {name} proposals saw only the zero triplet",
                "show tasks of the buffer (references)",
            )


def check_executor(s: RunSummary) -> Iterator[Finding]:
    """Programs that fail by time, memory or crash in numbers: the sandbox may be sick, not the policy."""
    total, bad = s.executor.total(), {kind: s.executor[kind] for kind in SICK_KINDS if s.executor[kind]}
    if total >= 20 and sum(bad.values()) / total > EXECUTOR:
        shown = ", ".join(f"{count} {kind}" for kind, count in bad.items())
        yield Finding(
            "executor sickness",
            f"of {total} executions: {shown}",
            "azr-lite doctor --sandbox; raise cpu_seconds or memory_mb",
        )


def check_validation(s: RunSummary) -> Iterator[Finding]:
    """Programs believed after one run: nobody knows whether another run gives the same output. (`rerun.py` says which do not.)"""
    worlds = s.curves.get("worlds", [])
    if once := sum(value < 2 for value in worlds):
        yield Finding(
            "non-determinism leak",
            f"in {once} of {len(worlds)} steps a program was accepted after a single run",
            ONE_WORLD,
        )


def check_ratio(s: RunSummary) -> Iterator[Finding]:
    """The importance ratio: never moving, or jumping."""
    clip = s.curves.get("clip ratio", [])
    norms = [norm if math.isfinite(norm) else 0.0 for norm in s.curves.get("gradient norm", [])]  # see check_finite
    moved = s.config.learning_rate > 0 and max(norms, default=0) > 1e-6
    if len(clip) >= 5 and max(clip) == 0 and s.config.updates_per_step > 1 and moved:
        yield Finding("ratio never moves", f"clip_ratio is exactly 0 in {len(clip)} steps of {s.config.updates_per_step} updates",
                      "take the old log-probabilities once a step, before its first update")  # fmt: skip
    for name, bound in (("clip ratio", CLIPPED), ("kl", KL)):
        if (values := s.curves.get(name)) and max(values) > bound:
            yield Finding(
                "ratio or KL spike",
                f"{name} {max(values):.2f} at step {s.steps[_where(values, s)]}",
                "lower learning_rate",
            )
    if len(norms) >= 5 and (middle := sorted(norms)[len(norms) // 2]) > 0 and max(norms) > SPIKE * middle:
        yield Finding("ratio or KL spike", f"gradient norm {max(norms):.2f} at step {s.steps[_where(norms, s)]}, median {middle:.2f}",
                      "lower learning_rate or max_grad_norm")  # fmt: skip


def _where(values: list[float], s: RunSummary) -> int:
    return min(values.index(max(values)), len(s.steps) - 1)


def check_buffer(s: RunSummary) -> Iterator[Finding]:
    """A buffer that takes nothing in grows older by a step a step."""
    for name, rows in s.buffers.items():
        half = rows[len(rows) // 2 :]
        if len(half) < 4 or half[0][0] != half[-1][0] or half[-1][0] >= s.config.buffer_capacity:
            continue
        if None in (half[0][1], half[-1][1]) or half[-1][1] - half[0][1] >= 0.9 * (len(half) - 1):  # type: ignore[operator]
            yield Finding("stale buffer", f"{name}: {half[-1][0]:.0f} tasks, none new in the last {len(half)} steps",
                          "see the rejection reasons: azr-lite show RUN --role propose --worst 5")  # fmt: skip


def check_roles(s: RunSummary) -> Iterator[Finding]:
    """A role whose replies have no weight in the loss."""
    for role, trained, name in (
        ("propose", s.config.train_proposer, "proposer"),
        ("solve", s.config.train_solver, "solver"),
    ):
        if s.rewards[role].replies and (not trained or s.advantages[role].weight == 0):
            yield Finding(f"{name} untrained", f"train_{name}={trained}; loss weight {s.advantages[role].weight:g} over {s.rewards[role].replies} replies",
                          f"train_{name}=True")  # fmt: skip


def check_finite(s: RunSummary) -> Iterator[Finding]:
    """Numbers that are none. A loss scale that is being found (float16) overflows in a few early steps."""
    shown = []
    for name, values in s.curves.items():
        wrong = [step for step, value in zip(s.steps, values, strict=False) if not math.isfinite(value)]
        if wrong and (len(wrong) > 0.1 * len(values) or not math.isfinite(values[-1])):
            shown.append(f"{name}: not finite in {len(wrong)} of {len(values)} steps, from step {wrong[0]}")
    if shown:
        yield Finding(
            "numbers not finite", "; ".join(shown), "lower learning_rate; dtype float32 or bfloat16 instead of float16"
        )


def check_gain(s: RunSummary) -> Iterator[Finding]:
    """A long run that did not move on held-out problems."""
    if s.gain is not None and len(s.steps) >= FLAT_STEPS and s.gain["high"] <= FLAT_GAIN:
        yield Finding(
            "no learning",
            f"held-out {100 * s.gain['gain']:+.1f} points in {len(s.steps)} steps",
            "see the other findings",
        )


CHECKS: tuple[Check, ...] = (
    check_finite, check_rewards, check_advantages, check_validation, check_roles, check_answers, check_backwards, check_ratio, check_executor,
    check_difficulty, check_form, check_proposals, check_length, check_templates, check_groups, check_buffer, check_gain,
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


def examine(path: str | Path) -> tuple[RunSummary, list[Finding]]:
    """A run directory or a kept sample: its summary and findings. RunDirectoryError for a log that cannot be read."""
    summary = summarise(open_run(path))
    return summary, diagnose(summary)


def as_dict(path: str | Path, summary: RunSummary, findings: list[Finding]) -> dict[str, object]:
    return {
        "run": str(path),
        "steps": len(summary.steps),
        "sick": bool(findings),
        "findings": [asdict(one) for one in findings],
        "not_logged": summary.unasked,
    }


def text(path: str | Path, summary: RunSummary, findings: list[Finding]) -> str:
    """The findings for people, at most 80 columns."""
    head = f"{path}: {len(summary.steps)} steps, " + (
        f"{len(findings)} finding{'s' * (len(findings) > 1)}" if findings else "nothing found"
    )
    lines = textwrap.wrap(head, 80)
    for one in findings:
        lines.append(f"\n{one.name}")
        for label, words in (("evidence", one.evidence), ("cure", one.cure)):
            lines += textwrap.wrap(words, 80, initial_indent=f"  {label:9} ", subsequent_indent=" " * 12)
    if len(summary.steps) < SHORT:
        lines.append(f"\n{TOO_SHORT}")
    if summary.unasked:
        lines += ["", *textwrap.wrap(f"Not logged, so not judged: {', '.join(summary.unasked)}.", 80)]
    return "\n".join(lines)
