"""Exercises of notebook 10, a task type of one's own; and a policy for it that needs no model."""

from __future__ import annotations

import random
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from azr_lite.course.checks import Mistake, exercise
from azr_lite.course.example_tasks import ERRORS, report_error, same_error, same_rows
from azr_lite.course.task_properties import blind, guess_rate
from azr_lite.prompts.base import ANSWER, END_ANSWER, END_THINK, fence
from azr_lite.sandbox import Executor, Job
from azr_lite.sandbox.wire import canonical
from azr_lite.triplet import Completion, Role, Triplet

# ---------------------------------------------------------------- a policy without a model

KINDS: Sequence[tuple[str, str]] = (
    ("def f(x):\n    return {n} // x", "0"),
    ("def f(x):\n    return [1, 2][x + {n}]", "5"),
    ("def f(x):\n    return {{'a': {n}}}[x]", "'b'"),
    ("def f(x):\n    return int(x) + {n}", "'kiwi'"),
    ("def f(x):\n    return x + {n}", "1"),
)
"""Programs with a hole for a number, and an input; the last one raises no error, so its proposals are refused."""
MARKS = {"//": "ZeroDivisionError", "[1, 2]": "IndexError", "{'a'": "KeyError", "int(x)": "ValueError"}
"""What in a program tells its error."""


class ErrorPolicy:
    """A policy for the task type "errors": proposes the `KINDS`, and names the right error with chance `skill`, else any."""

    def __init__(self, skill: float, seed: int) -> None:
        self.skill, self.rng = skill, random.Random(seed)

    def __call__(self, prompts: Sequence[str], role: Role) -> list[Completion]:
        proposes = role == Role.PROPOSE
        return [self._reply(prompt, self._propose() if proposes else self._solve(prompt)) for prompt in prompts]

    def _propose(self) -> str:
        program, given = self.rng.choice(KINDS)
        return fence("python", program.format(n=self.rng.randrange(100))) + "\n" + fence("input", given)

    def _solve(self, prompt: str) -> str:
        right = next(error for mark, error in MARKS.items() if mark in prompt)
        return fence("output", right if self.rng.random() < self.skill else self.rng.choice(ERRORS))

    def _reply(self, prompt: str, blocks: str) -> Completion:
        text = f"\nlet me see\n{END_THINK}\n{ANSWER}\n{blocks}\n{END_ANSWER}"
        return Completion(prompt, (1,), tuple(range(len(text.split()))), text)


# ---------------------------------------------------------------- exercises

PROGRAMS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "1 // 0": ("def f(x):\n    return 1 // x", (0,)),
    "a missing key": ("def f(x):\n    return {'a': 1}[x]", ("b",)),
    "an error below three calls of itself": ("def f(n):\n    return [f(n - 1)] if n else 1 // n", (3,)),
    "the same, by map": ("def f(n):\n    return list(map(f, [n - 1])) if n else 1 // n", (3,)),
    "two arguments": ("def f(items, place):\n    return items[place]", ([1, 2], 7)),
    "no error": ("def f(x):\n    return 'KeyError'", (1,)),
    "an error with a long text": ("def f(x):\n    return int(x)", ("kiwi",)),
    "SystemExit": ("def f(x):\n    raise SystemExit(1)", (1,)),
}


def _reported(mine: Callable[[str], str]) -> list[Any]:
    """What the sandbox says of each wrapped program: a value, or the kind of failure."""
    texts = [mine(program) for program, _ in PROGRAMS.values()]
    if any(text is None or text is ... for text in texts):
        return texts
    return list(_outcomes(tuple(map(str, texts))))


