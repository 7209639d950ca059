"""The six patients of notebook 07: the answer sheet, the run doctor and the evidence against each wrong guess agree."""

import re

import pytest

from azr_lite.course.exercises.nb07 import AGAINST
from azr_lite.course.recorded_runs import PATIENTS, patient, whole_run
from azr_lite.observe.run import Run
from azr_lite.rundir import RunDir

NAMES = {name for _, name in PATIENTS.values()}


@pytest.mark.parametrize("letter", PATIENTS)
def test_the_doctor_gives_each_patient_the_name_on_the_answer_sheet(letter):
    findings = Run(patient(letter)).diagnose().findings
    assert [one.name for one in findings[:1]] == ([] if PATIENTS[letter][1] == "healthy" else [PATIENTS[letter][1]])


@pytest.mark.parametrize("letter", PATIENTS)
def test_every_wrong_guess_hears_evidence_with_the_runs_own_numbers(letter):
    summary = Run(patient(letter)).diagnose().summary
    assert AGAINST[letter].keys() == NAMES - {PATIENTS[letter][1]}
    measured = {round(100 * end) for name in ("solve rate", "learnable", "valid") for end in summary.ends(name)}
    measured |= {round(end) for end in summary.ends("solver tokens")}
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
