"""Does self-play teach a real language model? Evaluates a run or the untrained model, compares, draws. (`docs/explanation/real_model.md`)

    python -m tests.benchmarks.real_model train "shuffled rewards" -- run --preset cpu-0.5b --seed 0 --output-dir runs/x
    python -m tests.benchmarks.real_model eval /work/models/qwen05 --out data_samples/benchmarks/real/untrained.json
    python -m tests.benchmarks.real_model eval runs/x@40 --out data_samples/benchmarks/real/x.json
    python -m tests.benchmarks.real_model compare untrained.json seed0.json seed1.json seed2.json --out comparison.json
    python -m tests.benchmarks.real_model picture --arm self-play runs/seed0 runs/seed1 --json data_samples/benchmarks/real
    python -m tests.benchmarks.real_model replies untrained.json seed0.json --count 3
    python -m tests.benchmarks.real_model curriculum runs/seed0 runs/no-kl --steps 11 15 --out ablation.json

One process, one thread. Whole replies stay under evals/; a broken evaluation goes on where it stopped.
Letters that end an array's name: S seeds, I questions.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from azr_lite.buffer import normal_form
from azr_lite.environment import describe_environment
from azr_lite.evaluation.reasoning import ReasoningSuite
from azr_lite.evaluation.scores import SEED, Item, mcnemar
from azr_lite.parsing import parse_arguments
from azr_lite.prompts import get_style
from azr_lite.rundir import RunDir, write_json
from azr_lite.triplet import Reason, Rules, Task
from azr_lite.verifier import Verifier
from tests.benchmarks.real_model_sets import SETS, chance, suites

MEASURES = {"strict": "s", "lenient": "l", "well formed": "f", "skill": "s"}
"""Measure to the mark that it counts. ``skill``: strict, of the questions well formed before and after."""
DRAWS, REPLY_CHARS = 10_000, 80

Record = dict[str, Any]
"""What `eval` writes: the model, and each set's items as ``"slf TOKENS REPLY"``; a mark that is not earned is ``-``."""

# ---------------------------------------------------------------- evaluating


def evaluate(named: str, prompts: str, names: Sequence[str], limit: int, chunk: int) -> Record:
    """Ask a model (or ``RUN@STEP``) the questions of these sets, greedily; `limit`: questions per set, 0 for all."""
    import torch

    from azr_lite.evaluation.generators import open_model
    from azr_lite.evaluation.runner import run_suite
    from azr_lite.sandbox import Executor

    torch.set_num_threads(1)
    opened = open_model(named, prompts=prompts)
    run = Path(named.partition("@")[0])
    run = run if (run / "run.json").exists() else None
    step = int(opened.generator.name.rpartition("@")[2]) if run else 0
    folder = Path("evals") / "-".join(Path(opened.generator.name).parts[-2:])
    found: Record = {"model": opened.model, "run": run.name if run else "", "step": step, "sets": {}}
    found |= {"generator": opened.generator.describe(), "environment": describe_environment(), "chunk": chunk}
    with Executor() as executor:
        for name, suite in suites(opened.style, Verifier(executor, Rules()), names).items():
            result = run_suite(opened.generator, suite, folder, items=limit, chunk=chunk)
            found["sets"][name] = own = {
                "data": suite.data.describe(),
                "protocol": suite.protocol,
                "n": len(result.items),
                "strict": sum(item.right for item in result.items),
                "lenient": sum(item.lenient for item in result.items),
                "well_formed": sum(is_literal(item) for item in result.items),
                "tokens": sum(item.tokens for item in result.items),
                "seconds": result.record["seconds"],
                "seen_in_training": seen_in_training(run, suite, step) if run else [],
                **({} if run else {"chance": chance(suite)}),
                "items": {item.id: as_text(item) for item in result.items},
            }
            print(
                name, *(f"{key} {own[key]}" for key in ("n", "strict", "lenient", "well_formed", "seconds")), flush=True
            )
    return found


UNREAD = {Reason.NO_ANSWER, Reason.SEVERAL, Reason.TOO_LONG, Reason.ANSWER_NOT_LITERAL, Reason.MARKUP}
"""The form was kept, but there is no literal in it: such a reply is not counted as well formed here."""


