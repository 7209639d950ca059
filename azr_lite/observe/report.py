"""`azr-lite report`: one HTML file that says what a run did, or compares several; `browse`: its list of proposals in a notebook.

Comes in: run directories.  Goes out: a page of at most `MOST_BYTES` that needs no network and reads without scripts.
Not covered: reading the logs (`gather.py`, `proposals.py`, `lineage.py`), curves (`figures.py`), colours of programs (`highlight.py`).

What a model wrote may be hostile: the template escapes everything, characters that do not print are written as escapes, and the page's
own policy (CSP) allows no request and no script but the one in the template, by its digest.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from azr_lite.errors import AzrError, ConfigError, RunDirectoryError
from azr_lite.evaluation.scores import compare_paired
from azr_lite.observe.doctor import TOO_SHORT, examine
from azr_lite.observe.doctor import Finding as Illness
from azr_lite.observe.figures import Curve, Point, chart
from azr_lite.observe.gather import Gain, Picture, gather
from azr_lite.observe.highlight import highlighted
from azr_lite.observe.lineage import trace
from azr_lite.observe.proposals import Proposal, Survey, reasons, survey
from azr_lite.observe.rollouts import printable
from azr_lite.observe.symptoms import SHORT
from azr_lite.rundir import write_text

MOST_BYTES = 2_000_000
BROWSED_BYTES = 700_000
"""The most of a notebook's browser."""

JUDGED_BYTES = 100 << 20
"""A longer rollouts.jsonl is not read by the run doctor for a report: some four seconds of processor time."""

MOST_RUNS = 8
MOST_LISTED = 800
BROWSED = 200
TRIPLETS = 10
TEMPLATES = Path(__file__).parent / "templates"
FIRST_WORDS = "<!doctype html><!-- azr-lite report -->"
"""How a report begins: only such a file is overwritten."""


@dataclass
class Entry:
    """A proposal on the page. `anchor`: where its row is."""

    proposal: Proposal
    run: int
    anchor: str


@dataclass(frozen=True)
class Browser:
    """Proposals to look through in a notebook: shows itself, static, in a frame of its own, `height` pixels high."""

    page: str = field(repr=False)  # a notebook stores the repr beside the page
    height: int = 640

    def _repr_html_(self) -> str:
        # a frame without rights on the notebook's page; its styles stay inside
        return (
            f'<iframe sandbox="allow-scripts" style="width:100%;height:{self.height}px;box-sizing:border-box;border:1px solid #ccc" title="proposals" '
            f'srcdoc="{html.escape(self.page, quote=True)}"></iframe>'
        )


