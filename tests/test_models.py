"""Loading a policy: every source, every tuning, types, padding, prompt style, and one clear sentence for each way to fail."""

import json
import struct
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from azr_lite.config import Config
from azr_lite.errors import ConfigError, ModelError
from azr_lite.presets import preset
from azr_lite.prompts.words import R1
from azr_lite.train.policy import _give_pad_token, choose_precision, load_policy
from azr_lite.train.trainer import SelfPlayTrainer
from tests.tiny import CHAT, CHATML, PLAIN, Scripted, sampled_script, tiny_config, tiny_model, tiny_tokenizer

needs_bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")


def save(folder: Path, *, chat_template: str | None = None, generation: dict | None = None, **tokens: bool) -> str:
    """A tiny model folder as people have them; returns its path."""
    tokenizer = tiny_tokenizer(**tokens)
    tokenizer.chat_template = chat_template
    model = tiny_model(tokenizer)
    for name, value in (generation or {}).items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def types_of(policy) -> set[torch.dtype]:
    return {parameter.dtype for parameter in policy.model.parameters()}


def config(model: str, **changes) -> Config:
    return Config(**{"model": model, "device": "cpu", "dtype": "float32", **changes})


# ---------------------------------------------------------------- sources, types, tuning


def test_an_old_torchao_is_named_before_weights_are_read(monkeypatch):
    """PEFT's own check, on a machine that has one, as Colab's has been."""
    from peft import import_utils

    monkeypatch.setattr(import_utils.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(import_utils.importlib_metadata, "version", lambda name: "0.10.0")
    import_utils.is_torchao_available.cache_clear()
    try:
        with pytest.raises(ModelError, match=r"torchao. Found version 0\.10\.0.*pip uninstall -y torchao"):
            load_policy(config("not/there", tuning="lora"))
    finally:
        import_utils.is_torchao_available.cache_clear()


def test_nano_comes_with_compact_prompts_and_float32():
    pytest.importorskip("azr_lite.nano.model")
    policy = load_policy(preset("nano", device="cpu"))
    assert policy.style == "compact"
    assert types_of(policy) == {torch.float32}
    assert policy.compute is torch.float32


@pytest.mark.parametrize("launched", ["FSDP", "DEEPSPEED"])
def test_where_weights_are_cut_only_the_first_process_reads_them(tmp_path, monkeypatch, launched):
    """The others get the same model with weights that nobody has written; tests/engines measures their memory."""
    folder = save(tmp_path, generation={"eos_token_id": [0, 1]})
    whole = load_policy(config(folder))
    for name, value in {
        f"ACCELERATE_USE_{launched}": "true",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
        "RANK": "1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("azr_lite.train.policy.broadcast_object_list", lambda found: found)  # there is no first process
    (tmp_path / "model.safetensors").unlink()
    empty = load_policy(config(folder))
    sizes = [{name: (p.shape, p.dtype) for name, p in each.model.named_parameters()} for each in (whole, empty)]
    assert sizes[0] == sizes[1], "also: tied weights are tied"
    for name, buffer in whole.model.named_buffers():
        assert torch.equal(buffer, empty.model.get_buffer(name)), name
    assert empty.model.generation_config.eos_token_id == whole.model.generation_config.eos_token_id == [0, 1]
    assert (empty.reasons, empty.untrained) == (whole.reasons, whole.untrained)
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ModelError):
        load_policy(config(folder))


def test_a_folder_loads_with_its_weights_unchanged(tmp_path):
    policy = load_policy(config(save(tmp_path)))
    expected = tiny_model(tiny_tokenizer()).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in policy.model.state_dict().items())
    assert policy.peft_config is None
    assert policy.tokenizer.padding_side == "left"


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16"])
def test_weights_that_are_trained_are_float32_masters(tmp_path, dtype):
    policy = load_policy(config(save(tmp_path), dtype=dtype))
    assert types_of(policy) == {torch.float32}
    assert policy.compute is (torch.bfloat16 if dtype == "bfloat16" else torch.float32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_lora_freezes_a_base_in_the_type_asked_for(tmp_path, dtype):
    policy = load_policy(config(save(tmp_path), tuning="lora", dtype=dtype, lora_rank=8, lora_alpha=32))
    assert types_of(policy) == {getattr(torch, dtype)}
    adapter = policy.peft_config
    assert (adapter.r, adapter.lora_alpha, adapter.lora_dropout, adapter.target_modules) == (8, 32, 0.0, "all-linear")


def test_sixteen_bits_leave_the_position_code_exact():
    """Rounded to bfloat16, its frequencies would be a whole radian off after some hundred tokens; a model read from files never has
    them so."""
    policy = load_policy(config("nano", tuning="lora", dtype="bfloat16"))
    assert types_of(policy) == {torch.bfloat16}
    assert {buffer.dtype for buffer in policy.model.buffers()} == {torch.float32}


def test_a_model_object_is_taken_as_it_is():
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = "right"
    model = tiny_model(tokenizer).to(torch.bfloat16).requires_grad_(False)
    policy = load_policy(config("object:Qwen2ForCausalLM", prompts="r1"), model, tokenizer)
    assert policy.model is model
    assert policy.tokenizer.padding_side == "left"
    assert {(weight.dtype, weight.requires_grad) for weight in model.parameters()} == {(torch.float32, True)}
    with pytest.raises(ModelError, match=r"was an object of a Python program \(Qwen2ForCausalLM\), and is not kept"):
        load_policy(config("object:Qwen2ForCausalLM", prompts="r1"))
    with pytest.raises(ModelError, match="the model given is a Linear; give a model of transformers"):
        load_policy(config("object:Linear", prompts="r1"), torch.nn.Linear(2, 2), tokenizer)
    for wrong in ({"generation": "vllm"}, {"tuning": "qlora"}):
        with pytest.raises(ConfigError, match=r"hub id or (the )?folder"):
            config("object:Qwen2ForCausalLM", **wrong)


@needs_bitsandbytes
def test_qlora_loads_linear_layers_in_four_bits(tmp_path):
    policy = load_policy(config(save(tmp_path), tuning="qlora", dtype="auto"))
    assert policy.model.is_loaded_in_4bit
    assert torch.uint8 in types_of(policy)


@needs_bitsandbytes
def test_a_model_quantized_in_memory_still_names_its_base():
    """Adapters note the name of their base; it must not be the folder that the weights went through."""
    policy = load_policy(preset("nano", tuning="qlora", device="cpu"))
    assert policy.model.is_loaded_in_4bit
    assert Path(policy.model.config._name_or_path).is_dir()


def test_qlora_without_bitsandbytes_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "bitsandbytes" else find_spec(name, *rest)
    )
    with pytest.raises(ModelError, match="needs bitsandbytes"):
        load_policy(config(save(tmp_path), tuning="qlora", dtype="auto"))


