"""The paper's table: its arithmetic, finding a row, and standing beside ours."""

import pytest

from azr_lite.evaluation.benchmarks import DIFFERENCES, IN_PAPER, PAPER, beside_paper, maths_average, paper_rows

MODELS = list(dict.fromkeys(line.split()[0] for line in PAPER.strip().splitlines()))
MATHS = IN_PAPER[3:]


def inexact_rows(tolerance: float = 0.05) -> list[tuple[str, str, str, float, float]]:
    """Averages of the paper that do not follow from its own columns to within `tolerance` points: (model, kind, average, printed, computed).

    Columns are rounded to 0.05, so a mean of them may be off by 0.05 and its own rounding by as much again.
    """
    found = []
    for model in MODELS:
        for kind, (*scores, c, m, a) in paper_rows(model).items():
            code, maths = sum(scores[:3]) / 3, maths_average(dict(zip(IN_PAPER, scores, strict=True)))
            means = {"CAvg": (c, code), "MAvg": (m, maths), "AVG": (a, (code + maths) / 2)}
            found += [
                (model, kind, name, printed, round(computed, 3))
                for name, (printed, computed) in means.items()
                if abs(printed - computed) > tolerance + 1e-9
            ]
    return found


def test_the_average_by_hand():
    scores = dict(zip(MATHS, (0.1, 0.2, 0.3, 0.4, 0.5, 0.9), strict=True))
    assert maths_average({**scores, "gsm8k": 1.0, "humanevalplus": 0.6}) == pytest.approx(0.4)
    del scores["aime24"]
    assert maths_average(scores) is None


def test_the_papers_averages_follow_from_its_columns_but_for_one_row():
    row = ("Qwen2.5-Coder-3B", "base")
    assert inexact_rows() == [(*row, "CAvg", 51.2, 51.0), (*row, "AVG", 35.0, 34.883)]
    assert len(MODELS) == 6
    assert all(rows.keys() == {"base", "trained"} for rows in map(paper_rows, MODELS))
    assert all(len(numbers) == 12 for model in MODELS for numbers in paper_rows(model).values())


def test_printed_gains_of_the_paper():
    for model, gain in (("Qwen2.5-Coder-7B", 10.2), ("Qwen2.5-Coder-3B", 5.7)):
        rows = paper_rows(model)
        assert rows["trained"][-1] - rows["base"][-1] == pytest.approx(gain)


@pytest.mark.parametrize(
    ("model", "row"),
    [
        ("Qwen/Qwen2.5-Coder-3B", "Qwen2.5-Coder-3B"),
        ("unsloth/Qwen2.5-Coder-7B-bnb-4bit", "Qwen2.5-Coder-7B"),
        ("/models/Qwen2.5-14B/", "Qwen2.5-14B"),
        ("meta-llama/Llama-3.1-8B", "Llama-3.1-8B"),
        ("Qwen/Qwen2.5-Coder-3B-Instruct", None),
        ("Qwen/Qwen2.5-Math-7B", None),
        ("Qwen/Qwen2.5-Coder-0.5B", None),
        ("nano", None),
    ],
)
def test_a_models_rows(model, row):
    assert paper_rows(model) == (paper_rows(row) if row else {})
    assert bool(paper_rows(model)) == bool(row)


def test_beside_the_paper():
    text = beside_paper(
        "Qwen/Qwen2.5-Coder-3B", {"humanevalplus": 0.6, "math500": 0.5}, {"humanevalplus": 0.621, "math500": 0.51}
    )
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[2].split()[:4] == ["ours,", "base", "60.0", "-"]
    assert lines[3].split()[:3] == ["ours,", "trained", "62.1"]
    assert lines[4].split()[-3:] == ["51.2", "18.8", "35.0"]
    assert lines[5].split()[-3:] == ["54.9", "26.5", "40.7"]
    assert "No average is given where a part is missing" in " ".join(lines)
    assert DIFFERENCES in " ".join(lines)
    assert "has no row for nano" in beside_paper("nano", {})
