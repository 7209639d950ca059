"""Model text to fences, programs, argument lists and answers; every failure is a reason code.

Never runs or evaluates anything: programs are read as syntax trees, values by the strict literal reader. One pass over
the lines, so that no reply takes long to read.
"""

from __future__ import annotations

import ast
import itertools
import re
import textwrap
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from azr_lite.sandbox.literal import LiteralError, read_arguments, read_value
from azr_lite.sandbox.wire import ALLOWED_IMPORTS
from azr_lite.triplet import Reason, Rejection

TAGS = THINK, END_THINK, ANSWER, END_ANSWER = "<think>", "</think>", "<answer>", "</answer>"
ENTRY = "f"
MAX_SOURCE_NESTING = 60
"""Programs that `_nesting` finds deeper than this are refused before Python's parser sees them."""

Edit = tuple[int, int, int, str]  # line, first and last column, and the text to put there
_ANSWER_OPENS = re.compile(rf"{END_THINK}\s*{ANSWER}")
_OPENING = re.compile(
    rf"(?:(?:(?!{END_ANSWER}).)*(?:{THINK}|{END_THINK}|{ANSWER}))?"
    r"(?P<indent>[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?)(?P<run>`{3,}(?=[^`]*$)|~{3,})(?P<info>.*)"
)
_FENCE_LINE = re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE)
_PYTHON = {"python", "python3", "py", "py3", "python2"}


@dataclass(frozen=True)
class ParsedReply:
    """A well-formed reply: the thought, the answer's text, and the fenced blocks of the answer in order."""

    thought: str
    answer: str
    fences: tuple[tuple[str, str], ...]
    """(label, text) of each block. Labels are in lower case; python3 and py are python; empty where there is none."""
    lenient: bool = False

    def blocks(self, label: str) -> list[str]:
        """The texts of the blocks with this label, in order; without any, the only, unlabelled one."""
        found = [text for name, text in self.fences if name == label]
        return found or [text for name, text in self.fences if not name and len(self.fences) == 1]

    def block(self, label: str, missing: Reason, *, last: bool = True, entry: str = ENTRY) -> str | Rejection:
        """The text of the block with this label; `missing` is the reason where there is none.

        Several: of programs the last that defines the function `entry` counts; other blocks must be equal. Read
        leniently, the `last` (or first) of them counts, and of answers without a block the whole text.
        """
        found = self.blocks(label)
        if label == "python" and not found:
            found = [text for name, text in self.fences if not name]
        if not found:
            if self.lenient and missing == Reason.NO_ANSWER:
                return self.answer
            return Rejection(missing, f"no block labelled {label}")
        if self.lenient:
            return found[-1 if last else 0]
        if label == "python":
            patterns = (rf"^def[ \t]+{re.escape(entry)}\b", r"^def[ \t]", "")
            defining = ([text for text in found if re.search(one, text, re.MULTILINE)] for one in patterns)
            return next(texts for texts in defining if texts)[-1]
        if len({text.strip() for text in found}) > 1:
            return Rejection(Reason.SEVERAL, f"{len(found)} different {label} blocks, expected 1")
        return found[0]


def parse_reply(text: str, reading: str = "strict") -> ParsedReply | Rejection:
    """Think, then answer, from the start of the reply (prefill included); text after the answer is allowed.

    Reading "strict": the thought ends where the answer opens first, the answer where it is closed first outside a
    block. "lenient": as the authors' code, in which the last opening tag counts.

    Examples:
        >>> parse_reply("<think>add</think> <answer>3</answer>").answer
        '3'
        >>> parse_reply("3").reason
        <Reason.NOT_WELL_FORMED: 'not_well_formed'>
    """
    text = text.replace("\r\n", "\n").lstrip()
    opens = _ANSWER_OPENS.search(text)
    if not text.startswith(THINK) or opens is None:
        return Rejection(Reason.NOT_WELL_FORMED, f"expected {THINK}…{END_THINK} {ANSWER}…{END_ANSWER}")
    thought, rest = text[len(THINK) : opens.start()], text[opens.end() :]
    if END_ANSWER not in rest:
        return Rejection(Reason.NOT_WELL_FORMED, f"{ANSWER} is never closed by {END_ANSWER}")
    if reading == "lenient":
        answer = text.rpartition(ANSWER)[2].partition(END_ANSWER)[0]
        return ParsedReply(thought.strip(), answer.strip(), tuple(read_fences(answer)[0]), lenient=True)
    fences, end = read_fences(rest)
    if end < 0:  # every closing tag stands in a block
        end = rest.find(END_ANSWER)
        fences, _ = read_fences(rest[:end])
    return ParsedReply(thought.strip(), rest[:end].strip(), tuple(fences))


