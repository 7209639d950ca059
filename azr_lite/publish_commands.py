"""The verbs `export` and `push`: words in, text out.

Comes in: the words after the verb.  Goes out: an exit status: 0 done.
Not covered: any logic of its own.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Annotated

import tyro

from azr_lite.flags import parse


@dataclasses.dataclass
class Choice:
    """Which model of a run is exported, and in what form."""

    step: str = "last"
    """last, best (of a run with --stop-patience), or the number of a step that has a checkpoint."""
    merge: bool = False
    """Add the adapter to its base: a model that plain transformers loads alone."""
    role: str = ""
    """solver (default) or proposer, of a run with --roles split."""
    dtype: str = "float32"
    """Type of merged and whole weights: float32 (exact), bfloat16 or float16 (half the size, rounded)."""


def export(words: list[str]) -> int:
    """Export a run's model as a folder that others can load."""

    @dataclasses.dataclass
    class Arguments:
        """Write a run's model as a folder with a model card: its adapter, or with --merge one whole model."""

        run: tyro.conf.Positional[Path]
        """The run directory."""
        choice: Annotated[Choice, tyro.conf.arg(name="")]
        output: str = ""
        """The new folder; empty: RUN/export-KIND-step-N."""

    given = parse(Arguments, words, "export")
    _prepare("an export")
    from azr_lite.export.export import contents
    from azr_lite.export.export import export as write

    folder = write(given.run, given.output, **dataclasses.asdict(given.choice))
    print(_listing(contents(folder)))
    print(f"{folder} is there; its README.md says what it is and how to load it")
    return 0


def push(words: list[str]) -> int:
    """Export a run's model, and upload it to the hub."""

    @dataclasses.dataclass
    class Arguments:
        """Export a run's model and upload it to the Hugging Face hub, or upload a folder that was exported before."""

        run: tyro.conf.Positional[Path]
        """The run directory, or an exported folder (then its step, role and type stay as they are)."""
        repo: tyro.conf.Positional[str]
        """USER/NAME; made where it does not exist."""
        choice: Annotated[Choice, tyro.conf.arg(name="")]
        public: bool = False
        """Make a new repository public; otherwise it is private. One that exists stays as it is."""
        dry_run: bool = False
        """List the files and print the card; send nothing."""

    given = parse(Arguments, words, "push")
    _prepare("a push")
    from azr_lite.export.export import check_repository, contents
    from azr_lite.export.export import export as write
    from azr_lite.export.export import push as upload

    check_repository(given.repo)  # before the long part
    is_run = (given.run / "run.json").is_file()
    with tempfile.TemporaryDirectory(
        prefix=".push-", dir=given.run if is_run else None
    ) as room:  # /tmp may be too small for a model
        folder = Path(room) / "export" if is_run else given.run
        if is_run:
            write(given.run, folder, **dataclasses.asdict(given.choice), where=given.repo)
        print(_listing(contents(folder)))
        if given.dry_run:
            print("\n" + (folder / "README.md").read_text(encoding="utf-8"))
            print(f"nothing was sent; without --dry-run these files go to {given.repo}")
            return 0
        print(f"{upload(folder, given.repo, private=not given.public)} has it")
    return 0


def _prepare(what: str) -> None:
    from azr_lite.environment import quiet_libraries, require_training

    require_training(what)
    quiet_libraries()  # before transformers is imported


def _listing(files: list[tuple[str, int]]) -> str:
    return "\n".join(f"{size:>14,} bytes  {name}" for name, size in files)