def as_text(item: Item) -> str:
    marks = "".join(
        letter if got else "-" for letter, got in zip("slf", (item.right, item.lenient, is_literal(item)), strict=True)
    )
    return f"{marks} {item.tokens} {item.text[:REPLY_CHARS]}"


def is_literal(item: Item) -> bool:
    """Whether the answer could be read, right or wrong."""
    return item.well_formed and item.reason not in UNREAD


def seen_in_training(run: Path, suite: ReasoningSuite, step: int) -> list[str]:
    """Ids of the questions whose program, whatever its spelling and input, was a valid proposal of the run up to `step`."""
    proposed = {
        normal_form(line["task"]["program"])
        for line in RunDir.open(run).read("tasks.jsonl")
        if line["ok"] and line["step"] < step
    }
    return [task.id for _, task in suite.problems if normal_form(task.program) in proposed]


# ---------------------------------------------------------------- comparing


def differences(before: Record, afters: Sequence[Record], name: str, measure: str) -> tuple[np.ndarray, np.ndarray]:
    """Marks before and after, each of shape (S, I): 1, 0, or NaN where a question does not count for that seed.

    Not counted: questions whose program the run was trained on; for ``skill``, those not well formed both times.
    """
    old, letter = before["sets"][name]["items"], MEASURES[measure]
    sides: tuple[list[list[float]], list[list[float]]] = ([], [])
    for after in afters:
        new, seen = after["sets"][name]["items"], set(after["sets"][name]["seen_in_training"])
        if new.keys() != old.keys():
            raise SystemExit(
                f"the two evaluations asked different questions of {name}; evaluate both with the same --limit"
            )
        for side, own in zip(sides, (old, new), strict=True):
            counts = [
                id not in seen and (measure != "skill" or ("f" in old[id][:3] and "f" in new[id][:3])) for id in old
            ]
            side.append(
                [float(letter in own[id][:3]) if counted else np.nan for id, counted in zip(old, counts, strict=True)]
            )
    return np.array(sides[0]), np.array(sides[1])


def paired(before_SI: np.ndarray, after_SI: np.ndarray, draws: int = DRAWS) -> Record:
    """The gain over seeds that share their questions.

    `gain`: mean over seeds of the mean difference, in points; `low`, `high`: 95 % percentile bootstrap that draws seeds
    and questions, both with replacement. `gained`, `lost`, `p`: (seed, question) pairs that changed, exact McNemar; it
    takes a question's seeds for independent. `p_questions` does not: each question counts once, by the sign of its sum
    over the seeds (exact sign test). `seeds`: the same numbers of each seed alone.
    """
    change_SI = after_SI - before_SI
    rng, (seeds, questions) = np.random.default_rng(SEED), change_SI.shape
    counts_SI, filled_SI = ~np.isnan(change_SI), np.nan_to_num(change_SI)
    means = []
    for _ in range(draws):
        times_S = np.bincount(rng.integers(seeds, size=seeds), minlength=seeds)
        times_I = np.bincount(rng.integers(questions, size=questions), minlength=questions)
        means.append(times_S @ (filled_SI @ times_I / np.maximum(counts_SI @ times_I, 1)) / seeds)
    low, high = np.quantile(means, [0.025, 0.975])
    sums_I = filled_SI.sum(0)
    each = [_one_seed(before, after) for before, after in zip(before_SI, after_SI, strict=True)]
    total = {key: sum(seed[key] for seed in each) for key in ("n", "before", "after", "gained", "lost")}
    return {
        **total,
        "gain": float(np.mean([seed["gain"] for seed in each])),
        "low": float(100 * low),
        "high": float(100 * high),
        "p": mcnemar(total["gained"], total["lost"]),
        "p_questions": mcnemar(int((sums_I > 0).sum()), int((sums_I < 0).sum())),
        "seeds": each,
    }


def _one_seed(before_I: np.ndarray, after_I: np.ndarray) -> Record:
    counted = ~np.isnan(after_I - before_I)
    if not counted.any():
        raise SystemExit("no question counts for one of the seeds; ask more questions")
    was, now = before_I[counted], after_I[counted]
    found = {"n": int(counted.sum()), "before": int(was.sum()), "after": int(now.sum())}
    found |= {"gained": int((now > was).sum()), "lost": int((now < was).sum())}
    return {**found, "gain": 100 * float((now - was).mean()), "p": mcnemar(found["gained"], found["lost"])}


