"""What an evaluation is made of: prompts, questions, replies, marks; and what a generator and a suite must be able to do.

Comes in: nothing.  Goes out: the nouns and the two protocols that everything in this folder is written against.
Not covered: any dataset (`sources.py`), any model (`generators.py`), running one (`harness.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from azr_lite.evaluation.sources import Data
from azr_lite.prompts.base import Style


@dataclass(frozen=True)
class Prompt:
    """What a model is asked. `text` is the user's message where `chat` is set (the generator puts the model's own chat template
    around it), else the prompt itself. `prefill` stands after both: the reply goes on from it, and does not repeat it."""

    text: str
    prefill: str = ""
    chat: bool = False


def think_answer_prompt(style: Style, body: str) -> Prompt:
    """The think/answer prompt of self-play for an instruction of one's own (protocol ``azr``); its prefill opens the thought."""
    return Prompt(style.frame(body), style.prefill, style.chat)


@dataclass(frozen=True)
class Reply:
    """One reply. `prompt`: the exact text the model saw; `text`: what it wrote, without prefill and end-of-sequence token.

    `truncated`: cut by the token limit. A reply that a stop string ended keeps that string.
    """

    prompt: str
    text: str
    tokens: int
    truncated: bool = False


@dataclass(frozen=True)
class Sampling:
    """How replies are made. `max_tokens`: of a reply. `temperature` 0: greedy. `samples`: replies to each prompt. `stop`: a reply ends
    after the first of these. `seed`: stands for all randomness."""

    max_tokens: int
    temperature: float = 0.0
    samples: int = 1
    stop: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Question:
    """One item of a suite. `group`: what is scored together (``"deduction"``); `stratum`: a finer cut, or empty."""

    id: str
    group: str
    prompt: Prompt
    stratum: str = ""


@dataclass(frozen=True)
class Mark:
    """The verdict on one reply. `right` is strict: the form that was asked for, and the right answer in it.

    `lenient`: the right answer could be found whatever the form; so lenient - right is what form costs, and a right reply is
    always also leniently right. `parts`: further verdicts, each with its own accuracy (``{"base": True}`` for HumanEval beside
    HumanEval+).
    """

    right: bool
    lenient: bool
    well_formed: bool
    reason: str = ""
    parts: Mapping[str, bool] = field(default_factory=dict)


class Suite(Protocol):
    """A set of questions with one way of asking and one way of grading."""

    name: str
    """File name of its results, such as ``cruxeval-o-strict``."""
    protocol: str
    """How it is asked, extracted and graded. Scores of different protocols are never compared."""
    data: Data
    samples: int
    """Replies to each question; 1 means pass@1, more means avg@samples and pass@k."""
    temperature: float
    """0: greedy."""
    max_tokens: int
    stop: tuple[str, ...]
    """A reply ends after the first of these."""

    def questions(self) -> list[Question]:
        """All questions, in the order of the data; ids are unique."""
        ...

    def grade(self, replies: Sequence[tuple[Question, Reply]]) -> list[Mark]:
        """One mark a reply, same order. Several replies to one question may come, and any subset of the questions."""
        ...

    def baselines(self, questions: Sequence[Question]) -> dict[str, dict[str, float]]:
        """Per group, the accuracy on these questions of answers that need no reasoning; empty where there are none."""
        ...


class Generator(Protocol):
    """Whatever answers: transformers, vLLM in process, a server, a script."""

    def describe(self) -> dict[str, Any]:
        """What is kept in every result: model, kind, number format, versions. The same model always gives the same."""
        ...

    def generate(
        self, prompts: Sequence[Prompt], how: Sampling, done: Callable[[int], None] = lambda count: None
    ) -> list[list[Reply]]:
        """`how.samples` replies to each prompt. `done` is called with the number of replies made since its last call."""
        ...
