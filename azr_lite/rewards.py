"""What each reply earns: learnability, accuracy, the format ladder around both; other terms, and one's own rewards.

Paper section 3.2 (equations 4 to 6):

    learnability(r) = 0 if r in {0, 1} else 1 - r
    R(reply)        = -1 not well formed or, for a proposal, not valid;  -0.5 a wrong answer;  else the role's reward

Not in the paper: -0.5 for a valid proposal whose program the run has seen (`Config.repeated_programs`).

`Config.reward` names what is added up: "paper" is the above, `INTRINSIC` holds the terms of the authors' code that the
paper's runs leave off, and module:name is a function of one's own (docs/how-to/reward.md).
"""

from __future__ import annotations

import ast
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

from azr_lite.config import Config
from azr_lite.environment import require
from azr_lite.errors import MEND, ConfigError, cause
from azr_lite.parsing import quiet_parse
from azr_lite.sandbox.literal import LiteralError, read_arguments
from azr_lite.tasks import get_task_type, import_own
from azr_lite.triplet import ProposalAttempt, Role, SolveAttempt, Task, Verdict

NOT_WELL_FORMED = -1.0
WRONG = -0.5
REPEATED = -0.5


@dataclass(frozen=True, slots=True)
class Reward:
    """The reward of one reply. `total` trains the policy; `parts` name what it is made of and sum to it."""

    total: float
    parts: dict[str, float]


def _sum_of(**parts: float) -> Reward:
    return Reward(sum(parts.values()), parts)


def solve_rate(scores: Sequence[float]) -> float:
    """r-bar of equation 4: the mean score, 0 to 1, of the Monte-Carlo replies to one task.

    ValueError for fewer than two: one reply would make r-bar 0 or 1 always, and learnability zero for every task.

    Examples:
        >>> solve_rate([1.0, 0.0, 0.0, 0.0])
        0.25
    """
    if len(scores) < 2:
        raise ValueError(f"{len(scores)} Monte-Carlo replies; at least 2 are needed to tell a learnable task")
    return sum(scores) / len(scores)


def learnability(rate: float, zero: Literal["paper", "upstream"] = "paper") -> float:
    """Reward of a valid proposal (equation 4).

    Args:
        rate: Mean success of the solver, in [0, 1].
        zero: What a task earns that is always or never solved: 0 ("paper") or -0.5 ("upstream", the authors' code).

    Returns:
        1 - rate, or the value for `zero` where the rate is 0 or 1.

    Raises:
        ValueError: The rate lies outside [0, 1].

    Examples:
        >>> [learnability(rate) for rate in (0.0, 0.25, 0.75, 1.0)]
        [0.0, 0.75, 0.25, 0.0]
        >>> learnability(1.0, zero="upstream")
        -0.5
    """
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"solve rate {rate} is not between 0 and 1")
    if rate in (0.0, 1.0):
        return 0.0 if zero == "paper" else WRONG
    return 1.0 - rate


def proposal_reward(
    verdict: Verdict, rate: float | None, zero: Literal["paper", "upstream"] = "paper", repeated: bool = False
) -> Reward:
    """The proposer's reward (equations 4 and 6). `rate`: r-bar, without which a valid proposal is a ValueError.

    `repeated`: the run has seen this program, so it earns the penalty, whatever the rate.

    Examples:
        >>> proposal_reward(Verdict(ok=True, well_formed=True), rate=0.25)
        Reward(total=0.75, parts={'learnability': 0.75})
        >>> proposal_reward(Verdict(ok=False, well_formed=True, reason="timeout"), rate=None).total
        -1.0
    """
    if not verdict.ok:
        return _sum_of(form=NOT_WELL_FORMED)
    if rate is None:
        raise ValueError("a valid proposal has no solve rate, so it has no reward; judge its Monte-Carlo replies first")
    return _sum_of(repeat=REPEATED) if repeated else _sum_of(learnability=learnability(rate, zero))


def answer_reward(verdict: Verdict) -> Reward:
    """The solver's reward (equations 5 and 6).

    Args:
        verdict: What was found about the answer.

    Returns:
        1 (or the fraction scored) where it is right, -0.5 where it is wrong, -1 where it is not well formed.

    Examples:
        >>> answer_reward(Verdict(ok=True, well_formed=True, score=1.0)).total
        1.0
        >>> answer_reward(Verdict(ok=False, well_formed=True, reason="wrong"))
        Reward(total=-0.5, parts={'accuracy': -0.5})
    """
    if not verdict.well_formed:
        return _sum_of(form=NOT_WELL_FORMED)
    return _sum_of(accuracy=verdict.score if verdict.score > 0 else WRONG)


