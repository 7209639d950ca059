"""`Run`: a run directory, opened for looking."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azr_lite.config import Config
from azr_lite.errors import AzrError
from azr_lite.observe.reader import open_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from azr_lite.observe.doctor import Diagnosis
    from azr_lite.observe.measures import Analysis
    from azr_lite.observe.replay import Replay, Rescoring
    from azr_lite.observe.report import TaskList
    from azr_lite.observe.rollouts import Text
    from azr_lite.verifier import ProgramRunner


class Run:
    """A run directory, finished or being written, or the kept sample of one. Nothing in it is changed by looking.

    What the methods return prints itself. All of them raise RunDirectoryError, in one sentence, for a log that is
    missing, damaged or of another version.

    Args:
        path: the folder that `azr_lite.run` made.

    Examples:
        >>> Run("data_samples/runs/whole/nano-small")
        Run('data_samples/runs/whole/nano-small'): 14 of 14 steps, finished
    """

    def __init__(self, path: str | Path) -> None:
        self.directory = open_run(path)

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.directory.path

    @property
    def config(self) -> Config:
        """The settings of the run."""
        return self.directory.config()

    @property
    def summary(self) -> dict[str, Any] | None:
        """What summary.json holds; None while the run has not ended."""
        return self.directory.summary()

    def __repr__(self) -> str:
        from azr_lite.observe.follow import Followed

        try:
            run = Followed(self.directory)
            return f"Run({str(self.path)!r}): {run.done} of {run.config.steps} steps, {run.state}"
        except AzrError as error:
            return f"Run({str(self.path)!r}): {error}"

    def show(
        self, step: int | None = None, *, worst: int = 0, best: int = 0, role: str = "", type: str = "", count: int = 5
    ) -> Text:
        """The rollouts of one step: program, input, output, reply, verdict, reward and advantage, in 80 columns.

        Args:
            step: self-play step, from 0; the newest when not given.
            worst: that many with the lowest reward.
            best: that many with the highest reward.
            role: propose or solve.
            type: deduction, abduction, induction.
            count: how many, without `worst` and `best`.

        Raises:
            ConfigError: a choice that no rollout meets.

        Examples:
            >>> print(Run("data_samples/runs/whole/nano-small").show(3, worst=1).splitlines()[0])
            step 3 of data_samples/runs/whole/nano-small: the worst 1 of 71 rollouts
        """
        from azr_lite.observe.rollouts import show

        return show(self.directory, step, worst, best, role, type, count)

    def report(self, output: str | Path = "", *, against: Sequence[Run | str | Path] = ()) -> Path:
        """Write one self-contained HTML page about the run: no network, at most 2 MB.

        Args:
            output: the file; when not given RUN/report.html, or comparison.html here where runs are compared.
            against: other runs to compare it with, up to seven.

        Raises:
            ConfigError: the file exists and is no report, or cannot be written.
        """
        from azr_lite.observe.report import write_report

        others = [other.path if isinstance(other, Run) else other for other in against]
        return write_report([self.path, *others], output)

    def replay(self, step: int | None = None, *, executor: ProgramRunner | None = None) -> Replay:
        """Make a step's verdicts, rewards, advantages and weights again from the log alone, and hold them against it.

        Args:
            step: self-play step, from 0; the newest whole one when not given.
            executor: one that is open; otherwise one is started with the run's limits.

        Examples:
            >>> found = Run("data_samples/runs/whole/nano-small").replay(3)
            >>> found.exact, found.compared["reward"]
            (True, 71)
        """
        from azr_lite.observe.replay import replay

        return replay(self.directory, step, executor)

    def rescore(self, **changes: Any) -> Rescoring:
        """What the recorded replies would have earned under other rewards or another estimator, step by step.

        Args:
            changes: estimator, whitening, zero_learnability (as in `Config`); not_well_formed, wrong (rewards).

        Raises:
            ConfigError: a change that the log cannot answer.

        Examples:
            >>> other = Run("data_samples/runs/whole/nano-small").rescore(estimator="global")
            >>> len(other), other[0].rollouts
            (14, 71)
        """
        from azr_lite.observe.replay import rescore

        return rescore(self.directory, **changes)

    def diagnose(self, *, rerun: int = 0) -> Diagnosis:
        """What the run suffers from, with evidence and a cure.

        Args:
            rerun: also run so many of its accepted programs again, in the sandbox.

        Examples:
            >>> [one.name for one in Run("data_samples/runs/bugs/sign-flip").diagnose().findings]
            ['sign flip', 'zero-variance groups']
        """
        from azr_lite.observe.doctor import examine

        return examine(self.directory, rerun)

    def dashboard(self, *, refresh_s: float = 2.0, once: bool = False) -> Figure | None:
        """Follow the run in a notebook until it ends or falls silent; the last picture stays.

        Args:
            refresh_s: seconds between two looks.
            once: draw and return.

        Returns:
            None in a notebook; elsewhere the figure, drawn once.

        Raises:
            ConfigError: matplotlib is not installed.
        """
        from azr_lite.observe.dashboard import dashboard

        return dashboard(self.directory, refresh_s, once)

    def tasks(self) -> TaskList:
        """The proposals of the run as a page with filters that shows itself in a notebook and needs no kernel."""
        from azr_lite.observe.report import task_list

        return task_list(self.directory)

    def analyse(self, periods: int = 4) -> Analysis:
        """Lengths, complexity, diversity, plans, reflection and alarming words of what the run wrote.

        Args:
            periods: into how many parts the steps are divided.

        Examples:
            >>> Run("data_samples/runs/whole/nano-small").analyse(periods=1).periods
            [(0, 13)]
        """
        from azr_lite.observe.measures import analyse

        return analyse(self.directory, periods)

    def export(self, output: str | Path = "", *, step: str = "last", merge: bool = False) -> Path:
        """Write the model of a checkpoint, with a model card, as a folder that plain transformers or peft loads.

        Args:
            output: the new folder; when not given RUN/export-KIND-step-N.
            step: last, best, or the number of a step that has a checkpoint.
            merge: add the adapter to its base model.

        Raises:
            PublishError: no such checkpoint, or the folder exists.
        """
        from azr_lite.export.export import export

        return export(self.path, output, step=step, merge=merge)
