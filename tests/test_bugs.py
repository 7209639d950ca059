"""Each bug of the museum: healthy code passes the check, the bug fails it, and nothing is left switched on."""

import ast
import dataclasses
from pathlib import Path

import numpy as np
import pytest

import azr_lite
from azr_lite.config import Config
from azr_lite.course.bugs import BUGS, bug, sick_run, symptoms
from azr_lite.errors import ConfigError
from azr_lite.prompts import get_style
from azr_lite.selfplay import SelfPlay
from azr_lite.tasks import Proposal
from azr_lite.triplet import Reason, Role, Rules
from azr_lite.verifier import Verifier
from tests.scripted import ScriptedPolicy

BASE = Config(
    model="scripted",
    batch_size=8,
    n_mc=4,
    references=2,
    seed_batch_factor=2,
    micro_batch_size=2,
    max_prompt_tokens=100_000,
)


def played(executor, skill=0.5, junk=0.0):
    play = SelfPlay(BASE, get_style("chat"), executor)
    policy = ScriptedPolicy(skill=skill)
    play.seed(policy)
    policy.junk = junk
    return play, play.step(policy, 0)


def rewards(play, role):
    return [r for r in play.record.rollouts if r.role == role]


def ladder_holds(executor):
    play, _ = played(executor, junk=0.3)
    formless = [r.reward for r in rewards(play, Role.SOLVE) if not r.verdict.well_formed]
    wrong = [r.reward for r in rewards(play, Role.SOLVE) if r.verdict.well_formed and not r.verdict.ok]
    assert formless
    assert wrong
    return max(formless) < min(wrong)


def easier_pays_less(executor):
    play, _ = played(executor)
    paid = [(r.solve_rate, r.reward) for r in rewards(play, Role.PROPOSE) if r.verdict.ok and 0 < r.solve_rate < 1]
    return np.corrcoef(*zip(*paid, strict=True))[0, 1] < 0


def impossible_pays_nothing(executor):
    play, _ = played(executor, skill=0.0)
    return {r.reward for r in rewards(play, Role.PROPOSE) if r.verdict.ok} == {0.0}


def length_pays_nothing(executor):
    play, _ = played(executor)
    right = [(len(r.completion_ids), r.reward) for r in rewards(play, Role.SOLVE) if r.verdict.ok]
    return {reward for _, reward in right} == {1.0}


def replies_differ(executor):
    play, _ = played(executor)
    rates = [line["solve_rate"] for line in play.record.tasks if line["ok"]]
    return any(0 < rate < 1 for rate in rates)


def hashes_are_refused(executor):
    verifier = Verifier(executor, Rules())
    proposal = Proposal("def f(x):\n    return hash(x + 'a')", ((("b"),),))
    (found,) = verifier.validate([("deduction", proposal)])
    return getattr(found, "reason", None) == Reason.NON_DETERMINISTIC


def worlds_are_logged(executor):
    """Though none of its programs varies, the log tells a run that would have believed one."""
    play, _ = played(executor)
    return play.record.metrics["validation/worlds"] >= 2


CHECKS = {
    "format collapse": ladder_holds,
    "trivial tasks": easier_pays_less,
    "impossible tasks": impossible_pays_nothing,
    "length blow-up": length_pays_nothing,
    "greedy Monte-Carlo": replies_differ,
    "non-determinism leak": hashes_are_refused,
}


@pytest.mark.parametrize(("name", "check"), [*CHECKS.items(), ("non-determinism leak", worlds_are_logged)])
def test_healthy_passes_and_the_bug_fails(executor, name, check):
    assert check(executor)
    with bug(name):
        assert not check(executor)
    assert check(executor), "the bug is still there"


def test_sign_flip_is_caught_by_the_self_test(tmp_path):
    pytest.importorskip("torch")
    from azr_lite.errors import TrainingError
    from azr_lite.train.diagnostics import self_test
    from azr_lite.train.trainer import SelfPlayTrainer
    from tests.tiny import PLAIN, Scripted, tiny_config, tiny_policy

    def check():
        self_test(SelfPlayTrainer(tiny_config(), tiny_policy(), PLAIN, Scripted(lambda generate, step: []), tmp_path))

    check()
    with bug("sign flip"), pytest.raises(TrainingError):
        check()
    check()


def test_old_log_probabilities_taken_anew_never_clip(tmp_path):
    pytest.importorskip("torch")
    from azr_lite.train.trainer import SelfPlayTrainer
    from tests.tiny import PLAIN, Scripted, random_rollouts, tiny_config, tiny_policy

    config = tiny_config(updates_per_step=3, micro_batch_size=2, learning_rate=0.05)
    rows = random_rollouts(config)

    def clipped(folder):
        seen = []
        player = Scripted(lambda generate, step: rows)
        trainer = SelfPlayTrainer(
            config, tiny_policy(), PLAIN, player, folder, on_step=lambda report: seen.append(report["clip_ratio"])
        )
        trainer.train()
        return seen[0]

    assert clipped(tmp_path / "healthy") > 0
    with bug("per-role old log-probabilities"):
        assert clipped(tmp_path / "sick") == 0


@pytest.mark.parametrize("name", BUGS)
def test_a_step_is_played_to_its_end_with_each_bug(executor, name):
    pytest.importorskip("torch")
    with bug(name):
        _, rollouts = played(executor)
    assert len(rollouts) == BASE.rows


def test_every_bug_is_checked_and_none_is_reachable_from_settings():
    assert set(CHECKS) | {"sign flip", "per-role old log-probabilities"} == set(BUGS)
    assert all(b.mistake and b.symptom for b in BUGS.values())
    package = Path(azr_lite.__file__).parent
    for path in package.rglob("*.py"):
        if "course" in path.parts:
            continue
        names = [
            alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        ]
        bench = (
            {"azr_lite.course.experiments", "azr_lite.course.play"} if path.name in ("cli.py", "commands.py") else set()
        )
        assert not [name for name in names if "azr_lite.course" in name and name.rpartition(".")[0] not in bench], path
    assert not [f.name for f in dataclasses.fields(Config) if "bug" in f.name]
    with pytest.raises(ConfigError, match="no bug"), bug("off by one"):
        pass


def test_a_sick_run_is_whole_and_shows_its_plate(tmp_path):
    pytest.importorskip("torch")
    small = {
        "steps": 2,
        "batch_size": 4,
        "solver_batch_size": 4,
        "n_mc": 2,
        "seed_batch_factor": 1,
        "updates_per_step": 1,
    }
    path = sick_run("greedy Monte-Carlo", tmp_path, micro_batch_size=8, eval_problems=3, workers=1, **small)
    plate = symptoms(path)
    assert plate["learnable"] == {"first": 0.0, "last": 0.0}
    assert 0 < plate["valid"]["last"] <= 1