def test_nano_under_lora_is_float32_by_choice_not_for_want_of_16_bits():
    reason = choose_precision(preset("nano", tuning="lora", device="cpu")).reason
    assert "casting so small a model costs more" in reason
    assert "the machine has no" not in reason


def test_precision_gives_its_reason_and_is_the_same_each_time():
    settings = config("nano", tuning="lora", dtype="auto", device="auto")
    first, second = choose_precision(settings), choose_precision(settings)
    assert first == second
    assert first.device.type in first.reason


@pytest.mark.parametrize("bfloat16", [True, False])
def test_auto_takes_bfloat16_for_a_frozen_base_only_where_the_machine_has_it(monkeypatch, bfloat16):
    monkeypatch.setattr(
        "azr_lite.train.policy.cpu_arithmetic", lambda: "bfloat16 (avx512_bf16)" if bfloat16 else "float32"
    )
    weights = torch.bfloat16 if bfloat16 else torch.float32
    assert choose_precision(config("some/model", tuning="lora", dtype="auto")).weights is weights
    assert choose_precision(config("some/model", tuning="full", dtype="auto")).weights is torch.float32


# ---------------------------------------------------------------- tokenizer


def test_a_tokenizer_without_padding_token_pads_with_its_end_and_says_so(tmp_path):
    policy = load_policy(config(save(tmp_path, pad=False)))
    assert policy.tokenizer.pad_token == policy.tokenizer.eos_token
    assert any("padding token" in line for line in policy.reasons)


