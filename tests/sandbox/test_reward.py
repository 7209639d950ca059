"""W01-W12: nothing a program does turns into a reward it has not earned."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from azr_lite.errors import InfrastructureError
from azr_lite.sandbox import Executor, Job, wire
from azr_lite.sandbox.literal import LiteralError, read_arguments, read_value
from azr_lite.sandbox.schedule import Ended, PlanRun
from tests.sandbox.conftest import NATIVE, QUICK, Case, kinds

LIAR = "class L:\n    def __eq__(self, other): return True\n    __hash__ = None\n    def __repr__(self): return '42'\n"


def test_W01_always_equal_scores_nothing(case: Case) -> None:
    assert kinds(case(LIAR + "def f(x): return L()")) == ["value"]
    with pytest.raises(LiteralError):
        read_arguments("L()")


@pytest.mark.parametrize(
    "text",
    [
        "0) or (True",
        "1)\nimport os\n(1",
        "*[1]",
        "x=1",
        "1 if True else 2",
        "**{}",
        "1); g(",
        "'a' 'b' + 'c'",
        "a := 1",
    ],
)
def test_W02_syntax_cannot_be_injected(text: str) -> None:
    with pytest.raises(LiteralError):
        read_arguments(text)
    with pytest.raises(LiteralError):
        read_value(text)


def test_W03_calling_f_is_no_answer() -> None:
    for text in ("f(1)", "f (1)", "(f)(1)", "[f(1)]", "set([f(1)])", "frozenset(f(1))"):
        with pytest.raises(LiteralError):
            read_value(text)


def test_W04_gold_is_not_in_the_child(case: Case) -> None:
    """The gold stands in this test's memory; the child looks through every object and its whole heap for half of it."""
    gold = "gold-" + "7f3a91" * 3
    half = gold[:14]
    program = NATIVE + (
        "def f(head, tail):\n    want = head + tail\n    gc = sys.modules['gc']\n    hits = 0\n"
        "    for o in gc.get_objects():\n        try: hits += want in repr(o)[:10000]\n        except Exception: pass\n"
        "    frame = sys._getframe()\n    while frame:\n        hits += sum(want in str(c) for c in frame.f_code.co_consts)\n"
        "        hits += sum(type(v) is str and want in v for k, v in frame.f_locals.items() if k != 'want')\n        frame = frame.f_back\n"
        "    return hits > 1\n"
    )
    outcome = case(program, (half[:7], half[7:]))[0]
    assert not (outcome.ok and outcome.value is True)
    assert gold.startswith(half)


def test_W05_forged_frames_void_the_run(case: Case) -> None:
    program = NATIVE + (
        'def f(x):\n    for fd in range(10):\n        try: posix.write(fd, b\'{"s":"ok","v":7}\\n\')\n        except OSError: pass\n    return 1'
    )
    assert kinds(case(program)) == ["protocol"]


def test_W06_forged_frame_then_exit_is_at_most_that_value(case: Case) -> None:
    program = NATIVE + 'def f(x):\n    posix.write(3, b\'{"s":"ok","v":7}\\n\')\n    posix._exit(0)'
    outcomes = case(program, 1, isolate=True)
    assert (outcomes[0].kind, outcomes[0].value) == ("ok", 7)  # the same as `return 7`


@pytest.mark.parametrize(
    "text",
    [
        "f(x)",
        "x",
        "[i for i in [1]]",
        "f'{1}'",
        "'a'.upper",
        "1 + 1",
        "not True",
        "-'a'",
        "[1][0]",
        "lambda: 1",
        "...",
        "(1 for x in [])",
        "dict(a=1)",
    ],
)
def test_W07_only_literals(text: str) -> None:
    with pytest.raises(LiteralError):
        read_value(text)


HOSTILE_TEXTS = [
    "[" * 4000, "(" * 4000 + ")" * 4000, "{" * 4000, "-" * 4000 + "1", "9" * 4000, "1e" + "9" * 4000, "0x" + "f" * 4000, "'" * 4001,
    "'''" * 1333, "\\" * 4000, "'" + "\\N{" * 1300 + "'", "b'" + "\\x" * 1999 + "'", "1_" * 2000, "{1:" * 1300, "set(" * 1000, "\x00" * 100,
    "é" * 4000, "\u202e1", "１２", "'\\U0011ffff'", "'\\ud800'", "#" * 4000, " " * 4000, "1" + ",1" * 1999, "'a'" * 1333, "inf" * 1000, "f" * 4000,
    "{" + ",".join(str(i * (2**61 - 1)) for i in range(180)) + "}", "not_a", "1j" * 1000, "0" * 4000, "x" * 10**6,
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=range(len(HOSTILE_TEXTS)))
def test_W08_hostile_answer_texts(text: str) -> None:
    for read in (read_value, read_arguments):
        started = time.process_time()
        try:
            wire.canonical(read(text))
        except (LiteralError, wire.WireError):
            pass
        assert time.process_time() - started < 0.1


@settings(deadline=None, max_examples=1000, suppress_health_check=list(HealthCheck))
@given(st.text(st.sampled_from("[](){}'\"\\,:0123456789_.eExXobjJ+-rRbBuUN#\n infTrueNostfrz"), max_size=60))
def test_W08_fuzzed_answer_texts(text: str) -> None:
    started = time.process_time()
    try:
        value = read_value(text)
    except LiteralError:
        return
    finally:
        assert time.process_time() - started < 0.1
    assert wire.compare(read_value(wire.render(value)), value, "typed")


