"""What an evaluation is made of: datasets, prompts, questions, replies, marks; what suites and generators must do."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from azr_lite.errors import ConfigError, EvaluationError, first_line
from azr_lite.parsing import ParsedReply, read_fences
from azr_lite.prompts.base import END_ANSWER, Style
from azr_lite.verifier import Verifier

SHIPPED = Path(__file__).with_name("shipped")  # origins and licences: ORIGINS.md in that folder


@dataclass(frozen=True)
class Data:
    """Rows of a dataset. `sha256`: of the file's bytes as stored; of a hub dataset, of its rows as JSON lines."""

    name: str
    source: str
    sha256: str
    rows: tuple[dict[str, Any], ...] = ()

    def describe(self) -> dict[str, Any]:
        """What a result records."""
        return {"name": self.name, "source": self.source, "sha256": self.sha256, "rows": len(self.rows)}


def read_data(name: str, source: str | Path = "", needs: Sequence[str] = (), *, shipped: str = "") -> Data:
    """A dataset from a ``.jsonl`` or ``.json`` file (also ``.gz``) or a hub id ``OWNER/NAME[:CONFIG[:SPLIT]]``.

    `shipped`: the package's own file, where no source is given. EvaluationError when it cannot be had, or when a row
    lacks one of the columns in `needs`.
    """
    path = Path(source).expanduser() if source else SHIPPED / shipped
    if path.is_file():
        data = _from_file(name, path)
    elif path.exists() or str(source).startswith((".", "/", "~")) or str(source).count("/") != 1:
        problem = f"there is no file {source} with the questions of {name}"
        raise EvaluationError(f"{problem}; give a .jsonl or .json file, or a hub id")
    else:
        data = _from_hub(name, str(source))
    for number, row in enumerate(data.rows):
        if missing := [column for column in needs if column not in row]:
            problem = f"row {number} of {source} has no {missing[0]!r}, so these are not the questions of {name}"
            raise EvaluationError(f"{problem}; expected columns: {', '.join(needs)}")
    return data


def _from_file(name: str, path: Path) -> Data:
    raw = path.read_bytes()
    try:
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
        is_list = text.lstrip().startswith("[")
        rows = json.loads(text) if is_list else [json.loads(line) for line in text.split("\n") if line.strip()]
    except (OSError, ValueError, EOFError) as error:
        problem = f"{path} cannot be read as questions of {name} ({error})"
        raise EvaluationError(f"{problem}; expected JSON lines or a JSON list") from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise EvaluationError(f"{path} holds no questions of {name}; expected one JSON object per line")
    source = f"shipped: {path.name}" if path.parent == SHIPPED else str(path)
    return Data(name, source, hashlib.sha256(raw).hexdigest(), tuple(rows))


def _from_hub(name: str, source: str) -> Data:
    repo, config, split = (*source.split(":", 2), "", "")[:3]
    try:
        from datasets import load_dataset

        rows = tuple(map(dict, load_dataset(repo, config or None, split=split or "test")))
    except Exception as error:  # the hub client raises dozens of kinds
        advice = "pip install 'azr-lite[eval]' and go online, give OWNER/NAME:CONFIG:SPLIT, or give a local file"
        raise EvaluationError(f"{source} cannot be fetched from the hub ({first_line(error)}); {advice}") from error
    lines = "".join(json.dumps(row, sort_keys=True, default=str) + "\n" for row in rows)
    return Data(name, f"hub: {source}", hashlib.sha256(lines.encode()).hexdigest(), rows)


@dataclass(frozen=True)
class Prompt:
    """What a model is asked. `text`: the user's message where `chat` is set (the generator puts the model's own chat
    template around it), else the prompt itself. `prefill` stands after both; the reply goes on from it. `ended`: the
    rule that ends the reply; None where only an end token does."""

    text: str
    prefill: str = ""
    chat: bool = False
    ended: Callable[[str], bool | None] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Reply:
    """One reply. `prompt`: the exact text the model saw; `text`: what it wrote, without prefill and end-of-sequence
    token, with the stop string that ended it. `truncated`: cut by the token limit."""

    prompt: str
    text: str
    tokens: int
    truncated: bool = False


def until_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """The text up to and with the first stop string in it, and whether there was one."""
    ends = [place + len(word) for word in stop if (place := text.find(word)) >= 0]
    return (text[: min(ends)], True) if ends else (text, False)


@dataclass(frozen=True)
class Extracted:
    """What of a reply counts strictly and leniently; nothing where it is empty. `reason`: why nothing, strictly."""

    strict: str
    lenient: str
    well_formed: bool
    reason: str = ""


def blocks_in(text: str) -> ParsedReply:
    """A whole text read as an answer: its fenced blocks, wherever they stand."""
    return ParsedReply("", text, tuple(read_fences(text.replace(END_ANSWER, "\n"))[0]))


@dataclass(frozen=True)
class Sampling:
    """How replies are made. `max_tokens`: of a reply. `temperature` 0: greedy. `samples`: replies to each prompt.
    `stop`: a reply ends after the first of these. `seed`: stands for all randomness."""

    max_tokens: int
    temperature: float = 0.0
    samples: int = 1
    stop: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Question:
    """One item of a suite. `group`: what is scored together (``"deduction"``); `stratum`: a finer cut, or empty."""

    id: str
    group: str
    prompt: Prompt
    stratum: str = ""


