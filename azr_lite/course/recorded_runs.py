"""Recorded numbers for notebooks: files of ``data_samples``, from the checkout, the wheel, or else downloaded once."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import tempfile
import urllib.error
import urllib.request
from importlib import metadata
from pathlib import Path
from typing import Any

from azr_lite.config import config_text
from azr_lite.course.lessons import REPOSITORY
from azr_lite.errors import AzrError
from azr_lite.rundir import RunDir, write_bytes, write_text

ROOT = Path(__file__).parents[2]
SECONDS = 20

PATIENTS: dict[str, tuple[str, str]] = {
    "A": ("impossible-tasks", "impossible tasks"),
    "B": ("healthy", "healthy"),
    "C": ("sign-flip", "sign flip"),
    "D": ("length-blow-up", "length blow-up"),
    "E": ("greedy-monte-carlo", "identical answers"),
    "F": ("trivial-tasks", "easy tasks"),
}
"""The six runs of notebook 08. Letter: folder in ``data_samples/runs/bugs``, and the name of what it has."""

SAMPLE = ("config.json", "metrics.jsonl", "rollouts.jsonl", "summary.json")
EVALUATIONS = tuple(f"eval/{name}" for name in ("before.json", "before.jsonl", "step-14.json", "step-14.jsonl"))
WHOLE = (*SAMPLE, "run.json", "tasks.jsonl", "timing.jsonl", *EVALUATIONS)


def recorded(name: str) -> Path:
    """The file ``data_samples/<name>``. AzrError where it is neither here nor can be downloaded."""
    kept = _cache() / name
    for here in (ROOT / "data_samples" / name, *_shipped(name), kept):
        if here.exists():
            return here
    source = f"https://raw.githubusercontent.com/{REPOSITORY}/main/data_samples/{name}"
    try:
        with urllib.request.urlopen(source, timeout=SECONDS) as reply:
            data = reply.read()
    except (urllib.error.URLError, TimeoutError) as error:
        raise AzrError(
            f"data_samples/{name} is not here and {source} could not be downloaded ({error}); clone the repository"
        ) from None
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(kept, data)
    return kept


def _shipped(name: str) -> list[Path]:
    """Where pip put it, if the wheel brought it: data-files of pyproject.toml go into share/ of the environment."""
    try:
        files = metadata.files("azr-lite") or ()
    except metadata.PackageNotFoundError:
        return []
    ending = f"share/azr-lite/data_samples/{name}"
    return [Path(str(file.locate())) for file in files if file.as_posix().endswith(ending)]


def _cache() -> Path:
    return Path.home() / ".cache" / "azr-lite"


def real_runs() -> dict[str, Path]:
    """The runs of a real language model that ``benchmarks/real/comparison.json`` counts: name to folder.

    Each is unpacked from its archive into the user's cache, once.
    """
    counted = json.loads(recorded("benchmarks/real/comparison.json").read_text(encoding="utf-8"))["after"]
    return {name: _unpacked(name) for name in (Path(file).stem for file in counted)}


def _unpacked(name: str) -> Path:
    archive = recorded(f"runs/{name}.tar.gz")
    place = _cache() / hashlib.sha256(archive.read_bytes()).hexdigest()[:16]
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as spare, tarfile.open(archive) as packed:
            packed.extractall(spare + "/whole", filter="data")
            os.replace(spare + "/whole", place)
    return place / name


def sample(name: str) -> Path:
    """The folder of one kept sample of `data_samples/runs`, such as ``bugs/healthy``."""
    return _folder(name, SAMPLE)


def patient(letter: str) -> Path:
    """The folder of one of the six, A to F."""
    return sample(f"bugs/{PATIENTS[letter][0]}")


def whole_run() -> Path:
    """The folder of the kept whole run: nano, 14 steps, two task types."""
    return _folder("whole/nano-small", WHOLE)


def _folder(name: str, files: tuple[str, ...]) -> Path:
    paths = [recorded(f"runs/{name}/{file}") for file in files]  # where they are not here, each is downloaded
    return paths[0].parent


# ---------------------------------------------------------------- how samples are made

DETAILS = frozenset(
    "age advantage_mean advantage_std always_solved duplicates loss_share never_solved part reason reward_std "
    "solved tokens_right tokens_wrong".split()
)
"""Numbers of a (role, type) or a buffer that a sample of a run leaves out: by now they are most of `metrics.jsonl`."""


def keep_sample(run: RunDir, target: Path, rollouts: int = 48) -> None:
    """A small copy for reading and plotting: settings, summary, metrics without `DETAILS`, evenly spread rollouts.

    Numbers have six digits.
    """
    target.mkdir(parents=True, exist_ok=True)
    settings = run.config().replace(output_dir=run.path.name)  # its folders are nobody's business
    write_text(target / "config.json", config_text(settings))
    summary = run.summary() or {}
    held_out = summary.get("curves", {}).get("held-out accuracy", [])  # others can be drawn from metrics.jsonl
    write_text(target / "summary.json", _sample_line(summary | {"curves": {"held-out accuracy": held_out}}))
    drawn = (
        {name: value for name, value in line.items() if not DETAILS & set(name.split("/")[2:])}
        for line in run.read("metrics.jsonl")
    )
    write_text(target / "metrics.jsonl", "".join(map(_sample_line, drawn)))
    lines = list(run.read("rollouts.jsonl"))
    spread = lines[:: max(1, len(lines) // rollouts)][:rollouts]
    write_text(target / "rollouts.jsonl", "".join(map(_sample_line, spread)))


def _sample_line(line: dict[str, Any]) -> str:
    """One JSON line of a kept sample, numbers rounded to six digits: nothing that is drawn or judged needs more."""
    rounded = json.loads(json.dumps(line), parse_float=lambda digits: float(f"{float(digits):.6g}"))
    return json.dumps(rounded, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n"
