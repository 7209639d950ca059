"""The parts of azr_lite in other libraries: TRL, datasets and a hub, lm-evaluation-harness, verifiers."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

datasets = pytest.importorskip("datasets")

from azr_lite.cli import main  # noqa: E402
from azr_lite.config import Config  # noqa: E402
from azr_lite.errors import ConfigError, PublishError, RunDirectoryError  # noqa: E402
from azr_lite.integrations.datasets import read_rows, task_of, write_tasks  # noqa: E402
from azr_lite.integrations.trl import dataset, reward_functions  # noqa: E402
from azr_lite.rundir import RunDir  # noqa: E402
from azr_lite.triplet import InductionTask, Triplet  # noqa: E402
from tests.hub_stub import running_hub  # noqa: E402

ROOT = Path(__file__).parents[1]
DOUBLE = "def f(x):\n    return x * 2"
DEDUCTION = Triplet("deduction", DOUBLE, "4", "8", id="d1", step=0, parents=("s1", "s2"))
ABDUCTION = Triplet("abduction", DOUBLE, "'ab'", "'abab'", id="a1", step=1, parents=("d1",))
INDUCTION = InductionTask("induction", DOUBLE, ("1", "2", "3"), ("2", "4", "6"), "twice", 1, id="i1", step=1)
SEED = Triplet("deduction", DOUBLE, "1", "2", id="s1", parents=("zero",))


def said(label, text, thought="so"):
    return f"{thought}</think>\n<answer>\n```{label}\n{text}\n```\n</answer>"


@pytest.fixture
def played(tmp_path):
    """A run directory whose log holds one task of each type, a seed, a repeat and a rejected proposal."""
    run = RunDir.create(Config(model="nano", output_dir=str(tmp_path / "run")), {})
    for task, rate in ((SEED, None), (DEDUCTION, 0.25), (DEDUCTION, 0.5), (ABDUCTION, 1.0), (INDUCTION, 0.0)):
        line = {"step": task.step, "type": task.type, "ok": True, "solve_rate": rate, "task": task.to_json()}
        run.append_tasks([line | {"parents": list(task.parents)}])
    run.append_tasks([{"step": 1, "type": "deduction", "ok": False, "solve_rate": None, "task": None, "parents": []}])
    return run.path


# ---------------------------------------------------------------- TRL


def test_a_reward_function_pays_its_own_type_what_self_play_pays():
    deduction, abduction = reward_functions(["deduction", "abduction"])
    replies = [said("output", "8"), said("output", "9"), "8", said("input", "'ab'")]
    lines = [task.to_line() for task in (DEDUCTION, DEDUCTION, DEDUCTION, ABDUCTION)]
    logged = {}
    assert deduction(prompts=[""] * 4, completions=replies, task=lines, log_metric=logged.__setitem__) == [
        1,
        -0.5,
        -1,
        None,
    ]
    assert abduction(completions=replies, task=lines) == [None, None, None, 1]
    assert logged == {"well_formed/deduction": pytest.approx(2 / 3)}
    assert [one.__name__ for one in (deduction, abduction)] == ["deduction", "abduction"]


def test_a_reply_is_paid_whoever_opened_its_thought():
    """A chat template ends before the prefill, a parser may take the thought out: neither costs a right answer."""
    (reward,) = reward_functions(["deduction"], "chat")
    thought, answer = said("output", "8").split("</think>")
    for message in (
        {"role": "assistant", "content": said("output", "8")},
        {"role": "assistant", "content": f"<think>{said('output', '8')}"},
        {"role": "assistant", "content": answer, "reasoning_content": thought},
    ):
        assert reward(completions=[[message]], task=[DEDUCTION.to_line()]) == [1]


def test_what_would_teach_nothing_is_said():
    (reward,) = reward_functions(["deduction"])
    with pytest.warns(UserWarning, match="deduction: none of 2 replies has the form that style 'r1' asks for"):
        assert reward(completions=["8", "<answer>8"], task=[DEDUCTION.to_line()] * 2) == [-1, -1]
    with pytest.raises(ConfigError, match=r"no column 'task'; make them with azr_lite\.integrations\.trl\.dataset"):
        reward(prompts=["1 + 1 = "], completions=["2"])


def test_the_prompts_are_those_of_self_play(played):
    plain, chat = dataset(played, "r1", ["abduction"]), dataset(played, "chat")
    assert plain[0]["prompt"].endswith("Assistant: <think>")
    assert chat["type"] == ["deduction", "deduction", "abduction", "induction"]
    assert {message["role"] for (message,) in chat["prompt"]} == {"user"}
    assert not any(message["content"].endswith("<think>") for (message,) in chat["prompt"])
    with pytest.raises(ConfigError, match="holds no task of the types growing"):
        dataset(played, task_types=["growing"])


def test_plain_grpo_takes_two_steps(played, tmp_path):
    pytest.importorskip("trl")
    from trl import GRPOConfig, GRPOTrainer

    from tests.tiny import tiny_model, tiny_tokenizer

    tokenizer = tiny_tokenizer()
    settings = GRPOConfig(
        output_dir=str(tmp_path / "grpo"), max_steps=2, num_generations=2, per_device_train_batch_size=8, logging_steps=1,
        max_completion_length=8, save_strategy="no", report_to="none", use_cpu=True, bf16=False,
    )  # fmt: skip
    trainer = GRPOTrainer(
        tiny_model(tokenizer),
        reward_functions(style="compact"),
        args=settings,
        train_dataset=dataset(played, "compact"),
        processing_class=tokenizer,
    )
    with pytest.warns(UserWarning, match="none of"):
        trainer.train()
    steps = [line for line in trainer.state.log_history if "reward" in line]
    assert [line["step"] for line in steps] == [1, 2]
    assert all(line[f"rewards/{name}/mean"] == -1 for line in steps for name in ("deduction", "abduction", "induction"))
    assert all(line["well_formed/deduction"] == 0 for line in steps)


# ---------------------------------------------------------------- data sets


def test_tasks_survive_the_way_to_parquet_and_back(played, tmp_path):
    assert main(["tasks", str(played), "--to", str(tmp_path / "tasks.parquet")]) == 0
    rows = read_rows(tmp_path / "tasks.parquet")
    assert rows == read_rows(played)
    assert [row["id"] for row in rows] == ["s1", "d1", "a1", "i1"]
    assert [row["solve_rate"] for row in rows] == [None, 0.25, 1.0, 0.0]
    assert [row["lineage"] for row in rows] == [[], ["s1"], ["s1", "d1"], []]
    assert rows[1]["parents"] == ["s1", "s2"]
    assert [task_of(row) for row in rows] == [SEED, DEDUCTION, ABDUCTION, INDUCTION]
    assert dataset(tmp_path / "tasks.parquet")["prompt"] == dataset(played)["prompt"]


def test_a_folder_has_a_card_and_is_read_by_the_library(played, tmp_path, capsys):
    folder = tmp_path / "tasks"
    assert main(["tasks", str(played), "--to", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder} has the tasks of {played}\n"
    assert len(datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))) == 4
    card = (folder / "README.md").read_text()
    assert (
        "\n4 tasks of 2 self-play steps with seed 0:\n* deduction: 2\n* abduction: 1\n* induction: 1\n\nEvery" in card
    )
    assert str(tmp_path) not in card
    assert read_rows(folder) == read_rows(played)
    with pytest.raises(ConfigError, match="is there already"):
        write_tasks(played, str(folder))


def test_a_full_disk_is_one_sentence_and_leaves_no_file_in_the_way(played, tmp_path, monkeypatch):
    place = tmp_path / "tasks.parquet"
    with monkeypatch.context() as full:
        full.setattr("azr_lite.rundir.os.fsync", lambda file: os.write(os.open("/dev/full", os.O_WRONLY), b"x"))
        with pytest.raises(RunDirectoryError, match=r"cannot write .*tasks.parquet: No space left .* another --to"):
            write_tasks(played, str(place))
    assert not place.exists()
    assert write_tasks(played, str(place)) == str(place)


def test_what_is_no_set_of_tasks_is_said(tmp_path):
    with pytest.raises(RunDirectoryError, match="there is no run at"):
        read_rows(tmp_path / "nowhere")
    datasets.Dataset.from_list([{"a": 1}]).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(RunDirectoryError, match="has no column 'id'; give what `azr-lite tasks` wrote"):
        read_rows(tmp_path / "other.parquet")
    RunDir.create(Config(model="nano", output_dir=str(tmp_path / "run")), {}).append_tasks([])
    (tmp_path / "run" / "tasks.jsonl").touch()
    with pytest.raises(ConfigError, match="holds no valid task yet"):
        write_tasks(tmp_path / "run", str(tmp_path / "tasks"))


def test_a_hub_gets_a_dataset_repository(played, tmp_path):
    """In a process of its own: the hub's address is read when its client is imported."""
    code = "import sys; from azr_lite.cli import main; sys.exit(main(['tasks', sys.argv[1], '--to', sys.argv[2]]))"
    with running_hub(tmp_path / "hub", "hf_me") as hub:
        names = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_me", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
        command = [sys.executable, "-c", code, str(played), "hub:me/tasks"]
        done = subprocess.run(command, env={**os.environ, **names}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert {"README.md", "tasks.parquet"} <= set(hub.files("me/tasks"))
        assert ("POST", "/api/datasets/me/tasks/commit/main") in hub.requests
        assert hub.private == {"me/tasks": True}
    with pytest.raises(PublishError, match="is not a repository's name"):
        write_tasks(played, "hub:tasks")


# ---------------------------------------------------------------- lm-evaluation-harness


class Written:
    """Answers question number i with the i-th text, cut as `azr-lite eval` cuts."""

    def __init__(self, texts):
        self.texts = texts

    def generate(self, prompts, how):
        from azr_lite.evaluation.suite import Reply, until_stop

        return [[Reply("", until_stop(text, how.stop)[0], 9)] for text in self.texts]


def replies_to(docs):
    """Right, right and going on, right but never closed, wrong, right in the last line only, empty; and so on."""
    texts = []
    for number, doc in enumerate(docs):
        task = json.loads(doc["task"])
        label, right = ("output", task["output"]) if task["type"] == "deduction" else ("input", task["input"])
        full = said(label, right)
        texts.append(
            [full, f"{full}\n\nUser: next?</think><answer>no</answer>", full.removesuffix("</answer>"), said(label, "()"),
             f"It is\n{right}", ""][number % 6]
        )  # fmt: skip
    return texts


@pytest.mark.parametrize("kind", ["deduction", "abduction"])
def test_the_harness_marks_as_eval_does(kind, executor):
    from azr_lite.evaluation.reasoning import cruxeval_suite
    from azr_lite.evaluation.runner import answer
    from azr_lite.evaluation.suite import choose
    from azr_lite.integrations.lm_eval import mark, questions
    from azr_lite.prompts import get_style
    from azr_lite.triplet import Rules
    from azr_lite.verifier import Verifier

    docs = list(questions(kind, items=12)["test"])
    texts = replies_to(docs)
    suite = cruxeval_suite(kind, "strict", get_style("r1"), Verifier(executor, Rules()))
    asked = choose(suite.questions(), 12)
    assert [doc["prompt"] + doc["prefill"] for doc in docs] == [q.prompt.text + q.prompt.prefill for q in asked]
    items = answer(Written(texts), suite, asked)
    marks = [mark(doc, [text]) for doc, text in zip(docs, texts, strict=True)]
    assert marks == [{"strict": float(item.right), "lenient": float(item.lenient)} for item in items]
    assert sum(found["strict"] for found in marks) == 4
    assert sum(found["lenient"] for found in marks) > 4


def test_the_harness_asks_a_task_set_of_ones_own(played):
    from azr_lite.integrations.lm_eval import mark, questions

    [doc] = questions("induction", tasks=str(played))["test"]
    assert mark(doc, [said("python", DOUBLE)])["strict"] == 1
    assert mark(doc, [said("python", "def f(x):\n    return 2")])["strict"] == 0
    with pytest.raises(ConfigError, match="holds no task of type growing"):
        questions("growing", tasks=str(played))


def test_the_harness_itself_gives_these_numbers(capsys):
    pytest.importorskip("lm_eval", reason="lm_eval comes with azr-lite[integrations]")
    from lm_eval import simple_evaluate
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager

    main(["lm-eval-path"])
    place = capsys.readouterr().out.strip()
    manager = TaskManager(include_path=place, include_defaults=False, metadata={"items": 12})

    class Dummy(LM):
        def generate_until(self, requests):
            assert all(request.args[0].endswith("Assistant: <think>") for request in requests)
            return replies_to([request.doc for request in requests])

        def loglikelihood(self, requests): ...

        def loglikelihood_rolling(self, requests): ...

    names = ["azr_deduction", "azr_abduction"]
    found = simple_evaluate(Dummy(), tasks=names, task_manager=manager, bootstrap_iters=0)
    for name in names:
        assert found["results"][name]["strict,none"] == pytest.approx(4 / 12)
        assert found["results"][name]["lenient,none"] > 4 / 12


# ---------------------------------------------------------------- verifiers


def test_vf_eval_plays_both_seats(played, tmp_path, capsys):
    """A stub for the model: every second proposal is no proposal, every second answer is wrong."""
    pytest.importorskip("verifiers", minversion="0.4", reason="verifiers comes with azr-lite[integrations]")
    proposal = (
        "<think>so</think><answer>\n```python\ndef f(x):\n    return x[::-1]\n```\n```input\n'abc'\n```\n</answer>"
    )
    asked = {"propose": 0, "solve": 0}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            role = "propose" if body["messages"][-1]["content"].startswith("You set puzzles") else "solve"
            asked[role] += 1
            texts = [proposal, "no idea"] if role == "propose" else [said("output", "'cba'"), said("output", "'abc'")]
            message = {"role": "assistant", "content": texts[(asked[role] - 1) % 2]}
            about = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
            choices = [{"index": 0, "finish_reason": "stop", "message": message}]
            raw = json.dumps({**about, "choices": choices}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_): ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = {
        "--model": "m", "--client.base-url": f"http://127.0.0.1:{server.server_port}/v1", "--select.limit": "2",
        "--max-concurrent": "1", "--output-dir": str(tmp_path / "out"), "--env.taskset.run": str(played),
        "--env.taskset.task-types": "deduction", "--env.n-mc": "4",
    }  # fmt: skip
    words = [word for pair in options.items() for word in pair]
    vf_eval = "from verifiers.v1.cli.eval.main import main; main()"
    main(["verifiers-path"])
    place = capsys.readouterr().out.strip()
    command = [sys.executable, "-c", vf_eval, "azr-selfplay", *words, "--no-push", "--no-rich"]
    surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), place, *sys.path]), "HOME": str(tmp_path)}
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False, cwd=tmp_path)
    server.shutdown()
    assert done.returncode == 0, done.stderr[-3000:]
    [log] = (tmp_path / "out").rglob("traces.jsonl")
    episodes = [json.loads(line) for line in log.read_text().splitlines()]
    print(json.dumps(episodes, indent=1)[:6000])
    assert asked == {"propose": 2, "solve": 4}
