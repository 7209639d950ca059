"""Replies as models write them: what the reader sees, strictly and as the authors' code reads."""

from __future__ import annotations

import time

import pytest

from azr_lite.parsing import forged_markup, parse_arguments, parse_literal, parse_program, parse_reply, read_fences
from azr_lite.tasks import get_task_type
from azr_lite.tasks.base import Answer, Proposal
from azr_lite.triplet import InductionTask, Reason, Rejection, Rules, Triplet
from azr_lite.verifier import Verifier

RULES = Rules()
REVERSE = Triplet("deduction", "def f(x):\n    return x[::-1]", "'abc'", "'cba'")
DOUBLE = InductionTask(
    "induction",
    "def f(x):\n    return x * 2",
    tuple(str(n) for n in range(10)),
    tuple(str(2 * n) for n in range(10)),
    "doubling",
    5,
)


def proposed(answer, thought="add one", rules=RULES, reading="strict"):
    reply = parse_reply(f"<think>{thought}</think>\n<answer>\n{answer}\n</answer>", reading)
    return reply if isinstance(reply, Rejection) else get_task_type("deduction").parse_proposal(reply, [], rules)


def answered(executor, task, answer, thought="work", reading="strict"):
    reply = parse_reply(f"<think>{thought}</think>\n<answer>\n{answer}\n</answer>", reading)
    if not isinstance(reply, Rejection):
        reply = get_task_type(task.type).parse_answer(reply, task, RULES)
    return Verifier(executor, RULES).judge([(task, reply)])[0]


ADD = "def f(x):\n    return x + 1"
SEEN = {
    "label python3": f"```python3\n{ADD}\n```\n```input\n3\n```",
    "label py": f"```py\n{ADD}\n```\n```input\n3\n```",
    "label in braces": f"```{{python}}\n{ADD}\n```\n```input\n3\n```",
    "attributes after the label": f'```python title="a.py"\n{ADD}\n```\n```input\n3\n```',
    "no label": f"```\n{ADD}\n```\n```input\n3\n```",
    "tildes": f"~~~python\n{ADD}\n~~~\n~~~input\n3\n~~~",
    "four backticks": f"````python\n{ADD}\n````\n````input\n3\n````",
    "carriage returns": f"```python\n{ADD}\n```\n```input\n3\n```".replace("\n", "\r\n"),
    "indented fences": "  ```python\n  def f(x):\n      return x + 1\n  ```\n  ```input\n  3\n  ```",
    "fences in a list": "1. ```python\n   def f(x):\n       return x + 1\n   ```\n2. ```input\n   3\n   ```",
    "a fence that closes behind the value": f"```python\n{ADD}\n```\n```input\n3```",
    "an indented program": "```python\n    def f(x):\n        return x + 1\n```\n```input\n3\n```",
    "a last fence that is not closed": f"```python\n{ADD}\n```\n```input\n3",
    "usage behind the program": f"```python\n{ADD}\n```\nfor example\n```python\nprint(f(3))\n```\n```input\n3\n```",
    "the same input twice": f"```python\n{ADD}\n```\n```input\n3\n```\n```input\n3\n```",
    "another name": "```python\ndef plus(x):\n    return x + 1\n```\n```input\n3\n```",
}


@pytest.mark.parametrize("answer", SEEN.values(), ids=SEEN)
def test_what_stands_there_is_seen(answer):
    assert proposed(answer) == Proposal(ADD, ((3,),))


@pytest.mark.parametrize("before", ["<think>", "so</think>", "<answer>", "a <think> b</think><answer>", "<answer>1. "])
def test_a_block_opens_right_behind_a_tag_on_its_line(before):
    assert read_fences(f"{before}```input\n3\n```\n~~~\n4\n~~~") == ([("input", "3"), ("", "4")], -1)
    assert read_fences(f"a</answer>{before}```input\n3\n```") == ([], 1), "not behind the answer's end"


def test_a_fence_inside_a_docstring_belongs_to_the_program():
    program = 'def f(x):\n    """Adds one.\n\n    ```\n    f(1) == 2\n    ```\n    """\n    return x + 1'
    assert proposed(f"```python\n{program}\n```\n```input\n3\n```") == Proposal(program, ((3,),))


@pytest.mark.parametrize(
    "thought", ["First I use <think> tags", "then <answer> tags", "I close by </answer>", "or by </think> alone"]
)
def test_a_thought_may_speak_of_the_tags(thought):
    assert isinstance(proposed(f"```python\n{ADD}\n```\n```input\n3\n```", thought), Proposal)


