"""Memory of this process: how much it uses, reuse of freed memory, and work in parts that fit into cache."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path

from torch import Tensor

__all__ = ["tune_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST = 2**25
"""Size in bytes of the largest block that glibc takes from its heap; larger ones come from the system each time."""


def tune_memory() -> bool:
    """Let this process reuse freed memory, and oneDNN cache less.

    By default, glibc returns the memory of large tensors to Linux at once, and Linux clears its pages again on next
    use. That can take a third of the inference time of small models, and a tenth of their training time. After this
    call, the process keeps freed memory, up to its peak, except for tensors above 32 MB.

    oneDNN prepares a matrix product for each new shape, and by default caches 1,024 of them, 200 to 400 MB, although
    two batches of jets hardly ever have the same shape. After this call it caches eight, unless the environment sets
    another number or a product was computed before.

    The commands call this function; in your own program, call it at the start.

    Returns:
        Whether the allocator accepts these settings; only glibc does.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8")
    libc = _glibc()
    return libc is not None and bool(
        libc.mallopt(_MMAP_THRESHOLD, LARGEST) and libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    )


def return_freed_memory() -> None:
    """Give memory back to the system that :func:`tune_memory` kept, as after a training; only glibc keeps it."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def memory_in_use(peak: bool = False) -> float | None:
    """Resident memory of this process in MB, Python and its packages included; None if the system does not report it.

    Args:
        peak: whether to return the peak so far. Only Linux reports current memory; elsewhere it is always the peak.
    """
    status, name = Path("/proc/self/status"), "VmHWM:" if peak else "VmRSS:"
    for line in status.read_text(encoding="utf-8").splitlines() if status.is_file() else []:
        if line.startswith(name):  # ru_maxrss would include the peak of the process that started this one
            return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def cut_for_cache(rows: Tensor) -> bool:
    """Whether to process the rows of a tensor in parts that fit into cache: on a CPU, unless the number of rows is
    symbolic, as in ``torch.export``.
    """
    return rows.device.type == "cpu" and isinstance(rows.size(0), int)
