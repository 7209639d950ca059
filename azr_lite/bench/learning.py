"""Does it learn? Self-play of the nano model beside its controls, over seeds, on the same held-out problems.

Comes in: seeds, arms, settings.  Goes out: before, after and gain of each arm by task type and difficulty, with intervals.
Not covered: speed (`sandbox/bench.py`, `azr-lite bench step`); other models.

Intervals are 95 % percentile bootstraps that draw seeds and, within task types, *skeletons* (the sequence of operation kinds)
with replacement: problems that share a skeleton are not independent, and seeds share the problems.

Letters in names of arrays here: S seeds, I held-out problems, C skeletons (clusters of problems), N rows of the table of scores.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from azr_lite.environment import describe_environment, require_training
from azr_lite.errors import ConfigError
from azr_lite.evaluation.kept import evaluated_step
from azr_lite.metrics import STAGES
from azr_lite.presets import preset
from azr_lite.rundir import RunDir, write_json

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
"""Ablations that teach. `budget`: share of the steps played, so that all arms generate about as many tokens: separate solver
data costs half as many replies again (6 to measure each task and 3 to train on, instead of 6 for both). Induction cannot be
played alone: its proposals start from programs of the other games."""
ALL_ARMS = {**ARMS, **ABLATIONS}
RESAMPLES = 2000
TARGET = 0.15
"""The gain in held-out accuracy whose time is measured."""


def play_arm(arm: str, seed: int, folder: str, threads: int, overrides: dict[str, Any]) -> str:
    """One run in a process of its own (spawned); returns its run directory. A finished one is not repeated.

    What the run prints goes into a file beside its directory, so that the parent's output stays one table or one JSON text.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    path = Path(folder) / run_name(arm, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".log").open("a") as log:
        os.dup2(log.fileno(), 1)
    import torch

    from azr_lite.controls import control
    from azr_lite.loop import resume, run

    torch.set_num_threads(threads)
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


