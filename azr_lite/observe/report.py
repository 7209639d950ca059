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
from azr_lite.observe.charts import TEMPLATES, chart, templates
from azr_lite.observe.doctor import TOO_SHORT, Finding, diagnose
from azr_lite.observe.proposals import ProposalRow, ProposalSample, add_relatives
from azr_lite.observe.reader import open_run
from azr_lite.observe.run_facts import RunFacts, read_facts
from azr_lite.observe.run_summary import SHORT, summarise
from azr_lite.observe.style import printable
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
FIRST_WORDS = "<!doctype html><!-- azr-lite report -->"
"""How a report begins: only such a file is overwritten."""

CHARTS = {
    "Learning": (
        ("Held-out accuracy", "right, %", "held out"),
        ("Solved in training", "right, %", "solve/*/ok"),
        ("Length of the solver's replies", "tokens", "solve/*/tokens"),
        ("Solve rate of valid proposals", "mean r̄, %", "propose/*/solve_rate"),
        ("Valid share of proposals", "valid, %", "propose/*/ok"),
    ),
    "Curriculum: what the proposer invents": (
        ("Depth of valid proposals", "operations", "depth/*"),
        ("Length of valid programs", "characters", "length/*"),
    ),
}
"""Headed groups of charts: title, unit and source of each."""


@dataclass(frozen=True)
class TaskList:
    """Proposals to look through in a notebook: shows itself, static, in a frame of its own."""

    page: str = field(repr=False)  # a notebook stores the repr beside the page

    def _repr_html_(self) -> str:
        # a frame without rights on the notebook's page; its styles stay inside
        style = "width:100%;height:640px;box-sizing:border-box;border:1px solid #ccc"
        page = html.escape(self.page, quote=True)
        return f'<iframe sandbox="allow-scripts" style="{style}" title="proposals" srcdoc="{page}"></iframe>'


def write_report(paths: Sequence[str | Path], output: str | Path = "") -> Path:
    """Write the page; without `output` into the run's own directory, or for several runs to comparison.html."""
    file = Path(output) if output else Path(paths[0]) / "report.html" if len(paths) == 1 else Path("comparison.html")
    if file.is_dir():
        raise ConfigError(f"{file} is a directory; name a file, such as --output {file / 'report.html'}")
    if file.exists() and not file.read_bytes().startswith(FIRST_WORDS.encode()):
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
    for number, name in enumerate(_names(runs)):
        runs[number].number, runs[number].name = number, name
    samples = [ProposalSample(facts, MOST_LISTED // len(runs)) for facts in runs]
    listed, triplets, programs = _proposals(runs, samples)
    return _fitted(
        "report.html",
        listed,
        MOST_BYTES,
        runs=runs,
        against=_against_first(runs),
        charts=[(heading, [_chart(runs, *one) for one in group]) for heading, group in CHARTS.items()],
        triplets=triplets,
        programs=programs,
        total=sum(sample.count for sample in samples),
        health=[_health(facts) for facts in runs],
    )


def task_list(run: RunDir) -> TaskList:
    """The proposals of a run, with filters, for a notebook; no widgets, no kernel needed."""
    facts = read_facts(run)
    sample = ProposalSample(facts, BROWSED)
    shown = sample.shown()
    programs, _ = add_relatives(facts, shown)
    shared = {"runs": [facts], "programs": programs, "total": sample.count}
    return TaskList(_fitted("browse.html", shown, BROWSED_BYTES, **shared))


def _names(runs: Sequence[RunFacts]) -> list[str]:
    """Last parts of the paths, as many as make them differ."""
    parts = [facts.run.path.resolve().parts for facts in runs]
    for count in (1, 2, 3):
        names = ["/".join(own[-count:]) for own in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{number} {facts.run.path}" for number, facts in enumerate(runs, start=1)]


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


def _against_first(runs: Sequence[RunFacts]) -> list[dict[str, float] | None]:
    """The gain of each run's last evaluation over the first run's, where both answered the same problems."""
    first, found = runs[0].last_items, []
    for facts in runs[1:]:
        try:
            found.append(compare_paired(first, facts.last_items)["all"] if first and facts.last_items else None)
        except ValueError:  # not the same problems
            found.append(None)
    return [None, *found]


def _chart(runs: Sequence[RunFacts], title: str, unit: str, source: str) -> Markup:
    """One line per task type for one run, one line per run for several."""
    percent = unit.endswith("%")
    if source == "depth/*" and not all(facts.is_nano for facts in runs):
        unit = "calls, operators, branches"
    curves = [facts.held_out if source == "held out" else facts.by_type(source) for facts in runs]
    if len(runs) > 1:
        lines = {facts.name: own.get("all", []) for facts, own in zip(runs, curves, strict=True)}
        return chart(title, unit, lines, percent)
    overall = curves[0].get("all", [])
    if len(overall) > 1:
        first, last = overall[0].y, overall[-1].y
        title += f": {100 * first:.0f} → {100 * last:.0f} %" if percent else f": {first:.1f} → {last:.1f}"
    types = {name: points for name, points in sorted(curves[0].items()) if name != "all"}
    return chart(title, unit, types or curves[0], percent)


def _proposals(
    runs: Sequence[RunFacts], samples: Sequence[ProposalSample]
) -> tuple[list[ProposalRow], list[tuple[str, ProposalRow]], dict[str, str]]:
    """Proposals to list, the triplets worth reading with their anchors, and programs of parents by id."""
    listed, triplets, programs = [], [], {}
    each = max(2, TRIPLETS // len(runs))
    for facts, sample in zip(runs, samples, strict=True):
        shown, worth = sample.shown(), sample.worth_reading(each)
        rows = {row.place: row for row in [*shown, *worth]}.values()
        more, used = add_relatives(facts, rows, also=sample.most_used())
        programs.update(more)
        if used is not None and len(runs) == 1:
            used.why = "the one most often used as a reference"
            same = next((row for row in worth if row.id == used.id), None)
            if same is not None:
                same.why += f"; {used.why}"
            else:
                worth = sorted([*worth[: each - 1], used], key=lambda row: row.step)
        listed += shown
        triplets += [(f"triplet-{facts.number}-{place}", row) for place, row in enumerate(worth)]
    return listed, triplets, programs


def _fitted(template: str, rows: list[ProposalRow], most: int, **names: Any) -> str:
    """A page with a list of proposals, which is thinned evenly until the page fits into so many bytes."""
    while True:
        anchors = {(row.run, row.id): row.anchor for row in rows if row.id}  # no link to a row that is gone
        page = _render(template, rows=rows, anchors=anchors, **names)
        size = len(page.encode("utf-8"))
        if size <= most or not rows:
            return page
        wanted = min(len(rows) - 1, int(0.95 * len(rows) * most / size))
        rows = [rows[int(i * len(rows) / wanted)] for i in range(wanted)]


def _render(template: str, **names: Any) -> str:
    script = (TEMPLATES / "filter.js").read_text(encoding="utf-8")
    styles = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shared = {"script": Markup(script), "style": Markup(styles), "digest": digest}
    environment = templates()
    environment.filters.update(program=highlighted, json=functools.partial(json.dumps, ensure_ascii=False))
    body = environment.get_template(template).render(**shared, **names)
    return FIRST_WORDS + printable(body)  # no filter of the template can let a control character through


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
