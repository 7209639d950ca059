"""A program as HTML with coloured words.

Comes in: text that a model wrote.  Goes out: escaped HTML with `<span class>` of six fixed names.
Not covered: colours (`templates/`).
"""

from __future__ import annotations

import functools
import html

from markupsafe import Markup, escape

from azr_lite.observe.rollouts import printable

MOST = 4000
"""Longer text stays plain: a lexer's patterns may be slow on hostile text."""


@functools.lru_cache(maxsize=1024)  # a page is rendered until it fits
def highlighted(program: str) -> Markup:
    """Python with keywords, names of functions, text, numbers, comments and operators marked; every character escaped."""
    from pygments.lexers.python import PythonLexer
    from pygments.token import Token

    program = printable(program)
    if len(program) > MOST:
        return escape(program)
    classes = (
        (Token.Keyword, "k"), (Token.Operator.Word, "k"), (Token.Name.Function, "f"), (Token.Name.Builtin, "b"), (Token.Literal.String, "s"),
        (Token.Literal.Number, "n"), (Token.Comment, "c"),
    )  # fmt: skip
    parts = []
    for kind, text in PythonLexer(stripnl=False, ensurenl=False).get_tokens(program):
        name = next((name for token, name in classes if kind in token), "")
        parts.append(f'<span class="{name}">{html.escape(text)}</span>' if name else html.escape(text))
    return Markup("".join(parts))  # every text in it was escaped just now
