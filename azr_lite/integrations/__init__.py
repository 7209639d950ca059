"""Parts of azr_lite inside other libraries: TRL, verifiers, datasets, lm-evaluation-harness. One file each.

Here are the commands that go with them. Each part needs its library (the extra [integrations]).
"""

from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg

from azr_lite.environment import require_training


def tasks(
    run: Annotated[Positional[Path], arg(help="The run directory.")],
    *,
    to: str,
    public: FlagCreatePairsOff[bool] = False,
) -> None:
    """Write the tasks that a run invented as a data set.

    Args:
        to: FILE.parquet; a new FOLDER, with a dataset card; or hub:USER/NAME.
        public: Make a new repository public; otherwise it is private. One that exists stays as it is.
    """
    require_training("a set of tasks")
    from azr_lite.integrations.datasets import write_tasks

    print(f"{write_tasks(run, to, private=not public)} has the tasks of {run}")


def verifiers_path() -> None:
    """The folder for PYTHONPATH in which verifiers finds its environment azr-selfplay."""
    print(Path(__file__).parent / "verifiers_module")


def lm_eval_path() -> None:
    """Where the task files for lm-evaluation-harness are stored."""
    print(Path(__file__).parent / "lm_eval_tasks")
