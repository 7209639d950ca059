"""`evaluate`: ask a model the questions of suites, mark the replies, keep everything; go on after a kill.

Each chunk of questions depends on the suite alone and has its own seed, so a resumed evaluation gives the same replies.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from azr_lite.environment import describe_environment
from azr_lite.errors import EvaluationError
from azr_lite.evaluation.benchmarks import BUILDERS, GROUPS, IN_PAPER, beside_paper, maths_average
from azr_lite.evaluation.generators import open_model
from azr_lite.evaluation.scores import VERSION, Item, Result, compare_paired, read_result, summarize
from azr_lite.evaluation.suite import Generator, Options, Question, Reply, Sampling, Setting, Suite, choose
from azr_lite.pace import Pace
from azr_lite.rundir import write_json
from azr_lite.sandbox import Executor
from azr_lite.triplet import Rules
from azr_lite.verifier import Verifier


@dataclass(frozen=True)
class Evaluation:
    """`results`: by suite. `left_out`: suite to why it was not asked. `base`: the other model's, with `compare`.
    `origin`: the hub id or path of the model that a run trained."""

    model: str
    origin: str
    folder: Path
    results: dict[str, Result]
    left_out: dict[str, str]
    base: Evaluation | None = None

    @functools.cached_property
    def comparison(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Suite to group to paired gain over `base` (see `scores.compare_paired`); empty without one."""
        before = self.base.results if self.base else {}
        both = [name for name in self.results if name in before]
        return {name: compare_paired(before[name].items, self.results[name].items) for name in both}

    @property
    def as_in_paper(self) -> dict[str, float]:
        """Accuracies that stand in the paper's table, by suite; code only in the paper's protocol (evalplus)."""
        own = {re.sub("-evalplus-(chat|direct)$", "", name): result for name, result in self.results.items()}
        return {name: result.scores["all"]["accuracy"] for name, result in own.items() if name in IN_PAPER}

    def as_dict(self) -> dict[str, Any]:
        """Model, scores, gains and the paper's average of mathematics for JSON."""
        return {
            "model": self.model,
            "suites": {name: result.record for name, result in self.results.items()},
            "gain": self.comparison,
            "left_out": self.left_out,
            "maths_average": maths_average(self.as_in_paper),
        }