def report(paths: Sequence[str | Path]) -> str:
    """The page of one run, or of several side by side. Errors of `azr_lite.errors` say what is missing or foreign."""
    if not 1 <= len(paths) <= MOST_RUNS:
        raise ConfigError(f"a report is of 1 to {MOST_RUNS} runs, not {len(paths)}; leave some out")
    pictures = [gather(path) for path in paths]
    for picture, name in zip(pictures, _names(pictures), strict=True):
        picture.name = name
    surveys = [survey(picture, MOST_LISTED // len(pictures)) for picture in pictures]
    entries, triplets, programs = _proposals(pictures, surveys)
    shared = {
        "runs": pictures, "one": pictures[0] if len(pictures) == 1 else None, "verdicts": [_verdict(picture) for picture in pictures],
        "against": _against_first(pictures), "charts": _charts(pictures, surveys), "triplets": triplets, "programs": programs,
        "total": sum(s.count for s in surveys), "health": [_health(picture) for picture in pictures],
    }  # fmt: skip
    without = _render("report.html", rows=[], **shared, **_filters(entries, pictures))
    rows = _rows(
        entries, programs, pictures, MOST_BYTES - len(without.encode("utf-8")) - 1000
    )  # the list takes what room is left
    return _render("report.html", rows=rows, **shared, **_filters(entries, pictures))


def browse(run: str | Path) -> Browser:
    """The proposals of a run as an object that shows itself in a notebook: filters, no widgets, no front end needed."""
    picture = gather(run)
    found = survey(picture, BROWSED)
    shown = found.shown()
    programs, _ = trace(picture, shown)
    entries = _entries(0, shown)
    rows = _rows(entries, programs, [picture], BROWSED_BYTES)
    return Browser(_render("browse.html", rows=rows, total=found.count, **_filters(entries, [picture])))


def write_report(paths: Sequence[str | Path], output: str | Path = "") -> Path:
    """Write the page: into the run's own directory, or for several runs to comparison.html, where no file is named."""
    file = Path(output) if output else Path(paths[0]) / "report.html" if len(paths) == 1 else Path("comparison.html")
    if file.is_dir():
        raise ConfigError(f"{file} is a directory; name a file, such as --output {file / 'report.html'}")
    if file.exists() and not file.read_bytes()[: len(FIRST_WORDS)] == FIRST_WORDS.encode():
        raise ConfigError(f"{file} exists and is no report; choose another --output")
    page = report(paths)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make {file.parent}: {error.strerror}; choose another --output") from error
    try:
        write_text(file, page, "--output")
    except RunDirectoryError as error:
        raise ConfigError(str(error)) from error
    return file


def _names(pictures: Sequence[Picture]) -> list[str]:
    """Last parts of the paths, as many as make them differ."""
    parts = [picture.run.path.resolve().parts for picture in pictures]
    for count in (1, 2, 3):
        names = ["/".join(own[-count:]) for own in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{number} {picture.run.path}" for number, picture in enumerate(pictures, start=1)]


# -------------------------------------------------------------------- headline and curves


def _verdict(picture: Picture) -> str:
    """The first sentence: what held-out accuracy did."""
    gain = picture.all
    if gain is None:
        return f"{picture.steps} steps; there is no held-out gain to report."
    change = f"from {100 * gain.before:.1f} % to {100 * gain.after:.1f} %: {_points(gain)} points on {gain.n} held-out problems"
    if gain.low <= 0 <= gain.high:
        return f"Held-out accuracy moved {change}. The interval holds 0: no gain is shown."
    return f"Held-out accuracy {'rose' if gain.gain > 0 else 'fell'} {change}."


def _health(picture: Picture) -> tuple[list[Illness], str]:
    """What the run doctor names, and what is to be said of its judgement."""
    rollouts = picture.run.path / "rollouts.jsonl"
    if rollouts.exists() and rollouts.stat().st_size > JUDGED_BYTES:
        return [], "The log is long: azr-lite doctor RUN judges it."
    try:
        summary, found = examine(picture.run.path)
    except AzrError as error:
        return [], f"The run doctor could not judge: {picture.without_place(error)}."
    short = f" {TOO_SHORT}" if len(summary.steps) < SHORT else ""
    named = len(found)
    return found, (
        "The run doctor found nothing." if not named else f"The run doctor names {named} illness{'es' * (named > 1)}."
    ) + short


def _points(gain: Gain) -> str:
    return f"{100 * gain.gain:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"


def _against_first(pictures: Sequence[Picture]) -> list[Gain | None]:
    """Each run's last evaluation against the first run's, where both answered the same problems."""
    first, found = pictures[0], []
    for picture in pictures[1:]:
        try:
            row = (
                compare_paired(first.last_items, picture.last_items)["all"]
                if picture.last_items and first.last_items
                else None
            )
        except ValueError:  # not the same problems
            row = None
        found.append(
            row
            and Gain("all", 0, 0, 0, row["gain"], row["low"], row["high"], int(row["won"]), int(row["lost"]), row["p"])
        )
    return [None, *found]


def _charts(pictures: Sequence[Picture], surveys: Sequence[Survey]) -> list[tuple[str, list[Markup]]]:
    """Headed groups of charts: a line a task type for one run, a line a run for several."""

    def lines(of_run: Any) -> dict[str, list[Point]]:
        if len(pictures) == 1:
            own = of_run(0)
            return {name: own[name] for name in sorted(own) if name != "all"} or own
        return {picture.name: of_run(number).get("all", []) for number, picture in enumerate(pictures)}

    def points(curves: dict[str, Curve]) -> dict[str, list[Point]]:
        return {name: curve.points for name, curve in curves.items()}

    def drawn(what: str, unit: str, of_run: Any, percent: bool = False) -> Markup:
        overall = of_run(0).get("all", [])
        change = ""
        if len(pictures) == 1 and len(overall) > 1:
            first, last = overall[0].y, overall[-1].y
            change = f": {100 * first:.0f} → {100 * last:.0f} %" if percent else f": {first:.1f} → {last:.1f}"
        return chart(what + change, unit, lines(of_run), percent)

    def metric(name: str) -> Any:
        return lambda number: points(pictures[number].curves.get(name, {}))

    learning = [
        drawn("Held-out accuracy", "right, %", lambda n: pictures[n].held_out, True),
        drawn("Solved in training", "right, %", metric("solved share"), True),
        drawn("Length of the solver's replies", "tokens", metric("reply length")),
        drawn("Solve rate of valid proposals", "mean r̄, %", metric("solve rate"), True),
        drawn("Valid share of proposals", "valid, %", metric("valid share"), True),
    ]
    counted = "operations" if all(s.nano for s in surveys) else "calls, operators, branches"
    harder = [
        drawn("Depth of valid proposals", counted, lambda n: points(surveys[n].depth)),
        drawn("Length of valid programs", "characters", lambda n: points(surveys[n].length)),
    ]
    groups = [
        ("Learning", [c for c in learning if c]),
        ("Curriculum: what the proposer invents", [c for c in harder if c]),
    ]
    return [(title, charts) for title, charts in groups if charts]


# -------------------------------------------------------------------- proposals


def _proposals(
    pictures: Sequence[Picture], surveys: Sequence[Survey]
) -> tuple[list[Entry], list[Entry], dict[str, str]]:
    """Rows of the list, the triplets worth reading, and programs of parents by id."""
    entries, triplets, programs = [], [], {}
    each = max(2, TRIPLETS // len(pictures))
    for number, (picture, found) in enumerate(zip(pictures, surveys, strict=True)):
        shown, worth = found.shown(), found.worth_reading(each)
        more, used = trace(
            picture, [*shown, *(p for p in worth if not any(p is s for s in shown))], also=found.most_used()
        )
        programs.update(more)
        if used is not None and each >= TRIPLETS:
            used.why = "the one most often used as a reference"
            same = next((p for p in worth if p.id == used.id), None)
            if same is not None:
                same.why += f"; {used.why}"
            else:
                worth = sorted([*worth[: each - 1], used], key=lambda p: p.step)
        entries += _entries(number, shown)
        triplets += [Entry(p, number, f"triplet-{number}-{place}") for place, p in enumerate(worth)]
    return entries, triplets, programs


def _entries(run: int, proposals: Sequence[Proposal]) -> list[Entry]:
    return [Entry(proposal, run, f"p{run}-{place}") for place, proposal in enumerate(proposals)]


def _rows(entries: list[Entry], programs: dict[str, str], pictures: Sequence[Picture], most: int) -> list[Markup]:
    """The rows as HTML; `entries` is thinned evenly until they fit."""
    template, names = _environment().get_template("row.html"), _names(pictures)
    while True:
        anchors = _anchors(entries)  # anew each time: no link to a row that is not there
        rows = [
            printable(template.render(e=e, p=e.proposal, programs=programs, anchors=anchors, names=names))
            for e in entries
        ]
        size = sum(len(row.encode("utf-8")) for row in rows)
        if size <= most or not entries:
            return [Markup(row) for row in rows]
        wanted = max(0, min(len(entries) - 1, int(0.95 * len(entries) * most / size)))
        entries[:] = [entries[int(i * len(entries) / wanted)] for i in range(wanted)]


def _anchors(entries: Sequence[Entry]) -> dict[tuple[int, str], str]:
    return {(e.run, e.proposal.id): e.anchor for e in entries if e.proposal.id}


def _filters(entries: Sequence[Entry], pictures: Sequence[Picture]) -> dict[str, Any]:
    own = [entry.proposal for entry in entries]
    return {
        "types": sorted({p.type for p in own}),
        "reasons": reasons(own),
        "steps": (min((p.step for p in own), default=0), max((p.step for p in own), default=0)),
        "names": [picture.name for picture in pictures],
        "anchors": _anchors(entries),
    }


# -------------------------------------------------------------------- the page


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
        points=_points,
        number=lambda value: f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}",
        seconds=_seconds,
        json=lambda value: json.dumps(value, ensure_ascii=False),
    )
    return environment


def _seconds(seconds: float) -> str:
    return (
        f"{seconds:.1f} s"
        if seconds < 120
        else f"{seconds / 60:.1f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def _render(template: str, **names: Any) -> str:
    script = (TEMPLATES / "filter.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    styles = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    body = (
        _environment()
        .get_template(template)
        .render(script=Markup(script), style=Markup(styles), digest=digest, **names)
    )
    return FIRST_WORDS + printable(
        body
    )  # the whole page: no filter of the template can let a control character through