def read_fences(text: str) -> tuple[list[tuple[str, str]], int]:
    """The fenced blocks of a text, (label, content), and where the first closing answer tag outside them is (or -1).

    As CommonMark reads them, line by line: three or more backticks or tildes, as many to close, indented by at most
    three more; the fence's own indentation is taken off each line. Also opened: right behind a tag on its line. Also
    closed: at the end of a line of content.
    """
    found: list[tuple[str, str]] = []
    run, label, width, lines, at = "", "", 0, [], 0
    for line in text.split("\n"):
        before, tag, _ = line.partition(END_ANSWER)
        place, at = at + len(before), at + len(line) + 1
        if run:
            content = _closed(before, run, width)
            if content is None:
                lines.append(_without_indent(line, width))
                continue
            found.append((label, "\n".join([*lines, _without_indent(content, width)] if content else lines)))
            run = ""
        elif opening := _OPENING.fullmatch(line):
            run, width, lines = opening["run"], len(opening["indent"].expandtabs(4)), []
            label = _label(opening["info"])
            continue
        if tag:
            return found, place
    if run and lines:  # CommonMark: the end of the text closes it
        found.append((label, "\n".join(lines).rstrip()))
    return found, -1


def _closed(line: str, run: str, width: int) -> str | None:
    """The content before the fence that closes a block on this line, mostly none; None where nothing is closed."""
    kept = line.rstrip()
    content = kept.rstrip(run[0])
    if len(kept) - len(content) < len(run):
        return None
    if not content.strip():
        return "" if len(content.expandtabs(4)) <= width + 3 else None
    return content if run[0] not in content else None


def _without_indent(line: str, width: int) -> str:
    if not width:
        return line
    line = line.expandtabs(4) if line[:1] == "\t" else line
    return line[min(width, len(line) - len(line.lstrip(" "))) :]


def _label(info: str) -> str:
    first = re.match(r"[\s{.]*([^\s{}.,:;]*)", info)[1].lower()  # type: ignore[index]
    return "python" if first in _PYTHON else first


def forged_markup(text: str, special_tokens: Collection[str] = ()) -> str:
    """What in this text a prompt that quotes it could be mistaken by: a fence, a tag, a special token; or nothing.

    Examples:
        >>> forged_markup("def f(x):\\n    return '</answer>'")
        "the tag '</answer>'"
    """
    if _FENCE_LINE.search(text):
        return "a line that opens a fence"
    for tag in TAGS:
        if tag in text:
            return f"the tag {tag!r}"
    return next((f"the special token {token!r}" for token in special_tokens if token in text), "")


# ---------------------------------------------------------------- programs


def read_source(source: str) -> Any:
    """The syntax tree of a program, or a `Rejection`, whatever the text."""
    if _nesting(source) > MAX_SOURCE_NESTING:
        return Rejection(Reason.SYNTAX_ERROR, "nested too deeply")
    try:
        return quiet_parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        return _unreadable(error)


def _unreadable(error: Exception) -> Rejection:
    return Rejection(Reason.SYNTAX_ERROR, f"{type(error).__name__}: {error}"[:120])


