"""What a prompt style is: frame, words, tags, fences, how replies are read; and how text becomes tokens and back."""

from __future__ import annotations

import bisect
import functools
import hashlib
import random
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from azr_lite.errors import ModelError, first_line
from azr_lite.parsing import ANSWER, END_ANSWER, END_THINK, TAGS, THINK, ParsedReply, parse_reply
from azr_lite.triplet import Completion, Reason, Rejection, Role, Rules

__all__ = ["ANSWER", "END_ANSWER", "END_THINK", "TAGS", "THINK", "Style", "Words", "fence"]


def fence(tag: str, text: str) -> str:
    """A fenced block, the one notation for code and values in prompts and replies."""
    return f"```{tag}\n{text}\n```"


def paragraphs(*texts: str) -> str:
    return "\n\n".join(texts)


Words = Callable[..., str]
"""Writes the body of one prompt, from keyword arguments."""
Ended = Callable[[str], bool | None]
"""Whether the text of a reply is over. Once true, true for every longer text."""
Sample = tuple[Sequence[int], Sequence[float] | None, bool]
"""Sampled ids, their log-probabilities (or None), and whether the token limit cut them."""


@dataclass(frozen=True)
class Style:
    """One way of speaking to a model.

    `frame` turns an instruction body into the full prompt (r1, compact) or the user's message (chat).
    `prefill` is what the prompt ends with and the reply goes on from: it counts as part of the reply when read.
    `chat`: the tokenizer's chat template goes around the message (`chat_prompt`).
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

    def rule(self, role: Role, prompt: str) -> Ended | None:
        """`ended` of replies to this prompt; None where only an end token ends them."""
        ended = functools.partial(self.ended, role, prompt)
        return None if ended("") is None else ended

    def read_sampled(self, role: Role, prompt: str, text: str, rules: Rules, cut: str = "") -> ParsedReply | Rejection:
        """`read`, of a reply that the token limit may have cut: `cut` then says so in words, else it is empty."""
        reply = self.read(role, prompt, text, rules)
        if cut and (isinstance(reply, Rejection) or self.ended(role, prompt, text) is False):
            return Rejection(Reason.TRUNCATED, cut)
        return reply


# ---------------------------------------------------------------- text to tokens and back

SMALL, ALIKE = 0.5, 0.95
"""An embedding counts as untrained when its norm is below half the median, or its direction is that of the rows no
token uses."""


def untrained_tags(model: Any, tokenizer: Any) -> dict[str, str]:
    """Tag: why it counts as untrained. Only tags that are a single token can be."""
    ids = {tag: tokenizer(tag, add_special_tokens=False)["input_ids"] for tag in TAGS}
    single = {tag: found[0] for tag, found in ids.items() if len(found) == 1 and found[0] != tokenizer.unk_token_id}
    if not single:
        return {}
    weights_VD = model.get_input_embeddings().weight.detach()
    norms_V = weights_VD.float().norm(dim=1)
    median = float(norms_V.median())
    unused_UD = weights_VD[len(tokenizer) :].float()  # rows that only fill the matrix up
    mean_D = unused_UD.mean(0)
    reasons = {}
    for tag, token in single.items():
        norm = float(norms_V[token])
        if norm < SMALL * median:
            reasons[tag] = f"its embedding has norm {norm:.2g}, the median is {median:.2g}"
        elif len(unused_UD) and weights_VD[token].float() @ mean_D > ALIKE * norm * mean_D.norm():
            reasons[tag] = "its embedding looks like those of the rows no token uses"
    return reasons


def chat_prompt(tokenizer: Any, text: str, prefill: str = "") -> str:
    """The prompt that the tokenizer's chat template makes of a user's message, with one open thought at its end.

    A thought that the template opens itself is not opened again; one that it closes empty is opened.
    ModelError where the template fails, or leaves the message out.
    """
    why = "it leaves out the message"
    for content in (text, [{"type": "text", "text": text}]):  # models of pictures and text want parts
        try:
            prompt = tokenizer.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True, enable_thinking=True
            )
        except Exception as error:  # a template is a program of the model's publisher
            why = f"{type(error).__name__}: {first_line(error)}"
            continue
        if text.strip() in prompt:
            end = prompt.rpartition(text.strip())[2]
            if prefill == THINK and THINK in end:
                opened, _, rest = end.rpartition(THINK)
                return prompt if END_THINK not in rest else prompt.removesuffix(end) + opened + THINK
            return prompt + prefill
    raise ModelError(f"the model's chat template cannot be used ({why}); use prompts='r1' (--prompts r1)")


class Codec:
    """The one place where text becomes tokens and back, for counting, sampling and training.

    `eos_ids`: tokens that end a reply. `untrained`: tags to be written without their own token (see `untrained_tags`).
    """

    def __init__(self, tokenizer: Any, style: Style, eos_ids: Sequence[int], untrained: Collection[str] = ()) -> None:
        self.tokenizer, self.style, self.eos_ids, self.untrained = tokenizer, style, frozenset(eos_ids), untrained
        first, plain = (tokenizer("a", add_special_tokens=added)["input_ids"][:1] for added in (True, False))
        self.bos_ids = first if first == [tokenizer.bos_token_id] != plain else []  # a chat template writes its own
        added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
        self.special_tokens = tuple(dict.fromkeys([*tokenizer.all_special_tokens, *added]))

    def encode(self, prompt: str) -> tuple[str, list[int]]:
        """The text the model sees (chat template included) of a prompt that the style rendered, and its token ids."""
        prefill = self.style.prefill if self.style.chat else ""
        return self.encode_parts(prompt.removesuffix(prefill), prefill, self.style.chat)

    def encode_parts(self, text: str, prefill: str, chat: bool) -> tuple[str, list[int]]:
        """The text the model sees, and its token ids, of `text` followed by `prefill`, the beginning of the reply.

        With `chat`, `text` is a user's message, and the tokenizer's chat template goes around it.
        """
        prompt = chat_prompt(self.tokenizer, text, prefill) if chat else text + prefill
        ids: list[int] = [] if chat else list(self.bos_ids)
        # an untrained tag is cut after its first character, so that it does not become one token
        cuts = "|".join(f"(?<={re.escape(tag[0])})(?={re.escape(tag[1:])})" for tag in self.untrained)
        for piece in re.split(cuts, prompt) if cuts else [prompt]:
            ids += self.tokenizer(piece, add_special_tokens=False)["input_ids"]
        return prompt, ids

    def count_tokens(self, prompt: str) -> int:
        return len(self.encode(prompt)[1])

    def ended(self, role: Role, prompt: str) -> Ended | None:
        """The style's rule that ends replies to this prompt; None where only an end token does."""
        return self.style.rule(role, prompt)

    def text(self, ids: Sequence[int]) -> str:
        """What these ids of a reply say, without the end-of-sequence token."""
        spoken = ids[:-1] if ids and ids[-1] in self.eos_ids else ids
        return self.tokenizer.decode(list(spoken), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def trim(self, ids: Sequence[int], ended: Ended) -> int | None:
        """Length of the shortest beginning of the ids whose text has ended; None where not even the whole text has."""
        if not ended(self.text(ids)):
            return None
        return 1 + bisect.bisect_left(range(1, len(ids)), True, key=lambda n: bool(ended(self.text(ids[:n]))))

    def completion(
        self, prompt: str, prompt_ids: Sequence[int], sample: Sample, ended: Ended | None = None
    ) -> Completion:
        """The sampled reply as a `Completion`: its text without the end-of-sequence token, its ids with it.

        A reply that has `ended` is cut there. It is then not truncated, whoever sampled it.
        """
        ids, logps, truncated = sample
        if ended is not None and (end := self.trim(ids, ended)) is not None:
            ids, logps, truncated = ids[:end], logps and logps[:end], False
        kept = None if logps is None else tuple(logps)
        return Completion(prompt, tuple(prompt_ids), tuple(ids), self.text(ids), truncated, kept)


def draw_seed(*parts: Any) -> int:
    """A 63-bit seed from anything printable: the same on every machine and after every resume."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8], "big") >> 1
