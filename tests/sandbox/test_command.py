"""What a person sees: `azr-lite doctor --sandbox` and tests/benchmarks/sandbox_speed.py, 80 columns wide."""

from __future__ import annotations

import json

import pytest

from azr_lite.cli import main
from azr_lite.sandbox import Level
from azr_lite.sandbox.abuse import Attack, Report
from azr_lite.sandbox.executor import probe
from tests.benchmarks.sandbox_speed import bench, table


def test_doctor_prints_layers_attacks_and_leaks(capsys: pytest.CaptureFixture[str]) -> None:
    if probe().level is Level.WEAK:
        pytest.skip("no kernel isolation here: leaks are expected")
    assert main(["doctor", "--sandbox"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith("level FULL")
    assert "layer seccomp          on" in text
    assert " 0 leaks" in text.splitlines()[-1]


def test_doctor_exits_non_zero_on_a_leak(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report(
        Level.FULL, {"seccomp": "on"}, (Attack("fork", False, "returned True"), Attack("spin", True, "timeout")), 0.1
    )
    monkeypatch.setattr("azr_lite.sandbox.abuse.abuse_suite", lambda: report)
    assert main(["doctor", "--sandbox"]) == 1
    assert "LEAK       fork: returned True" in capsys.readouterr().out
    assert main(["doctor", "--sandbox", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["leaks"] == 1


def test_bench_measures_and_fits_the_terminal() -> None:
    result = json.loads(json.dumps(bench(repeats=1)))
    assert (
        result["ms"]["batch_64"]["cpu"]["median"]
        < result["ms"]["single"]["cpu"]["median"]
        < result["ms"]["fresh"]["cpu"]["median"]
    )
    assert result["training_step"]["checks"] > 3500
    assert max(map(len, table(result).splitlines())) <= 80
