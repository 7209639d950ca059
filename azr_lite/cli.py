"""The `azr-lite` command line: reads it with tyro, calls the command, says what went wrong.

Exit statuses: 0 done, 1 a clear error (or what was looked for was found: a leak, a difference, an illness), 2 a wrong
command line, 130 interrupted.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated, Any

import tyro
from tyro.conf import arg
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo
from tyro.extras import SubcommandApp

from azr_lite import __version__, commands
from azr_lite.commands import declare_settings, split_names
from azr_lite.config import Config
from azr_lite.errors import AzrError, ConfigError
from azr_lite.presets import preset

bench = SubcommandApp()
bench.__doc__ = "Measure on this machine."
bench.command(commands.bench_nano, name="nano")

COMMANDS: dict[str, Callable[..., int | None] | SubcommandApp] = {
    "run": commands.run, "resume": commands.resume, "plan": commands.plan, "eval": commands.evaluate,
    "launch-file": commands.launch_file, "doctor": commands.doctor, "show": commands.show, "replay": commands.replay,
    "watch": commands.watch, "report": commands.report, "analyse": commands.analyse, "export": commands.export,
    "push": commands.push, "tasks": commands.tasks, "lm-eval-path": commands.lm_eval_path, "bench": bench,
}  # fmt: skip
ALIASES = {"analyze": "analyse"}

DIALS = (
    "preset", "output_dir", "seed", "steps",
    "model", "tuning", "task_types", "batch_size", "n_mc", "estimator", "learning_rate", "micro_batch_size",
    "max_reply_tokens", "allow_weak", "eval_every", "max_hours",
)  # fmt: skip
"""What `run --help` shows: where to start, and the twelve settings that people change. --help-all shows all."""

KEPT = {
    "run": "; what was saved can be resumed",
    "resume": "; what was saved can be resumed",
    "eval": "; what was answered is kept, and not asked again",
}
"""What a command that is interrupted leaves behind; a viewer leaves nothing."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script: a command's exit status. Without `argv` the process ends with the command."""
    commands.typed = sys.argv[1:] if argv is None else None
    status = _status(sys.argv[1:] if argv is None else argv)
    if argv is None and "WORLD_SIZE" in os.environ:
        from azr_lite.train.distributed import end  # loads much, which only one of several processes needs

        end(status)
    return status


def _status(words: Sequence[str]) -> int:
    """Call the command that the words name; say in one sentence what went wrong."""
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
    try:
        status = _call(command, arguments)
        sys.stdout.flush()
        return status or 0
    except SystemExit as ended:  # tyro's: 0 after help, 2 for a wrong command line
        return ended.code
    except BrokenPipeError:  # `azr-lite show RUN | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still held goes nowhere at the exit
        return 0
    except AzrError as error:
        print(f"azr-lite: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.filename is None:  # none of a file that was named on the command line
            raise
        problem = f"{error.filename} cannot be used ({error.strerror}); give another path, or repair this one"
        print(f"azr-lite: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"azr-lite: stopped{KEPT.get(command, '')}", file=sys.stderr)
        return 130


def _call(command: str, arguments: list[str]) -> int | None:
    """Read the arguments with tyro and call the command."""
    for flag, value in pairwise(arguments):
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
        lines += textwrap.wrap(summary, 80, initial_indent=f"  {name:12} ", subsequent_indent=" " * 15)
    return "\n".join([*lines, "", "azr-lite COMMAND --help explains each."])


def _settings_reader(command: str, arguments: list[str]) -> Callable[[StructTypeInfo], StructConstructorSpec | None]:
    """tyro's rule for a `Config`: a box per section; the defaults are those of the preset that the arguments name."""
    named = next((value for flag, value in pairwise([*arguments, ""]) if flag == "--preset"), None)
    named = next((one.partition("=")[2] for one in arguments if one.startswith("--preset=")), named)
    if named is not None and (not named or named.startswith("-")):
        raise ConfigError("--preset has no value; give one, such as --preset nano")
    if named is None and command == "run":
        named = "nano"
    base = Config() if named is None else preset(named)

    def build(**sections: Any) -> Config:
        read = {name: split_names(value) for section in sections.values() for name, value in vars(section).items()}
        changes = {name: value for name, value in read.items() if name != "preset" and value != getattr(base, name)}
        config = Config(**changes) if named is None else preset(named, **changes)
        most = changes.get("micro_batch_size", base.micro_batch_size)
        if config.micro_batch_size != most:
            reason = f"the largest up to {most} that divides a batch of {config.rows} sequences"
            print(f"micro_batch_size is {config.micro_batch_size}: {reason}", file=sys.stderr)
        return config

    def rule(info: StructTypeInfo) -> StructConstructorSpec | None:
        if info.type is not Config:
            return None
        names = DIALS if {"-h", "--help"} & {*arguments} else [field.name for field in dataclasses.fields(Config)]
        sections = {
            title: Annotated[dataclasses.make_dataclass(title, found), arg(prefix_name=False)]
            for title, found in declare_settings(names, base).items()
        }
        fields = [StructFieldSpec(title, kind, tyro.MISSING_NONPROP) for title, kind in sections.items()]
        return StructConstructorSpec(build, tuple(fields))

    return rule


if __name__ == "__main__":
    raise SystemExit(main())
