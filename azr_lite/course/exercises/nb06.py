"""Exercises of notebook 06, a live run: reading a log, an error band, a checkpoint that can be trusted."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from azr_lite.course.checks import Mistake, exercise
from azr_lite.evaluation.scores import Z95, wilson
from azr_lite.metrics import across, mean
from azr_lite.train.checkpoints import SEAL, is_whole, last_whole_checkpoint, step_of

LINE = {
    "step": 3.0, "propose/deduction/ok": 1.0, "propose/abduction/ok": 0.875, "propose/deduction/reason/truncated": 3.0,
    "propose/deduction/truncated": 0.25, "propose/abduction/truncated": 0.0, "solve/deduction/ok": 0.5,
    "solve/abduction/ok": 0.75, "solve/induction/ok": 0.25, "solve/deduction/tokens": 24.0,
    "solve/deduction/tokens_right": 20.0, "solve/abduction/tokens": 30.0, "solve/induction/tokens": 42.0,
    "tokens/generated": 9000.0,
}  # fmt: skip
"""A line of metrics.jsonl, shortened."""

OTHER = {
    "solve/sql/ok": 0.5,
    "solve/errors/ok": 0.5,
    "solve/deduction/ok": 0.25,
    "solve/sql/part/ok": 1.0,
    "solve/ok": 0.4,
}
"""A run with task types of one's own, two of which are solved as often."""


def _taken(line: Mapping[str, float], start: str, end: str, three: bool = False, once: bool = False) -> list[float]:
    found = across(line, start, end)
    if three:
        names = [f"{start}{kind}{end}" for kind in ("deduction", "abduction", "induction")]
        found = [line[name] for name in names if name in line]
    return list(dict.fromkeys(found)) if once else found


exercise(
    name="across", key=across, points=1,
    probes=lambda: [
        (LINE, "solve/", "/ok"), (LINE, "solve/", "/tokens"), (LINE, "propose/", "/truncated"),
        (LINE, "solve/", "/reward"), (OTHER, "solve/", "/ok"),
    ],
    hint="Keys look like role/type/name; take the values whose key begins with `start`, ends with `end`, and has two slashes.",
    mistakes=[
        Mistake(lambda *given: _taken(*given, three=True), "it knows the three task types by name. A run may have "
            "others (notebook 10 makes one): take what is there"),
        Mistake(lambda *given: _taken(*given, once=True), "equal values come out once, as from a set or a dict by "
            "value. Two types that are solved equally often are two values; a mean over them would be wrong"),
        Mistake(lambda line, start, end: [value for key, value in line.items() if key.startswith(start) and key.endswith(end)], "propose/deduction/reason/truncated came along: it is a *count* of rejections (3), not a share, and it lies a level deeper. Averaged with shares it makes a share above 1. Keys of role/type/name have exactly two slashes"),
        Mistake(lambda line, start, end: [value for key, value in line.items()
            if key.startswith(start) and key.endswith(end) and "/reason/" not in key],
            "it leaves out the reasons by name; other counts lie as deep. Keys of role/type/name have exactly two "
            "slashes: count them"),
        Mistake(lambda line, start, end: [value for key, value in line.items() if start in key and end in key], "it looks for the words *anywhere* in the key, so tokens_right is taken for tokens, and counts of reasons for shares. Ask how the key begins and how it ends"),
        Mistake(lambda line, start, end: mean(across(line, start, end)), "it returns the mean; return the values, one for each task type, so that the caller may take their mean, their minimum, or see that one type is missing"),
        Mistake(lambda line, start, end: [value for key, value in line.items() if key.endswith(end) and key.count("/") == 2], "it takes both roles together; proposals and answers are told apart by how the key *begins*"),
        Mistake(lambda line, start, end: [key for key in line if key.startswith(start) and key.endswith(end) and key.count("/") == 2], "it returns the keys; the values are wanted"),
    ],
)  # fmt: skip


def _plain(right: int, n: int) -> tuple[float, float]:
    p = right / n
    half = Z95 * math.sqrt(p * (1 - p) / n)
    return p - half, p + half


def _uncentred(right: int, n: int) -> tuple[float, float]:
    p = right / n
    half = (wilson(right, n)[1] - wilson(right, n)[0]) / 2
    return max(0.0, p - half), min(1.0, p + half)


