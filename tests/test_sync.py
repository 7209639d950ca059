"""The second copy of a run: complete at every moment, no larger than needed, back again when it is wanted."""

import os
import shutil
from pathlib import Path

import pytest

import azr_lite.train.checkpoints
from azr_lite.config import Config
from azr_lite.errors import ConfigError, RunDirectoryError
from azr_lite.train.checkpoints import (
    SEAL,
    FolderMirror,
    HubMirror,
    is_whole,
    last_whole_checkpoint,
    mirror_of,
    step_of,
    try_push,
)
from tests.hub_stub import running_hub
from tests.test_checkpoints import checkpoint

TOKEN = "hf_" + "secretsecretsecret"


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "runs" / "nano"
    (folder / "eval").mkdir(parents=True)
    for name in ("config.json", "run.json", "metrics.jsonl", "eval/before.json", "eval/before.jsonl", ".hidden"):
        (folder / name).write_text(f"{name}\n")
    return folder


@pytest.fixture
def drive(tmp_path):
    (tmp_path / "drive").mkdir()
    return tmp_path / "drive"


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.iterdir())


LIGHT = ["config.json", "eval", "metrics.jsonl", "run.json"]


def test_the_place_is_read_from_the_setting(run_dir, tmp_path):
    assert mirror_of("", run_dir) is None
    assert str(mirror_of(str(tmp_path), run_dir)) == str(tmp_path / "nano")
    assert str(mirror_of("hub:me/azr", run_dir)) == "hub:me/azr/nano"
    for wrong in ("hub:me", "hub:/azr", "hub:a/b/c"):
        with pytest.raises(ConfigError, match="hub:USER/REPO"):
            Config(sync_to=wrong)


def test_a_run_is_no_copy_of_itself(run_dir, tmp_path):
    with pytest.raises(ConfigError, match="where the run itself is"):
        mirror_of(str(run_dir.parent), run_dir)


def test_a_record_is_never_there_without_its_items(run_dir, drive, monkeypatch):
    honest = shutil.copyfile

    def broken(source, target, **named):
        if Path(source).name == "before.jsonl":
            raise OSError(107, "Transport endpoint is not connected")
        return honest(source, target, **named)

    monkeypatch.setattr(azr_lite.train.checkpoints.shutil, "copyfile", broken)
    assert try_push(FolderMirror(drive / "nano", run_dir))
    assert not (drive / "nano" / "eval" / "before.json").exists()


def test_the_newest_whole_checkpoint_and_the_best_are_copied_and_older_ones_go(run_dir, drive):
    mirror, there = FolderMirror(drive / "azr" / "nano", run_dir), drive / "azr" / "nano"
    assert mirror.newest_step() is None
    mirror.push()
    assert mirror.newest_step() == 0
    for step in (2, 4):
        checkpoint(run_dir, step)
    checkpoint(run_dir, 5, sealed=False)
    mirror.push()
    assert names(there) == ["checkpoint-4", *LIGHT]
    assert is_whole(there / "checkpoint-4")
    checkpoint(run_dir, 6)
    mirror.push(run_dir / "checkpoint-gone")
    assert names(there) == ["checkpoint-6", *LIGHT]
    mirror.push(run_dir / "checkpoint-2")
    assert names(there) == ["checkpoint-2", "checkpoint-6", *LIGHT]
    assert mirror.newest_step() == 6


def test_only_what_changed_is_copied(run_dir, drive, monkeypatch):
    mirror = FolderMirror(drive / "nano", run_dir)
    checkpoint(run_dir, 2)
    mirror.push()
    copied: list[str] = []
    honest = shutil.copyfile
    monkeypatch.setattr(
        azr_lite.train.checkpoints.shutil,
        "copyfile",
        lambda a, b, **k: (copied.append(Path(a).name), honest(a, b, **k))[1],
    )
    mirror.push()
    assert copied == []
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write("more\n")
    (run_dir / "config.json").write_text("CONFIG.JSON\n")  # as long as before, but newer
    os.utime(run_dir / "config.json", ns=(later := 2 * 10**18, later))
    mirror.push()
    assert sorted(copied) == ["config.json", "metrics.jsonl"]
    assert (drive / "nano" / "config.json").read_text() == "CONFIG.JSON\n"


