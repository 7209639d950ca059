"""What notebook 01 shows and hides is what the real prompts show and hide."""

import re

import pytest

from azr_lite.course.figures import figure
from azr_lite.course.triplet_views import draw_task_type, visible
from azr_lite.prompts.words import CHAT, COMPACT, R1
from azr_lite.tasks.base import get_task_type
from azr_lite.triplet import InductionTask, Rules, Triplet

PROGRAM = "def f(x):\n    return x * 7919"
TASKS = (
    Triplet("deduction", PROGRAM, "60013", "475242947"),
    Triplet("abduction", PROGRAM, "60013", "475242947"),
    InductionTask("induction", PROGRAM, ("60013", "60017"), ("475242947", "475274623"), "times a prime", 1),
)
HIDDEN = (["475242947"], ["60013"], ["7919", "60017", "475274623"])


@pytest.mark.parametrize("style", [R1, CHAT, COMPACT], ids=lambda style: style.name)
@pytest.mark.parametrize(("task", "hidden"), [*zip(TASKS, HIDDEN, strict=True)], ids=lambda x: getattr(x, "type", ""))
def test_it_shows_what_the_prompt_shows(style, task, hidden):
    prompt = get_task_type(task.type).solve_prompt(style, task, Rules())
    blocks = visible(task)
    fences = re.findall(r"```(\w+)\n(.*?)\n```", prompt, re.DOTALL)
    assert (
        fences == blocks
        if style is COMPACT
        else [block for block in fences if block in blocks] == [b for b in blocks if b[0] != "message"]
    )
    assert all(text in prompt for _, text in blocks)
    for text in hidden:
        assert text not in prompt
        assert not any(text in block for _, block in blocks)


@pytest.mark.parametrize(
    ("type_", "hides", "shows"), [("deduction", 2, (0, 1)), ("abduction", 1, (0, 2)), ("induction", 0, (1, 2))]
)
def test_the_drawing_covers_what_the_type_hides(type_, hides, shows):
    _, (axis,) = figure()
    draw_task_type(axis, TASKS[0], type_)
    drawn = "\n".join(text.get_text() for text in axis.texts)
    parts = ("return x * 7919", "60013", "475242947")
    assert parts[hides] not in drawn
    assert all(parts[place] in drawn for place in shows)
    assert "?" in drawn
