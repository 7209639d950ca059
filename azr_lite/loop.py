"""`run` and `resume`: wire everything, keep the run directory, stop when asked, say what came of it.

Comes in: a preset or a `Config`, or the path of a run.  Goes out: a `RunResult`, and the run directory.
Not covered: the algorithm (`selfplay.py`), the update (`trainer.py`), the files' formats (`rundir.py`).
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azr_lite.config import CHANGEABLE_ON_RESUME, Config
from azr_lite.environment import describe_environment, quiet_libraries, require_training
from azr_lite.errors import ConfigError, ModelError, RunDirectoryError
from azr_lite.evaluation.generators import PolicyInTraining
from azr_lite.evaluation.reasoning import HELD_OUT_SEED, ReasoningSuite, held_out_suite
from azr_lite.evaluation.results import lines_of, read_items, scores_until
from azr_lite.evaluation.runner import answer, record_of
from azr_lite.evaluation.scores import Item, compare_paired, overall_gain, score, summarize
from azr_lite.metrics import STAGES, across, mean
from azr_lite.presets import preset
from azr_lite.progress import Meter, Reporter, Trackers, check_installed
from azr_lite.prompts import get_style
from azr_lite.rundir import RunDir, write_json, write_text
from azr_lite.sandbox import Executor
from azr_lite.selfplay import SelfPlay
from azr_lite.train.checkpoints import (
    SHARE,
    Budget,
    Mirror,
    is_whole,
    last_whole_checkpoint,
    mirror_of,
    sharding_of,
    step_of,
    try_push,
)
from azr_lite.train.distributed import (
    by_main,
    check_processes,
    explain_lost_process,
    is_main,
    join,
    leave,
    sharding,
    workers,
    world,
)
from azr_lite.verifier import Verifier, open_executor

LEVEL = 0.05
"""Significance of one evaluation's fall below the best."""


@dataclass(frozen=True)
class Standing:
    """`best_step` 0 is the model before training. `below`: evaluations in a row significantly under the best."""

    best_step: int
    best_accuracy: float
    below: int
    step: int
    accuracy: float


def standing(evaluations: Sequence[tuple[int, Sequence[Item]]]) -> Standing | None:
    """Where the newest of these evaluations, (step, items) in order of steps, stands against the best; None without any.

    Of equal accuracies the earlier one is the best.
    """
    if not evaluations:
        return None
    best_step, best = evaluations[0]
    below = 0
    for step, items in evaluations[1:]:
        gain, p = overall_gain(best, items)
        below = below + 1 if gain < 0 and p < LEVEL else 0
        if gain > 0:
            best_step, best = step, items
    step, items = evaluations[-1]
    return Standing(best_step, score(best).accuracy, below, step, score(items).accuracy)


def read_standing(run_dir: Path, every: int, done: int) -> Standing | None:
    """`standing` of the evaluations kept under eval/, up to step `done`. Only evaluations on schedule count: one made at an interrupt must change nothing."""
    steps = [0, *range(every, done + 1, every)] if every else [0]
    found = []
    for step in steps:
        path = run_dir / "eval" / (f"step-{step}.jsonl" if step else "before.jsonl")
        if path.exists():
            found.append((step, read_items(path)))
    return standing(found)


if TYPE_CHECKING:
    from azr_lite.train.trainer import SelfPlayTrainer


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
                [
                    f"stopped and saved after step {self.trainer.steps_done}: one more would pass max_hours={self.config.max_hours:g}"
                ]
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
            found["best"] = {
                "step": self.standing.best_step,
                "accuracy": self.standing.best_accuracy,
                "checkpoint": name,
            }
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
            self.trainer.best_checkpoint = (
                self.run_dir / f"checkpoint-{self.standing.best_step * self.config.updates_per_step}"
            )

    def _exhausted(self) -> bool:
        return (
            bool(self.config.stop_patience)
            and self.standing is not None
            and self.standing.below >= self.config.stop_patience
        )

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
    return [
        name for name in was if name not in (*CHANGEABLE_ON_RESUME, "preset", "output_dir") and was[name] != now[name]
    ]


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
    if run_dir.is_dir() and {path.name for path in run_dir.iterdir() if not path.name.startswith(".")} == {
        "config.json"
    }:
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


if TYPE_CHECKING:
    from azr_lite.train.trainer import SelfPlayTrainer, ShardedExecutor

CURVES = {
    "reply tokens": ("solve/", "/tokens"),
    "tasks' solve rate": ("propose/", "/solve_rate"),
    "valid proposals": ("propose/", "/ok"),
}
"""What the end of a run shows beside held-out accuracy: beginnings and ends of metrics' names, averaged over task types."""

ECHO = 3.0
"""Seconds within which a second signal is the launcher's echo of the first."""


