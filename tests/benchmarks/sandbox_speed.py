"""What the sandbox's isolation costs, measured against its alternatives in the same run, with the bars it must meet.

    python -m tests.benchmarks.sandbox_speed [--repeats 7] [--data FOLDER] [--soak 20000] [--json]

Absolute numbers mean little on a busy machine, so the bars are ratios of measurements taken in turns: each repetition's
ratio is formed first, then the median. CPU is user and system time of the whole process tree. Exit status 1: a bar was
missed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from azr_lite.environment import describe_environment
from azr_lite.sandbox import wire
from azr_lite.sandbox.executor import Executor
from azr_lite.sandbox.literal import LiteralError, read_arguments
from azr_lite.sandbox.outcome import Job, Limits

EVERYTHING: Final = "no_new_privs,own_uid,namespaces,empty_root,landlock,no_capabilities,seccomp"
PROGRAMS: Final = tuple(
    f"def f(text, n={k}):\n    counts = {{}}\n    for c in text:\n        counts[c] = counts.get(c, 0) + n\n"
    f"    pairs = sorted(counts.items())\n    return [pairs[:{k + 2}], ''.join(c for c, _ in pairs), sum(counts.values()) % 97]\n"
    for k in range(1, 9)
)
INPUTS: Final = tuple((f"the quick brown fox {i} jumps over the lazy dog",) for i in range(64))
SEEDS: Final = ("14b_code_f_seed_io.jsonl", "7b_code_f_seed_io.jsonl", "7b_coder_code_f_seed_io.jsonl")
SINGLES: Final = "single"
FLOOR: Final = "single, all layers, x the CPU of a bare fork + exit"
AIMS: Final = {FLOOR}
"""Shown, and not failed on: not reached. A prepared interpreter's child dirties 230 pages before its first answer; a
bare one 66."""

_FOLDER: Final = str(Path(wire.__file__).parent)
_BARE: Final = "import sys\nspace = {}\nexec(sys.argv[1], space)\nsys.stdout.write(repr(space['f'](sys.argv[2])))"
_FRESH: Final = f"""import os, sys
sys.path.insert(0, {_FOLDER!r})
import harness
harness._BUILTINS.update(vars(harness.builtins), __import__=harness._guarded_import)
harness.serve(sys.stdin.buffer.read(), lambda line: os.write(1, line))
"""
_FORK: Final = """import os, sys, time
for name in sys.argv[2:]:
    __import__(name)
