"""Killed and resumed runs equal uninterrupted ones, byte for byte.

The runs are forked from one worker process (``python -m tests.test_trainer_resume FOLDER TUNING``), which imports torch once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.warm import together


def play(tuning: str, folder: Path, killed: Callable[[Any], None] | None = None) -> None:
    """One process's life: go on from the last whole checkpoint to the end, or until `killed` strikes."""
    from azr_lite.train.checkpoints import last_whole_checkpoint
    from azr_lite.train.trainer import SelfPlayTrainer
    from tests.tiny import PLAIN, Scripted, sampled_script, tiny_config, tiny_policy

    config = tiny_config(steps=4, updates_per_step=2, tuning=tuning, entropy_coef=0.01, keep_checkpoints=9)

    def report(numbers: dict[str, Any]) -> None:
        del numbers["timing"]
        (folder / f"step-{numbers['step']}.json").write_text(json.dumps(numbers, sort_keys=True))

    trainer = SelfPlayTrainer(
        config, tiny_policy(tuning), PLAIN, Scripted(sampled_script(config)), folder, on_step=report
    )
    if killed is not None:
        killed(trainer)
    checkpoint = last_whole_checkpoint(folder)
    if checkpoint is None:
        trainer.generate(["as seeding does", "before the first step"])
    trainer.train(resume_from_checkpoint=checkpoint)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_an_update(trainer: Any) -> None:
    """After the first micro-batch of the second update of step 1."""
    honest, place = trainer._compute_loss, []

    def deadly(model: Any, inputs: Any) -> Any:
        place.append(trainer.state.global_step)
        if place.count(3) == 2:
            kill()
        return honest(model, inputs)

    trainer._compute_loss = deadly


def in_a_checkpoint(trainer: Any) -> None:
    """While step 2 is saved: the weights are there, the seal is not."""
    import azr_lite.train.trainer

    honest = azr_lite.train.trainer.seal

    def deadly(folder: Path, state: Any) -> None:
        if folder.name == "checkpoint-6":
            kill()
        honest(folder, state)

    azr_lite.train.trainer.seal = deadly


def fork(tuning: str, folder: Path, killed: Callable[[Any], None] | None = None) -> int:
    """Exit status of a forked run; the negative signal number where one ended it."""
    child = os.fork()
    if child == 0:
        try:
            play(tuning, folder, killed)
            os._exit(0)
        except BaseException as error:  # a fork must not fall back into its parent's stack
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(root: Path, tuning: str) -> None:
    import tests.tiny  # noqa: F401  (imports torch before the forks)
    from azr_lite.train.checkpoints import last_whole_checkpoint

    whole, broken = root / "whole", root / "broken"
    whole.mkdir()
    broken.mkdir()
    assert fork(tuning, whole) == 0
    assert fork(tuning, broken, in_an_update) == -signal.SIGKILL
    assert last_whole_checkpoint(broken) == broken / "checkpoint-2"
    assert fork(tuning, broken, in_a_checkpoint) == -signal.SIGKILL
    assert (broken / "checkpoint-6" / "trainer_state.json").exists()
    assert last_whole_checkpoint(broken) == broken / "checkpoint-4", (
        "a checkpoint that was cut must not be resumed from"
    )
    assert fork(tuning, broken) == 0


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(tuning: str, tmp_path: Path) -> None:
    status, printed = together(tmp_path, tuning, module="tests.test_trainer_resume", count=0)
    assert status == 0, printed[-3000:]
    name = "model.safetensors" if tuning == "full" else "adapter_model.safetensors"
    for update in (2, 4, 6, 8):
        one, two = (tmp_path / run / f"checkpoint-{update}" for run in ("whole", "broken"))
        assert (one / name).read_bytes() == (two / name).read_bytes(), f"weights differ after update {update}"
        assert (one / "selfplay.json").read_bytes() == (two / "selfplay.json").read_bytes()
    weights = {(tmp_path / "whole" / f"checkpoint-{update}" / name).read_bytes() for update in (2, 4, 6, 8)}
    assert len(weights) == 4, "the weights do not move, so equality would prove nothing"
    for step in range(4):
        one, two = (tmp_path / run / f"step-{step}.json" for run in ("whole", "broken"))
        assert one.read_bytes() == two.read_bytes(), f"the report of step {step} differs"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
