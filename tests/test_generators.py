"""Who answers: transformers and a server (a stand-in), and opening models and runs."""

import dataclasses
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

torch = pytest.importorskip("torch")

import azr_lite  # noqa: E402
from azr_lite.cli import main  # noqa: E402
from azr_lite.errors import EvaluationError  # noqa: E402
from azr_lite.evaluation import evaluate  # noqa: E402
from azr_lite.evaluation.generators import (  # noqa: E402
    ServerGenerator,
    TransformersGenerator,
    open_model,
    until_stop,
)
from azr_lite.evaluation.suite import Prompt, Sampling  # noqa: E402
from azr_lite.parsing import parse_reply  # noqa: E402
from azr_lite.prompts.base import Codec  # noqa: E402
from tests.test_models import save  # noqa: E402
from tests.tiny import CHAT, CHATML, PLAIN, tiny_policy  # noqa: E402

PROMPTS = [Prompt("abc"), Prompt("a longer prompt than the other"), Prompt("abc"), Prompt("z")]


def generator(style=PLAIN):
    policy = tiny_policy()
    return TransformersGenerator(policy, Codec(policy.tokenizer, style, [policy.tokenizer.eos_token_id]), "tiny")


def test_greedy_replies_do_not_depend_on_their_neighbours():
    made = generator()
    together = made.generate(PROMPTS, Sampling(max_tokens=12))
    apart = [made.generate([prompt], Sampling(max_tokens=12))[0] for prompt in PROMPTS]
    assert together == apart
    assert together[0] == together[2] != together[1]
    assert {reply.tokens for (reply,) in together} <= set(range(1, 13))


def test_a_reply_ends_at_its_limit_or_at_the_stop_string():
    made = generator()
    ((long,),) = made.generate(PROMPTS[:1], Sampling(max_tokens=12))
    assert (long.tokens, long.truncated) == (12, True)
    word = long.text[3:5]
    ((stopped,),) = made.generate(PROMPTS[:1], Sampling(max_tokens=12, stop=(word,)))
    assert stopped.text == long.text[: long.text.index(word) + 2]
    assert (stopped.truncated, stopped.tokens) == (False, len(stopped.text))


def test_on_a_cpu_the_sampler_for_cpus_gives_what_transformers_would():
    fast, plain = generator(), generator()
    plain.fast = None
    assert [made.describe()["generation"] for made in (fast, plain)] == ["CPU sampler", "transformers"]
    stop = plain.generate(PROMPTS[:1], Sampling(max_tokens=9))[0][0].text[4:6]
    ends = [dataclasses.replace(prompt, ended=lambda text: len(text) >= 5) for prompt in PROMPTS]
    for prompts, how in (
        (PROMPTS, Sampling(9)),
        (PROMPTS, Sampling(9, stop=(stop,))),
        (ends, Sampling(9, stop=(stop,))),
    ):
        assert fast.generate(prompts, how) == plain.generate(prompts, how)
    warm, cold = (fast.generate(PROMPTS, Sampling(9, temperature=t, samples=2, seed=3)) for t in (2.0, 1e-4))
    assert (
        [own[0] for own in cold] == [own[0] for own in plain.generate(PROMPTS, Sampling(9))] != [own[0] for own in warm]
    )


def test_sampling_is_seeded_and_samples_differ():
    made = generator()
    first, again, other = (
        made.generate(PROMPTS[:2], Sampling(max_tokens=8, temperature=1.0, samples=3, seed=s)) for s in (1, 1, 2)
    )
    assert first == again != other
    assert [len(own) for own in first] == [3, 3]
    assert len({reply.text for reply in first[0]}) > 1


