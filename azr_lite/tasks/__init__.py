"""The games. Importing this package registers the three of the paper, and then what the modules named in AZR_LITE_GAMES register.

``AZR_LITE_GAMES=my_games PYTHONPATH=. azr-lite run --task-types errors deduction`` is how the command line, a resumed run and every
process of a launch come to know a game of one's own. Whoever sets the variable runs these modules: they are code, with this user's
rights. Not covered: what a game is (`base.py`).
"""

import importlib
import os

from azr_lite.errors import ConfigError
from azr_lite.tasks import abduction, deduction, induction
from azr_lite.tasks.base import Answer, Game, Proposal, Rules, games, get_game, register

__all__ = ["Answer", "Game", "Proposal", "Rules", "abduction", "deduction", "games", "get_game", "induction", "register"]

for _name in filter(None, os.environ.get("AZR_LITE_GAMES", "").split(",")):
    try:
        importlib.import_module(_name.strip())
    except ImportError as error:
        raise ConfigError(
            f"AZR_LITE_GAMES names the module {_name.strip()!r}, which cannot be imported ({error}); put its folder on PYTHONPATH"
        ) from error