@dataclass(frozen=True)
class RunResult:
    """Where the run is and what came of it (`summary` is the content of summary.json)."""

    path: Path
    summary: dict[str, Any]


def run(config: Config | str = "nano", *, go_on: bool = False, **overrides: Any) -> RunResult:
    """Run self-play from the start. `config`: a `Config`, or a preset's name; `overrides`: any of its fields.

    With `go_on`, a run that is there already (at output_dir, or its copy at sync_to) is resumed instead: the same call, made
    again after each disconnection, ends in one finished run.

    Raises ConfigError (a wrong setting), RunDirectoryError (the directory exists), ModelError, UnsafeError,
    InfrastructureError, TrainingError: each with one sentence.
    """
    resolved = resolve(config, **overrides)
    facts = _check_and_join(resolved)
    if go_on and by_main(lambda: find_or_fetch_run(resolved, Reporter(resolved))):
        return _resume_existing(resolved)
    if not go_on:
        by_main(lambda: refuse_foreign_copy(resolved))
    by_main(lambda: RunDir.create(resolved, {"environment": describe_environment()}).path)
    directory = RunDir(Path(resolved.output_dir))
    try:
        return _Session(resolved, directory, facts).play()
    except (ConfigError, ModelError):
        if is_main():
            directory.discard()  # a wrong word mended, the same command shall not find a run in its way
        raise


