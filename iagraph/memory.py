"""The memory that a process frees and soon needs again, and the cache of a processor."""

from __future__ import annotations

import ctypes
import platform

from torch import Tensor

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST = 2**25
"""Bytes of the largest block that glibc takes from its heap; it asks the system for larger ones each time."""


def keep_freed_memory() -> bool:
    """Lets this process keep memory that it has freed, for what it needs next.

    By default, glibc gives the memory of large tensors back to Linux as soon as they are freed, and Linux clears each
    page of it again on first use: a third of the time of inference of small models. The process then holds what it
    needed at most, but for tensors above 32 MB. The commands call this; call it at the start of a program of your own.

    Returns:
        True if the allocator takes such wishes: glibc does, others do as they please.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_THRESHOLD, LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))


def cut_for_cache(rows: Tensor) -> bool:
    """Whether to take the rows of a tensor in parts that stay in cache: on a CPU, unless their number is still open, as
    it is while ``torch.export`` writes down what is computed.
    """
    return rows.device.type == "cpu" and isinstance(rows.size(0), int)
