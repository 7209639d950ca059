"""R01-R12: the trusted reader takes what an honest harness writes and nothing else."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pytest

import azr_lite.sandbox
from azr_lite.sandbox import Limits, wire
from azr_lite.sandbox.schedule import read_answers
from tests.sandbox.conftest import NATIVE, Case, kinds

OK = b'{"s":"ok","v":1}\n'


def read(data: bytes, asked: int = 1) -> object:
    return read_answers(data, asked, whole=True)


def test_R01_random_bytes_never_raise() -> None:
    """100,000 frames: noise, mutations of good frames, and splices of their pieces."""
    rng = random.Random(1)
    good = [
        b'{"s":"ok","v":' + wire.encode(v).encode() + b"}\n"
        for v in (1, [1, (2, {"a": {3}})], {1: [b"x", 2j]}, 2**90, "é\n", float("inf"), frozenset({1}))
    ]
    good += [
        b'{"s":"exc","t":"ValueError","m":"x"}\n',
        b'{"s":"mem"}\n',
        b'{"s":"value","t":"output_too_long","m":""}\n',
    ]
    pieces = [
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b",",
        b":",
        b"1e999",
        b"NaN",
        b"-0",
        b"\\ud800",
        b'{"t":[',
        b'{"d":[[',
        b"\xff",
        b"\n",
        b"null",
    ]
    for round_ in range(100_000):
        data = bytearray(rng.choice(good))
        if round_ % 4 == 0:
            data = bytearray(rng.randbytes(rng.randrange(40)))
        for _ in range(rng.randrange(4)):
            at = rng.randrange(len(data) + 1)
            if rng.random() < 0.5:
                data[at:at] = rng.choice(pieces)
            else:
                data[at : at + rng.randrange(3)] = rng.randbytes(1)
        found = read_answers(bytes(data), rng.randrange(1, 3), whole=bool(round_ % 2))
        assert found is None or all(o.kind in ("ok", "exception", "value", "memory", "rejected") for o in found)


def test_R02_extra_line_voids(case: Case) -> None:
    assert read(OK + OK) is None
    assert kinds(case(NATIVE + 'def f(x):\n    posix.write(3, b\'{"s":"ok","v":1}\\n\')\n    return 1', 1, 2)) == [
        "protocol",
        "protocol",
    ]


def test_R03_half_line_voids(case: Case) -> None:
    assert read(OK[:-1]) is None
    assert kinds(case(NATIVE + "def f(x):\n    posix.write(3, b'{\"s\"')\n    posix._exit(0)")) == ["protocol"]


@pytest.mark.parametrize(
    "value", ['{"d":[[1,2],[1,3]]}', '{"s":[1,1]}', '{"z":[1,1]}', '{"d":[[1,2],[1.0,3]]}', '{"s":[1,true]}']
)
def test_R04_duplicates(value: str) -> None:
    assert read(b'{"s":"ok","v":' + value.encode() + b"}\n") is None


@pytest.mark.parametrize(
    "value",
    [
        '{"s":[2,1]}',
        '{"i":"5"}',
        '{"i":"0x20000000000000"}',
        " 1",
        "1.50",
        "1E5",
        '"\\u0041"',
        '{"b":"FF"}',
        "-0",
        '{"t": []}',
    ],
)
def test_R05_not_canonical(value: str) -> None:
    assert read(b'{"s":"ok","v":' + value.encode() + b"}\n") is None


def test_R06_sixty_thousand_brackets() -> None:
    assert read(b'{"s":"ok","v":' + b"[" * 60_000 + b"}\n") is None
    assert read(b"[" * 60_000 + b"\n") is None


@pytest.mark.parametrize(
    "token", [b"9" * 5000, b"9" * 18, b"0." + b"1" * 5000, b"1e" + b"9" * 5000, b'{"i":"' + b"f" * 5000 + b'"}']
)
def test_R07_long_numbers(token: bytes) -> None:
    assert read(b'{"s":"ok","v":' + token + b"}\n") is None


@pytest.mark.parametrize("token", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b'{"f":"nan"}', b'{"c":["nan","0.0"]}'])
def test_R08_no_nan_tokens(token: bytes) -> None:
    assert read(b'{"s":"ok","v":' + token + b"}\n") is None


def test_R09_flood_is_cut(case: Case) -> None:
    started = time.monotonic()
    outcome = case(NATIVE + "def f(x):\n    while True: posix.write(3, b'a' * 60000)", limits=Limits(cpu_s=20))[0]
    assert outcome.kind == "protocol"
    assert time.monotonic() - started < 15, "the flooding child was not killed early"


@pytest.mark.parametrize(
    "line",
    ['{"s":"ok"}', '{"s":"ok","v":1,"x":1}', '{"s":"exc","t":"E"}', '{"s":"exc","t":"E","m":1}', '{"s":"no","t":"E","m":""}', '{"s":"mem","m":""}',
     '{"v":1,"s":"ok"}', '{"s":"ok","v":{"q":[]}}', '{"s":"ok","v":{"t":[],"d":[]}}', '{"s":"ok","v":{"t":1}}', '{"s":"ok","v":{"d":[[1]]}}',
     '{"s":"ok","v":{}}', '{"s":"ok","v":{"c":["1.0"]}}', '{"s":"rej","t":"other","m":""}', '{"s":"value","t":"x","m":""}', "1", "[]", "null", '"a"', ""],
)  # fmt: skip
def test_R10_wrong_shape(line: str) -> None:
    assert read(line.encode() + b"\n") is None


def test_R11_exception_text_is_cleaned_and_cut(case: Case) -> None:
    program = (
        "E = type('Bad\\u202eName!' * 50, (Exception,), {})\ndef f(x): raise E('\\x1b[2J\\u202e\\n' + 'm' * 10**6)"
    )
    detail = case(program)[0].detail
    assert detail.isascii()
    assert detail.isprintable()
    assert len(detail) < 300
    assert detail.startswith("Bad")


def test_R12_no_code_loading_in_trusted_files() -> None:
    folder = Path(azr_lite.sandbox.__file__).parent
    for path in folder.glob("*.py"):
        source = re.sub(r'"""[\s\S]*?"""', "", path.read_text())
        found = re.findall(r"\b(pickle|marshal|shelve|literal_eval|eval\(|exec\()", source)
        assert found == (["exec("] if path.name == "harness.py" else []), path.name
