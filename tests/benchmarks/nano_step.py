"""Where the time of a nano self-play step goes, and how far sampling and update are from loops written by hand.

    python -m tests.benchmarks.nano_step [--steps 12] [--json]

Everything is measured in turns within one run: after each step the hand-written loop updates the same rows.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from azr_lite.config import Config
from azr_lite.environment import describe_environment, require_training
from azr_lite.metrics import STAGES
from azr_lite.presets import preset
from azr_lite.prompts import get_style
from azr_lite.selfplay import SelfPlay
from azr_lite.triplet import Rollout
from azr_lite.verifier import open_executor

NAME = "python -m tests.benchmarks.nano_step"


class _TimedSampler:
    """A sampler that keeps the seconds spent inside it and the tokens it made."""

    def __init__(self, sampler: Any) -> None:
        self.sampler, self.seconds, self.tokens = sampler, 0.0, 0
        self.prompts: list[list[int]] = []

    def __call__(self, prompt_ids: list[list[int]], *, greedy: bool, seed: int, ended: Any = None) -> list[Any]:
        began = time.perf_counter()
        samples = self.sampler(prompt_ids, greedy=greedy, seed=seed)
        self.seconds += time.perf_counter() - began
        self.tokens += sum(len(ids) for ids, _, _ in samples)
        self.prompts = prompt_ids
        return samples


class HandLoop:
    """The update as one would write it by hand: length-sorted micro-batches, clipped objective, AdamW."""

    def __init__(self, config: Config, model: Any, pad_id: int) -> None:
        import torch

        self.config, self.pad_id = config, pad_id
        self.model = copy.deepcopy(model).train()
        betas = (0.9, config.adam_beta2)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, betas=betas, weight_decay=config.weight_decay
        )

    def update(self, rows: Sequence[Rollout]) -> None:
        """All updates of one step: `rows` in the order the trainer got them, one contiguous block per update."""
        import torch

        size = len(rows) // self.config.updates_per_step
        for start in range(0, len(rows), size):
            block = sorted(rows[start : start + size], key=lambda r: -len(r.prompt_ids) - len(r.completion_ids))
            total = sum(len(r.completion_ids) for r in block)
            for first in range(0, size, self.config.micro_batch_size):
                self._loss(block[first : first + self.config.micro_batch_size], total).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

    def _loss(self, rows: Sequence[Rollout], total: int) -> Any:
        import torch

        width = max(len(r.prompt_ids) + len(r.completion_ids) for r in rows)
        ids_BT = torch.full((len(rows), width), self.pad_id)
        keep_BT = torch.zeros((len(rows), width), dtype=torch.bool)
        old, advantages = [], []
        for row, r in enumerate(rows):
            ids = [*r.prompt_ids, *r.completion_ids]
            ids_BT[row, : len(ids)] = torch.tensor(ids)
            keep_BT[row, len(r.prompt_ids) : len(ids)] = True
            old += r.logps or ()
            advantages += [r.advantage * r.weight] * len(r.completion_ids)
        hidden_BTD = self.model.model(input_ids=ids_BT[:, :-1], use_cache=False).last_hidden_state
        logits_NV = self.model.lm_head(hidden_BTD[keep_BT[:, 1:]])
        logps_N = torch.log_softmax(logits_NV, -1).gather(1, ids_BT[:, 1:][keep_BT[:, 1:]][:, None])[:, 0]
        ratio_N, advantages_N = torch.exp(logps_N - torch.tensor(old)), torch.tensor(advantages)
        clipped_N = ratio_N.clamp(1 - self.config.clip, 1 + self.config.clip)
        return -torch.minimum(ratio_N * advantages_N, clipped_N * advantages_N).sum() / total


def bench_step(steps: int = 12, seed: int = 0) -> dict[str, Any]:
    """Play `steps` steps of preset nano (the first is a warm-up) and measure. About 6 seconds per step on two cores."""
    require_training(NAME)
    import torch

    from azr_lite.nano.language import is_reserved
    from azr_lite.nano.model import NanoSampler
    from azr_lite.train.distributed import ShardedExecutor
    from azr_lite.train.policy import load_policy
    from azr_lite.train.trainer import SelfPlayTrainer

    c = preset(
        "nano",
        steps=steps,
        seed=seed,
        eval_problems=0,
        save_every=0,
        save_minutes=0.0,
        self_test=False,
        gradient_share_every=0,
    )
    policy = load_policy(c)
    eos, pad = policy.tokenizer.eos_token_id, policy.tokenizer.pad_token_id
    timed = _TimedSampler(NanoSampler(policy.model, eos, pad, c.max_reply_tokens))
    hand = HandLoop(c, policy.model, pad)
    series: list[dict[str, float]] = []

    with (
        tempfile.TemporaryDirectory() as folder,
        open_executor(c) as executor,
    ):

        def on_step(report: dict[str, Any]) -> None:
            row = {
                **report["timing"],
                "sampler": timed.seconds,
                "sampled": timed.tokens,
                "trained": sum(map(_length, trainer.rollouts)),
            }
            timed.seconds, timed.tokens = 0.0, 0
            hand.model.load_state_dict(policy.model.state_dict())
            began = time.perf_counter()
            hand.update(trainer.rollouts)
            row["hand_update"] = time.perf_counter() - began
            series.append(row)
            trainer.schedule._began = time.perf_counter()

        style = get_style(policy.style)
        selfplay = SelfPlay(c, style, ShardedExecutor(executor), reserved=is_reserved)
        trainer = SelfPlayTrainer(c, policy, style, selfplay, Path(folder), on_step=on_step, sampler=timed)
        selfplay.count_tokens = trainer.count_tokens
        selfplay.seed(trainer.generate)
        timed.seconds, timed.tokens = 0.0, 0
        trainer.train()
        generic = _transformers_speed(policy.model, timed.prompts, eos, pad, c.max_reply_tokens)
    return summary(series[1:], generic, torch.get_num_threads())


def _length(rollout: Rollout) -> int:
    return len(rollout.prompt_ids) + len(rollout.completion_ids)


def _transformers_speed(
    model: Any, prompts: list[list[int]], eos: int, pad: int, limit: int, chunk: int = 128
) -> float:
    """Tokens per second of transformers' `generate` on some of the last step's prompts, in chunks of like length."""
    import torch

    chosen = sorted(prompts, key=len)[:: max(1, len(prompts) // (2 * chunk))]
    began, made = time.perf_counter(), 0
    for start in range(0, len(chosen), chunk):
        rows = chosen[start : start + chunk]
        width = max(map(len, rows))
        ids_BT = torch.tensor([[pad] * (width - len(ids)) + ids for ids in rows])
        real_BT = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in rows])
        with torch.no_grad():
            out_BT = model.generate(
                ids_BT, attention_mask=real_BT, do_sample=True, top_k=0, max_new_tokens=limit, use_cache=True
            )
        replies_BT = out_BT[:, width:]
        ended_BT = (replies_BT == eos).cumsum(-1)
        made += int(((ended_BT == 0) | ((ended_BT == 1) & (replies_BT == eos))).sum())
    return made / (time.perf_counter() - began)


def summary(series: Sequence[dict[str, float]], generic: float, threads: int) -> dict[str, Any]:
    """Medians over the steps, and the bars."""
    median = lambda values: statistics.median(list(values))  # noqa: E731
    seconds = {stage: median(row[stage] for row in series) for stage in STAGES}
    whole = [sum(row[stage] for stage in STAGES) for row in series]
    share = {stage: median(row[stage] / w for row, w in zip(series, whole, strict=True)) for stage in STAGES}
    rate = median(row["sampled"] / row["generate"] for row in series)
    bars = [
        ("sandbox, share of a step", share["sandbox"], 0.15),
        ("rest (orchestration), share of a step", share["rest"], 0.10),
        ("generation, x the bare sampling loop", median(row["generate"] / row["sampler"] for row in series), 1.3),
        ("update, x a hand-written loop", median(row["update"] / row["hand_update"] for row in series), 1.3),
    ]
    return {
        "what": NAME,
        "environment": describe_environment(),
        "threads": threads,
        "steps": len(series),
        "seconds_a_step": {"whole": median(whole), **seconds},
        "share": share,
        "tokens_a_second": {
            "generate": rate,
            "transformers generate": generic,
            "update": median(row["trained"] / row["update"] for row in series),
        },
        "bars": [{"name": name, "value": value, "bar": bar, "pass": value <= bar} for name, value, bar in bars],
    }


def step_table(result: dict[str, Any]) -> str:
    """The result for people, within 80 columns."""
    seconds, share, speed = result["seconds_a_step"], result["share"], result["tokens_a_second"]
    lines = [f"nano step, medians of {result['steps']}, {result['threads']} threads: {seconds['whole']:.2f} s"]
    lines += [f"  {stage:9} {seconds[stage]:6.2f} s  {100 * share[stage]:5.1f} %" for stage in STAGES]
    lines.append(f"tokens per second: generate {speed['generate']:.0f}, update {speed['update']:.0f}")
    lines.append(f"  (transformers' own generate: {speed['transformers generate']:.0f})")
    lines += [
        f"  {'pass' if bar['pass'] else 'FAIL'}  {bar['value']:6.3f} <= {bar['bar']:g}  {bar['name']}"
        for bar in result["bars"]
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12, help="steps to play; the first is a warm-up")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args()
    if given.steps < 2:
        parser.error(f"--steps is {given.steps}; the first step is a warm-up, so give 2 or more")
    result = bench_step(given.steps)
    print(json.dumps(result, indent=1) if given.json else step_table(result))


if __name__ == "__main__":
    main()
