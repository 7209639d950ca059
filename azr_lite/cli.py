"""The `azr-lite` command line: reads it with tyro, calls the command, says what went wrong.

Exit statuses: 0 done, 1 a clear error (or what was looked for was found: a leak, a difference, an illness), 2 a wrong
command line, 3 a run whose time was up (`max_hours`) before its last step, 130 after Ctrl-C, 143 after SIGTERM.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import arg
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo
from tyro.extras import SubcommandApp

from azr_lite import __version__, commands, integrations
from azr_lite.commands import declare_settings, split_names
from azr_lite.config import Config
from azr_lite.errors import AzrError, ConfigError
from azr_lite.presets import preset, read_settings

bench = SubcommandApp()
bench.__doc__ = "Measure self-play beside its controls on this machine."
bench.command(commands.bench_nano, name="nano")

COMMANDS: dict[str, Callable[..., int | None] | SubcommandApp] = {
    "run": commands.run, "resume": commands.resume, "plan": commands.plan, "eval": commands.evaluate,
    "play": commands.play, "list": commands.list_runs, "env": commands.env,
    "launch-file": commands.launch_file, "doctor": commands.doctor, "show": commands.show, "replay": commands.replay,
    "watch": commands.watch, "report": commands.report, "analyse": commands.analyse, "export": commands.export,
    "push": commands.push, "tasks": integrations.tasks, "lm-eval-path": integrations.lm_eval_path,
    "verifiers-path": integrations.verifiers_path, "bench": bench,
}  # fmt: skip
ALIASES = {"analyze": "analyse"}

DIALS = (
    "preset", "output_dir", "seed", "steps",
    "model", "tuning", "task_types", "batch_size", "n_mc", "estimator", "learning_rate", "micro_batch_size",
    "max_reply_tokens", "allow_weak", "eval_every", "max_hours",
)  # fmt: skip
"""What `run --help` shows: where to start, and the twelve settings that people change. --help-all shows all."""

OTHERS = [
    ("config", Annotated[str, arg(help="JSON or YAML file of settings, laid over the preset.")], ""),
    ("help_all", Annotated[commands.Flag, arg(help="Show every setting, not only those that people change.")], False),
]
"""What is read with the settings, and is none."""

KEPT = {
    **dict.fromkeys(("run", "resume"), "; what was saved can be resumed"),
    "eval": "; what was answered is kept, and not asked again",
}
"""What a command that is interrupted leaves behind; a viewer leaves nothing."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script: a command's exit status. Without `argv` the process ends with the command."""
    commands.typed = sys.argv[1:] if argv is None else None
    _ready_output()
    status = _status(sys.argv[1:] if argv is None else argv)
    if argv is None and "WORLD_SIZE" in os.environ:
        from azr_lite.train.distributed import end  # loads much, which only one of several processes needs

        end(status)
    return status


def _status(words: Sequence[str]) -> int:
    """Call the command that the words name; say in one sentence what went wrong."""
    command = words[0] if words else ""
    try:
        try:
            status = _call(words)
        except SystemExit as ended:  # tyro's: 0 after help, 2 for a wrong command line
            status = ended.code
        sys.stdout.flush()
        return status or 0
    except BrokenPipeError:  # `azr-lite show RUN | head`: the reader has seen enough
        _drop_output()
        return 0
    except AzrError as error:
        problem = str(error)
    except OSError as error:
        if error.filename is not None:  # of a file that was named on the command line
            problem = f"{error.filename} cannot be used ({error.strerror}); give another path, or repair this one"
        elif _drop_output():
            problem = f"standard output cannot be written ({error.strerror}); make room, or send it elsewhere"
        else:
            raise
    except KeyboardInterrupt:
        print(f"azr-lite: stopped{KEPT.get(command, '')}", file=sys.stderr)
        return 130
    print(f"azr-lite: {problem}", file=sys.stderr)
    return 1


def _ready_output() -> None:
    """Characters that standard output cannot write become question marks; where it is closed, nothing is printed."""
    if sys.stdout is None:
        print("azr-lite: standard output is closed, so nothing is printed", file=sys.stderr)
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if getattr(sys.stdout, "errors", "") in ("strict", "surrogateescape") and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")


