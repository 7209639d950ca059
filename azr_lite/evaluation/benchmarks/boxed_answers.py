r"""Boxed answers as text: the contents of ``\boxed{}``, and refusing those that must not be compared at all."""

from __future__ import annotations

import re
from itertools import accumulate

MAX_ANSWER = 500
"""Characters in a box; the longest right answer in MATH500 has about a hundred."""
MAX_DEPTH = 20
"""Braces and brackets inside one another."""
SLACK = 2
"""A constant may be written with so many more numbers than the right answer has: 10/2 for 5, but not 1+2+3+4 for 10."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_SIGN = re.compile(r"\\.|[{}]", re.DOTALL)
_PROSE = re.compile(r"\\(?:text|textbf|textit|mathrm|mbox|textrm)\s*\{[^{}]*\}")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_NUMBER = re.compile(r"\d*\.\d+|\d+")
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|,\\!|\\,|\\!|,)(?=\d{3}(?!\d))")
_HEDGE = re.compile(
    r"\\(?:lor|vee)(?![A-Za-z])|(?<![A-Za-z])(?:or|either|maybe|anything|any)(?![A-Za-z])", re.IGNORECASE
)
_OPEN_END = re.compile(r"\\[ldvc]?dots(?![A-Za-z])|\.\.\.|…|\\(?:square|Box)(?![A-Za-z])|\?")
_MANY = re.compile(r"[,;]|\\(?:pm|mp|cup|in)(?![A-Za-z])|(?<![A-Za-z])(?:or|and)(?![A-Za-z])")

_UNDONE = {
    "sum, product, integral, limit": r"\\(?:sum|prod|i{1,3}nt|oint|lim(?:sup|inf)?)(?![A-Za-z])",
    "derivative": r"\\frac\s*\{\s*(?:d|\\partial)[^{}]*\}\s*\{\s*(?:d|\\partial)\s*[a-z]",
    "counting": r"\\[dt]?binom(?![A-Za-z])|\\choose(?![A-Za-z])|!",
    "number theory": r"\\(?:gcd|lcm|bmod|pmod|mod|operatorname\s*\{\s*(?:gcd|lcm)\s*\})(?![A-Za-z])"
    r"|(?<![A-Za-z])(?:gcd|lcm)\s*\(",
    "rounding": r"\\(?:l|r)(?:floor|ceil)(?![A-Za-z])",
    "determinant, extreme": r"\\(?:det|max|min)(?![A-Za-z])|\\begin\s*\{vmatrix\}",
    "absolute value": r"\||\\[lr]?vert(?![A-Za-z])",
    "function": r"\\(?:log|ln|lg|exp|(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?)(?![A-Za-z])"
    r"|(?<![A-Za-z\\])(?:log|ln|sin|cos|tan)\s*[\({\^]",
}
"""Signs of work left undone, by kind. math-verify would do it: copying the task out of the question would be right."""


def boxes(text: str) -> list[str]:
    r"""The contents of every ``\boxed{}`` (or ``\fbox{}``) whose braces close, in order; of nested ones the outermost.

    A box of more than four times `MAX_ANSWER` characters counts as not closed, so that the time stays linear in the
    length of the text.
    """
    found, at = [], 0
    while match := _BOX.search(text, at):
        end = _closing(text, match.end())
        if end is None:
            at = match.end()
            continue
        found.append(text[match.end() : end].strip())
        at = end + 1
    return found


def _closing(text: str, start: int) -> int | None:
    """Place of the brace that closes the one before `start`; None when there is none within reach."""
    depth = 1
    for sign in _SIGN.finditer(text, start, start + 4 * MAX_ANSWER):
        depth += {"{": 1, "}": -1}.get(sign[0], 0)  # an escaped brace is a sign, not a group
        if depth == 0:
            return sign.start()
    return None


def tidy(answer: str) -> str:
    r"""One line, without dollar signs around it, money signs, or an inline-math pair."""
    text = " ".join(answer.replace("\\$", " ").split())
    for left, right in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        if text.startswith(left) and text.endswith(right) and len(text) >= len(left) + len(right):
            text = text[len(left) : -len(right)].strip()
            break
    return text


def refusal(gold: str, answer: str) -> str:
    """Why `answer` may not be compared with `gold` (both tidied), or an empty string. A short code, for counting.

    `empty`, `too_long`, `nested`: nothing that can be read.  `hedge`: an alternative where one answer is due.
    `open_end`: dots or question marks that the right answer does not have.  `undone`: the work is left to the grader.
    """
    if not answer.strip("{}()[]\\,;:. "):
        return "empty"
    if len(answer) > MAX_ANSWER:
        return "too_long"
    if _BOX.search(answer) or "$" in answer or _depth(answer) > MAX_DEPTH:
        return "nested"
    if _HEDGE.search(answer) and not (_HEDGE.search(gold) or _MANY.search(gold)):
        return "hedge"
    if _OPEN_END.search(answer) and not _OPEN_END.search(gold):
        return "open_end"
    return "undone" if _undone(gold, answer) else ""


def _undone(gold: str, answer: str) -> bool:
    plain = _PROSE.sub(" ", answer)
    for kind, pattern in _UNDONE.items():
        if re.search(pattern, plain) and not re.search(pattern, gold) and (kind != "function" or _constant(gold)):
            return True
    return _constant(gold) and _constant(answer) and _numbers(answer) > _numbers(gold) + SLACK


def _constant(text: str) -> bool:
    """No letters but those of commands and words: no variables."""
    return re.search(r"[A-Za-z]", _COMMAND.sub(" ", _PROSE.sub(" ", text))) is None


def _numbers(text: str) -> int:
    return len(_NUMBER.findall(_THOUSANDS.sub("", _PROSE.sub(" ", text))))


def _depth(text: str) -> int:
    return max(accumulate((char in "{([") - (char in "})]") for char in text), default=0)
