"""How a run is started: the shipped launch files, and what is refused before anything is loaded."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import azr_lite
from azr_lite.cli import main
from azr_lite.config import Config
from azr_lite.errors import ConfigError, TrainingError
from azr_lite.presets import preset
from azr_lite.train import distributed as processes
from azr_lite.train.distributed import check_processes, explain_lost_process, launch_file


@pytest.fixture
def launched(monkeypatch):
    def set_variables(world=1, rank=0, **names):
        monkeypatch.setenv("WORLD_SIZE", str(world))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(world))
        monkeypatch.setenv("RANK", str(rank))
        for name, value in names.items():
            monkeypatch.setenv(name, value)

    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"):
        monkeypatch.delenv(name, raising=False)
    return set_variables


@pytest.mark.parametrize(("name", "kind"), [("ddp", "MULTI_GPU"), ("fsdp2", "FSDP"), ("zero3", "DEEPSPEED")])
def test_accelerate_reads_every_launch_file_and_knows_every_key(name, kind):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    read = load_config_from_file(str(launch_file(name)))  # raises on unknown keys of the first level
    assert read.distributed_type.value == kind
    assert read.mixed_precision == "bf16"
    flags = {action.dest for action in launch_command_parser()._actions}
    inner = {key if key.startswith("fsdp") else f"fsdp_{key}" for key in read.fsdp_config} | set(read.deepspeed_config)
    assert inner <= flags
    assert f"azr-lite launch-file {name}" in launch_file(name).read_text()
    if name == "fsdp2":
        settings = read.fsdp_config
        assert (settings["fsdp_version"], settings["fsdp_reshard_after_forward"]) == (2, True)
        assert settings["fsdp_auto_wrap_policy"] == "TRANSFORMER_BASED_WRAP"
        assert settings["fsdp_state_dict_type"] == "FULL_STATE_DICT"
    if name == "zero3":
        assert (read.deepspeed_config["zero_stage"], read.deepspeed_config["zero3_save_16bit_model"]) == (3, True)


def test_fsdp2_becomes_the_plugin_that_is_meant(monkeypatch):
    """Through the launcher's own translation into variables, as the processes read it."""
    from accelerate.commands import launch
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.launch import prepare_multi_gpu_env

    args = launch.launch_command_parser().parse_args(
        ["--config_file", str(launch_file("fsdp2")), "--num_processes", "8", "x.py"]
    )
    args, _, _ = launch._validate_launch_command(args)
    for name, value in prepare_multi_gpu_env(args).items():
        monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    plugin.set_mixed_precision(os.environ["ACCELERATE_MIXED_PRECISION"])
    assert (plugin.fsdp_version, plugin.reshard_after_forward, plugin.cpu_ram_efficient_loading) == (2, True, True)
    assert str(plugin.mixed_precision_policy.param_dtype) == "torch.bfloat16"
    assert type(plugin.cpu_offload).__name__ == "OffloadPolicy"  # the base class: offloads nothing
    assert processes.sharding() == "FSDP"
    from azr_lite.train.distributed import keep_precision

    keep_precision(
        SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin))
    )  # log-probabilities must not be rounded to 16 bits
    policy = plugin.mixed_precision_policy
    assert (str(policy.param_dtype), str(policy.reduce_dtype), policy.output_dtype) == (
        "torch.bfloat16",
        "torch.float32",
        None,
    )


def test_launch_file_prints_a_path_or_the_known_names(capsys):
    assert main(["launch-file", "fsdp2"]) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()
    assert main(["launch-file", "fsdp3"]) == 1
    assert "choose one of: ddp, fsdp2, zero3" in capsys.readouterr().err


def test_the_package_is_a_command():
    done = subprocess.run([sys.executable, "-m", "azr_lite", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"azr-lite {azr_lite.__version__}"


def test_another_number_of_processes_is_refused_before_anything_is_made(launched, tmp_path):
    path = tmp_path / "run"
    config = preset("full-7b-8x80gb", output_dir=str(path))
    with pytest.raises(
        ConfigError, match=r"wants 8 processes and 1 was started.*fsdp2\) --num_processes 8.*processes=0.*torchrun"
    ):
        azr_lite.run(config)
    assert not path.exists()
    launched(8)
    assert check_processes(config) == ["8 processes, each with a whole copy of the weights"]
    launched(4)
    with pytest.raises(ConfigError, match="and 4 were started"):
        check_processes(config)
    assert check_processes(config.replace(processes=0))[0].startswith("4 processes")


def test_a_dry_run_needs_no_processes(capsys):
    assert main(["run", "--preset", "paper-7b", "--dry-run", "--json"]) == 0
    assert '"processes": 4' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("full-7b-8x80gb", 8),
        ("full-14b-8x80gb", 8),
        ("paper-3b", 2),
        ("paper-7b", 4),
        ("paper-7b-base", 4),
        ("paper-14b", 8),
        ("paper-14b-base", 8),
        ("paper-llama8b", 4),
    ],
)
def test_presets_of_many_gpus_name_their_processes_and_split_over_them(name, count):
    config = preset(name)
    assert config.processes == count
    assert config.rows % (config.updates_per_step * config.micro_batch_size * count) == 0


