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
# * launch, watch, stop and resume a real run;
# * publish an adapter.
#
# **Before this:** notebook 06; what a linear map in PyTorch is.
#
# **Budget:** 13 minutes to read (2,681 words); 4 exercises (6 points, about 22 minutes); 53 seconds and 723 MiB on 2 CPU cores; on a GPU: not measured.
#
# **Last verified:** Python 3.11.7, azr-lite 0.1.0, numpy 2.4.6, torch 2.13.0+cpu, transformers 5.23.0, trl 1.16.0, 2026-11-30.
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
        raise SystemExit(f"This notebook needs {names}, and pip could not install them ({why}). "
                         "Go online, or put the package's wheel beside the notebook, and run "
                         "this cell again.")

# %% tags=["parameters"]
PROFILE = "auto"  # ci, cpu or gpu; auto looks at this machine
SEED = 0
STEPS = None  # None: as many as the profile has

# %% tags=["setup"]
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np

import azr_lite as az
from azr_lite import course
from azr_lite.course import Shape, check, figures, numerics, profile, recorded, shape_of, widgets

profile = profile(PROFILE)

# %% [markdown]
# ## What is measured here, and what is not
#
# This notebook prepares self-play with a real model on one GPU. Three kinds of numbers stand in it, and each says which it is:
#
# * **computed here**: LoRA's algebra, and a short LoRA run of the embedded nano model;
# * **recorded on a CPU**: a LoRA run of SmolLM2, 135 million weights, on a machine with two CPU cores (`data_samples/runs/smollm2-lora`);
# * **planned, not measured**: everything about GPUs. **No GPU run has been recorded yet**: the planner counts bytes from formulas and guesses
#   times from datasheets. If you have a GPU, section 5 starts a real run on it, and your numbers beat ours.

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
# ### Exercise 1: count what is trained (2 points, 8 minutes)
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
# `check.reveal("adapter_parameters")` shows the package's own.
# </details>

# %%
adapter_parameters = check.use(adapter_parameters, fallback=Shape.adapter_parameters)

sizes = {size: shape_of(f"Qwen/Qwen2.5-Coder-{size}-Instruct") for size in ("0.5B", "1.5B", "3B", "7B")}
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
figures.show(made, alt="Share of trained weights over the rank, four model sizes: straight lines on logarithmic axes, about one percent at rank 16.")

for size, shape in sizes.items():
    print(f"{size:>5}: {shape.parameters:14,} weights, {adapter_parameters(shape, 16):11,} trained at rank 16")

# %% [markdown]
# **What you should see.** Four straight, parallel lines: the number grows with r, and a larger model trains a smaller share of itself.
#
# **If you see something else**: a curve that bends means that something other than r·(inputs + outputs) was counted, such as the frozen base.

# %% [markdown]
# ## 2. Merge, and what rounding eats
#
# After training, W and the adapter can become one matrix again, so that any program can load the model, and an input
# meets one matrix instead of three.
#
# ### Exercise 2: merge an adapter (2 points, 6 minutes)
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
# `check.reveal("merge")` shows the package's own.
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

made, (axis,) = figures.figure(1, 1, (6.4, 3.2))
figures.line(axis, "merged into bfloat16", list(relative), lost)
axis.axhline(100, color="#6E6E6E", linestyle="dotted")
with figures.style():
    axis.set(xscale="log", xlabel="size of the update, relative to the weights", ylabel="error after merging, % of the update")
    axis.set_xticks([1e-4, 1e-3, 1e-2, 1e-1, 1], ["0.0001", "0.001", "0.01", "0.1", "1"])
    axis.minorticks_off()
    axis.set_title("Small updates drown when they are merged into bfloat16")
figures.show(made, alt="Error of a bfloat16 merge over the size of the update: near a hundred percent at a ten-thousandth of the weights, two percent at a tenth.")
for wanted in (1e-4, 1e-3, 1e-2, 1e-1):
    place = int(np.argmin(abs(np.log(relative / wanted))))
    print(f"an update of {relative[place]:.0e} of the weights: {lost[place]:4.0f} % error, {unmoved[place]:4.0f} % of the weights did not move")

