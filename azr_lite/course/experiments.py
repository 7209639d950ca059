"""Does it learn? `azr-lite bench nano`: self-play of the nano model beside controls and ablations, over seeds.

A control replaces one stage of `SelfPlay` to tell learning from luck; sampling, sandbox, trainer and evaluation stay
what they are. No setting reaches a control: it is no way to run.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from azr_lite.course.comparison import accuracy_line, compare_runs, draw_curves, nano_table
from azr_lite.course.recorded_runs import keep_sample
from azr_lite.environment import describe_environment, require_training
from azr_lite.errors import ConfigError
from azr_lite.presets import preset
from azr_lite.rundir import RunDir, write_json
from azr_lite.sandbox.executor import cores_here
from azr_lite.selfplay import SelfPlay
from azr_lite.tasks.base import get_task_type
from azr_lite.triplet import ProposalAttempt, Rollout


def no_update(self: SelfPlay, rollouts: Sequence[Rollout]) -> list[Rollout]:
    """Advantages of zero: every gradient is zero, and no weight changes."""
    return [dataclasses.replace(rollout, advantage=0.0) for rollout in rollouts]


def shuffled_rewards(self: SelfPlay, rollouts: Sequence[Rollout]) -> list[Rollout]:
    """TRR++ of the same rewards dealt out at random within each (role, type): large updates with nothing to learn."""
    rng = random.Random(f"{self.config.seed}/{self.record.step}/shuffled rewards")
    dealt = list(rollouts)
    for group in dict.fromkeys(r.group for r in rollouts):
        rows = [row for row, r in enumerate(rollouts) if r.group == group]
        rewards = [rollouts[row].reward for row in rows]
        rng.shuffle(rewards)
        for row, reward in zip(rows, rewards, strict=True):
            dealt[row] = dataclasses.replace(rollouts[row], reward=reward)
    advantages = [r.advantage for r in _ADVANTAGES(self, dealt)]
    return [dataclasses.replace(r, advantage=a) for r, a in zip(rollouts, advantages, strict=True)]


def no_references(self: SelfPlay, step: int) -> list[ProposalAttempt]:
    """Task types that show K triplets of the buffer show the zero triplet, whatever the buffer holds.

    The others still get a program.
    """
    proposals = []
    for proposal in _REFERENCES(self, step):
        kind = get_task_type(proposal.type)
        if kind.propose_from == "own":
            references = [kind.zero_task()]
            prompt = kind.propose_prompt(self.style, references, self.rules)
            proposal = ProposalAttempt(proposal.type, references, prompt)
        proposals.append(proposal)
    return proposals


_ADVANTAGES, _REFERENCES = SelfPlay.advantages, SelfPlay.sample_references

CONTROLS: dict[str, tuple[str, Callable[..., Any]]] = {
    "no update": ("advantages", no_update),
    "shuffled rewards": ("advantages", shuffled_rewards),
    "no references": ("sample_references", no_references),
}
"""Name: the stage of `SelfPlay` that is replaced, and what takes its place."""


@contextmanager
def control(name: str) -> Iterator[None]:
    """Every run inside is that control. ConfigError for an unknown name."""
    if name not in CONTROLS:
        raise ConfigError(f"there is no control {name!r}; known: {', '.join(CONTROLS)}")
    with replaced(SelfPlay, *CONTROLS[name]):
        yield


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Put `value` in the place of an attribute, and the old one back afterwards."""
    old = owner.__dict__[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, old)


ARMS: dict[str, dict[str, Any]] = {
    "self-play": {},
    "solver only": {"train_proposer": False},
    "no update": {"control": "no update"},
    "shuffled rewards": {"control": "shuffled rewards"},
}
"""The proof: self-play and its controls. An arm is settings that differ from the preset, or the control put in."""
ABLATIONS: dict[str, dict[str, Any]] = {
    "one global baseline": {"estimator": "global"},
    "GRPO per prompt": {"estimator": "grpo"},
    "token whitening": {"whitening": "token"},
    "no references": {"control": "no references"},
    "separate solver data": {"solver_data": "separate", "budget": 2 / 3},
    "zero learnability -0.5": {"zero_learnability": "upstream"},
    "deduction only": {"task_types": ("deduction",), "batch_size": 96, "solver_batch_size": 288},
    "abduction only": {"task_types": ("abduction",), "batch_size": 96, "solver_batch_size": 288},
}
"""Ablations that teach. `budget`: share of the steps played, so that all arms generate about as many tokens: separate
solver data costs half as many replies again (6 to measure each task and 3 to train on, instead of 6 for both).
Induction cannot be played alone: its proposals start from programs of the other task types."""
ALL_ARMS = {**ARMS, **ABLATIONS}


