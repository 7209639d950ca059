"""Who samples: prompts read once for all their replies; vLLM, through TRL, with engines that sample exactly or slightly wrong."""

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from azr_lite import loop  # noqa: E402
from azr_lite.errors import ConfigError  # noqa: E402
from azr_lite.progress import Objects  # noqa: E402
from azr_lite.train import preflight  # noqa: E402
from azr_lite.train.diagnostics import self_test  # noqa: E402
from azr_lite.train.generation import likeliest, sample_replies  # noqa: E402
from azr_lite.train.trainer import SelfPlayTrainer  # noqa: E402
from azr_lite.triplet import Role  # noqa: E402
from tests.test_trainer import Spy, relative_error  # noqa: E402
from tests.tiny import PLAIN, Scripted, sampled_script, tiny_config, tiny_policy  # noqa: E402

PROMPTS = [[5, 6, 7, 8], [9], [5, 6, 7, 8], [5, 6, 7, 8], [10, 11], [9]]


def greedy_trainer(folder: Path, tuning: str = "full") -> SelfPlayTrainer:
    return SelfPlayTrainer(
        tiny_config(tuning=tuning), tiny_policy(tuning), PLAIN, Scripted(lambda generate, step: []), folder
    )


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_shared_prefixes_change_no_reply(tuning: str, tmp_path: Path) -> None:
    trainer = greedy_trainer(tmp_path, tuning)
    with likeliest(trainer):
        together = sample_replies(trainer.model, PROMPTS, trainer.generation_config, [0], torch.device("cpu"))
        apart = [
            sample_replies(trainer.model, [ids], trainer.generation_config, [0], torch.device("cpu"))[0]
            for ids in PROMPTS
        ]
    assert together == apart
    assert len({tuple(reply) for reply in together}) == 3


def test_a_prompt_is_read_once_for_all_its_replies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, read = greedy_trainer(tmp_path), []
    layer = trainer.model.model.layers[0]
    layer.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0].shape[:2]))
    sample_replies(trainer.model, [[5, 6, 7, 8]] * 6, trainer.generation_config, [0], torch.device("cpu"))
    assert read[0] == (1, 3), "three of four prompt tokens, for one prompt"
    assert set(read[1:]) == {(6, 1)}, "then one token at a time for the six replies"


def test_replies_to_one_prompt_are_sampled_apart(tmp_path: Path) -> None:
    trainer = greedy_trainer(tmp_path)
    torch.manual_seed(0)
    replies = sample_replies(trainer.model, [[5, 6, 7]] * 64, trainer.generation_config, [0], torch.device("cpu"))
    logits = trainer.model(torch.tensor([[5, 6, 7]])).logits[0, -1]
    first = torch.bincount(torch.tensor([reply[0] for reply in replies]), minlength=len(logits)) / 64
    assert len({tuple(reply) for reply in replies}) > 8
    assert float((first - logits.softmax(-1)).abs().max()) < 0.25


# ---------------------------------------------------------------- vLLM: TRL's own client code, engines that stand in


