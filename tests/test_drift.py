"""The private names of TRL and transformers that `trainer.py` and `generation.py` lean on, as they are in the pinned versions.

A newer version that changes one fails here, with what to mend, and not somewhere in a gradient.
"""

import inspect

import pytest

pytest.importorskip("trl")

import transformers
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import split_tensor_dict

from azr_lite.trainer import SelfPlayTrainer

SIGNATURES = {
    "_generate_and_score_completions": (["self", "inputs"], "the batch of rollouts is put in here"),
    "_prepare_inputs": (["self", "generation_batch"], "overridden so that rows are not shuffled between updates"),
    "_compute_loss": (["self", "model", "inputs"], "the entropy bonus is subtracted from its result"),
    "_generate_single_turn": (["self", "prompt_ids", "images", "multimodal_fields", "num_generations"], "`generation._sample` calls it"),
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
    assert list(signature.parameters)[:6] == ["self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size"]
    source = inspect.getsource(GRPOTrainer)
    calls = source.count("self._get_per_token_logps_and_entropies(")
    assert calls == 4, "TRL asks in another number of places; see which of them `_sampled_BT` must answer"
    assert "return logps, entropies, aux_loss" in inspect.getsource(GRPOTrainer._get_per_token_logps_and_entropies)


def test_the_loss_reads_what_we_put_into_the_batch():
    source = inspect.getsource(GRPOTrainer._compute_loss)
    for key in ("advantages", "old_per_token_logps", "completion_mask", "num_items_in_batch"):
        assert f'"{key}"' in source, f"_compute_loss no longer reads {key!r}"
    for name in ("_step", "_buffered_inputs", "current_gradient_accumulation_steps", "_metrics"):
        assert f"self.{name}" in inspect.getsource(GRPOTrainer) + inspect.getsource(transformers.Trainer), name


def test_the_base_class_still_has_what_we_override():
    for name, parameters in {
        "_get_grad_norm": ["self", "model"],
        "_save_checkpoint": ["self", "model", "trial"],
        "log": ["self", "logs"],
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
    for name in ("steps_per_generation", "num_generations", "mask_truncated_completions", "scale_rewards", "loss_type", "epsilon", "beta"):
        assert name in fields, f"GRPOConfig has no {name} any more"
