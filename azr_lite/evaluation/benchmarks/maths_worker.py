r"""The process that compares answers by math-verify: ``python -m azr_lite.evaluation.benchmarks.maths_worker MEMORY_MB``.

Comes in: JSON lines ``{"gold", "answer"}`` or ``{"gold", "text"}`` on standard input; `text` is the end of a reply without a box.
Goes out: one line when ready (layers of confinement, or what is missing), then one ``{"right", "reason"}`` a line.
Not covered: deadlines and replacement (`maths_grader.py`), which answers are refused as text (`boxes.py`).

An answer is untrusted text.  Right answers do enter this process, since math-verify compares two expressions; that is harmless as
long as no text becomes code here.  So: sympy turns text into Python in one place, `eval_expr`, which is cut out before the first
answer is read (with `parse_expr` replaced by a reader of plain numbers), an audit hook refuses compiling text, processes, sockets
and opening files for writing, and the kernel keeps the process from writing, from the network and from new privileges whatever
it comes to run.  A bug in the interpreter itself is not defended against.
"""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import sys
from pathlib import Path
from typing import Any

from azr_lite.evaluation.benchmarks.boxed_answers import refusal, tidy

_READING = (1 << 2) | (1 << 3)
"""Landlock's rights to read files and list folders: those that importing the rest of sympy needs."""
_NEW_USER_AND_NETWORK = 0x10000000 | 0x40000000
_PLAIN_NUMBER = re.compile(r"[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400}", re.ASCII)
_MAKES_CODE = {"collections", "dataclasses", "functools", "typing", "enum", "sympy.polys.monomials"}
"""Modules that compile text of their own: classes while being imported, and sympy's products of n variables, made from n alone."""
_NEVER = (
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "subprocess.",
    "socket.",
    "ctypes.",
    "os.kill",
    "pty.",
)
_CHANGES = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "shutil.",
)


def confine(memory_mb: int) -> dict[str, str]:
    """No network, no writing, no new privileges, no more than this memory. Layer to "on" or "off: why"; each may be missing."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "sandbox"))
    import lockdown  # type: ignore[import-not-found]  # made to be imported by path, without its package

    sys.path.pop(0)

    def no_network() -> None:
        lockdown.check(lockdown.libc.unshare(_NEW_USER_AND_NETWORK))

    def no_writing() -> None:
        lockdown.landlock(kept=_READING)

    def memory() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))

    layers = {
        "dies_with_parent": lockdown.die_with_parent,
        "network": no_network,
        "privileges": lockdown.no_new_privs,
        "capabilities": lockdown.no_capabilities,
        "writing": no_writing,
        "limits": lockdown.limits,
        "memory": memory,
    }
    return {name: lockdown.attempt(layer) for name, layer in layers.items()}


REFUSED: list[str] = []
"""What `disarm` and `watch` refused since the current answer came; such an answer is not called wrong without a word."""

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

    def numbers_only(text: Any, *args: Any, **kwargs: Any) -> Any:
        if not (isinstance(text, str) and _PLAIN_NUMBER.fullmatch(text)):
            REFUSED.append("text")
            raise ValueError("only plain numbers are read from text here")
        return sympy.Integer(int(text)) if text.isdigit() else sympy.Float(text)

    def never(*args: Any, **kwargs: Any) -> Any:
        REFUSED.append("text")
        raise ValueError("text is not run here")

    def arithmetic(text: str) -> Any:  # math-verify hands over digits and + - * / ^ ( ); its LaTeX reader knows those
        return math_verify.parser.parse_latex_cached(text.replace("**", "^"))

    sympy_parser.parse_expr, sympy_parser.eval_expr = numbers_only, never
    math_verify.parser.parse_expr, math_verify.parser.parse_expr_cached = numbers_only, arithmetic


def watch() -> None:
    """Refuse, from now on and for good, what comparing answers never does."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = args
            if (isinstance(mode, str) and set(mode) & set("wax+")) or (
                isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
            ):
                REFUSED.append("writing")
                raise PermissionError(f"opening {path!r} for writing is refused")
        elif event == "compile":
            name = args[1].decode("utf-8", "replace") if isinstance(args[1], bytes) else str(args[1])
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if name.startswith("<") and not name.startswith("<frozen") and caller not in _MAKES_CODE:
                REFUSED.append("code")
                raise PermissionError(f"{caller} may not turn text into code")
        elif event.startswith(_NEVER) or event.startswith(_CHANGES):
            REFUSED.append(event)
            raise PermissionError(f"{event} is refused")

    sys.addaudithook(hook)


