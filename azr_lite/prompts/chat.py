"""Style for instruct models: the body is the user's message; the tokenizer's own chat template goes around it.

The reply starts with its think tag itself (no prefill), since a template may close the assistant's turn.
Not covered: the words (`prompts/words.py`), applying the template (`trainer.py`).
"""

from azr_lite.prompts.base import Style
from azr_lite.prompts.words import WORDS

CHAT = Style(name="chat", frame=str, prefill="", chat=True, words=WORDS)
