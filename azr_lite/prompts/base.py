"""What a prompt style is: the frame around the words, the tags, the fences, and how replies are read."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from azr_lite.parsing import ANSWER, END_ANSWER, END_THINK, TAGS, THINK, ParsedReply, parse_reply
from azr_lite.triplet import Reason, Rejection, Role, Rules

__all__ = ["ANSWER", "END_ANSWER", "END_THINK", "TAGS", "THINK", "Style", "Words", "fence"]


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

    def vary(self, rng: random.Random) -> Style:
        """The style of one proposer's prompt, which may carry a hint drawn from `rng`."""
        return self

    def read(self, role: Role, prompt: str, text: str, rules: Rules) -> ParsedReply | Rejection:
        """The reply `text` to a rendered prompt as labelled blocks, whatever the text."""
        return parse_reply(self.prefill + text, rules.reply_reading)

    def ended(self, role: Role, prompt: str, text: str) -> bool | None:
        """Whether more text could not change what `read` finds. Once true, true for every longer text.

        None: only an end token ends a reply to this prompt.
        """
        return None

    def rule(self, role: Role, prompt: str) -> Callable[[str], bool | None] | None:
        """`ended` of replies to this prompt; None where only an end token ends them."""
        ended = functools.partial(self.ended, role, prompt)
        return None if ended("") is None else ended

    def read_sampled(
        self, role: Role, prompt: str, text: str, rules: Rules, *, cut: str = ""
    ) -> ParsedReply | Rejection:
        """`read`, of a reply that the token limit may have cut: `cut` then says so in words, else it is empty."""
        reply = self.read(role, prompt, text, rules)
        if cut and (isinstance(reply, Rejection) or self.ended(role, prompt, text) is False):
            return Rejection(Reason.TRUNCATED, cut)
        return reply
