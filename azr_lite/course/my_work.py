"""What a learner has solved, kept as plain Python in ``my_work.py`` beside the notebooks, for a later one to use."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

FILE = "my_work.py"
"""In the notebook's folder. On Colab it is downloaded from one notebook's machine and uploaded to the next one's."""

_HEAD = "# What you solved in this course. Later notebooks use it; you may edit it.\n"
_BLOCK = re.compile(r"^# ---- (\w+)\n.*?(?=^# ---- |\Z)", re.MULTILINE | re.DOTALL)


def keep(name: str, function: Any) -> None:
    """Write the function's source into the file, in place of an older one. Only what a notebook's cell defined."""
    if getattr(function, "__module__", "") != "__main__":
        return
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        return
    path = Path(FILE)
    text = path.read_text(encoding="utf-8") if path.exists() else _HEAD
    others = _BLOCK.sub(lambda block: "" if block[1] == name else block[0], text)
    path.write_text(f"{others.rstrip()}\n\n# ---- {name}\n{source.rstrip()}\n", encoding="utf-8")


def load(name: str) -> Any:
    """The kept function of that name, or None. It sees what the calling notebook has imported.

    Whatever the file raises when it is run goes to the caller.
    """
    path = Path(FILE)
    if not path.exists():
        return None
    spec = importlib.util.spec_from_file_location("my_work", path.resolve())
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    shared = vars(sys.modules["__main__"])
    vars(module).update({key: value for key, value in shared.items() if not key.startswith("__") and key != name})
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return vars(module).get(name)
