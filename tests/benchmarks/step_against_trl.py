"""Where the time of a self-play step goes for any preset, and how far it is from plain TRL on the same sequences.

    python -m tests.benchmarks.step_against_trl [--preset lora-1.5b-16gb] [--steps 3] [--json] [any setting]

After the last step, in the same run: its prompts are sampled again by us and by TRL's own generation, both made to
write equally long replies; and its rows are trained again by a stock `GRPOTrainer` with the same arguments.
"""

from __future__ import annotations

import argparse
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
from azr_lite.prompts import get_style
from azr_lite.selfplay import SelfPlay
from azr_lite.triplet import Rollout
from azr_lite.verifier import open_executor

NAME = "python -m tests.benchmarks.step_against_trl"
BARS = {"sandbox": 0.10, "rest": 0.05, "plain": 1.05}


def bench_plain(config: Config, steps: int = 3) -> dict[str, Any]:
    """Play `steps` steps (the first is a warm-up) and measure. ModelError, ConfigError as a run would raise them."""
    require_training(NAME)
    from azr_lite.train.distributed import ShardedExecutor
    from azr_lite.train.policy import load_policy
    from azr_lite.train.trainer import SelfPlayTrainer

    c = config.replace(
        steps=steps, eval_problems=0, eval_every=0, stop_patience=0, save_every=0, save_minutes=0.0, self_test=False
    )
    series: list[dict[str, float]] = []
    prompts: list[str] = []
    with tempfile.TemporaryDirectory() as folder, open_executor(c) as executor:
        policy = load_policy(c)
        style = get_style(policy.style)
        selfplay = SelfPlay(c, style, ShardedExecutor(executor))
        sampled = [0]

        def on_step(report: dict[str, Any]) -> None:
            trained = sum(len(r.prompt_ids) + len(r.completion_ids) for r in trainer.rollouts)
            series.append({**report["timing"], "sampled": sampled[0], "trained": trained})
            sampled[0] = 0
            trainer.schedule._began = time.perf_counter()

        trainer = SelfPlayTrainer(c, policy, style, selfplay, Path(folder), on_step=on_step)
        generate = trainer.generate

        def counted(wanted: Sequence[str], *role: Any) -> list[Any]:
            replies = generate(wanted, *role)
            sampled[0] += sum(len(r.ids) for r in replies)
            prompts[:] = wanted
            return replies

        trainer.generate = counted
        selfplay.count_tokens = trainer.count_tokens
        selfplay.seed(trainer.generate)
        sampled[0] = 0
        trainer.train()
        trainer.generate = generate
        rows = list(trainer.rollouts)
        length = max(2, round(statistics.mean(len(r.completion_ids) for r in rows)))
        seconds = {"generate": _sample_both(trainer, prompts, length)} if not trainer.use_vllm else {}
        seconds["update"] = (series[-1]["update"], _stock_update(c, rows, Path(folder) / "stock"))
    return summary(c, series[1:], seconds, length)


def _sample_both(trainer: Any, prompts: Sequence[str], length: int) -> tuple[float, float]:
    """Seconds for replies of exactly `length` tokens to these prompts: ours, and TRL's own in chunks as they come."""
    from trl import GRPOTrainer

    kept = trainer.generation_config.min_new_tokens, trainer.generation_config.max_new_tokens
    trainer.generation_config.min_new_tokens = trainer.generation_config.max_new_tokens = length
    ids = [trainer.codec.encode(prompt)[1] for prompt in prompts]
    size = trainer.config.generation_chunk
    found = []
    for _ in range(2):  # the first round warms both up
        began = time.perf_counter()
        trainer.generate(prompts)
        middle = time.perf_counter()
        for start in range(0, len(ids), size):
            with trainer.accelerator.autocast():
                GRPOTrainer._generate_single_turn(trainer, ids[start : start + size], None, {}, 1)
        found.append((middle - began, time.perf_counter() - middle))
    trainer.generation_config.min_new_tokens, trainer.generation_config.max_new_tokens = kept
    return found[-1]


