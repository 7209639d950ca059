"""The commands of `azr-lite`: one function each. Its signature and docstring are its options and their help.

What a command needs is imported when it is called, so that help answers at once. Where none is returned, the exit
status is 0.
"""

from __future__ import annotations

import dataclasses
import json as jsonlib
import sys
from collections.abc import Collection
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from tyro.conf import FlagCreatePairsOff, Positional, arg

import azr_lite as az
from azr_lite.config import CHANGEABLE_ON_RESUME, Config, config_text, list_settings
from azr_lite.environment import require_training
from azr_lite.errors import ConfigError
from azr_lite.presets import list_presets

Flag = FlagCreatePairsOff[bool]
Json = Annotated[Flag, arg(help="Print JSON.")]
RunPath = Annotated[Positional[Path], arg(help="The run directory.")]
typed: list[str] | None = None
"""The words after `azr-lite` on this process's command line; None where a Python program calls a command."""
Settings = Annotated[Config, arg(name="")]
"""A `Config` read from the command line; see `cli._settings_reader`."""


def declare_settings(names: Collection[str], base: Config | None) -> dict[str, list[tuple[str, Any, Any]]]:
    """These settings as options: the fields of a dataclass for each section of `Config`.

    The defaults are those of `base`; without one, None stands for a setting that is not given.
    """
    kinds, sections = get_type_hints(Config), {}
    for section, name, text in list_settings():
        if name in names:
            text += f" Presets: {', '.join(list_presets())}." * (name == "preset")
            hint = arg(help=text) if base else arg(help=text, help_behavior_hint="")
            kind = kinds[name] if base else kinds[name] | None
            default = dataclasses.field(default=getattr(base, name, None))
            sections.setdefault(section, []).append((name, Annotated[kind, hint], default))
    return sections


def _changes() -> type:
    """What a resumed run may change."""
    sections = declare_settings(CHANGEABLE_ON_RESUME, None).values()
    return dataclasses.make_dataclass("Changes", [option for section in sections for option in section])


def _options(module: str, name: str) -> Any:
    """The fields of another module's dataclass as options. The module is imported when they are asked for."""
    return Annotated[Any, arg(name="", constructor_factory=lambda: getattr(import_module(module), name))]


def run(config: Settings, *, dry_run: Flag = False, json: Flag = False, go_on: Flag = False) -> int:
    """Self-play from the start, with the settings of a preset or your own.

    Args:
        dry_run: Run nothing; say what would stop the run: directory, model, memory, disk, processes (exit status 1).
        json: With --dry-run, print every setting as JSON instead, as a file for --preset or --config.
        go_on: Resume the run where it exists already.
    """
    from azr_lite import loop
    from azr_lite.progress import Objects
    from azr_lite.train.companions import companions

    if json and not dry_run:
        raise ConfigError("--json prints the settings of a dry run; add --dry-run")
    if dry_run:
        from azr_lite.train.preflight import preflight

        loop.check(config, Objects())
        if json:
            print(config_text(loop.resolve(config)), end="")
            print(f"nothing was run; the batch has {config.rows} sequences per step", file=sys.stderr)
            return 0
        text, starts = preflight(loop.resolve(config), go_on)
        print(text)
        return 0 if starts else 1
    with companions(lambda: config, typed):
        return _status_of(loop.run(config, go_on=go_on).summary)


def resume(path: RunPath, changes: Annotated[Any, arg(name="", constructor_factory=_changes)]) -> int:
    """Go on with a run from its last whole checkpoint; settings not given stay."""
    from azr_lite import loop
    from azr_lite.train.companions import companions

    given = {name: split_names(value) for name, value in vars(changes).items() if value is not None}
    over = loop.summary_of_finished(path, **given)
    with nullcontext() if over else companions(lambda: loop.RunDir.open(path).config().replace(**given), typed):
        return _status_of(loop.resume(path, **given).summary)


def _status_of(summary: dict[str, Any]) -> int:
    """The exit status of a run: 0 only where it made all its steps, or its stop rule ended it."""
    rule = "" if summary["finished"] else summary.get("stopped", {}).get("rule", "")
    return {"max_hours": 3, "SIGINT": 130, "SIGTERM": 143}.get(rule, 0)


def plan(config: Settings, *, gpu: str = "", why: Flag = False, json: Json = False) -> None:
    """What fits and how long it takes: one preset (azr-lite plan PRESET), or all.

    Args:
        gpu: The card to plan for, such as 16GB, T4 or 3x24GB; not given: this machine's, else the preset's.
        why: Print the source and reason of each of the preset's numbers instead.
    """
    from azr_lite.planner import plan as planner
    from azr_lite.planner.text import plan_table, plan_text, why_text

    named = config.preset != Config.preset
    if not named and (gpu or why or config != Config()):
        raise ConfigError("which preset is meant? give its name first: azr-lite plan lora-1.5b-16gb --gpu 12GB")
    if why:
        print(why_text(config.preset))
        return
    plans = [planner.plan(config, gpu or None)] if named else planner.plan_all()
    if json:
        _print_json(plans[0].as_dict() if named else [one.as_dict() for one in plans])
    else:
        print(plan_text(plans[0]) if named else plan_table(plans))