def test_out_of_memory_halves_what_is_sampled_at_once(monkeypatch):
    made, asked = generator(), []
    honest = made._sample

    def tight(rows, *rest):
        asked.append(len(rows))
        if len(rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return honest(rows, *rest)

    monkeypatch.setattr(made, "_sample", tight)
    assert made.generate(PROMPTS, Sampling(max_tokens=6)) == generator().generate(PROMPTS, Sampling(max_tokens=6))
    assert asked == [4, 2, 2]
    monkeypatch.setattr(
        made, "_sample", lambda *rows: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory."))
    )
    with pytest.raises(EvaluationError, match="does not fit"):
        made.generate(PROMPTS[:1], Sampling(max_tokens=6))


def test_the_template_goes_around_the_message_and_the_prefill_behind_it():
    made = generator(CHAT)
    made.codec.tokenizer.chat_template = CHATML
    ((reply,),) = made.generate([Prompt("ask", "pre", chat=True)], Sampling(max_tokens=2))
    assert reply.prompt == "<user>ask</s><assistant>pre"
    ((reply,),) = made.generate([Prompt("ask", "pre")], Sampling(max_tokens=2))
    assert reply.prompt == "askpre"


@pytest.mark.parametrize(("text", "found"), [("a.b!", ("a.", True)), ("a!b.", ("a!", True)), ("ab", ("ab", False))])
def test_the_first_stop_string_ends_the_text(text, found):
    assert until_stop(text, (".", "!")) == found


# ---------------------------------------------------------------- a server


class Completions(BaseHTTPRequestHandler):
    """What answers as an OpenAI-compatible server does; `do_POST` is a subclass's."""

    def send_choices(self, choices, **more):
        raw = json.dumps({"id": "1", "object": "x", "created": 0, "model": "m", "choices": choices, **more}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    asked = []

    class Handler(Completions):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, body))
            if body["model"] == "broken":
                self.send_error(400)
                return
            chat = "chat" in self.path
            choices = [
                {
                    "index": i,
                    "finish_reason": "length" if i else "stop",
                    "stop_reason": None,
                    **({"message": {"role": "assistant", "content": f"r{i}"}} if chat else {"text": f"r{i}"}),
                }
                for i in range(body["n"])
            ]
            usage = {"prompt_tokens": 3, "completion_tokens": 4 * body["n"], "total_tokens": 9}
            self.send_choices(choices, usage=usage)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", asked
    server.shutdown()


def test_a_server_is_asked_for_chats_and_plain_prompts(server):
    pytest.importorskip("openai", reason="openai comes with azr-lite[eval]")
    url, asked = server
    found = ServerGenerator(url, "m", parallel=1).generate(
        [Prompt("hello", "<think>", chat=True), Prompt("plain", "<think>")],
        Sampling(max_tokens=7, temperature=0.5, samples=2, stop=("</answer>",)),
    )
    assert [[(r.text, r.tokens, r.truncated) for r in own] for own in found] == [
        [("r0", 4, False), ("r1", 4, True)]
    ] * 2
    (chat_path, chat), (plain_path, plain) = asked
    assert chat_path.endswith("/v1/chat/completions")
    assert chat["messages"] == [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "<think>"}]
    assert (chat["continue_final_message"], chat["add_generation_prompt"], chat["include_stop_str_in_output"]) == (
        True,
        False,
        True,
    )
    assert plain_path.endswith("/v1/completions")
    assert plain["prompt"] == "plain<think>"
    assert (plain["max_tokens"], plain["temperature"], plain["n"], plain["stop"]) == (7, 0.5, 2, ["</answer>"])


def test_a_server_that_fails_is_told_in_a_sentence(server):
    pytest.importorskip("openai", reason="openai comes with azr-lite[eval]")
    with pytest.raises(EvaluationError, match="did not answer"):
        ServerGenerator(server[0], "broken").generate(PROMPTS[:1], Sampling(max_tokens=3))


WHOLE = "add them</think>\n<answer>\n```output\n3\n```\n</answer>"
"""What the model behind each of the servers below writes after the prefill, before it rambles on."""
STOP = ("\ndef ", "\nclass ", "\nimport ", "\nprint(", "</answer>")


