"""Trackers show what the run directory holds: every number, under its name, once a step, also after a kill and a resume.

Comes in: small nano runs that report to TensorBoard, whose event files are read back; a recorded run for the others.
Not covered: the services behind wandb and trackio; those two are tried offline where they are installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import azr_lite
from azr_lite.config import Config
from azr_lite.errors import ConfigError
from azr_lite.metrics import METRICS, metric_of
from azr_lite.progress import Trackers
from azr_lite.rundir import RunDir

SMALL: dict[str, Any] = {
    "steps": 2, "batch_size": 4, "solver_batch_size": 4, "n_mc": 2, "seed_batch_factor": 1, "updates_per_step": 2, "micro_batch_size": 4,
    "eval_problems": 2, "eval_every": 1, "save_every": 1, "self_test": False, "workers": 1, "device": "cpu", "gradient_share_every": 2,
}  # fmt: skip


def points(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value of each point of each curve TensorBoard shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def check_the_same(shown: dict[str, list[tuple[int, float]]], path: Path) -> None:
    """Every curve is one of the logs, point for point; and every number of the logs is a point."""
    logged: dict[str, list[tuple[int, Any]]] = {}
    for name in ("metrics.jsonl", "timing.jsonl"):
        for line in RunDir(path).read(name):
            for key, value in line.items():
                if key != "step":
                    logged.setdefault(key, []).append((line["step"] + 1, pytest.approx(value, rel=1e-5, abs=1e-6)))
    for evaluation in (path / "eval").glob("*.json"):
        step = 0 if evaluation.stem == "before" else int(evaluation.stem.split("-")[1])
        for kind, score in json.loads(evaluation.read_text())["scores"].items():
            for key in ("accuracy", "tokens") if "/" not in kind else ():
                logged.setdefault(f"held_out/{kind}/{key}", []).append(
                    (step, pytest.approx(score[key], rel=1e-5, abs=1e-6))
                )
    summary = json.loads((path / "summary.json").read_text())
    for kind, gain in summary["gain"].items():
        logged[f"gain/{kind}"] = [(summary["steps"], pytest.approx(gain["gain"], abs=1e-6))]
    assert shown == {key: sorted(values, key=lambda point: point[0]) for key, values in logged.items()}


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("trl")
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (pip install tensorboard)")
    path = tmp_path_factory.mktemp("trackers") / "run"
    return azr_lite.run("nano", output_dir=str(path), report_to=("tensorboard",), **SMALL).path


def test_every_number_of_every_step_is_one_point(reported: Path) -> None:
    shown = points(reported)
    check_the_same(shown, reported)
    assert [step for step, _ in shown["solve/deduction/ok"]] == [1, 2]
    assert [step for step, _ in shown["held_out/all/accuracy"]] == [0, 1, 2]
    assert [step for step, _ in shown["gain/all"]] == [2]
    assert [step for step, _ in shown["propose/abduction/gradient_share"]] == [2]
    assert [tag for tag in shown if metric_of(tag) is None] == []
    elsewhere = {m.pattern for m in METRICS if m.file not in ("metrics.jsonl", "timing.jsonl")}
    assert elsewhere <= {metric_of(tag).pattern for tag in shown}


def test_a_killed_and_resumed_run_shows_each_step_once(reported: Path, tmp_path: Path) -> None:
    """As killed after step 1 was logged and before it was saved, and with a point that the kill made TensorBoard's only."""
    from accelerate.tracking import TensorBoardTracker

    path = tmp_path / "killed"
    shutil.copytree(reported, path)
    shutil.rmtree(path / "checkpoint-4")
    (path / "summary.json").unlink()
    lost = TensorBoardTracker("", path / "tensorboard")
    lost.start()
    lost.log({"loss": 7.0, "never_again": 7.0}, step=2)
    lost.finish()
    azr_lite.resume(path, steps=3)
    shown = points(path)
    check_the_same(shown, path)
    assert [step for step, _ in shown["loss"]] == [1, 2, 3]
    assert [step for step, _ in shown["held_out/all/accuracy"]] == [0, 1, 2, 3]
    assert [step for step, _ in shown["gain/all"]] == [3]


