"""What a prompt style is: the frame around the words, the tags, and the fences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

TAGS = THINK, END_THINK, ANSWER, END_ANSWER = "<think>", "</think>", "<answer>", "</answer>"


def fence(tag: str, text: str) -> str:
    """A fenced block, the one notation for code and values in prompts and replies."""
    return f"```{tag}\n{text}\n```"


Words = Callable[..., str]
"""Writes the body of one prompt, from keyword arguments."""


@dataclass(frozen=True)
class Style:
    """One way of speaking to a model.

    `frame` turns an instruction body into the full prompt (r1, compact) or the user's message (chat).
    `prefill` is what the prompt ends with and the reply goes on from: it counts as part of the reply when read.
    `chat`: the tokenizer's chat template goes around the message (`codec.py` applies it).
    `words` maps ``"propose/deduction"`` and the like to the function that writes the body. A task type of your own may
    bring its words itself.
    """

    name: str
    frame: Callable[[str], str]
    prefill: str
    chat: bool = False
    words: Mapping[str, Words] = field(default_factory=dict)

    def render(self, body: str) -> str:
        return self.frame(body) + self.prefill
