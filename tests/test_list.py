"""`azr-lite list` and `azr-lite env`: what is here, in lines that fit, and in JSON."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest

from azr_lite import __version__
from azr_lite.cli import main

WHOLE = Path("data_samples/runs/whole/nano-small")


@pytest.fixture
def runs(tmp_path):
    """A folder with a finished run, one that goes on, a damaged one, and what is no run."""
    for name in ("done", "deep/going"):
        shutil.copytree(WHOLE, tmp_path / name)
    (tmp_path / "deep/going/summary.json").unlink()
    metrics = tmp_path / "deep/going/metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:5]))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    (tmp_path / "other").mkdir()
    return tmp_path


def test_runs_are_listed_with_state_step_and_gain(runs, capsys, monkeypatch):
    monkeypatch.chdir(runs)
    assert main(["list", "."]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["run", "state", "steps", "gain", "model"]
    assert [line.split() for line in lines] == [
        ["broken", "not", "readable"],
        ["deep/going", "running", "5/14", "+14.2", "nano"],
        ["done", "finished", "14/14", "+14.2", "nano"],
    ]
    gain = json.loads((runs / "done" / "summary.json").read_text())["gain"]["all"]["gain"]
    assert f"{100 * gain:+.1f}" == "+14.2"
    assert main(["list", ".", "--json"]) == 0
    assert [one["path"] for one in json.loads(capsys.readouterr().out)] == ["broken", "deep/going", "done"]


def test_long_names_and_odd_characters_fit_in_80_columns(runs, capsys):
    odd = runs / ("x" * 50 + "\x1b[2J\nü")
    odd.mkdir()
    shutil.copy(runs / "done" / "run.json", odd)
    shutil.copy(runs / "done" / "config.json", odd)
    assert main(["list", str(runs)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1 + 4, "a run is one line"
    assert max(map(len, printed.splitlines())) <= 80
    assert "\x1b" not in printed


def test_a_gain_is_over_the_untrained_policy_or_not_told(runs, capsys):
    (runs / "done/eval/before.json").unlink()
    assert main(["list", str(runs / "done"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["gain"] is None


def test_one_run_that_cannot_be_read_hides_no_other(runs, capsys, monkeypatch):
    (runs / "done/timing.jsonl").unlink()
    (runs / "done/timing.jsonl").mkdir()
    monkeypatch.chdir(runs)
    assert main(["list", "."]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[1:]] == ["not", "running", "not"]


def test_a_run_that_died_before_its_first_step_is_not_starting_for_ever(runs, capsys):
    for path in (runs / "deep/going").glob("*.jsonl"):
        path.unlink()
    for age, state in ((60, "starting"), (7200, "silent")):
        os.utime(runs / "deep/going", (time.time() - age,) * 2)
        assert main(["list", str(runs / "deep"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)[0]["state"].split()[0] == state


@pytest.mark.parametrize(("folder", "said"), [("nowhere", "nowhere is no folder"), ("other", "holds no run")])
def test_a_folder_without_runs_is_one_sentence(folder, said, runs, capsys, monkeypatch):
    monkeypatch.chdir(runs)
    assert main(["list", folder]) == 1
    printed = capsys.readouterr().err.strip()
    assert said in printed
    assert "\n" not in printed


def test_env_says_what_a_bug_report_needs(capsys, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert main(["env"]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    whole = re.sub(r"\n {18}", " ", printed)  # a long line goes on under its text
    facts = dict(re.split(r" {2,}", line, maxsplit=1) for line in whole.splitlines())
    assert facts["azr-lite"].startswith(f"{__version__}, commit ")
    assert {"python", "cores", "memory", "gpu", "libraries", "sandbox", "variables"} <= facts.keys()
    assert "CUDA_VISIBLE_DEVICES=-1" in facts["variables"]
    assert re.match("FULL|KERNEL|WEAK", facts["sandbox"])
    assert "hf_secret" not in printed
    assert main(["env", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["versions"]["numpy"] in facts["libraries"]
