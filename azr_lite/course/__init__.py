"""The course's toolbox: what notebooks import besides `azr_lite` itself.

Importing it loads numpy at most; the names of `TOOLS` load at first use. Nothing in the package imports it but the
command line.
"""

from __future__ import annotations

import os

from azr_lite import lazy_names
from azr_lite.course.checks import check
from azr_lite.errors import ConfigError

__all__ = ["PROFILES", "TOOLS", "check", "profile"]

PROFILES = ("ci", "cpu", "gpu")
"""How much a notebook does: seconds for tests, minutes on a laptop, what one GPU is worth."""

TOOLS = {
    name: module
    for module, names in {
        # the course's own
        "azr_lite.course.attacks": "judge_candidate",
        "azr_lite.course.checks": "exercise_of",
        "azr_lite.course.exercises.nb03": "expected_learnability proposer_reward",
        "azr_lite.course.exercises.nb10": "ITEM ErrorPolicy",
        "azr_lite.course.recorded_runs": "patient real_runs recorded sample whole_run",
        "azr_lite.course.scripted_policy": "ScriptedPolicy",
        "azr_lite.course.triplet_views": "draw_task_type visible",
        # triplets, tasks, prompts and replies
        "azr_lite.triplet": "Completion InductionTask ProposalAttempt Reason Rejection Role Rules SolveAttempt",
        "azr_lite.buffer": "Buffer Buffers task_key",
        "azr_lite.nano.language": "draw_task held_out is_reserved",
        "azr_lite.nano.model": "load_nano",
        "azr_lite.parsing": "ParsedReply parse_reply",
        "azr_lite.prompts": "get_style",
        "azr_lite.prompts.words": "COMPACT",
        "azr_lite.tasks": "Answer Deduction Proposal get_task_type",
        "azr_lite.tasks.base": "argument_text",
        # the sandbox
        "azr_lite.sandbox": "Job Level Limits Outcome Validation",
        "azr_lite.sandbox.executor": "level_of verdict",
        "azr_lite.sandbox.literal": "read_arguments read_value",
        "azr_lite.sandbox.wire": "canonical compare render",
        # rewards and advantages
        "azr_lite.rewards": "Reward solve_rate",
        "azr_lite.advantages": "dr_grpo estimate loss_weights rloo split_into_updates whiten_sequences whiten_tokens",
        "azr_lite.minimal": "AbsoluteZero",
        "azr_lite.verifier": "rules_of",
        # looking at a run
        "azr_lite.metrics": "across explain find mean",
        "azr_lite.evaluation.reasoning": "HELD_OUT_SEED",
        "azr_lite.evaluation.scores": "compare_paired mcnemar pass_at_k read_items wilson",
        "azr_lite.observe.measures": "MEASURES",
        "azr_lite.observe.doctor": "rerun",
        "azr_lite.observe.style": "printable",
        "azr_lite.observe.run_summary": "due",
        "azr_lite.train.checkpoints": "last_whole_checkpoint step_of",
        # planning a run
        "azr_lite.errors": "ConfigError EvaluationError",
        "azr_lite.planner.plan": "natural_gpu plan_all",
        "azr_lite.planner.text": "plan_table plan_text",
        "azr_lite.planner.vram": "NF4 Shape VLLM_OVERHEAD activation_bytes adapter_bytes cache_bytes_per_token "
        "gradient_bytes optimiser_bytes shape_of trainable_parameters weight_bytes",
        "azr_lite.train.distributed": "launch_file",
    }.items()
    for name in names.split()
}
"""What lessons need beyond the public face: name to module. Exercises have their answer keys here."""

__getattr__, __dir__ = lazy_names(__name__, TOOLS)


def profile(wanted: str = "auto") -> str:
    """The profile of a notebook, for a choice of `PROFILES`.

    "auto" takes `AZR_LITE_PROFILE` where it is set, else "gpu" where nvidia-smi names one, else "cpu".
    """
    if wanted == "auto":
        wanted = os.environ.get("AZR_LITE_PROFILE", "")
    if not wanted:
        from azr_lite.planner.vram import detect_gpu

        wanted = "gpu" if detect_gpu() is not None else "cpu"
    if wanted not in PROFILES:
        raise ConfigError(f"PROFILE is {wanted!r}; choose auto, {', '.join(PROFILES)}")
    return wanted
