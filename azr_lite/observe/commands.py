"""The verbs `show`, `replay`, `watch`, `report` and `doctor` (with a path): words in, text out.

Comes in: the words after the verb.  Goes out: an exit status: 0 done, 1 the log differs from its replay, or the run is sick.
Not covered: any logic of its own.
"""

from __future__ import annotations

import dataclasses
import json
import textwrap
from pathlib import Path

import tyro

from azr_lite.errors import ConfigError
from azr_lite.flags import parse
from azr_lite.observe.catalogue import METRICS, Metric, explain, find
from azr_lite.observe.run import Run


def show(words: list[str]) -> int:
    """Rollouts of a run's step, or what a logged number means."""

    @dataclasses.dataclass
    class Arguments:
        """The rollouts of one step of a run; or the meaning of a number (azr-lite show solve/deduction/reward), or of all (metrics)."""

        what: tyro.conf.Positional[str]
        """A run directory, the name of a logged number, or metrics."""
        step: int | None = None
        """Self-play step, from 0; the newest when not given."""
        worst: int = 0
        """That many with the lowest reward."""
        best: int = 0
        """That many with the highest reward."""
        role: str = ""
        """propose or solve."""
        type: str = ""
        """deduction, abduction, induction."""
        count: int = 5
        """How many, without --worst and --best."""

    given = parse(Arguments, words, "show")
    if given.what == "metrics":
        print(all_metrics())
    elif Path(given.what).exists() or given.what.startswith((".", "/", "runs/")):
        fields = {name: value for name, value in dataclasses.asdict(given).items() if name != "what"}
        print(Run(given.what).show(**fields))
    else:
        print("\n\n".join(_metric_text(metric) for metric in find(given.what)))
    return 0


def replay(words: list[str]) -> int:
    """Rebuild a step from the log and hold it against the record, or re-score a run."""

    @dataclasses.dataclass
    class Arguments:
        """Make a step's verdicts, rewards and advantages again from the log. The exit status is 1 when something differs."""

        run: tyro.conf.Positional[Path]
        """The run directory."""
        step: int | None = None
        """Self-play step, from 0; the newest when not given."""
        rescore: tuple[str, ...] = ()
        """Instead: pay the whole run otherwise, such as estimator=global zero_learnability=upstream wrong=-1."""
        json: bool = False
        """Print JSON."""

    given = parse(Arguments, words, "replay")
    if given.rescore:
        return _rescore(given.run, given.rescore, given.json)
    found = Run(given.run).replay(given.step)
    print(found.as_json() if given.json else found)
    return 0 if found.exact else 1


def watch(words: list[str]) -> int:
    """Follow a run in the terminal."""

    @dataclasses.dataclass
    class Arguments:
        """Follow a run that is being written, until it ends or q is pressed; of a run that has ended, show the end."""

        run: tyro.conf.Positional[Path]
        """The run directory."""
        interval: float = 1.0
        """Seconds between two looks."""

    from azr_lite.observe.watch import watch as follow

    given = parse(Arguments, words, "watch")
    if not 0.1 <= given.interval <= 3600:
        raise ConfigError(f"interval is {given.interval} s; give between 0.1 and 3600")
    return follow(given.run, given.interval)


def report(words: list[str]) -> int:
    """Write the page of one run, or of several."""

    @dataclasses.dataclass
    class Arguments:
        """Write one self-contained HTML page about a run, or comparing several: no network, at most 2 MB."""

        runs: tyro.conf.Positional[tuple[Path, ...]]
        """Run directories."""
        output: str = ""
        """The file; when not given RUN/report.html, for several runs comparison.html here."""

    given = parse(Arguments, words, "report")
    if not given.runs:
        raise ConfigError("azr-lite report needs a run directory, such as: azr-lite report runs/nano-seed0")
    print(Run(given.runs[0]).report(given.output, against=given.runs[1:]))
    return 0


def doctor(words: list[str]) -> int:
    """Name what a run suffers from."""

    @dataclasses.dataclass
    class Arguments:
        """What a run suffers from, with evidence and a cure. The exit status is 1 when something is found."""

        run: tyro.conf.Positional[Path]
        """The run directory."""
        rerun: int = 0
        """Also run so many of its accepted programs again, in the sandbox: finds what leaves no trace in the numbers."""
        json: bool = False
        """Print JSON."""

    given = parse(Arguments, words, "doctor")
    if given.rerun < 0:
        raise ConfigError(f"rerun is {given.rerun}; give a number of programs, or leave it out")
    found = Run(given.run).diagnose(rerun=given.rerun)
    print(json.dumps(found.as_dict(), indent=1) if given.json else found)
    return 1 if found.findings else 0


def analyse(words: list[str]) -> int:
    """Measure what a run wrote."""

    @dataclasses.dataclass
    class Arguments:
        """Lengths, complexity, diversity, plans, reflection and alarming words of a run, over its steps."""

        run: tyro.conf.Positional[Path]
        """The run directory."""
        periods: int = 4
        """Parts of the run, 1 to 5."""
        explain: bool = False
        """Also say what each measure is."""
        json: bool = False
        """Print JSON."""

    given = parse(Arguments, words, "analyse")
    if not 1 <= given.periods <= 5:
        raise ConfigError(f"periods is {given.periods}; 80 columns have room for 1 to 5")
    found = Run(given.run).analyse(given.periods)
    print(json.dumps(found.as_dict(), indent=1, ensure_ascii=False) if given.json else found)
    if given.explain and not given.json:
        print(f"\n{found.explanation()}")
    return 0


def all_metrics() -> str:
    """Every number with its unit and healthy range, at most 80 columns."""
    lines = [f"{'number':34} {'name':26} healthy", ""]
    for metric in METRICS:
        lines.append(f"{metric.pattern:34} {metric.name:26} {metric.range}")
    return "\n".join([*lines, "", "azr-lite show NAME explains one: formula, unit, source."])


def _metric_text(metric: Metric) -> str:
    lines = [f"{metric.pattern}: {metric.name}"]
    for label, text in explain(metric):
        lines += textwrap.wrap(text, 80, initial_indent=f"  {label:8} ", subsequent_indent=" " * 11)
    return "\n".join(lines)


def _rescore(run: Path, pairs: tuple[str, ...], as_json: bool) -> int:
    from azr_lite.observe.rescoring import LADDER

    changes: dict[str, str | float] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        try:
            changes[name] = float(value) if name in LADDER else value
        except ValueError:
            equals = ""
        if not equals:
            raise ConfigError(f"--rescore takes NAME=VALUE, not {pair!r}; such as: --rescore estimator=global wrong=-1")
    found = Run(run).rescore(**changes)
    print(json.dumps([dataclasses.asdict(one) for one in found], indent=1) if as_json else found)
    return 0