@pytest.mark.parametrize("tag", ["<think>", "</think>", "<answer>", "</answer>"])
def test_a_value_may_hold_a_tag(executor, tag):
    task = Triplet("deduction", f"def f(x):\n    return {tag!r} + x", "'b'", f"'{tag}b'")
    assert answered(executor, task, f"```output\n'{tag}b'\n```").ok


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("```output\n'cba'\n```\n```output\n'cba'\n```", ""),
        ("```\n'cba'\n```", ""),
        ("```output\n'cba'\n```\n```output\n'abc'\n```", Reason.SEVERAL),
        ("'cba'", Reason.NO_ANSWER),
        ("```output\nset(['a'])\n```", Reason.WRONG),
        ("```output\nfloat('-inf')\n```", Reason.WRONG),
        ("```output\nsorted('abc')\n```", Reason.ANSWER_NOT_LITERAL),
    ],
)
def test_answers_of_deduction(executor, answer, reason):
    verdict = answered(executor, REVERSE, answer)
    assert (verdict.ok, verdict.reason) == (not reason, reason)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("```python3\ndef f(x):\n    return 2 * x\n```", ""),
        ("```python\ndef f(x):\n    return 2 * x\n```\nCheck:\n```python\nprint(f(3))\n```", ""),
        ("```python\nfrom __future__ import annotations\n\ndef f(x: int) -> int:\n    return 2 * x\n```", ""),
        ("```python\nimport os\nimport numpy as np\n\ndef f(x):\n    return 2 * x  # no module is used\n```", ""),
        ("```python\nimport os\n\ndef f(x):\n    return len(os.sep) * 2 * x\n```", Reason.FORBIDDEN_IMPORT),
        ("```python\nf = lambda x: 2 * x\n```", Reason.NO_ENTRY),
    ],
)
def test_answers_of_induction(executor, answer, reason):
    verdict = answered(executor, DOUBLE, answer)
    assert (verdict.ok, verdict.reason) == (not reason, reason), verdict.detail


def test_two_strings_on_two_lines_are_not_one_argument():
    program = "def f(a, b='z'):\n    return a + b"
    found = proposed(f"```python\n{program}\n```\n```input\n'x'\n'y'\n```")
    assert found.reason == Reason.INPUT_NOT_LITERAL
    assert "two lines" in found.detail
    assert proposed(f"```python\n{program}\n```\n```input\n'x' 'y'\n```").inputs == (("xy",),)
    assert proposed(f"```python\n{program}\n```\n```input\n['x'\n'y']\n```").inputs == ((["xy"],),)


def test_reasons_name_what_is_missing():
    assert proposed("```input\n3\n```").detail == "no block labelled python"
    assert proposed(f"```python\n{ADD}\n```").reason == Reason.NO_INPUT
    assert "never closed" in parse_reply("<think>a</think><answer>b").detail


FENCES = {
    "```a\nx\n`````": [("a", "x")],  # closed by more
    "`````a\n```\nx\n`````": [("a", "```\nx")],  # not by fewer
    "~~~a\n```\n~~~": [("a", "```")],  # nor by another kind
    "```a\nx\n   ```\ny": [("a", "x")],  # indented by three
    "```a\nx\n    ```\ny\n```": [("a", "x\n    ```\ny")],  # by four: content
    "``` a`b ```\nx\n```": [],  # code within a line; the last opens a block in which nothing stands
    "- ```a\n\tx\n  ```": [("a", "  x")],  # a tab is four columns, of which the list item takes two
    "```a\nx\n\n": [("a", "x")],  # closed by the end of the text
    "```{.Python3 .numberLines}\nx\n```": [("python", "x")],
    "```OUTPUT: the value\nx\n```": [("output", "x")],
}


@pytest.mark.parametrize("text", FENCES)
def test_fences_are_read_as_commonmark_reads_them(text):
    assert read_fences(text) == (FENCES[text], -1)


def test_of_two_programs_the_last_that_defines_f_counts():
    draft = ADD.replace("+ 1", "+ 2")
    assert proposed(f"```python\n{draft}\n```\n```python\n{ADD}\n```\n```input\n3\n```").program == ADD
    helper = "```python\ndef g(x):\n    return x\n```"
    assert proposed(f"```python\n{ADD}\n```\n{helper}\n```input\n3\n```").program == ADD


def test_a_block_without_label_stands_for_any_only_where_it_is_alone(executor):
    for more in ("```\n'cba'\n```", "```python\n1\n```"):
        assert answered(executor, REVERSE, f"```\n'cba'\n```\n{more}").reason == Reason.NO_ANSWER


