"""Every name and argument of TRL, transformers and their family that we use, as they are in the pinned versions.

Read from our source (`source_uses.py`), so none is forgotten; below that, what syntax cannot tell: what TRL reads from a batch, and
how often. A newer version that changes one fails here, with the line of ours to mend, and not somewhere in a gradient.
"""

import inspect
from pathlib import Path

import pytest

pytest.importorskip("trl")

import transformers
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import split_tensor_dict

from azr_lite.train.trainer import SelfPlayTrainer
from tests.source_uses import PACKAGES, Report, examine, family_of, load

ROOT = Path(__file__).parents[1]
SOURCES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted((ROOT / "azr_lite").rglob("*.py"))
}


@pytest.fixture(scope="module")
def family():
    return family_of(SOURCES)


@pytest.fixture(scope="module")
def report(family):
    """Of all files together."""
    whole = Report()
    for name, source in SOURCES.items():
        if any(word in source for word in (*PACKAGES, *family)):
            found = examine(source, name, family)
            whole.uses += found.uses
            whole.problems += found.problems
    return whole


def test_all_that_we_use_is_still_there(report):
    assert report.problems == []


def test_nothing_is_overlooked(report, family):
    """The walk sees each way in which we lean on these libraries; one of each is looked for."""
    assert "SelfPlayTrainer" in family
    seen = {what for _, what in report.uses}
    assert {
        "trl.trainer.utils.split_tensor_dict",  # an import
        "GRPOConfig(vllm_importance_sampling_mode=)",  # a keyword from a dict that another function returns
        "HfApi.upload_folder(allow_patterns=)",  # a method of something made here
        "huggingface_hub.errors.GatedRepoError",  # an attribute of a module
        "GRPOTrainer.is_fsdp_enabled",  # of self
        "GRPOTrainer._compute_loss",  # through super()
        "GRPOTrainer.compute_loss_context_manager",  # of an annotated argument, in another file
        "override of Trainer._load_from_checkpoint",
        "BitsAndBytesConfig(bnb_4bit_quant_type=)",
        "safetensors.torch.load_file",
    } <= seen
    assert len(report.uses) > 350


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("from trl import GRPOTrainr", "mine.py:1: trl.GRPOTrainr cannot be imported"),
        ("import transformers.trainr", "mine.py:1: transformers.trainr cannot be imported"),
        ("from trl import GRPOConfig\nGRPOConfig(num_generation=2)", "mine.py:2: GRPOConfig takes no 'num_generation' any more"),
        ("from trl import GRPOConfig\nmore = {'epsilonn': 1}\nGRPOConfig(**more)", "mine.py:3: GRPOConfig takes no 'epsilonn' any more"),
        ("from huggingface_hub import HfApi\napi = HfApi()\napi.create_repositoryy('a')", "mine.py:3: HfApi.create_repositoryy is no more"),
        ("from huggingface_hub import HfApi\napi = HfApi()\napi.create_repo()", "mine.py:3: HfApi.create_repo cannot be called like this"),
        ("from transformers import AutoModelForCausalLM as A\nA.from_pretrained('a', dtyype=1)", "mine.py:2: _BaseAutoModelClass.from_pretrained takes no 'dtyype'"),
        ("from transformers import GenerationConfig\ndef f(g: GenerationConfig):\n    g.eos_tokn_id", "mine.py:3: GenerationConfig.eos_tokn_id is no more"),
        ("from trl import GRPOTrainer\nclass T(GRPOTrainer):\n    def f(self):\n        self.accelerator.scalr", "mine.py:4: Accelerator.scalr is no more"),
        ("from trl import GRPOTrainer\nclass T(GRPOTrainer):\n    def f(self):\n        super()._compute_los()", "mine.py:4: GRPOTrainer._compute_los is no more"),
        ("from trl import GRPOTrainer\nclass T(GRPOTrainer):\n    def _compute_loss(self, model): ...", "mine.py:3: GRPOTrainer._compute_loss takes (self, model, inputs) now"),
    ],
)  # fmt: skip
def test_each_kind_of_drift_is_noticed_and_names_our_line(source, complaint):
    (found,) = examine(source, "mine.py", family_of({"mine.py": source})).problems
    assert found.startswith(complaint)