# %% [markdown]
# **What you should see.** Of an update as large as a ten-thousandth of the weights nearly nothing arrives; at a thousandth four fifths are lost; at a
# hundredth a sixth. In the first two rows most weights do not move at all: half a step of bfloat16 is more than their share of the update.
#
# **If you see something else**: without rounding (`numerics.to_bfloat16` left out) the line lies at zero; that is a merge in float32.
#
# Self-play's updates are small: a learning rate of 1e-5 and a few hundred steps. Three consequences, all of them in this package:
#
# * adapters are kept in float32, whatever the base is ([notebook 09](09_scaling.ipynb) meets the same reason for full tuning);
# * publish the adapter itself where you can; merge once, at the end, and evaluate *the merged model*;
# * never merge and un-merge in the loop. vLLM, a separate engine that samples replies faster ([notebook 09](09_scaling.ipynb)), wants merged weights
#   at each step, and the usual way adds the update and subtracts it again:

# %%
def round_trips(rounds, size):
    """Drift of the frozen base, relative to its size, after each round of merging and un-merging."""
    weight, drift = base.copy(), []
    for step in range(1, rounds + 1):
        update = delta * size * np.linalg.norm(base) / np.linalg.norm(delta) * (step / rounds)  # the adapter grows as it learns
        weight = numerics.to_bfloat16(numerics.to_bfloat16(weight + update) - update)
        drift.append(np.linalg.norm(weight - base) / np.linalg.norm(base))
    return drift

made, (axis,) = figures.figure(1, 1, (6.4, 3.0))
for place, size in enumerate((1e-3, 1e-2, 1e-1)):
    figures.line(axis, f"update grows to {size:g} of the weights", list(range(1, 101)), [100 * d for d in round_trips(100, size)], place)
with figures.style():
    axis.set(yscale="log", xlabel="rounds of merging and un-merging", ylabel="drift of the base, % of its size")
    axis.set_yticks([1e-6, 1e-4, 1e-2, 1], ["0.000001", "0.0001", "0.01", "1"])
    axis.minorticks_off()
    axis.set_title("A frozen base that is merged and un-merged drifts")
    axis.legend()
figures.show(made, alt="Drift of a base that is merged and un-merged in bfloat16 a hundred times: it grows for each of three sizes of update.")

# %% [markdown]
# **What you should see.** The weights that nobody trains move, and the more the adapter has learnt, the further. This is numpy with random matrices, no measurement
# of a model. `azr_lite` writes the frozen base back bit for bit after each hand-over to vLLM (`adapters.protect_frozen_weights`), and refuses
# vLLM over a 4-bit base altogether.
#
# **If you see something else**: a flat zero means that the update lies on bfloat16's own grid, or that rounding was left out.

# %% [markdown]
# ## 3. Plan before you rent
#
# A run has two peaks. In the **update**: base weights, the adapter with its gradient and moments, and activations of one micro-batch. In **generation**:
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

# %%
PARTS = {
    "base": ("weights",),
    "adapter, gradient, moments": ("adapters", "gradients", "optimiser"),
    "activations, logits": ("activations", "head"),
    "KV cache": ("cache",),
    "CUDA": ("context",),
}

def memory(axis, preset, card, micro_batch, chunk, rank, reply):
    changes = {"micro_batch_size": micro_batch, "generation_chunk": chunk, "lora_rank": rank, "lora_alpha": 2 * rank, "max_reply_tokens": reply}
    plan = az.plan(az.preset(preset, **changes), gpu=card)
    left = np.zeros(2)
    for place, (label, names) in enumerate(PARTS.items()):
        wide = np.array([sum(getattr(phase, name) for name in names) for phase in (plan.generation, plan.update)])
        axis.barh(["generation", "update"], wide, left=left, label=label, color=figures.look(label, place).colour, hatch=["", "//", "..", "xx", "\\\\"][place], edgecolor="white")
        left += wide
    axis.axvline(plan.usable_gb, color="black", linestyle="dashed")
    axis.set_xlim(0, max(1.1 * plan.usable_gb, 1.02 * left.max()))
    axis.set_xlabel(f"GB, planned: peak {plan.peak_gb:.1f} (dashed: usable)", fontsize=8)
    axis.set_title(f"{preset.removeprefix('lora-')} on {card}: {'fits' if plan.fits else 'DOES NOT FIT'}\nchunk {chunk}, rank {rank}, replies {reply}", fontsize=8)
    axis.legend(fontsize=6, loc="lower center", bbox_to_anchor=(0.5, 1.22), ncols=2)

