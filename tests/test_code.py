"""The judge of programs, with references, broken programs and cheats; extraction of the three protocols."""

import gzip
import importlib.metadata
import json
import sys
import tempfile
from types import SimpleNamespace

import pytest

from azr_lite.errors import ConfigError, EvaluationError
from azr_lite.evaluation.benchmarks.code import (
    CHAT_PREFILL,
    CHAT_PROMPT,
    CodeSuite,
    Oracle,
    code_suite,
    extract_azr,
    read_line,
    run_program,
)
from azr_lite.evaluation.suite import Options, Reply, Setting, read_data
from azr_lite.prompts import get_style
from azr_lite.sandbox import wire

needs_evalplus = pytest.mark.skipif(
    importlib.util.find_spec("evalplus") is None or sys.platform != "linux",
    reason="needs evalplus (pip install 'azr-lite[eval]') and Linux",
)
MINI = read_data("humanevalplus-mini", shipped="HumanEvalPlus-Mini.jsonl.gz").rows
TASKS = [0, 2, 4, 10, 17, 33, 38, 47, 53, 90, 99, 115, 125, 162]
"""Floats with and without tolerance, None, strings, lists, mixed types, hashlib, encode and decode."""


def setting(style="r1", source="", **options):
    return Setting("", get_style(style), None, str(source), Options(**options))


def suite(tmp_path, protocol="evalplus", chat=True, rows=None, name="humanevalplus-mini"):
    path = tmp_path / "questions.jsonl.gz"
    with gzip.open(path, "wt") as file:
        for row in rows if rows is not None else [MINI[0]]:
            file.write(json.dumps(row) + "\n")
    return code_suite(name, setting("chat" if chat else "r1", code_protocol=protocol, source=path))


def reference(row):
    return row["prompt"] + row["canonical_solution"]


def reply(text, truncated=False):
    return Reply("", text, 1, truncated)


def azr(program):
    return reply(f" easy </think>\n<answer>\n```python\n{program}\n```\n</answer>")


def broken(row):
    """Right name, wrong value whatever is expected."""
    return f"def {row['entry_point']}(*arguments):\n    return 'broken', arguments\n"


@needs_evalplus
def test_references_pass_and_broken_programs_fail_several_samples_a_task(tmp_path):
    rows = [MINI[number] for number in TASKS]
    made = suite(tmp_path, "azr", rows=rows)
    questions = made.questions()
    assert [question.id for question in questions] == [row["task_id"] for row in rows]
    replies = [
        (q, azr(program(row))) for q, row in zip(questions, rows, strict=True) for program in (reference, broken)
    ]
    marks = made.grade(replies)
    assert [mark.right for mark in marks] == [True, False] * len(rows), [m.reason for m in marks]
    assert all(mark.parts == {"base": mark.right, "plus": mark.right} and mark.lenient == mark.right for mark in marks)
    assert made.layers["namespaces"] == "on" or made.layers["system_calls"] == "on"
    again = made.grade([*replies[2:4], *replies[:2]])
    assert [mark.right for mark in again] == [True, False, True, False]  # a subset, in another order


@needs_evalplus
def test_a_right_program_may_use_numpy(tmp_path):
    """It was once marked wrong: the folder that holds numpy could not be listed in the jail."""
    program = (
        "def mean_absolute_deviation(numbers):\n    import numpy as np\n    a = np.array(numbers)\n"
        "    return float(np.mean(np.abs(a - a.mean())))\n"
    )
    made = suite(tmp_path, "azr", rows=[MINI[4]])
    (mark,) = made.grade([(made.questions()[0], azr(program))])
    assert mark.right, mark.reason


