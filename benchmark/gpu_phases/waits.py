"""Where the host waits for the device in a training step."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmark.contenders import CONTENDERS
from benchmark.gpu_phases.results import Plan, Results
from benchmark.gpu_phases.timing import sample_batches

NAMES = ("IAFormer, iagraph", "IAFormer lite, iagraph", "ParT, iagraph", "ParticleNet, iagraph", "IAFormer, plain PyG")
HERE = Path(__file__).parent.parent
WAIT = "synchronizing CUDA operation"
"""Text in the warning about a wait."""


def waits(plan: Plan, results: Results) -> None:
    """For each model and part of a step, a row with the number of waits and a row for each line of code that waits."""
    results.notes.append(
        "as reported by torch.cuda.set_sync_debug_mode; waits of a backward pass belong to the line that calls it"
    )
    for name in NAMES:
        with results.attempt(model=name):
            for part, lines in _of_step(name, plan).items():
                results.add(model=name, part=part, waits=sum(lines.values()))
                for line, number in lines.most_common():
                    results.add(model=name, part=part, waits=number, line=line)


def _of_step(name: str, plan: Plan) -> dict[str, Counter[str]]:
    """The lines that wait in each part of the second training step."""
    contender = CONTENDERS[name]()
    model = contender.model.to(plan.device).train()
    optimizer = torch.optim.AdamW(model.parameters())
    (jets,) = sample_batches(plan.batch_sizes[0], 1, plan.device)
    made = contender.prepare(jets.to("cpu"))  # the original of a copied network is on the CPU
    inputs, label = tuple(part.to(jets.ptr.device) for part in made), cast(Tensor, jets.y)
    found: dict[str, Counter[str]] = {}
    done: dict[str, Any] = {}
    parts: dict[str, Callable[[], Any]] = {
        "forward": lambda: model(*(part.to(plan.device) for part in inputs)),
        "loss": lambda: cross_entropy(done["forward"], label),
        "backward": lambda: done["loss"].backward(),
        "clip": lambda: torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0),
        "optimiser": optimizer.step,
    }
    for _ in range(2):
        for part, run in parts.items():
            with _watched(plan.device) as found[part]:
                done[part] = run()
        optimizer.zero_grad()
    return found


@contextmanager
def _watched(device: torch.device) -> Iterator[Counter[str]]:
    """Count the waits by line of code."""
    lines: Counter[str] = Counter()

    def count(message: Warning | str, *_: Any) -> None:
        if WAIT in str(message):
            lines[_line()] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = count  # type: ignore[assignment]  # unused arguments by position
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield lines
        finally:
            if device.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")


def _line() -> str:
    """The innermost running line of the library, or else of torch."""
    frame = sys._getframe(2)
    other = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if "iagraph" in path.parts and HERE not in path.parents:
            return f"{'/'.join(path.parts[-2:])}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return other
