"""The paper's table: its arithmetic, finding a row, and standing beside ours."""

import pytest

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.benchmarks.paper_table import (
    DIFFERENCES,
    MATHS,
    PAPER,
    SUITES,
    averages,
    beside_paper,
    paper_rows,
)


def inexact_rows(tolerance: float = 0.05) -> list[tuple[str, str, float, float]]:
    """Averages of the paper that do not follow from its own columns to within `tolerance` points: (row, average, printed, computed).

    Columns are rounded to 0.05, so a mean of them may be off by 0.05 and its own rounding by as much again.
    """
    found = []
    for row in PAPER:
        own, means = row.averages, averages(row.scores)
        for name, printed, computed in (
            ("CAvg", own.code, means.code),
            ("MAvg", own.maths, means.maths),
            ("AVG", own.all, means.all),
        ):
            assert computed is not None
            if abs(printed - computed) > tolerance + 1e-9:
                found.append((row.model + " + AZR" * row.trained, name, printed, round(computed, 3)))
    return found


def test_averages_by_hand():
    found = averages(
        {"humaneval+": 0.6, "mbpp_plus": 0.7, "LCB": 0.2, **dict.fromkeys(MATHS, 0.1), "gsm8k": 1.0, "aime24-avg8": 1.0}
    )
    assert (found.code, found.maths, found.all) == pytest.approx((0.5, 0.1, 0.3))
    assert found.missing == ()


def test_a_missing_part_leaves_no_average_and_is_named():
    found = averages({"humaneval+": 0.6, "mbpp+": 0.7, **dict.fromkeys(MATHS, 0.1)})
    assert (found.code, found.all, found.missing) == (None, None, ("livecodebench",))
    assert found.maths == pytest.approx(0.1)
    assert averages({}).missing == SUITES
    with pytest.raises(EvaluationError, match="second score of mbpp"):
        averages({"mbpp+": 1, "mbpp_plus": 1})


def test_the_papers_averages_follow_from_its_columns_but_for_one_row():
    assert inexact_rows() == [("Qwen2.5-3B-Coder", "CAvg", 51.2, 51.0), ("Qwen2.5-3B-Coder", "AVG", 35.0, 34.883)]
    assert len(PAPER) == 12
    assert all(len(row.scores) == 9 for row in PAPER)


def test_printed_gains_of_the_paper():
    rows = {(row.model, row.trained): row.averages.all for row in PAPER}
    for model, gain in (("Qwen2.5-7B-Coder", 10.2), ("Qwen2.5-3B-Coder", 5.7)):
        assert rows[model, True] - rows[model, False] == pytest.approx(gain)


@pytest.mark.parametrize(
    ("model", "row"),
    [
        ("Qwen/Qwen2.5-Coder-3B", "Qwen2.5-3B-Coder"),
        ("unsloth/Qwen2.5-Coder-7B-bnb-4bit", "Qwen2.5-7B-Coder"),
        ("/models/Qwen2.5-14B/", "Qwen2.5-14B"),
        ("meta-llama/Llama-3.1-8B", "Llama3.1-8B"),
        ("Qwen/Qwen2.5-Coder-3B-Instruct", None),
        ("Qwen/Qwen2.5-Math-7B", None),
        ("Qwen/Qwen2.5-Coder-0.5B", None),
        ("nano", None),
    ],
)
def test_a_models_rows(model, row):
    assert [(found.model, found.trained) for found in paper_rows(model)] == ([(row, False), (row, True)] if row else [])


def test_beside_the_paper():
    text = beside_paper(
        "Qwen/Qwen2.5-Coder-3B", {"humaneval+": 0.6, "math500": 0.5}, {"humaneval+": 0.621, "math500": 0.51}
    )
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[2].split()[:4] == ["ours,", "base", "60.0", "-"]
    assert lines[3].split()[:3] == ["ours,", "trained", "62.1"]
    assert lines[4].split()[-3:] == ["51.2", "18.8", "35.0"]
    assert lines[5].split()[-3:] == ["54.9", "26.5", "40.7"]
    assert "missing: mbpp+, livecodebench" in " ".join(lines)
    assert DIFFERENCES in " ".join(lines)
    assert "has no row for nano" in beside_paper("nano", {})
