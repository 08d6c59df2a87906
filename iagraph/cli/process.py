"""Memory and threads of a command that computes."""

import math
import os
import time
from pathlib import Path


def _busy_seconds() -> float | None:
    """Seconds that all processes of the machine have kept its processors busy; None if it is no Linux."""
    statistics = Path("/proc/stat")
    if not statistics.is_file():
        return None
    user, nice, system, _idle, _waiting, *interrupts = map(int, statistics.read_text().splitlines()[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


_START = (time.monotonic(), time.process_time(), _busy_seconds())
"""When this was imported: others' work is observed while PyTorch is imported, some seconds."""


def prepare_process() -> None:
    """Tune memory, and use no more threads than there are free cores, unless ``OMP_NUM_THREADS`` is set.

    Threads wait for each other at the end of every operation: one that must share its core slows down all of them.
    """
    import torch

    from iagraph.machine import usable_cores
    from iagraph.memory import tune_memory

    tune_memory()
    if {"OMP_NUM_THREADS", "LOCAL_RANK"} & set(os.environ):  # chosen, or one of several processes
        return
    wanted, cores, busy = torch.get_num_threads(), usable_cores(), _others()
    threads = usable_threads(wanted, cores, os.cpu_count() or 1, busy)
    if threads < wanted:
        print(
            f"threads: {threads} instead of {wanted}, for {cores:g} cores of {os.cpu_count()} may be used and others "
            f"keep {busy:.1f} busy; set OMP_NUM_THREADS to choose another number"
        )
        torch.set_num_threads(threads)


def usable_threads(wanted: int, cores: float, processors: int, busy: float) -> int:
    """Number of threads with a core of their own, at least one.

    Args:
        wanted: number of threads on an idle machine.
        cores: what this process may use.
        processors: what the machine has.
        busy: how many of these others use.
    """
    return max(1, min(wanted, math.floor(cores), math.floor(processors - busy + 0.5)))


def _others() -> float:
    """Processors that other processes kept busy since :data:`_START`; 0 if unknown."""
    wall, own, before = _START
    now = _busy_seconds()
    if before is None or now is None:
        return 0.0
    elapsed = time.monotonic() - wall
    return max(now - before - (time.process_time() - own), 0.0) / elapsed
