"""The command line: help that fits, dry runs, one sentence for mistakes."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from azr_lite.cli import COMMANDS, DIALS, main
from azr_lite.config import CHANGEABLE_ON_RESUME, Config
from azr_lite.presets import list_presets


def test_dry_run_resolves_and_runs_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--preset", "nano", "--steps", "7", "--n-mc", "4", "--dry-run", "--json"]) == 0
    config = json.loads(capsys.readouterr().out)
    assert (config["steps"], config["n_mc"], config["preset"]) == (7, 4, "nano")
    assert config["output_dir"] == "runs/nano-seed0"
    assert list(tmp_path.iterdir()) == []


def dry_run(words, capsys):
    status = main(["run", *words, "--dry-run"])
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    return status, " ".join(printed.split())


def test_a_dry_run_says_what_the_run_would_meet(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, printed = dry_run(["nano", "--steps", "7", "--n-mc", "4"], capsys)
    assert status == 0
    for said in (
        "settings nano, with steps=7, n_mc=4 ",
        "directory runs/nano-seed0 is new",
        "model nano is on this machine",
        "GB planned, ",
        "GB free, checkpoints take up to 0.02 GB",
        "; 384 sequences per step",
        "478,208 weights, 478,208 trained",
        "FITS: ",
        "hours for 7 steps",
        "nothing was run; without --dry-run it starts",
    ):
        assert said in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nano", "--output-dir", "full"], "! directory full exists already; go on with it by"),
        (["nano", "--output-dir", "full/file/x"], "full/file: not a folder to write to; choose another --output-dir"),
        (["smoke", "--model", "./none.gguf"], "! model there is no file none.gguf"),
        (["smoke", "--model", "full"], "! model full holds no model (config.json is missing)"),
        (["smoke", "--model", "some/model"], "! model some/model is not on this machine and the hub cannot be reached"),
        (["nano", "--processes", "48"], "! processes this run wants 48 processes and"),
    ],
)
def test_a_dry_run_says_what_is_in_the_way_and_ends_with_status_one(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    status, printed = dry_run(words, capsys)
    assert status == 1
    assert said in printed
    assert printed.count(said) == 1
    assert "nothing was run; ! says what is in the way" in printed
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "file"]


def test_a_dry_run_says_what_a_full_machine_lacks(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("azr_lite.train.preflight.shutil.disk_usage", lambda path: SimpleNamespace(free=1e6))
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1e8, total=1e9))
    _, printed = dry_run(["nano"], capsys)
    assert "0.1 GB free now: it may not fit" in printed
    assert "make room, or choose another --output-dir" in printed


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "--preset", "nanno", "--dry-run"], "did you mean 'nano'"),
        (["run", "--n-mc", "1", "--dry-run"], "n_mc is 1"),
        (
            ["run", "--self-test", "False", "--dry-run"],
            "--self-test takes no value; give --self-test or --no-self-test",
        ),
        (["run", "--self-test=False", "--dry-run"], "--self-test takes no value; give --self-test or --no-self-test"),
        (["run", "--preset", "cfg/mine.yaml", "--dry-run"], "cfg/mine.yaml cannot be read (No such file"),
        (["run", "--config", "mine.toml", "--dry-run"], "a file of settings is .json, .yaml or .yml"),
        (["run", "--config", "--dry-run"], "--config has no value; give one, such as --config mine.yaml"),
        (["run", "--reward", "papr", "--dry-run"], "reward names ('papr',); give paper,"),
        (["run", "--reward", "no_such_module:x", "--dry-run"], "names the module 'no_such_module', which cannot be"),
        (["run", "--task-module", "no_such_module", "--dry-run"], "names the module 'no_such_module', which cannot be"),
        (["run", "nano", "--json"], "add --dry-run"),
        (["resume", "no/such/run"], "there is no run at"),
        (["plan", "--gpu", "16GB"], "which preset is meant?"),
        (["run", "--preset"], "--preset has no value"),
        (["plan", "--preset", "--json"], "--preset has no value"),
        (["report"], "needs a run directory"),
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


def test_commands_are_listed(capsys):
    overviews = []
    for arguments, status in (([], 2), (["--help"], 0), (["help"], 0)):
        assert main(arguments) == status
        overviews.append(capsys.readouterr().out)
    assert overviews[0] == overviews[1] == overviews[2]
    assert re.findall(r"^  ([a-z-]+)", overviews[0], re.MULTILINE) == list(COMMANDS)
    assert max(map(len, overviews[0].splitlines())) <= 80
    assert main(["--version"]) == 0


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("fly", "unknown command 'fly'; choose one of: run, resume"),
        ("rnu", "did you mean 'run'?"),
        ("Replay", "did you mean 'replay'?"),
        ("analyses", "did you mean 'analyse'?"),
    ],
)
def test_the_nearest_command_is_named(typed, sentence, capsys):
    assert main([typed]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("command", [*COMMANDS, "bench nano", "analyze"])
def test_every_command_explains_every_option_in_80_columns(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*command.split(), "--help"]) == 0
    printed = capsys.readouterr().out
    assert max(len(line) for line in printed.splitlines() if not line.startswith("usage: ")) <= 80
    options = re.split(r"\n\W (?=--[a-z]|[A-Z]{3,} )", printed)[1:]
    assert [option for option in options if not re.search(r"\w\)?\.\s", option)] == [], "options without a sentence"


def test_run_shows_twelve_dials_in_eight_groups_and_all_settings_on_request(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = {}
    for flag in ("--help", "--help-all"):
        assert main(["run", "--preset", "lora-0.5b-8gb", flag]) == 0
        shown[flag] = capsys.readouterr().out
    groups = re.findall(r"^\W+ ([a-z-]+) options\b", shown["--help"], re.MULTILINE)
    assert groups[1:] == "model self-play reward optimiser generation executor evaluation saving".split()
    settings = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(Config)}
    options = {flag: set(re.findall(r"--[a-z][a-z0-9-]*", text)) & settings for flag, text in shown.items()}
    assert len(DIALS) == 16
    assert options["--help"] == {f"--{name.replace('_', '-')}" for name in DIALS}
    assert options["--help-all"] == settings
    assert "--lora-rank INT" in shown["--help-all"]
    assert "(default: 100)" in shown["--help"], "the defaults are those of the preset that is named"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "\ufeffpreset: smoke\nsteps: 3\nlearning_rate: 1e-4\ntask_types: [deduction]\n"),
        ("a.json", '\ufeff{"preset": "smoke", "steps": 3, "learning_rate": 1e-4, "task_types": ["deduction"]}'),
    ],
)
def test_a_file_of_settings_lies_over_the_preset_and_under_the_options(name, text, tmp_path, capsys):
    (tmp_path / name).write_text(text, encoding="utf-8")

    def found(*words):
        assert main(["run", "--config", str(tmp_path / name), *words, "--dry-run", "--json"]) == 0
        settings = json.loads(capsys.readouterr().out)
        return [settings[key] for key in ("preset", "steps", "learning_rate", "task_types", "n_mc")]

    assert found() == ["smoke", 3, 1e-4, ["deduction"], 2]
    assert found("--steps", "4", "--preset", "nano") == ["nano", 4, 1e-4, ["deduction"], 6]
    (tmp_path / name).write_text("[1, 2", encoding="utf-8")
    assert main(["run", "--config", str(tmp_path / name), "--dry-run"]) == 1
    assert f"is not {'YAML' if name == 'a.yaml' else 'JSON'}" in capsys.readouterr().err


def test_resume_offers_what_may_change(capsys):
    assert main(["resume", "--help"]) == 0
    options = set(re.findall(r"^. --([a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert options == {name.replace("_", "-") for name in CHANGEABLE_ON_RESUME}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("nano", {"preset": "nano", "steps": 50}),
        ("smoke --seed 3", {"preset": "smoke", "seed": 3}),
        ("--preset=smoke", {"preset": "smoke"}),
        ("--preset=cpu-0.5b --steps 2 --preset smoke --steps 3", {"preset": "smoke", "steps": 3, "n_mc": 2}),
        ("--task-types deduction,abduction", {"task_types": ["deduction", "abduction"], "micro_batch_size": 16}),
        ("--batch-size 8", {"batch_size": 8, "micro_batch_size": 13}),
        ("--report-to none", {"report_to": []}),
        ("--no-self-test --gradient-checkpointing", {"self_test": False, "gradient_checkpointing": True}),
        ("--no-self-test --n_mc=4", {"self_test": False, "n_mc": 4}),
    ],
)
def test_spellings_that_people_try(arguments, expected, capsys):
    assert main(["run", *arguments.split(), "--dry-run", "--json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert {name: found[name] for name in expected} == expected
    assert ("that divides a batch of" in printed.err) == ("micro_batch_size" in expected)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("run", "azr-lite: stopped; what was saved can be resumed"),
        ("resume", "azr-lite: stopped; what was saved can be resumed"),
        ("eval", "azr-lite: stopped; what was answered is kept, and not asked again"),
        ("watch", "azr-lite: stopped"),
        ("report", "azr-lite: stopped"),
    ],
)
def test_an_interrupt_says_what_is_left(command, said, capsys, monkeypatch):
    def interrupted() -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(COMMANDS, command, interrupted)
    assert main([command]) == 130
    assert capsys.readouterr().err.strip() == said


@pytest.mark.parametrize(
    ("summary", "status"),
    [
        ({"finished": True}, 0),
        ({"finished": True, "stopped": {"rule": "SIGINT"}}, 0),
        ({"finished": False, "stopped": {"rule": "stop_patience"}}, 0),
        ({"finished": False, "stopped": {"rule": "max_hours"}}, 3),
        ({"finished": False, "stopped": {"rule": "SIGINT"}}, 130),
        ({"finished": False, "stopped": {"rule": "SIGTERM"}}, 143),
    ],
)
def test_the_status_of_a_run_is_zero_only_where_nothing_is_left_to_do(summary, status, monkeypatch):
    monkeypatch.setattr("azr_lite.loop.run", lambda *_, **__: SimpleNamespace(summary=summary))
    assert main(["run", "nano"]) == status


SHOW = [sys.executable, "-m", "azr_lite", "show", "data_samples/runs/whole/nano-small", "--step", "2"]


@pytest.mark.parametrize("encoding", ["cp1252", "cp1252:surrogateescape"])  # the second: as in Python's C locale
def test_an_output_that_lacks_a_character_gets_a_question_mark(encoding):
    surroundings = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "80"}
    done = subprocess.run(SHOW, capture_output=True, check=True, env=surroundings)
    assert done.stderr == b""
    assert "r?" in done.stdout.decode("cp1252"), "the bar over r is no letter of cp1252"


@pytest.mark.parametrize("words", [SHOW, [*SHOW[:3], "--help"], [*SHOW[:3], "run", "--help"]])
def test_an_output_that_is_full_is_one_sentence(words):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "standard output cannot be written (No space left on device)" in line


def test_an_output_that_is_closed_is_said_once():
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *SHOW],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr.splitlines() == ["azr-lite: standard output is closed, so nothing is printed"]


def test_a_closed_standard_error_does_not_stop_a_run():
    words = [*SHOW[:3], "run", "nano", "--output-dir", "runs/none", "--dry-run"]
    done = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", *words], stdout=subprocess.PIPE, text=True, check=True)
    assert "nothing was run; without --dry-run it starts" in done.stdout


@pytest.mark.parametrize("command", ["", "run", "plan", "eval", "report", "export", "bench", "bench nano"])
def test_help_loads_no_library_of_the_commands(command):
    """So that it answers at once: what a command needs is imported when it is called."""
    heavy = ("torch", "transformers", "matplotlib", "scipy", *(() if command == "bench nano" else ("numpy", "rich")))
    code = (
        f"import sys; from azr_lite.cli import main; main({[*command.split(), '--help']}); "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_wrong_option_is_not_a_traceback(capsys):
    assert main(["run", "--no-such-setting", "1"]) == 2
    assert main(["run", "--batchsize", "1"]) == 2
    assert "--batch-size" in capsys.readouterr().err


def test_doctor_shows_the_sandbox_level(capsys):
    assert main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["sandbox"]["level"] in ("FULL", "KERNEL", "WEAK")


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_resolves_without_network_or_gpu(name, capsys):
    assert main(["run", "--preset", name, "--dry-run", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["preset"] == name
    assert printed["output_dir"] == f"runs/{name}-seed0"
