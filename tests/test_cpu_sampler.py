"""The sampler for real models on a CPU against transformers' own passes, in float32 and bfloat16."""

from __future__ import annotations

import random

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from azr_lite.prompts.base import Codec
from azr_lite.train.cpu import CpuSampler, draw
from tests.tiny import PLAIN, tiny_config, tiny_model, tiny_tokenizer

LIMIT, ENDS = 24, [0, *range(20, 32)]
"""Many tokens end a reply, so that random models end theirs early."""
half = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="the processor has no bfloat16 for oneDNN"
)


def llama(tokenizer, seed=0):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, tie_word_embeddings=False, initializer_range=0.2, attention_bias=True,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def adapted(model, seed=0):
    """With LoRA on all linear layers, whose update is as large as a long training makes it."""
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(model, config)
    torch.manual_seed(seed)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.1)
    return model


MODELS = {"qwen": tiny_model, "llama": llama, "qwen with LoRA": lambda tokenizer: adapted(tiny_model(tokenizer))}


def make(kind="qwen", dtype=torch.float32, temperature=1.0, limit=LIMIT):
    tokenizer = tiny_tokenizer()
    model = MODELS[kind](tokenizer).eval()
    for name, weight in model.named_parameters():
        if "lora_" not in name:
            weight.data = weight.data.to(dtype)
    config = GenerationConfig(
        max_new_tokens=limit, pad_token_id=1, eos_token_id=ENDS, temperature=temperature, top_k=0, do_sample=True
    )
    return model, CpuSampler(model, Codec(tokenizer, PLAIN, ENDS), config, dtype)


def made_up_prompts(seed=0, distinct=8, copies=(1, 2, 3, 4)):
    """Twenty prompts of unlike lengths, of which some are equal; in no order."""
    rng = random.Random(seed)
    prompts = []
    for u in range(distinct):
        prompt = [rng.randrange(4, 100) for _ in range(rng.randint(1, 30))]
        prompts += [prompt] * copies[u % len(copies)]
    rng.shuffle(prompts)
    return prompts


@torch.no_grad()
def scored(model, prompt, ids, temperature=1.0):
    """The model's own log-probabilities of a reply, one pass over the whole text."""
    logits = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1].float() / temperature
    return logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]


@pytest.mark.parametrize("kind", MODELS)
def test_greedy_replies_are_those_of_transformers(kind):
    model, sampler = make(kind)
    prompts = made_up_prompts()
    replies = sampler(prompts, greedy=True, seed=0)
    assert len({len(ids) for ids, _, _ in replies}) > 3, "rows should end at different tokens"
    for prompt, (ids, _, cut) in zip(prompts, replies, strict=True):
        whole = model.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=LIMIT, pad_token_id=1, eos_token_id=ENDS
        )[0].tolist()
        assert ids == whole[len(prompt) :]
        assert cut == (ids[-1] not in ENDS)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_are_those_of_one_pass(kind, temperature):
    model, sampler = make(kind, temperature=temperature)
    prompts = made_up_prompts()
    for prompt, (ids, logps, _) in zip(prompts, sampler(prompts, greedy=False, seed=3), strict=True):
        torch.testing.assert_close(torch.tensor(logps), scored(model, prompt, ids, temperature), atol=1e-4, rtol=0)


@half
@pytest.mark.parametrize("kind", MODELS)
def test_in_bfloat16_probabilities_are_near_and_not_handed_on(kind):
    _, sampler = make(kind, torch.bfloat16)
    prompts = made_up_prompts()
    replies = sampler(prompts, greedy=False, seed=3)
    assert all(logps is None for _, logps, _ in replies)
    assert sampler.disagreement() < 0.1
    assert sampler.why_not() == ""


@half
def test_an_update_too_small_for_a_merge_in_bfloat16_is_seen():
    """A change of one ten-thousandth of the weights would be rounded away."""
    model, sampler = make("qwen with LoRA", torch.bfloat16)
    layer = model.get_base_model().model.layers[0].mlp.up_proj
    with torch.no_grad():
        layer.lora_B["default"].weight.mul_(1e-4)
    sampler._refresh()
    mine = sampler.model.model.layers[0].mlp.up_proj
    x = torch.randn(3, 32).bfloat16()
    ((down, up),) = mine.low
    merged = (layer.base_layer.weight.float() + (down.t() @ up).t().float()).bfloat16()
    assert (merged == layer.base_layer.weight).float().mean() > 0.5
    expected = layer.lora_B["default"](layer.lora_A["default"](x.float())) * layer.scaling["default"]
    torch.testing.assert_close(((x @ down.t()) @ up).float(), expected, atol=1e-5, rtol=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=half)])
@pytest.mark.parametrize("kind", ["qwen", "qwen with LoRA"])
def test_the_model_in_training_is_untouched_and_what_it_learns_is_seen(kind, dtype):
    model, sampler = make(kind, dtype)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    prompts = made_up_prompts()
    first = sampler(prompts, greedy=True, seed=0)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(weight.requires_grad == ("lora_" in name or kind == "qwen") for name, weight in model.named_parameters())
    assert model.config._attn_implementation == "sdpa"
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight), alpha=0.1)
    assert sampler(prompts, greedy=True, seed=0) != first
    assert sampler.why_not() == ""


