"""What the checks of notebook 05 look at: a table for a model, an optimiser that counts, a world that keeps notes.

Each function takes a learner's answer and returns a list of what it saw; torch loads when one is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from numbers import Integral
from types import SimpleNamespace
from typing import Any

from azr_lite.course.checks import Unfit
from azr_lite.triplet import Verdict

_VOCABULARY, DRAWS = 5, 4000
_TABLE = {  # the last token: logits of the next one. Their softmax is .6, .3, .1 and so on
    2: [-9.0, -9.0, -9.0, 2.0, 1.0], 3: [-9.0, 0.5, -9.0, -9.0, 2.0], 4: [-9.0, 3.0, -9.0, 1.0, -9.0],
    0: [-9.0, 0.4700036292, -9.0, 2.2617630985, 1.5686159179],
}  # fmt: skip
SAMPLED = (
    "greedy replies to three prompts, and the rows that go on",
    "their log-probabilities, exponentiated",
    "with limit=2",
    f"shares of tokens 1, 3 and 4 among {DRAWS} first draws (exact: 0.1, 0.6, 0.3), rounded to tenths",
    "whether each log-probability is that of its token, over three tokens",
    "whether rows that ended stay as they are",
    "the number of different greedy replies to one prompt, asked 20 times",
)


class _Reader:
    """A model of a table: the logits of the next token depend on the last one. It notes how many rows go on."""

    def __init__(self) -> None:
        self.widths: list[int] = []

    def start(self, prompts: Sequence[Sequence[int]]) -> Any:
        self.last = [prompt[-1] for prompt in prompts]
        return self._logits()

    def go_on(self, tokens: Any, going: Any) -> Any:
        kinds, rows = [str(getattr(one, "dtype", "")) for one in (tokens, going)], (len(self.last),)
        if kinds != ["torch.int64", "torch.bool"] or not tokens.shape == going.shape == rows:
            raise Unfit(f"go_on takes two tensors of shape {rows}: tokens, and going (bools)")
        self.last = [int(token) for token, on in zip(tokens, going, strict=True) if on]
        self.widths.append(len(self.last))
        return self._logits()

    def _logits(self) -> Any:
        import torch

        return torch.tensor([_logits_after(token)[0] for token in self.last], dtype=torch.float64)


def sampled(mine: Callable[..., Any]) -> list[Any]:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reader = _Reader()
        greedy = mine(reader, [[2], [3], [4]], 9, True)
        if greedy is ... or greedy is None:
            return [greedy]
        if any(not isinstance(token, Integral) for ids, _ in greedy for token in ids):
            raise Unfit("the ids of a reply are plain ints: take tokens.tolist(), or .item() of each")
        cut = mine(_Reader(), [[2], [3], [4]], 2, True)
        drawn = mine(_Reader(), [[0]] * DRAWS, 3)
        again = mine(_Reader(), [[0]] * 20, 3, True)
    first = [ids[0] if ids else None for ids, _ in drawn]
    shares = [round(first.count(token) / DRAWS, 1) for token in (1, 3, 4)]
    return [
        [[list(ids) for ids, _ in greedy], reader.widths],
        [[round(float(torch.tensor(float(logp)).exp()), 4) for logp in logps] for _, logps in greedy],
        [list(ids) for ids, _ in cut],
        shares,
        all(_fits(ids, logps) for ids, logps in drawn),
        all(1 not in ids[:-1] for ids, _ in drawn),
        len({tuple(ids) for ids, _ in again}),
    ]


@cache
def _logits_after(token: int) -> tuple[list[float], float]:
    """The logits of the next token, and what log_softmax subtracts from each."""
    logits = _TABLE.get(token, [0.0] * _VOCABULARY)
    return logits, math.log(sum(map(math.exp, logits)))


def _fits(ids: Sequence[int], logps: Sequence[float]) -> bool:
    before = [0, *ids]
    for last, token, logp in zip(before, ids, logps, strict=False):
        logits, total = _logits_after(last)
        if abs(logits[token] - total - float(logp)) > 1e-4:
            return False
    return len(ids) == len(logps)


_IDS = [[2, 3, 4, 5, 1, 0, 0], [3, 2, 5, 5, 4, 2, 1], [5, 4, 2, 3, 3, 1, 0]]
_REPLY = [[0, 0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1, 0]]


def _tiny() -> Any:
    """A model of two layers in float64 whose logits depend on the token and its place."""
    import torch

    class Tiny(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            draw = torch.Generator().manual_seed(5)
            self.table = torch.nn.Parameter(torch.randn(6, 6, generator=draw, dtype=torch.float64))
            self.place = torch.nn.Parameter(torch.randn(7, 6, generator=draw, dtype=torch.float64))

        def forward(self, input_ids: Any = None, **_: Any) -> Any:
            return SimpleNamespace(logits=self.table[input_ids] + self.place[: input_ids.shape[1]])

    return Tiny()


def _tensors() -> tuple[Any, Any]:
    import torch

    return torch.tensor(_IDS), torch.tensor(_REPLY, dtype=torch.bool)


def _need_tensor(found: Any) -> None:
    import torch

    if not isinstance(found, torch.Tensor):
        raise Unfit(f"a tensor is wanted, through which gradients flow, not a {type(found).__name__}")


def scored(mine: Callable[..., Any]) -> list[Any]:
    model = _tiny()
    found = mine(model, *_tensors())
    if found is ... or found is None:
        return [found]
    _need_tensor(found)
    pushed = bool(found.requires_grad)
    if pushed:
        found.sum().backward()
    return [list(found.shape), found.detach().flatten().tolist(), pushed, model.table.grad.tolist() if pushed else None]


def _loss_probes() -> list[tuple[Any, ...]]:
    import torch

    def made(*columns: Sequence[float]) -> tuple[Any, ...]:
        return tuple(torch.tensor(column, dtype=torch.float64) for column in columns)

    return [
        made([-1.0, -2.0, -0.5], [-1.0, -2.0, -0.5], [1.0, -1.0, 0.5], [0.5, 0.25, 0.25]),
        made([-0.5, -0.5, -2.0, -2.0], [-1.0, -1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0], [1.0, 0.5, 0.25, 2.0]),
        made([-1.1], [-1.0], [2.0], [3.0]),
    ]


def lost(mine: Callable[..., Any]) -> list[Any]:
    seen = []
    for new, old, advantages, weights in _loss_probes():
        new.requires_grad_()
        loss = mine(new, old, advantages, weights)
        if loss is ... or loss is None:
            return [loss]
        _need_tensor(loss)
        if loss.requires_grad:
            loss.sum().backward()
        seen += [loss.detach().tolist(), None if new.grad is None else new.grad.tolist()]
    return seen


class _Descent:
    """Plain gradient descent that counts its steps. (Importing those of torch takes seconds.)"""

    def __init__(self, model: Any) -> None:
        self.weights, self.steps = list(model.parameters()), 0

    def zero_grad(self, **_: Any) -> None:
        for p in self.weights:
            p.grad = None

    def step(self) -> None:
        self.steps += 1
        for p in self.weights:
            if p.grad is not None:
                p.data -= 0.5 * p.grad


def updated(mine: Callable[..., Any]) -> list[Any]:
    import torch

    model = _tiny()
    optimizer = _Descent(model)
    ids, is_reply = _tensors()
    old, seen = torch.full((11,), -1.5, dtype=torch.float64), []
    advantages = torch.tensor([1.0, 1, 1, -1, -1, -1, 2, 2, 2, 2, 2], dtype=torch.float64)
    parts = ((slice(0, 2), slice(0, 6)), (slice(2, 3), slice(6, 11)))
    for weight in (0.4, 1.4):  # the clip cuts the whole gradient first, then each of the two parts as well
        weights = torch.full((11,), weight, dtype=torch.float64)
        batches = [(ids[rows], is_reply[rows], *(x[own] for x in (old, advantages, weights))) for rows, own in parts]
        total = mine(model, optimizer, batches)
        if total is ...:
            return [...]
        now = [p.detach().flatten().tolist() for p in (model.table, model.place)]
        seen += [float(torch.as_tensor(total).detach()) if total is not None else None, now, optimizer.steps]
    return seen


_SCORES = {"easy": [1.0, 1.0, 1.0], "good": [1.0, 0.0, 0.0], "impossible": [0.0, 0.0, 0.0]}
PLAYED = (
    "the number of answers asked for each task",
    "whether they are different attempts",
    "tasks that were kept",
    "how often world.learn was called",
    "proposals and their rewards",
    "answers and their rewards",
)


class _World:
    """Five proposals, two of them invalid, and a solver whose scores are known."""

    n = 3

    def __init__(self) -> None:
        self.posed: list[Any] = []
        self.kept: list[str] = []
        self.learned: list[tuple[list[Any], list[float]]] = []

    def propose(self) -> list[Any]:
        return [
            SimpleNamespace(label=label, task=None, attempts=[], rate=None)
            for label in ("broken", *_SCORES, "malformed")
        ]

    def validate(self, proposals: Sequence[Any]) -> None:
        for p in proposals:
            p.task = p.label if p.label in _SCORES else None
            p.verdict = Verdict(
                ok=p.task is not None, well_formed=p.label != "malformed", score=float(p.task is not None)
            )

    def pose(self, task: str) -> Any:
        if task is None:
            raise Unfit("an invalid proposal has no task to pose")
        number = sum(one.task == task for one in self.posed)
        self.posed.append(SimpleNamespace(task=task, number=number, said=False, verdict=None))
        return self.posed[-1]

    def reply(self, attempts: Sequence[Any]) -> None:
        for attempt in attempts:
            attempt.said = True

    def judge(self, attempts: Sequence[Any]) -> None:
        for attempt in attempts:
            if not attempt.said:
                raise Unfit("judge was called before reply")
            score = _SCORES[attempt.task][attempt.number % 3]
            attempt.verdict = Verdict(ok=score == 1, well_formed=True, score=score)

    def keep(self, task: str) -> None:
        self.kept.append(task)

    def learn(self, attempts: Sequence[Any], rewards: Sequence[float]) -> None:
        if len(attempts) != len(rewards):
            raise Unfit(f"world.learn got {len(attempts)} replies and {len(rewards)} rewards")
        self.learned.append((list(attempts), [float(reward) for reward in rewards]))


def stepped(mine: Callable[..., Any]) -> list[Any]:
    world = _World()
    if mine(world) is ...:
        return [...]
    rows = [pair for attempts, rewards in world.learned for pair in zip(attempts, rewards, strict=True)]
    answers = [one for one, _ in rows if not hasattr(one, "label")]
    return [
        [sum(one.task == task and one.said for one in world.posed) for task in _SCORES],
        len({id(one) for one in answers}) == len(answers),
        sorted(map(str, world.kept)),
        len(world.learned),
        sorted((one.label, reward) for one, reward in rows if hasattr(one, "label")),
        sorted((one.task, reward) for one, reward in rows if not hasattr(one, "label")),
    ]
