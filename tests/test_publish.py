"""Exports: exact, clean of this machine, with a card whose code runs; and a hub on loopback that takes them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

torch = pytest.importorskip("torch")

from peft import LoraConfig, PeftModel, get_peft_model  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

import azr_lite.export  # noqa: E402
from azr_lite.cli import main  # noqa: E402
from azr_lite.config import Config  # noqa: E402
from azr_lite.errors import PublishError  # noqa: E402
from azr_lite.evaluation.scores import VERSION, Item, Result, summarize  # noqa: E402
from azr_lite.export import (  # noqa: E402
    check_repository,
    contents,
    export,
    push,
)
from azr_lite.export.model_card import fence, public  # noqa: E402
from azr_lite.nano.model import load_nano  # noqa: E402
from azr_lite.rundir import RunDir  # noqa: E402
from azr_lite.train.checkpoints import seal  # noqa: E402
from tests.hub_stub import running_hub  # noqa: E402
from tests.tiny import tiny_model, tiny_tokenizer  # noqa: E402

TOKEN = "hf_" + "secretsecretsecret" * 2
BREAKOUT = "def f(x):\n    return x\n```\n# Free of the fence\n````\n<script>"


def make_run(folder: Path, model: str, **settings) -> Path:
    """A run directory as training leaves it, with one task of each kind in its log, without checkpoints."""
    config = Config(model=model, output_dir=str(folder), updates_per_step=2, steps=5, **settings)
    command = f"azr-lite run --model {model} --output-dir {folder} --vllm-server http://me:{TOKEN}@host:80"
    run = RunDir.create(
        config,
        {
            "environment": {"command": command, "versions": {"torch": "2.13"}},
            "model": {"choices": [f"{model}: loaded"]},
        },
    )
    triplet = {"type": "deduction", "program": BREAKOUT, "input": "1", "output": "1"}
    run.append_tasks([{"step": 0, "type": "deduction", "ok": True, "solve_rate": 0.5, "task": triplet}])
    run.append_tasks([{"step": 1, "type": "abduction", "ok": False, "solve_rate": None, "task": None}])
    run.append_tasks([{"step": 4, "type": "abduction", "ok": True, "solve_rate": 1.0, "task": triplet}])
    return folder


def add_checkpoint(run: Path, updates: int, model, tokenizer, proposer=None) -> Path:
    checkpoint = run / f"checkpoint-{updates}"
    model.save_pretrained(checkpoint)
    tokenizer.save_pretrained(checkpoint)
    if proposer is not None:
        proposer.save_pretrained(checkpoint / "proposer")
    for name in ("optimizer.pt", "rng_state.pth", "trainer_state.json", "training_args.bin"):
        (checkpoint / name).write_text("not for others")
    seal(checkpoint, {})
    return checkpoint


def adapted(base, seed: int):
    """An adapter whose effect is large."""
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    return model


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model.eval()(input_ids=torch.arange(3, 60)[None]).logits


def load(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder)


def code_of(folder: Path) -> str:
    return re.search(r"^(`{3,})python\n(.*?)\n\1$", (folder / "README.md").read_text(), re.DOTALL | re.MULTILINE)[2]


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("private") / "tiny-base"
    tokenizer = tiny_tokenizer()
    tiny_model(tokenizer, width=64).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: tiny-research\n---\n# Tiny\n")
    return folder


@pytest.fixture(scope="module")
def lora_run(base_folder, tmp_path_factory):
    """Two steps of one adapter for both roles."""
    run = make_run(tmp_path_factory.mktemp("private") / "lora", str(base_folder), tuning="lora", prompts="r1")
    for step in (1, 2):
        add_checkpoint(run, 2 * step, adapted(tiny_model(tiny_tokenizer(), width=64), step), tiny_tokenizer())
    return run


@pytest.fixture(scope="module")
def nano_run(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("private") / "nano", "nano", prompts="compact")
    model, tokenizer = load_nano()
    add_checkpoint(run, 10, model, tokenizer)
    return run


@pytest.fixture(scope="module")
def merged(lora_run):
    return export(lora_run, merge=True)


@pytest.fixture(scope="module")
def nano_export(nano_run):
    return export(nano_run)


# ---------------------------------------------------------------- the model is the same


def test_a_merged_model_is_base_plus_adapter_for_plain_transformers(merged):
    separate = adapted(tiny_model(tiny_tokenizer(), width=64), 2)
    two = logits(separate)
    plain = load(merged)
    assert plain.dtype == torch.float32
    one = logits(plain)
    assert float((one - two).abs().max()) < 1e-5 * float(two.abs().max())
    assert torch.equal(one, logits(separate.merge_and_unload()))  # the same sum W + s·B·A: not a bit apart
    assert float((one - logits(tiny_model(tiny_tokenizer(), width=64))).abs().max()) > 0.1
    assert merged.name == "export-merged-step-2"


def test_weights_that_deepspeed_saved_go_out_with_all_their_digits(nano_run, tmp_path, monkeypatch):
    """Its model.safetensors has 16 bits, its own files have 32 (tests/engines reads real ones)."""
    run = tmp_path / "run"
    shutil.copytree(nano_run, run)
    checkpoint = run / "checkpoint-10"
    exact = load(checkpoint).float().state_dict()
    load(checkpoint).bfloat16().save_pretrained(checkpoint)
    (checkpoint / "latest").write_text("global_step10")
    seal(checkpoint, {})
    with pytest.raises(PublishError, match="install deepspeed"):
        export(run, tmp_path / "refused")
    reader = ModuleType("deepspeed.utils.zero_to_fp32")
    reader.get_fp32_state_dict_from_zero_checkpoint = lambda folder: exact if folder == str(checkpoint) else None
    for name in ("deepspeed", "deepspeed.utils", reader.__name__):
        monkeypatch.setitem(sys.modules, name, reader)
    monkeypatch.setattr("azr_lite.export.importlib.util.find_spec", lambda name: reader)
    assert torch.equal(logits(load(export(run, tmp_path / "out"))), logits(load(nano_run / "checkpoint-10")))


def test_an_adapter_goes_out_as_it_was_trained(lora_run, tmp_path):
    folder = export(lora_run, tmp_path / "out", step="1")
    loaded = PeftModel.from_pretrained(tiny_model(tiny_tokenizer(), width=64), folder)
    assert torch.equal(logits(loaded), logits(adapted(tiny_model(tiny_tokenizer(), width=64), 1)))
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny-base"


def test_nano_speaks_to_plain_transformers_with_its_own_tokenizer(nano_run, nano_export):
    """As Qwen2 it would get Qwen's splitting rule from AutoTokenizer."""
    model, own = load_nano()
    assert torch.equal(logits(load(nano_export)), logits(model))
    text = "solve deduction\n```python\ndef f(x):\n    x = x[::-1]\n    return x\n```"
    assert AutoTokenizer.from_pretrained(nano_export)(text)["input_ids"] == own(text)["input_ids"]
    assert AutoTokenizer.from_pretrained(nano_run / "checkpoint-10")(text)["input_ids"] != own(text)["input_ids"]