n = int(sys.argv[1])
wall, cpu = time.perf_counter(), time.process_time()
before = os.times()
for _ in range(n):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
after = os.times()
print(time.perf_counter() - wall, sum(after[:4]) - sum(before[:4]))
"""


class _Meter:
    """Wall and CPU seconds of a call, for each of its checks: this process, the fork servers' clocks, and what their
    children used."""

    def __init__(self, executor: Executor | None = None) -> None:
        self.pids = (
            [pid for zygote in executor._engine._zygotes for pid in _below(zygote.process.pid)] if executor else []
        )

    def _cpu(self) -> float:
        return time.process_time() + sum(time.clock_gettime((~pid << 3) | 2) for pid in self.pids)

    def measure(self, work: Callable[[], tuple[int, float]]) -> tuple[float, float]:
        """`work` gives how many checks it made and the CPU seconds of its children."""
        cpu, wall = self._cpu(), time.perf_counter()
        checks, children = work()
        return (time.perf_counter() - wall) / checks, (self._cpu() - cpu + children) / checks


def _below(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += _below(int(child))
    return found


def _fresh(code: str) -> tuple[float, float]:
    before, wall = os.times(), time.perf_counter()
    for program, inputs in zip(PROGRAMS, INPUTS, strict=False):
        request = json.dumps([program, "f", [wire.encode_arguments(inputs)], 1000, False]).encode()
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", code, program, *inputs], input=request, capture_output=True, check=True
        )
    after = os.times()
    return (time.perf_counter() - wall) / len(PROGRAMS), (sum(after[:4]) - sum(before[:4])) / len(PROGRAMS)


def _bare_fork() -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-s", "-S", "-P", "-B", "-c", _FORK, "400"], capture_output=True, check=True, text=True
    )
    wall, cpu = map(float, done.stdout.split())
    return wall / 400, cpu / 400


def _in_process() -> tuple[float, float]:
    def work() -> tuple[int, float]:
        for _ in range(16):
            for program in PROGRAMS:
                space: dict[str, Any] = {}
                exec(compile(program, "<bench>", "exec"), space)  # our own eight programs, the limit of "no isolation"
                wire.decode(wire.encode(space["f"](*wire.parse(wire.encode_arguments(INPUTS[0])))))
        return 128, 0.0

    return _Meter().measure(work)


def _batches(executor: Executor, size: int) -> tuple[float, float]:
    def work() -> tuple[int, float]:
        rounds, children = max(8, 96 // size), 0.0
        for i in range(rounds):
            outcomes = executor.run(PROGRAMS[i % 8], INPUTS[i % 64 : i % 64 + 1] if size == 1 else INPUTS[:size])
            assert all(outcome.ok for outcome in outcomes)
            children += sum(outcome.cpu_ms for outcome in outcomes) / 1000
        return rounds * size, children

    return _Meter(executor).measure(work)


def _start() -> float:
    began = time.perf_counter()
    with Executor(workers=1) as executor:
        executor.run(PROGRAMS[0], [INPUTS[0]])
        return time.perf_counter() - began


def _trainer_cpu(executor: Executor) -> float:
    """CPU of this process alone for an execution of its own (`run_many` of singles)."""
    jobs = [Job(PROGRAMS[i % 8], (INPUTS[i % 64],)) for i in range(256)]
    began = time.process_time()
    executor.run_many(jobs)
    return (time.process_time() - began) / len(jobs)


def bench(repeats: int = 7, data: Path | None = None) -> dict[str, Any]:
    """Measure everything in turns. `data`: the folder `azr_seeds` for the training step (else made-up programs). About
    20 s."""
    series: dict[str, list[tuple[float, float]]] = {}
    trainer, starts, steps = [], [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with Executor(workers=1) as full, Executor(workers=1, allow_weak=True, _skip=EVERYTHING) as plain:
            designs: dict[str, Callable[[], tuple[float, float]]] = {
                "fresh_bare": lambda: _fresh(_BARE),
                "fresh": lambda: _fresh(_FRESH),
                "rlimits_only": lambda: _batches(plain, 1),
                SINGLES: lambda: _batches(full, 1),
                "batch_10": lambda: _batches(full, 10),
                "batch_16": lambda: _batches(full, 16),
                "batch_64": lambda: _batches(full, 64),
                "in_process": _in_process,
                "bare_fork": _bare_fork,
            }
            for design in designs.values():
                design()
            names = list(designs)
            for _ in range(repeats):
                random.shuffle(names)
                gc.collect()
                for name in names:
                    series.setdefault(name, []).append(designs[name]())
                trainer.append(_trainer_cpu(full))
                starts.append(_start())
            level = full.level.name
    for _ in range(min(3, repeats)):
        steps.append(training_step(data)["seconds"])
    result: dict[str, Any] = {
        "level": level,
        "repeats": repeats,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "ms": {
            name: {"wall": _spread([1000 * w for w, _ in rows]), "cpu": _spread([1000 * c for _, c in rows])}
            for name, rows in series.items()
        },
        "trainer_cpu_ms": _spread([1000 * t for t in trainer]),
        "start_s": _spread(starts),
        "training_step_s": _spread(steps),
        "training_step": training_step_size(data),
    }
    result["bars"] = _bars(series, result)
    result["ok"] = all(bar["pass"] for bar in result["bars"] if not bar["aim"])
    return result


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def _bars(series: dict[str, list[tuple[float, float]]], result: dict[str, Any]) -> list[dict[str, Any]]:
    def ratio(over: str, under: str, which: int) -> float:
        return statistics.median(
            a[which] / max(b[which], 1e-9) for a, b in zip(series[over], series[under], strict=True)
        )

    wall, cpu = 0, 1
    rows = [
        ("single, all layers, x faster than fresh Python (wall)", ratio("fresh", SINGLES, wall), ">=", 6.0),
        ("single, all layers, x cheaper than fresh Python (CPU)", ratio("fresh", SINGLES, cpu), ">=", 7.0),
        ("batch of 16, x faster a check than fresh Python (wall)", ratio("fresh", "batch_16", wall), ">=", 60.0),
        ("batch of 16, x cheaper a check than fresh Python (CPU)", ratio("fresh", "batch_16", cpu), ">=", 60.0),
        ("batch of 64, x the CPU a check of no isolation at all", ratio("batch_64", "in_process", cpu), "<=", 1.5),
        ("all layers, x the CPU of rlimits only", ratio(SINGLES, "rlimits_only", cpu), "<=", 1.25),
        (FLOOR, ratio(SINGLES, "bare_fork", cpu), "<=", 3.5),
        ("trainer's CPU an execution, ms", result["trainer_cpu_ms"]["median"], "<=", 0.4),
        ("start to first answer, s", result["start_s"]["median"], "<=", 0.3),
        ("a training step of the paper's size, s", result["training_step_s"]["median"], "<=", 5.0),
    ]
    return [
        {
            "name": name,
            "value": value,
            "bar": f"{sign} {bar:g}",
            "pass": value >= bar if sign == ">=" else value <= bar,
            "aim": name in AIMS,
        }
        for name, value, sign, bar in rows
    ]


def table(result: dict[str, Any]) -> str:
    """The result for people, 80 columns wide."""
    lines = [
        f"level {result['level']}, {result['cores']} cores, load {result['load']:.1f}, medians of {result['repeats']} repetitions",
        "",
        f"  {'ms a check':12}  {'wall':>8}  {'low - high':>16}   {'CPU':>8}  {'low - high':>16}",
    ]
    for name, both in result["ms"].items():
        cells = [f"{b['median']:8.3f}  {b['low']:7.3f} -{b['high']:7.3f}" for b in both.values()]
        lines.append(f"  {name:12}  {'   '.join(cells)}")
    size = result["training_step"]
    lines += ["", f"training step: {size['checks']} checks of {size['programs']} {size['source']}", ""]
    lines += [
        f"  {'pass' if bar['pass'] else 'aim ' if bar['aim'] else 'FAIL'} {bar['value']:8.2f} {bar['bar']:>7}  {bar['name']}"
        for bar in result["bars"]
    ]
    return "\n".join(lines)


def _corpus(data: Path | None) -> tuple[list[tuple[str, tuple[tuple[Any, ...], ...]]], str]:
    """Programs with up to ten argument tuples each."""
    found: dict[str, tuple[tuple[Any, ...], ...]] = {}
    for name in SEEDS if data else ():
        assert data is not None
        for line in (data / name).read_text().splitlines():
            row = json.loads(line)
            inputs = []
            for text in row["inputs"]:
                try:
                    inputs.append(read_arguments(text))
                except LiteralError:
                    continue
            if len(inputs) >= 6:
                found.setdefault(row["snippet"], tuple(inputs[:10]))
    if found:
        return list(found.items()), "recorded programs"
    return [(f"{program}# {i}\n", INPUTS[i : i + 10]) for i in range(24) for program in PROGRAMS], "made-up programs"


def _step(data: Path | None) -> tuple[list[tuple[str, Any]], list[Job], str]:
    """What one step of B = 64 tasks and n = 8 rollouts asks: 3 x 64 proposals to validate in two worlds (10 inputs for
    induction), 64 x 8 abduction candidates a child each, 64 x 8 induction answers on five hidden inputs; deduction runs
    nothing."""
    corpus, source = _corpus(data)
    rng = random.Random(0)
    pick = [corpus[rng.randrange(len(corpus))] for _ in range(3 * 64)]
    items: list[tuple[str, Any]] = [
        (program, inputs if i % 3 == 0 else inputs[:1]) for i, (program, inputs) in enumerate(pick)
    ]
    jobs = [Job(f"{program}\n# {k}", (inputs[k % len(inputs)],)) for program, inputs in pick[:64] for k in range(8)]
    jobs += [Job(f"{program}\n# {k}", inputs[:5]) for program, inputs in pick[64:128] for k in range(8)]
    return items, jobs, source


def training_step_size(data: Path | None = None) -> dict[str, Any]:
    """How many checks and programs one training step has here."""
    items, jobs, source = _step(data)
    checks = 2 * sum(len(inputs) for _, inputs in items) + sum(len(job.inputs) for job in jobs)
    return {"checks": checks, "programs": len(items) + len(jobs), "source": source}


def training_step(data: Path | None = None, workers: int | None = None) -> dict[str, Any]:
    """Run one training step's work; seconds and outcome kinds."""
    items, jobs, _ = _step(data)
    with Executor(workers=workers) as executor:
        executor.validate(PROGRAMS[0], INPUTS[:1])
        began = time.perf_counter()
        executor.validate_many(items)
        executor.run_many(jobs)
        return {"seconds": time.perf_counter() - began, "kinds": executor.stats()}


