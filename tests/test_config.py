"""Every wrong setting gets one clear sentence before anything is loaded."""

import json

import pytest

from azr_lite.config import Config, preset, presets, save_config
from azr_lite.errors import ConfigError


@pytest.mark.parametrize("name", presets())
def test_presets_are_valid_and_survive_json(name):
    config = preset(name)
    assert config.preset == name
    assert Config.from_json(json.loads(save_config(config))) == config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_mc": 1}, "n_mc is 1"),
        ({"temperature": 0.0}, "greedy"),
        ({"top_p": 0.0}, "top_p"),
        ({"steps": -1}, "steps is -1"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": -1e-6}, "learning_rate"),
        ({"learning_rate": float("nan")}, "finite"),
        ({"micro_batch_size": 7}, "does not split"),
        ({"updates_per_step": 5, "micro_batch_size": 2}, "does not split"),
        ({"task_types": ()}, "task_types is empty"),
        ({"task_types": ("deduction", "deduction")}, "twice"),
        ({"task_types": ("alchemy",)}, "unknown task type 'alchemy'"),
        ({"task_types": ("induction",)}, "add deduction or abduction"),
        ({"task_types": "deduction"}, "tuple"),
        ({"whitening": "batch"}, "choose one of 'sequence', 'token'"),
        ({"same_step": False}, "solver_data='separate'"),
        ({"train_proposer": False, "train_solver": False}, "both off"),
        ({"tuning": "qlora", "dtype": "float32"}, "4-bit"),
        ({"estimator": "grpo", "solver_data": "separate"}, "several replies"),
        ({"induction_inputs": 5}, "no pair stays hidden"),
        ({"clip": 1.5}, "clip is 1.5"),
        ({"batch_size": 2.5}, "whole number"),
        ({"seed": True}, "whole number"),
        ({"memory_mb": 1}, "64 MiB"),
        ({"model": ""}, "model is empty"),
        ({"save_every": -1}, "negative"),
    ],
)
def test_wrong_values_get_one_sentence(changes, words):
    with pytest.raises(ConfigError) as caught:
        Config(**changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_names_get_the_nearest_known_one():
    with pytest.raises(ConfigError, match="did you mean 'learning_rate'"):
        preset("nano", learningrate=1.0)
    with pytest.raises(ConfigError, match="did you mean 'nano'"):
        preset("nanno")
    with pytest.raises(ConfigError, match="known: "):
        preset("zzz")


def test_the_papers_batch_is_384_sequences():
    assert Config().rows == 384
