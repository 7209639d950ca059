"""The run doctor: each illness is called by its name, and a healthy run is not called sick."""

import dataclasses
import json
import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from azr_lite.cli import main
from azr_lite.config import Config
from azr_lite.course.bugs import BUGS
from azr_lite.course.experiments import CONTROLS
from azr_lite.errors import RunDirectoryError
from azr_lite.metrics import metric_of
from azr_lite.observe.doctor import CHECKS, diagnose, rerun
from azr_lite.observe.reader import POINTS, Curve, Steps, open_run
from azr_lite.observe.run import Run
from azr_lite.observe.run_summary import JUDGED, RoleCheck, RunSummary
from azr_lite.rundir import RunDir
from tests.benchmarks.doctor_confusion import EXPECTED, table

RUNS = Path(__file__).parents[1] / "data_samples" / "runs"

SICK = {
    "bugs/format-collapse": {"format ladder upside down"},
    "bugs/greedy-monte-carlo": {"identical answers", "zero-variance groups"},
    "bugs/impossible-tasks": {"impossible tasks"},
    "bugs/length-blow-up": {"length blow-up"},
    "bugs/non-determinism-leak": {"non-determinism leak"},
    "bugs/per-role-old-log-probabilities": {"ratio never moves"},
    "bugs/sign-flip": {"sign flip", "zero-variance groups"},
    "bugs/trivial-tasks": {"easy tasks"},
    **{f"ablations/no-references-seed{seed}": {"no references"} for seed in (200, 201)},
    **{f"ablations/solver-only-seed{seed}": {"proposer untrained"} for seed in (200, 201)},
}
"""Kept runs with an illness. All others are healthy."""


@pytest.mark.parametrize(
    "path", sorted(log.parent for log in RUNS.glob("*/*/metrics.jsonl")), ids=lambda path: path.name
)
def test_kept_runs_get_their_names(path):
    assert {one.name for one in Run(path).diagnose().findings} == SICK.get(f"{path.parent.name}/{path.name}", set())


STEPS = 20


def test_counts_of_reasons_are_no_shares(tmp_path):
    """A single reply rejected as truncated is logged as a count of 1; it was once averaged with the shares of cut replies."""
    run = tmp_path / "run"
    shutil.copytree(RUNS / "bugs" / "healthy", run)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines[-1] |= {"solve/induction/reason/truncated": 2.0, "propose/deduction/reason/truncated": 1.0}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert Run(run).diagnose().findings == []


