"""What models really write, marked: assertions of every form, blocks behind tags, and text that hurts a reader."""

from __future__ import annotations

import functools
import importlib.util
import sys
import time

import pytest

from azr_lite.evaluation.benchmarks import maths
from azr_lite.evaluation.benchmarks.code import code_suite, extract_azr
from azr_lite.evaluation.benchmarks.maths import maths_suite, read_answers
from azr_lite.evaluation.reasoning import AssertSuite, ReasoningSuite, assertions, candidates, induction_suite
from azr_lite.evaluation.suite import Mark, Options, Reply, Setting, blocks_in
from azr_lite.prompts import get_style
from azr_lite.triplet import Rules, Triplet
from azr_lite.verifier import Verifier
from tests.adversarial import NOISE, PROGRAMS, VALUES

CHAT, R1 = get_style("chat"), get_style("r1")
REVERSE, PAIR = "def f(x):\n    return x[::-1]", "def f(x, n=0):\n    return {'a': x, 'b': [n]}"
needs = {
    name: pytest.mark.skipif(
        importlib.util.find_spec(name) is None or sys.platform != "linux", reason=f"needs {name} and Linux"
    )
    for name in ("evalplus", "math_verify")
}


@pytest.fixture(scope="module")
def verifier(executor):
    return Verifier(executor, Rules())


def asserted(verifier, task, said, style=CHAT, wide=True):
    suite = AssertSuite("own", "assert", [("", task)], style, verifier, expressions=wide)
    return suite.grade([(suite.questions()[0], Reply("", said, 9))])[0]


FORMS = {
    "plain": "assert f('abc') == 'cba'",
    "by name": "assert f(x='abc') == 'cba'",
    "sides swapped": "assert 'cba' == f('abc')",
    "bold": "**assert f('abc') == 'cba'**",
    "code in a list": "- `assert f('abc') == 'cba'`",
    "quoted": "> assert f('abc') == 'cba'",
    "in brackets": "assert (f('abc') == 'cba')",
    "several lines": "assert f(\n    'abc'\n) == (\n    'cb'\n    'a'\n)",
    "in a block, with words": "```python\nassert f('abc') == 'cba'  # it's reversed\n```\nThat holds.",
    "the last counts": "assert f('abc') == 'abc'\nNo:\nassert f('abc') == 'cba'",
    "an unfinished one behind it": "assert f('abc') == 'cba'\nassert f([ ==",
}


