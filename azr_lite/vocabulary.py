"""Tokens of a reply's form that a vocabulary has and its model was never taught.

Comes in: model and tokenizer.  Goes out: the tags concerned, each with its reason; a way to write them without those tokens.
Not covered: whether the model uses the tags well (that is what it is paid for).

Qwen3's base models share the vocabulary of the chat models: ``<think>`` is one token there, and its embedding is still what it was
at the start of pre-training. A prompt that ends with it makes nonsense of what follows (upstream's README says so); written as
the ordinary tokens of "<" and "think>" it is text like any other, and reads the same in the reply.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import torch

from azr_lite.prompts.base import ANSWER, END_ANSWER, END_THINK, THINK

TAGS = (THINK, END_THINK, ANSWER, END_ANSWER)
SMALL, ALIKE = 0.5, 0.95
"""An embedding counts as untrained when its norm is below half the median, or its direction is that of the rows no token uses."""


@torch.no_grad()
def untrained_tags(model: Any, tokenizer: Any) -> dict[str, str]:
    """Tag: why it counts as untrained. Only tags that are a single token can be."""
    single = {tag: ids[0] for tag in TAGS if len(ids := tokenizer(tag, add_special_tokens=False)["input_ids"]) == 1}
    single = {tag: token for tag, token in single.items() if token != tokenizer.unk_token_id}
    if not single:
        return {}
    weights_VD = model.get_input_embeddings().weight.detach()
    norms_V = weights_VD.float().norm(dim=1)
    median = float(norms_V.median())
    unused_UD = weights_VD[len(tokenizer) :].float()  # rows that only fill the matrix up
    reasons = {}
    for tag, token in single.items():
        norm = float(norms_V[token])
        if norm < SMALL * median:
            reasons[tag] = f"its embedding has norm {norm:.2g}, the median is {median:.2g}"
        elif len(unused_UD) and float(torch.cosine_similarity(weights_VD[token].float(), unused_UD.mean(0), dim=0)) > ALIKE:
            reasons[tag] = "its embedding looks like those of the rows no token uses"
    return reasons


def split_untrained_tags(text: str, untrained: Collection[str]) -> list[str]:
    """The text in pieces to be tokenised one by one, so that no tag in `untrained` becomes one token: each is cut after its first character.

    Joined, the pieces are the text again.
    """
    if not untrained:
        return [text]
    cut = re.sub("|".join(map(re.escape, sorted(untrained))), lambda found: found[0][0] + "\0" + found[0][1:], text)
    return [piece for piece in cut.split("\0") if piece]
