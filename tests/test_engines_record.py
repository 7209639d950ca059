"""The kept facts of the real engines satisfy the limits that they were made with, and the limits can fail."""

import json
from pathlib import Path

import pytest

from tests.engines.limits import RULES, broken

ROOT = Path(__file__).parents[1]
FILE = ROOT / "data_samples" / "benchmarks" / "engines.json"
if not FILE.exists():
    pytest.skip("there is no record yet: make test-engines", allow_module_level=True)
KEPT = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("engine", RULES)
def test_the_kept_facts_satisfy_the_limits(engine):
    assert KEPT[engine]["cases"].keys() == RULES[engine].keys()
    for case, facts in KEPT[engine]["cases"].items():
        assert broken(engine, case, facts) == []


def test_facts_that_break_a_limit_are_named():
    facts = json.loads(json.dumps(KEPT["vllm"]["cases"]["lora"]))
    facts["frozen"]["moved"] = 1
    facts["after"]["mean_difference_to_base"] = facts["after"]["mean_difference"]
    assert broken("vllm", "lora", facts) == [
        "frozen weights stay, bit for bit",
        "vLLM samples with the adapter, not with the base",
    ]


def test_the_pins_are_complete_and_exact():
    for name in ("vllm", "processes"):
        lines = (ROOT / "tests" / "engines" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        pins = [line for line in lines if not line.startswith("#")]
        assert all(line.count("==") == 1 for line in pins)
        assert {"torch", "trl", "transformers", "peft", "accelerate"} <= {line.split("==")[0] for line in pins}


def test_the_docs_quote_them():
    page = " ".join((ROOT / "docs" / "how-to" / "many_gpus.md").read_text(encoding="utf-8").split())
    lora = KEPT["vllm"]["cases"]["lora"]
    assert f"{lora['ratio']['least']:.3f} to {lora['ratio']['most']:.3f}" in page
    for engine in ("fsdp2", "zero3"):
        memory = KEPT[engine]["cases"]["run"]["memory"]
        assert f"{memory['1']['first_reads']:.0%} and {memory['1']['each_reads']:.0%}" in page, engine
