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
# # 06 · Watch it learn on your laptop
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/azr-lite/azr-lite/blob/main/notebooks/06_learn.ipynb) [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/azr-lite/azr-lite/blob/main/notebooks/06_learn.ipynb) [![nbviewer](https://img.shields.io/badge/render-nbviewer-orange)](https://nbviewer.org/github/azr-lite/azr-lite/blob/main/notebooks/06_learn.ipynb)
#
# **You will be able to**
#
# * run self-play with the embedded model;
# * read all curves;
# * stop and resume a run;
# * ablate one piece.
#
# **Before this:** notebooks 00 to 05.
#
# **Budget:** 13 minutes to read (2,535 words); 3 exercises (5 points, about 19 minutes); 5.6 minutes and 227 MiB on 2 CPU cores; on a GPU: not measured.
#
# **Last verified:** Python 3.11.7, azr-lite 0.2.0, numpy 2.4.6, torch 2.13.0+cpu, transformers 5.23.0, trl 1.16.0, 2026-12-01.
#
# **Next:** [07 · LoRA self-play on one GPU](07_lora.ipynb). Words in this course: [glossary](glossary.md).
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
import json, math, os, time

import azr_lite as az
from azr_lite import course
from azr_lite.course import check, mean, profile, recorded
from azr_lite.course.figures import figure, line, look, show, style

profile = profile(PROFILE)

# %% [markdown]
# ## 1. Start a run, and let it work beside you
#
# In [notebook 05](05_build_it.ipynb) you built the loop. Here the package runs it, for longer and with everything that a real run needs: logs,
# checkpoints, controls. The policy is azr_lite's embedded *nano* model: half a million weights, small enough for a laptop's processor. It reads and writes a
# mini-language of Python: short programs such as `x = x[1:] + x[:1]`.
#
# Before self-play it got a *[warm start](glossary.md#warm-start)* on random examples of that language ([what it contains](../azr_lite/nano/NOTES.md)), as a large model
# gets its pre-training. Everything after that, it does to itself: it invents tasks, solves them, and is rewarded by the rules of
# [notebook 03](03_rewards.ipynb). No human task, no human answer.
#
# A run is a process of its own. We start it as you would on a terminal, and watch its files.

# %%
PLANS = {
    "ci": {
        "steps": 4,
        "batch_size": 4,
        "solver_batch_size": 12,
        "micro_batch_size": 12,
        "updates_per_step": 2,
        "save_every": 2,
        "eval_problems": 5,
        "eval_every": 2,
        "self_test": False,
    },
    "cpu": {"steps": 50, "save_every": 4},
    "gpu": {"steps": 50, "save_every": 4},
}
plan = {**PLANS[profile], "seed": SEED, "device": "cpu"} | (
    {} if STEPS is None else {"steps": STEPS}
)
RUN = pathlib.Path("runs") / time.strftime("notebook06-%H%M%S")
LOG = RUN.with_suffix(".log")

# %% tags=["long"]
def start(command, *arguments):
    """`azr-lite COMMAND ARGUMENTS` in a process of its own; what it prints goes to a file."""
    LOG.parent.mkdir(exist_ok=True)
    here = str(pathlib.Path(az.__file__).parents[1])
    paths = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
    with LOG.open("a") as log:
        print("azr-lite", command, *arguments)
        return subprocess.Popen(
            [sys.executable, "-m", "azr_lite", command, *arguments],
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": paths},
        )


def flags(settings):
    """{"eval_every": 5, "self_test": False} as --eval-every 5 --no-self-test."""
    said = []
    for name, value in settings.items():
        option = name.replace("_", "-")
        said += [f"--no-{option}"] if value is False else [f"--{option}", str(value)]
    return said


process = start("run", "--preset", "nano", *flags(plan), "--output-dir", str(RUN))

# %% [markdown]
# **What you should see.** One line: the command. On a terminal you would type just that.
#
# **If you see something else**: what the run itself has to say stands in the file `LOG`; `print(LOG.read_text())` shows it at any time.
#
# While it loads: what will one step do? It samples a few hundred replies (proposals first, then answers), runs a few hundred programs in the
# sandbox, rewards every reply, and makes four small updates. Two idle cores need about three seconds for it, and 160 seconds for 50 steps; the run's
# process takes about 1 GB of memory beside this notebook's.

# %% [markdown]
# ## 2. Kill it
#
# Laptops close, batteries die, clusters take their machines back. A run that cannot survive this is no run. So before we admire any curve, we
# end this one in the rudest way there is: SIGKILL, which no program can answer. We wait until a few steps are done, and strike.

# %% tags=["long"]
def finished(run):
    """Self-play steps whose line is in the log."""
    log = run / "metrics.jsonl"
    return log.read_text().count("\n") if log.exists() else 0


kill_after = min(3 if profile == "ci" else 6, plan["steps"] - 1)
while finished(RUN) < kill_after and process.poll() is None:
    time.sleep(0.1)
assert process.poll() is None, LOG.read_text()[-800:]
process.kill()
process.wait()
print(f"killed after {finished(RUN)} finished steps; exit status {process.returncode}")
print("left behind:", *sorted(path.name for path in RUN.iterdir()))

# %% [markdown]
# **What you should see.** Exit status −9 (killed by signal 9), and the files of a [run directory](glossary.md#run-directory):
# `config.json` (every setting), `metrics.jsonl` (one line of numbers per step), `rollouts.jsonl` (every trained reply), `tasks.jsonl` (every proposal),
# `eval` (held-out scores), and `checkpoint-N` folders. N counts *updates*: in profile cpu a step has four.
#
# **If you see something else**: an AssertionError shows the end of what the run said before it stopped by itself. "exists already" means that the
# cell which starts the run was run twice; go back to the cell with `PLANS`, which gives the run a new name, and on from there. With `STEPS = 1`
# there is nothing to kill; take 2 or more.
#
# We keep a copy of the three logs as the kill left them. It will be evidence later.

# %% tags=["long"]
LOGS = ("metrics.jsonl", "rollouts.jsonl", "tasks.jsonl")
left = {name: (RUN / name).read_bytes() for name in LOGS}
steps_before = finished(RUN)
print({name: f"{len(data):,} bytes" for name, data in left.items()})

# %% [markdown]
# ## 3. Which checkpoint can be trusted?
#
# The kill may have come *while a checkpoint was being written*. Then a folder is there, and it is a trap. The
# remedy is old and simple: write all files, and last of all a **seal** that lists them with their sizes. Here it is `whole.json`:
#
# ```json
# {"files": {"model.safetensors": 1916800, "selfplay.json": 19991, "optimizer.pt": 3857099}}
# ```
#
# **Exercise 1** (8 minutes, 2 points; difficulty 3 of 5, importance 4 of 5). Find the checkpoint to resume from.

# %% tags=["exercise"]
def last_whole_checkpoint(run_dir):
    """The newest checkpoint that can be trusted, or None where there is none.

    run_dir: a pathlib.Path. In it lie folders such as checkpoint-16 and checkpoint-24 (or none at
    all).
    A checkpoint counts when its whole.json is there, and every file listed under "files" has
    exactly the listed size in bytes. Other files may lie beside them.
    Newest: of the largest number in its name, whatever the dates of the files say.
    Returns: the folder's pathlib.Path, such as run_dir / "checkpoint-24".
    """
    return ...

check.last_whole_checkpoint(last_whole_checkpoint)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * `run_dir.glob("checkpoint-*")` lists the folders; `path.name`, `path.exists()`, `path.stat().st_size`, `path.read_text()` and `json.loads` are all you need.
# * Write a small function `whole(folder)` first. What should it say of a folder without a seal? Of one where a listed file is missing?
# * What comes first when you sort the *texts* "checkpoint-96" and "checkpoint-100"?
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def last_whole_checkpoint(run_dir):
#     def whole(folder):
#         seal = folder / "whole.json"
#         sizes = json.loads(seal.read_text())["files"] if seal.exists() else {}
#         files = [(folder / name, size) for name, size in sizes.items()]
#         return bool(files) and all(f.exists() and f.stat().st_size == size for f, size in files)
#
#     found = [folder for folder in run_dir.glob("checkpoint-*") if whole(folder)]
#     return max(found, key=lambda folder: int(folder.name.split("-")[1]), default=None)
# ```
#
# Why: a folder counts only after its seal and every listed file have been looked at, and the
# number is compared as a number.
# </details>

# %%
last_whole_checkpoint = check.use(last_whole_checkpoint, fallback=course.last_whole_checkpoint)

# %% tags=["long"]
found = last_whole_checkpoint(RUN)
print(f"{steps_before} steps were finished; resume from {found.name if found else 'the start'}")
if found:
    done = course.step_of(found) // az.Run(RUN).config.updates_per_step
    print(
        f"which is the state after step {done}: {steps_before - done} finished step(s) will be "
        "done again"
    )

# %% [markdown]
# **What you should see.** The kill came a step or two after the last checkpoint, so a step or two is lost, and will be done again.
#
# **If you see something else** ("the start"): the kill came before the first checkpoint; resuming then begins anew, which is right.

# %% [markdown]
# ## 4. Resume it, and watch
#
# `azr-lite resume` loads that checkpoint: weights, optimiser, buffers, and the state of every random number generator. It cuts the logs back to
# the checkpoint's step and goes on. `az.Run(RUN).dashboard()` follows it in one picture that is renewed in place (the square "interrupt" button of the notebook
# stops the *watching*; the run goes on). Use the minutes to read section 5.

# %% tags=["long"]
process = start("resume", str(RUN))
az.Run(RUN).dashboard()

# %% [markdown]
# **What you should see.** First a dotted line, "no update": the held-out level of the untrained model. For about twelve steps neither held-out
# accuracy nor reply length moves much. Then replies get longer, and held-out accuracy climbs: in the stored run from 44 to 70 % [67, 73], most of it between steps 20 and 30.
#
# **If you see something else**: a picture that never moves for minutes means the process has died; `print(LOG.read_text()[-800:])` says why.
#
# Now the evidence. The steps after the checkpoint were done twice: once before the kill, once after. Are they the same?

# %% tags=["long"]
assert process.wait() == 0, LOG.read_text()[-800:]
for name, old in left.items():
    whole_lines = old[: old.rfind(b"\n") + 1]  # the kill may have cut the last line short
    now = (RUN / name).read_bytes()
    print(
        f"{name:15} {len(whole_lines):>10,} bytes before the kill; the finished run begins with "
        f"the same bytes: {now.startswith(whole_lines)}"
    )

# %% [markdown]
# **What you should see.** True three times: every number, every reply and every proposal of the repeated steps came out the same, to the byte.
#
# **If you see something else** (False): it would be a bug; please report it. (This notebook's run stays on the CPU in every profile. On a GPU sums
# are not made in the same order twice, so bytes may differ there.)
#
# This is more than tidiness. A run that repeats exactly can be *debugged*: you can go back to step 31 as often as you like.

# %% [markdown]
# ## 5. What each curve says
#
# | panel | what it is | a good sign | look closer when |
# |---|---|---|---|
# | held-out accuracy | problems nobody trains on; replies [greedy](glossary.md#greedy) | its band leaves the dotted line | it falls |
# | solve rate of new tasks | [r̄](glossary.md#solve-rate) of what the proposer invents | it stays in the middle | it runs to 0 or to 100 % |
# | proposals | valid ones, and learnable ones (0 < r̄ < 1) | many of both | learnable ones vanish |
# | reward | mean reward of both seats | nothing: see below | it jumps |
# | reply length | tokens per reply | it grows where thinking earns more | it grows and accuracy does not |
# | entropy | how undecided the policy is, nats per token | a slow fall | it crashes to 0 |
# | gradient norm | size of an update | steady | twenty times its median |
# | time, sampling | cost | flat | memory or time grow without end |
#
# The row about reward is the surprise. In supervised learning the loss tells how well you do. In self-play the **tasks change with the
# policy**: as the solver gets better, the proposer earns more for harder tasks, and the solver's reward may fall while it learns.
# That is why the first panel exists: only problems that stay the same can show a gain.
#
# Every logged number has a row in one table, with formula and healthy range. Ask for any:

# %%
for number in course.find("propose/deduction/solve_rate"):
    print(f"{number.pattern}: {number.name}")
    for label, text in course.explain(number):
        print(f"  {label:8} {text}")

# %% [markdown]
# **What you should see.** Formula, unit, healthy range, and where it comes from. On a terminal: `azr-lite show propose/deduction/solve_rate`.

# %% [markdown]
# ## 6. Read the log yourself
#
# A dashboard shows what its maker thought of. You will want your own curves, so here is the log itself: one line of JSON per step, keys such as
# `solve/deduction/tokens`: role, type, name.

# %% tags=["long"]
lines = [json.loads(one) for one in (RUN / "metrics.jsonl").read_text().splitlines()]
last = lines[-1]
print(len(lines), "steps,", len(last), "numbers each; some keys of the last line:")
print([key for key in last if key.startswith("solve/deduction")][:9])

# %% [markdown]
# **Exercise 2** (5 minutes, 1 point; difficulty 2 of 5, importance 2 of 5). To draw "reply length" you need one name for all task types of a role.

# %% tags=["exercise"]
def across(line, start, end):
    """The values of one name for every task type, as a list in the order of the line.

    line: dict from key to number.  start: "solve/" or "propose/".
    end: "/" and a name, such as "/tokens".
    Only keys of the form role/type/name count: exactly two slashes. (Others may end alike:
    propose/deduction/reason/truncated is a count of rejections; propose/deduction/truncated is a
    share.)
    line = {"solve/deduction/ok": 0.5, "solve/abduction/ok": 0.75, "propose/deduction/ok": 1.0}
    across(line, "solve/", "/ok") is [0.5, 0.75]
    """
    return ...

check.across(across)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * Texts have `startswith`, `endswith` and `count`.
# * A list comprehension over `line.items()` does it in one line.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def across(line, start, end):
#     return [
#         value for key, value in line.items()
#         if key.startswith(start) and key.endswith(end) and key.count("/") == 2
#     ]
# ```
#
# Why: no task type is named, so types of your own are found too; two slashes keep the deeper
# counts out.
# </details>

# %%
across = check.use(across, fallback=course.across)

# %% tags=["long", "hide-input"]
def curve(lines, start, end):
    """Step (from 1) and mean over task types, for every step."""
    return [one["step"] + 1 for one in lines], [mean(across(one, start, end)) for one in lines]


made, axes = figure(1, 3, (10.5, 3.0))
shown = (
    ("New tasks get harder as it learns", "propose/", "/solve_rate", "solve rate of new tasks"),
    ("It solves no more of its own tasks", "solve/", "/ok", "share of own tasks solved"),
    ("It finds that thinking earns more", "solve/", "/tokens", "tokens per reply"),
)
for axis, (title, start_, end, unit) in zip(axes, shown):
    line(axis, "solve" if "solve/" in start_ else "propose", *curve(lines, start_, end))
    with style():
        axis.set_title(title if profile != "ci" else end)
        axis.set(xlabel="self-play step", ylabel=unit, ylim=(0, None if "tokens" in end else 1))
show(
    made,
    "Three curves of the live run over its steps: solve rate of new tasks, share of own tasks "
    "solved, tokens per reply",
)

# %% [markdown]
# **What you should see.** In the first dozen steps new tasks get harder: fewer of them are solved. The share of *own* tasks that is solved falls with
# them. Judged by that curve alone the run gets worse! Then replies grow from about 14 to more than 40 tokens, and the solver catches up, until the
# proposer moves on: in the stored run 70 % of the first tasks are solved and 53 % of the last, by a model that has gained 26 points on held-out ones.
#
# Why are the first two lines so alike? The answers that *measure* a task's r̄ are the ones that train the solver (`solver_data="reuse"`). The paper
# throws them away and asks anew.

# %% [markdown]
# ## 7. How sure is it?
#
# The nano model is asked 300 held-out problems of each type. Their programs contain a pair or a triple of operations that neither the
# warm start nor any buffer has seen. A score of 140 out of 300 could have been 150 with other problems.
# **[Wilson's interval](glossary.md#wilsons-interval)** says how far such a share may be off, with p = right/n and z = 1.959964 for 95 %:
#
# $$\frac{p + \frac{z^2}{2n} \pm z\sqrt{\frac{p(1-p)}{n} + \frac{z^2}{4n^2}}}{1 + \frac{z^2}{n}}$$
#
# **Exercise 3** (6 minutes, 2 points; difficulty 2 of 5, importance 4 of 5).

# %% tags=["exercise"]
def wilson(right, n):
    """The 95 % interval of a share, as (low, high), both from 0 to 1.

    right: how many were right.  n: how many were asked, at least 1.
    wilson(1, 10) is about (0.0179, 0.4042); wilson(0, 10) is about (0.0, 0.2775), not (0.0, 0.0)
    """
    return ...

check.wilson(wilson)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * Name the parts: centre, half-width, and what both are divided by.
# * Rounding may leave −1e-17: `max(0.0, …)` and `min(1.0, …)`.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def wilson(right, n):
#     p, z = right / n, 1.959964
#     centre = p + z**2 / (2 * n)
#     half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
#     below = 1 + z**2 / n
#     return max(0.0, (centre - half) / below), min(1.0, (centre + half) / below)
# ```
#
# Why: the parts have the names of the formula, so each can be held against it.
# </details>

# %%
wilson = check.use(wilson, fallback=course.wilson)

# %% tags=["long", "hide-input"]
scores = {}
for path in (RUN / "eval").glob("*.json"):
    step = 0 if path.stem == "before" else int(path.stem.removeprefix("step-"))
    scores[step] = json.loads(path.read_text())["scores"]
steps = sorted(scores)

made, (axis,) = figure(1, 1, (7.0, 3.6))
for kind in ("deduction", "abduction", "induction"):
    bands = [wilson(scores[step][kind]["right"], scores[step][kind]["n"]) for step in steps]
    line(axis, kind, steps, [100 * scores[step][kind]["accuracy"] for step in steps])
    axis.fill_between(
        steps,
        [100 * low for low, _ in bands],
        [100 * high for _, high in bands],
        color=look(kind).colour,
        alpha=0.15,
        lw=0,
    )
with style():
    axis.set_title("Your run on problems it never trains on, with 95 % bands")
    axis.set(xlabel="self-play step", ylabel="held-out, % right", ylim=(0, 100))
    axis.legend(loc="lower right")
show(made, "Held-out accuracy of the live run by task type over its steps, with 95 percent bands")

# %% [markdown]
# **What you should see.** Three bands. Deduction leaves its old band far below; abduction clearly; induction's bands still overlap.
#
# A band covers the luck of the *problems*. It does not cover the luck of the *seed*: another seed is another run. For that, one has to run
# again.

# %% [markdown]
# ## 8. Five seeds, and two kinds of run that should not learn
#
# This takes most of an hour, so it is recorded (`data_samples/benchmarks/nano.json`, made by `azr-lite bench nano --seeds 5`; 1,500 problems per type). Three
# other *arms* (sides of the comparison) stand beside self-play. The first two are [controls](glossary.md#control), which cannot learn:
#
# * **no update**: advantages of zero. Whatever moves now is a bug of the measuring.
# * **shuffled rewards**: the same rewards, dealt out at random. As many updates, as large, and nothing to learn from them.
# * **solver only**: the proposer proposes, and is never trained.

# %% tags=["hide-input"]
bench = json.loads(recorded("benchmarks/nano.json").read_text(encoding="utf-8"))
arms = bench["arms"]
made, (axis,) = figure(1, 1, (7.0, 2.9))
for place, (arm, found) in enumerate(arms.items()):
    gain, own = found["scores"]["all"]["gain"], look(arm, place)
    y = len(arms) - place
    axis.plot(
        [100 * gain["low"], 100 * gain["high"]],
        [y, y],
        color=own.colour,
        linewidth=5,
        alpha=0.35,
        solid_capstyle="butt",
    )
    axis.plot(
        [100 * seed for seed in gain["by_seed"]],
        [y] * 5,
        own.marker,
        color=own.colour,
        markersize=5,
    )
    axis.text(
        max(0, 100 * gain["high"]) + 1,
        y,
        f"{100 * gain['mean']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]",
        va="center",
    )
with style():
    axis.set_yticks(range(len(arms), 0, -1), list(arms))
    axis.axvline(0, color="#6E6E6E", linewidth=1)
    axis.set(
        xlabel="gain on held-out problems, points", xlim=(-20, 56), ylim=(0.5, len(arms) + 0.5)
    )
    axis.set_title("Learning needs the rewards: five seeds of each arm, 95 % intervals")
show(
    made,
    "Held-out gain of four arms with five seeds each: self-play +29.5, solver only +29.4, no "
    "update 0.0, shuffled rewards -13.1 points",
)

# %% [markdown]
# **What you should see.** Self-play +29.5 points. Of its five seeds (dots), four lie within two points of one another and one five points below.
# No update: exactly 0. Shuffled rewards: −13.1. Updates without a signal are not neutral; they are noise, and noise does harm.
#
# And the fourth arm should make you think. *Solver only* gains +29.4, just as much. The gain comes from **practice**. Does a proposer that
# learns add anything?

# %%
for arm in ("self-play", "solver only"):
    found = arms[arm]
    first, last_ = (
        mean([one[end] for one in found["program_operations"]]) for end in ("first", "last")
    )
    hardest = found["scores"]["abduction/4 ops"]["gain"]["mean"]
    print(
        f"{arm:12} operations per proposed program: {first:.2f} -> {last_:.2f};  gain on "
        f"abduction over four operations: {100 * hardest:+.1f} points"
    )

curves = json.loads(recorded("benchmarks/nano-curve.json").read_text(encoding="utf-8"))["arms"]
print("\nheld-out accuracy, %, after    0     10     15     20     25     30     40     50 steps")
for arm in ("self-play", "solver only"):
    seeds = curves[arm]["curve"]
    means = (100 * mean([run[step] for run in seeds]) for step in "0 10 15 20 25 30 40 50".split())
    print(f"{arm:26}" + "".join(f"{one:7.1f}" for one in means))

# %% [markdown]
# **What you should see.** The trained proposer moves to longer programs (1.91 → 3.02 operations); the untrained one stays below two. But after
# fifty steps this does not show even on the hardest problems: +17.2 points against +17.6.
#
# It shows on the way there. The table is of five more runs of each arm, evaluated every five steps: after 25 steps
# self-play has gained 22 points, solver only 7, and self-play is ahead in each of the five seeds. Harder tasks reward thinking sooner. After 45
# steps no difference is left: two end points would have hidden it.

# %% [markdown]
# ## 9. What kind of gain is it?
#
# Thirty points in minutes: has it learned to reason? Be careful. Here is an experiment that many papers leave out. Take the model
# *before* self-play and do not train it at all. Only forbid that its reply starts with the end of the thought, so that it must think on every
# problem.

# %% tags=["hide-input"]
kinds = ("deduction", "abduction", "induction")
after = arms["self-play"]["scores"]
forced = bench["base_made_to_think"]
made, (axis,) = figure(1, 1, (7.0, 3.2))
for place, kind in enumerate(kinds):
    values = (after[kind]["before"]["mean"], after[kind]["after"]["mean"], forced[kind]["accuracy"])
    for shift, (value, hatch, shade) in enumerate(zip(values, ("", "", "//"), (0.35, 1.0, 0.6))):
        axis.bar(
            4 * place + shift,
            100 * value,
            0.9,
            color=look(kind).colour,
            alpha=shade,
            hatch=hatch,
            edgecolor="white",
        )
        axis.text(4 * place + shift, 100 * value + 1, f"{100 * value:.0f}", ha="center", fontsize=8)
with style():
    names = [
        f"{name}\n\n{kind}" if name == "after" else name
        for kind in kinds
        for name in ("before", "after", "made to\nthink")
    ]
    axis.set_xticks(
        [4 * place + shift for place in range(3) for shift in range(3)], names, fontsize=7.5
    )
    axis.set(ylabel="held-out, % right", ylim=(0, 105))
    axis.set_title("Untrained but made to think, it does as well as after self-play")
show(
    made,
    "Held-out accuracy before and after self-play and of the untrained model made to think: 29, "
    "86, 92; 56, 81, 85; 42, 50, 52 percent",
)

# %% [markdown]
# **What you should see.** In each type the third bar is higher than the second: 92, 85 and 52 % against 86, 81 and 50.
#
# So the skill was there, and it was not used: greedy, the warm start *never* thinks. Self-play found out, from rewards alone, that thinking
# earns more. The word for this is **[elicitation](glossary.md#elicitation)**. It is a real and useful gain, and it is not a new skill. Whether gains of large
# models are of this kind is an open question; [notebook 08](08_reading_a_run.ipynb) shows how pass@k looks into it.

# %% [markdown]
# ## 10. Take one piece away
#
# An **[ablation](glossary.md#ablation)** asks what a piece is good for. These are recorded: two seeds, 30 steps, 300 problems per type
# (`data_samples/runs/ablations/comparison.json`).

# %%
ablated = json.loads(recorded("runs/ablations/comparison.json").read_text(encoding="utf-8"))["arms"]
for arm in (
    "self-play",
    "one global baseline",
    "GRPO per prompt",
    "token whitening",
    "solver only",
    "no references",
):
    gain = ablated[arm]["scores"]["all"]["gain"]
    seeds = ", ".join(f"{100 * one:+.1f}" for one in gain["by_seed"])
    print(
        f"{arm:20} {100 * gain['mean']:+5.1f} [{100 * gain['low']:+5.1f}, "
        f"{100 * gain['high']:+5.1f}]   by seed {seeds}"
    )

# %% [markdown]
# **What you should see.** Without references (the proposer sees only the identity function) the gain falls from +23.4 to +3.4. Without a learning
# proposer: +15.3. One global baseline, GRPO or token whitening: +22.9 to +26.1.
#
# What may you say? "No references" is clear: even its best seed is far from self-play's worst. For the three estimators you may say only that
# *at this scale, with two seeds, no difference was seen*. That is not "there is none".
#
# Now you. Choose an arm, guess what its curves will do, and let it play. The same seed gives the same seed tasks, so the beginnings are
# alike. In profile ci the recorded run with seed 200 is drawn instead.

# %% tags=["long"]
ARM = "solver only"  # or "one global baseline", "no references"
STEPS_OF_ARM = 20  # about a minute and a half on one idle core


def lines_of(path):
    return [json.loads(one) for one in path.read_text(encoding="utf-8").splitlines()]


if profile == "ci":
    whole_run, ablation = (
        lines_of(recorded(f"runs/ablations/{name.replace(' ', '-')}-seed200/metrics.jsonl"))
        for name in ("self-play", ARM)
    )
else:
    code = (
        "import sys; from azr_lite.course.experiments import play_arm; play_arm(sys.argv[1], "
        "int(sys.argv[2]), sys.argv[3], "
        "{'steps': int(sys.argv[4]), 'eval_problems': 0, 'device': 'cpu'})"
    )
    folder = RUN.with_name(RUN.name + "-ablation")
    subprocess.run(
        [sys.executable, "-c", code, ARM, str(SEED), str(folder), str(STEPS_OF_ARM)], check=True
    )
    whole_run, ablation = (
        lines,
        lines_of(folder / f"{ARM.replace(' ', '-')}-seed{SEED}" / "metrics.jsonl"),
    )

# %% tags=["long", "hide-input"]
made, axes = figure(1, 2, (9.0, 3.0))
end_of_arm = len(ablation)
for axis, (start_, end, unit) in zip(
    axes,
    (
        ("propose/", "/solve_rate", "solve rate of new tasks"),
        ("solve/", "/tokens", "tokens per reply"),
    ),
):
    for place, (name, own) in enumerate((("self-play", whole_run[:end_of_arm]), (ARM, ablation))):
        line(axis, name, *curve(own, start_, end), place)
    with style():
        axis.set(xlabel="self-play step", ylabel=unit, ylim=(0, 1 if "rate" in end else None))
        axis.set_title(
            "How hard the proposer's tasks are" if "rate" in end else "How long the solver thinks"
        )
        axis.legend()
show(
    made,
    "Solve rate of new tasks and tokens per reply over the first steps, for self-play and for "
    f"{ARM}",
)

# %% [markdown]
# **What you should see** for *solver only*: with self-play the tasks get harder (solve rate falls from 70 to 55 %); the proposer that does not
# learn goes on with its easy mix, and from about step 16 its solver thinks less.
#
# With *one global baseline* you should see nearly the same two lines twice. With *no references* look at how new tasks and
# their difficulty drift apart from the buffer. Twenty steps prove nothing; they give you a guess worth testing.

# %% [markdown]
# ## What to take along
#
# * A run is a directory. Kill it, resume it, read it: everything is in files, and on a CPU they come out the same, byte for byte.
# * Training reward is no measure of learning in self-play: the tasks move. Held-out problems, an interval, several seeds, and controls are.
# * Say what kind of gain you have. Here: elicitation.
#
# **Go on:** change `SEED` and run all again. Then let
# [notebook 07](07_lora.ipynb) do this with a real model, or learn in [notebook 08](08_reading_a_run.ipynb) to recognise the runs that went wrong.
