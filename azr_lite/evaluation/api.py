"""`evaluate`: a model by name, suites by name, results on disk and as objects; with `compare`, a second model on the same questions.

Comes in: names.  Goes out: an `Evaluation`.  Shows progress with the time left where the output is a terminal.
Not covered: how a suite asks and marks, how replies are made and kept (`harness.py`), printing (`tables.py`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azr_lite.errors import ConfigError, EvaluationError
from azr_lite.evaluation.assertions import ASSERT, assert_suite
from azr_lite.evaluation.benchmarks import code, maths
from azr_lite.evaluation.benchmarks import paper_table as paper
from azr_lite.evaluation.benchmarks.livecodebench import livecodebench_suite
from azr_lite.evaluation.loading import OpenedModel, open_model
from azr_lite.evaluation.reasoning import HELD_OUT_SEED, cruxeval_suite, frozen_suite, held_out_suite, induction_suite
from azr_lite.evaluation.runner import Result, run_suite
from azr_lite.evaluation.scores import compare_paired, compare_pass_at_k
from azr_lite.evaluation.sources import read_data
from azr_lite.evaluation.suite import Suite
from azr_lite.rundir import write_json
from azr_lite.sandbox import Executor
from azr_lite.triplet import Rules
from azr_lite.verifier import Verifier

GAMES = ("cruxeval-o-strict", "cruxeval-i-strict", "induction-hint", "induction-nohint")
MORE_GAMES = ("cruxeval-o-all", "cruxeval-i-all", "held-out", "triplets")
CODE = ("humanevalplus", "mbppplus", "livecodebench-v5")
MORE_CODE = ("humanevalplus-mini",)
MATHS = (*(name for name in maths.NAMES if not name.endswith(maths.AVERAGED)),)
MORE_MATHS = (*(name for name in maths.NAMES if name.endswith(maths.AVERAGED)),)
GROUPS = {"games": GAMES, "code": CODE, "math": MATHS, "all": (*GAMES, *CODE, *MATHS)}
KNOWN = (*GAMES, *MORE_GAMES, *CODE, *MORE_CODE, *MATHS, *MORE_MATHS)
"""Every name that --suite takes besides the three groups and ``all``."""
NANO = ("held-out", "triplets")
"""What the nano model can read: its own language only."""


@dataclass(frozen=True)
class Evaluation:
    """`results`: by suite. `left_out`: suite to why it was not asked. `base`: the other model's, with `compare`. `origin`: the hub id
    or path of the model that a run trained."""

    model: str
    origin: str
    folder: Path
    results: dict[str, Result]
    left_out: dict[str, str]
    base: Evaluation | None = None

    def _pairs(self) -> list[tuple[str, Result, Result]]:
        """(suite, the base's result, this model's) of the suites that both were asked."""
        before = self.base.results if self.base else {}
        return [(name, before[name], result) for name, result in self.results.items() if name in before]

    @property
    def comparison(self) -> dict[str, dict[str, dict[str, float]]]:
        """Suite to group to paired gain over `base` (see `scores.compare_paired`); empty without one."""
        return {name: compare_paired(before.items, after.items) for name, before, after in self._pairs()}

    @property
    def as_in_paper(self) -> dict[str, float]:
        """Suite, by the paper's short list, to accuracy; code only where it was asked in the paper's protocol (evalplus)."""
        found = {}
        for name, result in self.results.items():
            plain = name.removesuffix("-evalplus-chat").removesuffix("-evalplus-direct")
            plain = plain.removesuffix("-azr") if plain.startswith("livecodebench") else plain
            if paper.canonical(plain) in paper.SUITES:
                found[plain] = result.scores["all"]["accuracy"]
        return found

    def as_dict(self) -> dict[str, Any]:
        """Model, scores, gains and averages for JSON."""
        return {
            "model": self.model,
            "suites": {name: result.record for name, result in self.results.items()},
            "gain": self.comparison,
            "pass_at_k": self.pass_at_k,
            "left_out": self.left_out,
            "averages": dataclasses.asdict(paper.averages(self.as_in_paper)),
        }

    @property
    def pass_at_k(self) -> dict[str, list[dict[str, Any]]]:
        """Suite to the points of `scores.compare_pass_at_k`, where several replies to each question were made of both models."""
        return {
            name: points
            for name, before, after in self._pairs()
            if (points := compare_pass_at_k(before.items, after.items))
        }


def evaluate(
    model: str,
    suite: str | Sequence[str] = "games",
    *,
    compare: str = "",
    items: int = 0,
    samples: int = 0,
    temperature: float | None = None,
    max_tokens: int = 0,
    reasoning_protocol: str = "azr",
    code_protocol: str = "evalplus",
    data: Mapping[str, str] | None = None,
    output_dir: str | Path = "",
    prompts: str = "auto",
    device: str = "auto",
    chunk: int = 16,
    server: str = "",
    vllm: bool = False,
    seed: int = 0,
    allow_weak: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Evaluate `model` (see `loading.open_model`) on `suite`: games, code, math, all, or names of `KNOWN`.

    `compare`: a second model or run, asked the same. `items`: questions a suite, chosen by digest (0: all). `samples`, `temperature`,
    `max_tokens`: instead of the suite's own (mostly one greedy reply). `reasoning_protocol`: "azr" (self-play's own prompts), or "assert"
    and "assert-direct" (CRUXEval as published scores ask it, with and without a thought). `code_protocol`: "evalplus" (what the paper
    used) or "azr".
    `data`: suite to file or hub id, for suites that are not shipped and for other versions of those that are. Results go to
    `output_dir`, else to the run's folder ``eval/``, else to ``evals/MODEL``; what is there already is not asked again.
    """
    names = _names(suite)
    grouped = any(word in GROUPS for word in (suite.split(",") if isinstance(suite, str) else suite))
    sources = dict(data or {})
    if unknown := [name for name in sources if name not in KNOWN]:
        raise EvaluationError(f"there is no suite {unknown[0]!r} to give data for; choose from: {', '.join(KNOWN)}")
    for name, value in (("items", items), ("samples", samples), ("max_tokens", max_tokens)):
        if value < 0:
            raise ConfigError(f"{name} is {value}; give a number, or 0: as the suite has it")
    changes = _sampling_changes(samples, temperature, max_tokens)
    if reasoning_protocol not in ("azr", *ASSERT):
        raise EvaluationError(
            f"unknown protocol {reasoning_protocol!r} for the games; choose azr, {' or '.join(ASSERT)}"
        )
    rules = Rules()
    with Executor(allow_weak=allow_weak) as executor:

        def one(named: str, folder: Path | None) -> Evaluation:
            """One model on all suites that can be asked of it."""
            opened = open_model(named, prompts=prompts, device=device, chunk=chunk, server=server, vllm=vllm)
            for line in opened.reasons:
                tell(line)
            wanted = (
                ["held-out", *(n for n in names if n == "triplets")] if opened.model == "nano" and grouped else names
            )
            suites, left_out = _build(
                wanted, opened, Verifier(executor, rules), sources, (reasoning_protocol, code_protocol), allow_weak
            )
            for name, why in left_out.items():
                tell(f"{name} is left out: {why}")
            results_in = folder or _results_folder(opened, named)
            results = {}
            for each in suites:
                changed = dataclasses.replace(each, **changes) if changes else each
                with _progress() as progress:
                    found = run_suite(
                        opened.generator,
                        changed,
                        results_in,
                        items=items,
                        seed=seed,
                        chunk=opened.chunk,
                        progress=progress,
                    )
                results[each.name] = found
            return Evaluation(named, opened.model, results_in, results, left_out)

        # The base goes first: where it cannot be loaded, nothing was asked in vain.
        base = one(compare, Path(output_dir) / "base" if output_dir else None) if compare else None
        found = dataclasses.replace(one(model, Path(output_dir) if output_dir else None), base=base)
    if base is not None:
        gains = {"model": model, "base": compare, "gain": found.comparison, "pass_at_k": found.pass_at_k}
        write_json(found.folder / f"compare-{_safe(compare)}.json", gains)
    return found


