"""`azr-lite play`: a model invents a task of each type, the sandbox checks it, the model solves it; step by step.

What is shown is what a run does: the stages are those of `SelfPlay`. Only nothing is trained.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pygments.token import Error
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.syntax import ANSI_DARK, ANSISyntaxTheme, Syntax
from rich.table import Table
from rich.text import Text

from azr_lite.config import Config
from azr_lite.errors import ConfigError
from azr_lite.evaluation.generators import OpenedModel, open_model
from azr_lite.evaluation.suite import Prompt, Sampling
from azr_lite.observe.style import printable
from azr_lite.presets import preset
from azr_lite.selfplay import SelfPlay
from azr_lite.tasks.triplets import IDENTITY
from azr_lite.train.checkpoints import load_state
from azr_lite.triplet import Completion, ProposalAttempt, Rejection, Role, SolveAttempt
from azr_lite.verifier import open_executor

WIDTH, LABEL, MOST, LONG = 80, 9, 16, 400  # columns; lines of a text, and characters of a line
COLOURS = ANSISyntaxTheme({kind: style for kind, style in ANSI_DARK.items() if kind is not Error})  # fences are none
LONGEST = 512  # tokens of a reply of a model that no run was trained with
KEPT = (
    "model", "task_types", "references", "reference_tasks", "induction_inputs", "induction_shown", "reply_reading",
    "equality", "max_prompt_tokens", "max_reply_tokens", "cpu_seconds", "memory_mb",
)  # fmt: skip
"""Settings of a run that its model is played with."""
FOUND = {"deduction": "find the output", "abduction": "find an input", "induction": "find the program"}


@dataclass
class Options:
    """How a model is played."""

    seed: int = 0
    """Another seed shows other tasks; the same shows the same."""
    tries: int = 8
    """Proposals to draw (the first that is valid and new is played), and replies to its task."""
    prompts: str = "auto"
    """Prompt style; auto: the run's own, compact for nano, else file."""
    device: str = "auto"
    """Where the model computes: auto, cpu or cuda."""
    allow_weak: bool = False
    """Play without kernel isolation, where there is none."""
    pause: bool = False
    """Wait for Enter after each part."""


def play(model: str, options: Options, console: Console | None = None) -> int:
    """Show one task of each type from invention to reward; how many were invented and solved.

    `model`: as in `open_model`. Raises ConfigError, EvaluationError, ModelError or UnsafeError in one sentence.
    """
    if options.tries < 2:
        raise ConfigError(f"tries is {options.tries}; with one reply learnability is always 0; use 2 or more")
    console = console or Console(highlight=False)
    console.width = min(WIDTH, console.width)
    console.print(f"loading {escape(model)} …")
    is_run = (Path(model.rpartition("@")[0] if "@" in model else model) / "run.json").is_file()
    prompts = "file" if options.prompts == "auto" and not is_run and model != "nano" else options.prompts
    opened = open_model(model, prompts=prompts, device=options.device)
    settings = opened.settings or (preset("nano") if model == "nano" else Config(model=model, max_reply_tokens=LONGEST))
    kept = {name: getattr(settings, name) for name in KEPT} | {"seed": options.seed, "allow_weak": options.allow_weak}
    config = Config(**kept, batch_size=options.tries, n_mc=options.tries, estimator="grpo")
    with open_executor(config) as executor:
        stage = Stage(config, opened, SelfPlay(config, opened.style, executor), console, options.pause)
        told = f"plays with itself; prompts: {opened.style.name}, seed {options.seed}"
        console.print(f"[bold]{escape(model)}[/bold] {told}")
        solved = sum([stage.show(name) for name in config.task_types])
    console.print()
    told = f"invented, checked and solved: {solved} of {len(config.task_types)} task types"
    console.print(f"[bold]{told}[/bold]; try --seed {options.seed + 1} or --tries {2 * options.tries}")
    return solved