@pytest.mark.parametrize("file", ["model.safetensors", SEAL, "metrics.jsonl"])
def test_a_copy_cut_short_leaves_the_one_before_and_is_made_up_for(file, run_dir, drive, monkeypatch):
    mirror, there = FolderMirror(drive / "nano", run_dir), drive / "nano"
    checkpoint(run_dir, 2)
    assert try_push(mirror) == ""
    checkpoint(run_dir, 4)
    with (run_dir / "metrics.jsonl").open("a") as log:
        log.write("more\n")
    honest = shutil.copyfile

    def broken(source, target, **named):
        if Path(source).name == file:
            Path(target).write_bytes(b"half")
            raise OSError(107, "Transport endpoint is not connected")
        return honest(source, target, **named)

    with monkeypatch.context() as patch:
        patch.setattr(azr_lite.train.checkpoints.shutil, "copyfile", broken)
        said = try_push(mirror)
    assert "Transport endpoint is not connected" in said
    assert "\n" not in said
    assert step_of(last_whole_checkpoint(there)) == 2
    assert names(there) == ["checkpoint-2", *LIGHT]
    assert try_push(mirror) == ""
    assert names(there) == ["checkpoint-4", *LIGHT]
    assert (there / "metrics.jsonl").read_text() == "metrics.jsonl\nmore\n"


def test_a_place_that_is_not_mounted_is_not_made_up(run_dir, tmp_path):
    mirror = mirror_of(str(tmp_path / "content" / "drive" / "azr"), run_dir)
    assert "is it mounted" in try_push(mirror)
    with pytest.raises(OSError, match="is it mounted"):
        mirror.newest_step()
    assert not (tmp_path / "content").exists()


def test_it_comes_back_whole(run_dir, drive):
    mirror = FolderMirror(drive / "nano", run_dir)
    checkpoint(run_dir, 2)
    mirror.push()
    shutil.rmtree(run_dir.parent)
    mirror.fetch()
    assert names(run_dir) == ["checkpoint-2", *LIGHT]
    assert is_whole(run_dir / "checkpoint-2")
    assert names(run_dir.parent) == ["nano"]


def test_a_fetch_that_fails_leaves_no_run(run_dir, drive, monkeypatch):
    mirror = FolderMirror(drive / "nano", run_dir)
    mirror.push()
    shutil.rmtree(run_dir)
    monkeypatch.setattr(
        azr_lite.train.checkpoints.os,
        "replace",
        lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")),
    )
    with pytest.raises(RunDirectoryError, match=r"cannot fetch .* make room"):
        mirror.fetch()
    assert names(run_dir.parent) == []


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on loopback, spoken to by the real client."""
    import huggingface_hub

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with running_hub(tmp_path / "hub", TOKEN) as hub:
        client = huggingface_hub.HfApi(endpoint=hub.url, token=TOKEN)
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: client)
        yield hub


def test_the_hub_holds_the_same_and_gives_it_back(run_dir, hub):
    mirror = HubMirror("me/azr", run_dir)
    assert mirror.newest_step() is None
    for step in (2, 4):
        checkpoint(run_dir, step)
    checkpoint(run_dir, 5, sealed=False)
    assert try_push(mirror) == ""
    there = hub.root / "me" / "azr" / "nano"
    assert hub.private["me/azr"]
    assert names(there) == ["checkpoint-4", *LIGHT]
    checkpoint(run_dir, 6)
    assert try_push(mirror, run_dir / "checkpoint-2") == ""
    assert names(there) == ["checkpoint-2", "checkpoint-6", *LIGHT]
    assert [name for name in hub.messages if name.startswith("nano")] == ["nano: checkpoint-4", "nano: checkpoint-6"]
    assert mirror.newest_step() == 6
    shutil.rmtree(run_dir)
    mirror.fetch()
    assert names(run_dir) == ["checkpoint-2", "checkpoint-6", *LIGHT]
    assert step_of(last_whole_checkpoint(run_dir)) == 6
    assert names(run_dir.parent) == ["nano"]


def test_a_hub_that_is_away_is_a_sentence(run_dir, tmp_path, monkeypatch):
    class Away:
        def __getattr__(self, name):
            raise ConnectionError("Max retries exceeded\nwith url")

    monkeypatch.setattr("huggingface_hub.HfApi", Away)
    mirror = HubMirror("me/azr", run_dir)
    assert "Max retries exceeded with url" in try_push(mirror)
    with pytest.raises(RunDirectoryError, match="hf auth login"):
        mirror.fetch()