@lru_cache(maxsize=64)
def _outcomes(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Kept, since every judgement looks at the key and at known mistakes again, and a sandbox takes a while to start."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with Executor(workers=1, allow_weak=True) as executor:
            jobs = [Job(text, (given,)) for text, (_, given) in zip(texts, PROGRAMS.values(), strict=True)]
            outcomes = [one for (one,) in executor.run_many(jobs)]
    return tuple(repr(outcome.value) if outcome.ok else outcome.kind for outcome in outcomes)


def _wrapped(body: str, before: str = "    global f\n    f = _azr_program\n") -> Callable[[str], str]:
    return lambda program: f"{program}\n_azr_program = f\ndef f(*arguments):\n{before}{body}"


_RAISED = "    try:\n        {call}_azr_program(*arguments)\n    except {kind}:\n        return {gives}\n"

exercise(
    name="report_error", key=report_error, points=3, observe=_reported,
    shows=[f"the sandbox, on your program for {name!r}," for name in PROGRAMS],
    hint="Keep the program's f under another name, and define a new f that calls it inside try.",
    mistakes=[
        Mistake(_wrapped(_RAISED.format(call="return ", kind="Exception as error", gives="type(error).__name__")), "a program that raises nothing gives its own result back: one that *returns* the text 'KeyError' then passes for one that raises it. Where no error was raised, return None"),
        Mistake(_wrapped(_RAISED.format(call="", kind="Exception as error", gives="str(error)")), "it returns the error's message. Messages change between versions of Python and hold values and addresses; the name of the type (`type(error).__name__`) is what is asked"),
        Mistake(_wrapped(_RAISED.format(call="", kind="Exception as error", gives="type(error)")), "it returns the exception's class. A class is no literal, so it cannot leave the sandbox; return its name"),
        Mistake(_wrapped(_RAISED.format(call="", kind="BaseException as error", gives="type(error).__name__")), "it catches BaseException, so that SystemExit (a program that leaves, not one that fails) counts as an error to be named. Catch Exception"),
        Mistake(_wrapped(_RAISED.format(call="", kind="Exception as error", gives="type(error).__name__"), before=""), "a program that calls itself now calls *your* f, which swallows the error half-way up. Inside your f, first give the name f back to the program (`global f`)"),
        Mistake(lambda program: report_error(program).replace("*arguments", "x"), "your f takes one argument, but a program may have two or none: `def f(*args)` takes all there are, and `(*args)` hands them on"),
        Mistake(_wrapped(_RAISED.format(call="", kind="ValueError as error", gives="type(error).__name__")), "it catches one kind of error only; the others still fail the run, and their proposals are refused"),
    ],
)  # fmt: skip


def _answers() -> list[tuple[str, str]]:
    gold = "KeyError"
    texts = ("KeyError", " KeyError\n", "'KeyError'", "keyerror", "ValueError", "Exception", "LookupError", "KeyError, ValueError or IndexError",
             "KeyErrors", "Key", "", "type(KeyError())", "Key Error", "builtins.KeyError", "KeyError: 'a'",
             '"KeyError"', "KeyError()", "IndexError, KeyError",
             "KeyError ValueError")  # fmt: skip
    return [(text, gold) for text in texts] + [
        ("IndexError", "IndexError"),
        ("ArithmeticError", "ZeroDivisionError"),
        ("ZeroDivisionError", "ArithmeticError"),
        ("IOError", "OSError"),
    ]


def _parents(answer: str, gold: str) -> bool:
    import builtins

    said, meant = (getattr(builtins, name.strip().strip("'"), None) for name in (answer, gold))
    return isinstance(said, type) and isinstance(meant, type) and issubclass(meant, said)


def _one_class(answer: str, gold: str) -> bool:
    return _parents(answer, gold) and _parents(gold, answer)


def _children(answer: str, gold: str) -> bool:
    return _parents(gold, answer)


exercise(
    name="same_error", key=same_error, points=1, probes=_answers,
    hint="Take off spaces and quotes at the ends, then compare.",
    mistakes=[
        Mistake(lambda answer, gold: answer.strip().strip("'\"").lower() == gold.lower(), "it does not see capital letters. Python does: `keyerror` is no error at all"),
        Mistake(lambda answer, gold: (answer.split() or [""])[0].strip("'\"") == gold,
            "it compares the first word only: \"KeyError ValueError\" names two errors, and an answer is one name"),
        Mistake(_one_class,
            "it looks the names up as classes. IOError and OSError are one class with two names; compare the names, "
            "and never resolve what a model wrote"),
        Mistake(lambda answer, gold: answer.strip().strip("'") == gold,
            "double quotes are forgiven as well as single ones"),
        Mistake(lambda answer, gold: answer.strip().strip("'\"()") == gold,
            "it forgives brackets, too: `KeyError()` is a call and not a name. Spaces and quotes are all that is form"),
        Mistake(lambda answer, gold: answer == gold, "it refuses the right name with a line break or quotes around it; that is form, and form is rewarded elsewhere"),
        Mistake(lambda answer, gold: gold in answer,
            "it is content when the name stands in the answer among other text. Then an answer that lists all names "
            "is always right, and training will find it"),
        Mistake(lambda answer, gold: answer.strip().strip("'\"") in gold, "it looks whether the answer occurs in the name: \"Key\", and even nothing at all, are right then"),
        Mistake(_children, "it accepts a child class: ZeroDivisionError is an ArithmeticError to Python's `except`, but another name. Compare texts, not classes"),
        Mistake(_parents, "it accepts a parent class: \"Exception\" would be right for every task, without reading one program"),
    ],
)  # fmt: skip


ITEM = Triplet("errors", "def f(x):\n    return {'KeyError': 7}[x]", "'bd'", "'KeyError'")


def _prompt(tells: Callable[[Triplet], str]) -> Callable[[Triplet], str]:
    """A prompt with the program, the input, and what `tells` adds."""
    return lambda task: f"{task.program}\n{task.input}\n{tells(task)}"


PROMPTS: list[tuple[str, str, Callable[[Triplet], str]]] = [
    ("has program and input", "output", _prompt(lambda task: "")),
    ("tells the output", "output", _prompt(lambda task: f"not {task.output}, of course")),
    ("tells it backwards", "output", _prompt(lambda task: f"hint: {task.output[::-1]}")),
    ("tells its first letter", "output", _prompt(lambda task: f"it begins with {task.output[1:2]}")),
    ("tells its length", "output", _prompt(lambda task: f"it has {len(task.output)} letters")),
    ("has program and output", "input", lambda task: f"{task.program}\nfind an input for {task.output}"),
    ("has the input", "input", _prompt(lambda task: "")),
    ("lists all choices", "output", _prompt(lambda task: "one of: 'KeyError', 'ValueError'")),
    ("tells its checksum", "output", _prompt(lambda task: f"checksum {sum(map(ord, task.output)) % 10}")),
]
"""What a prompt does, the field that it must hide, and the prompt."""


exercise(
    name="blind", key=blind, points=2,
    probes=lambda: [*((prompt, ITEM, hidden) for _, hidden, prompt in PROMPTS), (PROMPTS[1][2], ITEM)],
    shows=[f"blind(prompt, task, {hidden!r}) for a prompt that {what}:" for what, hidden, _ in (
        *PROMPTS, ("tells the output, the field not named", "output", None))],
    hint="Make a second task that differs in the hidden field only, and ask for both prompts.",
    mistakes=[
        Mistake(lambda prompt, task, hidden="output": prompt(replace(task, **{hidden: "x" * len(getattr(task, hidden))})) == prompt(task), "your other task's field is just as long as the hidden one, so a prompt that tells its length says the same for both. Let them differ in everything"),
        Mistake(lambda prompt, task, hidden="output": prompt(replace(task, **{hidden: getattr(task, hidden) + "x"})) == prompt(task), "your other task's field begins like the hidden one, so a prompt that tells its first letter says the same for both. Let them differ in everything"),
        Mistake(
            lambda prompt, task, hidden="output": (
                prompt(replace(task, **{hidden: getattr(task, hidden)[:-1] + "x"})) == prompt(task)
            ),
            "your other task's field differs in its last letter only, so a prompt that tells its length or its first "
            "letter says the same for both. Let them differ in everything",
        ),
        Mistake(lambda prompt, task, hidden="output": getattr(task, hidden) not in prompt(task), "it looks for the answer's text in the prompt. That raises false alarms (the word may stand in the program, or in a list of all choices) and misses an answer spelled backwards or told by its first letter. Change the answer, and see whether the prompt changes"),
        Mistake(lambda prompt, task, hidden="output": task.output not in prompt(task), "it looks for the text of the *output* in the prompt, whichever field is hidden; and such a search raises false alarms (the word may stand in the program) and misses an answer spelled backwards. Change the hidden field, and see whether the prompt changes"),
        Mistake(lambda prompt, task, hidden="output": len(prompt(_other(task, hidden))) == len(prompt(task)), "it compares lengths of prompts; one letter of the answer has the same length in both. Compare the texts"),
        Mistake(lambda prompt, task, hidden="output": prompt(_other(task, "output")) == prompt(task), "it always changes the output, whatever `hidden` names. In abduction it is the input that must not be told"),
        Mistake(lambda prompt, task, hidden="output": prompt(task) == prompt(task), "it asks twice for the same task: that shows that the prompt is the same each time, not that it is ignorant"),
    ],
)  # fmt: skip


def _other(task: Triplet, hidden: str) -> Triplet:
    return replace(task, **{hidden: "'something else altogether'"})


def _tables() -> list[tuple[Any, Any, bool]]:
    a, b, c = ("fig", 9), ("kiwi", 3), (None, 3)
    pairs: list[tuple[Any, Any]] = [([a, b], [a, b]), ([a, b], [b, a]), ([a, a, b], [a, b]), ([a, a, b], [a, b, b]), ([], []), ([a], [a, b]), ([a, c], [c, a]), ([a], ["fig", 9]),
                                    ([(1,)], [(True,)]), ([a], None), (None, [a]), ((a,), [a])]  # fmt: skip
    return [(x, y, ordered) for x, y in pairs for ordered in (True, False)]


def _texts(rows: list[Any], ordered: bool) -> list[str]:
    return list(map(canonical, rows)) if ordered else sorted(map(canonical, rows))


def _lists(a: Any, b: Any) -> bool:
    return isinstance(a, list) and isinstance(b, list)


exercise(
    name="same_rows", key=same_rows, points=2, probes=_tables,
    hint="One canonical text per row; sort the texts where the order is free.",
    mistakes=[
        Mistake(lambda a, b, ordered: _lists(a, b) and (a == b if ordered else sorted(map(repr, a)) == sorted(map(repr, b))), "with an order asked for it compares by `==`, for which (1,) and (True,) are the same row. Compare the canonical texts in both cases"),
        Mistake(lambda a, b, ordered: _lists(a, b) and (a == b if ordered else Counter(a) == Counter(b)), "it compares the rows by `==`, for which (1,) and (True,) are the same row. Compare their canonical texts"),
        Mistake(lambda a, b, ordered: _lists(a, b) and (a == b if ordered else sorted(a) == sorted(b)), "it sorts the rows themselves: rows that hold None and text cannot be ordered, and 1 and True are one. Sort their canonical texts"),
        Mistake(lambda a, b, ordered: _lists(a, b) and (list(map(repr, a)) == list(map(repr, b)) if ordered else set(map(repr, a)) == set(map(repr, b))), "sets forget how often a row occurs; in SQL two equal rows are two rows"),
        Mistake(lambda a, b, ordered: _lists(a, b) and all(
            x == y for x, y in zip(_texts(a, ordered), _texts(b, ordered), strict=False)),
            "`zip` stops where the shorter list ends, so a table with rows missing passes for the whole one. Compare "
            "the lists, or zip with strict=True"),
        Mistake(lambda a, b, ordered: a == b if ordered else set(a) == set(b), "it makes sets of rows, which forget how often a row occurs, and fails where the answer is no list at all (`set(None)`). An answer may be anything a model writes"),
        Mistake(lambda a, b, ordered: _lists(a, b) and list(map(repr, a)) == list(map(repr, b)), "without ORDER BY the order of rows means nothing, and an answer in another order is right"),
        Mistake(lambda a, b, ordered: _lists(a, b) and sorted(map(repr, a)) == sorted(map(repr, b)), "where the query has ORDER BY, the order is part of the answer"),
        Mistake(lambda a, b, ordered: list(map(repr, a)) == list(map(repr, b)) if ordered else sorted(map(repr, a)) == sorted(map(repr, b)), "the answer may be anything a model writes, such as None: what is no list (a tuple, say) is no table, and no reason to stop the training"),
    ],
)  # fmt: skip

exercise(
    name="guess_rate", key=guess_rate, points=1,
    probes=lambda: [(["a", "b", "a", "a"],), (["a"],), ([],), (["a", "c", "c", "b"],), (["a", "a", "b"],), (["b"] * 3 + ["a"] * 3,),
        (["a", "a", "b", "c", "d"],)],
    hint="How often does the most frequent answer come, and of how many?",
    mistakes=[
        Mistake(lambda answers: max(map(answers.count, answers)) / len(answers), "it fails where there are no answers yet; the first step of a run may have none. Give 0.0"),
        Mistake(lambda answers: Counter(answers).most_common(1)[0][1] / len(answers), "where there are no answers, there is no most common one either, and `most_common(1)[0]` fails. Give 0.0 then"),
        Mistake(lambda answers: 1 / len(set(answers)) if answers else 0.0, "that is the score of a blind guess among the different answers. A model learns quickly which one is frequent: the baseline is the share of the most frequent"),
        Mistake(lambda answers: float(max(map(answers.count, answers))) if answers else 0.0, "it is a count; divide by the number of answers"),
        Mistake(lambda answers: len(set(answers)) / len(answers) if answers else 0.0, "that is how different the answers are, not how often the most frequent one comes"),
    ],
)  # fmt: skip
