"""From model text to programs, arguments and values: what is accepted, and the reason for everything that is not."""

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azr_lite.buffer import normal_form
from azr_lite.parsing import ParsedReply, parse_arguments, parse_literal, parse_program, parse_reply
from azr_lite.triplet import Reason, Rejection

LIMIT = 4096


def reply(answer, thought="why"):
    return parse_reply(f"<think>{thought}</think>\n<answer>{answer}</answer>")


def reason(result):
    assert isinstance(result, Rejection), result
    return result.reason


def test_a_reply_is_think_then_answer_and_text_after_it_is_allowed():
    found = parse_reply("<think>a\nb</think> <answer>```output\n3\n```</answer> and so on")
    assert found == ParsedReply("a\nb", "```output\n3\n```", (("output", "3"),))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<answer>x</answer>",
        "so: <think>a</think><answer>b</answer>",
        "<think>a</think>b<answer>c</answer>",
        "<think>a<answer>b</answer>",
        "<think>a</think><answer>b",
    ],
)
def test_what_is_not_well_formed(text):
    assert reason(parse_reply(text)) == Reason.NOT_WELL_FORMED


def test_fences_come_in_either_order_and_hold_several_lines():
    found = reply("```input\n[1,\n 2], 'a'\n```\ntext\n```python\ndef f(a, b):\n    return a\n```\n``` OUTPUT \n1\n```")
    assert [tag for tag, _ in found.fences] == ["input", "python", "output"]
    assert parse_arguments(found.blocks("input")[0], LIMIT) == ([1, 2], "a")


def test_backticks_inside_a_line_do_not_close_a_fence():
    found = reply("```python\ndef f(x):\n    return x + '```'\n```")
    assert "```'" in found.blocks("python")[0]


def test_helpers_classes_and_nested_functions_are_welcome():
    source = """
import math
class Box:
    n = 2
def help(x):
    return x * Box.n
def f(x):
    def g(y):
        return math.floor(y)
    return g(help(x))
"""
    tree = ast.parse(parse_program(source, LIMIT))
    assert [node.name for node in tree.body if hasattr(node, "name")] == ["Box", "help", "f"]
    assert ast.dump(tree) == ast.dump(ast.parse(source))


def test_the_entry_is_renamed_with_its_recursive_calls():
    assert parse_program("def solve(n):\n    return 1 if n == 0 else n * solve(n - 1)", LIMIT) == (
        "def f(n):\n    return 1 if n == 0 else n * f(n - 1)"
    )


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("def f(x) return x", Reason.SYNTAX_ERROR),
        ("x = 1", Reason.NO_ENTRY),
        ("def a(x):\n    return x\ndef b(x):\n    return x", Reason.AMBIGUOUS_ENTRY),
        ("def f(x):\n    return x\ndef f(y):\n    return y", Reason.AMBIGUOUS_ENTRY),
        ("def g(f):\n    return f", Reason.AMBIGUOUS_ENTRY),
        ("def g(x):\n    f = 1\n    return f", Reason.AMBIGUOUS_ENTRY),
        ("import os\ndef f(x):\n    return os.getpid()", Reason.FORBIDDEN_IMPORT),
        ("from random import random\ndef f(x):\n    return random()", Reason.FORBIDDEN_IMPORT),
        ("def f(x):\n    import time\n    return time.time()", Reason.FORBIDDEN_IMPORT),
        ("from . import secret\ndef f(x):\n    return x", Reason.FORBIDDEN_IMPORT),
        ("def f(x):\n    return '" + "a" * LIMIT + "'", Reason.TOO_LONG),
        ("def f(x):\n    return " + "(" * 70 + "x" + ")" * 70, Reason.SYNTAX_ERROR),
        ("def f(x):\n    return " + "-" * 400 + "x", Reason.SYNTAX_ERROR),
        ("def f(x):\n    return x\x00", Reason.SYNTAX_ERROR),
        ("def f(x):\n    return " + "9" * 4000 + "0" * 90, Reason.TOO_LONG),
    ],
)
def test_programs_are_refused_with_their_reason(source, why):
    assert reason(parse_program(source, LIMIT)) == why