ROW = MINI[53]  # add(x, y)
EQUAL = "class Yes(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\ndef add(x, y):\n    return Yes()\n"
FRAMES = (
    "import sys\ndef add(x, y):\n    frame = sys._getframe(1)\n    while frame:\n        if 'expected' in "
    "frame.f_locals:\n"
    "            return frame.f_locals['expected'][frame.f_locals['i']]\n        frame = frame.f_back\n"
)
PATCHED = (
    "import sys\ndef add(x, y):\n    frame = sys._getframe(1)\n    if 'expected' in frame.f_locals:\n"
    "        frame.f_locals['expected'][:] = [0] * len(frame.f_locals['expected'])\n    return 0\n"
)
FORGED = (
    'import json, os\nfor fd in range(1, 20):\n    for line in [\'{"part":0}\', \'{"v":1}\', \'{"eval": {"HumanEval/53": [["pass", "pass"]]}}\']:\n'
    "        try: os.write(fd, (line + '\\n').encode() * 50)\n        except OSError: pass\ndef add(x, y): return 1\n"
)
BUILTINS = "import builtins\nbuiltins.all = lambda *_: True\nbuiltins.abs = lambda *_: 0\nbuiltins.len = lambda *_: 0\ndef add(x, y): return 0\n"
NUMPY = "import numpy\nnumpy.allclose = lambda *_, **__: True\ndef add(x, y): return x + y + 1\n"
CHEATS = {
    "always equal": EQUAL,
    "looks into frames": FRAMES,
    "changes the expected answers": PATCHED,
    "prints a forged result": FORGED,
    "patches builtins": BUILTINS,
    "patches numpy": NUMPY,
    "exits": "import sys\ndef add(x, y):\n    sys.exit(0)\n",
    "exits at once": "import os\nos._exit(0)\ndef add(x, y): return x + y\n",
    "exits in the call": "import os\ndef add(x, y):\n    os._exit(0)\n",
    "kills its grader": "import ctypes\nctypes.CDLL(None).kill(-1, 9)\ndef add(x, y): return 0\n",
    "counts its calls": "calls = []\ndef add(x, y):\n    calls.append(1)\n    return x + y if len(calls) < 3 else 0\n",
    "nothing": "pass\n",
}


@needs_evalplus
def test_cheats_fail(tmp_path):
    """Which layer stops each:

    * the value crosses as data and is compared outside: always equal (the object arrives as the number it is), patches
      builtins, patches numpy, counts its calls, exits, nothing (no value);
    * no expected answer is in the process or in the jail: looks into frames, changes the expected answers, prints a
      forged result (a forged line is no more than what it returns; too many lines are wrong);
    * the end is told last: exits at once, exits in the call;
    * a pid namespace and a uid of its own: kills its grader.
    """
    made = suite(tmp_path, "azr", rows=[ROW])
    question = made.questions()[0]
    texts = [reference(ROW), *CHEATS.values()]
    marks = made.grade([(question, azr(text)) for text in texts])
    assert [name for name, mark in zip(["reference", *CHEATS], marks, strict=True) if mark.right or mark.lenient] == [
        "reference"
    ]
    assert not any(mark.parts["base"] or mark.parts["plus"] for mark in marks[1:])
    assert all(mark.reason for mark in marks[1:])


@needs_evalplus
def test_the_judge_knows_tolerance_and_special_cases():
    def right(dataset, entry, wanted, said, arguments=(), atol=0):
        oracle = Oracle({"task_id": f"{dataset}/0", "entry_point": entry, "atol": atol})
        return oracle.right(arguments, line(wanted), line(said))

    def line(value):
        text = "" if type(value) is object else wire.encode(value, wire.UNCAPPED)
        return ["v", wire.parse(text, wire.UNCAPPED), ""] if text else ["o"]

    nan = ["o"]  # what is told of it: it equals nothing
    assert right("HumanEval", "f", 1.0, 1.0 + 5e-7)
    assert not right("HumanEval", "f", 1.0, 1.0 + 5e-6)
    assert not right("HumanEval", "f", 10**6, 10**6 + 1)
    assert right("HumanEval", "f", [1, 2], [1, 2.00005], atol=1e-4)
    assert not right("HumanEval", "f", [1, 2], (1, 2.00005), atol=1e-4)
    assert right("HumanEval", "f", (1, 2), (True, 2.0))
    assert not Oracle({"task_id": "HumanEval/0", "entry_point": "f", "atol": 0}).right((), nan, nan)
    assert right("Mbpp", "similar_elements", (1, 2), (2, 1))
    assert not right("Mbpp", "f", (1, 2), (2, 1))
    assert right("Mbpp", "check_str", object(), object())
    assert right("Mbpp", "check_str", object(), True)
    assert not right("Mbpp", "check_str", object(), None)
    assert not right("Mbpp", "f", object(), object())
    assert right("Mbpp", "sum_div", 5, 0)
    exact, number = ["v", 1.0, ""], ["v", 1.0 + 1e-8, "float64"]
    oracle = Oracle({"task_id": "HumanEval/0", "entry_point": "f", "atol": 0})
    assert oracle.right((), exact, ["v", 1.0, "float64"])
    assert not oracle.right((), exact, number), "evalplus grants its tolerance to equal types only"


