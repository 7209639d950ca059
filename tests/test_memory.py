"""Out of memory is survived, and changes neither gradients nor the random numbers of the run."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from azr_lite.config import Config  # noqa: E402
from azr_lite.errors import TrainingError  # noqa: E402
from azr_lite.train.generation import Halving, PolicySampler  # noqa: E402
from azr_lite.train.trainer import SelfPlayTrainer  # noqa: E402
from tests.test_trainer import Spy, relative_error  # noqa: E402
from tests.tiny import PLAIN, Scripted, random_rollouts, sampled_script, tiny_config, tiny_policy  # noqa: E402

ROOM = 1
"""Rows that fit into the pretended memory."""


class Tight(torch.autograd.Function):
    """Identity whose backward pass fails when there are too many rows."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        if len(gradient) > ROOM:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return gradient


def squeeze(model: torch.nn.Module, where: str) -> None:
    """Memory for one row: the forward pass (or, after half the layers gave gradients, the backward pass) fails with more."""

    def forward_fails(module: Any, inputs: Any, output: Any) -> Any:
        if len(output) > ROOM and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    layer = model.model.layers[1 if where == "forward" else 0].mlp
    layer.register_forward_hook(
        forward_fails if where == "forward" else lambda module, inputs, output: Tight.apply(output)
    )


def play(config: Config, folder: Path, where: str = "") -> tuple[SelfPlayTrainer, Spy, list[str], list[dict[str, Any]]]:
    policy, notes, reports = tiny_policy(), [], []
    rows = random_rollouts(config)
    trainer = SelfPlayTrainer(
        config,
        policy,
        PLAIN,
        Scripted(lambda generate, step: rows),
        folder,
        note=notes.append,
        on_step=lambda report: reports.append(report),
    )
    notes.clear()  # which sampler was chosen
    if where:
        squeeze(policy.model, where)
    spy = Spy()
    trainer.add_callback(spy)
    trainer.train()
    return trainer, spy, notes, reports


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("updates", [1, 2])
def test_the_gradient_is_the_same_after_healing(where: str, updates: int, tmp_path: Path) -> None:
    config = tiny_config(micro_batch_size=3, updates_per_step=updates, entropy_coef=0.01, max_grad_norm=1e9)
    _, whole, quiet, (before,) = play(config, tmp_path / "whole")
    _, healed, notes, (after,) = play(config, tmp_path / "healed", where)
    assert quiet == []
    assert len(whole.gradients) == len(healed.gradients) == updates
    for one, other in zip(whole.gradients, healed.gradients, strict=True):
        assert relative_error(other, one) < 1e-5
    assert [("2 sequences" in note, "1 sequences" in note) for note in notes] == [(True, False), (False, True)]
    assert after["loss"] == pytest.approx(before["loss"], abs=1e-6)
    assert after["grad_norm"] == pytest.approx(before["grad_norm"], rel=1e-4)


def test_what_the_failed_backward_pass_added_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without throwing the half-made gradients away the sum is wrong: the comparison above can fail."""
    config = tiny_config(micro_batch_size=3, max_grad_norm=1e9)
    _, whole, _, _ = play(config, tmp_path / "whole")
    monkeypatch.setattr(torch.nn.Module, "zero_grad", lambda self, set_to_none=True: None)
    _, wrong, _, _ = play(config, tmp_path / "wrong", "backward")
    assert relative_error(wrong.gradients[0], whole.gradients[0]) > 1e-2


def test_a_single_row_that_does_not_fit_ends_with_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_memory.ROOM", 0)
    with pytest.raises(TrainingError, match="single sequence at a time"):
        play(tiny_config(), tmp_path, "forward")


def test_several_processes_say_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SelfPlayTrainer, "can_recover", False)
    with pytest.raises(TrainingError, match=r"azr-lite resume .* --micro-batch-size 1"):
        play(tiny_config(), tmp_path, "forward")


def test_other_errors_are_not_swallowed(tmp_path: Path) -> None:
    policy = tiny_policy()
    policy.model.model.layers[1].mlp.register_forward_hook(lambda *_: 1 / 0)
    trainer = SelfPlayTrainer(tiny_config(), policy, PLAIN, Scripted(lambda generate, step: rows), tmp_path)
    rows = random_rollouts(tiny_config())
    with pytest.raises(ZeroDivisionError):
        trainer.train()


def test_halving_keeps_the_order_and_the_smaller_size() -> None:
    seen: list[int] = []

    def work(rows: range) -> list[int]:
        seen.append(len(rows))
        if len(rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return list(rows)

    halving = Halving()
    assert halving(work, range(5)) == [0, 1, 2, 3, 4]
    assert halving(work, range(3)) == [0, 1, 2]
    assert seen == [5, 3, 2, 2, 1, 2, 1]
    with pytest.raises(ZeroDivisionError):
        halving(lambda rows: 1 / 0, range(2))


def sampler_with_room(room: int, policy: Any) -> list[int]:
    """`generate` fails for more rows than `room`; gives the sizes that were tried."""
    sizes: list[int] = []
    original = policy.model.generate

    def generate(input_ids: torch.Tensor, **options: Any) -> torch.Tensor:
        sizes.append(len(input_ids))
        if len(input_ids) > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(input_ids=input_ids, **options)

    policy.model.generate = generate
    return sizes


def test_sampling_heals_and_stays_reproducible(tmp_path: Path) -> None:
    config = tiny_config(generation_chunk=8)
    found = []
    for attempt in range(2):
        policy, notes = tiny_policy(), []
        sizes = sampler_with_room(2, policy)
        trainer = SelfPlayTrainer(
            config, policy, PLAIN, Scripted(lambda generate, step: []), tmp_path / str(attempt), note=notes.append
        )
        trainer.sampler = PolicySampler(trainer)
        notes.clear()
        torch.manual_seed(attempt)
        before = torch.get_rng_state()
        found.append([trainer.generate(["abc", "x", "x", "yy", "x", "x", "x", "x"]) for _ in range(2)])
        assert torch.equal(before, torch.get_rng_state())
        assert sizes == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2], "the smaller chunk must be remembered"
        assert [note.split()[-2:] for note in notes] == [["4", "replies"], ["2", "replies"]]
    assert found[0] == found[1]
    assert len({reply.ids for reply in found[0][0] if reply.prompt == "x"}) > 1, "pieces must not repeat each other"


def test_sampling_that_never_fits_ends_with_one_sentence(tmp_path: Path) -> None:
    policy = tiny_policy()
    sampler_with_room(0, policy)
    trainer = SelfPlayTrainer(tiny_config(), policy, PLAIN, Scripted(lambda generate, step: []), tmp_path)
    trainer.sampler = PolicySampler(trainer)
    with pytest.raises(TrainingError, match="one reply at a time; lower the limit of tokens"):
        trainer.generate(["abc", "x"])


def test_a_healed_run_learns_on(tmp_path: Path) -> None:
    """Sampling, old log-probabilities, update and checkpoint of several steps, all under pressure."""
    config = tiny_config(steps=2, updates_per_step=2, micro_batch_size=3, save_every=1)
    policy, notes = tiny_policy(), []
    trainer = SelfPlayTrainer(config, policy, PLAIN, Scripted(sampled_script(config)), tmp_path, note=notes.append)
    notes.clear()
    squeeze(policy.model, "backward")
    start = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    trainer.train()
    assert trainer.steps_done == 2
    assert any(not torch.equal(start[name], p) for name, p in policy.model.named_parameters())
    assert len(notes) == 2, "halving is remembered from step to step"