def test_an_export_may_be_read_by_whom_its_folder_may(nano_export):
    allowed = nano_export.stat().st_mode & 0o666
    assert {file.name: file.stat().st_mode & 0o777 for file in nano_export.iterdir()} == dict.fromkeys(
        sorted(p.name for p in nano_export.iterdir()), allowed
    )


def test_fully_trained_weights_go_out_alone(base_folder, tmp_path):
    run = make_run(tmp_path / "full", str(base_folder), tuning="full", prompts="r1")
    trained = tiny_model(tiny_tokenizer(), seed=4, width=64)
    add_checkpoint(run, 2, trained, tiny_tokenizer())
    folder = export(run)
    assert torch.equal(logits(load(folder)), logits(trained))
    assert AutoTokenizer.from_pretrained(folder)("ab c")["input_ids"] == tiny_tokenizer()("ab c")["input_ids"]
    (run / "checkpoint-2" / "config.json").unlink()
    seal(run / "checkpoint-2", {})
    with pytest.raises(PublishError, match="holds no weights that transformers reads"):
        export(run, tmp_path / "again")


def test_halves_are_rounded_and_say_so(lora_run, tmp_path):
    folder = export(lora_run, tmp_path / "half", merge=True, dtype="bfloat16")
    exact = adapted(tiny_model(tiny_tokenizer(), width=64), 2).merge_and_unload().state_dict()
    plain = load(folder)
    assert plain.dtype == torch.bfloat16
    assert all(torch.equal(plain.state_dict()[name], weight.to(torch.bfloat16)) for name, weight in exact.items())
    assert "rounded to bfloat16" in (folder / "README.md").read_text()


def test_split_roles_go_out_one_at_a_time(base_folder, tmp_path):
    run = make_run(tmp_path / "split", str(base_folder), tuning="lora", roles="split", prompts="r1")
    solver, proposer = (adapted(tiny_model(tiny_tokenizer(), width=64), seed) for seed in (5, 6))
    add_checkpoint(run, 2, solver, tiny_tokenizer(), proposer)
    for role, model in (("", solver), ("proposer", proposer)):
        folder = export(run, role=role)
        assert folder.name == f"export-adapter-{role or 'solver'}-step-1"
        assert torch.equal(
            logits(PeftModel.from_pretrained(tiny_model(tiny_tokenizer(), width=64), folder)), logits(model)
        )
        assert f"the {role or 'solver'} of two separate roles" in (folder / "README.md").read_text()
    taken = logits(load(export(run, merge=True, role="proposer")))
    assert torch.equal(taken, logits(proposer.merge_and_unload()))