def test_W08_reader_agrees_with_python() -> None:
    """Where Python's own reader takes a text, so do we, with the same value; what it refuses, we refuse (but inf,
    frozenset)."""
    import ast

    rng = random.Random(5)
    pieces = [
        "1",
        "-2",
        "0x1f",
        "1.5",
        ".5",
        "1e3",
        "2j",
        "'a'",
        '"b\\n"',
        "b'c'",
        "r'\\d'",
        "None",
        "True",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        ",",
        ":",
        " ",
        "+",
    ]
    agreed = 0
    for _ in range(30_000):
        text = "".join(rng.choice(pieces) for _ in range(rng.randrange(1, 8)))
        try:
            theirs = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError):
            theirs = LiteralError
        try:
            ours = read_value(text)
        except LiteralError:
            ours = LiteralError
        if theirs is LiteralError or ours is LiteralError:
            assert ours is theirs or "+" in text or "}" in text, text
        else:
            assert wire.compare(ours, theirs), text
            assert type(ours) is type(theirs), text
            agreed += 1
    assert agreed > 500


@pytest.mark.parametrize(
    "program",
    ["def f(x):\n    while True: pass", NATIVE + "def f(x): posix._exit(0)", NATIVE + "def f(x): posix.fork()"],
)
def test_W09_failures_have_no_value(case: Case, program: str) -> None:
    outcome = case(program)[0]
    assert not outcome.ok
    assert outcome.value is None


def zygotes(executor: Executor) -> list[int]:
    return [zygote.process.pid for zygote in executor._engine._zygotes]


def test_W10_zygote_killed_in_mid_wave_is_retried() -> None:
    from tests.sandbox.conftest import descendants

    with Executor(QUICK, workers=1) as executor:
        program = "def f(x):\n    n = 0\n    for i in range(300_000): n += 1\n    return x"
        jobs = [Job(program, ((i,),)) for i in range(60)]
        timer = threading.Timer(0.2, lambda: os.kill(descendants(zygotes(executor)[0])[0], 9))
        timer.start()
        found = executor.run_many(jobs)
        timer.join()
        assert [o[0].value for o in found] == list(range(60))
        assert executor.stats()["respawns"] == 1
        assert executor.stats()["infra"] >= 1
        assert executor.run("def f(x): return x", [(1,)])[0].value == 1


def inject(monkeypatch: pytest.MonkeyPatch, fails: Callable[[int], bool]) -> None:
    """Every try of a plan for which `fails` says so ends as the sandbox's own failure."""
    book = PlanRun._book
    monkeypatch.setattr(
        PlanRun, "_book", lambda run, ended: book(run, Ended(b"", "infra", "injected") if fails(run.tries) else ended)
    )


def test_W10_twenty_percent_injected_failures_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    programs = [
        ("def f(x): return x * 2", "ok"),
        ("def f(x): return 1 / x", "exception"),
        ("def f(x): return f", "value"),
        ("import os\ndef f(x): return 1", "rejected"),
    ]
    jobs = [Job(programs[i % 4][0], ((i % 3,), (7,))) for i in range(200)]
    items = [(jobs[i].program, jobs[i].inputs) for i in range(40)]
    with Executor(QUICK, workers=1) as calm:
        expected, valid = calm.run_many(jobs), calm.validate_many(items)
    inject(monkeypatch, lambda tried: tried == 1 and rng.random() < 0.2)
    with Executor(QUICK, workers=1) as shaken:
        found = shaken.run_many(jobs)
        assert [[(o.kind, o.value, o.detail) for o in os_] for os_ in found] == [
            [(o.kind, o.value, o.detail) for o in os_] for os_ in expected
        ]
        assert shaken.stats()["infra"] > 20
        assert [(v.ok, v.reason, v.outputs) for v in shaken.validate_many(items)] == [
            (v.ok, v.reason, v.outputs) for v in valid
        ]


def test_failing_again_and_again_is_an_error_and_no_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    inject(monkeypatch, lambda tried: True)
    with (
        Executor(QUICK, workers=1) as executor,
        pytest.raises(InfrastructureError, match="failed 3 times"),
    ):
        executor.run("def f(x): return x", [(1,)])


TABLE = [
    (1, True, True, False), (1, 1.0, True, False), (0.0, -0.0, True, False), ("1", 1, False, False), ([1], (1,), False, False), ([1, 2], [2, 1], False, False),
    ({1, 2}, {2, 1}, True, True), ({1}, frozenset({1}), True, False), ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True, True), ({"a": 1}, {"a": 1.0}, True, False),
    (float("nan"), float("nan"), False, False), ([float("nan")], [float("nan")], False, False), (float("inf"), float("inf"), True, True),
    (b"a", "a", False, False), (None, False, False, False), (2**70, 2.0**70, True, False), ((), (), True, True), (1j, 1j, True, True), ("é", "é", True, True),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b", "python", "typed"), TABLE)
def test_W11_comparator_table(a: object, b: object, python: bool, typed: bool) -> None:
    for one, other in ((a, b), (b, a)):
        assert wire.compare(one, other, "python") is python
        assert wire.compare(one, other, "typed") is typed
    with pytest.raises(ValueError, match="unknown equality mode"):
        wire.compare(a, b, "fuzzy")


def test_W12_too_long_is_rejected_never_cut(strict: Executor) -> None:
    found = strict.validate("def f(x): return 'a' * 70000", [(1,)])
    assert (found.ok, found.reason, found.outputs) == (False, "output_too_long", ())
