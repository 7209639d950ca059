r"""Answers in ``\boxed{}``: finding them, refusing those that are no answers, and comparing the rest by math-verify.

The upper half works on text. Run by path in the jail, this file reads JSON ``{"jobs": [[gold, answer], ...],
"seconds"}`` and prints ``[right, reason]`` per job, in order.

An answer is untrusted, and right answers do enter this process: math-verify compares two expressions. That is harmless
as long as no text becomes code: sympy's reader of Python is replaced by one of plain numbers before the first answer
is read, and an audit hook refuses compiling text. The jail does the rest.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
from typing import Any

MAX_ANSWER = 500  # characters in a box; the longest right answer in MATH500 has about a hundred
SLACK = 2
"""A constant may be written with so many more numbers than the right answer has: 10/2 for 5, but not 1+2+3+4 for 10."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped brace is a sign, not a group
_PROSE = re.compile(r"\\(?:text|textbf|textit|mathrm|mbox|textrm)\s*\{[^{}]*\}")
_LETTER = re.compile(r"(?<![\\A-Za-z])[A-Za-z]")  # of a variable, not of a command
_NUMBER = re.compile(r"\d+(?:(?:\{,\}|\\,|\\!|,)+\d{3}(?!\d))*(?:\.\d+)?|\.\d+")
_THIN_SPACE = re.compile(r"(?<=\d)(?:\\[,;:! ]|\{\\[,;:!]\}|~)(?=\d{3}(?!\d))")
_DEGREES = re.compile(r"(?:\^\s*(?:\\circ|\{\s*\\circ\s*\})|°)\s*[CF]?(?![A-Za-z])")
_WORK = (
    "sum prod int iint iiint oint lim limsup liminf binom dbinom tbinom choose mod bmod pmod lfloor rfloor lceil rceil "
    "vert lvert rvert det max min dots ldots cdots vdots ddots"
).split()
_UNDONE = re.compile(
    rf"\\(?:{'|'.join(_WORK)})(?![A-Za-z])|(?<![A-Za-z])(?:gcd|lcm)(?![A-Za-z])|\\begin\s*\{{vmatrix\}}|[!|]"
    r"|\\frac\s*\{\s*(?:d|\\partial)[^{}]*\}\s*\{\s*(?:d|\\partial)\s*[a-z]"
)
_FUNCTION = re.compile(
    r"\\(?:log|ln|lg|exp|(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?)(?![A-Za-z])"
    r"|(?<![A-Za-z\\])(?:log|ln|sin|cos|tan)\s*[\({\^]"
)


def boxes(text: str) -> list[str]:
    r"""The contents of every ``\boxed{}`` (or ``\fbox{}``) whose braces close, in order; of nested ones the outermost.

    A box of more than four times `MAX_ANSWER` characters counts as not closed, so that the time stays linear in the
    length of the text.
    """
    found, at = [], 0
    while match := _BOX.search(text, at):
        at, depth = match.end(), 1
        for brace in _BRACE.finditer(text, at, at + 4 * MAX_ANSWER):
            depth += {"{": 1, "}": -1}.get(brace[0], 0)
            if depth == 0:
                found.append(text[at : brace.start()].strip())
                at = brace.end()
                break
    return found


def tidy(answer: str) -> str:
    r"""One line, without dollar signs around it, money signs, or an inline-math pair; ``10\,800`` is 10800, and of
    degrees the scale is left away: math-verify takes ``^\circ C`` for a variable."""
    text = _DEGREES.sub(r"^\\circ", _THIN_SPACE.sub("", " ".join(answer.replace("\\$", " ").split())))
    for left, right in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        if text.startswith(left) and text.endswith(right) and len(text) >= len(left) + len(right):
            return text[len(left) : -len(right)].strip()
    return text


def refusal(gold: str, answer: str) -> str:
    """Why `answer` may not be compared with `gold` (both tidied), or an empty string.

    `unreadable`: empty, too long, or with dollars or boxes of its own. `undone`: the work is left to the grader, which
    would do it; copying the task out of the question would be right.
    """
    if not answer.strip("{}()[]\\,;:. ") or len(answer) > MAX_ANSWER or "$" in answer or _BOX.search(answer):
        return "unreadable"
    plain, own = _PROSE.sub(" ", answer), _PROSE.sub(" ", gold)
    constant = not _LETTER.search(own)
    undone = _UNDONE.search(plain) and not _UNDONE.search(own)
    undone = undone or (constant and _FUNCTION.search(plain) and not _FUNCTION.search(own))
    longer = len(_NUMBER.findall(plain)) > len(_NUMBER.findall(own)) + SLACK
    return "undone" if undone or (constant and longer and not _LETTER.search(plain)) else ""


