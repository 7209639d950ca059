"""`evaluate`: ask a model the questions of suites, mark the replies, keep everything; go on after a kill.

Questions are asked in chunks of like length that depend on the suite alone, and each chunk has its own seed: a resumed
evaluation gives the same replies as an unbroken one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from azr_lite.environment import describe_environment
from azr_lite.errors import ConfigError, EvaluationError
from azr_lite.evaluation.benchmarks import BUILDERS, GROUPS, REASONING_PROTOCOLS, averages, in_paper
from azr_lite.evaluation.generators import open_model
from azr_lite.evaluation.results import VERSION, Result, WaitingReplies, lines_of, read_result
from azr_lite.evaluation.scores import Item, compare_paired, compare_pass_at_k, summarize
from azr_lite.evaluation.suite import Generator, Question, Reply, Sampling, Setting, Suite, choose
from azr_lite.rundir import write_json, write_text
from azr_lite.sandbox import Executor
from azr_lite.triplet import Rules
from azr_lite.verifier import Verifier

KNOWN = tuple(BUILDERS)
"""Every name that --suite takes besides the groups."""
NANO = ("held-out", "triplets")
"""What the nano model can read: its own language only."""
Progress = Callable[[str, int, int], None]
"""Called with (suite, questions answered, questions asked)."""


@dataclass(frozen=True)
class Evaluation:
    """`results`: by suite. `left_out`: suite to why it was not asked. `base`: the other model's, with `compare`.

    `origin`: the hub id or path of the model that a run trained.
    """

    model: str
    origin: str
    folder: Path
    results: dict[str, Result]
    left_out: dict[str, str]
    base: Evaluation | None = None

    def _against_base(self, compare: Callable[[Sequence[Item], Sequence[Item]], Any]) -> dict[str, Any]:
        """Suite to `compare` of the base's items and this model's, where both were asked."""
        before = self.base.results if self.base else {}
        return {name: compare(before[name].items, own.items) for name, own in self.results.items() if name in before}

    @property
    def comparison(self) -> dict[str, dict[str, dict[str, float]]]:
        """Suite to group to paired gain over `base` (see `scores.compare_paired`); empty without one."""
        return self._against_base(compare_paired)

    @property
    def pass_at_k(self) -> dict[str, list[dict[str, Any]]]:
        """Suite to the points of `scores.compare_pass_at_k`, where both models gave several replies per question."""
        return {name: points for name, points in self._against_base(compare_pass_at_k).items() if points}

    @property
    def as_in_paper(self) -> dict[str, float]:
        """What stands in the paper's table, by suite; code only in the paper's protocol (evalplus)."""
        return in_paper({name: result.scores["all"]["accuracy"] for name, result in self.results.items()})

    def as_dict(self) -> dict[str, Any]:
        """Model, scores, gains and the paper's three averages for JSON."""
        return {
            "model": self.model,
            "suites": {name: result.record for name, result in self.results.items()},
            "gain": self.comparison,
            "pass_at_k": self.pass_at_k,
            "left_out": self.left_out,
            "averages": averages(self.as_in_paper),
        }


