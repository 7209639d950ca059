"""`run` and `resume`: wire everything, keep the run directory, stop when asked, say what came of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any

from azr_lite.config import CHANGEABLE_ON_RESUME, Config
from azr_lite.environment import require_training
from azr_lite.errors import ConfigError, ModelError
from azr_lite.evaluation import scores
from azr_lite.evaluation.generators import PolicyInTraining
from azr_lite.evaluation.reasoning import HELD_OUT_SEED, held_out_suite
from azr_lite.evaluation.runner import answer, heading_of, record_of
from azr_lite.metrics import STAGES
from azr_lite.planner.plan import with_sampler
from azr_lite.presets import preset
from azr_lite.progress import Callback, Objects, Reporter, check_installed, curves_of
from azr_lite.prompts import Style, get_style
from azr_lite.rundir import RunDir
from azr_lite.sandbox import Executor
from azr_lite.selfplay import SelfPlay
from azr_lite.train import distributed
from azr_lite.train.checkpoints import find_start, foreign_settings, last_whole_checkpoint, make_directory, step_of
from azr_lite.train.distributed import by_main, is_main, sharding, world
from azr_lite.train.preflight import check_device, check_prompts
from azr_lite.verifier import Verifier, open_executor


@dataclass(frozen=True)
class RunResult:
    """What `run` and `resume` return.

    Args:
        path: The run directory.
        summary: The content of its summary.json: accuracy before and after, gain with interval, seconds.

    Examples:
        ``azr_lite.run("nano", steps=5).summary["gain"]``
    """

    path: Path
    summary: dict[str, Any]


def run(
    config: Config | str = "nano",
    *,
    rewards: Any = None,
    callbacks: Sequence[Callback] = (),
    model: Any = None,
    tokenizer: Any = None,
    go_on: bool = False,
    **overrides: Any,
) -> RunResult:
    """Run self-play from the start.

    Args:
        config: A `Config`, or a preset's name.
        rewards: What replies earn: one or several names that `config.reward` takes, or functions of your own from a
            judged reply to named parts.
        callbacks: Called after each step, on the first process only, with the step's number, the numbers of
            metrics.jsonl and timing.jsonl, and the rollouts.
        model: A name as in `config.model`, or a loaded model of transformers, which is trained in place.
        tokenizer: That of a loaded model.
        go_on: Resume the run where it exists already (at output_dir, or its copy at sync_to). The same call, made again
            after each disconnection, ends in one finished run.
        overrides: Any field of `Config`.

    Returns:
        The run directory and the summary.

    Raises:
        ConfigError: A setting is wrong.
        RunDirectoryError: The directory exists already, or its copy cannot be reached.
        ModelError: The model cannot be loaded.
        UnsafeError: The kernel offers no isolation and `allow_weak` is off.
        InfrastructureError: The sandbox itself failed.
        TrainingError: The loss or a gradient is not finite, or the self-test failed.

    Examples:
        ``azr_lite.run("nano", steps=5, output_dir="runs/demo")``

        ``azr_lite.run("nano", rewards=["paper", lambda reply: {"short": -0.001 * len(reply.completion.ids)}])``
    """
    objects = Objects(rewards, callbacks, model, tokenizer)
    resolved = resolve(config, **overrides, **objects.names())
    facts = _check_and_join(resolved, objects)
    if not by_main(lambda: make_directory(resolved, go_on, Reporter(resolved).facts)):
        changes = {name: getattr(resolved, name) for name in CHANGEABLE_ON_RESUME}
        return resume(resolved.output_dir, **vars(objects), **changes)
    directory = RunDir(Path(resolved.output_dir))
    try:
        return _Session(resolved, directory, facts, objects).play()
    except (ConfigError, ModelError):
        if is_main():
            directory.discard()  # once the setting is corrected, the same command shall not find a run in its way
        raise


def resume(
    path: str | Path,
    *,
    rewards: Any = None,
    callbacks: Sequence[Callback] = (),
    model: Any = None,
    tokenizer: Any = None,
    **overrides: Any,
) -> RunResult:
    """Go on from the last whole checkpoint, or from the start where there is none yet.

    Args:
        path: The run directory.
        rewards: The run's own rewards, where they cannot be imported by their names in config.json.
        callbacks: As in `run`; a run does not remember them.
        model: The run's model, where it was begun with an object.
        tokenizer: That of the model.
        overrides: Settings named in `config.CHANGEABLE_ON_RESUME`.

    Returns:
        The run directory and the summary of the whole run.

    Raises:
        ConfigError: An override would change what is learned.
        RunDirectoryError: There is no run at `path`, it is damaged, or its copy at sync_to is ahead of it.

    Examples:
        ``azr_lite.resume("runs/demo", steps=10)``
    """
    directory = RunDir.open(path)
    old, objects = directory.config(), Objects(rewards, callbacks, model, tokenizer)
    overrides |= objects.names()
    if summary := summary_of_finished(path, **overrides):
        further = f"azr-lite resume {quote(str(path))} --steps {summary['steps'] + 10}"
        Reporter(old, quiet=not is_main()).facts(f"all {summary['steps']} steps are done already; further: {further}")
        return RunResult(directory.path, summary)
    config = old.replace(**overrides)
    if foreign := foreign_settings(old, config):
        names = ", ".join(foreign)
        raise ConfigError(f"a resumed run keeps its settings, so {names} cannot change; start a new run instead")
    config = config.replace(output_dir=str(path))
    facts = _check_and_join(config, objects)
    checkpoint = by_main(lambda: find_start(config, directory.summary()))
    start = "the start: there is no whole checkpoint yet"
    if checkpoint is not None:
        distributed.check_sharding(checkpoint)
        done = step_of(checkpoint) // config.updates_per_step
        config = config.replace(steps=max(config.steps, done))  # fewer would leave a run of "8/2 steps"
        start = f"step {done} of {config.steps} ({checkpoint.name})"
    return _Session(config, directory, [f"going on from {start}", *facts], objects, checkpoint).play()


def summary_of_finished(path: str | Path, **overrides: Any) -> dict[str, Any] | None:
    """The summary of a run that has nothing left to do with these overrides; None where it has."""
    directory = RunDir.open(path)
    old, summary = directory.config(), directory.summary() or {}
    new, done = old.replace(**overrides), step_of(last_whole_checkpoint(directory.path)) // old.updates_per_step
    told = new.report_to == old.report_to and not foreign_settings(old, new, besides=["output_dir"])
    is_over = summary.get("finished") and summary["steps"] == done >= new.steps
    return summary if is_over and told else None


def resolve(config: Config | str, **overrides: Any) -> Config:
    """The complete, checked configuration; an empty output_dir becomes ``runs/PRESET-seedSEED``."""
    found = with_sampler(preset(config, **overrides) if isinstance(config, str) else config.replace(**overrides))
    return found.replace(output_dir=str(Path(found.output_dir or f"runs/{found.preset}-seed{found.seed}").expanduser()))


def check(config: Config, objects: Objects) -> None:
    """Raise for what can be known to fail before anything is loaded or written."""
    check_installed(config)
    objects.own_rewards(config)
    if config.model == "nano":
        check_prompts(config)


def _check_and_join(config: Config, objects: Objects) -> list[str]:
    """Check how the run was started and meet its other processes, before anything is written. Facts for people."""
    require_training("a run")
    check(config, objects)
    facts = distributed.check_processes(config)
    check_device(config)
    distributed.join(config)
    return facts


class _Session:
    """One process's work on one run, from loading the model to the summary; a resumed run gets a new one."""

    def __init__(
        self, config: Config, directory: RunDir, facts: list[str], objects: Objects, checkpoint: Path | None = None
    ) -> None:
        from azr_lite.train.callbacks import Budget

        self.config, self.directory, self.objects, self.checkpoint = config, directory, objects, checkpoint
        self.done = step_of(checkpoint) // config.updates_per_step
        self.main, self.started = is_main(), time.perf_counter()
        self.budget = Budget(config.save_minutes, config.max_hours)  # whose clock starts here
        self.reporter = Reporter(config, directory, quiet=not self.main, callbacks=objects.callbacks)
        self.reporter.facts(*facts)

    def play(self) -> RunResult:
        """Load, test, evaluate, seed, train, evaluate, sum up."""
        c, path = self.config, self.directory.path
        with (
            distributed.one_thread_for_nano(c),
            open_executor(c, distributed.workers(c)) as executor,
            distributed.explain_lost_process(path),
            self.directory.alone() if self.main else nullcontext(),
        ):
            by_main(lambda: self.directory.save_config(c))
            self._build(executor)
            by_main(self.reporter.trackers.start)
            if not sharding():
                self._begin()
            self.schedule.go_on_from(self._standing(self.done), self.trainer.args, self.done)
            self.reporter.start(self.done)
            with distributed.interruptible(self.schedule.request_stop, self.reporter.facts):
                self.trainer.train(resume_from_checkpoint=self.checkpoint)
            result = self._finish(self._evaluate(f"step-{self.trainer.steps_done}"))
            distributed.leave()
            if self.reporter.failed:
                raise self.reporter.failed
            return result

    def _build(self, executor: Executor) -> None:
        from azr_lite.train.policy import load_policy
        from azr_lite.train.trainer import SelfPlayTrainer

        c, path = self.config, self.directory.path
        policy = load_policy(c, self.objects.model, self.objects.tokenizer)
        style = get_style(policy.style)
        layers = ", ".join(name for name, state in executor.layers.items() if state == "on")
        self.reporter.facts(f"sandbox {executor.level.name}: {layers}", *policy.reasons)
        reserved, sampler = None, None
        if c.model == "nano":
            from azr_lite.nano.language import is_reserved as reserved
            from azr_lite.nano.model import NanoSampler

            tokenizer = policy.tokenizer
            sampler = NanoSampler(policy.model, tokenizer.eos_token_id, tokenizer.pad_token_id, c.max_reply_tokens)
        runner = distributed.ShardedExecutor(executor) if world() > 1 else executor
        self.selfplay = SelfPlay(c, style, runner, reserved=reserved, rewards=self.objects.own_rewards(c))
        told = {"on_step": partial(self.reporter.step, self.selfplay), "evaluate": self._evaluate_after}
        if sharding():  # then weights are cut, and can be sampled from, inside `train` only
            told["on_begin"] = self._begin
        told |= {"note": self.reporter.facts, "budget": self.budget}
        self.trainer = SelfPlayTrainer(c, policy, style, self.selfplay, path, sampler=sampler, **told)
        self.schedule = self.trainer.schedule
        self.selfplay.count_tokens = self.trainer.count_tokens
        self.selfplay.special_tokens = self.trainer.codec.special_tokens
        trial = c.prompts == "auto" and c.model != "nano" and self.checkpoint is None and not sharding()
        choices = policy.reasons + ([self._choose_prompts(style)] if trial else [])
        if self.main:
            info = self.directory.info() | {"processes": world(), "model": {"name": c.model, "choices": choices}}
            self.directory.save_info(info | {"sandbox": {"level": executor.level.name, "layers": executor.layers}})
        style, verifier = self.selfplay.style, Verifier(runner, self.selfplay.rules)  # self-play's counts are its own
        problems = (c.model, c.task_types, c.eval_problems, HELD_OUT_SEED, style, verifier, c.max_reply_tokens)
        suite = held_out_suite(*problems) if c.eval_problems else None
        self.suite = suite if suite and suite.problems else None  # a type of one's own has none

    def _choose_prompts(self, style: Style) -> str:
        """The file form, or the one that goes with the model, by a trial; the run's settings then name it."""
        from azr_lite.train.diagnostics import choose_prompts

        found = choose_prompts(self.trainer, [style, get_style("file")])
        self.reporter.facts(found)
        by_main(lambda: self.directory.save_config(self.config.replace(prompts=self.selfplay.style.name)))
        return found

    def _begin(self) -> None:
        """Once, before the first step: self-test, evaluation of the untrained policy, seeds."""
        if self.config.self_test:
            from azr_lite.train.diagnostics import self_test

            left_out = f"the learning self-test is left out under {sharding()}"
            self.reporter.facts(left_out if sharding() else self_test(self.trainer).sentence)
        self.before = self._evaluate("before")
        by_main(lambda: self.directory.rewind(self.done if self.checkpoint else -1))
        if self.checkpoint is None:  # a resumed run has its seeds in the checkpoint
            rounds = self._seed()
            by_main(lambda: self.directory.append_tasks(self.selfplay.record.tasks))
            sizes = ", ".join(f"{name} {size}" for name, size in self.selfplay.buffers.sizes().items())
            self.reporter.facts(f"buffers seeded by the untrained policy (rounds: {rounds}): {sizes}")
        by_main(lambda: self.reporter.trackers.replay(self.done))

    def _seed(self) -> int:
        """Fill the buffers; the number of rounds that it took."""
        c, buffers = self.config, self.selfplay.buffers
        target = min(c.seed_batch_factor * c.batch_size, c.buffer_capacity)

        def filled() -> int:
            return sum(min(size, target) for size in buffers.sizes().values())

        with self.reporter.progress("seeding the buffers", target * len(c.task_types), filled()) as tell:
            return self.selfplay.seed(partial(self.trainer.generate, tell=lambda replies: tell(filled())))

    def _evaluate_after(self, done: int) -> scores.Standing | None:
        """Evaluate after step `done`; where the stop rule stands then."""
        self.reporter.trackers.evaluated(done, scores.summarize(self._evaluate(f"step-{done}")))
        return self._standing(done)

    def _standing(self, done: int) -> scores.Standing | None:
        """Where the stop rule stands after step `done`; None where it is off."""
        return read_standing(self.directory.path, self.config.eval_every, done) if self.config.stop_patience else None

    def _evaluate(self, name: str) -> list[scores.Item]:
        """Greedy held-out evaluation, kept as eval/NAME.jsonl and NAME.json; one that is on disk is not repeated."""
        if self.suite is None:
            return []
        folder = self.directory.path / "eval"
        result = by_main(lambda: scores.read_result(folder, name))
        if result is None:
            began = time.perf_counter()
            questions = self.suite.questions()
            with self.reporter.progress(f"held-out evaluation, {name}", len(questions)) as tell:
                greedy = partial(self.trainer.generate, greedy=True, tell=tell)
                generator = PolicyInTraining(greedy, f"{self.config.preset}, {name}")
                items = answer(generator, self.suite, questions)
            seconds = time.perf_counter() - began
            heading = heading_of(self.suite, generator, questions, self.config.seed)
            result = scores.Result(name, items, record_of(self.suite, heading, items, seconds))
            if self.main:
                folder.mkdir(exist_ok=True)
                result.keep(folder)
            self.reporter.evaluation(name, result.record["scores"])
        self.budget.evaluation_s = max(self.budget.evaluation_s, result.record["seconds"])
        return result.items

    def _finish(self, after: list[scores.Item]) -> RunResult:
        summary = by_main(lambda: self._summary(after))
        by_main(lambda: self.directory.save_summary(summary))
        self.reporter.trackers.finish(summary)
        self.schedule.push()
        self.reporter.table(summary, self.directory.path)
        return RunResult(self.directory.path, summary)

    def _summary(self, after: list[scores.Item]) -> dict[str, Any]:
        timing = list(self.directory.read("timing.jsonl")) if (self.directory.path / "timing.jsonl").exists() else []
        stages = {name: round(sum(line[name] for line in timing), 3) for name in STAGES} if timing else {}
        summary: dict[str, Any] = {
            "preset": self.config.preset,
            "seed": self.config.seed,
            "steps": self.trainer.steps_done,
            "finished": self.trainer.steps_done >= self.config.steps,
            "seconds": {"this session": round(time.perf_counter() - self.started, 3), **stages},
            "buffers": self.selfplay.buffers.sizes(),
            "executor": dict(self.selfplay.verifier.outcome_counts),
            **self.schedule.summary(),
            "curves": curves_of(self.directory, self.config.steps),
        }
        if before := self.before:
            summary |= {"before": scores.summarize(before), "after": scores.summarize(after)}
            summary["gain"] = scores.compare_paired(before, after)
        return summary


def read_standing(run_dir: Path, every: int, done: int) -> scores.Standing | None:
    """The `Standing` by the evaluations kept under eval/ on the main process, up to step `done`; every process gets it.

    Only evaluations on schedule count: one made at an interrupt must change nothing.
    """
    names = {0: "before"} | {step: f"step-{step}" for step in range(every, done + 1, every)}
    paths = {step: run_dir / "eval" / f"{name}.jsonl" for step, name in names.items()}
    curve = ((step, path) for step, path in paths.items() if path.exists())
    return by_main(lambda: scores.standing([(step, scores.read_items(path)) for step, path in curve]))
