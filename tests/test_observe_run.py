"""`Run`, the way to look at a run: what it returns shows itself, at a prompt and in a notebook."""

import shutil
from pathlib import Path

import pytest

from azr_lite.errors import PublishError, RunDirectoryError
from azr_lite.observe.run import Run

RUNS = Path(__file__).parents[1] / "data_samples" / "runs"
WHOLE = RUNS / "whole" / "nano-small"


def test_what_the_methods_return_is_shown_as_text():
    run = Run(WHOLE)
    assert repr(run) == f"Run({str(WHOLE)!r}): 14 of 14 steps, finished"
    for shown, begin in (
        (run.show(3, count=1), "step 3 of"),
        (run.rescore(estimator="global"), "  step  rollouts"),
        (run.diagnose(), str(WHOLE)[:20]),
        (run.analyse(), str(WHOLE)[:20]),
    ):
        assert repr(shown) == str(shown)
        assert str(shown).startswith(begin)
    assert run.tasks()._repr_html_().startswith("<iframe sandbox")
    assert run.config.model == "nano"
    assert run.summary["finished"]


def test_runs_are_compared_on_one_page(tmp_path):
    page = Run(RUNS / "bugs" / "sign-flip").report(tmp_path / "page.html", against=[Run(RUNS / "bugs" / "healthy")])
    assert "Comparison of 2 runs" in page.read_text(encoding="utf-8")


def test_a_run_that_is_not_there_or_damaged_is_one_sentence(tmp_path):
    with pytest.raises(RunDirectoryError, match="there is no run"):
        Run(tmp_path / "none")
    copy = shutil.copytree(WHOLE, tmp_path / "run")
    (copy / "metrics.jsonl").write_text("{broken\n", encoding="utf-8")
    assert "damaged at byte 0" in repr(Run(copy))


def test_export_of_a_run_without_checkpoints_is_one_sentence():
    pytest.importorskip("torch")
    with pytest.raises(PublishError):
        Run(WHOLE).export()
