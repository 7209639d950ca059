"""Exercises of notebook 01: hide, judge by value in three task types, read arguments as data, keep a buffer."""

from __future__ import annotations

import ast
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from azr_lite.buffer import Buffer, normal_form, task_key
from azr_lite.course.checks import Mistake, Raised, Shown, exercise, tried
from azr_lite.course.triplet_views import visible
from azr_lite.sandbox import Outcome
from azr_lite.sandbox.literal import read_arguments, read_value
from azr_lite.tasks import Answer, get_task_type
from azr_lite.triplet import InductionTask, Rules, Task, Triplet

RULES = Rules()
PROGRAM = "def f(x):\n    return x * x"
INPUTS, OUTPUTS = ("3", "5", "-2", "4", "-1", "6"), ("9", "25", "4", "16", "1", "36")
MESSAGE = "a number times itself"
PAIRS, SHOWS_TWO, SHOWS_FIVE = (
    InductionTask("induction", PROGRAM, INPUTS, OUTPUTS, MESSAGE, shown) for shown in (3, 2, 5)
)


def _pair(type_: str, output: str = "9", input: str = "3", program: str = PROGRAM) -> Triplet:
    return Triplet(type_, program, input, output)


def _view(task: Task, shown=0, program=False, message=True, both=False, swap=False) -> Any:
    """A view with one thing wrong about it."""
    if isinstance(task, InductionTask):
        pairs = list(zip(task.inputs, task.outputs, strict=True))[: shown or task.shown]
        blocks = [block for given, result in pairs for block in (("input", given), ("output", result))]
        return [("python", task.program)] * program + blocks + [("message", task.message)] * message
    left = [("input", task.input)] if (task.type == "deduction") != swap or both else []
    right = [("output", task.output)] if (task.type == "abduction") != swap or both else []
    return [("python", task.program), *left, *right]


exercise(
    name="visible", key=visible, points=2,
    probes=lambda: [(_pair("deduction"),), (_pair("abduction"),), (PAIRS,), (SHOWS_TWO,)],
    shows=[f"visible(a task of {words})" for words in (
        "deduction", "abduction", "induction that shows 3 pairs", "induction that shows 2")],
    mistakes=[
        Mistake(lambda task: _view(task, shown=6), "it shows *all* pairs of an induction task. The hidden ones are the exam: who has seen them can copy them into a table"),
        Mistake(lambda task: _view(task, shown=5), "it shows five pairs of every induction task; `task.shown` says how many"),
        Mistake(lambda task: _view(task, shown=3), "it shows half of the pairs, whatever the task says; `task.shown` is the number to go by"),
        Mistake(lambda task: _view(task, program=True), "it shows the program of an induction task, which is what has to be found"),
        Mistake(lambda task: _view(task, message=False), "it leaves out the message of an induction task; without it many programs fit the pairs equally well"),
        Mistake(lambda task: _view(task, both=True), "it shows the input and the output of both deduction and abduction, so nothing is left to find: each hides one of the two"),
        Mistake(lambda task: _view(task, swap=True), "deduction and abduction are swapped. Deduction looks forward, from input to output; abduction looks back"),
    ],
    hint="Ask of each task type: what is to be found? Everything else is shown, but of an induction task only the first `task.shown` pairs.",
)  # fmt: skip


def _ok(found: Any) -> Any:
    """The package's functions return a Verdict, learners' True or False."""
    found = getattr(found, "ok", found)
    return bool(found) if type(found).__module__ in ("numpy", "torch") else found


def _each(cases: Sequence[tuple[Any, ...]]) -> Callable[[Any], list[Any]]:
    """What a judge says in each case, errors too."""
    return lambda judge: [_ok(tried(judge, *case, RULES)) for case in cases]


GOLD = (
    ("'ab'", "ab"), ("[1, 2]", [1, 2]), ("{'a': 1, 'b': 2}", {"b": 2, "a": 1}), ("1.0", 1), ("1", True), ("None", None),
    ("(1, 2)", [1, 2]), ("[1, 2]", [2, 1]), ("3", "3"), ("0.3", 0.1 + 0.2), ("inf", math.inf),
)  # fmt: skip
"""The output as text, and an answer's value."""