class Stub(Completions):
    """A server that follows OpenAI's rules; a subclass says where it differs."""

    rambles, apart, repeats, strict = True, False, False, False

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.strict and ("include_stop_str_in_output" in body or len(body.get("stop") or []) > 4):
            self.send_error(400)
            return
        text = WHOLE + (" trailing" if self.rambles else "")
        for stop in body.get("stop") or []:
            text = text.split(stop)[0]
        message = {"role": "assistant", "content": ("<think>" if self.repeats else "") + text}
        if self.apart:
            thought, _, content = text.partition("</think>")
            message = {"role": "assistant", "content": content, "reasoning_content": thought}
        chat = "chat" in self.path
        choice = {"index": 0, "finish_reason": "stop", **({"message": message} if chat else {"text": text})}
        self.send_choices([choice])


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize(
    "changes", [{}, {"apart": True}, {"repeats": True}, {"strict": True}, {"rambles": False}], ids=str
)
def test_a_server_of_openais_rules_gives_the_replies_that_vllm_gives(changes, chat):
    pytest.importorskip("openai", reason="openai comes with azr-lite[eval]")
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("One", (Stub,), changes))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        generator = ServerGenerator(f"http://127.0.0.1:{server.server_port}/v1", "m", parallel=1)
        asked = [Prompt("1 + 2", "<think>", chat=chat)]
        ((reply,),) = generator.generate(asked, Sampling(max_tokens=99, stop=STOP))
    finally:
        server.shutdown()
    assert reply.text == WHOLE
    assert not reply.truncated
    assert parse_reply("<think>" + reply.text).blocks("output") == ["3"]


def test_a_missing_package_is_told_in_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(EvaluationError, match="needs the package openai"):
        ServerGenerator("http://127.0.0.1:1/v1", "m")


# ---------------------------------------------------------------- models, runs, the command


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("eval") / "run"
    small = {
        "batch_size": 8,
        "solver_batch_size": 8,
        "n_mc": 2,
        "seed_batch_factor": 1,
        "eval_problems": 12,
        "keep_checkpoints": 9,
        "micro_batch_size": 12,
    }
    azr_lite.run("nano", output_dir=str(path), steps=2, save_every=1, device="cpu", learning_rate=1e-2, **small)
    return path


def test_a_run_is_opened_at_any_of_its_steps(run):
    def weights(named):
        return open_model(str(named)).generator.policy.model.model.layers[0].mlp.up_proj.weight.clone()

    newest, second, first, start = weights(run), weights(f"{run}@2"), weights(f"{run}@1"), weights(f"{run}@0")
    assert torch.equal(newest, second)
    assert torch.equal(start, weights("nano"))
    assert not torch.equal(first, second)
    assert not torch.equal(first, start)
    assert open_model(str(run)).generator.describe()["model"] == f"{run}@2"
    with pytest.raises(EvaluationError, match=r"no checkpoint of step 7; it has: 0, 1, 2"):
        open_model(f"{run}@7")
    with pytest.raises(EvaluationError, match="is not a run"):
        open_model("nano@3")


def test_a_misspelt_run_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "run.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for typed in ("runs/mien", "runs/mien@3"):
        with pytest.raises(EvaluationError, match="no run at runs/mien; runs holds mine"):
            open_model(typed)


def test_an_adapter_is_put_back_on_its_base(tmp_path):
    model = save(tmp_path / "base")
    path = tmp_path / "run"
    small = {
        "batch_size": 2,
        "solver_batch_size": 2,
        "n_mc": 2,
        "references": 1,
        "seed_batch_factor": 1,
        "eval_problems": 0,
    }
    small |= {"max_reply_tokens": 6, "max_prompt_tokens": 4096, "self_test": False, "workers": 1, "prompts": "r1"}
    tuned = {"tuning": "lora", "lora_rank": 4, "learning_rate": 1e-1, "dtype": "float32"}
    azr_lite.run("smoke", model=model, output_dir=str(path), steps=1, device="cpu", **tuned, **small)
    tuned, base = open_model(str(path)).generator, open_model(f"{path}@0").generator
    assert any("lora_A" in name for name, _ in tuned.policy.model.named_parameters())
    assert not any("lora_A" in name for name, _ in base.policy.model.named_parameters())
    plain = open_model(model, prompts="r1").generator
    assert base.generate(PROMPTS, Sampling(max_tokens=6)) == plain.generate(PROMPTS, Sampling(max_tokens=6))


