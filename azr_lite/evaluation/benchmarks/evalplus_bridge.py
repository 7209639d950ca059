"""evalplus 0.3.1 in a jail: its prompts, its cleaning, its verdicts.

Comes in: rows of HumanEval+ or MBPP+, programs.  Goes out: whether each passes the base and the plus tests, as evalplus has it.
Not covered: believing that (`second_judge.py`: evalplus runs the programs in the process that holds the expected outputs).

Expected outputs are computed by evalplus in a run without any untrusted program and handed, read-only, to the run with them; for a
whole dataset they are kept under the user's cache folder, named by its digest. The pickle is never opened on this side.
A program that brings evalplus down is found by halving the batch, and fails.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.benchmarks.confined import Ended, confined, environment, read_back

VERSION = "0.3.1"
DRIVER = Path(__file__).with_name("evalplus_driver.py")
MIN_TIME_LIMIT, GT_TIME_LIMIT_FACTOR = 10.0, 8.0
"""Seconds a test at least gets, and how many times the reference's; evalplus' own 1.0 and 4.0 fail right answers on a busy machine."""
WHOLE_MEMORY_MB, PROGRAM_MEMORY_MB = 16384, 12288
"""Address space. evalplus' own 4096 for a program counts the expected outputs that its worker holds already: after Mbpp/255, whose outputs
take gigabytes, right programs of other tasks failed, depending on which worker they met [measured: 255 and 392]."""
TRUTH_S, START_S, PROGRAM_S = 3600.0, 60.0, 130.0
"""Deadlines: expected outputs of a whole dataset; starting; one program (evalplus: 61 s each for base and plus)."""
MANY_S, MORE_S = 600.0, 5.0
"""A batch may take at most so long, and so much more a program: a batch that something holds up is halved in minutes, not hours."""
CANNOT_PASS = {
    "HumanEval/32": "evalplus 0.3.1 passes no program for this task, not even the reference (its pull request 201 skips the count)"
}
"""Kept as it is, so that scores stay comparable: the ceiling of HumanEval and HumanEval+ is 163 of 164."""
PICKLE_BYTES = 4 << 30
_CHAT_WORDS = ("Please provide a self-contained", "Below is a Python script with a self-contained function that solves")


@dataclass(frozen=True)
class Words:
    """What evalplus puts around a task: user's message and response prefix of its chat path, and the stop strings of both paths."""

    instruction: str
    response: str
    chat_stop: tuple[str, ...]
    direct_stop: tuple[str, ...]


def need_evalplus() -> None:
    """EvaluationError unless the right evalplus is installed. Loads nothing of it."""
    from importlib import metadata

    try:
        found = metadata.version("evalplus")
    except metadata.PackageNotFoundError:
        found = "none"
    if found != VERSION:
        raise EvaluationError(
            f"HumanEval+ and MBPP+ are scored by evalplus {VERSION}, but {found} is installed; pip install 'azr-lite[eval]'"
        )


def words(dataset: str) -> Words:
    """The protocol's own words, from the installed evalplus: two constants of its `run_codegen`, and its stop strings."""
    need_evalplus()
    from evalplus.codegen import run_codegen
    from evalplus.provider.utility import EOS, extra_eos_for_direct_completion

    constants = [text for text in run_codegen.__code__.co_consts if isinstance(text, str)]
    found = [[text for text in constants if text.startswith(start)] for start in _CHAT_WORDS]
    if any(len(texts) != 1 for texts in found):
        raise EvaluationError(f"evalplus does not hold the instruction of version {VERSION}; install that version")
    return Words(found[0][0], found[1][0], (*EOS, "\n```\n"), (*EOS, *extra_eos_for_direct_completion(dataset)))


def chat_prompt(task_prompt: str, known: Words) -> tuple[str, str]:
    """The user's message and the prefill of evalplus' chat path, made by evalplus around a stand-in for the tokenizer."""
    from evalplus.provider.utility import make_raw_chat_prompt

    class Tokenizer:
        chat_template = "stand-in"

        def apply_chat_template(self, messages: list[dict[str, str]], tokenize: bool) -> str:
            return messages[0]["content"] + "\0" + messages[1]["content"]

    user, _, prefill = make_raw_chat_prompt(
        task_prompt.strip() + "\n", known.instruction, known.response, Tokenizer()
    ).partition("\0")
    return user, prefill


