"""The dashboard: 80 columns and 24 lines, a run in progress and one that ended, a clean end, one sentence for what is damaged."""

import io
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from azr_lite.cli import main
from azr_lite.errors import RunDirectoryError
from azr_lite.observe import dashboard as module
from azr_lite.observe.dashboard import screen
from azr_lite.observe.reader import POINTS, Followed, open_run
from azr_lite.rundir import Log, write_text


def shown(view):
    console = Console(width=80, height=24, record=True, file=open(os.devnull, "w"), highlight=False)  # noqa: SIM115
    console.print(screen(view))
    return console.export_text().splitlines()


def test_the_screen_has_24_lines_of_at_most_80_columns(run):
    lines = shown(Followed(open_run(run)))
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "3/3 steps" in text
    assert "finished" in text
    for word in ("solve induction", "propose deduction", "entropy", "executor", "tok/s", "MiB"):
        assert word in text


def test_it_follows_what_is_written_and_leaves_out_a_half_line(open_ended):
    run, rest = open_ended
    view = Followed(open_run(run))
    assert (view.done, view.state, view.ended) == (2, "running", False)
    with (run / "metrics.jsonl").open("a") as file:
        file.write(rest["metrics.jsonl"][:100])
    view.look()
    assert view.done == 2
    with (run / "metrics.jsonl").open("a") as file:
        file.write(rest["metrics.jsonl"][100:])
    view.look()
    assert view.done == 3
    assert len(view.curves["entropy"].values) == 3
    old = os.stat(run / "metrics.jsonl").st_mtime - 3600
    os.utime(run / "metrics.jsonl", (old, old))
    assert view.state.startswith("silent 1h")


def test_a_log_cut_back_by_a_resume_is_read_anew(run):
    view = Followed(open_run(run))
    path = run / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:1]))
    (run / "summary.json").unlink()
    view.look()
    assert view.done == 1
    assert len(view.curves["entropy"].values) == 1


def test_before_the_first_step_it_waits(run):
    for name in ("metrics.jsonl", "timing.jsonl", "summary.json"):
        (run / name).unlink()
    view = Followed(open_run(run))
    assert view.state == "starting"
    assert "waiting for the first step" in "\n".join(shown(view))


def test_sick_numbers_are_named(run):
    path = run / "metrics.jsonl"
    line = json.loads(path.read_text().splitlines()[-1])
    line = {
        key: value for key, value in line.items() if not key.endswith("/distinct_answers")
    }  # sick in so short a run
    line["solve/deduction/truncated"] = 0.9
    with path.open("a") as file:
        file.write(json.dumps({**line, "step": 3}) + "\n")
    lines = shown(Followed(open_run(run)))
    assert any("to look at" in row and "solve/deduction/truncated 0.9" in row for row in lines)
    assert any("solve deduction" in row and "!90%" in row for row in lines)  # marked without colour too


def test_long_runs_keep_a_bounded_past(run):
    line = {"step": 0, "solve/deduction/ok": 0.5, "entropy": 1.0}
    (run / "metrics.jsonl").write_text(
        "".join(json.dumps({**line, "step": step}) + "\n" for step in range(30 * POINTS))
    )
    view = Followed(open_run(run))
    assert view.done == 30 * POINTS
    assert all(len(curve.buckets) <= POINTS for curve in view.curves.values())


def test_damage_a_foreign_version_and_nothing_are_one_sentence_each(run, tmp_path, capsys):
    whole = (run / "metrics.jsonl").read_text()
    for text, word in (("{broken\n" + whole, "damaged at byte 0"), ("[1]\n" + whole, "damaged at byte 0")):
        (run / "metrics.jsonl").write_text(text)
        assert main(["watch", str(run)]) == 1
        assert word in one_sentence(capsys)
    (run / "metrics.jsonl").write_text(whole)
    (run / "run.json").write_text('{"version": 99}')
    assert main(["watch", str(run)]) == 1
    assert "format 99" in one_sentence(capsys)
    (run / "run.json").unlink()
    (run / "metrics.jsonl").unlink()
    assert main(["watch", str(run)]) == 1
    assert "run.json is missing" in one_sentence(capsys)
    assert main(["watch", str(tmp_path / "nowhere")]) == 1
    assert "there is no run" in one_sentence(capsys)


