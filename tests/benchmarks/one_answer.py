"""A task has one answer: how many programs that have several are accepted, what that costs, and which facts it loses.

`python -m tests.benchmarks.one_answer --data ../shared/data/azr_seeds --before ../base --json` measures

* of 1,000 programs whose result hangs on order, hash, identity or chance: how many pass validation (at most 1 %)
* of the authors' stored facts: accepted by the checkout `before` and, against their oracle, rejected now (none)
* wall and CPU seconds of validating the authors' programs, as a ratio to that checkout, in turns
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from azr_lite.parsing import parse_arguments, parse_program
from azr_lite.sandbox import Executor
from azr_lite.triplet import Rejection

Item = tuple[str, tuple[tuple[Any, ...], ...]]
ROOT: Final = Path(__file__).parents[2]
SHARE: Final = 0.01

_CLASS: Final = "class C:\n    pass\n"
_STATISTICS: Final = "import statistics\n"
KINDS: Final[dict[str, tuple[str, ...]]] = {
    "set of two strings": (
        "def f(a, b):\n    return list({a, b})",
        "def f(a, b):\n    return next(iter({a, b}))",
        "def f(a, b):\n    return ''.join(set([a, b]))",
        "def f(a, b):\n    words = frozenset((a, b))\n    return max(words, key=lambda w: 0)",
        "def f(a, b):\n    seen = set()\n    seen.add(a)\n    seen.add(b)\n    return seen.pop()",
    ),
    "set nested in an input": (
        "def f(d):\n    return [list(s) for s in d['k']]",
        "def f(d):\n    return next(iter(d['k'][0]))",
        "def f(d):\n    return ' '.join(d['k'][0])",
    ),
    "views of dicts": (
        "def f(a, b):\n    return list({a: 1, b: 2, 'z': 3}.items() & {a: 1, b: 2}.items())",
        "def f(a, b):\n    return [*({a: 1, b: 2}.keys() & {b: 3, a: 4})][0]",
        "def f(a, b):\n    d = {a: 1, b: 2}\n    return list(d.keys() | {}.keys())",
        "def f(a, b):\n    return list(dict.keys({a: 1, b: 2}) ^ {'q': 0}.keys())[:1]",
    ),
    "hashes": (
        "def f(a, b):\n    return a.__hash__() % 2",
        "def f(a, b):\n    return hash(a + b) % 2",
        "def f(a, b):\n    return hash((a, 1)) & 4 == 0",
        "def f(a, b):\n    return getattr(a, '__ha' + 'sh__')() % 2 == 1",
        "import operator\ndef f(a, b):\n    return operator.methodcaller('__ha' + 'sh__')(b) > 0",
    ),
    "identity": (
        "def f(a, b):\n    return id([a]) // 65536 % 2",
        "def f(a, b):\n    return id(f) >> 20 & 1",
        f"{_CLASS}def f(a, b):\n    return hash(C()) // 4096 % 2",
        "def f(a, b):\n    return id(a + b) // 2**24 % 3",
    ),
    "text of an object": (
        "def f(a, b):\n    return repr(object())[-6]",
        "def f(a, b):\n    return str(f)[-7] in '01234567'",
        f"{_CLASS}def f(a, b):\n    return f'{{C()}}'[-7] < '8'",
        "def f(a, b):\n    return '%s' % (lambda: a) > '<function f.<locals>.<lambda> at 0x7f8'",
        "def f(a, b):\n    return '{0.upper}'.format(a)[-7]",
        "def f(a, b):\n    return str(map(len, a))[-7] < '8'",
    ),
    "chance by attribute": (
        f"{_STATISTICS}def f(a, b):\n    return statistics.random.random() < 0.5",
        f"{_STATISTICS}def f(a, b):\n    return statistics.random.choice([a, b])",
        f"{_STATISTICS}def f(a, b):\n    return statistics.NormalDist(0, 1).samples(1)[0] > 0",
        f"{_STATISTICS}def f(a, b):\n    return statistics.random.getrandbits(1)",
    ),
}


def lotteries(count: int, seed: int = 0) -> list[tuple[str, Item]]:
    """`count` programs with their kind and one input of random words each."""
    rng = random.Random(seed)

    def word() -> str:
        return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9)))

    found = []
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        program = rng.choice(KINDS[kind])
        pair = word(), word()
        given = ({"k": [set(pair)], "n": [1, (2,)]},) if kind == "set nested in an input" else pair
        found.append((kind, (program, (given,))))
    return found


def accepted(executor: Executor, count: int, seed: int = 0) -> dict[str, int]:
    """How many of `count` lotteries pass, by kind."""
    drawn = lotteries(count, seed)
    found = executor.validate_many([item for _, item in drawn])
    passed = Counter(kind for (kind, _), validation in zip(drawn, found, strict=True) if validation.ok)
    return {kind: passed[kind] for kind in KINDS}


def facts(folder: Path) -> dict[str, Item]:
    """The authors' stored facts that can be read: "file row pair" to a program and one argument tuple."""
    found: dict[str, Item] = {}
    for path in sorted(folder.glob("*_seed_io.jsonl")):
        for number, line in enumerate(path.read_text().splitlines()):
            row = json.loads(line)
            program = parse_program("\n".join([*row["imports"], row["snippet"]]), 20_000)
            for pair, text in enumerate(row.get("inputs") or [row["input"]]):
                arguments = parse_arguments(text, 4096)
                if not isinstance(program, Rejection) and not isinstance(arguments, Rejection):
                    found[f"{path.name} {number} {pair}"] = program, (arguments,)
    return found


