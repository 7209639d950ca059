"""The `azr-lite` command: one thin function a verb, over the same API.

Comes in: words.  Goes out: text, and an exit status: 0 done, 1 a clear error, 2 a wrong command line, 130 interrupted.
Not covered: any logic of its own.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import tyro

from azr_lite.errors import AzrError, ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if words else 2
    if words[0] == "--version":
        from azr_lite import __version__

        print(f"azr-lite {__version__}")
        return 0
    if words[0] not in VERBS:
        print(f"azr-lite: there is no verb {words[0]!r}; choose one of: {', '.join(VERBS)}", file=sys.stderr)
        return 2
    try:
        status = VERBS[words[0]](words[1:])
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # `azr-lite show RUN | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still held goes nowhere at the exit
        return 0
    except AzrError as error:
        print(f"azr-lite: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("azr-lite: stopped; what was saved can be resumed", file=sys.stderr)
        return 130


def run_verb(words: list[str]) -> int:
    """Self-play from the start: --preset NAME, any setting, --dry-run; --go-on: resume it where it exists already."""
    from azr_lite.config import Config, save_config
    from azr_lite.loop import resolve, run
    from azr_lite.presets import preset
    from azr_lite.trackers import check_installed

    dry, go_on = "--dry-run" in words, "--go-on" in words
    words = [word for word in words if word not in ("--dry-run", "--go-on")]
    if "-h" in words or "--help" in words:
        print("azr-lite run [--preset NAME] [--dry-run] [--go-on] [settings]; presets: " + ", ".join(_presets()) + "\n")
    base = preset(_value_of(words, "--preset") or "nano")
    config = tyro.cli(Config, args=words, default=base, prog="azr-lite run", config=(tyro.conf.AvoidSubcommands,))
    if dry:
        check_installed(config)
        print(save_config(resolve(config)), end="")
        print(f"nothing was run; the batch has {config.rows} sequences a step", file=sys.stderr)
        return 0
    run(config, go_on=go_on)
    return 0


def resume_verb(words: list[str]) -> int:
    """Go on with a run: azr-lite resume PATH [--steps N] [--max-hours H] ..."""
    from azr_lite.loop import resume

    @dataclasses.dataclass
    class Arguments:
        """Go on with a run from its last whole checkpoint. A setting that is not given stays as it was."""

        path: tyro.conf.Positional[Path]
        """The run directory."""
        steps: int | None = None
        """Total number of steps to reach."""
        max_hours: float | None = None
        """Stop, saved and resumable, before so many hours have passed; 0: no limit."""
        save_every: int | None = None
        """Steps between checkpoints; 0: only at the end."""
        save_minutes: float | None = None
        """Also save as soon as more than so many minutes of work could be lost; 0: never."""
        eval_every: int | None = None
        """Steps between held-out evaluations; 0: only before and after."""
        stop_patience: int | None = None
        """Stop after so many evaluations in a row that are significantly below the best one; 0: never."""
        keep_checkpoints: int | None = None
        """How many of the newest checkpoints stay."""
        sync_to: str | None = None
        """Copy each whole checkpoint and the logs there: a folder, or hub:USER/REPO."""
        workers: int | None = None
        """Fork servers of the sandbox."""
        micro_batch_size: int | None = None
        """Sequences in one forward and backward pass on one device."""
        generation_chunk: int | None = None
        """Replies sampled at once."""
        gradient_checkpointing: bool | None = None
        """Trade time for activation memory."""
        processes: int | None = None
        """Processes the run is started with."""
        gradient_share_every: int | None = None
        """Steps between measurements of each (role, type)'s share of the gradient; 0: never."""
        report_to: tuple[str, ...] | None = None
        """Trackers: tensorboard, wandb, trackio; they are told the whole run anew."""

    given = dataclasses.asdict(tyro.cli(Arguments, args=words, prog="azr-lite resume"))
    path = given.pop("path")
    resume(path, **{name: value for name, value in given.items() if value is not None})
    return 0