def _undivided(right: int, n: int) -> tuple[float, float]:
    p, zz = right / n, Z95 * Z95
    centre, half = p + zz / (2 * n), Z95 * math.sqrt(p * (1 - p) / n + zz / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


exercise(
    name="wilson", key=wilson, points=2,
    probes=lambda: [(140, 300), (1, 10), (3, 10), (0, 10), (10, 10), (29, 30)],
    hint="(p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n), with z = 1.959964.",
    mistakes=[
        Mistake(_plain, "that is p ± z·√(p(1−p)/n), the textbook interval. With 1 of 10 right it reaches below zero, and with 0 of 10 it has no width, as if ten questions could prove that the model never gets one right. Wilson's repairs both"),
        Mistake(lambda right, n: (max(0.0, _plain(right, n)[0]), min(1.0, _plain(right, n)[1])), "that is the textbook interval p ± z·√(p(1−p)/n), cut at 0 and 1. The cut hides the illness and does not cure it: 0 of 10 still gives an interval without width"),
        Mistake(lambda right, n: wilson(right, n, z=1.0), "z is 1, which makes an interval of 68 %; a 95 % interval needs z = 1.959964"),
        Mistake(lambda right, n: wilson(right, n, z=1.96), "all is right but z, which is rounded to 1.96; take 1.959964"),
        Mistake(_uncentred, "the width is right, the centre is not: p itself stands in the middle. Wilson's centre is drawn towards one half, by more the fewer questions there are"),
        Mistake(_undivided, "the division of centre and half-width by 1 + z²/n is missing"),
    ],
)  # fmt: skip


def _folder(root: Path, steps: Mapping[int, str]) -> Path:
    """A run directory with a checkpoint for each step: "whole", "unsealed", "short" (a file is cut), "long" (one has
    grown), "swapped" (two have each other's sizes), "lost" (a file is missing) or "more" (one that is not listed)."""
    for age, (step, state) in enumerate(steps.items()):
        place = root / f"checkpoint-{step}"
        place.mkdir(parents=True)
        sizes = {"model.safetensors": 40, "selfplay.json": 20}
        found = {
            "short": {"model.safetensors": 20, "selfplay.json": 10},
            "long": {"model.safetensors": 41, "selfplay.json": 20},
            "swapped": {"model.safetensors": 20, "selfplay.json": 40},
            "lost": {"selfplay.json": 20},
            "more": {**sizes, "notes.txt": 5},
        }.get(state, sizes)
        for name, size in found.items():
            (place / name).write_bytes(b"x" * size)
        if state != "unsealed":
            (place / SEAL).write_text(json.dumps({"files": sizes}))
        os.utime(place, (1000 + age, 1000 + age))  # written in this order
    return root


FOLDERS: dict[str, dict[int, str]] = {
    "whole checkpoints 16 and 24": {16: "whole", 24: "whole"},
    "whole checkpoints 96 and 100": {96: "whole", 100: "whole"},
    "checkpoint 16 whole, 24 killed before its seal": {16: "whole", 24: "unsealed"},
    "checkpoint 16 whole, 24 sealed but a file cut short": {16: "whole", 24: "short"},
    "checkpoint 16 whole, 24 sealed but a file longer than listed": {16: "whole", 24: "long"},
    "checkpoint 16 whole, 24 sealed but two files with each other's size": {16: "whole", 24: "swapped"},
    "checkpoint 16 whole, 24 sealed but a file missing": {16: "whole", 24: "lost"},
    "checkpoint 16 whole, 24 whole and with a file that the seal does not list": {16: "whole", 24: "more"},
    "checkpoint 24 whole, 16 copied back later": {24: "whole", 16: "whole"},
    "no checkpoint at all": {},
}


def _asked(mine: Callable[[Path], Any]) -> list[Any]:
    """What is found in each folder, without the folder's own path; errors and stubs are observations."""
    seen: list[Any] = []
    with tempfile.TemporaryDirectory(prefix="azr-lite-exercise-") as spare:
        for place, steps in enumerate(FOLDERS.values()):
            root = Path(spare) / str(place)
            root.mkdir()
            try:
                found = mine(_folder(root, steps))
            except Exception as error:
                found = type(error).__name__  # without its text, which names a folder that is gone by then
            if isinstance(found, Path) and found.resolve().parent == root.resolve():
                found = Path("run_dir") / found.name
            seen.append(found.replace(str(root), "run_dir") if isinstance(found, str) else found)
    return seen


def _newest(run_dir: Path, good: Callable[[Path], bool], order: Callable[[Path], Any] = step_of) -> Path | None:
    found = [path for path in run_dir.glob("checkpoint-*") if good(path)]
    return max(found, key=order, default=None)


def _listed(checkpoint: Path) -> dict[str, int]:
    """The sizes that the seal lists; none without a seal."""
    return json.loads((checkpoint / SEAL).read_text())["files"] if (checkpoint / SEAL).exists() else {}


def _there(checkpoint: Path) -> dict[str, int]:
    """The sizes of all files but the seal."""
    return {file.name: file.stat().st_size for file in checkpoint.iterdir() if file.name != SEAL}


def _trusting(checkpoint: Path) -> bool:
    """Sealed, with files of the listed sizes; FileNotFoundError where one is missing."""
    listed = _listed(checkpoint)
    return bool(listed) and all((checkpoint / name).stat().st_size == size for name, size in listed.items())


exercise(
    name="last_whole_checkpoint", key=last_whole_checkpoint, points=2, observe=_asked,
    shows=tuple(FOLDERS),
    hint="Among the folders whose whole.json is there and whose listed files have the listed sizes, the one of the largest step, as a Path.",
    mistakes=[
        Mistake(lambda run_dir: getattr(last_whole_checkpoint(run_dir), "name", None), "it returns the folder's *name*; the next cells need the folder itself, a pathlib.Path such as run_dir / 'checkpoint-24'"),
        Mistake(lambda run_dir: _newest(run_dir, lambda path: bool(_listed(path)) and _there(path) == _listed(path)), "it refuses a folder for a file that the seal does not list. Something may lie beside them (your notes); only the listed files count"),
        Mistake(lambda run_dir: _newest(run_dir, lambda path: bool(_listed(path)) and sum(_there(path).values()) == sum(_listed(path).values())), "it compares the sum of all sizes, which says nothing of a single file: one may be too short and another too long. Compare file by file"),
        Mistake(lambda run_dir: _newest(run_dir, lambda path: (bool(_listed(path)) and all(_there(path).get(name, -1) >= size for name, size in _listed(path).items()))), "it is content with a file that is *longer* than listed. Such a file was written after the seal, or is another one: exactly the listed size"),
        Mistake(lambda run_dir: _newest(run_dir, lambda path: (path / SEAL).exists()), "it sees that the seal is there, not that the files still are what the seal says. A full disk or a copy that broke off leaves a sealed folder with a file short or missing: compare the sizes"),
        Mistake(lambda run_dir: _newest(run_dir, lambda path: True), "it takes the newest folder, whole or not. A process killed while it saves leaves a folder without its seal (or with a file cut short), and resuming from that ends in an error, or worse: in a run that goes on from half a state"),
        Mistake(lambda run_dir: max((path for path in run_dir.glob("checkpoint-*") if _trusting(path)), key=step_of, default=None), "a file that the seal lists may be missing altogether, and asking for its size then raises FileNotFoundError. Such a folder is not whole: see that the file exists first"),
        Mistake(lambda run_dir: _newest(run_dir, is_whole, order=lambda path: path.name), "it compares names as *text*, and 'checkpoint-100' comes before 'checkpoint-96' there. At step 100 the run would go back by itself. Compare the numbers"),
        Mistake(lambda run_dir: _newest(run_dir, is_whole, order=lambda path: path.stat().st_mtime), "it goes by the time of writing. Times change when folders are copied or synchronised; the step is in the name"),
        Mistake(lambda run_dir: max((path for path in run_dir.glob("checkpoint-*") if is_whole(path)), key=step_of), "with no checkpoint at all it raises an error, but a run killed in its first minute has none: return None, and the run begins anew"),
        Mistake(lambda run_dir: sorted(run_dir.glob("checkpoint-*"))[-1], "it takes the last folder by name, and so falls into three traps: 'checkpoint-100' comes before 'checkpoint-96' as a text, the last folder may not be whole, and there may be none at all"),
    ],
)  # fmt: skip