class Engine:
    """vLLM for TRL: samples with the trainer's model; log-probabilities may be off by `noise`. Notes what it is told."""

    noise = 0.0
    policy: ClassVar[Any] = None  # the trainer's model, as `VLLMGeneration` was given it
    made: ClassVar[list["Engine"]] = []

    def __init__(self, **options: Any) -> None:
        self.options, self.told, self.loaded, self.seeds = options, [], set(), []
        self.adapters, self.acted = (
            [],
            [],
        )  # those handed over: name and tensors; and which of them sampled, call by call
        self.numbers: set[int] = set()
        self.llm_engine = SimpleNamespace(
            model_executor=SimpleNamespace(driver_worker=SimpleNamespace(model_runner=SimpleNamespace(model=self))),
            add_lora=self.add_lora,
        )
        Engine.made.append(self)

    @property
    def synced(self) -> int:
        return self.told.count("sync")

    @property
    def calls(self) -> list[Any]:
        return [what for what in self.told if isinstance(what, tuple)]

    def load_weights(self, named: Any) -> None:
        self.loaded |= {name for name, _ in named}

    def reset_prefix_cache(self) -> None:  # the last thing in TRL's sync
        self.told.append("sync")

    def add_lora(self, request: Any) -> None:
        assert request.number not in self.numbers, "vLLM would not read it again"
        self.numbers.add(request.number)
        self.adapters.append((request.name, load_file(Path(request.path) / "adapter_model.safetensors")))

    def sleep(self, level: int) -> None:
        self.told.append("sleep" if level == 2 else "doze")

    def wake_up(self, tags: list[str]) -> None:
        self.told.append(f"wake {tags[0]}")

    @torch.no_grad()
    def generate(self, prompts: Any, sampling_params: Any, use_tqdm: bool, lora_request: Any = None) -> list[Any]:
        assert sampling_params.n == 1
        self.acted.append(lora_request and lora_request.name)
        self.told.append((len(prompts), sampling_params.temperature))
        self.seeds.append(torch.initial_seed())
        return [self.reply(prompt["prompt_token_ids"], sampling_params) for prompt in prompts]

    def reply(self, prompt: list[int], how: Any) -> Any:
        ids, scores = [], []
        while len(ids) < how.max_tokens and ids[-1:] != [0]:
            logits = self.policy(torch.tensor([[*prompt, *ids]])).logits[0, -1].log_softmax(-1)
            token = int(logits.argmax()) if how.temperature == 0 else int(torch.multinomial(logits.exp(), 1))
            ids.append(token)
            scores.append({token: SimpleNamespace(rank=1, logprob=float(logits[token]) - self.noise)})
        return SimpleNamespace(prompt_token_ids=prompt, outputs=[SimpleNamespace(token_ids=ids, logprobs=scores)])


