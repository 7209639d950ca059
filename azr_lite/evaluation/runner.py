"""Ask a suite, mark the replies, keep everything; go on where a killed evaluation stopped.

Comes in: a generator and suites.  Goes out: per suite NAME.json (scores, settings, digests, versions) and NAME.jsonl (every prompt,
reply and mark), and the same as objects.
Not covered: what is asked (the suites), the statistics (`scores.py`), who answers (`generators.py`), tables for people (`tables.py`),
reading what was kept (`kept.py`).

Questions are asked in chunks of like length that depend on the suite alone, and each chunk has its own seed: a resumed evaluation gives
the same replies as an unbroken one. Replies wait in NAME.replies.jsonl, a line a chunk, until all are there and can be marked.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from azr_lite.environment import describe_environment
from azr_lite.errors import EvaluationError
from azr_lite.evaluation.kept import VERSION, Result, lines_of, read_result
from azr_lite.evaluation.scores import Item, summarize
from azr_lite.evaluation.suite import Generator, Question, Reply, Sampling, Suite
from azr_lite.rundir import write_json, write_text

Progress = Callable[[str, int, int], None]
"""Called with (suite, replies made, replies wanted)."""


def answer(
    generator: Generator, suite: Suite, questions: Sequence[Question], done: Callable[[int], None] = lambda n: None
) -> list[Item]:
    """Ask all questions at once and mark the replies; nothing is kept."""
    replies = generator.generate([q.prompt for q in questions], _sampling(suite), done)
    return mark(
        suite,
        [(q, number, reply) for q, own in zip(questions, replies, strict=True) for number, reply in enumerate(own)],
    )


def mark(suite: Suite, replies: Sequence[tuple[Question, int, Reply]]) -> list[Item]:
    """Items of replies that were made; `replies` are (question, number of the sample, reply)."""
    marks = suite.grade([(question, reply) for question, _, reply in replies])
    return [
        Item(
            id=question.id,
            type=question.group,
            stratum=question.stratum,
            right=found.right,
            well_formed=found.well_formed,
            reason=found.reason,
            prompt=reply.prompt,
            text=reply.text,
            tokens=reply.tokens,
            truncated=reply.truncated,
            lenient=found.lenient,
            sample=number,
            parts=dict(found.parts),
        )
        for (question, number, reply), found in zip(replies, marks, strict=True)
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
    prompts = json.dumps(
        [[q.id, q.prompt.text, q.prompt.prefill, q.prompt.chat] for q in questions], ensure_ascii=False
    )
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


def choose(questions: Sequence[Question], items: int) -> list[Question]:
    """The first `items` of each group by the SHA-1 of their ids (0: all), in the suite's order: nobody picks."""
    if not items:
        return list(questions)
    kept: set[str] = set()
    for group in dict.fromkeys(q.group for q in questions):
        own = sorted(
            (q.id for q in questions if q.group == group), key=lambda name: hashlib.sha1(name.encode()).hexdigest()
        )
        kept.update(own[:items])
    return [q for q in questions if q.id in kept]


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
    """Answer one suite, or read what an equal evaluation left in `folder`. EvaluationError where the folder holds another one's."""
    questions = choose(suite.questions(), items)
    name = f"{suite.name}-{items}" if items else suite.name
    asked = _asked(suite, generator, questions, seed)
    known = read_result(folder, name)
    if known is not None:
        if known.record["protocol"] != suite.protocol or known.record["asked"] != asked:
            raise EvaluationError(
                f"{folder / name}.json holds another evaluation ({_difference(known.record, suite, asked)}); choose another --output-dir, "
                "or remove that file"
            )
        return known
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"cannot make {folder}: {error.strerror}; choose another --output-dir") from error
    waiting = _Waiting(folder / f"{name}.replies.jsonl", {"protocol": suite.protocol, "asked": asked})
    order = sorted(questions, key=lambda q: (len(q.prompt.text), q.id))
    chunks = [order[i : i + chunk] for i in range(0, len(order), chunk)]
    made = {}
    wanted = len(questions) * suite.samples
    count = 0

    def done(more: int) -> None:
        nonlocal count
        count += more
        progress(name, count, wanted)

    for number, own in enumerate(chunks):
        replies = waiting.get(number, [q.id for q in own])
        if replies is None:
            began = time.perf_counter()
            replies = generator.generate(
                [q.prompt for q in own], _sampling(suite, _seed(seed, suite.name, number)), done
            )
            waiting.put(number, [q.id for q in own], replies, time.perf_counter() - began)
        else:
            done(len(own) * suite.samples)
        made.update({q.id: own_replies for q, own_replies in zip(own, replies, strict=True)})
    marked = mark(suite, [(q, number, reply) for q in questions for number, reply in enumerate(made[q.id])])
    record = record_of(suite, generator, questions, marked, waiting.seconds, seed)
    write_text(folder / f"{name}.jsonl", lines_of(marked))
    write_json(folder / f"{name}.json", record)  # last: it says that all is there
    waiting.remove()
    return Result(name, marked, record)


def _sampling(suite: Suite, seed: int = 0) -> Sampling:
    return Sampling(suite.max_tokens, suite.temperature, suite.samples, suite.stop, seed)


def _difference(record: dict[str, Any], suite: Suite, asked: dict[str, Any]) -> str:
    if record["protocol"] != suite.protocol:
        return "another protocol"
    return ", ".join(name for name in asked if record["asked"].get(name) != asked[name])


def _seed(*parts: Any) -> int:
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4], "big")


class _Waiting:
    """Replies of an unfinished suite: a heading, then a line a chunk; a line that a kill cut short is made again."""

    def __init__(self, path: Path, heading: dict[str, Any]) -> None:
        self.path = path
        self.known: dict[int, dict[str, Any]] = {}
        self.seconds = 0.0
        lines = (
            path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        )  # what stands after the last newline is torn
        rows = [json.loads(line) for line in lines]
        if rows and rows[0] != json.loads(json.dumps(heading)):
            raise EvaluationError(
                f"{path} waits for another evaluation to go on; choose another --output-dir, or remove that file"
            )
        for row in rows[1:]:
            self.known[row["chunk"]] = row
            self.seconds += row["seconds"]
        kept = "".join(line.decode() + "\n" for line in lines) or json.dumps(heading) + "\n"
        write_text(path, kept)

    def get(self, number: int, ids: list[str]) -> list[list[Reply]] | None:
        row = self.known.get(number)
        return [[Reply(**reply) for reply in own] for own in row["replies"]] if row and row["ids"] == ids else None

    def put(self, number: int, ids: list[str], replies: list[list[Reply]], seconds: float) -> None:
        self.seconds += seconds
        row = {
            "chunk": number,
            "ids": ids,
            "seconds": round(seconds, 3),
            "replies": [[asdict(reply) for reply in own] for own in replies],
        }
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise EvaluationError(
                f"cannot write {self.path}: {error.strerror}; make room, then run this again: it goes on"
            ) from error

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
