"""What is told while a run goes on: to people (a line per step, a table at the end), its logs and trackers."""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from shlex import quote
from textwrap import indent
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from azr_lite.config import OBJECT, Config
from azr_lite.errors import MEND, ConfigError, cause, first_line
from azr_lite.evaluation.scores import scores_until
from azr_lite.metrics import STAGES, across, mean
from azr_lite.pace import QUIET_S, Pace, clock, stamp
from azr_lite.rewards import RewardFunction, load_rewards, name_rewards
from azr_lite.rundir import RunDir, rollout_line

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

    from azr_lite.selfplay import SelfPlay
    from azr_lite.triplet import Rollout

PROJECT = "azr-lite"
Callback = Callable[[int, dict[str, float], "list[Rollout]"], Any]
"""Called after each step with its number, its numbers (metrics.jsonl and timing.jsonl) and its rollouts."""


@dataclass(frozen=True)
class Objects:
    """What only a Python program can give a run; `run` says what each is."""

    rewards: Any = None
    callbacks: Sequence[Callback] = ()
    model: Any = None
    tokenizer: Any = None

    def names(self) -> dict[str, Any]:
        """The settings that name what was given."""
        named: dict[str, Any] = {} if self.rewards is None else {"reward": name_rewards(self.rewards)[0]}
        if self.model is not None:
            named["model"] = self.model if isinstance(self.model, str) else OBJECT + type(self.model).__name__
        return named

    def own_rewards(self, config: Config) -> dict[str, RewardFunction]:
        """The rewards of one's own by name. ConfigError where one is missing, or the model or its tokenizer is."""
        is_object = config.model.startswith(OBJECT)
        if is_object != (self.tokenizer is not None):
            again = "at each start also its tokenizer, and the object: azr_lite.resume(path, model=…, tokenizer=…)"
            raise ConfigError(f"model is {config.model!r}; it needs {again if is_object else 'no tokenizer'}")
        return load_rewards(config, {} if self.rewards is None else name_rewards(self.rewards)[1])


def check_installed(config: Config) -> None:
    """ConfigError that says what to install, before anything is loaded."""
    for name in config.report_to:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"report_to names {name}, which is not installed; pip install {name}, or leave it out")