def test_a_row_does_not_depend_on_the_others():
    _, sampler = make()
    prompts = made_up_prompts()
    together = sampler(prompts, greedy=False, seed=5)
    assert together == sampler(prompts, greedy=False, seed=5)
    assert together != sampler(prompts, greedy=False, seed=6)
    other = prompts[:7] + made_up_prompts(seed=1)[:9]
    assert [ids for ids, _, _ in sampler(other, greedy=False, seed=5)][:7] == [ids for ids, _, _ in together[:7]]


def test_rows_that_have_ended_leave_and_the_others_stay_as_they_are():
    _, sampler = make()
    prompts = made_up_prompts()
    free = sampler(prompts, greedy=False, seed=5)
    widths = []
    whole = sampler.step
    sampler.step = lambda tokens, *rest: widths.append(len(tokens)) or whole(tokens, *rest)
    tests = [(lambda text: len(text) >= 3) if i % 2 else None for i in range(len(prompts))]
    stopped = sampler(prompts, greedy=False, seed=5, ended=tests)
    for i, ((ids, _, cut), (all_ids, _, all_cut)) in enumerate(zip(stopped, free, strict=True)):
        texts = [sampler.codec.text(all_ids[:n]) for n in range(1, len(all_ids) + 1)]
        over = next((n for n, text in enumerate(texts, 1) if i % 2 and len(text) >= 3), None)
        assert ids == all_ids[:over]
        assert cut == (over is None and all_cut)
    assert widths[0] > len(prompts) * 3 // 4
    assert widths[-1] <= len(prompts) // 2


def test_long_prompts_are_read_in_parts(monkeypatch):
    _, sampler = make()
    prompts = made_up_prompts()
    together = sampler(prompts, greedy=False, seed=5)
    monkeypatch.setattr("azr_lite.train.cpu.READ_AT_ONCE", 40)
    assert [ids for ids, _, _ in sampler(prompts, greedy=False, seed=5)] == [ids for ids, _, _ in together]


def test_out_of_memory_halves_the_batch_and_changes_no_reply():
    _, sampler = make()
    prompts, whole = made_up_prompts(), sampler.read
    together = sampler(prompts, greedy=False, seed=5)

    def read(rows):
        if len(rows) > 6:
            raise torch.OutOfMemoryError("DefaultCPUAllocator: can't allocate memory")
        return whole(rows)

    sampler.read = read
    assert [ids for ids, _, _ in sampler(prompts, greedy=False, seed=5)] == [ids for ids, _, _ in together]


def test_tokens_are_drawn_by_their_probabilities():
    torch.manual_seed(0)
    logits = torch.randn(1, 150) * 2
    logits[0, 70:] = -torch.inf
    count = 20_000
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    tokens, logps = draw(logits.expand(count, -1), 0.5, uniform)
    found = torch.bincount(tokens, minlength=150) / count
    expected = (logits[0] / 0.5).softmax(-1)
    torch.testing.assert_close(found, expected, atol=1.1 / count, rtol=0)
    torch.testing.assert_close(logps, expected.log()[tokens])
    for edge in (0.0, 1 - 2**-53):
        token, _ = draw(logits, 1.0, torch.tensor([edge], dtype=torch.float64))
        assert expected[token] > 0


def test_sliding_windows_and_foreign_adapters_are_left_to_transformers():
    tokenizer = tiny_tokenizer()
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=8,
    )  # fmt: skip
    how = GenerationConfig(max_new_tokens=4, pad_token_id=1)
    codec = Codec(tokenizer, PLAIN, ENDS)
    sampler = CpuSampler(MistralForCausalLM(config), codec, how, torch.float32)
    assert "sliding_window" in sampler.why_not()
    dora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", use_dora=True)
    sampler = CpuSampler(get_peft_model(tiny_model(tokenizer), dora), codec, how, torch.float32)
    assert "not plain LoRA" in sampler.why_not()


def test_the_trainer_chooses_it_and_says_so(tmp_path):
    from azr_lite.train.trainer import SelfPlayTrainer
    from azr_lite.triplet import Role
    from tests.tiny import Scripted, sampled_script, tiny_policy

    said = []
    config = tiny_config(temperature=0.8, proposer_temperature=1.2, pack_prompts=True)
    trainer = SelfPlayTrainer(
        config,
        tiny_policy("lora"),
        PLAIN,
        Scripted(sampled_script(config)),
        tmp_path,
        note=lambda *lines: said.extend(lines),
    )
    assert isinstance(trainer.sampler, CpuSampler), said
    assert any("fast sampler for CPUs, in float32" in line for line in said)
    for role, temperature in ((Role.PROPOSE, 1.2), (Role.SOLVE, 0.8)):
        reply = trainer.generate(["def f"], role)[0]
        expected = scored(trainer.model.eval(), reply.prompt_ids, reply.ids, temperature)
        torch.testing.assert_close(torch.tensor(reply.logps), expected, atol=1e-4, rtol=0)
