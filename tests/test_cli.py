"""The command line: thin verbs, dry runs, one sentence for mistakes."""

import json
import subprocess
import sys

import pytest

from azr_lite.cli import VERBS, main
from azr_lite.presets import list_presets


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
        (["bench", "everything"], "choose one of: nano"),
        (["bench", "nano", "--seeds", "0"], "seeds is 0"),
        (["bench", "nano", "--steps", "-1"], "steps is -1"),
        (["eval", "nano", "--suite", "held-out", "--items", "-1"], "items is -1"),
        (["eval", "nano", "--suite", "held-out", "--samples", "-1"], "samples is -1"),
        (["run", "--output-dir", "a" * 300], "cannot be used (File name too long)"),
        (["watch", "a" * 300], "cannot be used (File name too long)"),
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


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("run", "azr-lite: stopped; what was saved can be resumed"),
        ("resume", "azr-lite: stopped; what was saved can be resumed"),
        ("eval", "azr-lite: stopped; what was answered is kept, and not asked again"),
        ("watch", "azr-lite: stopped"),
        ("report", "azr-lite: stopped"),
    ],
)
def test_an_interrupt_says_what_is_left(verb, said, capsys, monkeypatch):
    def interrupted(words):
        raise KeyboardInterrupt

    monkeypatch.setitem(VERBS, verb, interrupted)
    assert main([verb]) == 130
    assert capsys.readouterr().err.strip() == said


def test_the_overview_loads_no_verb():
    """So that --help answers at once: tyro, numpy and what the verbs need are imported by the verb that is called."""
    code = "import sys; from azr_lite.cli import VERBS, main; main(['--help']); print([m for m in ('tyro', 'rich', 'numpy', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_wrong_flag_is_not_a_traceback():
    with pytest.raises(SystemExit) as caught:
        main(["run", "--no-such-setting", "1"])
    assert caught.value.code == 2


def test_doctor_shows_the_sandbox_level(capsys):
    assert main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["sandbox"]["level"] in ("FULL", "KERNEL", "WEAK")


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_resolves_without_network_or_gpu(name, capsys):
    assert main(["run", "--preset", name, "--dry-run"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["preset"] == name
    assert printed["output_dir"] == f"runs/{name}-seed0"