def _stock_update(c: Config, rows: Sequence[Rollout], folder: Path) -> float:
    """Seconds of one update of these rows, from rollouts to changed weights, by a stock GRPOTrainer with our arguments."""
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import GRPOTrainer

    from azr_lite.train.arguments import training_arguments
    from azr_lite.train.policy import load_policy

    policy = load_policy(c)
    args = training_arguments(c, policy, folder)
    args.max_steps, args.save_strategy = 2 * c.updates_per_step, "no"
    clock: list[float] = []

    def rollouts(prompts: list[str], trainer: Any) -> dict[str, Any]:
        clock.append(time.perf_counter())
        return {
            "prompt_ids": [list(r.prompt_ids) for r in rows],
            "completion_ids": [list(r.completion_ids) for r in rows],
            "logprobs": [list(r.logps or ()) for r in rows] if trainer.use_vllm else None,
            "attached": [r.reward for r in rows],
        }

    class End(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step % c.updates_per_step == 0:
                clock.append(time.perf_counter())

    trainer = GRPOTrainer(
        model=policy.model,
        args=args,
        processing_class=policy.tokenizer,
        reward_funcs=[lambda completions, attached, **_: attached],
        rollout_func=rollouts,
        train_dataset=Dataset.from_dict({"prompt": [""] * (len(rows) // args.num_generations)}),
        peft_config=policy.peft_config,
        callbacks=[End()],
    )
    trainer.remove_callback(PrinterCallback)
    for parameter in trainer.model.parameters():  # as ours
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    trainer.train()
    return clock[-1] - clock[-2]


def summary(
    c: Config, series: Sequence[dict[str, float]], seconds: dict[str, tuple[float, float]], length: int
) -> dict[str, Any]:
    """Medians over the steps, and the bars. `seconds`: ours and plain TRL's for the same work."""
    median = lambda values: statistics.median(list(values))  # noqa: E731
    whole = [sum(row[stage] for stage in STAGES) for row in series]
    share = {stage: median(row[stage] / w for row, w in zip(series, whole, strict=True)) for stage in STAGES}
    ours, theirs = (sum(pair[i] for pair in seconds.values()) for i in (0, 1))
    names = [
        ("sandbox, share of a step", share["sandbox"], BARS["sandbox"]),
        ("rest (orchestration), share of a step", share["rest"], BARS["rest"]),
        (f"{' + '.join(seconds)}, x plain TRL on the same sequences", ours / theirs, BARS["plain"]),
    ]
    return {
        "what": f"{NAME} --preset {c.preset}",
        "model": c.model,
        "environment": describe_environment(),
        "sequences_trained_a_step": c.rows,
        "steps": len(series),
        "seconds_a_step": {"whole": median(whole), **{stage: median(row[stage] for row in series) for stage in STAGES}},
        "share": share,
        "tokens_a_second": {
            "generate": median(row["sampled"] / row["generate"] for row in series),
            "update": median(row["trained"] / row["update"] for row in series),
        },
        "plain_trl": {
            "reply_length": length,
            "seconds": {name: {"ours": ours, "plain": plain} for name, (ours, plain) in seconds.items()},
        },
        "bars": [{"name": name, "value": value, "bar": bar, "pass": value <= bar} for name, value, bar in names],
    }


def plain_table(result: dict[str, Any]) -> str:
    """The result for people, within 80 columns."""
    seconds, speed = result["seconds_a_step"], result["tokens_a_second"]
    lines = [
        f"{result['model'][-40:]}: {seconds['whole']:.1f} s per step"
        f" of {result['sequences_trained_a_step']} trained sequences"
    ]
    lines += [f"  {stage:9} {seconds[stage]:8.2f} s  {100 * result['share'][stage]:5.1f} %" for stage in STAGES]
    lines.append(f"tokens per second: generate {speed['generate']:.0f}, update {speed['update']:.0f}")
    for name, pair in result["plain_trl"]["seconds"].items():
        lines.append(f"  {name} of the last step again: {pair['ours']:.2f} s, plain TRL {pair['plain']:.2f} s")
    lines += [
        f"  {'pass' if bar['pass'] else 'FAIL'}  {bar['value']:6.3f} <= {bar['bar']:g}  {bar['name']}"
        for bar in result["bars"]
    ]
    return "\n".join(lines)


def main() -> None:
    import tyro

    from azr_lite.presets import preset

    parser = argparse.ArgumentParser(prog=NAME, description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="lora-1.5b-16gb")
    parser.add_argument("--steps", type=int, default=3, help="steps to play; the first is a warm-up")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given, settings = parser.parse_known_args()
    if given.steps < 2:
        parser.error(f"--steps is {given.steps}; the first step is a warm-up, so give 2 or more")
    config = tyro.cli(Config, args=settings, prog=NAME, default=preset(given.preset, steps=given.steps))
    result = bench_plain(config, config.steps)
    print(json.dumps(result, indent=1) if given.json else plain_table(result))


if __name__ == "__main__":
    main()
