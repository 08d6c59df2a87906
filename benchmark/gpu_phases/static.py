"""Gains from a single static shape: jets in slots, run eagerly, recorded as a CUDA graph, and compiled."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmark.contenders import CONTENDERS
from benchmark.gpu_phases.results import Plan, Results
from benchmark.gpu_phases.timing import arithmetic, autocast, forget, held, peak, seconds_per_call
from benchmark.models import shuffled_jets
from iagraph.data import JetDataset
from iagraph.jets import JetBatch

MODELS = ("IAFormer, iagraph", "IAFormer lite, iagraph", "ParT, iagraph", "ParticleNet, iagraph")
SLOTS = 64
HALF = 2
"""Jets have more particles than the number of slots divided by this."""

VARIANTS = (
    ("ragged", "bf16"),
    ("eager", "bf16"),
    ("recorded", "bf16"),
    ("compiled, reduce-overhead", "bf16"),
    ("compiled", "bf16"),
    ("recorded", "float32"),
)
"""Ways to run and their arithmetic, those with the least preparation first."""


def static(plan: Plan, results: Results) -> None:
    """A row for each way to run, model, arithmetic and mode."""
    jets = jets_that_fill(SLOTS, plan.batch_sizes[0]).to(plan.device)
    results.notes += [
        f"one batch of {len(jets)} jets of the sample with {float(jets.ptr.diff().double().mean()):.1f} particles on "
        f"average, each with more than {SLOTS // HALF} and at most {SLOTS} particles; ragged: not in slots",
        "training: forward, cross entropy, backward, no optimiser; inference: no_grad; both include all features",
        "first call: seconds of the first call, including compilation or recording; logits: largest difference from "
        "those of ragged jets in float32, relative to the largest logit",
    ]
    for how, precision in VARIANTS:
        for name in MODELS:
            for mode in ("training", "inference"):
                what = {"model": name, "how": how, "arithmetic": precision, "mode": mode}
                with results.attempt(**what):
                    if plan.device.type != "cuda" and (how == "recorded" or "overhead" in how):
                        continue
                    results.add(**what, **_measured(name, jets, how, precision, mode, plan.device))


def jets_that_fill(slots: int, number: int) -> JetBatch:
    """The first jets of the shuffled sample that fit into these slots and fill more than half of them."""
    jets = shuffled_jets(min(18_000, 40 * number + 200))
    fitting = ((jets.counts <= slots) & (jets.counts > slots / HALF)).nonzero()[0]
    return JetDataset(jets.take(fitting[:number]))[:]


def _measured(name: str, jets: JetBatch, how: str, precision: str, mode: str, device: torch.device) -> dict[str, float]:
    """Speed, memory, seconds of the first call, and the deviation of the logits from those of ragged jets."""
    forget(device)
    torch._dynamo.reset()
    model = CONTENDERS[name]().model.to(device).eval()
    with torch.no_grad(), arithmetic("float32", device):
        expected = model(jets)
    network: Any = model
    given = jets if how == "ragged" else jets.padded(SLOTS)
    if how.startswith("compiled"):
        compile_mode = "reduce-overhead" if "overhead" in how else None
        network = torch.compile(model, fullgraph=True, dynamic=False, mode=compile_mode)

    def forward() -> Tensor:
        with autocast(precision, device, keep=how != "recorded"):
            return network(given)

    model.train(mode == "training")
    forget(device)
    before = held(device)
    with arithmetic(precision, device):
        run = _training(model, forward, cast(Tensor, jets.y)) if mode == "training" else _inference(forward)
        start = time.perf_counter()
        if how == "recorded":
            run = _recorded(run, device)
        logits = run().clone()
        seconds = time.perf_counter() - start
        per_call = seconds_per_call(run, device)
    return {
        "jets/s": len(jets) / per_call,
        "ms": 1e3 * per_call,
        "first call": seconds,
        "peak": peak(device) - before,
        "logits": float((logits - expected).abs().max() / expected.abs().max()),
    }


def _training(model: torch.nn.Module, forward: Callable[[], Tensor], label: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        model.zero_grad()
        logits = forward()
        cross_entropy(logits, label).backward()
        return logits.detach()

    return run


def _inference(forward: Callable[[], Tensor]) -> Callable[[], Tensor]:
    @torch.no_grad()
    def run() -> Tensor:
        return forward()

    return run


def _recorded(run: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """The same function as a CUDA graph, with all its kernels in one launch."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay
