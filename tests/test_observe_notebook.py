"""The notebook's side: the dashboard follows a run and ends, and proposals are browsed; both leave outputs that need no kernel."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from azr_lite.errors import ConfigError, RunDirectoryError
from azr_lite.metrics import STAGES
from azr_lite.observe import style
from azr_lite.observe.dashboard import PANELS, description, draw
from azr_lite.observe.reader import POINTS, Followed, Point, open_run
from azr_lite.observe.report import chart
from azr_lite.observe.run import Run

module = import_module("azr_lite.observe.dashboard")
SAMPLE = Path(__file__).parents[1] / "data_samples" / "runs" / "bugs" / "healthy"
ROOT = Path(__file__).parents[1]


class Notebook:
    """Stands for the kernel's display: what was shown, and how often it was renewed."""

    def __init__(self, monkeypatch):
        self.shown, self.renewed, self.about = [], [], []
        monkeypatch.setattr(module, "in_notebook", lambda: True)
        monkeypatch.setattr("IPython.display.display", self.display)

    def display(self, data, metadata, raw, display_id):
        assert (raw, display_id) == (True, True)
        self.shown.append(data)
        self.about.append(metadata)
        return self

    def update(self, data, metadata, raw):
        assert raw
        self.renewed.append(data)


# -------------------------------------------------------------------- dashboard


def test_outside_of_a_notebook_it_draws_once_and_returns_the_figure(run):
    made = Run(run).dashboard()
    titles = [axis.get_title(loc="left") for axis in made.axes]
    assert len(titles) == len(PANELS)
    assert "run: 3 of 3 steps, finished" in [text.get_text() for text in made.texts]
    assert all(axis.get_ylabel() for axis in made.axes)
    assert all(any(char.isdigit() for char in title) or "not logged" in title for title in titles)
    lines = [line.get_label() for line in made.axes[1].get_lines()]
    assert lines == ["deduction", "abduction", "induction"]


def test_in_a_notebook_an_ended_run_leaves_one_picture_with_words(run, monkeypatch):
    notebook = Notebook(monkeypatch)
    assert Run(run).dashboard() is None
    (data,) = notebook.shown
    assert data["image/png"].startswith("iVBOR")
    assert len(data["image/png"]) < 250_000  # a stored notebook has room for 400 kB
    assert data["text/plain"].startswith("run: 3 of 3 steps, finished; Held-out accuracy")
    assert notebook.about[0]["image/png"]["alt"] == data["text/plain"]
    assert notebook.renewed == []


def test_it_follows_a_run_that_grows_renews_one_picture_and_ends_with_the_run(open_ended, monkeypatch):
    run, rest = open_ended
    notebook, looks = Notebook(monkeypatch), []

    def wait(seconds):
        assert seconds >= 0.5
        looks.append(len(notebook.renewed))
        if len(looks) == 1:  # half a line is no step
            with (run / "metrics.jsonl").open("a") as file:
                file.write(rest["metrics.jsonl"][:100])
        elif len(looks) == 2:
            assert notebook.renewed == []  # nothing new: not drawn again
            with (run / "metrics.jsonl").open("a") as file:
                file.write(rest["metrics.jsonl"][100:])
            with (run / "timing.jsonl").open("a") as file:
                file.write(rest["timing.jsonl"])
        elif len(looks) == 3:
            (run / "summary.json").write_text(rest["summary.json"])
        else:
            pytest.fail("followed beyond the end")

    monkeypatch.setattr(module.time, "sleep", wait)
    Run(run).dashboard(refresh_s=0.5)
    assert len(notebook.shown) == 1
    texts = [notebook.shown[0]["text/plain"], *(data["text/plain"] for data in notebook.renewed)]
    assert [text.split(";")[0].split(",")[0] for text in texts] == [
        "run: 2 of 3 steps",
        "run: 3 of 3 steps",
        "run: 3 of 3 steps",
    ]
    assert ", running, " in texts[0]
    assert " left" in texts[0]
    assert "finished" in texts[-1]


def test_an_interrupt_leaves_the_last_picture_and_no_traceback(open_ended, monkeypatch):
    notebook = Notebook(monkeypatch)

    def stop(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.time, "sleep", stop)
    assert Run(open_ended[0]).dashboard() is None
    assert len(notebook.shown) == 1


