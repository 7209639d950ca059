"""The planner: counts of weights, bytes against real tensors and published peaks, formulae, advice."""

from __future__ import annotations

import dataclasses
import gc
import json
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import azr_lite
from azr_lite.cli import main
from azr_lite.config import Config
from azr_lite.errors import ConfigError, ModelError
from azr_lite.planner import vram
from azr_lite.planner.plan import Plan, natural_gpu, plan, plan_all, with_sampler
from azr_lite.planner.text import plan_table, plan_text, why_text
from azr_lite.planner.vram import GB, KNOWN, Shape, detect_gpu, find_card, shape_of, shape_of_config
from azr_lite.presets import PRESETS, list_presets, preset
from azr_lite.train.distributed import check_processes
from tests.tiny import tiny_model, tiny_policy, tiny_tokenizer

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def no_gpu_here(monkeypatch):
    """Plans must not depend on the machine that runs the tests."""
    monkeypatch.setattr("azr_lite.planner.plan.detect_gpu", lambda: None)


def lora(**changes):
    """Adapters of rank 16 with checkpointing, as in the table of trl.md, section F."""
    settings = {
        "model": "Qwen/Qwen2.5-0.5B",
        "tuning": "lora",
        "gradient_checkpointing": True,
        "micro_batch_size": 2,
        "lora_rank": 16,
    }
    return Config(**{**settings, **changes})


def full(**changes):
    return lora(**{"tuning": "full", "micro_batch_size": 1, **changes})


# ---------------------------------------------------------------- counts of weights


@pytest.mark.parametrize(
    ("model", "published"),
    [
        ("Qwen/Qwen2.5-0.5B", 494_032_768),
        ("Qwen/Qwen2.5-Coder-1.5B-Instruct", 1_543_714_304),
        ("Qwen/Qwen2.5-3B", 3_085_938_688),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
        ("Qwen/Qwen2.5-Coder-14B", 14_770_033_664),
        ("meta-llama/Llama-3.1-8B", 8_030_261_248),
        ("meta-llama/Llama-3.2-3B-Instruct", 3_212_749_824),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008),
        ("Qwen/Qwen3-0.6B", 596_049_920),
        ("Qwen/Qwen3-8B-Base", 8_190_735_360),
    ],
)
def test_counts_are_the_published_ones(model, published):
    assert shape_of(model).parameters == published


