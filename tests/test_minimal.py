"""`minimal.py` is the production run in one file: the same rewards, advantages and buffers, and the same gradient."""

from __future__ import annotations

import dataclasses
import random
import re

import pytest
import torch
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from azr_lite import minimal
from azr_lite.advantages import split_into_updates, with_weights_and_padding
from azr_lite.minimal import AbsoluteZero
from azr_lite.nano.language import is_reserved
from azr_lite.nano.model import load_nano
from azr_lite.presets import preset
from azr_lite.prompts.words import COMPACT
from azr_lite.selfplay import SelfPlay
from azr_lite.train.policy import Policy
from azr_lite.train.trainer import SelfPlayTrainer
from tests.scripted import ScriptedPolicy
from tests.test_trainer import Spy
from tests.tiny import Scripted
from tests.warm import Child

SMALL = {"batch_size": 8, "solver_batch_size": 8, "n_mc": 4, "seed_batch_factor": 1, "micro_batch_size": 6}


def follow(zero: AbsoluteZero, generate) -> None:
    """Let `zero` reply as `generate` does, and leave its weights alone."""

    def reply(attempts, step, call, greedy=False):
        for attempt, completion in zip(attempts, generate([a.prompt for a in attempts]), strict=True):
            attempt.completion = completion

    zero.reply, zero.update = reply, lambda rollouts, tokens: None


def relative_errors(found, wanted):
    assert found.keys() == wanted.keys()
    return {name: float((found[name] - wanted[name]).norm() / wanted[name].norm()) for name in wanted}


@pytest.mark.parametrize(("skill", "junk", "seed"), [(0.5, 0.1, 0), (0.8, 0.3, 1), (0.1, 0.0, 2)])
def test_rewards_advantages_and_buffers_are_those_of_self_play(executor, monkeypatch, skill, junk, seed):
    """Same prompts, replies, verdicts, rewards, advantages and weights, row by row, over three steps after seeding."""
    from azr_lite.prompts import get_style

    reserved = lambda program: any(f"* {k} " in program for k in (4, 5))  # noqa: E731
    monkeypatch.setattr(minimal, "STYLE", get_style("chat"))
    monkeypatch.setattr(minimal, "is_reserved", reserved)
    config = preset("nano", **SMALL, seed=seed, induction_inputs=10, induction_shown=5, max_prompt_tokens=100_000)
    play = SelfPlay(config, get_style("chat"), executor, reserved=reserved)
    zero = AbsoluteZero(config, executor)
    policy, twin = (ScriptedPolicy(seed, skill, junk) for _ in range(2))
    follow(zero, twin)
    play.seed(policy)
    zero.seed()
    assert zero.buffers.state_dict() == play.buffers.state_dict()
    for step in range(3):
        expected = [rollout for rollout in play.step(policy, step) if rollout.weight > 0]
        played = zero.step(step)
        assert len(played) > 30
        assert twin.prompts == policy.prompts
        order = lambda r: (r.role, r.type, r.prompt, r.text, r.reward)  # noqa: E731
        for mine, theirs in zip(sorted(played, key=order), sorted(expected, key=order), strict=True):
            assert mine.advantage == theirs.advantage
            same = dataclasses.replace(theirs, weight=mine.weight)
            assert mine == same
        # a weight is relative to all tokens, those of weightless filling included: their quotient is one number
        total, filled = (sum(r.weight * len(r.completion_ids) for r in rows) for rows in (played, expected))
        pairs = zip(sorted(played, key=order), sorted(expected, key=order), strict=True)
        assert {round(mine.weight / theirs.weight, 9) for mine, theirs in pairs} == {round(total / filled, 9)}
        assert zero.buffers.state_dict() == play.buffers.state_dict()


@pytest.fixture(scope="module")
def sampled(executor):
    """A batch that nano proposed and solved, filled up as the trainer needs it, in two updates."""
    config = preset("nano", **SMALL, steps=1, updates_per_step=2, max_grad_norm=1e9, gradient_share_every=0)
    zero = AbsoluteZero(config, executor)
    zero.update = lambda rollouts, tokens: None
    zero.seed()
    rows = with_weights_and_padding(config, zero.step(0))
    assert len({row.weight for row in rows if row.weight > 0}) == 6
    assert {row.advantage > 0 for row in rows} == {True, False}
    tokens = sum(len(row.completion_ids) for row in rows) / 2
    return config, [(part, tokens) for part in split_into_updates(rows, 2, random.Random(0))]


def gradients_of_minimal(zero: AbsoluteZero, rollouts, tokens) -> dict[str, torch.Tensor]:
    found = {}
    trained = dict(zero.model.named_parameters())
    zero.optimizer.step = lambda: found.update({name: p.grad.clone() for name, p in trained.items()})
    AbsoluteZero.update(zero, rollouts, tokens)
    return found


