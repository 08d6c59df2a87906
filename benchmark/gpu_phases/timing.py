"""Batches on a device, arithmetic by name, and time per call."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from benchmark.models import shuffled_jets
from iagraph.data import JetDataset
from iagraph.jets import JetBatch

PRECISIONS = ("float32", "tf32", "bf16")
"""Matrix products in float32, in TensorFloat-32, and with automatic mixed precision in bfloat16 (rest in tf32)."""

ROUNDS = 3
WARM_UP = 2
"""Warm-up calls."""


def sample_batches(batch_size: int, number: int, device: torch.device) -> list[JetBatch]:
    """Batches of the shipped sample, always the same ones."""
    jets = shuffled_jets(number * batch_size)
    parts = [jets.part(begin, begin + batch_size) for begin in range(0, len(jets), batch_size)]
    return [JetDataset(part)[:].to(device) for part in parts]


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Compute products and convolutions with one of :data:`PRECISIONS`; by default convolutions use TensorFloat-32.

    Forward passes run under :func:`autocast`, each in a new context, as it caches cast weights.
    """
    reduced = precision in ("tf32", "bf16")
    matmul, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if reduced else "highest")
    torch.backends.cudnn.allow_tf32 = reduced
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = convolutions


def autocast(precision: str, device: torch.device, keep: bool = True) -> AbstractContextManager[None]:
    """Automatic mixed precision for bf16, else nothing; with ``keep``, a weight is cast once for all its uses."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=keep)


def seconds_per_call(run: Callable[[], object], device: torch.device, seconds: float = 0.4) -> float:
    """Time per call in a series, as in training: the host waits for the device only at the end of the series. The
    median of :data:`ROUNDS` series, which take about ``seconds`` together, after a warm-up.
    """
    for _ in range(WARM_UP):
        run()
    calls = max(1, int(seconds / ROUNDS / _seconds_of(run, 1, device)))
    return statistics.median(_seconds_of(run, calls, device) for _ in range(ROUNDS))


def _seconds_of(run: Callable[[], object], calls: int, device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        run()
    synchronize(device)
    return (time.perf_counter() - start) / calls


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget(device: torch.device) -> None:
    """Free unused memory and reset the peak."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def held(device: torch.device) -> float:
    """Memory of tensors in MB."""
    return torch.cuda.memory_allocated(device) / 1e6 if device.type == "cuda" else 0.0


def peak(device: torch.device) -> float:
    """The largest :func:`held` since :func:`forget`."""
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else 0.0