def resume(path: str | Path, **overrides: Any) -> RunResult:
    """Go on from the last whole checkpoint (from the start when there is none yet). `overrides`: those in `config.CHANGEABLE_ON_RESUME`."""
    directory = RunDir.open(path)
    old = directory.config()
    config = old.replace(**overrides)
    label = [name for name in ("preset", "output_dir") if name in overrides and overrides[name] != getattr(old, name)]
    if foreign := label or foreign_settings(old, config):
        raise ConfigError(
            f"a resumed run keeps its settings, so {', '.join(foreign)} cannot change; start a new run instead"
        )
    config = config.replace(output_dir=str(path))
    facts = _check_and_join(config)
    checkpoint = by_main(lambda: last_whole_checkpoint(directory.path))
    _check_sharding(checkpoint)
    if checkpoint is not None:  # fewer steps than were made would leave a run of "8/2 steps"
        config = config.replace(steps=max(config.steps, step_of(checkpoint) // config.updates_per_step))
    by_main(lambda: directory.save_config(config))
    return _Session(config, directory, facts).play()


def _resume_existing(config: Config) -> RunResult:
    """Go on with the run at `output_dir`. ConfigError where it has other settings than these."""
    old = RunDir.open(config.output_dir).config()
    if foreign := foreign_settings(old, config):
        raise ConfigError(
            f"{config.output_dir} holds a run with other settings ({', '.join(foreign)}); give the same ones, or choose another --output-dir"
        )
    return resume(config.output_dir, **{name: getattr(config, name) for name in CHANGEABLE_ON_RESUME})


def resolve(config: Config | str, **overrides: Any) -> Config:
    """The complete, checked configuration; an empty output_dir becomes ``runs/PRESET-seedSEED``."""
    resolved = preset(config, **overrides) if isinstance(config, str) else config.replace(**overrides)
    return (
        resolved if resolved.output_dir else resolved.replace(output_dir=f"runs/{resolved.preset}-seed{resolved.seed}")
    )


def _check_sharding(checkpoint: Path | None) -> None:
    """ConfigError where a checkpoint written under FSDP, DeepSpeed or neither would be read under another of the three."""
    if checkpoint is not None and (was := sharding_of(checkpoint)) != sharding():
        ways = {"": "whole weights on each process", "FSDP": "fsdp2.yaml", "DeepSpeed": "zero3.yaml"}
        raise ConfigError(
            f"{checkpoint} was written with {ways[was]} and this run was started with {ways[sharding()]}, which cannot read its moments; resume "
            f"as it was started (any number of processes), or start a new run from its weights: --model {checkpoint}"
        )


def _check_and_join(config: Config) -> list[str]:
    """Check how the run was started and connect to its other processes, before anything is written or loaded. Facts for people."""
    require_training("a run")
    facts = check_processes(config)
    check_installed(config)
    quiet_libraries()
    join(config)
    return facts


class _Session:
    """One process's work on one run, from loading the model to the summary; a resumed run gets a new one."""

    def __init__(self, config: Config, directory: RunDir, facts: list[str]) -> None:
        self.config, self.directory = config, directory
        self.main = is_main()
        self.reporter = Reporter(config, quiet=not self.main)
        self.reporter.facts(facts)
        self.started = time.perf_counter()
        self.duties = LongRunDuties(config, directory.path, self.reporter, self.main)
        self.trackers = Trackers(config, directory, lambda line: self.reporter.facts([line]))

    def play(self) -> RunResult:
        """Load, test, evaluate, seed, train, evaluate, sum up."""
        c = self.config
        with open_executor(c, workers(c)) as executor, explain_lost_process(self.directory.path):
            trainer = self._build(executor)
            by_main(lambda: self.trackers.start(self.done))
            if sharding():  # weights are cut, and can be sampled from, inside `train` only
                trainer.on_begin = lambda: self._begin(trainer)
            else:
                self._begin(trainer)
            self._train(trainer)
            after = self._evaluate(trainer, f"step-{trainer.steps_done}")
            result = self._finish(trainer, self.before, after)
            leave()
            return result

    def _begin(self, trainer: SelfPlayTrainer) -> None:
        """Once, before the first step: self-test, evaluation of the untrained policy, seeds."""
        if self.config.self_test:
            from azr_lite.train.diagnostics import self_test

            zero = sharding() == "DeepSpeed"  # whose parameters are empty between two passes
            self.reporter.facts(
                ["the learning self-test is left out under DeepSpeed" if zero else self_test(trainer).sentence]
            )
        self.before = self._evaluate(trainer, "before")
        self._seed(trainer)
        by_main(lambda: self.trackers.replay(self.done))

    def _build(self, executor: Executor) -> SelfPlayTrainer:
        from azr_lite.train.policy import load_policy
        from azr_lite.train.trainer import ShardedExecutor, build_trainer

        c = self.config
        policy = load_policy(c)
        style = get_style(policy.style)
        self.reporter.facts(
            [
                f"sandbox {executor.level.name}: {', '.join(k for k, v in executor.layers.items() if v == 'on')}",
                *policy.reasons,
            ]
        )
        if self.main:
            sandbox = {"level": executor.level.name, "layers": executor.layers}
            model = {"name": c.model, "choices": policy.reasons}
            self.directory.save_info(
                {**self.directory.info(), "processes": world(), "sandbox": sandbox, "model": model}
            )
        reserved, sampler = None, None
        if c.model == "nano":
            from azr_lite.nano.language import is_reserved as reserved
            from azr_lite.nano.sampler import NanoSampler

            sampler = NanoSampler(
                policy.model, policy.tokenizer.eos_token_id, policy.tokenizer.pad_token_id, c.max_reply_tokens
            )
        self.selfplay = SelfPlay(c, style, ShardedExecutor(executor), reserved=reserved)
        self.suite = self._held_out(ShardedExecutor(executor))
        self.checkpoint = by_main(lambda: last_whole_checkpoint(self.directory.path))
        note = lambda line: self.reporter.facts([line])  # noqa: E731
        trainer = build_trainer(
            c, policy, style, self.selfplay, self.directory.path, on_step=self._on_step, note=note, sampler=sampler
        )
        self.selfplay.count_tokens = trainer.count_tokens
        return trainer

    @property
    def done(self) -> int:
        """Self-play steps in the checkpoint this session starts from."""
        return step_of(self.checkpoint) // self.config.updates_per_step if self.checkpoint else 0

    def _seed(self, trainer: SelfPlayTrainer) -> None:
        """Seed the buffers once; a resumed run has them in its checkpoint."""
        if self.main:
            self.directory.rewind(self.done if self.checkpoint else -1)
        if self.checkpoint is None:
            rounds = self.selfplay.seed(trainer.generate)
            if self.main:
                self.directory.append_tasks(self.selfplay.record.tasks)
            sizes = ", ".join(f"{name} {size}" for name, size in self.selfplay.buffers.sizes().items())
            self.reporter.facts([f"buffers seeded by the untrained policy in {rounds} rounds: {sizes}"])

    def _train(self, trainer: SelfPlayTrainer) -> None:
        self.trainer = trainer
        self.duties.attach(trainer, self.done)
        self.meter = Meter()
        self.reporter.start(self.done)
        with self._interruptible(trainer):
            trainer.train(resume_from_checkpoint=str(self.checkpoint) if self.checkpoint else None)
        self.duties.ended()

    def _on_step(self, numbers: dict[str, Any]) -> None:
        """After each finished step: log, show, evaluate where due."""
        timing = numbers.pop("timing")
        step = numbers.pop("step")
        metrics = {**self.selfplay.record.metrics, **numbers}
        timing |= self.meter.read(self.selfplay.record.sampled_tokens, timing["generate"])
        if self.main:
            self.directory.append(step, metrics, timing, self.selfplay.record.rollouts, self.selfplay.record.tasks)
            self.trackers.step(step, metrics | timing)
        self.reporter.step(step, metrics, timing)
        every = self.config.eval_every
        if every and (step + 1) % every == 0 and step + 1 < self.config.steps:
            items = self._evaluate(self.trainer, f"step-{step + 1}")
            if self.main:
                self.trackers.evaluated(step + 1, summarize(items))
            self.duties.evaluated(step + 1)
        self.duties.stepped()

    def _held_out(self, executor: ShardedExecutor) -> ReasoningSuite | None:
        """The held-out problems of this run, None for none. They get a verifier of their own, so that self-play's counts stay its own."""
        c = self.config
        if c.eval_problems == 0:
            return None
        verifier = Verifier(executor, self.selfplay.rules)
        return held_out_suite(
            c.model, c.task_types, c.eval_problems, HELD_OUT_SEED, self.selfplay.style, verifier, c.max_reply_tokens
        )

    def _evaluate(self, trainer: SelfPlayTrainer, name: str) -> list[Item]:
        """Greedy held-out evaluation, kept as eval/NAME.jsonl and NAME.json; one that is on disk already is read, not repeated."""
        if self.suite is None:
            return []
        c, path = self.config, self.directory.path / "eval" / f"{name}.jsonl"
        if by_main(lambda: path.exists() and path.with_suffix(".json").exists()):
            seconds = by_main(
                lambda: json.loads(path.with_suffix(".json").read_text(encoding="utf-8")).get("seconds", 0.0)
            )
            self.duties.budget.evaluation_s = max(self.duties.budget.evaluation_s, seconds)
            return by_main(lambda: read_items(path))
        began = time.perf_counter()
        with trainer.greedy():
            generator, questions = PolicyInTraining(trainer.generate, f"{c.preset}, {name}"), self.suite.questions()
            items = answer(generator, self.suite, questions)
        seconds = time.perf_counter() - began
        record = record_of(
            self.suite, generator, questions, items, seconds, c.seed
        )  # by all: its baselines are run on all
        self.duties.budget.evaluation_s = max(self.duties.budget.evaluation_s, seconds)
        if self.main:
            path.parent.mkdir(exist_ok=True)
            write_text(path, lines_of(items))
            write_json(path.with_suffix(".json"), record)
        self.reporter.evaluation(name, record["scores"])
        return items

    def _finish(self, trainer: SelfPlayTrainer, before: list[Item], after: list[Item]) -> RunResult:
        summary = by_main(lambda: self._summary(trainer, before, after))
        if self.main:
            self.directory.save_summary(summary)
            self.trackers.finish(summary)
        self.duties.push()
        self.reporter.table(summary, self.directory.path)
        return RunResult(self.directory.path, summary)

    def _summary(self, trainer: SelfPlayTrainer, before: list[Item], after: list[Item]) -> dict[str, Any]:
        timing = list(self.directory.read("timing.jsonl")) if (self.directory.path / "timing.jsonl").exists() else []
        stages = {name: round(sum(line[name] for line in timing), 3) for name in STAGES} if timing else {}
        summary: dict[str, Any] = {
            "preset": self.config.preset,
            "seed": self.config.seed,
            "steps": trainer.steps_done,
            "finished": trainer.steps_done >= self.config.steps,
            "seconds": {"this session": round(time.perf_counter() - self.started, 3), **stages},
            "buffers": self.selfplay.buffers.sizes(),
            "executor": dict(self.selfplay.verifier.outcome_counts),
        }
        summary |= self.duties.summary()
        summary["curves"] = self._curves()
        if before:
            summary |= {"before": summarize(before), "after": summarize(after), "gain": compare_paired(before, after)}
        return summary

    def _curves(self) -> dict[str, list[list[float]]]:
        """[step, value] of what the end of a run shows: held-out accuracy, and over training length and success of replies."""
        held_out = scores_until(self.directory.path / "eval", self.config.steps)
        curves: dict[str, list[list[float]]] = {
            "held-out accuracy": [[step, held_out[step]["all"]["accuracy"]] for step in sorted(held_out)]
        }
        for name, (start, end) in CURVES.items():
            curves[name] = [[line["step"] + 1, mean(across(line, start, end))] for line in self.directory.metrics()]
        return curves

    @contextmanager
    def _interruptible(self, trainer: SelfPlayTrainer) -> Iterator[None]:
        """First Ctrl-C (or SIGTERM): finish the step, save, stop. Second: stop at once.

        A launcher passes on to its processes the Ctrl-C that the terminal has sent them already: the echo does not count.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def first(number: int, frame: Any) -> None:
            self.reporter.facts(["stopping after this step; press Ctrl-C again to stop at once"])
            trainer.request_stop()
            asked = time.monotonic()
            for each in old:
                signal.signal(each, lambda *given: second(asked, *given))

        def second(asked: float, number: int, frame: Any) -> None:
            if world() > 1 and time.monotonic() - asked < ECHO:
                return
            for each, handler in old.items():
                signal.signal(each, handler)
            signal.raise_signal(number)

        old = {number: signal.signal(number, first) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
