"""The paper's findings, looked for in any run: what it wrote, how complex, how varied, and whether something alarms.

Comes in: a run directory or a kept sample of one.  Goes out: an `Analysis`, its text in 80 columns, or JSON.
Not covered: whether the run is healthy (`observe/doctor.py`); the measures themselves (`measures.py`).

The rollouts are read a step at a time and summed up in as many periods as asked for, so a log of any size fits. Programs are
parsed, never run. Small numbers of replies make noisy means: every value stands beside how many it is the mean of.

cross-prompt distinguishability = share of proposals nearer, by AST, to the references in their own prompt than to those in another
prompt of the step and type, ties half: 0.5 when the prompt does not matter (RAGEN-2's template collapse), 1 when it always shows.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from azr_lite.environment import require_observing
from azr_lite.errors import ConfigError, RunDirectoryError
from azr_lite.flags import parse
from azr_lite.measures import (
    NEAR,
    Complexity,
    alarms,
    answer,
    complexity,
    distance,
    plans,
    programs,
    reflections,
    shape,
    thought,
)
from azr_lite.metrics import mean
from azr_lite.observe.reader import Line, StepLog, open_run
from azr_lite.observe.rollouts import printable
from azr_lite.rundir import RunDir

PERIODS = 4
ALARMS_KEPT = 20
"""Alarming replies kept with their excerpts; all are counted."""

MEASURES: dict[str, str] = {
    **{f"tokens/{role}/{kind}": f"tokens of a {role} reply, {kind}" for role in ("propose", "solve") for kind in ("deduction", "abduction", "induction")},
    "program/statements": "statements of a proposed program",
    "program/branches": "if, except, case",
    "program/loops": "for, while, comprehensions",
    "program/nesting": "deepest block",
    "program/cyclomatic": "cyclomatic number",
    "program/cognitive": "cognitive complexity",
    "program/volume": "Halstead volume, bits",
    "program/comments as plan": "share with a plan in comments",
    "gap/cyclomatic": "proposed less answered program",
    "gap/cognitive": "the same, cognitive complexity",
    "gap/volume": "the same, Halstead volume",
    "distance to references": "AST distance, 0 to 1",
    "distinguishability": "0.5: the prompt is ignored",
    "shapes/coverage": "different shapes / programs of a step",
    "shapes/near-duplicates": "share near an earlier one of the step",
    "answers/different": "different answers / answers to a task",
    "thought/characters": "length of a thought",
    "thought/reflection": "reflection words a thought",
}  # fmt: skip
"""Measure: what it is, in a few words. Other games' tokens are added as they appear."""


@dataclass
class Sum:
    """Count and total of values as they come; `mean` of those so far (at least one)."""

    n: int = 0
    total: float = 0.0

    def add(self, value: float) -> None:
        self.n, self.total = self.n + 1, self.total + value

    @property
    def mean(self) -> float:
        return self.total / self.n


@dataclass
class Alarm:
    """One reply with alarming words. `rollout`: its number within the step, from 1, as `azr-lite show` counts."""

    step: int
    rollout: int
    role: str
    name: str
    excerpt: str


@dataclass
class Analysis:
    """`periods`: first and last step of each. `measures`: name to one (mean, n) a period, None where nothing was seen."""

    run: str
    steps: int
    rollouts: int
    periods: list[tuple[int, int]]
    measures: dict[str, list[tuple[float, int] | None]]
    alarms: list[Alarm] = field(default_factory=list)
    alarming: int = 0

    def __str__(self) -> str:
        return text(self)

    def as_dict(self) -> dict[str, Any]:
        measures = {
            name: [None if cell is None else {"mean": cell[0], "n": cell[1]} for cell in cells]
            for name, cells in self.measures.items()
        }
        return {**dataclasses.asdict(self), "measures": measures}


