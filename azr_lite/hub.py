"""Upload an exported model to the Hugging Face hub, and say in one sentence why the hub did not take it.

Comes in: a folder that `publish.export` wrote, and USER/NAME.  Goes out: the repository's address.
Not covered: making the folder (`publish.py`), copies of whole runs for resuming (`sync.py`).
"""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, errors
from huggingface_hub.utils import validate_repo_id

from azr_lite.errors import PublishError

TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "tokenizer.model",
)  # fmt: skip
PUBLIC = (
    "README.md",
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    *TOKENIZER,
)
"""All that an export holds, and all that is ever uploaded."""


def contents(folder: Path) -> list[tuple[str, int]]:
    """The files of an export with their sizes, as they would be uploaded. PublishError where the folder is none."""
    found = {path for pattern in PUBLIC for path in folder.glob(pattern) if path.is_file()}
    foreign = sorted({path for path in folder.glob("*") if not path.name.startswith(".")} - found)
    if foreign:  # such as the random states of a checkpoint, whose other files look like an export's
        raise PublishError(f"{folder} holds {foreign[0].name}, which no export does; give a run's folder, or what azr-lite export wrote")
    if not (folder / "README.md").is_file() or not list(folder.glob("*.safetensors")):
        raise PublishError(f"{folder} is neither a run nor an exported model; give a run's folder, or what azr-lite export wrote")
    return [(path.name, path.stat().st_size) for path in sorted(found)]


def check_repository(repo: str) -> None:
    """PublishError for a name that the hub would not take."""
    try:
        validate_repo_id(repo)
    except errors.HFValidationError:
        good = False
    else:
        good = repo.count("/") == 1
    if not good:
        raise PublishError(f"{repo!r} cannot be the name of a repository; write USER/NAME in letters, digits, '-', '_' and '.'")


def push(folder: Path, repo: str, private: bool = True) -> str:
    """Upload an export; returns the repository's address. `private` counts where the repository is made now. Raises PublishError."""
    check_repository(repo)
    names = [name for name, _ in contents(folder)]
    api = HfApi()
    try:
        url = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, allow_patterns=names, commit_message="Upload from azr-lite")
    except Exception as error:  # the client raises its own, httpx's and the system's
        raise PublishError(_hub_problem(repo, error)) from error
    return str(url)


def _hub_problem(repo: str, error: Exception) -> str:
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) and error.response is not None else 0
    if isinstance(error, errors.LocalTokenNotFoundError) or status == 401:
        return "the hub wants a token and has got none that it knows; log in by `hf auth login`, or set HF_TOKEN to one that may write"
    if status == 403:
        return f"this token may not write to {repo}; use your own user name, or a token with the right to write"
    if status == 404:
        return f"the hub has no place for {repo}; check that the user or organisation before the / exists"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so nothing is pushed; unset it, or look at it with --dry-run"
    if status:
        return f"the hub refused {repo} ({status}: {_one_line(error)}); try again later"
    return f"the hub cannot be reached ({_one_line(error)}); check the network, then push again: what is there already is not sent twice"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
