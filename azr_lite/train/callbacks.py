"""Around a run's updates: what is reported of each self-play step; when the run is evaluated, saved and stopped."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from azr_lite.config import Config
from azr_lite.errors import TrainingError
from azr_lite.train.checkpoints import drop_old, expected_bytes, is_whole, mirror_of, try_push
from azr_lite.train.distributed import is_main

if TYPE_CHECKING:
    from azr_lite.evaluation.scores import Standing

SHARE = 0.1  # saving may take at most this part of a session's time, where `save_minutes` asks for it
WRITE_SPEED = 200e6  # bytes per second, for the guess before a first checkpoint has been measured (a plain disk)


class Budget:
    """One session's clock; it starts when this is made. All durations in seconds.

    `save_minutes`: how much work may be lost (0: no limit). `max_hours`: how long the session may last (0: no limit).
    """

    def __init__(
        self, save_minutes: float = 0.0, max_hours: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.save_minutes, self.max_hours, self.clock = save_minutes, max_hours, clock
        self.began = self.safe_since = self.step_began = clock()
        self.steps: deque[float] = deque(maxlen=5)  # durations of the last self-play steps
        self.saving = 0.0  # spent on saving so far
        self.save_s = 0.0  # what the next checkpoint will take: the last one's time, at first a guess
        self.evaluation_s = 0.0  # what the next held-out evaluation will take
        self.stretched = False  # whether a checkpoint that was due was ever held back: saving had taken its share

    @property
    def step_s(self) -> float:
        """What the next self-play step will take: the longest of the last five."""
        return max(self.steps, default=0.0)

    def train_begins(self) -> None:
        """What came before (loading, seeding, the checkpoint resumed from) cannot be lost, or is done again anyway."""
        self.safe_since = self.clock()

    def step_begins(self) -> None:
        self.step_began = self.clock()

    def step_ends(self) -> None:
        self.steps.append(self.clock() - self.step_began)

    def saved(self, seconds: float) -> None:
        """A checkpoint is whole; it (and its copy elsewhere) took this long."""
        self.saving, self.save_s, self.safe_since = self.saving + seconds, seconds, self.clock()

    def save_due(self) -> bool:
        """Whether one step more would put over `save_minutes` of work at risk, and saving may take the time."""
        if not self.save_minutes or self.clock() - self.safe_since + self.step_s <= 60 * self.save_minutes:
            return False
        affordable = self.saving + self.save_s <= SHARE * (self.clock() - self.began)
        self.stretched |= not affordable
        return affordable

    def out_of_time(self, evaluations: int = 1) -> bool:
        """Whether one step more, a checkpoint and so many evaluations would end after `max_hours`."""
        ahead = self.step_s + self.save_s + evaluations * self.evaluation_s
        return bool(self.max_hours) and self.clock() - self.began + ahead > 3600 * self.max_hours


class Schedule(TrainerCallback):
    """Decides, between self-play steps only and on every process alike, when a run is evaluated, saved and stopped.

    Reported: each self-play step, with means over its updates. Evaluated: every `eval_every` steps. Saved: every
    `save_every` steps, before more than `save_minutes` of work are at risk, at a new best evaluation (where the stop
    rule is on), and at the end. Stopped: after `steps`, when asked (any process may ask), before `max_hours` are over
    (by the main process's clock), and after `stop_patience` evaluations below the best. transformers itself looks after
    `save_every` and `steps`. Each saved checkpoint is copied to `sync_to`, and the oldest ones go.
    """

    def __init__(
        self,
        config: Config,
        run_dir: Path,
        note: Callable[[str], None] = lambda line: None,
        budget: Budget | None = None,
        on_begin: Callable[[], None] = lambda: None,
        on_step: Callable[[dict[str, Any]], bool | None] = lambda report: None,
        evaluate: Callable[[int], Standing | None] = lambda done: None,
    ) -> None:
        """`note` takes sentences for people. `on_begin` is called inside `train`, before the first step, when weights
        are where they stay; `on_step` with the report of each step, and says whether a callback failed; `evaluate`
        after each step with an evaluation.
        """
        self.config, self.run_dir, self.note = config, run_dir, note
        self.on_begin, self.on_step, self.evaluate = on_begin, on_step, evaluate
        self.budget = budget or Budget(config.save_minutes, config.max_hours)
        self.mirror = mirror_of(config.sync_to, run_dir)
        self.standing: Standing | None = None
        self.stopped = ""  # what ended the run early: max_hours, stop_patience, or who asked (such as SIGINT)
        self._stop_asked, self._save_asked, self._told = "", False, False
        self._logs: list[dict[str, float]] = []  # TRL's numbers of the step's updates so far
        self._timing: dict[str, float] = {}

    # ------------------------------------------------------------------ what the run asks for

    def request_stop(self, who: str = "caller") -> None:
        """Finish the current self-play step, save, and return from `train`. One process asking is enough."""
        self._stop_asked = who

    def go_on_from(self, standing: Standing | None, args: TrainingArguments, done: int) -> None:
        """Before training from step `done` on. A run that the stop rule ended stays so, unless patience was raised."""
        self.standing = standing
        if self._patience_is_over():
            args.max_steps = done * self.config.updates_per_step

    def played(self, timing: dict[str, float]) -> None:
        """The step's self-play took so many seconds by stage; what comes now is the update."""
        self._timing, self._played = timing, time.perf_counter()

    def _patience_is_over(self) -> bool:
        now = self.standing
        if now is None or not 0 < self.config.stop_patience <= now.below:
            return False
        self.stopped = "stop_patience"
        best = f"at step {now.best_step}, kept as {self.best_checkpoint.name}" if now.best_step else "before training"
        self.note(
            f"stopped at step {now.step}: {now.below} held-out evaluations in a row are significantly below the best "
            f"({now.accuracy:.3f} now, {now.best_accuracy:.3f} {best}); `azr-lite resume {self.run_dir} "
            "--stop-patience 0` goes on anyway"
        )
        return True

    @property
    def best_checkpoint(self) -> Path | None:
        """Never dropped, however many newer ones there are."""
        if self.standing is None or not self.standing.best_step:
            return None
        return self.run_dir / f"checkpoint-{self.standing.best_step * self.config.updates_per_step}"

    # ------------------------------------------------------------------ what transformers calls

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        self.on_begin()
        state.save_steps = args.save_steps  # a resumed state brings the interval it was saved with
        if not self.budget.save_s:
            self.budget.save_s = expected_bytes(given["model"].parameters()) / WRITE_SPEED
        self.budget.train_begins()
        self._began = time.perf_counter()

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % self.config.updates_per_step == 0:
            self.budget.step_begins()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """After each update; a self-play step ends with its last one."""
        if state.global_step % self.config.updates_per_step:
            return
        self.budget.step_ends()
        late = self.budget.out_of_time(evaluations=2 if self.config.eval_every else 1)
        asked = gather_object([(self._stop_asked, late, self.budget.save_due())])
        _, late, due = asked[0]
        stop = "max_hours" if late else next(filter(None, (one[0] for one in asked)), "")
        if stop and not control.should_training_stop:
            self.stopped = stop
            if late:
                self.note(f"stopping after this step: one more would pass max_hours={self.config.max_hours:g}")
        control.should_training_stop |= bool(stop)
        control.should_save |= bool(stop) or due
        self.explain_rare_saves()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """After each update, and once more when training ends, without a loss. What transformers does next is to save.

        TrainingError for a loss or a gradient that is not finite. (float16's scaler skips such a gradient by itself.)
        """
        logs, (step, later) = given["logs"], divmod(state.global_step, self.config.updates_per_step)
        if "loss" in logs:
            for name in ("loss", "gradient") if not args.fp16 else ("loss",):
                value = float(logs["grad_norm" if name == "gradient" else name])
                if not math.isfinite(value):
                    raise TrainingError(
                        f"the {name} of step {step + bool(later) - 1} is {value}; lower learning_rate, or use "
                        "dtype='float32'; `azr-lite resume` goes back to the last checkpoint"
                    )
            self._logs.append(logs)
            if not later:
                self._step_ended(step)
        if self._save_asked:
            control.should_save, self._save_asked = True, False
            control.should_training_stop |= bool(self.stopped)
        self.save_began = self.budget.clock()

    def _step_ended(self, done: int) -> None:
        """Report the self-play step, and evaluate where due: a new best is saved, and the stop rule is asked."""
        logs, self._logs = self._logs, []
        names = {"loss": "loss", "grad_norm": "grad_norm", "clip_ratio": "clip_ratio/region_mean", "entropy": "entropy"}
        names |= {"kl": "kl"} if self.config.kl_coef else {}
        report: dict[str, Any] = {name: math.fsum(log[key] for log in logs) / len(logs) for name, key in names.items()}
        report |= {name: value for name, value in logs[0].items() if "gradient_" in name and value is not None}
        now, timing = time.perf_counter(), self._timing
        timing["update"] = now - self._played
        timing["rest"] = max(0.0, now - self._began - sum(timing.values()))  # parsing, saving
        self._began = now
        report |= {"step": done - 1, "learning_rate": logs[-1]["learning_rate"], "timing": timing}
        if self.on_step(report):
            self.request_stop("callback")
        every = self.config.eval_every
        if every and done % every == 0 and done < self.config.steps:
            self.standing = self.evaluate(done)
            over = self._patience_is_over()
            self._save_asked = over or (self.standing is not None and self.standing.best_step == self.standing.step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """A checkpoint is whole on every process."""
        if args.should_save:
            drop_old(self.run_dir, self.config.keep_checkpoints, self.best_checkpoint)
        self.push()
        self.budget.saved(self.budget.clock() - self.save_began)

    # ------------------------------------------------------------------ the copy elsewhere, and what is said

    def push(self) -> None:
        """Bring the copy elsewhere up to date; a failure is a line, never the end of the run."""
        if self.mirror is not None and is_main() and (failure := try_push(self.mirror, self.best_checkpoint)):
            self.note(failure)

    def explain_rare_saves(self) -> None:
        """Say once that saving is held back."""
        if self.budget.stretched and not self._told:
            self._told = True
            took, asked = self.budget.save_s, self.config.save_minutes
            often = f"{took / SHARE / 60:.1f} minutes instead of every {asked:g}"
            self.note(f"a checkpoint takes {took:.1f} s, so they are made about every {often}")

    def summary(self) -> dict[str, Any]:
        """`stopped` names what ended the run early; `best` is there where the stop rule is on."""
        found: dict[str, Any] = {}
        if now := self.standing:
            best = self.best_checkpoint
            name = best.name if best is not None and is_whole(best) else None
            found["best"] = {"step": now.best_step, "accuracy": now.best_accuracy, "checkpoint": name}
        if self.stopped:
            found["stopped"] = {"rule": self.stopped}
        if self.stopped == "max_hours":
            found["stopped"]["max_hours"] = self.config.max_hours
        elif self.stopped == "stop_patience":
            found["stopped"]["patience"] = self.config.stop_patience
            found["stopped"] |= {f"best_{key}": value for key, value in found["best"].items()}
        return found
