"""Replay is exact on a real run and names what was changed; re-scoring agrees with the rules it is given."""

import dataclasses
import json

import pytest

from azr_lite.cli import main
from azr_lite.config import Config
from azr_lite.course.experiments import control
from azr_lite.errors import ConfigError, RunDirectoryError
from azr_lite.observe.reader import Followed, open_run
from azr_lite.observe.replay import replay, rescore
from azr_lite.observe.run import Run
from azr_lite.observe.run_summary import due_in, summarise
from azr_lite.presets import preset
from azr_lite.prompts import get_style
from azr_lite.rundir import RunDir
from azr_lite.selfplay import SelfPlay
from azr_lite.triplet import Verdict
from tests.scripted import ScriptedPolicy


def change(path, name, step, pick, edit):
    """Edit the first line of the step that `pick` takes; its number in the step."""
    lines = (path / name).read_text(encoding="utf-8").splitlines()
    place = 0
    for index, text in enumerate(lines):
        line = json.loads(text)
        place += line["step"] == step
        if line["step"] == step and pick(line):
            edit(line)
            lines[index] = json.dumps(line, ensure_ascii=False, sort_keys=True)
            (path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
            return place
    raise AssertionError("no such line")


@pytest.mark.parametrize("step", [0, 2])
def test_a_real_step_is_rebuilt_exactly(recorded, executor, step):
    found = replay(open_run(recorded), step, executor)
    assert found.exact, found.differences[:3]
    rows = [json.loads(line) for line in (recorded / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()]
    assert found.compared["advantage"] == sum(row["step"] == step for row in rows) > 50
    assert found.executions > 20


CASES = {
    "reward": (lambda r: r["role"] == "propose", lambda r: r.update(reward=r["reward"] + 0.25)),
    "advantage": (lambda r: r["role"] == "solve", lambda r: r.update(advantage=r["advantage"] + 1e-6)),
    "verdict.ok": (lambda r: r["role"] == "solve", lambda r: r["verdict"].update(ok=not r["verdict"]["ok"])),
    "verdict.reason": (lambda r: not r["verdict"]["ok"], lambda r: r["verdict"].update(reason="crash")),
    "weight": (lambda r: True, lambda r: r.update(weight=0.0)),
    "solve_rate": (
        lambda r: r["role"] == "propose" and r["solve_rate"] is not None,
        lambda r: r.update(solve_rate=0.123),
    ),
}


@pytest.mark.parametrize("what", CASES)
def test_one_changed_value_is_named_and_nothing_else(run, executor, what):
    pick, edit = CASES[what]
    place = change(run, "rollouts.jsonl", 1, pick, edit)
    found = replay(open_run(run), 1, executor)
    assert [(d.file, d.line, d.what) for d in found.differences] == [("rollouts.jsonl", place, what)]
    assert replay(open_run(run), 0, executor).exact


def test_a_changed_score_or_output_in_the_tasks_is_named(run, executor):
    pick = lambda line: line["ok"] and "output" in line["task"]  # noqa: E731
    place = change(run, "tasks.jsonl", 1, pick, lambda line: line["task"].update(output="'other'"))
    change(run, "tasks.jsonl", 1, pick, lambda line: line["answers"][0].update(score=1.0 - line["answers"][0]["score"]))
    named = {(d.file, d.line, d.what) for d in replay(open_run(run), 1, executor).differences}
    assert named == {("tasks.jsonl", place, "task.output"), ("tasks.jsonl", place, "answers.1.score")}


def test_a_changed_reply_changes_all_that_follows_from_it(run, executor):
    right = lambda line: line["answers"] and line["answers"][0]["score"] == 1.0  # noqa: E731
    place = change(run, "tasks.jsonl", 1, right, lambda line: line["answers"][0].update(text="no form"))
    found = replay(open_run(run), 1, executor).differences
    own = {d.what for d in found if (d.file, d.line) == ("tasks.jsonl", place)}
    assert {"answers.1.score", "answers.1.reason", "solve_rate"} <= own
    solved = {d.what for d in found if d.file == "rollouts.jsonl"}
    assert {"text", "verdict.ok", "verdict.reason", "reward", "advantage"} <= solved


def test_a_reply_that_the_two_logs_have_otherwise_is_named(run, executor):
    place = change(run, "rollouts.jsonl", 1, lambda r: r["role"] == "solve", lambda r: r.update(text="no form"))
    found = replay(open_run(run), 1, executor).differences
    assert [(d.file, d.line, d.what) for d in found] == [("rollouts.jsonl", place, "text")]


def test_the_command_says_exact_or_what_differs(run, capsys):
    assert main(["replay", str(run), "--step", "1"]) == 0
    assert "the log is exact" in capsys.readouterr().out
    change(run, "rollouts.jsonl", 1, lambda r: r["role"] == "propose", lambda r: r.update(reward=7.0))
    assert main(["replay", str(run), "--step", "1"]) == 1
    text = capsys.readouterr().out
    assert "1 value differs" in text
    assert "reward: recorded 7.0, rebuilt" in text


def test_what_cannot_be_replayed_is_one_sentence(run, executor, capsys):
    with pytest.raises(RunDirectoryError, match="steps 0 to 2, and the seeding as -1"):
        replay(open_run(run), 9, executor)
    change(run, "rollouts.jsonl", 1, lambda r: True, lambda r: r.pop("verdict"))
    with pytest.raises(RunDirectoryError, match="verdict"):
        replay(open_run(run), 1, executor)
    (run / "tasks.jsonl").unlink()
    assert main(["replay", str(run), "--step", "0"]) == 1
    said = capsys.readouterr().err
    assert "tasks.jsonl is missing" in said
    assert len(said.splitlines()) == 1


def test_rescoring_without_changes_gives_the_record(recorded):
    found = rescore(open_run(recorded))
    assert [one.step for one in found] == [0, 1, 2]
    assert all(one.turned == 0 and one.correlation == 1.0 and one.silent[0] == one.silent[1] for one in found)
    assert all(old == new for one in found for old, new in one.reward.values())


def test_rescoring_pays_by_the_changed_rules(recorded):
    rows = [json.loads(line) for line in (recorded / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()]
    ends = [r for r in rows if r["role"] == "propose" and r["solve_rate"] in (0.0, 1.0) and r["step"] == 0]
    own = [r for r in rows if r["role"] == "propose" and r["step"] == 0]
    found = rescore(open_run(recorded), zero_learnability="upstream")[0]
    gap = sum((new - old) * sum(f"{r['role']}/{r['type']}" == g for r in own) for g, (old, new) in found.reward.items())
    assert gap == pytest.approx(-0.5 * len(ends))
    assert ends


@pytest.mark.parametrize("estimator", ["global", "grpo", "dr_grpo", "rloo"])
def test_other_estimators_give_other_advantages_for_the_same_rewards(recorded, estimator):
    found = rescore(open_run(recorded), estimator=estimator)
    assert all(old == new for one in found for old, new in one.reward.values())
    assert any(one.correlation < 0.999 for one in found)


def test_what_a_log_cannot_answer_is_refused(recorded, capsys):
    with pytest.raises(ConfigError, match="n_mc cannot be re-scored"):
        rescore(open_run(recorded), n_mc=4)
    with pytest.raises(ConfigError, match="estimator is 'best'"):
        rescore(open_run(recorded), estimator="best")
    assert main(["replay", str(recorded), "--rescore", "wrong=-1"]) == 1
    assert "wrong cannot be re-scored" in capsys.readouterr().err
    assert main(["replay", str(recorded), "--rescore", "estimator"]) == 1
    assert "estimator is ''" in capsys.readouterr().err
    assert main(["replay", str(recorded), "--rescore", "estimator=global", "zero_learnability=upstream"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= 80


class Odd(ScriptedPolicy):
    """Some replies without form are cut; some proposals have many lines, others do not run, or are the identity."""

    def complete(self, prompt):
        reply = super().complete(prompt)
        if "Invent one new puzzle" in prompt and self.rng.random() < 0.3:
            body = self.rng.choice(
                [
                    "raise ValueError(x)",
                    "y = x\n" + "    y = y + 1\n" * 200 + "    return y",
                    "return {x: object()}",
                    "return x",
                ]
            )
            text = "because</think><answer>```python\ndef f(x):\n    " + body + "\n```\n```input\n3\n```</answer>"
            reply = dataclasses.replace(reply, text=text, ids=tuple(text.encode()[:40]))
        return dataclasses.replace(reply, truncated=reply.text == "no form at all" and self.rng.random() < 0.5)


def scripted_run(path, executor, rewards=None, **changes):
    """Two steps of self-play without a model, in a run directory."""
    config = Config(model="scripted", batch_size=6, n_mc=3, references=2, seed_batch_factor=1, micro_batch_size=2,
                    max_prompt_tokens=3000, output_dir=str(path))  # fmt: skip
    config = config.replace(**changes)
    run = RunDir.create(config, {})
    play = SelfPlay(config, get_style("chat"), executor, rewards=rewards)
    policy = Odd(junk=0.2)
    play.seed(policy)
    run.append_tasks(play.record.tasks)
    for step in range(2):
        play.step(policy, step)
        run.append(step, play.record.metrics, {}, play.record.rollouts, play.record.tasks)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"solver_data": "separate"},
        {"solver_batch_size": 30},
        {"estimator": "grpo", "role_balanced_loss": False},
        {"estimator": "global", "zero_learnability": "upstream", "train_proposer": False},
        {"whitening": "token", "induction_scoring": "fraction", "equality": "typed"},
        {"task_types": ("abduction", "induction"), "updates_per_step": 2},
        {"reference_tasks": "diverse", "repeated_programs": "penalty", "references": 2},
        {"reference_tasks": "learnable", "proposals_per_prompt": 3, "proposer_estimator": "rloo"},
    ],
    ids=str,
)
def test_every_setting_is_replayed_exactly(tmp_path, executor, changes):
    path = scripted_run(tmp_path / "run", executor, **changes)
    for step in (0, 1):
        found = replay(open_run(path), step, executor)
        assert found.exact, [str(d) for d in found.differences[:3]]
    rows = [json.loads(line) for line in (path / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()]
    assert any("repeat" in row["reward_parts"] for row in rows) == ("repeated_programs" in changes)
    checked = summarise(Followed(open_run(path))).roles["propose"]
    assert (checked.wrong.count, checked.silent) == (0, 0)


def test_every_kind_of_rejection_is_replayed(tmp_path, executor):
    path = scripted_run(tmp_path / "run", executor, batch_size=12)
    lines = [json.loads(line) for line in (path / "tasks.jsonl").read_text(encoding="utf-8").splitlines()]
    reasons = {line["reason"] for line in lines if line["step"] >= 0}
    assert {"", "not_well_formed", "truncated", "exception", "too_long", "output_not_literal"} <= reasons
    found = [replay(open_run(path), step, executor) for step in (0, 1)]
    assert all(one.exact for one in found)
    assert (
        sum(one.believed for one in found)
        == sum(line["step"] >= 0 and "solver's prompt" in line["detail"] for line in lines)
        > 0
    )


def test_a_run_whose_rewards_were_shuffled_is_noticed(tmp_path, executor):
    with control("shuffled rewards"):
        path = scripted_run(tmp_path / "run", executor)
    assert {d.what for d in replay(open_run(path), 0, executor).differences} == {"advantage"}


def own_reward(reply):
    return {"size": float(len(reply.completion.text)), "shown": 0.5 * len(reply.references)}


OWN = f"{__name__}:own_reward"


@pytest.mark.parametrize("terms", [("paper", "distance=0.5", "surprise"), ("paper", OWN), (OWN,)], ids=str)
@pytest.mark.parametrize("estimator", ["trr", "rloo"])
def test_named_and_own_rewards_are_logged_replayed_and_judged_only_where_known(terms, estimator, tmp_path, executor):
    own = {OWN: own_reward} if OWN in terms else {}
    path = scripted_run(tmp_path / "run", executor, own, reward=terms, estimator=estimator)
    rows = [json.loads(line) for line in (path / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()]
    parts = {name for row in rows if row["role"] == "propose" for name in row["reward_parts"]}
    paper = {"form", "learnability"} if "paper" in terms else set()
    assert parts == paper | ({"size", "shown"} if own else {"distance", "surprise"})
    assert all(row["reward"] == pytest.approx(sum(row["reward_parts"].values())) for row in rows)
    found = replay(open_run(path), 1, executor)
    assert found.exact, [str(d) for d in found.differences[:3]]
    assert (found.compared["reward"], found.unknown) == (sum(row["step"] == 1 for row in rows), "")
    diagnosis = Run(path).diagnose()
    assert ("Rewards are this run's own" in repr(diagnosis).replace("\n", " ")) == bool(own)
    assert diagnosis.summary.roles["propose"].wrong.count == diagnosis.summary.roles["solve"].wrong.count == 0
    kept = rescore(open_run(path), estimator="global")
    assert all(before == pytest.approx(after) for one in kept for before, after in one.reward.values())


def test_a_reward_that_is_not_at_hand_is_said_and_all_else_is_compared(tmp_path, executor, capsys):
    path = scripted_run(tmp_path / "run", executor, {"gone:short": own_reward}, reward=("paper", "gone:short"))
    found = replay(open_run(path), 1, executor)
    assert found.exact
    assert found.compared["answers"] > 0 == found.compared["reward"]
    said = repr(found).replace("\n", " ")
    assert "Rewards and advantages were not compared: the reward names the module 'gone'" in said
    assert "the log is exact: tasks, verdicts and solve rates are as recorded" in said
    assert replay(open_run(path), 1, executor, rewards=["paper", own_reward]).unknown, "another name"
    with pytest.raises(ConfigError, match="this run's reward is its own"):
        rescore(open_run(path), zero_learnability="upstream")


def test_a_wrong_intrinsic_run_is_still_judged_by_the_papers_part(tmp_path, executor):
    path = scripted_run(tmp_path / "run", executor, reward=("paper", "distance"))
    change(path, "rollouts.jsonl", 1, lambda r: r["verdict"]["ok"], lambda r: r.update(reward=7.0))
    assert sum(one.wrong.count for one in summarise(Followed(open_run(path))).roles.values()) == 1


@pytest.mark.parametrize(
    ("terms", "earned"), [(("paper",), 0.5), (("distance",), 0.2), (("paper=0.5", "distance=2"), 0.45)]
)
def test_what_is_due_follows_every_term_and_its_weight(terms, earned):
    verdict = dataclasses.asdict(Verdict(ok=True, well_formed=True))
    line = {"role": "propose", "verdict": verdict, "solve_rate": 0.5, "reward_parts": {"distance": 0.2}}
    assert due_in(line, preset("nano", reward=terms)) == pytest.approx(earned)
