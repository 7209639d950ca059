"""Absolute Zero in one file: one model invents tasks, solves them and learns from both. ``python -m azr_lite.minimal``

Read this first. It trains the nano model in plain torch, with the package's tasks, verifier, rewards and advantages.
tests/test_minimal.py holds it equal to `azr_lite.run`: for the same replies the same prompts, verdicts, rewards,
advantages and buffers; for the same rollouts the same gradient. What it leaves out of `azr_lite.run`:

* other models, adapters, GPUs, 16 bits, vLLM, several processes, chunks of replies: one float32 model on one CPU
* the switches: the solver trains on this step's Monte-Carlo replies, advantages are TRR++ over sequences, each group
  weighs the same in the loss, both roles train, there is no entropy bonus (all as in the preset "nano")
* old tasks, and then weightless rows, that fill a batch up to a fixed size: with few valid proposals it is smaller
* limits on the length of prompts: nano's context holds them all
* checkpoints and resuming, logs, metrics, trackers, the learning self-test, recovery from lack of memory
* intervals, difficulties, and evaluations during training: it prints held-out accuracy before and after
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
import tyro
from torch.nn.utils.rnn import pad_sequence

from azr_lite.advantages import loss_weights, split_into_updates, trr
from azr_lite.buffer import Buffers, task_key
from azr_lite.config import Config
from azr_lite.evaluation.reasoning import HELD_OUT_SEED
from azr_lite.metrics import mean
from azr_lite.nano.language import held_out, is_reserved
from azr_lite.nano.model import NanoSampler, load_nano
from azr_lite.parsing import parse_reply
from azr_lite.presets import preset
from azr_lite.prompts.base import Codec, draw_seed
from azr_lite.prompts.words import COMPACT as STYLE
from azr_lite.rewards import answer_reward, proposal_reward, solve_rate
from azr_lite.sandbox import Executor
from azr_lite.tasks import get_task_type
from azr_lite.triplet import Completion, ProposalAttempt, Reason, Rejection, Rollout, SolveAttempt, Task
from azr_lite.verifier import Verifier, open_executor, rules_of


class AbsoluteZero:
    """One policy, its buffers of tasks, and the verifier that says what is true."""

    def __init__(self, config: Config, executor: Executor) -> None:
        c, (self.model, tokenizer) = config, load_nano()
        self.config, self.rules = c, rules_of(c)
        self.codec = Codec(tokenizer, STYLE, [tokenizer.eos_token_id])
        self.sampler = NanoSampler(self.model, tokenizer.eos_token_id, tokenizer.pad_token_id, c.max_reply_tokens)
        self.verifier = Verifier(executor, self.rules)
        self.buffers = Buffers(c.task_types, c.buffer_capacity)
        for name in c.task_types:
            if (zero := get_task_type(name).zero_task()) is not None:
                self.buffers.add(zero)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), c.learning_rate, betas=(0.9, c.adam_beta2), weight_decay=c.weight_decay
        )

    def step(self, step: int) -> list[Rollout]:
        """Play step number `step` (from 0) and learn from it. Returns what was trained on."""
        c = self.config

        # 1 references: K old tasks per proposal, or one old program
        rng = random.Random(f"{c.seed}/{step}/references")
        proposals = [self.new_proposal(name, rng) for name in c.task_types for _ in range(c.batch_size)]

        # 2 propose: the policy invents a task from each
        self.reply(proposals, step, call=0)

        # 3 validate: run each program in the sandbox, twice; what is valid becomes a task
        self.validate(proposals)
        valid = [proposal for proposal in proposals if proposal.task is not None]

        # 4 Monte-Carlo solve: the policy answers each new task n times
        for proposal in valid:
            proposal.attempts = [self.new_attempt(proposal.task) for _ in range(c.n_mc)]
        attempts = [attempt for proposal in valid for attempt in proposal.attempts]
        self.reply(attempts, step, call=1)
        self.judge(attempts)

        # 5 learnability: the share of right answers says how hard a task is for this policy now
        for proposal in valid:
            proposal.rate = solve_rate([attempt.verdict.score for attempt in proposal.attempts])
            for attempt in proposal.attempts:
                attempt.rate = proposal.rate

        # 6 insert: each valid task enters its buffer, whatever it earns
        for proposal in valid:
            proposal.result = dataclasses.replace(proposal.task, step=step, parents=proposal.parents)
            self.buffers.add(proposal.result, proposal.rate)

        # 7 solve: choose the answers that train the solver; the first to every task come before the second to any
        answers = []
        for name in c.task_types:
            own = [proposal.attempts for proposal in valid if proposal.type == name]
            answers += [attempts[number] for number in range(c.n_mc) for attempts in own][: c.solver_rows]

        # 8 judge: by value, on what programs return. Done in 4, as these are the Monte-Carlo answers

        # 9 rewards: learnability for proposals, accuracy for answers; -1 for what has no form
        free = [proposal for proposal in proposals if proposal.verdict.reason != Reason.RESERVED]
        rollouts = [proposal.rollout(proposal_reward(proposal.verdict, proposal.rate)) for proposal in free]
        rollouts += [answer.rollout(answer_reward(answer.verdict)) for answer in answers]

        # 10 TRR++: each reward against the others of its (role, type) group; each group weighs the same in the loss
        groups_B, lengths_B = [r.group for r in rollouts], [len(r.completion_ids) for r in rollouts]
        advantages_B = trr([r.reward for r in rollouts], groups_B, lengths_B)
        weights_B = loss_weights(groups_B, lengths_B, [True] * len(rollouts))
        scored = zip(rollouts, advantages_B, weights_B, strict=True)
        rollouts = [dataclasses.replace(r, advantage=float(a), weight=float(w)) for r, a, w in scored]

        # 11 update: the one policy learns both roles
        rng = random.Random(f"{c.seed}/{step}/deal")
        for rows in split_into_updates(rollouts, c.updates_per_step, rng, whole_prompts=c.pack_prompts):
            self.update(rows, sum(lengths_B) / c.updates_per_step)
        return rollouts

    def update(self, rollouts: Sequence[Rollout], tokens: float) -> float:
        """One optimiser step of PPO-clip; returns the loss. `tokens`: reply tokens of an average update of this step.

        loss = -1/tokens * sum over rollouts of weight * sum over tokens of min(ratio * A, clip(ratio) * A)
        """
        c, total = self.config, 0.0
        by_length = sorted(rollouts, key=lambda row: len(row.prompt_ids) + len(row.completion_ids))
        for start in range(0, len(rollouts), c.micro_batch_size):
            rows = by_length[start : start + c.micro_batch_size]
            lengths_B = torch.tensor([len(row.completion_ids) for row in rows])
            advantages_N = torch.tensor([row.advantage for row in rows]).repeat_interleave(lengths_B)
            weights_N = torch.tensor([row.weight for row in rows]).repeat_interleave(lengths_B)
            sampled_logps_N = torch.tensor([logp for row in rows for logp in row.logps])
            ratio_N = (self.token_logps(rows) - sampled_logps_N).exp()
            clipped_N = ratio_N.clamp(1 - c.clip, 1 + c.clip)
            objective_N = torch.minimum(ratio_N * advantages_N, clipped_N * advantages_N)
            loss = -(weights_N * objective_N).sum() / tokens
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), c.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total

    def token_logps(self, rows: Sequence[Rollout]) -> torch.Tensor:
        """Log-probability of each reply token under the current weights, rows laid end to end, shape (N,)."""
        texts = [torch.tensor([*row.prompt_ids, *row.completion_ids]) for row in rows]
        ids_BT = pad_sequence(texts, batch_first=True)  # padded on the right, where causal attention never looks
        hidden_BTD = self.model.model(input_ids=ids_BT).last_hidden_state  # each column predicts the next token
        ends = [(len(row.prompt_ids), len(text)) for row, text in zip(rows, texts, strict=True)]
        hidden_ND = torch.cat([hidden_TD[a - 1 : b - 1] for hidden_TD, (a, b) in zip(hidden_BTD, ends, strict=True)])
        ids_N1 = torch.tensor([[token] for row in rows for token in row.completion_ids])
        return self.model.lm_head(hidden_ND).log_softmax(-1).gather(-1, ids_N1)[:, 0]

    def new_proposal(self, name: str, rng: random.Random) -> ProposalAttempt:
        task_type = get_task_type(name)
        if task_type.propose_from == "programs":
            references = [rng.choice(self.buffers.programs())]
        else:
            references = self.buffers.of[name].sample(rng, self.config.references)
        return ProposalAttempt(name, references, task_type.propose_prompt(STYLE, references, self.rules))

    def new_attempt(self, task: Task) -> SolveAttempt:
        return SolveAttempt(task, get_task_type(task.type).solve_prompt(STYLE, task, self.rules))

    def reply(self, attempts: Sequence[Any], step: int, call: int, greedy: bool = False) -> None:
        """Sample a reply to each prompt. The seed, the step and the number of the call fix all of them."""
        encoded = [self.codec.encode(attempt.prompt) for attempt in attempts]
        seed = draw_seed(self.config.seed, step, call, 0)
        samples = self.sampler([ids for _, ids in encoded], greedy=greedy, seed=seed)
        for attempt, (prompt, ids), sample in zip(attempts, encoded, samples, strict=True):
            attempt.completion = self.codec.completion(prompt, ids, sample)

    def validate(self, proposals: Sequence[ProposalAttempt]) -> None:
        """Parse and run; every proposal becomes a task or a rejection with its reason."""
        parsed = [
            (p.type, self.parse(p.completion, get_task_type(p.type).parse_proposal, p.references)) for p in proposals
        ]
        for proposal, result in zip(proposals, self.verifier.validate(parsed), strict=True):
            if not isinstance(result, Rejection):
                held = is_reserved(result.program)  # held-out problems are neither rewarded nor kept
                result = Rejection(Reason.RESERVED) if held else dataclasses.replace(result, id=task_key(result))
            proposal.result = result

    def judge(self, attempts: Sequence[SolveAttempt]) -> None:
        """Parse, and run what must be run; every answer gets its verdict."""
        parsed = [(a.task, self.parse(a.completion, get_task_type(a.task.type).parse_answer, a.task)) for a in attempts]
        for attempt, verdict in zip(attempts, self.verifier.judge(parsed), strict=True):
            attempt.verdict = verdict

    def parse(self, completion: Completion, parser: Callable[..., Any], about: Any) -> Any:
        """What the task type's `parser` reads in the reply, or a `Rejection`: it has no form, or was cut."""
        reply = parse_reply(STYLE.prefill + completion.text)
        if not isinstance(reply, Rejection):
            return parser(reply, about, self.rules)
        return Rejection(Reason.TRUNCATED) if completion.truncated else reply

    def seed(self) -> None:
        """Fill the buffers with valid tasks of the untrained policy, which starts from the identity function."""
        c = self.config
        target = c.seed_batch_factor * c.batch_size
        for number in range(c.seed_rounds):
            rng = random.Random(f"{c.seed}/{-1 - number}/seed")
            short = [name for name in c.task_types if len(self.buffers.of[name]) < target]
            proposals = [self.new_proposal(name, rng) for name in short for _ in range(c.batch_size)]
            self.reply(proposals, step=-1, call=number)
            self.validate(proposals)
            for proposal in proposals:
                if proposal.task is not None:
                    self.buffers.add_seed(proposal.task, proposal.parents, target)

    def evaluate(self, problems: int) -> dict[str, list[bool]]:
        """Which of so many held-out problems per task type the policy solves, greedily."""
        right = {}
        for name, tasks in held_out(problems, HELD_OUT_SEED).items():
            attempts = [self.new_attempt(task) for task in tasks]
            self.reply(attempts, step=-1, call=0, greedy=True)
            self.judge(attempts)
            right[name] = [attempt.verdict.ok for attempt in attempts]
        return right


def main(steps: int = 30, seed: int = 0, batch_size: int = 32, problems: int = 300) -> None:
    """Train nano, and say what it solved before and after.

    Args:
        steps: Self-play steps.
        seed: Fixes everything.
        batch_size: Proposals per task type, 4 or a multiple.
        problems: Held-out problems per task type.
    """
    rows = 3 * batch_size
    config = preset("nano", seed=seed, batch_size=batch_size, solver_batch_size=rows, micro_batch_size=rows // 4)
    with open_executor(config) as executor:
        zero = AbsoluteZero(config, executor)
        before = zero.evaluate(problems)
        zero.seed()
        for step in range(steps):
            rollouts = zero.step(step)
            print(f"step {step + 1}/{steps}: mean reward {mean([r.reward for r in rollouts]):+.3f}", flush=True)
        after = zero.evaluate(problems)
    for name in before:
        print(f"{name}: {mean(before[name]):.3f} of the held-out problems right before, {mean(after[name]):.3f} after")


if __name__ == "__main__":
    tyro.cli(main, prog="python -m azr_lite.minimal")
