# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# <!-- header: made by make notebooks -->
# # 08 · Reading a run
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/azr-lite/azr-lite/blob/main/notebooks/08_reading_a_run.ipynb) [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/azr-lite/azr-lite/blob/main/notebooks/08_reading_a_run.ipynb) [![nbviewer](https://img.shields.io/badge/render-nbviewer-orange)](https://nbviewer.org/github/azr-lite/azr-lite/blob/main/notebooks/08_reading_a_run.ipynb)
#
# **You will be able to**
#
# * diagnose collapse, hacking and plateaus;
# * compare base and trained models with intervals;
# * find the paper's findings in your own run.
#
# **Before this:** notebooks 03 to 06.
#
# **Budget:** 15 minutes to read (2,938 words); 9 exercises (12 points, about 35 minutes); 4 seconds and 153 MiB on 2 CPU cores; on a GPU: not measured.
#
# **Last verified:** Python 3.11.7, azr-lite 0.2.0, numpy 2.4.6, 2026-12-01.
#
# **Next:** [09 · Scaling to 3B–14B full fine-tuning](09_scaling.ipynb). Words in this course: [glossary](glossary.md).
# <!-- /header -->

# %% tags=["setup", "hide-input"]
# @title Setup: looks for what this notebook needs, and installs what is missing
import importlib.util, pathlib, subprocess, sys
NEEDS = """azr_lite numpy matplotlib jinja2 rich tyro"""
EXTRA = "notebooks"
# Never by a bare name: an index may hold another package that is called so.
ADDRESS = "https://github.com/azr-lite/azr-lite/archive/refs/heads/main.zip"

def missing():
    importlib.invalidate_caches()
    return [name for name in NEEDS.split() if importlib.util.find_spec(name) is None]

here = pathlib.Path.cwd()
tree = next((p for p in (here, *here.parents) if (p / "azr_lite" / "__init__.py").exists()), None)
if tree and "azr_lite" in missing():
    sys.path.insert(0, str(tree))
if lacking := missing():
    wheel = max(here.glob("azr_lite-*.whl"), default=None)
    source = [f"azr-lite[{EXTRA}] @ {ADDRESS}"]
    if tree and (tree / "pyproject.toml").exists():
        source = ["-e", f"{tree}[{EXTRA}]"]
    elif wheel:
        source = [f"{wheel}[{EXTRA}]"]
    names = ", ".join(lacking)
    print(f"Installing {names} from {source[-1]}. pip may replace versions that do not fit.")
    command = [sys.executable, "-m", "pip", "install", "-q", *source]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or missing():
        told = [row for row in done.stderr.splitlines() if row.startswith("ERROR")]
        why = (told or done.stderr.splitlines() or ["they are still missing"])[-1]
        raise SystemExit(f"This notebook needs {names}, which pip could not install ({why[:90]}). "
                         "Go online, or put the package's wheel beside the notebook, and run "
                         "this cell again.")

# %% tags=["parameters"]
PROFILE = "auto"  # ci, cpu or gpu; auto looks at this machine
SEED = 0
STEPS = None  # None: as many as the profile has

# %% tags=["setup"]
import json, math, shutil, tempfile, textwrap

import numpy as np

import azr_lite as az
from azr_lite import course
from azr_lite.course import (
    EvaluationError, across, check, compare_paired, mean, patient, printable, profile,
    read_items, recorded, rerun, sample, whole_run,
)
from azr_lite.course.figures import figure, line, look, show, style

profile = profile(PROFILE)

# %% [markdown]
# ## 1. Six patients
#
# Self-play fails quietly. Nothing crashes, the loss goes up and down as always, and after three days you have a model that is worse, or one
# that has learned something you did not ask for. This notebook trains the eye.
#
# Here are six recorded [runs](glossary.md#run-directory) of the nano model, 20 steps each, all with the same seed
# (`data_samples/runs/bugs`). One is healthy. Each of the other five has one mistake that somebody really made in a re-implementation of
# Absolute Zero. Their names are hidden behind letters. (The answers stand in a file of the package. Of course you can look. But then you have
# read a notebook, and learned no trade.)
#
# | it may be | what went wrong |
# |---|---|
# | `"healthy"` | nothing |
# | `"sign flip"` | the loss is *maximised* |
# | `"easy tasks"` | the proposer earns r̄, not 1 − r̄ |
# | `"impossible tasks"` | a task that nobody ever solves earns the full 1 |
# | `"identical answers"` | the replies that measure r̄ are all the same (greedy) |
# | `"length blow-up"` | the solver is rewarded for every token, too |
#
# Before you scroll: what would you expect each of them to do to the share of valid proposals, to the [solve rate](glossary.md#solve-rate) of new tasks,
# to reply length, and to held-out accuracy? Write down a guess.

# %%
LETTERS = "ABCDEF"
logs = {
    one: [
        json.loads(row)
        for row in (patient(one) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    for one in LETTERS
}
sums = {
    one: json.loads((patient(one) / "summary.json").read_text(encoding="utf-8")) for one in LETTERS
}


def curve(log, start, end):
    """One value per step: the mean over task types."""
    return [mean(across(row, start, end)) for row in log]


# %% tags=["hide-input"]
made, axes = figure(2, 3, (10.5, 5.6))
for axis, one in zip(axes, LETTERS):
    steps = [row["step"] + 1 for row in logs[one]]
    for place, (name, end) in enumerate(
        (
            ("valid proposals", "/ok"),
            ("solve rate of new tasks", "/solve_rate"),
            ("learnable tasks", "/learnable"),
        )
    ):
        line(axis, name, steps, [100 * value for value in curve(logs[one], "propose/", end)], place)
    held_out = sums[one]["curves"]["held-out accuracy"]
    axis.plot(
        [step for step, _ in held_out],
        [100 * share for _, share in held_out],
        "kX-",
        markersize=7,
        linewidth=1,
        label="held-out accuracy",
    )
    with style():
        axis.set_title(f"Patient {one}")
        axis.set(
            ylim=(-3, 103),
            ylabel="%" if one in "AD" else "",
            xlabel="self-play step" if one in "DEF" else "",
        )
with style():
    axes[1].legend(loc="lower left", fontsize=6.5)
show(
    made,
    "Six panels: valid proposals, solve rate of new tasks, learnable tasks and held-out "
    "accuracy of patients A to F over 20 steps",
)

# %% [markdown]
# **What you should see.** C falls apart before your eyes. In A one curve sinks, in F the same curve climbs. In E one curve never leaves zero.
# B and D look well, and D's held-out accuracy rises most of all.
#
# Black crosses are held-out accuracy (three evaluations, 300 problems). *Learnable* means 0 < r̄ < 1.
#
# Curves with shares from 0 to 100 are half of the story. The other half has other units:

# %%
def ends(values):
    """Mean of the first and of the last fifth."""
    part = max(1, len(values) // 5)
    return mean(values[:part]), mean(values[-part:])


print(
    f"{'':3} {'tokens per reply':>16} {'solver reward':>16} {'proposer reward':>16} "
    f"{'form, %':>12}   held-out gain, points"
)
for one in LETTERS:
    cells = [
        ends(curve(logs[one], role, end))
        for role, end in (("solve/", "/tokens"), ("solve/", "/reward"), ("propose/", "/reward"))
    ]
    shown = [f"{a:6.1f} → {b:6.1f}" for a, b in cells[:1]] + [
        f"{a:+.2f} → {b:+.2f}" for a, b in cells[1:]
    ]
    form = "{:.0f} → {:.0f}".format(
        *(100 * end for end in ends(curve(logs[one], "solve/", "/well_formed")))
    )
    gain = sums[one]["gain"]["all"]
    print(
        f"{one:3} {shown[0]:>16} {shown[1]:>16} {shown[2]:>16} {form:>12}   "
        f"{100 * gain['gain']:+5.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]"
    )

# %% [markdown]
# **What you should see.** D's replies get three times as long, A's more than twice. B's solver earns *less* at the end than at the start, although B gains
# 6.7 points on held-out problems; F's solver earns more, although F gains nothing.
#
# Numbers are means over three task types of the first and of the last four steps.
#
# The second sentence is worth a pause. In self-play training reward says little: whoever gets easier tasks earns more.

# %% [markdown]
# ## 2. Read what they wrote
#
# No curve replaces reading. Reward hacks are invisible in means and obvious in three samples. The recorded runs keep 48 replies each.

# %%
kept = {
    one: [
        json.loads(row)
        for row in (patient(one) / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    for one in LETTERS
}


def visit(letter, role, count=3):
    """The last `count` kept replies of a role: step, verdict, reward, length, and the reply."""
    print(f"patient {letter}, role {role}")
    for row in [row for row in kept[letter] if row["role"] == role][-count:]:
        verdict = "ok" if row["verdict"]["ok"] else row["verdict"]["reason"]
        rate = "   -" if row["solve_rate"] is None else f"{row['solve_rate']:.2f}"
        print(
            f"  step {row['step']:2} {row['type']:9} {verdict:14} r̄ {rate}  reward "
            f"{row['reward']:+.2f}  {row['tokens']:3} tokens"
        )
        text = printable(" ⏎ ".join(row["text"].split("\n")))[:150]
        print(textwrap.fill(text, 100, initial_indent="       ", subsequent_indent="       "))


visit("A", "propose")
visit("D", "solve")

# %% [markdown]
# **What you should see.** For each reply: what it is, what the judge said, its reward, and its text (⏎ is a line break). Look at *reward* and ask: for what?
#
# `r̄ -` means that nobody tried to solve the task, for it was not valid.
#
# Now visit the others: change letter and role, and read until something strikes you. (Ten minutes here are well spent.)

# %%
visit("C", "propose")

# %% [markdown]
# ## 3. Audit the rewards
#
# Some bugs need no experience to find, only arithmetic. The log holds the verdict on every reply *and* its reward. The rules are those of
# [notebook 03](03_rewards.ipynb). So compute what each reply was **due**, and compare.
#
# **Exercise 1** (8 minutes, 2 points; difficulty 2 of 5, importance 5 of 5).

# %% tags=["exercise"]
def due(line, zero):
    """What a logged reply earns by the rules.

    line: a dict with "role" ("propose" or "solve"), "solve_rate" (r̄, or None) and "verdict",
    a dict with "ok", "well_formed" and "score".
    zero: "paper" or "upstream", the switch of az.learnability(r̄, zero).
    A proposal: -1 when it is not ok, or when r̄ is None; else the learnability of its r̄.
    An answer: -1 when it is not well formed, -0.5 when its score is 0, else its score.
    verdict = {"ok": True, "well_formed": True, "score": 1.0}
    due({"role": "propose", "solve_rate": 0.25, "verdict": verdict}, "paper") is 0.75
    """
    return ...

check.due(due)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * Two roles, three cases: write the `if`s in the order of the docstring.
# * An answer may have a score between 0 and 1 without being "ok".
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def due(line, zero):
#     verdict, rate = line["verdict"], line["solve_rate"]
#     if line["role"] == "propose":
#         return az.learnability(rate, zero) if verdict["ok"] and rate is not None else -1.0
#     if not verdict["well_formed"]:
#         return -1.0
#     return verdict["score"] if verdict["score"] > 0 else -0.5
# ```
#
# Why: `is not None` tells a rate of 0 from none at all.
# </details>

# %%
due = check.use(due, fallback=course.due)

# %%
print("replies whose reward is not what they were due")
for one in LETTERS:
    wrong = {
        role: [
            row
            for row in kept[one]
            if row["role"] == role and abs(row["reward"] - due(row, "paper")) > 1e-6
        ]
        for role in ("propose", "solve")
    }
    many = {role: sum(row["role"] == role for row in kept[one]) for role in wrong}
    example = next((row for rows in wrong.values() for row in rows[-1:]), None)
    said = (
        ""
        if example is None
        else f"   such as {example['role']}: due {due(example, 'paper'):+.2f}, reward "
        f"{example['reward']:+.2f}"
    )
    print(
        f"  {one}: {len(wrong['propose']):2} of {many['propose']:2} proposals, "
        f"{len(wrong['solve']):2} of {many['solve']:2} answers{said}"
    )

# %% [markdown]
# **What you should see.** Three patients were rewarded exactly as due. In F all proposals and in D all answers were not; in A it is 6 of 13 proposals, so that
# mistake shows with some tasks only. With which?
#
# Keep this in mind when you build something yourself: **log each reward together with the reason for it**. The audit takes a millisecond and has no false alarms.

# %% [markdown]
# ## 4. Your diagnosis
#
# **Exercises 2 to 7** (15 minutes, 1 point each; difficulty 3 of 5, importance 5 of 5). Put a name from the table in section 1 for each letter, in quotes. A wrong name is answered with the evidence
# that speaks against it.

# %% tags=["exercise"]
patient_a = ...
check.patient_a(patient_a)

# %% tags=["exercise"]
patient_b = ...
check.patient_b(patient_b)

# %% tags=["exercise"]
patient_c = ...
check.patient_c(patient_c)

# %% tags=["exercise"]
patient_d = ...
check.patient_d(patient_d)

# %% tags=["exercise"]
patient_e = ...
check.patient_e(patient_e)

# %% tags=["exercise"]
patient_f = ...
check.patient_f(patient_f)

# %% [markdown]
# <details><summary>Hints: how to think</summary>
#
# * Go from sure to unsure. The audit is exact: which three mistakes change somebody's *reward*, and whose?
# * Of the three that were rewarded correctly, one goes downhill, one has a curve that never moves, and one is well.
# * Ask of each mistake: if a policy does more and more of what is rewarded, what happens to r̄?
# </details>
# <details><summary>Solution</summary>
#
# ```python
# patient_a, patient_b = "impossible tasks", "healthy"
# patient_c, patient_d = "sign flip", "length blow-up"
# patient_e, patient_f = "identical answers", "easy tasks"
# ```
#
# Why: the audit names whom D (answers), F and A (proposals) reward wrongly; of the rest C goes
# downhill, E has a curve that never leaves 0, and B is well.
# </details>

# %% [markdown]
# ## 5. The run doctor's word
#
# The same thoughts, written down as checks, are the **[run doctor](glossary.md#run-doctor)**: `azr-lite doctor RUN`. It does the exact checks first (rewards, advantages), then it
# judges curves. It gives its evidence, so that you may disagree.

# %%
for one in LETTERS:
    findings = az.Run(patient(one)).diagnose().findings
    print(f"patient {one}: " + ("nothing found" if not findings else ""))
    for found in findings:
        print(f"   {found.name}")
        for label, words in (("evidence:", found.evidence), ("cure:", found.cure)):
            print(
                textwrap.fill(
                    words, 100, initial_indent=f"      {label:10}", subsequent_indent=" " * 16
                )
            )

# %% [markdown]
# **What you should see.** One patient without findings, five with a name. In C and E a second name follows the first: often one illness brings
# others, and the doctor lists the surest first.
#
# Two lessons from these six:
#
# * **D was the best looking run.** It was rewarded for length, and at this scale length helps: the nano model can think, and seldom does
#   ([notebook 06](06_learn.ipynb)). A reward hack may raise your held-out score today and be the reason for a collapse tomorrow.
# * **E is a plateau, not a collapse.** If every r̄ is 0 or 1, every valid proposal earns 0 and the proposer learns nothing. Flat runs have their reasons:
#   no signal (look at *learnable* and at the spread of rewards), a ceiling (look at held-out by difficulty), or a gain that was elicited once and is used up
#   (the nano model stands still after about 45 steps: [notes](../azr_lite/nano/NOTES.md)).

# %% [markdown]
# ## 6. How often the doctor is right, and where it was blind
#
# How often is it right? It was held against runs with a known label (`data_samples/benchmarks/doctor.json`): the *kept* ones are recorded here, the
# *fresh* ones were made to test it.

# %%
tables = json.loads(recorded("benchmarks/doctor.json").read_text(encoding="utf-8"))["tables"]
print(f"{'':28}" + "".join(f"{source:>7}" for source in tables))
for name in (
    "sick runs",
    "called by the right name",
    "right name first",
    "called by a wrong name only",
    "missed",
    "healthy runs",
    "healthy runs called sick",
):
    print(f"{name:28}" + "".join(f"{counts[name]:7}" for counts in tables.values()))

# %% [markdown]
# **What you should see.** No sick run was missed, no healthy one was called sick.
#
# Honest reading: the thresholds were set on the kept runs; the fresh ones have ten seeds of each illness, all ten steps long; and all are nano runs. An earlier doctor
# missed one illness each time: the **non-determinism leak**. There a program is run once and believed, instead of twice under different conditions. Put its log beside the healthy one's:

# %%
leak, well = sample("bugs/non-determinism-leak"), patient("B")
print(
    "rollouts are the same in both runs, to the byte:",
    (leak / "rollouts.jsonl").read_bytes() == (well / "rollouts.jsonl").read_bytes(),
)
leaking = [
    json.loads(row) for row in (leak / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
]
for one, other in zip(leaking[:3], logs["B"]):
    differing = {name: (one[name], other[name]) for name in one if one[name] != other[name]}
    print(f"step {one['step']}, what differs (leak, healthy): {differing}")

# %% [markdown]
# **What you should see.** The same rollouts, and one number that differs (and one letter is given away, in case you skipped section 4).
#
# The nano language has no operation whose result could differ, so the missing check was never needed: every reward is as it would have been. A larger model would find
# `hash`, `set` order or the clock, and earn by them. A log of rewards cannot show a check that was not made, so ours counts the checks themselves: `validation/worlds` is the
# fewest worlds in which an accepted program was run. It says that a run *could* be fooled, not that it was. For that, **run the accepted programs again**:
# `azr-lite doctor RUN --rerun 50`. We take the one recorded run that kept all its tasks, and smuggle in two proposals as such a run would have kept them.

# %%
with tempfile.TemporaryDirectory() as spare:
    copy = shutil.copytree(whole_run(), pathlib.Path(spare) / "run")
    print("as recorded:", rerun(copy, 40) or "nothing found")
    smuggled = json.loads((copy / "tasks.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    for number, program in enumerate(
        (
            "def f(x):\n    return hash(x)",
            "def f(x):\n    return list({x, 'e', 'fg', 'h', 'ac', 'd'})",
        )
    ):
        made_up = {"id": f"smuggled-{number}", "program": program, "input": "'bb'", "output": "'7'"}
        smuggled["ok"], smuggled["task"] = True, {**smuggled["task"], **made_up}
        with (copy / "tasks.jsonl").open("a", encoding="utf-8") as tasks:
            tasks.write(json.dumps(smuggled) + "\n")
    for found in rerun(copy, 200):
        print(
            textwrap.fill(
                f"with two smuggled in: {found.name} · {found.evidence}",
                100,
                subsequent_indent="   ",
            )
        )

# %% [markdown]
# **What you should see.** Nothing in the recorded run; then "non-determinism leak", 2 programs.
#
# **If you see something else** ("no isolation"): the sandbox refuses to run model-written programs on this system; [notebook 02](02_executor.ipynb)
# says why.

# %% [markdown]
# ## 7. All rewards are −1: what now?
#
# One more patient, and this one is no re-implementer's mistake. SmolLM2, 135 million weights, was asked
# for what a 3B coder can do: a thought, then an answer, in at most 160 tokens
# (`data_samples/runs/smollm2-lora`, LoRA on a CPU). The run did what it was told, step by step, and
# nothing moved.

# %%
smol = recorded("runs/smollm2-lora/metrics.jsonl").read_text(encoding="utf-8").splitlines()
GROUPS = [
    f"{role}/{kind}"
    for role in ("propose", "solve")
    for kind in ("deduction", "abduction", "induction")
]
print("step   gradient   groups without signal   mean reward   failed replies, by reason")
for row in map(json.loads, smol):
    there = [group for group in GROUPS if f"{group}/reward" in row]
    silent = sum(row.get(f"{group}/no_signal") == 1 for group in there)
    reasons = {}
    for key, value in row.items():
        if "/reason/" in key:
            name = key.rpartition("/")[2]
            reasons[name] = reasons.get(name, 0) + int(value)
    reward = mean([row[f"{group}/reward"] for group in there])
    print(
        f"{row['step'] + 1:4} {row['grad_norm']:10.4f} {silent:13} of {len(there)} {reward:17.2f}  "
        f"    {reasons}"
    )

# %%
replies = [
    json.loads(row)
    for row in recorded("runs/smollm2-lora/rollouts.jsonl").read_text(encoding="utf-8").splitlines()
]
for role in ("propose", "solve"):
    for row in [row for row in replies if row["role"] == role][:2]:
        print(f"{role} {row['type']}: {row['verdict']['reason']}, {row['tokens']} tokens")
        print(
            textwrap.fill(
                printable(" ".join(row["text"].split()))[:220],
                100,
                initial_indent="    ",
                subsequent_indent="    ",
            )
        )

# %% [markdown]
# **What you should see.** Every reward is −1. In each group the spread is zero, so
# [TRR++](04_trr.ipynb) gives every reply the advantage 0, and the policy gradient is exactly zero. (The
# small gradient that is left comes from the entropy bonus, a term that keeps replies varied.) No reply was called *wrong*: none could be
# read, so the sandbox had nothing to run. Steps like these are no slow start. Nothing here can ever
# begin to rise, and `no_signal` says so at the first step.
#
# What now? In this order:
#
# 1. **Read three replies.** Cut off, or shapeless? Here: both. The model knows what Python looks like,
#    and not what it was asked for.
# 2. **Give room** (`max_reply_tokens`), if replies are *truncated*.
# 3. **Change the form, not the reward.** A base that cannot find the form cannot be taught by rewards
#    for what is inside it. The style `file` asks a coder model to go on with a Python file, which it can.
# 4. **Take more replies**, so that one success falls into a group: one is enough to give it a spread.
# 5. **Take a larger model.** The same loop with Qwen2.5-Coder-0.5B and the style `file` finds valid
#    proposals from the first step ([notebook 07](07_lora.ipynb), section 5).
#
# What does *not* help is rewarding effort: whatever is rewarded is learned (patient D).

# %% [markdown]
# ## 8. Is it better than before?
#
# A healthy run is not yet a good one. The recorded whole run (14 steps, deduction and abduction, 60 held-out problems each) was evaluated before and after
# on **the same** problems. First the way most tables do it: two scores, two intervals.

# %%
before, after = (
    read_items(whole_run() / "eval" / f"{name}.jsonl") for name in ("before", "step-14")
)
for name, items in (("before", before), ("after", after)):
    right = sum(item.right for item in items)
    low, high = course.wilson(right, len(items))
    print(f"{name:7} {right:3} of {len(items)}: {right / len(items):.1%} [{low:.1%}, {high:.1%}]")

# %% [markdown]
# **What you should see.** The two intervals overlap widely. Is there no gain, then?
#
# The two scores are not independent. Both models met the same problems; most were right both times or wrong both times. In a
# **[paired comparison](glossary.md#paired-comparison)** those cancel, and only what *changed* counts:

# %%
changes = {(was, now): 0 for was in (True, False) for now in (True, False)}
now_right = {(item.type, item.id): item.right for item in after}
for item in before:
    changes[item.right, now_right[item.type, item.id]] += 1
won, lost = changes[False, True], changes[True, False]
print(
    f"right both times {changes[True, True]}, wrong both times {changes[False, False]}, newly "
    f"right (won) {won}, newly wrong (lost) {lost}"
)

# %% [markdown]
# **What you should see.** 30 won, 13 lost.
#
# If training had done nothing, each of the 43 changed problems would have been as likely to be won as lost: 43 throws of a coin. How surprising
# is a split of 30 : 13, or one more uneven, in either direction? That is **[McNemar's test](glossary.md#mcnemars-test)**:
#
# $$p = \min\left(1,\; 2 \sum_{i=0}^{\min(\text{won},\,\text{lost})} \binom{\text{won}+\text{lost}}{i} \Big/ 2^{\text{won}+\text{lost}}\right)$$
#
# **Exercise 8** (6 minutes, 2 points; difficulty 3 of 5, importance 4 of 5).

# %% tags=["exercise"]
def mcnemar(won, lost):
    """The exact two-sided chance of a split at least as uneven as won : lost, were both equally
    likely.

    won, lost: whole numbers, 0 or more.  mcnemar(3, 0) is 0.25; mcnemar(5, 5) is 1.0, and so is
    mcnemar(0, 0)
    """
    return ...

check.mcnemar(mcnemar)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * `math.comb(n, i)` counts the ways to have i heads in n throws (math is imported).
# * Check 3 : 0 by hand: all heads is 1 of 8; all tails is as surprising.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def mcnemar(won, lost):
#     n = won + lost
#     tail = sum(math.comb(n, i) for i in range(min(won, lost) + 1)) / 2**n
#     return min(1.0, 2 * tail)
# ```
#
# Why: the smaller side and everything more uneven, counted in both directions, and never above 1.
# </details>

# %%
mcnemar = check.use(mcnemar, fallback=course.mcnemar)
print(f"p of {won} : {lost} is {mcnemar(won, lost):.4f}")
for name, gain in compare_paired(before, after).items():
    print(
        f"{name:10} {100 * gain['gain']:+5.1f} points [{100 * gain['low']:+5.1f}, "
        f"{100 * gain['high']:+5.1f}]   won {gain['won']:2} lost {gain['lost']:2}   p "
        f"{gain['p']:.4f}"
    )

# %% [markdown]
# **What you should see.** +14.2 points, and the *paired* interval [+3.8, +24.6] does not touch zero; p = 0.0137. By type it is all deduction: +30.0 points, and
# nothing in abduction.
#
# The interval of a paired gain is made from the differences, never from two separate intervals.
#
# Three cautions. A small p says "not luck of the problems"; another *seed* may still differ. Testing ten runs and reporting the best is no test. And a
# significant gain may be small: give points with the interval, not stars.

# %% [markdown]
# ## 9. Can it do more, or does it do it more often?
#
# **[pass@k](glossary.md#passk)** asks whether at least one of k sampled replies is right. pass@1 is what a model *does*; pass@32 is what it *can* do, with luck. A model
# that only learned to use what it had gains much at k = 1 and little at large k.
#
# One makes n replies (n ≥ k), counts the right ones, and asks how often k draws *without putting back* miss all of them:
#
# $$\text{pass@}k = 1 - \binom{n - \text{right}}{k} \Big/ \binom{n}{k}$$
#
# **Exercise 9** (6 minutes, 2 points; difficulty 2 of 5, importance 4 of 5).

# %% tags=["exercise"]
def pass_at_k(n, right, k):
    """Unbiased chance that at least one of k replies, drawn from the n made, is right.

    n: replies made.  right: how many of them are right.  k: replies drawn.
    Raises EvaluationError (it is imported) for k above n: nobody can know that.
    pass_at_k(10, 3, 1) is 0.3; pass_at_k(4, 1, 2) is 0.5
    """
    return ...

check.pass_at_k(pass_at_k)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * `math.comb` gives the binomial coefficient (math is imported), and 0 where there are not enough wrong replies.
# * With large n and k the two numbers are huge; Python's whole numbers do not mind, floats do.
# * `raise EvaluationError("…")` with one clear sentence.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def pass_at_k(n, right, k):
#     if k > n:
#         raise EvaluationError(f"pass@{k} needs {k} replies, and there are {n}")
#     return 1 - math.comb(n - right, k) / math.comb(n, k)
# ```
#
# Why: whole numbers are divided last, so nothing overflows; `comb` is 0 where there are too few
# wrong replies to draw.
# </details>

# %%
pass_at_k = check.use(pass_at_k, fallback=course.pass_at_k)

# %% [markdown]
# Recorded: 200 held-out problems of each type, 32 replies to each at temperature 1, by the nano model before and after 50 steps of self-play
# (`data_samples/benchmarks/nano-passk.json`).

# %% tags=["hide-input"]
counted = json.loads(recorded("benchmarks/nano-passk.json").read_text(encoding="utf-8"))
n, rows = counted["replies"], counted["problems"].values()
KS = (1, 2, 4, 8, 16, 32)


def mean_pass(kind, place, k):
    """Mean over problems of one type ("" for all); place 1: before, 2: after."""
    return float(np.mean([pass_at_k(n, row[place], k) for row in rows if kind in ("", row[0])]))


made, axes = figure(1, 3, (10.5, 3.1))
for axis, kind in zip(axes, ("deduction", "abduction", "induction")):
    for place, (name, dash) in enumerate((("before", (4, 2)), ("after 50 steps", ())), start=1):
        line(
            axis,
            name,
            KS,
            [100 * mean_pass(kind, place, k) for k in KS],
            color=look(kind).colour,
            marker=look(kind).marker,
            linestyle=(0, dash) if dash else "solid",
            markevery=1,
        )
    with style():
        axis.set_xscale("log", base=2)
        axis.set_xticks(KS, KS)
        axis.set(xlabel="k, replies drawn", ylabel="pass@k, %", ylim=(0, 103))
        axis.set_title(
            f"{kind}: {100 * (mean_pass(kind, 2, 1) - mean_pass(kind, 1, 1)):+.0f} at k = 1, "
            f"{100 * (mean_pass(kind, 2, 32) - mean_pass(kind, 1, 32)):+.0f} at 32"
        )
        axis.legend(loc="lower right")
show(
    made,
    "pass@k before and after self-play by task type: a wide gap at k = 1 for deduction and "
    "abduction that nearly closes at k = 32",
)

# %% [markdown]
# **What you should see.** In deduction and abduction a wide gap at k = 1 that nearly closes at k = 32. Given 32 tries, the untrained model solves nearly as
# many problems: 7.5 points fewer in deduction, 1.5 in abduction. Induction hardly differs anywhere.
#
# The curve of one model can only rise with k. One that falls means a wrong formula.
#
# Together with the experiment of [notebook 06](06_learn.ipynb), section 9, the verdict is: mostly elicitation. [Yue et al. 2025](https://arxiv.org/abs/2504.13837)
# saw the same kind of curve in large models that were trained with verified rewards: ahead of their base at small k, caught up or overtaken at large k. Always show both ends.
#
# One more trap: *first* pass@k per problem, *then* the mean. The other way round every problem is taken to be of average difficulty:

# %%
average = np.mean([row[1] / n for row in rows])
for k in (1, 8, 32):
    print(
        f"pass@{k:<2} before: mean over problems {mean_pass('', 1, k):.1%}; from the average "
        f"share {1 - (1 - average) ** k:.1%}"
    )

# %% [markdown]
# **What you should see.** The same at k = 1, and at k = 8 a difference of more than twenty points: 75.5 % is true, 98.1 % is an artefact.

# %% [markdown]
# ## 10. The paper's findings, looked for in a run
#
# The paper reports what changed in its models without being rewarded: replies get longer, most in abduction; programs get more complex; numbered comments
# appear in them as a plan. `azr-lite analyse RUN` measures all this in any run. Here on the whole recorded one:

# %%
found = az.Run(whole_run()).analyse(periods=2)
print(
    f"{'':27}"
    + "".join(f"steps {low}-{high}".rjust(12) for low, high in found.periods)
    + "   what it is"
)
for name, cells in found.measures.items():
    if name.startswith(
        (
            "tokens/",
            "program/statements",
            "program/volume",
            "program/comments",
            "shapes/coverage",
            "answers/",
            "thought/",
        )
    ):
        print(
            f"{name:27}"
            + "".join(("-" if cell is None else f"{cell[0]:.2f}").rjust(12) for cell in cells)
            + f"   {course.MEASURES.get(name, 'tokens of a reply')}"
        )
print(f"replies with alarming words: {found.alarming} of {found.rollouts}")

# %% [markdown]
# **What you should see.** Solving grows more than proposing: answers get 48 % (deduction) and 36 % (abduction) longer, proposals 6 % shorter and 11 % longer. Programs get a
# little longer. No comment and no reflection word: the mini-language has none.
#
# Each number is a mean over few replies. `azr-lite analyse RUN --json` says over how many.
#
# | the paper (3B to 14B models) | here (half a million weights, 14 steps) |
# |---|---|
# | solving grows more in length than proposing | yes |
# | abduction grows most, then induction, then deduction | not seen: here deduction grows more; one short run cannot order them |
# | programs get more complex | a little |
# | comments as a plan | impossible in this language |
# | an "uh-oh moment" in a thought | none; the monitor is crude, and reads every reply |
#
# A finding that does not show is worth as much as one that does. Do not stretch the scale of a figure until it agrees.

# %% [markdown]
# ## 11. Browse, replay, re-score
#
# Three tools for the rest of your life with runs. `tasks` lists proposals, with filters, and opens each one with its answers, its parents and its
# children. Try the verdict *rejected*, then the type *abduction*. It needs no kernel.

# %%
az.Run(whole_run()).tasks()

# %% [markdown]
# **What you should see.** Proposals from the seeds to step 13: programs of one line to five, most of them valid, some rejected ("reserved" are those that
# came too near to held-out problems; of rejected ones you see the whole reply). That programs get a little longer cannot be seen here; it took the means of section 10.
#
# **If you see something else**: a viewer that runs no scripts shows the list without its filters, and GitHub shows no list.
#
# `replay` makes every verdict, reward and advantage of a step again from the texts alone, and holds it against the log. `rescore` asks what the same replies *would* have
# earned under another estimator:

# %%
again = az.Run(whole_run()).replay(13)
print(f"step 13: {again.compared.total():,} values made again, {len(again.differences)} differ")
other = az.Run(whole_run()).rescore(estimator="global")[-1]
print(
    f"one global baseline instead of six: {other.turned:.1%} of the advantages of step {other.step}"
)
print(f"change their sign, correlation {other.correlation:.2f}")

# %% [markdown]
# **What you should see.** Not one value differs. With one global baseline about 4 % of the advantages would push the other way.

# %% [markdown]
# ## What to take along
#
# 1. **Audit before you interpret.** Did each reply get the reward it was due? Do advantages follow rewards? Exact questions first.
# 2. **Read samples.** Three replies beat three curves.
# 3. **Judge by problems that do not move**, pair them, give an interval, and show pass@k at both ends.
# 4. **A tool that found nothing has found nothing.** It did not find health.
#
# **Go on:** run your own disease: `import azr_lite as az`, `from azr_lite.course.bugs import bug`, and
# `with bug("format collapse"): az.run("nano", steps=20, output_dir="runs/sick", self_test=False)`; then show the curves to
# somebody without telling. [Notebook 09](09_scaling.ipynb) goes to sizes where such a mistake costs real money.
