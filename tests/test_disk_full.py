"""A full disk costs the checkpoint being written and nothing else."""

import errno
import json
import os
import resource
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from azr_lite.errors import RunDirectoryError
from azr_lite.presets import preset
from azr_lite.rundir import RunDir
from azr_lite.train.checkpoints import SEAL, last_whole_checkpoint
from azr_lite.train.trainer import SelfPlayTrainer
from tests.test_rundir import ROLLOUT
from tests.tiny import PLAIN, Scripted, sampled_script, tiny_config, tiny_policy

FULL = OSError(errno.ENOSPC, "No space left on device", "x")
TORCH = RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0")


def trainer(folder: Path, **changes):
    config = tiny_config(steps=3, updates_per_step=2, keep_checkpoints=9, **changes)
    return SelfPlayTrainer(config, tiny_policy(), PLAIN, Scripted(sampled_script(config)), folder)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    trainer(folder).train()
    return folder


def size_of(checkpoint: Path) -> int:
    return sum(file.stat().st_size for file in checkpoint.iterdir() if file.name != SEAL)


def weights(folder: Path) -> bytes:
    return (folder / "checkpoint-6" / "model.safetensors").read_bytes()


def failing_at(monkeypatch, owner, name: str, folder: str, error: Exception) -> None:
    """This writer fails for this checkpoint's files, after some of its bytes were written."""
    honest = getattr(owner, name)

    def writer(*given, **named):
        path = next((str(x) for x in (*given, *named.values()) if isinstance(x, str | Path) and folder in str(x)), None)
        if path is not None:
            target = Path(path)
            (target / "cut" if target.is_dir() else target).write_bytes(b"half")
            raise error
        return honest(*given, **named)

    monkeypatch.setattr(owner, name, writer)


@pytest.mark.parametrize(
    "place", ["weights", "weights, safetensors' error", "optimizer", "optimizer, torch's error", "state"]
)
def test_the_checkpoint_before_stays_whole(place, unbroken, tmp_path, monkeypatch):
    import transformers.modeling_utils

    rust = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    owner, name, error = {
        "weights": (transformers.modeling_utils, "safe_save_file", FULL),
        "weights, safetensors' error": (transformers.modeling_utils, "safe_save_file", rust),
        "optimizer": (torch, "save", FULL),
        "optimizer, torch's error": (torch, "save", TORCH),
        "state": (None, "", FULL),
    }[place]
    running = trainer(tmp_path)
    with monkeypatch.context() as patch:
        if place == "state":
            honest = running.selfplay.state_dict

            def state():
                if (tmp_path / "checkpoint-4").exists():
                    patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(FULL))
                return honest()

            patch.setattr(running.selfplay, "state_dict", state)
        else:
            failing_at(patch, owner, name, "checkpoint-4", error)
        with pytest.raises(RunDirectoryError) as caught:
            running.train()
    sentence = str(caught.value)
    assert (
        f"no room for a checkpoint of about {size_of(tmp_path / 'checkpoint-2') / 1e6:.1f} MB at {tmp_path / 'checkpoint-4'}"
        in sentence
    )
    assert f"`azr-lite resume {tmp_path}` goes on from checkpoint-2" in sentence
    assert "\n" not in sentence
    assert not (tmp_path / "checkpoint-4").exists()
    assert last_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    trainer(tmp_path).train(resume_from_checkpoint=tmp_path / "checkpoint-2")
    assert weights(tmp_path) == weights(unbroken)


def test_the_first_checkpoint_may_be_the_one(tmp_path, monkeypatch):
    failing_at(monkeypatch, torch, "save", "checkpoint-2", FULL)
    running = trainer(tmp_path)
    with pytest.raises(RunDirectoryError, match=r"of about 0\.\d MB at .*checkpoint-2; .*goes on from the start"):
        running.train()
    assert list(tmp_path.iterdir()) == []


def test_other_trouble_keeps_its_name(tmp_path, monkeypatch):
    failing_at(monkeypatch, torch, "save", "checkpoint-2", RuntimeError("CUDA error: out of memory"))
    with pytest.raises(RuntimeError, match="CUDA error"):
        trainer(tmp_path).train()
    failing_at(monkeypatch, torch, "save", "checkpoint-2", OSError(errno.EIO, "Input/output error"))
    with pytest.raises(RunDirectoryError, match=r"could not be written \(Input/output error\)"):
        trainer(tmp_path).train()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "azr-lite-test", str(folder)], capture_output=True, timeout=20
    )
    if mounted.returncode:
        pytest.skip(f"mounting a tmpfs is not allowed here ({mounted.stderr.decode().strip()})")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True, timeout=20)


def test_a_disk_that_is_really_full(small_disk, unbroken):
    """Whichever file the room ends in: weights, tokenizer, optimizer, random states, the seal."""
    starting = trainer(small_disk)
    starting.args.max_steps = 2
    starting.train()
    first = small_disk / "checkpoint-2"
    size = size_of(first)
    for twentieths in range(0, 20, 2):
        running = trainer(small_disk)
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        (small_disk / "filler").write_bytes(bytes(free - twentieths * size // 20))
        with pytest.raises(RunDirectoryError, match=r"no room for a checkpoint of about .* goes on from checkpoint-2"):
            running.train(resume_from_checkpoint=first)
        assert not (small_disk / "checkpoint-4").exists()
        assert last_whole_checkpoint(small_disk) == first
        (small_disk / "filler").unlink()
    trainer(small_disk).train(resume_from_checkpoint=first)
    assert weights(small_disk) == weights(unbroken)


def test_a_log_line_that_does_not_fit_leaves_the_lines_before(tmp_path):
    """A limit on the size of files takes part of a line, as a full disk does."""
    run = RunDir.create(preset("nano", output_dir=str(tmp_path / "run")), {})
    run.append(0, {"loss": 0.5}, {"generate": 0.1}, [ROLLOUT], [{"step": 0}])
    before = {name: (run.path / name).read_bytes() for name in ("rollouts.jsonl", "metrics.jsonl", "tasks.jsonl")}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["rollouts.jsonl"]) + 60, hard))
    try:
        with pytest.raises(RunDirectoryError, match=r"cannot write .*rollouts.jsonl.*azr-lite resume"):
            run.append(1, {"loss": 0.4}, {"generate": 0.1}, [ROLLOUT], [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {name: (run.path / name).read_bytes() for name in before} == before
    run.append(1, {"loss": 0.4}, {"generate": 0.1}, [ROLLOUT], [])
    assert [json.loads(line)["step"] for line in (run.path / "rollouts.jsonl").read_text().splitlines()] == [0, 1]
