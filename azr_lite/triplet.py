"""The nouns of Absolute Zero: triplets, tasks, completions, rollouts, verdicts, and what a step makes of them.

Values are kept as Python literals in one spelling (`sandbox.wire.render`), so a triplet is compared without being run.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from azr_lite.rewards import Reward

TaskTypeName = str
"""Name of a registered task type, e.g. ``"deduction"`` (see `tasks.base.register_task_type`)."""

SEED_SHARING_TYPES: tuple[TaskTypeName, ...] = ("deduction", "abduction")
"""Types whose triplets mean: program, input, return value. They share seeds; induction starts from their programs."""


class Role(StrEnum):
    """The two roles that the policy plays: it proposes tasks, and solves them."""

    PROPOSE = "propose"
    SOLVE = "solve"


class Reason(StrEnum):
    """Why a proposal was rejected or an answer was not right: one code for every way to fail."""

    # the reply's form
    NOT_WELL_FORMED = "not_well_formed"
    TRUNCATED = "truncated"
    NO_PROGRAM = "no_program"
    NO_INPUT = "no_input"
    NO_ANSWER = "no_answer"
    NO_MESSAGE = "no_message"
    TOO_FEW_INPUTS = "too_few_inputs"
    SEVERAL = "several"
    TOO_LONG = "too_long"
    # the program's text
    SYNTAX_ERROR = "syntax_error"
    NO_ENTRY = "no_entry"
    AMBIGUOUS_ENTRY = "ambiguous_entry"
    FORBIDDEN_IMPORT = "forbidden_import"
    # values
    INPUT_NOT_LITERAL = "input_not_literal"
    ANSWER_NOT_LITERAL = "answer_not_literal"
    # running it
    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    POLICY = "policy"
    CRASH = "crash"
    PROTOCOL = "protocol"
    OUTPUT_NOT_LITERAL = "output_not_literal"
    OUTPUT_TOO_LONG = "output_too_long"
    NOT_A_NUMBER = "not_a_number"
    NON_DETERMINISTIC = "non_deterministic"
    # the task type's own rules
    CONSTANT_OUTPUT = "constant_output"
    MESSAGE_LEAKS = "message_leaks"
    MARKUP = "markup"  # its text could close a fence or forge a tag or a control token in a prompt that quotes it
    RESERVED = "reserved"  # a held-out problem: neither rewarded nor trained on, nor kept
    WRONG = "wrong"
    INTERNAL = "internal"  # an error of ours over this reply: please report it


class _Json:
    """Dataclass to and from a JSON object. Tuples come back as tuples, nested dataclasses and enums as plain JSON."""

    def to_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(dataclasses.asdict(self), default=float))  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        names = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        return cls(**{key: _tuples(value) for key, value in data.items() if key in names})

    def to_line(self) -> str:
        return json.dumps(self.to_json(), ensure_ascii=False, sort_keys=True)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class Rejection(_Json):
    """A reply that cannot be used: a reason code (a `Reason`, or a task type's own) and a detail for people."""

    reason: Reason | str
    detail: str = ""

    @property
    def verdict(self) -> Verdict:
        """The verdict on a rejected reply: not right; not well formed either, where it lacked the tags or was cut."""
        well_formed = self.reason not in (Reason.NOT_WELL_FORMED, Reason.TRUNCATED)
        return Verdict(ok=False, well_formed=well_formed, reason=self.reason, detail=self.detail)


def rejection_in(*found: Any) -> Rejection | None:
    """The first rejection among what was found."""
    return next((one for one in found if isinstance(one, Rejection)), None)


@dataclass(frozen=True)
class Triplet(_Json):
    r"""One program with one input and its output, seen through a task type.

    Args:
        type: Name of the task type.
        program: Source text that defines ``f``.
        input: Text of an argument tuple (``"'ab', 3"``).
        output: Text of one literal.
        id: Its key, set when it enters a buffer.
        step: The step it was proposed in (-1: seeding).
        parents: Ids of the references it was proposed from.

    Examples:
        >>> task = Triplet("deduction", "def f(text, n):\n    return text * n", "'ab', 3", "'ababab'")
        >>> task.to_line()[:64]
        '{"id": "", "input": "\'ab\', 3", "output": "\'ababab\'", "parents": '
        >>> task_from_json(task.to_json()) == task
        True
    """

    type: TaskTypeName
    program: str
    input: str
    output: str
    id: str = ""
    step: int = -1
    parents: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.output,)