@pytest.mark.parametrize("said", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("kind", ["deduction", "abduction"])
def test_an_assertion_in_any_form_is_read(verifier, kind, said):
    task = Triplet(kind, REVERSE, "'abc'", "'cba'")
    mark = asserted(verifier, task, f"[ANSWER]\n{said}\n[/ANSWER]")
    assert (mark.right, mark.lenient, mark.well_formed) == (True, True, True), mark.reason
    assert asserted(verifier, task, f"[ANSWER]{said}").lenient, "never closed: leniently right"
    assert asserted(verifier, task, f"{said}\n[/ANSWER]", R1).right, "the tag was the prompt's"


def test_values_of_several_lines_and_arguments_by_name(verifier):
    said = "[ANSWER]\nassert f(n=1, x=1) == {\n    'a': 1,\n    'b': [1],\n}\n[/ANSWER]"
    for kind in ("deduction", "abduction"):
        assert asserted(verifier, Triplet(kind, PAIR, "1, 1", "{'a': 1, 'b': [1]}"), said).right
        assert not asserted(verifier, Triplet(kind, PAIR, "2, 1", "{'a': 2, 'b': [1]}"), said).lenient


@pytest.mark.parametrize(
    "said",
    [
        "f('abc') != 'abc'",
        "f('abc') == 'cba' or True",
        "'cba' == 'cba'",
        "f('abc') == 'cba' == 'cba'",
        "f('abc')",
        "not f('')",
        "g('abc') == 'cba'",
    ],
)
def test_other_assertions_say_nothing(verifier, said):
    for kind in ("deduction", "abduction"):
        mark = asserted(verifier, Triplet(kind, REVERSE, "'abc'", "'cba'"), f"[ANSWER]\nassert {said}\n[/ANSWER]")
        assert (mark.right, mark.lenient, mark.reason) == (False, False, "no_answer")


def test_the_last_block_that_defines_the_function_counts():
    program = "def mean(numbers):\n    return sum(numbers) / len(numbers)"
    answer = f"```python\n{program}\n```\nUsage:\n```python\nprint(mean([1.0, 2.0]))\n```\n"
    for text in (f"<think>so</think>\n<answer>{answer}</answer>", f"<think>{answer}", f"{answer}</answer>"):
        found = extract_azr(text, "mean")
        assert found.lenient == program
        assert found.strict == (program if found.well_formed else "")
    helper = f"```python\n{program}\n```\n```python\ndef other():\n    return mean([1])\n```"
    assert extract_azr(helper, "mean").lenient == program
    assert extract_azr(helper, "other").lenient.startswith("def other")


@pytest.mark.parametrize(
    "before", ["", "<think>", "so</think>", "<answer>", "so</think> <answer>", "</answer>\n", "1. "]
)
def test_a_block_right_behind_a_tag_is_seen(before):
    text = f"{before}```output\n3\n```\n"
    assert blocks_in(text).fences == (("output", "3"),)
    assert candidates(text, "output")[0] == "3"


# ------------------------------------------------------------ replies that hurt

LONG = ("1+" * 400 + "1", "0x" + "f" * 5000, "-" * 300 + "1", "[" * 200, "9" * 6000, "'\ud800'")
TEXTS = [*VALUES, *LONG, *(noise * count for noise in NOISE for count in (1, 2000))]


def spoiled(label, form):
    """Every text as the answer of a reply in the form of a suite."""
    return [Reply("", form.format(label=label, text=text), 9, number % 5 == 0) for number, text in enumerate(TEXTS)]


BLOCK = "so</think>\n<answer>\n```{label}\n{text}\n```\n</answer>"


def graded(suite, replies):
    """Marks of the replies to the first question; slower than 0.2 s each outside the sandbox is too slow."""
    question = suite.questions()[0]
    began = time.process_time()
    marks = suite.grade([(question, reply) for reply in replies])
    assert len(marks) == len(replies)
    assert all(isinstance(mark, Mark) for mark in marks)
    assert "internal" not in {mark.reason for mark in marks}
    assert time.process_time() - began < 0.2 * len(replies)
    return marks


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(("kind", "label"), [("deduction", "output"), ("abduction", "input")])
def test_no_reply_ends_a_reasoning_suite(verifier, kind, label, wide):
    task = Triplet(kind, REVERSE, "'abc'", "'cba'")
    suite = ReasoningSuite("own", "azr", [("", task)], CHAT, verifier, expressions=wide)
    bare = [reply for form in ("{text}", "<answer>f({text})") for reply in spoiled(label, form)]
    assert not any(mark.lenient for mark in graded(suite, spoiled(label, BLOCK) + bare))
    forms = ("f({text}) == 'cba'", "f('abc') == {text}", "{text} == f(1)", "f(x={text}) == {text}", "{text}")
    suite = AssertSuite("own", "assert", [("", task)], CHAT, verifier, expressions=wide)
    marks = graded(suite, [reply for form in forms for reply in spoiled("", f"[ANSWER]\nassert {form}\n[/ANSWER]")])
    if kind == "deduction":
        assert not any(mark.right for mark in marks[len(TEXTS) :])


def test_no_reply_ends_induction(verifier):
    suite = induction_suite(CHAT, verifier, hint=True)
    programs = [text.replace("%d", "30") for text in PROGRAMS]
    replies = [Reply("", BLOCK.format(label="python", text=text), 9) for text in programs]
    assert not any(mark.lenient for mark in graded(suite, replies + spoiled("python", BLOCK)))


@needs["evalplus"]
@pytest.mark.parametrize("protocol", ["azr", "evalplus"])
def test_no_reply_ends_a_code_suite(protocol):
    suite = code_suite("humanevalplus-mini", Setting("", CHAT, None, options=Options(code_protocol=protocol)))
    own = "def has_close_elements(numbers, threshold):\n    return {text}"
    texts = [*LONG, "(" * 150 + "1" + ")" * 150, "\x00", NOISE[0] * 200, "[" * 500]
    texts = [own.format(text=text) for text in texts] + [NOISE[0] * 300, "\x00" * 99]
    replies = [Reply("", BLOCK.format(label="python", text=text) if protocol == "azr" else text, 9) for text in texts]
    marks = suite.grade([(suite.questions()[0], reply) for reply in replies])
    assert not any(mark.lenient for mark in marks)


@needs["math_verify"]
def test_no_reply_ends_mathematics(monkeypatch):
    monkeypatch.setattr(maths, "compare", functools.partial(maths.compare, deadline=1.0))  # one of them would never end
    suite = maths_suite("gsm8k", Setting("", CHAT, None))
    texts = [
        *LONG,
        "\\boxed{" * 3,
        "1" * 400 + "^{9^9}",
        "{" * 200,
        "\\frac" * 90,
        NOISE[0] * 50,
        "\\circ" * 50,
        "\\," * 99,
    ]
    replies = [Reply("", f"so</think><answer>\\boxed{{{text}}}</answer>", 9) for text in texts]
    marks = suite.grade([(suite.questions()[0], reply) for reply in replies])
    assert not any(mark.right for mark in marks)


FRAGMENTS = (
    "assert f(1) == 1\n", "assert ", "assert '\\'", "assert (\n", '"""', "assert f([", "**", "[ANSWER]", "[ANSWER]x[/ANSWER]",
    "<think>```python\n", "assert '''\n", "</answer>", "<answer>```a\n", "\\boxed{", "$", "1,", "\\,", "^\\circ", "f(", *NOISE,
)  # fmt: skip


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_64_kilobytes_of_anything_are_searched_at_once(verifier, fragment):
    text = fragment * (65536 // len(fragment))
    began = time.process_time()
    for label in ("output", "input", "python"):
        candidates(text, label)
    list(assertions(text))
    extract_azr(text, "f")
    read_answers(text)
    assert time.process_time() - began < 2.0, "0.2 s each, with room for a busy machine"
    asserted(verifier, Triplet("deduction", REVERSE, "'abc'", "'cba'"), text)
