"""V01-V17: what may cross, exactly, and what is refused."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import HealthCheck, given, settings

from azr_lite.sandbox import Executor, wire
from azr_lite.sandbox.literal import read_arguments, read_value
from tests.sandbox.conftest import Case, kinds
from tests.sandbox.values import plain

many = settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))


@many
@given(plain)
def test_V01_every_type_round_trips(value: object) -> None:
    text = wire.encode(value)
    assert wire.canonical(wire.decode(text)) == wire.canonical(value)
    assert wire.encode(wire.decode(text)) == text
    assert wire.compare(read_value(wire.render(value), 1 << 16), value, "typed")
    assert wire.compare(read_arguments(wire.render(value) + ",", 1 << 16)[0], value, "typed")


def test_V01_signed_zeros_of_complex_numbers() -> None:
    parts = (0.0, -0.0, 1.5, -1.0, math.inf, -math.inf)
    for value in (complex(real, imaginary) for real in parts for imaginary in parts):
        assert wire.compare(read_value(wire.render(value)), value, "typed")


def test_V01_through_a_child(strict: Executor) -> None:
    from hypothesis import find, strategies

    values = [find(strategies.lists(plain, min_size=30, max_size=30), lambda v: True)]
    values += [
        1,
        -0.0,
        math.inf,
        2**4000,
        "é☃\x00",
        b"\xff",
        1j,
        (1, [2]),
        {1: {2, "a"}},
        frozenset({(1, 2)}),
        set(),
        None,
        True,
    ]
    for value, outcome in zip(values, strict.run("def f(x): return x", [(v,) for v in values]), strict=True):
        assert outcome.kind == "ok"
        assert wire.compare(outcome.value, value, "typed")


def test_V02_bool_int_float_apart(case: Case) -> None:
    assert [repr(o.value) for o in case("def f(x): return x", True, 1, 1.0, [True, 1, 1.0])] == [
        "True",
        "1",
        "1.0",
        "[True, 1, 1.0]",
    ]
    assert case("def f(x): return type(x).__name__", True, 1, 1.0)[0].value == "bool"


def test_V03_signed_zero_infinity_nan(case: Case) -> None:
    zero, infinity, nan, inside = case(
        "def f(x): return {0: -0.0, 1: -1e999, 2: 1e999 * 0, 3: [complex(1e999 * 0, 1)]}[x]", 0, 1, 2, 3
    )
    assert math.copysign(1, zero.value) == -1
    assert infinity.value == -math.inf
    assert (nan.kind, inside.kind) == ("value", "value")
    assert nan.detail.startswith("not_a_number")


def test_V04_int_of_4096_bits(case: Case) -> None:
    assert kinds(case("def f(n): return -(2**n - 1)", 4096, 4097)) == ["ok", "value"]
    assert case("def f(n): return 2**n - 1", 4096)[0].value == 2**4096 - 1


def test_V05_huge_int_leaks_no_value_error(case: Case) -> None:
    outcome = case("def f(x): return 10**50000")[0]
    assert (outcome.kind, outcome.detail.split(":")[0]) == ("value", "output_too_long")


def test_V06_text_at_the_cap(case: Case) -> None:
    assert kinds(case("def f(n): return 'a' * n", 65534, 65535)) == ["ok", "value"]  # two quotes on the wire


def test_V07_depth_at_the_cap(case: Case) -> None:
    program = "def f(n):\n    v = []\n    for _ in range(n - 1): v = [v]\n    return v"
    assert kinds(case(program, 40, 41)) == ["ok", "value"]
    assert kinds(case("def f(v): return v", eval("[" * 40 + "]" * 40))) == ["ok"]
    leaves = [eval("[" * 40 + leaf + "]" * 40) for leaf in ("1j", "b'a'", "2**60", "1e999", "'a'")]
    assert kinds(case("def f(v): return v", *leaves)) == ["ok"] * 5


def test_V08_cycle(case: Case) -> None:
    assert kinds(case("def f(x):\n    a = []\n    a.append(a)\n    return a")) == ["value"]


def test_V09_billion_laughs(case: Case) -> None:
    outcome = case("def f(x):\n    a = ['lol']\n    for _ in range(30): a = [a] * 10\n    return a")[0]
    assert outcome.kind == "value"
    assert outcome.cpu_ms < 200


def test_V10_lone_surrogate(case: Case) -> None:
    assert kinds(case("def f(x): return chr(0xd800)", 1)) == ["value"]
    assert kinds(case("def f(x): return x", "\ud800")) == ["rejected"]


def test_V11_mixed_sets_are_canonical(case: Case) -> None:
    outcome = case("def f(x): return [{1, 'a', (2, None), 2.5, b'x'}, frozenset({'b', 'a', 3})]")[0]
    assert outcome.value == [{1, "a", (2, None), 2.5, b"x"}, frozenset({"b", "a", 3})]
    assert wire.encode({"a", 1}) == wire.encode({1, "a"})
    assert wire.render({3, 1, 2}) == "{1, 2, 3}"


def test_V12_dict_in_another_order(case: Case) -> None:
    one = case("def f(x): return {'b': 1, 'a': 2}")[0].value
    assert wire.compare(one, {"a": 2, "b": 1}, "typed")
    assert wire.compare(one, {"a": 2, "b": 1}, "python")
    assert wire.canonical(one) == wire.canonical({"a": 2, "b": 1})


def test_V13_bytes_and_complex(case: Case) -> None:
    assert [o.value for o in case("def f(x): return x * 2", b"\x00\xff", 1 - 2j)] == [b"\x00\xff\x00\xff", 2 - 4j]


NOT_VALUES = [
    "(i for i in 'a')", "lambda: 1", "object()", "f", "type('C', (), {})()", "int", "range(3)", "iter([1])", "[print]", "{1: ...}",
    "NotImplemented", "memoryview(b'a')", "bytearray(b'a')", "{}.items()", "__builtins__",
]  # fmt: skip


@pytest.mark.parametrize("expression", NOT_VALUES)
def test_V14_no_objects(case: Case, expression: str) -> None:
    assert kinds(case(f"def f(x): return {expression}")) == ["value"]


SUBCLASSES = [
    "type('S', (str,), {})('a')", "type('I', (int,), {})(1)", "type('L', (list,), {})()", "collections.namedtuple('P', 'x')(1)",
    "enum.IntEnum('E', 'A').A", "collections.defaultdict(int)", "collections.Counter('aab')", "collections.OrderedDict()",
    "[type('F', (float,), {})(1)]",
]  # fmt: skip


@pytest.mark.parametrize("expression", SUBCLASSES)
def test_V15_subclasses_are_refused(case: Case, expression: str) -> None:
    assert kinds(case(f"import collections, enum\ndef f(x): return {expression}")) == ["value"]


def test_V16_lying_class(case: Case) -> None:
    program = "class L:\n    __class__ = property(lambda s: int)\n    def __eq__(s, o): return True\n    __hash__ = None\ndef f(x): return [L()]"
    assert kinds(case(program)) == ["value"]


def test_V17_thirty_megabytes_stay_in_the_child(case: Case) -> None:
    started = time.monotonic()
    outcome = case("def f(x): return ['a' * 30_000_000]")[0]
    assert outcome.detail.startswith("output_too_long")
    assert time.monotonic() - started < 5
