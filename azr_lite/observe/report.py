"""`azr-lite report`: one HTML file that says what a run did, or compares several; and a notebook's list of proposals.

What a model wrote may be hostile: the template escapes everything, characters that do not print are written as
escapes, and the page's own policy (CSP) allows no request and no script but the one in the template, by its digest.
Memory does not grow with the logs: proposals are drawn evenly over the run, and what is too long to be read is cut.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from azr_lite.config import Config
from azr_lite.errors import AzrError, ConfigError, EvaluationError
from azr_lite.evaluation.scores import Result, compare_paired, read_result
from azr_lite.metrics import STAGES, mean
from azr_lite.nano.language import skeleton
from azr_lite.observe.doctor import TOO_SHORT, Finding, diagnose
from azr_lite.observe.reader import SHORT, Curve, Followed, Line, Point, drawn, form_checked, open_run
from azr_lite.observe.run_summary import summarise
from azr_lite.observe.style import look, printable
from azr_lite.presets import preset
from azr_lite.rundir import Log, RunDir, write_text

MOST_BYTES, BROWSED_BYTES = 2_000_000, 140_000  # of a page, and of a notebook's list of proposals
MOST_RUNS, MOST_PROPOSALS, BROWSED, TRIPLETS = 8, 800, 200, 3
MOST_TEXT, MOST_LISTED_TEXT, MOST_LISTED = 1500, 500, 16
"""Characters of a text, characters of a text in a list (answers, inputs), and entries of a list."""
FIELDS = frozenset("step type ok reason detail fresh solve_rate text task answers parents".split())
CHANGES = {
    (False, True): "newly right",
    (True, False): "newly wrong",
    (True, True): "right both times",
    (False, False): "wrong both times",
}
"""Right before and after: what it is called. Questions are shown in this order, one of each."""
FIRST_WORDS = "<!doctype html><!-- azr-lite report -->"  # how a report begins: only such a file is overwritten
TEMPLATES = Path(__file__).parent / "templates"
WIDTH, HEIGHT = 460, 206
MARGINS = {"left": 56, "right": 14, "top": 10, "bottom": 40}  # of a chart, in units of its picture
HELD_OUT = "held out"
CHARTS = {
    "Learning": (
        ("Held-out accuracy", "right, %", HELD_OUT),
        ("Solved in training", "right, %", "solve/*/ok"),
        ("Length of the solver's replies", "tokens", "solve/*/tokens"),
        ("Solve rate of valid proposals", "mean r̄, %", "propose/*/solve_rate"),
    ),
    "Curriculum: what the proposer invents": (
        ("Valid share of proposals", "valid, %", "propose/*/ok"),
        ("Learnable tasks", "tasks per step", "propose/*/learnable_tasks"),
        ("Different programs among valid proposals", "different, %", "propose/*/distinct_programs"),
        ("Depth of valid proposals", "operations", "depth/*"),
        ("Length of valid programs", "characters", "length/*"),
    ),
}
"""Headed groups of charts: title, unit and source of each."""


@dataclass(frozen=True, slots=True)
class ProposalRow:
    """A line of tasks.jsonl, its texts and lists cut, on a page; `right` of its `answers` solve the task."""

    run: int  # number of its run
    place: int  # of its line
    line: Line
    right: int
    answers: int

    @property
    def id(self) -> str:
        """Of the task that it became; empty where it became none."""
        return str((self.line["task"] or {}).get("id", ""))

    @property
    def anchor(self) -> str:
        return f"p{self.run}-{self.place}"


def cut(value: Any, most: int = MOST_TEXT) -> Any:
    """The same JSON with no long text and no long list. A text says how much of it is left out."""
    if isinstance(value, str):
        return value if len(value) <= most else f"{value[:most]} … {len(value) - most} more characters"
    if isinstance(value, dict):
        return {name: cut(one, most) for name, one in value.items()}
    return [cut(one, MOST_LISTED_TEXT) for one in value[:MOST_LISTED]] if isinstance(value, list) else value


class Proposals:
    """The proposals of a run: `count` of all, `listed` to look through. Curves of their size go to `run.curves`."""

    def __init__(self, run: Followed, number: int, most: int) -> None:
        self.run, self.number, self.count = run, number, 0
        with form_checked(run.run):
            self.listed = sorted(drawn(self._rows(), most), key=lambda row: row.place)

    def _rows(self) -> Iterator[ProposalRow]:
        log, is_nano = Log(self.run.run.path / "tasks.jsonl"), self.run.config.model == "nano"
        for step, lines in itertools.groupby(log.lines(), key=lambda line: line["step"]):
            sizes: defaultdict[str, list[int]] = defaultdict(list)  # of valid programs
            for line in lines:
                if missing := FIELDS - line.keys():
                    raise KeyError(*missing)
                right = [answer["score"] >= 1 for answer in line["answers"]]
                yield ProposalRow(self.number, self.count, cut(line), sum(right), len(right))
                self.count += 1
                if line["ok"] and step >= 0:
                    program = line["task"]["program"]
                    operations = skeleton(program) if is_nano else None
                    for of in (line["type"], "*"):
                        sizes[f"length/{of}"].append(len(program))
                        if operations is not None:
                            sizes[f"depth/{of}"].append(len(operations))
            for key, values in sizes.items():
                self.run.curves.setdefault(key, Curve()).add(step, mean(values))

    def worth_reading(self, most: int) -> list[ProposalRow]:
        """Of each task type so many: those listed that were solved most rarely, but were solved; the longest first."""
        chosen: list[ProposalRow] = []
        for name in self.run.config.task_types:
            own = [row for row in self.listed if row.line["type"] == name and 0 < (row.line["solve_rate"] or 0) < 1]
            own.sort(key=lambda row: (row.line["solve_rate"], -len(row.line["task"]["program"])))
            chosen += own[:most]
        return chosen


class RunFacts(Followed):
    """A run as a page tells it. `name`: how the page calls it. `missing`: files that are not there.

    `gains`: of "all" and every task type, accuracy before and after and the paired gain, in shares: of summary.json, or
    so far. `questions`: what tells held-out questions from others: the digest of their prompts, where it was kept, and
    how many there are of each type.
    """

    def __init__(self, run: RunDir) -> None:
        super().__init__(run)
        self.name, self.settings, ended = str(run.path), _settings(self.config), self.summary or {}
        files = ("run.json", "metrics.jsonl", "timing.jsonl", "tasks.jsonl")
        self.missing = [name for name in files if not (run.path / name).exists()]
        with form_checked(run):
            self.info = {} if "run.json" in self.missing else run.info()
            self.environment = dict(self.info.get("environment") or {})
            kept = {name: self.curves[name].total for name in STAGES if name in self.curves} or ended.get("seconds", {})
            self.stages = {name: float(kept[name]) for name in STAGES if name in kept}
            self.evaluations = self._evaluations()
            if not ended.get("gain") and self.evaluations:
                first, last = self.evaluations
                gain = compare_paired(first.items, last.items)
                ended = ended | {"before": first.scores, "after": last.scores, "gain": gain}
            self.gains = [
                {"type": of, "n": int(ended["after"][of]["n"]), **gain}
                | {when: ended[when][of]["accuracy"] for when in ("before", "after")}
                for of, gain in sorted((ended.get("gain") or {}).items(), key=lambda one: one[0] != "all")
            ]
            digest = self.evaluations[0].record.get("asked", {}).get("prompts_sha256", "") if self.evaluations else ""
            self.questions = (digest, tuple((gain["type"], gain["n"]) for gain in self.gains))
        outside = [(key, curve) for key, curve in self.curves.items() if curve.outside.count]
        self.out_of_range = sorted(outside, key=lambda one: (-one[1].outside.count / one[1].count, one[0]))

    def _evaluations(self) -> list[Result]:
        """The first and the last evaluation with all their replies; none where one of them was not kept whole."""
        steps = sorted({point.x for curve in self.held_out.values() for point in curve})
        names = ["before" if step == 0 else f"step-{step:.0f}" for step in (*steps[:1], *steps[1:][-1:])]
        found: list[Result | None] = []
        with suppress(EvaluationError):
            found = [read_result(self.run.path / "eval", name) for name in names]
        return found if len(found) == 2 and all(found) else []


def _settings(config: Config) -> list[tuple[str, Any, Any]]:
    """(setting, the preset's value, this run's) where they differ."""
    base = Config().to_json()
    with suppress(ConfigError):  # another version's preset
        base = preset(config.preset).to_json()
    own = config.replace(output_dir=base["output_dir"], preset=base["preset"]).to_json()
    return [(name, base.get(name), value) for name, value in own.items() if value != base.get(name)]


@dataclass(frozen=True)
class TaskList:
    """Proposals to look through in a notebook: shows itself, static, in a frame of its own."""

    page: str = field(repr=False)  # a notebook stores the repr beside the page

    def _repr_html_(self) -> str:
        # a frame without rights on the notebook's page; its styles stay inside. An attribute needs two characters
        # escaped; `html.escape` takes five, which swells notebooks
        style = "width:100%;height:640px;box-sizing:border-box;border:1px solid #ccc"
        page = self.page.replace("&", "&amp;").replace('"', "&quot;")
        return f'<iframe sandbox="allow-scripts" style="{style}" title="proposals" srcdoc="{page}"></iframe>'


def task_list(run: RunDir) -> TaskList:
    """The proposals of a run, with filters, for a notebook; no widgets, no kernel needed."""
    found = Proposals(Followed(run), 0, BROWSED)
    return TaskList(_fitted("browse.html", found.listed, BROWSED_BYTES, runs=[run], total=found.count))


def write_report(paths: Sequence[str | Path], output: str | Path = "") -> Path:
    """Write the page; without `output` into the run's own directory, or for several runs to comparison.html."""
    file = Path(output) if output else Path(paths[0]) / "report.html" if len(paths) == 1 else Path("comparison.html")
    if file.is_dir():
        raise ConfigError(f"{file} is a directory; name a file, such as --output {file / 'report.html'}")
    if file.exists() and not file.read_bytes().startswith(FIRST_WORDS.encode()):
        raise ConfigError(f"{file} exists and is not a report; choose another --output")
    page = report(paths)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make {file.parent}: {error.strerror}; choose another --output") from error
    write_text(file, page, "--output")
    return file


