"""Model text to fences, programs, argument lists and answers; every failure is a reason code.

Never runs or evaluates anything: programs are read as syntax trees, values by the strict literal reader.
"""

from __future__ import annotations

import ast
import hashlib
import re
import warnings
from dataclasses import dataclass
from typing import Any

from azr_lite.prompts.base import ANSWER, END_ANSWER, END_THINK, THINK
from azr_lite.sandbox.literal import LiteralError, read_arguments, read_value
from azr_lite.triplet import Reason, Rejection

ENTRY = "f"
ALLOWED_IMPORTS = frozenset(
    "math cmath itertools functools operator collections heapq bisect string re copy json statistics fractions decimal "
    "numbers typing dataclasses enum abc array textwrap".split()
)
"""Modules a program may import: deterministic, pure, and present in the sandbox."""

MAX_SOURCE_NESTING = 60
"""Programs that `_nesting` finds deeper than this are refused before Python's parser sees them."""

_WELL_FORMED = re.compile(rf"\s*{THINK}(?P<thought>.*?){END_THINK}\s*{ANSWER}(?P<answer>.*?){END_ANSWER}", re.DOTALL)
_FENCE = re.compile(
    r"^[ \t]*```[ \t]*(?P<tag>[A-Za-z]+)[ \t]*\n(?P<text>.*?)\n?[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class ParsedReply:
    """A well-formed reply: the thought, the answer's text, and the fenced blocks of the answer in order."""

    thought: str
    answer: str
    fences: tuple[tuple[str, str], ...]
    """(tag in lower case, text) of each block."""

    def blocks(self, tag: str) -> list[str]:
        """The texts of the blocks with this tag, in order."""
        return [text for name, text in self.fences if name == tag]


def parse_reply(text: str) -> ParsedReply | Rejection:
    """Think, then answer, from the start of the reply; text after the answer is allowed.

    Examples:
        >>> parse_reply("<think>add</think> <answer>3</answer>").answer
        '3'
        >>> parse_reply("3").reason
        <Reason.NOT_WELL_FORMED: 'not_well_formed'>
    """
    match = _WELL_FORMED.match(text)
    if match is None:
        return Rejection(Reason.NOT_WELL_FORMED, f"expected {THINK}…{END_THINK} {ANSWER}…{END_ANSWER}")
    thought, answer = match["thought"], match["answer"]
    if any(tag in thought for tag in (THINK, ANSWER, END_ANSWER)) or any(
        tag in answer for tag in (THINK, END_THINK, ANSWER)
    ):
        return Rejection(Reason.NOT_WELL_FORMED, "tags are nested or repeated")
    fences = tuple((m["tag"].lower(), m["text"]) for m in _FENCE.finditer(answer))
    return ParsedReply(thought.strip(), answer.strip(), fences)


def parse_program(source: str, max_chars: int) -> str | Rejection:
    r"""A program that defines the entry function ``f``, in one spelling; helpers and classes are welcome.

    The entry is the top-level function called ``f``; without one, the only top-level function, which is renamed.
    The result is the syntax tree written out again: comments and odd spacing go, meaning stays.

    Examples:
        >>> print(parse_program("def twice(x):  # doubles\n    return 2*x", max_chars=2000))
        def f(x):
            return 2 * x
        >>> parse_program("import os\ndef f(x): return x", max_chars=2000)
        Rejection(reason=<Reason.FORBIDDEN_IMPORT: 'forbidden_import'>, detail="import of 'os'")
    """
    if len(source) > max_chars:
        return Rejection(Reason.TOO_LONG, f"program has {len(source)} characters, limit {max_chars}")
    tree = _tree(source)
    if isinstance(tree, Rejection):
        return tree
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    named = [node for node in functions if node.name == ENTRY]
    if len(named) > 1:
        return Rejection(Reason.AMBIGUOUS_ENTRY, f"{len(named)} top-level functions are called {ENTRY}")
    if not named:
        if not functions:
            return Rejection(Reason.NO_ENTRY, "no top-level function")
        if len(functions) > 1:
            return Rejection(Reason.AMBIGUOUS_ENTRY, f"several top-level functions, none called {ENTRY}")
        if not _rename(tree, functions[0].name):
            return Rejection(Reason.AMBIGUOUS_ENTRY, f"the name {ENTRY} is already used for something else")
    foreign = _foreign_import(tree)
    if foreign is not None:
        return Rejection(Reason.FORBIDDEN_IMPORT, foreign)
    return _unparse(tree, max_chars)


def _tree(source: str) -> ast.Module | Rejection:
    if _nesting(source) > MAX_SOURCE_NESTING:
        return Rejection(Reason.SYNTAX_ERROR, "nested too deeply")
    try:
        return quiet_parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        return Rejection(Reason.SYNTAX_ERROR, _error_text(error))


def quiet_parse(source: str, mode: str = "exec") -> Any:
    """`ast.parse` without warnings about odd escapes in other people's programs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source, mode=mode)


def _unparse(tree: ast.Module, max_chars: int) -> str | Rejection:
    try:
        text = ast.unparse(tree)
    except (ValueError, RecursionError, MemoryError) as error:  # huge ints, deep trees
        return Rejection(Reason.SYNTAX_ERROR, _error_text(error))
    if len(text) > max_chars:
        return Rejection(Reason.TOO_LONG, f"program has {len(text)} characters once written out, limit {max_chars}")
    if not text.isprintable() and _odd_characters(text):
        return Rejection(Reason.SYNTAX_ERROR, "unprintable characters")
    return text


def _odd_characters(text: str) -> bool:
    return any(not (char.isprintable() or char in "\n\t") for char in text)


def _error_text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:120]


def _nesting(source: str) -> int:
    """The largest of bracket depth, half a run of prefix operators, and indentation by four, counted without parsing.

    Cheap, not exact: brackets in strings and comments count too. What slips through meets Python's own limits, which
    `_tree` catches.
    """
    depth = deepest = 0
    for char in source:
        if char in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in ")]}":
            depth -= 1
    prefixes = re.findall(r"(?:[-+~] ?|\bnot |\blambda *: *)+", source)
    run = max((len(found.replace(" ", "")) for found in prefixes), default=0)
    indent = max(map(len, re.findall(r"^[ \t]+(?=\S)", source, re.MULTILINE)), default=0)
    return max(deepest, run // 2, indent // 4)


def _rename(tree: ast.Module, old: str) -> bool:
    """Rename every use of the top-level function `old` to ``f``; False where that would change its meaning."""
    methods = {id(node) for owner in ast.walk(tree) if isinstance(owner, ast.ClassDef) for node in owner.body}
    for node in ast.walk(tree):
        names = {getattr(node, name, None) for name in ("id", "name", "arg", "asname")}
        if ENTRY in names:
            return False
        # `old` bound once more, other than by assignment: uses of that meaning would be renamed, its binding would not.
        is_entry_or_method = isinstance(node, ast.FunctionDef) and (node in tree.body or id(node) in methods)
        if old in names and not isinstance(node, ast.Name | ast.keyword) and not is_entry_or_method:
            return False
        if isinstance(node, ast.MatchMapping) and node.rest in (old, ENTRY):
            return False
        if isinstance(node, ast.Global | ast.Nonlocal) and (old in node.names or ENTRY in node.names):
            return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == old:
            node.id = ENTRY
        elif isinstance(node, ast.FunctionDef) and node.name == old and node in tree.body:
            node.name = ENTRY
    return True


def _foreign_import(tree: ast.Module) -> str | None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "."] if not node.level else ["."]
        else:
            continue
        for name in names:
            if name.split(".")[0] not in ALLOWED_IMPORTS:
                return f"import of {name[:60]!r}"
    return None


def normal_form(program: str) -> str:
    """A digest that is equal for programs that differ only in local spelling: docstrings, annotations, variable names.

    Used to tell duplicates in the buffers: arguments and local variables are numbered in order of appearance.

    Examples:
        >>> normal_form("def f(a): return a + 1") == normal_form("def f(b): return b + 1")
        True
    """
    tree = ast.parse(program)
    local: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            local.setdefault(node.arg, f"v{len(local)}")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            local.setdefault(node.id, f"v{len(local)}")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            _drop_docstring(node)
        if isinstance(node, ast.arg):
            node.arg, node.annotation = local[node.arg], None
        elif isinstance(node, ast.Name):
            node.id = local.get(node.id, node.id)
        elif isinstance(node, ast.keyword) and node.arg in local:
            node.arg = local[node.arg]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def _drop_docstring(node: ast.FunctionDef | ast.ClassDef | ast.Module) -> None:
    if len(node.body) > 1 and ast.get_docstring(node, clean=False) is not None:
        node.body = node.body[1:]


def parse_arguments(text: str, max_chars: int) -> tuple[Any, ...] | Rejection:
    """An argument list of positional literals: ``'ab', [1, 2]``, over as many lines as it likes; no call around it.

    Examples:
        >>> parse_arguments("'ab', [1, 2]", max_chars=100)
        ('ab', [1, 2])
        >>> parse_arguments("open('x')", max_chars=100).reason
        <Reason.INPUT_NOT_LITERAL: 'input_not_literal'>
    """
    body = text.strip()
    if len(body) > max_chars:
        return Rejection(Reason.TOO_LONG, f"input has {len(body)} characters, limit {max_chars}")
    try:
        return read_arguments(body)
    except LiteralError as error:
        return Rejection(Reason.INPUT_NOT_LITERAL, str(error)[:200])


def parse_value(text: str, max_chars: int) -> Any:
    """One literal, or a `Rejection` (which is never a value).

    Examples:
        >>> parse_value(" {1: 'a'} ", max_chars=100)
        {1: 'a'}
    """
    body = text.strip()
    if len(body) > max_chars:
        return Rejection(Reason.TOO_LONG, f"answer has {len(body)} characters, limit {max_chars}")
    try:
        return read_value(body)
    except LiteralError as error:
        return Rejection(Reason.ANSWER_NOT_LITERAL, str(error)[:200])