def compare(before: Record, afters: Sequence[Record]) -> Record:
    """Set to measure to `paired`, for the sets that all evaluations have."""
    names = [name for name in before["sets"] if all(name in after["sets"] for after in afters)]
    return {
        name: {measure: paired(*differences(before, afters, name, measure)) for measure in MEASURES} for name in names
    }


def markdown(found: Record) -> str:
    """The table of `compare`: of numbers of questions, the sum over the seeds."""
    lines = [
        "| set | measure | n | before | after | gain, points | gained / lost | p | p by question | by seed |",
        "|" + "---|" * 10,
    ]
    for name, measures in found.items():
        for measure, row in measures.items():
            rates = [f"{row[side]} ({100 * row[side] / max(row['n'], 1):.1f} %)" for side in ("before", "after")]
            gain = f"{row['gain']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]"
            chances = [f"{row[key]:.2g}" for key in ("p", "p_questions")]
            each = ", ".join(f"{seed['gain']:+.1f}" for seed in row["seeds"])
            cells = [name, measure, row["n"], *rates, gain, f"{row['gained']} / {row['lost']}", *chances, each]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


# ---------------------------------------------------------------- the picture


def picture(arms: dict[str, Sequence[Path]], evaluations: Sequence[Record], file: Path) -> None:
    """Valid proposals, learnable tasks and reply length by step, and what every held-out set gained (strict).

    `arms`: runs by name, one per seed. Lines are means over an arm's runs, bands their range. Gains are those of each
    run's last evaluated step over the untrained model, with the 95 % interval of `paired`.
    """
    from azr_lite.observe.style import figure, look, png, style

    made, axes = figure(2, 2, (9.0, 6.4))
    untrained = next(record for record in evaluations if not record["run"])
    sets = list(untrained["sets"])
    with style():
        for place, (arm, paths) in enumerate(arms.items()):
            own = look(arm, place)
            label = f"{arm}, {len(paths)} seed{'s' * (len(paths) > 1)}"
            for axis, series in zip(axes, SERIES.values(), strict=False):
                rows = [series(path) for path in paths]
                steps = range(1, min(map(len, rows)) + 1)
                values_SX = np.array([row[: len(steps)] for row in rows])
                axis.plot(steps, values_SX.mean(0), color=own.colour, linestyle=(0, own.dash), label=label)
                if len(rows) > 1:
                    axis.fill_between(steps, values_SX.min(0), values_SX.max(0), color=own.colour, alpha=0.18, lw=0)
            last = [
                max((record for record in evaluations if record["run"] == path.name), key=lambda one: one["step"])
                for path in paths
                if any(record["run"] == path.name for record in evaluations)
            ]
            shown = [name for name in sets if last and all(name in record["sets"] for record in last)]
            gains = [paired(*differences(untrained, last, name, "strict")) for name in shown]
            axes[3].errorbar(
                [one["gain"] for one in gains],
                [sets.index(name) + 0.22 * (place - (len(arms) - 1) / 2) for name in shown],
                xerr=[[max(0.0, one["gain"] - one["low"]) for one in gains], [max(0.0, one["high"] - one["gain"]) for one in gains]],
                color=own.colour, marker=own.marker, linestyle="none", capsize=3, label=label,
            )  # fmt: skip
        for axis, title in zip(axes, (*SERIES, "Gain on held-out questions, points"), strict=True):
            axis.set_title(title)
            axis.set_xlabel("self-play step")
            axis.set_ylim(bottom=0)
        axes[0].set_ylim(0, 100)
        axes[3].set_xlabel("after the last step, against the untrained model; bars: 95 %")
        axes[3].axvline(0, color="#444444", linewidth=1)
        axes[3].set_yticks(range(len(sets)), sets)
        axes[3].set_ylim(len(sets) - 0.5, -0.5)
        axes[3].grid(axis="x")
        made.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(arms))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(png(made))


def valid_share(run: Path) -> list[float]:
    """Per step, percent of the proposals that are valid, over all task types."""
    return [100 * float(np.mean(_of_types(line, "propose", "ok"))) for line in RunDir.open(run).metrics()]


