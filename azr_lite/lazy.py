"""Public names of a package that load at first use (PEP 562), so that importing the package costs next to nothing.

No module may be called like one of its package's names: importing it would hide the function.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` for `package`; `modules`: public name → full name of its module."""
    offered = sorted(modules)

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it offers {', '.join(offered)}")
        return getattr(import_module(modules[name]), name)

    return load, lambda: sorted({*vars(sys.modules[package]), *offered})
