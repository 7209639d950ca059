"""`verifiers` finds an environment by the name of a top-level module, so this folder goes on PYTHONPATH."""

from azr_lite.integrations.verifiers import OneReply, SelfPlayEnv, SelfPlayTaskset

__all__ = ["OneReply", "SelfPlayEnv", "SelfPlayTaskset"]