def test_qlora_is_merged_into_the_base_that_it_was_trained_on(base_folder, tmp_path):
    pytest.importorskip("bitsandbytes")
    from azr_lite.train.policy import load_policy

    run = make_run(tmp_path / "four-bit", str(base_folder), tuning="qlora", prompts="r1")
    config = Config(model=str(base_folder), tuning="qlora", device="cpu", dtype="bfloat16", prompts="r1")
    trained = adapted(load_policy(config).model, 3)
    add_checkpoint(run, 2, trained, tiny_tokenizer())
    one, two = logits(load(export(run, merge=True))), logits(trained).float()
    original = logits(adapted(tiny_model(tiny_tokenizer(), width=64), 3))
    assert float((one - two).abs().mean()) < 0.2 * float(
        (original - two).abs().mean()
    )  # training calculates in bfloat16, hence not zero
    assert "dequantised" in (run / "export-merged-step-1" / "README.md").read_text()
    assert "quantization_config" not in json.loads((run / "export-merged-step-1" / "config.json").read_text())


def test_an_export_that_reads_back_otherwise_is_not_left_behind(lora_run, tmp_path, monkeypatch):
    other = tiny_model(tiny_tokenizer(), seed=9, width=64)
    monkeypatch.setattr(azr_lite.export.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: other)
    monkeypatch.setattr(
        azr_lite.export, "load_policy", lambda config: type("P", (), {"model": tiny_model(tiny_tokenizer(), width=64)})
    )
    with pytest.raises(PublishError, match="gives other logits"):
        export(lora_run, tmp_path / "out", merge=True)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- files and card


@pytest.mark.parametrize("kind", ["merged", "adapter", "whole"])
def test_nothing_of_this_machine_goes_out(kind, merged, lora_run, nano_export, tmp_path):
    folder = {
        "merged": lambda: merged,
        "adapter": lambda: export(lora_run, tmp_path / "out"),
        "whole": lambda: nano_export,
    }[kind]()
    names = {path.name for path in folder.iterdir()}
    weights = (
        {"adapter_model.safetensors", "adapter_config.json"}
        if kind == "adapter"
        else {"model.safetensors", "config.json"}
    )
    assert names - {"generation_config.json"} == {"README.md", "tokenizer.json", "tokenizer_config.json", *weights}
    assert {name for name, _ in contents(folder)} == names
    for path in folder.iterdir():
        data = path.read_bytes()
        for secret in (str(lora_run.parent), "/tmp/", str(Path.home()) + "/", "pytest-of", TOKEN, "hf_secret"):
            assert secret.encode() not in data, (path.name, secret)


@pytest.mark.parametrize("kind", ["merged", "whole"])
def test_the_code_in_the_card_runs(kind, merged, nano_export, monkeypatch, capsys):
    folder = merged if kind == "merged" else nano_export
    monkeypatch.chdir(folder.parent)
    code = code_of(folder).replace("max_new_tokens=256", "max_new_tokens=100")
    names: dict = {}
    exec(compile(code, "card", "exec"), names)  # our own words, from our own template
    if kind == "whole":
        model, tokenizer = load_nano()
        ids = tokenizer(names["prompt"], return_tensors="pt").input_ids
        reply = model.generate(input_ids=ids, max_new_tokens=100, do_sample=False)
        said = tokenizer.decode(reply[0, ids.shape[1] :])
        assert capsys.readouterr().out == said + "\n"
        assert re.fullmatch(r".*</think><answer>```output\n\d\n```</answer><eos>", said, re.DOTALL)


def test_the_code_of_an_adapter_runs_once_the_base_is_named(lora_run, base_folder, tmp_path, monkeypatch):
    folder = export(lora_run, tmp_path / "out")
    assert (
        "The base model `tiny-base` was a local copy: put its place into the code" in (folder / "README.md").read_text()
    )
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(
        compile(code_of(folder).replace("'tiny-base'", repr(str(base_folder))).replace("=256", "=4"), "card", "exec"),
        names,
    )
    assert isinstance(names["model"], PeftModel)


