"""What this machine offers, by `azr_lite.doctor()` and by `azr-lite doctor`."""

import os
import subprocess
import sys

import pytest

import azr_lite
from azr_lite.cli import main
from azr_lite.planner import text
from azr_lite.planner.vram import find_card


@pytest.fixture(scope="module")
def facts():
    return text.describe_machine()


def test_the_facts_are_those_of_this_machine(facts):
    assert facts["cores"] == os.cpu_count()
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert facts["sandbox"]["level"] in ("FULL", "KERNEL", "WEAK")
    assert "nano" in facts["presets"]
    assert not set(facts["missing"]) & set(facts["versions"])


def test_the_arithmetic_is_the_one_runs_choose(facts):
    policy = pytest.importorskip("azr_lite.train.policy")
    chosen = policy.choose_precision(azr_lite.Config(model="some/model", tuning="lora", device="cpu")).compute
    assert facts["arithmetic"].split()[0] == str(chosen).removeprefix("torch.")
    assert f"language models in {facts['arithmetic']}" in text.machine_text(facts)
    for name, tuning, expected in (("cpu-0.5b", "lora", facts["arithmetic"]), ("nano", "full", "float32")):
        said = text.plan_text(azr_lite.plan(azr_lite.preset(name, tuning=tuning, device="cpu")))
        assert f"arithmetic in {expected}" in " ".join(said.split())


def test_a_card_makes_room_for_what_its_memory_holds(monkeypatch):
    def fits(card):
        for module in ("text", "plan"):
            monkeypatch.setattr(f"azr_lite.planner.{module}.detect_gpu", lambda: card)
        return text.fitting_presets()

    without, small, large = fits(None), fits(find_card("8GB")), fits(find_card("80GB"))
    assert set(without) == {"nano", "smoke", "cpu-0.5b"}
    assert "lora-0.5b-8gb" in small
    assert "lora-3b-24gb" not in small
    assert "full-3b-80gb" in large
    assert "full-7b-8x80gb" not in large  # eight processes


def test_people_read_the_same_as_programs(facts, capsys):
    said = text.machine_text(facts)
    for word in (str(facts["cores"]), facts["sandbox"]["level"], *facts["presets"]):
        assert word in said
    weak = {
        **facts,
        "sandbox": {"level": "WEAK", "layers": {"seccomp": "off: no kernel support"}},
        "missing": ["torch"],
    }
    assert "WEAK: without seccomp (off: no kernel support)" in text.machine_text(weak)
    assert "needs torch: pip install 'azr-lite[train]'" in text.machine_text(weak)
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    azr_lite.doctor()
    assert capsys.readouterr().out == printed
    assert "sandbox" in printed


def test_doctor_needs_no_library_but_python():
    code = (
        "import sys\n"
        "for name in ('rich', 'tyro', 'jinja2', 'pygments', 'numpy'): sys.modules[name] = None\n"
        "import azr_lite; azr_lite.doctor(); print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"
