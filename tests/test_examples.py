"""Every file of notebooks/examples runs, in a folder of its own, and prints what it is there to show."""

import re
import runpy
from pathlib import Path

import pytest

from azr_lite.tasks import base

FOLDER = Path(__file__).parents[1] / "notebooks" / "examples"
FILES = sorted(FOLDER.glob("*.py"))
PRINTED = {
    "own_reward": (
        r"accuracy -0\.\d+ brief",
        r"the log is exact: verdicts, rewards",
        r"own\s\(paper, __main__:brief\)",
    ),
    "callback": (r"step 1: \d+ rollouts in", r"tokens per deduction: \[\d+\.\d+, \d+\.\d+\]"),
    "own_task_type": (r"propose growing ─", r"valid|not_longer"),
    "executor_alone": (
        r"honest one +ok +\[1, 2, 3\]",
        r"endless one +timeout",
        r"of files +(exception|policy)",
        r"large one +memory",
        r"order of a set: non_deterministic",
    ),
    "own_advantages": (r"TRR\+\+ +\[ 0\.98 +-0\.7 +-1\.26 +0\.98", r"by token +\[ 0\.934 -0\.817", r"weights +\["),
    "model_object": (
        r"moved by [1-9]\.\de-0\d",
        r"recorded as object:Qwen2ForCausalLM",
        r"resume: model is 'object:.*azr_lite\.resume\(path, model=…, tokenizer=…\)",
    ),
    "trl_reward": (r"step 1: reward \{'deduction': -?\d\.\d+", r"step 2: .* well formed [01]\.\d+"),
    "tasks_to_parquet": (r"104 tasks, 50 of them solved sometimes; columns: id, type", r"solved \d+%", r"def f\(x\):"),
}
"""What each example must print, in regular expressions."""


@pytest.fixture
def own_registry(monkeypatch):
    """An example may register task types; no other test meets them."""
    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path, monkeypatch, capsys, own_registry):
    if "run(" in path.read_text(encoding="utf-8") or "trl" in path.stem:
        pytest.importorskip("trl")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    missing = [pattern for pattern in PRINTED[path.stem] if not re.search(pattern, printed)]
    assert not missing, printed


def test_each_example_is_short():
    lines = {path.stem: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert max(lines.values()) <= 30, lines
    assert {*PRINTED} == {path.stem for path in FILES}
