"""What a learner has solved, kept as plain Python in ``my_work.py`` beside the notebooks, for a later one to use."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from pathlib import Path
from symtable import SymbolTable, symtable
from types import ModuleType
from typing import Any

from azr_lite.errors import RunDirectoryError
from azr_lite.rundir import write_text

FILE = "my_work.py"
"""In the notebook's folder. On Colab it is downloaded from one notebook's machine and uploaded to the next one's."""

_HEAD = "# What you solved in this course. Later notebooks use it; you may edit it.\n"
_BLOCK = re.compile(r"^# ---- (\w+)\n.*?(?=^# ---- |\Z)", re.MULTILINE | re.DOTALL)


def keep(name: str, function: Any) -> None:
    """Write the function into the file, in place of an older one, with what it uses: imports, constants, own helpers.

    Only what a notebook's cell defined.
    """
    made: dict[str, str] = {}
    _collect(name, function, made)
    if getattr(function, "__module__", "") != "__main__" or not made[name]:
        return
    path = Path(FILE)
    text = path.read_text(encoding="utf-8") if path.exists() else _HEAD
    others = _BLOCK.sub(lambda block: "" if block[1] == name else block[0], text).rstrip()
    block = "\n".join(filter(None, made.values()))
    try:
        write_text(path, f"{others}\n\n# ---- {name}\n{block}\n", "folder")
    except RunDirectoryError as error:  # a course opened read-only is read to its end all the same
        print(f"{name} is not kept for later notebooks: {error}")


def _collect(name: str, value: Any, made: dict[str, str]) -> None:
    """Add to `made` the text that gives a name of the notebook its value, after the texts of all that it uses."""
    if name in made:
        return
    made[name] = _text(name, value)
    if getattr(value, "__module__", "") == "__main__":
        notebook = vars(sys.modules["__main__"])
        for used in sorted(_globals(symtable(made[name], FILE, "exec")) & notebook.keys()):
            _collect(used, notebook[used], made)
        made[name] = made.pop(name)


def _globals(table: SymbolTable) -> set[str]:
    """The names that a piece of source takes from around it."""
    own = {one.get_name() for one in table.get_symbols() if one.is_global() and one.is_referenced()}
    return own.union(*map(_globals, table.get_children()))


def _text(name: str, value: Any) -> str:
    """An import, a function's source, or a literal. Empty where none of them gives the value."""
    origin, own = getattr(value, "__module__", None) or "", getattr(value, "__name__", "")
    try:
        if isinstance(value, ModuleType):
            return f"import {own}" + f" as {name}" * (own != name)
        if origin == "__main__":
            text = textwrap.dedent(inspect.getsource(value)).rstrip()
            return text + f"\n{name} = {own}" * (own.isidentifier() and own != name)
        if own and getattr(sys.modules.get(origin), own, None) is value:
            return f"from {origin} import {own}" + f" as {name}" * (own != name)
        return f"{name} = {value!r}" if ast.literal_eval(repr(value)) == value else ""
    except (OSError, TypeError, ValueError, SyntaxError):
        return ""


def load(name: str) -> Any:
    """The kept function of that name, or None. Whatever the file raises when it is run goes to the caller.

    Its block alone is run: a function of a later notebook may have the name of one that an earlier answer uses.
    """
    path = Path(FILE)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    kept: dict[str, Any] = {"__name__": "my_work"}
    for block in _BLOCK.finditer(text):
        if block[1] == name:
            exec(compile(block[0], FILE, "exec"), kept)
    return kept.get(name)
