"""Shared fixtures: one sandbox and one small run for the whole session, and the public data where it is at hand."""

import os
import shutil
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).parents[2] / "shared"
LONGEST = {
    "test_processes", "test_notebooks_run", "test_course_experiments", "test_trainer_processes", "test_trainer_resume", "test_course_grade",
    "test_degraded", "test_command", "test_notebooks_light", "test_loop", "test_oracle", "test_soak", "test_companions", "test_examples",
    "test_long_runs", "test_maths", "test_readme", "test_wheel",
}  # fmt: skip


def pytest_collection_modifyitems(items):
    """The longest files first (make test keeps this order), so that the workers end together."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(scope="session")
def executor():
    """What ends at all ends in milliseconds here; what does not costs a third of a second."""
    from azr_lite.sandbox import Executor, Limits

    with Executor(Limits(cpu_s=0.3), workers=1) as running:
        yield running


@pytest.fixture(scope="session")
def shared_data():
    if not (SHARED / "data").is_dir():
        pytest.skip("the public test data (../shared/data) is not beside this checkout")
    return SHARED / "data"


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """A small finished nano run, to be looked at; a test that changes something copies it first."""
    pytest.importorskip("trl")
    import azr_lite

    small = {
        "steps": 3, "batch_size": 8, "solver_batch_size": 16, "n_mc": 3, "seed_batch_factor": 1, "updates_per_step": 1, "micro_batch_size": 12,
        "eval_problems": 0, "eval_every": 0, "save_every": 0, "self_test": False, "workers": 1, "device": "cpu",
        "gradient_share_every": 2, "generation_chunk": 1000,  # as minimal.py: all in one chunk
    }  # fmt: skip
    return azr_lite.run("nano", output_dir=str(tmp_path_factory.mktemp("observed") / "run"), **small).path


@pytest.fixture
def run(recorded, tmp_path):
    """A copy of it that a test may change."""
    shutil.copytree(recorded, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoint-*"))
    return tmp_path / "run"


@pytest.fixture
def open_ended(run):
    """The same run as it was before its last step (no summary, two lines in each log), and what it will write then, by file."""
    rest = {"summary.json": (run / "summary.json").read_text()}
    (run / "summary.json").unlink()
    for name in ("metrics.jsonl", "timing.jsonl"):
        lines = (run / name).read_text().splitlines(keepends=True)
        (run / name).write_text("".join(lines[:2]))
        rest[name] = lines[2]
    return run, rest