def _drop_output() -> bool:
    """Whether standard output cannot be written. If so, what it still holds goes nowhere, also at Python's end."""
    try:
        print(flush=True)  # a trial: what failed may be gone already
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _call(words: Sequence[str]) -> int | None:
    """Call the command that the words name."""
    command, *arguments = words or [""]
    if command in ("", "-h", "--help", "help", "--version"):
        print(f"azr-lite {__version__}" if command == "--version" else _overview())
        return 0 if command else 2
    command = ALIASES.get(command, command)
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of: {', '.join(COMMANDS)}"
        print(f"azr-lite: unknown command {command!r}; {hint}", file=sys.stderr)
        return 2
    for flag, value in [*pairwise(arguments), *(one.split("=", 1) for one in arguments if "=" in one)]:
        is_switch = any(f.type == "bool" and f.name == flag[2:].replace("-", "_") for f in dataclasses.fields(Config))
        if is_switch and value in ("True", "False", "true", "false"):
            raise ConfigError(f"{flag} takes no value; give {flag} or --no-{flag.removeprefix('--')}")
    registry = ConstructorRegistry()
    if command in ("run", "plan"):
        if arguments and not arguments[0].startswith("-"):  # azr-lite run nano
            arguments = ["--preset", *arguments]
        registry.struct_rule(_settings_reader(command, arguments))
        arguments = ["--help" if one == "--help-all" else one for one in arguments]
    app = SubcommandApp()
    for name, function in COMMANDS.items():
        app.command(function, name=name)
    conf = tyro.conf
    markers = (conf.OmitArgPrefixes, conf.AvoidSubcommands, conf.DisallowNone, conf.PositionalMetavarFromFieldName)
    return app.cli(prog="azr-lite", args=[command, *arguments], config=markers, registry=registry)


def _overview() -> str:
    lines = ["azr-lite: Absolute Zero self-play", ""]
    for name, function in COMMANDS.items():
        summary = function.__doc__.splitlines()[0]
        lines += textwrap.wrap(summary, 80, initial_indent=f"  {name:14} ", subsequent_indent=" " * 17)
    return "\n".join([*lines, "", "azr-lite COMMAND --help explains each."])


def _value_of(option: str, example: str, arguments: list[str]) -> str | None:
    """What the command line gives for an option; None where it does not."""
    words = [part for one in arguments for part in (one.split("=", 1) if one.startswith(f"{option}=") else [one])]
    found = dict(pairwise([*words, ""])).get(option)  # the last, as tyro takes it
    if found is not None and (not found or found.startswith("-")):
        raise ConfigError(f"{option} has no value; give one, such as {option} {example}")
    return found


def _settings_reader(command: str, arguments: list[str]) -> Callable[[StructTypeInfo], StructConstructorSpec | None]:
    """tyro's rule for a `Config`: a box per section; the defaults are those of the preset that the arguments name."""
    named, file = _value_of("--preset", "nano", arguments), _value_of("--config", "mine.yaml", arguments)
    settings = read_settings(Path(file)) if file else {}
    inside = settings.pop("preset", "nano" if file or command == "run" else None)
    named = named or inside
    base = Config() if named is None else preset(named, **settings)
    names = DIALS if {"-h", "--help"} & {*arguments} else [field.name for field in dataclasses.fields(Config)]

    def build(**sections: Any) -> Config:
        read = {name: split_names(value) for section in sections.values() for name, value in vars(section).items()}
        changes = {name: read[name] for name in names if name != "preset" and read[name] != getattr(base, name)}
        config = Config(**changes) if named is None else preset(named, **{**settings, **changes})
        most = changes.get("micro_batch_size", base.micro_batch_size)
        if config.micro_batch_size != most:
            reason = f"the largest up to {most} that divides a batch of {config.rows} sequences"
            print(f"micro_batch_size is {config.micro_batch_size}: {reason}", file=sys.stderr)
        return config

    def rule(info: StructTypeInfo) -> StructConstructorSpec | None:
        if info.type is not Config:
            return None
        declared = declare_settings(names, base)
        declared["run"] += OTHERS
        sections = {
            title: Annotated[dataclasses.make_dataclass(title, found), arg(prefix_name=False)]
            for title, found in declared.items()
        }
        fields = [StructFieldSpec(title, kind, tyro.MISSING_NONPROP) for title, kind in sections.items()]
        return StructConstructorSpec(build, tuple(fields))

    return rule