@dataclass(frozen=True)
class InductionTask(_Json):
    """A hidden program with input/output pairs: the first `shown` are given to the solver, the others judge it."""

    type: TaskTypeName
    program: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    message: str
    shown: int
    id: str = ""
    step: int = -1
    parents: tuple[str, ...] = ()


Task = Triplet | InductionTask
"""What the proposer makes, the buffers hold and the solver is asked."""


def task_from_json(data: dict[str, Any]) -> Task:
    """Inverse of `Task.to_json`, whichever of the two kinds it is."""
    return (InductionTask if "inputs" in data else Triplet).from_json(data)


@dataclass(frozen=True)
class Completion:
    """One reply of the policy. Token ids are kept from sampling to loss: text is never tokenised again.

    `logps` are the sampling log-probabilities of `ids` (same length), or None when the sampler gave none.
    `truncated`: the reply was cut by the token limit (no end-of-sequence token). `ids` is never empty.
    """

    prompt: str
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    text: str
    truncated: bool = False
    logps: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Verdict(_Json):
    """What the parser and the executor found.

    Args:
        ok: An answer is right; a proposal is valid.
        well_formed: The reply has the form asked for, the format ladder's first rung.
        score: 1.0 right, 0.0 wrong, between only with fractional scoring.
        reason: The reason code of what is not ok.
        detail: The same in words.

    Examples:
        >>> Verdict(ok=False, well_formed=True, reason="wrong").score
        0.0
    """

    ok: bool
    well_formed: bool
    score: float = 0.0
    reason: str = ""
    detail: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.score <= 1:
            raise ValueError(f"the score {self.score} is not between 0 and 1")


@dataclass(frozen=True)
class Rollout(_Json):
    """One trained sequence: the reply, what it earned and why.

    Args:
        role: Who replied: proposer or solver.
        type: To which task type. Role and type name the baseline group (`group`).
        prompt: What was asked.
        text: What was replied.
        prompt_ids: Token ids of the prompt.
        completion_ids: Token ids of the reply.
        logps: Sampling log-probability of each reply token, None where the sampler gave none.
        truncated: The reply was cut by the token limit.
        verdict: What the parser and the executor found.
        reward: What trains the policy: the sum of `reward_parts`.
        reward_parts: Its named parts.
        task_id: The task proposed (if valid) or solved.
        parents: Ids of that task's references.
        solve_rate: r-bar of the task, None where unknown.
        advantage: The reward against its group.
        weight: Multiplies the advantage in the loss (role balancing; 0 for padding).

    Examples:
        ``[rollout.reward for rollout in selfplay.step(generate, 0) if rollout.role == "propose"]``
    """

    role: Role
    type: TaskTypeName
    prompt: str
    text: str
    prompt_ids: tuple[int, ...] = field(repr=False)
    completion_ids: tuple[int, ...] = field(repr=False)
    verdict: Verdict
    reward: float
    reward_parts: dict[str, float]
    logps: tuple[float, ...] | None = field(default=None, repr=False)
    truncated: bool = False
    task_id: str = ""
    parents: tuple[str, ...] = ()
    solve_rate: float | None = None
    advantage: float = 0.0
    weight: float = 1.0

    @property
    def group(self) -> str:
        """The TRR++ baseline group: one for each (role, type)."""
        return f"{self.role}/{self.type}"


@dataclass(frozen=True)
class Rules:
    """The switches a task type needs to know (from `config.Config`)."""

    equality: str = "python"
    induction_scoring: str = "binary"
    induction_inputs: int = 10
    induction_shown: int = 5
    max_program_chars: int = 4096
    max_value_chars: int = 2000
    max_message_chars: int = 2000
    cpu_seconds: float = 1.0
    memory_mb: int = 256
    reply_reading: str = "strict"


