"""What happens between two self-play steps: saving, stopping, reading the clock.

Comes in: the trainer's callbacks from transformers.  Goes out: its control flags (save, stop); seconds by stage.
Not covered: how a checkpoint is written (`trainer.py`, `checkpoints.py`), when one is due (`budget.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

if TYPE_CHECKING:
    from azr_lite.trainer import SelfPlayTrainer


class Boundary(TrainerCallback):
    """Saves and stops between self-play steps, never inside one."""

    def __init__(self, trainer: SelfPlayTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        state.save_steps = args.save_steps  # a resumed state brings the interval it was saved with
        if self.trainer.on_begin is not None:
            self.trainer.on_begin()
        self.trainer.clock.restart()
        if not self.trainer.budget.save_s:
            self.trainer.budget.expect_bytes(self.trainer.expected_bytes())
        self.trainer.budget.train_begins()

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % self.trainer.config.updates_per_step == 0:
            self.trainer.budget.step_begins()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Decide together whether to save or stop: any process may ask to stop, the main process's clock says when time is up."""
        config, budget = self.trainer.config, self.trainer.budget
        if state.global_step % config.updates_per_step:
            return
        budget.step_ends()
        late = budget.out_of_time(evaluations=2 if config.eval_every else 1)
        asked = gather_object([(self.trainer.stop_asked, late, budget.save_due())])
        _, late, due = asked[0]
        if late and not control.should_training_stop:
            self.trainer.stopped = "max_hours"
        if late or any(stop for stop, _, _ in asked):
            control.should_training_stop = control.should_save = True
        elif due:
            control.should_save = True


class Clock:
    """Where one self-play step's wall time went, in seconds. `seconds`: what self-play counts for generation and sandbox, growing."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.seconds = seconds
        self.restart()

    def restart(self) -> None:
        """A new step begins now."""
        self.began, self.played, self.before = time.perf_counter(), 0.0, dict(self.seconds)

    @contextmanager
    def playing(self) -> Iterator[None]:
        """Around the self-play; what comes after it is the update."""
        yield
        self.played = time.perf_counter()

    def read(self) -> dict[str, float]:
        """Seconds for generate, sandbox, update, and the rest (parsing, saving); starts the next step."""
        parts = {name: self.seconds[name] - self.before[name] for name in ("generate", "sandbox")}
        now = time.perf_counter()
        parts["update"] = now - self.played
        parts["rest"] = max(0.0, now - self.began - sum(parts.values()))
        self.restart()
        return parts
