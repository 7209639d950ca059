"""The run directory: never reused silently, cut back exactly, clear about damage."""

import json

import pytest

from azr_lite.environment import describe_environment
from azr_lite.errors import RunDirectoryError
from azr_lite.presets import preset
from azr_lite.rundir import RunDir, write_text
from azr_lite.triplet import Role, Rollout, Verdict

ROLLOUT = Rollout(
    Role.SOLVE, "deduction", "p", "t", (1, 2, 3), (4, 5), Verdict(True, True, 1.0), 1.0, {"accuracy": 1.0}
)


@pytest.fixture
def run(tmp_path):
    return RunDir.create(preset("nano", output_dir=str(tmp_path / "run")), {"command": ["x"]})


def fill(run, steps):
    for step in range(steps):
        run.append(step, {"loss": step / 3}, {"generate": 0.1}, [ROLLOUT], [{"step": step, "ok": True}])


def test_an_existing_directory_is_refused(run):
    with pytest.raises(RunDirectoryError, match="azr-lite resume"):
        RunDir.create(run.config(), {})
    assert RunDir.open(run.path).config() == run.config()


def test_an_empty_existing_directory_is_fine(tmp_path):
    (tmp_path / "empty").mkdir()
    assert RunDir.create(preset("nano", output_dir=str(tmp_path / "empty")), {}).info()["version"] == 1


def test_rewinding_leaves_the_bytes_of_a_shorter_run(run, tmp_path):
    fill(run, 5)
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    run.rewind(3)
    other = RunDir.create(preset("nano", output_dir=str(tmp_path / "other")), {})
    fill(other, 3)
    for name in ("metrics.jsonl", "rollouts.jsonl", "tasks.jsonl"):
        assert (run.path / name).read_bytes() == (other.path / name).read_bytes()


def test_rewinding_takes_evaluations_of_lost_weights_along(run):
    (run.path / "eval").mkdir()
    for name in ("before", "step-2", "step-3", "step-13"):
        (run.path / "eval" / f"{name}.jsonl").write_text("{}\n")
    for name in ("step-2", "step-13"):
        (run.path / "eval" / name).mkdir()  # `azr-lite eval RUN@13`
    run.rewind(3)
    assert {path.stem for path in (run.path / "eval").iterdir()} == {"before", "step-2", "step-3"}
    run.rewind(-1)
    assert {path.stem for path in (run.path / "eval").iterdir()} == {"before"}


def test_foreign_names_beside_the_evaluations_stay(run):
    (run.path / "eval").mkdir(exist_ok=True)
    (run.path / "eval" / "step-2 (1).json").write_text("{}")  # what Google Drive calls a second copy
    run.rewind(1)
    assert (run.path / "eval" / "step-2 (1).json").exists()


def test_a_log_cut_mid_line_reads_up_to_it_and_damage_inside_is_named(run):
    fill(run, 3)
    path = run.path / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(whole[:-5])
    assert [line["step"] for line in run.metrics()] == [0, 1]
    path.write_text("garbage\n" + whole)
    with pytest.raises(RunDirectoryError, match="byte 0"):
        run.metrics()


def test_what_is_missing_or_foreign_is_said_in_one_sentence(run, tmp_path):
    with pytest.raises(RunDirectoryError, match="there is no run"):
        RunDir.open(tmp_path / "nowhere")
    with pytest.raises(RunDirectoryError, match=r"run\.json is missing"):
        RunDir.open(tmp_path)
    with pytest.raises(RunDirectoryError, match=r"metrics.jsonl is missing"):
        run.metrics()
    (run.path / "run.json").write_text(json.dumps({"version": 99}))
    with pytest.raises(RunDirectoryError, match="format 99"):
        RunDir.open(run.path)
    (run.path / "run.json").write_text("{")
    with pytest.raises(RunDirectoryError, match="cannot be read"):
        RunDir.open(run.path)


def test_rollout_lines_keep_counts_not_ids(run):
    fill(run, 1)
    (line,) = run.read("rollouts.jsonl")
    assert line["prompt_tokens"] == 3
    assert line["tokens"] == 2
    assert "completion_ids" not in line


def test_a_failed_write_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "summary.json"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"


def test_a_notebooks_command_is_no_connection_file(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/x/lib/ipykernel_launcher.py", "-f", "/tmp/tmpqjt7wmqg.json"])
    assert describe_environment()["command"] == "(a notebook)"
    monkeypatch.setattr("sys.argv", ["/x/bin/azr-lite", "run", "--preset", "nano"])
    assert describe_environment()["command"] == "azr-lite run --preset nano"