def play_arm(arm: str, seed: int, folder: str, overrides: dict[str, Any]) -> str:
    """One run in a process of its own (spawned), with one thread; returns its run directory. A finished one is not
    repeated.

    What the run prints goes to a file beside its directory: the parent's output stays one table or one JSON text.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    path = Path(folder) / run_name(arm, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".log").open("a") as log:
        os.dup2(log.fileno(), 1)
    import torch

    from azr_lite.loop import resume, run

    torch.set_num_threads(1)
    settings = {**ALL_ARMS[arm], **overrides}
    name = settings.pop("control", None)
    settings["steps"] = round(settings.pop("budget", 1.0) * settings.get("steps", preset("nano").steps))
    with control(name) if name else nullcontext():
        if (path / "summary.json").exists() and RunDir.open(path).summary()["finished"]:
            return str(path)
        if (path / "config.json").exists():
            resume(path)
        else:
            run("nano", seed=seed, output_dir=str(path), **settings)
    return str(path)


def compare_arms(
    seeds: Sequence[int],
    folder: Path,
    *,
    arms: Sequence[str] = tuple(ARMS),
    jobs: int = 0,
    say: Callable[[str], None] = print,
    **overrides: Any,
) -> dict[str, Any]:
    """Train every arm with every seed, `jobs` processes at a time (0: one per core), and compare.

    `overrides`: settings of all arms. ConfigError for an arm that is not in `ALL_ARMS`.
    """
    require_training("azr-lite bench nano")
    unknown = [arm for arm in arms if arm not in ALL_ARMS]
    if unknown:
        raise ConfigError(f"there is no arm {unknown[0]!r}; known: {', '.join(ALL_ARMS)}")
    jobs = jobs or cores_here()
    work = [(arm, seed) for seed in seeds for arm in arms]
    started, paths = time.perf_counter(), {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
        futures = {pool.submit(play_arm, arm, seed, str(folder), overrides): (arm, seed) for arm, seed in work}
        for done, future in enumerate(as_completed(futures), start=1):
            arm, seed = futures[future]
            if future.exception() is not None:
                pool.shutdown(cancel_futures=True)
            paths[arm, seed] = Path(future.result())
            left = (time.perf_counter() - started) * (len(work) / done - 1) / 60
            say(f"{done}/{len(work)} {arm}, seed {seed}: {accuracy_line(paths[arm, seed])} ({left:.0f} min left)")
    return {
        "what": "azr-lite bench nano",
        "seeds": list(seeds),
        "overrides": overrides,
        "environment": describe_environment(),
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "jobs": jobs,
        "arms": {arm: compare_runs([paths[arm, seed] for seed in seeds]) for arm in arms},
        "base_made_to_think": made_to_think(overrides.get("eval_problems", preset("nano").eval_problems)),
    }


def made_to_think(problems: int) -> dict[str, dict[str, Any]]:
    """The untrained model on the same problems when its reply may not start with the end of the thought.

    What self-play gains up to here is *elicitation* (a skill that was there is used); what it gains above is new skill.
    """
    from azr_lite.course.demonstrations import RULES
    from azr_lite.evaluation.generators import PolicyInTraining
    from azr_lite.evaluation.reasoning import HELD_OUT_SEED, held_out_suite
    from azr_lite.evaluation.runner import answer
    from azr_lite.evaluation.scores import summarize
    from azr_lite.nano.model import NanoSampler, load_nano
    from azr_lite.prompts.base import END_THINK
    from azr_lite.prompts.words import COMPACT
    from azr_lite.sandbox import Executor
    from azr_lite.triplet import Completion
    from azr_lite.verifier import Verifier

    model, tokenizer = load_nano()
    closed = tokenizer.convert_tokens_to_ids(END_THINK)

    class Thinking(NanoSampler):
        def _decode(self, logits_BV: Any, *rest: Any) -> Any:
            logits_BV[:, closed] = -1e9
            return super()._decode(logits_BV, *rest)

    sampler = Thinking(model, tokenizer.eos_token_id, tokenizer.pad_token_id, preset("nano").max_reply_tokens)

    def generate(prompts: Sequence[str]) -> list[Completion]:
        samples = sampler(tokenizer(list(prompts))["input_ids"], greedy=True, seed=0)
        texts = [tokenizer.decode([i for i in ids if i != tokenizer.eos_token_id]) for ids, _, _ in samples]
        return [
            Completion(p, (), tuple(ids), t, cut) for p, (ids, _, cut), t in zip(prompts, samples, texts, strict=True)
        ]

    with Executor() as executor:
        c, verifier = preset("nano"), Verifier(executor, RULES)
        suite = held_out_suite("nano", c.task_types, problems, HELD_OUT_SEED, COMPACT, verifier, c.max_reply_tokens)
        return summarize(answer(PolicyInTraining(generate, "nano made to think"), suite, suite.questions()))


def keep_samples(result: dict[str, Any], runs: Path, folder: Path) -> None:
    """A small copy of every run (`keep_sample`) in ``folder/ARM-seedN``, the result in ``comparison.json``."""
    for arm in result["arms"]:
        for seed in result["seeds"]:
            keep_sample(RunDir.open(runs / run_name(arm, seed)), folder / run_name(arm, seed))
    write_json(folder / "comparison.json", result)


def run_name(arm: str, seed: int) -> str:
    """Folder name of one run of an arm."""
    return f"{arm.replace(' ', '-').replace('.', '')}-seed{seed}"


@dataclasses.dataclass
class BenchNano:
    """Does the nano model learn by self-play alone? Every arm with every seed, on the same held-out problems."""

    seeds: int = 5
    """How many seeds."""
    first_seed: int = 100
    """The first of them. Below 100 were used to choose the settings."""
    steps: int = 0
    """Self-play steps; 0: as the preset has it."""
    problems: int = 1500
    """Held-out problems of each task type, spread evenly over its strata."""
    arms: tuple[str, ...] = tuple(ARMS)
    """Which arms, in quotes where a name has a space; --arms all: with every ablation."""
    jobs: int = 0
    """Runs at a time; 0: one per core."""
    folder: Path = Path("runs/bench-nano")
    """Where the runs go. Finished ones found there are taken as they are."""
    eval_every: int = 0
    """Also evaluate every so many steps (for the figure)."""
    figure: Path | None = None
    """Draw the curves into this PNG; needs matplotlib and --eval-every."""
    keep: Path | None = None
    """Also keep each run's metrics and a sample of its rollouts in this folder (data_samples/runs has ours)."""
    json: bool = False
    """Print JSON instead of a table."""


