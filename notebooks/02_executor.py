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
# # 02 · The executor: code you do not trust
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/azr-lite/azr-lite/blob/main/notebooks/02_executor.ipynb) [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/azr-lite/azr-lite/blob/main/notebooks/02_executor.ipynb) [![nbviewer](https://img.shields.io/badge/render-nbviewer-orange)](https://nbviewer.org/github/azr-lite/azr-lite/blob/main/notebooks/02_executor.ipynb)
#
# **You will be able to**
#
# * run hostile programs under limits;
# * prove that a program is deterministic;
# * say what the sandbox does not stop.
#
# **Before this:** notebook 01.
#
# **Budget:** 13 minutes to read (2,652 words); 5 exercises (10 points, about 38 minutes); 9 seconds and 155 MiB on 2 CPU cores; on a GPU: not measured.
#
# **Last verified:** Python 3.11.7, azr-lite 0.2.0, numpy 2.4.6, 2026-12-01.
#
# **Next:** [03 · Rewards: who is a good teacher?](03_rewards.ipynb). Words in this course: [glossary](glossary.md).
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
import ast, logging, time, warnings
import numpy as np
import azr_lite as az
from azr_lite import course
from azr_lite.course import (
    Job, Level, Limits, Outcome, Validation, attacks, canonical, check, figures, profile,
    widgets,
)
from azr_lite.course import compare as package_compare

warnings.simplefilter("ignore", RuntimeWarning)  # the next cell says the level, in words
logging.getLogger("azr_lite.sandbox").setLevel("ERROR")
profile = profile(PROFILE)

# %% [markdown]
# ## A program that does not like you
# In Absolute Zero a language model writes programs, and your machine runs them: a few thousand at each step. The model is no criminal.
# But it is *rewarded*, and training finds whatever earns a reward. If an answer can be made "right" by reading the solution out of memory,
# some sampled program will do it, the reward will reinforce it, and after some hundred steps your model will have learnt to burgle
# instead of to think.
#
# So the [executor](glossary.md#executor) guards three things: **you** (your files, your keys), **the machine** (it must not hang),
# and **the [reward](glossary.md#reward)** (only right answers earn it). This notebook attacks all three, on your machine, harmlessly:
# each attack that works does nothing but report that it worked.
#
# A word first on how programs run here. The trainer never executes model text. It starts a *zygote*, a small Python process that locks itself
# up and then makes a copy of itself (a fork) for every program; the copy is the *child*. The child gets a program and inputs,
# writes answers into one pipe, and dies.

# %%
executor = az.Executor(Limits(cpu_s=0.5), workers=1, allow_weak=True)
print(f"level {executor.level.name}: {executor.level.value}\n")
for name, state in executor.layers.items():
    print(f"  {name:16} {state}")
if executor.level is not Level.FULL:
    print(
        "\nThis machine cannot lock programs up fully. All cells below run; attacks that the "
        "table of results calls stopped may get out here."
    )

# %% [markdown]
# **What you should see**: level FULL on an ordinary Linux machine, with nine lines that say "on" (for a plain user `own_uid` is off: programs keep
# yours). KERNEL (the system-call filter, but no second wall) is usual in Docker, on Colab and on Kaggle. WEAK means that programs run as you, with little more than a stopwatch.
#
# **If you see something else**: macOS and Windows have no [seccomp](glossary.md#seccomp), and so are WEAK; there `Executor()` refuses to run
# model programs until you write `allow_weak=True`, as this cell did. Everything in this notebook was written by us, so that is safe here.
# `azr-lite doctor --sandbox` attacks your machine with the whole suite and prints one line per attack.
#
# ## One honest program, and what comes back

# %%
for outcome in executor.run("def f(x):\n    return {x: [x * 2, 1 / (x - 3)]}", [(1,), (3,)]):
    print(outcome)

# %% [markdown]
# Two inputs, two [outcomes](glossary.md#outcome). The second input raised an error, and that is **not** an error here: a failing program is
# ordinary news, so it comes as a value with a `kind`. There are ten kinds; the next cell makes seven of them.

# %%
ZOO = {
    "polite": "def f(x):\n    return x",
    "never ends": "def f(x):\n    while True: pass",
    "eats memory": "def f(x):\n    keep = 'x' * 999\n    while True: keep += keep",
    "wants the shell": "import os\ndef f(x):\n    return os.system('echo hello')",
    "equals everything": "class Liar(int):\n    def __eq__(self, other): return True\n    "
    "__hash__ = None\ndef f(x):\n    return Liar(1)",
    "leaves early": "def f(x):\n    import statistics\n    "
    "statistics.mean.__globals__['sys'].modules['posix']._exit(0)",
    "forges a second answer": "def f(x):\n    import statistics\n    os = "
    'statistics.mean.__globals__["sys"].modules["posix"]\n'
    '    os.write(3, b\'{"s":"ok","v":42}\\n\')\n    return 1',
}
started = time.perf_counter()
for name, program in ZOO.items():
    print(f"{name:24} {attacks.run_and_explain(executor, program)}")
print(
    f"\n{time.perf_counter() - started:.1f} s for all; and the next program is fine: "
    f"{executor.run('def f(x): return x + 1', [(1,)])[0].value}"
)

# %% [markdown]
# **What you should see**: `ok`, `timeout`, `memory`, `rejected`, `value`, `crash`, `protocol`, in this order. Each guard is another piece of code:
# the clock, a memory limit, the import list, the *wire* (only plain values cross, as text; never pickle), and the reader in the trainer,
# which throws away all of a child's answers when there is one too many.
#
# **If you see something else**: on a WEAK machine "eats memory" may end as a timeout (macOS has no such limit), and "leaves early" and "forges" as
# an exception. No line may say `ok` but the first.
#
# Look at the forger again. It cannot be kept from *writing* into its own pipe. It need not be: **a program that
# forges its result has only chosen its result in a roundabout way.** What it does not know is which result would be right, because the
# expected output is never in the child. That is your first exercise.

# %% [markdown]
# ## Exercise 1: judge without telling (2 points, 6 minutes; difficulty 2 of 5, importance 5 of 5)
# [Abduction](glossary.md#abduction): the solver offers an input, and is right when the program turns it into the [gold](glossary.md#gold) output. Write the
# judge. `run(program, inputs)` runs a program on a list of argument tuples, and gives one `Outcome` per input
# (`.ok`, `.kind`, `.value`). Compare values with `package_compare(a, b)`, the package's own `compare`,
# which you will write in Exercise 4.

# %% tags=["exercise"]
def judge_candidate(run, program, candidate, gold):
    """True when `program` turns `candidate` into the value `gold`, else False.

    candidate: a tuple of arguments, such as (3, 'a').
    Example: with "def f(a, b): return a + b", gold 7 and candidate (3, 4) it is True, with (3, 5)
    False.
    """
    return ...

check.judge_candidate(judge_candidate)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * What must a hostile program not be able to read? Make sure that you never send it.
# * `outcome.value` is None for a program that never ended. What if the gold is None?
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def judge_candidate(run, program, candidate, gold):
#     (outcome,) = run(program, [candidate])
#     return outcome.ok and package_compare(outcome.value, gold)
# ```
#
# Why: the gold never leaves this process; the child learns the program and the candidate, and no
# more.
# </details>

# %%
judge_candidate = check.use(judge_candidate, fallback=course.judge_candidate)
program = "def f(a, b):\n    return a + b"
print(
    judge_candidate(executor.run, program, (3, 4), 7),
    judge_candidate(executor.run, program, (3, 5), 7),
)

# %% [markdown]
# ## Which layer stops what
# The sandbox is not one wall but several, on purpose:
#
# | layer | what it does |
# |---|---|
# | limits | processor time, memory, no new processes, files of size 0 |
# | own uid, no capabilities | another user number (uid), not root any more; signals only to processes of that number, its parent (the zygote) among them |
# | [Landlock](glossary.md#landlock) | the kernel denies every path, and TCP |
# | [namespaces](glossary.md#namespace) and empty root | its own world: no files, no network, no other processes |
# | [seccomp](glossary.md#seccomp) | the kernel answers three dozen system calls and no others |
#
# We now run the same eighteen attacks with some layers left out. Every attack starts where a clever program would end: it already has Python's
# inner modules in its hands. Own uid, capabilities and limits stay on in every column, so that nothing here can hurt you.

# %% tags=["long"]
names = attacks.ATTACKS if profile != "ci" else attacks.ATTACKS[:14:2] + attacks.ATTACKS[14:16]
columns = (
    attacks.columns()
    if profile != "ci"
    else {
        name: skip
        for name, skip in attacks.columns().items()
        if name in ("limits only", "everything")
    }
)
started = time.perf_counter()
found = attacks.matrix(names, columns)
print(
    f"{len(found)} attacks x {len(columns)} sets of layers in {time.perf_counter() - started:.0f} s"
)
for column in columns:
    print(f"  {column:14} {sum(not row[column] for row in found.values()):2} got out")

# %% tags=["long", "hide-input"]
stopped = np.array([[found[name][column] for column in columns] for name in names])
made, (axis,) = figures.figure(1, 1, (7.2, 0.3 * len(names) + 1.3))
with figures.style():
    axis.imshow(np.where(stopped, 0.15, 0.75), cmap="Oranges", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(stopped.shape):
        axis.text(
            column,
            row,
            "stopped" if stopped[row, column] else "GOT OUT",
            ha="center",
            va="center",
            fontsize=7,
            fontweight="normal" if stopped[row, column] else "bold",
        )
    axis.set_xticks(range(len(columns)), columns, fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_xlabel("layers that were on")
    axis.grid(False)
    said = ", ".join(
        f"with {column} {out}"
        for column, out in zip(columns, (~stopped).sum(0))
        if column in ("limits only", "everything")
    )
    axis.set_title(f"Attacks that get out, of {len(names)}: {said}")
figures.show(
    made,
    alt=f"Table of {len(names)} attacks against {len(columns)} sets of layers; what gets out: "
    f"{said}.",
)

# %% [markdown]
# **What you should see**: on a machine at level FULL, no attack gets out in the last column, nor in the last but one: *the system-call
# filter alone* stops all of these. Landlock and namespaces each take away the files and the trainer's memory (Landlock lets a program still ask
# whether a file *exists*). Neither takes away unix sockets, io_uring or keyrings: big parts of the kernel, each with a history of bugs.
#
# **If you see something else**: what gets out differs with the kernel, with Docker, and with your uid (a plain user cannot touch what root
# can). If something gets out under "everything" and the first cell said FULL, you have found a bug: please report it. Only one column? You
# run on macOS or Windows, where layers cannot be left out; there "stopped" may only mean that an attack written for Linux found nothing to attack.
#
# Then why the other layers, when seccomp does it all? Because the filter is a list that people wrote, and kernels have bugs. Two
# independent walls must both fail. They are also nearly free: the zygote puts them on once, and each child inherits them.

# %% [markdown]
# ## Exercise 2: name the level (1 point, 4 minutes; difficulty 2 of 5, importance 2 of 5)
# `Executor.layers` says of each layer "on" or "off: why". Turn that into one word. **WEAK**: no `seccomp`, or no `no_new_privs` (without which a
# filter can be shed). **FULL**: both, and a second wall: either `landlock`, or `namespaces` together with `empty_root`. **KERNEL**: else.

# %% tags=["exercise"]
def level_of(layers):
    """Level.WEAK, Level.KERNEL or Level.FULL for a dict such as {"seccomp": "on", "landlock": "off:
    EPERM", ...}."""
    return ...

check.level_of(level_of)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * Make the set of the names whose state is exactly "on"; then ask whether it contains other sets (`{"a", "b"} <= on`).
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def level_of(layers):
#     on = {name for name, state in layers.items() if state == "on"}
#     if not {"seccomp", "no_new_privs"} <= on:
#         return Level.WEAK
#     wall = "landlock" in on or {"namespaces", "empty_root"} <= on
#     return Level.FULL if wall else Level.KERNEL
# ```
#
# Why: the filter and what keeps it on are asked for first; only then does a second wall count.
# </details>

# %%
level_of = check.use(level_of, fallback=course.level_of)
print(level_of(executor.layers))

# %% [markdown]
# ## Now you: break it
# Change `mine` so that the program gets something it should not have: your home folder, the date, another process. You may use
# all of Python. The cell tells which guard stopped you. Ideas: `().__class__.__mro__`, `f.__globals__`, `statistics.mean.__globals__`,
# a generator as result, a number of a million digits. Nothing here is graded; report what gets through.

# %%
mine = """
def f(x):
    import statistics
    # os itself is not importable; the module behind it is in memory
    posix = statistics.mean.__globals__["sys"].modules["posix"]
    return [name for name in posix.listdir("/")]
"""
print(attacks.run_and_explain(executor, mine))
for body in (
    "return open('/etc/passwd').read()",
    "return (n for n in range(3))",
    "return 10 ** 10 ** 4",
    "return float('nan')",
):
    print(f"{body:36} {attacks.run_and_explain(executor, f'def f(x):{chr(10)}    {body}')}")

# %% [markdown]
# **What you should see**: five refusals, of two kinds: the kernel's (an exception such as PermissionError) and the wire's (`value`).
# The wire refuses generators, because a generator is no literal; huge integers, since reading them would cost *you*
# time; and NaN, because it is not equal to itself: a task whose answer can never be right.
#
# **If you see something else**: at level WEAK, `open` works: programs there run as you. That is what the word means.

# %% [markdown]
# ## Exercise 3: read an answer without running it (2 points, 8 minutes; difficulty 3 of 5, importance 5 of 5)
# In [deduction](glossary.md#deduction) the solver answers with a value, written as Python text, such as `[1, 'a']`. You need the value.
# `eval` would give it, and the method's original code does evaluate such text. Think what that means: an answer of
# `__import__('os').getpid()` is then a program too, and it runs where nothing guards you.

# %% tags=["exercise"]
def read_value(text):
    """The value of one Python literal: read_value("[1, 'a']") == [1, 'a'].

    ValueError (or a subclass), and no other error, for everything that is not a literal, and for
    texts over 4096 characters.
    Those are refused before anything reads them. read_value("None") is None.
    """
    return ...

check.read_value(read_value)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * The standard library has a reader of literals, in the module `ast`. Which errors can it raise? Try it on `"(" * 300` and `""`.
# * In which order should the length be checked?
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def read_value(text):
#     if len(text) > 4096:
#         raise ValueError("too long")
#     try:
#         return ast.literal_eval(text.strip())
#     except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
#         raise ValueError("not a literal") from error
# ```
#
# Why: the length is looked at before anything is parsed, and every way in which hostile text can
# fail becomes one error.
# </details>

# %%
read_value = check.use(read_value, fallback=course.read_value)
print(read_value("{'k': (1, 2)}"))
try:
    read_value("__import__('os').getpid()")
except ValueError as error:
    print(f"{type(error).__name__}: {error}")

# %% [markdown]
# ## Exercise 4: when are two values equal? (2 points, 8 minutes; difficulty 3 of 5, importance 4 of 5)
# Write the comparison behind every verdict. Two modes. `"python"` means Python's `==` (what the paper's rewards go by: `True == 1 == 1.0`). `"typed"`
# keeps types apart at every depth, and 0.0 from -0.0. In both, a value that holds NaN equals nothing.
#
# You have `canonical(value)`: one text for each value, the same for equal dicts and sets however they were built, different for different types.
# It raises `WireError`, a ValueError, for NaN.

# %% tags=["exercise"]
def compare(a, b, mode):
    """True or False: whether two plain values are equal. `mode` is "python" or "typed".

    compare(1, True, "python") is True, compare(1, True, "typed") is False.
    """
    return ...

check.compare(compare)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * Equal canonical texts settle one of the modes completely.
# * Why does `[nan] == [nan]` give True in Python, while `nan == nan` does not? Lists look at identity first. So `==` alone is not enough.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def compare(a, b, mode):
#     try:
#         same = canonical(a) == canonical(b)
#     except ValueError:  # NaN somewhere inside
#         return False
#     return same if mode == "typed" else a == b
# ```
#
# Why: `canonical` finds NaN at any depth in both modes; in "python" the verdict itself is
# Python's own.
# </details>

# %%
compare = check.use(compare, fallback=course.compare)
nan = float("nan")
for a, b in ((1, True), ({1, 2}, {2, 1}), (-0.0, 0.0), ([nan], [nan]), ("1", 1)):
    print(f"{a!r:8} {b!r:8} python: {compare(a, b, 'python')!s:6} typed: {compare(a, b, 'typed')}")

# %% [markdown]
# ## The same program twice: a proof by two worlds
# A task needs one right answer, so a proposed program must be [deterministic](glossary.md#determinism). The plain test is to run
# it twice and compare. Here are six programs that are *not* functions of their input. How many does the plain test find?

# %%
SHIFTY = {
    "order of a set": "def f(x):\n    return list({'apple', 'pear', 'plum', 'fig'})",
    "hash of a text": "def f(x):\n    return hash('apple')",
    "address of an object": "def f(x):\n    return id(object()) % 1000003",
    "printed object": "def f(x):\n    return repr(object())",
    "how deep can I call?": "def f(x, n=0):\n    try:\n        return f(x, n + 1)\n    except "
    "RecursionError:\n        return n",
    "state across inputs": "import math\ndef f(x):\n    math.count = getattr(math, 'count', 0) "
    "+ 1\n    return math.count",
}
table = {}
for name, program in SHIFTY.items():
    again = [[o.value for o in executor.run(program, [(1,), (2,)], world="A")] for _ in range(2)]
    proof = executor.validate(program, [(1,), (2,)])
    table[name] = (again[0] != again[1], not proof.ok)
    print(
        f"{name:22} run twice: {'found' if table[name][0] else 'missed':7} two worlds: "
        f"{'found' if table[name][1] else 'missed':7} {proof.detail[:70]}"
    )

# %% [markdown]
# **What you should see**: "run twice" misses most or all six; the two worlds find all six. A *world* is a zygote of its own with another hash seed,
# another recursion limit and memory limit, that takes the inputs in reverse order. (Where a program may see the order of a set, a hash or an address, there are six more worlds.) A
# program that cannot tell the worlds apart is, for our purpose, deterministic.
#
# **If you see something else**: addresses may differ between two runs on your machine, so "run twice" may find one or two. On WEAK machines the memory limit may
# not differ. A miss in the right column is worth reporting.
#
# What does this *prove*? That these two worlds agree, no more. A program that depends on something both worlds share (the Python
# version, the processor) passes. A run therefore keeps its Python version in `run.json`.

# %% [markdown]
# ## Exercise 5: two worlds, one verdict (3 points, 12 minutes; difficulty 4 of 5, importance 5 of 5)
# Write the judge of determinism. It gets one list of outcomes per world, in the order of the inputs. Give a
# `Validation(ok, outputs, reason, detail, index)`:
#
# * The first input that failed in the **first** world decides: `Validation(False, (), outcome.kind, "", index)`. (`"infra"` is no failure here. It marks
#   inputs that were not run, because an earlier one had failed.)
# * Only then the second world, input by input; the first that is not as it should be decides. Skip `"infra"`. Where it ended as `"timeout"` or `"memory"`, that kind is the reason. Where it ended in any other
#   way that is not `"ok"`, or with a value whose `canonical` text differs, the reason is `"non_deterministic"`.
# * Otherwise `Validation(True, tuple of the values)`.
#
# (Right answers are saved in `my_work.py`; your `verdict` will decide in [notebook 05](05_build_it.ipynb) which proposals become tasks.)

# %% tags=["exercise"]
def verdict(first, second):
    """What two worlds say together. `first`, `second`: lists of Outcome(kind, value), equally long.
    Returns a Validation.

    verdict([Outcome("ok", 1)], [Outcome("ok", 2)]) == Validation(False, (), "non_deterministic",
    "", 0)   (the detail is yours)
    """
    return ...

check.verdict(verdict)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * Two loops, the second with `enumerate(zip(first, second))`.
# * Is True, in one world, the same answer as 1 in the other?
# * A program that is only slow is not irregular. Which reason helps a proposer that reads it?
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def verdict(first, second):
#     for index, outcome in enumerate(first):
#         if outcome.kind not in ("ok", "infra"):
#             return Validation(False, (), outcome.kind, "", index)
#     for index, (one, other) in enumerate(zip(first, second)):
#         if other.kind in ("timeout", "memory"):
#             return Validation(False, (), other.kind, "", index)
#         differs = other.kind != "ok" or canonical(one.value) != canonical(other.value)
#         if other.kind != "infra" and differs:
#             return Validation(False, (), "non_deterministic", "", index)
#     return Validation(True, tuple(outcome.value for outcome in first))
# ```
#
# Why: the first world speaks to its end before the second is heard, so a program that simply
# fails is never called irregular.
# </details>

# %%
verdict = check.use(verdict, fallback=course.verdict)
print(verdict([Outcome("ok", [1, 2])], [Outcome("ok", [1, 2])]))
print(verdict([Outcome("ok", 1)], [Outcome("timeout")]).reason)

# %% [markdown]
# ## Fast enough?
# Safety that costs a second per program would be switched off. A step of the paper's size asks for thousands of executions. Starting a
# fresh Python for each is the obvious way; forking a child from the prepared zygote is cheaper; and inputs that share one reward
# may share one child.

# %% tags=["long"]
program = (
    "def f(text, n=3):\n    counts = {}\n    for c in text:\n"
    "        counts[c] = counts.get(c, 0) + n\n    return sorted(counts.items())[:4]"
)
inputs = [(f"the quick brown fox {i} jumps",) for i in range(64)]
sizes = [1, 2, 4, 8, 16, 32, 64]


def work(size):
    """All 64 inputs, so many in each child; size 0: four of them, each in a fresh Python."""
    if size:
        executor.run_many(
            [Job(program, tuple(inputs[at : at + size])) for at in range(0, 64, size)]
        )
    for (text,) in inputs[:4] if size == 0 else ():
        subprocess.run([sys.executable, "-I", "-S", "-c", f"{program}\nf({text!r})"], check=True)


# of several rounds: other programs of this machine only ever add
best = dict.fromkeys([0, *sizes], float("inf"))
for _ in range(1 if profile == "ci" else 8):
    for size in best:
        started = time.perf_counter()
        work(size)
        best[size] = min(best[size], 1000 * (time.perf_counter() - started) / (64 if size else 4))
fresh, batched = best[0], [best[size] for size in sizes]
print(
    f"fresh Python {fresh:.1f} ms; one child per input {batched[0]:.2f} ms; 64 inputs in one "
    f"child {batched[-1]:.3f} ms each"
)

# %% tags=["long", "hide-input"]
made, (axis,) = figures.figure(1, 1, (6.0, 3.2))
figures.line(axis, "one child, this many inputs", sizes, batched, place=0, markevery=1)
figures.line(axis, "a fresh Python for each", [1, 64], [fresh, fresh], place=1)
with figures.style():
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(sizes, sizes)
    axis.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
    axis.minorticks_off()
    axis.set_xlabel("inputs that share a child")
    axis.set_ylabel("milliseconds per check")
    axis.set_title(
        f"A child: {fresh / batched[0]:.1f} times as fast as a fresh Python; 64 in one: "
        f"{fresh / batched[-1]:.0f}"
    )
    axis.legend(loc="lower left")
figures.show(
    made,
    alt=f"Milliseconds per check fall from {fresh:.1f} for a fresh Python to {batched[0]:.2f} for "
    f"a child and {batched[-1]:.3f} for 64 inputs in one child.",
)

# %% [markdown]
# **What you should see**: one line that falls as more inputs share a child, one flat line well above it. Both axes are logarithmic. The title gives the two
# ratios of *your* machine; the project's own measurement stands in `data_samples/benchmarks/sandbox-1.json`.
#
# **If you see something else**: other work on the machine moves all numbers; the ratios move less. At level WEAK there is no zygote, and the first
# point lies near, or above, the flat line.
#
# Why not share *always*? Because a child remembers. If two solvers' answers shared one, the first could leave a message for the second (a patched
# module, a global), and training would find that channel. So the rule: **inputs share a child only if they share a reward.**

# %% [markdown]
# ## Limits are part of the task
# Processor time is the limit, and wall time only a far guard, so that a busy machine does not turn right answers
# into time-outs. Proposals are validated on *half* the time they will be given later: what barely passes
# here would fail there. Move the slider: how much work fits?

# %% tags=["hide-input"]
LOOP = (
    "def f(n):\n    total = 0\n    for i in range(n):\n        total += i * i\n"
    "    return total % 97"
)
COUNTS = [10**4, 10**5, 10**6] if profile == "ci" else [10**4, 10**5, 10**6, 10**7]
ENDS = {}
for cpu in (0.1, 0.2, 0.4):
    for n in COUNTS:
        ENDS[cpu, n] = executor.run(LOOP, [(n,)], limits=Limits(cpu_s=cpu))[0]


def draw(axis, cpu):
    used = [ENDS[cpu, n].cpu_ms for n in COUNTS]
    axis.bar(
        range(len(COUNTS)),
        used,
        color=[
            figures.look("deduction" if ENDS[cpu, n].ok else "abduction").colour for n in COUNTS
        ],
    )
    for place, n in enumerate(COUNTS):
        axis.text(place, used[place], ENDS[cpu, n].kind, ha="center", va="bottom", fontsize=8)
    axis.axhline(1000 * cpu, color="grey", linestyle="--")
    axis.set_xticks(range(len(COUNTS)), [f"{n:.0e}" for n in COUNTS])
    axis.set(
        xlabel="rounds of the loop",
        ylabel="processor time, ms",
        ylim=(0, 520),
        title=f"cut at {1000 * cpu:.0f} ms",
    )


widgets.explore(
    draw,
    "Bars of processor time for growing loops at three limits: the loops that need more are cut "
    "there.",
    static=[{"cpu": 0.1}, {"cpu": 0.2}, {"cpu": 0.4}],
    cpu=[0.1, 0.2, 0.4],
)

# %% [markdown]
# **What you should see**: bars that grow tenfold until one reaches the dashed line, and is called `timeout` there.
#
# **If you see something else**: a fast processor may finish the longest loop under the largest limit; a cut can come a few milliseconds late.

# %% [markdown]
# ## What this sandbox does not stop
# Say it plainly, or someone will believe more:
#
# 1. **A bug in the kernel** that can be reached through those three dozen system calls.
# 2. **Side channels**: a program can measure the load of the processor, and whisper to another through it, slowly.
# 3. **Load**: a program may use all of its second and all of its memory, each time. You pay for that in electricity.
# 4. **Agreement by chance**: two orders of a small set may be alike in all eight worlds.
# 5. **A machine at level WEAK**, in any way at all.
# 6. **Values that are true and useless.** The sandbox guards the reward's *mechanics*. A proposer that only ever asks trivial questions
#    breaks no rule here; that is the business of [notebook 03](03_rewards.ipynb).
#
# For stronger isolation, run the whole trainer in a virtual machine.

# %%
executor.close()
print(executor.stats())

# %% [markdown]
# **What you should see**: counts of all that was run in this notebook, by kind; `infra` is 0, for the sandbox itself did not fail.
#
# **If you see something else**: `infra` above 0 means that a zygote died and its work was run again, for example because memory ran out. Such a run
# never earns a reward.
#
# Now that answers can be trusted, [notebook 03](03_rewards.ipynb) asks what they should earn.