def evaluate(
    model: str,
    suite: str | Sequence[str] = "reasoning",
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
    seed: int = 0,
    allow_weak: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Ask a model the questions of public benchmarks and of self-play. What was answered is kept, and not asked again.

    Args:
        model: hub id, folder, GGUF file, ``nano``, or a run's folder (``RUN@12``: its step 12, ``RUN@0``: its start).
        suite: reasoning, code, math, all, or names of `KNOWN`, separated by commas or as a list.
        compare: a second model or run, asked the same: the base to compare with.
        items: questions per suite, chosen by digest; 0: all.
        samples: replies per question, for pass@k; 0: the suite's own (mostly one, greedy).
        temperature: of sampling; 0: greedy; None: the suite's own.
        max_tokens: tokens per reply; 0: the suite's own.
        reasoning_protocol: ``azr`` (self-play's own prompts), ``assert`` or ``assert-direct`` (CRUXEval as published
            scores ask it, with and without a thought).
        code_protocol: ``evalplus`` (what the paper used) or ``azr``.
        data: suite to file or hub id, for suites that are not shipped and for other versions of those that are.
        output_dir: where results go; empty: the run's folder ``eval/``, or ``evals/MODEL``.
        prompts: auto, r1, chat or compact.
        device: auto, cpu or cuda.
        chunk: questions asked at once.
        server: URL of an OpenAI-compatible server that serves the model.
        seed: of sampling.
        allow_weak: go on where the kernel offers no isolation for the programs to score.
        tell: called with one line for each choice made and each suite left out.

    Returns:
        The results by suite, and with `compare` the gains over the base.

    Raises:
        EvaluationError: an unknown suite, a model that cannot be had, or results of another evaluation in the folder.
        UnsafeError: the kernel cannot confine the programs to score.

    Examples:
        ``azr_lite.evaluate("nano", "held-out", items=20).results["held-out"].scores["all"]["accuracy"]``
    """
    words = [word.strip() for word in (suite.split(",") if isinstance(suite, str) else suite)]
    names = list(dict.fromkeys(name for word in words for name in GROUPS.get(word, (word,))))
    known = ", ".join(KNOWN)
    if unknown := [name for name in names if name not in KNOWN]:
        raise EvaluationError(f"there is no suite {unknown[0]!r}; choose reasoning, code, math, all, or from: {known}")
    if unknown := [name for name in data or {} if name not in KNOWN]:
        raise EvaluationError(f"there is no suite {unknown[0]!r} to give data for; choose from: {known}")
    for name, value in (("items", items), ("samples", samples), ("max_tokens", max_tokens)):
        if value < 0:
            raise ConfigError(f"{name} is {value}; give a number, or 0: as the suite has it")
    if samples > 1 and temperature == 0:
        raise EvaluationError(
            "several greedy replies to one question are all the same; give --temperature 0.6 or so with --samples"
        )
    if samples > 1 and temperature is None:
        temperature = 0.6
    chosen = {"samples": samples or None, "max_tokens": max_tokens or None, "temperature": temperature}
    changes = {name: value for name, value in chosen.items() if value is not None}
    if reasoning_protocol not in REASONING_PROTOCOLS:
        choices = ", ".join(REASONING_PROTOCOLS)
        raise EvaluationError(f"unknown protocol {reasoning_protocol!r} for reasoning; choose from: {choices}")
    with Executor(allow_weak=allow_weak) as executor:
        verifier = Verifier(executor, Rules())

        def one(named: str, folder: Path | None) -> Evaluation:
            """One model on all suites that can be asked of it."""
            opened = open_model(named, prompts=prompts, device=device, chunk=chunk, server=server)
            for line in opened.reasons:
                tell(line)
            by_group = opened.model == "nano" and any(word in GROUPS for word in words)
            wanted = ["held-out", *(name for name in names if name == "triplets")] if by_group else names
            protocols = (reasoning_protocol, code_protocol)
            setting = Setting(opened.model, opened.style, verifier, "", *protocols, allow_weak=allow_weak)
            suites, left_out = _build(wanted, setting, data or {})
            for name, why in left_out.items():
                tell(f"{name} is left out: {why}")
            folder = folder or opened.folder or Path("evals") / _safe(named)
            results = {}
            for each in suites:
                each = dataclasses.replace(each, **changes)  # type: ignore[type-var]
                with _progress() as progress:
                    results[each.name] = run_suite(
                        opened.generator, each, folder, items=items, seed=seed, chunk=opened.chunk, progress=progress
                    )
            return Evaluation(named, opened.model, folder, results, left_out)

        # The base goes first: where it cannot be loaded, nothing was asked in vain.
        base = one(compare, Path(output_dir) / "base" if output_dir else None) if compare else None
        found = dataclasses.replace(one(model, Path(output_dir) if output_dir else None), base=base)
    if base is not None:
        gains = {"model": model, "base": compare, "gain": found.comparison, "pass_at_k": found.pass_at_k}
        write_json(found.folder / f"compare-{_safe(compare)}.json", gains)
    return found


def _build(names: Sequence[str], setting: Setting, sources: Mapping[str, str]) -> tuple[list[Suite], dict[str, str]]:
    """The suites named, in order, and why others are left out; EvaluationError where one was named alone."""
    suites: list[Suite] = []
    left_out: dict[str, str] = {}
    for name in names:
        try:
            if setting.model == "nano" and name not in NANO:
                only = ", ".join(NANO)
                raise EvaluationError(f"the nano model reads its own small language only; choose from: {only}")
            suites.append(BUILDERS[name](name, dataclasses.replace(setting, source=sources.get(name, ""))))
        except EvaluationError as error:
            if len(names) == 1:
                raise
            left_out[name] = str(error)
    if not suites:
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise EvaluationError(f"none of these suites can be asked here: {why}")
    return suites, left_out


def _safe(named: str) -> str:
    """A folder name: the last two parts of a path or hub id, with odd characters replaced."""
    return re.sub(r"[^\w.@-]+", "-", "-".join(Path(named).parts[-2:])).strip("-")


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar with the time left, on terminals only."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    columns = (
        progress.TextColumn("{task.description}"),
        *(progress.BarColumn(20), progress.MofNCompleteColumn(), progress.TimeElapsedColumn()),
        *(progress.TextColumn("left"), progress.TimeRemainingColumn()),
    )
    with progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        line = bar.add_task("", total=None)
        yield lambda name, made, wanted: bar.update(line, description=name, completed=made, total=wanted)


# ---------------------------------------------------------------- one suite


def answer(generator: Generator, suite: Suite, questions: Sequence[Question]) -> list[Item]:
    """Ask all questions at once and mark the replies; nothing is kept."""
    return _mark(suite, questions, generator.generate([q.prompt for q in questions], _sampling(suite)))


def _sampling(suite: Suite, seed: int = 0) -> Sampling:
    return Sampling(suite.max_tokens, suite.temperature, suite.samples, suite.stop, seed)


def _mark(suite: Suite, questions: Sequence[Question], replies: Sequence[Sequence[Reply]]) -> list[Item]:
    """The replies to each question, marked."""
    each = [(q, number, reply) for q, own in zip(questions, replies, strict=True) for number, reply in enumerate(own)]
    marks = suite.grade([(question, reply) for question, _, reply in each])
    return [
        Item(id=q.id, type=q.group, stratum=q.stratum, sample=number, **vars(reply), **asdict(mark))
        for (q, number, reply), mark in zip(each, marks, strict=True)
    ]


def record_of(
    suite: Suite, generator: Generator, questions: Sequence[Question], items: Sequence[Item], seconds: float, seed: int
) -> dict[str, Any]:
    """What NAME.json holds of this evaluation."""
    return {
        "version": VERSION,
        "suite": suite.name,
        "protocol": suite.protocol,
        "asked": _asked(suite, generator, questions, seed),
        "scores": summarize(items),
        "baselines": suite.baselines(questions),
        "truncated": sum(item.truncated for item in items) / max(1, len(items)),
        "tokens": sum(item.tokens for item in items),
        "seconds": round(seconds, 1),
        "confinement": dict(getattr(suite, "layers", {})),
        "environment": describe_environment(),
    }


def _asked(suite: Suite, generator: Generator, questions: Sequence[Question], seed: int) -> dict[str, Any]:
    """All that decides the replies: two evaluations with the same of it are the same evaluation."""
    prompts = json.dumps([[q.id, *vars(q.prompt).values()] for q in questions], ensure_ascii=False)
    return {
        "generator": generator.describe(),
        "data": suite.data.describe(),
        "questions": len(questions),
        "prompts_sha256": hashlib.sha256(prompts.encode()).hexdigest(),
        "samples": suite.samples,
        "temperature": suite.temperature,
        "max_tokens": suite.max_tokens,
        "stop": list(suite.stop),
        "seed": seed,
    }


def run_suite(
    generator: Generator,
    suite: Suite,
    folder: Path,
    *,
    items: int = 0,
    seed: int = 0,
    chunk: int = 16,
    progress: Progress = lambda name, made, wanted: None,
) -> Result:
    """Answer one suite, or read what an equal evaluation left in `folder`; EvaluationError for another one's."""
    questions = choose(suite.questions(), items)
    name = f"{suite.name}-{items}" if items else suite.name
    heading = {"protocol": suite.protocol, "asked": _asked(suite, generator, questions, seed)}
    known = read_result(folder, name)
    if known is not None:
        _refuse_another(folder / f"{name}.json", known.record, heading)
        return known
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"cannot make {folder}: {error.strerror}; choose another --output-dir") from error
    waiting = WaitingReplies(folder / f"{name}.replies.jsonl", heading)
    order = sorted(questions, key=lambda q: (len(q.prompt.text), q.id))
    made: dict[str, list[Reply]] = {}
    for number, start in enumerate(range(0, len(order), chunk)):
        own = order[start : start + chunk]
        ids = [question.id for question in own]
        row = waiting.rows.get(number)
        if row is None or row["ids"] != ids:
            began = time.perf_counter()
            replies = generator.generate([q.prompt for q in own], _sampling(suite, _seed(seed, suite.name, number)))
            took = round(time.perf_counter() - began, 3)
            fields = [[asdict(reply) for reply in each] for each in replies]
            row = {"chunk": number, "ids": ids, "seconds": took, "replies": fields}
            waiting.add(row)
        progress(name, start + len(own), len(order))
        made |= {id: [Reply(**fields) for fields in each] for id, each in zip(ids, row["replies"], strict=True)}
    marked = _mark(suite, questions, [made[q.id] for q in questions])
    seconds = sum(row["seconds"] for row in waiting.rows.values())
    record = record_of(suite, generator, questions, marked, seconds, seed)
    write_text(folder / f"{name}.jsonl", lines_of(marked))
    write_json(folder / f"{name}.json", record)  # last: it says that all is there
    waiting.path.unlink(missing_ok=True)
    return Result(name, marked, record)


def _refuse_another(path: Path, record: dict[str, Any], heading: dict[str, Any]) -> None:
    """EvaluationError where the record is not of the evaluation with this heading."""
    odd = [name for name, value in heading["asked"].items() if record["asked"].get(name) != value]
    if record["protocol"] != heading["protocol"]:
        odd = ["another protocol"]
    if odd:
        raise EvaluationError(
            f"{path} holds another evaluation ({', '.join(odd)}); choose another --output-dir, or remove that file"
        )


def _seed(*parts: Any) -> int:
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4], "big")