def test_a_variable_called_like_a_module_is_fine():
    assert isinstance(parse_program("def f(time):\n    random = time\n    return random", LIMIT), str)


SECOND_MEANINGS = [
    "def twice(x):\n    def twice(y):\n        return y * 2\n    return twice(x)",
    "def twice(x):\n    try:\n        return 1 / x\n    except ZeroDivisionError as twice:\n        return str(twice)",
    "def twice(x):\n    import math as twice\n    return twice.floor(x)",
    "def twice(x):\n    match x:\n        case [twice, *_]:\n            return twice",
    "def twice(x):\n    match x:\n        case {**twice}:\n            return twice",
]


@pytest.mark.parametrize("source", SECOND_MEANINGS)
def test_an_entry_whose_name_has_a_second_meaning_is_not_renamed_into_another_program(source):
    assert reason(parse_program(source, LIMIT)) == Reason.AMBIGUOUS_ENTRY
    assert isinstance(parse_program(source.replace("def twice(x)", "def f(x)", 1), LIMIT), str)


def test_a_method_called_like_the_entry_does_not_hinder_renaming():
    source = "class Solver:\n    def solve(self, x):\n        return x + 1\ndef solve(x):\n    return Solver().solve(x)"
    assert "def f(x):\n    return Solver().solve(x)" in parse_program(source, LIMIT)


def test_a_program_is_kept_as_it_was_written():
    source = "def f(x):return[" + ",".join("1" * 14) + "]  # as dense as it may be"
    assert parse_program(source, len(source)) == source
    found = parse_program(source, len(source) - 1)
    assert (found.reason, found.detail) == (
        Reason.TOO_LONG,
        f"program has {len(source)} characters, limit {len(source) - 1}",
    )


@settings(max_examples=300)
@given(
    st.one_of(
        st.text(max_size=200),
        st.lists(st.sampled_from(list("()[]{}:=.,'\"\\ \n\tdeflambdareturn0123#f-~@")), max_size=200).map("".join),
    )
)
def test_no_text_makes_the_parsers_raise(text):
    parse_reply(text)
    parse_program(text, LIMIT)
    parse_program("def f(x):\n    return " + text, LIMIT)
    parse_arguments(text, LIMIT)
    parse_literal("answer", text, LIMIT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "f(1)",
        "f(1)(2)",
        "0) or (True",
        "a=1",
        "*[1]",
        "open('x')",
        "[i for i in [1]]",
        "f'{1}'",
        "(1).real",
        "nan",
    ],
)
def test_arguments_must_be_literals(text):
    assert reason(parse_arguments(text, LIMIT)) == Reason.INPUT_NOT_LITERAL


def test_values_must_be_one_literal():
    assert parse_literal("answer", " {'a': (1, None)} ", LIMIT) == {"a": (1, None)}
    for text in ("1 2", "f(1)", "__import__('os')", "eval(gold_output)"):
        assert reason(parse_literal("answer", text, LIMIT)) == Reason.ANSWER_NOT_LITERAL
    assert reason(parse_literal("answer", "1" * 20, 10)) == Reason.TOO_LONG


def test_normal_form_sees_through_names_comments_and_docstrings_only():
    one = parse_program('def f(x):\n    """Doc."""\n    y = x + 1  # note\n    return y', LIMIT)
    two = parse_program("def g(value: int) -> int:\n    out = value + 1\n    return out", LIMIT)
    other = parse_program("def f(x):\n    y = x + 2\n    return y", LIMIT)
    assert normal_form(one) == normal_form(two) != normal_form(other)
    assert normal_form("def f(a, b):\n    return a - b") != normal_form("def f(a, b):\n    return b - a")