@needs_evalplus
def test_the_task_that_evalplus_cannot_pass_is_not_passed_here_either(tmp_path):
    made = suite(tmp_path, "azr", rows=[MINI[32]])
    mark = made.grade([(made.questions()[0], azr(reference(MINI[32])))])[0]
    assert not mark.right


@needs_evalplus
def test_mbpp_rows_with_tuples_sets_and_loose_oracles(tmp_path):
    rows = {row["task_id"]: row for row in read_data("mbppplus", shipped="MbppPlus.jsonl.gz").rows}
    chosen = [rows[f"Mbpp/{number}"] for number in (2, 124, 223, 252, 722, 794, 581, 750)]
    made = suite(tmp_path, "azr", rows=chosen, name="mbppplus")
    replies = [
        (q, azr(program(row)))
        for q, row in zip(made.questions(), chosen, strict=True)
        for program in (reference, broken)
    ]
    # the reference of Mbpp/794 returns a match object or None; evalplus takes True and False for these
    loose = "import re\ndef text_starta_endb(text):\n    return bool(re.search('a.*?b$', text))"
    marks = made.grade([*replies, (made.questions()[5], azr(loose))])
    assert [mark.right for mark in marks] == [True, False] * len(chosen) + [True], [m.reason for m in marks]


@needs_evalplus
def test_the_chat_protocol_is_evalplus_own_and_never_mixed(tmp_path):
    chat, direct, own = suite(tmp_path), suite(tmp_path, chat=False), suite(tmp_path, "azr")
    assert {made.name for made in (chat, direct, own)} == {
        f"humanevalplus-mini-{p}" for p in ("evalplus-chat", "evalplus-direct", "azr")
    }
    prompt = chat.questions()[0].prompt
    assert prompt.chat
    from evalplus.codegen import run_codegen
    from evalplus.provider.utility import make_raw_chat_prompt

    words = [text.split("\n")[0] for text in (CHAT_PROMPT, CHAT_PREFILL)]
    assert set(words) <= set(run_codegen.__code__.co_consts)
    stand_in = SimpleNamespace(
        chat_template="", apply_chat_template=lambda each, **_: "\0".join(m["content"] for m in each)
    )
    assert make_raw_chat_prompt(MINI[0]["prompt"], *words, stand_in) == f"{prompt.text}\0{prompt.prefill}"
    assert prompt.text.startswith("Please provide a self-contained Python script")
    assert prompt.text.endswith(f"```\n{MINI[0]['prompt'].strip()}\n```\n")
    assert prompt.prefill.endswith("```python\n")
    assert (chat.max_tokens, chat.temperature, chat.samples) == (768, 0.0, 1)
    assert "\n```\n" in chat.stop
    assert "\ndef " not in chat.stop
    assert direct.questions()[0].prompt.text == MINI[0]["prompt"].strip() + "\n"
    assert not direct.questions()[0].prompt.chat
    assert "\ndef " in direct.stop
    assert own.questions()[0].prompt.prefill == "<think>"
    assert own.stop == ("</answer>",)


@needs_evalplus
def test_extraction_of_evalplus_protocols_and_what_form_costs(tmp_path):
    code = reference(ROW)
    body = ROW["canonical_solution"]
    chat, direct = suite(tmp_path, rows=[ROW]), suite(tmp_path, rows=[ROW], chat=False)
    question = chat.questions()[0]
    cases = [
        (reply(code + "\n```\n"), True, True),
        (reply(code + "\nprint(add(1, 2))"), True, True),
        (reply("Here it is, hope it helps:\n" + code + "\n```\n"), False, True),
        (reply(code, truncated=True), False, True),
        (reply("```\n"), False, False),
    ]
    marks = chat.grade([(question, one) for one, _, _ in cases])
    assert [(mark.right, mark.lenient) for mark in marks] == [(right, lenient) for _, right, lenient in cases], marks
    assert [mark.well_formed for mark in marks] == [True, True, True, False, False]
    marks = direct.grade(
        [(direct.questions()[0], one) for one in (reply(body + "\ndef other(): pass"), reply("    return 0\n"))]
    )
    assert [mark.right for mark in marks] == [True, False]


