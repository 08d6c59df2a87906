"""Kernel launches of a training step, and the longest kernels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmark.contenders import CONTENDERS
from benchmark.gpu_phases.results import Plan, Results
from benchmark.gpu_phases.speed import Runner
from benchmark.gpu_phases.timing import arithmetic, sample_batches, seconds_per_call, synchronize

NAMES = ("IAFormer, iagraph", "IAFormer lite, iagraph", "ParT, iagraph", "ParticleNet, iagraph", "ParT, weaver")
LONGEST = 10


def kernels(plan: Plan, results: Results) -> None:
    """For each model, a row with launches and times of a training step and a row for each of its longest kernels."""
    results.notes += [
        "wall: ms per step in a series, without the profiler; busy: total time of all kernels and copies in ms",
        "float32; on a CPU: operators instead of kernels",
    ]
    jets = sample_batches(plan.batch_sizes[0], 1, plan.device)
    for name in NAMES:
        with results.attempt(model=name), arithmetic("float32", plan.device):
            run = Runner(CONTENDERS[name](), jets, plan.device).ready("training", "float32")
            wall = seconds_per_call(run, plan.device, seconds=0.5)
            events = _events(run, plan.device)
            times: Counter[str] = Counter()
            for event in events:
                times[event.name] += event.time_range.elapsed_us()
            copies = sum(event.name.startswith(("Memcpy", "Memset")) for event in events)
            busy = sum(times.values()) / 1e3
            numbers = {"kernels": len(events) - copies, "copies": copies, "busy": busy, "wall": 1e3 * wall}
            results.add(model=name, **numbers)
            calls = Counter(event.name for event in events)
            for kernel, time in times.most_common(LONGEST):
                results.add(model=name, kernel=kernel[:110], calls=calls[kernel], ms=time / 1e3)


def _events(run: Any, device: torch.device) -> list[Any]:
    """The kernels and copies of a call."""
    cuda = device.type == "cuda"
    kinds = [ProfilerActivity.CPU, ProfilerActivity.CUDA] if cuda else [ProfilerActivity.CPU]
    with profile(activities=kinds) as profiler:
        run()
        synchronize(device)
    kind = DeviceType.CUDA if cuda else DeviceType.CPU
    return [event for event in profiler.events() if event.device_type == kind and not event.is_user_annotation]
