"""The controls take away what they say, and the comparison of runs computes what it says."""

import json

import numpy as np
import pytest

from azr_lite.config import Config
from azr_lite.course import experiments
from azr_lite.course.comparison import compare_runs, nano_table
from azr_lite.course.experiments import CONTROLS, compare_arms, control
from azr_lite.errors import ConfigError
from azr_lite.prompts import get_style
from azr_lite.selfplay import SelfPlay
from tests.scripted import ScriptedPolicy
from tests.warm import FORKS

SMALL = {
    "steps": 2,
    "batch_size": 4,
    "solver_batch_size": 4,
    "n_mc": 2,
    "seed_batch_factor": 1,
    "updates_per_step": 1,
    "micro_batch_size": 8,
    "eval_problems": 6,
    "self_test": False,
    "workers": 1,
}


def _items(path, name):
    return [json.loads(line) for line in (path / "eval" / f"{name}.jsonl").read_text().splitlines()]


def test_shuffled_rewards_keep_their_sizes_and_lose_their_owners(executor):
    config = Config(
        model="scripted",
        batch_size=16,
        n_mc=4,
        references=2,
        seed_batch_factor=1,
        micro_batch_size=2,
        max_prompt_tokens=100_000,
    )

    def advantages():
        play = SelfPlay(config, get_style("chat"), executor)
        policy = ScriptedPolicy(skill=0.6)
        play.seed(policy)
        return play.step(policy, 0)

    plain = advantages()
    with control("shuffled rewards"):
        shuffled = advantages()
    correlations = []
    for group in {r.group for r in plain}:
        a, b = (
            np.array([r.advantage for r in rows if r.group == group and r.weight > 0]) for rows in (plain, shuffled)
        )
        rewards = np.array([r.reward for r in shuffled if r.group == group and r.weight > 0])
        assert sorted(a) == pytest.approx(sorted(b)), "the sizes of the updates must not change"
        if rewards.std() > 0:
            correlations.append(abs(np.corrcoef(b, rewards)[0, 1]))
    assert len(correlations) >= 3
    assert max(correlations) < 0.9
    assert [r.reward for r in plain] == [r.reward for r in shuffled], "what is logged are the rewards earned"


def test_without_references_the_zero_triplet_is_shown(executor):
    config = Config(
        model="scripted",
        batch_size=4,
        n_mc=2,
        references=2,
        seed_batch_factor=2,
        micro_batch_size=2,
        max_prompt_tokens=100_000,
    )
    play = SelfPlay(config, get_style("chat"), executor)
    play.seed(ScriptedPolicy())
    with control("no references"):
        proposals = play.sample_references(0)
    assert {proposal.type for proposal in proposals} == {"deduction", "abduction", "induction"}
    for proposal in proposals:
        if proposal.type == "induction":
            continue
        assert [task.program for task in proposal.references] == ["def f(x):\n    return x"]
        assert "x *" not in proposal.prompt
    assert any("x *" in proposal.prompt for proposal in play.sample_references(0))


def test_a_control_ends_with_its_context():
    before = SelfPlay.advantages
    with control("no update"):
        assert SelfPlay.advantages is CONTROLS["no update"][1]
    assert SelfPlay.advantages is before
    with pytest.raises(ConfigError, match="no control"), control("nothing"):
        pass


def fake_run(path, before, after):
    """A run directory with given results: {type: [(stratum, right), …]}, three problems a skeleton."""
    (path / "eval").mkdir(parents=True)
    for name, scores in (("before", before), ("step-7", after)):
        rows = [
            {
                "id": str(i),
                "type": type_,
                "stratum": stratum,
                "right": right,
                "tokens": 10,
                "prompt": f"```message\nop{i // 3} 1, then ?\n```",
            }
            for type_, items in scores.items()
            for i, (stratum, right) in enumerate(items)
        ]
        (path / "eval" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path / "summary.json").write_text(json.dumps({"steps": 7}))
    (path / "timing.jsonl").write_text(
        json.dumps({"step": 0, "generate": 1.0, "sandbox": 0.5, "update": 2.0, "rest": 0.1}) + "\n"
    )
    task = {"program": "def f(x):\n    x = x[::-1]\n    return x"}
    (path / "tasks.jsonl").write_text(json.dumps({"step": 0, "ok": True, "task": task}) + "\n")
    return path