def test_adapters_with_vllm_are_refused_where_weights_are_cut(launched):
    config = Config(model="some/model", tuning="lora", generation="vllm")
    launched(2)
    check_processes(config)
    for name in ("FSDP", "DeepSpeed"):
        launched(2, **{f"ACCELERATE_USE_{name.upper()}": "true"})
        with pytest.raises(ConfigError, match=r"use ddp\.yaml for adapters"):
            check_processes(config)
        launched(2, **{f"ACCELERATE_USE_{name.upper()}": "false"})


def test_slow_sampling_from_cut_weights_is_said(launched):
    config = Config(model="some/model", generation="transformers")
    launched(2, ACCELERATE_USE_FSDP="true")
    assert "10 to 50 times slower" in check_processes(config)[1]
    assert len(check_processes(config.replace(generation="vllm"))) == 1


def test_one_process_that_sees_several_gpus_trains_on_the_first(launched, tmp_path, monkeypatch):
    """transformers would wrap the model in nn.DataParallel, which TRL refuses."""
    from azr_lite.train.trainer import SelfPlayTrainer
    from tests.tiny import PLAIN, Scripted, tiny_config, tiny_policy

    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    policy = tiny_policy()
    policy.device = SimpleNamespace(type="cuda")
    trainer = SelfPlayTrainer(tiny_config(), policy, PLAIN, Scripted(lambda generate, step: []), tmp_path)
    assert trainer.args.n_gpu == 1
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: True)
    (line,) = check_processes(Config(model="some/model", tuning="lora"))
    assert line.startswith("2 GPUs are visible and this run uses the first")
    assert "launch-file ddp) --num_processes 2" in line
    assert check_processes(Config(model="nano")) == check_processes(Config(model="m", device="cpu")) == []


@pytest.mark.parametrize(("dtype", "short"), [("float32", "no"), ("bfloat16", "bf16")])
def test_the_runs_precision_wins_over_the_launch_files(launched, tmp_path, monkeypatch, dtype, short):
    """All launch files say bf16, and accelerate puts that into a variable that transformers reads."""
    import torch

    from azr_lite.train.arguments import training_arguments
    from tests.tiny import tiny_config, tiny_policy

    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    config, policy = tiny_config(dtype=dtype), tiny_policy()
    policy.compute = getattr(torch, dtype)
    processes.join(config)
    assert training_arguments(config, policy, tmp_path).mixed_precision == short


def test_the_processes_of_a_machine_share_its_cores(launched, monkeypatch):
    monkeypatch.setattr(processes, "cores_here", lambda: 33)
    assert processes.workers(Config()) is None
    launched(8)
    assert processes.workers(Config()) == 4
    assert processes.workers(Config(workers=3)) == 3


def test_a_broken_connection_is_one_sentence_and_other_errors_stay(launched, tmp_path, monkeypatch):
    from azr_lite.train.checkpoints import seal

    monkeypatch.setattr(processes.signal, "signal", lambda *_: None)
    launched(2)
    with pytest.raises(TrainingError, match="had saved nothing yet: azr-lite resume"), explain_lost_process(tmp_path):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4711")
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        seal(tmp_path / f"checkpoint-{step}", {})
    with pytest.raises(TrainingError, match="nothing before checkpoint-10 is lost"), explain_lost_process(tmp_path):
        raise RuntimeError("Broken pipe")
    with pytest.raises(RuntimeError, match="shape"), explain_lost_process(tmp_path):
        raise RuntimeError("shape mismatch")
    launched(1)
    with pytest.raises(RuntimeError, match="Broken pipe"), explain_lost_process(tmp_path):
        raise RuntimeError("Broken pipe")


def test_a_checkpoint_is_read_only_by_the_kind_that_wrote_it(launched, tmp_path):
    from azr_lite.rundir import RunDir
    from azr_lite.train.checkpoints import seal

    path = tmp_path / "run"
    RunDir.create(preset("nano", output_dir=str(path)), {})
    checkpoint = path / "checkpoint-4"
    checkpoint.mkdir()
    (checkpoint / "pytorch_model_fsdp.bin").write_text("pieces")
    seal(checkpoint, {})
    with pytest.raises(ConfigError, match=r"written with fsdp2\.yaml.*started with whole weights"):
        azr_lite.resume(path, steps=99)
    assert RunDir.open(path).config().steps == 50, "refused, but the settings were changed"
