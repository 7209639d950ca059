"""The words after a verb, as values: one way to call tyro for all verbs, and the flags that are read before the others.

Comes in: the words after a verb, and the dataclass (or function) that names them.  Goes out: an instance of it.
Not covered: what a verb does with them; presets (presets.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tyro

from azr_lite.errors import ConfigError

T = TypeVar("T")


def parse(
    what: Callable[..., T], words: list[str], verb: str, default: T | None = None, description: str | None = None
) -> T:
    """`what`, a dataclass or function, filled in from the words of a command line by tyro; `default` gives what is not said.

    The help shows a flag that may be left out with its type alone, without {None}.
    """
    plain = (tyro.conf.AvoidSubcommands, tyro.conf.DisallowNone)
    kept = {} if default is None else {"default": default}
    return tyro.cli(what, args=words, prog=f"azr-lite {verb}", description=description, config=plain, **kept)


def take_value(words: list[str], flag: str, example: str) -> tuple[str | None, list[str]]:
    """The flag's value, and the words without both. ConfigError (with the example) for a flag that stands alone."""
    for index, word in enumerate(words):
        if word.startswith(flag + "="):
            return word.split("=", 1)[1], [*words[:index], *words[index + 1 :]]
        if word == flag:
            if index + 1 == len(words) or words[index + 1].startswith("-"):
                raise ConfigError(f"{flag} stands without a value; give one, such as {flag} {example}")
            return words[index + 1], [*words[:index], *words[index + 2 :]]
    return None, words
