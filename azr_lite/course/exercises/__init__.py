"""The course's exercises, one file per notebook: key, probes, and the mistakes that are known by name."""

from importlib import import_module
from pkgutil import iter_modules


def load() -> None:
    """Import every file here, which makes its exercises known."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
