"""Where a measured number comes from: the machine and the versions of packages."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from iagraph import __version__


def machine() -> dict[str, str | int]:
    """Processor, cores in use and versions."""
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    about: dict[str, str | int] = {"processor": names[0] if names else platform.processor(), "cores": cores}
    about |= {"threads": torch.get_num_threads(), "python": platform.python_version()}
    return about | versions("torch", "torch-geometric", "numpy", "h5py")


def versions(*packages: str) -> dict[str, str]:
    """Versions of iagraph and of packages."""
    return {"iagraph": __version__} | {package: version(package) for package in packages}


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
