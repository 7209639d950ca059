"""`azr-lite play`: nano and a trained run invent, check and solve in 80 columns; the same seed shows the same."""

from __future__ import annotations

import io
import re
import shutil

import pytest
from rich.console import Console

pytest.importorskip("trl")

from azr_lite.cli import main
from azr_lite.course.play import Options, play
from azr_lite.errors import ConfigError, EvaluationError
from azr_lite.evaluation.generators import OpenedModel
from azr_lite.evaluation.suite import Reply
from azr_lite.prompts import get_style

TYPES = ("deduction", "abduction", "induction")


def shown(model: str, **options) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=200)
    return play(model, Options(**options), console), console.file.getvalue()


def sections(text: str) -> dict[str, str]:
    """What stands under the heading of each task type."""
    parts = re.split(r"^(\w+): find .* ─+$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_nano_shows_the_way_of_one_task_of_each_type():
    solved, text = shown("nano", seed=1, tries=3)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "prompts: compact, seed 1" in text
    found = sections(text)
    assert tuple(found) == TYPES
    for name, part in found.items():
        labels = re.findall(r"^(prompt|reply|parsing|executor|verifier|rewards)\b", part, re.MULTILINE)
        if "rewards" in labels:
            asked, answered = ["prompt", "reply", "parsing", "executor", "verifier"], ["prompt", "reply", "parsing"]
            assert labels == [*asked, *answered, "verifier", "rewards"]
            assert "→" in part
            assert re.search(r"^parsing   found: (?s:.{0,300}?)\binput\b", part, re.MULTILINE)
        assert re.search(r"^model     writes 3 proposals, each of at most \d+ tokens …", part, re.MULTILINE)
        assert f"invent {name}" in part
    rewards = re.findall(r"^rewards +([✓·]{3})  solved (\d+)% of the time, .* earns (\S+)", text, re.MULTILINE)
    assert rewards, "nano makes valid proposals"
    for marks, rate, earned in rewards:
        right = marks.count("✓")
        assert round(100 * right / 3) == int(rate)
        assert float(earned) == pytest.approx(1 - right / 3 if 0 < right < 3 else 0.0, abs=0.006)
    assert solved == sum("✓" in marks for marks, _, _ in rewards)
    assert text.rstrip().endswith(f"invented, checked and solved: {solved} of 3 task types; try --seed 2 or --tries 6")
    assert text == shown("nano", seed=1, tries=3)[1]


def test_a_run_is_played_with_its_buffers_and_settings(recorded, tmp_path, capsys):
    shutil.copytree(recorded, tmp_path / "run")
    assert main(["play", str(tmp_path / "run"), "--tries", "2", "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    assert tuple(sections(printed)) == TYPES
    references = re.findall(r"^prompt .*?^reply", printed, re.MULTILINE | re.DOTALL)[::2]
    assert any("Hello world" not in text for text in references), "the checkpoint's buffers hold more than one task"
    assert main(["play", f"{tmp_path / 'run'}@7"]) == 1
    assert "it has: 0, " in capsys.readouterr().err


class Scripted:
    """A model that goes on with a Python file."""

    class codec:
        special_tokens = ()
        count_tokens = staticmethod(len)

    def __init__(self, proposal: str) -> None:
        self.proposal = proposal

    def generate(self, prompts, how):
        return [[Reply(p.text, self.reply(p.text), 9, False)] for p in prompts]

    def reply(self, prompt: str) -> str:
        if prompt.endswith("\ndef f("):
            return self.proposal if "# A hint, tests" not in prompt else "x):\n    return x * 2\n\n"
        if prompt.endswith("\n#"):
            tests = "".join(f"assert f({n}) == {2 * n}\n" for n in range(10))
            return f" twice as much\n{tests}"
        return " 6\n" if prompt.endswith(") ==") else "(3)\n"


@pytest.mark.parametrize(
    ("proposal", "solved"),
    [("x):\n    return x * 2\n\nassert f(3) == 6\n", 3), ("x):\n    return y\n\nassert f(3) == 6\n", 0)],
)
def test_another_model_is_played_through_prompts_that_are_python_files(proposal, solved, monkeypatch):
    def open_scripted(model, prompts, device):
        assert prompts == "file"
        return OpenedModel(Scripted(proposal), get_style(prompts), model, None, 16)

    monkeypatch.setattr("azr_lite.course.play.open_model", open_scripted)
    found, text = shown("some/model", tries=2)
    part = sections(text)["deduction"]
    if solved:
        assert found >= 2, "an induction task may be about the identity, which this model does not find"
        assert "3  →  6" in part
        assert "verifier  right" in part
    else:
        assert "rejected: exception" in part
        assert "0 of 2 proposals valid, exception 2" in " ".join(part.split())
        assert "rewards" not in part


def test_a_proposal_that_fails_is_shown_with_its_reason_and_hides_no_escape(monkeypatch):
    monkeypatch.setattr(
        "azr_lite.course.play.open_model",
        lambda *_, **__: OpenedModel(
            Scripted("x):\n    return '\x1b[2J'\n\nnothing"), get_style("file"), "m", None, 16
        ),
    )
    _, text = shown("some/model", tries=2)
    assert "\x1b" not in text
    assert "\\x1b[2J" in text


def test_what_cannot_be_played_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match="tries is 1"):
        play("nano", Options(tries=1))
    (tmp_path / "run").mkdir()
    with pytest.raises(EvaluationError, match="is not a run, so it has no step 3"):
        play(f"{tmp_path}/run@3", Options())
