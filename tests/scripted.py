"""A policy without a model: proposes known programs and solves them with a chosen skill, from its own seeded
randomness."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Any

from azr_lite.evaluation.generators import until_stop
from azr_lite.evaluation.suite import Prompt, Reply, Sampling
from azr_lite.triplet import Completion

FENCE = re.compile(r"```(\w+)\n(.*?)\n```", re.DOTALL)


def block(tag, text):
    return f"```{tag}\n{text}\n```"


def wrap(answer, thought="because"):
    return f"<think>{thought}</think><answer>{answer}</answer>"


class ScriptedPolicy:
    """`skill`: chance of a right answer; `junk`: chance of a reply without form. Knows the words of the chat style."""

    def __init__(self, seed=0, skill=0.5, junk=0.0):
        self.rng, self.skill, self.junk = random.Random(seed), skill, junk
        self.prompts: list[str] = []
        self.calls = 0

    def __call__(self, prompts: Sequence[str], role: object = None) -> list[Completion]:
        self.calls += 1
        self.prompts += prompts
        return [self.complete(prompt) for prompt in prompts]

    def complete(self, prompt):
        text = "no form at all" if self.rng.random() < self.junk else self.reply(prompt).removeprefix("<think>")
        ids = tuple(text.encode()[:40]) or (1,)
        return Completion(prompt=prompt, prompt_ids=tuple(prompt.encode()[:30]), ids=ids, text=text)

    def reply(self, prompt):
        blocks = FENCE.findall(prompt.rpartition("Here is your puzzle.")[2])
        right = self.rng.random() < self.skill
        if "Invent one new puzzle" in prompt:
            a, b = self.rng.randrange(1000), self.rng.randrange(1, 10)
            return wrap(
                block("python", f"def f(x):\n    return x * {b} + {a}")
                + "\n"
                + block("input", str(self.rng.randrange(99)))
            )
        if "Invent" in prompt:
            inputs = self.rng.sample(range(100), 10)
            if "return x * " not in prompt:  # the identity
                return wrap("\n".join(block("input", str(i)) for i in inputs) + "\n" + block("message", "give it back"))
            return wrap("\n".join(block("input", str(i)) for i in inputs) + "\n" + block("message", "a straight line"))
        if "Work out what" in prompt:
            program, given = blocks[0][1], blocks[1][1]
            return wrap(block("output", run(program, given) if right else "'no'"))
        if "Find an input" in prompt:
            return wrap(block("input", solve(blocks[0][1], blocks[1][1]) if right else "-1"))
        pairs = [text for tag, text in blocks if tag in ("input", "output")]
        return wrap(block("python", line_through(pairs) if right else "def f(x):\n    return None"))


def run(program, given):
    scope: dict = {}
    exec(program, scope)
    return repr(eval(f"f({given})", scope))  # our own text, in a test


def solve(program, output):
    match = re.search(r"x \* (\d+) \+ (\d+)", program)
    return str((int(output) - int(match[2])) // int(match[1])) if match else output


def line_through(pairs):
    (x0, y0), (x1, y1) = [(int(pairs[i]), int(pairs[i + 1])) for i in (0, 2)]
    slope = (y1 - y0) // (x1 - x0)
    return f"def f(x):\n    return x * {slope} + {y0 - slope * x0}"


class ScriptedGenerator:
    """Replies made by a function of (prompt, number of the sample): for tests and for what a perfect or silly model
    would score."""

    def __init__(self, answer: Callable[[Prompt, int], str], name: str = "scripted") -> None:
        self.answer, self.name = answer, name

    def describe(self) -> dict[str, Any]:
        return {"model": self.name, "generation": "scripted"}

    def generate(self, prompts: Sequence[Prompt], how: Sampling) -> list[list[Reply]]:
        """A word counts as a token."""
        replies = []
        for prompt in prompts:
            texts = [self.answer(prompt, number) for number in range(how.samples)]
            cut = [" ".join(text.split(" ")[: how.max_tokens]) for text in texts]
            pairs = zip(texts, cut, strict=True)
            replies.append(
                [
                    Reply(prompt.text + prompt.prefill, until_stop(c, how.stop)[0], len(c.split(" ")), c != t)
                    for t, c in pairs
                ]
            )
        return replies
