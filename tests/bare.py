"""A fresh environment that holds a few installed distributions, and what they need, linked from the one the tests run in.

Comes in: an empty folder, names of distributions.  Goes out: the path of its interpreter, and the names of all it holds.
Not covered: installing azr_lite into it. Takes a second, and no network.
"""

from __future__ import annotations

import importlib.metadata as metadata
import re
import venv
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement


def plain(name: str) -> str:
    """A distribution's name in its one written form."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(name: str, found: set[str]) -> None:
    """Add to `found` the installed distributions that this one needs, with all they need in turn."""
    if name in found:
        return
    found.add(name)
    for line in metadata.requires(name) or []:
        need = Requirement(line)
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            needed(plain(need.name), found)


def bare_environment(place: Path, names: Iterable[str]) -> tuple[Path, set[str]]:
    """Its interpreter, and what it holds."""
    venv.create(place, with_pip=False, symlinks=True)
    site = next(place.glob("lib/python*/site-packages"))
    held: set[str] = set()
    for name in names:
        needed(name, held)
    for name in held:
        for top in {Path(str(file)).parts[0] for file in metadata.files(name) or []} - {"..", "__pycache__"}:
            origin = Path(str(metadata.distribution(name).locate_file(top)))
            if origin.exists() and not (site / top).exists():
                (site / top).symlink_to(origin)
    return place / "bin" / "python", held
