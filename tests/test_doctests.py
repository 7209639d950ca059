"""The examples in docstrings are run: what a reader sees is what the code says."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = (
    "triplet", "rewards", "advantages", "parsing", "buffer", "config", "planner.plan", "presets", "sandbox.wire",
    "sandbox.literal", "evaluation.scores", "metrics", "sandbox.executor",
    "observe.run", "prompts.file", "train.scoring",
)  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_examples_say_what_happens(name, monkeypatch):
    monkeypatch.chdir(ROOT)  # recorded runs are named from the top of the checkout
    found = doctest.testmod(importlib.import_module(f"azr_lite.{name}"))
    assert found.attempted > 0, "the list above names a module without an example"
    assert found.failed == 0


def test_no_module_with_examples_is_left_out():
    prompted = {
        path
        for path in (ROOT / "azr_lite").rglob("*.py")
        if "\n    >>> " in path.read_text() or "\n        >>> " in path.read_text()
    }
    listed = {ROOT / "azr_lite" / f"{name.replace('.', '/')}.py" for name in MODULES}
    assert {path.name for path in prompted - listed} == set()
