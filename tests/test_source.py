"""Where a model comes from: what is in the cache, and a download that says how far it is where there is no terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from azr_lite.errors import ModelError
from azr_lite.train.source import is_cached, local_model
from tests.hub_stub import running_hub

FETCH = """
import sys
import azr_lite.pace
azr_lite.pace.QUIET_S = 0.0
from azr_lite.train.source import fetch, is_cached
before = is_cached("me/model")
fetch("me/model")
print(before, is_cached("me/model"))
fetch("me/model")
"""


def test_a_download_without_a_terminal_says_how_far_it_is_once(tmp_path):
    pytest.importorskip("huggingface_hub")
    folder = tmp_path / "hub" / "me" / "model"
    (folder / "onnx").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(60_000_000))
    (folder / "onnx" / "model.json").write_text("{}")
    (folder / "pytorch_model.bin").write_text("not wanted")
    with running_hub(tmp_path / "hub", "token") as hub:
        home = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "TQDM_DISABLE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", FETCH], env={**os.environ, **home}, capture_output=True, text=True, check=True
        )
        asked = [path for method, path in hub.requests if method == "GET" and "/resolve/" in path]
    assert done.stdout.split() == ["False", "True"]
    said = re.findall(r"^\d{4}-\S+ \S+  downloading me/model: (\S+) of (\S+) GB", done.stderr, re.MULTILINE)
    assert said
    assert {total for _, total in said} <= {"0.0", "0.1"}
    assert ("0.1", "0.1") in said
    assert all(re.match(r"\d{4}-", line) for line in done.stderr.splitlines() if "HF_TOKEN" not in line), done.stderr
    assert sorted({path.rpartition("/")[2] for path in asked}) == ["config.json", "model.safetensors"]


def test_a_cache_that_lacks_a_part_of_the_weights_does_not_count(tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    found = {"config.json": str(tmp_path / "config.json")}
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda named, name: found.get(name))
    (tmp_path / "config.json").write_text("{}")
    assert not is_cached("some/model")
    (tmp_path / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}'
    )
    (tmp_path / "one.safetensors").touch()
    assert not is_cached("some/model")
    (tmp_path / "two.safetensors").touch()
    assert is_cached("some/model")


def test_paths_are_told_from_hub_ids(tmp_path):
    assert local_model("nano") is None
    assert local_model("Qwen/Qwen3-4B") is None
    (tmp_path / "config.json").touch()
    assert local_model(str(tmp_path)) == tmp_path
    with pytest.raises(ModelError, match="there is no file"):
        local_model(str(tmp_path / "x.gguf"))
