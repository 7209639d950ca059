"""The HTML report and the notebook's browser: what they say, that nothing a model wrote becomes HTML, and that a browser can use them."""

import dataclasses
import errno
import html
import json
import os
import re
import shutil
import tracemalloc
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from azr_lite.cli import main
from azr_lite.errors import RunDirectoryError
from azr_lite.evaluation.scores import Item, Result, compare_paired, summarize
from azr_lite.observe import report as module
from azr_lite.observe.reader import POINTS, Curve, Point, open_run
from azr_lite.observe.report import MOST_BYTES, Proposals, RunFacts, chart, report
from azr_lite.observe.run import Run
from azr_lite.presets import preset
from azr_lite.rundir import RunDir, write_json, write_text
from tests import pictures

ATTACKS = (
    "<script>window.hacked=1</script>",
    "</pre></details><img src=x onerror=window.hacked=1>",
    "\"'><svg onload=window.hacked=1>",
    "[link](javascript:window.hacked=1) <a href='javascript:window.hacked=1'>x</a>",
    "</style></title><iframe src=https://evil.example></iframe>{{ 7*7 }}{% raw %}",
    "\u202egnp.exe\x00\x1b[2J\ud800",
)
HOSTILE = " ".join(ATTACKS)
WHOLE = Path(__file__).parents[1] / "data_samples" / "runs" / "whole" / "nano-small"
VOID = {"meta", "line", "rect", "circle", "polyline", "input", "br", "link", "img"}