def validate_facts(folder: Path) -> list[str]:
    """The keys of the facts that are accepted."""
    own = facts(folder)
    with Executor(workers=1) as executor:
        found = executor.validate_many(list(own.values()))
    return [key for key, validation in zip(own, found, strict=True) if validation.ok]


def cost(folder: Path) -> dict[str, float]:
    """Wall and CPU seconds (with every process's) of validating each of the authors' programs on its first inputs."""
    items: dict[str, Item] = {}
    for program, inputs in facts(folder).values():
        items[program] = program, (*items.get(program, ("", ()))[1], *inputs)[:10]
    started, before = time.perf_counter(), sum(os.times()[:4])
    with Executor(workers=1) as executor:
        executor.validate("def f(x): return list({x})", [("a",)])
        wall = time.perf_counter()
        executor.validate_many(list(items.values()))
        wall = time.perf_counter() - wall
        children = executor.stats()["children"]
    after = sum(os.times()[:4])
    return {"wall": wall, "cpu": after - before, "children": children, "whole": time.perf_counter() - started}


def _elsewhere(checkout: Path, what: str, folder: Path) -> Any:
    """`validate_facts` or `cost` by the package of another checkout, in a process of its own."""
    code = (
        "import importlib.util, json, pathlib, sys\n"
        f"spec = importlib.util.spec_from_file_location('one_answer', {__file__!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        f"print(json.dumps(module.{what}(pathlib.Path({str(folder.resolve())!r}))))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd="/", stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


def measure(count: int, data: Path | None, before: Path | None, repeats: int) -> dict[str, Any]:
    with Executor(workers=1) as executor:
        passed = accepted(executor, count)
    result: dict[str, Any] = {
        "lotteries": count,
        "accepted": sum(passed.values()),
        "accepted_by_kind": passed,
        "load": os.getloadavg()[0],
    }
    if data and before:
        old, new = set(_elsewhere(before, "validate_facts", data)), set(_elsewhere(ROOT, "validate_facts", data))
        rows = map(json.loads, (data / "oracle.jsonl").read_text().splitlines())
        right = {f"{row['file']} {row['row']} {row['pair'] or 0}" for row in rows if row["verdict"] == "accept"}
        result["facts"] = {
            "readable": len(facts(data)),
            "accepted_before": len(old),
            "accepted_now": len(new),
            "lost": sorted((old - new) & right),
            "rightly_refused_now": sorted(old - new - right),
            "won": sorted(new - old),
        }
        runs = [(_elsewhere(before, "cost", data), _elsewhere(ROOT, "cost", data)) for _ in range(repeats)]
        result["cost"] = {
            "seconds_before": [old for old, _ in runs],
            "seconds_now": [new for _, new in runs],
            "ratio": {
                name: statistics.median(new[name] / old[name] for old, new in runs)
                for name in ("wall", "cpu", "children")
            },
        }
    result["ok"] = result["accepted"] <= SHARE * count and not result.get("facts", {}).get("lost")
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="programs with several answers")
    parser.add_argument("--data", type=Path, help="folder of the authors' seeds")
    parser.add_argument("--before", type=Path, help="a checkout to compare with")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions of the cost")
    given = parser.parse_args()
    head = {
        "command": " ".join(["python -m tests.benchmarks.one_answer", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "cores": os.cpu_count(),
    }
    result = measure(given.count, given.data, given.before, given.repeats)
    print(json.dumps({**head, **result}, indent=1))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
