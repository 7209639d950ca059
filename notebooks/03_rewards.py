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
# # 03 · Rewards: who is a good teacher?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/azr-lite/azr-lite/blob/main/notebooks/03_rewards.ipynb) [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/azr-lite/azr-lite/blob/main/notebooks/03_rewards.ipynb) [![nbviewer](https://img.shields.io/badge/render-nbviewer-orange)](https://nbviewer.org/github/azr-lite/azr-lite/blob/main/notebooks/03_rewards.ipynb)
#
# **You will be able to**
#
# * compute learnability;
# * add the format ladder;
# * foresee reward hacks.
#
# **Before this:** notebook 01.
#
# **Budget:** 14 minutes to read (2,716 words); 5 exercises (10 points, about 27 minutes); 3 seconds and 149 MiB on 2 CPU cores; on a GPU: not measured.
#
# **Last verified:** Python 3.11.7, azr-lite 0.2.0, numpy 2.4.6, 2026-12-01.
#
# **Next:** [04 · TRR++: six baselines instead of one](04_trr.ipynb). Words in this course: [glossary](glossary.md).
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
import json
from math import comb

import numpy as np

import azr_lite as az
from azr_lite import course
from azr_lite.course import Reward, check, profile, recorded, widgets
from azr_lite.course.figures import figure, line, look, show, style

profile = profile(PROFILE)

# %% [markdown]
# ## 1. A teacher must be rewarded, too
#
# In Absolute Zero one model sits in two seats. As **[solver](glossary.md#solver)** it answers tasks. As
# **[proposer](glossary.md#proposer)** it invents them.
# The solver's reward is plain: right or wrong. But what makes a *task* good?
#
# A task that the solver always gets right teaches nothing. A task that it never gets right teaches nothing either: every reply earns the
# same, so nothing says which reply was better. What teaches is the task in between, and how far in between is this notebook's question.
#
# A word first. A **reward** is the number that one reply earns. This notebook ends with rewards; notebook
# [04](04_trr.ipynb) turns them into the push on the weights.

# %% [markdown]
# ## 2. Measure the task: the solve rate
#
# Nobody knows how hard a task is before it is tried. So each valid proposal is given to the solver n times (n = 8 in the paper; at
# *temperature 1*, by the model's own probabilities), and the mean score is its **[solve rate](glossary.md#solve-rate)** r̄ (say "r bar"). Because the replies are random draws,
# the paper calls them [Monte-Carlo](glossary.md#monte-carlo-replies) replies.
#
# A score is 1 for right and 0 for wrong. [Induction](glossary.md#induction) (write a program that turns inputs into outputs) may be scored by
# fraction: a program that is right on 3 of 5 hidden pairs gets 0.6.
#
# **Exercise 1** (3 minutes, 1 point; difficulty 1 of 5, importance 4 of 5). Write `solve_rate`. It must refuse fewer than two scores; section 4 shows why.

# %% tags=["exercise"]
def solve_rate(scores):
    """Mean success of the replies to one task.

    scores: list of floats in [0, 1], one per reply.  Returns: a float.
    Raises ValueError for fewer than two scores.
    solve_rate([1.0, 0.0, 0.0, 0.0]) is 0.25
    """
    return ...

check.solve_rate(solve_rate)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * What should happen with one score, and with none? Do that first.
# * A score of 0.5 is half a success. Does your function treat it so?
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def solve_rate(scores):
#     if len(scores) < 2:
#         raise ValueError("a solve rate needs at least two replies")
#     return sum(scores) / len(scores)
# ```
#
# Why: the refusal comes first, so nobody can go on with the rate of a single reply.
# </details>

# %%
solve_rate = check.use(solve_rate, fallback=course.solve_rate)
print("2 of 8 right:", solve_rate([1.0] * 2 + [0.0] * 6))

# %% [markdown]
# ## 3. The proposer's reward: learnability
#
# In the paper a valid task earns
#
# * **0** when r̄ is 0 or 1: nothing to learn;
# * **1 − r̄** otherwise: the harder, the better, as long as it is sometimes solved.
#
# This is the task's **[learnability](glossary.md#learnability)**. Your function is saved in `my_work.py` and will reward the proposer in
# [notebook 05](05_build_it.ipynb).
#
# **Exercise 2** (3 minutes, 2 points; difficulty 1 of 5, importance 5 of 5). Write it. Before you do, say aloud what a task earns that 1 of 8 replies solved, and one that 7 of 8
# solved.

