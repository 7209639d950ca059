"""The whole loop on two real processes: the same run as one, resumable by one, and clear when a process dies.

Comes in: ``torchrun -m azr_lite run --preset nano`` with two CPU processes (gloo).  Goes out: claims about the files it leaves.
FSDP2 runs too, over gloo (tests/fsdp_on_cpu.py). Not covered: GPUs, NCCL, DeepSpeed; the update alone (test_trainer_processes.py).

Exactly equal to a run on one process: tasks, rollouts, rewards, buffers, evaluations (chunks of prompts are dealt out, each with a seed of its own).
Equal up to rounding: weights, loss and gradient norm, since gradients are summed in another order. The logged entropy is not
compared: TRL averages it over the tokens of the micro-batches that are computed at the same time.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import azr_lite
from azr_lite.environment import free_port
from azr_lite.train.checkpoints import is_whole, last_whole_checkpoint, step_of
from tests.fsdp_on_cpu import without_sampler
from tests.test_loop import lines, wait_for
from tests.warm import together

ROOT = Path(__file__).parents[1]
UPDATES = 2
TINY = {
    "device": "cpu",
    "eval_every": 0,
    "steps": 2,
    "batch_size": 4,
    "solver_batch_size": 4,
    "n_mc": 2,
    "seed_batch_factor": 1,
    "updates_per_step": UPDATES,
    "micro_batch_size": 2,
    "eval_problems": 4,
    "save_every": 1,
    "workers": 1,
}


def start(*words):
    """torchrun itself; where a test is not about it, `together` does the same in half the time."""
    launch = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}", "-m", "azr_lite"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    return subprocess.Popen(
        [sys.executable, *launch, *map(str, words)],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_words(path, **changes):
    flags = [
        word for name, value in {**TINY, **changes}.items() for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    return ["run", "--preset", "nano", "--output-dir", str(path), *flags]


def finish(process, seconds=180):
    printed = process.communicate(timeout=seconds)[0]
    return process.returncode, printed


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    path = tmp_path_factory.mktemp("one") / "run"
    azr_lite.run("nano", output_dir=str(path), **TINY)
    return path


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    path = tmp_path_factory.mktemp("two") / "run"
    status, printed = together(*run_words(path, processes=2))
    assert status == 0, printed
    assert printed.count("this session") == 1, "only the first process speaks"
    return path


def info(path, name="run.json"):
    return json.loads((path / name).read_text())


def close_weights(first, second):
    from safetensors.torch import load_file

    a, b = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    return max(float((a[key] - b[key]).abs().max()) for key in a)


def test_two_processes_leave_the_files_of_one(one, two):
    assert (info(one)["processes"], info(two)["processes"]) == (1, 2)
    for name in ("tasks.jsonl", "rollouts.jsonl", "eval/before.jsonl", "eval/step-2.jsonl"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    for step in (1, 2):
        state = f"checkpoint-{step * UPDATES}/selfplay.json"
        assert (one / state).read_bytes() == (two / state).read_bytes(), state
    inexact = {"loss": 1e-5, "grad_norm": 1e-5, "entropy": float("inf")}
    for a, b in zip(lines(one, "metrics.jsonl"), lines(two, "metrics.jsonl"), strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name] == pytest.approx(b[name], rel=0, abs=inexact.get(name, 0)), name
    assert close_weights(one / "checkpoint-4", two / "checkpoint-4") < 1e-5
    assert close_weights(one / "checkpoint-2", two / "checkpoint-4") > 1e-4, (
        "nothing was learnt, so nothing was compared"
    )
    ours, theirs = ({k: v for k, v in info(path, "summary.json").items() if k != "seconds"} for path in (one, two))
    assert {**ours, "executor": 0} == {**theirs, "executor": 0}  # each process counts the executions dealt to it


def test_the_second_process_writes_its_random_state_only(one, two):
    def files(path):
        return {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}

    random_states = {f"checkpoint-{n}/rng_state" for n in (2, 4)}
    assert files(two) - files(one) == {f"{name}_{rank}.pth" for name in random_states for rank in (0, 1)}
    assert files(one) - files(two) == {f"{name}.pth" for name in random_states}


def test_an_existing_directory_is_refused_by_all_without_waiting(two):
    before = {p: p.stat().st_mtime_ns for p in two.rglob("*")}
    started = time.time()
    status, printed = together(*run_words(two))
    assert status != 0
    assert time.time() - started < 60
    said = [line for line in printed.splitlines() if line.startswith("azr-lite:")]
    assert said, "the first may end before the second speaks"
    assert all("exists already" in line for line in said)
    assert {p: p.stat().st_mtime_ns for p in two.rglob("*")} == before


def test_runs_go_on_with_another_number_of_processes(one, two, tmp_path):
    fewer, more = tmp_path / "fewer", tmp_path / "more"
    shutil.copytree(two, fewer)
    shutil.copytree(one, more)
    with pytest.raises(azr_lite.errors.ConfigError, match="wants 2 processes and 1 was started"):
        azr_lite.resume(fewer, steps=3)
    assert info(fewer, "config.json")["steps"] == 2, "refused, but the settings were changed"
    azr_lite.resume(fewer, steps=3, processes=0)
    status, printed = together("resume", more, "--steps", 3)
    assert status == 0, printed
    for path, processes in ((fewer, 1), (more, 2)):
        assert info(path)["processes"] == processes
        assert [line["step"] for line in lines(path, "metrics.jsonl")] == [0, 1, 2]
        assert info(path, "summary.json")["finished"]
        assert step_of(last_whole_checkpoint(path)) == 3 * UPDATES
        assert all(is_whole(p) for p in path.glob("checkpoint-*"))
    assert (fewer / "rollouts.jsonl").read_bytes() == (more / "rollouts.jsonl").read_bytes()
    assert close_weights(fewer / "checkpoint-6", more / "checkpoint-6") < 1e-5


def child(process, rank):
    return next(c for c in psutil.Process(process.pid).children() if c.environ().get("RANK") == str(rank))


@pytest.mark.slow
def test_a_killed_process_ends_the_run_with_one_sentence_and_one_process_finishes_it(tmp_path):
    path = tmp_path / "killed"
    process = start(*run_words(path, steps=500))
    wait_for(process, lambda: last_whole_checkpoint(path) is not None)
    time.sleep(0.1)  # somewhere in the next step
    rest = psutil.Process(process.pid).children(recursive=True)
    os.kill(child(process, 1).pid, signal.SIGKILL)
    killed = time.time()
    status, printed = finish(process, 60)
    assert time.time() - killed < 60
    assert status != 0
    (said,) = [line for line in printed.splitlines() if line.startswith("azr-lite:")]
    newest = last_whole_checkpoint(path)
    assert f"another process of this run died (look above for its reason); nothing before {newest.name} is lost" in said
    assert f"azr-lite resume {path}" in said
    assert psutil.wait_procs(rest, timeout=5)[1] == [], "processes of the dead run are left"
    steps = step_of(newest) // UPDATES + 1
    result = azr_lite.resume(path, steps=steps)
    assert result.summary["finished"]
    assert [line["step"] for line in lines(path, "metrics.jsonl")] == list(range(steps))


@pytest.mark.slow
def test_ctrl_c_reaches_all_processes_and_the_launcher_and_still_saves(tmp_path):
    path = tmp_path / "stopped"
    process = start(*run_words(path, steps=500))
    wait_for(process, lambda: (path / "metrics.jsonl").exists())
    for pid in [child(process, rank).pid for rank in (0, 1)] + [
        process.pid
    ]:  # as a terminal does; torchrun then repeats it
        os.kill(pid, signal.SIGINT)
    _, printed = finish(process, 60)
    summary = info(path, "summary.json")
    assert summary["steps"] == len(lines(path, "metrics.jsonl")) < 500, printed
    assert step_of(last_whole_checkpoint(path)) == summary["steps"] * UPDATES
    assert "azr-lite resume" in printed


def launcher_variables():
    """What accelerate's launcher sets for fsdp2.yaml (float32 arithmetic, so that rounding does not hide anything)."""
    from accelerate.commands import launch
    from accelerate.utils.launch import prepare_multi_gpu_env

    from azr_lite.train.distributed import launch_file

    words = ["--config_file", str(launch_file("fsdp2")), "--num_processes", "2", "--mixed_precision", "no", "x.py"]
    args, _, _ = launch._validate_launch_command(launch.launch_command_parser().parse_args(words))
    found = prepare_multi_gpu_env(args)
    return {
        name: value
        for name, value in found.items()
        if name.startswith(("FSDP_", "ACCELERATE_")) and os.environ.get(name) != value
    }


