"""The verb `bench`: words in, measurements out.

Comes in: the words after the verb.  Goes out: an exit status: 0 done, 1 a bar was missed.
Not covered: any logic of its own.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from azr_lite.errors import ConfigError
from azr_lite.flags import parse, take_value


def bench(words: list[str]) -> int:
    """One of the benchmarks."""
    subjects = {"sandbox": _sandbox, "nano": _nano, "step": _step}
    if not words or words[0] not in subjects:
        raise ConfigError(f"there is no benchmark {' '.join(words[:1])!r}; choose one of: {', '.join(subjects)}")
    return subjects[words[0]](words[1:])


def _require(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name} is {value}; give {least} or more")


def _sandbox(words: list[str]) -> int:
    from datetime import UTC, datetime

    from azr_lite.environment import describe_environment
    from azr_lite.sandbox.bench import bench, soak, table

    def arguments(
        json: bool = False, repeats: int = 7, data: Path | None = None, soak: int = 0
    ) -> tuple[bool, int, Path | None, int]:
        """What isolation costs, paired with its alternatives, in one run. The exit status is 1 when a bar is missed.

        Args:
            json: print JSON instead of a table.
            repeats: repetitions of each measurement.
            data: folder with the recorded seed programs for the training step; without it, programs are made up.
            soak: instead, this many executions, one in twenty hostile: do memory, descriptors and speed stay? (20000: minutes)
        """
        return json, repeats, data, soak

    as_json, repeats, data, executions = parse(arguments, words, "bench sandbox")
    _require("repeats", repeats, 1)
    _require("soak", executions, 0)
    result = soak(executions) if executions else bench(repeats, data)
    if as_json:
        command = " ".join(["azr-lite bench sandbox", *words])
        facts = {
            "command": command,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "environment": describe_environment(),
        }
        print(json.dumps({**facts, **result}, indent=1))
    else:
        print(_facts_text(result) if executions else table(result))
    return 0 if result["ok"] else 1


def _step(words: list[str]) -> int:
    name, words = take_value(words, "--preset", "lora-1.5b-16gb")
    if name not in (None, "nano"):
        return _plain(name, words)
    from azr_lite.bench.step import bench_step, step_table

    def arguments(json: bool = False, steps: int = 12) -> tuple[bool, int]:
        """Where the time of a nano self-play step goes, beside loops written by hand. (--preset NAME: any other, beside plain TRL.)

        Args:
            json: print JSON instead of a table.
            steps: steps to play; the first is a warm-up.
        """
        return json, steps

    as_json, steps = parse(arguments, words, "bench step")
    if steps < 2:
        raise ConfigError(f"steps is {steps}; the first step is a warm-up, so 2 are the least; raise it")
    result = bench_step(steps)
    print(json.dumps(result, indent=1) if as_json else step_table(result))
    return 0


def _plain(name: str, words: list[str]) -> int:
    from azr_lite.bench.plain import bench_plain, plain_table
    from azr_lite.config import Config
    from azr_lite.presets import preset

    as_json = "--json" in words
    words = [word for word in words if word != "--json"]
    base = preset(name, steps=3)
    config = parse(Config, words, "bench step", default=base)
    if config.steps < 2:
        raise ConfigError(f"steps is {config.steps}; the first step is a warm-up, so 2 are the least; raise it")
    result = bench_plain(config, config.steps)
    print(json.dumps(result, indent=1) if as_json else plain_table(result))
    return 0


def _nano(words: list[str]) -> int:
    @dataclasses.dataclass
    class Arguments:
        """Does the nano model learn by self-play alone? Every arm with every seed, on the same held-out problems."""

        seeds: int = 5
        """How many seeds."""
        first_seed: int = 100
        """The first of them. Below 100 were used to choose the settings."""
        steps: int = 0
        """Self-play steps; 0: as the preset has it."""
        problems: int = 1500
        """Held-out problems of each task type, spread evenly over its strata."""
        arms: tuple[str, ...] = ()
        """Some arms only, in quotes; --arms all: with every ablation. Default: self-play and its three controls."""
        jobs: int = 0
        """Runs at a time; 0: one a core."""
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

    from azr_lite.bench.learning import ALL_ARMS, ARMS, bench_nano, keep_samples, nano_table, run_name

    given = parse(Arguments, words, "bench nano")
    _require("seeds", given.seeds, 1)
    _require("steps", given.steps, 0)
    overrides = {
        "eval_problems": given.problems,
        "eval_every": given.eval_every,
        **({"steps": given.steps} if given.steps else {}),
    }
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    arms = tuple(ALL_ARMS) if given.arms == ("all",) else given.arms or tuple(ARMS)
    say = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    result = bench_nano(list(seeds), given.folder, arms=arms, jobs=given.jobs, say=say, **overrides)
    if given.figure is not None:
        from azr_lite.bench.figure import draw

        machine = (
            f"{result['environment']['cores']} CPU cores, {given.jobs or result['environment']['cores']} runs at a time"
        )
        draw({arm: [given.folder / run_name(arm, seed) for seed in seeds] for arm in arms}, given.figure, machine)
    if given.keep is not None:
        keep_samples(result, given.folder, given.keep)
    print(json.dumps(result, indent=1) if given.json else nano_table(result))
    return 0


def _facts_text(facts: dict, indent: str = "") -> str:
    lines = []
    for key, value in facts.items():
        lines.append(
            f"{indent}{key}:\n{_facts_text(value, indent + '  ')}"
            if isinstance(value, dict)
            else f"{indent}{key}: {value}"
        )
    return "\n".join(lines)
