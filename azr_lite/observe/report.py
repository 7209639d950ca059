"""`azr-lite report`: one HTML file that says what a run did, or compares several; and its list of proposals in a
notebook.

What a model wrote may be hostile: the template escapes everything, characters that do not print are written as
escapes, and the page's own policy (CSP) allows no request and no script but the one in the template, by its digest.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from azr_lite.errors import AzrError, ConfigError, RunDirectoryError
from azr_lite.evaluation.scores import compare_paired
from azr_lite.observe.charts import Point, chart
from azr_lite.observe.doctor import TOO_SHORT, Finding, diagnose
from azr_lite.observe.proposals import ProposalRow, ProposalSample, add_relatives
from azr_lite.observe.reader import open_run
from azr_lite.observe.rollouts import printable
from azr_lite.observe.run_facts import Gain, RunFacts, gain_of, read_facts
from azr_lite.observe.run_summary import SHORT, summarise
from azr_lite.rundir import RunDir, write_text

MOST_BYTES = 2_000_000
BROWSED_BYTES = 700_000
"""The most of a notebook's list of proposals."""

JUDGED_BYTES = 100 << 20
"""A longer rollouts.jsonl is not read by the run doctor for a report: some four seconds of processor time."""

HIGHLIGHTED = 4000
"""Characters; a longer program stays plain: a lexer's patterns may be slow on hostile text."""

MOST_RUNS = 8
MOST_LISTED = 800
BROWSED = 200
TRIPLETS = 10
TEMPLATES = Path(__file__).parent / "templates"
FIRST_WORDS = "<!doctype html><!-- azr-lite report -->"
"""How a report begins: only such a file is overwritten."""


@dataclass
class ListedProposal:
    """A proposal on the page. `anchor`: where its row is."""

    proposal: ProposalRow
    run: int
    anchor: str


@dataclass(frozen=True)
class TaskList:
    """Proposals to look through in a notebook: shows itself, static, in a frame of its own, `height` pixels high."""

    page: str = field(repr=False)  # a notebook stores the repr beside the page
    height: int = 640

    def _repr_html_(self) -> str:
        # a frame without rights on the notebook's page; its styles stay inside
        style = f"width:100%;height:{self.height}px;box-sizing:border-box;border:1px solid #ccc"
        page = html.escape(self.page, quote=True)
        return f'<iframe sandbox="allow-scripts" style="{style}" title="proposals" srcdoc="{page}"></iframe>'


def write_report(paths: Sequence[str | Path], output: str | Path = "") -> Path:
    """Write the page; without `output` into the run's own directory, or for several runs to comparison.html."""
    file = Path(output) if output else Path(paths[0]) / "report.html" if len(paths) == 1 else Path("comparison.html")
    if file.is_dir():
        raise ConfigError(f"{file} is a directory; name a file, such as --output {file / 'report.html'}")
    if file.exists() and not file.read_bytes()[: len(FIRST_WORDS)] == FIRST_WORDS.encode():
        raise ConfigError(f"{file} exists and is no report; choose another --output")
    page = report(paths)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, page, "--output")
    except OSError as error:
        raise ConfigError(f"cannot make {file.parent}: {error.strerror}; choose another --output") from error
    except RunDirectoryError as error:
        raise ConfigError(str(error)) from error
    return file