# %%
start = {"preset": "lora-1.5b-16gb", "card": "16GB", "micro_batch": 4, "chunk": 64, "rank": 16, "reply": 512}
widgets.explore(
    memory,
    "Planned memory of one GPU in generation and update: rank hardly shows, chunk and reply length decide; the third setting does not fit.",
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
# **If you see something else**: the dashed line is 92 % of the card; the rest is lost to fragmentation and the desktop.
#
# ### Exercise 3: make it fit (1 point, 4 minutes)
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

# %%
chunk = check.use(chunk, fallback=course.exercise_of("chunk").key, name="chunk")
for tried in (64, 32, 16, 8):
    plan = az.plan(az.preset("lora-3b-24gb", generation_chunk=tried), gpu="16GB")
    print(f"chunk {tried:2}: {plan.peak_gb:6.2f} of {plan.usable_gb:.2f} GB {'fits' if plan.fits else '    '}  {plan.step_seconds:4.0f} s per step (a rough estimate)")

print("\nwhat the planner itself advises for chunk 64:")
for advice in az.plan("lora-3b-24gb", gpu="16GB").advice:
    print(" ", advice.text)

# %% [markdown]
# **What you should see.** Memory falls with the chunk, and the estimated time of a step rises. 64 misses by more than a gigabyte.
# The planner's own list begins with what costs only time and ends with what costs learning or money.
#
# **If you see something else**: `.fits` looks at both peaks. Where the update is the larger one, the chunk does not help at all.

# %% [markdown]
# ## 4. Launch, stop, resume: live, with the nano model
#
# The same code path as on a GPU, in seconds: LoRA over the embedded model. (Its preset trains all weights, as in
# [notebook 06](06_learn.ipynb); here we want to see an adapter come into being.)

# %% tags=["long"]
folder = Path("runs") / "notebook-07"
shutil.rmtree(folder, ignore_errors=True)  # this notebook's own, made anew each time
steps = STEPS or {"ci": 1, "cpu": 4, "gpu": 10}[profile]
small = {"batch_size": 4, "solver_batch_size": 4, "n_mc": 2} if profile == "ci" else {"batch_size": 16, "solver_batch_size": 24}

az.run(
    "nano", tuning="lora", lora_rank=8, lora_alpha=16, learning_rate=2e-3, dtype="float32", seed=SEED, steps=steps, updates_per_step=1, micro_batch_size=12,
    eval_problems=0, self_test=False, seed_batch_factor=1, seed_rounds=1, output_dir=str(folder / "nano-lora"), **small
)
checkpoint = folder / "nano-lora" / f"checkpoint-{steps}"
for path in sorted(checkpoint.iterdir()):
    print(f"{path.stat().st_size:9,} bytes  {path.name}")

# %% [markdown]
# **What you should see.** A whole [checkpoint](glossary.md#checkpoint). Its adapter is `adapter_model.safetensors` with `adapter_config.json`, the form
# that peft reads: a small part of the model's 1.9 MB. `optimizer.pt` holds two moments for each trained weight, `selfplay.json` the buffers.
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
# ### Exercise 4: what may a resumed run change? (1 point, 4 minutes)
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

# %%
may_change = check.use(may_change, fallback=course.exercise_of("may_change").key, name="may_change")

for name in sorted(may_change):
    print(f"azr-lite resume runs/notebook-07/nano-lora --{name.replace('_', '-')} ...")

# %% [markdown]
# Now your functions meet a real adapter: count its numbers, merge it, and hold the result against the merge of peft,
# Hugging Face's library of adapters.

# %% tags=["long"]
from safetensors.numpy import load_file

checkpoint = folder / "nano-lora" / f"checkpoint-{steps + 1}"
adapter = load_file(checkpoint / "adapter_model.safetensors")
weights = load_file(Path(az.__file__).parent / "nano" / "weights" / "model.safetensors")
alpha = json.loads((checkpoint / "adapter_config.json").read_text(encoding="utf-8"))["lora_alpha"]

counted = adapter_parameters(shape_of("nano"), 8)
print(f"{counted:,} numbers by formula, {sum(array.size for array in adapter.values()):,} in the file")

merged = {}
for key in adapter:
    if key.endswith("lora_A.weight"):
        name = key.removeprefix("base_model.model.").replace("lora_A.weight", "weight")
        merged[name] = merge(weights[name], adapter[key], adapter[key.replace("lora_A", "lora_B")], alpha)
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
# **If you see something else**: a difference of the size of the weights' changes (1e-3) is a wrong scale.
#
# Where did the adapter move the model? Size of the change beside size of the weights, for each kind of map:

# %% tags=["long"]
moved = {}
for name, after in merged.items():
    kind = name.split(".")[-2].removesuffix("_proj")
    moved.setdefault(kind, []).append(np.linalg.norm(after - weights[name]) / np.linalg.norm(weights[name]))
made, (axis,) = figures.figure(1, 1, (6.0, 2.8))
percent = {kind: 100 * float(np.mean(values)) for kind, values in moved.items()}
figures.bars(axis, list(percent), list(percent.values()), "change, % of the weights' size (mean over layers)")
axis.margins(x=0.1)
with figures.style():
    axis.set_title(f"{steps + 1} steps of LoRA moved every kind of map by {min(percent.values()):.2g} to {max(percent.values()):.2g} %")
figures.show(made, alt="Relative change of each kind of linear map after the short nano LoRA run: all seven kinds have moved a little.")

# %% [markdown]
# **What you should see.** All seven kinds moved, each by about one percent. Look back at the first figure of section 2: at that size, how much of the update would
# a merge into bfloat16 lose? (The nano model is float32, so nothing is lost here.)
#
# **If you see something else**: exact zeros mean that B never got a gradient, because all rewards of a group were alike. Section 6 shows that in earnest.

# %% [markdown]
# ## 5. Launch a real model
#
# On a machine with a GPU, one command:
#
# ```bash
# azr-lite plan lora-1.5b-16gb                      # for the card that is here
# azr-lite run --preset lora-1.5b-16gb --max-hours 11
# azr-lite watch runs/lora-1.5b-16gb-seed0          # in a second terminal; Ctrl-C quits, the run goes on
# azr-lite resume runs/lora-1.5b-16gb-seed0 --steps 400
# ```
#
# On Colab or Kaggle add `--go-on --sync-to FOLDER`: the machine may vanish, and the same cell then goes on. In profile `gpu` the next cell really
# launches the largest of three LoRA presets that the planner lets on your card, follows it live, and leaves it resumable. Elsewhere it goes on with the recorded CPU run.

# %% tags=["long"]
FILES = ("config.json", "run.json", "summary.json", "metrics.jsonl", "timing.jsonl", "rollouts.jsonl", "tasks.jsonl")
run = [recorded(f"runs/smollm2-lora/{name}") for name in FILES][0].parent
if profile == "gpu":
    import time

    ladder = ("lora-0.5b-8gb", "lora-1.5b-16gb", "lora-3b-24gb")
    rung = ([name for name in ladder if az.plan(name).fits] or ladder[:1])[-1]
    mine, log = Path("runs") / f"{rung}-notebook", Path("runs") / f"{rung}-notebook.log"
    words = ["--preset", rung, "--steps", str(STEPS or 5), "--seed", str(SEED), "--eval-problems", "20", "--eval-every", "0", "--stop-patience", "0"]
    with log.open("w") as said:
        process = subprocess.Popen([sys.executable, "-m", "azr_lite", "run", *words, "--go-on", "--output-dir", str(mine)], stdout=said, stderr=said)
    while process.poll() is None and not (mine / "metrics.jsonl").exists():
        time.sleep(2)  # download, self-test, first evaluation, seeding, first step
    if (mine / "metrics.jsonl").exists():
        run = mine
        print(f"{rung} has made its first step; what it says stands in {log}")
    else:
        print(f"{rung} ended with status {process.returncode}; read {log}. Going on with the recorded CPU run")
else:
    print("no GPU here: going on with the recorded CPU run of SmolLM2-135M")

# %%
az.Run(run).dashboard(once=profile != "gpu")

# %% [markdown]
# **What you should see.** The live panel of [notebook 06](06_learn.ipynb), here of the recorded CPU run (or of your GPU). Nothing that should rise does: held-out
# accuracy, solve rate and valid proposals lie at 0, rewards at −1; only lengths and times wander. The grey band is the
# interval of the held-out accuracy: 0 right of 12 leaves up to 24 % possible. The last line counts the numbers outside their healthy range. The next section asks why.
#
# **If you see something else**: on a GPU the cell before waits some minutes, for the download, the self-test, a first evaluation, seeding and the first step.

# %% [markdown]
# ## 6. Reading the recorded run: nothing learnt, and how to tell why
#
# A run that goes up teaches less than one that does not. SmolLM2 has 135 million weights, and was asked for what a 3B coder can do. First: what did
# its replies fail on?

# %%
metrics = [json.loads(text) for text in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
GROUPS = [f"{role}/{kind}" for role in ("propose", "solve") for kind in ("deduction", "abduction", "induction")]
reasons = {group: Counter() for group in GROUPS}
for line in metrics:
    for key, value in line.items():
        group, _, reason = key.partition("/reason/")
        if reason:
            reasons[group][reason] += int(value)

seen = sorted({reason for counter in reasons.values() for reason in counter})
made, (axis,) = figures.figure(1, 1, (6.6, 3.0))
left = np.zeros(len(GROUPS))
for place, reason in enumerate(seen):
    wide = np.array([reasons[group][reason] for group in GROUPS])
    axis.barh(GROUPS, wide, left=left, label=reason, color=figures.look(reason, place).colour, hatch=["", "//", "..", "xx"][place % 4], edgecolor="white")
    left += wide
axis.invert_yaxis()
with figures.style():
    axis.set_xlabel(f"failed replies in {len(metrics)} steps")
    axis.set_title(f"{int(left.sum())} replies failed, {sum(c['wrong'] for c in reasons.values())} of them for a wrong answer")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
figures.show(made, alt="Failed replies by role and task type, coloured by reason; in the recorded SmolLM2 run all are truncated or not well formed.")

# %% [markdown]
# **What you should see.** Not one reply succeeded, and all failed on two things: *truncated* (not finished after 160 tokens) and *not_well_formed* (no
# thought followed by an answer). Nothing is called *wrong*, because nothing could be read: the sandbox had nothing to run. The row of induction
# answers is empty, because there was never an induction task to solve. The limit of 160 tokens is ours, for a slow CPU, and part of the reason. But read on:
#
# **If you see something else**: on a larger model the bars should show *wrong* answers and programs that fail for a reason of their own. That is progress.

# %%
import textwrap

rollouts = [json.loads(text) for text in (run / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()]
for role in ("propose", "solve"):
    shown = [one for one in rollouts if one["role"] == role][:3]
    for one in shown:
        print(f"--- step {one['step']}, {role} {one['type']}: {one['verdict']['reason'] or 'right'}, {one['tokens']} tokens, reward {one['reward']}")
        print(textwrap.fill(textwrap.shorten(" ".join(one["text"].split()), 330), 100), "\n")

# %% [markdown]
# **What you should see.** Words of the prompt's own examples, fences without content, and text that wanders off. Now and then a thought that fits: the model knows
# what Python looks like, not what it was asked for. A base that cannot find the form cannot be taught by rewards for what is inside it.
#
# **If you see something else**: `azr-lite show RUN --step 3 --worst 5` prints whole prompts and replies.

# %%
print("step   gradient   groups without signal   mean reward   tokens")
for line in metrics:
    silent = [group for group in GROUPS if line.get(f"{group}/no_signal") == 1]
    present = [line[f"{group}/reward"] for group in GROUPS if f"{group}/reward" in line]
    print(f"{line['step']:4} {line['grad_norm']:10.4f} {len(silent):13} of {len(present)} {np.mean(present):17.2f} {line['tokens/generated']:10.0f}")

# %% [markdown]
# **What you should see.** Every reward is −1. In each group the spread is zero, so [TRR++](04_trr.ipynb) gives every reply the advantage 0, and the policy gradient is
# exactly zero. The small gradient that is left comes from the entropy bonus (`entropy_coef` = 0.001 in this preset), which pays for being undecided. Four steps
# of this are no slow start: nothing here can ever begin to rise. `no_signal` says so at the first step; you need not wait for a flat curve.
# (Logs number steps from 0; the panel of section 5 says how many are done.)
#
# **If you see something else**: one group with signal is enough to begin. What brings it: a larger instruct model, room to finish a reply, and more replies, since a single success
# in a group makes its spread positive. (Qwen2.5-Coder-0.5B, also on a CPU: 1 valid proposal of 18 while seeding; `data_samples/benchmarks/real-models-cpu.json`.)
#
# What did it cost?

# %%
timing = [json.loads(text) for text in (run / "timing.jsonl").read_text(encoding="utf-8").splitlines()]
stages = {name: float(np.mean([line[name] for line in timing])) for name in ("generate", "sandbox", "update", "rest")}
config = az.Config.from_json(json.loads((run / "config.json").read_text(encoding="utf-8")))
guess = az.plan(config.replace(model="HuggingFaceTB/SmolLM2-135M-Instruct") if config.model.endswith(".gguf") else config)

made, (axis,) = figures.figure(1, 1, (6.4, 2.4))
figures.bars(axis, list(stages), list(stages.values()), "seconds per step")
axis.margins(x=0.12)
with figures.style():
    axis.set_title(f"{sum(stages.values()):.0f} seconds per step; the sandbox is not what costs")
figures.show(made, alt="Mean seconds of each stage of the recorded run: the update takes most, generation the rest, the sandbox next to nothing.")
print(f"planned: roughly {guess.step_seconds:.0f} s per step, {guess.peak_gb:.1f} GB")
print(f"here:    {sum(stages.values()):.0f} s per step, {max(line['memory_mib'] for line in timing) * 2**20 / 1e9:.1f} GB at most, {np.mean([line['tokens_per_s'] for line in timing]):.0f} tokens per second in generation")

# %% [markdown]
# **What you should see.** Update and generation cost nearly everything. The plan, made for two idle cores, was 91 seconds per step; recorded were 365: one thread, on a
# machine that other work kept busy. Measure where you will run.
#
# **If you see something else**: in a run whose proposals are valid, the sandbox has work, and its bar begins to show.

# %% [markdown]
# ## 7. Publish an adapter
#
# A checkpoint of a LoRA run *is* a peft adapter: `PeftModel.from_pretrained(base, checkpoint)` in section 4 proved it. `azr-lite export RUN` takes it out of its
# run with a model card, `--merge` makes one whole model for programs that know no adapters. In Python, for the run of section 4:

# %% tags=["long"]
for merged_too in (False, True):
    published = az.Run(folder / "nano-lora").export(folder / f"export-{'merged' if merged_too else 'adapter'}", merge=merged_too)
    print(published.name)
    for path in sorted(published.iterdir()):
        print(f"{path.stat().st_size:13,} bytes  {path.name}")
card = (published / "README.md").read_text(encoding="utf-8")
print("\n".join(card.splitlines()[:24]))

# %% [markdown]
# **What you should see.** An adapter of 200 kilobytes beside a model of ten times the size, each with a card that says which run, which step and which base it came from. Before a merged folder gets its name,
# plain transformers reads it back and must give the logits that the merged model had in memory, bit for bit.
#
# **If you see something else**: "exists" is the refusal to overwrite an earlier export.
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
# Count and merge adapters; say what fills a card, and what to lower first; launch, stop and resume; tell a run that learns nothing from one that learns slowly.
#
# **To go on thinking**
#
# * LoRA's learning rate here is ten times that of full tuning. Which part of the formula B·A·α/r could make larger steps harmless, and which dangerous?
# * With `--roles split`, proposer and solver are two adapters on one base. What would they no longer share?
# * In the recorded run nobody learned. Which *one* setting would you change first: model, reply length, batch, or rank? What in section 6 speaks for it?
#
# Next: [notebook 08](08_reading_a_run.ipynb) reads runs that do move, healthy and sick.
