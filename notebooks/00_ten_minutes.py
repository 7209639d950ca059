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
# # 00 · Absolute Zero in ten minutes
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/azr-lite/azr-lite/blob/main/notebooks/00_ten_minutes.ipynb) [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/azr-lite/azr-lite/blob/main/notebooks/00_ten_minutes.ipynb) [![nbviewer](https://img.shields.io/badge/render-nbviewer-orange)](https://nbviewer.org/github/azr-lite/azr-lite/blob/main/notebooks/00_ten_minutes.ipynb)
#
# **You will be able to**
#
# * say what *propose*, *solve* and *verify* mean;
# * run one whole self-play step;
# * tell what your machine can run.
#
# **Before this:** Python; nothing else.
#
# **Budget:** 10 minutes to read (1,960 words); 4 exercises (4 points, about 13 minutes); 6 seconds and 158 MiB on 2 CPU cores; on a GPU: not measured.
#
# **Last verified:** Python 3.11.7, azr-lite 0.2.0, numpy 2.4.6, 2026-12-01.
#
# **Next:** [01 · Task triplets: one program, three task types](01_triplets.ipynb). Words in this course: [glossary](glossary.md).
# <!-- /header -->

# %% tags=["setup", "hide-input"]
# @title Setup: looks for what this notebook needs, and installs what is missing
import importlib.util, pathlib, subprocess, sys
NEEDS = """azr_lite numpy matplotlib"""
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
from collections import Counter

import azr_lite as az
from azr_lite.course import COMPACT, Role, ScriptedPolicy, check, diagram, figures, profile

profile = profile(PROFILE)

# %% [markdown]
# ## The idea
#
# Most models learn to reason from problems that people wrote. Absolute Zero uses none. One language model, called the
# [policy](glossary.md#policy), plays two roles:
#
# * as [proposer](glossary.md#proposer) it **proposes**: it writes a small Python program and an input for it;
# * as [solver](glossary.md#solver) it **solves**: it predicts, for instance, what the program returns.
#
# Nobody has to know the right answer, because a program can be run. The [sandbox](glossary.md#sandbox) runs it and **verifies**:
# first that the proposal makes sense at all, later that an answer is right.
#
# Both roles are rewarded for what they did, and one update trains the one model that played them. Then the next step begins.
#
# A program, an input and the output that belongs to them are a [triplet](glossary.md#triplet). Hide the output, the input or the
# program, and you have three kinds of task. Notebook [01](01_triplets.ipynb) is about them.

# %% [markdown]
# ## The loop
#
# One step has eleven stages. The numbers below are those of the method `SelfPlay.step` in `azr_lite/selfplay.py`: when you
# read the code, keep this picture beside it.

# %% tags=["hide-input"]
figures.show(
    diagram.loop_diagram(),
    alt="The eleven numbered stages of a self-play step: references, propose, validate, solve, "
    "learnability, insert; then solve, judge, rewards, TRR++, update",
)

# %% [markdown]
# **What you should see:** nine boxes in two rows, and two stages (1 and 6) that are arrows to and from the buffers. Follow 1 to 5:
# that is the proposer's half. Follow 7 to 11: that is the solver's half, and where both are trained. Orange and blue boxes are the
# same model in its two roles.
#
# Five words before you go on:
#
# * A **valid** task runs without an error, and twice with the same result (stage 3).
# * **r̄** ("r bar") is the [solve rate](glossary.md#solve-rate): the share of n answers to one task that are right (stage 4).
# * [Learnability](glossary.md#learnability) is what a valid task earns its proposer: 1 − r̄, but 0 where r̄ is exactly 0 or 1 (stage 5).
# * An [advantage](glossary.md#advantage) says how much better a reward is than the usual reward of its group (stage 10). The paper's way to
#   compute it is called [TRR++](glossary.md#trr).
# * **K** is how many old tasks a prompt shows (stage 1).

# %% [markdown]
# ### Exercise 1: put the stages in order (1 point, 3 minutes; difficulty 2 of 5, importance 4 of 5)
#
# Here are the eleven methods of `SelfPlay`, in alphabetical order. Write them as a list of texts in an order that works. Several
# orders do; what counts is that each stage finds what it needs. Try it without looking at the picture.
#
# `advantages`, `insert` (into the buffers), `judge` (the answers that train the solver), `learnability`, `make_batch` (for the update), `monte_carlo`
# (n answers to each new task, judged on the spot), `propose`, `reward` (of both roles), `sample_references`, `solve` (choose, among the answers
# that are there, those that train the solver), `validate` (run each proposal)

# %% tags=["exercise"]
stage_order = ...  # a list such as ["sample_references", "propose", ...] with all eleven names

check.stage_order(stage_order)

# %%
stage_order = check.use(
    stage_order, fallback=[stage.name for stage in diagram.STAGES], name="stage_order"
)
print(" → ".join(stage_order))

# %% [markdown]
# <details><summary>Hint 1</summary>Start from the end. The update needs advantages; what do advantages need?</details>
# <details><summary>Hint 2</summary>`validate` asks the sandbox "is this a task?"; `judge` asks it "is this answer right?". Of which answers?</details>
# <details><summary>Solution</summary>
#
# ```python
# stage_order = ["sample_references", "propose", "validate", "monte_carlo", "learnability", "insert",
#                "solve", "judge", "reward", "advantages", "make_batch"]
# ```
#
# Why: every stage stands behind those whose results it takes. `insert` could come anywhere after
# `validate`.
# </details>

# %% [markdown]
# ### Exercise 2: what would you propose? (1 point, 2 minutes; difficulty 1 of 5, importance 5 of 5)
#
# You are the proposer. Each valid task is tried n = 8 times. How many of the eight answers should be right, so that your task
# earns the most? Write a whole number from 0 to 8.

# %% tags=["exercise"]
most_rewarded = ...  # a whole number from 0 to 8

check.most_rewarded(most_rewarded)

# %%
most_rewarded = check.use(
    most_rewarded,
    fallback=max(range(9), key=lambda right: az.learnability(right / 8)),
    name="most_rewarded",
)
print(
    f"{most_rewarded} of 8 right: r̄ = {most_rewarded / 8}, "
    f"learnability = {az.learnability(most_rewarded / 8)}"
)

# %% [markdown]
# <details><summary>Hint</summary>Write down 1 − r̄ for every number of right answers from 0 to 8. Then cross out the two that earn 0.</details>
# <details><summary>Solution</summary>
#
# ```python
# most_rewarded = 1
# ```
#
# Why: 1 − 1/8 = 0.875 is the largest reward there is; none of eight, which would be harder still,
# earns 0.
# </details>
#
# A good teacher asks what the pupil can *almost never* do. Whether that is the best reward is an open question, and the subject of
# notebook [03](03_rewards.ipynb).

# %% [markdown]
# ## What your machine can do
#
# `azr_lite.doctor()` looks at this machine: cores, memory, a GPU if there is one, how strong the sandbox is, and which settings (presets)
# would fit. In a terminal the same is `azr-lite doctor`.

# %%
az.doctor()

# %% [markdown]
# **What you should see:** at least `nano` among the presets that fit: it is a model of half a million weights that ships with the
# package, and notebook [05](05_build_it.ipynb) trains it on a laptop. Notebooks 00 to 04 train nothing, so it is fine when
# "training" says that libraries are missing.
#
# **If you see something else:** `sandbox WEAK` means that this system cannot lock programs away (macOS, Windows without WSL2). The programs in
# this notebook come from the package, so they are safe to run; notebook [02](02_executor.ipynb) says what to do before a model writes them.

# %% [markdown]
# ## One real step, played slowly
#
# Now you run each stage by hand. Everything is the package's real code, with one exception: the model. A stand-in called `ScriptedPolicy` takes its place.
# It writes programs of a tiny language (one operation per line) and solves tasks by working through them line by line, with a
# chance to slip at each line. **It has no weights and does not learn.** Notebook 05 puts the real model there.
#
# The settings are small, so that a step takes about a second: 8 proposals of each
# task type, 8 answers to each valid task, and 24 answers of each type for the training of the solver.

# %%
settings = az.preset("nano").replace(
    seed=SEED, batch_size=8, solver_batch_size=24, n_mc=8, updates_per_step=1
)
executor = az.Executor(workers=1, allow_weak=True)  # the programs below are the package's own
selfplay = az.SelfPlay(settings, COMPACT, executor)
policy = ScriptedPolicy(SEED)
rounds = selfplay.seed(policy)
print(f"{rounds} rounds of proposals filled the buffers: {selfplay.buffers.sizes()}")

# %% [markdown]
# ### Stages 1 and 2: references, propose
#
# The buffers start from a single task, the identity function, and the policy fills them with its own first proposals. From then on each prompt
# shows a few old tasks as [references](glossary.md#reference), so that new ones differ. Here is one prompt and its reply.

# %%
proposals = selfplay.sample_references(step=0)  # 1
selfplay.propose(proposals, policy)  # 2
print(len(proposals), "prompts. One of them:\n")
print(proposals[1].prompt)
print(proposals[1].completion.text)

# %% [markdown]
# **What you should see:** a prompt with two references, which ends in an opened `<think>`; then a reply that closes it and gives a
# program and an input inside `<answer>`. Nobody has run that program yet.

# %% [markdown]
# ### Stage 3: validate
#
# The sandbox runs each proposal twice, in two different processes. What remains is a task; everything else is a rejection with a reason.

# %%
selfplay.validate(proposals)  # 3
for proposal in proposals[:16]:
    if proposal.task is None:
        print(f"✗ {proposal.type}: {proposal.verdict.reason} ({proposal.verdict.detail[:80]})")
valid = [proposal for proposal in proposals if proposal.task is not None]
print(f"✓ {len(valid)} of {len(proposals)} proposals are valid tasks. One of them:\n")
chosen = max(
    (proposal for proposal in valid if proposal.type == "deduction"),
    key=lambda proposal: len(proposal.task.program),
)
print(f"{chosen.task.program}\n\ninput   {chosen.task.input}\noutput  {chosen.task.output}")

# %% [markdown]
# **What you should see:** most proposals pass, and the output was *computed*: the proposer never said what it is. A rejected proposal earns −1.

# %% [markdown]
# ### Stages 4 and 5: solve n times, learnability
#
# Each valid task is tried eight times by the same policy. For the task above:

# %%
# 4; answers that only stage 7 needs: none here
extra = selfplay.monte_carlo(proposals, policy, step=0)
selfplay.learnability(proposals)  # 5
for attempt in chosen.attempts:
    answer = (
        attempt.completion.text.partition("```output\n")[2].partition("\n```")[0]
        or "(not well formed)"
    )
    print("✓" if attempt.verdict.ok else "✗", answer)
print(f"\nr̄ = {chosen.rate}, so this task earns {az.learnability(chosen.rate)}")

# %% tags=["hide-input"]
made, (axis,) = figures.figure(1, 1, (7.0, 3.0))
eighths, floor = range(settings.n_mc + 1), [0] * (settings.n_mc + 1)
with figures.style():
    for name, hatch in zip(settings.task_types, ("", "///", "..."), strict=True):
        counts = [
            sum(proposal.type == name and proposal.rate == k / settings.n_mc for proposal in valid)
            for k in eighths
        ]
        axis.bar(
            eighths,
            counts,
            bottom=floor,
            label=name,
            color=figures.look(name).colour,
            hatch=hatch,
            edgecolor="white",
        )
        floor = [below + count for below, count in zip(floor, counts, strict=True)]
    axis.set_xticks(eighths, [f"{k}/8\n{az.learnability(k / 8):g}" for k in eighths])
    axis.set_xlabel("solve rate r̄, and below it what such a task earns its proposer")
    axis.set_ylabel("tasks")
    axis.set_title("Most tasks of this step are easy, and earn little or nothing")
    axis.legend()
figures.show(
    made,
    alt="Bars count this step's tasks by solve rate from 0/8 to 8/8; most stand at the right, "
    "where a task earns 0.25 or less",
)

# %% [markdown]
# **What you should see:** bars on the right are high: with short programs the stand-in is mostly right. Read the second row of numbers: the reward *rises* from right to
# left, up to 0.875 at 1/8, and is 0 at both ends.
#
# All tasks at 0/8 or 8/8 would mean that the eight answers to a task are always alike. A model that always picks its
# likeliest word (greedy sampling) does that, and then no task is learnable.

# %% [markdown]
# ### Stage 6: insert
#
# Every valid task enters its buffer, whatever it earned. Twins, the same task in another spelling, stay out.

# %%
before = selfplay.buffers.sizes()
selfplay.insert(proposals, step=0)  # 6
print("before", before, "\nafter ", selfplay.buffers.sizes())

# %% [markdown]
# ### Stages 7 to 9: solve, judge, rewards
#
# Which answers train the solver? The paper asks for new ones; here the answers of stage 4 are used again, since they have been
# computed already. Stage 8 judges what has no verdict yet; these answers have theirs from stage 4.
# The rewards: 1 for a right answer, −0.5 for a wrong one, −1 for a reply without the agreed form, whichever role wrote it.

# %%
answers = selfplay.solve(proposals, extra)  # 7
selfplay.judge(answers)  # 8
rollouts = selfplay.reward(proposals, answers)  # 9
for role in Role:
    found = Counter(rollout.reward for rollout in rollouts if rollout.role == role)
    print(
        f"{role:<8}{found.total()} rewards:  ",
        "   ".join(f"{count} × {reward:g}" for reward, count in sorted(found.items())),
    )

# %% [markdown]
# **What you should see:** 24 rewards of the proposer (8 for each of three task types) and 72 of the solver. The solver's are −1, −0.5 or 1. The proposer's are −1, or between 0 and 0.875.
#
# The text that a policy wrote, its verdict, its reward and later its advantage travel together as one [rollout](glossary.md#rollout).

# %% [markdown]
# ### Exercise 3: which baseline? (1 point, 4 minutes; difficulty 1 of 5, importance 5 of 5)
#
# Is a reward of 0.5 good? For a proposer it is splendid; for a solver it cannot happen. So each reward is compared with the mean of
# its own group, the [baseline](glossary.md#baseline). TRR++ gives every pair of role and task type a group of its own.
#
# Write the function that names a rollout's group. Any names will do, as long as rollouts get the same name exactly when they share a baseline.

# %% tags=["exercise"]
def baseline_group(rollout):
    """The name of the rollout's baseline group.

    rollout.role is "propose" or "solve"; rollout.type is "deduction", "abduction" or "induction".
    (It also has .reward, .task_id, .text and more.) Return a text or a tuple.
    """
    return ...

check.baseline_group(baseline_group)

# %%
baseline_group = check.use(baseline_group, fallback=az.Rollout.group.fget, name="baseline_group")
print(sorted({str(baseline_group(rollout)) for rollout in rollouts}))

# %% [markdown]
# <details><summary>Hint</summary>How many groups should the last line print, with two roles and three types?</details>
# <details><summary>Solution</summary>
#
# ```python
# def baseline_group(rollout):
#     return rollout.role, rollout.type
# ```
#
# Why: two roles times three types make six groups, and a tuple can be a name.
# </details>

# %% [markdown]
# ### Stage 10: TRR++
#
# An advantage is (reward − mean of the group) / standard deviation of the group. Positive: do more of this. Negative: do less.

# %% tags=["hide-input"]
rollouts = selfplay.advantages(rollouts)  # 10
made, axes = figures.figure(1, 2, (8.6, 3.2))
groups = sorted({rollout.group for rollout in rollouts})
with figures.style():
    for axis, what in zip(axes, ("reward", "advantage"), strict=True):
        for place, group in enumerate(groups):
            values = [getattr(rollout, what) for rollout in rollouts if rollout.group == group]
            shown = figures.look(group.partition("/")[2])
            axis.plot(
                values,
                [place] * len(values),
                linestyle="none",
                marker=shown.marker,
                color=shown.colour,
                alpha=0.45,
            )
            axis.plot(
                [sum(values) / len(values)], [place], marker="|", markersize=18, color="black"
            )
        axis.set_yticks(range(6), groups if what == "reward" else [""] * 6)
        axis.set_xlabel(f"{what} (no unit)")
    axes[0].set_xticks([-1, -0.5, 0, 0.5, 1])
    axes[0].set_title("Each group has its own usual reward …")
    axes[1].set_title("… which TRR++ moves to zero")
figures.show(
    made,
    alt="Rewards of six role and type groups have different means, shown as black bars; the "
    "advantages of every group have mean zero",
)

# %% [markdown]
# **What you should see:** on the left six black bars (the means) at different places; on the right all six at 0. Equal rewards lie on
# each other: the darker a point, the more there are.
#
# A group whose points all lie at 0 on the right had equal rewards: nobody in it did better than usual,
# so there is nothing to learn from it.

# %% [markdown]
# ### Exercise 4: how many sequences? (1 point, 4 minutes; difficulty 2 of 5, importance 2 of 5)
#
# The update sees a batch of fixed size, so you can count its sequences before the run starts. A `Config` says how many task types there
# are (`task_types`, a tuple), how many proposals of each type are made (`batch_size`), and how many answers of each type are trained
# (`solver_rows`).

# %% tags=["exercise"]
def sequences_a_step(config):
    """How many sequences one step trains: proposals and answers of all task types. A whole number.

    Example: 3 types, batch_size 2 and solver_rows 5 give 21.
    """
    return ...

check.sequences_a_step(sequences_a_step)

# %%
sequences_a_step = check.use(
    sequences_a_step, fallback=az.Config.rows.fget, name="sequences_a_step"
)
print("here:", sequences_a_step(settings), " in the paper:", sequences_a_step(az.Config()))

# %% [markdown]
# <details><summary>Hint</summary>How many sequences does a single task type bring, counting both roles?</details>
# <details><summary>Solution</summary>
#
# ```python
# def sequences_a_step(config):
#     return len(config.task_types) * (config.batch_size + config.solver_rows)
# ```
#
# Why: each type brings its proposals and its answers; nothing else is trained.
# </details>

# %% [markdown]
# ### Stage 11: hand over to the update
#
# The batch goes to the trainer: each token (a short piece of text) of a sequence is made likelier or less likely by its advantage. With the stand-in there is nothing to
# update, so the step ends here.

# %%
batch = selfplay.make_batch(rollouts, proposals, step=0)  # 11
print(
    f"{len(batch)} sequences in the batch, "
    f"{sum(len(rollout.completion_ids) for rollout in batch)} tokens"
)
best = max(
    (rollout for rollout in batch if rollout.role == Role.SOLVE),
    key=lambda rollout: rollout.advantage,
)
print(
    f"the largest advantage of an answer, {best.advantage:+.2f}, has this one ({best.type}):\n"
    f"<think>{best.text}"
)

# %% [markdown]
# **What you should see:** 24 proposals and 72 answers make 96 sequences. What stands between the think tags is the stand-in's working: the
# program's lines, gone through backwards or forwards.

# %% [markdown]
# ## The whole step on one page
#
# The same objects again, one panel per stage, all about the one task you followed.

# %%
said = [
    attempt.completion.text.partition("```output\n")[2].partition("\n```")[0] or "(no form)"
    for attempt in chosen.attempts
]
answered = [
    f"{'✓' if attempt.verdict.ok else '✗'} {text}" for attempt, text in zip(chosen.attempts, said)
]
proposed = next(r for r in rollouts if r.role == Role.PROPOSE and r.task_id == chosen.task.id)
trained = [r for r in rollouts if r.role == Role.SOLVE and r.task_id == chosen.task.id]

# %% tags=["hide-input"]
panels = [
    "\n\n".join(reference.program for reference in chosen.references),
    f"{chosen.task.program}\n\ninput {chosen.task.input}",
    f"two runs agree\n\ninput   {chosen.task.input}\noutput  {chosen.task.output}\n\n✓ valid",
    "\n".join(answered),
    f"r̄ = {chosen.rate}\n\nearns {az.learnability(chosen.rate)}",
    "\n".join(
        f"{name:<10}{before[name]:>3} → {count:>3}"
        for name, count in selfplay.buffers.sizes().items()
    ),
    f"{len(trained)} of these {len(chosen.attempts)} answers\nbecome training data",
    "\n".join("right" if r.verdict.ok else "wrong" for r in trained),
    f"proposer {proposed.reward:+.3f}\n" + "\n".join(f"solver   {r.reward:+.3f}" for r in trained),
    f"proposer {proposed.advantage:+.2f}\n"
    + "\n".join(f"solver   {r.advantage:+.2f}" for r in trained),
    f"{len(batch)} sequences of\n{len({r.group for r in rollouts})} groups make one\nupdate "
    "(none for\nthe stand-in)",
]
figures.show(
    diagram.strip(panels),
    alt="Eleven panels show what each stage made of one task: references, a proposal, its "
    "output, eight answers, learnability, buffers, rewards and advantages",
)

# %% [markdown]
# **What you should see:** eleven panels, numbered as in the diagram, about the task that you followed since stage 3. Compare panels 4 and 5: count the
# ticks, divide by eight. Compare 9 and 10: the sign of each advantage says whether the reward was above the mean of its group.

# %% [markdown]
# ## The same in one call
#
# `SelfPlay.step` is these eleven calls in this order. Everything random hangs on the seed and the step's number, so that playing the step
# again makes exactly the same rollouts.

# %%
again = az.SelfPlay(settings, COMPACT, executor)
twin = ScriptedPolicy(SEED)
again.seed(twin)
assert again.step(twin, step=0) == batch
print("the same", len(batch), "rollouts, down to the last token")

# %% [markdown]
# And does it get better? Play on and see.

# %% tags=["long", "hide-input"]
steps = STEPS or {"ci": 3, "cpu": 12, "gpu": 12}[profile]
shares = []
for step in range(1, steps + 1):
    scores = [
        rollout.verdict.score for rollout in again.step(twin, step) if rollout.role == Role.SOLVE
    ]
    shares.append(100 * sum(scores) / len(scores))
made, (axis,) = figures.figure(1, 1, (6.0, 2.6))
with figures.style():
    figures.line(axis, "solve", list(range(1, steps + 1)), shares)
    axis.set_ylim(0, 100)
    axis.set_xlabel("self-play step")
    axis.set_ylabel("right answers, %")
    axis.set_title("The stand-in does not learn: its success only wobbles")
figures.show(
    made,
    alt="The share of right answers of the stand-in goes up and down from step to step without "
    "a trend",
)

# %%
executor.close()  # ends the sandbox's processes

# %% [markdown]
# **What you should see:** a line without a trend. 72 answers per step to some twenty tasks are few, so it wobbles by several points.
#
# ## What to take along
#
# * **Propose, solve, verify:** one model writes tasks and solves them; a sandbox runs programs and knows the truth.
# * A task is worth the most when it is solved rarely, and nothing when it is solved always or never.
# * Every role and task type is compared with itself: six baselines.
# * In a real run no task is written by a person, apart from the identity function that the buffers start from.
#
# Next: [01 · Task triplets](01_triplets.ipynb), where one program becomes three tasks.