def _after_change(change: Callable[[Any], Any]) -> Callable[..., bool]:
    """A judge that changes both values before it compares them."""
    return lambda task, answer, *_: change(answer.value) == change(read_value(task.output))


def _evaluated(task: Triplet, answer: Answer, *_: Any) -> bool:
    """What `eval` would say, without evaluating: of the outputs above it knows all but one."""
    if task.output == "inf":
        raise NameError("name 'inf' is not defined")
    return bool(answer.value == read_value(task.output))


exercise(
    name="judge_deduction", key=get_task_type("deduction").judge, points=1,
    observe=_each([(_pair("deduction", gold), Answer(value=value), ()) for gold, value in GOLD]),
    shows=[f"the answer {value!r} where the output is {gold}" for gold, value in GOLD],
    mistakes=[
        Mistake(lambda task, answer, *_: bool(answer.value) and answer.value == read_value(task.output),
            "it takes what counts as false (0, None, an empty list) for no answer at all; such values are answers "
            "like others"),
        Mistake(_after_change(lambda value: list(value) if isinstance(value, tuple) else value), "it makes lists of everything before comparing, so that the tuple (1, 2) passes for the list [1, 2]; these are different outputs"),
        Mistake(_after_change(lambda value: sorted(value) if isinstance(value, list) else value), "it forgets the order inside lists; [1, 2] and [2, 1] are different outputs"),
        Mistake(_after_change(lambda value: round(value, 6) if isinstance(value, float) else value), "it forgives small errors of floats. Programs compute exactly the same digits each time, so the answer can be asked to match them"),
        Mistake(_after_change(lambda value: (type(value), value)), "it wants the types to be equal as well. In Python 1 == 1.0 == True, and the paper compares as Python does (the package has a switch for the stricter way: equality='typed')"),
        Mistake(lambda task, answer, *_: repr(answer.value) == task.output, "it compares texts. The same value has many spellings: {'b': 2, 'a': 1} and {'a': 1, 'b': 2}, 1 and 1.0. Compare values"),
        Mistake(lambda task, answer, *_: str(answer.value) == task.output, "it compares texts, and `str` drops the quotes: the text '3' would pass for the number 3, and 'ab' never for itself"),
        Mistake(_evaluated, "it *evaluates* a stored text. Texts are data here: `read_value` reads all that a program may return, `inf` too, and runs nothing"),
        Mistake(lambda task, answer, *_: answer.value == ast.literal_eval(task.output), "`ast.literal_eval` runs nothing, but does not know `inf`, which a program may return; `read_value` reads that as well"),
        Mistake(lambda task, answer, *_: answer.value == task.output, "it compares a value with a text: `answer.value` has been read already, `task.output` is still source text. Read that first"),
    ],
    hint="Make a value of the output's text with read_value, then compare the two values as Python does.",
)  # fmt: skip


def _abduced(candidate: Any, outcome: Outcome, output: str = "9") -> tuple[Any, ...]:
    return _pair("abduction", output), Answer(program=PROGRAM, inputs=((candidate,),)), (outcome,)


FAILED = Outcome("exception", detail="TypeError")
ABDUCED = {
    "the original input": _abduced(3, Outcome("ok", 9)),
    "another input that gives the same output": _abduced(-3, Outcome("ok", 9)),
    "an input that gives another output": _abduced(4, Outcome("ok", 16)),
    "an input that equals the output": _abduced(9, Outcome("ok", 81)),
    "an input on which the program fails": _abduced("a", FAILED),
    "an input on which the program fails, where the output is None": _abduced("a", FAILED, "None"),
    "an input that gives 9.0 where the output is 9": _abduced(3.0, Outcome("ok", 9.0)),
    "an input that gives None where the output is None": _abduced("a", Outcome("ok", None), "None"),
    "an input that gives 0 where the output is 0": _abduced(0, Outcome("ok", 0), "0"),
    "an input that gives inf where the output is inf": _abduced(1e200, Outcome("ok", math.inf), "inf"),
    "an input that takes too long, where the output is None": _abduced(10**9, Outcome("timeout"), "None"),
    "an input that ends the process, where the output is None": _abduced(10**9, Outcome("crash"), "None"),
    "the original input, in a run that failed": _abduced(3, Outcome("crash")),
}