# ---------------------------------------------------------------- in the jail

_PLAIN_NUMBER = re.compile(r"[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400}", re.ASCII)
_POINT = re.compile(r"\s*(?:\\left\s*)?\([^()]*,.*\)\s*", re.DOTALL)
_BRACKET = re.compile(r"\s*(?:\\left\s*)?(?:[(\[{]|\\[{lb]|\\begin)")
_MAKES_CODE = {"collections", "dataclasses", "functools", "typing", "enum", "sympy.polys.monomials"}
"""Modules that compile text of their own: classes while being imported, and sympy's products of n variables."""
_WARM_UP = (("(1,2]", r"1 < x \leq 2"), ("x^2-1", "(x-1)(x+1)"), (r"\cot x", r"\frac{\cos x}{\sin x}"))


def disarm() -> None:
    """Take the way from text to Python out of this process. Called once, before the first answer."""
    import sympy
    import sympy.physics.units  # made from text, so before the hook
    from sympy.parsing import sympy_parser

    def numbers_only(text: Any, *args: Any, **kwargs: Any) -> Any:
        if not (isinstance(text, str) and _PLAIN_NUMBER.fullmatch(text)):
            raise PermissionError("only plain numbers are read from text")
        return sympy.Integer(int(text)) if text.isdigit() else sympy.Float(text)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "compile":
            name = args[1].decode("utf-8", "replace") if isinstance(args[1], bytes) else str(args[1])
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if name.startswith("<") and not name.startswith("<frozen") and caller not in _MAKES_CODE:
                raise PermissionError(f"{caller} may not turn text into code")

    sympy_parser.parse_expr = numbers_only
    sys.addaudithook(hook)


def compare(gold: str, answer: str) -> tuple[bool, str]:
    """Is the tidied `answer` the expression `gold`? With a short reason where it is not; never an exception."""
    if reason := refusal(gold, answer):
        return False, reason
    from math_verify import LatexExtractionConfig, parse, verify

    if _POINT.fullmatch(gold) and not _BRACKET.match(answer) and "," in answer:
        answer = f"({answer})"  # or a point would be compared as a set, in any order
    try:
        expected, found = (
            parse(f"${text}$", [LatexExtractionConfig()], parsing_timeout=None) for text in (gold, answer)
        )
        if not found:
            return False, "unreadable"
        both = expected and not isinstance(expected[0], str) and not isinstance(found[0], str)
        refused = both and _refused(expected[0], found[0], verify)
        return not refused and verify(expected, found, timeout_seconds=None), ""
    except Exception as error:
        return False, f"error: {type(error).__name__}"


def _refused(expected: Any, found: Any, verify: Any) -> bool:
    """What math-verify accepts and we do not, seen on expressions: ``4=5`` for 5, ``x=7=5`` for 5, ``5+0x`` for 5."""
    from sympy import And, Eq, Symbol
    from sympy.core.function import AppliedUndef
    from sympy.core.relational import Relational

    value = found
    if isinstance(found, Eq | And) and not isinstance(expected, Relational | And):
        chain = list(found._unsorted_args) if isinstance(found, And) else [found]
        assigned = all(isinstance(link, Eq) for link in chain) and isinstance(chain[0].lhs, Symbol | AppliedUndef)
        if not assigned or not all(verify([expected], [link.rhs], timeout_seconds=None) for link in chain):
            return True
        value = chain[-1].rhs
    return bool(getattr(value, "free_symbols", None) and not getattr(expected, "free_symbols", None))


def in_child(gold: str, answer: str, seconds: float, channel: int) -> int:
    """Compare in a child of its own, for `seconds`; the child's exit code, 0 where it told its verdict."""
    pid = os.fork()
    if pid == 0:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        found = compare(gold, answer)
        signal.setitimer(signal.ITIMER_REAL, 0)
        say(channel, *found)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def say(channel: int, right: bool, reason: str) -> None:
    os.write(channel, json.dumps([right, reason or ("" if right else "wrong")]).encode() + b"\n")


def main() -> None:
    request = json.load(sys.stdin)
    channel = os.dup(1)  # answers must not be able to write into it by way of a stray print
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    for pair in _WARM_UP:
        compare(*pair)
    disarm()
    for gold, answer in request["jobs"]:
        code = in_child(gold, answer, request["seconds"], channel)
        if code and code != -signal.SIGALRM:  # once more: the machine may have been short of memory
            code = in_child(gold, answer, request["seconds"], channel)
        if code:
            say(channel, False, "timeout" if code == -signal.SIGALRM else "crashed")


if __name__ == "__main__":
    main()