def learnable_tasks(run: Path) -> list[float]:
    """Per step, the valid proposals that were solved sometimes, but not always."""
    found = RunDir.open(run)
    counts = [[_of_types(line, "propose", number) for number in ("ok", "learnable")] for line in found.metrics()]
    return [found.config().batch_size * float(np.dot(*both)) for both in counts]


def reply_tokens(run: Path) -> list[float]:
    """Per step, tokens of a solver's reply, mean over the task types."""
    return [float(np.mean(_of_types(line, "solve", "tokens"))) for line in RunDir.open(run).metrics()]


SERIES = {
    "Valid proposals, %": valid_share,
    "Learnable tasks per step (0 < r̄ < 1)": learnable_tasks,
    "Tokens per solver's reply": reply_tokens,
}
"""Title to what it is of each step of a run."""


def _of_types(line: dict[str, float], role: str, number: str) -> list[float]:
    types = sorted(key.split("/")[1] for key in line if key.startswith("propose/") and key.endswith("/ok"))
    return [line.get(f"{role}/{name}/{number}", 0.0) for name in types]


# ---------------------------------------------------------------- replies


def questions(name: str) -> dict[str, Task]:
    """The tasks of a held-out set by their ids."""
    return {task.id: task for _, task in suites(get_style("file"), Verifier(None, Rules()), [name])[name].problems}


def replies(before: Record, after: Record, count: int, name: str = "cruxeval-o") -> str:
    """Markdown: `count` questions that became right and one that became wrong, the shortest of each, with both replies."""
    tasks = questions(name)
    was, now = differences(before, [after], name, "strict")
    ids, lines = list(before["sets"][name]["items"]), []
    for title, change, most in (("Wrong before, right after", 1, count), ("Right before, wrong after", -1, 1)):
        found = [id for id, changed in zip(ids, (now - was)[0], strict=True) if changed == change]
        found.sort(key=lambda id: (len(tasks[id].program) + len(tasks[id].input), id))
        lines.append(f"**{title}** ({len(found)} questions of `{name}`; the shortest {min(most, len(found))}):\n")
        for id in found[:most]:
            said = [record["sets"][name]["items"][id].split(" ", 2)[2].strip() for record in (before, after)]
            said = [next(iter(one.splitlines()), "(nothing)").replace("`", "'") for one in said]
            lines.append(
                f"```text\n{tasks[id].program.rstrip()}\nassert f({tasks[id].input}) == {tasks[id].output}\n```\n"
            )
            lines.append(f"* before: `{said[0]}`\n* after: `{said[1]}`\n")
    return "\n".join(lines).rstrip() + "\n"


# ---------------------------------------------------------------- copied arguments


def copies(records: Sequence[Record], name: str) -> list[tuple[int, int, int]]:
    """Per record: literal answers to a set that asks for outputs, those that are the first argument itself, and those
    of these that are right."""
    first = {id: repr(parse_arguments(task.input, 10_000)[0]) for id, task in questions(name).items()}
    found = []
    for record in records:
        answers = [(id, *text.split(" ", 2)) for id, text in record["sets"][name]["items"].items()]
        literals = [(marks, first[id] == said.split("\n")[0].strip()) for id, marks, _, said in answers if "f" in marks]
        found.append((len(literals), sum(c for _, c in literals), sum(c and "s" in marks for marks, c in literals)))
    return found


# ---------------------------------------------------------------- the curriculum

CURRICULUM = {
    "valid proposals": ("propose", "ok"),
    "learnable tasks": ("propose", "learnable_tasks"),
    "repeated programs": ("propose", "repeats"),
    "copied references": ("propose", "copies"),
    "distinct programs": ("propose", "distinct_programs"),
    "tokens per proposal": ("propose", "tokens"),
    "tokens per answer": ("solve", "tokens"),
    "right answers": ("solve", "ok"),
    "length pressure": ("solve", "length_pressure"),
    "KL": ("", "kl"),
}
"""What the ablation counts: the role and the name of its number."""


def curriculum(run: Path, first: int, last: int) -> dict[str, float | None]:
    """Means of `CURRICULUM` over the steps `first` to `last`, counted from 1, and over the task types."""
    lines = [line for line in RunDir.open(run).metrics() if first <= line["step"] + 1 <= last]
    if len(lines) != last - first + 1:
        raise SystemExit(f"{run} has {len(lines)} of the steps {first} to {last}")
    means: dict[str, float | None] = {}
    for name, (role, number) in CURRICULUM.items():
        values = [_of_types(line, role, number) if role else line[number] for line in lines if role or number in line]
        means[name] = float(np.mean(values)) if values else None  # a run without a KL penalty logs none
    return means


