"""Long runs of the nano model: saved and stopped by the clock, stopped when it gets worse, gone on after anything."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

import azr_lite
import azr_lite.loop
from azr_lite.cli import main
from azr_lite.config import Config
from azr_lite.course.bugs import bug
from azr_lite.errors import ConfigError, RunDirectoryError
from azr_lite.progress import Reporter
from azr_lite.train.callbacks import Budget, Schedule
from azr_lite.train.checkpoints import last_whole_checkpoint
from tests.test_loop import SMALL, lines, wait_for
from tests.warm import Child

LONG = {**SMALL, "steps": 4, "save_every": 0, "save_minutes": 0.0, "keep_checkpoints": 9, "self_test": False}
BYTES = (
    "metrics.jsonl",
    "rollouts.jsonl",
    "tasks.jsonl",
    "eval/step-4.jsonl",
    "checkpoint-8/model.safetensors",
    "checkpoint-8/selfplay.json",
)


def play(path: Path, **changes):
    return azr_lite.run("nano", output_dir=str(path), **{**LONG, **changes})


def same(path: Path, other: Path) -> bool:
    return all((path / name).read_bytes() == (other / name).read_bytes() for name in BYTES)


def checkpoints(path: Path) -> list[int]:
    return sorted(int(p.name.split("-")[1]) for p in path.glob("checkpoint-*"))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return play(tmp_path_factory.mktemp("long") / "unbroken").path


def test_saving_by_the_clock_changes_nothing_that_is_learned(unbroken, tmp_path):
    assert checkpoints(unbroken) == [8]
    often = play(tmp_path / "often", save_minutes=1e-6).path
    assert len(checkpoints(often)) > 1
    assert all(updates % 2 == 0 for updates in checkpoints(often)), "between self-play steps only"
    assert same(often, unbroken)


def turned_clock(monkeypatch, seconds_a_look: float) -> None:
    """Each look at the session's clock finds it later."""
    now = [0.0]

    def clock() -> float:
        now[0] += seconds_a_look
        return now[0]

    monkeypatch.setattr("azr_lite.train.callbacks.Budget", lambda minutes, hours: Budget(minutes, hours, clock=clock))


def test_max_hours_stops_saved_and_the_run_goes_on_to_the_same_end(unbroken, tmp_path, monkeypatch, capsys):
    path = tmp_path / "limited"
    with monkeypatch.context() as patch:
        turned_clock(patch, 360)
        summary = play(path, max_hours=0.8).summary
    assert 0 < summary["steps"] < 4
    assert not summary["finished"]
    assert summary["stopped"] == {"rule": "max_hours", "max_hours": 0.8}
    printed = " ".join(capsys.readouterr().out.split())
    assert "one more would pass max_hours=0.8" in printed
    assert f"azr-lite resume {path}" in printed
    assert checkpoints(path) == [2 * summary["steps"]]
    done = summary["steps"]
    assert main(["resume", str(path), "--max-hours", "0", "--save-every", "1"]) == 0
    assert f"going on from step {done} of 4 (checkpoint-{2 * done})" in capsys.readouterr().out
    summary = json.loads((path / "summary.json").read_text())
    assert summary["finished"]
    assert "stopped" not in summary
    assert len(checkpoints(path)) > 2, "the new save_every counts, not the one in the checkpoint"
    assert same(path, unbroken)


def test_what_a_resumed_run_may_change(unbroken, tmp_path):
    path = tmp_path / "changed"
    shutil.copytree(unbroken, path)
    with pytest.raises(ConfigError, match="learning_rate, temperature cannot change"):
        azr_lite.resume(path, learning_rate=1.0, temperature=0.5, max_hours=1.0)
    with pytest.raises(ConfigError, match="did you mean 'max_hours'"):
        azr_lite.resume(path, max_hour=1.0)
    summary = azr_lite.resume(
        path, steps=5, micro_batch_size=2, save_minutes=1.0, eval_every=5, workers=2, generation_chunk=8
    ).summary
    assert summary["steps"] == 5
    assert summary["finished"]
    assert [line["step"] for line in lines(path, "metrics.jsonl")] == [0, 1, 2, 3, 4]