class Bridge:
    """A context manager for one grading: subset data file, expected outputs, then `verdicts` as often as wanted.

    `rows`: the tasks in question; `whole`: they are the entire dataset, so that what was computed for them is kept in `cache`.
    """

    def __init__(
        self,
        dataset: str,
        rows: Sequence[dict[str, Any]],
        *,
        whole: bool,
        parallel: int,
        cache: Path | None = None,
        allow_weak: bool = False,
    ) -> None:
        need_evalplus()
        self.dataset, self.rows, self.whole, self.parallel, self.allow_weak = (
            dataset,
            list(rows),
            whole,
            parallel,
            allow_weak,
        )
        self.cache = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "azr_lite" / "evalplus"
        self.layers: dict[str, str] = {}

    def __enter__(self) -> Bridge:
        self._folder = tempfile.TemporaryDirectory(prefix="azr-evalplus-")
        os.chmod(self._folder.name, 0o755)
        self.data = self._write("data", self.rows)
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def prepare(self, texts: Sequence[tuple[str, str]]) -> list[str]:
        """Compute or find the expected outputs; and clean ``(text, entry point)`` pairs with evalplus' `sanitize`. Call it once, first."""
        digest = hashlib.md5(self.data.read_bytes()).hexdigest()  # evalplus' own name for the data
        kept = (
            self.cache
            / f"{hashlib.sha256(self.data.read_bytes()).hexdigest()[:16]}-{VERSION}"
            / "evalplus"
            / f"{digest}.pkl"
        )
        known = self.whole and kept.is_file()
        request = {"mode": "prepare", "dataset": self.dataset, "truth": not known, "texts": list(texts)}
        scratch = Path(self._folder.name, "prepare")
        ended = self._run(request, self.data, scratch, TRUTH_S + 20 * len(texts))
        answer = _answer(ended)
        if answer is None or len(answer.get("cleaned", [])) != len(texts):
            last = (ended.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1][:300]
            why = "ran out of time" if ended.timed_out else f"ended with {ended.code}: {last}"
            raise EvaluationError(f"evalplus could not compute the expected outputs ({why}); is the data file whole?")
        made = scratch / "cache" / "evalplus" / f"{digest}.pkl"
        self.truth = (kept if known else made).parent.parent
        if self.whole and not known:
            self.truth = _keep(made, kept)
        return [found if found is not None else text for found, (text, _) in zip(answer["cleaned"], texts, strict=True)]

    def verdicts(self, programs: Sequence[tuple[str, str]]) -> list[tuple[bool, bool]]:
        """For each ``(task id, program)``: whether it passes base, and base and plus."""
        if not programs:
            return []
        scratch = Path(tempfile.mkdtemp(dir=self._folder.name))
        try:
            found = self._grade(programs, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if found is not None:
            return found
        if len(programs) == 1:
            return [(False, False)]
        half = len(programs) // 2
        return self.verdicts(programs[:half]) + self.verdicts(programs[half:])

    def _grade(self, programs: Sequence[tuple[str, str]], scratch: Path) -> list[tuple[bool, bool]] | None:
        """As `verdicts`, in one run of evalplus; None when it did not reach its end, or its answer cannot be true."""
        asked = {task for task, _ in programs}
        missing = [row for row in self.rows if row["task_id"] not in asked]
        padded = [*programs, *((row["task_id"], "") for row in missing)]  # evalplus wants every task of its data file
        (scratch / "samples.jsonl").write_text(
            "".join(json.dumps({"task_id": t, "solution": p}) + "\n" for t, p in padded)
        )
        request = {
            "mode": "grade", "dataset": self.dataset, "parallel": self.parallel,
            "min_time_limit": MIN_TIME_LIMIT, "gt_time_limit_factor": GT_TIME_LIMIT_FACTOR,
        }  # fmt: skip
        seconds = START_S + min(PROGRAM_S * len(padded) / self.parallel, MANY_S + MORE_S * len(padded))
        answer = _answer(self._run(request, self.data, scratch, seconds, truth=self.truth))
        try:
            queues = {task: iter(rows) for task, rows in answer["eval"].items()}  # type: ignore[index]
            marks = [next(queues[task]) for task, _ in programs]
            return [(base == "pass", base == "pass" and plus == "pass") for base, plus in marks]
        except (TypeError, KeyError, ValueError, AttributeError, StopIteration):
            return None

    def _write(self, name: str, rows: Sequence[dict[str, Any]]) -> Path:
        path = Path(self._folder.name, f"{name}.jsonl")
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def _run(
        self, request: dict[str, Any], data: Path, scratch: Path, seconds: float, truth: Path | None = None
    ) -> Ended:
        scratch.mkdir(exist_ok=True)
        argv, read = environment()
        env = {
            "HUMANEVAL_OVERRIDE_PATH" if self.dataset == "humaneval" else "MBPP_OVERRIDE_PATH": str(data),
            "EVALPLUS_MAX_MEMORY_BYTES": str(PROGRAM_MEMORY_MB << 20),
        }
        if truth is not None:
            env["XDG_CACHE_HOME"] = str(truth)
            read.append(str(truth))
        ended = confined(
            [*argv, DRIVER], scratch=scratch, seconds=seconds, read=[*read, data, DRIVER], stdin=json.dumps(request).encode(), env=env,
            memory_mb=WHOLE_MEMORY_MB, processes=64 + 8 * self.parallel, file_mb=PICKLE_BYTES >> 20, output_bytes=256 << 20,
            allow_weak=self.allow_weak,
        )  # fmt: skip
        self.layers = dict(ended.layers)
        return ended


def _answer(ended: Ended) -> dict[str, Any] | None:
    lines = ended.stdout.splitlines()
    try:
        found = json.loads(lines[-1]) if ended.code == 0 and lines else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _keep(made: Path, kept: Path) -> Path:
    """Copy a pickle into the cache, unread; returns the folder that evalplus is to take for its cache."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        for folder in (kept.parent, kept.parent.parent):
            folder.chmod(0o755)
        half = kept.with_suffix(f".{os.getpid()}.part")
        half.write_bytes(read_back(made, PICKLE_BYTES))
        os.replace(half, kept)
    except OSError:  # a full disk or a read-only home costs time only
        return made.parent.parent
    return kept.parent.parent