@pytest.mark.parametrize("clip", [0.2, 0.05])
def test_the_gradient_is_the_trainers(executor, sampled, tmp_path, monkeypatch, clip):
    """Every parameter, in both updates of a step. In the second the ratio has moved, and clipping cuts it.

    In float64, also where transformers rounds to float32: in float32 rounding alone makes up to 2e-5 of a gradient.
    """
    exact_norm = lambda self, x: torch.nn.functional.rms_norm(x, x.shape[-1:], self.weight, self.variance_epsilon)  # noqa: E731
    monkeypatch.setattr(Qwen2RMSNorm, "forward", exact_norm)
    config, parts = sampled
    config = config.replace(clip=clip, learning_rate=5e-4)
    model, tokenizer = load_nano()
    policy = Policy(model, tokenizer, "compact", None, torch.device("cpu"), torch.float32)
    rows = [row for part, _ in parts for row in part]
    trainer = SelfPlayTrainer(config, policy, COMPACT, Scripted(lambda generate, step: rows), tmp_path)
    trainer.model.double()
    spy = Spy()
    trainer.add_callback(spy)
    trainer.train()
    zero = AbsoluteZero(config, executor)
    zero.model.double()
    for (rollouts, tokens), weights, wanted in zip(parts, spy.weights, spy.gradients, strict=True):
        zero.model.load_state_dict(weights, strict=False)
        with torch.no_grad():
            sampled_logps = torch.tensor([logp for row in rollouts for logp in row.logps])
            moved = (zero.token_logps(rollouts) - sampled_logps).exp() - 1
        errors = relative_errors(gradients_of_minimal(zero, rollouts, tokens), wanted)
        assert max(errors.values()) <= 1e-5, max(errors.items(), key=lambda item: item[1])
    assert (moved.abs() > clip).any(), "nothing is clipped in the second update; the test would prove too little"


def test_one_step_changes_the_weights_as_the_trainer_does(executor, sampled, tmp_path):
    """With the preset's own gradient clipping and AdamW: equal gradients are made equal use of."""
    config, parts = sampled
    config = config.replace(max_grad_norm=1.0)
    model, tokenizer = load_nano()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    policy = Policy(model, tokenizer, "compact", None, torch.device("cpu"), torch.float32)
    rows = [row for part, _ in parts for row in part]
    SelfPlayTrainer(config, policy, COMPACT, Scripted(lambda generate, step: rows), tmp_path).train()
    zero = AbsoluteZero(config, executor)
    for rollouts, tokens in parts:
        zero.update(rollouts, tokens)
    wanted = {name: p - before[name] for name, p in model.named_parameters()}
    found = {name: p - before[name] for name, p in zero.model.named_parameters()}
    distance = sum(float((found[name] - wanted[name]).detach().square().sum()) for name in wanted)
    assert distance**0.5 <= 1e-2 * sum(float(w.detach().square().sum()) for w in wanted.values()) ** 0.5


def test_a_wrong_sign_or_a_forgotten_weight_is_noticed(executor, sampled):
    """The comparison can fail: rows without weights, or with the opposite advantages, have another gradient."""
    config, parts = sampled
    zero = AbsoluteZero(config, executor)
    rollouts, tokens = parts[0]
    wanted = gradients_of_minimal(zero, rollouts, tokens)
    for changes in ([{"weight": 1.0} for _ in rollouts], [{"advantage": -row.advantage} for row in rollouts]):
        changed = [dataclasses.replace(row, **change) for row, change in zip(rollouts, changes, strict=True)]
        assert max(relative_errors(gradients_of_minimal(zero, changed, tokens), wanted).values()) > 1e-2


def test_its_first_step_is_the_productions(executor, recorded):
    """From the same seed nano says the same in both: replies, rewards and advantages of a whole recorded step."""
    from azr_lite.config import Config
    from azr_lite.rundir import RunDir

    run = RunDir.open(recorded)
    config: Config = run.config()
    zero = AbsoluteZero(config, executor)
    zero.seed()
    lines = [line for line in run.read("rollouts.jsonl") if line["step"] == 0]
    played = zero.step(0)
    assert [row.text for row in played] == [line["text"] for line in lines]
    assert [row.reward for row in played] == [line["reward"] for line in lines]
    assert [row.advantage for row in played] == pytest.approx([line["advantage"] for line in lines])
    assert not any(is_reserved(task.program) for buffer in zero.buffers.of.values() for task in buffer if task.parents)


def test_it_evaluates_greedily(executor):
    zero, asked = AbsoluteZero(preset("nano", **SMALL), executor), []
    sampler = zero.sampler
    zero.sampler = lambda ids, **how: asked.append(how["greedy"]) or sampler(ids, **how)
    zero.evaluate(1)
    assert asked == [True] * 3


def test_the_command_trains_and_says_what_came_of_it():
    command = Child("--steps", 2, "--batch-size", 4, "--problems", 3, module="azr_lite.minimal")
    printed = command.communicate()[0]
    assert command.returncode == 0, printed
    lines = re.findall(r"^(?:step \d/2|\w+duction): .*", printed, re.MULTILINE)
    assert [line.partition(":")[0] for line in lines] == ["step 1/2", "step 2/2", "deduction", "abduction", "induction"]
    assert "right before" in lines[-1]
