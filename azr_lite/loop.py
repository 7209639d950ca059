"""`run` and `resume`: wire everything, keep the run directory, stop when asked, say what came of it.

Comes in: a preset or a `Config`, or the path of a run.  Goes out: a `RunResult`, and the run directory.
Not covered: the algorithm (`selfplay.py`), the update (`trainer.py`), the files' formats (`rundir.py`).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azr_lite.config import Config, preset
from azr_lite.errors import ConfigError, RunDirectoryError
from azr_lite.evaluation.games import Item, compare_paired, evaluate_games, held_out_problems, summarize
from azr_lite.environment import describe_environment, quiet_libraries
from azr_lite.progress import Reporter
from azr_lite.prompts import get_style
from azr_lite.rundir import RunDir, write_json, write_text
from azr_lite.sandbox import Executor, Limits
from azr_lite.selfplay import SelfPlay

if TYPE_CHECKING:
    from azr_lite.models import Policy
    from azr_lite.trainer import SelfPlayTrainer

HELD_OUT_SEED = 20_505
"""Seed of the held-out problems: the same for every run, so that runs can be compared item by item."""


@dataclass(frozen=True)
class RunResult:
    """Where the run is and what came of it (`summary` is the content of summary.json)."""

    path: Path
    summary: dict[str, Any]


def run(config: Config | str = "nano", **overrides: Any) -> RunResult:
    """Run self-play from the start. `config`: a `Config`, or a preset's name; `overrides`: any of its fields.

    Raises ConfigError (wrong setting), RunDirectoryError (the directory exists), ModelError, UnsafeError,
    InfrastructureError, TrainingError: each with one sentence.
    """
    resolved = resolve(config, **overrides)
    directory = RunDir.create(resolved, {"command": sys.argv, "environment": describe_environment()})
    return _Session(resolved, directory).play()


def resume(path: str | Path, **overrides: Any) -> RunResult:
    """Go on from the last whole checkpoint (from the start when there is none yet). `overrides`: only `steps` may change."""
    directory = RunDir.open(path)
    config = directory.config()
    foreign = [name for name, value in overrides.items() if name != "steps" and value != getattr(config, name, None)]
    if foreign:
        raise ConfigError(f"a resumed run keeps its settings; {', '.join(foreign)} cannot change; start a new run instead")
    config = config.replace(output_dir=str(path), **overrides)
    directory.save_config(config)
    return _Session(config, directory).play()


def resolve(config: Config | str, **overrides: Any) -> Config:
    """The complete, checked configuration; an empty output_dir becomes ``runs/PRESET-seedSEED``."""
    resolved = preset(config, **overrides) if isinstance(config, str) else config.replace(**overrides)
    return resolved if resolved.output_dir else resolved.replace(output_dir=f"runs/{resolved.preset}-seed{resolved.seed}")


class _Session:
    """One process's work on one run."""

    def __init__(self, config: Config, directory: RunDir) -> None:
        self.config, self.directory = config, directory
        self.reporter = Reporter(config)
        self.started = time.perf_counter()

    def play(self) -> RunResult:
        quiet_libraries()
        config = self.config
        limits = Limits(cpu_s=config.cpu_seconds, memory_mb=config.memory_mb)
        with Executor(limits, workers=config.workers or None, allow_weak=config.allow_weak) as executor:
            self.executor = executor
            self._note_sandbox()
            self._load()
            if config.self_test:
                self._self_test()
            problems = held_out_problems(config.model, config.task_types, config.eval_problems, HELD_OUT_SEED)
            before = self._evaluate(problems, "before")
            self._seed()
            with self._interruptible():
                self.trainer.train(resume_from_checkpoint=str(self.checkpoint) if self.checkpoint else None)
            after = self._evaluate(problems, f"step-{self.trainer.state.global_step_of_selfplay}", "after") if problems else []
            return self._finish(before, after)