def test_a_killed_run_is_said_and_ends_the_following(open_ended, monkeypatch):
    run, _ = open_ended
    notebook = Notebook(monkeypatch)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: pytest.fail("waited for a run that is long dead"))
    for path in (*run.iterdir(), run):
        os.utime(path, (time.time() - 7200,) * 2)
    Run(run).dashboard()
    assert "nothing written for 2h00m: killed or asleep, no longer followed" in notebook.shown[0]["text/plain"]


def test_a_run_before_its_first_step_is_drawn(open_ended):
    run, _ = open_ended
    for name in ("metrics.jsonl", "timing.jsonl"):
        (run / name).unlink()
    view = Followed(open_run(run))
    assert draw(view).axes[1].get_title(loc="left") == "Solve rate of new tasks: nothing logged yet"
    assert "0 of 3 steps, starting" in description(view)


@pytest.mark.parametrize(
    ("first", "last", "percent", "said"),
    [
        (44, 73.6, " %", "44 → 74 %"),
        (50, 50.1, " %", "50 %"),
        (0.13, 0.2, "", "0.13 → 0.2"),
        (90.0, 1234.5, "", "90 → 1,234"),
    ],
)
def test_a_title_says_from_where_to_where(first, last, percent, said):
    assert module._change(first, last, percent) == said


def test_a_kept_sample_is_drawn_with_what_it_has():
    made = Run(SAMPLE).dashboard()
    titles = [axis.get_title(loc="left") for axis in made.axes]
    points = json.loads((SAMPLE / "summary.json").read_text())["curves"]["held-out accuracy"]
    assert titles[0] == f"Held-out accuracy: {100 * points[0][1]:.0f} → {100 * points[-1][1]:.0f} %"
    assert "Time of a step: not logged" in titles
    flat = next(line for line in made.axes[0].get_lines() if line.get_label() == "no update")
    assert flat.get_ydata()[0] == pytest.approx(100 * points[0][1])  # the level of no update is the first evaluation


def test_intervals_are_those_of_the_evaluations(run):
    for name, accuracy in (("before", 0.4), ("step-3", 0.6)):
        score = {"accuracy": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.05}
        (run / "eval").mkdir(exist_ok=True)
        (run / "eval" / f"{name}.json").write_text(json.dumps({"scores": {"all": score, "deduction": score}}))
    made = Run(run).dashboard()
    assert made.axes[0].get_title(loc="left") == "Held-out accuracy: 40 → 60 % [50, 65]"
    (band,) = made.axes[0].collections
    assert {round(y) for _, y in band.get_paths()[0].vertices} == {30, 45, 50, 65}


def test_a_mean_over_types_and_a_line_of_a_type_are_the_logged_ones(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    view = Followed(open_run(run))
    by_title = {panel.title: panel.points(view) for panel in PANELS}
    wanted = [line["propose/induction/solve_rate"] for line in lines if "propose/induction/solve_rate" in line]
    assert [p.y for p in by_title["Solve rate of new tasks"]["induction"]] == pytest.approx(wanted)
    means = [
        sum(line[f"solve/{name}/reward"] for name in ("deduction", "abduction", "induction")) / 3 for line in lines
    ]
    assert [p.y for p in by_title["Reward"]["solve"]] == pytest.approx(means)
    assert [p.x for p in by_title["Reward"]["solve"]] == [1, 2, 3]


def test_a_long_run_and_a_log_cut_back_keep_a_bounded_and_right_past(run):
    line = {"step": 0, "entropy": 1.0}
    (run / "metrics.jsonl").write_text("".join(json.dumps({**line, "step": step}) + "\n" for step in range(3000)))
    view = Followed(open_run(run))
    (curve,) = next(p for p in PANELS if p.title == "Entropy").points(view).values()
    assert len(curve) <= POINTS
    (run / "metrics.jsonl").write_text(json.dumps({**line, "entropy": 0.5}) + "\n")
    (run / "timing.jsonl").write_text("")
    view.look()
    (curve,) = next(p for p in PANELS if p.title == "Entropy").points(view).values()
    assert [(p.x, p.y) for p in curve] == [(1, 0.5)]
    assert not view.curves.keys() & set(STAGES)


def test_what_cannot_be_drawn_is_one_sentence(run, tmp_path):
    def said(error, path, **options):
        with pytest.raises(error) as caught:
            Run(path).dashboard(**options)
        assert len(str(caught.value).splitlines()) == 1
        return str(caught.value)

    assert "there is no run" in said(RunDirectoryError, tmp_path / "nowhere")
    assert "more than 0" in said(ConfigError, run, refresh_s=0)
    whole = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text("{broken\n" + whole)
    assert "damaged at byte 0" in said(RunDirectoryError, run)
    (run / "metrics.jsonl").write_text(whole)
    (run / "run.json").write_text('{"version": 99}')
    assert "format 99" in said(RunDirectoryError, run)
    for name in ("run.json", "metrics.jsonl"):
        (run / name).unlink()
    assert "run.json is missing" in said(RunDirectoryError, run)


def test_a_run_that_vanishes_is_one_sentence(open_ended, monkeypatch):
    Notebook(monkeypatch)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: shutil.rmtree(open_ended[0]))
    with pytest.raises(RunDirectoryError, match="is gone"):
        Run(open_ended[0]).dashboard()


