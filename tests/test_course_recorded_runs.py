"""Recorded numbers for notebooks: from the checkout, else downloaded once; and that they are what they say they are.

Of the six patients of notebook 08, the answer sheet, the run doctor and the evidence against wrong guesses agree.
"""

import io
import json
import re
import urllib.error

import numpy as np
import pytest

from azr_lite.advantages import trr
from azr_lite.course import recorded_runs as module
from azr_lite.course.exercises.nb08 import AGAINST
from azr_lite.course.recorded_runs import PATIENTS, patient, recorded, whole_run
from azr_lite.errors import AzrError
from azr_lite.observe.run import Run
from azr_lite.rundir import RunDir

NAME = "steps/nano-seed0-step25.json"
DIAGNOSES = {name for _, name in PATIENTS.values()}


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """As where only the package was installed, without its data files."""
    monkeypatch.setattr(module.metadata, "files", lambda name: None)
    monkeypatch.setattr(module, "ROOT", tmp_path / "site-packages")
    monkeypatch.setattr(module.Path, "home", lambda: tmp_path)


def test_the_frozen_step_holds_the_advantages_the_run_used():
    step = json.loads(recorded(NAME).read_text(encoding="utf-8"))
    groups, _, tokens, rewards, advantages = zip(*step["rows"], strict=True)
    assert len(set(groups)) == 6
    np.testing.assert_array_equal(trr(rewards, groups, tokens), advantages)


def test_what_the_wheel_brought_is_taken_wherever_pip_put_it(alone, monkeypatch, tmp_path):
    """RECORD lists it relative to site-packages, with the separators of its system."""
    place = tmp_path / "site-packages" / ".." / "share" / "azr-lite" / "data_samples" / NAME
    place.parent.mkdir(parents=True)
    place.write_text("{}")
    listed = module.metadata.PackagePath(f"../share/azr-lite/data_samples/{NAME}")
    listed.dist = module.metadata.Distribution.from_name("numpy")
    monkeypatch.setattr(type(listed.dist), "locate_file", lambda self, path: tmp_path / "site-packages" / path)
    monkeypatch.setattr(module.metadata, "files", lambda name: [listed])
    assert recorded(NAME).read_text() == "{}"


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


def test_a_download_is_kept_whole_or_not_at_all(alone, monkeypatch, tmp_path):
    def full(there, here):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.urllib.request, "urlopen", lambda source, timeout: io.BytesIO(b"{}"))
    monkeypatch.setattr("azr_lite.rundir.os.replace", full)
    with pytest.raises(AzrError, match="No space left"):
        recorded(NAME)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_no_file_and_no_network_is_one_sentence(alone, monkeypatch):
    def urlopen(source, timeout):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(module.urllib.request, "urlopen", urlopen)
    with pytest.raises(AzrError, match=r"data_samples/none\.json is not here.*clone the repository") as raised:
        recorded("none.json")
    assert raised.value.__suppress_context__, "forty lines of urllib above the sentence"


@pytest.mark.parametrize("letter", PATIENTS)
def test_the_doctor_gives_each_patient_the_name_on_the_answer_sheet(letter):
    findings = Run(patient(letter)).diagnose().findings
    assert [one.name for one in findings[:1]] == ([] if PATIENTS[letter][1] == "healthy" else [PATIENTS[letter][1]])


@pytest.mark.parametrize("letter", PATIENTS)
def test_every_wrong_guess_hears_evidence_with_the_runs_own_numbers(letter):
    summary = Run(patient(letter)).diagnose().summary
    assert AGAINST[letter].keys() == DIAGNOSES - {PATIENTS[letter][1]}
    measured = {round(100 * end) for name in ("solve rate", "learnable", "valid") for end in summary.curves[name].ends}
    measured |= {round(end) for end in summary.curves["solver tokens"].ends}
    for text in AGAINST[letter].values():
        quoted = {
            int(number)
            for pattern in (r"(\d+) (?:to (\d+) )?%", r"from (\d+) to (\d+)")
            for found in re.findall(pattern, text)
            for number in found
            if number
        }
        assert quoted <= measured, (quoted - measured, text)


def test_the_whole_run_is_whole():
    assert RunDir.open(whole_run()).summary()["finished"]
    assert (whole_run() / "tasks.jsonl").exists()