def quiet_parse(source: str) -> Any:
    """`ast.parse` without warnings about odd escapes in other people's programs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


def parse_program(source: str | Rejection, max_chars: int, *, answer: bool = False) -> str | Rejection:
    r"""A program that defines the entry function ``f``; helpers and classes are welcome, comments stay.

    The entry is the top-level function called ``f``; without one, the only top-level function, which is renamed.
    `answer`: a solver's program, from which imports that it never uses are dropped, whatever they are. A `Rejection`
    instead of a source is handed on.

    Examples:
        >>> print(parse_program("def twice(x):  # doubles\n    return 2*x", max_chars=2000))
        def f(x):  # doubles
            return 2*x
        >>> parse_program("import os\ndef f(x): return x", max_chars=2000)
        Rejection(reason=<Reason.FORBIDDEN_IMPORT: 'forbidden_import'>, detail="import of 'os'")
    """
    if isinstance(source, Rejection):
        return source
    if len(source) > max_chars:
        return Rejection(Reason.TOO_LONG, f"program has {len(source)} characters, limit {max_chars}")
    source = source.strip("\n").rstrip()
    source = textwrap.dedent(source) if source[:1] in (" ", "\t") else source
    tree = read_source(source)
    if isinstance(tree, Rejection):
        return tree
    if not all(char.isprintable() or char in "\n\t" for char in source):
        return Rejection(Reason.SYNTAX_ERROR, "unprintable characters")
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    lines, edits = source.split("\n"), []
    if not names:
        return Rejection(Reason.NO_ENTRY, f"no top-level function; {ENTRY} must be a def")
    if names.count(ENTRY) > 1:
        return Rejection(Reason.AMBIGUOUS_ENTRY, f"{names.count(ENTRY)} top-level functions are called {ENTRY}")
    if ENTRY not in names:
        if len(names) > 1:
            return Rejection(Reason.AMBIGUOUS_ENTRY, f"several top-level functions, none called {ENTRY}")
        edits = _rename(tree, names[0], lines)
        if edits is None:
            return Rejection(Reason.AMBIGUOUS_ENTRY, f"the name {ENTRY} is already used for something else")
    for node in [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]:
        if foreign := _foreign_import(node):
            if not answer or node not in tree.body or _is_used(node, tree):
                return Rejection(Reason.FORBIDDEN_IMPORT, foreign)
            tree.body.remove(node)
            edits += [(n, 0, len(lines[n]), "") for n in range(node.lineno - 1, node.end_lineno or node.lineno)]
    return _edited(lines, edits, tree) if edits else source


def _edited(lines: list[str], edits: list[Edit], tree: ast.Module) -> str | Rejection:
    """The lines with the edits made, if that is the text of `tree`; else the tree written out."""
    for number, start, end, text in sorted(set(edits), reverse=True):
        lines[number] = lines[number][:start] + text + lines[number][end:]
    text = "\n".join(lines).strip("\n")
    again = read_source(text)
    if not isinstance(again, Rejection) and dump_source(again) == dump_source(tree):
        return text
    try:
        return ast.unparse(tree)
    except (ValueError, RecursionError, MemoryError) as error:  # chains too deep, integers too long for Python to write
        return _unreadable(error)


def dump_source(tree: ast.AST) -> str:
    try:
        return ast.dump(tree)
    except (RecursionError, MemoryError):
        return ""


def _nesting(source: str) -> int:
    """The largest of bracket depth, half a run of prefix operators, and indentation by four, counted without parsing.

    Cheap, not exact: brackets in strings and comments count too. What slips through meets Python's own limits, which
    `read_source` catches.
    """
    steps = (1 if bracket in "([{" else -1 for bracket in re.findall(r"[][(){}]", source))
    deepest = max(itertools.accumulate(steps), default=0)
    prefixes = re.findall(r"(?:[-+~] ?|\bnot |\blambda *: *)+", source)
    run = max((len(found.replace(" ", "")) for found in prefixes), default=0)
    indent = max(map(len, re.findall(r"^[ \t]+(?=\S)", source, re.MULTILINE)), default=0)
    return max(deepest, run // 2, indent // 4)


def _rename(tree: ast.Module, old: str, lines: list[str]) -> list[Edit] | None:
    """Rename every use of the top-level function `old` to ``f``; None where that would change its meaning."""
    methods = {id(node) for owner in ast.walk(tree) if isinstance(owner, ast.ClassDef) for node in owner.body}
    edits = []
    for node in list(ast.walk(tree)):
        names = {getattr(node, name, None) for name in ("id", "name", "arg", "asname")}
        if ENTRY in names:
            return None
        # `old` bound once more, other than by assignment: uses of that meaning would be renamed, its binding would not.
        is_entry = isinstance(node, ast.FunctionDef) and node in tree.body
        if old in names and not isinstance(node, ast.Name | ast.keyword) and not is_entry and id(node) not in methods:
            return None
        if isinstance(node, ast.MatchMapping) and node.rest in (old, ENTRY):
            return None
        if isinstance(node, ast.Global | ast.Nonlocal) and (old in node.names or ENTRY in node.names):
            return None
        if old in names and (is_entry or isinstance(node, ast.Name)):
            line = lines[node.lineno - 1]
            start = len(line.encode()[: node.col_offset].decode(errors="ignore"))
            start = line.find(old, start + 3 * is_entry)
            edits.append((node.lineno - 1, start, start + len(old), ENTRY))
            setattr(node, "name" if is_entry else "id", ENTRY)
    return edits


def _foreign_import(node: ast.Import | ast.ImportFrom) -> str:
    """What is imported and may not be; empty where all may. Annotations of the future are no module."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif node.module == "__future__" and {alias.name for alias in node.names} == {"annotations"}:
        names = []
    else:
        names = ["." if node.level or not node.module else node.module]
    foreign = next((name for name in names if name.split(".")[0] not in ALLOWED_IMPORTS), "")
    return f"import of {foreign[:60]!r}" if foreign else ""