@pytest.fixture
def scripted_evaluations(monkeypatch):
    """Every evaluation gets the accuracy that the test wrote down for its step, on real items."""
    script: dict[str, float] = {}
    honest = azr_lite.loop._Session._evaluate

    def scripted(self, name):
        answer = azr_lite.loop.answer

        def fake(*given):
            items = answer(*given)
            return [replace(item, right=i < script[name] * len(items)) for i, item in enumerate(items)]

        with monkeypatch.context() as patch:
            patch.setattr(azr_lite.loop, "answer", fake)
            return honest(self, name)

    monkeypatch.setattr(azr_lite.loop._Session, "_evaluate", scripted)
    return script


def test_the_stop_rule_keeps_the_best_checkpoint_and_outlives_a_resume(scripted_evaluations, tmp_path, capsys):
    script, path = scripted_evaluations, tmp_path / "worse"
    script |= {"before": 0.5, "step-1": 0.9, "step-2": 0.2, "step-3": 0.3, "step-4": 0.2, "step-5": 0.2}
    rule = {"steps": 5, "eval_every": 1, "stop_patience": 2, "keep_checkpoints": 1}
    script.pop("step-3")
    with pytest.raises(KeyError, match="step-3"):  # the session dies in the evaluation after step 3
        play(path, **rule, save_every=1)
    script["step-3"] = 0.3
    assert checkpoints(path) == [2, 4], "the best and the newest"
    summary = azr_lite.resume(path).summary
    assert summary["steps"] == 3, "the falls before and after the resume are in a row"
    assert not summary["finished"]
    best = {"best_step": 1, "best_accuracy": 17 / 18, "best_checkpoint": "checkpoint-2"}
    assert summary["stopped"] == {"rule": "stop_patience", "patience": 2, **best}
    assert summary["best"]["checkpoint"] == "checkpoint-2"
    assert checkpoints(path) == [2, 6]
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "2 held-out evaluations in a row are significantly below the best (0.333 now, 0.944 at step 1, kept as checkpoint-2)"
        in printed
    )
    again = azr_lite.resume(path).summary
    assert (again["steps"], again["stopped"]) == (3, summary["stopped"]), "it stays stopped"
    onward = azr_lite.resume(path, stop_patience=0).summary
    assert onward["steps"] == 5
    assert onward["finished"]


def test_the_stop_rule_ends_a_run_that_is_made_worse(tmp_path):
    with bug("sign flip"):
        summary = play(
            tmp_path / "sick", steps=12, learning_rate=0.02, eval_problems=30, eval_every=1, stop_patience=3
        ).summary
    assert summary["steps"] < 12
    assert summary["stopped"]["rule"] == "stop_patience"
    assert summary["after"]["all"]["accuracy"] < summary["best"]["accuracy"] / 2


def command(path: Path, **changes) -> list[str]:
    settings = {**LONG, "save_every": 1, **changes}
    settings.pop("self_test")
    flags = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return ["run", "--preset", "nano", "--go-on", "--no-self-test", "--output-dir", str(path), *flags]


def kill_after(words: list[str], path: Path, steps: int) -> None:
    process = Child(*words)
    log = path / "metrics.jsonl"
    wait_for(process, lambda: log.exists() and len(log.read_text().splitlines()) >= steps)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
def test_the_same_call_ends_in_one_run_though_it_is_killed_and_the_machine_lost(unbroken, tmp_path):
    path, drive = tmp_path / "here" / "run", tmp_path / "drive"
    drive.mkdir()
    words = command(path, sync_to=str(drive / "azr"))
    kill_after(words, path, 2)
    assert last_whole_checkpoint(path) is not None
    kill_after(words, path, 3)
    there = last_whole_checkpoint(drive / "azr" / "run")
    assert there is not None
    shutil.rmtree(path.parent)  # a new virtual machine
    last = Child(*words)
    printed = last.communicate()[0]
    assert last.returncode == 0, printed
    assert "fetching the run back" in printed
    assert same(path, unbroken)
    copied = drive / "azr" / "run"
    assert json.loads((copied / "summary.json").read_text())["finished"]
    assert checkpoints(copied) == [8]
    assert same(copied, unbroken)
    assert "seeded" not in printed, "it went on from a checkpoint"


