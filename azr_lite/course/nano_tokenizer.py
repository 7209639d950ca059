"""Word-level tokenizer of the nano world: about 200 tokens, exact round trip for every ASCII text.

Tags, fence openers and closers, commands, hint words and the idioms of the mini-language are single tokens, and so are
the integers 0 to 99. Everything else falls back to single ASCII characters, and what is not ASCII becomes ``<unk>``.
Load saved folders with `PreTrainedTokenizerFast`: `AutoTokenizer` puts the splitting rule of Qwen2 in place of ours.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from azr_lite.nano.language import KINDS
from azr_lite.prompts.base import ANSWER, END_ANSWER, END_THINK, THINK

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

    longest_first = sorted((*_FORM, *_COMMANDS, *_IDIOMS, *_WORDS), key=len, reverse=True)
    words = [re.escape(token).replace("\\\n", "\\n").replace("\\ ", " ") for token in longest_first]
    pattern = "|".join((*words, "[1-9][0-9]", r"[\s\S]"))
    tokenizer = Tokenizer(models.WordLevel(vocabulary(), unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