exercise(
    name="judge_abduction", key=get_task_type("abduction").judge, points=2, observe=_each(list(ABDUCED.values())),
    shows=list(ABDUCED),
    mistakes=[
        Mistake(lambda task, answer, outcomes, *_: outcomes[0].value is not None and outcomes[0].value == read_value(task.output), "None is a value like others: a program may return it, and where the output is None that is right. Only `kind` says whether the program ended well"),
        Mistake(lambda task, answer, outcomes, *_: bool(outcomes[0].kind == "ok" and outcomes[0].value and outcomes[0].value == read_value(task.output)), "it takes what counts as false (0, None, an empty list) for no value at all; `kind` says whether the program ended well"),
        Mistake(lambda task, answer, outcomes, *_: answer.inputs[0] == read_arguments(task.input), "it demands the input that the proposer had in mind. Any input that leads to the output is right: 3 and -3 both square to 9"),
        Mistake(lambda task, answer, outcomes, *_: outcomes[0].kind != "exception" and outcomes[0].value == read_value(task.output), "there are more ways to fail than an exception: \"timeout\", \"crash\" and others. Ask for the only kind that is good"),
        Mistake(lambda task, answer, outcomes, *_: outcomes[0].value == read_value(task.output), "a program that failed returned nothing, and `value` is then None: where the output is None, a crash would pass for right. Look at `kind` first"),
        Mistake(lambda task, answer, outcomes, *_: outcomes[0].kind == "ok" and repr(outcomes[0].value) == task.output, "9.0 and 9 are equal values for it only where their texts or types are equal, too. Read the output with read_value, and compare with =="),
        Mistake(lambda task, answer, outcomes, *_: outcomes[0].kind == "ok", "it accepts every input on which the program runs; the value has to equal the output too"),
        Mistake(lambda task, answer, outcomes, *_: outcomes[0].value == task.output, "nothing is ever right for it. Compare the *value* of the output (read_value of its text) with the value of the one outcome, outcomes[0].value"),
        Mistake(lambda task, answer, outcomes, *_: answer.inputs[0][0] == read_value(task.output), "it compares the candidate *input* with the output. Compare what the program returned for it"),
    ],
    hint="The outcome of running the program on the candidate is outcomes[0]: it has .kind (\"ok\" or what went wrong) and .value. Read task.output with read_value.",
)  # fmt: skip


def _squares(*values: Any) -> tuple[Any, ...]:
    outcomes = tuple(FAILED if value is ... else Outcome("ok", value) for value in values)
    return PAIRS, Answer(program=PROGRAM, inputs=tuple(read_arguments(text) for text in INPUTS[3:])), outcomes


NOTHING = InductionTask("induction", PROGRAM, INPUTS, ("1", "2", "3", "4", "5", "None"), "", 3)
INDUCED = {
    "all hidden pairs reproduced": _squares(16, 1, 36),
    "the first hidden pair only": _squares(16, 0, 0),
    "two of three hidden pairs": _squares(16, 1, 0),
    "no hidden pair": _squares(0, 0, 0),
    "the outputs of the visible pairs": _squares(9, 25, 4),
    "a program that fails on the last hidden input": _squares(16, 1, ...),
    "a program that fails where the output is None": (NOTHING, *_squares(4, 5, ...)[1:]),
    "a program that takes too long where the output is None": (
        NOTHING,
        _squares()[1],
        (*_squares(4, 5)[2], Outcome("timeout")),
    ),
    "16.0, 1 and 36": _squares(16.0, 1, 36),
    "all but the first hidden pair": _squares(0, 1, 36),
    "all but the middle hidden pair": _squares(16, 0, 36),
    "the last hidden pair only": _squares(0, 0, 36),
    "the hidden outputs in another order": _squares(1, 36, 16),
    "a None that is right": (NOTHING, *_squares(4, 5, None)[1:]),
    "all four hidden pairs of a task that shows two": (SHOWS_TWO, *_squares(4, 16, 1, 36)[1:]),
    "the one hidden pair of a task that shows five": (SHOWS_FIVE, *_squares(36)[1:]),
}