# ---------------------------------------------------------------- command line


def read(path: str | Path) -> Record:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def train(control: str, command: Sequence[str]) -> int:
    """``azr-lite COMMAND`` with one of `course.experiments.CONTROLS` put in."""
    from azr_lite.cli import main
    from azr_lite.course import experiments

    with experiments.control(control):
        return main(command)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("train", help="azr-lite with a control put in")
    one.add_argument("control")
    one.add_argument("arguments", nargs="+", help="-- run --preset …")
    one = commands.add_parser("eval", help="ask one model all questions")
    one.add_argument("model", help="a model's folder, RUN, or RUN@STEP")
    one.add_argument("--prompts", default="file", help="style for a model that is no run (default: %(default)s)")
    one.add_argument("--sets", default=",".join(SETS))
    one.add_argument("--limit", type=int, default=0, help="questions per set; 0: all")
    one.add_argument("--chunk", type=int, default=64, help="questions asked at once")
    one.add_argument("--out", type=Path, required=True)
    one = commands.add_parser("compare", help="paired gains over the same model before")
    one.add_argument("before")
    one.add_argument("after", nargs="+")
    one.add_argument("--out", type=Path)
    one = commands.add_parser(
        "copies", help="answers that are the first argument itself, of the sets that ask for outputs"
    )
    one.add_argument("evaluations", nargs="+")
    one = commands.add_parser("replies", help="questions that became right, and one that became wrong")
    one.add_argument("before")
    one.add_argument("after")
    one.add_argument("--count", type=int, default=3)
    one = commands.add_parser("curriculum", help="means over some steps: proposals, learnable tasks, lengths")
    one.add_argument("runs", nargs="+", type=Path)
    one.add_argument("--steps", nargs=2, type=int, default=(11, 15), metavar=("FIRST", "LAST"))
    one.add_argument("--out", type=Path)
    one = commands.add_parser("picture", help="draw runs and their evaluations")
    one.add_argument("--arm", action="append", nargs="+", required=True, metavar=("NAME", "RUN"))
    one.add_argument("--json", type=Path, required=True, help="folder of the evaluations")
    one.add_argument("--out", type=Path, default=Path("data_samples/benchmarks/real-model.png"))
    asked = parser.parse_args()
    if asked.command == "train":
        raise SystemExit(train(asked.control, asked.arguments))
    if asked.command == "eval":
        found = evaluate(asked.model, asked.prompts, asked.sets.split(","), asked.limit, asked.chunk)
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(asked.out, found)
    elif asked.command == "compare":
        found = compare(read(asked.before), [read(path) for path in asked.after])
        print(markdown(found))
        if asked.out:
            write_json(asked.out, {"before": asked.before, "after": asked.after, "sets": found})
    elif asked.command == "copies":
        print("| set | evaluation | literals | copies of the argument | of these right |\n|---|---|---|---|---|")
        for name in (name for name in SETS if name != "cruxeval-i"):
            for path, row in zip(
                asked.evaluations, copies([read(path) for path in asked.evaluations], name), strict=True
            ):
                print("|", " | ".join(map(str, (name, Path(path).stem, *row))), "|")
    elif asked.command == "replies":
        print(replies(read(asked.before), read(asked.after), asked.count), end="")
    elif asked.command == "curriculum":
        found = {run.name: curriculum(run, *asked.steps) for run in asked.runs}
        print("| run |", " | ".join(CURRICULUM), "|\n|---" + "|---" * len(CURRICULUM) + "|")
        for name, means in found.items():
            print("|", " | ".join([name, *("–" if value is None else f"{value:.3g}" for value in means.values())]), "|")
        if asked.out:
            write_json(asked.out, {"steps": list(asked.steps), "runs": found})
    else:
        arms = {name: [Path(run) for run in runs] for name, *runs in asked.arm}
        evaluations = [record for path in sorted(asked.json.glob("*.json")) if "run" in (record := read(path))]
        picture(arms, evaluations, asked.out)


if __name__ == "__main__":
    main()
