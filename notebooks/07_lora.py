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
# # 07 · LoRA self-play on one GPU
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/azr-lite/azr-lite/blob/main/notebooks/07_lora.ipynb) [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/azr-lite/azr-lite/blob/main/notebooks/07_lora.ipynb) [![nbviewer](https://img.shields.io/badge/render-nbviewer-orange)](https://nbviewer.org/github/azr-lite/azr-lite/blob/main/notebooks/07_lora.ipynb)
#
# **You will be able to**
#
# * plan memory;
# * say what the numbers of a real model's run allow;
# * launch, watch, stop and resume a run;
# * publish an adapter.
#
# **Before this:** notebook 06; what a linear map in PyTorch is.
#
# **Budget:** 14 minutes to read (2,787 words); 4 exercises (6 points, about 22 minutes); 24 seconds and 650 MiB on 2 CPU cores; on a GPU: not measured.
#
# **Last verified:** Python 3.11.7, azr-lite 0.2.0, numpy 2.4.6, torch 2.13.0+cpu, transformers 5.23.0, trl 1.16.0, 2026-12-01.
#
# **Next:** [08 · Reading a run](08_reading_a_run.ipynb). Words in this course: [glossary](glossary.md).
# <!-- /header -->

# %% tags=["setup", "hide-input"]
# @title Setup: looks for what this notebook needs, and installs what is missing
import importlib.util, pathlib, subprocess, sys
NEEDS = """azr_lite numpy matplotlib jinja2 rich tyro
torch transformers trl peft accelerate datasets safetensors"""
EXTRA = "train,notebooks"
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
import shutil
from pathlib import Path

import numpy as np

import azr_lite as az
from azr_lite import course
from azr_lite.course import (
    Shape, check, figures, mean, numerics, profile, recorded, shape_of, widgets,
)

profile = profile(PROFILE)

# %% [markdown]
# ## What is measured here, and what is not
#
# This notebook prepares self-play with a real language model on one GPU, and reads runs of one that
# learned. Three kinds of numbers stand in it, and each says which it is:
#
# * **computed here**: LoRA's algebra, and a short LoRA run of the embedded nano model;
# * **recorded on a CPU**: LoRA runs of Qwen2.5-Coder-0.5B, half a billion weights, each on one CPU core
#   (section 5; what was promised before the first of them began stands in the
#   [protocol](../docs/explanation/real_model.md));
# * **planned, not measured**: everything about memory and time on GPUs. The planner counts bytes from
#   formulas and guesses times from datasheets. If you have a GPU, section 6 starts a real run on it,
#   and your numbers beat ours.

# %% [markdown]
# ## 1. Train a little beside the weights
#
# A linear map of a model is a matrix W with (outputs × inputs) numbers. Full tuning changes all of them.
# [LoRA](glossary.md#lora) freezes W and trains two thin matrices beside it:
#
# $$y = W x + \frac{\alpha}{r}\, B A\, x \qquad A: (r \times \text{inputs}),\quad B: (\text{outputs} \times r)$$
#
# An input first meets A, which squeezes it to r numbers (the [rank](glossary.md#rank)), then B, which spreads them out again. B starts at zero,
# so before the first update the model is exactly the base. The pair is called an [adapter](glossary.md#adapter).
#
# ### Exercise 1: count what is trained (2 points, 8 minutes; difficulty 2 of 5, importance 4 of 5)
#
# Adapters sit on all seven linear maps of every layer: q, k, v, o, gate, up, down. `shape.linears` is a tuple of seven pairs
# `(inputs, outputs)`, the maps of *one* layer; `shape.layers` is the number of layers.

# %% tags=["exercise"]
def adapter_parameters(shape, rank):
    """Numbers in all A and B of a model. `shape`: has `layers` (int) and `linears` (pairs of ints);
    `rank`: r. Returns an int.

    Example: one layer with a single map of 4 inputs and 3 outputs at rank 2 has 2·4 + 3·2 = 14.
    """
    return ...

check.adapter_parameters(adapter_parameters)

# %% [markdown]
# <details><summary>Hint</summary>
#
# How many numbers does A hold for one map? How many B? Then sum over seven maps, and over layers. The base W does not count: nobody trains it.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def adapter_parameters(shape, rank):
#     return shape.layers * sum(rank * (inputs + outputs) for inputs, outputs in shape.linears)
# ```
#
# Why: A has rank × inputs numbers, B has outputs × rank; the frozen W has none that are trained.
# </details>

# %%
adapter_parameters = check.use(adapter_parameters, fallback=Shape.adapter_parameters)
sizes = {
    size: shape_of(f"Qwen/Qwen2.5-Coder-{size}-Instruct") for size in ("0.5B", "1.5B", "3B", "7B")
}
for size, shape in sizes.items():
    print(
        f"{size:>5}: {shape.parameters:14,} weights, {adapter_parameters(shape, 16):11,} "
        "trained at rank 16"
    )

# %% tags=["hide-input"]
ranks = [1, 2, 4, 8, 16, 32, 64]
made, (axis,) = figures.figure(1, 1, (6.4, 3.4))
for place, (size, shape) in enumerate(sizes.items()):
    shares = [100 * adapter_parameters(shape, rank) / shape.parameters for rank in ranks]
    figures.line(axis, f"Qwen2.5-Coder {size}", ranks, shares, place)
with figures.style():
    axis.set(xscale="log", yscale="log", xlabel="rank r", ylabel="trained weights, % of all")
    axis.set_title("At rank 16 about one weight in a hundred is trained")
    axis.set_xticks(ranks, [str(rank) for rank in ranks])
    axis.set_yticks([0.03, 0.1, 0.3, 1, 3, 10], ["0.03", "0.1", "0.3", "1", "3", "10"])
    axis.minorticks_off()
    axis.legend()
figures.show(
    made,
    alt="Share of trained weights over the rank, four model sizes: straight lines on "
    "logarithmic axes, about one percent at rank 16.",
)

# %% [markdown]
# **What you should see.** Four straight, parallel lines: the number grows with r, and a larger model trains a smaller share of itself.

# %% [markdown]
# ## 2. Merge, and what rounding eats
#
# After training, W and the adapter can become one matrix again, so that any program can load the model, and an input
# meets one matrix instead of three.
#
# ### Exercise 2: merge an adapter (2 points, 6 minutes; difficulty 2 of 5, importance 4 of 5)
#
# Write the formula of section 1 as one matrix that can stand in W's place. Leave `weight` as it is, and return a new array.

# %% tags=["exercise"]
def merge(weight, a, b, alpha):
    """The merged map. `weight`: (outputs, inputs); `a`: (r, inputs); `b`: (outputs, r), numpy
    arrays; `alpha`: float.

    Example: weight [[1, 0]], a [[2, 3]], b [[5]], alpha 2 (r is 1 here) give [[21, 30]].
    """
    return ...

check.merge(merge)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Which of `a @ b` and `b @ a` has the shape of `weight`? And the scale is not α alone: whoever doubles the rank should not double the update.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def merge(weight, a, b, alpha):
#     return weight + alpha / len(a) * (b @ a)
# ```
#
# Why: `b @ a` has the shape of `weight`, and `len(a)` is the rank.
# </details>
#
# Now a trap. Weights are mostly stored in [bfloat16](glossary.md#bfloat16): 8 binary digits, so neighbouring numbers
# lie 0.4 to 0.8 % apart. What happens to an
# update that is smaller than a step?

# %%
merge = check.use(merge, fallback=numerics.merge)

draw = np.random.default_rng(SEED)
base = numerics.to_bfloat16(draw.normal(0, 0.02, size=(256, 256)))
a, b = draw.normal(size=(16, 256)), draw.normal(size=(256, 16))
delta = merge(np.zeros((256, 256)), a, b, alpha=32)

relative = np.logspace(-5, 0, 16)  # how large the update is, beside the weights
lost, unmoved = [], []
for size in relative:
    update = delta * size * np.linalg.norm(base) / np.linalg.norm(delta)
    kept = numerics.to_bfloat16(base + update) - base
    lost.append(100 * np.linalg.norm(kept - update) / np.linalg.norm(update))
    unmoved.append(100 * np.mean(kept == 0))
for wanted in (1e-4, 1e-3, 1e-2, 1e-1):
    place = int(np.argmin(abs(np.log(relative / wanted))))
    print(
        f"an update of {relative[place]:.0e} of the weights: {lost[place]:4.0f} % error, "
        f"{unmoved[place]:4.0f} % of the weights did not move"
    )

# %% tags=["hide-input"]
made, (axis,) = figures.figure(1, 1, (6.4, 3.2))
figures.line(axis, "merged into bfloat16", list(relative), lost)
axis.axhline(100, color="#6E6E6E", linestyle="dotted")
with figures.style():
    axis.set(
        xscale="log",
        xlabel="size of the update, relative to the weights",
        ylabel="error after merging, % of the update",
    )
    axis.set_xticks([1e-4, 1e-3, 1e-2, 1e-1, 1], ["0.0001", "0.001", "0.01", "0.1", "1"])
    axis.minorticks_off()
    axis.set_title("Small updates drown when they are merged into bfloat16")
figures.show(
    made,
    alt="Error of a bfloat16 merge over the size of the update: near a hundred percent at a "
    "ten-thousandth of the weights, two percent at a tenth.",
)

# %% [markdown]
# **What you should see.** Of an update as large as a ten-thousandth of the weights nearly nothing arrives; at a thousandth four fifths are lost; at a
# hundredth a sixth. In the first two rows most weights do not move at all: half a step of bfloat16 is more than their share of the update.
#
# Self-play's updates are small: a learning rate of 5e-5 and a hundred steps. Three consequences, all of them in this package:
#
# * adapters are kept in float32, whatever the base is ([notebook 09](09_scaling.ipynb) meets the same reason for full tuning);
# * publish the adapter itself where you can; merge once, at the end, and evaluate *the merged model*;
# * never merge and un-merge in the loop. A vLLM server, a separate process that samples replies faster ([notebook 09](09_scaling.ipynb)), takes merged
#   weights only; the usual way adds the update at each step and subtracts it again:

# %% tags=["hide-input"]
def round_trips(rounds, size):
    """Drift of the frozen base, relative to its size, after each round of merge and un-merge."""
    weight, drift = base.copy(), []
    for step in range(1, rounds + 1):
        # the adapter grows as it learns
        update = delta * size * np.linalg.norm(base) / np.linalg.norm(delta) * (step / rounds)
        weight = numerics.to_bfloat16(numerics.to_bfloat16(weight + update) - update)
        drift.append(np.linalg.norm(weight - base) / np.linalg.norm(base))
    return drift


made, (axis,) = figures.figure(1, 1, (6.4, 3.0))
for place, size in enumerate((1e-3, 1e-2, 1e-1)):
    figures.line(
        axis,
        f"update grows to {size:g} of the weights",
        list(range(1, 101)),
        [100 * d for d in round_trips(100, size)],
        place,
    )
with figures.style():
    axis.set(
        yscale="log",
        xlabel="rounds of merging and un-merging",
        ylabel="drift of the base, % of its size",
    )
    axis.set_yticks([1e-6, 1e-4, 1e-2, 1], ["0.000001", "0.0001", "0.01", "1"])
    axis.minorticks_off()
    axis.set_title("A frozen base that is merged and un-merged drifts")
    axis.legend()
figures.show(
    made,
    alt="Drift of a base that is merged and un-merged in bfloat16 a hundred times: it grows for "
    "each of three sizes of update.",
)

# %% [markdown]
# **What you should see.** The weights that nobody trains move, and the more the adapter has learnt, the further. This is numpy with random matrices, no measurement
# of a model. So `azr_lite` refuses adapters with a vLLM server. vLLM on the same GPU gets the adapter as it is, one file per step; no weight of the base changes.

# %% [markdown]
# ## 3. Plan before you rent
#
# A run has two peaks. In the **update**: base weights, the adapter with its gradient and [moments](glossary.md#moments), and the activations (what the backward pass needs
# of each layer) of one micro-batch, the rows that are computed at once. In **generation**:
# base weights, the prompts being read, and the [KV cache](glossary.md#kv-cache) of all replies that are sampled at once. What must fit is the larger one.

# %%
print(course.plan_text(az.plan("lora-1.5b-16gb", gpu="16GB")))

# %% [markdown]
# Nothing was downloaded for this: the planner knows the shapes of common models. The same on a terminal: `azr-lite plan lora-1.5b-16gb --gpu 16GB`;
# with `--why`, the reason of every setting.
#
# In the column *generation*, activations are those of the prompts being read: a whole chunk of them at once. (A chunk is the group of replies that are
# sampled together, `generation_chunk`.) Here they are the largest part of all.
#
# Adapter, gradient and moments together are a small part here. So what fills a card under LoRA? Try it. (With a live kernel there are sliders below the
# grid; elsewhere you see the grid alone.)

# %% tags=["hide-input"]
# @title What is drawn below { display-mode: "form" }
PARTS = {
    "base": ("weights",),
    "adapter, gradient, moments": ("adapters", "gradients", "optimiser"),
    "activations, logits": ("activations", "head"),
    "KV cache": ("cache",),
    "CUDA": ("context",),
}


def memory(axis, preset, card, micro_batch, chunk, rank, reply):
    changes = {
        "micro_batch_size": micro_batch,
        "generation_chunk": chunk,
        "lora_rank": rank,
        "lora_alpha": 2 * rank,
        "max_reply_tokens": reply,
    }
    plan = az.plan(az.preset(preset, **changes), gpu=card)
    left = np.zeros(2)
    for place, (label, names) in enumerate(PARTS.items()):
        wide = np.array(
            [
                sum(getattr(phase, name) for name in names)
                for phase in (plan.generation, plan.update)
            ]
        )
        axis.barh(
            ["generation", "update"],
            wide,
            left=left,
            label=label,
            color=figures.look(label, place).colour,
            hatch=["", "//", "..", "xx", "\\\\"][place],
            edgecolor="white",
        )
        left += wide
    axis.axvline(plan.usable_gb, color="black", linestyle="dashed")
    axis.set_xlim(0, max(1.1 * plan.usable_gb, 1.02 * left.max()))
    axis.set_xlabel(f"GB, planned: peak {plan.peak_gb:.1f} (dashed: usable)", fontsize=8)
    axis.set_title(
        f"{preset.removeprefix('lora-')} on {card}: {'fits' if plan.fits else 'DOES NOT FIT'}\n"
        f"chunk {chunk}, rank {rank}, replies {reply}",
        fontsize=8,
    )
    axis.legend(fontsize=6, loc="lower center", bbox_to_anchor=(0.5, 1.22), ncols=2)

# %% tags=["hide-input"]
start = {
    "preset": "lora-1.5b-16gb",
    "card": "16GB",
    "micro_batch": 4,
    "chunk": 64,
    "rank": 16,
    "reply": 512,
}
widgets.explore(
    memory,
    "Planned memory of one GPU in generation and update: rank hardly shows, chunk and reply "
    "length decide; the third setting does not fit.",
    static=[start, {**start, "rank": 64}, {**start, "chunk": 128, "reply": 1024}],
    size=(3.1, 2.7),
    preset=["lora-0.5b-8gb", "lora-1.5b-16gb", "lora-3b-24gb"],
    card=["8GB", "12GB", "16GB", "24GB"],
    micro_batch=[1, 2, 4, 8],
    chunk=[16, 32, 64, 128],
    rank=[4, 16, 64],
    reply=[256, 512, 1024, 2048],
)

# %% [markdown]
# **What you should see.** Planned, not measured. Four times the rank adds less than one GB. Twice the replies at once, and twice as long, does not fit
# a 16 GB card any more. Under LoRA, memory goes to text in flight (activations, logits and KV cache), not to what is learnt.
#
# The dashed line is 92 % of the card; the rest is lost to fragmentation and the desktop.
#
# ### Exercise 3: make it fit (1 point, 4 minutes; difficulty 1 of 5, importance 3 of 5)
#
# `lora-3b-24gb` was made for 24 GB. You have 16. What is the **largest power of two** for `generation_chunk` (replies sampled at once) with which it fits?
# Plan with `az.plan(az.preset("lora-3b-24gb", generation_chunk=...), gpu="16GB")`, and read `.fits`.

# %% tags=["exercise"]
chunk = ...

check.chunk(chunk)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Start at 64 and halve. A loop of three lines does it. Why the largest? Each chunk is decoded until its longest reply ends, so half the chunk is
# twice as many rounds.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# chunk = 64
# while not az.plan(az.preset("lora-3b-24gb", generation_chunk=chunk), gpu="16GB").fits:
#     chunk //= 2
# ```
#
# Why: halving from above stops at the largest power of two that fits.
# </details>

# %%
chunk = check.use(chunk, fallback=course.exercise_of("chunk").key, name="chunk")
for tried in (64, 32, 16, 8):
    plan = az.plan(az.preset("lora-3b-24gb", generation_chunk=tried), gpu="16GB")
    print(
        f"chunk {tried:2}: {plan.peak_gb:6.2f} of {plan.usable_gb:.2f} GB "
        f"{'fits' if plan.fits else '    '}  {plan.step_seconds:4.0f} s per step (a rough "
        "estimate)"
    )

print("\nwhat the planner itself advises for chunk 64:")
for advice in az.plan("lora-3b-24gb", gpu="16GB").advice:
    print(" ", advice.text)

# %% [markdown]
# **What you should see.** Memory falls with the chunk, and the estimated time of a step rises. 64 misses by two and a half gigabytes.
# The planner's own list begins with what costs only time and ends with what costs learning or money.
#
# `.fits` looks at both peaks. Where the update is the larger one, the chunk does not help at all.

# %% [markdown]
# ## 4. Launch, stop, resume: live, with the nano model
#
# The same code path as on a GPU, in seconds: LoRA over the embedded model. (Its preset trains all weights, as in
# [notebook 06](06_learn.ipynb); here we want to see an adapter come into being.)

# %% tags=["long"]
folder = Path("runs") / "notebook-07"
shutil.rmtree(folder, ignore_errors=True)  # this notebook's own, made anew each time
steps = STEPS or {"ci": 1, "cpu": 4, "gpu": 10}[profile]
small = (
    {"batch_size": 4, "solver_batch_size": 4, "n_mc": 2}
    if profile == "ci"
    else {"batch_size": 16, "solver_batch_size": 24}
)

az.run(
    "nano",
    tuning="lora",
    lora_rank=8,
    lora_alpha=16,
    learning_rate=2e-3,
    dtype="float32",
    seed=SEED,
    steps=steps,
    updates_per_step=1,
    micro_batch_size=12,
    eval_problems=0,
    self_test=False,
    seed_batch_factor=1,
    seed_rounds=1,
    output_dir=str(folder / "nano-lora"),
    **small,
)
checkpoint = folder / "nano-lora" / f"checkpoint-{steps}"
for path in sorted(checkpoint.iterdir()):
    print(f"{path.stat().st_size:9,} bytes  {path.name}")

# %% [markdown]
# **What you should see.** A whole [checkpoint](glossary.md#checkpoint). Its adapter is `adapter_model.safetensors` with `adapter_config.json`, the form
# that [peft](glossary.md#peft) reads: a small part of the model's 1.9 MB. `optimizer.pt` holds two moments for each trained weight, `selfplay.json` the buffers.
#
# **If you see something else**: "exists already" is what you get where a run directory stands in the way. It is never reused silently: resume it, or choose
# another name. (This cell deletes its own folder first, which you would not do with a run that you care for.)
#
# **Stop.** The first Ctrl-C (in a notebook: the square button) finishes the step, saves and ends; the second stops at once, and then the last
# checkpoint counts. **Resume** goes on from there:

# %% tags=["long"]
az.resume(folder / "nano-lora", steps=steps + 1)
print(sorted(path.name for path in (folder / "nano-lora").glob("checkpoint-*")))

# %% [markdown]
# ### Exercise 4: what may a resumed run change? (1 point, 4 minutes; difficulty 2 of 5, importance 3 of 5)
#
# Some settings say *what* is learned; a resumed run keeps them. Others only say how long, how safe and how fast; they are free. Which of these eight are
# free? `"steps"`, `"learning_rate"`, `"micro_batch_size"`, `"lora_rank"`, `"n_mc"`, `"generation_chunk"`, `"temperature"`, `"max_hours"`

# %% tags=["exercise"]
may_change = ...  # a set of names, such as {"steps", "lora_rank"}

check.may_change(may_change)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Which of them appear in the formulas of notebooks 03 and 04, or in the optimiser's? Which only cut the same work into other pieces?
# </details>
# <details><summary>Solution</summary>
#
# ```python
# may_change = {"steps", "max_hours", "micro_batch_size", "generation_chunk"}
# ```
#
# Why: two say how long, two cut the same work into other pieces; the other four change what is
# learned.
# </details>

# %%
may_change = check.use(may_change, fallback=course.exercise_of("may_change").key, name="may_change")

for name in sorted(may_change):
    print(f"azr-lite resume runs/notebook-07/nano-lora --{name.replace('_', '-')} ...")

# %% [markdown]
# Now your functions meet a real adapter: count its numbers, merge it, and hold the result against the merge of peft.

# %% tags=["long"]
from safetensors.numpy import load_file

checkpoint = folder / "nano-lora" / f"checkpoint-{steps + 1}"
adapter = load_file(checkpoint / "adapter_model.safetensors")
weights = load_file(Path(az.__file__).parent / "nano" / "weights" / "model.safetensors")
alpha = json.loads((checkpoint / "adapter_config.json").read_text(encoding="utf-8"))["lora_alpha"]

counted = adapter_parameters(shape_of("nano"), 8)
print(
    f"{counted:,} numbers by formula, {sum(array.size for array in adapter.values()):,} in the file"
)

merged = {}
for key in adapter:
    if key.endswith("lora_A.weight"):
        name = key.removeprefix("base_model.model.").replace("lora_A.weight", "weight")
        merged[name] = merge(
            weights[name], adapter[key], adapter[key.replace("lora_A", "lora_B")], alpha
        )
print(f"{len(merged)} maps merged, such as {next(iter(merged))}")

# %% tags=["long"]
from peft import PeftModel
from transformers import AutoModelForCausalLM
from transformers.utils import logging

logging.disable_progress_bar()
model = AutoModelForCausalLM.from_pretrained(Path(az.__file__).parent / "nano" / "weights")
theirs = PeftModel.from_pretrained(model, checkpoint).merge_and_unload().state_dict()
far = max(abs(theirs[name].numpy() - mine).max() for name, mine in merged.items())
print(f"largest difference from peft's merge: {far:.1e}")

# %% [markdown]
# **What you should see.** Two equal counts, and a difference at float32's own rounding (1e-7 or less): yours and peft's merge are the same.
#
# Where did the adapter move the model? Size of the change beside size of the weights, for each kind of map:

# %% tags=["long", "hide-input"]
moved = {}
for name, after in merged.items():
    kind = name.split(".")[-2].removesuffix("_proj")
    moved.setdefault(kind, []).append(
        np.linalg.norm(after - weights[name]) / np.linalg.norm(weights[name])
    )
made, (axis,) = figures.figure(1, 1, (6.0, 2.8))
percent = {kind: 100 * float(np.mean(values)) for kind, values in moved.items()}
figures.bars(
    axis, list(percent), list(percent.values()), "change, % of the weights' size (mean over layers)"
)
axis.margins(x=0.1)
with figures.style():
    axis.set_title(
        f"{steps + 1} steps of LoRA moved every kind of map by {min(percent.values()):.2g} to "
        f"{max(percent.values()):.2g} %"
    )
figures.show(
    made,
    alt="Relative change of each kind of linear map after the short nano LoRA run: all seven "
    "kinds have moved a little.",
)

# %% [markdown]
# **What you should see.** All seven kinds moved, each by about one percent. Look back at the first figure of section 2: at that size, how much of the update would
# a merge into bfloat16 lose? (The nano model is float32, so nothing is lost here.)
#
# Exact zeros mean that B never got a gradient, because all rewards of a group were alike. [Notebook 08](08_reading_a_run.ipynb), section 7, has such a run.

# %% [markdown]
# ## 5. A real model, recorded
#
# Qwen2.5-Coder-0.5B-Instruct played against itself, on a CPU, with the preset `cpu-0.5b`. No task and
# no answer came from anywhere but the model; the first task was the identity function. Every number
# below is read from the recorded files, also the sentences that judge it, so more seeds may join.

# %%
def rows_of(folder, name):
    return [json.loads(row) for row in (folder / name).read_text(encoding="utf-8").splitlines()]


runs = course.real_runs()
logs = {name: rows_of(run, "metrics.jsonl") for name, run in runs.items()}
first = next(iter(runs.values()))
config = az.Config.from_json(json.loads((first / "config.json").read_text(encoding="utf-8")))
print(f"recorded: {', '.join(runs)}")
print(
    f"{config.steps} steps of {config.batch_size} proposals and {config.solver_batch_size} "
    "trained answers;"
)
print(
    f"LoRA of rank {config.lora_rank}, learning rate {config.learning_rate:g}, each task tried "
    f"{config.n_mc} times"
)

# %% [markdown]
# ### Is there anything to learn from?
#
# Before any score, ask what [notebook 03](03_rewards.ipynb) asked: are proposals valid, and is a part
# of them learnable (0 < r̄ < 1)? Without that, no reward differs from another.

# %% tags=["hide-input"]
def fifths(values):
    """Mean of the first and of the last fifth of a run."""
    part = max(1, len(values) // 5)
    return mean(values[:part]), mean(values[-part:])


PANELS = {
    "valid proposals": ("propose/", "/ok", "share of proposals", "{:.0%}"),
    "learnable tasks per step": ("propose/", "/learnable_tasks", "tasks", "{:.0f}"),
    "tokens per answer": ("solve/", "/tokens", "tokens", "{:.0f}"),
}
made, axes = figures.figure(1, 3, (10.5, 3.0))
for axis, (panel, (start, end, unit, shape)) in zip(axes, PANELS.items()):
    ends = []
    for place, (name, log) in enumerate(logs.items()):
        values = [mean(course.across(row, start, end)) for row in log]
        ends.append(fifths(values))
        figures.line(axis, name, [row["step"] + 1 for row in log], values, place)
    was, now = (shape.format(mean([pair[side] for pair in ends])) for side in (0, 1))
    with figures.style():
        axis.set(xlabel="self-play step", ylabel=unit)
        axis.set_ylim(bottom=0)
        axis.set_title(f"{panel}: {was} → {now}")
with figures.style():
    axes[0].legend()
figures.show(
    made,
    alt="Share of valid proposals, learnable tasks per step and tokens per answer over the "
    "steps of the recorded runs of a real model",
)

# %% [markdown]
# **What you should see.** In each title: the mean of the first and of the last fifth of the steps. The
# first two curves must stay away from 0 for the third to mean anything: as long as tasks are valid and
# sometimes solved, there is a signal. Answers that get shorter are no illness by themselves: a solver
# that answers at once, where it used to ramble into the token limit, gains form. They *may* also cost
# skill where working it out would have helped. Only held-out scores can tell.
#
# ### What does it write, before and after?
#
# The run asked 100 held-out questions before its first step and after its last. Some turned right, some
# turned wrong. Look at both.

# %%
def asked(folder, name):
    return {row["id"]: row for row in rows_of(folder, f"eval/{name}.jsonl")}


before, after = asked(first, "before"), asked(first, f"step-{config.steps}")
turned = {
    "newly right": [key for key in before if after[key]["right"] and not before[key]["right"]],
    "newly wrong": [key for key in before if before[key]["right"] and not after[key]["right"]],
}
print(
    f"{first.name}: right before {sum(row['right'] for row in before.values())} of {len(before)}, "
    f"after {sum(row['right'] for row in after.values())}; "
    + ", ".join(f"{len(keys)} {word}" for word, keys in turned.items())
)
for word, keys in turned.items():
    for key in keys[:2]:
        print(f"\n--- {word}\n" + before[key]["prompt"].split("\n\n", 1)[-1])
        for label, row in (("before", before[key]), ("after", after[key])):
            print(
                f"    {label:7} {row['text'].strip()[:90]!r}, {row['tokens']} tokens"
                + (", cut off" if row["truncated"] else "")
            )

# %%
tasks = [row for row in rows_of(first, "tasks.jsonl") if row["ok"]]
for step in (0, config.steps - 1):
    one = next(row for row in tasks if row["step"] == step and 0 < (row["solve_rate"] or 0) < 1)
    print(f"--- proposed in step {step + 1}, solved {one['solve_rate']:.0%} of the time")
    print(f"{one['task']['program']}\nf({one['task']['input']}) == {one['task']['output']}\n")

# %% [markdown]
# **What you should see.** Whole replies. Read them before you believe a percentage: is a new right
# answer one that was *worked out*, or one that is now merely *finished*?
#
# ### How much better, and how sure?
#
# The adapter was then asked four larger sets of questions, and so was the untrained model:
# CRUXEval's outputs and inputs (programs that others wrote), 300 tasks that the untrained model
# proposed, and 300 simple chains of operations. **Strict** is what self-play rewards: the whole reply
# is one literal and its value is right. **Skill** counts strict answers among those questions only that
# were well formed both times; what is gained there is not form.

# %% tags=["hide-input"]
compared = json.loads(recorded("benchmarks/real/comparison.json").read_text(encoding="utf-8"))[
    "sets"
]
MEASURES = ("strict", "well formed", "skill")


def moves(row):
    """What a gain allows to say: its 95 % interval leaves out 0, and McNemar's p is under 5 %."""
    sure = row.get("p_questions", row["p"]) < 0.05
    return (
        "rises"
        if sure and row["low"] > 0
        else "falls"
        if sure and row["high"] < 0
        else "no change shown"
    )


made, (axis,) = figures.figure(1, 1, (7.2, 3.4))
for place, measure in enumerate(MEASURES):
    own = figures.look(measure, place)
    for height, name in enumerate(reversed(compared)):
        row, y = compared[name][measure], height + 0.22 * (1 - place)
        axis.plot([row["low"], row["high"]], [y, y], color=own.colour, linewidth=4, alpha=0.35)
        axis.plot(
            [row["gain"]], [y], own.marker, color=own.colour, label=measure if height == 0 else None
        )
        axis.plot(
            [one["gain"] for one in row["seeds"]], [y] * len(row["seeds"]), "|", color=own.colour
        )
told = [moves(row["strict"]) for row in compared.values()]
with figures.style():
    axis.axvline(0, color="#6E6E6E", linewidth=1)
    axis.set_yticks(range(len(compared)), list(reversed(compared)))
    axis.set_xlabel("gain over the untrained model, points (95 % interval; ticks: single seeds)")
    axis.set_title(
        f"Strict: of {len(told)} sets {told.count('rises')} up, {told.count('falls')} down; "
        f"seeds: {len(runs)}"
    )
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
figures.show(
    made,
    alt="Gains of the recorded runs on four held-out sets with 95 percent intervals: strict "
    "score, well-formed replies, and skill",
)

# %%
for name, row in compared.items():
    for measure in MEASURES:
        own = row[measure]
        was, now = (100 * own[side] / own["n"] for side in ("before", "after"))
        print(
            f"{name if measure == 'strict' else '':11} {measure:12} {was:5.1f} → {now:5.1f} %  "
            f"{own['gain']:+5.1f} [{own['low']:+5.1f}, {own['high']:+5.1f}]  "
            f"won {own['gained']:3} lost {own['lost']:3}  p {own['p_questions']:.3f}  {moves(own)}"
        )
up = [name for name, row in compared.items() if moves(row["skill"]) == "rises"]
down = [name for name, row in compared.items() if moves(row["skill"]) == "falls"]
print(
    f"\nSkill, not form alone, rises on {', '.join(up) or 'no set'}; it falls on "
    f"{', '.join(down) or 'none'}."
)
if len(runs) < 3:
    print(
        f"{len(runs)} seed: another seed is another run, and its luck is in none of these "
        "intervals."
    )

# %% [markdown]
# **What you should see.** A verdict per set and measure, made from the interval and the p of
# [McNemar's test](glossary.md#mcnemars-test) (explained in [notebook 08](08_reading_a_run.ipynb)), and one sentence
# below that says where skill moved. A set that *falls* is as much a result as one that rises, and is told
# beside it. Two cautions belong to every such table: the interval of one seed covers the luck of the
# questions only; and without controls ("no update", "shuffled rewards", see
# [notebook 06](06_learn.ipynb)) it does not show that it was the *reward*. The
# [protocol](../docs/explanation/real_model.md) names the controls, and says which have been run.
#
# ### What did it cost?

# %%
for name, run in runs.items():
    timing = rows_of(run, "timing.jsonl")
    stages = {
        stage: sum(row[stage] for row in timing)
        for stage in ("generate", "sandbox", "update", "rest")
    }
    shares = ", ".join(
        f"{stage} {seconds / sum(stages.values()):.0%}" for stage, seconds in stages.items()
    )
    tokens = sum(row["tokens/generated"] for row in logs[name])
    print(
        f"{name}: {sum(stages.values()) / 60:.0f} minutes, "
        f"{max(row['memory_mib'] for row in timing) / 1024:.1f} GiB, "
        f"{tokens:,.0f} tokens sampled\n  {shares}"
    )
plan = az.plan(config.replace(model="Qwen/Qwen2.5-Coder-0.5B-Instruct"))
print(
    f"planned before: roughly {plan.step_seconds:.0f} s per step, {plan.peak_gb:.1f} GB; recorded: "
    f"{sum(stages.values()) / len(timing):.0f} s per step"
)

# %% [markdown]
# Sampling and the update share the time; running programs costs next to nothing. Evaluations and the
# first download come on top.

# %% [markdown]
# ## 6. The same on your machine
#
# In a terminal it is one command, with a card or without:
#
# ```bash
# azr-lite run --preset cpu-0.5b                    # two CPU cores, about an hour
# azr-lite plan lora-1.5b-16gb                      # does it fit the card that is here?
# azr-lite run --preset lora-1.5b-16gb --max-hours 11
# azr-lite watch runs/lora-1.5b-16gb-seed0          # in a second terminal; Ctrl-C quits the watching
# azr-lite resume runs/lora-1.5b-16gb-seed0 --steps 400
# ```
#
# The next cell does the same from here. It starts a process that lives on when the notebook loses its
# connection, shows what the run says from its first second (download, self-test, first evaluation,
# seeding), then the live panel. Run the cell again and it goes on with the run that is there. On Colab
# or Kaggle, where the whole machine may vanish, set `KEEP` to a folder of your own drive (on Colab, mount it first).

# %% tags=["long"]
LAUNCH = profile == "gpu"  # True starts it on a CPU too
KEEP = ""  # a folder to which checkpoints are copied (--sync-to)
ladder = ("lora-0.5b-8gb", "lora-1.5b-16gb", "lora-3b-24gb") if profile == "gpu" else ("cpu-0.5b",)
rung = ([name for name in ladder if az.plan(name).fits] or ladder[:1])[-1]
mine = Path("runs") / f"{rung}-notebook"
words = ["--preset", rung, "--seed", str(SEED), "--go-on", "--output-dir", str(mine)]
words += ["--steps", str(STEPS)] if STEPS else []
words += ["--sync-to", KEEP] if KEEP else []
print("azr-lite run", *words, "" if LAUNCH else "\n(not started: LAUNCH is False)")

if LAUNCH:
    import time

    mine.parent.mkdir(exist_ok=True)
    log = mine.with_suffix(".log")
    with log.open("a") as said:
        command = [sys.executable, "-m", "azr_lite", "run", *words]
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
    with log.open() as told:
        while process.poll() is None and not (mine / "metrics.jsonl").exists():
            print(told.read(), end="", flush=True)
            time.sleep(1)
        print(told.read(), end="")
    if (mine / "metrics.jsonl").exists():
        az.Run(mine).dashboard()

# %% [markdown]
# And what came of it? The next cell speaks of your run where there is one, else of the recorded one. It
# computes what may be said.

# %% tags=["long"]
def may_say(run):
    """What the files of a run allow to say about it."""
    log = rows_of(run, "metrics.jsonl")
    spreads = [value for row in log for key, value in row.items() if key.endswith("/reward_std")]
    valid = fifths([mean(course.across(row, "propose/", "/ok")) for row in log])
    print(f"{run.name}: {len(log)} steps; valid proposals {valid[0]:.0%} → {valid[1]:.0%}")
    if max(spreads) == 0:
        return print(
            "All rewards of each group are alike, so there was nothing to learn from: see "
            "notebook 08, section 7."
        )
    scored = sorted((int(path.stem[5:]), path) for path in (run / "eval").glob("step-*.jsonl"))
    if not scored:
        return print("It was not evaluated after a step yet, so nothing can be said about a gain.")
    step, last = scored[-1]
    gain = course.compare_paired(
        course.read_items(run / "eval/before.jsonl"), course.read_items(last)
    )["all"]
    word = {"rises": "It rose", "falls": "It fell"}.get(moves(gain), "That shows no change")
    print(
        f"Held-out after {step} steps: {100 * gain['gain']:+.1f} points "
        f"[{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}], "
        f"won {gain['won']}, lost {gain['lost']}. {word}, by these questions and this seed."
    )


may_say(mine if (mine / "metrics.jsonl").exists() else first)

# %% [markdown]
# **What you should see.** One sentence that depends on the numbers. The questions that a run asks on the
# way are few (100 in this preset), so its interval is wide; the four sets of section 5 are what decides.
#
# **If you see something else**: the run's own words stand in `runs/…-notebook.log`. A run whose rewards
# are all −1 is a patient of [notebook 08](08_reading_a_run.ipynb), section 7.

# %% [markdown]
# ## 7. Publish an adapter
#
# A checkpoint of a LoRA run *is* a peft adapter: `PeftModel.from_pretrained(base, checkpoint)` in section 4 proved it. `azr-lite export RUN` takes it out of its
# run with a model card, `--merge` makes one whole model for programs that know no adapters. In Python, for the run of section 4:

# %% tags=["long"]
for merged_too in (False, True):
    published = az.Run(folder / "nano-lora").export(
        folder / f"export-{'merged' if merged_too else 'adapter'}", merge=merged_too
    )
    print(published.name)
    for path in sorted(published.iterdir()):
        print(f"{path.stat().st_size:13,} bytes  {path.name}")
card = (published / "README.md").read_text(encoding="utf-8")
print("\n".join(card.splitlines()[:24]))

# %% [markdown]
# **What you should see.** An adapter of 200 kilobytes beside a model of ten times the size, each with a card that says which run, which step and which base it came from. Before a merged folder gets its name,
# plain transformers reads it back and must give the logits that the merged model had in memory, bit for bit.
#
# Then it can go to the hub. `--dry-run` lists what would be sent and prints the card; without it the repository is made, private unless you say `--public`:
#
# ```bash
# azr-lite push runs/lora-1.5b-16gb-seed0 YOUR_NAME/YOUR_MODEL --merge --dry-run
# ```
#
# Before you publish, four questions:
#
# 1. **Which base, which licence?** An adapter is worth nothing without its base, and follows its licence (Qwen2.5-Coder: 1.5B and 7B Apache-2.0, 3B Qwen research).
# 2. **Is the merged model as good as base plus adapter?** Section 2 says why it may not be: evaluate what you publish (`azr-lite eval FOLDER`).
# 3. **Against what?** `azr-lite eval RUN --compare RUN@0` gives the gain with an interval, on the same questions, and how much of it is form.
# 4. **Can it be made again?** Seed, settings, versions and the command are in `config.json` and `run.json`; publish them with it.
#
# ## What you can do now
#
# Count and merge adapters; say what fills a card, and what to lower first; launch, stop and resume a
# run; and say of a real model's run what its numbers allow, and no more.
#
# **To go on thinking**
#
# * LoRA's learning rate in section 4 is ten times that of full tuning. Which part of the formula B·A·α/r could make larger steps harmless, and which dangerous?
# * With `--roles split`, proposer and solver are two adapters on one base. What would they no longer share?
# * Section 5 compares with the untrained model. Which of its four sets is closest to what was trained,
#   and what would you ask next if one of them fell?
#
# Next: [notebook 08](08_reading_a_run.ipynb) reads runs that do move, healthy and sick.
