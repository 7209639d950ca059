"""The verbs `run` and `resume`: words in, a run out.

Comes in: the words after the verb.  Goes out: an exit status: 0 done.
Not covered: any logic of its own.
"""

from __future__ import annotations

import dataclasses
import sys
import textwrap
from pathlib import Path

import tyro

from azr_lite.flags import parse, take_value


def run(words: list[str]) -> int:
    """Self-play from the start: --preset NAME, any setting, --dry-run; --go-on: resume it where it exists already."""
    from azr_lite.config import Config, config_text
    from azr_lite.loop import resolve
    from azr_lite.loop import run as start
    from azr_lite.presets import list_presets, preset
    from azr_lite.progress import check_installed

    dry, go_on = "--dry-run" in words, "--go-on" in words
    words = [word for word in words if word not in ("--dry-run", "--go-on")]
    if "-h" in words or "--help" in words:
        forms = "azr-lite run [--preset NAME or FILE.json] [--dry-run] [--go-on] [settings]; presets: " + ", ".join(
            list_presets()
        )
        print(textwrap.fill(forms, 79, break_on_hyphens=False) + "\n")
    name, words = take_value(words, "--preset", "nano")
    base = preset(name or "nano")
    about = "Self-play from the start. Settings given here replace the preset's."
    config = parse(Config, words, "run", default=base, description=about)
    if dry:
        check_installed(config)
        print(config_text(resolve(config)), end="")
        print(f"nothing was run; the batch has {config.rows} sequences a step", file=sys.stderr)
        return 0
    start(config, go_on=go_on)
    return 0


def resume(words: list[str]) -> int:
    """Go on with a run: `azr-lite resume PATH [--steps N] [--max-hours H] ...`."""
    from azr_lite.loop import resume as go_on

    @dataclasses.dataclass
    class Arguments:
        """Go on with a run from its last whole checkpoint. A setting that is not given stays as it was."""

        path: tyro.conf.Positional[Path]
        """The run directory."""
        steps: int | None = None
        """Total number of steps to reach."""
        max_hours: float | None = None
        """Stop, saved and resumable, before so many hours have passed; 0: no limit."""
        save_every: int | None = None
        """Steps between checkpoints; 0: only at the end."""
        save_minutes: float | None = None
        """Also save as soon as more than so many minutes of work could be lost; 0: never."""
        eval_every: int | None = None
        """Steps between held-out evaluations; 0: only before and after."""
        stop_patience: int | None = None
        """Stop after so many evaluations in a row that are significantly below the best one; 0: never."""
        keep_checkpoints: int | None = None
        """How many of the newest checkpoints stay."""
        sync_to: str | None = None
        """Copy each whole checkpoint and the logs there: a folder, or hub:USER/REPO."""
        workers: int | None = None
        """Fork servers of the sandbox."""
        micro_batch_size: int | None = None
        """Sequences in one forward and backward pass on one device."""
        generation_chunk: int | None = None
        """Replies sampled at once."""
        gradient_checkpointing: bool | None = None
        """Trade time for activation memory."""
        processes: int | None = None
        """Processes the run is started with."""
        gradient_share_every: int | None = None
        """Steps between measurements of each (role, type)'s share of the gradient; 0: never."""
        report_to: tuple[str, ...] | None = None
        """Trackers: tensorboard, wandb, trackio; they are told the whole run anew."""

    given = dataclasses.asdict(parse(Arguments, words, "resume"))
    path = given.pop("path")
    go_on(path, **{name: value for name, value in given.items() if value is not None})
    return 0
