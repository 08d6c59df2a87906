"""Agreement of several training processes on their run folder.

On one machine, Lightning starts further processes with the same command; they find the folder in their environment.
Processes that torchrun or Slurm starts are independent: the folder must be given.
"""

from __future__ import annotations

import os
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from iagraph.train.folder import RunError

VARIABLE = "IAGRAPH_RUN_FOLDER"
ADVICE = "processes of torchrun or Slurm need a common folder: give --into FOLDER"


def rank() -> int:
    """Rank of this process, 0 for the first."""
    return int(getattr(rank_zero_only, "rank", 0) or 0)


def share_folder(folder: Path) -> None:
    """Pass the folder to the processes that this one will start."""
    os.environ[VARIABLE] = str(folder.resolve())


def shared_folder() -> Path:
    """The folder created by the first process.

    Raises:
        RunError: this process was not started by the first one.
    """
    if VARIABLE not in os.environ:
        raise RunError(ADVICE)
    return Path(os.environ[VARIABLE])


def check_started_alone() -> None:
    """Check that this process, the first, is not one of several started by torchrun or Slurm.

    Raises:
        RunError: it is one of several.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        raise RunError(ADVICE)
