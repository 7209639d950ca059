"""Flags that are read before the others, because what they say decides which defaults the others have.

Comes in: the words after a verb.  Goes out: a flag's value, or the words without it.
Not covered: every other flag (tyro reads those from a dataclass).
"""

from __future__ import annotations

from azr_lite.errors import ConfigError


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
