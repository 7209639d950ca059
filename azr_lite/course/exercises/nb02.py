"""Exercises of notebook 02, the executor."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

from azr_lite.course.attacks import judge_candidate
from azr_lite.course.checks import Mistake, Raised, exercise, tried
from azr_lite.sandbox import Level, Outcome, Validation
from azr_lite.sandbox.executor import level_of, verdict
from azr_lite.sandbox.literal import read_value
from azr_lite.sandbox.wire import canonical, compare


def _ok(*values: Any) -> list[Outcome]:
    return [Outcome("ok", value) for value in values]


LATE, FAT = Outcome("timeout", detail="out of time"), Outcome("memory", detail="MemoryError")
BROKEN, UNRUN = Outcome("exception", detail="KeyError: 1"), Outcome("infra", detail="not run")
WORLDS: dict[str, tuple[list[Outcome], list[Outcome]]] = {
    "the same twice": (_ok(1, "a"), _ok(1, "a")),
    "another order of a list": (_ok(["a", "b"]), _ok(["b", "a"])),
    "1 here, True there": (_ok(1), _ok(True)),
    "a list of 1 here, of True there": (_ok([1]), _ok([True])),
    "the second input differs": (_ok(1, 2), _ok(1, 3)),
    "an exception in the first world": ([BROKEN, UNRUN], [UNRUN, BROKEN]),
    "an exception in the second world only": (_ok(1), [BROKEN]),
    **{
        f"{kind!r} in the second world only": (_ok(1), [Outcome(kind)])
        for kind in ("crash", "value", "rejected", "protocol")
    },
    "out of time in the second world": (_ok(1), [LATE]),
    "out of memory in the second world": (_ok(1), [FAT]),
    "sets, written in two orders": (_ok({8, 0}), _ok({0, 8})),
    "dicts, filled in two orders": (_ok({"a": 1, "b": 2}), _ok({"b": 2, "a": 1})),
    "a first input that differs, a second that fails": ([*_ok(1), BROKEN], [*_ok(2), BROKEN]),
    "a first input that differs, a second out of time there": (_ok(1, 2), [*_ok(9), LATE]),
    "a first input not run, a second out of time there": (_ok(1, 2), [UNRUN, LATE]),
    "a first input not run, a second that fails": ([UNRUN, BROKEN], [UNRUN, BROKEN]),
    "two inputs that fail": ([BROKEN, LATE], [BROKEN, LATE]),
    "a second input that failed": ([*_ok(1), LATE], [UNRUN, LATE]),
}


def _said(mine: Callable[..., Any], first: Sequence[Outcome], second: Sequence[Outcome]) -> Any:
    found = tried(mine, first, second)
    return [found.ok, found.outputs, found.reason, found.index] if isinstance(found, Validation) else found


def _loose(first: Sequence[Outcome], second: Sequence[Outcome]) -> Validation:
    found = verdict(first, second)
    if found.reason == "non_deterministic" and first[found.index].value == second[found.index].value:
        return Validation(True, tuple(o.value for o in first))
    return found


def _second_word(first: Sequence[Outcome], second: Sequence[Outcome]) -> Validation:
    found = verdict(first, second)
    kind = second[found.index].kind if found.reason == "non_deterministic" else "ok"
    return found if kind == "ok" else Validation(False, (), kind, "", found.index)


def _never_late(first: Sequence[Outcome], second: Sequence[Outcome]) -> Validation:
    found = verdict(first, second)
    late = found.reason in ("timeout", "memory") and first[found.index].ok
    return Validation(False, (), "non_deterministic", "", found.index) if late else found


def _one_loop(first: Sequence[Outcome], second: Sequence[Outcome]) -> Validation:
    for index, (one, other) in enumerate(zip(first, second, strict=True)):
        if not one.ok:
            return Validation(False, (), one.kind, one.detail, index)
        if one.value != other.value:
            return Validation(False, (), "non_deterministic", "", index)
    return Validation(True, tuple(outcome.value for outcome in first))


def _interleaved(first: Sequence[Outcome], second: Sequence[Outcome]) -> Validation:
    for index, (one, other) in enumerate(zip(first, second, strict=True)):
        found = verdict([one], [other])
        if not found.ok:
            return Validation(False, (), found.reason, "", index)
    return verdict(first, second)


def _late_first(first: Sequence[Outcome], second: Sequence[Outcome]) -> Validation:
    found = verdict(first, second)
    late = [index for index, other in enumerate(second) if other.kind in ("timeout", "memory")]
    if late and found.reason == "non_deterministic":
        return Validation(False, (), second[late[0]].kind, "", late[0])
    return found


def _by_repr(first: Sequence[Outcome], second: Sequence[Outcome]) -> Validation:
    for index, (one, other) in enumerate(zip(first, second, strict=True)):
        if one.ok and other.ok and repr(one.value) != repr(other.value):
            return Validation(False, (), "non_deterministic", "", index)
    return verdict(first, second)


def _outside(first: Sequence[Outcome], second: Sequence[Outcome]) -> Validation:
    found = verdict(first, second)
    if found.reason != "non_deterministic":
        return found
    one, other = first[found.index].value, second[found.index].value
    alike = one == other and type(one) is type(other)
    return Validation(True, tuple(o.value for o in first)) if alike else found


def _unrun_fails(first: Sequence[Outcome], second: Sequence[Outcome]) -> Validation:
    bad = [index for index, outcome in enumerate(first) if not outcome.ok]
    return Validation(False, (), first[bad[0]].kind, "", bad[0]) if bad else verdict(first, second)


def _infra_fails(first: Sequence[Outcome], second: Sequence[Outcome]) -> Validation:
    for index, pair in enumerate(zip(first, second, strict=True)):
        for outcome in pair:
            if not outcome.ok:
                return Validation(False, (), outcome.kind, outcome.detail, index)
    return verdict(first, second)


NAN = float("nan")


def _levels() -> list[tuple[dict[str, str]]]:
    names = ("seccomp", "no_new_privs", "namespaces", "empty_root", "landlock")
    sets = ("11111", "01111", "10111", "11000", "11100", "11110", "11001", "00000", "11010")
    off = "off: not available on this kernel"
    return [({name: "on" if bit == "1" else off for name, bit in zip(names, bits, strict=True)},) for bits in sets]


def _on(layers: dict[str, str]) -> set[str]:
    return {name for name, state in layers.items() if state == "on"}


def _count(layers: dict[str, str]) -> Level:
    return Level.FULL if len(_on(layers)) == len(layers) else Level.KERNEL if _on(layers) else Level.WEAK


def _seccomp_alone(layers: dict[str, str]) -> Level:
    if "seccomp" not in _on(layers):
        return Level.WEAK
    return Level.FULL if {"namespaces", "empty_root"} <= _on(layers) or "landlock" in _on(layers) else Level.KERNEL


def _any_wall(layers: dict[str, str]) -> Level:
    if not {"seccomp", "no_new_privs"} <= _on(layers):
        return Level.WEAK
    return Level.FULL if {"namespaces", "empty_root", "landlock"} & _on(layers) else Level.KERNEL


def _both_doors(layers: dict[str, str]) -> Level:
    gone = not {"seccomp", "no_new_privs"} & _on(layers)
    return Level.WEAK if gone else level_of({**layers, "seccomp": "on", "no_new_privs": "on"})


def _one_wall(layers: dict[str, str], *missing: str) -> Level:
    """The level where these walls are not known to be any."""
    return level_of({**layers, **dict.fromkeys(missing, "off")})


exercise(
    name="level_of", key=level_of, points=1, probes=_levels,
    hint="First: is the filter there, with no_new_privs? Only then ask for a second wall.",
    mistakes=[
        Mistake(_count, "it counts layers. They are not worth the same: without the system-call filter (seccomp, which needs no_new_privs) all the others together are still WEAK, and with it one good second wall is enough for FULL"),
        Mistake(_seccomp_alone, "it accepts a filter without no_new_privs. Then a program could start one that gains rights by a set-uid bit; the two belong together"),
        Mistake(_any_wall, "it takes namespaces without the empty root (or the reverse) for a second wall. A new mount namespace shows the same files as before until its root is emptied: both, or Landlock"),
        Mistake(lambda layers: _one_wall(layers, "namespaces"),
            "it takes Landlock for the only second wall; namespaces together with the empty root are another"),
        Mistake(lambda layers: _one_wall(layers, "landlock"),
            "it takes namespaces with the empty root for the only second wall; Landlock by itself is another"),
        Mistake(lambda layers: max(_one_wall(layers, "namespaces"), _one_wall(layers, "landlock"), key=list(Level).index),
            "it asks for Landlock *and* namespaces with the empty root; one of the two is wall enough"),
        Mistake(_both_doors, "it says WEAK only when both are missing; one of `seccomp` and `no_new_privs` missing is enough"),
        Mistake(lambda layers: level_of(dict.fromkeys(layers, "on")), "it does not tell \"on\" from \"off: why\". Every layer is *named*, on or off; and the letters \"on\" are also inside \"off: not available on this kernel\". Compare the whole text"),
    ],
)  # fmt: skip


FULL = "'" + "x" * 4094 + "'"
LONG = "0," * 6000
OVER = FULL[:-1] + "x'"
READ = (FULL, OVER, " " * 4096 + "1", "None", "{[]: 1}", "[1, -2.5, 'a']", "{'k': (True, None)}", " {1, 2} ", "b'x'", "nothing(1)", "nobody", "__import__('os').getpid()", "1 if True else 2", "[0][0]", "2 + 3",
        "(lambda: 7)()", "[n for n in (1, 2)]", "", "(" * 300, "-" * 3000 + "1", "true", "NaN", LONG)  # fmt: skip


def _read_all(mine: Callable[[str], Any]) -> list[Any]:
    """What it made of each text: a value, "refused" for any ValueError, or another error; last, whether the long text
    was parsed."""
    with mock.patch.object(ast, "parse", wraps=ast.parse) as parse:
        seen = [_quiet(mine, text) for text in READ]
    return [*seen, any(LONG in call.args for call in parse.call_args_list)]


def _quiet(mine: Callable[[str], Any], text: str) -> Any:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = mine(text)
        return repr(value) if value is not ... and value is not None else value
    except ValueError:
        return "refused"
    except TimeoutError:
        raise
    except BaseException as error:
        return Raised(type(error).__name__, str(error)[:80])


def _caught(reader: Callable[[str], Any], limit: int = 4096) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if len(text) > limit:
            raise ValueError("too long")
        try:
            return reader(text.strip())
        except ValueError:
            raise
        except BaseException as error:
            raise ValueError("not a literal") from error

    return read


def _json_too(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except ValueError:
        return json.loads(text)


def _none_refused(text: str) -> Any:
    if text == "None":
        raise ValueError("no value")
    return read_value(text)


exercise(
    name="read_value", key=read_value, points=2, observe=_read_all,
    shows=[*(f"read_value({text[:40]!r}{' …' if len(text) > 40 else ''})" for text in READ), "whether a text of 12,000 characters is parsed"],
    hint="Let `ast.literal_eval` read, refuse texts over 4,096 characters, and turn every other error into a ValueError.",
    mistakes=[
        Mistake(_caught(ast.literal_eval, 1 << 40), "it reads texts of any length: a million numbers in one answer cost memory and time in the trainer, not in the sandbox. Refuse over 4,096 characters before reading"),
        Mistake(ast.literal_eval, "`ast.literal_eval` is the right reader, but hostile text makes it raise more than ValueError (SyntaxError, RecursionError, MemoryError …) and read megabytes. Limit the length first, and turn every such error into a ValueError"),
        Mistake(_caught(lambda text: eval(text, {"__builtins__": {}})), "eval without builtins still evaluates: `2 + 3` and `[0][0]` become answers nobody worked out, and `().__class__.__mro__` leads back to everything. Read, never evaluate"),
        # The probes are our own texts and harmless; evaluating them is the mistake that this exercise is about.
        Mistake(lambda text: eval(text), "it evaluates the text. The text was written by a model that is rewarded for tricks: `__import__('os')…` would run in the trainer, with the trainer's rights"),
        Mistake(lambda text: read_value(text.strip()),
            "it takes the space around a text away before it measures it; 4,096 spaces and a 1 are over 4,096 characters"),
        Mistake(_caught(ast.literal_eval, 4095), "it refuses a text of exactly 4,096 characters; *over* 4,096 is too long"),
        Mistake(_caught(_json_too), "it knows the words of JSON: `true` and `NaN` are names in Python, no literals. "
            "An answer is read one way"),
        Mistake(_none_refused, "it takes the literal `None` for no value; None is an answer like others"),
        Mistake(_caught(json.loads), "it reads JSON, not Python: `True`, `None`, tuples, sets and bytes are lost"),
    ],
)  # fmt: skip


def _pairs() -> list[tuple[Any, Any, str]]:
    pairs: list[tuple[Any, Any]] = [
        ([1, 2], [1, 2]), ([1, 2], (1, 2)), (1, True), (1, 1.0), ("1", 1), ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (-0.0, 0.0), (NAN, NAN), ([NAN], [NAN]), ({3, 1, 2}, {1, 2, 3}), (0.1 + 0.2, 0.3),
        (1.0, NAN),
        ([1, [2]], [1, [2.0]]), ({1, 2}, {True, 2}), ({1: "a"}, {True: "a"}), ({NAN}, {NAN}), ("banana", "banana"),
    ]  # fmt: skip
    return [(a, b, mode) for a, b in pairs for mode in ("python", "typed")]


def _texts(a: Any, b: Any, mode: str) -> bool:
    try:
        return canonical(a) == canonical(b)
    except ValueError:
        return False


def _same_type(a: Any, b: Any, mode: str) -> bool:
    return bool(a == b) and (mode == "python" or type(a) is type(b))


exercise(
    name="compare", key=compare, points=2, probes=_pairs,
    hint="`canonical(value)` is one text for each value, and raises WireError (a ValueError) for NaN.",
    mistakes=[
        Mistake(lambda a, b, mode: canonical(a) == canonical(b) if mode == "typed" else a == b, "it forgets NaN: `canonical` raises WireError there, which must become False; and `[nan] == [nan]` is True in Python when both hold the same object, so mode \"python\" must ask `canonical` too"),
        Mistake(lambda a, b, mode: canonical(b) == canonical(a) if (mode, a) == ("typed", 1.0) else compare(a, b, mode),
            "NaN may be in the second value alone: `canonical(b)` raises there too, and that must become False"),
        Mistake(_texts, "it is \"typed\" in both modes: equal canonical texts mean equal types as well. In "
            "\"python\" True, 1 and 1.0 are equal; there `==` decides, and `canonical` is only asked whether NaN is "
            "inside"),
        Mistake(_same_type, "\"typed\" must reach inside and see the sign of zero; `type(a) is type(b)` looks at the outside only, and `==` says -0.0 is 0.0 and (in a list) nan is nan. The canonical texts tell them all apart"),
        Mistake(lambda a, b, mode: a == b, "it takes no notice of the mode: in \"typed\", True, 1 and 1.0 are three values, and so are 0.0 and -0.0. (And `[nan] == [nan]` is True in Python when both hold the same object)"),
        Mistake(lambda a, b, mode: repr(a) == repr(b), "it compares `repr`: equal dicts may be written in two orders, True and 1 in two ways, and nan is written like any number. `canonical` sorts, and refuses nan"),
        Mistake(lambda a, b, mode: str(a) == str(b), "it compares printed texts: '1' and 1 print alike, and equal dicts print in the order they were filled"),
        Mistake(lambda a, b, mode: abs(a - b) < 1e-9 if isinstance(a, float) and isinstance(b, float) and a and b else compare(a, b, mode), "it forgives small differences of floats. An answer is right or it is not: with a tolerance, the proposer's programs are judged more mildly than they compute"),
    ],
)  # fmt: skip


exercise(
    name="verdict", key=verdict, points=3, observe=lambda mine: [_said(mine, *pair) for pair in WORLDS.values()],
    shows=[f"[ok, outputs, reason, index] of verdict(first, second) for {name!r}: it" for name in WORLDS],
    hint="First world first; \"infra\" means not run; then compare `canonical(one.value)` input by input.",
    mistakes=[
        Mistake(_outside,
            "`type(a) is type(b)` looks at the outside only: [1] and [True] are two lists that `==` takes for equal. "
            "Compare the canonical texts"),
        Mistake(_unrun_fails,
            "in the first world it takes \"infra\" for a failure. That input was not run, because another one had "
            "failed: pass over it"),
        Mistake(lambda first, second: verdict(first, [Outcome("crash") if o.kind == "infra" else o for o in second]),
            "it does not pass over \"infra\" in the second world: that input was not run there, so it shows no "
            "difference"),
        Mistake(_loose, "it compares with `==`, for which True is 1: a program that returns True in one world and 1 in the other is not deterministic. Compare the canonical texts"),
        Mistake(_second_word, "it keeps the second world's word (exception, crash, value, rejected, protocol) as the "
            "reason. The first world ended well, so all of these mean one thing: the worlds differ, "
            "\"non_deterministic\". Only \"timeout\" and \"memory\" keep their names"),
        Mistake(_never_late, "it calls a time-out, or running out of memory, in the second world \"non_deterministic\". The program may be perfectly regular and only slow or large, and the proposer should be told the true reason"),
        Mistake(_late_first, "a time-out at a later input hides a difference at an earlier one. In the second world, go input by input: the first that is not as it should be decides"),
        Mistake(_infra_fails, "\"infra\" is no failure of the program: that input was not run, because an earlier one had failed. And an exception in the second world only means the program is not deterministic"),
        Mistake(_interleaved, "it goes through both worlds at once, so that a difference at an early input hides a failure at a later one. The first world decides first, over all its inputs: two loops, one after the other"),
        Mistake(_one_loop, "it compares value with value and never asks how the second world ended. What timed out, or was not run (\"infra\"), has the value None, which differs from everything; and True == 1. Look at `other.kind` first, then at canonical texts"),
        Mistake(_by_repr, "it compares `repr`: equal sets and dicts may be written in two orders. `canonical` sorts"),
        Mistake(lambda first, second: verdict(first), "it looks at the first world only, so programs that hang on the order of a set, on `id` or on the clock pass. The second world is the whole proof"),
    ],
)  # fmt: skip


GOLD = "gold-7351"


_CASES: list[tuple[Outcome, Any]] = [
    (Outcome("ok", GOLD), GOLD), (Outcome("ok", "silver"), GOLD), (Outcome("timeout"), None), (Outcome("ok", None), None),
    (Outcome("exception", detail="AssertionError"), GOLD), (Outcome("ok", (1, 2)), [1, 2]), (Outcome("ok", 1), "1"),
    (Outcome("crash"), None), (Outcome("ok", 1), True),
]  # fmt: skip


def _with_spy(mine: Callable[..., Any], made: Outcome, gold: Any) -> Any:
    """The verdict, and whether what went to the sandbox knew the gold."""
    programs: list[str] = []
    given: list[str] = []

    def run(program: str, inputs: Sequence[tuple[Any, ...]]) -> list[Outcome]:
        if any(type(one) is not tuple or one[:2] != (5, "a") for one in inputs):
            raise TypeError("run(program, inputs) wants a list of argument tuples, here [(5, 'a')]")
        programs.append(program)
        given.append(repr(list(inputs)))
        return [made] * len(inputs)

    found = tried(mine, run, "def f(x, y):\n    return x", (5, "a"), gold)
    if found is ... or found is None or isinstance(found, Raised):
        return found
    told = [where for where, texts in (("program", programs), ("inputs", given)) if any(GOLD in text for text in texts)]
    return [bool(found), f"gold told in: {', '.join(told) or 'nothing'}"]


def _pasted(run: Callable[..., list[Outcome]], program: str, candidate: tuple[Any, ...], gold: Any) -> bool:
    (outcome,) = run(f"{program}\ndef g(*args):\n    return f(*args) == {gold!r}", [candidate])
    return outcome.ok and compare(outcome.value, gold)


def _as_input(run: Callable[..., list[Outcome]], program: str, candidate: tuple[Any, ...], gold: Any) -> bool:
    return all(o.ok and compare(o.value, gold) for o in run(program, [(*candidate, gold)]))


exercise(
    name="judge_candidate", key=judge_candidate, points=2,
    observe=lambda mine: [_with_spy(mine, *case) for case in _CASES],
    shows=[f"with an outcome of kind {made.kind!r}, value {made.value!r}, and gold {gold!r}, it" for made, gold in _CASES],
    hint="Run the program on the candidate; ask `outcome.ok` first; compare here.",
    mistakes=[
        Mistake(_pasted, "it pastes the expected output into the program that runs in the child. A hostile program can read it there (frames, constants, its own source) and return it. The child gets program and input; you compare out here"),
        Mistake(_as_input, "it passes the expected output along with the input, into the child: then `def f(*a): return a[-1]` is always right. Only the candidate goes in"),
        Mistake(lambda run, program, candidate, gold: all(
            o.kind != "timeout" and compare(o.value, gold) for o in run(program, [candidate])),
            "a time-out is one way to fail, and a crash another: whatever is not `ok` has the value None, which may "
            "be the gold"),
        Mistake(lambda run, program, candidate, gold: all(
            o.ok and compare(o.value, gold, "typed") for o in run(program, [candidate])),
            "it compares in the mode \"typed\"; verdicts go by Python's `==`, for which 1 and True are equal"),
        Mistake(lambda run, program, candidate, gold: compare(run(program, [candidate])[0].value, gold), "it does not ask how the run ended. A time-out has the value None, and where None is the gold, hanging would be the right answer"),
        Mistake(lambda run, program, candidate, gold: (lambda o: o.ok and list(map(str, [o.value])) == list(map(str, [gold])))(run(program, [candidate])[0]), "it compares printed texts: the number 1 and the text '1' print alike"),
        Mistake(lambda run, program, candidate, gold: run(program, [candidate])[0].ok, "it rewards running at all: any input that raises no error would be right"),
    ],
)  # fmt: skip