def plan_verb(words: list[str]) -> int:
    """What fits and how long: azr-lite plan [PRESET] [any setting] [--gpu 16GB] [--why] [--json] [--markdown] [--probe]."""
    from azr_lite.config import Config
    from azr_lite.hardware import plan, plan_all
    from azr_lite.plan_text import plan_markdown, plan_table, plan_text, why_text
    from azr_lite.presets import preset

    gpu, words = _take_value(words, "--gpu")
    asked = {flag for flag in ("--json", "--why", "--markdown", "--probe") if flag in words}
    words = [word for word in words if word not in asked]
    name = _value_of(words, "--preset")
    if words and not words[0].startswith("-"):
        name, words = words[0], words[1:]
    if "-h" in words or "--help" in words:
        print(f"{plan_verb.__doc__}\npresets: {', '.join(_presets())}\nsettings as in: azr-lite run --help")
        return 0
    if name is None:
        if words or gpu or asked & {"--why", "--probe"}:
            raise ConfigError("which preset is meant? give its name first, such as: azr-lite plan lora-1.5b-16gb --gpu 12GB")
        plans = plan_all()
        as_json = json.dumps([found.as_dict() for found in plans], indent=1)
        print(as_json if "--json" in asked else plan_markdown(plans) if "--markdown" in asked else plan_table(plans))
        return 0
    if "--why" in asked:
        preset(name)  # an unknown name is answered with the nearest one
        print(why_text(name))
        return 0
    config = tyro.cli(Config, args=words, default=preset(name), prog="azr-lite plan", config=(tyro.conf.AvoidSubcommands,))
    found, comparison = plan(config, gpu), ""
    if "--probe" in asked:
        from azr_lite.gpu_probe import probe

        found, comparison = probe(found)
    text = plan_markdown([found]) if "--markdown" in asked else comparison or plan_text(found)
    print(json.dumps(found.as_dict(), indent=1) if "--json" in asked else text)
    return 0


def eval_verb(words: list[str]) -> int:
    """Evaluate a model or a run: azr-lite eval MODEL_OR_RUN --suite games|code|math|all [--compare BASE] [--items N] [--json]."""
    from rich.console import Console

    from azr_lite.evaluation import paper
    from azr_lite.evaluation.api import KNOWN, evaluate
    from azr_lite.evaluation.tables import gain_table, notes, paper_lines, score_table

    @dataclasses.dataclass
    class Arguments:
        """Ask a model the questions of public benchmarks and of self-play; what was answered is kept, and not asked again."""

        model: tyro.conf.Positional[str]
        """Hub id, folder, .gguf file, nano, or a run's folder (RUN@12: its step 12, RUN@0: where it started)."""
        suite: str = "games"
        """games, code, math, all, or names separated by commas."""
        compare: str = ""
        """A second model or run, asked the same: the base to compare with."""
        items: int = 0
        """Questions a suite, chosen by digest; 0: all."""
        samples: int = 0
        """Replies to each question, for pass@k; 0: as the suite says (mostly one, greedy)."""
        temperature: float | None = None
        """Of sampling; 0: greedy."""
        max_tokens: int = 0
        """Tokens a reply; 0: as the suite says."""
        game_protocol: str = "azr"
        """How the games are asked: azr (self-play's own prompts); assert or assert-direct (CRUXEval as published scores ask it)."""
        code_protocol: str = "evalplus"
        """How code is asked: evalplus (as the paper) or azr (think, then answer)."""
        data: tuple[str, ...] = ()
        """SUITE=FILE or SUITE=OWNER/NAME on the hub, for suites that are not shipped."""
        output_dir: str = ""
        """Where results go; empty: the run's folder, or evals/MODEL."""
        prompts: str = "auto"
        """auto, r1, chat or compact."""
        device: str = "auto"
        """auto, cpu or cuda."""
        chunk: int = 16
        """Questions asked at once."""
        server: str = ""
        """URL of an OpenAI-compatible server that serves the model."""
        vllm: bool = False
        """Generate with vLLM in this process."""
        seed: int = 0
        """Of sampling."""
        allow_weak: bool = False
        """Go on where the kernel offers no isolation."""
        json: bool = False
        """Print scores and gains as JSON."""

    if "-h" in words or "--help" in words:
        print(f"suites: {', '.join(KNOWN)}\n")
    given = dataclasses.asdict(tyro.cli(Arguments, args=words, prog="azr-lite eval"))
    as_json = given.pop("json")
    if wrong := [pair for pair in given["data"] if "=" not in pair]:
        raise ConfigError(f"--data takes SUITE=FILE, not {wrong[0]!r}; such as: --data aime24=aime24.jsonl")
    given["data"] = dict(pair.split("=", 1) for pair in given["data"])
    console = Console(highlight=False, stderr=as_json)
    found = evaluate(**given, tell=lambda line: console.print(f"· {line}", markup=False, soft_wrap=True))
    if as_json:
        scores = {name: result.record for name, result in found.results.items()}
        averages = dataclasses.asdict(paper.averages(found.as_in_paper))
        rest = {"gain": found.comparison, "pass_at_k": found.pass_at_k, "left_out": found.left_out, "averages": averages}
        print(json.dumps({"model": found.model, "suites": scores, **rest}, indent=1))
        return 0
    console.print(score_table(found))
    if found.base is not None:
        console.print(gain_table(found))
    if lines := paper_lines(found):
        console.print(lines, markup=False, soft_wrap=True)
    for line in notes(found):
        console.print(f"· {line}", markup=False, soft_wrap=True)
    return 0