def on_meta(shape: Shape):
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": shape.hidden, "intermediate_size": shape.intermediate, "num_hidden_layers": shape.layers}
    sizes |= {"num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads, "head_dim": shape.head_dim}
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(
            AutoConfig.for_model(shape.family, **sizes, vocab_size=shape.vocab, tie_word_embeddings=shape.tied)
        )


@pytest.mark.parametrize("model", sorted({shape: name for name, shape in KNOWN.items()}.values()))
def test_counts_are_those_of_transformers(model):
    """On the meta device: no memory, every layer."""
    shape, built = shape_of(model), on_meta(shape_of(model))
    assert shape.parameters == sum(p.numel() for p in built.parameters())
    linear = [m for name, m in built.named_modules() if isinstance(m, torch.nn.Linear) and "lm_head" not in name]
    assert shape.linear_parameters == sum(m.weight.numel() for m in linear)
    assert shape_of_config(built.config.to_dict()) == shape


def test_nano_folder_and_adapters(tmp_path):
    assert shape_of("nano").parameters == pytest.approx(
        Path(azr_lite.__file__).parent.joinpath("nano/weights/model.safetensors").stat().st_size / 4, rel=0.01
    )
    model = tiny_model(tiny_tokenizer())
    model.config.save_pretrained(tmp_path)
    shape = shape_of(str(tmp_path))
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    policy = tiny_policy("lora")
    from peft import get_peft_model

    adapted = get_peft_model(policy.model, policy.peft_config)
    assert shape.adapter_parameters(4) == sum(p.numel() for p in adapted.parameters() if p.requires_grad)


@pytest.mark.parametrize("model", ["foo/bar", "no.gguf", "/nowhere"])
def test_an_unknown_model_gets_one_sentence(model):
    with pytest.raises(ModelError, match=r"give a local folder|give the path") as caught:
        plan(lora(model=model), "16GB")
    assert "\n" not in str(caught.value)


def test_other_families_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "mixtral"}')
    with pytest.raises(ModelError, match="'mixtral'"):
        shape_of(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(ModelError, match="does not describe"):
        shape_of(str(tmp_path))


# ---------------------------------------------------------------- bytes against real tensors


def _bytes(tensors):
    return sum(x.numel() * x.element_size() for x in tensors)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_states_are_exactly_the_real_tensors(tmp_path, tuning):
    policy = tiny_policy(tuning)
    model = policy.model
    model.config.save_pretrained(tmp_path)
    if tuning == "lora":
        from peft import get_peft_model

        model = get_peft_model(model.to(torch.bfloat16), policy.peft_config)
        for p in model.parameters():
            p.data = p.data.float() if p.requires_grad else p.data
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained)
    with torch.autocast("cpu", torch.bfloat16):
        model(input_ids=torch.ones(1, 4, dtype=torch.long)).logits.float().sum().backward()
    optimiser.step()
    shape, config = shape_of(str(tmp_path)), lora(model=str(tmp_path), tuning=tuning, lora_rank=4)
    frozen = [p for p in model.parameters() if not p.requires_grad]
    moments = [state[name] for state in optimiser.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert vram.weight_bytes(shape, config) == _bytes(frozen if tuning == "lora" else trained)
    assert vram.adapter_bytes(shape, config) == (_bytes(trained) if tuning == "lora" else 0)
    assert vram.gradient_bytes(shape, config) == _bytes(p.grad for p in trained)
    assert vram.optimiser_bytes(shape, config) == _bytes(moments)


def test_the_cache_is_the_real_cache():
    from transformers import DynamicCache

    model = tiny_model(tiny_tokenizer())
    cache = DynamicCache(config=model.config)
    model(input_ids=torch.ones(3, 7, dtype=torch.long), past_key_values=cache, use_cache=True)
    real = _bytes(x for layer in cache.layers for x in (layer.keys, layer.values))
    assert 3 * 7 * vram.cache_bytes_per_token(shape_of_config(model.config.to_dict()), e=4) == real
    per_token = {
        size: vram.cache_bytes_per_token(shape_of(f"Qwen/Qwen2.5-{size}")) / 1024
        for size in ("0.5B", "1.5B", "3B", "7B", "14B")
    }
    assert per_token == {"0.5B": 12, "1.5B": 28, "3B": 36, "7B": 56, "14B": 192}


def test_a_4_bit_weight_is_as_small_as_bitsandbytes_makes_it():
    functional = pytest.importorskip("bitsandbytes.functional")
    packed, state = functional.quantize_4bit(torch.randn(1024, 1024), quant_type="nf4", compress_statistics=True)
    real = _bytes([packed, state.absmax, state.state2.absmax])
    assert pytest.approx(real / 1024**2, rel=1e-3) == vram.NF4


class Tracker(TorchDispatchMode):
    """Bytes of tensors alive, made while it is on; weights and gradients that were there before do not count."""

    def __init__(self, model):
        super().__init__()
        old = [x for p in model.parameters() for x in (p, p.grad) if x is not None] + list(model.buffers())
        self.live, self.now, self.peak = {x.untyped_storage()._cdata: 0 for x in old}, 0, 0
        self.old = old

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor) and x.untyped_storage()._cdata not in self.live:
                storage = x.untyped_storage()
                self.live[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._gone, storage._cdata)
        return out

    def _gone(self, key):
        self.now -= self.live.pop(key, 0)


def _small(layers, hidden=128, intermediate=512):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    sizes = {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
    }
    return Qwen2ForCausalLM(Qwen2Config(**sizes, num_key_value_heads=2, vocab_size=64, tie_word_embeddings=True))


