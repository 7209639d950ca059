"""The `azr-lite` command: one thin function a verb; what a verb does stands beside its subject, in a file of commands.

Comes in: words.  Goes out: text, and an exit status: 0 done, 1 a clear error, 2 a wrong command line, 130 interrupted.
Not covered: any logic of its own. A verb's file is imported when it is called, so that --help answers at once.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Sequence

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
    except OSError as error:
        if error.filename is None:  # none of a file that was named on the command line
            raise
        print(
            f"azr-lite: {error.filename} cannot be used ({error.strerror}); give another path, or mend this one",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(f"azr-lite: stopped{KEPT.get(words[0], '')}", file=sys.stderr)
        return 130


def run_verb(words: list[str]) -> int:
    """Self-play from the start: --preset NAME, any setting, --dry-run; --go-on: resume it where it exists already."""
    from azr_lite.run_commands import run

    return run(words)


def resume_verb(words: list[str]) -> int:
    """Go on with a run: azr-lite resume PATH [--steps N] [--max-hours H] ..."""
    from azr_lite.run_commands import resume

    return resume(words)


def plan_verb(words: list[str]) -> int:
    """What fits and how long: azr-lite plan [PRESET] [any setting] [--gpu 16GB] [--why] [--json] [--markdown] [--probe]."""
    from azr_lite.machine_commands import plan

    return plan(words)


def eval_verb(words: list[str]) -> int:
    """Evaluate a model or a run: azr-lite eval MODEL_OR_RUN --suite games|code|math|all [--compare BASE] [--items N] [--json]."""
    from azr_lite.evaluation.commands import evaluate

    return evaluate(words)


def launch_file_verb(words: list[str]) -> int:
    """Where a launch file for accelerate lies: azr-lite launch-file ddp|fsdp2|zero3."""
    from azr_lite.train.distributed import launch_file

    print(launch_file(" ".join(words)))
    return 0


def doctor_verb(words: list[str]) -> int:
    """What this machine offers: azr-lite doctor [--sandbox] (attack the sandbox, count leaks); what a run suffers from: doctor RUN."""
    if any(not word.startswith("-") for word in words):
        from azr_lite.observe.commands import doctor
    else:
        from azr_lite.machine_commands import doctor

    return doctor(words)


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
    from azr_lite.observe.commands import analyse

    return analyse(words)


def export_verb(words: list[str]) -> int:
    """A folder that plain transformers or peft loads, with a model card: azr-lite export RUN [--merge] [--step N] [--output DIR]."""
    from azr_lite.publish_commands import export

    return export(words)


def push_verb(words: list[str]) -> int:
    """The same, to the Hugging Face hub: azr-lite push RUN USER/NAME [--merge] [--dry-run]."""
    from azr_lite.publish_commands import push

    return push(words)


def bench_verb(words: list[str]) -> int:
    """Does the nano model learn? azr-lite bench nano [--seeds N] [--arms all] [--json]; azr-lite bench nano --help."""
    from azr_lite.course.experiments import BenchNano, bench
    from azr_lite.flags import parse

    if words[:1] != ["nano"]:
        raise ConfigError(f"there is no benchmark {' '.join(words[:1])!r}; choose one of: nano")
    return bench(parse(BenchNano, words[1:], "bench nano"))


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
    "export": export_verb,
    "push": push_verb,
    "bench": bench_verb,
}


KEPT = {
    "run": "; what was saved can be resumed",
    "resume": "; what was saved can be resumed",
    "eval": "; what was answered is kept, and not asked again",
}
"""What a verb that is interrupted leaves behind; a viewer leaves nothing."""


def _overview() -> str:
    lines = ["azr-lite: Absolute Zero self-play", ""]
    for name, function in VERBS.items():
        lines += textwrap.wrap(function.__doc__.splitlines()[0], 80, initial_indent=f"  {name:12} ", subsequent_indent=15 * " ",
                               break_on_hyphens=False)  # fmt: skip
    return "\n".join([*lines, "", "azr-lite VERB --help explains each."])


if __name__ == "__main__":
    raise SystemExit(main())