BY_HAND = {
    "trl.generation.vllm_generation.VLLMGeneration.sync_weights": (
        "azr_lite/train/generation.py",
        "engine.sync_weights",
    ),
    "peft.PeftModel.set_adapter": ("azr_lite/train/trainer.py", ".set_adapter("),
    "peft.PeftModel.set_requires_grad": ("azr_lite/train/trainer.py", ".set_requires_grad("),
    "accelerate.utils.FullyShardedDataParallelPlugin.__dataclass_fields__": (
        "azr_lite/train/distributed.py",
        "plugin.mixed_precision_policy",
    ),
    "transformers.GenerationMixin.generate": ("azr_lite/train/generation.py", "model.generate("),
    "transformers.PreTrainedModel.tie_weights": ("azr_lite/evaluation/generators.py", ".tie_weights("),
}
"""What reaches us in untyped arguments: the name, and the line of ours that takes it."""


@pytest.mark.parametrize("path", BY_HAND)
def test_what_comes_untyped_is_still_there(path):
    file, text = BY_HAND[path]
    line = next((number for number, line in enumerate(SOURCES[file].splitlines(), start=1) if text in line), None)
    assert line, f"{file} no longer holds {text!r}; take it out of BY_HAND"
    owner, _, name = path.rpartition(".")
    assert hasattr(load(owner), name), f"{path} is no more; mend {file}:{line}"
    if name == "__dataclass_fields__":
        assert "mixed_precision_policy" in load(owner).__dataclass_fields__, f"mend {file}:{line}"


SIGNATURES = {
    "_generate_and_score_completions": (["self", "inputs"], "`_prepare_inputs` calls it: the batch of rollouts"),
    "_prepare_inputs": (["self", "generation_batch"], "overridden so that rows are not shuffled between updates"),
    "_compute_loss": (["self", "model", "inputs"], "the entropy bonus is subtracted from its result"),
    "_generate_single_turn": (
        ["self", "prompt_ids", "images", "multimodal_fields", "num_generations"],
        "`generation.PolicySampler` calls it",
    ),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_methods_take_what_we_give_them(name):
    wanted, why = SIGNATURES[name]
    found = list(inspect.signature(getattr(GRPOTrainer, name)).parameters)
    assert found[: len(wanted)] == wanted, f"GRPOTrainer.{name} changed ({why})"
    assert all(
        p.default is not inspect.Parameter.empty
        for p in list(inspect.signature(getattr(GRPOTrainer, name)).parameters.values())[len(wanted) :]
    )


def test_log_probabilities_are_asked_for_as_we_answer():
    signature = inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies)
    assert list(signature.parameters)[:6] == [
        "self",
        "model",
        "input_ids",
        "attention_mask",
        "logits_to_keep",
        "batch_size",
    ]
    source = inspect.getsource(GRPOTrainer)
    calls = source.count("self._get_per_token_logps_and_entropies(")
    assert calls == 4, "TRL asks in another number of places; see which of them ask for old log-probabilities"
    assert "return logps, entropies, aux_loss" in inspect.getsource(GRPOTrainer._get_per_token_logps_and_entropies)


def test_the_loss_reads_what_we_put_into_the_batch():
    source = inspect.getsource(GRPOTrainer._compute_loss)
    for key in ("advantages", "old_per_token_logps", "completion_mask", "num_items_in_batch"):
        assert f'"{key}"' in source, f"_compute_loss no longer reads {key!r}"
    for name in ("_step", "_buffered_inputs", "current_gradient_accumulation_steps", "_metrics"):
        assert f"self.{name}" in inspect.getsource(GRPOTrainer) + inspect.getsource(transformers.Trainer), name


def test_the_base_class_still_has_what_we_override():
    for name, parameters in {
        "training_step": ["self", "model", "inputs", "num_items_in_batch"],
        "_save_checkpoint": ["self", "model", "trial"],
    }.items():
        found = list(inspect.signature(getattr(transformers.Trainer, name)).parameters)
        assert found[: len(parameters)] == parameters, f"Trainer.{name} changed"
        assert name in vars(SelfPlayTrainer)


def test_rollouts_are_taken_from_our_function():
    assert "rollout_func" in inspect.signature(GRPOTrainer.__init__).parameters
    source = inspect.getsource(GRPOTrainer)
    for key in ("prompt_ids", "completion_ids", "logprobs"):
        assert f'"{key}"' in source
    assert list(inspect.signature(split_tensor_dict).parameters) == ["tensor_dict", "num_chunks"]
    fields = GRPOConfig.__dataclass_fields__
    for name in (
        "steps_per_generation",
        "num_generations",
        "mask_truncated_completions",
        "scale_rewards",
        "loss_type",
        "epsilon",
        "beta",
    ):
        assert name in fields, f"GRPOConfig has no {name} any more"
