"""Where a model comes from: a path, this machine's cache, or the hub, from which it is fetched. Loads no torch."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from azr_lite.errors import ModelError
from azr_lite.pace import Pace
from azr_lite.planner.vram import GB


def refuse_old_torchao(tuning: str) -> None:
    """ModelError for one that PEFT refuses, as Colab has shipped; PEFT says so only after the weights were read."""
    if tuning == "full":
        return
    from peft.import_utils import is_torchao_available

    try:
        is_torchao_available()
    except ImportError as error:
        raise ModelError(f"{error}; azr-lite does not use torchao: pip uninstall -y torchao") from error


def local_model(named: str) -> Path | None:
    """Where the model of this path lies; None for nano and hub ids. ModelError where nothing usable is there."""
    path = Path(named).expanduser()
    if named.endswith(".gguf"):
        if not path.is_file():
            raise ModelError(f"there is no file {path}; give the path of an existing .gguf file")
        if importlib.util.find_spec("gguf") is None:
            raise ModelError("reading GGUF files needs the package gguf; pip install gguf")
    elif path.is_file():
        raise ModelError(f"{path} is a file, but not .gguf; give a .gguf file or the model's folder")
    elif (path / "adapter_config.json").exists() and not (path / "config.json").exists():
        raise ModelError(f"{path} holds only an adapter; merge it into its base first (azr-lite export RUN --merge)")
    elif path.exists() and not (path / "config.json").exists():
        raise ModelError(f"{path} holds no model (config.json is missing); give a folder that save_pretrained made")
    elif not path.exists() and (named.startswith((".", "/", "~")) or named.count("/") > 1 or "\\" in named):
        raise ModelError(f"there is no model at {named}; give an existing folder, a .gguf file, a hub id or 'nano'")
    return path if named != "nano" and path.exists() else None


def is_cached(named: str) -> bool:
    """Whether the weights of this hub id are on this machine, all of them."""
    from huggingface_hub import errors, try_to_load_from_cache

    try:
        found = try_to_load_from_cache(named, "config.json")
    except errors.HFValidationError:
        return False
    if not isinstance(found, str):
        return False
    index = Path(found).with_name("model.safetensors.index.json")
    if index.exists():
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return all((index.parent / shard).exists() for shard in shards)
    return any(path.suffix in (".safetensors", ".bin") for path in index.parent.iterdir())


def fetch(named: str) -> None:
    """Download a hub model that is not here, and say how far that is. On a terminal the hub's own bars say it.

    Raises what the hub's client raises.
    """
    if sys.stderr.isatty() or os.environ.get("RANK", "0") != "0" or is_cached(named):
        return
    from huggingface_hub import snapshot_download
    from tqdm import tqdm

    with Pace(f"downloading {named}", 0.0, unit=" GB") as tell:

        class Bar(tqdm):
            """Draws nothing; what counts bytes is told."""

            def __init__(self, *args: Any, **given: Any) -> None:
                super().__init__(*args, **given | {"file": io.StringIO(), "disable": False, "leave": False})

            def display(self, *_: Any, **__: Any) -> None:
                if self.unit == "B" and self.total:
                    tell.total = max(tell.total, self.total / GB)
                    tell(max(tell.done, self.n / GB))

        kinds = ["model*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
        snapshot_download(named, allow_patterns=kinds, ignore_patterns=["*/*"], tqdm_class=Bar)