def evaluate(
    model: str,
    suite: str = "reasoning",
    *,
    data: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> Evaluation:
    """Ask a model the questions of public benchmarks and of self-play. What was answered is kept, and not asked again.

    Args:
        model: hub id, folder, GGUF file, ``nano``, or a run's folder (``RUN@12``: its step 12, ``RUN@0``: its start).
        suite: reasoning, code, math, all, or names of suites, separated by commas; a wrong name lists all.
        data: suite to file or hub id, for suites that are not shipped and for other versions of those that are.
        tell: called with one line for each choice made and each suite left out.
        options: any field of `suite.Options`, such as ``compare="RUN@0"`` or ``items=40``.

    Returns:
        The results by suite, and with `compare` the gains over the base.

    Raises:
        ConfigError: an option makes no sense.
        EvaluationError: an unknown suite, step or run, or results of another evaluation in the folder.
        ModelError: the model cannot be had.
        UnsafeError: the kernel cannot confine the programs to score.

    Examples:
        ``azr_lite.evaluate("nano", "held-out", items=20).results["held-out"].scores["all"]["accuracy"]``
    """
    asked, sources = Options(**options), data or {}
    words = [word.strip() for word in suite.split(",")]
    names = list(dict.fromkeys(name for word in words for name in GROUPS.get(word, (word,))))
    if unknown := [name for name in (*names, *sources) if name not in BUILDERS]:
        known = ", ".join(BUILDERS)
        raise EvaluationError(f"there is no suite {unknown[0]!r}; choose reasoning, code, math, all, or from: {known}")
    with Executor(allow_weak=asked.allow_weak) as executor:
        verifier = Verifier(executor, Rules())

        def one(named: str, folder: Path | None) -> Evaluation:
            """One model on all suites that can be asked of it."""
            opening = {name: getattr(asked, name) for name in ("prompts", "device", "chunk", "server")}
            opened = open_model(named, **opening)
            for line in opened.reasons:
                tell(line)
            by_group = opened.model == "nano" and any(word in GROUPS for word in words)
            wanted = ["held-out"] if by_group else names
            suites, left_out = _build(wanted, Setting(opened.model, opened.style, verifier, options=asked), sources)
            for name, why in left_out.items():
                tell(f"{name} is left out: {why}")
            folder = folder or opened.folder or Path("evals") / _safe(named)
            how = {"items": asked.items, "seed": asked.seed, "chunk": opened.chunk}
            suites = [dataclasses.replace(each, **asked.of_sampling()) for each in suites]
            results = {each.name: run_suite(opened.generator, each, folder, **how) for each in suites}
            return Evaluation(named, opened.model, folder, results, left_out)

        # The base goes first: where it cannot be loaded, nothing was asked in vain.
        output = Path(asked.output_dir) if asked.output_dir else None
        base = one(asked.compare, output and output / "base") if asked.compare else None
        found = dataclasses.replace(one(model, output), base=base)
    if base is not None:
        gains = {"model": model, "base": asked.compare, "gain": found.comparison}
        write_json(found.folder / f"compare-{_safe(asked.compare)}.json", gains)
    return found


def _build(names: Sequence[str], setting: Setting, sources: Mapping[str, str]) -> tuple[list[Suite], dict[str, str]]:
    """The suites named, in order, and why others are left out; EvaluationError where one was named alone."""
    suites: list[Suite] = []
    left_out: dict[str, str] = {}
    for name in names:
        try:
            if setting.model == "nano" and name != "held-out":
                raise EvaluationError("the nano model reads only its own small language; choose --suite held-out")
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


def answer(generator: Generator, suite: Suite, questions: Sequence[Question]) -> list[Item]:
    """Ask all questions at once and mark the replies; nothing is kept."""
    return _mark(suite, questions, generator.generate([q.prompt for q in questions], _sampling(suite)))


def _sampling(suite: Suite, seed: int = 0) -> Sampling:
    return Sampling(suite.max_tokens, suite.temperature, suite.samples, suite.stop, seed)


def _mark(suite: Suite, questions: Sequence[Question], replies: Sequence[Sequence[Reply]]) -> list[Item]:
    each = [(q, number, reply) for q, own in zip(questions, replies, strict=True) for number, reply in enumerate(own)]
    marks = suite.grade([(question, reply) for question, _, reply in each])
    return [
        Item(id=q.id, type=q.group, stratum=q.stratum, sample=number, **vars(reply), **asdict(mark))
        for (q, number, reply), mark in zip(each, marks, strict=True)
    ]


def record_of(suite: Suite, heading: Mapping[str, Any], items: Sequence[Item], seconds: float) -> dict[str, Any]:
    """What NAME.json holds of this evaluation."""
    return {
        "version": VERSION,
        "suite": suite.name,
        **heading,
        "scores": summarize(items),
        "truncated": sum(item.truncated for item in items) / max(1, len(items)),
        "tokens": sum(item.tokens for item in items),
        "seconds": round(seconds, 1),
        "confinement": dict(getattr(suite, "layers", {})),
        "environment": describe_environment(),
    }


def heading_of(suite: Suite, generator: Generator, questions: Sequence[Question], seed: int) -> dict[str, Any]:
    """All that decides the replies: two evaluations with the same of it are the same evaluation."""
    parts = [[q.id, q.prompt.text, q.prompt.prefill, q.prompt.chat] for q in questions]
    prompts = json.dumps(parts, ensure_ascii=False)
    asked = {
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
    return {"protocol": suite.protocol, "asked": asked}


def run_suite(
    generator: Generator, suite: Suite, folder: Path, *, items: int = 0, seed: int = 0, chunk: int = 16
) -> Result:
    """Answer one suite, or read what an equal evaluation left in `folder`; EvaluationError for another one's.
    NAME.replies.json holds the replies of an unfinished suite, written whole after each chunk."""
    questions = choose(suite.questions(), items)
    name = f"{suite.name}-{items}" if items else suite.name
    heading = heading_of(suite, generator, questions, seed)
    if known := read_result(folder, name):
        _refuse_another(folder / f"{name}.json", known.record, heading)
        return known
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"cannot make {folder}: {error.strerror}; choose another --output-dir") from error
    waiting, kept = folder / f"{name}.replies.json", {**heading, "seconds": 0.0, "replies": {}}
    if waiting.exists():
        kept = json.loads(waiting.read_text(encoding="utf-8"))
        _refuse_another(waiting, kept, heading)
    order = sorted(questions, key=lambda q: (len(q.prompt.text), q.id))
    chunks = [order[i : i + chunk] for i in range(0, len(order), chunk)]
    with Pace(name, len(order), begun=len(kept["replies"])) as tell:
        for number, own in enumerate(chunks):
            if any(q.id not in kept["replies"] for q in own):
                digest = hashlib.sha256(f"{seed}/{suite.name}/{number}".encode()).digest()
                began, how = time.perf_counter(), _sampling(suite, int.from_bytes(digest[:4], "big"))
                replies = generator.generate([q.prompt for q in own], how)
                kept["seconds"] += time.perf_counter() - began
                for question, each in zip(own, replies, strict=True):
                    kept["replies"][question.id] = [asdict(reply) for reply in each]
                write_json(waiting, kept)
                tell(len(kept["replies"]))
    marked = _mark(suite, questions, [[Reply(**reply) for reply in kept["replies"][q.id]] for q in questions])
    result = Result(name, marked, record_of(suite, heading, marked, kept["seconds"]))
    result.keep(folder)
    waiting.unlink(missing_ok=True)
    return result


def _refuse_another(path: Path, record: dict[str, Any], heading: dict[str, Any]) -> None:
    """EvaluationError where what a file holds is not of the evaluation with this heading."""
    odd = [name for name, value in heading["asked"].items() if record["asked"].get(name) != value]
    if record["protocol"] != heading["protocol"]:
        odd = ["another protocol"]
    if odd:
        told = f"{path} holds another evaluation ({', '.join(odd)}); choose another --output-dir, or remove that file"
        raise EvaluationError(told)


# ---------------------------------------------------------------- what a person reads


def print_tables(found: Evaluation, console: Console) -> None:
    """What ``azr-lite eval`` shows, in 80 columns: scores, gains over the base, the paper's numbers, and notes."""
    console.print(score_table(found))
    if found.base is not None:
        console.print(_gain_table(found, found.base))
    for line in filter(None, (paper_lines(found), *(f"· {note}" for note in _notes(found)))):
        console.print(line, markup=False, soft_wrap=True)


def score_table(found: Evaluation) -> Table:
    """Accuracy with its 95 % interval; lenient accuracy; cut replies."""
    table = _table(found.model, "n", "accuracy, %", "95 %", "lenient", "cut, %")
    for name, result in found.results.items():
        scores, cut = result.scores["all"], f"{100 * result.record['truncated']:.0f}"
        accuracy, low, high, lenient = (_points(scores[key]) for key in ("accuracy", "low", "high", "lenient"))
        table.add_row(_plain(name), str(scores["n"]), accuracy, f"{low}–{high}", lenient, cut)
    return table


def _gain_table(found: Evaluation, base: Evaluation) -> Table:
    """Points gained over the base on the same questions (bootstrap interval), McNemar's p, the part that is form."""
    headings = ("n", "base", "now", "gain, points", "p", "by form")
    table = _table(f"{base.model} → {found.model}", *headings)
    for name, gains in found.comparison.items():
        gain, before, after = gains["all"], base.results[name].scores["all"], found.results[name].scores["all"]
        points = _interval(gain["gain"], gain["boot_low"], gain["boot_high"], "+")
        numbers = (_points(before["accuracy"]), _points(after["accuracy"]), points, f"{gain['p']:.3f}")
        table.add_row(_plain(name), str(after["n"]), *numbers, _points(gain["form_gain"], "+"))
    return table


def paper_lines(found: Evaluation) -> str:
    """Our scores beside the paper's rows, where any of its suites was asked; else empty."""
    before = [found.base.as_in_paper] if found.base else []
    return beside_paper(found.origin, *before, found.as_in_paper) if found.as_in_paper else ""


def _notes(found: Evaluation) -> Iterator[str]:
    """What to know before believing the tables: protocols, pass@k, where everything lies."""
    protocols = {name: result.record["protocol"] for name, result in found.results.items()}
    for protocol in dict.fromkeys(protocols.values()):
        yield f"{', '.join(name for name in protocols if protocols[name] == protocol)}: {protocol}"
    for name, result in found.results.items():
        curve = {key: value for key, value in result.scores["all"].items() if key.startswith("pass@")}
        gained = found.comparison.get(name, {}).get("all", {})
        for key, value in curve.items():
            said = f"{name}, {key}: {_interval(value['accuracy'], value['low'], value['high'])}"
            gain = gained.get(key)
            yield f"{said}, gained {_interval(gain['gain'], gain['low'], gain['high'], '+')}" if gain else said
    yield f"every prompt, reply and mark: {found.folder}/"


def _table(title: str, *numbers: str) -> Table:
    return Table("suite", *(Column(number, justify="right") for number in numbers), title=title)


def _points(share: float, sign: str = "") -> str:
    return f"{100 * share:{sign}.1f}"


def _interval(mean: float, low: float, high: float, sign: str = "") -> str:
    return f"{_points(mean, sign)} [{_points(low, sign)}, {_points(high, sign)}]"


def _plain(suite: str) -> str:
    """The name without its protocol, which `_notes` tells."""
    return re.sub(r"-(evalplus-chat|evalplus-direct|azr)$", "", suite)
