r"""Runs in the jail: compares answers by math-verify, each in time.

Standard input: JSON ``{"jobs": [[gold, answer, text], ...], "seconds"}``; `answer` is the content of a box, or null,
and then `text` the end of a reply without one. Standard output: per job, in order, ``[right, reason]``.

An answer is untrusted text. Right answers do enter this process, since math-verify compares two expressions. That is
harmless as long as no text becomes code here: sympy turns text into Python in one place, `eval_expr`, which is cut out
before the first answer is read (with `parse_expr` replaced by a reader of plain numbers), and an audit hook refuses
compiling text. The jail does the rest.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
from typing import Any

from boxed_answers import refusal, tidy  # type: ignore[import-not-found]  # a copy lies beside this file

_PLAIN_NUMBER = re.compile(r"[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400}", re.ASCII)
_POINT = re.compile(r"\s*(?:\\left\s*)?\([^()]*,.*\)\s*", re.DOTALL)
_BRACKET = re.compile(r"\s*(?:\\left\s*)?(?:[(\[{]|\\[{lb]|\\begin)")
_MAKES_CODE = {"collections", "dataclasses", "functools", "typing", "enum", "sympy.polys.monomials"}
"""Modules that compile text of their own: classes while being imported, and sympy's products of n variables."""
MEMORY = 3
FAULTS = {MEMORY: "memory", -signal.SIGALRM: "timeout"}
"""Exit code of a child to what it means."""
REFUSED: list[str] = []
"""What `disarm` and `watch` refused since the current answer came: its reason says so."""

_WARM_UP = (
    (r"\frac{1}{2}", "0.5"),
    ("(1,2]", r"1 < x \leq 2"),
    ("x < 3", r"(-\infty, 3)"),
    ("x^2-1", "(x-1)(x+1)"),
    (r"\cot x", r"\frac{\cos x}{\sin x}"),
    (r"\ln 8", r"3 \ln 2"),
    (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}1&3\end{pmatrix}"),
)


def warm_up() -> None:
    """Import what sympy imports late, while it may still read text of its own: its units are made from text."""
    import sympy.physics.units  # noqa: F401

    for gold, answer in _WARM_UP:
        compare(gold, answer)
    compare_text("7", "so it is 3 + 4")


def disarm() -> None:
    """Take the way from text to Python out of sympy and math-verify. Called once, before the first answer."""
    import math_verify.parser
    import sympy
    from sympy.parsing import sympy_parser

    def never(*args: Any, **kwargs: Any) -> Any:
        REFUSED.append("text")
        raise ValueError("text is not run here, and only plain numbers are read from it")

    def numbers_only(text: Any, *args: Any, **kwargs: Any) -> Any:
        if not (isinstance(text, str) and _PLAIN_NUMBER.fullmatch(text)):
            never()
        return sympy.Integer(int(text)) if text.isdigit() else sympy.Float(text)

    def arithmetic(text: str) -> Any:  # math-verify hands over digits and + - * / ^ ( ); its LaTeX reader knows those
        return math_verify.parser.parse_latex_cached(text.replace("**", "^"))

    sympy_parser.parse_expr, sympy_parser.eval_expr = numbers_only, never
    math_verify.parser.parse_expr, math_verify.parser.parse_expr_cached = numbers_only, arithmetic


def watch() -> None:
    """Refuse, from now on and for good, to turn text into code."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "compile":
            name = args[1].decode("utf-8", "replace") if isinstance(args[1], bytes) else str(args[1])
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if name.startswith("<") and not name.startswith("<frozen") and caller not in _MAKES_CODE:
                REFUSED.append("code")
                raise PermissionError(f"{caller} may not turn text into code")

    sys.addaudithook(hook)


def compare(gold: str, answer: str) -> tuple[bool, str]:
    """Is the tidied `answer` the expression `gold`? With a short reason where it is not."""
    if reason := refusal(gold, answer):
        return False, reason
    from math_verify import LatexExtractionConfig, parse

    if _POINT.fullmatch(gold) and not _BRACKET.match(answer) and "," in answer:
        answer = f"({answer})"  # or a point would be compared as a set, in any order
    found = parse(f"${answer}$", [LatexExtractionConfig()], parsing_timeout=None)
    return _judge(gold, found)


def compare_text(gold: str, text: str) -> tuple[bool, str]:
    """The comparison for the end of a reply that has no box: by its last expression or number."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    found = parse(text, [LatexExtractionConfig(boxed_match_priority=-1), ExprExtractionConfig()], parsing_timeout=None)
    words = next((item for item in found if isinstance(item, str)), "")
    if reason := refusal(gold, tidy(words)):
        return False, reason
    return _judge(gold, found)


def _judge(gold: str, found: list[Any]) -> tuple[bool, str]:
    from math_verify import LatexExtractionConfig, parse, verify

    expected = parse(f"${gold}$", [LatexExtractionConfig()], parsing_timeout=None)
    if not found:
        return False, "unreadable"
    both = expected and not isinstance(expected[0], str) and not isinstance(found[0], str)
    if both and (reason := _refused(expected[0], found[0], verify)):
        return False, reason
    right = bool(verify(expected, found, timeout_seconds=None))
    return right, "" if right else "wrong"


def _refused(expected: Any, found: Any, verify: Any) -> str:
    """What math-verify accepts and we do not, seen on expressions: ``4=5`` for 5, ``x=7=5`` for 5, ``5+0x`` for 5."""
    from sympy import And, Eq, Symbol
    from sympy.core.function import AppliedUndef
    from sympy.core.relational import Relational

    value = found
    if isinstance(found, Eq | And) and not isinstance(expected, Relational | And):
        chain = list(found._unsorted_args) if isinstance(found, And) else [found]
        if not all(isinstance(link, Eq) for link in chain) or not isinstance(chain[0].lhs, Symbol | AppliedUndef):
            return "not_an_assignment"
        if not all(verify([expected], [link.rhs], timeout_seconds=None) for link in chain):
            return "chain"
        value = chain[-1].rhs
    unbound = getattr(value, "free_symbols", None) and not getattr(expected, "free_symbols", None)
    return "free_symbol" if unbound else ""


def verdict(gold: str, answer: str | None, text: str) -> tuple[bool, str]:
    """Right or not, and why not; never an exception but MemoryError."""
    REFUSED.clear()
    try:
        right, reason = compare_text(gold, text) if answer is None else compare(gold, answer)
    except MemoryError:
        raise
    except Exception as error:
        right, reason = False, f"error: {type(error).__name__}"
    return right, f"confined: {REFUSED[0]}" if REFUSED and not right else reason


def in_child(job: list[Any], seconds: float, channel: int) -> int:
    """Judge a job in a child of its own, for `seconds`; the child's exit code, 0 where it told its verdict."""
    pid = os.fork()
    if pid == 0:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            found = verdict(*job)
        except MemoryError:
            os._exit(MEMORY)
        signal.setitimer(signal.ITIMER_REAL, 0)
        say(channel, *found)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def say(channel: int, right: bool, reason: str) -> None:
    os.write(channel, json.dumps([right, reason]).encode() + b"\n")


def main() -> None:
    request = json.load(sys.stdin)
    channel = os.dup(1)  # answers must not be able to write into it by way of a stray print
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    import math_verify  # noqa: F401

    warm_up()
    disarm()
    watch()
    for job in request["jobs"]:
        code = in_child(job, request["seconds"], channel)
        if code and code not in FAULTS:  # once more: the machine may have been short of memory
            code = in_child(job, request["seconds"], channel)
        if code:
            say(channel, False, FAULTS.get(code, "crashed"))


if __name__ == "__main__":
    main()
