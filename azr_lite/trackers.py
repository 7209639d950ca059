"""A run's numbers in TensorBoard, Weights & Biases and Trackio: those of the run directory, under their names there.

Comes in: each step's metrics and timing, held-out scores, the gain.  Goes out: one point a self-play step (not an update), through
accelerate's trackers. The x axis is the number of the step; a held-out evaluation stands at the number of steps done before it.
Not covered: what the numbers mean (`azr-lite show metrics`), TRL's own numbers (not sent: they count updates), texts and weights.

A session is one run of the tracker. It begins by telling what the run directory holds, so that after `azr-lite resume` the newest
one is whole and holds each step once; one that was killed stays behind as it was (TensorBoard's, being in the run directory, is replaced).
Only the main process reports. A tracker that fails in mid-run is left out from there on, never the end of the run.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azr_lite.config import Config
from azr_lite.errors import ConfigError
from azr_lite.evaluation.kept import scores_until
from azr_lite.rundir import RunDir

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

PROJECT = "azr-lite"


def check_installed(config: Config) -> None:
    """ConfigError that says what to install, before anything is loaded."""
    for name in config.report_to:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"report_to names {name}, and it is not installed; pip install {name}, or leave it out of report_to")


class Trackers:
    """The trackers of one session. Without `config.report_to` nothing is imported and every call does nothing."""

    def __init__(self, config: Config, directory: RunDir, note: Callable[[str], None]) -> None:
        self.config, self.directory, self.note = config, directory, note
        self._running: list[GeneralTracker] = []
        self._evaluated: set[int] = set()

    def start(self, done: int) -> None:
        """Before the first step, from step `done` on. ConfigError in one sentence where a tracker refuses."""
        name = Path(self.config.output_dir).name
        for tracker in self.config.report_to:
            try:
                opened = _OPEN[tracker](self.config, self.directory.path, f"{name} from step {done}" if done else name, name)
                opened.start()
            except Exception as error:
                why = (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".")
                hint = "; `wandb login`, or set WANDB_MODE=offline" if tracker == "wandb" else ""
                raise ConfigError(f"{tracker} does not start: {why}{hint}; or leave it out of report_to") from error
            self._running.append(opened)

    def replay(self, done: int) -> None:
        """Send what the run directory holds of the steps before `done`; its logs have been cut back to there."""
        if not self._running:
            return
        scores = scores_until(self.directory.path / "eval", done)
        timing = {line["step"]: line for line in self.directory.read("timing.jsonl")} if done else {}
        for line in self.directory.read("metrics.jsonl") if done else ():
            if line["step"] in scores:
                self.evaluated(line["step"], scores[line["step"]])
            self.step(line["step"], line | timing.get(line["step"], {}))
        if done in scores:
            self.evaluated(done, scores[done])

    def step(self, step: int, numbers: Mapping[str, float]) -> None:
        """The lines of metrics.jsonl and timing.jsonl of one finished step."""
        self._log(step, {name: value for name, value in numbers.items() if name != "step"})

    def evaluated(self, step: int, scores: Mapping[str, Mapping[str, Any]]) -> None:
        """Held-out accuracy and reply length after `step` steps; said once."""
        if scores and step not in self._evaluated:
            self._evaluated.add(step)
            types = [name for name in scores if "/" not in name]
            self._log(step, {f"held_out/{name}/{key}": scores[name][key] for name in types for key in ("accuracy", "tokens")})

    def finish(self, summary: Mapping[str, Any]) -> None:
        """The last evaluation and the gain over the untrained policy; then every tracker is closed."""
        self.evaluated(summary["steps"], summary.get("after", {}))
        if "gain" in summary:
            types = [name for name in summary["gain"] if "/" not in name]
            self._log(summary["steps"], {f"gain/{name}": summary["gain"][name]["gain"] for name in types})
        self._each(lambda tracker: tracker.finish())
        self._running = []

    def _log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._each(lambda tracker: tracker.log(dict(numbers), step=step))

    def _each(self, work: Callable[[GeneralTracker], None]) -> None:
        for tracker in list(self._running):
            try:
                work(tracker)
            except Exception as error:
                self._running.remove(tracker)
                self.note(f"{tracker.name} failed and is left out from here on ({error}); metrics.jsonl has everything")


def _tensorboard(config: Config, run_dir: Path, name: str, group: str) -> GeneralTracker:
    from accelerate.tracking import TensorBoardTracker

    folder = run_dir / "tensorboard"
    shutil.rmtree(folder, ignore_errors=True)  # of the session before: its lost steps would stand beside ours
    return TensorBoardTracker("", folder)


def _wandb(config: Config, run_dir: Path, name: str, group: str) -> GeneralTracker:
    from accelerate.tracking import WandBTracker

    project, folder = os.environ.get("WANDB_PROJECT", PROJECT), os.environ.get("WANDB_DIR", str(run_dir))
    return WandBTracker(project, name=name, group=group, dir=folder, config=config.to_json())


def _trackio(config: Config, run_dir: Path, name: str, group: str) -> GeneralTracker:
    from accelerate.tracking import TrackioTracker

    return TrackioTracker(PROJECT, name=name, group=group, config=config.to_json(), auto_log_gpu=False, auto_log_cpu=False)


_OPEN: dict[str, Callable[[Config, Path, str, str], GeneralTracker]] = {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}
