"""What a task type is: propose prompt, parse proposal, make task, solve prompt, parse answer, judge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from azr_lite.errors import ConfigError
from azr_lite.parsing import ParsedReply, parse_literal
from azr_lite.prompts.base import Style, Words
from azr_lite.sandbox.wire import render
from azr_lite.triplet import Rejection, Role, Rules, Task, TaskTypeName, Verdict, rejection_in


@dataclass(frozen=True)
class Proposal:
    """A parsed proposal, not yet run: a program, the inputs it is to be run on, and what else its task type needs.

    `inputs` are argument tuples of plain values.
    """

    program: str
    inputs: tuple[tuple[Any, ...], ...]
    message: str = ""

    def __post_init__(self) -> None:
        if not (isinstance(self.program, str) and all(isinstance(one, tuple) for one in self.inputs)):
            raise TypeError("a program is a string, and each of its inputs a tuple of arguments")
        repr(self.inputs)  # what Python cannot write (a number of 5,000 digits) is refused here, by the parser


@dataclass(frozen=True)
class Answer:
    """A parsed answer. `value`: to be judged without running anything. `program`, `inputs`: what must be run to judge.

    All inputs of one answer may run in one child process: they share one reward, so none gains by disturbing another.
    """

    value: Any = None
    program: str = ""
    inputs: tuple[tuple[Any, ...], ...] = ()

    __post_init__ = Proposal.__post_init__


class TaskType(ABC):
    """One task type, both roles. Stateless: everything it needs comes in as arguments.

    A task type of your own is a subclass with a `name` and the six abstract methods; `register_task_type` makes it
    known.

    Examples:
        ``azr_lite.course.example_tasks.ErrorPrediction`` is one in 40 lines.
    """

    name: ClassVar[TaskTypeName]
    propose_from: ClassVar[str] = "own"
    """Where references come from: "own" (K triplets of its buffer) or "programs" (one of deduction or abduction)."""

    @abstractmethod
    def propose_prompt(self, style: Style, references: Sequence[Task], rules: Rules) -> str:
        """The proposer's prompt for these references."""

    @abstractmethod
    def parse_proposal(self, reply: ParsedReply, references: Sequence[Task], rules: Rules) -> Proposal | Rejection:
        """The proposal in a well-formed reply, or why there is none."""

    @abstractmethod
    def make_task(self, proposal: Proposal, outputs: Sequence[Any], rules: Rules) -> Task | Rejection:
        """Turn a validated proposal (`outputs`: one plain value per input) into a task."""

    @abstractmethod
    def solve_prompt(self, style: Style, task: Task, rules: Rules) -> str:
        """The solver's prompt; it must not contain what is to be found."""

    @abstractmethod
    def parse_answer(self, reply: ParsedReply, task: Task, rules: Rules) -> Answer | Rejection:
        """The answer in a well-formed reply, or why there is none."""

    @abstractmethod
    def judge(self, task: Task, answer: Answer, outcomes: Sequence[Any], rules: Rules) -> Verdict:
        """The verdict on an answer. `outcomes`: one `sandbox.Outcome` per input of `answer.inputs`."""

    def words(self, style: Style, role: Role) -> Words:
        """The style's words for this type or, where it has none, for the built-in type that this one derives from.

        ConfigError where there is none either.
        """
        for kind in type(self).__mro__:
            if found := style.words.get(f"{role}/{getattr(kind, 'name', '')}"):
                return found
        why = f"the prompt style {style.name} has no words for {self.name}"
        raise ConfigError(f"{why}; write its propose_prompt and solve_prompt (docs/how-to/task_type.md)")

    def zero_task(self) -> Task | None:
        """The task that a buffer starts from, or None when it is seeded by proposing only."""
        return None

    def convert_from(self, task: Task) -> Task | None:
        """A task of another type posed as one of this type, so that types can share seeds; None where it cannot be."""
        return None


_REGISTRY: dict[TaskTypeName, TaskType] = {}


def register_task_type(task_type: TaskType) -> TaskType:
    """Make a task type known under its name. Registering the same class again replaces it (notebooks re-run cells).

    Args:
        task_type: An instance of a subclass of `TaskType`.

    Returns:
        The same instance.

    Raises:
        ValueError: Another class has the name.

    Examples:
        ``register_task_type(MyTaskType())``, then ``azr_lite.run("nano", task_types=["deduction", "mine"])``
    """
    name, new = task_type.name, type(task_type).__qualname__
    known = type(_REGISTRY.get(name, task_type)).__qualname__
    if known != new:
        raise ValueError(f"two task types are called {name!r}: {known} and {new}; rename one")
    _REGISTRY[name] = task_type
    return task_type


def get_task_type(name: TaskTypeName) -> TaskType:
    """The registered task type of that name; KeyError with the known names otherwise."""
    if name not in _REGISTRY:
        raise KeyError(f"unknown task type {name!r}; known: {', '.join(list_task_types())}")
    return _REGISTRY[name]


def list_task_types() -> tuple[TaskTypeName, ...]:
    """Names of all registered task types, in alphabetical order."""
    return tuple(sorted(_REGISTRY))


def unreadable(inputs: Sequence[str], outputs: Sequence[str], rules: Rules) -> Rejection | None:
    """Why a task with these texts could not be used: each must be short, and readable by those who judge it."""
    texts = [*(("input", text) for text in inputs), *(("output", text) for text in outputs)]
    return rejection_in(*(parse_literal(kind, text, rules.max_value_chars) for kind, text in texts))


def argument_text(arguments: tuple[Any, ...]) -> str:
    """The canonical text of an argument list: ``'ab', [1, 2]``."""
    return ", ".join(render(argument) for argument in arguments)
