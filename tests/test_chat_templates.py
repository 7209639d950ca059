"""Every chat template that TRL ships: the question is in the prompt, and exactly one thought is open at its end."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("trl")

from azr_lite.errors import ModelError
from azr_lite.prompts import get_style
from azr_lite.prompts.base import END_THINK, THINK, chat_prompt
from azr_lite.train.policy import _choose_style
from tests.tiny import tiny_config, tiny_tokenizer

CASES = Path(__file__).parents[2] / "shared" / "data" / "cases" / "models"
FOLDER = Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"
TEMPLATES = sorted(FOLDER.glob("*.jinja"))
QUESTION = "What does this return?\n\n```python\ndef f(x):\n    return {'a': x}\n```"


def with_template(text):
    tokenizer = tiny_tokenizer(pad=True, bos=True)
    tokenizer.chat_template = text
    return tokenizer


def test_there_are_templates():
    assert len(TEMPLATES) >= 60


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_gives_one_open_thought(path):
    prompt = chat_prompt(with_template(path.read_text(encoding="utf-8")), QUESTION, get_style("chat").prefill)
    assert prompt.count(QUESTION) == 1
    behind = prompt.partition(QUESTION)[2]
    assert behind.count(THINK) == 1
    assert END_THINK not in behind
    assert behind.rstrip().endswith(THINK)


@pytest.mark.parametrize(
    "text",
    [
        "{% if messages[0]['role'] != 'system' %}{{ raise_exception('system message required') }}{% endif %}",
        "{% for m in messages %}{{ m.role }}{% endfor %}",
        "{{ messages[0].nothing.at.all }}",
        "{% for %}",
    ],
)
def test_a_template_that_cannot_be_used_is_one_sentence(text):
    with pytest.raises(ModelError, match="chat template cannot be used") as error:
        chat_prompt(with_template(text), QUESTION, THINK)
    assert "\n" not in str(error.value)
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=0))
    assert _choose_style(tiny_config(model="some/model"), with_template(text), model)[0] == "r1"


def test_the_models_own_end_of_sequence_decides_whether_it_is_a_base_model():
    tokenizer = with_template("{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}")
    for end, style in ((0, "chat"), (1, "r1"), (None, "chat"), ([1, 0], "chat")):
        model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=end))
        assert _choose_style(tiny_config(model="some/model"), tokenizer, model)[0] == style, end


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not in a user's clone")
def test_the_shared_case_of_a_template_that_opens_a_thought():
    ending = json.loads((CASES / "template-opens-think.json").read_text())["chat_template_end"]
    template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}" + ending
    assert chat_prompt(with_template(template), QUESTION, THINK).count(THINK) == 1
