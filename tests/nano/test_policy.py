"""The nano policy: tokenizer, weights and sampler."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from azr_lite.course.demonstrations import RULES, Mixture, demonstration  # noqa: E402
from azr_lite.course.warm_start import WarmStart, build_tokenizer, fresh_nano, main  # noqa: E402
from azr_lite.evaluation.generators import PolicyInTraining  # noqa: E402
from azr_lite.evaluation.reasoning import ReasoningSuite  # noqa: E402
from azr_lite.evaluation.runner import answer  # noqa: E402
from azr_lite.nano.language import draw_task, held_out  # noqa: E402
from azr_lite.nano.model import (  # noqa: E402
    WEIGHTS,
    NanoSampler,
    load_nano,
)
from azr_lite.presets import preset  # noqa: E402
from azr_lite.prompts.words import COMPACT  # noqa: E402
from azr_lite.tasks import get_task_type  # noqa: E402
from azr_lite.triplet import Completion  # noqa: E402
from azr_lite.verifier import Verifier  # noqa: E402

ASCII = st.text(alphabet=[chr(code) for code in (9, 10, 13, *range(32, 127))])
PIECES = st.lists(
    st.one_of(
        ASCII, st.sampled_from(["<think>", "```python\n", "\n```", "x[::-1]", "42", "then ?", "\n    x = ", "  "])
    )
).map("".join)


@pytest.fixture(scope="module")
def nano():
    torch.set_num_threads(1)
    return load_nano()


@given(PIECES)
@settings(max_examples=300, deadline=None)
def test_tokenizer_round_trip_is_exact(text):
    tokenizer = _TOKENIZER
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_token_id not in ids


_TOKENIZER = build_tokenizer()


def test_shipped_tokenizer_is_the_built_one(nano):
    assert nano[1].get_vocab() == _TOKENIZER.get_vocab()
    from transformers import PreTrainedTokenizerFast

    text = "solve deduction\n```python\ndef f(x):\n    x = x[::-1]\n    return x\n```\n<think>"
    assert PreTrainedTokenizerFast.from_pretrained(str(WEIGHTS))(text)["input_ids"] == _TOKENIZER(text)["input_ids"]
    for word in ("<think>", "</think>", "<answer>", "</answer>", "```python\n", "```input\n", "\n```"):
        assert len(_TOKENIZER(word)["input_ids"]) == 1


def test_weights_are_small_and_finite(nano):
    model, _ = nano
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) < 4e6
    assert 2e5 < sum(p.numel() for p in model.parameters()) < 1.1e6
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


def test_prompts_and_replies_are_short():
    rng = random.Random(0)
    drawn = [demonstration(rng, Mixture()) for _ in range(800)]
    assert max(len(ids) for ids in _TOKENIZER([d.prompt for d in drawn])["input_ids"]) <= 160
    replies = sorted(len(ids) for ids in _TOKENIZER([d.reply for d in drawn])["input_ids"])
    assert replies[-5] <= preset("nano").max_reply_tokens, "more than one reply in two hundred would be cut"
    for tasks in held_out(30, 0).values():
        for task in tasks:
            assert len(_TOKENIZER(get_task_type(task.type).solve_prompt(COMPACT, task, RULES))["input_ids"]) <= 160


def _prompts(tokenizer, count):
    rng = random.Random(3)
    return tokenizer([demonstration(rng, Mixture()).prompt for _ in range(count)])["input_ids"]


def test_sampler_log_probabilities_equal_transformers(nano):
    model, tokenizer = nano
    prompts = _prompts(tokenizer, 40)
    prompts += prompts[:10]
    sampler = NanoSampler(model, tokenizer.eos_token_id, tokenizer.pad_token_id, 48, chunk=32)
    samples = sampler(prompts, greedy=False, seed=5)
    assert samples == sampler(prompts, greedy=False, seed=5)
    assert samples != sampler(prompts, greedy=False, seed=6)
    with torch.no_grad():
        for prompt, (ids, logps, truncated) in zip(prompts, samples, strict=True):
            logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
            expected = torch.log_softmax(logits, -1).gather(1, torch.tensor(ids)[:, None])[:, 0]
            assert torch.allclose(expected, torch.tensor(logps), atol=2e-4)
            assert truncated == (ids[-1] != tokenizer.eos_token_id)
            assert tokenizer.eos_token_id not in ids[:-1]
            assert len(ids) == (48 if truncated else ids.index(tokenizer.eos_token_id) + 1)


def test_greedy_sampler_equals_transformers_generate(nano):
    model, tokenizer = nano
    prompts = _prompts(tokenizer, 6)
    samples = NanoSampler(model, tokenizer.eos_token_id, tokenizer.pad_token_id, 32)(prompts, greedy=True, seed=0)
    for prompt, (ids, _, _) in zip(prompts, samples, strict=True):
        whole = model.generate(torch.tensor([prompt]), max_new_tokens=32, do_sample=False, use_cache=True)[
            0, len(prompt) :
        ]
        assert whole.tolist() == ids


def test_the_sampler_reads_on_where_the_models_own_positions_end(nano):
    model, tokenizer = nano
    prompt = [40 + place % 90 for place in range(model.config.max_position_embeddings + 3)]
    sampler = NanoSampler(model, tokenizer.eos_token_id, tokenizer.pad_token_id, 2)
    ((ids, logps, _),) = sampler([prompt], greedy=True, seed=0)
    with torch.no_grad():
        expected = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    assert torch.allclose(expected.gather(1, torch.tensor(ids)[:, None])[:, 0], torch.tensor(logps), atol=2e-4)


def test_sampler_follows_the_weights(nano):
    model, tokenizer = load_nano()
    prompts = _prompts(tokenizer, 4)
    sampler = NanoSampler(model, tokenizer.eos_token_id, tokenizer.pad_token_id, 16)
    before = sampler(prompts, greedy=True, seed=0)
    with torch.no_grad():
        model.model.embed_tokens.weight.add_(torch.randn_like(model.model.embed_tokens.weight))
    assert sampler(prompts, greedy=True, seed=0) != before


def test_one_operation_is_mastered(nano, executor):
    rng = random.Random(2024)
    for type_, bar in (("deduction", 0.8), ("abduction", 0.7), ("induction", 0.4)):
        assert _accuracy(nano, executor, [draw_task(rng, type_, 1) for _ in range(60)]) >= bar, type_


def _accuracy(nano, executor, tasks):
    model, tokenizer = nano
    sampler = NanoSampler(model, tokenizer.eos_token_id, tokenizer.pad_token_id, 96)

    def generate(prompts):
        samples = sampler(tokenizer(prompts)["input_ids"], greedy=True, seed=0)
        texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids, _, _ in samples]
        return [
            Completion(prompt, (), tuple(ids), text)
            for prompt, (ids, _, _), text in zip(prompts, samples, texts, strict=True)
        ]

    suite = ReasoningSuite("tasks", "azr", [("", task) for task in tasks], COMPACT, Verifier(executor, RULES))
    items = answer(PolicyInTraining(generate, "nano"), suite, suite.questions())
    return sum(item.right for item in items) / len(items)


def test_warm_start_is_deterministic_and_writes_what_loads(tmp_path):
    weights = []
    for name in ("one", "two"):
        main(WarmStart(examples=96, batch=32, pool=2), Mixture(), out=tmp_path / name)
        weights.append(load_nano(tmp_path / name)[0].lm_head.weight)
    assert torch.equal(*weights)
    assert not torch.equal(weights[0], fresh_nano(0)[0].lm_head.weight)
    assert {path.name for path in (tmp_path / "one").iterdir()} == {path.name for path in WEIGHTS.iterdir()}