class Trackers:
    """The trackers of one session. Without `config.report_to` nothing is imported and every call does nothing.

    They count steps as curves do: what step 0 made, and the evaluation after it, stand at 1. A resumed session goes on
    with the run of the one before; what the tracker has is not sent again.
    """

    def __init__(self, config: Config, directory: RunDir | None, note: Callable[[str], None]) -> None:
        self.config, self.directory, self.note = config, directory, note
        self._running: dict[GeneralTracker, int] = {}  # tracker: where what it lacks begins
        self._evaluated: set[int] = set()

    def start(self) -> None:
        """Before the first step. ConfigError in one sentence where a tracker refuses."""
        if not self.config.report_to:
            return
        info = self.directory.info()
        run_id = info.setdefault("tracker_id", uuid.uuid4().hex[:8])
        self.directory.save_info(info)
        for tracker in self.config.report_to:
            try:
                opened = self._open(tracker, Path(self.config.output_dir).name, run_id)
                opened.start()
            except Exception as error:
                why = first_line(error).rstrip(".")
                hint = "; `wandb login`, or set WANDB_MODE=offline" if tracker == "wandb" else ""
                raise ConfigError(f"{tracker} does not start: {why}{hint}; or leave it out of report_to") from error
            there = getattr(opened.tracker, "step", 0) or getattr(opened.tracker, "_next_step", 0)  # W&B's, Trackio's
            self._running[opened] = there if isinstance(there, int) else 0

    def replay(self, done: int) -> None:
        """Send what the run directory holds of the steps before `done`; its logs have been cut back to there."""
        if not self._running:
            return
        scores = scores_until(self.directory.path / "eval", done)
        timing = {line["step"]: line for line in self.directory.read("timing.jsonl")} if done else {}
        by_step = groupby(self.directory.read("rollouts.jsonl") if done else (), key=lambda line: line["step"])
        replies = {step: sample(lines) for step, lines in by_step if step % TABLE_EVERY == 0}
        for line in self.directory.read("metrics.jsonl") if done else ():
            self.evaluated(line["step"], scores.get(line["step"], {}))
            self.step(line["step"], line | timing.get(line["step"], {}), replies.get(line["step"], ()))
        self.evaluated(done, scores.get(done, {}))

    def step(self, step: int, numbers: Mapping[str, float], replies: Iterable[Mapping[str, Any]] = ()) -> None:
        """A step's lines of metrics.jsonl and timing.jsonl; now and then a table of those of rollouts.jsonl."""
        drawn = sample(replies) if self._running and step % TABLE_EVERY == 0 else []
        self._send(step + 1, {name: value for name, value in numbers.items() if name != "step"}, drawn)

    def _send(self, done: int, numbers: Mapping[str, float], replies: Sequence[Mapping[str, Any]] = ()) -> None:
        def send(tracker: GeneralTracker) -> None:
            if done >= self._running[tracker]:
                tracker.log({**numbers, **(_table(tracker.name, replies) if replies else {})}, step=done)

        self._each(send)

    def evaluated(self, step: int, scores: Mapping[str, Mapping[str, Any]]) -> None:
        """Held-out accuracy and reply length after `step` steps; said once."""
        if scores and step not in self._evaluated:
            self._evaluated.add(step)
            types = [name for name in scores if "/" not in name]
            keys = ("accuracy", "tokens")
            self._send(step, {f"held_out/{name}/{key}": scores[name][key] for name in types for key in keys})

    def finish(self, summary: Mapping[str, Any]) -> None:
        """The last evaluation and the gain over the untrained policy; then every tracker is closed."""
        self.evaluated(summary["steps"], summary.get("after", {}))
        if "gain" in summary:
            types = [name for name in summary["gain"] if "/" not in name]
            self._send(summary["steps"], {f"gain/{name}": summary["gain"][name]["gain"] for name in types})
        self._each(lambda tracker: tracker.finish())
        self._running = {}

    def _each(self, work: Callable[[GeneralTracker], None]) -> None:
        for tracker in list(self._running):
            try:
                work(tracker)
            except Exception as error:
                del self._running[tracker]
                self.note(f"{tracker.name} failed and is left out from here on ({error}); metrics.jsonl has everything")

    def _open(self, tracker: str, name: str, run_id: str) -> GeneralTracker:
        from accelerate import tracking

        run_dir, told = self.directory.path, {"config": self.config.to_json(), "resume": "allow"}
        if tracker == "tensorboard":
            folder = run_dir / "tensorboard"
            shutil.rmtree(folder, ignore_errors=True)  # of the session before: its lost steps would stand beside ours
            return tracking.TensorBoardTracker("", folder)
        if tracker == "wandb":
            project, folder = os.environ.get("WANDB_PROJECT", PROJECT), os.environ.get("WANDB_DIR", str(run_dir))
            return tracking.WandBTracker(project, dir=folder, id=run_id, name=name, **told)
        told["name"] = f"{name}-{run_id}"  # by which Trackio knows a run
        return tracking.TrackioTracker(PROJECT, auto_log_gpu=False, auto_log_cpu=False, **told)


TABLE_EVERY = 10
"""Steps between two tables of sample replies for the trackers."""
COLUMNS = ("role", "type", "reward", "solve_rate", "verdict", "prompt", "text")