# ---------------------------------------------------------------- measures of programs

_NO_TREE = (SyntaxError, ValueError, RecursionError, MemoryError)

Shape = Counter[tuple[str, str]]
"""The bag of (parent, child) node kinds of a syntax tree."""


def complexity(program: str) -> dict[str, float] | None:
    """The measures of one program; None where it does not parse, or is nested too deep for radon or complexipy.

    `cyclomatic` (McCabe 1976) and `volume` (Halstead 1977, N log2 n, bits) are radon's, of the whole module;
    `cognitive` (Campbell 2018) is complexipy's, as in the paper.
    """
    from complexipy import code_complexity
    from radon.metrics import h_visit_ast
    from radon.visitors import ComplexityVisitor

    try:
        found = quiet_parse(program)
        return {
            "statements": sum(isinstance(node, ast.stmt) for node in ast.walk(found)),
            "cyclomatic": ComplexityVisitor.from_ast(found).total_complexity,
            "cognitive": code_complexity(program).complexity,
            "volume": float(h_visit_ast(found).total.volume),
        }
    except _NO_TREE:
        return None


def shape(program: str) -> Shape | None:
    """The bag of node kinds of its tree: the program without names, numbers and order; None where it does not parse."""
    try:
        found = quiet_parse(program)
    except _NO_TREE:
        return None
    edges = ((node, child) for node in ast.walk(found) for child in ast.iter_child_nodes(node))
    own = ((node, child) for node, child in edges if not isinstance(child, ast.expr_context))
    return Counter((type(node).__name__, type(child).__name__) for node, child in own)


def distance(a: Shape, b: Shape) -> float:
    """1 - 2 |a and b| / (|a| + |b|) over two shapes: 0 for the same bag, 1 for nothing in common.

    A cheap stand-in for the tree edit distance: it does not see order, so two orders of the same operations are 0
    apart.
    """
    total = sum(a.values()) + sum(b.values())
    return 1.0 - 2.0 * sum((a & b).values()) / total if total else 0.0


# ---------------------------------------------------------------- the intrinsic terms of the authors' code

Buffered = Mapping[str, Iterable[Task]]
"""The tasks so far, by task type."""


def _cognitive(proposal: ProposalAttempt, buffers: Buffered) -> float:
    """Cognitive complexity / 15."""
    found = complexity(proposal.task.program)
    return min(1.0, found["cognitive"] / 15) if found else 0.0


def _halstead(proposal: ProposalAttempt, buffers: Buffered) -> float:
    """Mean of Halstead volume / 500 and cyclomatic number / 10."""
    found = complexity(proposal.task.program)
    return (min(1.0, found["volume"] / 500) + min(1.0, found["cyclomatic"] / 10)) / 2 if found else 0.0


def _unlike(proposal: ProposalAttempt, buffers: Buffered) -> float:
    """Mean distance of the program's syntax tree to those of the references."""
    own, others = shape(proposal.task.program), [shape(task.program) for task in proposal.references]
    found = [distance(own, other) for other in others if own is not None and other is not None]
    return sum(found) / len(found) if found else 0.0


def _surprise(proposal: ProposalAttempt, buffers: Buffered) -> float:
    """1 - share of the buffer's tasks whose answer has the same types."""
    counts = Counter(map(_answer_types, buffers[proposal.type]))
    return 1.0 - counts[_answer_types(proposal.task)] / max(1, counts.total())


def _answer_types(task: Task) -> str:
    return _types_of(task.inputs if task.type == "abduction" else task.outputs)


@functools.lru_cache(maxsize=2**16)
def _types_of(texts: tuple[str, ...]) -> str:
    try:
        return "; ".join(", ".join(type(one).__name__ for one in read_arguments(text)) for text in texts)
    except LiteralError:
        return ""


INTRINSIC: dict[str, Callable[[ProposalAttempt, Buffered], float]] = {
    "complexity": _cognitive, "halstead": _halstead, "distance": _unlike, "surprise": _surprise,
}  # fmt: skip
"""Terms from 0 to 1 for valid proposals; for those that are given their program, only surprise."""