def _with_tuning(model, tuning):
    if tuning == "lora":
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(
            model.to(torch.bfloat16), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
        )
        for p in model.parameters():
            p.data = p.data.float() if p.requires_grad else p.data
    return model.train()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("intermediate", [256, 1024])
@pytest.mark.parametrize(("tuning", "dtype"), [("lora", "bfloat16"), ("full", "bfloat16"), ("full", "float32")])
def test_activations_are_within_a_fifth_of_the_measured_peak(tuning, dtype, intermediate, checkpointing):
    """Every operation of forward and backward through the layers, on a CPU; the head is not among them."""
    tokens, layers = 2048, 4
    model = _with_tuning(_small(layers, intermediate=intermediate), tuning)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if tuning == "lora":
            model.enable_input_require_grads()
    body = (model.base_model.model if tuning == "lora" else model).model
    for p in model.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    gc.collect()
    tracker = Tracker(model)
    with tracker:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            out = body(torch.randint(0, 60, (2, tokens // 2)), use_cache=False).last_hidden_state
        out.float().sum().backward()
    shape, config = (
        shape_of_config(model.config.to_dict()),
        lora(tuning=tuning, dtype=dtype, gradient_checkpointing=checkpointing),
    )
    assert vram.activation_bytes(shape, config, tokens) == pytest.approx(tracker.peak, rel=0.20)


@pytest.mark.filterwarnings("ignore")
def test_tensors_kept_for_backward_are_within_a_sixth():
    """torch's own account of what one 16-bit layer keeps, weights aside."""
    tokens, kept = 2048, {}
    for layers in (1, 2):
        model, saved = _with_tuning(_small(layers), "lora"), {}
        model.enable_input_require_grads()
        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

        def pack(x, saved=saved, weights=weights):
            if x.untyped_storage().data_ptr() not in weights and x.numel() >= tokens:
                saved[x.untyped_storage().data_ptr()] = (x, x.untyped_storage().nbytes())
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x), torch.autocast("cpu", torch.bfloat16):
            out = model.base_model.model.model(torch.randint(0, 60, (2, tokens // 2)), use_cache=False)
        kept[layers] = sum(size for _, size in saved.values())
        del out
    shape = shape_of_config(_small(1).config.to_dict())
    assert vram.layer_activation_bytes(shape, 2) * tokens == pytest.approx(kept[2] - kept[1], rel=1 / 6)


@pytest.mark.filterwarnings("ignore")
def test_reading_prompts_is_within_a_fifth_of_the_measured_peak():
    rows, prompt, layers = 2, 1024, 4
    model = _with_tuning(_small(layers), "lora")
    shape, config = shape_of_config(model.config.to_dict()), lora()
    with Tracker(model) as tracker, torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model.base_model.model.model(torch.randint(0, 60, (rows, prompt)), use_cache=True)
    planned = vram.chunk_memory(shape, config, rows, prompt, 0)
    assert (planned.activations + planned.cache) * GB == pytest.approx(tracker.peak, rel=0.2)


# ---------------------------------------------------------------- published peaks

TRL_NOTEBOOK = {
    "tuning": "qlora",
    "lora_rank": 32,
    "optimizer": "paged_adamw_8bit",
    "micro_batch_size": 8,
    "max_prompt_tokens": 256,
    "max_reply_tokens": 256,
    "task_types": ("deduction",),
    "batch_size": 4,
    "n_mc": 2,
    "generation_chunk": 16,
}
"""huggingface/trl, examples/notebooks/grpo_trl_lora_qlora.ipynb: 8 replies of 256 tokens per step."""


@pytest.mark.parametrize(
    ("model", "published"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", 9.2),
        ("meta-llama/Llama-3.2-3B-Instruct", 5.7),
        ("meta-llama/Llama-3.1-8B-Instruct", 9.5),
        ("Qwen/Qwen3-8B", 9.9),
    ],
)
def test_published_peaks_are_met_within_a_tenth(model, published):
    """Peaks on a T4 that TRL's notebook prints for its models: planned 9.7, 5.3, 10.0 and 10.4 GB.

    Should its "GB" be GiB, three plans are within 2 % and the 3B is 13 % low.
    """
    assert plan(lora(model=model, **TRL_NOTEBOOK), "T4").peak_gb == pytest.approx(published, rel=0.10)


@pytest.mark.parametrize("model", ["Qwen/Qwen3-14B", "Qwen/Qwen2.5-14B"])
def test_what_ran_out_of_memory_does_not_fit(model):
    """The notebook's 14B (Qwen3) on the same T4."""
    assert not plan(lora(model=model, **TRL_NOTEBOOK), "T4").fits


# ---------------------------------------------------------------- the table of trl.md, section F

ADAPTERS = {  # size: (train LoRA, QLoRA), (generation of 32 sequences), (of 64), LoRA beside vLLM with 2 GB of cache
    "0.5B": ((2.4, 1.9), (2.4, 1.9), (3.1, 2.5), 5.9),
    "1.5B": ((5.1, 3.1), (5.5, 3.5), (6.9, 5.0), 10.3),
    "3B": ((8.7, 4.6), (9.1, 5.0), (11.0, 6.9), 16.6),
    "7B": ((18.6, 9.0), (19.4, 9.8), (22.2, 12.6), 34.9),
}


def _without_workspace(shape, config, tokens):
    """Section F counts what is kept for the backward pass. Ours adds what is in flight during it (measured above)."""
    found = vram.update_memory(shape, config, tokens=tokens)
    return found.total - tokens * vram.backward_workspace_bytes(shape, 2) / GB


@pytest.mark.parametrize("size", ADAPTERS)
@pytest.mark.parametrize("tuning", ["lora", "qlora"])
def test_section_f_adapters(size, tuning):
    train, generation, doubled, beside_vllm = ADAPTERS[size]
    shape, config, column = shape_of(f"Qwen/Qwen2.5-{size}"), lora(tuning=tuning), tuning == "qlora"
    assert _without_workspace(shape, config, 4096) == pytest.approx(train[column], rel=0.10)
    assert vram.update_memory(shape, config, tokens=4096).total == pytest.approx(train[column], rel=0.15)
    # Section F leaves out reading the prompts, so these sequences are replies from their first token on.
    assert vram.chunk_memory(shape, config, 32, 1, 1535).total == pytest.approx(generation[column], rel=0.10)
    assert vram.chunk_memory(shape, config, 64, 1, 1535).total == pytest.approx(doubled[column], rel=0.10)
    if tuning == "lora":
        found = vram.generation_memory(shape, lora(generation="vllm"), 80)
        assert found.total - found.cache + 2 == pytest.approx(beside_vllm, rel=0.10)


@pytest.mark.parametrize(
    ("size", "gpus", "parallel", "states", "train", "generation"),
    [
        ("0.5B", 1, 1, 7.9, 10.2, 28.7),
        ("1.5B", 1, 1, 24.7, 28.2, 43.4),
        ("3B", 1, 1, 49.4, 53.9, 65.0),
        ("3B", 2, 1, 24.7, 30.8, 46.5),
        ("7B", 4, 1, 30.5, 40.3, 59.9),
        ("7B", 8, 1, 15.2, 25.1, 48.5),
        ("14B", 4, 2, 59.1, 73.4, 80.9),
        ("14B", 8, 2, 29.5, 43.8, 58.7),
    ],
)
def test_section_f_full_tuning(size, gpus, parallel, states, train, generation):
    """Beyond section F: a float32 residual stream (2·L·h·T more), and autocast's copy on one GPU (its "+6.2")."""
    tokens, shape = 8192, shape_of(f"Qwen/Qwen2.5-{size}")
    config = full(generation="vllm", processes=gpus, vllm_tensor_parallel=parallel)
    kept = [f(shape, config) for f in (vram.weight_bytes, vram.gradient_bytes, vram.optimiser_bytes)]
    assert sum(kept) / GB == pytest.approx(states, rel=0.01)
    found = _without_workspace(shape, config, tokens)
    found -= tokens * (2 * shape.layers * shape.hidden + 4 * shape.hidden) / GB + vram.VLLM_OVERHEAD / GB
    found -= vram.autocast_copy_bytes(shape, config) / GB if gpus == 1 else 0
    assert found == pytest.approx(train, rel=0.10)
    held = vram.generation_memory(shape, config, 80)
    assert held.total - held.cache + 20 == pytest.approx(generation, rel=0.10)


# ---------------------------------------------------------------- formulae that move as they must

SHAPE = shape_of("Qwen/Qwen2.5-1.5B")


def test_twice_the_micro_batch_is_twice_the_activations():
    once, twice = (vram.update_memory(SHAPE, lora(micro_batch_size=n)) for n in (2, 4))
    assert twice.activations == 2 * once.activations
    assert (twice.weights, twice.gradients, twice.optimiser) == (once.weights, once.gradients, once.optimiser)


def test_twice_the_chunk_is_twice_the_cache():
    once, twice = (vram.chunk_memory(SHAPE, lora(), rows, 100, 400) for rows in (8, 16))
    assert twice.cache == 2 * once.cache
    assert twice.weights == once.weights


def test_sharding_divides_states_of_full_tuning_and_copies_adapters():
    for count in (vram.weight_bytes, vram.gradient_bytes, vram.optimiser_bytes):
        assert count(SHAPE, full(processes=4)) == count(SHAPE, full()) / 4
    for count in (vram.weight_bytes, vram.adapter_bytes, vram.optimiser_bytes):
        assert count(SHAPE, lora(processes=4)) == count(SHAPE, lora())


def test_8_bit_moments_are_a_quarter():
    assert vram.optimiser_bytes(SHAPE, full(optimizer="adamw_8bit")) == vram.optimiser_bytes(SHAPE, full()) / 4
    states = [
        f(SHAPE, full(optimizer="adamw_8bit")) for f in (vram.weight_bytes, vram.gradient_bytes, vram.optimiser_bytes)
    ]
    assert sum(states) == 10 * SHAPE.parameters


def test_the_chunked_head():
    """One tile of 4096 x 32768, the gradient of its input, and the head's own gradient where it trains."""
    tile, grad = 4096 * 32768 * 2, 4 * 8192 * SHAPE.hidden
    assert vram.head_bytes(SHAPE, lora(), 8192) == tile + grad
    assert vram.head_bytes(SHAPE, full(), 8192) == tile + grad + 4 * SHAPE.vocab * SHAPE.hidden


def test_split_roles_have_two_adapters_and_a_rank_counts_in_proportion():
    assert vram.adapter_bytes(SHAPE, lora(roles="split")) == 2 * vram.adapter_bytes(SHAPE, lora())
    assert vram.adapter_bytes(SHAPE, lora(lora_rank=32)) == 2 * vram.adapter_bytes(SHAPE, lora())


def test_checkpointing_saves_and_full_tuning_costs_most():
    kept = {on: vram.activation_bytes(SHAPE, lora(gradient_checkpointing=on), 4096) for on in (True, False)}
    assert kept[False] > 5 * kept[True]
    peaks = [vram.update_memory(SHAPE, lora(tuning=tuning), tokens=4096).total for tuning in ("qlora", "lora", "full")]
    assert peaks == sorted(peaks)


@pytest.mark.parametrize("name", ["max_reply_tokens", "max_prompt_tokens", "micro_batch_size"])
def test_more_never_needs_less(name):
    base = preset("lora-1.5b-16gb")
    changes = [{name: getattr(base, name) * factor} for factor in (1, 2)]
    peaks = [
        max(found.update.total, found.generation.total) for found in (plan(base.replace(**c), 200) for c in changes)
    ]
    assert peaks[1] >= peaks[0]


def test_sleep_frees_vllm_in_the_update():
    found = plan(preset("full-3b-80gb"), "80GB")
    assert found.update.vllm == found.update.cache == 0
    held = found.generation
    assert held.vllm == pytest.approx(2 * found.shape.parameters / GB)
    assert held.vllm + held.cache + vram.VLLM_OVERHEAD / GB == pytest.approx(0.3 * 80)


def test_vllm_is_taken_where_it_is_installed_and_fits(monkeypatch):
    monkeypatch.setattr("azr_lite.planner.plan.importlib.util.find_spec", lambda name: name == "vllm")
    chosen = {name: plan(preset(name), natural_gpu(preset(name))).config.generation for name in PRESETS}
    adapters = {name: how for name, how in chosen.items() if "lora-" in name}
    assert adapters.pop("qlora-7b-24gb") == "transformers", "a 16-bit copy does not fit beside it"
    assert set(adapters.values()) == {"vllm"}
    assert {chosen[name] for name in ("nano", "smoke", "cpu-0.5b")} == {"transformers"}
    auto = preset("lora-3b-24gb", model="nobody/knows-it")
    assert with_sampler(auto, find_card("24GB")).generation == "transformers"
    assert with_sampler(preset("lora-3b-24gb"), find_card("8GB")).generation == "transformers"
    monkeypatch.setattr("azr_lite.planner.plan.importlib.util.find_spec", lambda name: None)
    assert plan("lora-3b-24gb", "24GB").config.generation == "transformers"


def test_a_share_of_vllm_without_room_for_one_sequence_does_not_fit():
    found = plan(preset("full-3b-80gb", vllm_memory=0.09), "80GB")
    assert not found.fits
    assert "raise vllm_memory" in found.problem
    assert any(advice.setting == "vllm_memory" and advice.fits for advice in found.advice)


# ---------------------------------------------------------------- presets and advice


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_plans_offline_and_fits_its_natural_card(name):
    found = plan(name)
    assert found.fits, f"{name}: {found.peak_gb:.1f} of {found.usable_gb:.1f} GB"
    assert (found.config.device == "cpu") == (name in ("nano", "smoke", "cpu-0.5b"))
    assert 0 < found.step_seconds < 3600
    assert found.hours > 0
    assert not found.advice
    json.dumps(found.as_dict())


@pytest.mark.parametrize(
    ("name", "gpu"),
    [
        ("lora-1.5b-16gb", "8GB"),
        ("lora-3b-24gb", "T4"),
        ("qlora-7b-24gb", "12GB"),
        ("full-3b-80gb", "40GB"),
        ("qlora-3b-16gb", "8GB"),
    ],
)
def test_advice_fits_where_it_says_so(name, gpu):
    found = plan(name, gpu)
    assert not found.fits
    assert any(advice.fits for advice in found.advice)
    for advice in found.advice:
        again = plan(found.config.replace(**{advice.setting: advice.value}), gpu)
        assert again.peak_gb == pytest.approx(advice.gb)
        assert again.fits == advice.fits
        assert advice.text in plan_text(found)
    assert ("processes" in [advice.setting for advice in found.advice]) == (found.config.tuning == "full")


def test_what_cannot_fit_says_so():
    found = plan("full-14b-8x80gb", "8GB")
    assert not any(advice.fits for advice in found.advice)
    assert "smaller model" in plan_text(found)


@pytest.mark.parametrize(
    ("named", "gb"),
    [
        ("T4", 16),
        ("rtx 4090", 24),
        ("3090", 24),
        ("4060 Ti", 16),
        ("RTX-3060", 12),
        ("A100", 80),
        ("A100 40GB", 40),
        ("h200", 141),
    ],
)
def test_cards_by_name(named, gb):
    assert find_card(named).gb == gb


@pytest.mark.parametrize("named", ["16GB", "16", 16, 16.0, "16 gb"])
def test_cards_by_size(named):
    assert (find_card(named).gb, find_card(named).bandwidth) == (16, 320)


@pytest.mark.parametrize("gpu", ["3x24GB", "3 x RTX 3090", "3×24"])
def test_several_cards_set_the_processes(gpu):
    found = plan("lora-1.5b-16gb", gpu)
    assert (found.config.processes, found.card.gb, found.card.bandwidth) == (3, 24, 936)
    assert "3 x " in plan_text(found)


def test_plan_dry_run_and_run_share_one_check_of_processes_and_batch(monkeypatch, capsys):
    """192 sequences do not split over 5 processes, and over 16 only in micro-batches of 12."""
    sentence = "of 384 sequences does not split into 2 updates on each of 5 processes; start a number of processes"
    name = "lora-1.5b-16gb"
    for count in (5, 16):
        for words in (
            ["plan", name, "--json", "--gpu", f"{count}x24GB"],
            ["plan", name, "--json", "--gpu", "24GB", "--processes", str(count)],
            ["run", "--preset", name, "--processes", str(count), "--dry-run", "--json"],
        ):
            failed, printed = main(words), capsys.readouterr()
            assert bool(failed) == (count == 5)
            assert (sentence in " ".join(printed.err.replace("│", " ").split())) == (count == 5)
    found = plan(name, "16x24GB").config  # "auto" is settled by what is installed here
    assert found == preset(name, processes=16, generation=found.generation)
    assert preset(name, processes=16).micro_batch_size == 12
    monkeypatch.setenv("WORLD_SIZE", "5")
    with pytest.raises(ConfigError, match=sentence):
        check_processes(preset(name))


def test_a_cpu_is_planned_with_what_runs_there():
    with pytest.raises(ConfigError, match="vLLM is used on GPUs only"):
        plan("full-3b-80gb", "cpu")


@pytest.mark.parametrize("named", ["RTX 9999 Ti", "-3", "0", "nan", "inf"])
def test_an_unknown_card_gets_one_sentence(named):
    with pytest.raises(ConfigError, match="such as 16GB"):
        find_card(named)


def test_no_card_at_all():
    with pytest.raises(ConfigError, match="--gpu 16GB"):
        plan(lora())


def test_this_machines_gpu(monkeypatch):
    monkeypatch.undo()
    for line, name, gb in (
        ("Tesla T4, 15360", "T4", 16.1),
        ("NVIDIA A100-SXM4-40GB, 40960", "A100-40", 42.9),
        ("NVIDIA GeForce RTX 4060 Ti, 16380", "RTX 4060 Ti", 17.2),
        ("Strange 9, 11000", "", 11.5),
    ):
        monkeypatch.setattr(subprocess, "run", lambda *_, line=line, **__: SimpleNamespace(stdout=line + "\n"))
        found = detect_gpu()
        assert found.gb == pytest.approx(gb, abs=0.1)
        assert found.bandwidth == (find_card(name).bandwidth if name else 272)

    def missing(*_, **__):
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(subprocess, "run", missing)
    assert detect_gpu() is None


# ---------------------------------------------------------------- time, roughly


@pytest.mark.parametrize(("gpu", "published"), [("T4", 94.5), ("A100-40", 33), ("A100-80", 25)])
def test_published_qlora_steps_are_met_within_a_factor_of_two(gpu, published):
    """Seconds per step of the notebook's 7B."""
    found = plan(lora(model="Qwen/Qwen2.5-7B", **TRL_NOTEBOOK), gpu)
    assert published / 2 < found.step_seconds < 2 * published


CHAT = {
    "prompts": "chat", "batch_size": 4, "solver_batch_size": 16, "n_mc": 8, "proposals_per_prompt": 1,
    "max_prompt_tokens": 2048, "max_reply_tokens": 1024, "micro_batch_size": 2, "updates_per_step": 1,
    "pack_prompts": False, "estimator": "trr", "proposer_estimator": "same",
}  # fmt: skip


@pytest.mark.parametrize(("name", "changes", "published"), [("paper-3b", {}, 263), ("qlora-3b-16gb", CHAT, 850)])
def test_published_self_play_steps_are_met_within_a_factor_of_two(name, changes, published):
    """The authors' issue 13 (two A100), and a public branch for 16 GB, with long replies in chat form."""
    config = preset(name, **changes)
    assert published / 2 < plan(config, natural_gpu(config)).step_seconds < 2 * published


def test_time_falls_with_a_faster_card_and_more_gpus():
    config = preset("full-7b-8x80gb")
    times = [plan(config.replace(processes=n), gpu).step_seconds for n, gpu in ((4, "A100"), (8, "A100"), (8, "H100"))]
    assert times == sorted(times, reverse=True)
    assert plan("lora-1.5b-16gb", "4090").step_seconds < plan("lora-1.5b-16gb", "T4").step_seconds


# ---------------------------------------------------------------- the command


@pytest.mark.parametrize("name", list_presets())
def test_text_fits_80_columns(name, capsys):
    assert main(["plan", name]) == 0
    assert main(["plan", name, "--gpu", "8GB"]) == 0
    assert main(["plan", name, "--why"]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "rough estimate" in printed


def test_why_gives_every_reason():
    for name, found in PRESETS.items():
        text = " ".join(why_text(name).split())
        for setting, (value, reason) in found.choices.items():
            assert f"{setting} = {value}" in text
            assert " ".join(reason.split()) in text


def test_the_table_of_all_presets(capsys):
    assert main(["plan"]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert [
        name for name in list_presets() if not any(line.startswith(name + " ") for line in printed.splitlines())
    ] == []
    assert plan_table(plan_all()) + "\n" == printed
    assert main(["plan", "--json"]) == 0
    assert [found["preset"] for found in json.loads(capsys.readouterr().out)] == list(list_presets())


def test_settings_and_cards_on_the_command_line(capsys):
    assert main(["plan", "lora-3b-24gb", "--gpu", "16GB", "--generation-chunk", "8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"]
    assert found["card"]["gb"] == 16
    assert main(["plan", "--preset", "lora-3b-24gb", "--gpu=T4"]) == 0
    assert "DOES NOT FIT" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["plan", "nanno"], "did you mean 'nano'"),
        (["plan", "--gpu", "8GB"], "which preset"),
        (["plan", "lora-0.5b-8gb", "--gpu", "potato"], "GPU 'potato' is not in the planner's table"),
        (["plan", "lora-0.5b-8gb", "--model", "foo/bar"], "the shape of 'foo/bar'"),
    ],
)
def test_mistakes_get_one_sentence(words, sentence, capsys):
    assert main(words) == 1
    printed = capsys.readouterr().err.strip()
    assert sentence in printed
    assert "\n" not in printed


def test_planning_loads_no_torch():
    loaded = "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    code = f"import sys, azr_lite; azr_lite.plan('lora-1.5b-16gb', '16GB'); {loaded}"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_plan_is_public_and_frozen():
    found = azr_lite.plan("nano")
    assert isinstance(found, Plan)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.step_seconds = 0


def test_the_docs_have_the_table_that_the_command_prints(capsys):
    """Between the lines <!-- presets --> and <!-- /presets -->; renew it with: azr-lite plan."""
    page = (ROOT / "docs" / "reference" / "presets.md").read_text(encoding="utf-8")
    assert page.count("<!-- presets -->\n") == page.count("<!-- /presets -->") == 1
    table = page.split("<!-- presets -->\n")[1].split("<!-- /presets -->")[0]
    assert main(["plan"]) == 0
    assert table.strip() == f"```text\n{capsys.readouterr().out}```"


def test_an_option_without_its_value_is_named(capsys):
    assert main(["plan", "nano", "--gpu"]) == 2
    assert "--gpu" in capsys.readouterr().err
