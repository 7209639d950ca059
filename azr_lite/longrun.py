"""What watches over a long run: the clock, the stop rule, the copy elsewhere, and what the summary says of them.

Comes in: a session's trainer, its finished evaluations and checkpoints.  Goes out: save and stop requests, lines for people.
Not covered: the decisions themselves (`budget.py`, `stopping.py`), copying (`sync.py`), the loop (`loop.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from azr_lite.budget import SHARE, Budget
from azr_lite.checkpoints import is_whole, last_whole_checkpoint, step_of
from azr_lite.config import CHANGEABLE_ON_RESUME, Config
from azr_lite.errors import RunDirectoryError
from azr_lite.progress import Reporter
from azr_lite.stopping import Standing, read_standing
from azr_lite.sync import Mirror, mirror_of, try_push

if TYPE_CHECKING:
    from azr_lite.trainer import SelfPlayTrainer


class LongRunDuties:
    """The long-run duties of one session: save and stop by the clock, stop by the stop rule, keep the copy elsewhere.

    Every process has one and calls the same methods; only the main process writes.
    """

    def __init__(self, config: Config, run_dir: Path, reporter: Reporter, main: bool) -> None:
        self.config, self.run_dir, self.reporter, self.main = config, run_dir, reporter, main
        self.budget = Budget(config.save_minutes, config.max_hours)
        self.mirror = mirror_of(config.sync_to, run_dir)
        self.standing: Standing | None = None
        self._told = False

    def attach(self, trainer: SelfPlayTrainer, done: int) -> None:
        """Before training from step `done` on. A run that the stop rule has ended stays ended, unless its patience was raised."""
        self.trainer = trainer
        trainer.budget, trainer.on_saved = self.budget, self._saved
        self._look(done)
        if self._exhausted():
            trainer.stopped = "stop_patience"
            trainer.args.max_steps = done * self.config.updates_per_step
            self._say_why()

    def evaluated(self, step: int) -> None:
        """After the held-out evaluation of this step: keep the best one's checkpoint; stop where the rule says so."""
        self._look(step)
        if self._exhausted():
            self.trainer.save_now(stop="stop_patience")
            self._say_why()
        elif self.config.stop_patience and self.standing is not None and self.standing.best_step == step:
            self.trainer.save_now()

    def stepped(self) -> None:
        """After each step: say once that saving is held back."""
        if self.budget.stretched and not self._told:
            self._told = True
            self.reporter.facts(
                [
                    f"a checkpoint takes {self.budget.save_s:.1f} s, so they are made about every {self.budget.interval / 60:.1f} minutes "
                    f"instead of every {self.config.save_minutes:g} (saving may take {SHARE:.0%} of the time)"
                ]
            )

    def ended(self) -> None:
        """After training: one line where the clock has ended it."""
        if self.trainer.stopped == "max_hours":
            self.reporter.facts(
                [f"stopped and saved after step {self.trainer.steps_done}: one more would pass max_hours={self.config.max_hours:g}"]
            )

    def push(self) -> None:
        """Bring the copy elsewhere up to date; a failure is a line, never the end of the run."""
        if self.mirror is not None and self.main:
            best = self.trainer.best_checkpoint
            failure = try_push(self.mirror, [best] if best else [])
            self.reporter.facts([failure] if failure else [])

    def summary(self) -> dict[str, Any]:
        """`stopped` names the setting that ended the run early; `best` is there where the stop rule is on."""
        found: dict[str, Any] = {}
        if self.config.stop_patience and self.standing is not None:
            best = self.trainer.best_checkpoint
            name = best.name if best is not None and is_whole(best) else None
            found["best"] = {"step": self.standing.best_step, "accuracy": self.standing.best_accuracy, "checkpoint": name}
        if self.trainer.stopped == "max_hours":
            found["stopped"] = {"rule": "max_hours", "max_hours": self.config.max_hours}
        elif self.trainer.stopped:
            best = found["best"]
            found["stopped"] = {"rule": self.trainer.stopped, "patience": self.config.stop_patience}
            found["stopped"] |= {f"best_{key}": value for key, value in best.items()}
        return found

    def _saved(self) -> None:
        self.push()

    def _look(self, done: int) -> None:
        """Read the evaluations up to step `done` and note the best one: on the main process, which tells the others."""
        if not self.config.stop_patience:
            return
        from accelerate.utils import gather_object

        own = read_standing(self.run_dir, self.config.eval_every, done) if self.main else None
        self.standing = gather_object([own])[0]
        if self.standing is not None and self.standing.best_step:
            self.trainer.best_checkpoint = self.run_dir / f"checkpoint-{self.standing.best_step * self.config.updates_per_step}"

    def _exhausted(self) -> bool:
        return bool(self.config.stop_patience) and self.standing is not None and self.standing.below >= self.config.stop_patience

    def _say_why(self) -> None:
        now = self.standing
        best = (
            f"at step {now.best_step}, kept as checkpoint-{now.best_step * self.config.updates_per_step}"
            if now.best_step
            else "before training"
        )
        self.reporter.facts(
            [
                f"stopped at step {now.step}: {now.below} held-out evaluations in a row are significantly below the best "
                f"({now.accuracy:.3f} now, {now.best_accuracy:.3f} {best}); `azr-lite resume {self.run_dir} --stop-patience 0` goes on anyway"
            ]
        )


