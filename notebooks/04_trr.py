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
# # 04 · TRR++: six baselines instead of one
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/azr-lite/azr-lite/blob/main/notebooks/04_trr.ipynb) [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/azr-lite/azr-lite/blob/main/notebooks/04_trr.ipynb) [![nbviewer](https://img.shields.io/badge/render-nbviewer-orange)](https://nbviewer.org/github/azr-lite/azr-lite/blob/main/notebooks/04_trr.ipynb)
#
# **You will be able to**
#
# * derive TRR++;
# * compare it with REINFORCE++ (one global baseline), GRPO, RLOO and Dr. GRPO on the same rollouts;
# * explain token against sequence whitening.
#
# **Before this:** notebook 03; means and standard deviations.
#
# **Budget:** 16 minutes to read (3,273 words); 5 exercises (10 points, about 37 minutes); 6 seconds and 151 MiB on 2 CPU cores; on a GPU: not measured.
#
# **Last verified:** Python 3.11.7, azr-lite 0.2.0, numpy 2.4.6, 2026-12-01.
#
# **Next:** [05 · Absolute Zero in 130 lines](05_build_it.ipynb). Words in this course: [glossary](glossary.md).
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

import numpy as np

import azr_lite as az
from azr_lite import course
from azr_lite.course import check, profile, recorded
from azr_lite.course.figures import bars, figure, line, look, show, style

profile = profile(PROFILE)
np.set_printoptions(precision=4, suppress=True)

# %% [markdown]
# ## 1. From reward to push
#
# [Notebook 03](03_rewards.ipynb) ended with a reward R for every reply. The model is a **[policy](glossary.md#policy)** π: it gives each
# possible reply y a probability π(y). Training should make the *mean* reward grow,
# E[R] = Σ π(y) · R(y), a sum over all replies. Only π depends on the weights. With ∇π = π · ∇ log π,
# which is the derivative of a logarithm, its gradient is
#
# $$\nabla E[R] = \sum_y R(y)\,\nabla \pi(y) = \sum_y \pi(y)\,R(y)\,\nabla \log \pi(y)
# = E\left[R\,\nabla \log \pi\right].$$
#
# The last form is again a mean over replies, and a mean can be estimated by sampling: sample, then
# raise the log-probability of each reply in proportion to its reward. This is the *policy
# gradient*, and the method is called REINFORCE.
#
# It still works, and works better, when R is replaced by the **[advantage](glossary.md#advantage)** A: by how much this reply was *better than
# expected*. The policy gradient then is the mean of
#
# $$A \cdot \nabla \log \pi(\text{reply})$$
#
# A > 0 makes the reply more likely, A < 0 less likely. The simplest choice, A = R − b, subtracts a **[baseline](glossary.md#baseline)** b.
# Does that change where the gradient points? What a constant b adds is the mean of b · ∇ log π, and
#
# $$E\left[b\,\nabla \log \pi\right] = b \sum_y \pi(y)\,\frac{\nabla \pi(y)}{\pi(y)}
# = b\,\nabla \sum_y \pi(y) = b\,\nabla 1 = 0,$$
#
# because probabilities add up to 1 whatever the weights are. So the mean stays; only the noise changes.
# All that was asked of b is that it does not depend on y. Here is a policy with three actions (read: three possible replies). Its weights are three *logits*:
# numbers of any size, which softmax turns into probabilities. There is no sampling: every mean is taken exactly.

# %%
policy = np.array([0.5, 0.3, 0.2])
reward = np.array([0.9, 1.0, 0.8])
scores = np.eye(3) - policy  # row a: gradient of log π(a) with respect to the three logits

for b in (0.0, 0.92, 5.0):
    samples = scores * (reward - b)[:, None]  # what one draw of action a contributes
    mean = policy @ samples
    noise = policy @ ((samples - mean) ** 2).sum(axis=1)
    print(f"baseline {b:4}: mean gradient {mean}, variance of one draw {noise:.4f}")

# %% [markdown]
# **What you should see.** The same mean gradient three times. The variance of one draw differs by a factor of three thousand: smallest with b
# near the mean reward (0.5 · 0.9 + 0.3 · 1.0 + 0.2 · 0.8 = 0.91), largest with 5.
#
# So a baseline that does not depend on the reply costs nothing in truth and saves much noise. All of this notebook is about **which**
# baseline, measured over **which** replies, and what one divides by.

# %% [markdown]
# ## 2. Six kinds of reward in one batch
#
# One policy, two roles, three task types: six groups. These are the 368 trained replies of one *recorded* step (step 25 of a nano run with
# seed 0; `data_samples/steps/nano-seed0-step25.json` holds group, prompt, length, reward and advantage of each). They are frozen: every
# estimator below gets exactly these.

# %%
step = json.loads(recorded("steps/nano-seed0-step25.json").read_text(encoding="utf-8"))
groups, prompts, lengths, rewards, used = (list(column) for column in zip(*step["rows"]))
NAMES = [
    f"{role}/{kind}"
    for role in ("propose", "solve")
    for kind in ("deduction", "abduction", "induction")
]
rows = {name: np.array([one == name for one in groups]) for name in NAMES}
R, L = np.array(rewards), np.array(lengths)

print(f"{'group':18} {'replies':>7} {'prompts':>7} {'mean R':>7} {'std R':>6} {'tokens each':>11}")
for name, own in rows.items():
    asked = len({p for p, mine in zip(prompts, own) if mine})
    print(
        f"{name:18} {own.sum():7} {asked:7} {R[own].mean():7.2f} {R[own].std():6.2f} "
        f"{L[own].mean():11.1f}"
    )
print(
    f"{'all':18} {len(R):7} {len(set(prompts)):7} {R.mean():7.2f} {R.std():6.2f} {L.mean():11.1f}"
)

# %% tags=["hide-input"]
made, (axis,) = figure(1, 1, (7.2, 3.2))
for place, (name, own) in enumerate(rows.items()):
    role, kind = name.split("/")
    axis.errorbar(
        place,
        R[own].mean(),
        R[own].std(),
        fmt=look(kind).marker,
        color=look(kind).colour,
        capsize=4,
    )
axis.axhline(R.mean(), color="#6E6E6E", linestyle="--", linewidth=1)
axis.text(4.5, R.mean() + 0.03, "mean of all", ha="center", fontsize=8)
axis.set_xticks(range(6), [name.replace("/", "\n") for name in NAMES])
axis.set_ylabel("reward, mean ± std")
with style():
    axis.set_title("Six groups, six means and six spreads: one baseline cannot fit all")
show(
    made,
    "Mean and standard deviation of rewards in six groups: means from -0.05 to 0.77, spreads "
    "from 0.30 for proposals to 0.75 for answers",
)

# %% [markdown]
# **What you should see.** Means from −0.05 (solve/induction) to 0.77 (solve/abduction), spreads from 0.30 (propose/deduction) to 0.75
# (solve/deduction). Each proposal stands alone on its prompt; an answer shares its prompt with two to four others.

# %% [markdown]
# ## 3. The obvious choice, and what it says
#
# To **[whiten](glossary.md#whitening)** numbers is to subtract their mean and divide by their standard deviation. REINFORCE++, in its plain form, whitens
# over the whole batch: A = (R − mean of all) / (std of all). What does it tell each group?

# %%
globally = course.estimate("global", rewards, groups, prompts, lengths)
for name, own in rows.items():
    print(
        f"{name:18} mean advantage {globally[own].mean():+.2f}, pushed up: "
        f"{(globally[own] > 0).mean():4.0%} of the replies"
    )

# %% [markdown]
# **What you should see.** solve/abduction has a mean advantage of +0.69, solve/induction −0.49. Of the abduction proposals 12 % are pushed up.
#
# So an average abduction answer is pushed *up* for being an abduction answer, and an average proposal *down* for being a proposal. By section 1
# this is not wrong on average: a constant drops out. But it is noise in every single step, and each group pays for the others' means.

# %% [markdown]
# ## 4. TRR++ in three moves
#
# **[TRR++](glossary.md#trr)** (task-relative REINFORCE++) changes one thing: mean and spread are taken inside each (role, type) group.
#
# $$A_i = \frac{R_i - \mu_{g(i)}}{\sigma_{g(i)}}$$
#
# * **Move 1: subtract μ_g.** Compare a proposal with proposals of its type only.
# * **Move 2: divide by σ_g.** A proposer's rewards differ by tenths, a solver's by 1.5. After the division, "one spread better than usual" means
#   the same push everywhere.
# * **Move 3: guard σ_g = 0.** If all earn the same, nobody was better: A = 0.
#
# **Exercise 1** (4 minutes, 1 point; difficulty 2 of 5, importance 4 of 5). One group first.

# %% tags=["exercise"]
def whiten_sequences(rewards):
    """(R − mean) / population standard deviation of one group; zeros where all rewards are equal.

    rewards: numpy array of floats, shape (B,).  Returns: array of shape (B,).
    whiten_sequences(np.array([1.0, -0.5, -1.0, 1.0])) is [0.9802, -0.7001, -1.2603, 0.9802]
    """
    return ...

check.whiten_sequences(whiten_sequences)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * Which standard deviation does `rewards.std()` compute: divided by B, or by B − 1? Compare with the example.
# * "Equal" for floats: a spread of 1e-17 is none. Comparing with a tiny number is safer than with 0.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def whiten_sequences(rewards):
#     spread = rewards.std()
#     if spread < 1e-8:
#         return np.zeros(len(rewards))
#     return (rewards - rewards.mean()) / spread
# ```
#
# Why: numpy's `std` is the population's, and 1e-8 lies between the dust of floats and every
# spread that means something.
# </details>

# %%
whiten_sequences = check.use(whiten_sequences, fallback=course.whiten_sequences)

# %% [markdown]
# **Exercise 2** (8 minutes, 2 points; difficulty 3 of 5, importance 5 of 5). Now all groups of a mixed batch.

# %% tags=["exercise"]
def trr(rewards, groups, lengths):
    """TRR++, sequence form: one baseline and one spread for each group.

    rewards: list of floats.  groups: list of strings such as "propose/deduction", one per reply, in
    any order.
    lengths: not needed in this form (section 6 needs them).
    Returns: an array of advantages, in the order of `rewards`.
    trr([0.0, 5.0, 1.0, 7.0, 9.0], ["a", "b", "a", "b", "b"], [1, 1, 1, 1, 1]) is [-1, -1.2247, 1,
    0, 1.2247]
    """
    return ...

check.trr(trr)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * Start from `np.zeros(len(rewards))` and fill it.
# * An array of booleans (`np.array(groups) == name`) picks rows, and can be assigned to.
# * What belongs to the key of a group? Read the table of section 2 again.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def trr(rewards, groups, lengths):
#     rewards, groups = np.array(rewards), np.array(groups)
#     advantages = np.zeros(len(rewards))
#     for name in set(groups.tolist()):
#         rows = groups == name
#         advantages[rows] = whiten_sequences(rewards[rows])
#     return advantages
# ```
#
# Why: `rows` is used to take and to put back, so every advantage stands on the row that its
# reward came from.
# </details>

# %%
trr = check.use(trr, fallback=az.trr)
mine = np.asarray(trr(rewards, groups, lengths))
print(
    "largest difference from the advantages the run used: "
    f"{np.abs(mine - np.array(used)).max():.1e}"
)
for name, own in rows.items():
    print(
        f"{name:18} mean {mine[own].mean():+.2f}, std {mine[own].std():.2f}, pushed up: "
        f"{(mine[own] > 0).mean():4.0%}"
    )

# %% [markdown]
# **What you should see.** A difference of 0 (or of rounding, 1e-15): you have re-made the advantages of a real run's step. Every group has mean 0 and std 1. Of the
# abduction proposals 88 % are now pushed up, where the global baseline pushed up 12 %: the same replies, another question.

# %% [markdown]
# ## 5. The cousins: one baseline for each prompt
#
# [GRPO](glossary.md#grpo) and its relatives compare replies to the *same prompt*. With n replies to a prompt, of mean m and spread s:
#
# | estimator | advantage | in words |
# |---|---|---|
# | GRPO | (R − m) / s | whitened among replies to one prompt |
# | Dr. GRPO | R − m | no division |
# | [RLOO](glossary.md#rloo) | R − mean of the *other* n − 1 | leave yourself out |
#
# Why leave yourself out? Your own reward is part of m, so the baseline *does* depend on your reply. Take
# it apart, with m₋ᵢ for the mean of the others:
#
# $$R_i - m = R_i - \tfrac{1}{n} R_i - \tfrac{n-1}{n}\, m_{-i} = \tfrac{n-1}{n}\,(R_i - m_{-i}).$$
#
# The others were sampled without looking at yours, so m₋ᵢ is a baseline as section 1 allows, and R − m₋ᵢ
# has the right mean. R − m is too small by the factor (n − 1)/n: with n = 4 a quarter of the push is
# missing. Leaving yourself out gives it back exactly.
#
# **Exercise 3** (8 minutes, 2 points; difficulty 3 of 5, importance 3 of 5). Write RLOO. A reply alone on its prompt gets 0.

# %% tags=["exercise"]
def rloo(rewards, prompts):
    """Leave-one-out: each reply against the mean of the other replies to its prompt.

    rewards: list of floats.  prompts: list of hashable keys, one per reply, in any order.
    Returns: an array of advantages, in the order of `rewards`; 0 for a reply alone on its prompt.
    rloo([1.0, 0.0, 0.0], ["a", "a", "a"]) is [1.0, -0.5, -0.5]
    """
    return ...

check.rloo(rloo)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * The sum of the others is the sum of all less your own.
# * Or: write R − m for one reply of n, and see which factor turns it into leave-one-out.
# * What is the mean of no replies?
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def rloo(rewards, prompts):
#     advantages = np.zeros(len(rewards))
#     for i, (reward, prompt) in enumerate(zip(rewards, prompts)):
#         others = [r for j, r in enumerate(rewards) if j != i and prompts[j] == prompt]
#         if others:
#             advantages[i] = reward - sum(others) / len(others)
#     return advantages
# ```
#
# Why: the reply is left out by its place `j != i`, not by its reward, which others may share.
# </details>

# %%
rloo = check.use(rloo, fallback=course.rloo)
per_prompt = np.asarray(rloo(rewards, prompts))
print(f"{'group':18} {'replies with advantage 0':>25}")
for name, own in rows.items():
    print(
        f"{name:18} RLOO {(per_prompt[own] == 0).mean():7.0%}   TRR++ "
        f"{(mine[own] == 0).mean():4.0%}"
    )

# %% [markdown]
# **What you should see.** RLOO is silent on 100 % of the proposals, and on 53 to 68 % of the answers. TRR++ is silent nowhere in this step.
#
# That is the reason why Absolute Zero cannot simply use GRPO. **A proposal is alone on its prompt.** Sampling several proposals for one prompt would cost
# a Monte-Carlo measurement each. And an answer to a prompt whose replies all earned the same is silent too: nearly two thirds of the solver's batch here.
#
# (The package still offers `estimator="grpo"`, `"dr_grpo"` and `"rloo"`. Proposals then fall back on their (role, type) group. So do the comparisons
# from here on.)

# %% [markdown]
# ## 6. Replies or tokens?
#
# The paper's formula counts *replies*. The authors' code whitens *tokens*: each token carries its reply's reward, so a reply of L tokens counts
# L times in μ and in σ (with the unbiased variance, and 1e-8 added to it). Why would one?
#
# The loss adds up tokens. In the sequence form, Σ A = 0 over a group. In the token form, Σ L·A = 0: the pushes on all *tokens* cancel. If long replies
# are better than short ones, the sequence form leaves a rest that pushes the whole group's tokens up.
#
# **Exercise 4** (7 minutes, 2 points; difficulty 3 of 5, importance 2 of 5). Write the token form for one group.

# %% tags=["exercise"]
def whiten_tokens(rewards, lengths):
    """Advantages of one group, whitened over tokens.

    rewards, lengths: numpy arrays of shape (B,); a reply of L tokens counts L times.
    mean: over tokens.  variance: over tokens, unbiased (divide by the number of tokens less 1).
    Returns: (R − mean) / sqrt(variance + 1e-8), shape (B,), one number per reply; zeros where all
    rewards are equal.
    rewards [1, -0.5, -1, 1] with lengths [2, 4, 1, 3] give mean 0.2, variance 0.7333,
    and [0.9342, -0.8174, -1.4013, 0.9342]
    """
    return ...

check.whiten_tokens(whiten_tokens)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * The lazy way is honest: build the long array of tokens with `np.repeat`, then take its mean and its `var(ddof=1)`.
# * Without it: a mean over tokens is Σ R·L / Σ L. The variance has the same weights.
# * One number comes out for each *reply*, not for each token.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def whiten_tokens(rewards, lengths):
#     tokens = np.repeat(rewards, lengths)
#     if np.ptp(tokens) < 1e-8:
#         return np.zeros(len(rewards))
#     return (rewards - tokens.mean()) / np.sqrt(tokens.var(ddof=1) + 1e-8)
# ```
#
# Why: statistics are taken over tokens and applied to replies, so one number per reply comes out.
# </details>

# %%
whiten_tokens = check.use(whiten_tokens, fallback=course.whiten_tokens)
print("correlation of length and reward; sums of A over replies and over tokens")
for name, own in rows.items():
    by_reply, by_token = (
        np.asarray(whiten_sequences(R[own])),
        np.asarray(whiten_tokens(R[own], L[own])),
    )
    shown = f"{name:18} r = {np.corrcoef(L[own], R[own])[0, 1]:+.2f}"
    for form, A in (("sequence", by_reply), ("token", by_token)):
        over_replies, over_tokens = A.sum().round(9) + 0, (L[own] * A).sum().round(4) + 0
        shown += f"   {form}: Σ A {over_replies:+6.1f}, Σ L·A {over_tokens:+7.1f}"
    print(shown)

# %% [markdown]
# **What you should see.** Sequence: Σ A is 0 and Σ L·A is not. Token: the other way round. The sign of the sequence form's Σ L·A is that of the
# correlation: +367 for solve/deduction, where longer answers earn more at this step; −465 for solve/induction, where they earn less.
#
# So with the sequence form and a token-mean loss, the tokens of solve/deduction get a net push up at this step, those of solve/induction one down,
# on top of the comparison between replies. In expectation such a rest is harmless for the *direction* (section 1); it is one more source of noise that
# grows with the correlation of length and reward.

# %% [markdown]
# ## 7. Who gets how much of the loss
#
# Advantages are not the last word. The loss is a sum over tokens, so a group with many long replies fills it. The authors process one group at a
# time: a token mean *inside* each group, then the mean over the G groups, so that each weighs 1/G.
#
# A trainer that sees one mixed batch needs a factor w for each reply. It computes
#
# $$\frac{1}{T} \sum_i w_i \sum_{t \in \text{reply } i} \text{loss}_t, \qquad T = \text{tokens of all rows}$$
#
# **Exercise 5** (10 minutes, 3 points; difficulty 4 of 5, importance 4 of 5). Find w such that each *trained* group weighs 1/G, with a token mean inside. Some rows do not count (padding, or
# a role that is not trained): their w is 0, yet their tokens are in T.

# %% tags=["exercise"]
def loss_weights(groups, lengths, counts):
    """One factor per row, for the loss above.

    groups: list of strings.  lengths: list of ints.  counts: list of bools; False: the row carries
    no loss.
    Returns: an array of floats. G is the number of groups with at least one row that counts.
    loss_weights(["a", "b"], [10, 30], [True, True]) is [2.0, 0.6667]
    """
    return ...

check.loss_weights(loss_weights)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * All rows of a group share one w. Let T_g be the group's tokens *that count*.
# * The group's share of the loss is w · T_g / T. What should it be?
# * In the example T = 40, so w · 10 / 40 must be ½ for group a.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def loss_weights(groups, lengths, counts):
#     groups, lengths, counts = np.array(groups), np.array(lengths), np.array(counts)
#     trained = set(groups[counts].tolist())
#     weights = np.zeros(len(groups))
#     for name in trained:
#         rows = (groups == name) & counts
#         weights[rows] = lengths.sum() / (len(trained) * lengths[rows].sum())
#     return weights
# ```
#
# Why: w · T_g / T = 1/G, solved for w: T holds all rows, T_g and G only those that count.
# </details>

# %%
loss_weights = check.use(loss_weights, fallback=course.loss_weights)
everything = [True] * len(groups)
balanced = np.asarray(loss_weights(groups, lengths, everything))
print(f"{'group':18} one token mean   balanced")
for name, own in rows.items():
    print(f"{name:18} {L[own].sum() / L.sum():14.1%}   {(balanced * L)[own].sum() / L.sum():8.1%}")

# %% [markdown]
# **What you should see.** Under one token mean the three solver groups hold 77 % of all tokens and propose/deduction 4 %. Balanced: 16.7 % each.

# %% [markdown]
# ### All estimators on the same replies
#
# Now put advantage and weight together: a group's share of all pushes, Σ w·L·|A|. This is *exact* for these 368 replies; it says how loudly each group
# speaks in this step, not yet whether what it says is right.

# %% tags=["hide-input"]
RAW = "no baseline (A = R)"
ESTIMATORS = {RAW: np.array(rewards)}
for label, name in {
    "REINFORCE++ (global)": "global",
    "TRR++": "trr",
    "GRPO": "grpo",
    "Dr. GRPO": "dr_grpo",
    "RLOO": "rloo",
}.items():
    ESTIMATORS[label] = course.estimate(name, rewards, groups, prompts, lengths)

made, axes = figure(1, 2, (9.6, 3.2))
for axis, weights in zip(axes, (np.ones(len(R)), balanced)):
    for height, A in enumerate(reversed(ESTIMATORS.values())):
        push, left = weights * L * np.abs(A), 0.0
        for name, own in rows.items():
            role, kind = name.split("/")
            share = push[own].sum() / push.sum()
            hatch, label = "////" if role == "propose" else "", name if height == 0 else None
            axis.barh(
                height,
                share,
                left=left,
                color=look(kind).colour,
                hatch=hatch,
                edgecolor="white",
                label=label,
            )
            left += share
    axis.set_yticks(
        range(len(ESTIMATORS)),
        list(reversed(ESTIMATORS)) if axis is axes[0] else [""] * len(ESTIMATORS),
    )
    axis.set_xlabel("share of all pushes")
with style():
    axes[0].set_title("One token mean: proposers whisper")
    axes[1].set_title("Balanced, TRR++: each about a sixth")
    handles, labels = axes[
        0
    ].get_legend_handles_labels()  # filled column by column: one task type each
    made.legend(
        [handles[i] for i in (0, 3, 1, 4, 2, 5)],
        [labels[i] for i in (0, 3, 1, 4, 2, 5)],
        loc="outside lower center",
        ncols=3,
    )
show(
    made,
    "Share of pushes by group for six estimators: proposers hold a fifth or less under one "
    "token mean with TRR++ and global, and half with TRR++ when groups are balanced",
)

# %%
def proposers(A, weights):
    """The proposers' share of all pushes."""
    push = weights * L * np.abs(A)
    return push[[one.startswith("propose") for one in groups]].sum() / push.sum()

print(f"{'estimator':20} one token mean   balanced    (share of the three proposer groups)")
for label, A in ESTIMATORS.items():
    print(f"{label:20} {proposers(A, np.ones(len(R))):14.0%}   {proposers(A, balanced):8.0%}")

# %% [markdown]
# **What you should see.** Hatched: proposers. One token mean leaves them little, with REINFORCE++ 12 % and with TRR++ 20 %. Balanced, TRR++ gives
# them about half; REINFORCE++, about a third: its single spread is that of the solvers, so proposers stay quiet.
#
# GRPO, Dr. GRPO and RLOO give proposers *more* than TRR++ with balanced groups only because the solvers' silent prompts
# leave the floor to them.

# %% [markdown]
# ## 8. One batch, many machines
#
# On four GPUs each process holds a quarter of the batch. It is tempting to whiten right there. Let us do so with the frozen step.

# %%
rng = np.random.default_rng(SEED)
parts = np.array_split(rng.permutation(len(R)), 4)
apart = np.zeros(len(R))
for part in parts:
    apart[part] = trr(
        [rewards[i] for i in part], [groups[i] for i in part], [lengths[i] for i in part]
    )
smallest = min(sum(groups[i] == name for i in part) for part in parts for name in NAMES)
print(f"smallest group in one process: {smallest} replies")
for name, own in rows.items():
    turned = (np.sign(apart[own]) != np.sign(mine[own])).mean()
    print(
        f"{name:18} mean |difference| {np.abs(apart - mine)[own].mean():.2f}, changed sign "
        f"{turned:4.0%}"
    )

# %% [markdown]
# **What you should see.** Advantages move by tenths, most in the proposers' small groups, where some replies change from praised to
# blamed. (Which ones depends on SEED.)
#
# The same run on one GPU and on four would be two different algorithms. `azr_lite` gathers the rewards of all processes first.

# %% [markdown]
# ## 9. Estimator lab
#
# So far we have looked at *one* batch. Is an estimator right on average, and how noisy is it? For that we need a world whose true gradient is known.
#
# **The toy.** Six groups, each with its own softmax over 4 actions. A reply's reward is: level of the group + its spread × (worth of the action + how kind the
# prompt was + chance). Proposals have a prompt each; answers come four to a prompt. 16 replies per group.
#
# The spreads (0.1 to 1) and levels are *chosen*, with proposers ten times quieter than solvers at the extreme. So the toy is made to show
# the effect clearly. It cannot tell how large the effect is in a language model; section 11 looks at that.

# %%
SPREAD = np.array([0.10, 0.15, 0.20, 0.60, 0.80, 1.00])
LEVEL = np.array([0.2, -0.1, 0.2, 0.3, 0.8, 0.0])
WORTH = np.random.default_rng(7).permuted(np.tile([-1, -1 / 3, 1 / 3, 1], (6, 1)), axis=1)
MEAN = LEVEL[:, None] + SPREAD[:, None] * WORTH  # mean reward of each action, group by group

EACH = 16
which = np.repeat(np.arange(6), EACH)  # the group of each of the 96 replies
toy_groups = [NAMES[g] for g in which]
toy_prompts = np.array([i if g < 3 else 48 + i // 4 for i, g in enumerate(which)])
toy_keys, ones = toy_prompts.tolist(), [1] * len(which)

def softmax(theta):
    e = np.exp(theta - theta.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)

def sample(policy, rng):
    """Actions and rewards of one batch of 96 replies."""
    actions = (rng.random((96, 1)) > policy.cumsum(axis=1)[which]).sum(axis=1).clip(0, 3)
    kindness = 1.2 * rng.normal(size=96)[toy_prompts]
    return actions, MEAN[which, actions] + SPREAD[which] * (kindness + 0.8 * rng.normal(size=96))

# %%
def gradient(policy, actions, A):
    """The estimate from one batch: mean of A · ∇ log π over each group's replies, shape (6, 4)."""
    pushes = (np.eye(4)[actions] - policy[which]) * A[:, None]
    return pushes.reshape(6, EACH, 4).mean(axis=1)


def true_gradient(policy):
    """Of each group's mean reward; exact."""
    return policy * (MEAN - (policy * MEAN).sum(axis=1, keepdims=True))


def estimator(name):
    if name == "no baseline":
        return lambda rewards: rewards
    if name == "group mean":  # move 1 of TRR++ alone
        return lambda rewards: course.dr_grpo(rewards, toy_groups)
    own = {
        "global": "global",
        "TRR++": "trr",
        "GRPO": "grpo",
        "Dr. GRPO": "dr_grpo",
        "RLOO": "rloo",
    }[name]
    return lambda rewards: course.estimate(own, rewards, toy_groups, toy_keys, ones)

# %% [markdown]
# Many batches are drawn from the untrained policy (all actions equally likely), and four things are measured for each estimator. (*global*
# is REINFORCE++ of section 3; *group mean* is move 1 of TRR++ alone.)
#
# * **length**: the mean estimate along the true gradient, divided by the true one. 1 means [unbiased](glossary.md#bias-and-variance).
# * **angle**: between the mean estimate and the true gradient of the *sum* of all rewards.
# * **noise**: standard deviation of one batch's estimate, in units of its mean (lower is better; mean over groups).
# * **proposers**: the share of the squared gradient that belongs to the three proposer groups.

# %% tags=["long"]
BATCHES = 200 if profile == "ci" else 2_000
LAB = ("no baseline", "global", "group mean", "TRR++", "GRPO", "Dr. GRPO", "RLOO")
flat = softmax(np.zeros((6, 4)))
truth = true_gradient(flat)
found = {}
for name in LAB:
    rng, weigh = np.random.default_rng(SEED), estimator(name)
    batches = [sample(flat, rng) for _ in range(BATCHES)]
    drawn = np.array([gradient(flat, actions, weigh(rewards)) for actions, rewards in batches])
    mean = drawn.mean(axis=0)
    along = (drawn * truth).sum(axis=2) / (truth**2).sum(axis=1)  # (batches, 6)
    noise = np.sqrt(((drawn - mean) ** 2).sum(axis=2).mean(axis=0)) / np.linalg.norm(mean, axis=1)
    angle = np.degrees(
        np.arccos((mean * truth).sum() / np.linalg.norm(mean) / np.linalg.norm(truth))
    )
    power = (drawn**2).sum(axis=2).mean(axis=0)
    found[name] = {
        "along": along,
        "angle": angle,
        "noise": noise,
        "proposers": power[:3].sum() / power.sum(),
    }


# %%
print(f"{BATCHES} batches, seed {SEED}; ± is a 95 % interval")
print(f"{'':12} length, propose   length, solve   angle   noise: propose, solve   proposers")
for name, one in found.items():
    shown = f"{name:12}"
    for part in (one["along"][:, :3].mean(axis=1), one["along"][:, 3:].mean(axis=1)):
        shown += f" {part.mean():7.3f} ± {1.96 * part.std() / BATCHES**0.5:.3f}"
    first, second = one["noise"][:3].mean(), one["noise"][3:].mean()
    print(f"{shown} {one['angle']:6.1f}° {first:14.2f}, {second:.2f} {one['proposers']:14.0%}")

# %% [markdown]
# **What you should see**, with the exact values behind it:
#
# * *No baseline* and *RLOO*: length 1 within the interval. Both are unbiased, by proof.
# * *Group mean*: 15/16 = 0.9375 in both columns: 16 replies, each part of its own mean. *Dr. GRPO*: 3/4 = 0.75 for the solvers, four replies per
#   prompt. Both are the factor (n − 1)/n of section 5. It is a *length*, not a direction.
# * *Noise*: for the solvers GRPO, Dr. GRPO and RLOO are lowest: they remove the kindness of the prompt, which a group mean
#   cannot. *No baseline* and *global* are noisiest for the proposers.
# * *TRR++ and GRPO* lengthen the quiet groups: lengths above 1 for the proposers and an angle of some
#   30° to the true gradient of the sum. They do **not** estimate that gradient. They answer another question: how to get better in all six groups, each in units of its own spread. That is a choice, and it is the point.
# * *Proposers*: 4 to 7 % of the gradient's square without division, nearly half with TRR++.
#
# **If you see something else**: intervals are for SEED's batches; one in twenty leaves out the exact value. In profile ci there are ten times fewer batches.

# %% tags=["hide-input"]
made, axes = figure(1, 2, (8.8, 3.0))
bars(
    axes[0],
    list(found),
    [one["noise"][3:].mean() for one in found.values()],
    "noise of one batch, solver groups (in units of its mean)",
)
bars(
    axes[1],
    list(found),
    [100 * one["proposers"] for one in found.values()],
    "proposers' share of the squared gradient (%)",
)
axes[1].set_yticks([])
axes[1].set_xlim(0, 55)
with style():
    axes[0].set_title("Replies to one prompt make the solver's signal clearer")
    axes[1].set_title("Dividing by the spread lets proposers speak")
show(
    made,
    "Bars for seven estimators: per-prompt estimators have the least noise for solvers; only "
    "TRR++ and GRPO give proposers a large share of the gradient",
)

# %% [markdown]
# **What you should see.** No estimator wins both. GRPO would be fine here, *because* our version falls back on groups for proposals; without that, proposers get
# nothing. TRR++ needs one reply per prompt and treats all six groups alike.

# %% [markdown]
# ## 10. Does it matter for learning?
#
# Train the toy, with many seeds. Every step has the same length (as when gradients are clipped to a norm, which trainers do), so no estimator wins by a
# larger step: only by how it *divides* the step among the groups, and by noise. The vertical axis is exact: how much of the
# possible gain the policy has reached, 0 for the untrained one, 1 for the best action always.

# %% tags=["long"]
SEEDS = 3 if profile == "ci" else 12
TRAIN = STEPS or (60 if profile == "ci" else 200)


def train(name, seed):
    """Share of the possible gain, shape (TRAIN, 6)."""
    rng, weigh, theta, reached = np.random.default_rng(seed), estimator(name), np.zeros((6, 4)), []
    for _ in range(TRAIN):
        policy = softmax(theta)
        possible = MEAN.max(axis=1) - MEAN.mean(axis=1)
        reached.append(((policy * MEAN).sum(axis=1) - MEAN.mean(axis=1)) / possible)
        actions, rewards = sample(policy, rng)
        g = gradient(policy, actions, weigh(rewards))
        theta = theta + 0.15 * g / max(np.linalg.norm(g), 1e-9)
    return np.array(reached)


TRAINED = ("no baseline", "global", "RLOO", "TRR++")
curves = {name: np.array([train(name, 100 + seed) for seed in range(SEEDS)]) for name in TRAINED}

# %% tags=["hide-input"]
made, axes = figure(1, 3, (10.4, 3.2))
PARTS = {
    "Proposers: TRR++ is far ahead": slice(0, 3),
    "Solvers: it pays for that": slice(3, 6),
    "All six: TRR++ leads early": slice(0, 6),
}
for axis, (title, part) in zip(axes, PARTS.items()):
    for place, name in enumerate(TRAINED):
        runs = curves[name][:, :, part].mean(axis=2)
        mean, half = runs.mean(axis=0), 1.96 * runs.std(axis=0, ddof=1) / SEEDS**0.5
        line(axis, name, range(TRAIN), mean, place)
        axis.fill_between(
            range(TRAIN),
            mean - half,
            mean + half,
            color=look(name, place).colour,
            alpha=0.2,
            linewidth=0,
        )
    with style():
        axis.set(xlabel="step", ylim=(0, 1.03), title=title)
axes[0].set_ylabel("share of the possible gain")
with style():
    axes[0].legend(loc="lower right")
show(
    made,
    "Learning curves of four estimators with 95 % bands: TRR++ learns the proposers' groups "
    "much faster and the solvers' groups slightly slower than the others",
)

# %%
at = min(50, TRAIN - 1)
print(f"share of the possible gain at step {at}, {SEEDS} seeds from 100 on, mean ± 95 % interval")
for name in TRAINED:
    runs = curves[name][:, at]
    parts = (runs[:, :3].mean(axis=1), runs[:, 3:].mean(axis=1), runs.mean(axis=1))
    shown = [f"{part.mean():.2f} ± {1.96 * part.std(ddof=1) / SEEDS**0.5:.2f}" for part in parts]
    print(f"{name:12} propose {shown[0]}   solve {shown[1]}   all {shown[2]}")

# %% [markdown]
# **What you should see.** After 50 steps TRR++ has 73 % of the proposers' possible gain, the others 27 to 35 %. For the solvers it is behind, with 76 %
# against 85 to 89 %: a step of fixed length that is shared by six is smaller for each. Over all six it leads early, and by step 150 the others have nearly
# caught up, but for the global baseline: from step 50 on it is the slowest with the proposers, and it was noisiest for them in section 9.
#
# **If you see something else** in profile ci: three seeds and 60 steps give wide bands.
#
# What is exact here and what is not: the gain at each step is exact for its policy; the path is simulated, so it comes with seeds and bands.

# %% [markdown]
# ## 11. And in a real run?
#
# The toy was built to show the effect. What did recorded runs of the nano model say? (`data_samples/runs/ablations/comparison.json`: two seeds, 30
# steps, 900 held-out problems; each arm changes one setting.)

# %%
arms = json.loads(recorded("runs/ablations/comparison.json").read_text(encoding="utf-8"))["arms"]
for name in ("self-play", "one global baseline", "GRPO per prompt", "token whitening"):
    gain = arms[name]["scores"]["all"]["gain"]
    seeds = ", ".join(f"{100 * one:+.1f}" for one in gain["by_seed"])
    print(
        f"{name:20} {100 * gain['mean']:+.1f} points, 95 % interval [{100 * gain['low']:+.1f}, "
        f"{100 * gain['high']:+.1f}], seeds {seeds}"
    )

# %% [markdown]
# **What you should see.** Gains of 23.4 (self-play, which is TRR++), 24.0 (global), 22.9 (GRPO) and 26.1 points (token whitening). Every interval contains
# every other mean.
#
# So on nano, in 30 steps, **no difference between estimators was measured**. That is no contradiction: in the frozen step the spreads differ by a factor of 2.5,
# not ten; the loss was balanced in all four arms, which is half of the cure; the optimiser (Adam) rescales gradients too; and held-out accuracy measures the
# solver, which did well under every estimator of the toy as well. A claim that TRR++ is *better* needs more seeds and a larger model.

# %% [markdown]
# ## 12. What to remember
#
# * A baseline does not bend the gradient, it quiets it; but a reply inside its own baseline shortens it by (n − 1)/n.
# * TRR++: mean and spread of each (role, type) group over the *global* batch; population std; zeros where the spread is zero.
# * Per-prompt estimators are quieter where a prompt has several replies, and silent where it has one: proposals.
# * Dividing by the spread is a choice of goal: better in every group by its own measure.
# * Loss weights are the other half: one token mean lets long groups drown short ones.
#
# **Discuss.**
#
# 1. A group's spread shrinks as it is mastered (all earn 1). What does σ → 0 do to the few mistakes that are left? Is that good?
# 2. Suppose 95 % of proposals are invalid (−1). What do μ and σ of that group make of a rare good proposal?
# 3. Dr. GRPO's authors say that dividing by the spread favours very easy and very hard prompts. Does the same hold for groups?
#
# Next: in [notebook 05](05_build_it.ipynb) your `trr` and `loss_weights`, saved in `my_work.py`, become part of a training program.