def test_numbers_that_are_none_are_drawn_and_named(run):
    """float16 logs an infinite gradient norm while the loss scale is being found."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines[1]["grad_norm"], lines[2]["entropy"] = float("inf"), float("nan")
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = "\n".join(shown(Followed(open_run(run))))
    assert text.count("×") == 2
    assert "entropy nan" in text


def test_words_in_the_place_of_numbers_are_one_sentence(run, capsys):
    for name, key in (("metrics.jsonl", "loss"), ("timing.jsonl", "generate")):
        whole = (run / name).read_text()
        for value in ("x", None):
            (run / name).write_text(json.dumps({"step": 0, key: value}) + "\n")
            assert main(["watch", str(run)]) == 1
            assert f"{key} is no number" in one_sentence(capsys)
        (run / name).write_text(whole)


def test_ideographs_in_the_path_leave_the_state_whole(run, tmp_path):
    for name in ("漢" * 3, "漢" * 60):
        (run / "summary.json").parent.rename(run := tmp_path / name)
        head = shown(Followed(open_run(run)))[0]
        assert head.rstrip().endswith("finished")
        assert cell_len(head) <= 80


def one_sentence(capsys):
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    return said


def test_a_run_that_vanishes_ends_the_watch_with_a_sentence(open_ended, monkeypatch):
    run, _ = open_ended
    monkeypatch.setattr(module.time, "sleep", lambda seconds: shutil.rmtree(run, ignore_errors=True))
    with pytest.raises(RunDirectoryError):
        module.watch(run, console=Console(force_terminal=True, file=open(os.devnull, "w"), width=80, height=24))  # noqa: SIM115


class Terminal:
    """`azr-lite watch` on a pseudo-terminal of 80 x 24."""

    def __init__(self, run):
        self.ours, theirs = pty.openpty()
        import fcntl
        import struct
        import termios

        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.theirs, self.before = theirs, termios.tcgetattr(theirs)
        command = [sys.executable, "-m", "azr_lite", "watch", str(run), "--interval", "0.1"]
        environment = {**os.environ, "TERM": "xterm-256color"} | {"COLUMNS": "80", "LINES": "24"}
        root = Path(__file__).parents[1]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=root)
        self.text = b""

    def until(self, word, seconds=20):
        end = time.time() + seconds
        while word not in self.text:
            assert time.time() < end, self.text[-2000:]
            if select.select([self.ours], [], [], 0.1)[0]:
                self.text += os.read(self.ours, 65536)

    def ended(self, seconds=20):
        """The exit status, with the terminal as it was found."""
        import termios

        end = time.time() + seconds
        while self.process.poll() is None:
            assert time.time() < end, self.text[-2000:]
            if select.select([self.ours], [], [], 0.1)[0]:
                self.text += os.read(self.ours, 65536)
        while select.select([self.ours], [], [], 0.1)[0]:
            self.text += os.read(self.ours, 65536)
        assert termios.tcgetattr(self.theirs) == self.before
        assert self.text.count(b"\x1b[?1049h") == self.text.count(b"\x1b[?1049l") == 1
        assert self.text.rindex(b"\x1b[?25h") > self.text.rindex(b"\x1b[?25l")
        assert b"Traceback" not in self.text
        os.close(self.ours)
        os.close(self.theirs)
        return self.process.returncode


@pytest.mark.parametrize("how", ["ctrl-c", "terminated", "the run ends"])
def test_on_a_terminal_it_follows_and_quits_cleanly(open_ended, how):
    run, rest = open_ended
    terminal = Terminal(run)
    terminal.until(b"2/3 steps")
    assert (
        b"\x1b[2J" not in terminal.text.partition(b"2/3 steps")[2]
    )  # the screen is not cleared between two pictures: no flicker
    drawn = len(terminal.text)
    time.sleep(0.5)
    if how == "ctrl-c":
        terminal.process.send_signal(signal.SIGINT)
    elif how == "terminated":
        terminal.process.send_signal(signal.SIGTERM)
    else:
        for name in ("metrics.jsonl", "timing.jsonl"):
            with (run / name).open("a") as file:
                file.write(rest[name])
        terminal.until(b"3/3 steps")
        (run / "summary.json").write_text(rest["summary.json"])
    assert terminal.ended() == 0
    if how == "the run ends":
        assert b"finished" in terminal.text[drawn:]
    else:
        assert len(terminal.text) - drawn < 3000  # nothing was drawn while nothing changed
        assert b"the run goes on" in terminal.text


def test_a_terminal_that_cannot_move_its_cursor_gets_one_picture(open_ended, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    file = io.StringIO()
    module.watch(open_ended[0], console=Console(file=file, force_terminal=True, width=80))
    assert "2/3 steps" in file.getvalue()
    assert "\x1b[?1049h" not in file.getvalue()


def test_a_log_cut_back_and_grown_past_the_last_look_is_read_anew(tmp_path):
    log = tmp_path / "timing.jsonl"
    write_text(log, '{"step": 0, "s": 1}\n{"step": 1, "s": 1}\n')
    tail = Log(log)
    assert [line["step"] for line in tail.lines()] == [0, 1]
    write_text(
        log, '{"step": 0, "s": 1}\n' + "".join(f'{{"step": {step}, "s": 1.25}}\n' for step in (1, 2, 3))
    )  # as rewind and go on
    assert tail.is_rewritten()
    tail = Log(log)
    assert [line["step"] for line in tail.lines()] == [0, 1, 2, 3]
    assert not tail.is_rewritten()
    assert list(tail.lines()) == []
