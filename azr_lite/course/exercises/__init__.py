"""The course's exercises, one file a notebook: key, probes, and the mistakes that are known by name.

Not covered: how they are judged (`learn/checks.py`); their texts, which stand in the notebooks.
"""

from importlib import import_module
from pkgutil import iter_modules


def load() -> None:
    """Import every file here, which makes its exercises known."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
