"""How several processes that train together agree on the folder of their run.

Lightning starts those of one machine beside the first one, by the same command; they find the folder in their
environment. What torchrun or Slurm start knows nothing of the others: the folder must be given.
"""

from __future__ import annotations

import os
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from iagraph.train.folder import RunError

VARIABLE = "IAGRAPH_RUN_FOLDER"
ADVICE = "processes that torchrun or Slurm starts need a folder that all know: give --into FOLDER"


def rank() -> int:
    """The number of this process among those that train together, 0 for the first one."""
    return int(getattr(rank_zero_only, "rank", 0) or 0)


def share_folder(folder: Path) -> None:
    """Tells the folder to the processes that this one will start."""
    os.environ[VARIABLE] = str(folder.resolve())


def shared_folder() -> Path:
    """The folder that the first process has made.

    Raises:
        RunError: none has started this one.
    """
    if VARIABLE not in os.environ:
        raise RunError(ADVICE)
    return Path(os.environ[VARIABLE])


def check_started_alone() -> None:
    """That this process, the first one, is not one of several that were started from outside.

    Raises:
        RunError: it is.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        raise RunError(ADVICE)
