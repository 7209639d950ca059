"""Datasets of questions: shipped with the package, a file, or a hub id; each with the digest that a result records.

Comes in: a name, a path or a hub id.  Goes out: rows and their sha256.  Reads no code and runs none.
Not covered: what the rows mean (each suite knows its own), datasets that need a script.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from azr_lite.errors import EvaluationError

SHIPPED = resources.files("azr_lite.evaluation") / "shipped"
"""Origins and licences: ORIGINS.md in that folder."""


@dataclass(frozen=True)
class Data:
    """`sha256`: of the file's bytes as stored; of a hub dataset, of its rows as JSON lines. `path`: empty for a hub dataset."""

    name: str
    source: str
    sha256: str
    rows: tuple[dict[str, Any], ...]
    path: str = ""

    def describe(self) -> dict[str, Any]:
        """What a result records."""
        return {"name": self.name, "source": self.source, "sha256": self.sha256, "rows": len(self.rows)}


def shipped(name: str, file: str) -> Data:
    """A dataset that comes with the package."""
    return _from_file(name, Path(str(SHIPPED / file)), f"shipped: {file}")


def read_data(name: str, source: str | Path, needs: Sequence[str] = ()) -> Data:
    """A dataset from a ``.jsonl``, ``.json``, ``.parquet`` file (``.gz`` allowed on the first two) or a hub id
    ``OWNER/NAME[:CONFIG[:SPLIT]]``.

    EvaluationError when it cannot be had, or when a row lacks one of the columns in `needs`.
    """
    path = Path(source).expanduser()
    if path.is_file():
        data = _from_file(name, path, str(path))
    elif path.exists() or str(source).startswith((".", "/", "~")) or str(source).count("/") != 1:
        raise EvaluationError(
            f"there is no file {source} with the questions of {name}; give a .jsonl, .json or .parquet file, or a hub id"
        )
    else:
        data = _from_hub(name, str(source))
    for number, row in enumerate(data.rows):
        if missing := [column for column in needs if column not in row]:
            raise EvaluationError(
                f"row {number} of {source} has no {missing[0]!r}, so these are not the questions of {name}; expected columns: {', '.join(needs)}"
            )
    return data


def _from_file(name: str, path: Path, source: str) -> Data:
    raw = path.read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    ending = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    try:
        if ending == ".parquet":
            rows = _parquet(path)
        else:
            text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
            whole = (
                json.loads(text)
                if text.lstrip().startswith("[")
                else [json.loads(line) for line in text.split("\n") if line.strip()]
            )
            rows = whole
    except (OSError, ValueError, EOFError) as error:
        raise EvaluationError(
            f"{path} cannot be read as questions of {name} ({error}); expected JSON lines, a JSON list or parquet"
        ) from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise EvaluationError(f"{path} holds no questions of {name}; expected one JSON object a line")
    return Data(name, source, digest, tuple(rows), str(path))


def _parquet(path: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise EvaluationError(
            f"reading {path} needs pyarrow; pip install 'azr-lite[eval]', or convert it to .jsonl"
        ) from error
    return parquet.read_table(path).to_pylist()


def _from_hub(name: str, source: str) -> Data:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise EvaluationError(
            f"fetching {source} needs the package datasets; pip install 'azr-lite[eval]', or give a file"
        ) from error
    if not _hub_answers():
        _stay_offline()  # what was fetched before is still found; the client would try again and again for half a minute a dataset
    repo, _, rest = source.partition(":")
    config, _, split = rest.partition(":")
    try:
        found = load_dataset(repo, config or None, split=split or "test")
    except Exception as error:  # the hub client raises dozens of kinds
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise EvaluationError(
            f"{source} cannot be fetched from the hub ({first}); go online, give OWNER/NAME:CONFIG:SPLIT, or give a local file"
        ) from error
    rows = tuple(dict(row) for row in found)
    digest = hashlib.sha256(
        "".join(json.dumps(row, sort_keys=True, default=str) + "\n" for row in rows).encode()
    ).hexdigest()
    return Data(name, f"hub: {source}", digest, rows)


@functools.cache
def _hub_answers() -> bool:
    """Whether the hub's machine takes a connection within three seconds; asked once a process. Behind a proxy nobody can tell."""
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return True
    url = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        with socket.create_connection(
            (url.hostname or "", url.port or (80 if url.scheme == "http" else 443)), timeout=3
        ):
            return True
    except OSError:
        return False


def _stay_offline() -> None:
    import datasets
    import huggingface_hub

    huggingface_hub.constants.HF_HUB_OFFLINE = True
    datasets.config.HF_HUB_OFFLINE = True