def compare(gold: str, answer: str) -> tuple[bool, str]:
    """Is the tidied `answer` the expression `gold`? With a short reason where it is not."""
    if reason := refusal(gold, answer):
        return False, reason
    from math_verify import LatexExtractionConfig, parse

    if _ordered(gold) and not _bracketed(answer) and "," in answer:
        answer = f"({answer})"  # or a point would be compared as a set, in any order
    found = parse(f"${answer}$", [LatexExtractionConfig()], parsing_timeout=None)
    return _judge(gold, found)


def compare_text(gold: str, text: str) -> tuple[bool, str]:
    """The comparison for the end of a reply that has no box: what math-verify takes for its last expression or number."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    found = parse(text, [LatexExtractionConfig(boxed_match_priority=-1), ExprExtractionConfig()], parsing_timeout=None)
    words = next((item for item in found if isinstance(item, str)), "")
    if reason := refusal(gold, tidy(words)):
        return False, reason
    return _judge(gold, found)


def _judge(gold: str, found: list[Any]) -> tuple[bool, str]:
    from math_verify import parse, verify

    expected = _gold(gold, parse)
    if not found:
        return False, "unreadable"
    both = expected and not isinstance(expected[0], str) and not isinstance(found[0], str)
    if both and (reason := _refused(expected[0], found[0], verify)):
        return False, reason
    right = bool(verify(expected, found, timeout_seconds=None))
    return right, "" if right else "wrong"


def _gold(gold: str, parse: Any) -> list[Any]:
    from math_verify import LatexExtractionConfig

    return list(parse(f"${gold}$", [LatexExtractionConfig()], parsing_timeout=None))


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
    free = getattr(value, "free_symbols", set())
    if free and not getattr(expected, "free_symbols", set()):
        return "free_symbol"
    return ""


def _bracketed(text: str) -> bool:
    return re.match(r"\s*(?:\\left\s*)?(?:[(\[{]|\\[{lb]|\\begin)", text) is not None


def _ordered(text: str) -> bool:
    return re.fullmatch(r"\s*(?:\\left\s*)?\([^()]*,.*\)\s*", text, re.DOTALL) is not None


def main() -> None:
    # answers must not be able to write into the channel by way of a stray print
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    layers = confine(int(sys.argv[1]))
    logging.disable(logging.CRITICAL)
    try:
        import math_verify  # noqa: F401
    except ImportError as error:
        print(json.dumps({"ready": False, "error": str(error)}), file=channel, flush=True)
        return
    warm_up()
    disarm()
    watch()
    print(json.dumps({"ready": True, "layers": layers}), file=channel, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        memory_gone = False
        REFUSED.clear()
        try:
            right, reason = (
                compare(job["gold"], job["answer"]) if "answer" in job else compare_text(job["gold"], job["text"])
            )
        except MemoryError:
            right, reason, memory_gone = False, "memory", True
        except Exception as error:
            right, reason = False, f"error: {type(error).__name__}"
        if REFUSED and not right:
            reason = f"confined: {REFUSED[0]}"
        print(json.dumps({"right": right, "reason": reason}), file=channel, flush=True)
        if memory_gone:
            return  # what sympy has cached is suspect now; a fresh worker follows


if __name__ == "__main__":
    main()