# %% tags=["exercise"]
def learnability(rate):
    """What a valid task earns whose mean success is `rate`, by the paper's rule.

    rate: float in [0, 1].  Returns: a float.
    learnability(0.25) is 0.75, learnability(1.0) is 0.0
    """
    return ...

check.learnability(learnability)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * Draw the curve on paper first. It jumps at one end only: at which?
# * The rate is a mean of n scores. Comparing it with 0.0 and 1.0 exactly is safe here: a sum of zeros is exactly 0, and n ones divided by n
#   are exactly 1.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def learnability(rate):
#     return 0.0 if rate in (0, 1) else 1 - rate
# ```
#
# Why: both ends teach nothing; between them the harder task earns more.
# </details>

# %%
learnability = check.use(learnability, fallback=az.learnability)

# %% [markdown]
# ### Three rules side by side
#
# Other rules are possible. Two are worth knowing:
#
# * **upstream**: the authors' published code gives −0.5, not 0, at both ends. Paper and code disagree; `azr_lite` follows the paper, and
#   `zero_learnability="upstream"` switches.
# * **4r̄(1 − r̄)**: highest for tasks solved half of the time. It is a common choice elsewhere, since the solver's rewards then vary most.
#
# Each bar is what a task earns for a number of right replies out of 8; the coloured bar is the one in the title. In a live
# notebook you can choose both.

# %% tags=["hide-input"]
RULES = {
    "paper": learnability,
    "upstream": lambda rate: az.learnability(rate, "upstream"),
    "4r̄(1 − r̄)": lambda rate: 4 * rate * (1 - rate),
}


def draw(axis, rule, right):
    rewards = [RULES[rule](k / 8) for k in range(9)]
    colours = [look("propose").colour if k == right else "#CCCCCC" for k in range(9)]
    axis.bar(range(9), rewards, color=colours)
    axis.axhline(0, color="#6E6E6E", linewidth=0.8)
    axis.set_ylim(-0.6, 1.05)
    axis.set_xticks(range(9))
    axis.set_xlabel("right replies of 8")
    axis.set_ylabel("the task earns (reward)")
    axis.set_title(f"{rule}: {right} of 8 earns {rewards[right]:g}")


grid = [
    {"rule": "paper", "right": 1},
    {"rule": "upstream", "right": 0},
    {"rule": "4r̄(1 − r̄)", "right": 4},
]
alt = (
    "Three bar charts of a task's reward against right replies of 8: the paper's falls from 7/8, "
    "upstream's adds -0.5 at both ends, 4r(1-r) peaks in the middle"
)
widgets.explore(draw, alt, grid, rule=list(RULES), right=list(range(9)))

# %% [markdown]
# **What you should see.** The paper's bars start at 0, jump to 7/8 at one right reply, and fall in a straight line. Upstream's are the same
# but for −0.5 at 0 and at 8. The third is a symmetric hill.
#
# *Think about it.* Under the paper's rule the task that earns most sits right beside one that earns least: 1 of 8 earns 7/8, 0 of 8 earns nothing.
# A proposer that is asked to go for the hardest solvable task lives at the edge of a cliff. Section 4 shows what chance does at that edge.

# %% [markdown]
# ## 4. Why one reply is no reply
#
# r̄ is an *estimate*. Let the true chance that a reply solves the task be p. Measure with n replies; the number of right ones is a coin
# tossed n times. Let us toss: 20,000 tasks, all with p = 0.25 (so the rule *means* to give 0.75).

# %%
rng = np.random.default_rng(SEED)
TASKS = 2_000 if profile == "ci" else 20_000


def earned(p, n):
    """What TASKS tasks of true difficulty p earn, each measured anew with n replies."""
    rates = (rng.random((TASKS, n)) < p).mean(axis=1)
    return np.array([learnability(rate) for rate in rates])


for n in (1, 2, 4, 8, 64):
    rewards = earned(0.25, n)
    half = 1.96 * rewards.std() / TASKS**0.5
    print(
        f"n = {n:2}: mean reward {rewards.mean():.3f} ± {half:.3f}, one task's reward varies by "
        f"{rewards.std():.3f}"
    )

