"""Setup of memory and threads for commands that compute."""

import math
import os
import time
from pathlib import Path


def _busy_seconds() -> float | None:
    """Seconds since boot that the machine's processors were busy, summed over processors; None except on Linux."""
    statistics = Path("/proc/stat")
    if not statistics.is_file():
        return None
    user, nice, system, _idle, _waiting, *interrupts = map(int, statistics.read_text().splitlines()[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


_START = (time.monotonic(), time.process_time(), _busy_seconds())
"""Wall time, own processor time and :func:`_busy_seconds` at import: other processes are observed from here on, during
the few seconds that importing PyTorch takes.
"""


def prepare_process() -> None:
    """Tune memory, and use no more threads than there are free cores.

    Threads wait for each other at the end of every operation, so a thread that must share its core slows down all.
    The number of threads is unchanged if ``OMP_NUM_THREADS`` is set, or ``LOCAL_RANK`` (one of several processes).
    """
    import torch

    from iagraph.machine import usable_cores
    from iagraph.memory import tune_memory

    tune_memory()
    if {"OMP_NUM_THREADS", "LOCAL_RANK"} & set(os.environ):  # chosen by the user, or one of several processes
        return
    wanted, cores, busy = torch.get_num_threads(), usable_cores(), _others()
    threads = usable_threads(wanted, cores, os.cpu_count() or 1, busy)
    if threads < wanted:
        print(
            f"threads: {threads} instead of {wanted}, as {cores:g} of {os.cpu_count()} cores may be used and other "
            f"programs keep {busy:.1f} of them busy; set OMP_NUM_THREADS to choose another number"
        )
        torch.set_num_threads(threads)


def usable_threads(wanted: int, cores: float, processors: int, busy: float) -> int:
    """Number of threads that can have a core of their own, at least one.

    Args:
        wanted: number of threads on an idle machine.
        cores: number of cores that this process may use.
        processors: number of processors in the machine.
        busy: average number of processors that other processes keep busy.
    """
    return max(1, min(wanted, math.floor(cores), math.floor(processors - busy + 0.5)))


def _others() -> float:
    """Average number of processors that other processes have kept busy since :data:`_START`; 0 if unknown."""
    wall, own, before = _START
    now = _busy_seconds()
    if before is None or now is None:
        return 0.0
    elapsed = time.monotonic() - wall
    return max(now - before - (time.process_time() - own), 0.0) / elapsed
