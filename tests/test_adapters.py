"""Two adapters play two roles on one base; and the base stays what it is while vLLM is fed."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from accelerate import Accelerator  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from trl.distributed import DistributedBackend  # noqa: E402
from trl.generation.vllm_generation import VLLMGeneration  # noqa: E402

from azr_lite.errors import ModelError  # noqa: E402
from azr_lite.train.checkpoints import last_whole_checkpoint  # noqa: E402
from azr_lite.train.diagnostics import self_test  # noqa: E402
from azr_lite.train.generation import protect_frozen_weights  # noqa: E402
from azr_lite.train.trainer import SelfPlayTrainer  # noqa: E402
from azr_lite.triplet import Role  # noqa: E402
from tests.test_trainer import Spy, reinforce_gradient, relative_error  # noqa: E402
from tests.tiny import (  # noqa: E402
    PLAIN,
    Scripted,
    random_rollouts,
    sampled_script,
    tiny_config,
    tiny_model,
    tiny_policy,
    tiny_tokenizer,
)


def split_config(**changes: Any) -> Any:
    return tiny_config(**{"tuning": "lora", "roles": "split", "max_grad_norm": 1e9, **changes})


def one_step(config: Any, rows: Any, folder: Path) -> tuple[SelfPlayTrainer, Spy]:
    trainer = SelfPlayTrainer(config, tiny_policy("lora"), PLAIN, Scripted(lambda generate, step: rows), folder)
    with torch.no_grad():  # adapters start without effect: give each its own
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                generator = torch.Generator().manual_seed(len(name) + ("proposer" in name))
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    spy = Spy()
    trainer.add_callback(spy)
    trainer.train()
    return trainer, spy


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("updates", [1, 2])
def test_each_role_moves_its_own_adapter_by_its_own_rows(updates: int, checkpointing: bool, tmp_path: Path) -> None:
    config = split_config(micro_batch_size=3, gradient_checkpointing=checkpointing, updates_per_step=updates)
    rows = random_rollouts(config)
    if updates == 2:  # as SelfPlay deals them: each update sees both roles alike
        rows = rows[::2] + rows[1::2]
    trainer, spy = one_step(config, rows, tmp_path)
    block = rows[: len(rows) // updates]
    total = sum(len(r.completion_ids) for r in rows) / updates
    for role, adapter in ((Role.SOLVE, "default"), (Role.PROPOSE, "proposer")):
        own = [r for r in block if r.role == role]
        trainer.act_as(role)
        for name, weight in spy.weights[0].items():
            trainer.model.get_parameter(name).data.copy_(weight)
        wanted = reinforce_gradient(trainer.model, own)
        share = (
            sum(len(r.completion_ids) for r in own) / total
        )  # by hand the mean is over the rows given, here over the whole update
        found = {name: g for name, g in spy.gradients[0].items() if f".{adapter}." in name}
        assert len(found) == len(spy.gradients[0]) // 2
        assert relative_error(found, {name: share * wanted[name] for name in found}) < 1e-4
        assert max(float(g.abs().max()) for g in found.values()) > 1e-4


def test_roles_sample_from_their_own_adapter(tmp_path: Path) -> None:
    config = split_config()
    trainer, _ = one_step(config, random_rollouts(config), tmp_path)
    solved = trainer.generate(["abc", "de", "xyz"], greedy=True)
    assert solved == trainer.generate(["abc", "de", "xyz"], Role.SOLVE, greedy=True)
    assert solved != trainer.generate(["abc", "de", "xyz"], Role.PROPOSE, greedy=True)


def test_split_roles_resume_to_the_same_weights(tmp_path: Path) -> None:
    def play(folder: Path, steps: int) -> Path:
        config = split_config(steps=steps, micro_batch_size=3, updates_per_step=2)
        trainer = SelfPlayTrainer(config, tiny_policy("lora"), PLAIN, Scripted(sampled_script(config)), folder)
        checkpoint = last_whole_checkpoint(folder)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        return last_whole_checkpoint(folder)

    straight = play(tmp_path / "straight", 3)
    play(tmp_path / "twice", 1)
    twice = play(tmp_path / "twice", 3)
    for file in ("adapter_model.safetensors", "proposer/adapter_model.safetensors"):
        one, other = load_file(straight / file), load_file(twice / file)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    solver, proposer = (
        load_file(straight / "adapter_model.safetensors"),
        load_file(straight / "proposer/adapter_model.safetensors"),
    )
    assert all(not torch.equal(solver[name], proposer[name]) for name in solver if "lora_B" in name)


def test_split_roles_pass_the_self_test_and_double_the_adapters_only(tmp_path: Path) -> None:
    trainers = [
        SelfPlayTrainer(
            tiny_config(tuning="lora", roles=roles), tiny_policy("lora"), PLAIN, Scripted(lambda g, s: []), tmp_path
        )
        for roles in ("shared", "split")
    ]
    shared, split = ([p for p in t.model.parameters() if p.requires_grad] for t in trainers)
    assert sum(p.numel() for p in split) == 2 * sum(p.numel() for p in shared)
    assert all(p.dtype == torch.float32 for p in split)
    assert self_test(trainers[1]).raised > 0


# ---------------------------------------------------------------- the guard


class Engine:
    """Stands where vLLM stands; keeps the weights it was handed last."""

    def __init__(self) -> None:
        self.weights: dict[str, torch.Tensor] = {}
        worker = SimpleNamespace(model_runner=SimpleNamespace(model=self))
        self.llm_engine = SimpleNamespace(model_executor=SimpleNamespace(driver_worker=worker))

    def load_weights(self, pairs: list[tuple[str, torch.Tensor]]) -> None:
        self.weights.update({name: weight.clone() for name, weight in pairs})

    def reset_prefix_cache(self) -> None: ...


def fed_engine(model: Any) -> VLLMGeneration:
    """TRL's own weight sync, with a stand-in for vLLM itself."""
    generation = VLLMGeneration.__new__(VLLMGeneration)
    accelerator = Accelerator(cpu=True)
    generation.model, generation.accelerator, generation.llm = model, accelerator, Engine()
    generation.mode, generation.enable_sleep_mode, generation._dist = "colocate", False, DistributedBackend(accelerator)
    return generation


