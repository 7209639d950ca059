"""Two processes save and stop alike, though their clocks, disks and files differ.

The worker is this file itself: ``python -m tests.test_long_processes FOLDER``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.warm import together


def main(folder: Path) -> None:
    import torch

    from azr_lite.errors import RunDirectoryError
    from azr_lite.loop import read_standing
    from azr_lite.train.callbacks import Budget, Schedule
    from azr_lite.train.trainer import SelfPlayTrainer
    from tests.tiny import PLAIN, Scripted, sampled_script, tiny_config, tiny_policy

    rank = int(os.environ["RANK"])
    said: dict[str, Any] = {}

    def build(name: str, **changes: Any) -> Any:
        config = tiny_config(
            steps=4, updates_per_step=2, micro_batch_size=3, keep_checkpoints=9, save_every=0, **changes
        )
        return SelfPlayTrainer(config, tiny_policy(), PLAIN, Scripted(sampled_script(config)), folder / name)

    def looks(rate: float) -> Any:
        now = [0.0]

        def clock() -> float:
            now[0] += rate
            return now[0]

        return clock

    late = build("late", max_hours=1.0)
    late.schedule.budget = Budget(0, 1.0, clock=looks(500 if rank == 0 else 0))
    late.train()
    said["late"] = [late.steps_done, late.schedule.stopped]

    due = build("due")
    due.schedule.budget = Budget(1.0, 0, clock=looks(1000 if rank == 0 else 0))
    due.schedule.budget.saved(0.0)
    due.schedule.push = lambda: said.setdefault("saved", []).append(due.state.global_step)
    due.train()

    full = build("full")
    honest = torch.save
    if rank == 0:
        torch.save = lambda *_, **__: (_ for _ in ()).throw(RuntimeError("basic_ios::clear: iostream error"))
    try:
        full.train()
    except RunDirectoryError as error:
        said["full"] = str(error)
    torch.save = honest

    config = full.config.replace(eval_every=1, eval_problems=20, stop_patience=1)
    schedule = Schedule(config, folder)
    standing = read_standing(folder / ("evaluated" if rank == 0 else "nowhere"), config.eval_every, 1)
    schedule.go_on_from(standing, full.args, 1)
    said["standing"] = [standing.best_step, standing.below, schedule.stopped, full.args.max_steps]
    (folder / f"rank-{rank}.json").write_text(json.dumps(said))


def test_both_decide_as_the_main_one(tmp_path: Path) -> None:
    from tests.test_stopping import write_evaluation

    for name, right in {"before": 60, "step-1": 30}.items():
        write_evaluation(tmp_path / "evaluated", name, right)
    status, printed = together(tmp_path, module="tests.test_long_processes")
    assert status == 0, printed[-3000:]
    one, two = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2))
    assert one == two
    steps, stopped = one["late"]
    assert (0 < steps < 4, stopped) == (True, "max_hours")
    assert (tmp_path / "late" / f"checkpoint-{2 * steps}" / "whole.json").exists()
    assert len(one["saved"]) > 1, "the main process's clock asked for more than the last checkpoint"
    assert all(updates % 2 == 0 for updates in one["saved"])
    assert "no room for a checkpoint" in one["full"]
    assert not list((tmp_path / "full").glob("checkpoint-*"))
    assert one["standing"] == [0, 1, "stop_patience", 2]


if __name__ == "__main__":
    from azr_lite.train.distributed import end, leave

    main(Path(sys.argv[1]))
    leave()
    end(0)
