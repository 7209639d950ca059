"""Exercises of notebook 00: the order of the stages, what earns most, which baseline, how many sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from azr_lite.config import Config
from azr_lite.course.checks import Mistake, exercise
from azr_lite.course.diagram import STAGES
from azr_lite.rewards import learnability
from azr_lite.triplet import Role, Rollout, Verdict

ORDER = tuple(stage.name for stage in STAGES)
NEEDED = (
    ("sample_references", "propose"), ("propose", "validate"), ("validate", "monte_carlo"), ("monte_carlo", "learnability"),
    ("validate", "insert"), ("monte_carlo", "solve"), ("solve", "judge"), ("judge", "reward"), ("learnability", "reward"),
    ("reward", "advantages"), ("advantages", "make_batch"),
)  # fmt: skip
"""Which stage needs what another one made. Other orders of the eleven are as good."""


def _kept(order: Sequence[str]) -> list[Any]:
    names = list(order)
    if sorted(names) != sorted(ORDER):
        twice = ", some of them twice" if len(set(names)) < len(names) else ""
        return [f"{len(set(names) & set(ORDER))} of the 11 names{twice}", *[None] * len(NEEDED)]
    return ["11 of the 11 names", *(names.index(first) < names.index(then) for first, then in NEEDED)]


def _moved(name: str, before: str) -> tuple[str, ...]:
    names = [other for other in ORDER if other != name]
    names.insert(names.index(before), name)
    return tuple(names)


exercise(
    name="stage_order", key=ORDER, points=1, observe=_kept,
    shows=("what the list holds", *(f"does {first!r} come before {then!r}?" for first, then in NEEDED)),
    mistakes=[
        Mistake(_moved("monte_carlo", "validate"), "it solves tasks before they are validated: a program that crashes, or that answers otherwise each time, has no output to solve for"),
        Mistake(_moved("learnability", "monte_carlo"), "it knows how learnable a task is before anybody has tried it: learnability is computed from the n answers"),
        Mistake(_moved("insert", "validate"), "it keeps proposals that nobody has run: the buffers feed later prompts, so one broken program would be shown again and again"),
        Mistake(_moved("judge", "solve"), "it judges answers before they are chosen: `judge` looks at those that `solve` picks for training. (The n answers of `monte_carlo` are judged inside that stage, or there would be no solve rate)"),
        Mistake(_moved("reward", "judge"), "it rewards the solver before its answers are judged: the reward is made from the verdict"),
        Mistake(_moved("advantages", "reward"), "it compares rewards that are not there yet: an advantage is a reward minus the mean of its group"),
    ],
    hint="Ask of each stage: what does it need, and who made that?",
)  # fmt: skip

exercise(
    name="most_rewarded", key=max(range(9), key=lambda right: learnability(right / 8)), points=1,
    mistakes=[
        Mistake(0, "a task that nobody solves earns 0: there is nothing in it to learn from, and it may be plain impossible"),
        Mistake(4, "four of eight earns 1 − 4/8 = 0.5. That would be the peak of 4p(1 − p), another fair idea; here rarer successes earn more"),
        Mistake(7, "seven of eight earns 1 − 7/8 = 0.125, the least of all tasks that earn anything: easy tasks teach little"),
        Mistake(8, "a task that is always solved earns 0: the solver has nothing left to learn there"),
    ],
    hint="The reward is 1 − r̄, and 0 where r̄ is 0 or 1. It counts *how many* of the eight were right.",
)  # fmt: skip


def _rollout(role: Role, type_: str, task: str, reward: float) -> Rollout:
    verdict = Verdict(ok=reward > 0, well_formed=True, score=max(0.0, reward))
    prompt = f"propose {type_}, another task than {task}" if role == Role.PROPOSE else f"solve {task}"
    text = f"a reply to {task} worth " + "x" * int(10 * (1 + reward))
    parts = {"accuracy": reward}
    return Rollout(role, type_, prompt, text, (1,), tuple(range(len(text))), verdict, reward, parts, task_id=task)


_P, _S = Role.PROPOSE, Role.SOLVE
ROLLOUTS = [
    _rollout(*given) for given in (
        (_P, "deduction", "t1", 0.5), (_P, "deduction", "t2", 0.5), (_P, "abduction", "t3", 0.5),
        (_S, "deduction", "t1", 1.0), (_S, "deduction", "t2", 1.0), (_S, "deduction", "t1", -0.5),
        (_S, "abduction", "t3", 1.0), (_S, "induction", "t4", 1.0), (_P, "induction", "t4", 0.5))
]  # fmt: skip
PAIRS = {
    "two proposals of deduction": (0, 1),
    "a proposal of deduction and one of abduction": (0, 2),
    "a proposal of deduction and an answer to it": (0, 3),
    "answers to two tasks of deduction": (3, 4),
    "a right and a wrong answer to one task": (3, 5),
    "answers of deduction and of abduction": (3, 6),
}


def _grouped(group: Any) -> list[Any]:
    """Which rollouts share a group, whatever the groups are called."""
    found = [group(rollout) for rollout in ROLLOUTS]
    if any(name is ... or name is None for name in found):
        return [next(name for name in found if name is ... or name is None)] * (len(PAIRS) + 1)
    return [*(found[a] == found[b] for a, b in PAIRS.values()), len(set(map(repr, found)))]


exercise(
    name="baseline_group",
    key=Rollout.group.fget,  # type: ignore[attr-defined]
    points=1, observe=_grouped,
    shows=(*(f"do {words} share a group?" for words in PAIRS), "the number of groups"),
    mistakes=[
        Mistake(lambda rollout: rollout.role, "it has two groups, one per role. Induction is harder than deduction, so its answers would mostly be called bad: give each task type its own baseline"),
        Mistake(lambda rollout: rollout.type, "it has three groups, one per type, and mixes both roles. A proposer earns at most 7/8, a solver 1: proposals would be called bad for being proposals"),
        Mistake(lambda rollout: (rollout.role, rollout.type, rollout.task_id), "it compares answers to the *same task* only. That is GRPO's group; and each proposal would stand alone, with nothing to be compared with"),
        Mistake(lambda rollout: "all", "it has one group: REINFORCE++'s one global baseline. The easiest seat would look best at everything"),
        Mistake(lambda rollout: (rollout.role, rollout.type, rollout.reward > 0), "it puts good and bad rewards into different groups, so that nobody is compared with anybody worse"),
    ],
    hint="Two rollouts share a baseline when they have the same role and the same task type.",
)  # fmt: skip

CONFIGS = {
    "the paper's settings": Config(),
    "two task types": Config(task_types=("deduction", "abduction"), batch_size=8, n_mc=4, updates_per_step=2),
    "a larger solver batch": Config(batch_size=8, solver_batch_size=24, n_mc=6),
}


exercise(
    name="sequences_a_step",
    key=Config.rows.fget,  # type: ignore[attr-defined]
    points=1, observe=lambda mine: [mine(config) for config in CONFIGS.values()],
    shows=tuple(f"sequences with {words}" for words in CONFIGS),
    mistakes=[
        Mistake(lambda c: len(c.task_types) * (c.batch_size + c.solver_batch_size), "`solver_batch_size` may be 0, which means: as many as `batch_size`. `solver_rows` has that worked out"),
        Mistake(lambda c: len(c.task_types) * c.batch_size, "it counts the proposals alone; the solver's answers are trained as well"),
        Mistake(lambda c: c.batch_size + c.solver_rows, "it counts one task type; each type has its own proposals and answers"),
        Mistake(lambda c: 2 * len(c.task_types) * c.batch_size, "it takes the solver's batch for as large as the proposer's; `solver_rows` says how large it is"),
        Mistake(lambda c: len(c.task_types) * (c.batch_size + c.batch_size * c.n_mc), "it trains on all n Monte-Carlo answers of every proposal; only `solver_rows` of each type are kept, so that a batch always has the same size"),
        Mistake(lambda c: 3 * (c.batch_size + c.solver_rows), "it takes three task types for granted; `task_types` may hold two, or one"),
        Mistake(lambda c: c.updates_per_step * c.rows,
            "it counts the batch once per update; the updates of a step *share* one batch"),
        Mistake(lambda c: 6 * c.batch_size, "six groups are for three task types; with two types there are four"),
    ],
    hint="Types × (proposals + answers).",
)  # fmt: skip