def test_the_card_tells_what_the_run_did(merged):
    text = (merged / "README.md").read_text()
    assert 'license_name: "tiny-research"' in text
    assert "| deduction | 1 | 1 | 1 | 1 |" in text
    assert "| abduction | 1 | 0 | 0 | 0 |" in text  # the task of step 4 came after the exported step
    assert "other (tiny-research)" in text
    assert 'license: "other"' in text
    assert "`azr-lite run --model tiny-base --output-dir lora --vllm-server http://host:80`" in text
    assert "Not evaluated: the run kept no held-out evaluation of both its start and step 2" in text
    assert "base_model:" not in text  # a local folder is nothing on the hub
    assert "2505.03335" in text


def test_the_card_gives_the_gain_of_the_exported_step_only(lora_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(lora_run, run, ignore=shutil.ignore_patterns("export-*"))
    (run / "eval").mkdir()
    for name, right in (("before", 4), ("step-2", 7)):
        items = [Item(str(i), "deduction", "", i < right, True, "", "", "", 5, False, i < right) for i in range(10)]
        Result(name, items, {"version": VERSION, "scores": summarize(items)}).keep(run / "eval")
    text = (export(run, step="2") / "README.md").read_text()
    assert "| deduction | 10 | 40.0 % | 70.0 % | +30.0 [+1.6, +58.4] |" in text  # 0.3 -+ 1.96 * sqrt(0.3 * 0.7 / 10)
    assert "no held-out evaluation of both its start and step 1" in (export(run, step="1") / "README.md").read_text()


def test_what_a_model_wrote_stays_in_its_fence(merged):
    text = (merged / "README.md").read_text()
    quoted = re.search(r"word for word as the model wrote it:\n\n(`{3,})text\n(.*?)\n\1\n", text, re.DOTALL)
    assert quoted[1] == "`" * 5
    assert BREAKOUT in quoted[2]
    assert "# Free of the fence" not in text.replace(quoted[0], "")
    assert fence("a\x1b[2J\x00b", "text") == "```text\na?[2J?b\n```"


def test_paths_and_tokens_are_taken_out_and_the_rest_stays():
    assert public("run --model /home/ann/models/q.gguf --x=/a/b '~/c/d' hub:ann/azr 1/2 http://u:p@host/a") == (
        "run --model q.gguf --x=b 'd' hub:ann/azr 1/2 http://host/a"
    )
    assert public(f"HF_TOKEN={TOKEN}") == "HF_TOKEN=(token)"


# ---------------------------------------------------------------- which checkpoint; what is refused


def test_the_best_checkpoint_is_taken_where_the_run_marks_one(lora_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(lora_run, run, ignore=shutil.ignore_patterns("export-*"))
    with pytest.raises(PublishError, match="marks no best checkpoint"):
        export(run, step="best")
    RunDir(run).save_summary({"best": {"step": 1, "accuracy": 0.5, "checkpoint": "checkpoint-2"}})
    assert export(run, step="best").name == "export-adapter-step-1"
    (run / "checkpoint-4" / "optimizer.pt").unlink()  # cut short: the last whole one is the other
    assert export(run, tmp_path / "last", step="last").exists()
    assert "step 1 of 5" in (tmp_path / "last" / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"step": "7"}, "has no checkpoint of step 7; choose last, best or one of: 1, 2"),
        ({"role": "proposer"}, "same weights for both roles; drop --role"),
        ({"role": "judge"}, "there is no role 'judge'"),
        ({"dtype": "int8", "merge": True}, "there is no type 'int8'"),
        ({"dtype": "bfloat16"}, "an adapter is exported as it was trained"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(lora_run, changes, sentence):
    with pytest.raises(PublishError, match=re.escape(sentence)) as raised:
        export(lora_run, **changes)
    assert "\n" not in str(raised.value)


def test_what_is_there_is_not_overwritten(lora_run, nano_run, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(PublishError, match="exists already"):
        export(lora_run, tmp_path / "mine")
    with pytest.raises(PublishError, match="nothing to merge"):
        export(nano_run, tmp_path / "new", merge=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_dry_run_lists_and_shows_and_sends_nothing(nano_run, capsys):
    before = sorted(nano_run.iterdir())
    assert main(["push", str(nano_run), "me/small", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"[\d,]{9} bytes  model.safetensors", said)
    assert "place = 'me/small'" in said
    assert "nothing was sent" in said
    assert sorted(nano_run.iterdir()) == before


@pytest.mark.parametrize("name", ["alone", "a/b/c", "me/with space", "-me/x", "me/" + "x" * 100])
def test_a_name_that_the_hub_would_not_take_is_a_sentence(name):
    with pytest.raises(PublishError, match="write USER/NAME"):
        check_repository(name)


def test_only_exports_are_uploaded(lora_run, tmp_path):
    """peft gives a checkpoint a README.md too, one that names folders of this machine."""
    with pytest.raises(PublishError, match=r"holds optimizer\.pt, which no export does"):
        push(lora_run / "checkpoint-4", "me/small")
    with pytest.raises(PublishError, match="neither a run nor an exported model"):
        push(tmp_path, "me/small")


# ---------------------------------------------------------------- a hub on loopback


STORY = """
import json, os, sys
from pathlib import Path
import huggingface_hub
import torch
from azr_lite.cli import main
from azr_lite.config import Config
from azr_lite.train.checkpoints import HubMirror, try_push

exported, run, folder = map(Path, sys.argv[1:])
found = {"pushed": main(["push", str(exported), "me/small"])}
found["again"] = main(["push", str(exported), "me/small", "--public"])
found["foreign"] = main(["push", str(exported), "you/small"])

from azr_lite.train.policy import load_policy

policy = load_policy(Config(model="me/small", device="cpu", dtype="float32", tuning="full", prompts="compact"))
with torch.no_grad():
    found["logits"] = policy.model(input_ids=torch.arange(3, 60)[None]).logits[0, -1].tolist()
found["ids"] = policy.tokenizer("def f(x):\\n    return x[::-1]")["input_ids"]
mirror = HubMirror("me/runs", run)
found["empty"] = mirror.newest_step()
found["sync"] = try_push(mirror)
found["newest"] = mirror.newest_step()
back = HubMirror("me/runs", folder / run.name)
back.fetch()
del os.environ["HF_TOKEN"]
found["nameless"] = main(["push", str(exported), "me/small"])
huggingface_hub.constants.ENDPOINT = "http://127.0.0.1:9"
found["away"] = main(["push", str(exported), "me/small"])
print("FOUND" + json.dumps(found))
"""


def client(hub_url: str, home: Path, token: str) -> dict[str, str]:
    names = {
        "HF_ENDPOINT": hub_url,
        "HF_HOME": str(home),
        "HF_TOKEN": token,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }
    return {**os.environ, **names, "PYTHONPATH": str(Path(__file__).parents[1])}


@pytest.fixture(scope="module")
def story(nano_export, nano_run, tmp_path_factory):
    """Push twice and to somebody else, load by name, copy a run and fetch it: in one process of its own."""
    root, home, folder = (tmp_path_factory.mktemp(name) for name in ("hub", "home", "fetched"))
    with running_hub(root, TOKEN) as hub:
        command = [sys.executable, "-c", STORY, str(nano_export), str(nano_run), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, env=client(hub.url, home, TOKEN), timeout=240)
        assert "FOUND" in done.stdout, done.stdout + done.stderr
        yield json.loads(done.stdout.partition("FOUND")[2]), hub, done, folder


def test_what_is_pushed_is_what_was_exported(story, nano_export):
    found, hub, _, _ = story
    assert found["pushed"] == found["again"] == 0
    files = hub.files("me/small")
    assert files == {path.name: path.read_bytes() for path in nano_export.iterdir()}
    assert hub.private["me/small"]


def test_a_pushed_model_loads_by_its_name(story):
    found, hub, _, _ = story
    model, tokenizer = load_nano()
    assert found["logits"] == logits(model)[0, -1].tolist()
    assert found["ids"] == tokenizer("def f(x):\n    return x[::-1]")["input_ids"]
    assert any(path.endswith("model.safetensors") and "/resolve/" in path for _, path in hub.requests)


def test_what_the_hub_refuses_is_one_sentence(story):
    found, _, done, _ = story
    assert (found["foreign"], found["nameless"], found["away"]) == (1, 1, 1)
    said = [line for line in done.stderr.splitlines() if line.startswith("azr-lite: ")]
    starts = ("this token may not write to you/small", "the hub wants a token", "the hub cannot be reached")
    assert [line.removeprefix("azr-lite: ").startswith(start) for line, start in zip(said, starts, strict=True)] == [
        True
    ] * 3
    assert "Traceback" not in done.stderr


def test_offline_is_one_sentence(nano_export):
    with pytest.raises(PublishError, match="HF_HUB_OFFLINE is set"):
        push(nano_export, "me/small")


def test_a_run_is_copied_to_the_hub_and_comes_back(story, nano_run):
    found, _, _, folder = story
    assert (found["empty"], found["sync"], found["newest"]) == (None, "", 10)
    assert (folder / "nano" / "tasks.jsonl").read_bytes() == (nano_run / "tasks.jsonl").read_bytes()
    assert (folder / "nano" / "checkpoint-10" / "model.safetensors").exists()
