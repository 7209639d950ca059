"""Two adapters play two roles on one base."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from azr_lite.train.checkpoints import last_whole_checkpoint  # noqa: E402
from azr_lite.train.diagnostics import self_test  # noqa: E402
from azr_lite.train.trainer import SelfPlayTrainer  # noqa: E402
from azr_lite.triplet import Role  # noqa: E402
from tests.test_trainer import Spy, reinforce_gradient, relative_error  # noqa: E402
from tests.tiny import (  # noqa: E402
    PLAIN,
    Scripted,
    random_rollouts,
    sampled_script,
    tiny_config,
    tiny_policy,
)


def split_config(**changes: Any) -> Any:
    return tiny_config(**{"tuning": "lora", "roles": "split", "max_grad_norm": 1e9, **changes})


def one_step(config: Any, rows: Any, folder: Path) -> tuple[SelfPlayTrainer, Spy]:
    trainer = SelfPlayTrainer(config, tiny_policy("lora"), PLAIN, Scripted(lambda generate, step: rows), folder)
    with torch.no_grad():  # adapters start without effect: give each its own
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                generator = torch.Generator().manual_seed(len(name) + ("proposer" in name))
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    spy = Spy()
    trainer.add_callback(spy)
    trainer.train()
    return trainer, spy


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("updates", [1, 2])
def test_each_role_moves_its_own_adapter_by_its_own_rows(updates: int, checkpointing: bool, tmp_path: Path) -> None:
    config = split_config(micro_batch_size=3, gradient_checkpointing=checkpointing, updates_per_step=updates)
    rows = random_rollouts(config)
    if updates == 2:  # as SelfPlay deals them: each update sees both roles alike
        rows = rows[::2] + rows[1::2]
    trainer, spy = one_step(config, rows, tmp_path)
    block = rows[: len(rows) // updates]
    total = sum(len(r.completion_ids) for r in rows) / updates
    for role, adapter in ((Role.SOLVE, "default"), (Role.PROPOSE, "proposer")):
        own = [r for r in block if r.role == role]
        trainer.act_as(role)
        for name, weight in spy.weights[0].items():
            trainer.model.get_parameter(name).data.copy_(weight)
        wanted = reinforce_gradient(trainer.model, own)
        share = (
            sum(len(r.completion_ids) for r in own) / total
        )  # by hand the mean is over the rows given, here over the whole update
        found = {name: g for name, g in spy.gradients[0].items() if f".{adapter}." in name}
        assert len(found) == len(spy.gradients[0]) // 2
        assert relative_error(found, {name: share * wanted[name] for name in found}) < 1e-4
        assert max(float(g.abs().max()) for g in found.values()) > 1e-4


def test_roles_sample_from_their_own_adapter(tmp_path: Path) -> None:
    config = split_config()
    trainer, _ = one_step(config, random_rollouts(config), tmp_path)
    solved = trainer.generate(["abc", "de", "xyz"], greedy=True)
    assert solved == trainer.generate(["abc", "de", "xyz"], Role.SOLVE, greedy=True)
    assert solved != trainer.generate(["abc", "de", "xyz"], Role.PROPOSE, greedy=True)


def test_split_roles_resume_to_the_same_weights(tmp_path: Path) -> None:
    def play(folder: Path, steps: int) -> Path:
        config = split_config(steps=steps, micro_batch_size=3, updates_per_step=2)
        trainer = SelfPlayTrainer(config, tiny_policy("lora"), PLAIN, Scripted(sampled_script(config)), folder)
        checkpoint = last_whole_checkpoint(folder)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        return last_whole_checkpoint(folder)

    straight = play(tmp_path / "straight", 3)
    play(tmp_path / "twice", 1)
    twice = play(tmp_path / "twice", 3)
    for file in ("adapter_model.safetensors", "proposer/adapter_model.safetensors"):
        one, other = load_file(straight / file), load_file(twice / file)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    solver, proposer = (
        load_file(straight / "adapter_model.safetensors"),
        load_file(straight / "proposer/adapter_model.safetensors"),
    )
    assert all(not torch.equal(solver[name], proposer[name]) for name in solver if "lora_B" in name)


def test_split_roles_pass_the_self_test_and_double_the_adapters_only(tmp_path: Path) -> None:
    trainers = [
        SelfPlayTrainer(
            tiny_config(tuning="lora", roles=roles), tiny_policy("lora"), PLAIN, Scripted(lambda g, s: []), tmp_path
        )
        for roles in ("shared", "split")
    ]
    shared, split = ([p for p in t.model.parameters() if p.requires_grad] for t in trainers)
    assert sum(p.numel() for p in split) == 2 * sum(p.numel() for p in shared)
    assert all(p.dtype == torch.float32 for p in split)
    assert self_test(trainers[1]).raised > 0
