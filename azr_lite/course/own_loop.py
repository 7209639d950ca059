"""The worked solutions of notebook 05: the six functions that a learner adds to make Absolute Zero.

The notebook shows these very lines under its exercises, and goes on with them where nothing was written. B rows,
T columns, V tokens of the vocabulary, N reply tokens of a batch laid end to end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from azr_lite.rewards import answer_reward, learnability, solve_rate

END = 1
"""The token that ends nano's replies."""
CLIP, MAX_NORM = 0.2, 1.0
"""How far the ratio of new to old probability may move a token's push, and the longest gradient."""


def read_reply(text: str) -> list[tuple[str, str]] | None:
    form = re.match(r"<think>.*?</think>\s*<answer>(.*?)</answer>", text, re.DOTALL)
    if form is None:
        return None
    return re.findall(r"```(\w+)\n(.*?)\n```", form[1], re.DOTALL)


def sample(reader: Any, prompts: Sequence[Sequence[int]], limit: int, greedy: bool = False) -> list[tuple[list, list]]:
    replies = [([], []) for _ in prompts]
    rows, logits = list(range(len(prompts))), reader.start(prompts)
    for _ in range(limit):
        logps = logits.log_softmax(-1)
        tokens = logps.argmax(-1) if greedy else torch.multinomial(logps.exp(), 1)[:, 0]
        chosen = logps.gather(-1, tokens[:, None])[:, 0]
        for row, token, logp in zip(rows, tokens.tolist(), chosen.tolist(), strict=True):
            replies[row][0].append(token)
            replies[row][1].append(logp)
        rows = [row for row in rows if replies[row][0][-1] != END]
        if not rows:
            break
        logits = reader.go_on(tokens, tokens != END)
    return replies


def logprobs(model: Any, ids: torch.Tensor, is_reply: torch.Tensor) -> torch.Tensor:
    logps = model(input_ids=ids).logits[:, :-1].log_softmax(-1)
    chosen = logps.gather(-1, ids[:, 1:, None])[..., 0]
    return chosen[is_reply[:, 1:]]


def policy_loss(new: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    ratio = (new - old).exp()
    clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
    return -(weights * torch.minimum(ratio * advantages, clipped * advantages)).sum()


def update(model: Any, optimizer: Any, batches: Iterable[Sequence[torch.Tensor]]) -> float:
    total = 0.0
    optimizer.zero_grad()
    for ids, is_reply, old, advantages, weights in batches:
        loss = policy_loss(logprobs(model, ids, is_reply), old, advantages, weights)
        loss.backward()
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
    optimizer.step()
    return total


def step(world: Any) -> None:
    proposals = world.propose()
    world.validate(proposals)
    valid = [p for p in proposals if p.task is not None]
    for p in valid:
        p.attempts = [world.pose(p.task) for _ in range(world.n)]
    answers = [a for p in valid for a in p.attempts]
    world.reply(answers)
    world.judge(answers)
    for p in valid:
        p.rate = solve_rate([a.verdict.score for a in p.attempts])
        world.keep(p.task)
    rewards = [-1.0 if p.task is None else learnability(p.rate) for p in proposals]
    rewards += [answer_reward(a.verdict).total for a in answers]
    world.learn([*proposals, *answers], rewards)