def test_the_same_questions_get_the_scores_of_training(run):
    """The run's own last evaluation and `azr-lite eval` on the same weights: reply by reply the same."""
    from azr_lite.evaluation.reasoning import HELD_OUT_SEED, held_out_suite
    from azr_lite.evaluation.scores import read_items
    from azr_lite.sandbox import Executor
    from azr_lite.triplet import Rules
    from azr_lite.verifier import Verifier

    opened = open_model(str(run))
    with Executor(workers=1) as executor:
        rules = Rules(
            induction_inputs=azr_lite.preset("nano").induction_inputs,
            induction_shown=azr_lite.preset("nano").induction_shown,
        )
        types = ("deduction", "abduction", "induction")
        suite = held_out_suite("nano", types, 12, HELD_OUT_SEED, opened.style, Verifier(executor, rules), 192)
        from azr_lite.evaluation.runner import answer

        items = answer(opened.generator, suite, suite.questions())
    trained = read_items(run / "eval" / "step-2.jsonl")
    assert [(i.id, i.prompt, i.text, i.right) for i in items] == [(i.id, i.prompt, i.text, i.right) for i in trained]


def test_evaluating_a_run_against_its_start(run, capsys):
    assert main(["eval", str(run), "--compare", f"{run}@0", "--suite", "games", "--items", "10"]) == 0
    printed = capsys.readouterr().out
    assert "held-out" in printed
    assert max(map(len, printed.splitlines()[-12:-2])) <= 80
    folder = run / "eval" / "step-2"
    record = json.loads((folder / "held-out-10.json").read_text())
    assert record["scores"]["all"]["n"] == 30
    assert record["asked"]["generator"]["model"] == f"{run}@2"
    gain = json.loads(next(folder.glob("compare-*.json")).read_text())["gain"]["held-out"]["all"]
    assert {"gain", "boot_low", "boot_high", "p", "form_gain", "lenient_gain"} <= set(gain)
    assert (run / "eval" / "step-0" / "held-out-10.jsonl").exists()
    assert main(["eval", str(run), "--suite", "held-out", "--items", "10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["suites"]["held-out"]["scores"] == record["scores"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nano", "--suite", "cruxeval-o-strict"], "reads only its own small language"),
        (["nano", "--suite", "gpqa"], "there is no suite 'gpqa'"),
        (["nano", "--data", "aime24"], "--data takes SUITE=FILE"),
        (["nano", "--data", "gpqa=x.jsonl"], "there is no suite 'gpqa'"),
        (["nano", "--suite", "held-out", "--samples", "4", "--temperature", "0"], "several greedy replies"),
        (["nano", "--suite", "held-out", "--samples", "4", "--temperature", "0.5"], "use --temperature 1 or 0"),
        (["/nowhere/model"], "there is no model"),
    ],
)
def test_wrong_words_are_answered_with_a_sentence(words, said, capsys, tmp_path):
    assert main(["eval", *words, "--output-dir", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().err.replace("\r", "\n").splitlines()
    (error,) = (line for line in printed if line and "Loading weights" not in line)  # transformers' bar
    assert said in error


def test_pass_at_k_of_the_nano_model(tmp_path):
    found = evaluate("nano", "held-out", items=5, samples=4, temperature=1.0, output_dir=tmp_path, seed=3)
    scores = found.results["held-out"].scores["all"]
    assert scores["pass@1"]["accuracy"] <= scores["pass@2"]["accuracy"] <= scores["pass@4"]["accuracy"]
    assert scores["n"] == 15
    assert len(found.results["held-out"].items) == 60