class Stage:
    """One model at play, and the screen."""

    def __init__(self, config: Config, opened: OpenedModel, play: SelfPlay, console: Console, pause: bool) -> None:
        self.config, self.opened, self.play, self.console, self.pause = config, opened, play, console, pause
        self.rng = random.Random(f"{config.seed}/play")
        play.count_tokens = opened.generator.codec.count_tokens
        play.special_tokens = opened.generator.codec.special_tokens
        if opened.checkpoint is not None:
            play.load_state_dict(load_state(opened.checkpoint))

    def generate(self, prompts: Sequence[str], role: Role) -> list[Completion]:
        """One sampled reply per prompt."""
        style, own, seed = self.opened.style, self.opened.settings, self.rng.getrandbits(31)
        prefill = style.prefill if style.chat else ""
        asked = [Prompt(p.removesuffix(prefill), prefill, style.chat, style.rule(role, p)) for p in prompts]
        warmth = own.temperature if own and own.model != "nano" else 1.0  # nano's sampler knows no other
        kind = "proposals" if role == Role.PROPOSE else "answers"
        with self._busy(f"writes {len(asked)} {kind}, each of at most {self.config.max_reply_tokens} tokens …"):
            replies = self.opened.generator.generate(asked, Sampling(self.config.max_reply_tokens, warmth, seed=seed))
        return [Completion(r.prompt, (), tuple(range(max(1, r.tokens))), r.text, r.truncated) for (r,) in replies]

    def _busy(self, told: str) -> AbstractContextManager[Any]:
        """What the model does: on a terminal with the time it has taken, until it is done."""
        if not self.console.is_terminal:
            self._row("model", told)
            return nullcontext()
        columns = TextColumn(f"[bold cyan]{'model':{LABEL}}[/bold cyan]"), TextColumn(told), TimeElapsedColumn()
        shown = Progress(*columns, console=self.console, transient=True)
        shown.add_task("")
        return shown

    def show(self, name: str) -> bool:
        """One task of this type; whether it was invented and solved at least once."""
        self.console.print()
        self.console.rule(f"[bold]{name}[/bold]: {FOUND.get(name, 'a task type of your own')}", align="left")
        asked = self.play.new_proposals(name, self.rng)
        self.play.propose(asked, self.generate)
        self.play.validate(asked)
        valid = [one for one in asked if one.task is not None]
        chosen = min(valid or asked, key=lambda one: (not one.is_new, bool(valid) and one.task.program == IDENTITY))
        count = len(chosen.references)
        self._exchange(chosen, f"the proposer is shown, with {count} reference{'s' * (count != 1)}:")
        reasons = Counter(str(one.verdict.reason) for one in asked if one.task is None).most_common()
        tried = f"{len(valid)} of {len(asked)} proposals valid{''.join(f', {why} {n}' for why, n in reasons)}"
        if chosen.task is None:
            why = f"rejected: {chosen.verdict.reason} ({chosen.verdict.detail}); {tried}"
            self._row("verifier", why, style="red")
            return False
        pairs = zip(chosen.task.inputs, chosen.task.outputs, strict=True)
        self._row("executor", "ran it in separate worlds, which agree:", "\n".join(f"{i}  →  {o}" for i, o in pairs))
        self._row("verifier", f"valid{', and new' * chosen.is_new}; {tried}", style="green")
        self._wait()
        self.play.monte_carlo([chosen], self.generate, 0)
        self.play.learnability([chosen])
        self.play.insert([chosen], 0)
        (earned,) = self.play.reward([chosen], [])
        best = max(chosen.attempts, key=lambda one: one.verdict.score)
        self._exchange(best, "the solver is shown:")
        verdict = "right" if best.verdict.ok else f"not right: {best.verdict.reason} {best.verdict.detail}"
        self._row("verifier", verdict, style="green" if best.verdict.ok else "red")
        marks = "".join("✓" if one.verdict.ok else "·" for one in chosen.attempts)
        told = f"solved {chosen.rate:.0%} of the time, so proposing it earns {earned.reward:+.2f}"
        self._row("rewards", f"{marks}  {told}")
        if chosen.rate in (0, 1):
            self._row("", "there is nothing to learn from what is always or never solved")
        self._wait()
        return best.verdict.ok

    def _exchange(self, attempt: ProposalAttempt | SolveAttempt, told: str) -> None:
        """Prompt, reply, and the labelled blocks that parsing finds in it: whole where the reply is not."""
        reply, blocks = attempt.completion.text, {}
        self._row("prompt", told, attempt.prompt, last=True)
        self._row("reply", "the model goes on:", reply)
        found = self.play.style.read_sampled(attempt.role, attempt.prompt, attempt.completion.text, self.play.rules)
        if isinstance(found, Rejection):
            self._row("parsing", f"{found.reason}: {found.detail}", style="red")
            return
        for label, text in found.fences:
            blocks.setdefault(label or "block", []).append(text.strip("\n"))
        self._row("parsing", "found: " + "; ".join(_told(label, *texts) for label, texts in blocks.items()))
        for label, (text, *_) in blocks.items():
            if "\n" in text and reply.strip("\n").count("\n") >= MOST:
                self._row("", f"{label}:", text)

    def _row(self, label: str, said: str, text: str = "", *, style: str = "", last: bool = False) -> None:
        """A line beside its label, and below it a text: its first lines, or its `last` ones."""
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=LABEL, style="bold cyan")
        grid.add_column(width=self.console.width - LABEL - 1, overflow="fold")
        grid.add_row(label, Text(printable(said), style))
        lines = printable(text).strip("\n").split("\n") if text else []
        if (cut := len(lines) - MOST) > 0:
            lines = [f"… {cut} lines", *lines[cut:]] if last else [*lines[:MOST], f"… {cut} lines"]
        lines = [line if len(line) <= LONG else f"{line[:LONG]} …" for line in lines]
        if lines:
            grid.add_row(
                "", Syntax("\n".join(lines), "python", theme=COLOURS, background_color="default", word_wrap=True)
            )
        self.console.print(grid)

    def _wait(self) -> None:
        if self.pause:
            self.console.input("[dim]Enter goes on[/dim]")


def _told(label: str, text: str, *more: str) -> str:
    """The blocks of one label in a few words."""
    if more:
        return f"{1 + len(more)} × {label}"
    return f"{label} ({text.count(chr(10)) + 1} lines)" if "\n" in text else f"{label} {text.strip():.{LONG}}"
