"""The six prompts in full sentences, in the styles r1 (with a frame) and chat (without: the chat template is one);
and `compact`, in single words. The replies to all have one form: thought (may be empty), answer, fences.

The rules told here are the rules that are enforced: when a check changes, change its sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from azr_lite.prompts.base import ANSWER, END_ANSWER, END_THINK, THINK, Style, fence, paragraphs
from azr_lite.triplet import Rules, Triplet


def _form(other: str, thought: str, *blocks: str) -> str:
    """A whole reply to copy the form of: small models seldom manage a form that is only described.

    It must stand before the puzzle: what stands last they answer, or copy.
    """
    answer = "\n".join(blocks)
    return (
        f"Write your reasoning between {THINK} and {END_THINK}, then the result between {ANSWER} and {END_ANSWER}. "
        f"To show the form, here is a whole reply to another puzzle, {other}:\n\n"
        f"{THINK}\n{thought}\n{END_THINK}\n{ANSWER}\n{answer}\n{END_ANSWER}"
    )


YOURS = "Here is your puzzle."
"""Stands between the example and the task: what comes after it is what the model has to solve."""
NOW = f"Reply in the form shown, for this puzzle: reasoning, {END_THINK}, then {ANSWER}, the {{}}, {END_ANSWER}."


def program_rules(rules: Rules, seconds: float, memory_mb: int) -> str:
    """What a program must be like; the figures are those in force."""
    return f"""\
