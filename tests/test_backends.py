"""Who samples: prompts read once for all their replies; vLLM, with a stand-in that samples exactly or slightly wrong."""

from pathlib import Path
from typing import Any, ClassVar

import pytest

torch = pytest.importorskip("torch")

from azr_lite.errors import ConfigError  # noqa: E402
from azr_lite.train import arguments  # noqa: E402
from azr_lite.train.generation import likeliest, sample_replies  # noqa: E402
from azr_lite.train.trainer import SelfPlayTrainer  # noqa: E402
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


# ---------------------------------------------------------------- vLLM, with a stand-in


class StandIn:
    """Takes the place of TRL's VLLMGeneration: samples with the trainer's model; log-probabilities may be off by `noise`."""

    noise = 0.0
    made: ClassVar[list["StandIn"]] = []

    def __init__(self, model: Any, **options: Any) -> None:
        self.model, self.options, self.synced, self.calls, self.logps_given = model, options, 0, [], []
        self.temperature, self.top_p, self.top_k = options["temperature"], options["top_p"], options["top_k"]
        StandIn.made.append(self)

    def sync_weights(self) -> None:
        self.synced += 1

    @torch.no_grad()
    def generate(self, prompts: Any, images: Any, num_generations: int, profiler: Any) -> tuple[Any, Any, Any, Any]:
        assert num_generations == 1
        self.calls.append((len(prompts), self.temperature))
        replies, logps = [], []
        for ids in prompts:
            reply, scores = [], []
            while len(reply) < self.options["max_completion_length"] and reply[-1:] != [0]:
                logits = self.model(torch.tensor([[*ids, *reply]])).logits[0, -1].log_softmax(-1)
                token = int(logits.argmax()) if self.temperature == 0 else int(torch.multinomial(logits.exp(), 1))
                reply.append(token)
                scores.append([float(logits[token]) - self.noise])
            replies.append(reply)
            logps.append(scores)
        return prompts, replies, logps, None


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", StandIn)
    monkeypatch.setattr(arguments, "require_vllm", lambda config, on_cpu: None)
    monkeypatch.setattr(StandIn, "made", [])
    monkeypatch.setattr(StandIn, "noise", 0.0)
    return StandIn


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


def test_vllm_is_synced_once_a_step_and_called_once_for_each_role(stand_in: type[StandIn], tmp_path: Path) -> None:
    config = vllm_config(steps=2)
    play(config, tmp_path)
    (engine,) = stand_in.made
    assert engine.synced == 2
    assert engine.calls == [(6, 1.0)] * 4, "two calls a step: all proposals, all solves"
    assert engine.options["max_model_length"] == config.max_prompt_tokens + config.max_reply_tokens


def test_exact_samples_have_importance_weight_one_and_the_plain_gradient(
    stand_in: type[StandIn], tmp_path: Path
) -> None:
    _, weighted, seen = play(vllm_config(), tmp_path / "weighted")
    ratio_BT = seen["ratio"][seen["mask"].bool()]
    assert torch.allclose(ratio_BT, torch.ones_like(ratio_BT), atol=1e-4)
    _, plain, off = play(vllm_config(), tmp_path / "plain", corrected=False)
    assert off["ratio"] is None
    assert relative_error(weighted.gradients[0], plain.gradients[0]) < 1e-4


def test_wrong_log_probabilities_are_weighed_token_by_token_up_to_three(
    stand_in: type[StandIn], tmp_path: Path
) -> None:
    for noise, wanted in ((0.1, 2.718281828**0.1), (5.0, 3.0)):
        stand_in.noise = noise
        _, _, seen = play(vllm_config(), tmp_path / str(noise))
        ratio_BT = seen["ratio"][seen["mask"].bool()]
        assert torch.allclose(ratio_BT, torch.full_like(ratio_BT, wanted), atol=1e-3)


def test_greedy_evaluation_asks_vllm_for_the_likeliest_token(stand_in: type[StandIn], tmp_path: Path) -> None:
    trainer = SelfPlayTrainer(vllm_config(), tiny_policy(), PLAIN, Scripted(lambda generate, step: []), tmp_path)
    assert trainer.generate(["ab", "cd"], greedy=True) == trainer.generate(["ab", "cd"], greedy=True)
    trainer.generate(["ab"])
    assert [temperature for _, temperature in stand_in.made[0].calls] == [0.0, 0.0, 1.0]


def test_adapters_over_vllm_are_guarded(stand_in: type[StandIn], tmp_path: Path) -> None:
    trainer, _, _ = play(vllm_config(tuning="lora"), tmp_path)
    assert trainer.vllm_generation.sync_weights.__name__ == "sync_and_restore"


def test_without_a_gpu_or_vllm_the_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for changes in (
        {"generation": "vllm"},
        {"optimizer": "adamw_8bit"},
    ):
        config = tiny_config(**{"model": "m", "device": "auto", **changes})
        with pytest.raises(ConfigError, match=r"(GPU|GPUs).*none here"):
            SelfPlayTrainer(config, tiny_policy(), PLAIN, Scripted(lambda generate, step: []), tmp_path)
    monkeypatch.setattr(arguments.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"azr-lite\[vllm\]"):
        arguments.require_vllm(tiny_config(model="m", generation="vllm", device="auto"), False)
