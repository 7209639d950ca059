"""The words of the prompts, in three styles: `r1` (base models), `chat` (instruct models), `compact` (nano)."""

from azr_lite.errors import ConfigError
from azr_lite.prompts.base import Style
from azr_lite.prompts.compact import COMPACT
from azr_lite.prompts.words import CHAT, R1

STYLES = {style.name: style for style in (R1, CHAT, COMPACT)}


def get_style(name: str) -> Style:
    """The named style; ConfigError for an unknown name."""
    if name not in STYLES:
        raise ConfigError(f"unknown prompt style {name!r}; choose r1, chat or compact")
    return STYLES[name]


__all__ = ["STYLES", "Style", "get_style"]
