"""What the facts of each engine must be. tests/test_engines_record.py holds the kept facts against it too."""

from collections.abc import Callable
from typing import Any

Rule = tuple[str, Callable[[dict[str, Any]], Any]]


def _agree(facts: dict[str, Any]) -> bool:
    """vLLM and the trainer give the same tokens the same log-probabilities, up to bfloat16's rounding."""
    return facts["mean_difference"] < 0.05 and abs(facts["vllm"] - facts["trainer"]) < 0.02


def _learns(facts: dict[str, Any]) -> bool:
    return facts["self_test"]["raised"] > 0 > facts["self_test"]["lowered"]


def _close(a: float, b: float, relative: float) -> bool:
    return abs(a - b) < relative * max(a, b)


OF_TRAINER: list[Rule] = [
    ("the self-test passes", _learns),
    ("log-probabilities agree before the first update", lambda f: _agree(f["before"])),
    ("log-probabilities agree after two updates", lambda f: _agree(f["after"])),
    ("importance weights are about one", lambda f: 0.7 < f["ratio"]["least"] <= f["ratio"]["most"] < 1.5),
    ("one seed draws the same replies", lambda f: f["same_seed_same_replies"]),
    ("replies to one prompt differ", lambda f: f["different_replies_to_one_prompt"] > 8),
    ("training moves what is trained", lambda f: f["trained"]["moved"] > 0.5 * f["trained"]["tensors"] > 0),
    ("frozen weights stay, bit for bit", lambda f: f["frozen"]["moved"] == 0),
]
OF_ADAPTERS: list[Rule] = [
    *OF_TRAINER,
    ("there are frozen weights", lambda f: f["frozen"]["tensors"] > 0),
    ("vLLM's base stays, bit for bit", lambda f: f["vllm_weights"]["tensors"] > 0 == f["vllm_weights"]["moved"]),
    (
        "vLLM samples with the adapter, not with the base",
        lambda f: f["after"]["mean_difference_to_base"] > 5 * f["after"]["mean_difference"],
    ),
]
OF_PROCESSES: list[Rule] = [
    ("the run finishes, is resumed and finishes", lambda f: (f["steps"], f["finished"]) == (2, True)),
    ("weights are sharded", lambda f: f["sharded_by"] in f["said"]),
    ("the first gradient is that of one process", lambda f: _close(*(norms[0] for norms in f["grad_norms"]), 0.05)),
    ("exported weights are float32", lambda f: f["export"]["types"] == ["torch.float32"]),
    ("they have more digits than bfloat16", lambda f: f["export"]["beyond_bfloat16"] > 0),
    (
        "the first process alone reads the weights",
        lambda f: f["memory"]["0"]["first_reads"] > 0.8 and f["memory"]["1"]["first_reads"] < 0.1,
    ),
    ("else each would read them", lambda f: min(f["memory"][rank]["each_reads"] for rank in "01") > 0.8),
]
OF_FLOAT32: list[Rule] = [
    *OF_PROCESSES,
    ("one process alone samples the same replies", lambda f: f["rollouts_equal"] == f["rollouts"] > 0),
    (
        "all gradients are those of one process",
        lambda f: all(_close(*pair, 1e-4) for pair in zip(*f["grad_norms"], strict=True)),
    ),
    ("exported weights are those of one process", lambda f: f["export"]["furthest"] < 1e-5),
]
OF_BFLOAT16: list[Rule] = [
    *OF_PROCESSES,
    ("one process alone samples nearly the same replies", lambda f: f["rollouts_equal"] > 0.8 * f["rollouts"] > 0),
    (
        "exported weights are those of one process, up to the rounding of the first ones and four updates of 2e-4",
        lambda f: f["export"]["furthest"] < 2 * 4 * 2e-4,
    ),
]
RULES: dict[str, dict[str, list[Rule]]] = {
    "vllm": {
        "full": [*OF_TRAINER, ("vLLM gets the new weights", lambda f: f["synced_tensors_equal"])],
        "lora": OF_ADAPTERS,
        "split": [*OF_ADAPTERS, ("the proposer's adapter too", lambda f: _agree(f["after_as_proposer"]))],
        "qlora": OF_ADAPTERS,
        "run": [("two steps", lambda f: (f["steps"], f["finished"]) == (2, True)), ("the self-test passes", _learns)],
        "resume": [("a third", lambda f: (f["steps"], f["finished"]) == (3, True)), ("the self-test passes", _learns)],
    },
    "fsdp2": {"run": OF_FLOAT32},
    "zero3": {"run": OF_BFLOAT16},
}
"""Engine: case: sentences, and whether the facts satisfy them."""


def broken(engine: str, case: str, facts: dict[str, Any]) -> list[str]:
    """The sentences that these facts do not satisfy."""
    return [sentence for sentence, holds in RULES[engine][case] if not holds(facts)]
