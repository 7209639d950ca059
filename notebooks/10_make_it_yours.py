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
# # 10 · Make it yours
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/azr-lite/azr-lite/blob/main/notebooks/10_make_it_yours.ipynb) [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/azr-lite/azr-lite/blob/main/notebooks/10_make_it_yours.ipynb) [![nbviewer](https://img.shields.io/badge/render-nbviewer-orange)](https://nbviewer.org/github/azr-lite/azr-lite/blob/main/notebooks/10_make_it_yours.ipynb)
#
# **You will be able to**
#
# * add a task type in about 60 lines;
# * test it;
# * report it.
#
# **Before this:** notebooks 01 to 03.
#
# **Budget:** 11 minutes to read (2,183 words); 5 exercises (9 points, about 35 minutes); 6 seconds and 115 MiB on 2 CPU cores; on a GPU: not measured.
#
# **Last verified:** Python 3.11.7, azr-lite 0.2.0, numpy 2.4.6, 2026-12-01.
#
# **Next:** [the index](index.ipynb): teach it to someone. Words in this course: [glossary](glossary.md).
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
import inspect, sqlite3, warnings
from collections import Counter
from dataclasses import replace
import azr_lite as az
from azr_lite.course import (
    ITEM, Answer, Deduction, ErrorPolicy, Proposal, Reason, Rejection, canonical, check,
)
from azr_lite.course import (
    argument_text, example_tasks, figures, get_style, profile, read_value, render,
    task_properties,
)

warnings.simplefilter("ignore", RuntimeWarning)  # at level WEAK; our own programs only
profile = profile(PROFILE)
executor = az.Executor(workers=1, allow_weak=True)

# %% [markdown]
# ## A fourth task type
# The paper has three [task types](glossary.md#task-type) over one [triplet](glossary.md#triplet). Nothing in the method says three. Anything that a
# [proposer](glossary.md#proposer) can pose, a machine can *check*, and a [solver](glossary.md#solver) can answer, is a task type.
#
# We build two: **name the error** (the paper's authors tried an error task and left it out; find out why, in the briefs at the end), and **SQL**. Each is
# one class of seven short methods:
#
# | method | question | reply |
# |---|---|---|
# | `zero_task` | what does the buffer start from? | a task |
# | `propose_prompt` | how do I ask for a task? | text |
# | `parse_proposal` | what has to be run? | `Proposal(program, inputs)` |
# | `make_task` | what came out: is this a task? | a task, or a `Rejection` with its reason |
# | `solve_prompt` | how do I ask for the answer? | text |
# | `parse_answer` | what did the solver say? | `Answer` |
# | `judge` | is it right? | `Verdict` |
#
# Sampling, sandbox, learnability, buffers, TRR++ and logs are there already, and need no change.

# %% [markdown]
# ## Name the error: make failure a value
# The task type: *given a program and an input on which it fails, name the type of the error.* One thing stands in the way. The validator accepts a
# program only where it **returns** the same plain value in two worlds, and these programs raise. So we wrap them: the wrapper
# runs the program, and returns the name of what it raised.
#
# ## Exercise 1: the wrapper (3 points, 12 minutes; difficulty 4 of 5, importance 4 of 5)
# Write a function from program text to program text. The result must define `f`. Called with the program's arguments, this `f` runs the program,
# and returns the name of the error's type (such as `'KeyError'`), or None when nothing was raised. Only an `Exception` counts.
# The check runs your text in the sandbox on eight programs, two of which call themselves.

# %% tags=["exercise"]
def report_error(program):
    """Text of a program whose f returns the name of the error that the old f raised, or None.

    report_error("def f(x):\\n    return 1 // x") is a program; its f(0) is 'ZeroDivisionError', its
    f(1) is None.
    """
    return ...

check.report_error(report_error)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * Text can be added behind the program: `return program + "\n..."`. By then a name `f` exists; keep it under another name first.
# * When a program calls itself, it looks `f` up by name, at that moment. Whom does it find? `global f` inside a function lets you set that name.
# * Every input gets a fresh namespace, so you need not clean up.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def report_error(program):
#     return program + """
# _program = f
# def f(*arguments):
#     global f
#     f = _program
#     try:
#         _program(*arguments)
#     except Exception as error:
#         return type(error).__name__
# """
# ```
#
# Why: `global f` gives the name back before the program runs, so calls of itself reach the
# program and not the wrapper.
# </details>

# %%
report_error = check.use(report_error, fallback=example_tasks.report_error)
program = report_error("def f(n):\n    return [f(n - 1)] if n else 1 // n")
for outcome in executor.run(program, [(3,), ("kiwi",), (0,)]):
    print(outcome.kind, outcome.value)

# %% [markdown]
# **What you should see**: `ok` three times, with ZeroDivisionError, TypeError (`'kiwi' - 1`) and ZeroDivisionError. The failure is a value now, and all of
# the safety of [notebook 02](02_executor.ipynb) applies to it.
#
# ## Exercise 2: the comparison (1 point, 4 minutes; difficulty 1 of 5, importance 4 of 5)
# The solver writes a name into an output block. Quotes and space around it are forgiven. Nothing else is: think of what a policy would
# write that wants to be right *always*.

# %% tags=["exercise"]
def same_error(answer, gold):
    """Whether the answer is this name: same_error(" 'KeyError'\\n", "KeyError") is True,
    same_error("LookupError", "KeyError") False."""
    return ...

check.same_error(same_error)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * `text.strip()` takes away space, `text.strip("'\"")` quotes.
# * Never resolve the name to a class.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def same_error(answer, gold):
#     return answer.strip().strip("'\"") == gold
# ```
#
# Why: form is forgiven at both ends, and nothing in between: what is compared is one whole name.
# </details>

# %%
same_error = check.use(same_error, fallback=example_tasks.same_error)

# %% [markdown]
# ## The class
# Now the task type. It inherits from `Deduction` what is the same there: reading one python block and one input block. Here is the proposer's
# half. `style` lays a text out as the model expects it, `references` are tasks from the buffer, to be shown as examples, `rules` are the run's
# switches (unused here), and `example_tasks.FORM` asks for thought and answer in their tags. Note what it refuses: no error, or an error that hangs on
# the machine (RecursionError is not in the list).

# %%
class ProposeErrors(Deduction):
    name = "errors"

    def zero_task(self):
        return az.Triplet(self.name, "def f(x):\n    return 10 // x", "0", "'ZeroDivisionError'")

    def propose_prompt(self, style, references, rules):
        examples = [
            f"```python\n{task.program}\n```\n```input\n{task.input}\n```" for task in references
        ]
        goal = (
            "Invent a Python program with a function f, and an input on which f raises one of: "
            + ", ".join(example_tasks.ERRORS)
        )
        return style.render(
            "\n\n".join(
                [
                    goal,
                    example_tasks.FORM,
                    "Give a ```python block and an ```input block. Examples:",
                    *examples,
                ]
            )
        )

    def parse_proposal(self, reply, references, rules):
        found = super().parse_proposal(reply, references, rules)
        return (
            found
            if isinstance(found, Rejection)
            else Proposal(report_error(found.program), found.inputs, found.program)
        )

    def make_task(self, proposal, outputs, rules):
        if outputs[0] not in example_tasks.ERRORS:
            return Rejection("no_error", f"raised {outputs[0]}")
        return az.Triplet(
            self.name, proposal.message, argument_text(proposal.inputs[0]), render(outputs[0])
        )

# %% [markdown]
# And the solver's half. `Proposal.message` carried the bare program past the sandbox, so that the solver sees it without our wrapper.

# %%
class MyErrors(ProposeErrors):
    def solve_prompt(self, style, task, rules):
        goal = (
            "On this input f raises an error. Name its type in an ```output block, as one of: "
            + ", ".join(example_tasks.ERRORS)
        )
        blocks = [f"```python\n{task.program}\n```", f"```input\n{task.input}\n```"]
        return style.render("\n\n".join([goal, example_tasks.FORM, *blocks]))

    def parse_answer(self, reply, task, rules):
        blocks = reply.blocks("output")
        return (
            Answer(value=blocks[0])
            if len(blocks) == 1
            else Rejection(Reason.NO_ANSWER, f"{len(blocks)} output blocks")
        )

    def judge(self, task, answer, outcomes, rules):
        right = same_error(answer.value, read_value(task.output))
        return az.Verdict(
            ok=right, well_formed=True, score=float(right), reason="" if right else Reason.WRONG
        )


mine = az.register_task_type(MyErrors())
methods = [
    part
    for one in (ProposeErrors, MyErrors)
    for part in vars(one).values()
    if inspect.isfunction(part)
]
lines = sum(
    len(inspect.getsource(one).splitlines()) for one in (*methods, report_error, same_error)
)
print(f"a task type of {lines} lines; registered as {mine.name!r}")

# %% [markdown]
# **What you should see**: a number near 60. `register_task_type` makes the task type known to everything else under its name.
#
# **If you see something else**: an error that two task types have one name means that another class was registered before; restart the kernel.
#
# ## Test it before you train on it
# A model will find each hole of your task type, and will be rewarded for it. Seven properties hold for every type, and
# most of them have been broken by real programs of this kind:
#
# 1. honest proposals become tasks;
# 2. a right answer scores 1;
# 3. cheats score 0;
# 4. the solver's prompt does not know the answer;
# 5. playing again gives the same tasks and verdicts;
# 6. a task survives being saved;
# 7. it takes no other type's tasks.
#
# ## Exercise 3: a prompt that does not know (2 points, 8 minutes; difficulty 3 of 5, importance 5 of 5)
# How would you test number 4? Looking for the answer's text in the prompt fails in both directions: the word may stand there for other
# reasons, and an answer can leak backwards, or by its first letter. There is a test that needs no idea of *how* it leaks.

# %% tags=["exercise"]
def blind(prompt, task, hidden="output"):
    """Whether the prompt says nothing of one field of the task. `prompt`: a function from a task to
    text. `hidden`: the field's name.

    blind(lambda task: task.program, task, "output") is True; blind(lambda task: task.output[::-1],
    task, "output") is False.
    A changed copy of a task: replace(task, input="7").
    """
    return ...

check.blind(blind)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * What would happen to an honest prompt if the answer were another one?
# * A field whose name is in a variable: `replace(task, **{hidden: "'something else'"})`.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def blind(prompt, task, hidden="output"):
#     other = replace(task, **{hidden: "'something else altogether'"})
#     return prompt(other) == prompt(task)
# ```
#
# Why: a prompt that does not change with the answer cannot tell it, in whatever spelling.
# </details>

# %%
blind = check.use(blind, fallback=task_properties.blind)
print(blind(lambda task: mine.solve_prompt(get_style("chat"), task, None), ITEM, "output"))

# %% [markdown]
# All seven are checked by one call. You give it proposals, a way to answer rightly, and *cheats*. Add your own cheats: what would you write, if you wanted
# to be rewarded without thinking?

# %%
PROPOSALS = [
    [("python", "def f(x):\n    return 1 // x"), ("input", "0")],
    [("python", "def f(n):\n    return f(n - 1) if n else [][n]"), ("input", "3")],
    [("python", "import math\n\ndef f(x):\n    return math.sqrt(x)"), ("input", "-1")],
]
CHEATS = [
    [("output", "Exception")],
    [("output", ", ".join(example_tasks.ERRORS))],
    [("output", "")],
    [],
    [("output", "type(error).__name__")],
    [("output", "'KeyError' if True else 'ZeroDivisionError'")],
]


def gold(task):
    return [("output", task.output)]


for finding in task_properties.check_task_type(mine, PROPOSALS, gold, CHEATS, executor):
    print(finding)

# %% [markdown]
# **What you should see**: seven ticks. Now break the task type and see whether the checks notice: here is one with a leaking prompt and a generous judge.

# %%
class Careless(MyErrors):
    name = "careless"

    def zero_task(self):
        return replace(super().zero_task(), type=self.name)

    def solve_prompt(self, style, task, rules):
        return super().solve_prompt(style, task, rules) + f"<!-- {task.output[:4]} -->"

    def judge(self, task, answer, outcomes, rules):
        right = read_value(task.output) in answer.value
        return az.Verdict(ok=right, well_formed=True, score=float(right))


for finding in task_properties.check_task_type(
    az.register_task_type(Careless()), PROPOSALS, gold, CHEATS, executor
):
    print(finding)

# %% [markdown]
# **What you should see**: two crosses: a cheat is rewarded (the answer that lists every error), and the prompt knows the answer.
#
# **If you see something else**: more crosses come from your own functions of exercises 1 and 2, if you went on with them.
#
# ## Play it: the real self-play
# `SelfPlay` is what trains real models. It wants a config, a style, an executor, and a *policy*: any function from prompts to replies. Ours is no
# model but an `ErrorPolicy`: it proposes five kinds of programs (one of them never fails) and names the right error with a chance that we choose.

# %%
steps = STEPS or (3 if profile == "ci" else 8)
config = az.Config(
    model="nano",
    task_types=("errors",),
    batch_size=8,
    n_mc=8,
    references=2,
    seed=SEED,
    micro_batch_size=8,
    updates_per_step=1,
)
history = []
for skill in (0.0, 0.3, 0.6, 0.9, 1.0):
    play, policy = az.SelfPlay(config, get_style("chat"), executor), ErrorPolicy(skill, SEED)
    rows = []
    for step in range(steps):
        play.step(policy, step)
        rows.append(play.record.metrics)
    history.append(
        {
            "skill": skill,
            **{
                key: sum(row.get(key, 0.0) for row in rows) / steps
                for key in (
                    "propose/errors/ok",
                    "propose/errors/reward",
                    "propose/errors/solve_rate",
                    "propose/errors/reason/no_error",
                    "solve/errors/reward",
                )
            },
        }
    )
for row in history:
    print(
        "  ".join(
            f"{key.removeprefix('propose/errors/')} {value:5.2f}" for key, value in row.items()
        )
    )

# %% tags=["hide-input"]
made, (axis,) = figures.figure(1, 1, (6.0, 3.2))
skills = [row["skill"] for row in history]
for place, (label, key) in enumerate(
    (("proposer's reward", "propose/errors/reward"), ("solver's reward", "solve/errors/reward"))
):
    figures.line(axis, label, skills, [row[key] for row in history], place=place)
best = max(history, key=lambda row: row["propose/errors/reward"])["skill"]
with figures.style():
    axis.axhline(0, color="grey", linewidth=0.8)
    axis.set(
        xlabel="skill: chance that the policy knows the error",
        ylabel="mean reward",
        title=f"The proposer earns most at skill {best:g}, the solver at skill 1",
    )
    axis.legend()
figures.show(
    made,
    alt="Mean rewards against the policy's skill: the solver's grows steadily, the proposer's "
    f"is highest at skill {best:g} and lower at both ends.",
)

# %% [markdown]
# **What you should see**: the solver's line rises with skill. The proposer's has a hump: at skill 0 almost nothing is ever solved, at skill 1 everything is,
# and neither teaches ([notebook 03](03_rewards.ipynb)). It stays low all along, because about one proposal in five raises no error, and costs −1: see `reason/no_error`, our
# own reason code, counted in the log like any other (its mean per step, of 8 proposals).
#
# **If you see something else**: with few steps (profile `ci`) the hump may move by one point. At skill 0 the policy still guesses among fifteen names.

# %% [markdown]
# ## Report it: better than what?
# "The solver is right in 40 % of the tasks" says nothing yet. If most tasks raise ZeroDivisionError, always saying that is right in most. So
# report each result beside its [baseline](glossary.md#baseline).
#
# ## Exercise 4: the lazy answer (1 point, 3 minutes; difficulty 1 of 5, importance 4 of 5)

# %% tags=["exercise"]
def guess_rate(answers):
    """The share of the most frequent of these right answers (0.0 where there are none):
    guess_rate(["a", "b", "a", "a"]) == 0.75."""
    return ...

check.guess_rate(guess_rate)

# %% [markdown]
# <details><summary>Hint</summary>
#
# `Counter(answers)` counts; `.values()` are the counts. What if there are none?
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def guess_rate(answers):
#     return max(Counter(answers).values()) / len(answers) if answers else 0.0
# ```
#
# Why: the most frequent answer is what a policy learns first, with no knowledge of programs.
# </details>

# %%
guess_rate = check.use(guess_rate, fallback=task_properties.guess_rate)
tasks = list(play.buffers.of["errors"])
golds = [read_value(task.output) for task in tasks]
print(
    f"{len(tasks)} tasks in the buffer; always the most frequent error: "
    f"{guess_rate(golds):.2f}; any name of the list: {1 / len(example_tasks.ERRORS):.2f}"
)

# %% tags=["hide-input"]
made, (axis,) = figures.figure(1, 1, (6.0, 2.4))
counts = Counter(golds).most_common()
figures.bars(
    axis,
    [name for name, _ in counts],
    [count / len(golds) for _, count in counts],
    "share of the buffer's tasks",
)
with figures.style():
    axis.set_title(f"Always saying {counts[0][0]} scores {guess_rate(golds):.2f}")
figures.show(
    made,
    alt="Shares of the error types among the buffer's tasks; the most frequent, "
    f"{counts[0][0]}, has {guess_rate(golds):.2f}.",
)

# %% [markdown]
# **What you should see**: four types with 20 to 33 % each (the policy draws them evenly; the rest is chance), and so a baseline near 0.3. Only a score above it is knowledge.
# With a trained model, watch this number over the steps: a proposer that drifts to one error makes the solver look better and better.

# %% [markdown]
# ## The second task type: SQL
# *Given a query and a table, say which rows come out.* Who runs the query? Three honest choices:
#
# * **sqlite3 in the trainer.** No: the query is a model's text, and a big C library would run it with your rights.
# * **sqlite3 in the sandbox's child.** It works: the kernel layers allow all that an in-memory database needs. (We tried it in a copy of the package with one
#   more name on the import list.) But the list holds for *all* programs of all task types, and sqlite knows the date and random numbers. That is a decision about
#   the sandbox, not about a task type. As it is, the import is refused:

# %%
attempt = executor.run(
    "import sqlite3\ndef f(x):\n"
    "    return sqlite3.connect(':memory:').execute('select 1').fetchall()",
    [(1,)],
)[0]
print(attempt.kind, "|", attempt.detail)

# %% [markdown]
# * **A small subset, compiled.** We read `select … from items where … order by …` strictly, and write it out again as a *Python* program. No text of the query gets
#   into that program: columns become numbers, signs are looked up, literals are read and spelled anew. This is what the task type does.

# %%
QUERY = "select name, stock from items where price > 2 and name <> 'fig' order by stock desc"
print(example_tasks.compile_query(QUERY), "\n")
for bad in (
    "select name from items; drop table items",
    "select name from items where price > __import__('os').getpid()",
    "select secret from items",
):
    try:
        example_tasks.compile_query(bad)
    except ValueError as error:
        print("refused:", error)

# %% [markdown]
# Whoever writes a compiler needs an *oracle*: another implementation that is known to be right. For queries **that we wrote ourselves**, sqlite3 is one.

# %%
TABLE = [("kiwi", 3, 7), ("fig", 9, 1), ("plum", 4, 9), ("fig", 2, 1), ("pear", 4, 0)]
database = sqlite3.connect(":memory:")
database.execute("create table items (name text, price integer, stock integer)")
database.executemany("insert into items values (?, ?, ?)", TABLE)
tests = [
    f"select {columns} from items where {column} {sign} {value}{order}"
    for columns in ("*", "name, price", "stock")
    for column, value in (("price", 4), ("name", "'fig'"))
    for sign in ("=", "<>", "<", "<=", ">", ">=")
    for order in ("", " order by price", " order by name desc")
]
agreed = 0
for query in tests:
    (outcome,) = executor.run(example_tasks.compile_query(query), [(TABLE,)])
    agreed += outcome.ok and example_tasks.same_rows(
        outcome.value, database.execute(query).fetchall(), ordered="order by" in query
    )
print(f"{agreed} of {len(tests)} queries give the rows that sqlite gives")

# %% [markdown]
# **What you should see**: refusals in one clear sentence each, then all queries in agreement.
#
# **If you see something else**: rows that are equal in the ordering column may come in another order from another version of sqlite: SQL leaves it open.
#
# ## Exercise 5: which rows are the same rows? (2 points, 8 minutes; difficulty 2 of 5, importance 3 of 5)
# The judge of this task type. Without ORDER BY a table has no order, but each row counts as often as it occurs. With ORDER BY the order is part of the answer.
# `canonical(row)` gives one text per row. The answer `a` may be any value a model writes.

# %% tags=["exercise"]
def same_rows(a, b, ordered):
    """Whether two lists hold the same rows (tuples), each as often; where `ordered`, in the same
    order too. False where one is no list.

    same_rows([(1,), (2,)], [(2,), (1,)], False) is True; with ordered=True it is False.
    """
    return ...

check.same_rows(same_rows)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * What can be sorted whatever the rows hold? Texts.
# * Is a set a good home for rows?
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def same_rows(a, b, ordered):
#     if not isinstance(a, list) or not isinstance(b, list):
#         return False
#     a, b = [canonical(row) for row in a], [canonical(row) for row in b]
#     return a == b if ordered else sorted(a) == sorted(b)
# ```
#
# Why: texts can always be sorted, and a sorted list keeps every copy of a row.
# </details>

# %%
same_rows = check.use(same_rows, fallback=example_tasks.same_rows)
sql = az.register_task_type(example_tasks.SqlTask())
proposals = [
    [("sql", QUERY), ("input", repr(TABLE))],
    [("sql", "select name from items where stock = 1"), ("input", repr(TABLE))],
]
cheats = [[("output", "[]")], [("output", repr(TABLE))], [("output", "'select'")], [("sql", QUERY)]]
for finding in task_properties.check_task_type(sql, proposals, gold, cheats, executor):
    print(finding)

# %% [markdown]
# **What you should see**: seven ticks again. The class stands in `azr_lite/course/example_tasks.py`; read it beside yours.
#
# ## Train on it
# On the command line a task type must be known before its name is used. Put the class into a file `my_types.py` that ends with `register_task_type(MyErrors())`, and name the module:
#
# ```
# azr-lite run --task-module my_types --task-types errors deduction --model path/to/model --dry-run
# ```
#
# `azr-lite resume` and all tools that look at the run find the module in its settings. From Python, `import my_types` before `azr_lite.run(...)` is enough. The embedded
# nano model knows only the three task types it was warmed up with, and our prompts are too long for it; take a real model ([notebook 07](07_lora.ipynb)).

# %% [markdown]
# ## Graded briefs
# Four projects. Each is worth 20 points: **6** all properties hold, with at least five cheats of your own · **4** an oracle or hand-checked gold for
# twenty tasks · **4** a result beside its baseline, over three seeds, with an interval · **3** one hack found, described, and closed · **3** a report of one page that says what did not work.
#
# 1. **Which line?** (two days) As "name the error", but the answer is the number of the line that raises. *Watch for:* programs of one line; what is the baseline?
# 2. **SQL backwards.** (three days) Abduction for SQL: given a query and rows, give a table that yields them. *Watch for:* the rows themselves are nearly a right table.
#    Then induction: given tables and rows, write the query. *Extra:* the order of rows that are equal in the ordering column; our judge is too strict there.
# 3. **Same or not?** (three days) Given two programs, say "same", or give an input on which they differ. *Watch for:* "same" cannot be proved by running; who pays for it?
# 4. **Why was the error task left out?** (one week, a GPU) The paper names an error-type task among its negative results. Train with `errors` and without, on equal budgets,
#    and measure the three other task types on held-out tasks. A clear "no difference", with intervals, earns full marks.
#
# A marker reads the findings of the checks first, then tries two cheats of their own: a task type that rewards one of them loses the six points.

# %%
executor.close()
check.list("10")

# %% [markdown]
# **What you should see**: your exercises and their points. That was the last notebook of the course. Teach it to someone: the [index](index.ipynb) tells in what order.