def foreign_settings(old: Config, new: Config) -> list[str]:
    """Names of the settings that differ and that a resumed run cannot change. The run's label and folder do not count."""
    was, now = old.to_json(), new.to_json()
    return [name for name in was if name not in (*CHANGEABLE_ON_RESUME, "preset", "output_dir") and was[name] != now[name]]


def find_or_fetch_run(config: Config, reporter: Reporter) -> bool:
    """Whether there is a run to go on with at `output_dir`. Where only `sync_to` holds one, it is fetched back first.

    A directory that a kill left without its run.json has nothing in it yet, and is started anew.
    """
    run_dir = Path(config.output_dir)
    mirror = mirror_of(config.sync_to, run_dir)
    if (run_dir / "run.json").exists():
        _check_not_behind(run_dir, mirror)
        return True
    if mirror is not None and _newest_there(mirror) is not None:
        reporter.facts([f"fetching the run back from {mirror}"])
        mirror.fetch()
        return True
    if run_dir.is_dir() and {path.name for path in run_dir.iterdir() if not path.name.startswith(".")} == {"config.json"}:
        (run_dir / "config.json").unlink()
    return False


def refuse_foreign_copy(config: Config) -> None:
    """A new run must not be copied over another one of the same name. A place that cannot be reached is said now, not hours later."""
    mirror = mirror_of(config.sync_to, Path(config.output_dir))
    if mirror is not None and _newest_there(mirror) is not None:
        raise RunDirectoryError(
            f"{mirror} holds a copy of a run already; go on with it by --go-on, or choose another --output-dir or --sync-to"
        )


def _newest_there(mirror: Mirror) -> int | None:
    try:
        return mirror.newest_step()
    except Exception as error:
        raise RunDirectoryError(
            f"cannot look for a copy of the run at {mirror} ({error}); mount it or check the network, or leave --sync-to away"
        ) from error


def _check_not_behind(run_dir: Path, mirror: Mirror | None) -> None:
    newest = last_whole_checkpoint(run_dir)
    here = step_of(newest) if newest else 0
    try:
        there = mirror.newest_step() if mirror is not None else None
    except Exception:
        return  # away just now: what is here goes on
    if there is not None and there > here:
        raise RunDirectoryError(
            f"the copy at {mirror} is ahead of {run_dir} ({there} updates against {here}); delete the one you do not want, or resume {run_dir} "
            "with another --sync-to"
        )