class Page(HTMLParser):
    """What a page holds: tags, attributes, ids, links, scripts and text; `wrong`: tags closed in another order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.ids, self.links, self.scripts, self.words, self.wrong, self._open = (
            set(),
            set(),
            [],
            [],
            [],
            [],
            [],
            [],
        )
        self.rows = []
        self.feed(text)
        self.close()
        self.text = " ".join(self.words)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        own = dict(attrs)
        if "id" in own:
            self.ids.append(own["id"])
        if "href" in own:
            self.links.append(own["href"])
        if tag == "details" and "data-step" in own:
            self.rows.append(own)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID and self._open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if self._open and self._open[-1] == "script":
            self.scripts.append(data)
        elif not self._open or self._open[-1] != "style":
            self.words.append(data)


def items(right, kinds=("deduction", "abduction", "induction")):
    return [
        Item(f"{kind}{n}", kind, "", n < count, True, "", "q", "a", 5, False, lenient=n < count)
        for kind, count in zip(kinds, right, strict=True)
        for n in range(20)
    ]


def evaluation(run, before, after):
    """The two held-out evaluations of a run that has ended, as loop.py leaves them."""
    (run / "eval").mkdir(exist_ok=True)
    write_json(run / "eval" / "before.json", {"version": 1, "scores": summarize(before)})
    write_json(run / "eval" / "step-4.json", {"version": 1, "scores": summarize(after)})
    scores = {"before": summarize(before), "after": summarize(after), "gain": compare_paired(before, after)}
    write_json(run / "summary.json", {"finished": True, "steps": 4, **scores})


def kept_whole(run, before, after, digest="0d12"):
    """The same with every item, and with the digest of what was asked."""
    evaluation(run, before, after)
    for name, own in (("before", before), ("step-4", after)):
        record = {"version": 1, "scores": summarize(own), "asked": {"prompts_sha256": digest}}
        Result(name, own, record).keep(run / "eval")


def task_line(step, number, text="", ok=True, **changes):
    own = {
        "id": f"t{step}x{number}",
        "type": "deduction",
        "program": f"def f(x):\n    x = x + {number}\n    return x",
        "input": "1",
        "output": "2",
    }
    line = {
        "step": step, "type": "deduction", "ok": ok, "reason": "" if ok else "exception", "detail": "", "fresh": True, "text": text or "reply",
        "solve_rate": [0.0, 0.25, 0.5, 1.0][number % 4] if ok and step >= 0 else None, "parents": [f"t{step - 1}x{number}"] if step > 0 else [],
        "task": {**own, "parents": [], "step": step} if ok else None,
        "answers": [{"text": f"answer {n}", "score": float(n % 2), "reason": "" if n % 2 else "wrong", "tokens": 3} for n in range(4)] if ok else [],
    }  # fmt: skip
    return {**line, **changes}


def made(path, steps=4, each=6, tasks=None, command="azr-lite run", **settings):
    """A run directory written by hand."""
    run = RunDir.create(
        preset("nano", output_dir=str(path), **settings), {"environment": {"command": command, "python": "3.11"}}
    )
    tasks = (
        tasks
        if tasks is not None
        else [task_line(step, n, ok=n != 5) for step in range(-1, steps) for n in range(each)]
    )
    for step in range(-1, steps):
        run.append_tasks([line for line in tasks if line["step"] == step])
        if step >= 0:
            numbers = {
                "solve/deduction/tokens": 10.0 + step,
                "propose/deduction/ok": 0.9,
                "propose/deduction/truncated": 0.5,
                "grad_norm": 0.1,
            }
            run.append(
                step,
                numbers,
                {"generate": 1.0, "sandbox": 0.5, "update": 1.5, "rest": 0.0, "cpu_energy_j": 3600.0},
                [],
                [],
            )
    rollouts = [{"step": step, "role": "solve", "task_id": f"t{step}x1"} for step in range(steps)]
    write_text(run.path / "rollouts.jsonl", "".join(json.dumps(line) + "\n" for line in rollouts))
    evaluation(run.path, items((5, 5, 5)), items((18, 12, 5)))
    return run.path


def test_the_report_of_a_real_run_is_one_whole_page_without_requests(recorded):
    text = report([recorded])
    page = Page(text)
    assert len(text.encode()) <= MOST_BYTES
    assert not page.wrong
    assert len(page.ids) == len(set(page.ids))
    assert page.links
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert not page.attributes & {"src", "srcset", "action", "formaction", "background", "poster", "data", "xlink:href"}
    assert not [name for name in page.attributes if name.startswith("on")]
    assert "url(" not in text.split("</style>")[0]
    for word in (
        "Verdict",
        "Held-out gain",
        "Learning",
        "Curriculum",
        "triplets worth reading",
        "Cost",
        "How it was made",
        "Proposals",
    ):
        assert word in page.text
    lines = [json.loads(line) for line in (Path(recorded) / "tasks.jsonl").read_text().splitlines()]
    assert [(int(row["data-step"]), row["data-type"], row["data-reason"]) for row in page.rows] == [
        (line["step"], line["type"], line["reason"]) for line in lines
    ]
    learnable = Counter(line["type"] for line in lines if 0 < (line["solve_rate"] or 0) < 1)
    assert text.count('class="card"') == sum(min(3, count) for count in learnable.values()) > 3
    assert {"svg", "details", "table", "pre"} <= page.tags


def test_parents_and_children_are_those_of_the_log(recorded):
    tasks = [json.loads(line) for line in (Path(recorded) / "tasks.jsonl").read_text().splitlines()]
    parts = Run(recorded).tasks().page.split('<details id="p0-')[1:]
    assert len(parts) == len(tasks)
    shown = 0
    for line, part in zip(tasks, parts, strict=True):
        lineage = Page(f"<div>{part.partition('lineage</div>')[2].partition('</div></div>')[0]}</div>").text
        parents, _, rest = lineage.partition("children")
        own = line["task"] and line["task"]["id"]
        children = [other["task"]["id"] for other in tasks if other["task"] and own in other["parents"]]
        assert parents.split("id ")[0].split()[1:] == ([parent[:8] for parent in line["parents"]] or ["parents"])
        assert rest.split("id ")[0].split() == [child[:8] for child in children[:8]]
        shown += bool(children)
    assert shown > 10


def hostile_run(path):
    tasks = []
    for step in range(-1, 3):
        for n in range(6):
            line = task_line(step, n, text=HOSTILE, ok=n != 5, detail=HOSTILE, parents=[HOSTILE])
            if line["task"]:
                line["task"].update(
                    program=f"def f(x):\n    return '''{HOSTILE}''' # {HOSTILE}",
                    input=HOSTILE,
                    output=HOSTILE,
                    id=HOSTILE + str(n),
                )
                line["answers"] = [{"text": HOSTILE, "score": 0.0, "reason": HOSTILE, "tokens": 1}]
            else:
                line["reason"] = HOSTILE
            tasks.append(line)
    tasks.append(task_line(2, 9, type=HOSTILE))
    tasks = [json.loads(json.dumps(line)) for line in tasks]
    written = HOSTILE.replace("\ud800", "")  # azr_lite itself writes no lone surrogate
    run = made(path, steps=3, tasks=[], command=written)
    with (run / "tasks.jsonl").open("w", encoding="ascii") as file:
        file.writelines(json.dumps(line) + "\n" for line in tasks)
    return run


def test_nothing_a_model_wrote_becomes_html(tmp_path):
    run = hostile_run(tmp_path / "<b>run' onclick=alert(1)>")
    for text in (report([run]), report([run, hostile_run(tmp_path / "two")]), Run(run).tasks().page):
        page = Page(text)
        text.encode("utf-8")  # no lone surrogate came through
        assert page.scripts == [(module.TEMPLATES / "filter.js").read_text()]
        assert not page.tags & {"img", "iframe", "object", "embed", "link", "base", "b>run'"}
        assert not [name for name in page.attributes if name.startswith("on") or name == "src"]
        assert all(link.startswith("#") for link in page.links)
        assert not page.wrong
        assert "49" not in page.text.split("{{ 7*7 }}")[0][-3:]
        assert "<script>window.hacked=1</script>" in page.text  # shown, not swallowed
        assert "\u202e" not in text
        assert "\x1b" not in text
        assert "\\u202e" in page.text


def test_the_policy_allows_the_pages_own_script_only(tmp_path):
    import base64
    import hashlib

    text = report([made(tmp_path / "run")])
    (script,) = Page(text).scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = text.split('Content-Security-Policy" content="')[1].split('"')[0]
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in html.unescape(policy)


def test_long_hostile_texts_fit_into_two_megabytes(tmp_path):
    tasks = [task_line(step, n, text="<" * 4_000, ok=n % 2 == 0) for step in range(4) for n in range(240)]
    for line in tasks:
        if line["task"]:
            line["task"]["program"] = "def f(x):\n" + "    x = '&' + x\n" * 2000 + "    return x"
            line["answers"] = [{"text": "<&" * 900, "score": 0.0, "reason": "wrong", "tokens": 1}] * 20
    text = report([made(tmp_path / "run", tasks=tasks)])
    assert 1_000_000 < len(text.encode()) <= MOST_BYTES
    page = Page(text)
    assert all(link[1:] in page.ids for link in page.links)  # rows that were left out are not linked to
    assert "960, drawn evenly" in page.text
    assert {row["data-step"] for row in page.rows} == {"0", "1", "2", "3"}


def test_gain_findings_cost_and_settings_are_those_of_the_files(tmp_path):
    run = made(tmp_path / "run", seed=7, learning_rate=0.001, command="azr-lite run --seed 7")
    page = Page(report([run]))
    row = compare_paired(items((5, 5, 5)), items((18, 12, 5)))["all"]
    said = f"from 25.0 % to 58.3 %: {100 * row['gain']:+.1f} [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}] points on 60"
    assert f"Held-out accuracy rose {said}" in page.text
    assert "+65.0 [+44.1, +85.9]" in page.text
    assert "propose/deduction/truncated" in page.text
    assert "grad_norm" not in page.text
    assert "4 of 4" in page.text
    assert "azr-lite run --seed 7" in page.text
    assert {name for name, *_ in RunFacts(open_run(run)).settings} == {"seed", "learning_rate"}
    assert RunFacts(open_run(run)).stages == {"generate": 4.0, "sandbox": 2.0, "update": 6.0, "rest": 0.0}
    assert "4.00 Wh" in page.text
    evaluation(run, items((5, 5, 5)), items((6, 5, 5)))
    assert "The interval holds 0: no gain is shown." in Page(report([run])).text
    evaluation(run, items((5, 5, 5)), items((0, 0, 5)))
    assert "Held-out accuracy fell" in Page(report([run])).text


def test_the_report_names_what_the_doctor_names(tmp_path):
    bugs = WHOLE.parents[1] / "bugs"
    text = Page(report([bugs / "sign-flip", bugs / "healthy"])).text
    found = Run(bugs / "sign-flip").diagnose().findings
    assert found
    for one in found:
        assert one.name in text
        assert one.cure in text
    assert text.count("The run doctor found nothing.") == 1
    other = made(tmp_path / "run")  # its rollouts are no whole ones
    for spoil in (lambda run: None, damage_rollouts):
        spoil(other)
        said = Page(report([other])).text
        assert "could not judge: the logs of the run are not in this azr_lite's form" in said
        assert str(tmp_path) not in said
    empty = made(tmp_path / "empty", steps=0)
    assert "No number is logged yet." in Page(report([empty])).text


def test_the_doctors_verdict_comes_first_and_single_numbers_are_folded_away():
    text = report([WHOLE])
    visible = Page(re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL)).text
    assert visible.index("The run doctor found nothing.") < visible.index("Held-out gain")
    assert "range" not in visible.split("Held-out gain")[0], "a healthy run does not read like a sick one"
    assert "12 in some step: a reason to look, no illness." in Page(text).text


def test_runs_that_were_asked_other_questions_share_no_chart(tmp_path):
    runs = [made(tmp_path / name) for name in "abc"]
    for run, digest in zip(runs, ("0d12", "0d12", "7e19"), strict=True):
        kept_whole(run, items((5, 5, 5)), items((18, 12, 5)), digest)

    def accuracy(paths):
        text = report(paths)
        figures = [figure for figure in text.split("<figure")[1:] if "<b>Held-out accuracy" in figure]
        return Page(text).text, [[name for name in "abc" if f"</svg> {name}</span>" in one] for one in figures]

    text, drawn = accuracy(runs[:2])
    assert drawn == [["a", "b"]]
    assert "same held-out questions" not in text
    text, drawn = accuracy(runs)
    assert drawn == [["a", "b"], ["c"]]
    assert "were not all asked the same held-out questions" in text
    assert "cannot be compared: a, b | c." in text


def test_the_same_questions_stand_side_by_side_before_and_after(tmp_path):
    run, other = made(tmp_path / "run"), made(tmp_path / "other")
    before, after = items((5, 5, 5)), items((18, 4, 5))
    said = [dataclasses.replace(item, prompt=f"<q{n}>", text=f" said {n}\n") for n, item in enumerate(after)]
    before = [dataclasses.replace(item, prompt=f"<q{n}>") for n, item in enumerate(before)]
    kept_whole(run, before, said)
    cards = [card.split("<h2")[0] for card in report([run]).split('class="card asked">')[1:]]
    found = [" ".join(re.sub("<[^>]*>", " ", card).split()) for card in cards]
    assert [card.partition(" before:")[0] for card in found] == [
        "1. deduction, newly right &lt;q5&gt;",
        "2. abduction, newly wrong &lt;q24&gt;",
        "3. induction, right both times &lt;q40&gt;",
    ]
    assert "before: wrong , 5 tokens a after step 4: right , 5 tokens said 5" in found[0]
    kept_whole(other, before, before)
    both = [card.split("<h2")[0] for card in report([run, other]).split('class="card asked">')[1:]]
    assert [one.count("<pre>") for one in both] == [5, 5, 5], "a question and two replies of each run"
    (run / "eval" / "step-4.jsonl").unlink()
    assert "before and after</h2>" not in report([run])


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    def refused(source, target):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(RunDirectoryError, match=r"choose another --output$"):
        module.write_report([WHOLE], tmp_path / "report.html")


def test_several_runs_are_compared_on_one_page(tmp_path):
    first, second = made(tmp_path / "a" / "run"), made(tmp_path / "b" / "run")
    evaluation(second, items((5, 5, 5)), items((20, 18, 10)))
    text = report([first, second])
    page = Page(text)
    assert not page.wrong
    assert "Comparison of 2 runs" in page.text
    assert "from 25.0 % to 58.3 %" in page.text
    assert "from 25.0 % to 80.0 %" in page.text
    (learning,) = (figure for figure in text.split("<figure")[1:] if "<b>Held-out accuracy" in figure)
    assert learning.count("<polyline") == 2
    assert "a/run" in learning
    assert "b/run" in learning
    assert "held-out questions is not recorded" in page.text
    assert {row["data-run"] for row in page.rows} == {"0", "1"}
    with pytest.raises(module.ConfigError, match="1 to 8"):
        report([first] * 9)


def test_samples_and_runs_in_progress_are_reported_with_what_they_have(tmp_path):
    sample = Path(__file__).parents[1] / "data_samples" / "runs" / "ablations" / "self-play-seed200"
    page = Page(report([sample]))
    assert "points on 900 held-out problems" in page.text
    assert "run.json, timing.jsonl, tasks.jsonl missing: only a sample of the run was kept" in page.text
    run = made(tmp_path / "run")
    for name in ("summary.json", "timing.jsonl"):
        (run / name).unlink()
    with (run / "tasks.jsonl").open("a") as file:
        file.write('{"answers": [], "det')
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step"')
    page = Page(report([run]))
    assert "there is no held-out gain to report" in page.text
    assert "not ended: still running, or killed" in page.text
    assert len(page.rows) == 30


def damage_version(run):
    write_json(run / "run.json", {"version": 99})


def damage_line(run):
    lines = (run / "tasks.jsonl").read_text().splitlines(keepends=True)
    (run / "tasks.jsonl").write_text("".join([*lines[:2], lines[2][:30] + "\n", *lines[3:]]))


def damage_form(run):
    (run / "tasks.jsonl").write_text('{"step": 0, "text": "x"}\n')


def damage_rollouts(run):
    (run / "rollouts.jsonl").write_text('{"step": 0, "text": "x"}\n')


def damage_info(run):
    write_json(run / "run.json", {"version": 1, "environment": ["odd"]})


def damage_config(run):
    (run / "config.json").write_text("[]")


def damage_whole(run):
    shutil.rmtree(run)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_version, "format 99"),
        (damage_line, "damaged at byte"),
        (damage_form, "not in this azr_lite's form"),
        (damage_info, "not in this azr_lite's form"),
        (damage_config, "no JSON object"),
        (damage_whole, "there is no run at"),
    ],
)
def test_what_is_damaged_or_foreign_is_one_sentence(tmp_path, capsys, damage, words):
    run = made(tmp_path / "run")
    damage(run)
    assert main(["report", str(run), "--output", str(tmp_path / "x.html")]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "x.html").exists()


def test_a_damaged_evaluation_is_left_out_of_the_chart(tmp_path):
    run = made(tmp_path / "run")
    (run / "eval" / "step-4.json").write_text('{"version": 1, ')
    text = report([run])
    assert "from 25.0 % to 58.3 %" in text
    assert str(tmp_path) not in text


def test_the_hardest_proposals_that_were_solved_are_worth_reading(tmp_path):
    tasks = [task_line(step, n) for step in range(4) for n in range(6)]
    for n, line in enumerate(tasks):
        line["solve_rate"] = [0.0, 0.5, 1.0, 0.125][n % 4]
    found = Proposals(RunFacts(open_run(made(tmp_path / "run", tasks=tasks))), 0, 100).worth_reading(3)
    assert [row.line["solve_rate"] for row in found] == [0.125] * 3


def test_the_command_writes_the_page_and_overwrites_only_reports(tmp_path, capsys):
    run = made(tmp_path / "run")
    for _ in range(2):
        assert main(["report", str(run)]) == 0
        assert capsys.readouterr().out.strip() == str(run / "report.html")
    before = (run / "metrics.jsonl").read_bytes()
    assert main(["report", str(run), "--output", str(run / "metrics.jsonl")]) == 1
    assert "is not a report" in capsys.readouterr().err
    assert (run / "metrics.jsonl").read_bytes() == before
    assert main(["report"]) == 1
    assert "needs a run directory" in capsys.readouterr().err
    assert main(["report", str(run), str(run), "--output", str(tmp_path / "new" / "two.html")]) == 0
    assert (tmp_path / "new" / "two.html").stat().st_size > 1000
    (run / "summary.json").write_text("{}")
    (run / "metrics.jsonl").write_bytes(before + b'{"st')
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().err.count("ends in the middle of a line") == 1, "a warning is said once"


def test_memory_does_not_grow_with_the_log(tmp_path):
    def peak(count):
        tasks = [task_line(step, n, text="x" * 400) for step in range(4) for n in range(count // 4)]
        facts = RunFacts(open_run(made(tmp_path / str(count), tasks=tasks)))
        del tasks
        tracemalloc.start()
        found = Proposals(facts, 0, 100)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found.count, size

    (few, small), (many, large) = peak(600), peak(4800)
    assert (few, many) == (600, 4800)
    assert large < small + 500_000  # a line of the log is about 1 kB


def test_curves_keep_their_mean_and_charts_say_their_numbers():
    curve = Curve()
    for n in range(5000):
        curve.add(n, n % 7)
    curve.add(5000, float("nan"))
    points = curve.points
    assert POINTS / 3 < len(points) <= POINTS
    assert curve.total == sum(n % 7 for n in range(5000))
    assert (curve.count, curve.highest, curve.highest_at) == (5001, 6, 6)
    assert (curve.not_finite.count, curve.not_finite.first) == (1, 5000)
    assert [p.x for p in points] == sorted(p.x for p in points)
    drawn = chart("<Accuracy>", "right, %", {"a<b": [Point(0, 0.25, 0.2, 0.3), Point(10, 0.75)]}, percent=True)
    assert drawn.count("<polyline") == 1
    assert "&lt;Accuracy&gt;" in drawn
    assert "a&lt;b" in drawn
    assert 'points="56.0,127.0 446.0,49.0"' in drawn  # a quarter and three quarters of the height
    assert chart("nothing", "x", {"a": []}) == ""
    assert chart("no number", "x", {"a": [Point(0, float("nan"))]}) == ""
    assert "<polyline" in chart("one point, no span", "x", {"a": [Point(3, 0.0)]})


def test_the_notebooks_browser_shows_itself_without_rights_on_the_notebook(recorded):
    found = Run(recorded).tasks()
    shown = found._repr_html_()
    outer = Page(shown)
    assert outer.tags == {"iframe"}
    assert 'sandbox="allow-scripts"' in shown
    assert html.unescape(shown.split('srcdoc="')[1].split('"')[0]) == found.page
    assert 100 < len(Page(found.page).rows) <= 260


# -------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser():
    try:
        with pictures.browser() as opened:
            yield opened
    except pictures.LeftOutError as why:
        pytest.skip(str(why))


def visible(browser):
    return browser.execute_script(
        "return [...document.querySelectorAll('#proposals > details')].filter(r => !r.hidden).map(r => [r.dataset.type, r.dataset.verdict, +r.dataset.step])"
    )


def choose(browser, name, value):
    browser.execute_script(
        "const e = document.querySelector(`#filters [name=${arguments[0]}]`); e.value = arguments[1]; e.dispatchEvent(new Event('input', {bubbles: true}))",
        name,
        value,
    )


def test_filters_and_links_work_in_chromium(browser, recorded, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(report([recorded]), encoding="utf-8")
    browser.get(file.as_uri())
    everything = visible(browser)
    assert len(everything) > 50
    browser.find_element("css selector", "#filters [name=verdict] option:nth-child(3)").click()
    assert visible(browser) == [row for row in everything if row[1] == "rejected"] != []
    choose(browser, "verdict", "")
    choose(browser, "from", "1")
    assert visible(browser) == [row for row in everything if row[2] >= 1] != everything
    choose(browser, "type", "abduction")
    assert visible(browser) == [row for row in everything if row[2] >= 1 and row[0] == "abduction"]
    link = next(a for a in browser.find_elements("css selector", ".card .body a[href^='#p']"))
    target = link.get_attribute("href").split("#")[1]
    link.click()
    row = browser.find_element("id", target)
    assert row.get_attribute("open")
    assert row.is_displayed()
    assert visible(browser) == everything or not row.get_attribute("hidden")
    browser.find_element("css selector", "nav a[href='#cost']").click()
    assert abs(browser.execute_script("return document.getElementById('cost').getBoundingClientRect().top")) < 500
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


REQUESTS = "return performance.getEntriesByType('resource').map(entry => entry.name)"


def test_the_page_asks_the_network_for_nothing(browser, tmp_path):
    """The page as it is asks for nothing; were a request written into it, its policy would stop it before it is made."""
    text = report([hostile_run(tmp_path / "run")])
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    browser.get((tmp_path / "report.html").as_uri())
    assert browser.execute_script(REQUESTS) == []
    inside = "<img src='http://127.0.0.1:9/picture'><link rel=stylesheet href='http://127.0.0.1:9/style'>"
    asking = text.replace("</body>", inside + "</body>")
    browser.get_log("browser")
    (tmp_path / "asking.html").write_text(asking, encoding="utf-8")
    browser.get((tmp_path / "asking.html").as_uri())
    refused = [
        entry["message"] for entry in browser.get_log("browser") if "Content Security Policy" in entry["message"]
    ]
    assert any("picture" in message for message in refused)
    assert any("style" in message for message in refused)


def test_links_work_in_the_notebooks_frame_and_the_page_is_narrow_enough(browser, recorded, tmp_path):
    (tmp_path / "cell.html").write_text(
        f"<!doctype html><meta charset=utf-8><body>{Run(recorded).tasks()._repr_html_()}", encoding="utf-8"
    )
    browser.get((tmp_path / "cell.html").as_uri())
    browser.switch_to.frame(0)
    choose(browser, "verdict", "valid")
    link = browser.find_element("css selector", "#proposals .body a[href^='#p']")
    target = link.get_attribute("href").split("#")[1]
    browser.execute_script("arguments[0].closest('details').open = true", link)
    link.click()
    assert browser.find_element("id", target).get_attribute("open")
    assert (
        browser.execute_script("return location.href.split('#')[0]") == "about:srcdoc"
    )  # the frame has not gone elsewhere
    browser.switch_to.default_content()
    browser.set_window_size(600, 900)
    (tmp_path / "report.html").write_text(report([WHOLE]), encoding="utf-8")
    browser.get((tmp_path / "report.html").as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    tallest = "return Math.max(...[...document.querySelectorAll('.scroll tr')].map(row => row.getBoundingClientRect().height))"
    assert browser.execute_script(tallest) < 120  # tables scroll sideways; no column is squeezed into a tower of words
    browser.set_window_size(1200, 900)


WIDE = """return [...document.querySelectorAll('body *')].filter(e => !e.closest('pre') && e.checkVisibility()
  && e.getBoundingClientRect().right > window.innerWidth).map(e => e.outerHTML.slice(0, 80))"""
SMALL = """return Math.min(...[...document.querySelectorAll('svg text')].map(e => e.getBoundingClientRect().height))"""


def test_everything_is_seen_and_read_on_a_phone(browser, tmp_path):
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    sick = WHOLE.parents[1] / "bugs" / "sign-flip"
    for name, runs in (
        ("one", [WHOLE]),
        ("two", [WHOLE, sick, made(tmp_path / "a-run-with-a-name-as-long-as-they-get")]),
    ):
        (tmp_path / f"{name}.html").write_text(report(runs), encoding="utf-8")
        browser.get((tmp_path / f"{name}.html").as_uri())
        assert browser.execute_script("return window.innerWidth") == 390
        browser.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert browser.execute_script(WIDE) == []
        assert browser.execute_script(SMALL) >= 12
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_hostile_replies_run_nothing_in_chromium(browser, tmp_path):
    run = hostile_run(tmp_path / "run")
    shown = f"<!doctype html><meta charset=utf-8><body>{Run(run).tasks()._repr_html_()}"
    for name, text in (("report", report([run])), ("notebook", shown)):
        (tmp_path / f"{name}.html").write_text(text, encoding="utf-8")
        browser.get((tmp_path / f"{name}.html").as_uri())
        assert browser.execute_script("return window.hacked") is None
        if name == "notebook":
            browser.switch_to.frame(0)
            assert browser.execute_script("return window.hacked") is None
        assert len(visible(browser)) == 25
        choose(browser, "verdict", "rejected")
        assert len(visible(browser)) == 4
    browser.switch_to.default_content()