def test_extraction_of_the_azr_protocol():
    def form(answer):
        return f"<think>first\n```python\nwrong = 1\n```\n</think>\n<answer>{answer}</answer>"

    found = extract_azr(form("\n```python\na = 1\n```\nbetter:\n```python\nb = 2\n```\n"), "g")
    assert (found.strict.strip(), found.well_formed) == ("b = 2", True)
    found = extract_azr(form("\n```\nc = 3\n```\n"), "g")
    assert (found.strict, found.well_formed, found.lenient.strip()) == ("c = 3", True, "wrong = 1")
    found = extract_azr("no tags\n```py\nd = 4\n```\n", "g")
    assert (found.strict, found.lenient.strip(), found.reason) == ("", "d = 4", "not_well_formed")
    assert extract_azr("```python\nopen = 'to the end'", "g").lenient == "open = 'to the end'"
    assert extract_azr("nothing", "g").lenient == ""


@needs_evalplus
def test_values_come_back_as_builtins_and_hostile_lines_are_no_values():
    import io

    program = """
from collections import Counter, OrderedDict, deque, namedtuple
from decimal import Decimal
from fractions import Fraction
import numpy
class Cheat(int):
    def __eq__(self, other): return True
    __hash__ = int.__hash__
def f():
    plain = [None, True, 1, -(10**400), 1.5, float("inf"), "é", b"x", (1, [2]), {1: (2,)}, {1, (2, 3)}, 1j, {frozenset({1})}]
    return plain + [
        Fraction(1, 2), Decimal("1.50"), Counter("aab"), OrderedDict(a=1), namedtuple("P", "x")(1), numpy.float64(1.5), numpy.int64(3),
        {1: 2}.keys(), Cheat(7),
    ]
def g(): return Cheat(7)
def h(): return deque([1])
"""
    found = []
    for entry in "fgh":
        out = io.BytesIO()
        with tempfile.TemporaryFile() as file:
            run_program(program, entry, [()], file, seconds=20)
            file.seek(0)
            out.write(file.read())
        out.seek(0)
        found.append(read_line(out, 1 << 20))
    values = found[0][1]
    plain = [None, True, 1, -(10**400), 1.5, float("inf"), "é", b"x", (1, [2]), {1: (2,)}]
    plain += [{1, (2, 3)}, 1j, {frozenset({1})}]
    assert values == [*plain, 0.5, 1.5, {"a": 2, "b": 1}, {"a": 1}, (1,), 1.5, 3, {1}, 7]
    assert type(values[-1]) is int
    assert found[1:] == [["v", 7, "Cheat"], ["o"]]
    hostile = (b"", b"[", b"7", b'["v",NaN]', b'["v",{"a":1,"b":2}]', b"\xff")
    hostile += (b'["v",{"i":"zz"}]', b'["v",{"s":[[1]]}]', b'["v",{"c":["x","1"]}]', b'["v",{"q":[]}]')
    for line in (*hostile, b'["v",' + b"9" * 5000 + b"]", b"[" * 100000):
        assert read_line(io.BytesIO(line + b"\n"), 1 << 20) == []


def test_missing_evalplus_and_wrong_names_are_one_clear_sentence(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="unknown protocol 'mine' for code; choose from: evalplus, azr"):
        setting(code_protocol="mine")

    def gone(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", gone)
    with pytest.raises(EvaluationError, match=r"pip install 'azr-lite\[eval\]'"):
        suite(tmp_path)
    made = suite(tmp_path, "azr")
    with pytest.raises(EvaluationError, match=r"evalplus 0\.3\.1"):
        made.grade([(made.questions()[0], azr("x"))])
    assert isinstance(made, CodeSuite)
