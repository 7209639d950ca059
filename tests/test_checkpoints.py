"""Only whole checkpoints are found, kept and read."""

import json
from pathlib import Path

import pytest

from azr_lite.errors import RunDirectoryError
from azr_lite.train.checkpoints import SEAL, STATE, drop_old, is_whole, last_whole_checkpoint, load_state, seal, step_of


def checkpoint(run: Path, step: int, *, sealed: bool = True) -> Path:
    folder = run / f"checkpoint-{step}"
    (folder / "deep").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(100 + step))
    (folder / "deep" / "optimizer.pt").write_bytes(bytes(7))
    if sealed:
        seal(folder, {"step": step})
    return folder


def test_the_newest_whole_checkpoint_is_found_by_number_not_by_name(tmp_path):
    for step in (9, 100, 20):
        checkpoint(tmp_path, step)
    found = last_whole_checkpoint(tmp_path)
    assert step_of(found) == 100
    assert load_state(found) == {"step": 100}


def test_nothing_found_is_none(tmp_path):
    assert last_whole_checkpoint(tmp_path) is None
    assert last_whole_checkpoint(tmp_path / "never made") is None


def test_a_checkpoint_without_seal_is_passed_over(tmp_path):
    """What kill -9 leaves while transformers is still writing."""
    checkpoint(tmp_path, 1)
    checkpoint(tmp_path, 2, sealed=False)
    assert step_of(last_whole_checkpoint(tmp_path)) == 1


@pytest.mark.parametrize("damage", ["shorter", "longer", "gone", "seal cut", "seal empty", "seal foreign", "state cut"])
def test_a_damaged_checkpoint_is_passed_over_and_never_read(tmp_path, damage):
    checkpoint(tmp_path, 1)
    folder = checkpoint(tmp_path, 2)
    weights, mark = folder / "model.safetensors", folder / SEAL
    if damage == "shorter":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "longer":
        weights.write_bytes(weights.read_bytes() + b"x")
    elif damage == "gone":
        (folder / "deep" / "optimizer.pt").unlink()
    elif damage == "state cut":
        (folder / STATE).write_text((folder / STATE).read_text()[:-3])
    else:
        mark.write_text(
            {"seal cut": mark.read_text()[:-5], "seal empty": '{"files": {}}', "seal foreign": "[1]"}[damage]
        )
    assert not is_whole(folder)
    assert step_of(last_whole_checkpoint(tmp_path)) == 1
    with pytest.raises(RunDirectoryError, match="not a whole checkpoint"):
        load_state(folder)


def test_old_ones_go_and_so_do_the_broken(tmp_path):
    for step in (1, 2, 3, 4):
        checkpoint(tmp_path, step, sealed=step != 3)
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    drop_old(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-2",
        "checkpoint-4",
        "checkpoint-best",
        "metrics.jsonl",
    ]


def test_a_deletion_cut_short_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    for step in (1, 2):
        checkpoint(tmp_path, step)
    monkeypatch.setattr(
        "azr_lite.train.checkpoints.shutil.rmtree", lambda *args, **kwargs: None
    )  # killed before the files went
    drop_old(tmp_path, keep=1)
    assert not is_whole(tmp_path / "checkpoint-1")
    assert step_of(last_whole_checkpoint(tmp_path)) == 2


def test_the_seal_comes_last(tmp_path, monkeypatch):
    """A kill between the state and the seal leaves an unsealed checkpoint."""
    written: list[str] = []
    from azr_lite.train import checkpoints

    real = checkpoints.write_json
    monkeypatch.setattr(checkpoints, "write_json", lambda path, data: (written.append(path.name), real(path, data)))
    folder = checkpoint(tmp_path, 5)
    assert written == [STATE, SEAL]
    assert set(json.loads((folder / SEAL).read_text())["files"]) == {STATE, "model.safetensors", "deep/optimizer.pt"}
