"""The games. Importing this package registers the three of the paper."""

from azr_lite.tasks import abduction, deduction, induction
from azr_lite.tasks.base import Answer, Game, Proposal, Rules, games, get_game, register

__all__ = ["Answer", "Game", "Proposal", "Rules", "abduction", "deduction", "games", "get_game", "induction", "register"]
