"""Style for instruct models: the body is the user's message; the tokenizer's own chat template goes around it.

The opened think tag is put behind the template's generation prompt: without it small models answer in their usual manner.
Comes in: the body of an instruction.  Goes out: the user's message, and the prefill.
Not covered: the words (`prompts/words.py`), applying the template (`codec.py`).
"""

from azr_lite.prompts.base import THINK, Style
from azr_lite.prompts.words import WORDS

CHAT = Style(name="chat", frame=str, prefill=THINK, chat=True, words=WORDS)
