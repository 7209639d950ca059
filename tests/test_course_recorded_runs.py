"""Recorded numbers for notebooks: from the checkout, else downloaded once; and that the frozen step is what it says it is."""

import io
import json
import urllib.error

import numpy as np
import pytest

from azr_lite.advantages import trr
from azr_lite.course import recorded_runs as module
from azr_lite.course.recorded_runs import recorded
from azr_lite.errors import AzrError

NAME = "steps/nano-seed0-step25.json"


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """As where only the package was installed."""
    monkeypatch.setattr(module, "ROOT", tmp_path / "site-packages")
    monkeypatch.setattr(module.Path, "home", lambda: tmp_path)


def test_the_frozen_step_holds_the_advantages_the_run_used():
    step = json.loads(recorded(NAME).read_text(encoding="utf-8"))
    groups, _, tokens, rewards, advantages = zip(*step["rows"], strict=True)
    assert len(set(groups)) == 6
    np.testing.assert_array_equal(trr(rewards, groups, tokens), advantages)


def test_without_a_checkout_it_is_downloaded_once(alone, monkeypatch):
    asked = []

    def urlopen(source, timeout):
        asked.append(source)
        return io.BytesIO(b"{}")

    monkeypatch.setattr(module.urllib.request, "urlopen", urlopen)
    assert recorded(NAME).read_text() == "{}"
    assert recorded(NAME).read_text() == "{}"
    assert len(asked) == 1
    assert asked[0].endswith(f"/data_samples/{NAME}")


def test_no_file_and_no_network_is_one_sentence(alone, monkeypatch):
    def urlopen(source, timeout):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(module.urllib.request, "urlopen", urlopen)
    with pytest.raises(AzrError, match=r"data_samples/none\.json is not here.*clone the repository"):
        recorded("none.json")
