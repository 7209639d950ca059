"""Reading line by line, and a step's rollouts on a terminal."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from azr_lite.cli import main
from azr_lite.errors import RunDirectoryError
from azr_lite.observe.reader import by_step, first_and_last_step, open_run, step_lines
from azr_lite.observe.style import printable


def rows(path, name="rollouts.jsonl"):
    return [json.loads(line) for line in (path / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", ["rollouts.jsonl", "tasks.jsonl"])
def test_exactly_the_lines_of_each_step_are_found(recorded, name):
    run = open_run(recorded)
    everything = rows(recorded, name)
    steps = {line["step"] for line in everything}
    for step in sorted(steps, reverse=True):
        assert step_lines(run, name, step) == [line for line in everything if line["step"] == step]
    assert first_and_last_step(run, name) == (min(steps), max(steps))
    assert list(run.read(name)) == everything
    assert [step for step, _ in by_step(run, name)] == sorted(steps)


def test_steps_of_odd_sizes_are_found_too(recorded, tmp_path):
    shutil.copytree(recorded, tmp_path / "odd", ignore=shutil.ignore_patterns("checkpoint-*"))
    path = tmp_path / "odd" / "rollouts.jsonl"
    sizes = {0: 1, 1: 400, 4: 1, 5: 1, 9: 3}
    lines = [
        json.dumps({"step": step, "n": n, "x": "é" * (7 * n % 90)}) + "\n"
        for step, count in sizes.items()
        for n in range(count)
    ]
    path.write_text("".join(lines), encoding="utf-8")
    run = open_run(tmp_path / "odd")
    for step, count in sizes.items():
        assert [line["n"] for line in step_lines(run, "rollouts.jsonl", step)] == list(range(count))
    for missing in (-1, 2, 3, 7, 10):
        with pytest.raises(RunDirectoryError, match="steps 0 to 9"):
            step_lines(run, "rollouts.jsonl", missing)


def test_a_half_last_line_is_left_out_and_a_growing_log_is_read_on(run):
    path = run / "rollouts.jsonl"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[:-20], encoding="utf-8")
    own = open_run(run)
    count = sum(line["step"] == 2 for line in rows_of(whole))
    assert len(step_lines(own, "rollouts.jsonl", 2)) == count - 1
    with path.open("a", encoding="utf-8") as file:
        file.write(whole[-20:] + json.dumps({"step": 3}) + "\n")
    assert len(step_lines(own, "rollouts.jsonl", 2)) == count
    assert len(step_lines(own, "rollouts.jsonl", 3)) == 1


def test_a_log_of_the_seeding_alone_says_so(run):
    own = run / "tasks.jsonl"
    own.write_text(
        "".join(line + "\n" for line in own.read_text(encoding="utf-8").splitlines() if json.loads(line)["step"] < 0),
        encoding="utf-8",
    )
    with pytest.raises(RunDirectoryError, match="it holds the seeding only"):
        step_lines(open_run(run), "tasks.jsonl", 0)


def rows_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_show_prints_all_there_is_to_know_within_80_columns(recorded, capsys):
    assert main(["show", str(recorded), "--step", "1", "--count", "200"]) == 0
    text = capsys.readouterr().out
    own = [line for line in rows(recorded) if line["step"] == 1]
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("── ") == len(own)
    for word in (
        "verdict",
        "reward",
        "advantage",
        "parents",
        "program",
        "input",
        "output",
        "reply",
        "r̄",
        "valid",
        "not right: wrong",
    ):
        assert word in text


def test_worst_and_best_are_by_reward(recorded, capsys):
    own = sorted(line["reward"] for line in rows(recorded) if line["step"] == 2 and line["role"] == "propose")
    for flag, want in (("--worst", own[:3]), ("--best", own[::-1][:3])):
        assert main(["show", str(recorded), flag, "3", "--role", "propose"]) == 0
        lines = capsys.readouterr().out.splitlines()
        got = [float(line.split()[1]) for line in lines if line.startswith("  reward ")]
        assert got == pytest.approx(want, abs=1e-3)


def test_wrong_choices_and_damage_are_one_sentence_each(run, tmp_path, capsys):
    cases = {
        ("--step", "77"): "it holds steps 0 to 2",
        ("--worst", "2", "--best", "2"): "exclude each other",
        ("--role", "judge"): "has no rollout of judge",
        ("--type", "chess"): "has no rollout of chess",
    }
    for words, want in cases.items():
        assert main(["show", str(run), *words]) == 1
        said = capsys.readouterr().err
        assert want in said
        assert len(said.splitlines()) == 1
    text = (run / "rollouts.jsonl").read_text(encoding="utf-8")
    for damaged, want in (
        ("garbage\n" + text, "damaged at byte 0"),
        ("", "no whole line"),
        ("garbage\n", "damaged at byte 0"),
        (json.dumps({"step": 0}) + "\n", "not in this azr_lite's form"),
    ):
        (run / "rollouts.jsonl").write_text(damaged, encoding="utf-8")
        assert main(["show", str(run), *(["--step", "0"] if len(damaged) > 100 else [])]) == 1
        assert want in capsys.readouterr().err
    (run / "rollouts.jsonl").unlink()
    assert main(["show", str(run)]) == 1
    assert "rollouts.jsonl is missing" in capsys.readouterr().err
    assert main(["show", str(tmp_path / "nowhere")]) == 1
    assert "there is no run" in capsys.readouterr().err


def test_what_a_model_wrote_cannot_command_the_terminal(run, capsys):
    lines = rows(run)
    lines[0]["text"] = "\x1b[2J\x1b]0;owned\x07 " + "宽" * 90 + " [bold]x[/bold] \u202e"
    (run / "rollouts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert main(["show", str(run), "--step", "0", "--count", "1"]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "\\x1b[2J" in text
    assert "[bold]x[/bold]" in text
    assert max(map(cell_len, text.splitlines())) <= 80
    assert printable("a\u202eb\tc\n") == "a\\u202eb c\n"


def test_a_reader_that_has_seen_enough_is_no_error(recorded):
    command = f"{sys.executable} -m azr_lite show {recorded} --count 200 | true"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False
    )
    assert done.stderr == ""


def test_recorded_samples_can_be_shown(capsys):
    sample = Path(__file__).parents[1] / "data_samples" / "runs" / "bugs" / "healthy"
    assert main(["show", str(sample)]) == 0
    assert "verdict" in capsys.readouterr().out
    assert main(["watch", str(sample)]) == 0
    assert "20/20 steps" in capsys.readouterr().out
    assert main(["replay", str(sample)]) == 1
    assert "only a sample of it was kept" in capsys.readouterr().err
