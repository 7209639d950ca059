"""The words of the prompts, in five styles: `r1` (base models), `chat` (instruct models), `compact` (nano); `file` and
`file-working` (any model: every prompt is the beginning of a Python file)."""

from azr_lite.errors import ConfigError
from azr_lite.prompts.base import Style
from azr_lite.prompts.file import FILE, FILE_WORKING
from azr_lite.prompts.words import CHAT, COMPACT, R1

STYLES = {style.name: style for style in (R1, CHAT, COMPACT, FILE, FILE_WORKING)}


def get_style(name: str) -> Style:
    """The named style; ConfigError for an unknown name."""
    if name not in STYLES:
        raise ConfigError(f"unknown prompt style {name!r}; choose from: {', '.join(STYLES)}")
    return STYLES[name]


__all__ = ["STYLES", "Style", "get_style"]
