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
# # 09 · Scaling to 3B–14B full fine-tuning
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/azr-lite/azr-lite/blob/main/notebooks/09_scaling.ipynb) [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/azr-lite/azr-lite/blob/main/notebooks/09_scaling.ipynb) [![nbviewer](https://img.shields.io/badge/render-nbviewer-orange)](https://nbviewer.org/github/azr-lite/azr-lite/blob/main/notebooks/09_scaling.ipynb)
#
# **You will be able to**
#
# * do the memory arithmetic;
# * choose between LoRA, 8-bit Adam, FSDP, ZeRO and vLLM;
# * go headless on many GPUs.
#
# **Before this:** notebook 07.
#
# **Budget:** 13 minutes to read (2,580 words); 5 exercises (10 points, about 44 minutes); 5 seconds and 134 MiB on 2 CPU cores; on a GPU: not measured.
#
# **Last verified:** Python 3.11.7, azr-lite 0.2.0, numpy 2.4.6, 2026-12-01.
#
# **Next:** [10 · Make it yours](10_make_it_yours.ipynb). Words in this course: [glossary](glossary.md).
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
import numpy as np

import azr_lite as az
from azr_lite import course
from azr_lite.course import NF4, ConfigError, check, figures, numerics, profile, shape_of, widgets

profile = profile(PROFILE)

# %% [markdown]
# ## Planned, not measured
#
# Nobody has run this package on a large GPU yet. All memory in this notebook is **counted from formulas**, all times are **estimates from datasheets**;
# each figure says so in its title. The formulas for activations were fitted to peaks measured on a CPU, operation by operation. What you learn here is
# to do the sum yourself, so that you can see where a plan, ours too, is likely to be wrong.
#
# Nothing below needs a GPU, torch or a download. GB are 10⁹ bytes.

# %% [markdown]
# ## 1. What stays in memory: weights, gradients, moments
#
# The models of the paper: Qwen2.5-Coder with 3, 7 and 14 billion weights. The planner knows their shapes:

# %%
MODELS = {size: shape_of(f"Qwen/Qwen2.5-Coder-{size}") for size in ("3B", "7B", "14B")}
for size, shape in MODELS.items():
    print(
        f"{size:>3}: {shape.layers} layers, hidden {shape.hidden}, {shape.parameters / 1e9:.2f} "
        "billion weights, "
        f"{shape.linear_parameters / shape.parameters:.0%} of them in the layers' linear maps"
    )

# %% [markdown]
# Training with AdamW needs, for each *trained* weight: the weight itself, its gradient, and two [moments](glossary.md#moments) (running means of the gradient and of
# its square). Why is the weight kept in 4 bytes, when the arithmetic needs 2? Try one update of the size that self-play makes:

# %%
weight, update = np.float32(0.02), np.float32(1e-6)
print("float32 :", weight, "→", weight + update)
print(
    "bfloat16:",
    numerics.to_bfloat16([weight])[0],
    "→",
    numerics.to_bfloat16(numerics.to_bfloat16([weight]) + update)[0],
)

# %% [markdown]
# **What you should see.** In [bfloat16](glossary.md#bfloat16) the weight does not move: its neighbour is about a hundred times further away than the update is
# long. A learning rate of 1e-6 over bfloat16 weights trains nothing. So full tuning keeps *float32 masters*, and the arithmetic sees rounded copies.
#
# Make the weight smaller. Near zero bfloat16's steps are finer, which is why such a run seems to learn *a little*. (0.0200195 is what
# bfloat16 makes of 0.02 when it is stored, before any update.)
#
# ### Exercise 1: bytes of the weights (2 points, 10 minutes; difficulty 3 of 5, importance 5 of 5)
#
# Three ways to [tune](glossary.md#full-tuning): `config.tuning` is `"full"`, `"lora"` or `"qlora"`; `config.processes` is the number of GPUs (0 means any
# number: count it as one).
#
# * *full*: float32 masters, cut over the GPUs ([sharding](glossary.md#sharding), by FSDP2 or ZeRO-3: each holds its share);
# * *lora*: a frozen 2-byte base, copied whole to every GPU (DDP, *distributed data parallel*); the adapters are counted elsewhere;
# * *qlora*: as lora, but the layers' linear maps (`shape.linear_parameters`) in 4 bits: `NF4` bytes each (0.516: half a byte, and scales); all other weights in 2 bytes.

# %% tags=["exercise"]
def weight_bytes(shape, config):
    """Bytes of the weights on one GPU, a float. `shape`: has `parameters` and `linear_parameters`;
    `config`: `tuning`, `processes`.

    Example: LoRA on a model of 1,000 weights holds 2,000 bytes on each of 4 GPUs; full tuning
    1,000.
    """
    return ...

check.weight_bytes(weight_bytes)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Which of the three is cut over the GPUs? `max(1, config.processes)` counts them.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def weight_bytes(shape, config):
#     if config.tuning == "full":
#         return 4 * shape.parameters / max(1, config.processes)
#     if config.tuning == "lora":
#         return 2 * shape.parameters
#     return NF4 * shape.linear_parameters + 2 * (shape.parameters - shape.linear_parameters)
# ```
#
# Why: only full tuning is cut over the GPUs; a frozen base stands whole on each, whatever its
# width.
# </details>
#
# ### Exercise 2: bytes of the optimiser (2 points, 8 minutes; difficulty 2 of 5, importance 4 of 5)
#
# `config.optimizer` is `"adamw"` (each moment in 4 bytes) or an 8-bit form, `"adamw_8bit"` or `"paged_adamw_8bit"` (each in
# 1 byte). `course.trainable_parameters(shape, config)` counts
# what is trained: all weights in full tuning, else the adapters' (exercise 1 of [notebook 07](07_lora.ipynb)).

# %% tags=["exercise"]
def optimiser_bytes(shape, config):
    """Bytes of AdamW's moments on one GPU, a float.

    Example: full tuning of 1,000 weights on 2 GPUs with AdamW: two moments of 4 bytes each, half of
    them here: 4,000.
    """
    return ...

check.optimiser_bytes(optimiser_bytes)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Three factors: bytes of both moments, how many weights are trained, and whether the GPUs share them. Full tuning cuts, adapters are copied.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def optimiser_bytes(shape, config):
#     each = 4 if config.optimizer == "adamw" else 1
#     moments = 2 * each * course.trainable_parameters(shape, config)
#     return moments / max(1, config.processes) if config.tuning == "full" else moments
# ```
#
# Why: two moments per trained weight, and the same rule of who is cut.
# </details>

# %%
weight_bytes = check.use(weight_bytes, fallback=course.weight_bytes)
optimiser_bytes = check.use(optimiser_bytes, fallback=course.optimiser_bytes)

# %% tags=["hide-input"]
made, axes = figures.figure(1, 2, (7.6, 3.0))
for axis, tuning in zip(axes, ("full", "lora")):
    config = az.Config(tuning=tuning, processes=1)
    left = np.zeros(len(MODELS))
    for place, (label, count) in enumerate(
        {
            "weights": weight_bytes,
            "gradients": course.gradient_bytes,
            "moments": optimiser_bytes,
            "adapters": course.adapter_bytes,
        }.items()
    ):
        wide = np.array([count(shape, config) / 1e9 for shape in MODELS.values()])
        axis.barh(
            list(MODELS),
            wide,
            left=left,
            label=label,
            color=figures.look(label, place).colour,
            hatch=["", "//", "..", "xx"][place],
            edgecolor="white",
        )
        left += wide
    axis.axvline(80, color="black", linestyle="dashed")
    axis.set_xlim(0, 1.05 * max(80, left.max()))
    with figures.style():
        axis.set_xlabel("GB on one GPU (dashed: 80)")
        axis.set_title(
            "full: 16 bytes per weight (planned)"
            if tuning == "full"
            else "LoRA: hardly more than the base (planned)"
        )
axes[0].legend(fontsize=7)
figures.show(
    made,
    alt="Planned GB of weights, gradients and moments for 3B, 7B and 14B: full tuning passes 80 "
    "GB from 7B on, LoRA stays far below.",
)

# %% [markdown]
# **What you should see.** Full tuning: 4 bytes of weight, 4 of gradient, 8 of moments, 16 in all; 7B already needs more than an 80 GB card before a
# single token is read. LoRA: two bytes per weight and little else.

# %% [markdown]
# ## 2. What flows: activations
#
# For the backward pass, each layer keeps what it needs of every token: per token about `2·(4·intermediate + 12·hidden)` bytes in 16-bit arithmetic
# (14 instead of 12 in full tuning, whose sum of all layers' outputs, the *residual stream*, is in float32). The layer that is being differentiated needs room to work besides.
# [Gradient checkpointing](glossary.md#gradient-checkpointing) keeps only one vector of `hidden` numbers per layer, and computes the rest again, layer by layer,
# when it is needed. By hand for 7B and one sequence of the paper's longest length, prompt 6,144 and reply 8,096:

# %% tags=["hide-input"]
shape, tokens = MODELS["7B"], 6144 + 8096
# bytes that a token keeps in one layer
one_layer = 2 * (4 * shape.intermediate + 14 * shape.hidden)
work = 2 * (3 * shape.intermediate + 7 * shape.hidden)  # gradients in flight, one layer at a time
everything = tokens * (shape.layers * one_layer + work)
checkpointed = tokens * (shape.layers * shape.hidden * 4 + one_layer + work)  # 4: float32
print(f"all layers kept:  {everything / 1e9:6.1f} GB")
print(
    f"checkpointed:     {checkpointed / 1e9:6.1f} GB, {everything / checkpointed:.0f} times "
    "less, for about a third more arithmetic"
)
print(
    "the planner says: "
    f"{course.activation_bytes(shape, az.Config(gradient_checkpointing=True), tokens) / 1e9:6.1f}"
    " GB"
)

lengths = np.array([512, 1024, 2048, 4096, 8192, 14240])
made, (axis,) = figures.figure(1, 1, (6.2, 3.0))
for place, (label, on) in enumerate(
    {"all layers kept": False, "gradient checkpointing": True}.items()
):
    config = az.Config(gradient_checkpointing=on)
    figures.line(
        axis,
        label,
        list(lengths),
        [course.activation_bytes(shape, config, int(t)) / 1e9 for t in lengths],
        place,
    )
with figures.style():
    axis.axhline(80, color="black", linestyle="dashed")
    axis.set(yscale="log", xlabel="tokens of one sequence", ylabel="GB, planned")
    axis.set_yticks([0.3, 1, 3, 10, 30, 100], ["0.3", "1", "3", "10", "30", "100"])
    axis.minorticks_off()
    axis.set_title("7B: long replies need checkpointing (planned)")
    axis.legend()
figures.show(
    made,
    alt="Planned activations of one 7B sequence over its length: without checkpointing they "
    "pass 80 GB near 11,000 tokens, with it they stay below 12 GB.",
)

# %% [markdown]
# **What you should see.** The sum by hand equals the planner's. Without checkpointing one long sequence fills more than a card.
#
# The lines' ratio is about the same at all lengths, since both grow in proportion to tokens (attention's matrix of scores is
# never kept: attention kernels such as FlashAttention take care of that).

# %% [markdown]
# ## 3. What generation needs: the KV cache
#
# While replies are written, each token leaves a key and a value in each layer, so that later tokens can look at it. This [KV cache](glossary.md#kv-cache) decides how many
# replies can be sampled at once.
#
# ### Exercise 3: the cache of one token (1 point, 6 minutes; difficulty 2 of 5, importance 4 of 5)

# %% tags=["exercise"]
def cache_bytes_per_token(shape, e=2):
    """Bytes that one token leaves in the cache, an int. `shape`: has `layers`, `heads`, `kv_heads`,
    `head_dim`; `e`: bytes of a number.

    Example: 1 layer with 1 key-value head of 8 numbers, e = 2: 8 numbers of key and 8 of value, 32
    bytes.
    """
    return ...

check.cache_bytes_per_token(cache_bytes_per_token)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Qwen2.5-Coder-7B has 28 query heads and 4 heads of keys and values: seven queries share one key. Which number belongs in a *cache*?
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def cache_bytes_per_token(shape, e=2):
#     return 2 * shape.layers * shape.kv_heads * shape.head_dim * e
# ```
#
# Why: a key and a value per layer and key-value head; query heads leave nothing behind.
# </details>

# %%
cache_bytes_per_token = check.use(cache_bytes_per_token, fallback=course.cache_bytes_per_token)

for size, shape in MODELS.items():
    a_token = cache_bytes_per_token(shape)
    # vLLM's share of a card, less its own copy of the weights
    room = 0.4 * 80e9 - 2 * shape.parameters - course.VLLM_OVERHEAD
    print(
        f"{size:>3}: {a_token / 1024:4.0f} KiB per token, {a_token * 14240 / 1e9:4.2f} GB for a "
        "longest sequence; "
        f"{room / a_token / 14240:4.1f} fit into what vLLM has left of 32 GB"
    )

# %% [markdown]
# **What you should see.** A longest sequence costs between half a GB and three. vLLM gets 40 % of each 80 GB card in our presets for several cards: after its own 2-byte copy of the
# weights there is room for 47 of them with 3B, for 19 with 7B, and not even for one with 14B. That is why `full-14b-8x80gb` cuts vLLM's copy over two GPUs
# (`vllm_tensor_parallel = 2`).

# %% [markdown]
# ## 4. Six remedies, and what each of them saves
#
# | remedy | cuts or shrinks | costs |
# |---|---|---|
# | [LoRA](glossary.md#lora) | gradients, moments, masters | a low-rank update; a frozen base is in memory |
# | QLoRA | the frozen base as well | slow decoding by transformers; vLLM holds a 16-bit copy of the base |
# | 8-bit AdamW | moments: 8 → 2 bytes | bitsandbytes; coarser moments |
# | [sharding](glossary.md#sharding): ZeRO-1, 2, 3, FSDP2 | moments; + gradients; + weights, each over n GPUs | traffic between the GPUs at each step |
# | gradient checkpointing | activations | a third more arithmetic |
# | vLLM | *time* of generation; its paged cache wastes little | its own 2-byte copy of the weights, asleep during the update |
#
# Without sharding each GPU holds everything, and gradients are averaged: DDP. "ZeRO" comes in three stages. By hand, for 7B on eight GPUs, the three parts of section 1:

# %% tags=["hide-input"]
n = MODELS["7B"].parameters
stages = {
    "none (DDP)": (1, 1, 1),
    "ZeRO-1": (1, 1, 8),
    "ZeRO-2": (1, 8, 8),
    "ZeRO-3 = FSDP2": (8, 8, 8),
}
made, (axis,) = figures.figure(1, 1, (6.4, 2.8))
left = np.zeros(len(stages))
for place, (label, size) in enumerate({"weights": 4, "gradients": 4, "moments": 8}.items()):
    wide = np.array([size * n / cuts[place] / 1e9 for cuts in stages.values()])
    axis.barh(
        list(stages),
        wide,
        left=left,
        label=label,
        color=figures.look(label, place).colour,
        hatch=["", "//", ".."][place],
        edgecolor="white",
    )
    left += wide
axis.invert_yaxis()
axis.axvline(0.92 * 80, color="black", linestyle="dashed")
with figures.style():
    axis.set_xlabel("GB on each of 8 GPUs, planned (dashed: usable of 80)")
    axis.set_title(f"Each stage cuts one part more: {left[0]:.0f} → {left[-1]:.0f} GB (planned)")
    axis.legend()
figures.show(
    made,
    alt="Planned GB on each of eight GPUs for 7B without sharding and with ZeRO stages 1, 2 and "
    "3: each stage cuts one more part over the GPUs.",
)

# %% [markdown]
# **What you should see.** Moments are the largest part, so stage 1 saves most; only stage 3 makes all three shrink with the number of GPUs.
#
# ZeRO-3 is an eighth of the first bar, to the byte. Real runs hold more: two layers gathered whole, activations, the CUDA context. The
# planner counts those too:

# %%
PARTS = {
    "weights": ("weights", "adapters"),
    "gradients, moments": ("gradients", "optimiser"),
    "activations, logits": ("activations", "head"),
    "KV cache": ("cache",),
    "vLLM's weights": ("vllm",),
    "CUDA": ("context",),
}


def remedy(axis, model, tuning, optimizer, gpus, card, vllm):
    changes = {
        "model": f"Qwen/Qwen2.5-Coder-{model}",
        "tuning": tuning,
        "optimizer": optimizer,
        "processes": gpus,
        "vllm_memory": 0.4,
    }
    if not vllm:
        changes |= {"generation": "transformers", "generation_chunk": 16}
    try:
        plan = az.plan(az.preset("full-7b-8x80gb", **changes), gpu=card)
    except ConfigError as error:
        axis.set_axis_off()
        axis.text(0.02, 0.5, "refused: " + str(error).split(":")[0], fontsize=7)
        return
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
            hatch=["", "//", "..", "xx", "\\\\", "--"][place],
            edgecolor="white",
        )
        left += wide
    axis.axvline(plan.usable_gb, color="black", linestyle="dashed")
    axis.set_xlim(0, 1.05 * max(plan.usable_gb, left.max()))
    axis.set_xlabel("GB per GPU (dashed: usable)")
    axis.set_title(
        f"{model} {tuning} {optimizer.removeprefix('adamw_')}\n{gpus} × {card}: "
        f"{'fits' if plan.fits else 'DOES NOT FIT'} (planned)",
        fontsize=8,
    )
    axis.legend(fontsize=5.5, loc="lower center", bbox_to_anchor=(0.5, 1.22), ncols=2)

# %% tags=["hide-input"]
start = {
    "model": "7B",
    "tuning": "full",
    "optimizer": "adamw",
    "gpus": 1,
    "card": "80GB",
    "vllm": True,
}
widgets.explore(
    remedy,
    "Planned GB per GPU for full tuning of 7B: one GPU does not fit, eight-bit moments lower the "
    "peak, eight sharded GPUs fit with room.",
    static=[start, {**start, "optimizer": "adamw_8bit"}, {**start, "gpus": 8}],
    size=(3.1, 2.7),
    model=["3B", "7B", "14B"],
    tuning=["full", "lora", "qlora"],
    optimizer=["adamw", "adamw_8bit"],
    gpus=[1, 2, 4, 8],
    card=["24GB", "40GB", "80GB", "141GB"],
    vllm=[True, False],
)

# %% [markdown]
# **What you should see.** Planned, not measured. With one GPU 7B does not fit, and 8-bit moments alone do not save it. Over eight GPUs the same
# states are small beside vLLM's share. On one GPU the update's *weights* are half as long again as generation's: beside the 4-byte masters stands the 2-byte copy
# that the arithmetic reads. Over eight GPUs it is only two layers and the head, gathered whole at any moment.
#
# With sliders, try LoRA on 1, then 8 GPUs. Nothing shrinks: adapters are copied (DDP), so more GPUs buy speed, not room. And QLoRA
# saves less than it promises: vLLM holds the base in 16 bits all the same.
#
# Which to choose? The planner can ask for you. What does it advise to somebody with 7B and a single 80 GB card?

# %%
lonely = az.plan(az.preset("full-7b-8x80gb", processes=1), gpu="80GB")
print(
    f"full tuning of 7B on one 80 GB card: {lonely.peak_gb:.0f} GB planned, "
    f"{lonely.usable_gb:.1f} usable"
)
for advice in lonely.advice:
    print("  ", advice.text)
print(
    course.plan_table(
        [
            plan
            for plan in course.plan_all()
            if plan.config.preset.startswith(("lora-3b", "qlora-7b", "full-"))
        ]
    )
)

# %% [markdown]
# **What you should see.** Each change was planned again by itself, what costs least first. On one such card LoRA fits; with all weights it takes four of
# them. In the table: one line per preset, from one small GPU to eight large ones. Planned, not measured.
#
# A `!` in the table means "does not fit". No preset has one on its own card.

# %% [markdown]
# ## 5. One algorithm on many GPUs
#
# More GPUs must change speed, and nothing else. One thing is easily got wrong. [TRR++](04_trr.ipynb) whitens rewards within each (role, type) group **of the whole
# batch**. Each process holds only a part of it, and the code that is easiest to write whitens what is at hand. Here is the same group of rewards, dealt to four
# processes that happened to get prompts of different difficulty:

# %% tags=["hide-input"]
draw = np.random.default_rng(SEED)
rates = (0.1, 0.4, 0.6, 0.9)  # how often the replies of each process are right
parts = [np.where(draw.random(8) < rate, 1.0, -0.5) for rate in rates]
rewards = np.concatenate(parts)
together = (rewards - rewards.mean()) / rewards.std()
apart = np.concatenate(
    [(p - p.mean()) / p.std() if p.std() > 0 else np.zeros_like(p) for p in parts]
)

made, (axis,) = figures.figure(1, 1, (6.0, 3.4))
for rank, part in enumerate(parts):
    own = slice(8 * rank, 8 * rank + 8)
    look = figures.look(f"rank {rank}", rank)
    axis.scatter(
        together[own],
        apart[own],
        color=look.colour,
        marker=look.marker,
        s=45,
        label=f"process {rank}: mean reward {part.mean():+.2f}",
    )
axis.plot([-1.8, 1.8], [-1.8, 1.8], color="#6E6E6E", linestyle="dotted")
with figures.style():
    axis.set(xlabel="advantage over the whole batch", ylabel="advantage over its own process")
    axis.set_title("How a reply is pushed depends on where it ran")
    axis.legend()
figures.show(
    made,
    alt="Advantages whitened per process against advantages of the whole batch: equal rewards "
    "get different advantages on different processes, off the diagonal.",
)

for value in (1.0, -0.5):
    print(
        f"reward {value:+}: whole batch {together[rewards == value][0]:+.2f}; per process",
        sorted({round(float(a), 2) for a in apart[rewards == value]}),
    )

# %% [markdown]
# **What you should see.** Only two different rewards exist, so over the whole batch only two advantages (two columns of points). Per process each reward has
# several: a right answer is worth much on a process with hard prompts, and little on one with easy prompts. That is a baseline per process: **another algorithm**, and
# one that changes with the number of GPUs.
#
# With many replies per process and prompts dealt at random the points come close to the diagonal. The mistake hides in large batches
# and bites in small ones.
#
# ### Exercise 4: put statistics together (3 points, 12 minutes; difficulty 3 of 5, importance 4 of 5)
#
# `azr_lite` gathers all rewards on all processes, a few kilobytes. Suppose each process may only send three numbers: count, mean and population
# standard deviation of its rewards. Give mean and standard deviation of all of them together.

# %% tags=["exercise"]
def pooled(counts, means, stds):
    """(mean, std) of all numbers together. Three lists of equal length, one entry per process; std:
    divided by n, not n − 1.

    Example: pooled([1, 1], [1.0, -1.0], [0.0, 0.0]) is (0.0, 1.0): one number each, 1 and -1.
    """
    return ...

check.pooled(pooled)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Standard deviations do not add up; *squares* do. Within one process, the mean of x² is std² + mean². From those, the mean of x² over all; from that and the
# mean over all, the variance. The example shows the trap: no process sees any spread, and still there is one.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def pooled(counts, means, stds):
#     n, mean, std = np.array(counts), np.array(means), np.array(stds)
#     mu = (n * mean).sum() / n.sum()
#     square = (n * (std**2 + mean**2)).sum() / n.sum()
#     return mu, np.sqrt(max(0.0, square - mu**2))
# ```
#
# Why: means of x and of x² can be put together by weight; the variance is what is left between
# them.
# </details>

# %%
pooled = check.use(pooled, fallback=numerics.pooled)

mean, std = pooled([len(p) for p in parts], [p.mean() for p in parts], [p.std() for p in parts])
print(f"from three numbers per process: mean {mean:.4f}, std {std:.4f}")
print(f"from all rewards:             mean {rewards.mean():.4f}, std {rewards.std():.4f}")
print(
    f"mean of the processes' stds:  std {np.mean([p.std() for p in parts]):.4f}   (not the same "
    "thing)"
)

# %% [markdown]
# **What you should see.** The first two lines agree to the last digit. The third is smaller: it leaves out the spread between processes.
#
# ### Exercise 5: rows must divide (2 points, 8 minutes; difficulty 2 of 5, importance 3 of 5)
#
# A step's batch has `config.rows` sequences (the paper: 2 roles × 3 types × 64 = 384). They are split into `config.updates_per_step` updates; each update's
# rows are dealt to `world` processes; each process works through its share in micro-batches of `config.micro_batch_size`. How many
# micro-batches does each process compute for one update? Where that is no whole number: `raise ConfigError("...")`.

# %% tags=["exercise"]
def micro_batches(config, world):
    """Micro-batches that a process computes for one update, an int. ConfigError where rows do not
    split evenly.

    Example: 384 rows, 1 update, micro-batches of 4, world 8: 12. With world 5: ConfigError.
    """
    return ...

check.micro_batches(micro_batches)

# %% [markdown]
# <details><summary>Hint</summary>
#
# rows = updates × processes × micro-batches × micro_batch_size. Solve for the one you want, and ask whether anything is left over (`%`). Why refuse
# rather than round? Rows left out were generated and judged at full price; and which ones would you leave out?
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def micro_batches(config, world):
#     share = config.updates_per_step * world * config.micro_batch_size
#     if config.rows % share:
#         raise ConfigError(f"{config.rows} rows do not split into parts of {share}")
#     return config.rows // share
# ```
#
# Why: the rest is looked at before the division, so no row is lost in silence.
# </details>

# %%
micro_batches = check.use(micro_batches, fallback=az.Config.micro_batches)

config = az.preset("full-7b-8x80gb")
for world in (1, 2, 3, 5, 6, 7, 8, 16):
    try:
        print(
            f"{world:2} processes: {micro_batches(config, world):3} micro-batches of "
            f"{config.micro_batch_size} each"
        )
    except ConfigError as error:
        print(f"{world:2} processes: refused")

# %% [markdown]
# **What you should see.** 384 = 2⁷ · 3, so 3 and 6 GPUs work and 5 and 7 do not.

# %% [markdown]
# ## 6. Three commands: dry run, run, resume
#
# Headless means: a terminal, a scheduler, no notebook. First the **dry run**. It resolves every setting, checks them against each other, prints them (with `--json`: all of them), and runs nothing
# (from here on the package's core dependencies are needed; still no torch):

# %%
def command(*words):
    """What `azr-lite WORDS` prints: standard output, then standard error."""
    ran = subprocess.run([sys.executable, "-m", "azr_lite", *words], capture_output=True, text=True)
    return ran.stdout, ran.stderr


settings, said = command(
    "run", "--preset", "full-7b-8x80gb", "--steps", "100", "--dry-run", "--json"
)
for text in settings.splitlines():
    if any(
        f'"{name}"' in text
        for name in (
            "model",
            "tuning",
            "processes",
            "batch_size",
            "generation",
            "learning_rate",
            "steps",
            "output_dir",
        )
    ):
        print(text)
print(f"... {len(settings.splitlines())} lines in all\n{said}")

# %% [markdown]
# Wrong settings are refused before anything is loaded or rented, in a sentence or two:

# %%
import textwrap

for words in (
    ["--updates-per-step", "7"],
    ["--tuning", "lora", "--generation", "vllm-server"],
    ["--learning-rte", "1e-6"],
):
    _, said = command("run", "--preset", "full-7b-8x80gb", *words, "--dry-run")
    print("$ azr-lite run --preset full-7b-8x80gb", *words, "--dry-run")
    print(textwrap.fill(" ".join(said.replace("│", " ").replace("─", "").split())[:330], 100), "\n")

# %% [markdown]
# **What you should see.** Three refusals: a batch that does not split, a combination that would quietly destroy the model, a setting that does not exist.
#
# **If you see something else**: `No module named 'tyro'` means that only numpy and matplotlib are here; `pip install azr-lite`.
#
# Then the **run**. One process per GPU; `accelerate launch` starts them, and a launch file tells it how weights are kept:
#
# ```bash
# accelerate launch --config_file $(azr-lite launch-file fsdp2) --num_processes 8 \
#     -m azr_lite run --preset full-7b-8x80gb --output-dir /shared/run --max-hours 23
# ```
#
# And **resume**, with the same kind of launch file; any number of processes that divides the rows:
#
# ```bash
# accelerate launch --config_file $(azr-lite launch-file fsdp2) --num_processes 4 \
#     -m azr_lite resume /shared/run --processes 4 --steps 500
# ```
#
# What is in those launch files? Read the three side by side; the comments are ours:

# %%
files = {
    name: course.launch_file(name).read_text(encoding="utf-8").splitlines()
    for name in ("ddp", "fsdp2", "zero3")
}
shared = set.intersection(*(set(lines) for lines in files.values()))
print(f"{len(shared)} lines are the same in all three; the others:")
for name, lines in files.items():
    print(f"\n== {name}.yaml")
    print(
        "\n".join(
            line for line in lines if line not in shared and not line.startswith("# accelerate")
        )
    )

# %% [markdown]
# **What you should see.** `ddp`: nothing but a number of processes: whole copies, averaged gradients; for adapters. `fsdp2`: one unit per decoder layer, resharded after each forward
# pass, and checkpoints that `from_pretrained` reads. `zero3`: the same idea by DeepSpeed. Activation checkpointing is off in the file, because
# `config.gradient_checkpointing` decides; two switches for one thing would fight.
#
# The files are in `azr_lite/train/launch`. Copy one and change it; `accelerate launch --config_file` takes any path.
#
# What has been *checked* of this, on CPUs: runs, kills and resumes of two processes; FSDP2, ZeRO-3 and vLLM themselves. On GPUs, over NCCL, over several
# machines: not measured. [The list](https://github.com/azr-lite/azr-lite/blob/main/docs/how-to/many_gpus.md#what-was-checked).

# %% [markdown]
# ## 7. Hours and money, with their assumptions
#
# The planner's times come from datasheets and from guesses. Change three of them, and see how far an estimate moves: how many proposals are valid, and which
# share of a card's memory bandwidth (decoding) and of its arithmetic (the update) is really used. The price is yours to set:

# %%
# the planner's guesses are constants of a module; here they are exchanged for a moment
from unittest.mock import patch


PRICE = 2.0  # money per GPU-hour; an example, not a quotation


def hours(preset, valid, decoding, arithmetic):
    """Estimated hours of a preset on its own card. (The planner itself assumes 0.6, 0.6, 0.3.)"""
    with patch.multiple(
        "azr_lite.planner.plan", VALID=valid, BANDWIDTH_USED=decoding, ARITHMETIC_USED=arithmetic
    ):
        return az.plan(preset, gpu=course.natural_gpu(az.preset(preset))).hours


print(f"{'preset':18} {'as assumed':>11} {'pessimist':>10} {'optimist':>9}   money, as assumed")
for name in ("lora-1.5b-16gb", "lora-3b-24gb", "full-3b-80gb", "full-7b-8x80gb", "full-14b-8x80gb"):
    guess, worst, best = (
        hours(name, 0.6, 0.6, 0.3),
        hours(name, 0.9, 0.3, 0.15),
        hours(name, 0.3, 0.8, 0.5),
    )
    gpus = max(1, az.preset(name).processes)
    print(f"{name:18} {guess:9.0f} h {worst:8.0f} h {best:7.0f} h   {guess * gpus * PRICE:8.0f}")

# %% [markdown]
# **What you should see.** Planned, not measured. Between pessimist and optimist lies a factor of about three.
# (A *better* proposer makes a step dearer: more valid tasks, more replies to them.)
#
# Hours leave out seeding and evaluation; eight GPUs cost eight times their hours.
#
# Is the estimate any good? One published number can be held against it: the authors report about 263 s per step for 3B on two A100 (their issue 13).

# %%
plan = az.plan("paper-3b", gpu=course.natural_gpu(az.preset("paper-3b")))
print(f"estimated {plan.step_seconds:.0f} s per step, published 263 s")

# %% [markdown]
# **What you should see.** The estimate is a fifth too short; the reply lengths that it assumes are a guess. Trust such estimates to a factor of two.
# A real answer costs ten minutes: start the run with `--steps 2` on the machine you mean to rent, and read `timing.jsonl`.

# %% [markdown]
# ## What you can do now
#
# Count bytes for weights, gradients, moments, activations and cache; name what each remedy saves and costs; say why statistics must be global and rows must divide; go from a
# dry run to a resumable run; and say of each number whether it was planned or measured.
#
# **To go on thinking**
#
# * Eight 80 GB cards, 14B: where would you rather give room, to vLLM's cache or to larger micro-batches? What does the update's time say?
# * A step must wait for its longest reply. Which numbers of section 7 does a reply limit of 4,096 instead of 8,096 change?
# * Every process runs programs in the sandbox too. What would break if each judged answers by its own hash seed?
#
# Next: [notebook 10](10_make_it_yours.ipynb) adds a task type of your own.