@pytest.mark.slow
def test_weights_cut_by_fsdp_learn_the_same(tmp_path, monkeypatch):
    """Self-test, sampling, update, saving and resuming with FSDP2 give the run of one process with whole weights."""
    settings = {"max_reply_tokens": 32}
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    variables = {**launcher_variables(), "ACCELERATE_USE_CPU": "false"}
    words = run_words(cut, **settings, steps=1)
    del words[words.index("--device") : words.index("cpu") + 1]  # auto: there is none
    for arguments in (words, ["resume", cut, "--steps", 2]):
        status, printed = together(*arguments, module="tests.fsdp_on_cpu", **variables)
        assert status == 0, printed
        assert "weights sharded over them by FSDP" in printed
    monkeypatch.setattr(
        azr_lite.train.trainer, "SelfPlayTrainer", azr_lite.train.trainer.SelfPlayTrainer
    )  # put back after the next line
    monkeypatch.setattr(azr_lite.train.trainer, "choose_sampler", azr_lite.train.trainer.choose_sampler)  # as well
    without_sampler()
    azr_lite.run("nano", output_dir=str(whole), **{**TINY, **settings})
    assert (cut / "rollouts.jsonl").read_bytes() == (whole / "rollouts.jsonl").read_bytes()
    assert (cut / "eval/step-2.jsonl").read_bytes() == (whole / "eval/step-2.jsonl").read_bytes()
    for a, b in zip(lines(cut, "metrics.jsonl"), lines(whole, "metrics.jsonl"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], abs=1e-5)
        assert a["grad_norm"] > 0.01
    from safetensors.torch import load_file

    a, b = (load_file(path / "checkpoint-4" / "model.safetensors") for path in (cut, whole))
    assert a.keys() - b.keys() <= {"lm_head.weight"}  # tied to the embedding; FSDP writes both
    assert max(float((a[key] - b[key]).abs().max()) for key in b) < 1e-5


def test_one_of_several_processes_ends_without_waiting_for_threads():
    """A thread of gloo's that wakes while Python ends would abort a process whose run went well."""
    code = "import atexit, sys; atexit.register(lambda: print('tidied')); from azr_lite.train.distributed import end; print('said'); sys.exit(end(3))"
    for world, printed in ((2, "said\n"), (1, "said\ntidied\n")):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "WORLD_SIZE": str(world)}, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout) == (3, printed)
