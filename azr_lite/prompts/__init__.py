"""The words of the prompts, in three styles behind one interface: `r1` (base models), `chat` (instruct models), `compact` (nano).

Comes in: a style's name.  Goes out: a `Style`.
Not covered: which style suits a model (`models.py`), the tokenizer's chat template (`codec.py`).
"""

from azr_lite.errors import ConfigError
from azr_lite.prompts.base import Style


def get_style(name: str) -> Style:
    """The named style; ConfigError for an unknown name."""
    if name == "r1":
        from azr_lite.prompts.words import R1 as style
    elif name == "chat":
        from azr_lite.prompts.words import CHAT as style
    elif name == "compact":
        from azr_lite.prompts.compact import COMPACT as style
    else:
        raise ConfigError(f"unknown prompt style {name!r}; choose r1, chat or compact")
    return style


__all__ = ["Style", "get_style"]
