"""The recorded whole run (data_samples/runs/whole): every viewer works on it, and at every moment of its being written."""

import json
import shutil
from pathlib import Path

import pytest

from azr_lite.cli import main
from azr_lite.course.recorded_runs import DETAILS, keep_sample
from azr_lite.errors import AzrError
from azr_lite.observe.run import Run
from azr_lite.rundir import LOGS, RunDir

SAMPLES = Path(__file__).parents[1] / "data_samples"
WHOLE = SAMPLES / "runs" / "whole" / "nano-small"
VIEWERS = {
    "show": ["show"],
    "worst": ["show", "--worst", "2"],
    "watch": ["watch"],
    "report": ["report", "--output", "PAGE"],
    "doctor": ["doctor"],
    "analyse": ["analyse"],
    "replay": ["replay"],
    "rescore": ["replay", "--rescore", "estimator=global", "zero_learnability=upstream"],
    "browse": ["browse"],
}


def seen(viewer, run, tmp_path, capsys):
    """Exit status, what was printed, and the error."""
    if viewer == "browse":
        try:
            return 0, Run(run).tasks()._repr_html_(), ""
        except AzrError as error:
            return 1, "", f"azr-lite: {error}\n"
    verb, *words = VIEWERS[viewer]
    status = main([verb, str(run), *(str(tmp_path / "page.html") if word == "PAGE" else word for word in words)])
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.mark.parametrize("viewer", VIEWERS)
def test_every_viewer_shows_the_whole_run(viewer, tmp_path, capsys):
    status, out, err = seen(viewer, WHOLE, tmp_path, capsys)
    assert (status, err) == (0, "")
    assert len(out) > 60
    if viewer == "watch":
        assert "14/14 steps" in out
        assert "finished" in out
    if viewer == "report":
        assert "Held-out accuracy rose" in (tmp_path / "page.html").read_text(encoding="utf-8")
    if viewer not in ("browse", "report"):
        assert max(len(line) for line in out.splitlines() if str(WHOLE) not in line) <= 80


def test_it_learned_and_was_kept_whole():
    run = RunDir.open(WHOLE)
    summary = run.summary()
    assert summary["finished"]
    assert summary["gain"]["all"]["low"] > 0
    steps = {name: [line["step"] for line in run.read(name)] for name in LOGS}
    assert all(sorted({step for step in own if step >= 0}) == list(range(summary["steps"])) for own in steps.values())
    assert {path.name for path in (WHOLE / "eval").iterdir()} == {
        "before.json",
        "before.jsonl",
        "step-14.json",
        "step-14.jsonl",
    }


@pytest.mark.parametrize("step", [0, 7, 13])
def test_its_steps_are_replayed_exactly(step, executor):
    found = Run(WHOLE).replay(step, executor=executor)
    assert found.exact, found.differences[:3]
    assert found.compared["advantage"] == sum(
        line["step"] == step for line in RunDir.open(WHOLE).read("rollouts.jsonl")
    )


def test_a_sample_keeps_what_curves_and_the_doctor_read(tmp_path):
    keep_sample(RunDir.open(WHOLE), tmp_path, rollouts=20)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "summary.json",
        "metrics.jsonl",
        "rollouts.jsonl",
    }
    whole, kept = RunDir.open(WHOLE).metrics(), RunDir(tmp_path).metrics()
    assert [line["solve/deduction/ok"] for line in kept] == pytest.approx(
        [line["solve/deduction/ok"] for line in whole], rel=1e-5
    )
    gone = whole[-1].keys() - kept[-1].keys()
    assert {"propose/deduction/part/learnability", "solve/deduction/tokens_right", "buffer/deduction/age"} <= gone
    assert {name.split("/")[2] for name in gone} <= DETAILS
    assert len(list(RunDir(tmp_path).read("rollouts.jsonl"))) == 20
    assert Run(tmp_path).diagnose().findings == Run(WHOLE).diagnose().findings == []
    assert json.loads((tmp_path / "config.json").read_text())["output_dir"] == WHOLE.name