# ---------------------------------------------------------------- rewards by name, and of one's own

Reply = ProposalAttempt | SolveAttempt
RewardFunction = Callable[[Reply], Mapping[str, float]]
"""A reward of one's own: from a judged reply to named parts, which are added up. The same reply must earn the same."""


def earned(reply: Reply, config: Config, buffers: Buffered, own: Mapping[str, RewardFunction]) -> Reward:
    """What a judged reply earns by `Config.reward`. `own`: see `load_rewards`. ConfigError where one of these fails."""
    parts: dict[str, float] = {}
    for name, weight in config.reward_weights.items():
        for part, value in _parts(name, reply, config, buffers, own).items():
            parts[part] = parts.get(part, 0.0) + value * weight
    return _sum_of(**parts)


def _parts(
    name: str, reply: Reply, config: Config, buffers: Buffered, own: Mapping[str, RewardFunction]
) -> Mapping[str, float]:
    if name in own:
        return _own_parts(name, own[name], reply)
    if name == "paper":
        if isinstance(reply, SolveAttempt):
            return answer_reward(reply.verdict).parts
        repeated = config.repeated_programs == "penalty" and reply.is_repeat
        return proposal_reward(reply.verdict, reply.rate, config.zero_learnability, repeated).parts
    valid = reply.role == Role.PROPOSE and reply.task is not None
    fits = valid and (name == "surprise" or get_task_type(reply.type).propose_from == "own")
    return {name: INTRINSIC[name](reply, buffers)} if fits else {}


def _own_parts(name: str, reward: RewardFunction, reply: Reply) -> Mapping[str, float]:
    about = f"the reward {name}, for a reply that was to {reply.role} {reply.type},"
    try:
        parts = reward(reply)
    except Exception as error:
        raise ConfigError(f"{about} failed: {cause(error)}; {MEND}") from error
    named = isinstance(parts, Mapping) and all(isinstance(part, str) and part and "/" not in part for part in parts)
    if not named or not all(isinstance(value, Real) and abs(value) < 1e30 for value in parts.values()):
        raise ConfigError(f"{about} gave {parts!r:.200}; return named finite numbers, as {{'accuracy': 1.0}}; {MEND}")
    return {part: float(value) for part, value in parts.items()}


def name_rewards(rewards: Any) -> tuple[tuple[str, ...], dict[str, RewardFunction]]:
    """`Config.reward` for what the user of `azr_lite.run` gave, and the own ones among it by name.

    `rewards`: one or several names that `Config.reward` takes, functions, classes, or callable objects.

    Examples:
        >>> name_rewards(["paper", min])[0]
        ('paper', 'builtins:min')
    """
    several = [rewards] if callable(rewards) or isinstance(rewards, str) else list(rewards)
    own: dict[str, RewardFunction] = {}
    names = []
    for one in several:
        names.append(one if isinstance(one, str) else _name_of(one))
        if not isinstance(one, str):
            own[names[-1]] = one() if isinstance(one, type) else one
    return tuple(names), own


def _name_of(reward: Any) -> str:
    if not callable(reward):
        raise ConfigError(f"{reward!r} is not a reward; give a name, a function, or an object that can be called")
    named = reward if hasattr(reward, "__qualname__") else type(reward)
    settings = "(…)" if named is not reward and getattr(reward, "__dict__", None) else ""
    return f"{named.__module__}:{named.__qualname__}{settings}"


def load_rewards(config: Config, given: Mapping[str, RewardFunction]) -> dict[str, RewardFunction]:
    """The rewards of one's own that `config.reward` names: those given, the others imported.

    ConfigError where one cannot be had here, or where a term needs a library that is not installed.
    """
    names = config.reward_weights
    if {"complexity", "halstead"} & names.keys():
        require("the reward's measure of complexity", "observe")
    return {name: given[name] if name in given else _imported(name) for name in names if ":" in name}


def _imported(name: str) -> RewardFunction:
    module, _, attribute = name.partition(":")
    found = import_own(module, "the reward")
    try:
        for part in attribute.split("."):
            found = getattr(found, part)
        reward = found() if isinstance(found, type) else found
        return _name_of(reward) and reward  # ConfigError where it cannot be called
    except (AttributeError, TypeError) as error:
        again = f"correct the name, or give the object itself, from Python: rewards={attribute}"
        raise ConfigError(f"the reward {name} cannot be made here ({error}); {again}") from error
