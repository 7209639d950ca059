"""The measured share of the gradient: its parts add up to the whole, and looking changes nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from azr_lite.config import Config
from azr_lite.train import diagnostics
from azr_lite.train.diagnostics import gradient_of
from azr_lite.train.trainer import SelfPlayTrainer
from azr_lite.triplet import Role, Rollout
from tests.test_trainer import Spy
from tests.tiny import PLAIN, Scripted, random_rollouts, sampled_script, tiny_config, tiny_policy, weigh

GROUPS = [f"{role}/{name}" for role in Role for name in ("deduction", "abduction", "induction")]


def trained(config: Config, folder: Path, script: Any, tuning: str = "full") -> tuple[Any, Spy, list[dict[str, Any]]]:
    reports: list[dict[str, Any]] = []
    trainer = SelfPlayTrainer(config, tiny_policy(tuning), PLAIN, Scripted(script), folder, on_step=reports.append)
    spy = Spy()
    trainer.add_callback(spy)
    trainer.train()
    return trainer, spy, reports


@pytest.mark.parametrize(("updates", "micro", "balanced"), [(1, 12, True), (2, 2, False)])
def test_the_groups_gradients_add_up_to_the_updates(
    updates: int, micro: int, balanced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[list[torch.Tensor]] = []

    def keep(*given: Any) -> list[torch.Tensor]:
        parts.append(gradient_of(*given))
        return parts[-1]

    monkeypatch.setattr(diagnostics, "gradient_of", keep)
    config = tiny_config(
        gradient_share_every=1,
        updates_per_step=updates,
        micro_batch_size=micro,
        role_balanced_loss=balanced,
        entropy_coef=0.1,
        max_grad_norm=1e9,
    )
    rows = random_rollouts(config)
    rows = weigh(config, rows, counts=[place != 3 for place in range(len(rows))])  # with a row of padding
    _, spy, _ = trained(config, tmp_path, lambda generate, step: rows)
    assert len(parts) == len(GROUPS)
    whole = [sum(tensors) for tensors in zip(*parts, strict=True)]
    assert max(float(t.abs().max()) for t in whole) > 1e-3
    for found, wanted in zip(whole, spy.gradients[0].values(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_a_group_without_advantages_has_no_share(tmp_path: Path) -> None:
    config = tiny_config(gradient_share_every=1)
    rows = [
        dataclasses.replace(r, advantage=0.0) if r.group == "solve/abduction" else r for r in random_rollouts(config)
    ]
    _, _, (report,) = trained(config, tmp_path, lambda generate, step: rows)
    shares = {group: report[f"{group}/gradient_share"] for group in GROUPS}
    pulled = {r.group for r in rows if r.advantage}
    assert "solve/abduction" not in pulled
    assert len(pulled) >= 4
    assert {group for group, share in shares.items() if share > 0.01} == pulled
    assert all(shares[group] == 0.0 for group in set(GROUPS) - pulled)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert 0 < abs(report["gradient_cosine"]) < 1


def test_two_adapters_share_no_gradient(tmp_path: Path) -> None:
    config = tiny_config(gradient_share_every=1, roles="split", tuning="lora")
    rows = random_rollouts(config)
    _, _, (report,) = trained(config, tmp_path, lambda generate, step: rows, "lora")
    assert report["gradient_cosine"] == 0.0
    assert sum(report[f"propose/{name}/gradient_share"] for name in config.task_types) > 0.1
    assert sum(report[f"solve/{name}/gradient_share"] for name in config.task_types) > 0.1


def test_measuring_changes_nothing(tmp_path: Path) -> None:
    played: dict[int, list[Rollout]] = {}
    ends = {}
    for every in (0, 2):
        config = tiny_config(steps=3, updates_per_step=2, gradient_share_every=every, entropy_coef=0.01)
        script, played[every] = sampled_script(config), []

        def keep(generate: Any, step: int, script: Any = script, kept: list[Rollout] = played[every]) -> list[Rollout]:
            rows = script(generate, step)
            kept.extend(rows)
            return rows

        ends[every] = trained(config, tmp_path / str(every), keep)
    assert played[0] == played[2]
    without, measured = ends[0][0].model.state_dict(), ends[2][0].model.state_dict()
    assert all(torch.equal(without[name], measured[name]) for name in without)
    shared = set(ends[0][2][0]) - {"timing"}
    assert [{k: r[k] for k in shared} for r in ends[0][2]] == [{k: r[k] for k in shared} for r in ends[2][2]]
    key = "propose/deduction/gradient_share"
    assert [key in report for report in ends[2][2]] == [False, True, False]
    assert not any(key in report for report in ends[0][2])


def test_out_of_memory_leaves_the_numbers_out_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(diagnostics, "gradient_of", full)
    config = tiny_config(gradient_share_every=1)
    notes: list[str] = []
    rows = random_rollouts(config)
    reports: list[dict[str, Any]] = []
    trainer = SelfPlayTrainer(
        config,
        tiny_policy(),
        PLAIN,
        Scripted(lambda generate, step: rows),
        tmp_path,
        on_step=reports.append,
        note=notes.append,
    )
    notes.clear()  # which sampler was chosen
    trainer.train()
    assert reports[0]["grad_norm"] > 0
    assert "gradient_cosine" not in reports[0]
    assert len(notes) == 1
    assert "gradient_share_every=0" in notes[0]