# %% [markdown]
# **What you should see.** With n = 1 the mean reward is exactly 0. With n = 2 it is near 0.19, with n = 8 near 0.65, with n = 64 near 0.75, the
# reward that was meant. (± is a 95 % interval of the simulation. "Varies by" is the standard deviation of one task's reward.)
#
# So n = 1 does not make the signal *noisy*. It removes it: every task in the world earns 0, easy or hard. A re-implementation that saves
# time with n = 1 has a proposer that never learns, and no error message.

# %% [markdown]
# ### The exact answer
#
# No simulation is needed. Each reply is right with chance p, independently. Then the mean reward over all possible outcomes has a closed form,
# one short line of Python.
#
# **Exercise 3** (8 minutes, 2 points; difficulty 4 of 5, importance 3 of 5). Find it. Pen and paper help.

# %% tags=["exercise"]
def expected_learnability(p, n):
    """Mean reward, by the paper's rule, of a task that each of n independent replies solves with
    chance p.

    p: float in [0, 1]; n: int, at least 1.  Returns: a float, exact (no random numbers).
    expected_learnability(0.5, 2) is 0.25
    """
    return ...

check.expected_learnability(expected_learnability)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * First forget the two ends. If the reward were 1 − r̄ *always*, what would its mean be? (The mean of r̄ is p.)
# * Now put the ends back. At r̄ = 1, how much does the paper's rule differ from 1 − r̄? And at r̄ = 0?
# * How likely is the outcome where they differ? Subtract its chance times the difference.
# * Check by hand: n = 2, p = ½ has four equally likely outcomes, which earn 0, ½, ½, 0.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def expected_learnability(p, n):
#     return (1 - p) - (1 - p) ** n
# ```
#
# Why: 1 − r̄ has the mean 1 − p. Only the outcome "none of n right" differs: it earns 0
# where 1 − r̄ says 1. Its chance is (1 − p)ⁿ.
# </details>

# %%
expected_learnability = check.use(expected_learnability, fallback=course.expected_learnability)