def _is_used(node: ast.Import | ast.ImportFrom, tree: ast.Module) -> bool:
    bound = {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    names = (other.id for other in ast.walk(tree) if isinstance(other, ast.Name))
    return "*" in bound or not bound.isdisjoint(names)


def parse_arguments(text: str, max_chars: int) -> tuple[Any, ...] | Rejection:
    """An argument list of positional literals: ``'ab', [1, 2]``, over as many lines as it likes; no call around it.

    Examples:
        >>> parse_arguments("'ab', [1, 2]", max_chars=100)
        ('ab', [1, 2])
        >>> parse_arguments("open('x')", max_chars=100).reason
        <Reason.INPUT_NOT_LITERAL: 'input_not_literal'>
    """
    return parse_literal("input", text, max_chars)


_LITERALS: dict[str, tuple[Callable[[str], Any], Reason, Reason]] = {
    "input": (read_arguments, Reason.TOO_LONG, Reason.INPUT_NOT_LITERAL),
    "output": (read_value, Reason.OUTPUT_TOO_LONG, Reason.OUTPUT_NOT_LITERAL),
    "answer": (read_value, Reason.TOO_LONG, Reason.ANSWER_NOT_LITERAL),
    "input in the answer": (read_arguments, Reason.TOO_LONG, Reason.ANSWER_NOT_LITERAL),
}
"""Kind of text: what reads it, and the reasons where it is too long or does not hold what it should."""


def parse_literal(kind: str, text: str | Rejection, max_chars: int) -> Any:
    """What a text of this kind (see `_LITERALS`) says, or a `Rejection` (which is never a value); one is handed on.

    Examples:
        >>> parse_literal("answer", " {1: 'a'} ", max_chars=100)
        {1: 'a'}
    """
    if isinstance(text, Rejection):
        return text
    read, too_long, not_literal = _LITERALS[kind]
    body = text.strip()
    if len(body) > max_chars:
        return Rejection(too_long, f"{kind} has {len(body)} characters, limit {max_chars}")
    try:
        return read(body)
    except LiteralError as error:
        return Rejection(not_literal, str(error)[:200])
