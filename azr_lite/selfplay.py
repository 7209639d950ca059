"""One self-play step: the eleven stages of Absolute Zero, each one call.

Comes in: `generate` (prompts to replies, with the current weights).  Goes out: exactly `Config.rows` rollouts, with
advantages and loss weights, ready for one update.
Not covered: what travels from stage to stage (`records.py`), the model and the update (`trainer.py`), files (`loop.py`, `rundir.py`).

Everything here is plain Python and the same on every process: randomness comes from ``Random(f"{seed}/{step}/...")``, so
there is no generator state to save, and the number of processes does not change the algorithm.
Letters in names: B sequences, T tokens, G replies to one task, K references.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from azr_lite.batch import deal, weighed, with_advantages
from azr_lite.buffer import Buffers, task_key
from azr_lite.config import Config
from azr_lite.errors import ConfigError
from azr_lite.metrics import step_metrics
from azr_lite.parsing import Reply, parse_reply
from azr_lite.prompts.base import Style
from azr_lite.records import Attempt, Offer, Record, rollout_of, task_line
from azr_lite.rewards import answer_reward, proposal_reward, solve_rate
from azr_lite.tasks.base import Answer, Proposal, Rules, get_game
from azr_lite.triplet import Completion, Reason, Rejection, Role, Rollout, Task, TaskType
from azr_lite.verifier import Runs, Verifier

Generate = Callable[[Sequence[str], Role], list[Completion]]
"""One completion a prompt, same order, by the policy that plays this role. A prompt may occur many times: each is sampled on its own."""


class SelfPlay:
    """Holds the buffers; `step` plays one round. See the README's diagram: the numbers are the same."""

    def __init__(
        self,
        config: Config,
        style: Style,
        executor: Runs,
        *,
        count_tokens: Callable[[str], int] = len,
        reserved: Callable[[str], bool] | None = None,
        rules: Rules | None = None,
    ) -> None:
        """`count_tokens` measures a prompt.

        `reserved` names held-out programs. A proposal of one is dropped whole: no reward, no solves, no place in a buffer,
        so that neither role is trained on what the evaluation asks.
        """
        self.config, self.style, self.count_tokens = config, style, count_tokens
        self.rules = rules or rules_of(config)
        self.verifier = Verifier(executor, self.rules)
        self.buffers = Buffers(config.task_types, config.buffer_capacity)
        self.reserved = reserved
        self.previous: dict[TaskType, list[Task]] = {name: [] for name in config.task_types}
        self.seeded = False
        self.record = Record(step=-1)
        self._before: tuple[Counter[str], Counter[int]] = Counter(), Counter()
        self.seconds = {"generate": 0.0, "sandbox": 0.0}
        for name in config.task_types:
            zero = get_game(name).zero_task()
            if zero is not None:
                self.buffers.of[name].add(zero)

    # ------------------------------------------------------------------ one step

    def step(self, generate: Generate, step: int) -> list[Rollout]:
        """Play step number `step` (from 0). Deterministic in (config, buffers, step, replies)."""
        self.record = Record(step=step)
        self._before = self.verifier.kinds.copy(), self.verifier.worlds.copy()
        offers = self.sample_references(step)  # 1
        self.propose(offers, generate)  # 2
        self.validate(offers)  # 3
        tries, tasks = self.monte_carlo(offers, generate, step)  # 4 (and the replies stage 7 needs: one call for all solves)
        self.learnability(offers, tries)  # 5
        self.insert(offers, step)  # 6
        answers = self.solve(tries, tasks)  # 7
        self.judge(answers)  # 8
        rollouts = self.reward(offers, answers)  # 9
        rollouts = self.advantages(rollouts)  # 10
        return self.hand_over(rollouts, offers, tries, step)  # 11: the trainer makes one update of them

    def sample_references(self, step: int) -> list[Offer]:
        """Stage 1. B prompts a type: K different references from its own buffer, or one program from all of them."""
        rng = self._rng(step, "references")
        return [self._offer(name, rng) for name in self.config.task_types for _ in range(self.config.batch_size)]

    def propose(self, offers: Sequence[Offer], generate: Generate) -> None:
        """Stage 2. One call for the proposals of all types."""
        for offer, completion in zip(offers, self._generate(generate, [offer.prompt for offer in offers], Role.PROPOSE), strict=True):
            offer.completion = completion

    def validate(self, offers: Sequence[Offer]) -> None:
        """Stage 3. Parse, run in two worlds, make tasks; every rejection carries its reason."""
        parsed = [(offer.type, self._parse_proposal(offer)) for offer in offers]
        with self._timed("sandbox"):
            results = self.verifier.validate(parsed)
        seen: set[str] = set()
        for offer, result in zip(offers, results, strict=True):
            offer.result = self._admit(result)
            if offer.task is not None:
                buffer = self.buffers.of[offer.type]
                offer.fresh = offer.task.id not in seen and offer.task not in buffer
                seen.add(offer.task.id)

    def monte_carlo(self, offers: Sequence[Offer], generate: Generate, step: int) -> tuple[list[Attempt], list[Attempt]]:
        """Stage 4. n replies to each valid proposal, judged. Also samples (not yet judged) the replies of stage 7."""
        tries = [self._attempt(offer.task) for offer in offers if offer.task is not None for _ in range(self.config.n_mc)]
        tasks = [self._attempt(task) for task in self._solver_tasks(offers, step)]
        replies = self._generate(generate, [attempt.prompt for attempt in (*tries, *tasks)], Role.SOLVE)
        for attempt, completion in zip((*tries, *tasks), replies, strict=True):
            attempt.completion = completion
        self.judge(tries)
        return tries, tasks

    def learnability(self, offers: Sequence[Offer], tries: Sequence[Attempt]) -> None:
        """Stage 5. r-bar of each valid proposal: the mean success of its own n replies."""
        n = self.config.n_mc
        valid = [offer for offer in offers if offer.task is not None]
        for index, offer in enumerate(valid):
            own = tries[index * n : (index + 1) * n]
            offer.rate = solve_rate([attempt.verdict.score for attempt in own])
            for attempt in own:
                attempt.rate = offer.rate

    def insert(self, offers: Sequence[Offer], step: int) -> None:
        """Stage 6. Every executable program enters its buffer, whatever it earned; duplicates do not."""
        for name in self.config.task_types:
            self.previous[name] = []
        for offer in offers:
            if offer.task is not None:
                parents = tuple(reference.id for reference in offer.references)
                task = dataclasses.replace(offer.task, step=step, parents=parents)
                offer.result = task
                if self.buffers.add(task):
                    self.previous[offer.type].append(task)

    def solve(self, tries: Sequence[Attempt], tasks: Sequence[Attempt]) -> list[Attempt]:
        """Stage 7. Which replies train the solver: those of Monte-Carlo (reuse) or those sampled for it (separate)."""
        chosen: list[Attempt] = []
        for name in self.config.task_types:
            own = [attempt for attempt in tasks if attempt.task.type == name]
            if self.config.solver_data == "reuse":
                own = round_robin([attempt for attempt in tries if attempt.task.type == name], self.config.n_mc) + own
            chosen += own[: self.config.solver_rows]
        return chosen

    def judge(self, attempts: Sequence[Attempt]) -> None:
        """Stage 8. Verdicts by value, on what programs return in the sandbox; those that have one keep it."""
        open_ = [attempt for attempt in attempts if attempt.verdict is None]
        parsed = [(attempt.task, self._parse_answer(attempt)) for attempt in open_]
        with self._timed("sandbox"):
            verdicts = self.verifier.judge(parsed)
        for attempt, verdict in zip(open_, verdicts, strict=True):
            attempt.verdict = verdict

    def reward(self, offers: Sequence[Offer], answers: Sequence[Attempt]) -> list[Rollout]:
        """Stage 9. Learnability for proposers, accuracy for solvers, the format ladder for both."""
        zero = self.config.zero_learnability
        rollouts = []
        for offer in offers:
            if offer.verdict.reason == Reason.RESERVED:
                continue
            parents = tuple(reference.id for reference in offer.references)
            task_id = offer.task.id if offer.task is not None else ""
            pay = proposal_reward(offer.verdict, offer.rate, zero)
            rollouts.append(rollout_of(Role.PROPOSE, offer.type, offer.completion, offer.verdict, pay, task_id, parents, offer.rate))
        for answer in answers:
            task = answer.task
            pay = answer_reward(answer.verdict)
            rollouts.append(rollout_of(Role.SOLVE, task.type, answer.completion, answer.verdict, pay, task.id, task.parents, answer.rate))
        return rollouts

    def advantages(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """Stage 10. TRR++ (or the estimator chosen) over the global batch, and the loss weight of each sequence."""
        return with_advantages(self.config, rollouts)

    def hand_over(self, rollouts: list[Rollout], offers: list[Offer], tries: list[Attempt], step: int) -> list[Rollout]:
        """Stage 11. Fill up to the fixed batch size with weightless copies, weigh, deal evenly over the updates, record."""
        c = self.config
        batch = weighed(c, rollouts)
        self._write_record(batch[: len(rollouts)], offers, tries, step)
        return deal(batch, c.updates_per_step, self._rng(step, "deal"), by_role=c.roles == "split")

    # ------------------------------------------------------------------ seeding

    def seed(self, generate: Generate) -> int:
        """Fill the buffers from the zero triplet with the untrained policy's own valid proposals; no update. Returns the rounds.

        Games that share a form share their seeds (`Game.adopt`). Stops at ``seed_batch_factor x batch_size`` unique tasks a
        type, or after ``seed_rounds`` rounds of ``batch_size`` proposals a type: a weak model may never get there.
        """
        c = self.config
        target = min(c.seed_batch_factor * c.batch_size, c.buffer_capacity)
        self.record = Record(step=-1)
        done = 0
        for done in range(1, c.seed_rounds + 1):
            short = [name for name in c.task_types if len(self.buffers.of[name]) < target]
            if not short:
                done -= 1
                break
            rng = self._rng(-done, "seed")
            offers = [self._offer(name, rng) for name in short for _ in range(c.batch_size)]
            self.propose(offers, generate)
            self.validate(offers)
            self._adopt(offers, target)
            self.record.tasks += [task_line(offer, [], -1) for offer in offers]
        self.seeded = True
        return done

    def _adopt(self, offers: Sequence[Offer], target: int) -> None:
        for offer in offers:
            if offer.task is None:
                continue
            for name, buffer in self.buffers.of.items():
                task = offer.task if name == offer.type else get_game(name).adopt(offer.task)
                if task is not None and len(buffer) < target:
                    parents = tuple(reference.id for reference in offer.references)
                    self.buffers.add(dataclasses.replace(task, id=task_key(task), parents=parents))

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """JSON-able. Randomness needs none: it derives from the seed and the step."""
        previous = {name: [task.id for task in tasks] for name, tasks in self.previous.items()}
        return {"version": 1, "seeded": self.seeded, "buffers": self.buffers.state_dict(), "previous": previous}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state.get("version") != 1:
            raise ConfigError(f"selfplay.json has version {state.get('version')!r}, expected 1; it was written by another azr_lite")
        self.seeded = state["seeded"]
        self.buffers.load_state_dict(state["buffers"])
        for name, ids in state["previous"].items():
            known = {task.id: task for task in self.buffers.of[name]}
            self.previous[name] = [known[i] for i in ids if i in known]

    # ------------------------------------------------------------------ small parts

    def _rng(self, step: int, purpose: str) -> random.Random:
        return random.Random(f"{self.config.seed}/{step}/{purpose}")

    def _generate(self, generate: Generate, prompts: Sequence[str], role: Role) -> list[Completion]:
        if not prompts:
            return []
        with self._timed("generate"):
            return generate(prompts, role)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - started

    def _offer(self, name: TaskType, rng: random.Random) -> Offer:
        """A proposer's prompt that fits: references are dropped (or another program drawn) until it does."""
        game = get_game(name)
        if game.propose_from == "programs":
            pool = self.buffers.programs()
            references = [rng.choice(pool)] if pool else []
            prompt = game.propose_prompt(self.style, references, self.rules)
            while self._too_long(prompt) and len(pool) > 1:
                pool.remove(references[0])
                references = [rng.choice(pool)]
                prompt = game.propose_prompt(self.style, references, self.rules)
        else:
            references = self.buffers.of[name].sample(rng, self.config.references)
            prompt = game.propose_prompt(self.style, references, self.rules)
            while self._too_long(prompt) and references:
                references = references[:-1]
                prompt = game.propose_prompt(self.style, references, self.rules)
        if self._too_long(prompt):
            raise ConfigError(
                f"the shortest {name} proposal prompt has {self.count_tokens(prompt)} tokens, max_prompt_tokens is "
                f"{self.config.max_prompt_tokens}; raise it"
            )
        return Offer(name, references, prompt)

    def _too_long(self, prompt: str) -> bool:
        return self.count_tokens(prompt) > self.config.max_prompt_tokens

    def _read(self, completion: Completion) -> Reply | Rejection:
        reply = parse_reply(self.style.prefill + completion.text)
        if isinstance(reply, Rejection) and completion.truncated:
            return Rejection(Reason.TRUNCATED, f"cut after {len(completion.ids)} tokens")
        return reply

    def _parse_proposal(self, offer: Offer) -> Proposal | Rejection:
        reply = self._read(offer.completion)
        return reply if isinstance(reply, Rejection) else get_game(offer.type).parse_proposal(reply, offer.references, self.rules)

    def _parse_answer(self, attempt: Attempt) -> Answer | Rejection:
        reply = self._read(attempt.completion)
        return reply if isinstance(reply, Rejection) else get_game(attempt.task.type).parse_answer(reply, attempt.task, self.rules)

    def _admit(self, result: Task | Rejection) -> Task | Rejection:
        """Give a valid task its id. Held-out programs are dropped; a task whose solver prompt does not fit is rejected, not cut."""
        if isinstance(result, Rejection):
            return result
        if self.reserved is not None and self.reserved(result.program):
            return Rejection(Reason.RESERVED, "a held-out program")
        tokens = self.count_tokens(get_game(result.type).solve_prompt(self.style, result, self.rules))
        if tokens > self.config.max_prompt_tokens:
            return Rejection(Reason.TOO_LONG, f"the solver's prompt would have {tokens} tokens")
        return dataclasses.replace(result, id=task_key(result))

    def _attempt(self, task: Task) -> Attempt:
        return Attempt(task, get_game(task.type).solve_prompt(self.style, task, self.rules))

    def _solver_tasks(self, offers: Sequence[Offer], step: int) -> list[Task]:
        """Tasks to be solved once each beside the Monte-Carlo replies: newest first, the rest uniformly from the buffer."""
        c = self.config
        rng = self._rng(step, "tasks")
        tasks: list[Task] = []
        for name in c.task_types:
            valid = [offer.task for offer in offers if offer.type == name and offer.task is not None]
            if c.solver_data == "reuse":
                wanted, newest = max(0, c.solver_rows - c.n_mc * len(valid)), []
            else:
                wanted, newest = c.solver_rows, (valid if c.same_step else self.previous[name])
            newest = newest[-wanted:] if wanted else []
            buffer = self.buffers.of[name]
            while len(newest) < wanted and len(buffer):
                newest += buffer.sample(rng, wanted - len(newest))
            tasks += newest
        return tasks

    def _write_record(self, rollouts: list[Rollout], offers: list[Offer], tries: list[Attempt], step: int) -> None:
        n, valid = self.config.n_mc, 0
        for offer in offers:
            own = tries[valid * n : (valid + 1) * n] if offer.task is not None else []
            valid += offer.task is not None
            self.record.tasks.append(task_line(offer, own, step))
        self.record.rollouts = rollouts
        said, worlds = self.verifier.kinds - self._before[0], self.verifier.worlds - self._before[1]
        self.record.metrics = step_metrics(rollouts, offers, tries, self.buffers.sizes(), self.buffers.ages(step), said, worlds)


def rules_of(config: Config) -> Rules:
    """The switches that games see."""
    return Rules(
        equality=config.equality,
        induction_scoring=config.induction_scoring,
        induction_inputs=config.induction_inputs,
        induction_shown=config.induction_shown,
    )


def round_robin(attempts: Sequence[Attempt], n: int) -> list[Attempt]:
    """The first reply to each task, then the second to each, …: whatever is cut off, all tasks are served alike."""
    return [attempts[start] for offset in range(n) for start in range(offset, len(attempts), n)]
