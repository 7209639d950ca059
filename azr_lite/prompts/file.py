"""The styles `file` and `file-working`: every prompt is the beginning of a Python file, and the reply goes on with it.

No chat template, tags, or thought (`file-working`: comment lines, for solvers). A reply ends by a rule (`ended`), not
by an end token. What a prompt asks for is seen at its end, so reading a reply needs nothing but prompt and text. What
is no file (a task type of your own, a benchmark of mathematics) is asked and read as in `r1`.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from azr_lite.parsing import ParsedReply
from azr_lite.prompts.base import THINK, Style, Words, paragraphs
from azr_lite.prompts.words import R1
from azr_lite.sandbox.literal import read_value
from azr_lite.triplet import Reason, Rejection, Role, Rules, Triplet

# ---------------------------------------------------------------- words

_ZERO = Triplet("", "def f(x):\n    return x", "'Hello world'", "'Hello world'")
_TAKES = (
    "an int", "two ints", "three ints", "a str", "two strs", "a str and an int", "a list of ints", "a list of strs",
    "two lists of ints", "a list of ints and an int", "a list of strs and a str", "a dict from str to int",
    "a dict from int to list", "a list of tuples", "a nested list", "a set of ints and a list", "a tuple of ints",
)  # fmt: skip
_USES = (
    "slicing", "str.split and str.join", "str.replace", "upper and lower case", "ord and chr", "str.find", "sorted",
    "list.pop and list.append", "list.insert", "reversed", "enumerate", "zip", "a dict of counts", "dict.get",
    "dict.items", "set operations", "a running total", "min and max", "the remainder of a division", "a list of lists",
)  # fmt: skip
_SHAPES = (
    "a for loop", "a while loop", "two nested loops", "a loop with a condition", "a loop that may break", "if and else",
    "two conditions", "a list comprehension", "recursion", "a helper variable that changes",
)  # fmt: skip


def draw_hint(rng: random.Random) -> str:
    """A comment on the function to come, from our own words: what keeps proposals apart."""
    lines = rng.randint(3, 8)
    return f"# f takes {rng.choice(_TAKES)}; it uses {rng.choice(_USES)} and {rng.choice(_SHAPES)}; {lines} lines."


def _test(task: Triplet) -> str:
    return f"assert f({task.input}) == {task.output}"


def propose_pair(told: str, *, references: Sequence[Triplet], rules: Rules, hint: str = "") -> str:
    shown = (f"{task.program}\n{_test(task)}" for task in references)
    return paragraphs(told, *shown, f"{hint}\ndef f(".lstrip("\n"))


_MANY = ("''", "'kiwi'", "[1, 2, 3]", "'a b'", "(5,)", "{'x': 1}", "'Hello world'", "[[], []]", "'12345'", "[0]")


def propose_induction(*, program: str, rules: Rules) -> str:
    asked = f"# Hint, then {rules.induction_inputs} tests with different arguments:\n#"
    more = (*_MANY, *(repr("ab" * n) for n in range(3, rules.induction_inputs)))
    tests = (f"assert f({text}) == {2 * len(read_value(text))}" for text in more[: rules.induction_inputs])
    return paragraphs(
        "# Functions; what each is for, in words that do not give its code away; and tests that tell it from others.",
        "\n".join(("def f(text):", "    return len(text) * 2", f"{asked} How much there is, twice.", *tests)),
        f"{program}\n{asked}",
    )


def solve_deduction(working: bool, *, program: str, input: str, rules: Rules) -> str:
    if working:
        shown = f"{_ZERO.program}\n# Working for assert f({_ZERO.input}) == ?\n# f returns x as it is.\n{_test(_ZERO)}"
        return paragraphs(shown, f"{program}\n# Working for assert f({input}) == ?\n#")
    return paragraphs(f"{_ZERO.program}\n{_test(_ZERO)}", f"{program}\nassert f({input}) ==")


def solve_abduction(working: bool, *, program: str, output: str, rules: Rules) -> str:
    shown = f"assert {_ZERO.output} == f({_ZERO.input})"
    if working:
        shown = f"# Working for assert {_ZERO.output} == f(?)\n# f returns x as it is.\n{shown}"
        return paragraphs(f"{_ZERO.program}\n{shown}", f"{program}\n# Working for assert {output} == f(?)\n#")
    return paragraphs(f"{_ZERO.program}\n{shown}", f"{program}\nassert {output} == f")  # tokenizers join ( and a quote


def solve_induction(working: bool, *, pairs: Sequence[tuple[str, str]], message: str, rules: Rules) -> str:
    tests = [f"assert f({given}) == {result}" for given, result in pairs]
    ending = "# Working for def f(?)\n#" if working else "def f("
    example = "# Working for def f(?)\n# Every output is its input.\n" if working else ""
    return paragraphs(
        "# A hint, tests, and the function that passes them and others like them.",
        f"# gives back what it gets\n{_test(_ZERO)}\nassert f(3) == 3\n{example}{_ZERO.program}",
        "\n".join((f"# {message}", *tests, ending)),
    )


def _words(working: bool) -> dict[str, Words]:
    told = "# Functions for a quiz on reading Python, each with one test. They need no imports and print nothing.\n# "
    return {
        "propose/deduction": partial(propose_pair, told + "Readers work out what f returns: it takes some steps."),
        "propose/abduction": partial(propose_pair, told + "Readers see what f returned and look for its arguments."),
        "propose/induction": propose_induction,
        "solve/deduction": partial(solve_deduction, working),
        "solve/abduction": partial(solve_abduction, working),
        "solve/induction": partial(solve_induction, working),
    }


# ---------------------------------------------------------------- reading

_PIECE = re.compile(
    r"""(?P<triple>'''|\"\"\")(?:\\.|[^\\])*?(?:(?P=triple)|(?P<cut>\\?\Z))|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*\""""
    r"""|(?P<open>['"](?:\\.|[^\\\n])*\\?)|(?P<comment>\#[^\n]*)|[][(){}\n]""",
    re.DOTALL,
)
_HEAD = re.compile(r"(?<=\n)[^\s#@)\]}]\w*")
_TEST = re.compile(r"""assert[ \t]+f[ \t]*\((?P<given>[."]*)\)[ \t]*==""")
_TEST_BEGUN = re.compile(r"""assert(?:[ \t]+(?:f[ \t]*(?:\([."]*(?:\)[ \t]*=?)?)?)?)?""")
_ENTRY_AGAIN = re.compile(r"def[ \t]+f[ \t]*\(")
_PARTS_OF_PROGRAM = ("def", "class", "import", "from")


class Outline(NamedTuple):
    """What shapes a text. `broken`: it breaks where `lines` ends. `inside`: it ends within a bracket or a string."""

    lines: str
    broken: bool
    inside: bool


def outline(text: str, depth: int = 0) -> Outline:
    r"""A text of which every character keeps its place, so that what begins a line begins a statement.

    Characters of strings become ``s``, of comments ``#``, all within brackets ``.``. `depth`: brackets open before the
    text. A string with a line in column 0 is marked by ``"``. A text breaks where a string is cut by the end of its
    line, where a bracket closes that was not open, and where one is open and the next line begins in column 0.

    Examples:
        >>> outline("x):\n    return '# a'\nassert f((1)) == 2", depth=1).lines
        '.):\n    return sssss\nassert f(...) == 2'
    """
    found, at, is_cut = [], 0, False
    for piece in _PIECE.finditer(text):
        found.append(_shown(text[at : piece.start()], depth))
        at, said, follows = piece.end(), piece[0], text[piece.end() : piece.end() + 1]
        if said in (")", "]", "}"):
            depth -= 1
            if depth < 0:
                return Outline("".join(found), True, False)
        if said in (*"()[]{}\n",):
            found.append(_shown(said, depth))
            depth += said in ("(", "[", "{")
            if said == "\n" and depth and follows and follows not in " \t\r\n#)]}":
                return Outline("".join(found), True, True)
        else:
            shown = _shown(("#" if piece["comment"] else "s") * len(said), depth)
            found.append('"' + shown[1:] if re.search(r"\n\S", said) else shown)
            is_cut = piece["cut"] is not None or piece["open"] is not None
            if is_cut and follows == "\n":
                return Outline("".join(found), True, True)
    found.append(_shown(text[at:], depth))
    return Outline("".join(found), False, is_cut or depth > 0)


def _shown(text: str, depth: int) -> str:
    return "." * len(text) if depth else text


_Found = tuple[list[tuple[str, str]] | None, bool]
"""Labelled blocks of a reply (None where it lacks the form), and whether more text could not change them."""


def _next_test(lines: str, allowed: Sequence[str], start: int = 0) -> tuple[re.Match[str] | None, bool]:
    """The first test of an outline from `start` on, and whether that is settled.

    It is settled, too, that there is none where a line begins neither a test nor with one of the `allowed` words, or
    defines ``f`` once more.
    """
    for head in _HEAD.finditer(lines, start):
        if head[0] in allowed:
            if _ENTRY_AGAIN.match(lines, head.start()):
                return None, True
            continue
        if head.end() == len(lines) and any(word.startswith(head[0]) for word in (*allowed, "assert")):
            return None, False
        test = _TEST.match(lines, head.start())
        return test, test is not None or not _TEST_BEGUN.fullmatch(lines, head.start())
    return None, False


def _pair(text: str) -> _Found:
    """What goes on from ``def f(``: a program and a test. Comments in column 0 are the file's, not the program's."""
    lines, broken, _ = outline(text, depth=1)
    test, settled = _next_test(lines, _PARTS_OF_PROGRAM)
    if test is None:
        return None, settled or broken
    if '"' in lines[: test.start()]:
        return [("markup", "")], True
    kept = re.sub(r"\n#+", lambda found: "\n" + "\0" * (len(found[0]) - 1), lines[: test.start()])
    program = "".join(letter for letter, kind in zip(text, kept, strict=False) if kind != "\0")
    return [("python", "def f(" + program), ("input", text[slice(*test.span("given"))])], True


def _message(count: int, text: str) -> _Found:
    """What goes on from ``#``: a message up to the end of the line, then `count` tests."""
    message, ended, _ = text.partition("\n")
    rest = text[len(message) :]
    (lines, broken, _), blocks, at = outline(rest), [("message", message)], 0
    lines = lines.replace("\n#", "\n!")  # a second line of the message is none
    while len(blocks) <= count:
        test, settled = _next_test(lines, (), at)
        if test is None:
            return blocks, bool(ended) and (settled or broken)
        blocks.append(("input", rest[slice(*test.span("given"))]))
        at = test.end()
    return blocks, True


def _value(text: str) -> _Found:
    """What goes on from ``==``: a literal up to the end of the line, without comment and an assertion's message."""
    lines, broken, inside = outline(text)
    line, ended, _ = lines.partition("\n")
    literal = re.match("[^,#]*", line)[0]  # type: ignore[index]
    whole = bool(ended) or not (broken or inside)
    return [("output", text[: len(literal)])] if whole and literal.strip() else None, bool(ended) or broken


def _arguments(text: str) -> _Found:
    """What goes on from ``f(``: arguments up to the bracket that closes the call."""
    lines, broken, _ = outline(text, depth=1)
    given, closed, _ = lines.partition(")")
    return ([("input", text[: len(given)])], True) if closed else (None, broken)


def _call(text: str) -> _Found:
    """What goes on from ``f``: the brackets of a call, with its arguments."""
    return _arguments(text[1:]) if text[:1] == "(" else (None, bool(text))


def _function(text: str) -> _Found:
    """What goes on from ``def f(``: one function, up to the next line that begins in column 0, so without helpers."""
    lines, broken, _ = outline(text, depth=1)
    after = _HEAD.search(re.sub(r"\n[#@]", "\n!", lines))
    if after is None and broken:
        return None, True
    return [("python", "def f(" + text[: after.start() if after else None])], after is not None


def _worked(stem: str, read: Callable[[str], _Found], text: str) -> _Found:
    """What goes on from ``#``: working in comment lines, then a line that begins with `stem`, which `read` reads on."""
    end = re.search(r"\n(?=[^#\n])", text)
    rest = text[end.end() :] if end else ""
    if end is None or not rest.startswith(stem):
        return None, not stem.startswith(rest)
    blocks, ended = read(rest[len(stem) :])
    return [("working", text[: end.start()]), *blocks] if blocks else None, ended


_HINT = re.compile(r"# Hint, then (\d+) tests with different arguments:\n#\Z")
_WORKING = re.compile(r"# Working for (?:(assert f\(.*\) ==) \?|(assert .* == f\()\?\)|(def f\()\?\))\n#\Z")


def reader_of(role: Role, prompt: str) -> Callable[[str], _Found] | None:
    """What reads the reply to this prompt, by its role and its end; None for a prompt that is no file of ours."""
    if role == Role.PROPOSE:
        if asked := _HINT.search(prompt):
            return partial(_message, int(asked[1]))
        return _pair if prompt.endswith("\ndef f(") else None
    if asked := _WORKING.search(prompt[prompt.rfind("\n", 0, -2) + 1 :]):
        read = _value if asked[1] else _arguments if asked[2] else _function
        return partial(_worked, asked[1] or asked[2] or asked[3], read)
    ends = {") ==": _value, " == f": _call, "\ndef f(": _function}
    return next((read for end, read in ends.items() if prompt.endswith(end)), None)


class FileStyle(Style):
    """Prompts that are the beginning of a Python file."""

    def vary(self, rng: random.Random) -> Style:
        """With a hint on the function to come."""
        pairs = ("propose/deduction", "propose/abduction")
        hint = draw_hint(rng)
        varied = {name: partial(self.words[name], hint=hint) for name in pairs}
        return dataclasses.replace(self, words={**self.words, **varied})

    def render(self, body: str) -> str:
        """A file goes as it is; what is none is framed as in `r1`."""
        return body if any(reader_of(role, body) for role in Role) else super().render(body)

    def read(self, role: Role, prompt: str, text: str, rules: Rules) -> ParsedReply | Rejection:
        reader = reader_of(role, prompt)
        if reader is None:
            return super().read(role, prompt, text, rules)
        blocks, _ = reader(text.replace("\r\n", "\n"))
        if blocks is None:
            return Rejection(Reason.NOT_WELL_FORMED, "the reply does not go on with the file as it was begun")
        if blocks[0][0] == "markup":
            return Rejection(Reason.MARKUP, "a string has a line that begins in column 0")
        working = [said for label, said in blocks if label == "working"]
        return ParsedReply("".join(working), text, tuple(blocks[len(working) :]))

    def ended(self, role: Role, prompt: str, text: str) -> bool | None:
        reader = reader_of(role, prompt)
        return None if reader is None else reader(text.replace("\r\n", "\n").removesuffix("\r"))[1]


FILE = FileStyle(name="file", frame=R1.frame, prefill=THINK, words=_words(working=False))
FILE_WORKING = FileStyle(name="file-working", frame=R1.frame, prefill=THINK, words=_words(working=True))