def test_padding_that_equals_eos_hides_no_eos_from_the_loss(tmp_path):
    """The batch masks by length: each reply's end token is trained on, even where padding looks the same."""
    from azr_lite.train.trainer import SelfPlayTrainer

    settings = tiny_config(steps=1)
    policy = load_policy(config(save(tmp_path / "model")))
    policy.tokenizer.pad_token = policy.tokenizer.eos_token
    player = Scripted(sampled_script(settings))
    trainer = SelfPlayTrainer(settings, policy, PLAIN, player, tmp_path / "run")
    batch = trainer._generate_and_score_completions([{"prompt": ""}] * settings.rows)
    assert batch["completion_mask"].sum(dim=1).tolist() == [len(r.completion_ids) for r in trainer.rollouts]
    assert any(r.completion_ids[-1] == policy.tokenizer.eos_token_id for r in trainer.rollouts)


def test_a_tokenizer_without_end_token_is_refused():
    tokenizer = tiny_tokenizer()
    model = tiny_model(tokenizer)
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        _give_pad_token(tokenizer, model, "some model")


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    folder = save(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"eos_token": "<another end>"})
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="do not match"):
        load_policy(config(folder))


def test_the_models_own_sampling_settings_are_dropped(tmp_path):
    """Many chat models bring top-k and a repetition penalty: sampling from those, scored without, is another policy."""
    folder = save(
        tmp_path, generation={"top_k": 3, "repetition_penalty": 1.3, "do_sample": True, "eos_token_id": [0, 3]}
    )
    policy = load_policy(config(folder))
    settings = policy.model.generation_config
    assert settings.eos_token_id == [0, 3]
    assert settings.repetition_penalty in (None, 1.0)
    assert settings.top_k in (None, 50)
    assert any("repetition_penalty=1.3" in line for line in policy.reasons)


# ---------------------------------------------------------------- prompt style

ALIEN = CHATML.replace("</s>", "<|im_end|>")


@pytest.mark.parametrize(
    ("template", "asked", "given"),
    [
        (None, "auto", "r1"),
        (CHATML, "auto", "chat"),
        (ALIEN, "auto", "r1"),  # a base model that ships a template (Qwen2.5 does): it would never stop
        (CHATML, "r1", "r1"),
        (ALIEN, "chat", "chat"),
        (None, "compact", "compact"),
    ],
)
def test_the_prompt_style_follows_the_template(tmp_path, template, asked, given):
    policy = load_policy(config(save(tmp_path, chat_template=template), prompts=asked))
    assert policy.style == given
    assert any(line.startswith(f"{given} prompts") for line in policy.reasons)