def test_the_samples_are_small_and_name_no_folder_of_the_machine_they_come_from():
    files = [path for path in SAMPLES.rglob("*") if path.is_file()]
    packed, kept = (
        sum(path.stat().st_size for path in files if path.is_relative_to(SAMPLES / "runs") and ok(path.name))
        for ok in (lambda name: name.startswith("qwen05"), lambda name: not name.startswith("qwen05"))
    )
    assert kept <= 3_000_000
    assert packed <= 4_000_000
    for path in files:
        if path.suffix in (".json", ".jsonl", ".md"):
            text = path.read_text(encoding="utf-8")
            assert not [place for place in ("/tmp/", "/home/", "/root/", "/work/") if place in text], path


# -------------------------------------------------------------------- a run in progress


def until(run, step):
    RunDir.open(run).rewind(step)
    (run / "summary.json").unlink()
    (run / "eval" / "step-14.json").unlink(missing_ok=True)
    (run / "eval" / "step-14.jsonl").unlink(missing_ok=True)


def half(run, name, step):
    """Half of the step's lines, the last of them cut."""
    lines = [
        line
        for line in (WHOLE / name).read_text(encoding="utf-8").splitlines(keepends=True)
        if json.loads(line)["step"] == step
    ]
    with (run / name).open("a", encoding="utf-8") as file:
        file.write("".join(lines[: len(lines) // 2]) + lines[len(lines) // 2][:40])


def started(run):
    for name in (*LOGS, "summary.json"):
        (run / name).unlink()
    shutil.rmtree(run / "eval")


def seeded(run):
    until(run, 0)
    for name in ("metrics.jsonl", "timing.jsonl", "rollouts.jsonl"):
        (run / name).unlink()


def in_its_first_step(run):
    seeded(run)
    half(run, "tasks.jsonl", 0)
    half(run, "rollouts.jsonl", 0)


def in_its_third_step(run):
    until(run, 2)
    half(run, "tasks.jsonl", 2)
    half(run, "rollouts.jsonl", 2)


def at_the_end_of_a_step(run):
    until(run, 3)
    for name in ("metrics.jsonl", "timing.jsonl"):
        text = (run / name).read_text(encoding="utf-8")
        (run / name).write_text(text[:-25], encoding="utf-8")


def evaluating(run):
    until(run, 14)
    shutil.copy(WHOLE / "eval" / "step-14.jsonl", run / "eval")


EARLY = (started, seeded, in_its_first_step)
MOMENTS = (*EARLY, in_its_third_step, at_the_end_of_a_step, evaluating)


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
def test_a_run_in_progress_is_shown_or_one_sentence_says_what_to_wait_for(moment, tmp_path, capsys):
    shutil.copytree(WHOLE, tmp_path / "run")
    moment(tmp_path / "run")
    for viewer in VIEWERS:
        status, out, err = seen(viewer, tmp_path / "run", tmp_path, capsys)
        if err:
            assert moment in EARLY, (viewer, err)
            assert status == 1, viewer
            assert err.startswith("azr-lite: "), err
            assert err.count("\n") == 1, err
            assert "first step" in err or "no whole line" in err or "no whole step" in err, err
            assert viewer not in ("watch", "report", "browse"), err
        else:
            assert status == 0, (
                viewer,
                out,
            )  # the doctor calls no half-written step an illness, the replay no difference


def test_a_half_written_step_is_not_called_different(tmp_path, capsys):
    shutil.copytree(WHOLE, tmp_path / "run")
    in_its_third_step(tmp_path / "run")
    assert main(["replay", str(tmp_path / "run"), "--step", "2"]) == 1
    said = capsys.readouterr()
    assert "step 2" in said.err
    assert "is not whole" in said.err
    assert said.out == ""
