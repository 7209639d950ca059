"""Evaluation: held-out problems, solved greedily, with intervals."""

from azr_lite.evaluation.games import Score, compare_paired, evaluate_games, held_out_problems, summarize

__all__ = ["Score", "compare_paired", "evaluate_games", "held_out_problems", "summarize"]