# -------------------------------------------------------------------- style


def test_looks_differ_and_the_same_name_looks_the_same_in_every_chart():
    types = [style.look(name) for name in ("deduction", "abduction", "induction")]
    assert (
        len({look.colour for look in types})
        == len({look.marker for look in types})
        == len({look.dash for look in types})
        == 3
    )
    runs = [style.look(f"run {place}", place) for place in range(8)]
    assert len(set(runs)) == 8
    svg = chart("title", "y", {"other": [Point(0, 1), Point(1, 2)], "induction": [Point(0, 1), Point(1, 2)]})
    assert f'stroke="{style.GREEN}" stroke-width="1.8" stroke-dasharray="6.0 2.0 1.5 2.0"' in svg
    _, (axis,) = style.figure()
    style.line(axis, "induction", [0, 1], [1, 2], place=1)
    assert axis.get_lines()[0].get_color() == style.GREEN


def test_the_small_png_keeps_the_colours(run):
    from PIL import Image

    view = Followed(open_run(run))
    picture = Image.open(io.BytesIO(style.png(draw(view)))).convert("RGB")
    assert picture.size == (2500, 1480)
    found = np.array([colour for _, colour in picture.getcolors(1 << 24)])
    for wanted in (style.BLUE, style.VERMILLION, style.GREEN, style.ORANGE, style.SKY, style.PURPLE, style.GREY):
        exact = np.array([int(wanted[i : i + 2], 16) for i in (1, 3, 5)])
        assert np.abs(found - exact).max(axis=1).min() <= 4, wanted


def test_importing_observe_loads_neither_matplotlib_nor_widgets():
    code = "import sys, azr_lite.observe.run; print([m for m in ('matplotlib', 'ipywidgets', 'IPython', 'torch') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_without_matplotlib_one_sentence_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"azr-lite\[notebooks\]"):
        Run(run).dashboard()


# -------------------------------------------------------------------- a notebook


def test_a_notebook_runs_through_and_keeps_picture_and_table(recorded, tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    cells = [
        "from azr_lite.observe.run import Run",
        f"Run({str(recorded)!r}).dashboard()",
        f"Run({str(recorded)!r}).tasks()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path)}
    client = nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", store_widget_state=False)
    client.execute(env=environment, cwd=str(tmp_path))
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    kinds = [sorted(output["data"]) for output in outputs if output["output_type"] == "display_data"]
    assert kinds == [["text/html", "text/plain"]]
    assert [output["output_type"] for output in outputs] == ["display_data", "execute_result"]
    assert "<iframe sandbox" in outputs[-1]["data"]["text/html"]  # no traceback, no second picture
    assert len(nbformat.writes(notebook)) < 400_000


def test_long_numbers_push_no_label_out_of_the_picture_or_into_the_next_panel(run):
    with (run / "metrics.jsonl").open() as log:
        lines = [json.loads(line) for line in log]
    for line in lines:
        line |= {key: 160_000.0 for key in line if key.endswith("/tokens")}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = Run(run).dashboard()
    made.canvas.draw()
    for place, axis in enumerate(made.axes):
        left = axis.yaxis.label.get_window_extent().x0
        assert left > (made.axes[place - 1].bbox.x1 if place % 3 else 0), axis.get_title(loc="left")


def test_titles_stay_over_their_panels():
    """A run of two types names both ends of both where that fits; it once ran into the next panel's title."""
    whole = ROOT / "data_samples" / "runs" / "whole" / "nano-small"
    titles = [axis.get_title(loc="left") for axis in Run(whole).dashboard().axes]
    assert len(titles) == 9
    assert max(map(len, titles)) <= 50
    assert "Solve rate of new tasks: mean 81 → 77 %" in titles