def bench(arguments: BenchNano) -> int:
    """The command `azr-lite bench nano`; returns its exit status. ConfigError for arguments out of range."""
    if arguments.seeds < 1:
        raise ConfigError(f"seeds is {arguments.seeds}; give 1 or more")
    if arguments.steps < 0:
        raise ConfigError(f"steps is {arguments.steps}; give 0 or more")
    overrides = {"eval_problems": arguments.problems, "eval_every": arguments.eval_every}
    if arguments.steps:
        overrides["steps"] = arguments.steps
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    arms = tuple(ALL_ARMS) if arguments.arms == ("all",) else arguments.arms or tuple(ARMS)
    say = partial(print, file=sys.stderr, flush=True)
    result = compare_arms(list(seeds), arguments.folder, arms=arms, jobs=arguments.jobs, say=say, **overrides)
    if arguments.figure is not None:
        cores = result["environment"]["cores"]
        runs = {arm: [arguments.folder / run_name(arm, seed) for seed in seeds] for arm in arms}
        draw_curves(runs, arguments.figure, f"{cores} CPU cores, {result['jobs']} runs at a time")
    if arguments.keep is not None:
        keep_samples(result, arguments.folder, arguments.keep)
    print(json.dumps(result, indent=1) if arguments.json else nano_table(result))
    return 0