def launch_file_verb(words: list[str]) -> int:
    """Where a launch file for accelerate lies: azr-lite launch-file ddp|fsdp2|zero3."""
    from azr_lite.processes import launch_file

    print(launch_file(" ".join(words)))
    return 0


def doctor_verb(words: list[str]) -> int:
    """What this machine offers: azr-lite doctor [--sandbox] (attack the sandbox, count leaks); what a run suffers from: doctor RUN."""
    if any(not word.startswith("-") for word in words):
        from azr_lite.observe.commands import doctor

        return doctor(words)

    @dataclasses.dataclass
    class Arguments:
        sandbox: bool = False
        """Run the abuse suite against the sandbox on this machine; the exit status is 1 on any leak."""
        json: bool = False
        """Print JSON."""

    given = tyro.cli(Arguments, args=words, prog="azr-lite doctor")
    if given.sandbox:
        from azr_lite.sandbox.abuse import abuse_suite

        report = abuse_suite()
        print(json.dumps(report.as_dict(), indent=2) if given.json else report.text())
        return 1 if report.leaks else 0
    from azr_lite.machine import examine, text

    facts = examine()
    print(json.dumps(facts, indent=2) if given.json else text(facts))
    return 0


def show_verb(words: list[str]) -> int:
    """What was written and why it was paid: azr-lite show RUN [--step N] [--worst K]; what a number means: show METRIC|metrics."""
    from azr_lite.observe.commands import show

    return show(words)


def replay_verb(words: list[str]) -> int:
    """Rebuild a step from the log and compare: azr-lite replay RUN --step N; pay it otherwise: --rescore estimator=global."""
    from azr_lite.observe.commands import replay

    return replay(words)


def watch_verb(words: list[str]) -> int:
    """Follow a run in the terminal: azr-lite watch RUN (q quits)."""
    from azr_lite.observe.commands import watch

    return watch(words)


def report_verb(words: list[str]) -> int:
    """One HTML page about a run, or comparing several: azr-lite report RUN [RUN2 ...] [--output FILE]."""
    from azr_lite.observe.commands import report

    return report(words)


def analyse_verb(words: list[str]) -> int:
    """What a run wrote: lengths, complexity, diversity, plans, reflection, alarming words: azr-lite analyse RUN [--json]."""
    from azr_lite.analysis import analyse_command

    return analyse_command(words)


def bench_verb(words: list[str]) -> int:
    """Measure on this machine: azr-lite bench sandbox|nano|step|log [--json]; azr-lite bench SUBJECT --help."""
    subjects = {"sandbox": _bench_sandbox, "nano": _bench_nano, "step": _bench_step, "log": _bench_log}
    if not words or words[0] not in subjects:
        raise ConfigError(f"there is no benchmark {' '.join(words[:1])!r}; choose one of: {', '.join(subjects)}")
    return subjects[words[0]](words[1:])


def _bench_sandbox(words: list[str]) -> int:
    from datetime import UTC, datetime

    from azr_lite.environment import describe_environment
    from azr_lite.sandbox.bench import bench, soak, table

    def arguments(json: bool = False, repeats: int = 7, data: Path | None = None, soak: int = 0) -> tuple[bool, int, Path | None, int]:
        """What isolation costs, paired with its alternatives, in one run. The exit status is 1 when a bar is missed.

        Args:
            json: print JSON instead of a table.
            repeats: repetitions of each measurement.
            data: folder with the recorded seed programs for the training step; without it, programs are made up.
            soak: instead, this many executions, one in twenty hostile: do memory, descriptors and speed stay? (20000: minutes)
        """
        return json, repeats, data, soak

    as_json, repeats, data, executions = tyro.cli(arguments, args=words, prog="azr-lite bench sandbox")
    result = soak(executions) if executions else bench(repeats, data)
    if as_json:
        command = " ".join(["azr-lite bench sandbox", *words])
        facts = {"command": command, "date": datetime.now(UTC).isoformat(timespec="seconds"), "environment": describe_environment()}
        print(json.dumps({**facts, **result}, indent=1))
    else:
        print(_facts_text(result) if executions else table(result))
    return 0 if result["ok"] else 1


def _bench_step(words: list[str]) -> int:
    if (name := _value_of(words, "--preset")) not in (None, "nano"):
        return _bench_plain(name, words)
    words = [word for word in words if word != "--preset=nano"]
    if "--preset" in words:
        del words[words.index("--preset") : words.index("--preset") + 2]
    from azr_lite.bench.step import bench_step, step_table

    def arguments(json: bool = False, steps: int = 12) -> tuple[bool, int]:
        """Where the time of a nano self-play step goes, beside loops written by hand. (--preset NAME: any other, beside plain TRL.)

        Args:
            json: print JSON instead of a table.
            steps: steps to play; the first is a warm-up.
        """
        return json, steps

    as_json, steps = tyro.cli(arguments, args=words, prog="azr-lite bench step")
    if steps < 2:
        raise ConfigError(f"steps is {steps}; the first step is a warm-up, so 2 are the least; raise it")
    result = bench_step(steps)
    print(json.dumps(result, indent=1) if as_json else step_table(result))
    return 0


