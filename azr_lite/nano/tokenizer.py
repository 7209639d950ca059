"""Word-level tokenizer of the nano world: about 200 tokens, exact round trip for every ASCII text.

Tags, fence openers and closers, commands, hint words and the idioms of the mini-language are single tokens, and so are
the integers 0 to 99. Everything else falls back to single ASCII characters, and what is not ASCII becomes ``<unk>``.
Load saved folders with `PreTrainedTokenizerFast`: `AutoTokenizer` puts the splitting rule of Qwen2 in place of ours.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from azr_lite.config import Config
from azr_lite.errors import ConfigError
from azr_lite.nano.language import KINDS
from azr_lite.prompts.base import ANSWER, END_ANSWER, END_THINK, THINK
from azr_lite.prompts.compact import COMPACT
from azr_lite.tasks import get_task_type
from azr_lite.tasks.deduction import DEDUCTION
from azr_lite.verifier import rules_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

EOS, PAD, UNK = "<eos>", "<pad>", "<unk>"

_FORM = (
    THINK, END_THINK, ANSWER, END_ANSWER, "```python\n", "```input\n", "```output\n", "```message\n",
    "\n```\n", "\n```",
)  # fmt: skip
_COMMANDS = tuple(
    f"{command} {name}\n" for command in ("solve", "invent") for name in ("deduction", "abduction", "induction")
)
_IDIOMS = (
    "def f(x):", "\n    x = ", "\n    return x", "x[::-1]", "x[1:]", "x[:-1]", "x[:1]", "x[-1:]", "x[0]", "x[-1]",
    "x.upper()", "x.swapcase()", "x.replace(", "''.join(sorted(x))", "sorted(x)", "len(x)", "max(x)", "min(x)",
    "list(range(x))", "[x]", "[x, ", "[v + ", " for v in x]", " + ", " * ", " -> ", " <- ", " => ", ", ", "then ?",
)  # fmt: skip
_WORDS = tuple(dict.fromkeys(kind.name for kind in KINDS.values()))
_NUMBERS = tuple(str(number) for number in range(10, 100))
_ASCII = tuple(chr(code) for code in (9, 10, 11, 12, 13, *range(32, 127)))


def vocabulary() -> dict[str, int]:
    """Every token with its id, padding first."""
    tokens = (PAD, EOS, UNK, *_FORM, *_COMMANDS, *_IDIOMS, *_WORDS, *_NUMBERS, *_ASCII)
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, made from the lists above."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(vocabulary(), unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_pattern()), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def check_prompts(config: Config) -> None:
    """ConfigError where the shortest prompts of a task type, those about its first task, are too long for nano."""
    rules, longest, first = rules_of(config), config.max_prompt_tokens, DEDUCTION.zero_task()
    for task_type in map(get_task_type, config.task_types):
        task, given = task_type.zero_task(), [first] if task_type.propose_from == "programs" else []
        prompts = {"proposals": task_type.propose_prompt(COMPACT, given, rules)}
        prompts |= {"answers": task_type.solve_prompt(COMPACT, task, rules)} if task is not None else {}
        for what, prompt in prompts.items():
            if (tokens := len(re.findall(_pattern(), prompt))) > longest:
                raise ConfigError(
                    f"nano reads prompts of {longest} tokens, and the shortest for {what} of {task_type.name} has "
                    f"{tokens}; give that type the words of a built-in one (docs/how-to/task_type.md), or --model"
                )


def _pattern() -> str:
    """What splits a text: a longer token goes before a shorter one."""
    longest_first = sorted((*_FORM, *_COMMANDS, *_IDIOMS, *_WORDS), key=len, reverse=True)
    return "|".join((*map(_escape, longest_first), "[1-9][0-9]", r"[\s\S]"))


def _escape(token: str) -> str:
    return re.escape(token).replace("\\\n", "\\n").replace("\\ ", " ")