def launch_file(name: Positional[str]) -> None:
    """Print the path of a launch file for accelerate.

    Args:
        name: ddp, fsdp2 or zero3.
    """
    from azr_lite.train.distributed import launch_file as find

    print(find(name))


def evaluate(
    model: Positional[str],
    options: FlagCreatePairsOff[_options("azr_lite.evaluation.suite", "Options")],
    *,
    suite: str = "reasoning",
    data: tuple[str, ...] = (),
    json: Json = False,
) -> None:
    """Put benchmark questions to a model or a run; answers are kept.

    Args:
        model: Hub id, a model's folder, .gguf file, nano, or a run's folder (RUN@12: its step 12, RUN@0: its start).
        suite: reasoning, code, math, all, or names of suites separated by commas. A wrong name lists all.
        data: SUITE=FILE or SUITE=OWNER/NAME on the hub, for suites that are not shipped.
    """
    from rich.console import Console

    from azr_lite.evaluation.runner import evaluate as ask
    from azr_lite.evaluation.runner import print_tables

    if wrong := [pair for pair in data if "=" not in pair]:
        raise ConfigError(f"--data takes SUITE=FILE, not {wrong[0]!r}; such as: --data aime24=aime24.jsonl")
    console = Console(highlight=False, stderr=json)
    found = ask(
        model=model,
        suite=suite,
        data=dict(pair.split("=", 1) for pair in data),
        tell=lambda line: console.print(f"· {line}", markup=False, soft_wrap=True),
        **vars(options),
    )
    if json:
        _print_json(found.as_dict())
    else:
        print_tables(found, console)


def play(model: Positional[str], options: FlagCreatePairsOff[_options("azr_lite.course.play", "Options")]) -> None:
    """Watch a model invent and solve one task of each type, with every check.

    Args:
        model: nano, a run's folder (RUN@12: its step 12), a model's folder, a .gguf file, a hub id.
    """
    from azr_lite.course.play import play as show_play

    show_play(model, options)


def bench_nano(arguments: _options("azr_lite.course.experiments", "BenchNano")) -> int:
    """Does the nano model learn by self-play alone? Every arm with every seed."""
    from azr_lite.course.experiments import bench

    return bench(arguments)


def doctor(run: Positional[Path | None] = None, *, sandbox: Flag = False, rerun: int = 0, json: Json = False) -> int:
    """What a run suffers from (doctor RUN), or what this machine offers (doctor).

    Args:
        run: A run directory: the exit status is 1 when something is found. Not given: this machine.
        sandbox: Attack the sandbox on this machine and count leaks; the exit status is 1 if there are any.
        rerun: Also run this many of the run's accepted programs again: finds what leaves no trace in the numbers.
    """
    if run is not None:
        if rerun < 0:
            raise ConfigError(f"rerun is {rerun}; give a number of programs, or drop --rerun")
        found = az.Run(run).diagnose(rerun=rerun)
        _print_json(found.as_dict()) if json else print(found)
        return 1 if found.findings else 0
    if sandbox:
        from azr_lite.sandbox.abuse import abuse_suite

        report = abuse_suite()
        _print_json(report.as_dict()) if json else print(report.text())
        return 1 if report.leaks else 0
    from azr_lite.planner.text import describe_machine, machine_text

    facts = describe_machine()
    _print_json(facts) if json else print(machine_text(facts))
    return 0


def show(
    what: Positional[str],
    *,
    step: int | None = None,
    worst: int = 0,
    best: int = 0,
    role: str = "",
    type: str = "",
    count: int = 5,
) -> None:
    """What a run wrote in a step and why it was rewarded, or what a number means.

    Args:
        what: A run directory; the name of a logged number, such as solve/deduction/reward; or metrics: all of them.
        step: Self-play step, from 0; not given: the newest.
        worst: Show this many replies, lowest reward first.
        best: Show this many replies, highest reward first.
        role: propose or solve.
        type: deduction, abduction, induction, or one of your own.
        count: How many replies, where neither --worst nor --best is given.
    """
    if Path(what).exists() or what.startswith((".", "/", "runs/")):
        print(az.Run(what).show(step, worst=worst, best=best, role=role, type=type, count=count))
    else:
        from azr_lite.metrics import describe_metrics

        print(describe_metrics(what))