def analyse(path: str | Path, periods: int = PERIODS) -> Analysis:
    """All measures of a run. RunDirectoryError, in one sentence, for a log that is missing, damaged or of another form.

    ConfigError where the extra [observe] is not installed.
    """
    require_observing("azr-lite analyse")
    run = open_run(path)
    log = StepLog(run, "rollouts.jsonl")
    first, last = log.first_step(), log.last_step()
    if first is None or last is None:
        raise RunDirectoryError(f"{log.path} holds no whole line yet; wait for the run's first step")
    count = max(1, min(periods, last - first + 1))
    bounds = [first + (last - first + 1) * place // count for place in range(count + 1)]
    sums: list[dict[str, Sum]] = [defaultdict(Sum) for _ in range(count)]
    found = Analysis(str(path), 0, 0, [(low, high - 1) for low, high in itertools.pairwise(bounds)], {})

    def place_of(step: int) -> dict[str, Sum]:
        return sums[next(n for n, (_, high) in enumerate(found.periods) if step <= high)]

    try:
        for step, lines in log.by_step():
            found.steps, found.rollouts = found.steps + 1, found.rollouts + len(lines)
            for name, value in _of_step(lines):
                place_of(step)[name].add(value)
            _alarm(found, lines)
        for step, value in _diversity(run):
            if first <= step <= last:
                place_of(step)["answers/different"].add(value)
    except (KeyError, TypeError, AttributeError) as error:
        raise RunDirectoryError(
            f"the logs of {run.path} are not in this azr_lite's form ({error!r}); use the version that wrote it"
        ) from error
    for name in dict.fromkeys([*MEASURES, *(name for period in sums for name in sorted(period))]):
        if any(name in period for period in sums):
            found.measures[name] = [(period[name].mean, period[name].n) if name in period else None for period in sums]
    return found


def _of_step(lines: Sequence[Line]) -> Iterator[tuple[str, float]]:
    """Name and value of everything measured in one step."""
    for line in lines:
        yield f"tokens/{line['role']}/{line['type']}", line["tokens"]
        said = thought(line["text"])
        yield "thought/characters", len(said)
        yield "thought/reflection", reflections(said)
    proposals = [line for line in lines if line["role"] == "propose"]
    written = [(line, own[0]) for line in proposals if (own := programs(answer(line["text"])))]
    for _, program in written:
        if (size := complexity(program)) is not None:
            yield from ((f"program/{name}", value) for name, value in size.as_dict().items())
            yield "program/comments as plan", plans(program)
    yield from _gap(lines)
    yield from _shapes(written)


def _gap(lines: Sequence[Line]) -> Iterator[tuple[str, float]]:
    """Complexity of the hidden program less that of each right answer to it (the paper: +0.27 on average)."""
    hidden: dict[str, Complexity] = {}
    for line in lines:
        if line["role"] == "propose" and line["task_id"]:
            shown = (
                programs(answer(line["text"])) or programs(line["prompt"])[-1:]
            )  # an induction proposal's program stands in its prompt
            if shown and (size := complexity(shown[0])) is not None:
                hidden[line["task_id"]] = size
    for line in lines:
        if line["role"] != "solve" or not line["verdict"]["ok"] or line["task_id"] not in hidden:
            continue
        own = programs(answer(line["text"]))
        if own and (size := complexity(own[0])) is not None:
            yield "gap/cyclomatic", hidden[line["task_id"]].cyclomatic - size.cyclomatic
            yield "gap/cognitive", hidden[line["task_id"]].cognitive - size.cognitive
            yield "gap/volume", hidden[line["task_id"]].volume - size.volume


def _shapes(written: Sequence[tuple[Line, str]]) -> Iterator[tuple[str, float]]:
    """Coverage and near-duplicates within the step; distance to the references of the own and of another prompt."""
    known = [(line, bag) for line, program in written if (bag := shape(program)) is not None]
    if len(known) >= 2:
        yield "shapes/coverage", len({frozenset(bag.items()) for _, bag in known}) / len(known)
        yield "shapes/near-duplicates", mean([
            float(any(distance(bag, other) <= NEAR for _, other in known[:place])) for place, (_, bag) in enumerate(known)
        ])  # fmt: skip
    by_type: dict[str, list[tuple[Counter[tuple[str, str]], float, list[Counter[tuple[str, str]]]]]] = defaultdict(list)
    for line, bag in known:
        references = [found for program in programs(line["prompt"]) if (found := shape(program)) is not None]
        if references:
            own = mean([distance(bag, reference) for reference in references])
            yield "distance to references", own
            by_type[line["type"]].append((bag, own, references))
    for rows in by_type.values():
        for place, (bag, own, references) in enumerate(rows):
            other = rows[(place + 1) % len(rows)][
                2
            ]  # the neighbour's prompt: one comparison a proposal, so linear in the step
            if other != references:
                away = mean([distance(bag, reference) for reference in other])
                yield "distinguishability", 0.5 if own == away else float(own < away)


def _diversity(run: RunDir) -> Iterator[tuple[int, float]]:
    """Step, and different answers / answers, of each task with two or more (tasks.jsonl; a kept sample has none)."""
    if not (run.path / "tasks.jsonl").exists():
        return
    for line in StepLog(run, "tasks.jsonl").since(0):
        if len(line["answers"]) >= 2:
            yield line["step"], len({answer(one["text"]) for one in line["answers"]}) / len(line["answers"])


def _alarm(found: Analysis, lines: Sequence[Line]) -> None:
    for number, line in enumerate(lines, start=1):
        rows = alarms(line["text"])
        found.alarming += bool(rows)
        for name, excerpt in rows:
            if len(found.alarms) < ALARMS_KEPT:
                found.alarms.append(Alarm(line["step"], number, line["role"], name, excerpt))


def text(found: Analysis) -> str:
    """At most 80 columns: one line a measure, one column a period."""
    lines = textwrap.wrap(f"{printable(found.run)}: {found.steps} steps, {found.rollouts} rollouts", 80)
    lines.append(f"{'steps':27}" + "".join(f"{f'{low}-{high}':>10}" for low, high in found.periods))
    for name, cells in found.measures.items():
        lines.append(f"{name[:26]:27}" + "".join(f"{'-' if cell is None else f'{cell[0]:.2f}':>10}" for cell in cells))
    few = min((cell[1] for cells in found.measures.values() for cell in cells if cell), default=0)
    lines += [
        "",
        *textwrap.wrap(
            f"The smallest number behind a mean is {few}; --json gives all, and --explain the meaning of each.", 80
        ),
    ]
    lines.append(f"\nmonitor: {found.alarming} of {found.rollouts} replies hold alarming words")
    for alarm in found.alarms:
        lines += textwrap.wrap(
            f"step {alarm.step}, rollout {alarm.rollout}, {alarm.role}, {alarm.name}: {printable(alarm.excerpt)}",
            80, initial_indent="  ", subsequent_indent="    ",
        )  # fmt: skip
    lines += textwrap.wrap("The monitor is crude: it looks for the words listed in azr_lite/measures.py. It misses what is said otherwise "
                           "and flags the harmless use of a word. Read the reply: azr-lite show RUN --step N.", 80)  # fmt: skip
    return "\n".join(lines)


def analyse_command(words: list[str]) -> int:
    """The verb: words in, text out, status 0."""

    @dataclasses.dataclass
    class Arguments:
        """Lengths, complexity, diversity, plans, reflection and alarming words of a run, over its steps."""

        run: tyro.conf.Positional[Path]
        """The run directory."""
        periods: int = PERIODS
        """Parts of the run, 1 to 5."""
        explain: bool = False
        """Also say what each measure is."""
        json: bool = False
        """Print JSON."""

    given = parse(Arguments, words, "analyse")
    if not 1 <= given.periods <= 5:
        raise ConfigError(f"periods is {given.periods}; 80 columns have room for 1 to 5")
    found = analyse(given.run, given.periods)
    print(json.dumps(found.as_dict(), indent=1, ensure_ascii=False) if given.json else text(found))
    if given.explain and not given.json:
        print("\n" + "\n".join(f"{name:27} {MEASURES.get(name, 'tokens of a reply')}" for name in found.measures))
    return 0
