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
# # 01 · Task triplets: one program, three task types
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/azr-lite/azr-lite/blob/main/notebooks/01_triplets.ipynb) [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/azr-lite/azr-lite/blob/main/notebooks/01_triplets.ipynb) [![nbviewer](https://img.shields.io/badge/render-nbviewer-orange)](https://nbviewer.org/github/azr-lite/azr-lite/blob/main/notebooks/01_triplets.ipynb)
#
# **You will be able to**
#
# * build deduction, abduction and induction from a triplet;
# * judge answers by value;
# * keep a buffer.
#
# **Before this:** notebook 00.
#
# **Budget:** 9 minutes to read (1,869 words); 6 exercises (12 points, about 44 minutes); 3 seconds and 130 MiB on 2 CPU cores; on a GPU: not measured.
#
# **Last verified:** Python 3.11.7, azr-lite 0.2.0, numpy 2.4.6, 2026-12-01.
#
# **Next:** [02 · The executor: code you do not trust](02_executor.ipynb). Words in this course: [glossary](glossary.md).
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
import random
import re

import azr_lite as az
from azr_lite import course
from azr_lite.course import (
    COMPACT, check, draw_task, draw_task_type, figures, get_task_type, parse_reply, profile,
    read_value, task_key, widgets,
)
from azr_lite.course import Answer, InductionTask, Proposal, Rejection, Rules

profile = profile(PROFILE)
rules = Rules()

# %% [markdown]
# ## From a program to a triplet
#
# A [triplet](glossary.md#triplet) is a program, an input, and the output that the program gives for it. A proposer writes the first two.
# The third is found by running the program in the [sandbox](glossary.md#sandbox), so it is right by construction.
#
# Here are three proposals, written by hand. The `Verifier` does with them what it does with those of a model.

# %%
PROPOSALS = {
    "shift": (
        "def f(text, k):\n    shifted = [(ord(c) - 97 + k) % 26 + 97 for c in text]\n"
        "    return ''.join(map(chr, shifted))",
        ("hal", 1),
    ),
    "unique": (
        "def f(items):\n    seen = []\n    for item in items:\n        if item not in seen:\n"
        "            seen.append(item)\n    return seen",
        ([3, 1, 3, 2, 1],),
    ),
    "count": (
        "def f(word):\n    counts = {}\n    for c in word:\n"
        "        counts[c] = counts.get(c, 0) + 1\n    return counts",
        ("noon",),
    ),
}
# the programs here are ours or yours, no model's
executor = az.Executor(workers=1, allow_weak=True)
verifier = az.Verifier(executor, rules)
found = verifier.validate(
    [("deduction", Proposal(program, (arguments,))) for program, arguments in PROPOSALS.values()]
)
triplets = dict(zip(PROPOSALS, found, strict=True))
for name, triplet in triplets.items():
    print(f"{name:<8} f({triplet.input}) = {triplet.output}")

# %% [markdown]
# **What you should see:** three lines, each an input and its output. Nobody typed the outputs.
#
# **If you see something else:** a `RuntimeWarning` about WEAK isolation says that this system cannot lock programs away. It is fine here,
# and explained in notebook [02](02_executor.ipynb).
#
# Inputs and outputs are kept as *text*, in one spelling: `triplet.output` is a piece of Python source. Such a value, written out, is a
# [literal](glossary.md#literal). It can be stored, shown and read again without running anything.

# %% [markdown]
# ## Three task types
#
# Hide one of the three parts, and ask for it:
#
# | task type | the solver sees | and finds | kind of thinking |
# |---|---|---|---|
# | [deduction](glossary.md#deduction) | program, input | the output | follow the steps |
# | [abduction](glossary.md#abduction) | program, output | an input | go back from the effect to a cause |
# | [induction](glossary.md#induction) | input/output pairs, a message | the program | find the rule behind examples |

# %% tags=["hide-input"]
def draw(axis, triplet, type):
    draw_task_type(axis, triplets[triplet], type)


widgets.explore(
    draw,
    "Three cards with the same triplet: deduction covers the output, abduction the input, "
    "induction the program",
    static=[
        {"triplet": "unique", "type": name} for name in ("deduction", "abduction", "induction")
    ],
    size=(3.1, 2.9),
    triplet=list(triplets),
    type=["deduction", "abduction", "induction"],
)

# %% [markdown]
# **What you should see:** the same triplet three times, each time with another part behind a grey cover. In a live notebook two sliders
# follow: choose a triplet and a task type, and solve it in your head. Which type is hardest for `unique`?
#
# **If you see something else:** without sliders you are looking at a stored copy, or `ipywidgets` is not installed. The pictures are all you need.

# %% [markdown]
# An induction task needs more than one pair, or any program that returns a constant would do. So its proposer gets a program and writes
# ten inputs and a message. The first five pairs are shown. The others stay hidden, and judge the answer.

# %%
inputs = ((2, 3), (0, 5), (7, 7), (4, 1), (10, 2), (5, 5), (1, 9), (8, 3), (3, 9), (6, 11))
gap = Proposal("def f(a, b):\n    return abs(a - b)", inputs, "how far apart they are")
(induction,) = verifier.validate([("induction", gap)])
print(
    type(induction).__name__,
    "with",
    len(induction.inputs),
    "pairs, of which",
    induction.shown,
    "are shown",
)
for place, (given, result) in enumerate(zip(induction.inputs, induction.outputs, strict=True)):
    print("shown " if place < induction.shown else "hidden", f"f({given}) = {result}")

# %% [markdown]
# ### Exercise 1: hide (2 points, 8 minutes; difficulty 2 of 5, importance 4 of 5)
#
# Write what the solver sees. It must be everything but what is to be found.

# %% tags=["exercise"]
def visible(task):
    """The blocks of a task that the solver sees: a list of (tag, text).

    Tags are "python", "input", "output" and "message".
    task.type is "deduction" or "abduction": ("python", task.program) first, then the one part that
    is not to be found.
        Both have task.program, task.input and task.output.
    task.type is "induction": for each of the first task.shown pairs ("input", ...) and ("output",
    ...), pair after pair;
        last ("message", task.message). It has task.inputs and task.outputs, two tuples of equal
        length.

    Example: a deduction task with the input "3" gives [("python", "def f(x): ..."), ("input",
    "3")].
    """
    return ...

check.visible(visible)

# %%
visible = check.use(visible, fallback=course.visible)
for task in (triplets["count"], induction):
    shown = visible(task)
    prompt = get_task_type(task.type).solve_prompt(COMPACT, task, rules)
    assert all(text in prompt for _, text in shown)
    print(task.type, "shows", [tag for tag, _ in shown], "\n")
print("The induction prompt, as the nano model reads it:\n")
print(prompt)

# %% [markdown]
# <details><summary>Hint 1</summary>Three cases, one for each task type. Only induction needs a loop.</details>
# <details><summary>Hint 2</summary><code>zip(task.inputs, task.outputs)</code> gives the pairs; a slice takes the first few.</details>
# <details><summary>Solution</summary>
#
# ```python
# def visible(task):
#     if task.type == "induction":
#         pairs = list(zip(task.inputs, task.outputs))[: task.shown]
#         blocks = [block for i, o in pairs for block in (("input", i), ("output", o))]
#         return [*blocks, ("message", task.message)]
#     if task.type == "deduction":
#         return [("python", task.program), ("input", task.input)]
#     return [("python", task.program), ("output", task.output)]
# ```
#
# Why: the slice comes before anything is written, so a hidden pair cannot slip into the prompt.
# </details>
#
# The program of an induction task is in the task, because the proposer's side needs it. One careless line in a prompt would give it away, which
# is why hiding deserves a test.

# %% [markdown]
# ## Judging deduction: values, not text
#
# A model wrote `{'o': 2, 'n': 2}`; the output is stored as `{'n': 2, 'o': 2}`. Is that right? The same dictionary has many spellings, so comparing
# *texts* calls right answers wrong. The package reads the answer as data and compares *values*.
#
# ### Exercise 2: judge deduction (1 point, 4 minutes; difficulty 1 of 5, importance 5 of 5)
#
# What you solve here and in the next notebooks is saved in `my_work.py` beside them, and trains a model in
# [notebook 05](05_build_it.ipynb). You write a method of the package, so it gets what all task types get. `answer.value` is the solver's answer, already read from its text.
# `task.output` is still text: `read_value(text)` makes a value of it, and refuses what is no literal.

# %% tags=["exercise"]
def judge_deduction(task, answer, outcomes, rules):
    """True when answer.value equals the value of task.output, as Python compares values with ==;
    False otherwise.

    (`outcomes` and `rules` are not needed for this task type: nothing has to be run.)
    """
    return ...

check.judge_deduction(judge_deduction)

# %%
judge_deduction = check.use(
    judge_deduction, fallback=get_task_type("deduction").judge, name="judge_deduction"
)
for text in (
    "{'n': 2, 'o': 2}",
    "{'o': 2, 'n': 2}",
    "{'n': 2.0, 'o': 2}",
    "{'n': 2}",
    "dict(n=2, o=2)",
    "it is n twice and o twice",
):
    reply = parse_reply(f"<think></think><answer>```output\n{text}\n```</answer>")
    answer = get_task_type("deduction").parse_answer(reply, triplets["count"], rules)
    if isinstance(answer, Rejection):
        print(f"✗ {text:<28}{answer.reason}")
    else:
        found = judge_deduction(triplets["count"], answer, (), rules)
        print("✓" if getattr(found, "ok", found) else "✗", text)

# %% [markdown]
# **What you should see:** three right answers in three spellings, one wrong answer, and two that are refused because they are no literals. A call such
# as `dict(...)` would have to be *run* to know its value, and answers are never run.
#
# <details><summary>Hint</summary>One line is enough. Which side has to be read first?</details>
# <details><summary>Solution</summary>
#
# ```python
# def judge_deduction(task, answer, outcomes, rules):
#     return answer.value == read_value(task.output)
# ```
#
# Why: both sides are values, and Python compares values however they were spelled.
# </details>

# %% [markdown]
# ## Judging abduction: any cause will do
#
# Abduction asks for an input that leads to the output. Often there are many. Here is `f(x) = x * x % 10` for all x from −10 to 10.

# %% tags=["hide-input"]
square = "def f(x):\n    return x * x % 10"
candidates = list(range(-10, 11))
results = executor.run(square, [(x,) for x in candidates])
made, (axis,) = figures.figure(1, 1, (7.0, 2.8))
with figures.style():
    right = [x for x, outcome in zip(candidates, results, strict=True) if outcome.value == 6]
    for x, outcome in zip(candidates, results, strict=True):
        shown = figures.look("abduction" if x in right else "all")
        axis.plot(
            [x],
            [outcome.value],
            linestyle="none",
            marker=shown.marker if x in right else "o",
            color=shown.colour,
        )
    axis.axhline(6, color="#BBBBBB", linewidth=1, zorder=0)
    axis.set_xticks(range(-10, 11, 2))
    axis.set_xlabel("input x")
    axis.set_ylabel("output f(x)")
    axis.set_title(
        f"The output 6 has {len(right)} causes among these {len(candidates)} inputs: all of "
        "them are right answers"
    )
figures.show(
    made,
    alt="Dots show x times x modulo 10 for x from -10 to 10; the four inputs -6, -4, 4 and 6 "
    "that give 6 are marked as right answers",
)

# %% [markdown]
# **What you should see:** four squares on the line at 6. The proposer had one of them in mind; a judge that asks for that one calls three right answers wrong.
#
# So the judge runs the program on the candidate i′ and looks at the *output*: right when p(i′) equals o.
#
# ### Exercise 3: judge abduction (2 points, 6 minutes; difficulty 2 of 5, importance 5 of 5)
#
# The package has already run the program for you. `outcomes[0]` is what came out: `.kind` is `"ok"`, or says what went wrong (`"exception"`,
# `"timeout"`, ...); `.value` is what was returned, and `None` where nothing was.

# %% tags=["exercise"]
def judge_abduction(task, answer, outcomes, rules):
    """True when the program, run on the solver's input, returned the value of task.output; False
    otherwise.

    outcomes[0].kind and outcomes[0].value tell what the program did. answer.inputs[0] is the tuple
    of arguments that was tried.
    read_value(task.output) is the value to be reached.
    """
    return ...

check.judge_abduction(judge_abduction)

# %%
judge_abduction = check.use(
    judge_abduction, fallback=get_task_type("abduction").judge, name="judge_abduction"
)
(task,) = verifier.validate([("abduction", Proposal(square, ((4,),)))])
for candidate in (4, -6, 5, "4"):
    answer = Answer(program=task.program, inputs=((candidate,),))
    outcomes = executor.run(answer.program, answer.inputs)
    found = judge_abduction(task, answer, outcomes, rules)
    print(
        "✓" if getattr(found, "ok", found) else "✗",
        f"i′ = {candidate!r}: {outcomes[0].kind}, value {outcomes[0].value}",
    )

# %% [markdown]
# **What you should see:** 4 and −6 are right, 5 is wrong, and the text `'4'` makes the program fail.
#
# <details><summary>Hint 1</summary>Two things must hold: the program ended well, and its value is the one wanted.</details>
# <details><summary>Hint 2</summary>What would your function say if the program crashed and the output to be reached were <code>None</code>?</details>
# <details><summary>Solution</summary>
#
# ```python
# def judge_abduction(task, answer, outcomes, rules):
#     return outcomes[0].kind == "ok" and outcomes[0].value == read_value(task.output)
# ```
#
# Why: `kind` comes first, because a program that failed has the value None, and None may be the
# output.
# </details>

# %% [markdown]
# ## Judging induction: the hidden pairs
#
# Four answers to the induction task above (the message is "how far apart they are"). Each is run on all ten inputs.

# %%
table = dict(
    zip(
        (course.read_arguments(text) for text in induction.inputs[:5]),
        map(read_value, induction.outputs[:5]),
        strict=True,
    )
)
ANSWERS = {
    "abs(a - b)": induction.program,
    "max - min": "def f(a, b):\n    return max(a, b) - min(a, b)",
    "a - b": "def f(a, b):\n    return a - b",
    "a table of what was shown": f"def f(a, b):\n    return {table!r}.get((a, b), 0)",
}
gold = [read_value(text) for text in induction.outputs]
arguments = [course.read_arguments(text) for text in induction.inputs]
hits = {
    name: [o.value == g for o, g in zip(executor.run(p, arguments), gold, strict=True)]
    for name, p in ANSWERS.items()
}

# %% tags=["hide-input"]
made, (axis,) = figures.figure(1, 1, (7.4, 2.4))
with figures.style():
    for row, right in enumerate(hits.values()):
        for place, hit in enumerate(right):
            colour = figures.look("induction").colour if hit else "#D0D0D0"
            axis.text(
                place,
                -row,
                "✓" if hit else "✗",
                ha="center",
                va="center",
                color="white" if hit else "#444444",
                backgroundcolor=colour,
            )
    axis.axvline(4.5, color="black", linestyle="--", linewidth=1)
    axis.set_xlim(-0.6, 9.6)
    axis.set_ylim(-len(hits) + 0.4, 0.6)
    axis.set_yticks(range(0, -len(hits), -1), list(hits))
    axis.set_xticks(
        range(10),
        [*(f"shown {k}" for k in range(1, 6)), *(f"hidden {k}" for k in range(1, 6))],
        fontsize=7,
    )
    axis.grid(False)
    axis.set_title("Only the hidden pairs tell a rule from a table")
figures.show(
    made,
    alt="Four programs by ten pairs: a table of the shown pairs passes all five shown pairs and "
    "one of the five hidden ones; two true rules pass all ten",
)

# %% [markdown]
# **What you should see:** two rows full of ticks: different programs, both right. The last row has five ticks on the left, and nearly none on the right: it has
# learned the shown pairs by heart. (It answers 0 to what it does not know, and once that happens to be right.)
#
# ### Exercise 4: judge induction (2 points, 6 minutes; difficulty 3 of 5, importance 4 of 5)
#
# The solver's program was run on the *hidden* inputs only. `outcomes` has one outcome for each of them, in their order.

# %% tags=["exercise"]
def judge_induction(task, answer, outcomes, rules):
    """True when the answer reproduces every hidden pair; False otherwise.

    The hidden pairs are those from place task.shown on; task.outputs holds the texts of all
    outputs, shown ones first.
    Each outcome has .kind ("ok" or what went wrong) and .value.
    """
    return ...

check.judge_induction(judge_induction)

# %%
judge_induction = check.use(
    judge_induction, fallback=get_task_type("induction").judge, name="judge_induction"
)
hidden = tuple(arguments[induction.shown :])
for name, program in ANSWERS.items():
    found = judge_induction(
        induction, Answer(program=program, inputs=hidden), executor.run(program, hidden), rules
    )
    print("✓" if getattr(found, "ok", found) else "✗", name)

# %% [markdown]
# <details><summary>Hint 1</summary>Which part of <code>task.outputs</code> belongs to the outcomes?</details>
# <details><summary>Hint 2</summary><code>zip(..., strict=True)</code> complains when two sequences have different lengths: here that would be a mistake of yours.</details>
# <details><summary>Solution</summary>
#
# ```python
# def judge_induction(task, answer, outcomes, rules):
#     hidden = task.outputs[task.shown :]
#     return all(
#         outcome.kind == "ok" and outcome.value == read_value(text)
#         for outcome, text in zip(outcomes, hidden, strict=True)
#     )
# ```
#
# Why: each outcome meets the output of its own hidden pair, and one miss is enough to be wrong.
# </details>

# %% [markdown]
# ## Answers are data
#
# Abduction's answer becomes an argument of a call. The quick way is to paste the text into source code, the output `== f(`text`)`,
# and to run that. Then somebody answers `0) or (True`.

# %%
cheat = "0) or (True"
print("pasted into source:   ", f"{task.output} == f({cheat})")
reply = parse_reply(f"<think></think><answer>```input\n{cheat}\n```</answer>")
print("read by the package:  ", get_task_type("abduction").parse_answer(reply, task, rules))

# %% [markdown]
# **What you should see:** the pasted line says "6 equals f(0), *or else True*", which is true whatever the program does. A trained model finds such
# answers, because they are rewarded. The package refuses the text: it is no list of literals.
#
# ### Exercise 5: read arguments as data (2 points, 8 minutes; difficulty 3 of 5, importance 4 of 5)
#
# Write the reader: from the text between a call's brackets to a tuple of arguments, *without running anything*. For a text that is not a list of
# literals, raise an error (any kind). The standard library's `ast.literal_eval` reads one literal and raises `ValueError` or `SyntaxError` for anything else.

# %% tags=["exercise"]
import ast

def read_arguments(text):
    """The arguments written in `text`, as a tuple. Raises an error for anything that is not a list
    of literals.

    "5" gives (5,);  "'ab', 3" gives ('ab', 3);  "(1, 2)" is ONE argument and gives ((1, 2),).
    "max(1, 2)", "0) or (True", "1, k=2" and "" raise.
    """
    return ...

check.read_arguments(read_arguments)

# %%
read_arguments = check.use(read_arguments, fallback=course.read_arguments)
for text in ("'hal', 1", "[3, 1], {'deep': (1, None)}", "0) or (True", "__import__('os')"):
    try:
        print(f"{text:<30}", read_arguments(text))
    except Exception as error:
        print(f"{text:<30}", "refused:", type(error).__name__)

# %% [markdown]
# <details><summary>Hint 1</summary>How does Python itself tell one argument from two? How does it write a tuple with a single element?</details>
# <details><summary>Hint 2</summary>You may add characters around the text before you read it. Check what happens with "5" and with "(1, 2)".</details>
# <details><summary>Solution</summary>
#
# ```python
# def read_arguments(text):
#     return ast.literal_eval(f"({text},)")
# ```
#
# Why: brackets and one comma make a tuple of whatever literals stand between them, and
# `literal_eval` runs nothing. (The package's reader also refuses `1), (2`, and reads infinities.)
# </details>

# %% [markdown]
# ## The buffer
#
# Valid tasks go into a [buffer](glossary.md#buffer), one for each task type. Proposers see a few of them as [references](glossary.md#reference), and the
# solver is asked some of them again. Four rules keep it healthy:
#
# 1. **No twins.** Two tasks that differ only in spelling are the same task. `task_key(task)` is equal for both: it uses the
#    [normal form](glossary.md#normal-form) of the program.
# 2. **Limited size.** When the buffer is full, the oldest task leaves.
# 3. **Different references.** A draw never gives the same task twice.
# 4. **Uniform.** Old and new tasks are drawn alike. (Favouring new ones risked a collapse, the paper says.)

# %%
one, two = (draw_task(random.Random(SEED), "deduction", 2) for _ in range(2))
renamed = type(one)(one.type, re.sub(r"\bx\b", "y", one.program), one.input, one.output)
print(one.program, "\n\n" + renamed.program, "\n")
print("drawn twice with the same seed:", task_key(one) == task_key(two))
print("with another variable name:   ", task_key(one) == task_key(renamed))

# %% [markdown]
# ### Exercise 6: keep a buffer (3 points, 12 minutes; difficulty 3 of 5, importance 3 of 5)
#
# A Python `dict` remembers the order in which keys came in, which is nearly all you need: `next(iter(d))` is its oldest key.

# %% tags=["exercise"]
class Buffer:
    """Tasks of one type, each once, at most `capacity` of them."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.tasks = {}  # task_key(task): task, oldest first

    def add(self, task):
        """Put the task in and return True; return False, and change nothing, for one that is there
        already (by its task_key): the stored one stays as it is.

        When there are more than self.capacity tasks afterwards, the oldest leaves.
        """
        return ...

    def sample(self, rng, count):
        """A list of `count` different tasks, drawn uniformly with rng (a random.Random); all of
        them where there are fewer.

        They stay in the buffer.
        """
        return ...

check.Buffer(Buffer)

# %% [markdown]
# <details><summary>Hint 1</summary>Two tools of <code>random.Random</code> draw several items. One puts each item back before it draws the next. You want the other.</details>
# <details><summary>Hint 2</summary>That tool complains when it is asked for more than there are.</details>
# <details><summary>Solution</summary>
#
# ```python
# class Buffer:
#     def __init__(self, capacity):
#         self.capacity = capacity
#         self.tasks = {}
#
#     def add(self, task):
#         if task_key(task) in self.tasks:
#             return False
#         self.tasks[task_key(task)] = task
#         if len(self.tasks) > self.capacity:
#             del self.tasks[next(iter(self.tasks))]
#         return True
#
#     def sample(self, rng, count):
#         return rng.sample(list(self.tasks.values()), min(count, len(self.tasks)))
# ```
#
# Why: the key is looked up before anything is written, so a twin changes nothing; `sample` draws
# without putting back.
# </details>
#
# Does it matter who leaves? Below, 40 new tasks arrive at each step in a buffer of 400: once in your buffer (or the package's), once in one that refuses new tasks
# when it is full, as the authors' code does.

# %% tags=["long"]
Buffer = check.use(Buffer, fallback=course.Buffer, name="Buffer")
steps = STEPS or {"ci": 20, "cpu": 40, "gpu": 40}[profile]
rng, ours, frozen = random.Random(SEED), Buffer(400), course.Buffer(10**9)
born, ages = {}, {"oldest leave": [], "newest are refused": []}
for step in range(steps):
    for _ in range(40):
        task = draw_task(rng, "deduction", 4)
        born.setdefault(task.id, step)
        ours.add(task)
        if len(frozen) < 400:
            frozen.add(task)
    for name, kept in zip(ages, (ours, frozen), strict=True):
        drawn = kept.sample(rng, 100)
        ages[name].append(sum(step - born[task_key(task)] for task in drawn) / len(drawn))

# %% tags=["hide-input"]
made, (axis,) = figures.figure(1, 1, (6.4, 3.0))
with figures.style():
    for place, (name, values) in enumerate(ages.items()):
        figures.line(axis, name, list(range(steps)), values, place)
    axis.set_xlabel("self-play step")
    axis.set_ylabel("mean age of drawn tasks, steps")
    axis.set_title("A buffer that refuses new tasks only grows old once it is full")
    axis.legend()
figures.show(
    made,
    alt="The mean age of drawn tasks levels off near five steps where the oldest leave, and "
    "grows by one per step without end where new tasks are refused",
)
executor.close()

# %% [markdown]
# **What you should see:** both lines rise together until the buffer is full, after ten steps. Then one stays at about five steps, and the other grows by
# one per step: its tasks are those of the first ten steps for ever, however much the proposer learns.
#
# ## What to take along
#
# * A triplet is one program seen three ways: hide the output, an input, or the program.
# * Judge by value. In abduction any input that leads there is right; in induction only hidden pairs count.
# * What a model wrote is read as data, never pasted into code.
# * A buffer holds each task once, lets the oldest leave, and is drawn from uniformly.
#
# Next: [02 · The executor](02_executor.ipynb): how programs are run that nobody trusts.