# %% tags=["hide-input"]
def spread(p, n):
    """Standard deviation of one task's reward; exact."""
    chances = [comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    rewards = [learnability(k / n) for k in range(n + 1)]
    mean = sum(c * v for c, v in zip(chances, rewards))
    return sum(c * (v - mean) ** 2 for c, v in zip(chances, rewards)) ** 0.5


made, (left, right) = figure(1, 2, (9.2, 3.6))
ps = np.linspace(0.0, 1.0, 101)
for place, n in enumerate((1, 2, 4, 8, 64)):
    line(left, f"n = {n}", ps, [expected_learnability(p, n) for p in ps], place)
    line(right, f"n = {n}", ps, [spread(p, n) for p in ps], place)
dots = np.arange(0.1, 1.0, 0.2)
left.plot(dots, [earned(p, 8).mean() for p in dots], "k+", markersize=10, label="simulated, n = 8")
left.plot(ps, 1 - ps, color="#BBBBBB", linewidth=1, label="meant: 1 − p")
with style():
    left.set(
        title="With few replies hard tasks earn too little",
        xlabel="p, true chance to solve",
        ylabel="mean reward",
    )
    right.set(
        title="... and each reward is a lottery",
        xlabel="p, true chance to solve",
        ylabel="standard deviation of the reward",
    )
    left.legend()
show(
    made,
    "Mean reward and its spread against the true chance p for n from 1 to 64: at n = 1 both are "
    "zero, and the mean approaches 1 - p as n grows",
)

# %% [markdown]
# **What you should see.** Left: the line of n = 1 lies on the axis. Each larger n follows the grey line 1 − p further to the left, then
# drops to 0. The black crosses (simulated) lie on the line of n = 8. Right: from n = 4 on the lottery is worst for hard tasks, and with n = 8 a task
# with p = 0.1 may still earn anything between 0 and 7/8.
#
# Two things to take away:
#
# * With n = 2 the mean reward is p(1 − p), a quarter of the third rule above. The rule on paper is "1 − r̄"; the rule the proposer *feels*
#   depends on n.
# * The difficulty that earns most is where the curve peaks. Let us see where that is.

# %%
fine = np.linspace(0.0, 1.0, 10_001)
for n in (2, 4, 6, 8, 16, 64):
    curve = np.array([expected_learnability(p, n) for p in fine])
    print(f"n = {n:2}: p = {fine[curve.argmax()]:.2f} earns most, mean reward {curve.max():.2f}")

# %% [markdown]
# **What you should see.** The difficulty that earns most moves from p = 0.50 (n = 2) to p = 0.26 (n = 8) and p = 0.06 (n = 64). So n (`n_mc` in the configuration) is not only a
# matter of noise and cost: it sets how hard the tasks are that the proposer is drawn to.

# %% [markdown]
# ### Greedy copies
#
# A second way to lose the signal: take n = 8 replies, but decode greedily (temperature 0), or share one random seed. Then all eight are
# *the same reply*.

# %%
one = rng.random((TASKS, 1)) < 0.25
copies = np.repeat(one, 8, axis=1)
rewards = [learnability(rate) for rate in copies.mean(axis=1)]
print(
    f"eight equal replies, p = 0.25: mean reward {np.mean(rewards):.3f}, different rewards seen: "
    f"{np.unique(rewards).tolist()}"
)

sick = json.loads(recorded("runs/bugs/symptoms.json").read_text(encoding="utf-8"))["runs"]
for name in ("healthy", "greedy Monte-Carlo"):
    print(
        f"{name:20} learnable tasks {sick[name]['learnable']['last']:.0%}, held-out accuracy "
        f"{100 * sick[name]['held-out gain']:+.1f} points"
    )

# %% [markdown]
# **What you should see.** The mean reward is 0 again: eight copies are one reply. Below it, two *recorded* runs of the [nano model](glossary.md#nano-model) (20 steps, one seed,
# `data_samples/runs/bugs/symptoms.json`). A task is *learnable* when 0 < r̄ < 1. In the last fifth of the healthy run 55 % of the valid tasks are; in
# the run with this bug, 0 %.
#
# Read the gains with care. They are +6.7 and −2.0 points on 300 problems, with 95 % intervals of about ±5 points each, and one seed. They
# do not show that the run with the bug learned anything, nor measure by how much the bug hurts.

# %% [markdown]
# ## 5. The format ladder
#
# Before a reply can be right or wrong it must be readable: think tags, then an answer. The paper's reward is a ladder with three rungs.
#
# | the reply | solver | proposer |
# |---|---|---|
# | not well formed | −1 | −1 |
# | well formed, but not valid | (does not arise) | −1 |
# | well formed, wrong answer | −0.5 | (does not arise) |
# | well formed, and right (solver) or valid (proposer) | score (1, or a fraction) | learnability |
#
# *[Well formed](glossary.md#well-formed)* speaks of the text. *Valid* speaks of the task: its program runs, twice, to the same literal value
# (notebooks [01](01_triplets.ipynb) and [02](02_executor.ipynb)).
#
# The package hands over what parser and executor found as a `Verdict`, and the reward as a `Reward` that keeps its parts, so that plots never
# recompute them:

# %%
for verdict in (
    az.Verdict(ok=True, well_formed=True, score=1.0),
    # 3 of 5 hidden pairs, where scoring is by fraction
    az.Verdict(ok=False, well_formed=True, score=0.6),
    az.Verdict(ok=False, well_formed=True, score=0.0),
    az.Verdict(ok=False, well_formed=False),
):
    print(verdict)
print(Reward(-1.0, {"form": -1.0}))

# %% [markdown]
# **Exercise 4** (5 minutes, 2 points; difficulty 2 of 5, importance 5 of 5). Write the solver's column. Any score above 0 is itself the reward; a score of 0 is a wrong answer.

# %% tags=["exercise"]
def answer_reward(verdict):
    """The solver's reward for one reply.

    verdict: a Verdict with .well_formed (bool) and .score (float in [0, 1]).
    Returns: Reward(total, parts); parts is {"form": total} for a reply that is not well formed,
    {"accuracy": total} for all others.
    answer_reward(az.Verdict(ok=False, well_formed=False)) is Reward(-1.0, {"form": -1.0})
    """
    return ...

check.answer_reward(answer_reward)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * Climb the ladder from its lowest rung. Each rung is one `if` with one `return`.
# * `ok` means *fully* right. What should 0.6 earn?
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def answer_reward(verdict):
#     if not verdict.well_formed:
#         return Reward(-1.0, {"form": -1.0})
#     total = verdict.score if verdict.score > 0 else -0.5
#     return Reward(total, {"accuracy": total})
# ```
#
# Why: one `if` per rung, from the lowest up; `score` and not `ok` decides, so that fractions are
# rewarded.
# </details>

# %%
answer_reward = check.use(answer_reward, fallback=az.answer_reward)

# %% [markdown]
# ### The ladder upside down
#
# Suppose someone gives 0 for a reply without form ("nothing to judge") and −1 for a wrong answer ("wrong is bad"). It reads like common
# sense. Take a solver that is right with chance q whenever it answers, and ask what earns more: answering in good form, or giving up the form?

# %% tags=["hide-input"]
q = np.linspace(0, 1, 51)
ladders = {"the paper's ladder": (-1.0, -0.5), "upside down": (0.0, -1.0)}
made, axes = figure(1, 2, (8.6, 3.2))
for axis, (name, (shapeless, wrong)) in zip(axes, ladders.items()):
    answering = q * 1.0 + (1 - q) * wrong
    line(axis, "answer in good form", q, answering, 0)
    line(axis, "give up the form", q, np.full_like(q, shapeless), 1)
    silent = answering <= shapeless
    axis.fill_between(q, -1.1, 1.1, where=silent, color="#D55E00", alpha=0.12)
    with style():
        axis.legend(loc="upper left")
        axis.set_title(
            f"{name}: "
            + ("silence earns more at low skill" if silent.any() else "answering always earns more")
        )
    axis.set(xlabel="q, chance to be right", ylabel="mean reward", ylim=(-1.1, 1.1))
show(
    made,
    "Mean reward of answering against the chance to be right: above giving up everywhere on the "
    "paper's ladder, below it for chances under one half upside down",
)

# %% [markdown]
# **What you should see.** Left: the blue line is above the other everywhere, so good form earns more even for a solver that knows nothing.
# Right: in the shaded part, below q = ½, silence earns more.
#
# The trap is a spiral: hard tasks push the solver out of the form; replies without form are never judged right; the tasks look harder still.
#
# Does it happen in practice? Here is the recorded run with this ladder:

# %%
for name in ("healthy", "format collapse"):
    form = sick[name]["well formed"]
    print(f"{name:16} well formed: {form['first']:.3f} -> {form['last']:.3f}")

# %% [markdown]
# **What you should see.** 1.000 → 0.998 for both: *no collapse at all*, although the ladder is wrong.
#
# That is worth a pause. In the first steps every reply of the nano model had good form. A [policy](glossary.md#policy) can only be drawn to what it sometimes does: with no
# reply without form, nothing rewards dropping it. A model that breaks the form now and then, on hard tasks and for longer, is another matter.
# A bug without a symptom is still a bug; only reading the code finds this one.

# %% [markdown]
# ## 6. A museum of reward hacks
#
# A policy maximises what you *reward*, not what you *mean*. These recorded runs each have one line of the reward changed
# (`azr_lite/course/bugs.py`; nano model, 20 steps, seed 0). Before you go on, write down for each what you expect to happen to the
# solve rate of the proposed tasks:
#
# | name | the proposer earns | your forecast |
# |---|---|---|
# | healthy | 1 − r̄, 0 at the ends | |
# | trivial tasks | r̄ | |
# | impossible tasks | 1 − r̄, also at r̄ = 0 | |
# | length blow-up | as healthy; the *solver* gets 0.02 extra for each token | |

# %% tags=["hide-input"]
ZOO = ("healthy", "trivial tasks", "impossible tasks", "length blow-up")
PLATES = {
    "tasks' solve rate": "solve rate of proposed tasks (share)",
    "learnable": "learnable tasks (share)",
    "reply tokens": "length of answers (tokens)",
}
made, axes = figure(1, 3, (10.0, 2.9))
for axis, (plate, label) in zip(axes, PLATES.items()):
    for row, name in enumerate(reversed(ZOO)):
        first, last = sick[name][plate]["first"], sick[name][plate]["last"]
        colour = look("", len(ZOO) - 1 - row).colour
        axis.annotate(
            "",
            (last, row),
            (first, row),
            arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 2.2},
        )
        axis.plot([first, last], [row, row], "o", markersize=3, color=colour)
    axis.set_yticks(range(len(ZOO)), reversed(ZOO) if axis is axes[0] else [""] * len(ZOO))
    axis.set_ylim(-0.5, len(ZOO) - 0.5)
    axis.set_xlabel(label)