def _sampling_changes(samples: int, temperature: float | None, max_tokens: int) -> dict[str, Any]:
    """What is asked otherwise than the suites have it. Several samples without a temperature are drawn at 0.6."""
    if samples > 1 and temperature == 0:
        raise EvaluationError(
            "several greedy replies to one question are all the same; give --temperature 0.6 or so with --samples"
        )
    changes: dict[str, Any] = {
        key: value for key, value in {"samples": samples, "max_tokens": max_tokens}.items() if value
    }
    if temperature is not None or samples > 1:
        changes["temperature"] = 0.6 if temperature is None else temperature
    return changes


def _names(suite: str | Sequence[str]) -> list[str]:
    """The suites meant, groups spelled out, each once. EvaluationError for an unknown name."""
    words = suite.split(",") if isinstance(suite, str) else list(suite)
    names = [name for word in words for name in GROUPS.get(word.strip(), (word.strip(),))]
    for name in names:
        if name not in KNOWN:
            raise EvaluationError(
                f"there is no suite {name!r}; choose games, code, math, all, or from: {', '.join(KNOWN)}"
            )
    return list(dict.fromkeys(names))


def _build(
    names: Sequence[str],
    opened: OpenedModel,
    verifier: Verifier,
    sources: Mapping[str, str],
    protocols: tuple[str, str],
    allow_weak: bool,
) -> tuple[list[Suite], dict[str, str]]:
    """The suites named, in order, and why others are left out. A suite that was named alone and cannot be had is an error."""
    suites: list[Suite] = []
    left_out: dict[str, str] = {}
    for name in names:
        try:
            suites.append(_suite(name, opened, verifier, sources.get(name), protocols, allow_weak))
        except EvaluationError as error:
            if len(names) == 1:
                raise
            left_out[name] = str(error)
    if not suites:
        raise EvaluationError(
            "none of these suites can be asked here: " + "; ".join(f"{name}: {why}" for name, why in left_out.items())
        )
    return suites, left_out


