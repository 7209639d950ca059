"""The verb `eval`: words in, tables out.

Comes in: the words after the verb.  Goes out: an exit status: 0 done.
Not covered: any logic of its own.
"""

from __future__ import annotations

import dataclasses
import json

import tyro

from azr_lite.errors import ConfigError
from azr_lite.flags import parse


def evaluate(words: list[str]) -> int:
    """A model's scores, and its gain over a base."""
    from rich.console import Console

    from azr_lite.evaluation.runner import KNOWN
    from azr_lite.evaluation.runner import evaluate as ask
    from azr_lite.evaluation.tables import gain_table, notes, paper_lines, score_table

    @dataclasses.dataclass
    class Arguments:
        """Ask a model the questions of public benchmarks and of self-play; what was answered is kept, and not asked
        again."""

        model: tyro.conf.Positional[str]
        """Hub id, folder, .gguf file, nano, or a run's folder (RUN@12: its step 12, RUN@0: where it started)."""
        suite: str = "reasoning"
        """reasoning, code, math, all, or names separated by commas."""
        compare: str = ""
        """A second model or run, asked the same: the base to compare with."""
        items: int = 0
        """Questions per suite, chosen by digest; 0: all."""
        samples: int = 0
        """Replies to each question, for pass@k; 0: as the suite says (mostly one, greedy)."""
        temperature: float | None = None
        """Of sampling; 0: greedy."""
        max_tokens: int = 0
        """Tokens per reply; 0: as the suite says."""
        reasoning_protocol: str = "azr"
        """How reasoning is asked: azr (self-play's own prompts); assert or assert-direct (CRUXEval as published
        scores ask it)."""
        code_protocol: str = "evalplus"
        """How code is asked: evalplus (as the paper) or azr (think, then answer)."""
        data: tuple[str, ...] = ()
        """SUITE=FILE or SUITE=OWNER/NAME on the hub, for suites that are not shipped."""
        output_dir: str = ""
        """Where results go; empty: the run's folder, or evals/MODEL."""
        prompts: str = "auto"
        """auto, r1, chat or compact."""
        device: str = "auto"
        """auto, cpu or cuda."""
        chunk: int = 16
        """Questions asked at once."""
        server: str = ""
        """URL of an OpenAI-compatible server that serves the model."""
        vllm: bool = False
        """Generate with vLLM in this process."""
        seed: int = 0
        """Of sampling."""
        allow_weak: bool = False
        """Go on where the kernel offers no isolation."""
        json: bool = False
        """Print scores and gains as JSON."""

    if "-h" in words or "--help" in words:
        print(f"suites: {', '.join(KNOWN)}\n")
    given = dataclasses.asdict(parse(Arguments, words, "eval"))
    as_json = given.pop("json")
    for name in ("items", "samples", "max_tokens"):
        if given[name] < 0:
            raise ConfigError(f"{name} is {given[name]}; give a number, or 0: as the suite has it")
    if wrong := [pair for pair in given["data"] if "=" not in pair]:
        raise ConfigError(f"--data takes SUITE=FILE, not {wrong[0]!r}; such as: --data aime24=aime24.jsonl")
    given["data"] = dict(pair.split("=", 1) for pair in given["data"])
    console = Console(highlight=False, stderr=as_json)
    found = ask(**given, tell=lambda line: console.print(f"· {line}", markup=False, soft_wrap=True))
    if as_json:
        scores = {name: result.record for name, result in found.results.items()}
        rest = {
            "gain": found.comparison,
            "pass_at_k": found.pass_at_k,
            "left_out": found.left_out,
            "averages": found.averages,
        }
        print(json.dumps({"model": found.model, "suites": scores, **rest}, indent=1))
        return 0
    console.print(score_table(found))
    if found.base is not None:
        console.print(gain_table(found))
    if lines := paper_lines(found):
        console.print(lines, markup=False, soft_wrap=True)
    for line in notes(found):
        console.print(f"· {line}", markup=False, soft_wrap=True)
    return 0