def report(paths: Sequence[str | Path]) -> str:
    """The page of one run, or of several side by side. Errors of `azr_lite.errors` say what is missing or foreign."""
    if not 1 <= len(paths) <= MOST_RUNS:
        raise ConfigError(f"a report is of 1 to {MOST_RUNS} runs, not {len(paths)}; leave some out")
    runs = [read_facts(open_run(path)) for path in paths]
    for facts, name in zip(runs, _names(runs), strict=True):
        facts.name = name
    samples = [ProposalSample(facts, MOST_LISTED // len(runs)) for facts in runs]
    entries, triplets, programs = _proposals(runs, samples)
    shared = {
        "runs": runs,
        "one": runs[0] if len(runs) == 1 else None,
        "verdicts": [_verdict(facts) for facts in runs],
        "against": _against_first(runs),
        "charts": _charts(runs, samples),
        "triplets": triplets,
        "programs": programs,
        "total": sum(sample.count for sample in samples),
        "health": [_health(facts) for facts in runs],
    }
    without = _render("report.html", rows=[], **shared, **_filters(entries, runs))
    room = MOST_BYTES - len(without.encode("utf-8")) - 1000
    rows = _rows(entries, programs, runs, room)
    return _render("report.html", rows=rows, **shared, **_filters(entries, runs))


def task_list(run: RunDir) -> TaskList:
    """The proposals of a run, with filters, for a notebook; no widgets, no kernel needed."""
    facts = read_facts(run)
    sample = ProposalSample(facts, BROWSED)
    shown = sample.shown()
    programs, _ = add_relatives(facts, shown)
    entries = _entries(0, shown)
    rows = _rows(entries, programs, [facts], BROWSED_BYTES)
    return TaskList(_render("browse.html", rows=rows, total=sample.count, **_filters(entries, [facts])))


def _names(runs: Sequence[RunFacts]) -> list[str]:
    """Last parts of the paths, as many as make them differ."""
    parts = [facts.run.path.resolve().parts for facts in runs]
    for count in (1, 2, 3):
        names = ["/".join(own[-count:]) for own in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{number} {facts.run.path}" for number, facts in enumerate(runs, start=1)]


# -------------------------------------------------------------------- headline and curves


def _verdict(facts: RunFacts) -> str:
    """The first sentence: what held-out accuracy did."""
    gain = facts.all
    if gain is None:
        return f"{facts.steps} steps; there is no held-out gain to report."
    ends = f"from {100 * gain.before:.1f} % to {100 * gain.after:.1f} %"
    change = f"{ends}: {gain.points} points on {gain.n} held-out problems"
    if gain.low <= 0 <= gain.high:
        return f"Held-out accuracy moved {change}. The interval holds 0: no gain is shown."
    return f"Held-out accuracy {'rose' if gain.gain > 0 else 'fell'} {change}."


def _health(facts: RunFacts) -> tuple[list[Finding], str]:
    """What the run doctor names, and what is to be said of its judgement."""
    rollouts = facts.run.path / "rollouts.jsonl"
    if rollouts.exists() and rollouts.stat().st_size > JUDGED_BYTES:
        return [], "The log is long: azr-lite doctor RUN judges it."
    try:
        summary = summarise(facts.run)
    except AzrError as error:
        return [], f"The run doctor could not judge: {facts.without_place(error)}."
    found = diagnose(summary)
    said = f"names {len(found)} illness{'es' * (len(found) > 1)}." if found else "found nothing."
    return found, f"The run doctor {said}" + (f" {TOO_SHORT}" if len(summary.steps) < SHORT else "")


def _against_first(runs: Sequence[RunFacts]) -> list[Gain | None]:
    """Each run's last evaluation against the first run's, where both answered the same problems."""
    first, found = runs[0].last_items, []
    nothing = {"n": 0, "accuracy": 0.0}
    for facts in runs[1:]:
        try:
            row = compare_paired(first, facts.last_items)["all"] if first and facts.last_items else None
        except ValueError:  # not the same problems
            row = None
        found.append(row and gain_of("all", nothing, nothing, row))
    return [None, *found]


CHARTS = {
    "Learning": (
        ("Held-out accuracy", "right, %", "held out"),
        ("Solved in training", "right, %", "solve/*/ok"),
        ("Length of the solver's replies", "tokens", "solve/*/tokens"),
        ("Solve rate of valid proposals", "mean r̄, %", "propose/*/solve_rate"),
        ("Valid share of proposals", "valid, %", "propose/*/ok"),
    ),
    "Curriculum: what the proposer invents": (
        ("Depth of valid proposals", "operations", "depth"),
        ("Length of valid programs", "characters", "length"),
    ),
}
"""Headed groups of charts: title, unit and source of each."""


def _charts(runs: Sequence[RunFacts], samples: Sequence[ProposalSample]) -> list[tuple[str, list[Markup]]]:
    """The groups that have a chart: one line per task type for one run, one line per run for several."""

    def curves(number: int, source: str) -> dict[str, list[Point]]:
        if source == "held out":
            return runs[number].held_out
        if source in ("depth", "length"):
            return {name: curve.points for name, curve in getattr(samples[number], source).items()}
        return runs[number].followed.by_type(source)

    def drawn(title: str, unit: str, source: str) -> Markup:
        percent = unit.endswith("%")
        if source == "depth" and not all(sample.nano for sample in samples):
            unit = "calls, operators, branches"
        if len(runs) > 1:
            lines = {facts.name: curves(number, source).get("all", []) for number, facts in enumerate(runs)}
            return chart(title, unit, lines, percent)
        own = curves(0, source)
        overall = own.get("all", [])
        if len(overall) > 1:
            first, last = overall[0].y, overall[-1].y
            title += f": {100 * first:.0f} → {100 * last:.0f} %" if percent else f": {first:.1f} → {last:.1f}"
        return chart(title, unit, {name: own[name] for name in sorted(own) if name != "all"} or own, percent)

    groups = {heading: [drawn(*one) for one in group] for heading, group in CHARTS.items()}
    return [(heading, own) for heading, charts in groups.items() if (own := [one for one in charts if one])]


# -------------------------------------------------------------------- proposals


def _proposals(
    runs: Sequence[RunFacts], samples: Sequence[ProposalSample]
) -> tuple[list[ListedProposal], list[ListedProposal], dict[str, str]]:
    """Rows of the list, the triplets worth reading, and programs of parents by id."""
    entries, triplets, programs = [], [], {}
    each = max(2, TRIPLETS // len(runs))
    for number, (facts, sample) in enumerate(zip(runs, samples, strict=True)):
        shown, worth = sample.shown(), sample.worth_reading(each)
        rows = {id(row): row for row in [*shown, *worth]}.values()
        more, used = add_relatives(facts, rows, also=sample.most_used())
        programs.update(more)
        if used is not None and each >= TRIPLETS:
            used.why = "the one most often used as a reference"
            same = next((row for row in worth if row.id == used.id), None)
            if same is not None:
                same.why += f"; {used.why}"
            else:
                worth = sorted([*worth[: each - 1], used], key=lambda row: row.step)
        entries += _entries(number, shown)
        triplets += [ListedProposal(row, number, f"triplet-{number}-{place}") for place, row in enumerate(worth)]
    return entries, triplets, programs


def _entries(run: int, rows: Sequence[ProposalRow]) -> list[ListedProposal]:
    return [ListedProposal(row, run, f"p{run}-{place}") for place, row in enumerate(rows)]


def _rows(entries: list[ListedProposal], programs: dict[str, str], runs: Sequence[RunFacts], most: int) -> list[Markup]:
    """The rows as HTML; `entries` is thinned evenly until they fit."""
    template, names = _environment().get_template("row.html"), _names(runs)
    while True:
        shared = {"programs": programs, "anchors": _anchors(entries), "names": names}  # no link to a row that is gone
        rows = [printable(template.render(e=entry, p=entry.proposal, **shared)) for entry in entries]
        size = sum(len(row.encode("utf-8")) for row in rows)
        if size <= most or not entries:
            return [Markup(row) for row in rows]
        wanted = max(0, min(len(entries) - 1, int(0.95 * len(entries) * most / size)))
        entries[:] = [entries[int(i * len(entries) / wanted)] for i in range(wanted)]


def _anchors(entries: Sequence[ListedProposal]) -> dict[tuple[int, str], str]:
    return {(entry.run, entry.proposal.id): entry.anchor for entry in entries if entry.proposal.id}


def _filters(entries: Sequence[ListedProposal], runs: Sequence[RunFacts]) -> dict[str, Any]:
    own = [entry.proposal for entry in entries]
    steps = [row.step for row in own] or [0]
    return {
        "types": sorted({row.type for row in own}),
        "reasons": sorted({row.reason for row in own if row.reason}),
        "steps": (min(steps), max(steps)),
        "names": [facts.name for facts in runs],
        "anchors": _anchors(entries),
    }


# -------------------------------------------------------------------- the page


@functools.lru_cache(maxsize=1024)  # a page is rendered until it fits
def highlighted(program: str) -> Markup:
    """Python with coloured words as HTML (`<span class>` of six fixed names); every character is escaped."""
    from pygments.lexers.python import PythonLexer
    from pygments.token import Token

    program = printable(program)
    if len(program) > HIGHLIGHTED:
        return escape(program)
    classes = {
        Token.Keyword: "k",
        Token.Operator.Word: "k",
        Token.Name.Function: "f",
        Token.Name.Builtin: "b",
        Token.Literal.String: "s",
        Token.Literal.Number: "n",
        Token.Comment: "c",
    }
    parts = []
    for kind, text in PythonLexer(stripnl=False, ensurenl=False).get_tokens(program):
        name = next((name for token, name in classes.items() if kind in token), "")
        parts.append(f'<span class="{name}">{html.escape(text)}</span>' if name else html.escape(text))
    return Markup("".join(parts))  # every text in it was escaped just now


@functools.cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        program=highlighted,
        percent=lambda share: f"{100 * share:.1f} %",
        points=lambda gain: gain.points,
        number=lambda value: f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}",
        seconds=_seconds,
        json=lambda value: json.dumps(value, ensure_ascii=False),
    )
    return environment


def _seconds(seconds: float) -> str:
    unit, size = ("s", 1) if seconds < 120 else ("min", 60) if seconds < 7200 else ("h", 3600)
    return f"{seconds / size:.1f} {unit}"


def _render(template: str, **names: Any) -> str:
    script = (TEMPLATES / "filter.js").read_text(encoding="utf-8")
    styles = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shared = {"script": Markup(script), "style": Markup(styles), "digest": digest}
    body = _environment().get_template(template).render(**shared, **names)
    return FIRST_WORDS + printable(body)  # no filter of the template can let a control character through
