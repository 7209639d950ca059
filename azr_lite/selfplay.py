"""One self-play step: the eleven stages of Absolute Zero, each one call. (`minimal.py` does it without the switches.)

Everything here is plain Python and the same on every process: randomness comes from ``Random(f"{seed}/{step}/...")``,
so there is no generator state to save, and the number of processes does not change the algorithm.
Letters that end a tensor's or array's name are its dimensions, the same in all files of sampling, scoring and training:
B sequences, T tokens (or columns), U distinct prompts, N reply tokens laid end to end, V vocabulary, D hidden width,
H attention heads, E width of one head. In texts: n replies per task, K references per prompt.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from azr_lite.advantages import split_into_updates, with_advantages, with_weights_and_padding
from azr_lite.buffer import Buffers, sample_unlike, task_key
from azr_lite.config import PER_PROMPT, Config
from azr_lite.errors import MEND, AzrError, ConfigError, cause
from azr_lite.metrics import step_metrics
from azr_lite.parsing import forged_markup
from azr_lite.prompts.base import Style
from azr_lite.rewards import Reply, Reward, RewardFunction, earned, solve_rate
from azr_lite.tasks.base import Answer, Proposal, get_task_type
from azr_lite.triplet import (
    SEED_SHARING_TYPES,
    Completion,
    ProposalAttempt,
    Reason,
    Record,
    Rejection,
    Role,
    Rollout,
    SolveAttempt,
    Task,
    TaskTypeName,
)
from azr_lite.verifier import ProgramRunner, Verifier, guarded, rules_of

Generate = Callable[[Sequence[str], Role], list[Completion]]
"""One completion per prompt, same order, by the policy that plays this role. Equal prompts are sampled separately."""


class SelfPlay:
    """Holds the buffers; `step` plays one round. See the README's diagram: the numbers are the same.

    Args:
        config: The settings of the run.
        style: The words of the prompts (`prompts.get_style`).
        executor: What runs programs (`Executor`).
        count_tokens: Length of a rendered prompt in tokens, held against `max_prompt_tokens`.
        reserved: Whether a program is held out. Such a proposal is dropped whole: no reward, no solves, no place in a
            buffer, so that neither role is trained on what the evaluation asks.
        rewards: The rewards of one's own that `config.reward` names (`rewards.load_rewards`).

    Examples:
        ``SelfPlay(preset("nano"), get_style("compact"), executor).step(generate, 0)``
    """

    def __init__(
        self,
        config: Config,
        style: Style,
        executor: ProgramRunner,
        *,
        count_tokens: Callable[[str], int] = len,
        reserved: Callable[[str], bool] | None = None,
        rewards: Mapping[str, RewardFunction] | None = None,
    ) -> None:
        self.config, self.style, self.count_tokens = config, style, count_tokens
        self.rules = rules_of(config)
        self.verifier = Verifier(executor, self.rules)
        self.buffers = Buffers(config.task_types, config.buffer_capacity)
        self.reserved, self.own_rewards = reserved, rewards or {}
        self.special_tokens: Collection[str] = ()  # texts that the tokenizer makes control tokens of
        self.record = Record(step=-1)
        self._counts_before: tuple[Counter[str], Counter[int]] = Counter(), Counter()
        self.seconds = {"generate": 0.0, "sandbox": 0.0}
        for name in config.task_types:
            zero = get_task_type(name).zero_task()
            if zero is not None:
                self.buffers.add(zero)

    # ------------------------------------------------------------------ one step

    def step(self, generate: Generate, step: int) -> list[Rollout]:
        """Play step number `step` (from 0); `Config.rows` rollouts. Deterministic in (config, buffers, step, replies).

        Raises ConfigError where no proposal prompt fits `max_prompt_tokens`, InfrastructureError where the sandbox
        itself fails.
        """
        self.record = Record(step=step)
        self._counts_before = self.verifier.outcome_counts.copy(), self.verifier.worlds.copy()
        proposals = self.sample_references(step)  # 1
        self.propose(proposals, generate)  # 2
        self.validate(proposals)  # 3
        extra = self.monte_carlo(proposals, generate, step)  # 4, and replies that only stage 7 needs
        self.learnability(proposals)  # 5
        self.insert(proposals, step)  # 6
        answers = self.solve(proposals, extra)  # 7
        self.judge(answers)  # 8
        rollouts = self.reward(proposals, answers)  # 9
        rollouts = self.advantages(rollouts)  # 10
        return self.make_batch(rollouts, proposals, step)  # 11: the trainer makes updates of it

    def sample_references(self, step: int) -> list[ProposalAttempt]:
        """Stage 1. B proposals per type, from K different references of its own buffer, or from one program of all."""
        rng = self._rng(step, "references")
        return [proposal for name in self.config.task_types for proposal in self.new_proposals(name, rng)]

    def propose(self, proposals: Sequence[ProposalAttempt], generate: Generate) -> None:
        """Stage 2. One call for the proposals of all types."""
        self._reply(proposals, generate, Role.PROPOSE)

    def validate(self, proposals: Sequence[ProposalAttempt]) -> None:
        """Stage 3. Parse, run in two worlds, make tasks; every rejection carries its reason."""
        parsed = [(p.type, self._parse(p, get_task_type(p.type).parse_proposal, p.references)) for p in proposals]
        with self._timed("sandbox"):
            results = self.verifier.validate(parsed)
        seen: set[str] = set()
        for proposal, result in zip(proposals, results, strict=True):
            proposal.result = guarded(Task, self._admit, result)
            if proposal.task is not None:
                buffer = self.buffers.of[proposal.type]
                proposal.is_new = proposal.task.id not in seen and proposal.task not in buffer
                seen.add(proposal.task.id)

    def monte_carlo(self, proposals: Sequence[ProposalAttempt], generate: Generate, step: int) -> list[SolveAttempt]:
        """Stage 4. n replies to the task of each valid proposal, judged: its `attempts`.

        Returns the replies that only stage 7 needs. They are sampled here, in the same call of `generate`, and judged
        in stage 8.
        """
        for proposal in proposals:
            if proposal.task is not None:
                proposal.attempts = [self._new_attempt(proposal.task) for _ in range(self.config.n_mc)]
        measured = [attempt for proposal in proposals for attempt in proposal.attempts]
        extra = [self._new_attempt(task) for task in self._solver_tasks(proposals, step)]
        self._reply([*measured, *extra], generate, Role.SOLVE)
        self.judge(measured)
        return extra

    def learnability(self, proposals: Sequence[ProposalAttempt]) -> None:
        """Stage 5. r-bar of each valid proposal: the mean success of its own n replies."""
        for proposal in proposals:
            if proposal.task is not None:
                proposal.rate = solve_rate([attempt.verdict.score for attempt in proposal.attempts])
                for attempt in proposal.attempts:
                    attempt.rate = proposal.rate

    def insert(self, proposals: Sequence[ProposalAttempt], step: int) -> None:
        """Stage 6. Every executable program enters its buffer, whatever it earned; duplicates do not."""
        for proposal in proposals:
            if proposal.task is not None:
                proposal.is_repeat = self.buffers.is_repeat(proposal.task)
                proposal.result = dataclasses.replace(proposal.task, step=step, parents=proposal.parents)
                self.buffers.add(proposal.result, proposal.rate)

    def solve(self, proposals: Sequence[ProposalAttempt], extra: Sequence[SolveAttempt]) -> list[SolveAttempt]:
        """Stage 7. Which replies train the solver: those of Monte-Carlo (reuse) or those sampled for it (separate).

        Under an estimator with a baseline per prompt, tasks whose replies all earn the same teach nothing: they come
        last.
        """
        chosen: list[SolveAttempt] = []
        for name in self.config.task_types:
            own = [attempt for attempt in extra if attempt.type == name]
            if self.config.solver_data == "reuse":  # the first reply to every task comes before the second to any
                tasks = [proposal.attempts for proposal in proposals if proposal.type == name and proposal.attempts]
                own = [attempts[number] for number in range(self.config.n_mc) for attempts in tasks] + own
                if self.config.estimator in PER_PROMPT:
                    telling = {id(a) for task in tasks if len({self.earned(a).total for a in task}) > 1 for a in task}
                    own.sort(key=lambda attempt: id(attempt) not in telling)
            chosen += own[: self.config.solver_rows]
        return chosen

    def judge(self, attempts: Sequence[SolveAttempt]) -> None:
        """Stage 8. Verdicts by value, on what programs return in the sandbox; those that have one keep it."""
        unjudged = [attempt for attempt in attempts if attempt.verdict is None]
        parsed = [(a.task, self._parse(a, get_task_type(a.task.type).parse_answer, a.task)) for a in unjudged]
        with self._timed("sandbox"):
            verdicts = self.verifier.judge(parsed)
        for attempt, verdict in zip(unjudged, verdicts, strict=True):
            attempt.verdict = verdict

    def reward(self, proposals: Sequence[ProposalAttempt], answers: Sequence[SolveAttempt]) -> list[Rollout]:
        """Stage 9. By `Config.reward`: learnability for proposers, accuracy for solvers, the format ladder for both."""
        counted = [proposal for proposal in proposals if proposal.verdict.reason != Reason.RESERVED]
        replies = [*counted, *answers] or proposals  # held-out ones alone: they earn the same, which teaches nothing
        return [reply.rollout(self.earned(reply)) for reply in replies]

    def earned(self, reply: Reply) -> Reward:
        """What a judged reply earns."""
        return earned(reply, self.config, self.buffers.of, self.own_rewards)

    def advantages(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """Stage 10. TRR++ (or the estimator chosen) over the global batch."""
        return with_advantages(self.config, rollouts)

    def make_batch(self, rollouts: list[Rollout], proposals: list[ProposalAttempt], step: int) -> list[Rollout]:
        """Stage 11. Weigh, fill up to the fixed size with weightless copies, spread evenly over the updates, record."""
        c = self.config
        batch = with_weights_and_padding(c, rollouts)
        self._write_record(batch[: len(rollouts)], proposals, step)
        deal = {"by_role": c.roles == "split", "whole_prompts": c.pack_prompts}
        updates = split_into_updates(batch, c.updates_per_step, self._rng(step, "deal"), **deal)
        return [rollout for update in updates for rollout in update]

    # ------------------------------------------------------------------ seeding

    def seed(self, generate: Generate) -> int:
        """Fill the buffers from the zero triplet with the untrained policy's own valid proposals. Returns the rounds.

        Nothing is trained. Task types that share a form share their seeds (`TaskType.convert_from`). Stops at
        ``seed_batch_factor x batch_size`` unique tasks per type, or after ``seed_rounds`` rounds of ``batch_size``
        proposals per type: a weak model may never get there.
        """
        c = self.config
        target = min(c.seed_batch_factor * c.batch_size, c.buffer_capacity)
        self.record = Record(step=-1)
        for done in range(c.seed_rounds):
            short = [name for name in c.task_types if len(self.buffers.of[name]) < target]
            if not short:
                return done
            rng = self._rng(-1 - done, "seed")
            proposals = [proposal for name in short for proposal in self.new_proposals(name, rng)]
            self.propose(proposals, generate)
            self.validate(proposals)
            for proposal in proposals:
                if proposal.task is not None:
                    self.buffers.add_seed(proposal.task, proposal.parents, target)
            self.record.tasks += [proposal.log_line(step=-1) for proposal in proposals]
        return c.seed_rounds

    def state_dict(self) -> dict[str, Any]:
        """JSON-able. Randomness needs none: it derives from the seed and the step."""
        return {"version": 1, "buffers": self.buffers.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`. ConfigError for a state of another version."""
        if state.get("version") != 1:
            raise ConfigError(
                f"selfplay.json has version {state.get('version')!r}, expected 1; resume with the azr_lite that wrote "
                "it (see run.json), or start a new run"
            )
        self.buffers.load_state_dict(state["buffers"])

    # ------------------------------------------------------------------ small parts

    def _rng(self, step: int, purpose: str) -> random.Random:
        return random.Random(f"{self.config.seed}/{step}/{purpose}")

    def _reply(self, attempts: Sequence[ProposalAttempt | SolveAttempt], generate: Generate, role: Role) -> None:
        """Sample one reply to the prompt of each attempt."""
        if not attempts:
            return
        with self._timed("generate"):
            completions = generate([attempt.prompt for attempt in attempts], role)
        for attempt, completion in zip(attempts, completions, strict=True):
            attempt.completion = completion
        self.record.sampled_tokens += sum(len(completion.ids) for completion in completions)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - started

    def new_proposals(self, name: TaskTypeName, rng: random.Random) -> list[ProposalAttempt]:
        """The B proposals of one type: each prompt serves so many of them."""
        c = self.config
        first = [self._new_proposal(name, rng) for _ in range(c.batch_size // c.proposals_per_prompt)]
        return [dataclasses.replace(one, attempts=[]) for one in first for _ in range(c.proposals_per_prompt)]

    def _new_proposal(self, name: TaskTypeName, rng: random.Random) -> ProposalAttempt:
        """A proposer's prompt that fits: references are dropped (or another program drawn) until it does."""
        task_type, style = get_task_type(name), self.style.vary(rng)
        for references in self._references(name, rng):
            prompt = _written(task_type.propose_prompt, style, references, self.rules)
            tokens = self.count_tokens(prompt)
            if tokens <= self.config.max_prompt_tokens:
                return ProposalAttempt(name, references, prompt)
        raise ConfigError(
            f"the shortest {name} proposal prompt has {tokens} tokens, max_prompt_tokens is "
            f"{self.config.max_prompt_tokens}; raise it"
        )

    def _references(self, name: TaskTypeName, rng: random.Random) -> Iterator[list[Task]]:
        """What one proposal may refer to: first choice, then what to take where the prompt is too long."""
        c = self.config
        if get_task_type(name).propose_from == "programs":
            pool = self.buffers.programs(c.reference_tasks)
            if not pool:
                raise ConfigError(
                    f"proposals of {name} start from programs, and the buffers of {' and '.join(SEED_SHARING_TYPES)} "
                    "are empty; add one of these to task_types"
                )
            for _ in range(2):  # of those chosen, then of all
                while pool:
                    yield [pool.pop(rng.randrange(len(pool)))]
                pool = self.buffers.programs()
            zero = get_task_type("deduction").zero_task()
            yield [dataclasses.replace(zero, id=task_key(zero))]
        else:
            pool = self.buffers.tasks([name], c.reference_tasks)
            if c.reference_tasks == "diverse":
                references = sample_unlike(rng, pool, c.references)
            else:
                references = rng.sample(pool, min(c.references, len(pool)))
            for kept in range(len(references), -1, -1):
                yield references[:kept]

    def _parse(self, attempt: ProposalAttempt | SolveAttempt, parser: Callable[..., Any], about: Any) -> Any:
        """What the task type's `parser` reads in the reply, or a `Rejection`: it has no form, or was cut."""
        said = attempt.completion
        cut = f"cut after {len(said.ids)} tokens" if said.truncated else ""
        reply = self.style.read_sampled(attempt.role, attempt.prompt, said.text, self.rules, cut=cut)
        return reply if isinstance(reply, Rejection) else guarded(Proposal | Answer, parser, reply, about, self.rules)

    def _admit(self, result: Task | Rejection) -> Task | Rejection:
        """Give a valid task its id. Held-out programs and tasks whose solver prompt is too long are rejected."""
        if isinstance(result, Rejection):
            return result
        if self.reserved is not None and self.reserved(result.program):
            return Rejection(Reason.RESERVED, "a held-out program")
        for text in (result.program, *result.inputs, *result.outputs, getattr(result, "message", "")):
            if forged := forged_markup(text, self.special_tokens):
                return Rejection(Reason.MARKUP, f"it holds {forged}")
        tokens = self.count_tokens(get_task_type(result.type).solve_prompt(self.style, result, self.rules))
        if tokens > self.config.max_prompt_tokens:
            return Rejection(Reason.TOO_LONG, f"the solver's prompt would have {tokens} tokens")
        return dataclasses.replace(result, id=task_key(result))

    def _new_attempt(self, task: Task) -> SolveAttempt:
        return SolveAttempt(task, _written(get_task_type(task.type).solve_prompt, self.style, task, self.rules))

    def _solver_tasks(self, proposals: Sequence[ProposalAttempt], step: int) -> list[Task]:
        """Tasks to be solved once each beside the Monte-Carlo replies: newest first, the rest drawn from the buffer."""
        c = self.config
        rng = self._rng(step, "tasks")
        tasks: list[Task] = []
        all_reserved = bool(proposals) and all(p.verdict.reason == Reason.RESERVED for p in proposals)
        for name in c.task_types:
            valid = [proposal.task for proposal in proposals if proposal.type == name and proposal.task is not None]
            if c.estimator in PER_PROMPT and not all_reserved:
                wanted, newest = 0, []  # a single reply has no others to be compared with
            elif c.solver_data == "reuse":
                wanted, newest = max(0, c.solver_rows - c.n_mc * len(valid)), []
            else:
                wanted, newest = c.solver_rows, valid[-c.solver_rows :]
            buffer = self.buffers.of[name]
            while len(newest) < wanted and len(buffer):
                newest += buffer.sample(rng, wanted - len(newest))
            tasks += newest
        return tasks

    def _write_record(self, rollouts: list[Rollout], proposals: list[ProposalAttempt], step: int) -> None:
        outcomes, worlds = self._counts_before
        self.record.tasks = [proposal.log_line(step) for proposal in proposals]
        self.record.rollouts = rollouts
        self.record.metrics = step_metrics(
            rollouts,
            proposals,
            sizes=self.buffers.sizes(),
            ages=self.buffers.ages(step),
            executor=self.verifier.outcome_counts - outcomes,
            worlds=self.verifier.worlds - worlds,
        )


def _written(write: Callable[..., str], *arguments: Any) -> str:
    """The prompt that a task type writes; ConfigError in one sentence where it fails."""
    try:
        return write(*arguments)
    except AzrError:  # in one sentence already
        raise
    except Exception as error:
        raise ConfigError(f"{write.__qualname__} failed: {cause(error)}; {MEND}") from error
