"""Style for base models: a plain text to complete, which ends inside an opened think tag.

Comes in: the body of an instruction.  Goes out: the whole prompt.
Not covered: the words (`prompts/words.py`).
"""

from azr_lite.prompts.base import ANSWER, END_ANSWER, END_THINK, THINK, Style
from azr_lite.prompts.words import WORDS


def _frame(body: str) -> str:
    return (
        "What follows is a request by a user and the reply of an assistant. The assistant first reasons about the request, then "
        f"gives the result. The reasoning stands between {THINK} and {END_THINK}, the result between {ANSWER} and {END_ANSWER}.\n\n"
        f"User: {body}\n\nAssistant: "
    )


R1 = Style(name="r1", frame=_frame, prefill=THINK, words=WORDS)