def test_gains_are_paired_means_over_seeds_and_types(tmp_path):
    easy, hard = [("2 ops", False)] * 6, [("3 ops", False)] * 6
    won = [("2 ops", True)] * 6
    one = fake_run(
        tmp_path / "a", {"deduction": easy + hard, "abduction": won}, {"deduction": won + hard, "abduction": won}
    )
    two = fake_run(
        tmp_path / "b", {"deduction": easy + hard, "abduction": won}, {"deduction": easy + hard, "abduction": won}
    )
    found = compare_runs([one, two])
    scores = found["scores"]
    assert scores["deduction/2 ops"]["gain"]["by_seed"] == [1.0, 0.0]
    assert scores["deduction/2 ops"]["gain"]["mean"] == pytest.approx(0.5)
    assert scores["deduction/3 ops"]["gain"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "by_seed": [0.0, 0.0]}
    assert scores["deduction"]["gain"]["mean"] == pytest.approx(0.25)
    assert scores["all"]["gain"]["mean"] == pytest.approx(0.125), (
        "each type weighs the same, however many problems it has"
    )
    assert scores["all"]["before"]["mean"] == pytest.approx(0.5)
    low, high = (scores["deduction/2 ops"]["gain"][key] for key in ("low", "high"))
    assert (low, high) == (0.0, 1.0), "two seeds that disagree leave everything open"
    assert found["program_operations"][0] == {"first": 1.0, "last": 1.0}
    assert found["training_seconds"] == [3.6, 3.6]


def test_intervals_are_wider_when_problems_share_skeletons(tmp_path):
    mixed = [("2 ops", i // 3 % 2 == 0) for i in range(60)]
    path = fake_run(tmp_path / "a", {"deduction": [("2 ops", False)] * 60}, {"deduction": mixed})
    gain = compare_runs([path])["scores"]["deduction"]["gain"]
    assert gain["mean"] == pytest.approx(0.5)
    independent = 1.96 * 0.5 / 60**0.5
    assert (gain["high"] - gain["low"]) / 2 > 1.3 * independent


def test_bench_nano_end_to_end(tmp_path, capfd, monkeypatch):
    """And the control works: without updates no weight changes."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    from azr_lite.nano.model import WEIGHTS

    monkeypatch.setattr(experiments.multiprocessing, "get_context", lambda _: FORKS)  # not "spawn": torch is there
    said = []
    result = compare_arms([3], tmp_path, arms=("self-play", "no update"), jobs=1, say=said.append, **SMALL)
    assert len(said) == 2
    assert capfd.readouterr().out == "", "--json must print JSON and nothing else"
    assert "held-out accuracy" in (tmp_path / "self-play-seed3.log").read_text()
    assert result["arms"]["no update"]["scores"]["all"]["gain"]["mean"] == 0.0
    still, moved = tmp_path / "no-update-seed3", tmp_path / "self-play-seed3"
    assert [i["right"] for i in _items(still, "before")] == [i["right"] for i in _items(still, "step-2")]
    start = load_file(WEIGHTS / "model.safetensors")
    for path, same in ((still, True), (moved, False)):
        after = load_file(path / "checkpoint-2" / "model.safetensors")
        assert all(torch.equal(after[key], value.float()) for key, value in start.items()) == same, path
    text = nano_table(result)
    assert max(len(line) for line in text.splitlines()) <= 80
    again = compare_arms([3], tmp_path, arms=("self-play", "no update"), jobs=1, say=said.append, **SMALL)
    assert again["arms"] == result["arms"], "finished runs are taken as they are"
    with pytest.raises(ConfigError, match="no arm"):
        compare_arms([0], tmp_path, arms=("everything",))


def test_the_figure_is_drawn_from_the_evaluations(tmp_path):
    pytest.importorskip("matplotlib")
    from azr_lite.course.comparison import (
        accuracies,
        draw_curves,
        operations_per_proposal,
        reply_tokens,
        seconds_to_target,
    )

    path = fake_run(tmp_path / "a", {"deduction": [("2 ops", False)]}, {"deduction": [("2 ops", True)]})
    for name, accuracy in (("before", 0.25), ("step-4", 0.5), ("step-7", 0.75)):
        scores = {"all": {"accuracy": 0.0}, "deduction": {"accuracy": accuracy}, "deduction/2 ops": {"accuracy": 0.0}}
        (path / "eval" / f"{name}.json").write_text(json.dumps({"scores": scores}))
    (path / "metrics.jsonl").write_text(
        '{"step": 0, "solve/deduction/tokens": 12.0, "propose/deduction/tokens": 99.0}\n'
    )
    assert accuracies(path) == {0: 0.25, 4: 0.5, 7: 0.75}
    timing = [{"step": step, "generate": 1.0, "sandbox": 0.5, "update": 2.0, "rest": 0.5} for step in range(7)]
    (path / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in timing))
    assert seconds_to_target(path) == 16.0, "four steps of four seconds"
    assert seconds_to_target(path, 0.6) is None
    assert reply_tokens(path) == [12.0]
    assert operations_per_proposal(path) == [1.0]
    draw_curves({"self-play": [path]}, tmp_path / "curve.png", "a test")
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    assert [file.name for file in tmp_path.glob(".*")] == []
