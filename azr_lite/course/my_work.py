"""What a learner has solved, kept as plain Python in ``my_work.py`` beside the notebooks, for a later one to use."""

from __future__ import annotations

import ast
import importlib.util
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
    if made:
        path = Path(FILE)
        text = path.read_text(encoding="utf-8") if path.exists() else _HEAD
        others = _BLOCK.sub(lambda block: "" if block[1] in made else block[0], text).rstrip()
        blocks = "".join(f"\n\n# ---- {own}\n{source}" for own, source in made.items())
        try:
            write_text(path, f"{others}{blocks}\n", "folder")
        except RunDirectoryError as error:  # a course opened read-only is read to its end all the same
            print(f"{name} is not kept for later notebooks: {error}")


def _collect(name: str, function: Any, made: dict[str, str]) -> None:
    """Add the source of a notebook's function to `made`, and of those it calls."""
    if getattr(function, "__module__", "") != "__main__" or name in made:
        return
    try:
        source = textwrap.dedent(inspect.getsource(function)).rstrip()
    except (OSError, TypeError):
        return
    made[name] = source  # before its helpers, which may call it
    notebook = vars(sys.modules["__main__"])
    used = sorted(one for one in _globals(symtable(source, FILE, "exec")) - {name} if one in notebook)
    made[name] = "".join(_given(one, notebook[one]) for one in used) + source
    for one in used:
        _collect(one, notebook[one], made)


def _globals(table: SymbolTable) -> set[str]:
    """The names that a piece of source takes from around it."""
    own = {one.get_name() for one in table.get_symbols() if one.is_global() and one.is_referenced()}
    return own.union(*map(_globals, table.get_children()))


def _given(name: str, value: Any) -> str:
    """The line that gives a name its value: an import, or a literal. Empty where neither does."""
    if isinstance(value, ModuleType):
        return f"import {value.__name__} as {name}\n"
    origin, own = getattr(value, "__module__", None) or "", getattr(value, "__name__", "")
    if origin != "__main__" and own and getattr(sys.modules.get(origin), own, None) is value:
        return f"from {origin} import {own} as {name}\n"
    try:
        return f"{name} = {value!r}\n" if ast.literal_eval(repr(value)) == value else ""
    except (ValueError, SyntaxError):
        return ""


def load(name: str) -> Any:
    """The kept function of that name, or None. Whatever the file raises when it is run goes to the caller."""
    path = Path(FILE)
    if not path.exists():
        return None
    spec = importlib.util.spec_from_file_location("my_work", path.resolve())
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return vars(module).get(name)
