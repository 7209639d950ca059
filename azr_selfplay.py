"""`verifiers` finds an environment by the name of a top-level module: ``vf-eval azr-selfplay``."""

from azr_lite.integrations.verifiers import OneReply, SelfPlayEnv, SelfPlayTaskset

__all__ = ["OneReply", "SelfPlayEnv", "SelfPlayTaskset"]