def replay(run: RunPath, *, step: int | None = None, rescore: tuple[str, ...] = (), json: Json = False) -> int:
    """Compute a step's verdicts, rewards and advantages again from the log.

    The exit status is 1 when something differs.

    Args:
        step: Self-play step, from 0; not given: the newest.
        rescore: Reward the run by other rules instead: estimator=global zero_learnability=upstream.
    """
    if rescore:
        steps = az.Run(run).rescore(**dict(change.partition("=")[::2] for change in rescore))
        _print_json([dataclasses.asdict(one) for one in steps]) if json else print(steps)
        return 0
    found = az.Run(run).replay(step)
    _print_json(found.as_dict()) if json else print(found)
    return 0 if found.exact else 1


def list_runs(folder: Positional[Path] = Path("runs"), *, json: Json = False) -> None:
    """The runs here: state, steps, held-out gain.

    Args:
        folder: Where to look, and one level below.
    """
    from azr_lite.observe import run as runs

    rows = runs.list_runs(folder)
    _print_json(rows) if json else print(runs.table_of_runs(rows))


def env(*, json: Json = False) -> None:
    """What a bug report needs: versions, machine, GPU, sandbox level."""
    from azr_lite.planner.text import describe_setup, machine_text

    facts = describe_setup()
    _print_json(facts) if json else print(machine_text(facts))


def watch(run: RunPath, *, interval: float = 1.0) -> None:
    """Follow a run in the terminal until it ends or Ctrl-C is pressed.

    Args:
        interval: Seconds between two looks.
    """
    from azr_lite.observe.dashboard import watch as follow

    if not 0.1 <= interval <= 3600:
        raise ConfigError(f"interval is {interval} s; give between 0.1 and 3600")
    follow(run, interval)


def report(runs: Positional[tuple[Path, ...]], *, output: str = "") -> None:
    """Write one HTML page about a run, or comparing several; it needs no network.

    Args:
        runs: Run directories.
        output: The file; not given: RUN/report.html, for several runs comparison.html here.
    """
    from azr_lite.observe.report import write_report

    print(write_report(runs, output))


def analyse(run: RunPath, *, periods: int = 4, explain: Flag = False, json: Json = False) -> None:
    """What a run wrote: lengths, complexity, diversity, plans, alarming words.

    Args:
        periods: How many parts of the run to compare, 1 to 5.
        explain: Also say what each measure is.
    """
    if not 1 <= periods <= 5:
        raise ConfigError(f"periods is {periods}; 80 columns have room for 1 to 5")
    found = az.Run(run).analyse(periods)
    _print_json(found.as_dict()) if json else print(found)
    if explain and not json:
        print("\n" + found.explanation())


@dataclasses.dataclass
class Choice:
    """Which model of a run is exported, and in what form."""

    step: str = "last"
    """last, best (of a run with --stop-patience), or the number of a step that has a checkpoint."""
    merge: Flag = False
    """Add the adapter to its base: a model that plain transformers loads alone."""
    role: str = ""
    """solver (default) or proposer, of a run with --roles split."""
    dtype: str = "float32"
    """Type of merged and whole weights: float32 (exact), bfloat16 or float16 (half the size, rounded)."""


def export(run: RunPath, choice: Annotated[Choice, arg(name="")], *, output: str = "") -> None:
    """Write a run's model as a folder that plain transformers or peft loads.

    Args:
        output: The new folder, with a model card; empty: RUN/export-KIND-step-N.
    """
    require_training("an export")
    from azr_lite import export as exporter

    folder = exporter.export(run, output, **dataclasses.asdict(choice))
    print(exporter.listing(folder))
    print(f"{folder} is there; its README.md says what it is and how to load it")


def push(
    run: Positional[Path],
    repo: Positional[str],
    choice: Annotated[Choice, arg(name="")],
    *,
    public: Flag = False,
    dry_run: Flag = False,
) -> None:
    """Export a run's model and upload it to the Hugging Face hub.

    Args:
        run: The run directory, or an exported folder (then its step, role and type stay as they are).
        repo: USER/NAME; made where it does not exist.
        public: Make a new repository public; otherwise it is private. One that exists stays as it is.
        dry_run: List the files and print the card; send nothing.
    """
    require_training("a push")
    from azr_lite import export as exporter

    exporter.check_repository(repo)  # before the long part
    with exporter.to_upload(run, repo, **dataclasses.asdict(choice)) as folder:
        print(exporter.listing(folder))
        if dry_run:
            print("\n" + (folder / "README.md").read_text(encoding="utf-8"))
            print(f"nothing was sent; without --dry-run these files go to {repo}")
        else:
            print(f"{exporter.push(folder, repo, private=not public)} has it")


def split_names(value: Any) -> Any:
    """Lists may be written with commas; none is the empty list. Other values stay."""
    if not isinstance(value, tuple):
        return value
    names = tuple(name for one in value for name in one.split(",") if name)
    return () if names == ("none",) else names


def _print_json(value: Any) -> None:
    print(jsonlib.dumps(value, indent=1))