Rules for the program:
- Its entry point is a top-level function named `f` with at least one parameter; helper functions and classes \
are allowed.
- It is deterministic: the same arguments always give the same result, in any process and at any time.
- It returns a plain value: None, True, False, a number, a string, bytes, or lists, tuples, dicts and sets of these. \
NaN is refused, and what is nested deeper than 40.
- It keeps no state between calls and reads no files, clock, network, environment or random numbers.
- It may import only from: math, cmath, itertools, functools, operator, collections, heapq, bisect, string, re, copy, \
json, statistics, fractions, decimal, numbers, typing, dataclasses, enum, abc, array, textwrap.
- Its text has at most {rules.max_program_chars} characters, comments included. It holds no line that opens \
a fence and none of the tags used here.
- It finishes within {seconds:g} seconds of processor time and {memory_mb} MB of memory."""


INPUT_RULE = (
    "The input is the argument list of one call, written as literals separated by commas, without a call around it and "
    "without keyword names, for example `'kiwi', [3, 1]`."
)


def _value_rule(rules: Rules) -> str:
    return f"Input and output have at most {rules.max_value_chars} characters each."


def _numbered(title: str, groups: Iterable[Sequence[str]]) -> str:
    """Groups of fences under "Example 1", "Example 2", …"""
    return paragraphs(*("\n".join((f"{title} {number}", *fences)) for number, fences in enumerate(groups, start=1)))


def propose_pair(seen: str, wanted: str, *, references: Sequence[Triplet], rules: Rules) -> str:
    return paragraphs(
        f"You set puzzles about Python programs. In this game a solver sees the program and {seen} Invent one new "
        "puzzle: a program and one input for it. A Python executor will run them to find the output; do not write the "
        "output yourself.",
        _form(
            "one that is far too simple",
            "The program gives back what it gets. Any input will do.",
            fence("python", "def f(x):\n    return x"),
            fence("input", "'Hello world'"),
        ),
        # a proposal is validated with half the time and three quarters of the memory that answers get
        program_rules(rules, rules.cpu_seconds / 2, rules.memory_mb * 3 // 4),
        f"Rules for the input:\n- {INPUT_RULE}\n- {_value_rule(rules)}",
        f"What earns most: a solver should {wanted} A puzzle that is always solved, or never solved, earns nothing. "
        "Make it different in kind from the examples, not a copy with other constants.",
        _numbered(
            "Example",
            ((fence("python", t.program), fence("input", t.input), fence("output", t.output)) for t in references),
        ),
        "Now invent your own. "
        + NOW.format("```python block with your program and the ```input block with its argument list"),
    )


def propose_induction(*, program: str, rules: Rules) -> str:
    count, shown = rules.induction_inputs, rules.induction_shown
    return paragraphs(
        "You set puzzles about Python programs. In this game a solver sees some input/output pairs and a short "
        "message, and must write a program that behaves the same. You get the program. "
        f"Invent {count} inputs for it and the message.",
        _form(
            "with three inputs only, for a program that returns `len(x) * 2`",
            "An empty list, a short one and a string show what it does; the message names the idea, not the code.",
            fence("input", "[]"),
            fence("input", "[4, 'a']"),
            fence("input", "'kiwi'"),
            fence("message", "Something about how much there is, and then as much again."),
        ),
        f"Rules:\n- {INPUT_RULE}\n- Each of the {count} inputs goes in its own ```input block. Make them different "
        "from one another and let them show every branch of the program; the outputs must not all be equal.\n"
        f"- {_value_rule(rules)}\n"
        f"- The solver sees the first {shown} pairs; the other {count - shown} are kept to check its program.\n"
        f"- The message goes in one ```message block of at most {rules.max_message_chars} characters. It hints at "
        "what the program is for, in words. It must not contain code from the program.\n- Every input must run on "
        "the program without an error.",
        "What earns most: a puzzle that a solver gets right only some of the time. One that is always or never "
        "solved earns nothing.",
        f"{YOURS} Its program:\n\n{fence('python', program)}",
        NOW.format(f"{count} ```input blocks and the ```message block"),
    )


def solve_deduction(*, program: str, input: str, rules: Rules) -> str:
    return paragraphs(
        "You get a Python program and an input. Work out what `f` returns for these arguments. You cannot run it. "
        "Write the returned value as one Python literal: no expressions, no function calls, strings in quotes, at "
        f"most {rules.max_value_chars} characters.",
        _form(
            "where `f(x)` returns `[x[0], len(x)]` and the input is `'kiwi'`",
            "x is 'kiwi'. x[0] is 'k' and len(x) is 4, so the list is ['k', 4].",
            fence("output", "['k', 4]"),
        ),
        f"{YOURS} The program and the input:\n\n{fence('python', program)}",
        fence("input", input),
        NOW.format("```output block"),
    )


def solve_abduction(*, program: str, output: str, rules: Rules) -> str:
    return paragraphs(
        "You get a Python program and a value that `f` returned. Find an input for which it returns exactly that "
        f"value. There may be several; any one is right. {INPUT_RULE} It has at most {rules.max_value_chars} "
        "characters.",
        _form(
            "where `f(a, b)` returns `[a, a + b]` and the output was `[3, 10]`",
            "a must be 3. Then 3 + b is 10, so b is 7.",
            fence("input", "3, 7"),
        ),
        f"{YOURS} The program and its output:\n\n{fence('python', program)}",
        fence("output", output),
        NOW.format("```input block"),
    )


def solve_induction(*, pairs: Sequence[tuple[str, str]], message: str, rules: Rules) -> str:
    return paragraphs(
        "You get input/output pairs of a hidden Python program, and a message about it. Write a program that "
        f"behaves the same. It will be checked on {rules.induction_inputs - rules.induction_shown} further inputs "
        "that you do not see, so find the rule; do not list the pairs.",
        _form(
            "with the pairs `2` to `5` and `10` to `21`",
            "Twice the input and one more: 2 * 2 + 1 is 5, 2 * 10 + 1 is 21.",
            fence("python", "def f(x):\n    return 2 * x + 1"),
        ),
        program_rules(rules, rules.cpu_seconds, rules.memory_mb),
        f"{YOURS} Message: {message}",
        _numbered("Pair", ((fence("input", given), fence("output", result)) for given, result in pairs)),
        NOW.format("```python block with your program"),
    )


WORDS = {
    "propose/deduction": partial(
        propose_pair,
        "the input and must work out the output.",
        "need several careful steps of reasoning to trace the program, and get it right only some of the time.",
    ),
    "propose/abduction": partial(
        propose_pair,
        "the output and must find an input that produces it; any input that does counts.",
        "have to reason backwards through the program, so that an input is possible but not easy to find.",
    ),
    "propose/induction": propose_induction,
    "solve/deduction": solve_deduction,
    "solve/abduction": solve_abduction,
    "solve/induction": solve_induction,
}


def _frame(body: str) -> str:
    return (
        "What follows is a request by a user and the reply of an assistant. The assistant first reasons about the "
        f"request, then gives the result. The reasoning stands between {THINK} and {END_THINK}, the result between "
        f"{ANSWER} and {END_ANSWER}.\n\nUser: {body}\n\nAssistant: "
    )


R1 = Style(name="r1", frame=_frame, prefill=THINK, words=WORDS)
CHAT = Style(name="chat", frame=str, prefill=THINK, chat=True, words=WORDS)


# ---------------------------------------------------------------- compact


def _write(
    command: str, rules: Rules, references: Sequence[Triplet] = (), pairs: Sequence[tuple[str, str]] = (), **given: str
) -> str:
    """The command, then a fence around everything that is given, in order."""
    fences = [fence(*block) for task in references for block in (("python", task.program), ("input", task.input))]
    fences += [fence(*block) for pair in pairs for block in zip(("input", "output"), pair, strict=True)]
    fences += [fence("python" if name == "program" else name, text) for name, text in given.items()]
    return "\n".join((command, *fences, ""))


COMPACT = Style(
    name="compact",
    frame=str,
    prefill=THINK,
    words={
        f"{role}/{task_type}": partial(_write, f"{verb} {task_type}")
        for role, verb in (("propose", "invent"), ("solve", "solve"))
        for task_type in ("deduction", "abduction", "induction")
    },
)
"""The nano model's: one command and the fences, so that prompts stay a few dozen tokens."""
