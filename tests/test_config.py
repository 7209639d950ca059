"""Every wrong setting gets one clear sentence before anything is loaded."""

import json

import pytest

from azr_lite.cli import main
from azr_lite.config import Config, config_text
from azr_lite.errors import ConfigError
from azr_lite.presets import PRESETS, list_presets, preset


@pytest.mark.parametrize("name", list_presets())
def test_presets_are_valid_and_survive_json(name):
    config = preset(name)
    assert config.preset == name
    assert Config.from_json(json.loads(config_text(config))) == config
    assert all(len(why) > 4 for _, why in PRESETS[name].choices.values()), "every number has its reason"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_mc": 1}, "n_mc is 1"),
        ({"temperature": 0.0}, "greedy"),
        ({"steps": -1}, "steps is -1"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": -1e-6}, "learning_rate"),
        ({"learning_rate": float("nan")}, "finite"),
        ({"updates_per_step": 5}, "does not split into 5 updates; choose updates_per_step from the divisors of 384"),
        ({"processes": 5}, "1 update on each of 5 processes; start a number of processes that divides 384"),
        ({"task_types": ()}, "task_types is empty"),
        ({"task_types": ("deduction", "deduction")}, "twice"),
        ({"task_types": ("alchemy",)}, "unknown task type 'alchemy'"),
        ({"task_types": ("induction",)}, "add deduction or abduction"),
        ({"task_types": "deduction"}, "tuple"),
        ({"whitening": "batch"}, "choose one of 'sequence', 'token'"),
        ({"train_proposer": False, "train_solver": False}, "both off"),
        ({"tuning": "qlora", "dtype": "float32"}, "4-bit"),
        ({"estimator": "grpo", "solver_data": "separate"}, "several replies"),
        ({"induction_inputs": 5}, "no pair stays hidden"),
        ({"clip": 1.5}, "clip is 1.5"),
        ({"batch_size": 2.5}, "whole number"),
        ({"seed": True}, "whole number"),
        ({"seed": 2**32}, "below 2**32"),
        ({"memory_mb": 1}, "64 MiB"),
        ({"memory_mb": 10**15}, "use 64 to 1048576"),
        ({"model": ""}, "model is empty"),
        ({"save_every": -1}, "negative"),
        ({"tuning": "qlora", "generation": "vllm-server", "model": "m"}, "destroys a 4-bit one"),
        ({"generation": "vllm", "model": "nano"}, "own sampler"),
        ({"generation": "vllm", "model": "a/m.gguf"}, "vLLM cannot start from a/m.gguf; give the hub id or the folder"),
        ({"generation": "vllm", "model": "m", "device": "cpu"}, "GPUs only"),
        ({"generation": "vllm-server", "model": "m", "vllm_server": "localhost"}, "http://"),
        ({"generation": "vllm", "model": "m", "vllm_memory": 1.5}, "share of the GPU"),
        ({"roles": "split"}, "two adapters"),
        ({"tuning": "lora", "generation": "vllm-server", "model": "m"}, "takes merged weights"),
        ({"roles": "split", "tuning": "lora", "batch_size": 63, "updates_per_step": 2}, "micro-batches of one role"),
        ({"optimizer": "adamw_8bit", "device": "cpu"}, "GPUs only"),
        ({"stop_patience": 2}, "eval_every"),
        ({"prompts": "file"}, "taught no other form than compact; use prompts='auto'"),
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


def test_a_micro_batch_is_lowered_until_it_divides_the_batch():
    assert preset("nano").micro_batch_size == 24
    assert preset("nano", task_types=("deduction", "abduction")).micro_batch_size == 16
    assert preset("nano", batch_size=8).micro_batch_size == 13
    assert preset("nano", task_types=("deduction", "abduction"), micro_batch_size=20).micro_batch_size == 16
    assert Config(micro_batch_size=7).micro_batch_size == 6
    assert Config(batch_size=16, processes=32).micro_batch_size == 3
    assert Config(batch_size=16).replace(processes=32) == Config(batch_size=16, processes=32)
    with pytest.raises(ConfigError, match="micro-batches of 4 on each of 32 processes; set processes to 32, or"):
        Config(batch_size=16).micro_batches(32)
    split = preset("lora-0.5b-8gb", roles="split", batch_size=12, solver_batch_size=20)
    assert (split.micro_batch_size, split.rows) == (6, 96)


def test_settings_of_older_runs_are_read_where_they_mean_what_happens():
    old = Config().to_json() | {"top_p": 1.0, "same_step": True}
    assert Config.from_json(old) == Config()
    with pytest.raises(ConfigError, match=r"top_p=0\.9 was set by an older azr_lite"):
        Config.from_json(old | {"top_p": 0.9})


PAPER = {
    # arXiv 2505.03335: sections 3 and 4.1, tables of hyper-parameters in appendix B
    "steps": 500,
    "batch_size": 64,
    "solver_rows": 64,
    "rows": 384,
    "n_mc": 8,
    "references": 6,
    "seed_batch_factor": 4,
    "induction_inputs": 10,
    "induction_shown": 5,
    "max_prompt_tokens": 6144,
    "max_reply_tokens": 8096,
    "temperature": 1.0,
    "learning_rate": 1e-6,
    "adam_beta2": 0.999,
    "max_grad_norm": 1.0,
    "clip": 0.2,
    "entropy_coef": 0.001,
    "updates_per_step": 1,
    "zero_learnability": "paper",
    "estimator": "trr",
    "whitening": "sequence",
    "solver_data": "separate",
    "induction_scoring": "binary",
    "equality": "python",
    "tuning": "full",
    "roles": "shared",
}


@pytest.mark.parametrize("name", [name for name in list_presets() if name.startswith("paper-")])
@pytest.mark.parametrize("setting", PAPER)
def test_the_papers_presets_have_the_papers_numbers(name, setting):
    assert getattr(preset(name), setting) == PAPER[setting]


@pytest.mark.parametrize(
    ("name", "model"), [("paper-7b-base", "Qwen/Qwen2.5-7B"), ("paper-14b-base", "Qwen/Qwen2.5-14B")]
)
def test_base_models_differ_from_coders_in_the_model_only(name, model):
    coder = preset(name.removesuffix("-base"))
    assert preset(name) == coder.replace(preset=name, model=model)
    assert coder.model == model.replace("2.5-", "2.5-Coder-")


def test_the_papers_batch_is_384_sequences():
    assert Config().rows == 384


def test_a_preset_of_ones_own_is_a_file(tmp_path, capsys):
    mine = tmp_path / "mine.json"
    mine.write_text('{"preset": "lora-0.5b-8gb", "lora_rank": 4, "task_types": ["deduction"]}')
    config = preset(str(mine), steps=3)
    assert (config.preset, config.lora_rank, config.task_types, config.steps) == ("lora-0.5b-8gb", 4, ("deduction",), 3)
    assert config == preset("lora-0.5b-8gb", lora_rank=4, task_types=("deduction",), steps=3)
    assert main(["run", "--preset", str(mine), "--seed", "2", "--dry-run", "--json"]) == 0
    printed = capsys.readouterr().out
    mine.write_text(printed)
    assert preset(str(mine)) == Config.from_json(json.loads(printed))
    assert preset(str(mine)).lora_rank == 4
    for text, words in (
        ("{", "is not JSON"),
        ("[1]", "holds list, expected an object"),
        ('{"stepps": 1}', "did you mean 'steps'"),
        ('{"preset": "x.json"}', "no preset 'x.json'"),
    ):
        mine.write_text(text)
        with pytest.raises(ConfigError, match=words):
            preset(str(mine))
    with pytest.raises(ConfigError, match="cannot be read"):
        preset(str(tmp_path / "none.json"))
