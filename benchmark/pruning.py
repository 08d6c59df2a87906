"""Savings by dropping edges: arithmetic, time and memory against the fraction that passes a gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from benchmark.contenders import iaformer
from benchmark.cost import measure_steps
from benchmark.measure import Report, in_new_process
from iagraph.data import JetDataset, read_store, resolve
from iagraph.models import GatedIAFormer
from iagraph.models.costs import cost, multiply_adds

FRACTIONS = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05)
JETS = 64


def benchmark_pruning(repeats: int, fractions: Sequence[float] = FRACTIONS) -> Report:
    """IAFormer of the published size, with all edges and with a gate, each in its own process.

    Args:
        repeats: runs timed for each.
        fractions: of the pairs of a jet, that a gate lets through.
    """
    rows = [in_new_process(measure, fraction, repeats)[0] for fraction in (None, *fractions)]
    dense = rows[0]
    for row in rows:
        for mode in ("inference", "training"):
            row[f"speed-up, {mode}"] = dense[f"{mode} [ms/jet]"] / row[f"{mode} [ms/jet]"]
    return Report(
        "IAFormer of the published size with fewer and fewer edges",
        rows,
        [
            f"{JETS} jets of the sample in a batch; untrained weights, which do not affect the cost",
            "nothing dropped: dense blocks, the fastest form of complete graphs",
            "with a gate: edge lists below half of the pairs",
            "time: median; peak memory: of a process, above its memory before the first step",
        ],
    )


def gated(fraction: float) -> GatedIAFormer:
    """IAFormer of the published size behind a gate."""
    torch.manual_seed(1)
    return GatedIAFormer("kinpid", "iaformer", gate_fraction=fraction)


def measure(fraction: float | None, repeats: int) -> dict[str, Any]:
    """Cost of a network.

    Args:
        fraction: of the pairs that its gate lets through; None for the network without a gate.
        repeats: runs timed, after one that warms up.
    """
    model = iaformer() if fraction is None else gated(fraction)
    jets = JetDataset(read_store(resolve("sample:qg"), "test"))[:JETS]
    steps = measure_steps(model, jets, repeats)
    kept = cost(model, jets).kept[-1]
    row = {"gate": "nothing dropped" if fraction is None else f"{fraction:g}", "edges kept": kept}
    return row | {"MFLOP/jet": 2e-6 * multiply_adds(model, jets) / JETS} | steps
