"""Jets per second and memory of our models and others, by batch size and arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import cycle
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmark.contenders import CONTENDERS, SLOTS, Contender
from benchmark.gpu_phases.results import Plan, Results
from benchmark.gpu_phases.timing import (
    PRECISIONS,
    arithmetic,
    autocast,
    forget,
    held,
    peak,
    sample_batches,
    seconds_per_call,
)
from iagraph.jets import JetBatch

NAMES = (
    "IAFormer, iagraph",
    "IAFormer lite, iagraph",
    "ParT, iagraph",
    "ParT, weaver",
    "ParticleNet, iagraph",
    "ParticleNet, weaver",
    "IAFormer, reference layout",
    "IAFormer, plain PyG",
)
MODES = ("training", "inference")
BATCHES = 2
"""Number of different batches, used in turn."""

PRODUCT = 8192
COPIED = 2**30
"""Bytes of the array whose copy gives the memory bandwidth."""


def speed(plan: Plan, results: Results) -> None:
    """A row for each batch size, contender, mode and arithmetic."""
    results.notes += [
        "training: zero_grad, forward, cross entropy, backward, AdamW; inference: evaluation mode, "
        "torch.inference_mode",
        "iagraph starts from four-momenta; the others get precomputed node features (IAFormer also pair features); "
        f"padding is to {SLOTS} slots, which weaver trims to the longest jet, in training to a random quantile",
        f"jets/s: {BATCHES} batches of the shipped sample in turn; the host waits for the device only at the end of a "
        "series of calls; median of three series",
        "float32: without TensorFloat-32; tf32: products and convolutions in it; bf16: autocast, the rest in tf32",
        "peak: memory of tensors in MB, above weights, optimiser and inputs",
    ]
    if plan.device.type == "cuda":
        ceilings(plan, results)
    for batch_size in plan.batch_sizes:
        jets = sample_batches(batch_size, BATCHES, plan.device)
        for name in NAMES:
            with results.attempt(batch=batch_size, contender=name):
                forget(plan.device)
                runner = Runner(CONTENDERS[name](), jets, plan.device)
                for mode in MODES:
                    for precision in PRECISIONS:
                        measure(results, runner, name, mode, precision)
            runner = None  # type: ignore[assignment]


def measure(results: Results, runner: Runner, name: str, mode: str, precision: str) -> None:
    """Add a row with the speed and memory of a contender."""
    batch_size, device = len(runner.jets[0]), runner.device
    what = {"batch": batch_size, "contender": name, "mode": mode, "arithmetic": precision}
    with results.attempt(**what):
        run = runner.ready(mode, precision)
        forget(device)
        before = held(device)
        with arithmetic(precision, device):
            seconds = seconds_per_call(run, device)
        results.add(**what, **{"jets/s": batch_size / seconds, "ms": 1e3 * seconds, "peak": peak(device) - before})


class Runner:
    """A contender with batches that take turns.

    Args:
        contender: the network with its inputs.
        jets: the batches.
        device: where to compute.
    """

    def __init__(self, contender: Contender, jets: list[JetBatch], device: torch.device) -> None:
        self.model = contender.model.to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.jets, self.device = jets, device
        made = (contender.prepare(batch.to("cpu")) for batch in jets)  # the original of a copied network is on the CPU
        self.inputs = [tuple(part.to(device) for part in each) for each in made]

    def ready(self, mode: str, precision: str) -> Callable[[], None]:
        """A function that runs a training step, or inference, on the next batch."""
        self.model.train(mode == "training")
        self.optimizer.zero_grad()
        batches = cycle(zip(self.inputs, [cast(Tensor, batch.y) for batch in self.jets], strict=True))

        def training() -> None:
            inputs, label = next(batches)
            self.optimizer.zero_grad()
            with autocast(precision, self.device):
                loss = cross_entropy(self.model(*self._new(inputs)), label)
            loss.backward()
            self.optimizer.step()

        @torch.inference_mode()
        def inference() -> None:
            with autocast(precision, self.device):
                self.model(*self._new(next(batches)[0]))

        return training if mode == "training" else inference

    def _new(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        # A new batch even on the same device, without cached quantities of an earlier run.
        return tuple(part.to(self.device) for part in inputs)


def ceilings(plan: Plan, results: Results) -> None:
    """Note the peak rates of the device: products of large matrices, and copies."""
    with results.attempt(ceiling="products, copies"):
        for precision in PRECISIONS:
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            factors = torch.randn(2, PRODUCT, PRODUCT, device=plan.device).to(dtype)
            with arithmetic(precision, plan.device):
                seconds = seconds_per_call(partial(torch.matmul, *factors), plan.device, seconds=0.2)
            rate = 2e-12 * PRODUCT**3 / seconds
            results.notes.append(f"product of {PRODUCT} x {PRODUCT}, {precision}: {rate:.0f} TFLOP/s")
        source = torch.randn(COPIED // 4, device=plan.device)
        target = torch.empty_like(source)
        seconds = seconds_per_call(partial(target.copy_, source), plan.device, seconds=0.2)
        results.notes.append(f"copy of 1 GB: {2 * COPIED / seconds / 1e12:.2f} TB/s, read and written")