with style():
    axes[0].set_title("Tasks become what is rewarded")
    axes[1].set_title("Honest rewards: more tasks teach")
    axes[2].set_title("Rewarded tokens are written")
show(
    made,
    "Arrows from the first to the last fifth of four runs: trivial tasks end at solve rate "
    "0.87, impossible ones at 0.25, rewarded tokens make answers of 51 tokens",
)

# %% [markdown]
# **What you should see.** Arrows go from the first fifth of a run to its last. *Trivial tasks* moves right (solve rate 0.76 → 0.87) and its share of
# learnable tasks is halved. *Impossible tasks* goes left (0.71 → 0.25). *Length blow-up* writes 15 → 51 tokens.
#
# Numbers of one seed. With another seed the directions should stay and the sizes change.
#
# Now the curve that would have fooled you. The proposer's own reward:

# %% tags=["hide-input"]
def curve(folder, ending):
    """Mean over task types, step by step, of a proposer's number in a recorded run."""
    lines = recorded(f"runs/bugs/{folder}/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [
        {
            k: v
            for k, v in json.loads(text).items()
            if k.startswith("propose/") and k.endswith(ending)
        }
        for text in lines
    ]
    return [sum(row.values()) / len(row) for row in rows]


made, axes = figure(1, 2, (8.6, 3.2))
for place, folder in enumerate(("healthy", "trivial-tasks", "impossible-tasks")):
    for axis, ending in zip(axes, ("/reward", "/learnable")):
        values = curve(folder, ending)
        line(axis, folder.replace("-", " "), range(len(values)), values, place)
