"""Long work tells how far it is: a bar on a terminal, dated lines elsewhere, at most one every thirty seconds."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from azr_lite.pace import Pace, clock


@pytest.fixture
def at(monkeypatch):
    """Sets the clock that `Pace` reads."""
    now = [0.0]
    monkeypatch.setattr("azr_lite.pace.time.perf_counter", lambda: now[0])
    return lambda second: now.__setitem__(0, second)


def test_on_a_pipe_a_dated_line_comes_at_most_every_thirty_seconds(at):
    console = Console(file=io.StringIO(), highlight=False, width=40)
    with Pace("evaluating something with a long name", 300, begun=100, console=console) as tell:
        for second, done in ((10, 110), (40, 120), (50, 130), (71, None), (102, 400)):
            at(second)
            tell(done)
    at(1000)
    tell(300)
    lines = console.file.getvalue().splitlines()
    dated = [
        re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  evaluating something with a long name: (.*)", one)[1]
        for one in lines
    ]
    assert dated == ["120 of 300, 6m00s left", "130 of 300, 6m42s left", "300 of 300"]


def test_on_a_terminal_there_is_a_bar_that_goes_again(at):
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    with Pace("downloading", 3.5, unit=" GB", console=console) as tell:
        at(2)
        tell(1.75)
    printed = console.file.getvalue()
    assert "1.8 of 3.5 GB, 2s left" in printed
    assert printed.endswith("\x1b[2K"), "its line is erased"


def test_durations_are_for_people():
    assert [clock(s) for s in (0.4, 12, 187, 7500, -1)] == ["0s", "12s", "3m07s", "2h05m", "0s"]