@pytest.mark.parametrize(
    "head",
    [
        "import os as tool\n\ndef f(x):\n    return tool.sep",
        "from os import *\n\ndef f(x):\n    return x",
        "def f(x):\n    import os\n    return x",
        "from .os import path\n\ndef f(x):\n    return path",
        "from .math import floor\n\ndef f(x):\n    return floor(x)",
        "from __future__ import annotations, barry_as_FLUFL\n\ndef f(x):\n    return barry_as_FLUFL",
    ],
)
@pytest.mark.parametrize("answer", [False, True])
def test_imports_that_are_used_or_may_be_are_refused(head, answer):
    assert parse_program(head, 1000, answer=answer).reason == Reason.FORBIDDEN_IMPORT


def test_limits_are_the_longest_that_is_read():
    assert parse_arguments(" 12345 ", 5) == (12345,)
    assert parse_arguments("123456", 5).reason == Reason.TOO_LONG
    assert parse_literal("answer", "12345", 5) == 12345
    prefixed = f"def f(x):\n    return {'-' * 100}x"
    assert parse_program(prefixed, 1000) == prefixed


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a\n   ```", "fence"),
        ("a\n~~~", "fence"),
        ("a ``` b\n    ```", ""),
        ("x </think>", "</think>"),
        ("x <|end|>", "<|end|>"),
        ("x", ""),
    ],
)
def test_forged_markup_is_named(text, found):
    said = forged_markup(text, ["<|end|>"])
    assert found in said
    assert bool(said) == bool(found)


# ------------------------------------------------------------ as the authors' code reads


def test_lenient_takes_the_first_of_a_proposal_and_the_last_of_an_answer(executor):
    two = f"```python\n{ADD}\n```\n```python\ndef f(x):\n    return x\n```\n```input\n3\n```\n```input\n4\n```"
    assert proposed(two, reading="lenient") == Proposal(ADD, ((3,),))
    assert proposed(two).reason == Reason.SEVERAL
    outputs = "```output\n'abc'\n```\n```output\n'cba'\n```"
    assert answered(executor, REVERSE, outputs, reading="lenient").ok


def test_lenient_takes_the_whole_answer_where_there_is_no_block_and_the_last_opening_tag(executor):
    assert answered(executor, REVERSE, "'cba'", reading="lenient").ok
    assert answered(executor, REVERSE, "wait <answer>'cba'", reading="lenient").ok
    assert not answered(executor, REVERSE, "wait <answer>'cba'").ok


# ------------------------------------------------------------ programs keep their text


def test_comments_survive_a_new_name_and_a_dropped_import():
    source = "import os\n\n# plan: add\ndef plus(x):  # one\n    return x + 1 if x else plus(1)"
    kept = "# plan: add\ndef f(x):  # one\n    return x + 1 if x else f(1)"
    assert parse_program(source, 1000, answer=True) == kept
    assert parse_program(source, 1000).reason == Reason.FORBIDDEN_IMPORT


def test_a_name_is_changed_in_the_text_or_else_in_the_tree():
    text = 'def plus(x):\n    return f"{plus(x - 1)}ä" if x else ""  # kept'
    assert parse_program(text, 1000) == text.replace("plus", "f")
    assert parse_program("def \\\n  plus(x):  # lost\n  return x", 1000) == "def f(x):\n    return x"


# ------------------------------------------------------------ linear time

FRAGMENTS = [
    "```a\n", "```\n", "~~~\n", "` ", " ", "\n", "</think>", "</think> ", "<answer>", "</answer>", "<think>", "1. ", "-", "(",
    "[", "{", "'", '"', "\\", "#", "```python\n", " ```", "\t", "not ", "lambda: ", "1+", "~", "\r\n", "- ```\n", "x```\n", "0",
]  # fmt: skip


@pytest.mark.parametrize("fragment", FRAGMENTS)
@pytest.mark.parametrize("before", ["", "<think>a</think><answer>", "<think>a</think><answer>\n```python\n"])
def test_64_kilobytes_of_anything_are_read_at_once(fragment, before):
    text = fragment * (65536 // len(fragment))
    started = time.process_time()
    for reading in ("strict", "lenient"):
        proposed("", rules=RULES)
        reply = parse_reply(before + text + "</answer>", reading)
        if not isinstance(reply, Rejection):
            for name, task in (("deduction", REVERSE), ("induction", DOUBLE)):
                get_task_type(name).parse_answer(reply, task, RULES)
                get_task_type(name).parse_proposal(reply, [REVERSE], RULES)
    parse_program(text, 1 << 20)
    read_fences(text)
    assert time.process_time() - started < 2.0, "0.2 s each, with room for a busy machine"


def test_an_answer_is_never_judged_twice(executor):
    """Two answers in a reply: the first counts."""
    reply = parse_reply("<think>a</think><answer>```output\n'abc'\n```</answer><answer>```output\n'cba'\n```</answer>")
    assert "cba" not in reply.answer
    assert isinstance(get_task_type("deduction").parse_answer(reply, REVERSE, RULES), Answer | Rejection)