with style():
    axes[0].set(
        title="Earned: both hacks look like success", xlabel="step", ylabel="proposer's mean reward"
    )
    axes[1].set(
        title="Taught: neither beats honest rewards",
        xlabel="step",
        ylabel="learnable tasks (share)",
        ylim=(0, 1),
    )
    axes[0].legend()
for axis in axes:
    axis.set_xticks(range(0, 20, 5))
show(
    made,
    "Proposer reward and share of learnable tasks over 20 steps: both hacked runs earn far "
    "more than the healthy one and have fewer learnable tasks at the end",
)

# %% [markdown]
# **What you should see.** Left: both hacked runs *earn* far more than the healthy one, and their rewards climb. Right: at the end the healthy run has
# the largest share of learnable tasks.
#
# The reward scales of the three runs are not the same (that is the point), so compare slopes on the left, not heights.
#
# Rule for life: **never judge a self-play run by its own reward.** Look at what the reward was meant to stand for, measured apart: the share of
# learnable tasks, and held-out accuracy.

# %%
for name in ZOO:
    print(f"{name:18} held-out accuracy {100 * sick[name]['held-out gain']:+5.1f} points")

# %% [markdown]
# **What you should see.** Healthy +6.7; trivial −4.3; impossible −0.3; and *length blow-up* **+23.7**, the best of all. (300 problems, one seed;
# the 95 % intervals are about ±5 points, ±6 for the last.)
#
# A bug that helps? The nano model can think step by step and at first hardly does; thinking is what its held-out problems need
# (`azr_lite/nano/NOTES.md`). A bonus for tokens rewards thinking by accident. The same bonus goes on rewarding tokens when they no longer
# help. An accidental gain is no argument for a reward; it is a hint about what the model lacked.

# %% [markdown]
# ## 7. A bug hunt
#
# Here is a function from a fictional pull request. It rewards a *proposal*: `scores` holds the scores of its Monte-Carlo replies.
# (An invalid task gets no replies, so its list may be empty.) It runs, its numbers look plausible, and it holds **four** bugs. You met
# the idea of each above.

