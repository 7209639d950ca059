"""What a game is: propose prompt, parse proposal, validate, solve prompt, parse answer, judge.

Comes in: references and replies.  Goes out: prompts, tasks, jobs for the executor and verdicts on their outcomes.
Not covered: running anything (`verifier.py` batches a whole step's jobs into the sandbox) and paying (`rewards.py`).

A new game is one file with one subclass of `Game` and one call of `register`; nothing else is touched. It must be
imported before a run names it (``--task-types``), which `azr_lite.tasks` does for the built-in three.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from azr_lite.parsing import Reply
from azr_lite.prompts.base import Style
from azr_lite.triplet import Rejection, Task, TaskType, Verdict


@dataclass(frozen=True)
class Proposal:
    """A parsed proposal, not yet run: a program, the inputs it is to be run on, and what else the game needs.

    `inputs` are argument tuples of plain values.
    """

    program: str
    inputs: tuple[tuple[Any, ...], ...]
    message: str = ""


@dataclass(frozen=True)
class Answer:
    """A parsed answer. `value`: for games judged without running anything. `program`, `inputs`: what must be run to judge.

    All inputs of one answer may run in one child process: they share one reward, so none can gain by disturbing another.
    """

    value: Any = None
    program: str = ""
    inputs: tuple[tuple[Any, ...], ...] = ()


@dataclass(frozen=True)
class Rules:
    """The switches a game needs to know (from `config.Config`)."""

    equality: str = "python"
    induction_scoring: str = "binary"
    induction_inputs: int = 10
    induction_shown: int = 5
    max_program_chars: int = 4096
    max_value_chars: int = 2000


class Game(ABC):
    """One task type, both roles. Stateless: everything it needs comes in as arguments."""

    name: ClassVar[TaskType]
    propose_from: ClassVar[str] = "own"
    """Which buffer references come from: "own" (K triplets of this type) or "programs" (one of deduction or abduction)."""

    @abstractmethod
    def propose_prompt(self, style: Style, references: Sequence[Task], rules: Rules) -> str:
        """The proposer's prompt for these references."""

    @abstractmethod
    def parse_proposal(self, reply: Reply, references: Sequence[Task], rules: Rules) -> Proposal | Rejection:
        """The proposal in a well-formed reply, or why there is none."""

    @abstractmethod
    def make_task(self, proposal: Proposal, outputs: Sequence[Any], rules: Rules) -> Task | Rejection:
        """Turn a validated proposal (`outputs`: one plain value an input) into a task."""

    @abstractmethod
    def solve_prompt(self, style: Style, task: Task, rules: Rules) -> str:
        """The solver's prompt; it must not contain what is to be found."""

    @abstractmethod
    def parse_answer(self, reply: Reply, task: Task, rules: Rules) -> Answer | Rejection:
        """The answer in a well-formed reply, or why there is none."""

    @abstractmethod
    def judge(self, task: Task, answer: Answer, outcomes: Sequence[Any], rules: Rules) -> Verdict:
        """The verdict on an answer. `outcomes`: one `sandbox.Outcome` an input of `answer.inputs` (empty when nothing had to be run)."""

    def zero_task(self) -> Task | None:
        """The task that a buffer starts from, or None when it is seeded by proposing only."""
        return None

    def adopt(self, task: Task) -> Task | None:
        """A task of another type posed as one of this type, so that games can share seeds; None where that makes no sense."""
        return None


_REGISTRY: dict[TaskType, Game] = {}


def register(game: Game) -> Game:
    """Make a game known under its name, and give it back. Registering the same class again replaces it (notebooks re-run cells).

    ValueError where another class has the name.
    """
    known = _REGISTRY.get(game.name)
    if known is not None and type(known).__qualname__ != type(game).__qualname__:
        raise ValueError(f"two games are called {game.name!r}: {type(known).__qualname__} and {type(game).__qualname__}; rename one")
    _REGISTRY[game.name] = game
    return game


def get_game(name: TaskType) -> Game:
    """The registered game of that name; KeyError with the known names otherwise."""
    try:
        return _REGISTRY[name]
    except KeyError:
        raise KeyError(f"unknown task type {name!r}; known: {', '.join(sorted(_REGISTRY))}") from None


def games() -> tuple[TaskType, ...]:
    """Names of all registered games, in order of registration."""
    return tuple(_REGISTRY)