def choose(questions: Sequence[Question], items: int) -> list[Question]:
    """The first `items` of each group by the SHA-1 of their ids (0: all), in the suite's order: nobody picks."""
    groups: dict[str, list[str]] = {}
    for question in sorted(questions, key=lambda question: hashlib.sha1(question.id.encode()).digest()):
        groups.setdefault(question.group, []).append(question.id)
    kept = {id for own in groups.values() for id in own[: items or None]}
    return [question for question in questions if question.id in kept]


@dataclass(frozen=True)
class Mark:
    """The verdict on one reply. `right` is strict: the form that was asked for, and the right answer in it. `lenient`:
    whatever the form. `parts`: further verdicts (``{"base": True}`` for HumanEval beside HumanEval+)."""

    right: bool
    lenient: bool
    well_formed: bool
    reason: str = ""
    parts: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite(ABC):
    """A set of questions with one way of asking and one way of grading. `name`: of its results' files.

    `protocol`: how it is asked, extracted and graded; scores of different protocols are never compared. `samples` to
    `stop`: see `Sampling`.
    """

    name: str
    protocol: str
    _: KW_ONLY
    data: Data = Data("problems of one's own", "", "")
    samples: int = 1
    temperature: float = 0.0
    max_tokens: int = 1024
    stop: tuple[str, ...] = (END_ANSWER,)

    @abstractmethod
    def questions(self) -> list[Question]:
        """All questions, in the order of the data; ids are unique."""

    @abstractmethod
    def grade(self, replies: Sequence[tuple[Question, Reply]]) -> list[Mark]:
        """One mark per reply, same order. Any subset of the questions may come, with several replies each."""


class Generator(Protocol):
    """Whatever answers: transformers, a server, a script."""

    def describe(self) -> dict[str, Any]:
        """What is kept in every result: model, kind, number format, versions; always the same of one model."""

    def generate(self, prompts: Sequence[Prompt], how: Sampling) -> list[list[Reply]]:
        """`how.samples` replies to each prompt."""


PROTOCOLS = {"reasoning": ("azr", "assert-direct"), "code": ("evalplus", "azr")}
"""How suites can be asked. Of the reasoning suites CRUXEval alone knows ``assert-direct``."""


@dataclass(frozen=True)
class Options:
    """How a model is asked: `azr-lite eval --help` shows the same. ConfigError for what makes no sense."""

    compare: str = ""
    """A second model or run, asked the same questions: the base to compare with."""
    items: int = 0
    """Questions per suite, chosen by digest; 0: all."""
    samples: int = 0
    """Replies per question, for pass@k; 0: as the suite says (mostly one, greedy)."""
    temperature: float | None = None
    """Sampling temperature; 0: greedy; not given: as the suite says, and 0.6 for several samples."""
    max_tokens: int = 0
    """Tokens per reply; 0: as the suite says."""
    reasoning_protocol: str = "azr"
    """azr (self-play's own prompts) or assert-direct (CRUXEval as published scores ask)."""
    code_protocol: str = "evalplus"
    """evalplus (as the paper) or azr (think, then answer)."""
    output_dir: str = ""
    """Where results go; empty: the run's folder, or evals/MODEL."""
    prompts: str = "auto"
    """auto, r1, chat, file, file-working or compact."""
    device: str = "auto"
    """auto, cpu or cuda."""
    chunk: int = 16
    """Questions asked at once."""
    server: str = ""
    """URL of an OpenAI-compatible server that serves the model, such as vllm serve's."""
    seed: int = 0
    """Seed of sampling."""
    allow_weak: bool = False
    """Continue where the kernel offers no isolation."""

    def __post_init__(self) -> None:
        for name in ("items", "samples", "max_tokens"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; give 0 (the suite's own value) or more")
        if self.chunk < 1:
            raise ConfigError(f"chunk is {self.chunk}; give the number of questions asked at once, 1 or more")
        if self.temperature is not None and not 0 <= self.temperature < math.inf:
            raise ConfigError(f"temperature is {self.temperature}; give 0 (greedy) or more")
        if self.samples > 1 and self.temperature == 0:
            raise ConfigError("several greedy replies to one question are all the same; give --temperature 0.6 or so")
        for kind, known in PROTOCOLS.items():
            if (asked := getattr(self, f"{kind}_protocol")) not in known:
                raise ConfigError(f"unknown protocol {asked!r} for {kind}; choose from: {', '.join(known)}")

    def of_sampling(self) -> dict[str, Any]:
        """What replaces a suite's own settings of the same names."""
        temperature = 0.6 if self.samples > 1 and self.temperature is None else self.temperature
        chosen = {"samples": self.samples or None, "max_tokens": self.max_tokens or None, "temperature": temperature}
        return {name: value for name, value in chosen.items() if value is not None}


@dataclass(frozen=True)
class Setting:
    """What a suite is built for. `model`: the base model. `source`: a file or hub id instead of what is shipped."""

    model: str
    style: Style
    verifier: Verifier
    source: str = ""
    options: Options = Options()