def _suite(
    name: str, opened: OpenedModel, verifier: Verifier, source: str | None, protocols: tuple[str, str], allow_weak: bool
) -> Suite:
    style = opened.style
    if opened.model == "nano" and name not in NANO:
        raise EvaluationError(f"the nano model reads its own small language only; choose from: {', '.join(NANO)}")
    if name == "held-out":
        nano = opened.model == "nano"
        types = ("deduction", "abduction", "induction")
        return held_out_suite(
            opened.model, types, 200 if nano else 100, HELD_OUT_SEED, style, verifier, 192 if nano else 1024
        )
    if name.startswith("cruxeval"):
        game = "deduction" if name.startswith("cruxeval-o") else "abduction"
        found = read_data("cruxeval", source, ("id", "code", "input", "output")) if source else None
        scope = name.rpartition("-")[2]
        if protocols[0] == "azr":
            return cruxeval_suite(game, scope, style, verifier, found)
        return assert_suite(game, scope, style, verifier, found, thinks=protocols[0] == "assert")
    if name.startswith("induction"):
        found = (
            read_data("evalplus-triplets", source, ("id", "program", "inputs", "outputs", "induction_ok"))
            if source
            else None
        )
        return induction_suite(style, verifier, hint=name == "induction-hint", data=found)
    if name == "triplets":
        if not source:
            raise EvaluationError("give the run whose tasks are to be solved: --data triplets=RUN")
        return frozen_suite(source, style, verifier)
    if name in code.SUITES:
        given = {name: source} if source else None
        return code.code_suites(
            style, chat=style.chat, names=[name], protocol=protocols[1], data=given, allow_weak=allow_weak
        )[0]
    if name == "livecodebench-v5":
        if not source:
            raise EvaluationError("it is not shipped; give its problems: --data livecodebench-v5=FILE")
        return livecodebench_suite(style, source, allow_weak=allow_weak)
    return maths.maths_suite(name, style, source)


def _results_folder(opened: OpenedModel, named: str) -> Path:
    """``eval/step-N`` in the run's directory, or ``evals/MODEL`` for a model that is no run."""
    if opened.folder is None:
        return Path("evals") / _safe(named)
    return opened.folder / "eval" / f"step-{opened.generator.describe()['model'].rpartition('@')[2]}"


def _safe(named: str) -> str:
    """A folder name: the last two parts of a path or hub id, with odd characters replaced."""
    return re.sub(r"[^\w.@-]+", "-", "-".join(Path(named).parts[-2:])).strip("-")


@contextmanager
def _progress() -> Any:
    """A bar with the time left, on terminals only."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda name, made, wanted: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        line = bar.add_task("", total=None)
        yield lambda name, made, wanted: bar.update(line, description=name, completed=made, total=wanted)
