"""Two processes are the same algorithm as one.

The worker is this file itself: ``python -m tests.test_trainer_processes FOLDER shared|split``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from azr_lite.errors import InfrastructureError
from tests.warm import together


class Jobs:
    """A counting stand-in for the sandbox."""

    def __init__(self) -> None:
        self.done = 0

    def run_many(self, jobs: list[Any]) -> list[Any]:
        self.done += len(jobs)
        return [f"ran {job}" for job in jobs]

    def validate_many(self, items: list[Any]) -> list[Any]:
        return [f"checked {item}" for item in items]


class Broken(Jobs):
    """Fails on the process that is dealt job 1 only."""

    def run_many(self, jobs: list[Any]) -> list[Any]:
        if 1 in jobs:
            raise InfrastructureError("the fork server died twice")
        return super().run_many(jobs)


def train(folder: Path, roles: str) -> None:
    from safetensors.torch import save_file

    from azr_lite.train.distributed import ShardedExecutor
    from azr_lite.train.trainer import SelfPlayTrainer
    from azr_lite.triplet import Rollout
    from tests.tiny import PLAIN, Scripted, sampled_script, tiny_config, tiny_policy, weigh

    tuning = "lora" if roles == "split" else "full"
    config = tiny_config(
        steps=2,
        updates_per_step=2 if roles == "shared" else 1,
        micro_batch_size=3,
        learning_rate=1e-3,
        entropy_coef=0.01,
        generation_chunk=2,
        tuning=tuning,
        roles=roles,
        gradient_share_every=1,
    )
    script, log = sampled_script(config), []
    trainer: Any = None

    def script_and_log(generate: Any, step: int) -> list[Rollout]:
        rows = script(generate, step)
        jobs = Jobs()
        results = ShardedExecutor(jobs).run_many(list(range(7)))
        assert results == [f"ran {job}" for job in range(7)]
        assert ShardedExecutor(jobs).validate_many(["a"]) == ["checked a"]
        with pytest.raises(InfrastructureError, match="died twice"):  # on every process, so that none waits for another
            ShardedExecutor(Broken()).run_many([0, 1])
        share = rows[trainer.accelerator.process_index :: trainer.accelerator.num_processes]
        log.append(
            {
                "ids": [r.completion_ids for r in rows],
                "advantages": [r.advantage for r in rows],
                "per_process": [r.advantage for r in weigh(config, share)],
                "jobs": jobs.done,
            }
        )
        return rows

    shares: list[dict[str, float]] = []
    keep = lambda report: shares.append({name: value for name, value in report.items() if "gradient" in name})  # noqa: E731
    trainer = SelfPlayTrainer(config, tiny_policy(tuning), PLAIN, Scripted(script_and_log), folder, on_step=keep)
    trainer.train()
    world, rank = trainer.accelerator.num_processes, trainer.accelerator.process_index
    (folder / f"rank-{rank}.json").write_text(
        json.dumps({"world": world, "steps": log, "shares": shares, "local_rows": len(trainer.rollouts)})
    )
    weights = {
        name: p.detach().clone().contiguous()
        for name, p in trainer.accelerator.unwrap_model(trainer.model).named_parameters()
    }
    save_file(weights, str(folder / f"rank-{rank}.safetensors"))


def run(folder: Path, world: int, roles: str = "shared") -> list[dict[str, Any]]:
    """What each process wrote. `world` 0: one process without a launcher."""
    folder.mkdir()
    status, printed = together(folder, roles, module="tests.test_trainer_processes", count=world)
    assert status == 0, printed[-3000:]
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(world or 1)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]], list[dict[str, Any]]]:
    root = tmp_path_factory.mktemp("processes")
    return root, run(root / "one", 0), run(root / "two", 2)


def check_statistics_are_global(one: list[float], two: list[list[float]], world: int) -> None:
    """The advantages of all processes together, put back in order, are those of a single process."""
    together = [two[index % world][index // world] for index in range(len(one))]
    assert together == one, "advantages depend on the number of processes"


def test_two_processes_sample_and_weigh_exactly_as_one(runs: Any) -> None:
    _, (one,), two = runs
    assert one["world"] == 1
    assert [rank["world"] for rank in two] == [2, 2]
    assert [rank["local_rows"] for rank in two] == [6, 6]
    for step in range(2):
        assert all(rank["steps"][step]["ids"] == one["steps"][step]["ids"] for rank in two)
        found = [rank["steps"][step]["advantages"][index::2] for index, rank in enumerate(two)]
        check_statistics_are_global(one["steps"][step]["advantages"], found, 2)
        assert sum(rank["steps"][step]["jobs"] for rank in two) == one["steps"][step]["jobs"] == 7


def test_whitening_per_process_is_noticed(runs: Any) -> None:
    _, (one,), two = runs
    with pytest.raises(AssertionError, match="depend on the number of processes"):
        check_statistics_are_global(one["steps"][0]["advantages"], [rank["steps"][0]["per_process"] for rank in two], 2)


def test_two_processes_end_with_the_parameters_of_one(runs: Any) -> None:
    from safetensors.torch import load_file

    from tests.tiny import tiny_policy

    root, _, _ = runs
    start = dict(tiny_policy().model.named_parameters())
    one, *two = (
        load_file(root / path)
        for path in ("one/rank-0.safetensors", "two/rank-0.safetensors", "two/rank-1.safetensors")
    )
    for name, weight in one.items():
        assert (two[0][name] == two[1][name]).all(), "the processes hold different weights"
        assert float((two[0][name] - weight).abs().max()) < 2e-4
    assert max(float((weight - start[name]).abs().max()) for name, weight in one.items()) > 2e-3, (
        "the weights hardly moved"
    )


def test_two_processes_measure_the_shares_of_one(runs: Any) -> None:
    """Each holds half of an update's rows, and not equally many of each group; the sums are of all."""
    _, (one,), two = runs
    assert max(one["shares"][0].values()) > 0.1
    for rank in two:
        assert rank["shares"][0] == pytest.approx(one["shares"][0], abs=1e-5)


def test_two_processes_train_two_adapters_as_one_does(tmp_path: Path) -> None:
    """Each micro-batch passes through one adapter; DDP must neither wait for the other nor sum it wrongly."""
    from safetensors.torch import load_file

    for world in (0, 1, 2):  # DDP wraps the model of one process too, where a launcher started it
        run(tmp_path / str(world), world, "split")
    one, *two = (load_file(tmp_path / f"{world}/rank-{rank}.safetensors") for world, rank in ((0, 0), (2, 0), (2, 1)))
    launched = load_file(tmp_path / "1/rank-0.safetensors")
    assert all((launched[name] == weight).all() for name, weight in one.items())
    moved = {"default": 0.0, "proposer": 0.0}
    for name, weight in one.items():
        assert (two[0][name] == two[1][name]).all(), "the processes hold different weights"
        assert float((two[0][name] - weight).abs().max()) < 2e-4
        for adapter in moved:
            if f"lora_B.{adapter}." in name:  # starts at zero
                moved[adapter] = max(moved[adapter], float(weight.abs().max()))
    assert min(moved.values()) > 1e-3, "an adapter hardly moved"


if __name__ == "__main__":
    from azr_lite.train.distributed import end, leave

    train(Path(sys.argv[1]), sys.argv[2])
    leave()
    end(0)