class _Reply:
    """What a proposal and an attempt share: once judged and rewarded, both are trained on."""

    role: ClassVar[Role]

    def said(self) -> dict[str, Any]:
        """The reply in a line of tasks.jsonl."""
        said = self.completion
        return {"text": said.text, "tokens": len(said.ids), "truncated": said.truncated}

    def rollout(self, reward: Reward) -> Rollout:
        """The reply as it is trained on, with its reward."""
        said = self.completion
        return Rollout(
            role=self.role,
            type=self.type,
            prompt=said.prompt,
            text=said.text,
            prompt_ids=said.prompt_ids,
            completion_ids=said.ids,
            logps=said.logps,
            truncated=said.truncated,
            verdict=self.verdict,
            reward=reward.total,
            reward_parts=reward.parts,
            task_id=self.task.id if self.task else "",
            parents=self.parents,
            solve_rate=self.rate,
        )


@dataclass
class SolveAttempt(_Reply):
    """One attempt of the solver at one task, stages 4 to 9. `rate`: r-bar of its task, None if not measured."""

    role = Role.SOLVE
    references: ClassVar[tuple[Task, ...]] = ()
    task: Task
    prompt: str
    completion: Completion | None = None
    verdict: Verdict | None = None
    rate: float | None = None

    @property
    def type(self) -> TaskTypeName:
        return self.task.type

    @property
    def parents(self) -> tuple[str, ...]:
        return self.task.parents


@dataclass
class ProposalAttempt(_Reply):
    """One proposal as it passes through stages 1 to 6; what is not known yet is None.

    `prompt`, `references`: stage 1. `completion`: stage 2. `result` (a task, or why there is none), `is_new` (the task
    is new to its buffer and to this step): stage 3. `attempts` (the n Monte-Carlo replies to its task): stage 4.
    `rate` (r-bar, their mean success): stage 5. `is_repeat` (its own program came before, in a buffer or in this step):
    stage 6.
    """

    role = Role.PROPOSE
    type: TaskTypeName
    references: list[Task]
    prompt: str
    completion: Completion | None = None
    result: Task | Rejection | None = None
    is_new: bool = False
    is_repeat: bool = False
    attempts: list[SolveAttempt] = field(default_factory=list)
    rate: float | None = None

    @property
    def task(self) -> Task | None:
        """The valid task; None before stage 3 and for a rejected proposal."""
        return None if isinstance(self.result, Rejection) else self.result

    @property
    def verdict(self) -> Verdict:
        if isinstance(self.result, Rejection):
            return self.result.verdict
        return Verdict(ok=True, well_formed=True, score=1.0)

    @property
    def parents(self) -> tuple[str, ...]:
        """The ids of the references."""
        return tuple(reference.id for reference in self.references)

    def log_line(self, step: int) -> dict[str, Any]:
        """One line of tasks.jsonl: the proposal, accepted or rejected with its reason, and the replies to its task."""
        answers = [one.said() | {"score": one.verdict.score, "reason": one.verdict.reason} for one in self.attempts]
        asked = {"step": step, "type": self.type, "parents": list(self.parents)}
        found = {"ok": self.task is not None, "reason": self.verdict.reason, "detail": self.verdict.detail}
        task = {"fresh": self.is_new, "solve_rate": self.rate, "task": self.task and self.task.to_json()}
        return asked | self.said() | found | task | {"answers": answers}


@dataclass
class Record:
    """What one step leaves for the log. Seeding is step -1."""

    step: int
    tasks: list[dict[str, Any]] = field(default_factory=list)
    """Lines for tasks.jsonl."""
    rollouts: list[Rollout] = field(default_factory=list)
    """What is trained on, for rollouts.jsonl."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Numbers for metrics.jsonl."""
    sampled_tokens: int = 0
    """Tokens of all replies of the step: proposals, Monte-Carlo replies, and those that only stage 7 needs."""