def with_think_token(folder, *, norm: float, unused: bool = False) -> str:
    """A model whose vocabulary has <think> as one token, with an embedding of so many times the median's norm."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<think>"])
    model = tiny_model(tokenizer)
    model.resize_token_embeddings(len(tokenizer) + 4, mean_resizing=False)
    with torch.no_grad():
        weights = model.get_input_embeddings().weight
        usual = weights[: len(tokenizer) - 1].norm(dim=1).median()
        weights[len(tokenizer) :] = torch.ones_like(weights[0])
        token = tokenizer.convert_tokens_to_ids("<think>")
        direction = (
            torch.ones_like(weights[0])
            if unused
            else torch.randn(weights.shape[1], generator=torch.Generator().manual_seed(0))
        )
        weights[token] = norm * usual * direction / direction.norm()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("norm", "unused", "untrained"),
    [(1.0, False, False), (0.1, False, True), (1.0, True, True)],
    ids=["trained", "small", "like unused rows"],
)
def test_a_think_token_that_was_never_trained_is_written_as_text(tmp_path, norm, unused, untrained):
    policy = load_policy(config(with_think_token(tmp_path / "model", norm=norm, unused=unused)))
    assert policy.untrained == ({"<think>"} if untrained else set())
    assert (
        any(line.startswith("<think> is a token this model was never taught") for line in policy.reasons) == untrained
    )
    trainer = SelfPlayTrainer(tiny_config(), policy, R1, Scripted(lambda generate, step: []), tmp_path)
    text, ids = trainer.codec.encode(R1.render("hello"))
    token = policy.tokenizer.convert_tokens_to_ids("<think>")
    assert (ids.count(token) == 0) == untrained
    assert "".join(policy.tokenizer.decode(ids).split()) == "".join(text.split())
    assert text.count("<think>") == 2


def test_chat_prompts_without_template_are_refused(tmp_path):
    with pytest.raises(ModelError, match="no chat template"):
        load_policy(config(save(tmp_path), prompts="chat"))


def test_a_chat_policy_samples_behind_its_template(tmp_path):
    from azr_lite.train.trainer import SelfPlayTrainer

    settings = tiny_config()
    policy = load_policy(config(save(tmp_path / "model", chat_template=CHATML)))
    trainer = SelfPlayTrainer(settings, policy, CHAT, Scripted(sampled_script(settings)), tmp_path / "run")
    reply = trainer.generate(["hi"])[0]
    expected = policy.tokenizer("<user>hi</s><assistant>", add_special_tokens=False)["input_ids"]
    assert list(reply.prompt_ids) == expected
    assert trainer.count_tokens("hi") == len(expected)


# ---------------------------------------------------------------- ways to fail, one sentence each


def unreadable_gguf(folder: Path) -> str:
    path = folder / "broken.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 5, 1000) + b"\xff" * 64)
    return str(path)


def adapter_only(folder: Path) -> str:
    (folder / "adapter_config.json").write_text("{}")
    return str(folder)


def plain_file(folder: Path) -> str:
    path = folder / "weights.bin"
    path.write_bytes(b"x")
    return str(path)


def broken_config(folder: Path) -> str:
    (folder / "config.json").write_text('{"model_type": "no such architecture"}')
    return str(folder)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: str(folder), "config.json is missing"),
        (adapter_only, "only an adapter"),
        (plain_file, "is a file, but not .gguf"),
        (broken_config, "cannot be loaded"),
        (unreadable_gguf, "cannot be read as a GGUF"),
        (lambda folder: str(folder / "missing.gguf"), "there is no file"),
        (lambda folder: str(folder / "missing" / "deep"), "there is no model at"),
        (lambda folder: "./missing", "there is no model at"),
        (lambda folder: "somebody/some-model", "the hub cannot be reached"),
        (lambda folder: "not a name", "the hub has no model"),
    ],
)
def test_what_cannot_be_loaded_is_one_clear_sentence(tmp_path, monkeypatch, make, says):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=says) as caught:
        load_policy(config(make(tmp_path)))
    assert "\n" not in str(caught.value)


def test_a_missing_gpu_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="torch sees no GPU"):
        load_policy(config("nano", device="cuda"))
    with pytest.raises(ModelError, match="trains on GPUs only"):
        load_policy(config("nano", device="auto", dtype="float16"))


@pytest.mark.parametrize(
    ("cuda", "says"), [("13.0", "wants CUDA 13.0: a newer driver; install"), (None, "built for CPUs")]
)
def test_a_gpu_that_torch_does_not_see_stops_the_run(tmp_path, monkeypatch, cuda, says):
    """As on Colab, after a torch for a newer driver was installed; the CPU would have trained in silence."""
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'Tesla T4, 550.54.15'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    for device in ("auto", "cuda"):
        with pytest.raises(ModelError, match=rf"\(Tesla T4, 550\.54\.15\).*{says}"):
            choose_precision(config("some/model", device=device))
    assert choose_precision(config("some/model", device="cpu")).device.type == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # hidden on purpose
    assert choose_precision(config("some/model", device="auto")).device.type == "cpu"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    smi.write_text("#!/bin/sh\nexit 9\n")  # the driver is not loaded
    assert choose_precision(config("some/model", device="auto")).device.type == "cpu"


def test_nano_trains_on_the_cpu_where_its_sampler_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    found = choose_precision(config("nano", device="auto", dtype="auto"))
    assert (found.device.type, found.compute) == ("cpu", torch.float32)
    assert "device cpu: where nano has its own sampler" in found.reason
    assert choose_precision(config("nano", device="cuda", dtype="auto")).device.type == "cuda"
    assert choose_precision(config("some/model", device="auto", dtype="auto")).device.type == "cuda"


def test_a_model_bringing_its_own_code_is_never_run(tmp_path):
    folder = Path(save(tmp_path))
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}, "model_type": "evil"}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError):
        load_policy(config(str(folder)))
    assert not (tmp_path / "ran").exists()