def sample(replies: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of each role and task type the reply with the highest reward, and the one with the lowest."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for line in replies:
        groups.setdefault((line["role"], line["type"]), []).append(line)
    ordered = [sorted(own, key=lambda line: -line["reward"]) for own in groups.values()]
    return [line for own in ordered for line in own[:1] + own[1:][-1:]]


def _table(tracker: str, replies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Replies in the form that this tracker shows; TensorBoard shows text, in which code is indented."""
    lines = [{**line, "verdict": line["verdict"]["reason"] or "ok"} for line in replies]
    rows = [[line[name] for name in COLUMNS] for line in lines]
    if tracker == "wandb":
        import wandb

        return {"replies": wandb.Table(columns=list(COLUMNS), data=rows)}
    if tracker == "trackio":
        import pandas
        import trackio

        return {"replies": trackio.Table(dataframe=pandas.DataFrame(rows, columns=list(COLUMNS)))}
    parts = [
        f"**{role} {kind}: {verdict}, reward {reward:.3f}**\n\n{indent(prompt, '    > ')}\n\n{indent(text, '    ')}"
        for role, kind, reward, _, verdict, prompt, text in rows
    ]
    return {"replies": "\n\n".join(parts)}


BARS = "▁▂▃▄▅▆▇█"


class Reporter:
    """Tells of a run: prints for people, keeps its logs, sends to trackers. A `quiet` one tells nothing.

    Facts and tables are always printed. On a terminal each step has a line; elsewhere a step has one where none was
    printed for `QUIET_S` seconds, with its time.
    """

    def __init__(
        self, config: Config, directory: RunDir | None = None, quiet: bool = False, callbacks: Sequence[Callback] = ()
    ) -> None:
        self.config, self.directory, self.quiet, self.callbacks = config, directory, quiet, callbacks
        plain = {"force_jupyter": False, "force_terminal": False} if Console().is_jupyter else {}  # one output, not 20
        self.console = Console(highlight=False, **plain)
        self.console.on_broken_pipe = lambda: setattr(self.console, "quiet", True)  # rich's own ends the program
        self.trackers = Trackers(config, directory, self.facts)
        self._printed = -math.inf  # when the last step line was printed
        self.failed: ConfigError | None = None  # what a callback did; none is called any more

    def facts(self, *lines: str) -> None:
        """Sentences about the run, one per line."""
        for line in lines:
            if not self.quiet:
                self.console.print(f"[dim]·[/dim] {escape(line)}", soft_wrap=True)  # a command stays whole

    def progress(self, what: str, total: int, begun: int = 0) -> AbstractContextManager[Callable[..., None]]:
        """Inside, the callable tells how much of a long piece of work is done."""
        return nullcontext(lambda *_: None) if self.quiet else Pace(what, total, begun=begun, console=self.console)

    def start(self, done: int) -> None:
        """Training begins with `done` steps finished before: the heading of the step lines."""
        self.first, self.began, self.meter = done, time.perf_counter(), Meter()
        if not self.quiet:
            heading = " done   solve  propose  tasks' r̄  valid  reply len   s/step    left"
            self.console.print(f"[dim]{'' if self.console.is_terminal else ' ' * 21}{heading}[/dim]", soft_wrap=True)

    def step(self, selfplay: SelfPlay, report: dict[str, Any]) -> bool:
        """A finished step: for the logs, a terminal, trackers and callbacks. Whether one of these last has failed."""
        timing, step, record = report.pop("timing"), report.pop("step"), selfplay.record
        metrics = {**record.metrics, **report}
        timing |= self.meter.read(record.sampled_tokens, timing["generate"])
        if self.quiet:
            return False
        self.directory.append(step, metrics, timing, record.rollouts, record.tasks)
        self.trackers.step(step, metrics | timing, map(rollout_line, record.rollouts))
        self.print_step(step, metrics, timing)
        try:
            for callback in () if self.failed else self.callbacks:
                callback(step, metrics | timing, record.rollouts)
        except Exception as error:
            self.failed = ConfigError(f"a callback failed after step {step + 1}: {cause(error)}; {MEND}")
            self.facts(f"{self.failed}", "the run is saved before it ends")
        return self.failed is not None

    def print_step(self, step: int, metrics: dict[str, float], timing: dict[str, float]) -> None:
        """The line of a step, where one is due: means over the task types, and the time left at the pace so far."""
        now, last = time.perf_counter(), step + 1 == self.config.steps
        if not self.console.is_terminal and not last and now - self._printed < QUIET_S:
            return
        self._printed = now

        def of(start: str, end: str) -> float:
            return mean(across(metrics, start, end))

        done, seconds = step + 1, sum(timing[name] for name in STAGES)
        pace = (time.perf_counter() - self.began) / max(1, done - self.first)
        left = clock(pace * (self.config.steps - done))
        self.console.print(
            f"{'' if self.console.is_terminal else stamp()}"
            f"{done:5d}  {of('solve/', '/ok'):6.2f}  {of('propose/', '/reward'):7.2f}"
            f"  {of('propose/', '/solve_rate'):8.2f}  {of('propose/', '/ok'):5.2f}  {of('solve/', '/tokens'):9.1f}"
            f"  {seconds:7.1f}  {left:>6}",
            soft_wrap=True,
        )

    def evaluation(self, name: str, scores: dict[str, dict[str, Any]]) -> None:
        """Held-out accuracy by task type, in one line."""
        parts = [f"{key} {value['accuracy']:.3f}" for key, value in scores.items() if "/" not in key]
        self.facts(f"held-out accuracy, {name}: {', '.join(parts)}")

    def table(self, summary: dict[str, Any], path: Path) -> None:
        """The end of a run: gains, curves, where everything is, how to go on."""
        if self.quiet:
            return
        if "gain" in summary:
            self.console.print(gains_of(summary))
        for name, points in summary.get("curves", {}).items():
            values = [value for _, value in points]
            if len(values) > 1:
                self.console.print(f"{name:>18} {spark(values)}  {values[0]:.2f} → {values[-1]:.2f}")
        run_dir, took = quote(str(path)), clock(summary["seconds"]["this session"])
        if self.first >= self.config.steps:  # resumed when all was done: say so, or it looks like training
            end = f"no step was left to do; further: azr-lite resume {run_dir} --steps {self.config.steps + 10}"
        elif summary["finished"]:
            end = f"finished; a page of it: azr-lite report {run_dir}"
        else:
            end = f"stopped; go on with: azr-lite resume {run_dir}"
        steps = f"{summary['steps']} step{'s' * (summary['steps'] != 1)}, this session {took}"
        self.console.print(f"{steps}, {end}\nEverything is in {path}", soft_wrap=True, markup=False)


def gains_of(summary: dict[str, Any]) -> Table:
    """Held-out accuracy before and after, by type, with 95 % intervals (Wilson; paired for the gain)."""
    table = Table("task", title="Held-out accuracy (greedy), before → after self-play")
    for column in ("n", "before", "after", "gain, points", "reply len"):
        table.add_column(column, justify="right")
    for name, gain in summary["gain"].items():
        was, now = summary["before"][name], summary["after"][name]
        points = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * gain[key] for key in ("gain", "low", "high")))
        cells = [str(was["n"]), f"{was['accuracy']:.1%}", f"{now['accuracy']:.1%}", points]
        cells = [cell.replace("%", " %") for cell in cells] + [f"{was['tokens']:.0f} → {now['tokens']:.0f}"]
        table.add_row("all types" if name == "all" else name, *cells, style="bold" if name == "all" else None)
    return table


CURVES = {
    "reply tokens": ("solve/", "/tokens"),
    "tasks' solve rate": ("propose/", "/solve_rate"),
    "valid proposals": ("propose/", "/ok"),
}
"""What the end of a run shows beside held-out accuracy: starts and ends of metrics' names; means over task types."""


def curves_of(directory: RunDir, steps: int) -> dict[str, list[list[float]]]:
    """[step, value] of what the end of a run shows: held-out accuracy, and the curves of `CURVES`."""
    scores, lines = scores_until(directory.path / "eval", steps), directory.metrics()
    curves = {"held-out accuracy": [[step, scores[step]["all"]["accuracy"]] for step in sorted(scores)]}
    for name, ends in CURVES.items():
        curves[name] = [[line["step"] + 1, mean(across(line, *ends))] for line in lines]
    return curves


def spark(values: Sequence[float], width: int = 40) -> str:
    """The values as bars of eight heights, from their lowest to their highest; at most `width`, neighbours averaged.

    A mean that is no finite number is drawn as ×.
    """
    parts = min(width, len(values))
    cuts = [round(i * len(values) / parts) for i in range(parts + 1)]
    means = [mean(values[a:b]) for a, b in pairwise(cuts)]
    finite = [value for value in means if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    step = (high - low) / (len(BARS) - 1)
    return "".join(
        "×" if not math.isfinite(v) else BARS[round((v - low) / step)] if 0 < step < math.inf else BARS[0]
        for v in means
    )


WATTS_PER_CORE = 8.0
"""Assumed power of one busy core with its share of memory, in watts."""


class Meter:
    """`read` once per step; it costs some microseconds."""

    def __init__(self) -> None:
        self._cpu_s = sum(os.times()[:4])  # own time, and that of ended children

    def read(self, tokens: float, generate_s: float) -> dict[str, float]:
        """Since the last call: sampled tokens per second of sampling, peak memory so far (MiB), joules."""
        before, self._cpu_s = self._cpu_s, sum(os.times()[:4])
        numbers = {
            "tokens_per_s": tokens / generate_s if generate_s > 0 else 0.0,
            "memory_mib": peak_mib(),
            "cpu_energy_j": (self._cpu_s - before) * WATTS_PER_CORE,
        }
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            numbers["gpu_memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
        return numbers


def peak_mib() -> float:
    """Peak memory of this process, in MiB; 0 on Windows (not known).

    Linux counts it anew for each program; `ru_maxrss` would inherit that of the process that started this one.
    """
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii", errors="replace").splitlines() if status.exists() else []
    if peaks := [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]:
        return peaks[0] / 2**10
    if sys.platform == "win32":
        return 0.0
    import resource  # Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