def _gold(task: InductionTask) -> list[Any]:
    return [read_value(text) for text in task.outputs[task.shown :]]


def _after(start: Callable[[InductionTask], int]) -> Callable[..., bool]:
    """A judge that takes the outputs from that place on, and only as far as there are outcomes."""
    return lambda task, answer, outcomes, *_: all(
        o.kind == "ok" and o.value == read_value(text)
        for o, text in zip(outcomes, task.outputs[start(task) :], strict=False)
    )


def _hits(task: InductionTask, outcomes: Sequence[Outcome]) -> int:
    return sum(o.kind == "ok" and o.value == gold for o, gold in zip(outcomes, _gold(task), strict=True))


exercise(
    name="judge_induction", key=get_task_type("induction").judge, points=2, observe=_each(list(INDUCED.values())),
    shows=list(INDUCED),
    mistakes=[
        Mistake(lambda task, answer, outcomes, *_: None not in _gold(task) and [o.value for o in outcomes] == _gold(task), "None is a value like others: a program may return it, and where the output is None that is right. Only `kind` says whether the program ended well"),
        Mistake(lambda task, answer, outcomes, *_: all(o.kind == "ok" and repr(o.value) == text for o, text in zip(outcomes, task.outputs[task.shown :], strict=True)), "it compares texts: 16.0 and 16 are equal values"),
        Mistake(lambda task, answer, outcomes, *_: all(o.kind == "ok" for o in outcomes) and {repr(o.value) for o in outcomes} == set(map(repr, _gold(task))), "it forgets the order: each outcome belongs to *one* hidden pair, in their order. (And 16.0 equals 16, though their texts differ)"),
        Mistake(lambda task, answer, outcomes, *_: [o.value for o in outcomes] == _gold(task), "a program that failed has the value None, which equals an output None: look at `kind` as well"),
        Mistake(lambda task, answer, outcomes, *_: all(o.kind != "exception" for o in outcomes)
            and [o.value for o in outcomes] == _gold(task),
            "there are more ways to fail than an exception: \"timeout\", \"crash\" and others. Ask for the only kind "
            "that is good"),
        Mistake(lambda task, answer, outcomes, *_: all(
            o.value == gold for o, gold in zip(outcomes, _gold(task), strict=True) if o.kind == "ok"),
            "it passes over the outcomes that failed; a program that fails on a hidden input has not reproduced that "
            "pair"),
        Mistake(_after(lambda task: 5), "it takes five shown pairs for granted; `task.shown` says how many there are"),
        Mistake(_after(lambda task: len(task.outputs) // 2), "it takes half of the pairs for hidden; `task.shown` says where the hidden ones begin"),
        Mistake(lambda task, answer, outcomes, *_: [o.value for o in outcomes] == list(task.outputs[task.shown :]), "nothing is ever right for it: `task.outputs` holds texts, and a text equals no number. Read them with read_value"),
        Mistake(lambda task, answer, outcomes, *_: all(o.kind == "ok" and o.value == read_value(text) for o, text in zip(outcomes, task.outputs, strict=False)), "it tests on the visible pairs: outputs are taken from the start of the list. A table of the visible pairs would score full marks. Outcomes belong to the *hidden* pairs, outputs[task.shown:]"),
        Mistake(lambda task, answer, outcomes, *_: 2 * _hits(task, outcomes) > len(outcomes), "it is content with most hidden pairs. In the paper an answer is right when it reproduces all (the package has a switch that rewards the share: induction_scoring='fraction')"),
        Mistake(lambda task, answer, outcomes, *_: _hits(task, outcomes) > 0, "one hidden pair is enough for it. A program that always returns the same value often hits one"),
        Mistake(lambda task, answer, outcomes, *_: all(o.kind == "ok" for o in outcomes), "it asks only whether the program ran; compare what it returned with the hidden outputs"),
    ],
    hint="Pair each outcome with the output of its hidden pair (those from place task.shown on); every one must be \"ok\" and equal.",
)  # fmt: skip


TEXTS = (
    "5", "'ab', 3", "(1, 2)", "[1, 2], {'a': None}", "'a, b'", "'x',\n[1,\n 2]", "-1", "True, None",
    "0) or (True", "[0] * 3", "max(1, 2)", "x", "'a'.upper()", "", " ", "1, k=2", "true", "NaN",
)  # fmt: skip
"""Arguments, and from `0) or (True` on what is none: those must be refused."""
WORDS = {"true": True, "NaN": math.nan}
RUN = {"0) or (True": (True,), "[0] * 3": ([0, 0, 0],), "max(1, 2)": (2,), "'a'.upper()": ("A",)}
"""What Python would make of them, written down here: nothing in the package evaluates text outside the sandbox."""


def _said(found: Any) -> Any:
    if isinstance(found, Raised):
        return "refused"
    return found if found is ... or found is None else Shown(repr(found))


exercise(
    name="read_arguments", key=read_arguments, points=2,
    observe=lambda read: [_said(tried(read, text)) for text in TEXTS],
    shows=[f"read_arguments({text!r})" for text in TEXTS],
    mistakes=[
        Mistake(lambda text: list(read_arguments(text)), "it returns a list. What stands between a call's brackets "
            "is a *tuple* of arguments; and to Python (1, 2) and [1, 2] are different values, so keep the two apart"),
        Mistake(lambda text: (WORDS[text],) if text in WORDS else read_arguments(text),
            "it knows the words of JSON: `true` and `NaN` are names in Python, no literals, so refuse them"),
        Mistake(lambda text: tuple(ast.literal_eval(f"[{text}]")), "it reads an empty text as no arguments at all. A task without an input asks nothing; refuse it"),
        Mistake(lambda text: RUN[text] if text in RUN else read_arguments(text), "it *runs* the text: the answer `0) or (True` becomes a condition that is always true, and a worse one would delete files. Only literals may be read"),
        Mistake(lambda text: (1,) if text == "1, k=2" else read_arguments(text), "it drops arguments that have a name: `1, k=2` is more than a list of literals, so refuse it"),
        Mistake(lambda text: ast.literal_eval(f"{text},"),
            "the comma at the end makes a tuple, but a line break between two arguments ends the expression: put "
            "brackets around all of it as well"),
        Mistake(lambda text: (ast.literal_eval(text),), "it takes every text for a single argument: `'ab', 3` are two"),
        Mistake(lambda text: tuple(ast.literal_eval(part.strip()) for part in text.split(",")), "it splits at every comma, also at those inside texts and lists"),
        Mistake(lambda text: ast.literal_eval(text), "it returns one value, not a tuple of arguments: `5` has to give (5,), and `(1, 2)` is a *single* argument that is a tuple"),
        Mistake(lambda text: tuple(json.loads(f"[{text}]")), "JSON is not Python: it knows no single quotes, no tuples, no None and no True"),
        Mistake(lambda text: tuple(part.strip() for part in text.split(",")), "it returns pieces of text; they have to become values"),
    ],
    hint="Any error counts as a refusal. ast.literal_eval reads literals without running anything; what could you put around the text first?",
)  # fmt: skip


def _task(number: int, input: str = "1", variable: str = "x") -> Triplet:
    return Triplet("deduction", f"def f({variable}):\n    return {variable} + {number}", input, str(number + 1))


def _looks(kind: Any) -> dict[str, Callable[[], Any]]:
    """What is asked of a buffer class, in order: each look goes on from what those before it did."""
    made, rng = kind(3), random.Random(0)

    def draw(count: int, store: Any = made, dice: random.Random = rng) -> list[tuple[str, str]]:
        found = store.sample(dice, count)
        if found is ...:
            raise NotImplementedError("sample still returns ...")
        if isinstance(found, set | frozenset):
            raise TypeError("sample returns a set, whose order differs from run to run; a list is wanted")
        return [(task.program, task.input) for task in found]

    def filled(capacity: int, *tasks: Triplet) -> Any:
        store = kind(capacity)
        for task in tasks:
            store.add(task)
        return store

    def kept() -> list[tuple[str, str]]:
        for number in (1, 2):
            tried(made.add, _task(number))
        return sorted(draw(3))

    def evenly() -> str:
        counts = Counter(task for _ in range(600) for task in draw(1))
        for which, task in (("oldest", _task(0, "2")), ("newest", _task(2))):
            if set(counts) == {(task.program, task.input)}:
                return f"only the {which}"
        if counts.total() < 600:
            return "less often than it was asked"
        return "about equally" if len(counts) == 3 and min(counts.values()) > 150 else "some more than others"

    def twenty() -> int | str:
        store = filled(20, *map(_task, range(20)))
        drawn = [draw(3, store) for _ in range(200)]
        return (
            len({task for tasks in drawn for task in tasks})
            if len(set(map(frozenset, drawn))) > 40
            else "neighbours only"
        )

    def repeated() -> bool:
        store = filled(20, *map(_task, range(20)))
        return draw(8, store, random.Random(1)) == draw(8, store, random.Random(1))

    return {
        "a new task is added": lambda: made.add(_task(0)),
        "the same task is added again": lambda: made.add(_task(0)),
        "the same task, with another name for its variable": lambda: made.add(_task(0, variable="y")),
        "the same program, with another input": lambda: made.add(_task(0, "2")),
        "how many are drawn when 99 are wanted and 2 are there": lambda: len(draw(99)),
        "how many are drawn when that is done once more": lambda: len(draw(99)),
        "how many are drawn from a new buffer": lambda: len(draw(2, kind(3))),
        "what is kept, of four tasks, by a buffer of three": kept,
        "which of two twins is kept": lambda: draw(1, filled(3, _task(7), _task(7, variable="y"))),
        "whether 20 draws of three from three tasks all give three": lambda: all(len(draw(3)) == 3 for _ in range(20)),
        "whether a draw of two gives two different tasks": lambda: all(len(set(draw(2))) == 2 for _ in range(20)),
        "how often each of three tasks is drawn": evenly,
        "how many of twenty tasks are ever drawn": twenty,
        "whether the same seed draws the same tasks again": repeated,
        "the task that had left is added again": lambda: made.add(_task(0)),
        "what a full buffer of two keeps when its oldest task is offered again, and then a new one": (
            lambda: sorted(draw(2, filled(2, *map(_task, (0, 1, 0, 2)))))
        ),
    }


class _Like(Buffer):
    """The package's buffer, for mistakes to change in one place."""

    def key(self, task: Task) -> Any:
        return task_key(task)

    def add(self, task: Task) -> bool:
        key = self.key(task)
        if key in self._tasks:
            return False
        self._tasks[key] = task
        while len(self._tasks) > self.capacity:
            del self._tasks[next(iter(self._tasks))]
        return True


def _but(**methods: Callable[..., Any]) -> type:
    """A buffer with these methods in the place of the right ones."""
    return type("Mistaken", (_Like,), methods)


def _without_limit(self: Any, task: Task) -> bool:
    self.capacity = 10**9
    return _Like.add(self, task)


def _takes_out(self: Any, rng: random.Random, count: int) -> list[Task]:
    drawn = Buffer.sample(self, rng, count)
    for task in drawn:
        del self._tasks[self.key(task)]
    return drawn


def _refreshes(self: Any, task: Task) -> bool:
    known = self._tasks.pop(self.key(task), None) is not None
    return _Like.add(self, task) and not known


def _overwrites(self: Any, task: Task) -> bool:
    if self.key(task) not in self._tasks:
        return _Like.add(self, task)
    self._tasks[self.key(task)] = task
    return False


def _never_forgets(self: Any, task: Task) -> bool:
    met = self.__dict__.setdefault("met", set())
    known = self.key(task) in met
    met.add(self.key(task))
    return not known and _Like.add(self, task)


def _in_a_row(self: Any, rng: random.Random, count: int) -> list[Task]:
    start, tasks = rng.randrange(len(self) or 1), list(self)
    return [*tasks[start:], *tasks[:start]][:count]


def _favours(self: Any, rng: random.Random, count: int) -> list[Task]:
    left, drawn = list(self), []
    while left and len(drawn) < count:
        drawn.append(left.pop(rng.choices(range(len(left)), weights=range(1, len(left) + 1))[0]))
    return drawn


exercise(
    name="Buffer", key=Buffer, points=3, observe=lambda kind: [tried(look) for look in _looks(kind).values()],
    shows=tuple(_looks(Buffer)),
    mistakes=[
        Mistake(_but(sample=lambda self, rng, count: rng.sample(list(self), count)), "it fails when more tasks are wanted than there are, as in the first steps of every run; give what there is"),
        Mistake(_but(sample=lambda self, rng, count: rng.sample(list(self._tasks), min(count, len(self._tasks)))), "`sample` gives the keys of the dict; the tasks are its values"),
        Mistake(_but(sample=lambda self, rng, count: Buffer.sample(self, random.Random(), count)), "it draws with a random generator of its own (such as the module `random`). Draw with the `rng` that comes in, or no run can be repeated"),
        Mistake(_but(sample=_takes_out), "a draw takes the tasks out of the buffer. They stay: a reference can be shown again, a task asked again"),
        Mistake(_but(sample=lambda self, rng, count: list(self)[-count:]), "it always gives the newest. The paper tried to favour recent tasks, and risked collapse: draw uniformly"),
        Mistake(_but(sample=_in_a_row),
            "it draws a random place and takes the tasks that stand in a row there: neighbours, which came in "
            "together, would always be shown together. Draw each by itself"),
        Mistake(_but(sample=lambda self, rng, count: set(Buffer.sample(self, rng, count))),
            "`sample` returns a set; return a list. The order of a set differs from run to run, so no run could be "
            "repeated"),
        Mistake(_but(sample=_favours), "some tasks are drawn more often than others. Favouring new ones risked a collapse, the paper says: draw uniformly"),
        Mistake(_but(sample=lambda self, rng, count: list(self)[:count]), "it always gives the oldest, and newer tasks are never seen: draw uniformly"),
        Mistake(_but(add=_overwrites), "a twin takes the place of the stored task: `self.tasks[key] = task` came "
            "before you looked. Who comes first stays, with its spelling; look whether the key is there, and if so "
            "touch nothing"),
        Mistake(_but(add=_refreshes), "a task that is offered again changes something: it becomes the youngest, or another one leaves in its stead. Look first whether it is there, and if so touch nothing"),
        Mistake(_but(add=_never_forgets), "a task that has left can never come back: somewhere its key is still remembered. Forget the key together with the task"),
        Mistake(_but(add=lambda self, task: len(self._tasks) < self.capacity and _Like.add(self, task)), "a full buffer refuses new tasks and keeps its oldest. That is what the authors' code does: after some 250 steps nothing new ever gets in. Let the oldest leave"),
        Mistake(_but(key=lambda self, task: (task.program, task.input)), "it tells tasks apart by their text, so a proposer is rewarded again for the same program with a renamed variable. Use task_key"),
        Mistake(_but(key=lambda self, task: object()), "it keeps duplicates. A proposer that repeats one good task would fill the buffer with it"),
        Mistake(_but(add=_without_limit), "it grows without end: when more than `capacity` tasks are there, the oldest has to leave"),
        Mistake(_but(sample=lambda self, rng, count: rng.choices(list(self), k=count)), "it draws with repetition: a prompt could show the same reference twice"),
        Mistake(_but(key=lambda self, task: normal_form(task.program)), "it looks at programs alone: the same program with another input is another task"),
    ],
    hint="Keep tasks in a dict under task_key(task): it remembers the order of insertion, and next(iter(d)) is its oldest key.",
)  # fmt: skip
