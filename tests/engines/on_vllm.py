"""vLLM itself (its build for CPUs), driven by our trainer through TRL: ``python -m tests.engines.on_vllm CASE FOLDER``.

Comes in: a case, an empty folder; an environment with vLLM (vllm.txt).  Goes out: facts as JSON in FOLDER/facts.json.
Three things are bent, because vLLM's CPU build lacks them: our own refusal of vLLM without a GPU; its linear layers, which pack and
drop the weights that a sync writes; and sleeping, which that build ignores. Not covered: GPUs, tensor parallelism, TRL's server.
"""

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_LOGGING_LEVEL": "ERROR"}

import torch
import vllm
from transformers import LlamaConfig, LlamaForCausalLM
from trl.generation import vllm_generation
from vllm.model_executor.layers import utils
from vllm.platforms import current_platform

import azr_lite
from azr_lite.config import Config
from azr_lite.train import diagnostics, preflight
from azr_lite.train.policy import load_policy
from azr_lite.train.trainer import SelfPlayTrainer
from azr_lite.triplet import Role
from tests.tiny import PLAIN, Scripted, sampled_script, tiny_config, tiny_tokenizer


def bend(monkey) -> None:
    """The three things, and no compilation."""

    def plain_linear(layer, remove_weight):
        layer.cpu_linear = torch.nn.functional.linear

    def without_compilation(**options):
        return vllm.LLM(**options, enforce_eager=True)

    for owner, name, value in (
        (preflight, "check_device", lambda config: None),
        (utils, "dispatch_cpu_unquantized_gemm", plain_linear),
        (type(current_platform), "is_sleep_mode_available", lambda self: True),
        (vllm_generation, "LLM", without_compilation),
    ):
        monkey.enter_context(mock.patch.object(owner, name, value))