class Server(Engine):
    """The same behind TRL's client of a server."""

    def init_communicator(self, device: Any) -> None: ...

    def get_server_info(self) -> dict[str, Any]:
        return {"model_config": {"logprobs_mode": "processed_logprobs"}}

    def update_named_params(self, metadata: Any, params: Any) -> None:
        self.load_weights(params)

    def generate(self, prompts: Any, features: Any, max_tokens: int, temperature: float, **how: Any) -> dict[str, Any]:
        told = SimpleNamespace(n=how["n"], max_tokens=max_tokens, temperature=temperature)
        found = super().generate([{"prompt_token_ids": ids} for ids in prompts], told, False)
        logprobs = [[[at.logprob for at in scores.values()] for scores in one.outputs[0].logprobs] for one in found]
        return {"prompt_ids": prompts, "completion_ids": [o.outputs[0].token_ids for o in found], "logprobs": logprobs}


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Engine]]:
    """Those that TRL starts; what TRL writes into the environment is taken back."""
    from trl.generation import vllm_generation

    honest = vllm_generation.VLLMGeneration._init_vllm

    def noted(self: Any) -> None:
        Engine.policy = self.model
        honest(self)

    for name, stand_in in {
        "is_vllm_available": lambda: True,
        "LLM": Engine,
        "SamplingParams": SimpleNamespace,
        "VLLMClient": Server,
    }.items():
        monkeypatch.setattr(vllm_generation, name, stand_in, raising=False)
    monkeypatch.setattr(vllm_generation.VLLMGeneration, "_init_vllm", noted)
    for name in ("vllm", "vllm.lora", "vllm.lora.request"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["vllm.lora.request"].LoRARequest = lambda name, number, path: SimpleNamespace(
        name=name, number=number, path=path
    )
    monkeypatch.setattr(Engine, "made", [])
    monkeypatch.setattr(Engine, "noise", 0.0)
    with mock.patch.dict(os.environ):
        yield Engine.made


def vllm_config(**changes: Any) -> Any:
    return tiny_config(**{"model": "m", "generation": "vllm", "device": "auto", "max_grad_norm": 1e9, **changes})


def play(config: Any, folder: Path, corrected: bool = True) -> tuple[SelfPlayTrainer, Spy, dict[str, Any]]:
    trainer = SelfPlayTrainer(config, tiny_policy(config.tuning), PLAIN, Scripted(sampled_script(config)), folder)
    trainer.vllm_importance_sampling_correction = corrected
    spy, seen = Spy(), {}
    trainer.add_callback(spy)
    original = trainer._compute_loss

    def look(model: Any, inputs: dict[str, Any]) -> Any:
        seen.setdefault("ratio", inputs.get("importance_sampling_ratio"))
        seen.setdefault("mask", inputs["completion_mask"])
        return original(model, inputs)

    trainer._compute_loss = look
    torch.manual_seed(0)
    trainer.train()
    return trainer, spy, seen


@pytest.mark.parametrize("generation", ["vllm", "vllm-server", "transformers"])
def test_the_self_test_passes_whoever_samples(generation: str, engines: list[Engine], tmp_path: Path) -> None:
    config = vllm_config(generation=generation)
    trainer = SelfPlayTrainer(config, tiny_policy(), PLAIN, Scripted(sampled_script(config)), tmp_path)
    found = self_test(trainer)
    assert found.raised > 0 > found.lowered
    assert len(engines) == (generation != "transformers")
    trainer.train()
    assert trainer.steps_done == 1
    assert all(engine.loaded for engine in engines)


def test_vllm_is_synced_once_a_step_and_sleeps_once_before_the_update(engines: list[Engine], tmp_path: Path) -> None:
    config = vllm_config(steps=2)
    play(config, tmp_path)
    (engine,) = engines
    one_step = ["wake weights", "sync", "wake kv_cache", (6, 1.0), (6, 1.0), "sleep"]  # all proposals, all solves
    assert engine.told == ["sleep", *one_step, *one_step]
    assert engine.options["max_model_len"] == config.max_prompt_tokens + config.max_reply_tokens


def test_vllm_stays_awake_from_an_evaluation_to_the_end_of_the_next_step(engines: list[Engine], tmp_path: Path) -> None:
    config = vllm_config()
    trainer = SelfPlayTrainer(config, tiny_policy(), PLAIN, Scripted(sampled_script(config)), tmp_path)
    for text in ("ab", "cd"):
        trainer.generate([text], greedy=True)
    trainer.train()
    woken = ["wake weights", "sync", "wake kv_cache"]
    assert engines[0].told == ["sleep", *woken, (1, 0.0), (1, 0.0), (6, 1.0), (6, 1.0), "sleep"]
    trainer.generate(["ab"], greedy=True)
    assert engines[0].told[-4:] == [*woken, (1, 0.0)], "the weights of after the update"


def test_vllm_takes_256_sequences_at_once_however_few_a_process_trains_on(
    engines: list[Engine], tmp_path: Path
) -> None:
    """TRL gives as many as a process trains on: 12 here, 48 in full-7b-8x80gb, whose calls have 115."""
    from trl.trainer import grpo_trainer

    honest = grpo_trainer.VLLMGeneration
    SelfPlayTrainer(vllm_config(), tiny_policy(), PLAIN, Scripted(lambda generate, step: []), tmp_path)
    assert engines[0].options["max_num_seqs"] == 256
    assert grpo_trainer.VLLMGeneration is honest


@pytest.mark.parametrize("takes_plain_names", [True, False], ids=["0.32", "0.31"])
def test_vllm_gets_a_four_bit_base_in_sixteen_bits(
    takes_plain_names: bool, engines: list[Engine], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Under the name that each version knows."""
    from bitsandbytes import functional

    wrapper = type("BaseLayerWithLoRA", (), {"load_weights": None} if takes_plain_names else {})
    layers = ModuleType("vllm.lora.layers")
    layers.BaseLayerWithLoRA = wrapper
    monkeypatch.setitem(sys.modules, "vllm.lora.layers", layers)
    monkeypatch.setattr(functional, "dequantize_4bit", lambda data, state: data + state)
    config = vllm_config(tuning="lora")
    policy = tiny_policy("lora")
    packed = policy.model.model.layers[0].self_attn.q_proj.weight
    packed.quant_state = 1.0
    SelfPlayTrainer(config, policy, PLAIN, Scripted(lambda generate, step: []), tmp_path)
    (engine,) = engines
    inside = "" if takes_plain_names else ".base_layer"
    assert engine.loaded == {f"model.layers.0.self_attn.q_proj{inside}.weight"}


@pytest.mark.parametrize("generation", ["vllm", "vllm-server"])
def test_runs_started_together_use_ports_of_their_own(generation: str, engines: list[Engine], tmp_path: Path) -> None:
    ports = set()
    for name in "ab":
        with mock.patch.dict(os.environ):
            os.environ.pop("MASTER_PORT", None)
            config = vllm_config(generation=generation)
            SelfPlayTrainer(config, tiny_policy(), PLAIN, Scripted(lambda generate, step: []), tmp_path / name)
            ports.add(engines[-1].options["group_port"] if generation == "vllm-server" else os.environ["MASTER_PORT"])
    assert len(ports) == 2


@pytest.mark.parametrize("tensor_parallel", [1, 2])
def test_processes_that_hold_one_vllm_together_draw_from_one_seed(
    tensor_parallel: int, engines: list[Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = vllm_config()
    trainer = SelfPlayTrainer(config, tiny_policy(), PLAIN, Scripted(lambda generate, step: []), tmp_path)
    trainer.args.vllm_tensor_parallel_size = tensor_parallel
    reply, seeds = ([5, 0], [-1.0, -1.0], False), []
    monkeypatch.setattr("azr_lite.train.trainer.gather_object", lambda found: [(i, reply) for i in range(8)])
    trainer.sampler = lambda prompts, *, greedy, seed, **_: seeds.append(seed) or [reply] * len(prompts)
    for rank in range(4):
        trainer.accelerator = SimpleNamespace(num_processes=4, process_index=rank)
        trainer.generate(["ab"] * 8)
        trainer._sampling_calls = 0
    assert [seeds.index(seed) for seed in seeds] == [rank // tensor_parallel * tensor_parallel for rank in range(4)]


def test_exact_samples_have_importance_weight_one_and_the_plain_gradient(engines: list[Engine], tmp_path: Path) -> None:
    _, weighted, seen = play(vllm_config(), tmp_path / "weighted")
    ratio_BT = seen["ratio"][seen["mask"].bool()]
    assert torch.allclose(ratio_BT, torch.ones_like(ratio_BT), atol=1e-4)
    _, plain, off = play(vllm_config(), tmp_path / "plain", corrected=False)
    assert off["ratio"] is None
    assert relative_error(weighted.gradients[0], plain.gradients[0]) < 1e-4


def test_wrong_log_probabilities_are_weighed_token_by_token_up_to_three(
    engines: list[Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for noise, wanted in ((0.1, 2.718281828**0.1), (5.0, 3.0)):
        monkeypatch.setattr(Engine, "noise", noise)
        _, _, seen = play(vllm_config(), tmp_path / str(noise))
        ratio_BT = seen["ratio"][seen["mask"].bool()]
        assert torch.allclose(ratio_BT, torch.full_like(ratio_BT, wanted), atol=1e-3)


def test_greedy_evaluation_asks_vllm_for_the_likeliest_token(engines: list[Engine], tmp_path: Path) -> None:
    trainer = SelfPlayTrainer(vllm_config(), tiny_policy(), PLAIN, Scripted(lambda generate, step: []), tmp_path)
    assert trainer.generate(["ab", "cd"], greedy=True) == trainer.generate(["ab", "cd"], greedy=True)
    trainer.generate(["ab"])
    assert [temperature for _, temperature in engines[0].calls] == [0.0, 0.0, 1.0]


def test_an_empty_reply_counts_as_one_that_ended_at_once(
    engines: list[Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss needs a token; the engine told no log-probability of it, so its importance weight is 1."""
    nothing = SimpleNamespace(prompt_token_ids=[], outputs=[SimpleNamespace(token_ids=[], logprobs=[])])
    honest = Engine.reply
    monkeypatch.setattr(
        Engine, "reply", lambda self, prompt, how: nothing if len(prompt) > 7 else honest(self, prompt, how)
    )
    trainer, spy, seen = play(vllm_config(), tmp_path)
    empty = [row for row in trainer.rollouts if len(row.prompt_ids) > 7]
    assert empty
    assert all(row.completion_ids == (0,) and not row.text and math.isnan(*row.logps) for row in empty)
    assert torch.allclose(seen["ratio"], torch.ones_like(seen["ratio"]), atol=1e-4)
    assert all(gradient.isfinite().all() for gradient in spy.gradients[0].values())


def test_vllm_goes_on_only_with_replies_that_have_not_ended(engines: list[Engine], tmp_path: Path) -> None:
    """First 32 tokens, then as many again as there are; a rule that never holds changes no reply."""
    config = vllm_config(max_prompt_tokens=64, max_reply_tokens=100)
    trainer = SelfPlayTrainer(config, tiny_policy(), PLAIN, Scripted(lambda generate, step: []), tmp_path)
    prompts = [f"{letter}b" for letter in "abcdef"]
    plain = trainer.generate(prompts, greedy=True)
    (engine,) = engines
    assert len(engine.calls) == 1
    ends = {prompts[0]: lambda text: len(text) >= 3, prompts[1]: lambda text: len(text) >= 40}
    trainer.codec.ended = lambda role, prompt: ends.get(prompt, lambda text: False)
    found = trainer.generate(prompts, greedy=True)
    assert found[2:] == plain[2:]
    for cut, whole, letters in zip(found, plain[:2], (3, 40), strict=False):
        assert whole.text.startswith(cut.text)
        assert letters <= len(cut.text) < len(whole.text)
        assert cut.logps == pytest.approx(whole.logps[: len(cut.ids)], abs=1e-5)
    unfinished = [sum(len(one.ids) > done for one in plain[1:]) for done in (32, 64)]
    expected = [6, unfinished[0], unfinished[1] - (len(plain[1].ids) > 64)]
    assert [rows for rows, _ in engine.calls[1:]] == [rows for rows in expected if rows]
    assert trainer.vllm_generation.max_completion_length == 100


def test_adapters_go_to_vllm_as_they_are_and_weights_stay(engines: list[Engine], tmp_path: Path) -> None:
    config = vllm_config(tuning="lora", steps=2)
    trainer, _, _ = play(config, tmp_path)
    (engine,) = engines
    assert (engine.options["enable_lora"], engine.options["max_lora_rank"]) == (True, 8)
    assert engine.loaded == set(), "weights were handed over"
    first, second = (tensors for _, tensors in engine.adapters)
    last = {name: p for name, p in trainer.model.named_parameters() if "lora_" in name}
    assert len(first) == len(second) == len(last) > 0
    for name, tensor in second.items():
        assert tensor.dtype == torch.float32
        if "lora_B" in name:
            assert not first[name].any()
            assert tensor.any()
    one_step = ["wake weights", "sync", "wake kv_cache", (6, 1.0), (6, 1.0), "doze"]
    assert engine.told == ["doze", *one_step, *one_step], "level 2 would forget the base"
    assert set(engine.acted) == {"default"}


def test_each_role_samples_from_vllm_with_its_own_adapter(engines: list[Engine], tmp_path: Path) -> None:
    config = vllm_config(tuning="lora", roles="split")
    trainer = SelfPlayTrainer(config, tiny_policy("lora"), PLAIN, Scripted(sampled_script(config)), tmp_path)
    for role in (Role.PROPOSE, Role.SOLVE):
        trainer.generate(["ab"], role)
    assert engines[0].acted == ["proposer", "default"]
    assert {name for name, _ in engines[0].adapters} == {"proposer", "default"}


def test_without_a_gpu_or_vllm_the_sentence_says_so_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    for changes in ({"generation": "vllm"}, {"optimizer": "adamw_8bit"}):
        config = tiny_config(**{"model": "m", "device": "auto", **changes})
        with pytest.raises(ConfigError, match="needs a GPU, and there is none here"):
            loop._check_and_join(config, Objects())
        assert "needs a GPU, and there is none here" in " ".join(preflight.preflight(config, False)[0].split())
    monkeypatch.setattr(preflight, "runs_on_cpu", lambda config: False)
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"azr-lite\[vllm\]"):
        preflight.check_device(tiny_config(model="m", generation="vllm", device="auto"))