HOSTILE: Final = (
    "def f(x):\n    while True: pass",
    "def f(x): return 'a' * 10**10",
    "import statistics\ndef f(x): return statistics.mean.__globals__['sys'].modules['posix'].fork()",
    "import statistics\ndef f(x): statistics.mean.__globals__['sys'].modules['posix'].write(3, b'x' * 99); return 1",
    "import statistics\ndef f(x): statistics.mean.__globals__['sys'].modules['posix']._exit(0)",
)


def soak(executions: int = 20_000) -> dict[str, Any]:
    """Many executions, one in twenty hostile: memory, descriptors, zombies, and the speed at the end against that at
    the start."""
    rng = random.Random(0)
    limits = Limits(cpu_s=0.1, wall_factor=20)
    started = time.perf_counter()
    with Executor(limits, workers=1) as executor:
        chunk = max(1, executions // 10)
        executor.run_many(
            [Job(PROGRAMS[i % 8], (INPUTS[i % 64],)) for i in range(chunk)]
        )  # a wave's own memory is no growth
        gc.collect()
        memory, descriptors, wrong = _memory_mb(), len(os.listdir("/proc/self/fd")), 0
        rates: list[float] = []
        held: list[float] = []
        for begin in range(0, executions, chunk):
            kinds = [rng.random() < 0.05 for _ in range(chunk)]
            jobs = [
                Job(rng.choice(HOSTILE) if bad else PROGRAMS[i % 8], (INPUTS[i % 64],), limits=limits)
                for i, bad in enumerate(kinds, begin)
            ]
            began = time.perf_counter()
            found = executor.run_many(jobs)
            rates.append(sum(not bad for bad in kinds) / (time.perf_counter() - began))
            wrong += sum(outcomes[0].ok == bad for outcomes, bad in zip(found, kinds, strict=True))
            held.append(round(_memory_mb(), 1))
        del found, jobs
        gc.collect()
        zombies = sum(
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
            for zygote in executor._engine._zygotes
            for pid in _below(zygote.process.pid)
        )
        result: dict[str, Any] = {
            "executions": executions,
            "seconds": time.perf_counter() - started,
            "wrong": wrong,
            "memory_grown_mb": _memory_mb() - memory,
            "memory_mb": held,
            "descriptors_grown": len(os.listdir("/proc/self/fd")) - descriptors,
            "zombies": zombies,
            "speed_end_over_start": statistics.mean(rates[-3:]) / statistics.mean(rates[:3]),
            "load": os.getloadavg()[0],
        }
    nothing = not (result["wrong"] or result["descriptors_grown"] or result["zombies"])
    result["ok"] = nothing and result["memory_grown_mb"] <= 5 and result["speed_end_over_start"] >= 0.9
    return result


def _memory_mb() -> float:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="repetitions of each measurement")
    parser.add_argument(
        "--data", type=Path, help="folder of recorded seed programs for the step; else they are made up"
    )
    parser.add_argument(
        "--soak", type=int, default=0, help="instead, so many executions: do memory, descriptors and speed stay?"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args()
    for name, least in (("repeats", 1), ("soak", 0)):
        if getattr(given, name) < least:
            parser.error(f"--{name} is {getattr(given, name)}; give {least} or more")
    result = soak(given.soak) if given.soak else bench(given.repeats, given.data)
    if given.json:
        facts = {
            "command": " ".join(["python", *sys.argv]),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "environment": describe_environment(),
        }
        print(json.dumps({**facts, **result}, indent=1))
    else:
        print("\n".join(f"{name}: {value}" for name, value in result.items()) if given.soak else table(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