def test_going_on_with_what_is_finished_or_foreign(unbroken, tmp_path):
    path, before = tmp_path / "run", (unbroken / "metrics.jsonl").read_bytes()
    shutil.copytree(unbroken, path)
    assert play(path, go_on=True).summary["finished"]
    assert (path / "metrics.jsonl").read_bytes() == before
    with pytest.raises(ConfigError, match=r"other settings \(seed, learning_rate\)"):
        play(path, go_on=True, seed=7, learning_rate=1.0)
    with pytest.raises(RunDirectoryError, match="exists already"):
        play(path)


def test_a_new_run_is_not_copied_over_another(unbroken, tmp_path):
    shutil.copytree(unbroken, tmp_path / "drive" / "run")
    with pytest.raises(RunDirectoryError, match="holds a copy of a run already"):
        play(tmp_path / "run", sync_to=str(tmp_path / "drive"))
    with pytest.raises(RunDirectoryError, match="is it mounted"):
        play(tmp_path / "run", sync_to=str(tmp_path / "no" / "drive"), go_on=True)
    assert not (tmp_path / "run").exists()


def test_a_copy_that_fails_is_a_line_and_not_the_end(unbroken, tmp_path, monkeypatch, capsys):
    drive = tmp_path / "drive"
    drive.mkdir()
    monkeypatch.setattr(
        "azr_lite.train.checkpoints.shutil.copyfile",
        lambda *_, **__: (_ for _ in ()).throw(OSError(5, "Transport endpoint is not connected")),
    )
    path = play(tmp_path / "run", sync_to=str(drive)).path
    assert "the copy to" in (printed := " ".join(capsys.readouterr().out.split()))
    assert "Transport endpoint is not connected" in printed
    assert same(path, unbroken)


def test_a_new_best_is_saved_though_no_checkpoint_is_due(scripted_evaluations, tmp_path):
    scripted_evaluations |= {"before": 0.5, "step-1": 0.9, "step-2": 0.6, "step-3": 0.9, "step-4": 0.9}
    result = play(tmp_path / "run", eval_every=1, stop_patience=3, keep_checkpoints=1)
    assert checkpoints(result.path) == [2, 8]
    assert result.summary["best"] == {"step": 1, "accuracy": 17 / 18, "checkpoint": "checkpoint-2"}
    assert "stopped" not in result.summary


def test_a_copy_that_is_ahead_is_not_overwritten(unbroken, tmp_path):
    ours, drive = tmp_path / "run", tmp_path / "drive"
    shutil.copytree(unbroken, ours)
    shutil.copytree(unbroken, drive / "run")
    shutil.rmtree(ours / "checkpoint-8")
    with pytest.raises(RunDirectoryError, match=r"is ahead of .* \(8 updates against 0\)"):
        play(ours, go_on=True, sync_to=str(drive))

    with pytest.raises(RunDirectoryError, match=r"is ahead of .* \(8 updates against 0\)"):
        azr_lite.resume(ours, sync_to=str(drive))
    assert checkpoints(drive / "run") == [8]


def test_the_record_of_a_run_outlives_its_checkpoints(unbroken, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(unbroken, path, ignore=shutil.ignore_patterns("checkpoint-*"))
    with pytest.raises(RunDirectoryError, match="the record of 4 steps and no whole checkpoint"):
        azr_lite.resume(path)
    assert (path / "metrics.jsonl").read_bytes() == (unbroken / "metrics.jsonl").read_bytes()


def test_a_directory_without_a_run_in_it_is_started_anew(unbroken, tmp_path):
    """What a kill leaves between config.json and run.json."""
    (tmp_path / "run").mkdir()
    shutil.copy(unbroken / "config.json", tmp_path / "run")
    (tmp_path / "run" / ".run.json.7.tmp").write_text("{")
    assert same(play(tmp_path / "run", go_on=True).path, unbroken)


def test_saving_less_often_than_asked_is_said_once(tmp_path, capsys):
    config = Config(save_minutes=1.0)
    schedule = Schedule(config, tmp_path, Reporter(config).facts)
    schedule.explain_rare_saves()
    schedule.budget.save_s, schedule.budget.stretched = 30.0, True
    schedule.explain_rare_saves()
    schedule.explain_rare_saves()
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("a checkpoint takes 30.0 s, so they are made about every 5.0 minutes instead of every 1") == 1