def half_precision_model() -> Any:
    model = tiny_model(tiny_tokenizer()).to(torch.bfloat16)
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02, generator=torch.Generator().manual_seed(0))
    return adapted


def base_weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if "lora_" not in name}


def drift(model: Any, before: dict[str, torch.Tensor]) -> float:
    return max(
        float((p.float() - before[name].float()).abs().max()) for name, p in model.named_parameters() if name in before
    )


@pytest.mark.parametrize("guarded", [True, False])
def test_fifty_syncs_do_not_move_the_frozen_base(guarded: bool) -> None:
    model = half_precision_model()
    generation, before = fed_engine(model), base_weights(model)
    if guarded:
        protect_frozen_weights(model, generation)
    for _ in range(50):
        generation.sync_weights()
    merged = generation.llm.weights["model.layers.0.self_attn.q_proj.weight"]
    name = "base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight"
    assert not torch.equal(merged, before[name]), "vLLM must get the adapted weights"
    if guarded:
        assert drift(model, before) == 0.0
    else:
        assert drift(model, before) > 1e-3, "TRL no longer wears the base away: the guard can go"


def test_the_guard_restores_after_a_failed_sync_too() -> None:
    model = half_precision_model()
    generation, before = fed_engine(model), base_weights(model)

    def fail() -> None:
        model.merge_adapter()
        model.unmerge_adapter()
        raise ConnectionError("the server went away")

    generation.sync_weights = fail
    protect_frozen_weights(model, generation)
    with pytest.raises(ConnectionError):
        generation.sync_weights()
    assert drift(model, before) == 0.0


def test_a_quantized_base_is_refused() -> None:
    model = half_precision_model()
    layer = model.base_model.model.model.layers[0].mlp.up_proj.get_base_layer()
    layer.weight = torch.nn.Parameter(layer.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(ModelError, match="quantized"):
        protect_frozen_weights(model, fed_engine(model))
