"""`azr-lite run` on a CPU: how many processes it becomes, and that they end as one."""

import json
import os
import signal
import time

import psutil
import pytest

import azr_lite
from azr_lite.config import Config
from azr_lite.presets import preset
from azr_lite.train import companions
from tests.test_loop import wait_for
from tests.warm import Child

TINY = {"eval_every": 0, "steps": 2, "batch_size": 4, "solver_batch_size": 4, "n_mc": 2, "seed_batch_factor": 1,
        "updates_per_step": 2, "micro_batch_size": 2, "eval_problems": 4, "save_every": 1, "workers": 1}  # fmt: skip


@pytest.fixture
def machine(monkeypatch):
    """Cores and free GB of a machine on which nobody has decided anything."""

    monkeypatch.setattr(companions, "cpu_arithmetic", lambda: "float32")

    def make(cores, free=64.0, **names):
        monkeypatch.setattr(companions, "usable_cores", lambda: cores)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: type("", (), {"available": free * 1e9}))
        for name, value in names.items():
            monkeypatch.setenv(name, value)

    for name in ("OMP_NUM_THREADS", "WORLD_SIZE", companions.STARTED):
        monkeypatch.delenv(name, raising=False)
    return make


@pytest.mark.parametrize(
    ("cores", "free", "settings", "expected"),
    [
        (1, 64, {}, (1, 1, "one process of one thread: one core")),
        (2, 64, {}, (2, 1, "2 processes of one thread: 2 cores")),
        (3, 64, {}, (2, 1, "2 processes of one thread: 3 cores, and the batch splits no further")),
        (16, 64, {}, (4, 1, "4 processes of one thread: 16 cores, and the batch splits no further")),
        (4, 2.5, {}, (2, 1, "2 processes of one thread: 4 cores, memory for 2")),
        (4, 0.1, {}, (1, 1, "one process of one thread: 4 cores, memory for 1")),
        (4, 64, {"processes": 2}, (2, 1, "2 processes of one thread: as set")),
        (2, 64, {"processes": 4}, (1, 1, "one process of one thread: as set")),
        (4, 11, {"preset": "lora-0.5b-8gb"}, (1, 4, "one process of 4 threads: 4 cores, memory for 1")),
        (
            8,
            64,
            {"preset": "lora-0.5b-8gb", "model": "some/unknown"},
            (1, 8, "one process of 8 threads: 8 cores, memory for 1"),
        ),
    ],
)
def test_the_number_follows_cores_memory_batch_and_settings(machine, cores, free, settings, expected):
    machine(cores, free)
    config = preset(settings.get("preset", "nano"), **{k: v for k, v in settings.items() if k != "preset"})
    assert companions.choose(config) == expected


def test_in_bfloat16_two_real_models_fit_where_one_does_in_float32(machine, monkeypatch):
    machine(2, 20)
    assert companions.choose(preset("cpu-0.5b"))[0] == 1
    monkeypatch.setattr(companions, "cpu_arithmetic", lambda: "bfloat16 (avx512_bf16)")
    assert companions.choose(preset("cpu-0.5b"))[:2] == (2, 1)


def test_who_set_the_threads_has_decided(machine):
    machine(4, OMP_NUM_THREADS="3")
    assert companions.choose(preset("nano"))[:2] == (1, 0)
    assert companions.choose(preset("nano", processes=2))[:2] == (2, 1)
    assert companions.choose(preset("smoke", processes=1))[:2] == (1, 3), "of four cores"


def test_a_quota_counts_and_no_quota_does_not(monkeypatch):
    monkeypatch.setattr(companions.os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 4)
    for written, cores in (("max 100000", 4), ("250000 100000", 2), ("50000 100000", 1)):
        monkeypatch.setattr(companions.Path, "read_text", lambda *_, written=written: written + "\n")
        assert companions.usable_cores() == cores


@pytest.mark.parametrize("started_by", [None, "a launcher"])
def test_nothing_is_started_from_python_or_under_a_launcher(machine, monkeypatch, started_by):
    machine(4)
    monkeypatch.setattr(companions.subprocess, "Popen", None)
    if started_by:
        monkeypatch.setenv("WORLD_SIZE", "2")
    with companions.companions(lambda: Config(model="nano", device="cpu"), ["run"] if started_by else None):
        assert companions.STARTED not in os.environ


# ---------------------------------------------------------------- real processes


def start(path, **changes):
    flags = [w for name, value in {**TINY, **changes}.items() for w in (f"--{name.replace('_', '-')}", str(value))]
    words = ["run", "--preset", "nano", "--device", "cpu", "--processes", "2", "--output-dir", str(path), *flags]
    return Child(*words)


def companion(process):
    return next(c for c in psutil.Process(process.pid).children() if c.environ().get("RANK") == "1")


@pytest.fixture
def two_cores():
    if companions.usable_cores() < 2:
        pytest.skip("needs two cores")


@pytest.fixture
def running(tmp_path, two_cores):
    """A run of two processes that has made a step, its directory, and all processes that belong to it."""
    process = start(tmp_path / "run", steps=500, eval_problems=0)
    wait_for(process, lambda: (tmp_path / "run" / "metrics.jsonl").exists())
    family = psutil.Process(process.pid).children(recursive=True)
    yield process, tmp_path / "run", family
    process.kill()
    process.communicate()


def test_the_command_leaves_the_files_of_one_process_and_speaks_once(tmp_path, two_cores):
    one, two = tmp_path / "one", tmp_path / "two"
    process = start(two)
    azr_lite.run("nano", output_dir=str(one), device="cpu", **TINY)
    printed = process.communicate(timeout=240)[0]
    assert process.returncode == 0, printed
    assert printed.count("this session") == 1
    assert "2 processes of one thread: as set" in printed
    assert json.loads((two / "run.json").read_text())["processes"] == 2
    for name in ("tasks.jsonl", "rollouts.jsonl", "eval/step-2.jsonl"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    again = start(two)
    printed = again.communicate(timeout=120)[0].strip()
    assert again.returncode == 1
    assert printed.count("\n") == 0, printed
    assert "exists already" in printed


@pytest.mark.slow
def test_a_signal_to_the_command_saves_the_step_and_a_second_one_ends_it(running):
    process, path, family = running
    process.send_signal(signal.SIGTERM)
    printed = process.communicate(timeout=120)[0]
    assert process.returncode == 143
    assert json.loads((path / "summary.json").read_text())["steps"] > 0
    assert "azr-lite resume" in printed
    assert psutil.wait_procs(family, timeout=10)[1] == []


@pytest.mark.slow
def test_two_signals_end_all_at_once(running):
    process, _, family = running
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 130, printed
    assert "Traceback" not in printed
    assert psutil.wait_procs(family, timeout=10)[1] == []


@pytest.mark.slow
def test_a_killed_companion_ends_the_run_in_words(running):
    process, _, family = running
    companion(process).kill()
    printed = process.communicate(timeout=120)[0]
    said = [line for line in printed.splitlines() if line.startswith("azr-lite:")]
    assert process.returncode == 1, printed
    assert "process 1 of this run: was ended by signal 9" in said[0]
    assert "another process of this run died" in said[1]
    assert len(said) == 2
    assert psutil.wait_procs(family, timeout=10)[1] == []


@pytest.mark.slow
def test_a_killed_command_leaves_no_companion(running):
    process, _, family = running
    process.kill()
    assert psutil.wait_procs(family, timeout=20)[1] == []
