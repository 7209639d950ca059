"""The one exception family: each message says what was wrong, what was expected, what to do.

Failures of model-written programs are data (`Outcome`, `Rejection`), never exceptions.
"""

import traceback
from pathlib import Path

MEND = "mend it; a run that has begun goes on with `azr-lite resume`"


def cause(error: BaseException) -> str:
    """What failed in the user's own code, and where, on one line."""
    frames = [one for one in traceback.extract_tb(error.__traceback__)[1:] if "importlib" not in one.filename]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{place}"


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, at most 200 characters; its class's name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


class AzrError(Exception):
    """Base of every error that azr_lite raises on purpose."""


class ConfigError(AzrError):
    """A setting is wrong; raised before anything is loaded."""


class ModelError(AzrError):
    """A model or tokenizer cannot be loaded or used."""


class RunDirectoryError(AzrError):
    """A run directory is missing, foreign, damaged or in the way."""


class SandboxError(AzrError):
    """The executor cannot do its work."""


class InfrastructureError(SandboxError):
    """The sandbox itself failed again and again on the same job; no verdict was booked."""


class UnsafeError(SandboxError):
    """This machine offers no kernel isolation and the user has not allowed the weak level."""


class TrainingError(AzrError):
    """Training cannot go on without doing harm (a batch of the wrong size, a loss that is not finite)."""


class EvaluationError(AzrError):
    """An evaluation cannot be made: its questions, scorer or earlier results are missing or do not belong together."""


class PublishError(AzrError):
    """A model cannot be exported or pushed."""