def bench_nano(
    seeds: Sequence[int],
    folder: Path,
    *,
    arms: Sequence[str] = tuple(ARMS),
    jobs: int = 0,
    say: Callable[[str], None] = print,
    **overrides: Any,
) -> dict[str, Any]:
    """Train every arm with every seed, `jobs` processes at a time (0: one a core), and compare. `overrides`: settings of all arms."""
    require_training("azr-lite bench nano")
    unknown = [arm for arm in arms if arm not in ALL_ARMS]
    if unknown:
        raise ConfigError(f"there is no arm {unknown[0]!r}; known: {', '.join(ALL_ARMS)}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = jobs or cores
    work = [(arm, seed) for seed in seeds for arm in arms]
    started, paths = time.perf_counter(), {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
        threads = max(1, cores // jobs)
        futures = {pool.submit(play_arm, arm, seed, str(folder), threads, overrides): (arm, seed) for arm, seed in work}
        for done, future in enumerate(as_completed(futures), start=1):
            arm, seed = futures[future]
            if future.exception() is not None:
                pool.shutdown(cancel_futures=True)
            paths[arm, seed] = Path(future.result())
            spent = time.perf_counter() - started
            say(
                f"{done}/{len(work)} {arm}, seed {seed}: {_headline(paths[arm, seed])} ({spent * (len(work) / done - 1) / 60:.0f} min left)"
            )
    result = {
        "what": "azr-lite bench nano",
        "seeds": list(seeds),
        "overrides": overrides,
        "environment": describe_environment(),
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "jobs": jobs,
        "arms": {arm: compare([paths[arm, seed] for seed in seeds]) for arm in arms},
        "base_made_to_think": made_to_think(overrides.get("eval_problems", preset("nano").eval_problems)),
    }
    return result


def made_to_think(problems: int) -> dict[str, dict[str, Any]]:
    """The untrained model on the same problems when its reply may not start with the end of the thought.

    What self-play gains up to here is *elicitation* (a skill that was there is used); what it gains above is new skill.
    """
    from azr_lite.evaluation.generators import PolicyInTraining
    from azr_lite.evaluation.reasoning import HELD_OUT_SEED, held_out_suite
    from azr_lite.evaluation.runner import answer
    from azr_lite.evaluation.scores import summarize
    from azr_lite.nano.demonstrations import RULES
    from azr_lite.nano.model import load_nano
    from azr_lite.nano.sampler import NanoSampler
    from azr_lite.prompts.base import END_THINK
    from azr_lite.prompts.compact import COMPACT
    from azr_lite.sandbox import Executor
    from azr_lite.triplet import Completion
    from azr_lite.verifier import Verifier

    model, tokenizer = load_nano()
    sampler = NanoSampler(model, tokenizer.eos_token_id, tokenizer.pad_token_id, preset("nano").max_reply_tokens)
    sampler.not_first = tokenizer.convert_tokens_to_ids(END_THINK)

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


def compare(paths: Sequence[Path]) -> dict[str, Any]:
    """Before, after and gain of runs that differ in their seed only, by type, by type and stratum, and pooled over types.

    Pooled ("all") is the mean over task types, each weighing the same.
    """
    pairs = [_evaluations(path) for path in paths]
    keys = [(i["type"], i["stratum"], i["id"]) for i in pairs[0][0]]
    names = [
        name
        for type_ in dict.fromkeys(k[0] for k in keys)
        for name in (type_, *sorted({f"{t}/{s}" for t, s, _ in keys if t == type_}))
    ]
    before_SI, after_SI = (np.array([[float(i["right"]) for i in pair[side]] for pair in pairs]) for side in (0, 1))
    clusters = np.unique([f"{i['type']} {_skeleton(i['prompt'], i['id'])}" for i in pairs[0][0]], return_inverse=True)[
        1
    ]
    tokens = [[float(np.mean([i["tokens"] for i in pair[side]])) for pair in pairs] for side in (0, 1)]
    types = list(dict.fromkeys(k[0] for k in keys))
    weights_NI = np.array([[float(name in (k[0], f"{k[0]}/{k[1]}")) for k in keys] for name in names])
    draws = _draws(len(paths), clusters, np.array([types.index(k[0]) for k in keys]))
    table = {}
    for row, name in enumerate(names):
        table[name] = _numbers(before_SI, after_SI, weights_NI[row], draws)
    rows = [names.index(type_) for type_ in types]
    table = {
        "all": _numbers(before_SI, after_SI, sum(weights_NI[r] / weights_NI[r].sum() for r in rows), draws),
        **table,
    }
    steps = [json.loads((path / "summary.json").read_text()) for path in paths]
    return {
        "scores": table,
        "reply_tokens": {"before": float(np.mean(tokens[0])), "after": float(np.mean(tokens[1]))},
        "steps": steps[0]["steps"],
        "training_seconds": [training_seconds(path) for path in paths],
        "seconds_to_target": [seconds_to_target(path) for path in paths],
        "program_operations": [_operations(path) for path in paths],
    }


def _draws(seeds: int, clusters: Any, types: Any) -> list[tuple[Any, Any]]:
    """`RESAMPLES` bootstrap draws: the weight of each seed, shape (S,), and how often each problem was drawn, shape (I,)."""
    rng = np.random.default_rng(0)
    groups = [np.unique(clusters[types == t]) for t in np.unique(types)]
    found = []
    for _ in range(RESAMPLES):
        times_S = np.bincount(rng.integers(seeds, size=seeds), minlength=seeds)
        times_C = np.zeros(clusters.max() + 1)
        for group in groups:
            times_C += np.bincount(rng.choice(group, size=len(group)), minlength=len(times_C))
        found.append((times_S / seeds, times_C[clusters]))
    return found


def _numbers(before_SI: Any, after_SI: Any, weights_I: Any, draws: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
    """One row of the table: n, and before, after and gain with intervals, over the problems that have a weight."""

    def mean(values_SI: Any, times_S: Any, times_I: Any) -> float:
        w = weights_I * times_I
        return float(times_S @ (values_SI @ w) / w.sum()) if w.sum() else float("nan")

    ones_S, ones_I = np.full(len(before_SI), 1 / len(before_SI)), np.ones(before_SI.shape[1])
    result: dict[str, Any] = {"n": int((weights_I > 0).sum())}
    for name, values in (("before", before_SI), ("after", after_SI), ("gain", after_SI - before_SI)):
        spread = [mean(values, *draw) for draw in draws]
        low, high = np.nanpercentile(spread, [2.5, 97.5])
        result[name] = {"mean": mean(values, ones_S, ones_I), "low": float(low), "high": float(high)}
    result["gain"]["by_seed"] = [
        mean(after_SI[s : s + 1] - before_SI[s : s + 1], np.ones(1), ones_I) for s in range(len(before_SI))
    ]
    return result


def _evaluations(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    steps = json.loads((path / "summary.json").read_text())["steps"]
    sides = [
        [json.loads(line) for line in (path / "eval" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("before", f"step-{steps}")
    ]
    return sides[0], sides[1]


def _skeleton(prompt: str, fallback: str) -> str:
    """The kinds of operations of the program in a prompt; induction hides its program, so its message stands for it."""
    from azr_lite.nano.language import skeleton

    if "```python\n" in prompt:
        return str(skeleton(prompt.split("```python\n")[1].split("\n```")[0]))
    if "```message\n" in prompt:
        return " ".join(word.split()[0] for word in prompt.split("```message\n")[1].split("\n```")[0].split(", "))
    return fallback


def accuracies(path: Path) -> dict[int, float]:
    """Held-out accuracy by step: the mean over task types of every evaluation the run kept."""
    found = {}
    for file in (path / "eval").glob("*.json"):
        step = evaluated_step(file)
        scores = json.loads(file.read_text())["scores"]
        found[step] = float(
            np.mean([score["accuracy"] for name, score in scores.items() if "/" not in name and name != "all"])
        )
    return dict(sorted(found.items()))


def seconds_to_target(path: Path, points: float = TARGET) -> float | None:
    """Seconds of training until an evaluation on the way was `points` above the first; None where none was."""
    scores = accuracies(path)
    reached = next((step for step, accuracy in scores.items() if accuracy >= scores[0] + points), None)
    return None if reached is None else training_seconds(path, reached)


def training_seconds(path: Path, steps: int | None = None) -> float:
    """Seconds of generation, sandbox, update and the rest, of the first `steps` steps or of all."""
    lines = [json.loads(line) for line in (path / "timing.jsonl").read_text().splitlines()]
    return round(sum(line[name] for line in lines[:steps] for name in STAGES), 1)


def operations_by_step(path: Path) -> dict[int, list[int]]:
    """Operations of each valid proposal, by step in order; seeding and programs outside the mini-language are left out."""
    from azr_lite.nano.language import skeleton

    found: dict[int, list[int]] = {}
    with (path / "tasks.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            names = skeleton(entry["task"]["program"]) if entry["ok"] and entry["step"] >= 0 else None
            if names is not None:
                found.setdefault(entry["step"], []).append(len(names))
    return dict(sorted(found.items()))


def _operations(path: Path) -> dict[str, float]:
    """Mean operations of valid proposals in the first and the last tenth of the run: where the proposer went."""
    depths = operations_by_step(path)
    steps = list(depths)
    tenth = max(1, len(steps) // 10)
    mean = lambda chosen: float(np.mean([d for step in chosen for d in depths[step]])) if chosen else float("nan")  # noqa: E731
    return {"first": mean(steps[:tenth]), "last": mean(steps[-tenth:])}


def _headline(path: Path) -> str:
    summary = json.loads((path / "summary.json").read_text())
    return f"{100 * summary['before']['all']['accuracy']:.1f} -> {100 * summary['after']['all']['accuracy']:.1f} %"


def nano_table(result: dict[str, Any]) -> str:
    """The result for people, within 80 columns."""
    lines = [f"{len(result['seeds'])} seeds, held-out accuracy in %, greedy; brackets: 95 % intervals"]
    for arm, found in result["arms"].items():
        seconds = found["training_seconds"]
        lines += ["", f"{arm}: {found['steps']} steps, {min(seconds):.0f}-{max(seconds):.0f} s of training a seed"]
        for name, numbers in found["scores"].items():
            before, after, gain = (numbers[key] for key in ("before", "after", "gain"))
            indent = "    " if "/" in name else "  "
            lines.append(
                f"{indent + name.split('/')[-1]:15} n {numbers['n']:4d}  {100 * before['mean']:5.1f} -> {100 * after['mean']:5.1f}"
                f"   {100 * gain['mean']:+5.1f} [{100 * gain['low']:+5.1f}, {100 * gain['high']:+5.1f}]"
            )
        first, last = (np.mean([o[key] for o in found["program_operations"]]) for key in ("first", "last"))
        reached = [seconds for seconds in found["seconds_to_target"] if seconds is not None]
        if reached:
            lines.append(
                f"  {100 * TARGET:.0f} points above the start after {min(reached):.0f}-{max(reached):.0f} s of training"
                f" ({len(reached)} of {len(seconds)} seeds)"
            )
        reply = found["reply_tokens"]
        lines.append(
            f"  operations a proposal {first:.2f} -> {last:.2f}; tokens a held-out reply {reply['before']:.0f} -> {reply['after']:.0f}"
        )
    if result.get("base_made_to_think"):
        forced = {
            name: 100 * found["accuracy"] for name, found in result["base_made_to_think"].items() if "/" not in name
        }
        mean = np.mean([value for name, value in forced.items() if name != "all"])
        each = ", ".join(f"{name} {value:.1f}" for name, value in forced.items() if name != "all")
        lines += ["", "the untrained model, made to think on every problem:", f"  {mean:.1f} ({each})"]
    return "\n".join(lines)


def keep_samples(result: dict[str, Any], runs: Path, folder: Path) -> None:
    """A small copy of every run (`RunDir.keep_sample`) into ``folder/ARM-seedN``, and the result into ``folder/comparison.json``."""
    for arm in result["arms"]:
        for seed in result["seeds"]:
            RunDir.open(runs / run_name(arm, seed)).keep_sample(folder / run_name(arm, seed))
    write_json(folder / "comparison.json", result)


def run_name(arm: str, seed: int) -> str:
    """Folder name of one run of an arm."""
    return f"{arm.replace(' ', '-').replace('.', '')}-seed{seed}"
