"""The command line: thin verbs, dry runs, one sentence for mistakes."""

import json

import pytest

from azr_lite.cli import main
from azr_lite.presets import presets


def test_dry_run_resolves_and_runs_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--preset", "nano", "--steps", "7", "--n-mc", "4", "--dry-run"]) == 0
    config = json.loads(capsys.readouterr().out)
    assert (config["steps"], config["n_mc"], config["preset"]) == (7, 4, "nano")
    assert config["output_dir"] == "runs/nano-seed0"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "--preset", "nanno", "--dry-run"], "did you mean 'nano'"),
        (["run", "--n-mc", "1", "--dry-run"], "n_mc is 1"),
        (["resume", "no/such/run"], "there is no run at"),
        (["bench", "everything"], "choose one of: sandbox"),
    ],
)
def test_mistakes_get_one_sentence_and_status_one(words, sentence, capsys):
    assert main(words) == 1
    printed = capsys.readouterr().err.strip()
    assert sentence in printed
    assert "Traceback" not in printed
    assert "\n" not in printed


def test_verbs_are_listed(capsys):
    assert main(["--help"]) == 0
    assert "resume" in capsys.readouterr().out
    assert main(["fly"]) == 2
    assert "there is no verb 'fly'" in capsys.readouterr().err
    assert main(["--version"]) == 0


def test_a_wrong_flag_is_not_a_traceback():
    with pytest.raises(SystemExit) as caught:
        main(["run", "--no-such-setting", "1"])
    assert caught.value.code == 2


def test_doctor_shows_the_sandbox_level(capsys):
    assert main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["sandbox"]["level"] in ("FULL", "KERNEL", "WEAK")


@pytest.mark.parametrize("name", presets())
def test_every_preset_resolves_without_network_or_gpu(name, capsys):
    assert main(["run", "--preset", name, "--dry-run"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["preset"] == name
    assert printed["output_dir"] == f"runs/{name}-seed0"
