"""Provenance of measured numbers: the machine and the versions of packages."""

from __future__ import annotations

import math
import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from iagraph import __version__


def machine() -> dict[str, str | int]:
    """Processor, usable cores, threads, and versions of Python and packages."""
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    about: dict[str, str | int] = {"processor": names[0] if names else platform.processor()}
    about |= {"cores": math.floor(usable_cores())}
    about |= {"threads": torch.get_num_threads(), "python": platform.python_version()}
    return about | versions("torch", "torch-geometric", "numpy", "h5py")


def versions(*packages: str) -> dict[str, str]:
    """Versions of iagraph and the given packages."""
    return {"iagraph": __version__} | {package: version(package) for package in packages}


def usable_cores(limit: Path = Path("/sys/fs/cgroup/cpu.max")) -> float:
    """Number of cores that this process may use, by its CPU affinity and the quota of its container (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, period = limit.read_text(encoding="ascii").split() if limit.is_file() else ("max", "1")
    return cores if quota == "max" else min(cores, int(quota) / int(period))


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
