"""The table of numbers: held against what a run logs, in both directions; names are found and explained."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

import azr_lite
from azr_lite.cli import main
from azr_lite.config import Config
from azr_lite.metrics import METRICS, STAGES, metric_of
from azr_lite.progress import Meter
from azr_lite.prompts import get_style
from azr_lite.selfplay import SelfPlay
from tests.scripted import ScriptedPolicy


class Cutting(ScriptedPolicy):
    """Every fourth reply without form was cut by the token limit."""

    def complete(self, prompt):
        reply = super().complete(prompt)
        return dataclasses.replace(reply, truncated=reply.text == "no form at all" and self.rng.random() < 0.5)


@pytest.fixture(scope="module")
def played(executor):
    config = Config(
        model="scripted",
        batch_size=6,
        n_mc=3,
        references=2,
        seed_batch_factor=1,
        micro_batch_size=2,
        max_prompt_tokens=100_000,
    )
    play = SelfPlay(config, get_style("chat"), executor)
    policy = Cutting(junk=0.3)
    play.seed(policy)
    return play, play.step(policy, 0)


def keys(path, name):
    return {key for line in (path / name).read_text().splitlines() for key in json.loads(line)}


def test_every_number_a_run_logs_is_in_the_table(recorded):
    for name in ("metrics.jsonl", "timing.jsonl"):
        logged = keys(recorded, name)
        assert len(logged) >= 8
        assert [key for key in sorted(logged) if metric_of(key, name) is None] == []


def test_everything_in_the_table_is_logged(recorded, played):
    play, _ = played
    always = {name: keys(recorded, name) for name in ("metrics.jsonl", "timing.jsonl")}
    seen = {metric_of(key).pattern for logged in always.values() for key in logged}
    assert [m.pattern for m in METRICS if not m.when and m.pattern not in seen] == []
    rare = seen | {metric_of(key).pattern for key in play.record.metrics}
    logs = {m.pattern for m in METRICS if m.file in always}  # the others: test_trackers.py
    assert logs - rare <= {"gpu_memory_mib", "solve/{type}/old_ok", "kl"}  # tests/test_metrics.py, test_packing.py


def test_patterns_are_unique_and_no_key_has_two_meanings(recorded):
    patterns = [m.pattern for m in METRICS]
    assert len(set(patterns)) == len(patterns)
    assert metric_of("solve/deduction/reward").name == "mean reward"
    assert metric_of("solve/deduction/solve_rate") is None
    assert metric_of("propose/deduction/solved/33") is None
    assert metric_of("buffer/deduction").unit == "tasks"


def test_sources_are_files_of_the_package():
    package = Path(azr_lite.__file__).parent
    named = {word for m in METRICS for word in re.findall(r"[\w/]+(?:\.py|/(?!\w))", m.source)}
    assert "rewards.py" in named
    assert [word for word in sorted(named) if not [*package.rglob(word.rstrip("/"))]] == []


def test_the_new_numbers_are_those_of_the_rollouts(played):
    play, _ = played
    numbers = play.record.metrics
    for role in ("propose", "solve"):
        for name in play.config.task_types:
            group = f"{role}/{name}"
            own = [r for r in play.record.rollouts if r.group == group]
            if not own:
                continue
            parts = sum(value for key, value in numbers.items() if key.startswith(f"{group}/part/"))
            assert parts == pytest.approx(numbers[f"{group}/reward"])
            failed = sum(value for key, value in numbers.items() if key.startswith(f"{group}/reason/"))
            assert failed == sum(bool(r.verdict.reason) for r in own)
            cut = [len(r.completion_ids) for r in own if r.truncated]
            assert numbers.get(f"{group}/tokens_truncated", 0.0) == pytest.approx(sum(cut) / max(1, len(cut)))
    for name in play.config.task_types:
        valid = sum(line["ok"] for line in play.record.tasks if line["type"] == name)
        assert sum(v for k, v in numbers.items() if k.startswith(f"propose/{name}/solved/")) == valid
        shares = [numbers[f"propose/{name}/{key}"] for key in ("never_solved", "learnable", "always_solved")]
        assert sum(shares) == pytest.approx(1.0 if valid else 0.0)
    assert sum(v for k, v in numbers.items() if k.endswith("/loss_share")) == pytest.approx(1.0)
    assert any(k.endswith("/tokens_truncated") for k in numbers)


def test_executor_counts_and_ages_are_of_the_step(played):
    play, _ = played
    policy = ScriptedPolicy(seed=1)
    before = sum(play.verifier.outcome_counts.values())
    play.step(policy, 1)
    numbers = play.record.metrics
    said = sum(value for key, value in numbers.items() if key.startswith("executor/"))
    assert said == sum(play.verifier.outcome_counts.values()) - before > 0
    tasks = list(play.buffers.of["deduction"])
    assert numbers["buffer/deduction/age"] == pytest.approx(sum(1 - task.step for task in tasks) / len(tasks))


def test_only_the_stages_are_summed_to_seconds(recorded):
    lines = [json.loads(line) for line in (recorded / "timing.jsonl").read_text().splitlines()]
    stages = json.loads((recorded / "summary.json").read_text())["seconds"]
    assert set(stages) == {"this session", *STAGES}
    assert stages["generate"] == pytest.approx(sum(line["generate"] for line in lines), abs=0.01)
    assert all(line["memory_mib"] > 50 and line["cpu_energy_j"] > 0 for line in lines)
    assert all(line["tokens_per_s"] > 1 for line in lines)


def test_a_meter_counts_from_the_last_look():
    meter = Meter()
    assert meter.read(100.0, 2.0)["tokens_per_s"] == 50.0
    sum(range(3_000_000))
    worked = meter.read(0.0, 0.0)
    assert worked["tokens_per_s"] == 0.0
    assert worked["cpu_energy_j"] > 0


def test_show_explains_a_number_and_suggests_the_nearest(capsys):
    assert main(["show", "solve/deduction/reward"]) == 0
    text = capsys.readouterr().out
    assert "formula" in text
    assert "healthy" in text
    assert main(["show", "solve/deduction/rewrd"]) == 1
    said = capsys.readouterr().err
    assert "{role}/{type}/reward" in said
    assert len(said.splitlines()) == 1
    assert main(["show", "zzzzzz"]) == 1
    assert "azr-lite show metrics" in capsys.readouterr().err


def test_show_metrics_lists_all_within_80_columns(capsys):
    assert main(["show", "metrics"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(any(line.startswith(m.pattern) for line in lines) for m in METRICS)