# %%
def sick_reward(verdict, scores):
    """What one proposal earns. Holds four bugs."""
    if not verdict.well_formed:
        return -0.5
    rate = sum(scores) / 8
    if rate == 1.0:
        return 0.0
    return 1.0 - rate

valid, invalid = az.Verdict(ok=True, well_formed=True), az.Verdict(ok=False, well_formed=True)
print("valid, 2 of 8 right:        ", sick_reward(valid, [1.0] * 2 + [0.0] * 6))
print("valid, all 6 of 6 right:    ", sick_reward(valid, [1.0] * 6))
print("its program raises an error:", sick_reward(invalid, [0.0] * 8))

# %% [markdown]
# **What you should see.** The first line is as it should be (0.75). The second gives a trivial task 0.25. The third gives 1.0, the highest
# reward there is, to a program that does not even run.
#
# **Exercise 5** (8 minutes, 3 points; difficulty 3 of 5, importance 4 of 5). Copy the body into the cell below and mend all four. The check names a bug when it is the only one left.

# %% tags=["exercise"]
def proposer_reward(verdict, scores):
    """What one proposal earns: the proposer's column of the ladder, then learnability of the solve
    rate.

    verdict: a Verdict; .ok says valid, .well_formed says readable.
    scores: list of floats, at least two where the proposal is valid; maybe empty where it is not.
    Returns: a float.
    proposer_reward(az.Verdict(ok=True, well_formed=True), [1.0, 0.0, 0.0, 0.0]) is 0.75
    """
    return ...

check.proposer_reward(proposer_reward)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * Read the table of section 5 beside the code, row by row, in the proposer's column. Two bugs are in the first two lines.
# * The nano preset takes 6 replies, the paper 8.
# * What does the last line return for r̄ = 0?
# * You may use `solve_rate` and `learnability` from above: shorter code has fewer places to be wrong.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def proposer_reward(verdict, scores):
#     if not verdict.ok:
#         return -1.0
#     return learnability(solve_rate(scores))
# ```
#
# Why: `ok` covers form and validity at once, and functions that were checked before bring their
# corner cases along.
# </details>

# %%
proposer_reward = check.use(proposer_reward, fallback=course.proposer_reward)
for text, verdict, scores in (
    ("valid, 2 of 8 right", valid, [1.0] * 2 + [0.0] * 6),
    ("valid, all 6 of 6 right", valid, [1.0] * 6),
    ("valid, never solved", valid, [0.0] * 8),
    ("its program raises an error", invalid, [0.0] * 8),
):
    print(
        f"{text:28} sick {sick_reward(verdict, scores):+.2f}   mended "
        f"{proposer_reward(verdict, scores):+.2f}"
    )

# %% [markdown]
# **What you should see.** The first row agrees; the other three differ. Read down the sick column: the two worst proposals earn most.
# A proposer trained on it would learn to write programs that crash.

# %% [markdown]
# ## 8. What to remember
#
# * A task's reward is 1 − r̄, and 0 where r̄ is 0 or 1. r̄ is measured: with one reply, or with copies of one, the reward is 0 for every task.
# * The mean reward is (1 − p) − (1 − p)ⁿ: n decides which difficulty earns most.
# * The ladder −1, −0.5, score keeps good form worthwhile at any skill. Upside down it rewards silence; that it did no harm in one short run
#   proves nothing.
# * Reward climbs in a hacked run. Judge by what the reward stands for.
#
# **Discuss.**
#
# 1. Upstream gives −0.5 for a valid task that nobody solved, as much as the solver gets for a wrong answer. What might be the thought? What would
#    it do to a proposer at the cliff of section 3? (Two recorded ablations with seeds 200 and 201 are in `data_samples/runs/ablations`; on nano the
#    gains were 26.8 points with −0.5 and 23.4 with 0, with intervals that overlap widely.)
# 2. The Monte-Carlo replies come from the *same* model that proposed. What if it solved its own tasks worse on purpose? Who would bear the cost?
# 3. You can afford 64 replies per step. Would you take 8 tasks × 8 replies, or 32 × 2?
#
# Next: two roles times three task types make six groups of rewards, with different means and spreads. [Notebook 04](04_trr.ipynb) makes them comparable.