def _bench_log(words: list[str]) -> int:
    from azr_lite.bench.log import bench_log, log_table

    def arguments(rollouts: int = 1_000_000, folder: Path | None = None, json: bool = False) -> tuple[int, Path | None, bool]:
        """What it costs to open a large log, to show a page of it, and to read it through. The exit status is 1 when a bar is missed.

        Args:
            rollouts: how many; a million take about 1.2 GB and some minutes.
            folder: where the log is written and removed again; default: the system's.
            json: print JSON.
        """
        return rollouts, folder, json

    rollouts, folder, as_json = tyro.cli(arguments, args=words, prog="azr-lite bench log")
    if rollouts < 1000:
        raise ConfigError(f"rollouts is {rollouts}; fewer than 1000 say nothing; raise it")
    result = bench_log(rollouts, folder)
    print(json.dumps(result, indent=1) if as_json else log_table(result))
    return 0 if result["ok"] else 1


def _bench_plain(name: str, words: list[str]) -> int:
    from azr_lite.bench.plain import bench_plain, plain_table
    from azr_lite.config import Config
    from azr_lite.presets import preset

    as_json = "--json" in words
    words = [word for word in words if word != "--json"]
    base = preset(name, steps=3)
    config = tyro.cli(Config, args=words, default=base, prog="azr-lite bench step", config=(tyro.conf.AvoidSubcommands,))
    if config.steps < 2:
        raise ConfigError(f"steps is {config.steps}; the first step is a warm-up, so 2 are the least; raise it")
    result = bench_plain(config, config.steps)
    print(json.dumps(result, indent=1) if as_json else plain_table(result))
    return 0


def _bench_nano(words: list[str]) -> int:
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

    given = tyro.cli(Arguments, args=words, prog="azr-lite bench nano")
    overrides = {"eval_problems": given.problems, "eval_every": given.eval_every, **({"steps": given.steps} if given.steps else {})}
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    arms = tuple(ALL_ARMS) if given.arms == ("all",) else given.arms or tuple(ARMS)
    say = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    result = bench_nano(list(seeds), given.folder, arms=arms, jobs=given.jobs, say=say, **overrides)
    if given.figure is not None:
        from azr_lite.bench.figure import draw

        machine = f"{result['environment']['cores']} CPU cores, {given.jobs or result['environment']['cores']} runs at a time"
        draw({arm: [given.folder / run_name(arm, seed) for seed in seeds] for arm in arms}, given.figure, machine)
    if given.keep is not None:
        keep_samples(result, given.folder, given.keep)
    print(json.dumps(result, indent=1) if given.json else nano_table(result))
    return 0


VERBS: dict[str, Callable[[list[str]], int]] = {
    "run": run_verb,
    "resume": resume_verb,
    "plan": plan_verb,
    "eval": eval_verb,
    "launch-file": launch_file_verb,
    "doctor": doctor_verb,
    "show": show_verb,
    "replay": replay_verb,
    "watch": watch_verb,
    "report": report_verb,
    "analyse": analyse_verb,
    "bench": bench_verb,
}


def _presets() -> tuple[str, ...]:
    from azr_lite.presets import presets

    return presets()


def _value_of(words: Sequence[str], flag: str) -> str | None:
    for index, word in enumerate(words):
        if word == flag and index + 1 < len(words):
            return words[index + 1]
        if word.startswith(flag + "="):
            return word.split("=", 1)[1]
    return None


def _take_value(words: list[str], flag: str) -> tuple[str | None, list[str]]:
    """The flag's value, and the words without both."""
    for index, word in enumerate(words):
        if word.startswith(flag + "="):
            return word.split("=", 1)[1], [*words[:index], *words[index + 1 :]]
        if word == flag:
            if index + 1 == len(words) or words[index + 1].startswith("-"):
                raise ConfigError(f"{flag} stands without a value; give one, such as {flag} 16GB")
            return words[index + 1], [*words[:index], *words[index + 2 :]]
    return None, words


def _overview() -> str:
    lines = ["azr-lite: Absolute Zero self-play", ""]
    lines += [f"  {name:12s} {function.__doc__.splitlines()[0]}" for name, function in VERBS.items()]
    return "\n".join([*lines, "", "azr-lite VERB --help explains each."])


def _facts_text(facts: dict, indent: str = "") -> str:
    lines = []
    for key, value in facts.items():
        lines.append(f"{indent}{key}:\n{_facts_text(value, indent + '  ')}" if isinstance(value, dict) else f"{indent}{key}: {value}")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