def test_a_missing_tracker_is_said_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "trackio" else found(name, *rest)
    )
    with pytest.raises(ConfigError, match="pip install trackio") as error:
        azr_lite.run("nano", output_dir=str(tmp_path / "run"), report_to=("trackio",), **SMALL)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("names", "said"), [(("tensorbord",), "tensorboard, wandb, trackio"), (("wandb", "wandb"), "twice")]
)
def test_wrong_names_are_refused(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Config(report_to=names)


def texts(path: Path) -> dict[int, str]:
    """What TensorBoard shows as sample replies, by step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    (tag,) = events.Tags()["tensors"]
    return {e.step: e.tensor_proto.string_val[0].decode() for e in events.Tensors(tag)}


def best_and_worst(path: Path, step: int) -> list[float]:
    """The rewards that a table of this step must hold."""
    lines = [line for line in RunDir(path).read("rollouts.jsonl") if line["step"] == step]
    groups = {(line["role"], line["type"]) for line in lines}
    of = {group: [one for one in lines if (one["role"], one["type"]) == group] for group in groups}
    return sorted(choose(line["reward"] for line in own) for own in of.values() for choose in (min, max))


def test_sample_replies_are_shown_every_so_many_steps(recorded: Path, tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (pip install tensorboard)")
    monkeypatch.setattr("azr_lite.progress.TABLE_EVERY", 2)
    trackers, notes = copied(recorded, tmp_path / "run", "tensorboard")
    trackers.start()
    trackers.replay(2)
    trackers.step(2, {"loss": 0.5}, (line for line in RunDir(recorded).read("rollouts.jsonl") if line["step"] == 2))
    trackers.finish({"steps": 3})
    shown = texts(tmp_path / "run")
    assert [*shown] == [1, 3]
    assert notes == []
    for step, text in shown.items():
        told = re.findall(r"\*\*(?:propose|solve) \w+: \w+, reward (\S+)\*\*", text)
        assert sorted(map(float, told)) == pytest.approx(best_and_worst(recorded, step - 1), abs=0.0006)


class Service:
    """A stand-in for wandb and its server: keeps the rows of each run by its id, and drops what comes too late."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[int, dict[str, Any]]] = {}
        self.opened: list[dict[str, Any]] = []
        self.dropped: list[int] = []

    def init(self, **given: Any) -> SimpleNamespace:
        self.opened.append(given)
        assert given["resume"] == "allow"
        rows = self.runs.setdefault(given["id"], {})
        first = max(rows, default=-1) + 1

        def log(values: dict[str, Any], step: int) -> None:
            if step < max([first, *rows][-1], first):
                self.dropped.append(step)
            else:
                rows.setdefault(step, {}).update(values)

        return SimpleNamespace(step=first, log=log, finish=lambda: None)

    @staticmethod
    def Table(columns: list[str], data: list[list[Any]]) -> list[dict[str, Any]]:
        return [dict(zip(columns, row, strict=True)) for row in data]


def test_wandb_has_one_run_across_resumes_and_every_number_once(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service()
    monkeypatch.setitem(sys.modules, "wandb", service)
    first, notes = copied(recorded, tmp_path / "run", "wandb")
    first.start()
    first.replay(2)
    first.step(2, {"loss": 7.0})
    directory = RunDir.open(tmp_path / "run")
    second = Trackers(first.config, directory, notes.append)
    second.start()  # after a kill: step 2 is played again, and was sent
    second.replay(2)
    second.step(2, {"loss": 7.0})
    second.step(3, {"loss": 8.0})
    second.finish({"steps": 4, "after": {"all": {"accuracy": 0.25, "tokens": 9.0}}, "gain": {"all": {"gain": 0.125}}})
    third = Trackers(first.config, directory, notes.append)
    third.start()  # further, after the end
    third.replay(2)
    third.step(4, {"loss": 9.0})
    ((name, rows),) = service.runs.items()
    assert {one["id"] for one in service.opened} == {name} == {directory.info()["tracker_id"]}
    assert [one["name"] for one in service.opened] == ["run"] * 3
    assert [*rows] == [1, 2, 3, 4, 5]
    assert [rows[step]["loss"] for step in (3, 4, 5)] == [7.0, 8.0, 9.0]
    assert rows[4]["held_out/all/accuracy"] == 0.25
    assert rows[4]["gain/all"] == 0.125
    for row, line in zip(rows.values(), directory.metrics(), strict=False):
        assert {key: row[key] for key in line if key != "step"} == {k: v for k, v in line.items() if k != "step"}
    table = rows[1]["replies"]
    assert sorted(row["reward"] for row in table) == best_and_worst(recorded, 0)
    texts_of_step = {line["text"] for line in RunDir(recorded).read("rollouts.jsonl") if line["step"] == 0}
    assert {row["text"] for row in table} <= texts_of_step
    assert {row["role"] for row in table} == {"propose", "solve"}
    assert service.dropped == []
    assert notes == []


def copied(recorded: Path, folder: Path, tracker: str) -> tuple[Trackers, list[str]]:
    """A recorded run of 3 steps, about to report to this tracker as if it had been resumed after 2."""
    shutil.copytree(recorded, folder, ignore=shutil.ignore_patterns("checkpoint-*"))
    directory, notes = RunDir.open(folder), []
    directory.rewind(2)
    return Trackers(
        directory.config().replace(output_dir=str(folder), report_to=(tracker,)), directory, notes.append
    ), notes


def test_a_tracker_that_fails_in_mid_run_is_left_out(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate.tracking import TensorBoardTracker

    pytest.importorskip("tensorboard", reason="tensorboard is not installed (pip install tensorboard)")
    trackers, notes = copied(recorded, tmp_path / "run", "tensorboard")
    trackers.start()
    calls = []

    def full(self: Any, values: Any, step: int) -> None:
        calls.append(step)
        raise OSError("No space left on device")

    monkeypatch.setattr(TensorBoardTracker, "log", full)
    trackers.replay(2)
    trackers.step(2, {"loss": 0.5})
    trackers.finish({"steps": 3})
    assert calls == [1]
    assert len(notes) == 1
    assert "tensorboard failed and is left out" in notes[0]


def test_a_tracker_that_does_not_start_is_one_sentence(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate.tracking import WandBTracker

    def refuse(self: Any) -> None:
        raise RuntimeError("api_key not configured\nand a page of advice")

    monkeypatch.setattr(WandBTracker, "start", refuse)
    trackers, _ = copied(recorded, tmp_path / "run", "wandb")
    with pytest.raises(ConfigError, match="WANDB_MODE=offline") as error:
        trackers.start()
    assert "advice" not in str(error.value)


def log_records(data: bytes, offset: int) -> Iterator[bytes]:
    """The records of a LevelDB log, which a .wandb file is after its own header of `offset` bytes: blocks of 32 KiB hold pieces,
    each with a checksum, its length and its kind (1 whole, 2 first, 3 middle, 4 last)."""
    place, held = 0, b""
    while place + 7 <= len(data):
        left = 32768 - (place + offset) % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        held += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield held
            held = b""


def test_wandb_offline_gets_one_row_a_step(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed (pip install wandb)")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    trackers, notes = copied(recorded, tmp_path / "run", "wandb")
    trackers.start()
    trackers.replay(2)
    trackers.step(2, {"loss": 0.5})
    trackers.evaluated(3, {"all": {"accuracy": 0.25, "tokens": 9.0}})
    trackers.finish({"steps": 3, "gain": {"all": {"gain": 0.125}}})
    (file,) = (tmp_path / "run").glob("wandb/offline-run-*/run-*.wandb")
    rows = []
    for data in log_records(file.read_bytes()[7:], 7):
        record = Record()
        record.ParseFromString(data)
        if record.HasField("history"):
            items = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            rows.append({"_step": record.history.step.num, **items})
    assert [row["_step"] for row in rows] == [1, 2, 3]
    for row, line in zip(rows, RunDir.open(tmp_path / "run").metrics(), strict=False):
        assert {key: row[key] for key in line if key != "step"} == {
            key: value for key, value in line.items() if key != "step"
        }
    assert rows[2]["loss"] == 0.5
    assert rows[2]["held_out/all/accuracy"] == 0.25
    assert rows[2]["gain/all"] == 0.125
    assert notes == []


TRACKIO = """
import sys
from pathlib import Path
from accelerate import PartialState
from azr_lite.rundir import RunDir
from azr_lite.progress import Trackers

PartialState(cpu=True)  # a run has one; accelerate's trackers ask it
directory = RunDir(Path(sys.argv[1]))
trackers = Trackers(directory.config().replace(output_dir=sys.argv[1], report_to=("trackio",)), directory, sys.exit)
trackers.start()
trackers.replay(2)
trackers.step(2, {"loss": 0.5})
trackers.finish({"steps": 3, "gain": {"all": {"gain": 0.125}}})
"""


def test_trackio_keeps_the_numbers_on_this_machine(recorded: Path, tmp_path: Path) -> None:
    """In a process of its own: trackio reads where to write when it is imported, and TRL imports it."""
    if importlib.util.find_spec("trackio") is None:
        pytest.skip("trackio is not installed (pip install trackio)")
    copied(recorded, tmp_path / "run", "trackio")
    env = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio")}
    subprocess.run([sys.executable, "-c", TRACKIO, str(tmp_path / "run")], env=env, check=True, capture_output=True)
    (file,) = (tmp_path / "trackio").glob("azr-lite*.db")
    with sqlite3.connect(file) as database:
        rows = database.execute("select step, metrics from metrics order by id").fetchall()
    assert [step for step, _ in rows] == [1, 2, 3, 3]
    assert json.loads(rows[2][1])["loss"] == 0.5
    assert json.loads(rows[3][1])["gain/all"] == 0.125