def test_accepted_programs_run_again_show_what_numbers_do_not(tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(RUNS / "bugs" / "healthy", run)
    task = {"type": "deduction", "input": "'ab'", "id": "x"}
    line = {"step": 0, "type": "deduction", "ok": True, "reason": "", "text": "", "parents": [], "answers": []}
    kinds = {
        "sound": ("def f(x):\n    return x + x", "'abab'"),
        "leak": ("def f(x):\n    return hash(x) % 1000003", "7"),
        "changed": ("def f(x):\n    return x", "'ba'"),
    }

    def write(*names):
        rows = [
            {**line, "task": {**task, "id": name, "program": kinds[name][0], "output": kinds[name][1]}}
            for name in names
        ]
        rows.append({**line, "ok": False, "task": None})
        (run / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    write("sound", "sound")
    assert rerun(run, 10) == []
    write("sound", "leak", "changed")
    leak, sick = rerun(run, 10)
    assert (leak.name, leak.evidence.split(" (")[0]) == (
        "non-determinism leak",
        "1 of 3 accepted programs run again: leak",
    )
    assert (sick.name, sick.evidence) == (
        "executor sickness",
        "1 of 3 accepted programs run again: changed (another output)",
    )
    assert main(["doctor", str(run), "--rerun", "10"]) == 1
    assert "non-determinism leak" in capsys.readouterr().out
    (run / "tasks.jsonl").write_text(json.dumps({**line, "task": {"program": "def f(x): return x"}}) + "\n")
    with pytest.raises(RunDirectoryError, match="not in this azr_lite's form"):
        rerun(run, 10)


def curve(values, key=""):
    found = Curve(metric_of(key))
    for step, value in enumerate(values):
        found.add(step, value)
    return found


def curves_of(values):
    """From values by the doctor's names of curves."""
    logged = {name: curve(own, JUDGED[name]) for name, own in values.items()}
    return {name: logged.get(name, Curve()) for name in JUDGED}


def healthy(more=None, **changes):
    """A summary with the curves of a healthy nano run; `changes` overwrite single curves (first value, last value) or
    fields, `more` whole curves."""
    curves = {
        "solved": (0.7, 0.6), "solver well formed": (0.9, 0.98), "solver tokens": (15, 40), "solver truncated": (0, 0.01),
        "solver no signal": (0, 0), "proposer no signal": (0, 0), "valid": (0.95, 0.95), "proposer truncated": (0, 0),
        "solve rate": (0.7, 0.6), "learnable": (0.35, 0.55), "never solved": (0.1, 0.2), "fresh": (1, 0.95), "copies": (0, 0.1),
        "distinct": (0.4, 0.6), "clip ratio": (0.01, 0.001),
        "gradient norm": (0.2, 0.4), "learning rate": (2e-4, 2e-4), "worlds": (2, 3),
    }  # fmt: skip
    curves |= {name.replace("_", " "): ends for name, ends in changes.items() if isinstance(ends, tuple)}
    ramp = lambda a, b: [a + (b - a) * n / (STEPS - 1) for n in range(STEPS)]  # noqa: E731
    fields = {name: value for name, value in changes.items() if not isinstance(value, tuple)}
    base = {
        "config": Config(model="scripted", updates_per_step=4),
        "steps": STEPS,
        "curves": curves_of({**{name: ramp(*ends) for name, ends in curves.items()}, **(more or {})}),
        "roles": {
            role: RoleCheck(replies=500, within=curve([1.0] * 60), groups=60, weight=500.0)
            for role in ("propose", "solve")
        },
        "parents": {"deduction": Counter({True: 300, False: 4})},
        "executor": {"ok": 900, "exception": 60, "timeout": 2},
        "asked": 300,
        "same": 30,
        "gain": {"gain": 0.07, "low": 0.02, "high": 0.12},
    }
    return RunSummary(**(base | fields))


def spiked(at, value):
    return [0.2] * at + [value] + [0.2] * (STEPS - at - 1)


def with_curve(name, values):
    return healthy({name: values})


CASES = {
    "form only": lambda: healthy(solver_well_formed=(0.3, 1.0), solved=(0.02, 0.02)),
    "zero-variance groups": lambda: healthy(solver_no_signal=(0.0, 0.6)),
    "easy tasks": lambda: healthy(solve_rate=(0.7, 0.97), learnable=(0.35, 0.1)),
    "impossible tasks": lambda: healthy(solve_rate=(0.7, 0.1), never_solved=(0.1, 0.8)),
    "template collapse": lambda: healthy(fresh=(1.0, 0.1)),
    "length blow-up": lambda: healthy(
        solver_tokens=(40, 170), solver_truncated=(0.0, 0.19), gain={"gain": 0.01, "low": -0.03, "high": 0.05}
    ),
    "truncation": lambda: healthy(proposer_truncated=(0.0, 0.5)),
    "executor sickness": lambda: healthy(executor={"ok": 500, "timeout": 300, "crash": 4}),
    "ratio or KL spike": lambda: with_curve("gradient norm", spiked(7, 9.0)),
    "ratio never moves": lambda: healthy(clip_ratio=(0.0, 0.0)),
    "no update": lambda: healthy(learning_rate=(0.0, 0.0)),
    "sign flip": lambda: healthy(
        valid=(0.95, 0.02), solved=(0.7, 0.1), gain={"gain": -0.44, "low": -0.5, "high": -0.38}
    ),
    "no valid proposal": lambda: healthy(valid=(0.0, 0.0)),
    "identical answers": lambda: healthy(same=300),
    "non-determinism leak": lambda: with_curve("worlds", [2.0] * (STEPS - 1) + [1.0]),
    "no references": lambda: healthy(parents={"deduction": Counter({False: 200})}),
    "lottery": lambda: healthy(distinct=(0.4, 0.3), solve_rate=(0.4, 0.5), solved=(0.45, 0.45)),
    "curriculum collapse": lambda: healthy(learnable_tasks=(7, 1), different_programs=(1.0, 0.4)),
    "copied references": lambda: healthy(copies=(0.1, 0.6)),
    "no learning": lambda: healthy(steps=80, gain={"gain": -0.03, "low": -0.05, "high": -0.01}),
    "internal errors": lambda: healthy(internal=Steps(3, 2, 7), internal_detail="KeyError: 'x'"),
    "solver untrained": lambda: healthy(config=Config(model="scripted", train_solver=False)),
}


def test_a_healthy_summary_passes_every_check():
    assert diagnose(healthy()) == []
    assert len({check.__name__ for check in CHECKS}) == len(CHECKS)


@pytest.mark.parametrize("name", CASES)
def test_each_curve_gives_its_illness_and_no_other(name):
    assert [one.name for one in diagnose(CASES[name]())] == [name]


NOTHING = {"gain": float("nan"), "low": float("nan"), "high": float("nan")}
NEARLY = {
    "one update per step clips nothing": lambda: healthy(clip_ratio=(0.0, 0.0), config=Config(model="scripted")),
    "ten executions": lambda: healthy(executor={"ok": 5, "timeout": 5}),
    "easy from the start": lambda: healthy(solve_rate=(0.9, 0.92), learnable=(0.35, 0.1)),
    "easier, and as learnable": lambda: healthy(solve_rate=(0.7, 0.97), learnable=(0.35, 0.3)),
    "hardly a task": lambda: healthy(valid=(0.3, 0.15), solve_rate=(0.7, 0.1), never_solved=(0.1, 0.8), fresh=(1, 0.1)),
    "repeated programs, and as learnable": lambda: healthy(learnable_tasks=(7, 7), different_programs=(1.0, 0.4)),
    "fewer learnable tasks, all different": lambda: healthy(learnable_tasks=(7, 1), different_programs=(1.0, 0.9)),
    "few programs from the start": lambda: healthy(learnable_tasks=(7, 1), different_programs=(0.6, 0.5)),
    "a collapse too short to tell": lambda: healthy(steps=14, learnable_tasks=(7, 1), different_programs=(1.0, 0.4)),
    "more valid proposals": lambda: healthy(valid=(0.3, 0.95), gain=NOTHING),
    "worse held out, better in training": lambda: healthy(
        solved=(0.4, 0.6), gain={"gain": -0.3, "low": -0.4, "high": -0.2}
    ),
}


# ---- a real model's curriculum (the prototype's runs, docs/explanation/short_answers.md)

COLLAPSE = {0: (76, 75, 36), 10: (110, 88, 27), 20: (146, 71, 20), 30: (151, 54, 10), 35: (151, 58, 4)}
"""Sums over five steps from this one on, of 160 proposals: valid, different programs, learnable tasks."""


def collapsing(rng, steps):
    """Valid proposals of 32, different programs and learnable tasks of each step: drawn around those sums."""
    for step in range(steps):
        means = [np.interp(step, [at + 2 for at in COLLAPSE], row) / 5 for row in zip(*COLLAPSE.values(), strict=True)]
        valid = rng.binomial(32, min(1, means[0] / 32))
        different, learnable = (rng.binomial(valid, min(1, mean / means[0])) for mean in means[1:])
        yield valid, max(different, min(valid, 1)), learnable


def alive(rng, steps):
    """The same of 40 proposals, where the cures were on: up to 14 duplicates, and 9 to 17 learnable tasks throughout."""
    for step in range(steps):
        valid = 19 if step == 0 else rng.integers(22, 30)
        yield valid, valid - rng.integers(0, 15), rng.integers(9, 18)


def judged(rows, proposals):
    valid, different, learnable = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    curves = {"valid": valid / proposals, "learnable": learnable / valid, "learnable tasks": learnable}
    summary = healthy(curves | {"different programs": different / valid}, steps=len(valid))
    return {one.name: one for one in diagnose(summary)}


@pytest.mark.parametrize("seed", range(12))
def test_a_collapsing_curriculum_is_named_while_half_of_it_is_left(seed):
    """It sank fast from step 20 on: who looks after each step has its name by step 30, and it stays."""
    rows = list(collapsing(np.random.default_rng(seed), 40))
    assert judged(rows[:14], 32) == {}
    named = [steps for steps in range(1, 41) if "curriculum collapse" in judged(rows[:steps], 32)]
    assert 15 <= named[0] <= 30
    assert {35, 40} <= set(named)
    found = judged(rows, 32)["curriculum collapse"]
    assert "learnable tasks per step and type" in found.evidence
    assert "repeated_programs=penalty, reference_tasks=learnable" in found.cure


@pytest.mark.parametrize("seed", range(12))
def test_a_curriculum_that_is_alive_is_never_called_dead(seed):
    rows = list(alive(np.random.default_rng(seed), 60))
    assert [steps for steps in range(4, 61) if judged(rows[:steps], 40)] == []


@pytest.mark.parametrize("path", sorted(log.parent for log in RUNS.glob("*/*/metrics.jsonl")), ids=lambda p: p.name)
def test_no_recorded_nano_run_lost_its_curriculum_but_those_that_were_made_to(path, tmp_path):
    """Even had their programs become alike: the learnable tasks, worked out from what was logged, are still there."""
    config, run = open_run(path).config(), tmp_path / "run"
    shutil.copytree(path, run)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    for number, line in enumerate(lines):
        for kind in config.task_types:
            share = line[f"propose/{kind}/learnable"] * line[f"propose/{kind}/ok"]
            line[f"propose/{kind}/learnable_tasks"] = config.batch_size * share
            line[f"propose/{kind}/distinct_programs"] = 1 - 0.7 * number / len(lines)
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    named = "curriculum collapse" in {one.name for one in Run(run).diagnose().findings}
    assert named == (path.name in ("sign-flip", "trivial-tasks"))


@pytest.mark.parametrize("name", NEARLY)
def test_what_looks_like_an_illness_and_is_none(name):
    assert diagnose(NEARLY[name]()) == []


@pytest.mark.parametrize(
    ("name", "sick"),
    [
        ("impossible tasks", lambda: healthy(never_solved=(0.1, 0.7))),
        ("executor sickness", lambda: healthy(executor={"ok": 100, "protocol": 60})),
        ("sign flip", lambda: healthy(valid=(0.95, 0.4), gain=NOTHING)),
    ],
)
def test_one_sign_of_an_illness_is_enough(name, sick):
    assert [one.name for one in diagnose(sick())] == [name]


def test_a_spike_is_placed_at_its_step():
    (found,) = diagnose(with_curve("gradient norm", spiked(7, 9.0)))
    assert "9.00 at step 7" in found.evidence
    (found,) = diagnose(with_curve("kl", spiked(3, 4.0)))
    assert "kl 4.00 at step 3" in found.evidence


def test_in_a_long_run_averages_hide_no_spike():
    values = [0.2] * 12 * POINTS
    values[777] = 9.0
    (found,) = diagnose(with_curve("gradient norm", values))
    assert "9.00 at step 777" in found.evidence


def test_an_overflow_while_the_loss_scale_is_found_is_healthy_and_a_diverged_run_is_not():
    infinite = float("inf")
    assert diagnose(with_curve("gradient norm", [infinite, *[0.2] * (STEPS - 1)])) == []
    (found,) = diagnose(with_curve("gradient norm", [0.2] * 8 + [infinite] * (STEPS - 8)))
    assert found.name == "numbers not finite"
    assert "from step 8" in found.evidence
    assert diagnose(with_curve("clip ratio", [0.01] * (STEPS - 1) + [float("nan")]))[0].name == "numbers not finite"


def test_a_model_that_never_proposed_a_valid_task_is_not_called_greedy():
    names = [one.name for one in Run(RUNS / "smollm2-lora").diagnose().findings]
    assert "identical answers" not in names
    assert "truncation" in names


def test_numbers_that_were_not_logged_fire_nothing():
    assert diagnose(RunSummary(Config(model="scripted"), steps=1, curves=curves_of({"solved": [0.1]}))) == []


def test_a_short_run_without_a_gain_is_not_called_one_that_does_not_learn():
    assert diagnose(healthy(gain={"gain": -0.03, "low": -0.05, "high": -0.01})) == []


def test_too_few_steps_give_no_curve():
    assert diagnose(with_curve("solver no signal", [0.0, 0.0, 1.0])) == []
    assert diagnose(with_curve("solver no signal", [0.0, 0.0, 1.0, 1.0])) != []


def test_pay_for_every_solve_rate_is_not_called_pay_for_impossible_tasks():
    summary = healthy()
    proposer = dataclasses.replace(summary.roles["propose"], wrong=Steps(50, 0, 19), impossible=20, easy=20)
    found = diagnose(dataclasses.replace(summary, roles=summary.roles | {"propose": proposer}))
    assert [one.name for one in found] == ["easy tasks"]


def test_the_confusion_table_counts_what_it_says():
    assert set(BUGS) | set(CONTROLS) <= set(EXPECTED)

    def one(expected, *said):
        return {"expected": expected, "said": list(said), "right": expected in said if expected else not said}

    rows = [one("a", "a"), one("a", "b", "a"), one("a", "b"), one("a"), one(None), one(None), one(None, "a")]
    assert list(table(rows).values()) == [4, 2, 1, 1, 1, 3, 1]


# ---- a real run, and copies tampered with


@pytest.fixture
def run(tmp_path):
    """The first steps of the recorded run: too few for curves, so that only pay and advantages are judged."""
    shutil.copytree(RUNS / "whole" / "nano-small", tmp_path / "run")
    RunDir.open(tmp_path / "run").rewind(3)
    return tmp_path / "run"


def change(run, edit, name="rollouts.jsonl"):
    path = run / name
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        edit(line)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def names(run):
    return {one.name for one in Run(run).diagnose().findings}


def test_a_real_run_is_healthy(run, capsys):
    assert names(run) == set()
    assert main(["doctor", str(run)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "nothing found" in printed
    assert "curves are not" in printed


def shuffle_advantages(run):
    path, rng = run / "rollouts.jsonl", random.Random(3)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    values = [line["advantage"] for line in lines]
    rng.shuffle(values)
    for line, value in zip(lines, values, strict=True):
        line["advantage"] = value
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def paid(role, value):
    return lambda run: change(run, lambda r: r.update(reward=value(r)) if r["role"] == role else None)


def only(r, ok):
    return r["role"] == "propose" and r["verdict"]["ok"] == ok


TAMPERED = {
    "no update": lambda run: change(run, lambda r: r.update(advantage=0.0)),
    "sign flip": lambda run: change(run, lambda r: r.update(advantage=-r["advantage"])),
    "rewards shuffled": shuffle_advantages,
    "length blow-up": paid("solve", lambda r: r["reward"] + 0.02 * r["tokens"]),
    "format ladder upside down": paid("solve", lambda r: -1.0 if r["reward"] == -0.5 else r["reward"]),
    "easy tasks": paid("propose", lambda r: r["solve_rate"] if r["verdict"]["ok"] else r["reward"]),
    "impossible tasks": paid("propose", lambda r: 1 - r["solve_rate"] if r["verdict"]["ok"] else r["reward"]),
    "rewards not as earned": paid("propose", lambda r: r["reward"] / 2),
    "proposer untrained": lambda run: change(run, lambda r: r.update(weight=0.0) if r["role"] == "propose" else None),
    "solver untrained": lambda run: change(run, lambda r: r.update(weight=0.0) if r["role"] == "solve" else None),
    "no references": lambda run: change(run, lambda r: r.update(parents=["" for _ in r["parents"]])),
    "internal errors": lambda run: change(
        run, lambda r: r["verdict"].update(reason="internal", detail="KeyError: 'x'") if r["step"] == 1 else None
    ),
    "identical answers": lambda run: change(
        run, lambda t: [a.update(text="same") for a in t["answers"]], "tasks.jsonl"
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_log_is_called_by_its_name(run, name):
    TAMPERED[name](run)
    found = names(run)
    assert name in found
    repaid = name in (
        "rewards not as earned",
        "format ladder upside down",
        "easy tasks",
        "impossible tasks",
        "length blow-up",
    )
    assert found <= {name} | ({"rewards shuffled", "sign flip"} if repaid else set()), (
        "here the advantages are still those of the true pay"
    )


def test_an_error_of_ours_over_a_seed_is_named_with_its_detail(run):
    seed = {"reason": "internal", "detail": "ZeroDivisionError: division by zero"}
    change(run, lambda t: t.update(seed) if t["step"] < 0 else None, "tasks.jsonl")
    (found,) = Run(run).diagnose().findings
    assert found.name == "internal errors"
    assert seed["detail"] in found.evidence
    assert "report it" in found.cure


def test_the_verb_prints_evidence_and_cure_and_json(run, capsys):
    change(run, lambda r: r.update(advantage=0.0))
    assert main(["doctor", str(run)]) == 1
    printed = capsys.readouterr().out
    assert "no update" in printed
    assert "cure" in printed
    assert max(map(len, printed.splitlines()[3:])) <= 80
    assert main(["doctor", str(run), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["sick"]
    assert [one["name"] for one in report["findings"]] == ["no update"]
    assert main(["doctor", "there/is/none"]) == 1
    assert "there is no run at" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["metrics.jsonl", "rollouts.jsonl", "config.json"])
@pytest.mark.parametrize("spoil", ["missing", "damaged", "foreign"])
def test_a_run_that_cannot_be_read_is_one_sentence(run, name, spoil, capsys):
    path = run / name
    whole = path.read_text(encoding="utf-8")
    if spoil == "missing":
        path.unlink()
    elif spoil == "damaged":
        path.write_text("{{{\n" + whole, encoding="utf-8")
    else:
        path.write_text('{"step": 0, "solve/deduction/ok": "high", "role": 3}\n', encoding="utf-8")
    assert main(["doctor", str(run)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("azr-lite: ")


def test_a_log_of_replies_that_stops_before_the_metrics_is_no_healthy_run(run, capsys):
    path = run / "rollouts.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if json.loads(line)["step"] == 0), encoding="utf-8")
    assert main(["doctor", str(run)]) == 1
    assert "ends before step 2" in capsys.readouterr().err


def test_an_unknown_version_is_one_sentence(run, capsys):
    (run / "run.json").write_text('{"version": 99}')
    assert main(["doctor", str(run)]) == 1
    assert "format 99" in capsys.readouterr().err


def test_longer_thought_that_pays_is_no_illness():
    """The 50 steps of `make run`: three times as long, a tenth of the late replies cut, 30 held-out points gained."""
    longer = {"solver_tokens": (15, 48), "solver_truncated": (0.0, 0.15)}
    assert diagnose(healthy(**longer, gain={"gain": 0.3, "low": 0.26, "high": 0.33})) == []
    assert [f.name for f in diagnose(healthy(**longer, gain=RunSummary(Config(model="scripted")).gain))] == [
        "length blow-up"
    ]
