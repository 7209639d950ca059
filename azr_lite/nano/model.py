"""The nano policy: a Qwen2-shaped model of half a million parameters, with its tokenizer. Imports torch when loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from azr_lite.config import Config
from azr_lite.errors import ConfigError
from azr_lite.prompts.words import COMPACT
from azr_lite.tasks import get_task_type
from azr_lite.tasks.deduction import DEDUCTION
from azr_lite.verifier import rules_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

WEIGHTS = Path(__file__).parent / "weights"


def load_nano(folder: Path | str = WEIGHTS) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """The shipped policy and tokenizer (float32, CPU)."""
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

    model = Qwen2ForCausalLM.from_pretrained(str(folder))
    return model.float(), PreTrainedTokenizerFast.from_pretrained(str(folder))


def check_prompts(config: Config) -> None:
    """ConfigError where the shortest prompts of an own task type, those about its first task, are too long for nano."""
    rules, longest, first = rules_of(config), config.max_prompt_tokens, DEDUCTION.zero_task()
    for task_type in (get_task_type(name) for name in config.task_types if f"solve/{name}" not in COMPACT.words):
        from tokenizers import Tokenizer

        task, given = task_type.zero_task(), [first] if task_type.propose_from == "programs" else []
        prompts = {"proposals": task_type.propose_prompt(COMPACT, given, rules)}
        prompts |= {"answers": task_type.solve_prompt(COMPACT, task, rules)} if task is not None else {}
        tokenizer = Tokenizer.from_file(str(WEIGHTS / "tokenizer.json"))
        for what, prompt in prompts.items():
            if (tokens := len(tokenizer.encode(prompt).ids)) > longest:
                raise ConfigError(
                    f"nano reads prompts of {longest} tokens, and the shortest for {what} of {task_type.name} has "
                    f"{tokens}; give it a built-in type's words (docs/how-to/task_type.md), or use another --model"
                )