def make_model(folder: Path) -> str:
    """A random Llama of two layers that knows characters; vLLM's attention on CPUs wants heads 64 wide."""
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    settings = {"vocab_size": len(tokenizer), "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2}
    settings |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 4096}
    model = LlamaForCausalLM(
        LlamaConfig(**settings, eos_token_id=0, pad_token_id=1, bos_token_id=2, initializer_range=0.2)
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def weights(model, leave_out="lora_") -> dict:
    return {name: p.detach().clone() for name, p in model.named_parameters() if leave_out not in name}


def moved(before: dict, after: dict) -> int:
    return sum(not torch.equal(tensor, after[name]) for name, tensor in before.items())


@torch.no_grad()
def logps_of(trainer, completions) -> list[float]:
    """The trainer's log-probabilities of sampled tokens, one reply at a time, unpacked."""
    found = []
    for one in completions:
        ids = torch.tensor([[*one.prompt_ids, *one.ids]])
        with trainer.accelerator.autocast():
            logits = trainer.model(input_ids=ids).logits[0].float()
        scores = logits.log_softmax(-1)[len(one.prompt_ids) - 1 : -1]
        found += scores.gather(1, torch.tensor(one.ids)[:, None])[:, 0].tolist()
    return found


def compare(trainer, role=Role.SOLVE) -> dict:
    """vLLM's and the trainer's log-probabilities of the same tokens; the trainer's also without its adapter."""
    completions = trainer.generate([f"{letter}:" for letter in "abcdefgh"], role)
    theirs = torch.tensor([x for one in completions for x in one.logps])
    ours = torch.tensor(logps_of(trainer, completions))
    facts = {"tokens": len(ours), "vllm": float(theirs.mean()), "trainer": float(ours.mean())}
    facts["mean_difference"] = float((theirs - ours).abs().mean())
    if trainer.config.tuning != "full":
        with trainer.model.disable_adapter():
            facts["mean_difference_to_base"] = float(
                (theirs - torch.tensor(logps_of(trainer, completions))).abs().mean()
            )
    return facts


def check_trainer(folder: Path, tuning: str, **changes) -> dict:
    """Two updates: who agrees with whom before and after, what moved, what a sync changed."""
    settings = {"model": make_model(folder / "model"), "generation": "vllm", "device": "auto", "dtype": "bfloat16"}
    settings |= {"tuning": tuning, "steps": 2, "max_prompt_tokens": 64, "max_reply_tokens": 16, "lora_rank": 8}
    config = tiny_config(**{**settings, **changes})
    trainer = SelfPlayTrainer(config, load_policy(config), PLAIN, Scripted(sampled_script(config)), folder / "run")
    engine = trainer.vllm_generation.llm.llm_engine.model_executor.driver_worker.model_runner.model
    facts, ratios, loss = {}, [], trainer._compute_loss

    def look(model, inputs):
        ratios.append(inputs["importance_sampling_ratio"][inputs["completion_mask"].bool()])
        return loss(model, inputs)

    trainer._compute_loss = look
    found = diagnostics.self_test(trainer)
    facts["self_test"] = {"raised": found.raised, "lowered": found.lowered}
    ratios.clear()
    facts["before"] = compare(trainer)
    trained = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    ours, theirs = weights(trainer.model), weights(engine)
    drawn = []
    for _ in range(2):
        trainer._sampling_calls = 0
        drawn.append([tuple(one.ids) for one in trainer.generate(["same:"] * 16)])
    facts["same_seed_same_replies"] = drawn[0] == drawn[1]
    facts["different_replies_to_one_prompt"] = len(set(drawn[0]))
    trainer.train()
    ratio = torch.cat(ratios)
    facts["ratio"] = {"least": float(ratio.min()), "most": float(ratio.max()), "mean": float(ratio.mean())}
    facts["after"] = compare(trainer)
    if config.roles == "split":
        facts["after_as_proposer"] = compare(trainer, Role.PROPOSE)
    now = dict(trainer.model.named_parameters())
    facts["trained"] = {"tensors": len(trained), "moved": moved(trained, now)}
    frozen = {name: tensor for name, tensor in ours.items() if not now[name].requires_grad}
    facts["frozen"] = {"tensors": len(frozen), "moved": moved(frozen, now)}
    facts["vllm_weights"] = {"tensors": len(theirs), "moved": moved(theirs, dict(engine.named_parameters()))}
    if tuning == "full":
        pairs = ("model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight", "model.norm.weight")
        held = dict(engine.named_parameters())
        facts["synced_tensors_equal"] = all(
            torch.equal(now[name].to(torch.bfloat16), held[name][: len(now[name])])  # vLLM pads the vocabulary
            for name in pairs
        )
    return facts


def check_run(folder: Path, resumed: bool) -> dict:
    """The whole loop with the self-test: two steps, and in another process one step more."""
    told, honest = [], diagnostics.self_test
    settings = {
        "tuning": "lora", "generation": "vllm", "prompts": "file", "steps": 2, "batch_size": 4, "n_mc": 2, "references": 1,
        "seed_batch_factor": 1, "seed_rounds": 1, "micro_batch_size": 2, "max_prompt_tokens": 1024, "max_reply_tokens": 24,
        "eval_problems": 2, "save_every": 1, "workers": 1, "dtype": "bfloat16", "learning_rate": 1e-4, "task_types": ("deduction",),
    }  # fmt: skip
    with mock.patch.object(diagnostics, "self_test", lambda trainer: told.append(honest(trainer)) or told[-1]):
        if resumed:
            result = azr_lite.resume(folder / "run", steps=3)
        else:
            model = make_model(folder / "model")
            result = azr_lite.run(Config(model=model, output_dir=str(folder / "run"), **settings))
    steps = (result.path / "metrics.jsonl").read_text().splitlines()
    facts = {"steps": len(steps), "finished": result.summary["finished"]}
    return {**facts, "self_test": {"raised": told[0].raised, "lowered": told[0].lowered}}


def main(case: str, folder: Path) -> None:
    with ExitStack() as monkey:
        bend(monkey)
        if case in ("run", "resume"):
            facts = check_run(folder, case == "resume")
        elif case == "split":
            facts = check_trainer(folder, "lora", roles="split")
        else:
            facts = check_trainer(folder, case)
    (folder / "facts.json").write_text(json.dumps(facts))
    os._exit(0)  # vLLM's threads outlive it


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