def report(paths: Sequence[str | Path]) -> str:
    """The page of one run, or of several side by side. Errors of `azr_lite.errors` say what is missing or foreign."""
    if not 1 <= len(paths) <= MOST_RUNS:
        raise ConfigError(f"a report needs a run directory, or several: 1 to {MOST_RUNS}, not {len(paths)}")
    runs = [RunFacts(open_run(path)) for path in paths]
    shared = os.path.commonpath([facts.run.path.resolve().parent for facts in runs])
    for facts in runs:
        facts.name = facts.run.path.resolve().relative_to(shared).as_posix()
    found = [Proposals(facts, number, MOST_PROPOSALS // len(runs)) for number, facts in enumerate(runs)]
    (groups, said), names = _question_sets(runs), [facts.name for facts in runs]
    charts = [
        (heading, [_chart(own, names, *one) for one in shown for own in (groups if one[2] == HELD_OUT else [runs])])
        for heading, shown in CHARTS.items()
    ]
    return _fitted(
        "report.html",
        [row for own in found for row in own.listed],
        MOST_BYTES,
        runs=runs,
        charts=charts,
        questions=said,
        asked=[one for group in groups for one in _side_by_side(group, max(1, TRIPLETS // len(groups)))],
        cut=cut,
        triplets=[row for own in found for row in own.worth_reading(max(1, TRIPLETS // len(runs)))],
        total=sum(own.count for own in found),
        health=[_health(facts) for facts in runs],
    )


def _health(facts: RunFacts) -> tuple[list[Finding], str]:
    """What the run doctor names, and what is to be said of its judgement."""
    try:
        found = diagnose(summarise(facts))
    except AzrError as error:
        said = str(error).replace(f"{facts.run.path}/", "").replace(str(facts.run.path), "the run")  # no folder of ours
        return [], f"The run doctor could not judge: {said}."
    said = f"names {len(found)} illness{'es' * (len(found) > 1)}." if found else "found nothing."
    return found, f"The run doctor {said}" + (f" {TOO_SHORT}" if facts.lines < SHORT else "")


def _question_sets(runs: Sequence[RunFacts]) -> tuple[list[list[RunFacts]], str]:
    """Runs that were asked the same held-out questions, together; and what is to be said where that is in doubt."""
    found: dict[Any, list[RunFacts]] = {}
    for facts in runs:
        if facts.held_out:
            found.setdefault(facts.questions, []).append(facts)
    groups = list(found.values())
    if len(groups) > 1:
        names = " | ".join(", ".join(facts.name for facts in group) for group in groups)
        said = "These runs were not all asked the same held-out questions in the same words (or it was not recorded), "
        return groups, f"{said}so their accuracies are drawn apart and cannot be compared: {names}."
    unknown = len(runs) > 1 and groups and not groups[0][0].questions[0]
    return groups, "Whether these runs were asked the same held-out questions is not recorded." if unknown else ""


def _side_by_side(runs: Sequence[RunFacts], most: int) -> list[dict[str, Any]]:
    """Held-out questions with the first and the last reply of every run (its name, when, the marked reply).

    They are chosen by how the first run's marks changed: types in turn, then those with the shortest prompts.
    """
    asked = [
        (facts.name, one.name.replace("step-", "after step "), {(item.type, item.id): item for item in one.items})
        for facts in runs
        for one in facts.evaluations
    ]
    if not asked:
        return []
    was, now = asked[0][2], asked[1][2]
    chosen: list[tuple[str, str]] = []
    for change in (*CHANGES, *CHANGES):
        seen = [kind for kind, _ in chosen]
        left = [key for key in was if key in now and key not in chosen]
        fitting = [key for key in left if (was[key].right, now[key].right) == change]
        chosen += sorted(fitting, key=lambda key: (seen.count(key[0]), len(was[key].prompt), key))[:1]
    return [
        {
            "type": key[0],
            "change": CHANGES[was[key].right, now[key].right],
            "prompt": "… " * (len(was[key].prompt) > MOST_TEXT) + was[key].prompt.strip()[-MOST_TEXT:],
            "replies": [(name, when, items[key]) for name, when, items in asked if key in items],
        }
        for key in chosen[:most]
    ]


def _chart(runs: Sequence[RunFacts], names: Sequence[str], title: str, unit: str, source: str) -> Markup:
    """One line per task type, or one line per run where runs are compared. `names`: of all runs of the page."""
    percent = unit.endswith("%")
    curves = [facts.held_out if source == HELD_OUT else facts.by_type(source) for facts in runs]
    if len(names) > 1:
        known = {facts.name: own.get("all", []) for facts, own in zip(runs, curves, strict=True)}
        return chart(title, unit, {name: known.get(name, []) for name in names}, percent)
    overall = curves[0].pop("all", [])
    if len(overall) > 1:
        first, last = overall[0].y, overall[-1].y
        title += f": {100 * first:.0f} → {100 * last:.0f} %" if percent else f": {first:.1f} → {last:.1f}"
    return chart(title, unit, dict(sorted(curves[0].items())) or {"all": overall}, percent)


def chart(title: str, unit: str, lines: Mapping[str, Sequence[Point]], percent: bool = False) -> Markup:
    """One chart over self-play steps. `percent`: y is a share, drawn from 0 to 100. Empty where no line has a point."""
    finite = {name: [p for p in points if math.isfinite(p.x) and math.isfinite(p.y)] for name, points in lines.items()}
    looks = {name: look(name, place) for place, name in enumerate(lines)}
    lines = {name: points for name, points in finite.items() if points}
    if not lines:
        return Markup("")
    scale = 100.0 if percent else 1.0
    xs = [p.x for points in lines.values() for p in points]
    ys = [scale * y for points in lines.values() for p in points for y in (p.y, p.low, p.high) if y is not None]
    x_ticks = _ticks(min(xs), max(xs), 6, whole=True)
    y_ticks = [0.0, 25.0, 50.0, 75.0, 100.0] if percent else _ticks(min(0.0, *ys), max(ys), 5)
    x_low, x_high = min(x_ticks[0], *xs), max(x_ticks[-1], *xs)
    y_low, y_high = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)

    def at(x: float, y: float) -> tuple[str, str]:
        across = (x - x_low) / ((x_high - x_low) or 1) * (WIDTH - MARGINS["left"] - MARGINS["right"])
        up = (y - y_low) / ((y_high - y_low) or 1) * (HEIGHT - MARGINS["top"] - MARGINS["bottom"])
        return f"{MARGINS['left'] + across:.1f}", f"{HEIGHT - MARGINS['bottom'] - up:.1f}"

    drawn = _templates().get_template("chart.html").render(
        title=title, unit=unit, lines=lines, scale=scale, x_ticks=x_ticks, y_ticks=y_ticks, at=at, looks=looks,
        width=WIDTH, height=HEIGHT, **MARGINS,
    )  # fmt: skip
    return Markup(drawn.replace("\n", ""))


def _ticks(low: float, high: float, about: int, whole: bool = False) -> list[float]:
    """Round numbers that span low to high."""
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / about))
    step = next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= about)
    if whole:
        step = max(1.0, step)
    first = math.floor(low / step + 1e-9)
    count = min(50, math.ceil((high - first * step) / step - 1e-9))
    return [round((first + i) * step, 10) for i in range(count + 1)]


def _fitted(template: str, rows: list[ProposalRow], most: int, **names: Any) -> str:
    """A page with a list of proposals, which is thinned evenly until the page fits into so many bytes."""
    script, styles = (Markup((TEMPLATES / name).read_text(encoding="utf-8")) for name in ("filter.js", "page.css"))
    names |= {"digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}
    while True:
        anchors = {(row.run, row.id): row.anchor for row in rows if row.id}  # no link to a row that is gone
        children: defaultdict[tuple[int, str], list[str]] = defaultdict(list)
        for row in rows:
            for parent in dict.fromkeys(row.line["parents"] if row.id else ()):
                children[row.run, parent].append(row.id)
        names |= {"rows": rows, "anchors": anchors, "children": children, "script": script, "style": styles}
        # no filter of the template can let a control character through
        page = FIRST_WORDS + printable(_templates().get_template(template).render(**names))
        size = len(page.encode("utf-8"))
        if size <= most or not rows:
            return page
        wanted = min(len(rows) - 1, int(0.95 * len(rows) * most / size))
        rows = [rows[int(i * len(rows) / wanted)] for i in range(wanted)]


@functools.cache
def _templates() -> Environment:
    """The room's jinja templates; what is put into them is escaped."""
    loader = FileSystemLoader(TEMPLATES)
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["json"] = functools.partial(json.dumps, ensure_ascii=False)
    return made
