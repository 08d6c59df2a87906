"""Models and layers on the device, compared with a CPU in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmark.gpu_phases.results import Plan, Results
from benchmark.gpu_phases.timing import arithmetic, autocast
from iagraph.graph import fully_connected
from iagraph.jets import JetBatch
from iagraph.models.registry import MODELS
from iagraph.nn import (
    DifferentialAttentionConv,
    DifferentialTransformerConv,
    EdgeBudget,
    EdgeConv,
    InteractionAttentionConv,
    PairAttentionConv,
    Threshold,
    TopK,
    TopP,
)
from iagraph.testing import random_jets

COUNTS = [k * 7 % 61 for k in range(61)]
"""Numbers of particles: each from 0 to 60 once, out of order."""

SIZES = {"width": 15, "blocks": 2, "heads": 3, "particle_hidden": (17, 13)}
PAIRS = {"pair_hidden": (19, 11), "pair_width": 7}
GATE = {"gate_fraction": 0.6}
RULES = {
    "threshold": Threshold(0.03),
    "top k": TopK(5),
    "top p": TopP(0.8),
    "edge budget": EdgeBudget(fraction=0.4),
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "iaformer": SIZES | PAIRS,
    "gated_iaformer": SIZES | PAIRS | GATE,
    "cascaded_iaformer": SIZES | PAIRS | GATE | {"pruning": TopK(k=3)},
    "plain_transformer": SIZES,
    "interaction_transformer": SIZES | PAIRS,
    "pair_transformer": SIZES | PAIRS,
    "learned_pair_iaformer": SIZES | PAIRS,
    "particle_transformer": SIZES | {"pair_hidden": (19, 11), "class_blocks": 2, "dropout": 0.0},
    "particlenet": {"channels": ((5, 7), (11, 11)), "neighbors": 4, "head_hidden": 13, "dropout": 0.0},
}
"""Small sizes for each model, without dropout, whose random numbers differ between devices."""

NODES, EDGES, FEATURES = 301, 4001, 11


class Case(NamedTuple):
    """A module to run on both devices.

    Attributes:
        name: name of the case.
        module: the module, in float64 on the CPU.
        inputs: its arguments, likewise.
        training: run it in training mode instead of evaluation mode.
    """

    name: str
    module: nn.Module
    inputs: tuple[Any, ...]
    training: bool


class Outcome(NamedTuple):
    """Results of a case, in float64 on the CPU: the output, and gradients by name of the parameter."""

    result: Tensor
    gradients: dict[str, Tensor]


def equal(plan: Plan, results: Results) -> None:
    """A row per case: errors of the device, and of the CPU in float32, relative to the CPU in float64."""
    results.notes += [
        "reference: CPU, float64; error of a result or of all gradients: |difference| / |reference| (Euclidean)",
        "worst: the parameter whose gradient has the largest error, among gradients above 1e-6 of the largest",
        "rounding can decide near ties (rules, neighbours) differently in float32, also on a CPU: compare the columns",
    ]
    for case in cases():
        with results.attempt(case=case.name):
            expected = outcome(case, torch.device("cpu"), "float64")
            rounded = errors(outcome(case, torch.device("cpu"), "float32"), expected)
            row: dict[str, Any] = {"case": case.name, "CPU float32": rounded[0], "its gradients": rounded[1]}
            for precision in ("float64", "float32", "bf16"):
                result, gradients, worst = errors(outcome(case, plan.device, precision), expected)
                row |= {f"{precision}": result, f"{precision} gradients": gradients}
                row |= {} if precision == "bf16" else {f"{precision} worst": worst}
            results.add(**row)


def outcome(case: Case, device: torch.device, precision: str) -> Outcome:
    """Run the forward and the backward pass of a case.

    Args:
        case: the case.
        device: where to run it.
        precision: float64, or one of :data:`~benchmark.gpu_phases.timing.PRECISIONS`.
    """
    dtype = torch.float64 if precision == "float64" else torch.float32
    module = deepcopy(case.module).to(device, dtype).train(case.training)
    inputs = [_moved(value, device, dtype) for value in case.inputs]
    with arithmetic(precision, device):
        with autocast(precision, device):
            result = module(*inputs)
        # Asymmetric weights, so that nothing cancels.
        weights = torch.linspace(0.3, 1.7, result.numel(), dtype=result.dtype, device=device).view_as(result)
        (result * weights).sum().backward()
    gradients = {n: p.grad.double().cpu() for n, p in module.named_parameters() if p.grad is not None}
    return Outcome(result.detach().double().cpu(), gradients)


def _moved(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    if isinstance(value, JetBatch):
        return (value if dtype == torch.float64 else _single(value)).to(device)
    return value.to(device, dtype) if value.is_floating_point() else value.to(device)


def _single(jets: JetBatch) -> JetBatch:
    impact = None if jets.impact is None else type(jets.impact)(*(values.float() for values in jets.impact))
    return replace(jets, momenta=type(jets.momenta)(*(values.float() for values in jets.momenta)), impact=impact)


def errors(found: Outcome, expected: Outcome) -> tuple[float, float, str]:
    """The errors of the result and of all gradients, and the parameter with the worst gradient, with its error.

    Raises:
        ValueError: something is not finite, or different parameters have gradients.
    """
    if found.gradients.keys() != expected.gradients.keys():
        raise ValueError(f"different parameters have gradients: {sorted(found.gradients.keys() ^ expected.gradients)}")
    for name, value in {"result": found.result, **found.gradients}.items():
        if not value.isfinite().all():
            raise ValueError(f"{name} is not finite")
    names = list(expected.gradients)
    every, reference = (
        torch.cat([outcome.gradients[name].flatten() for name in names]) for outcome in (found, expected)
    )
    floor = 1e-6 * float(reference.abs().max())
    own = {
        name: relative(found.gradients[name], expected.gradients[name])
        for name in names
        if float(expected.gradients[name].abs().max()) > floor
    }
    worst = max(own, key=lambda name: own[name])
    return relative(found.result, expected.result), relative(every, reference), f"{own[worst]:.1e} {worst}"


def relative(found: Tensor, expected: Tensor) -> float:
    """The error relative to the reference."""
    return float((found - expected).norm() / expected.norm())


def cases() -> Iterator[Case]:
    """Every model in both modes, with given edges and with each rule; every layer on sorted and unsorted edges."""
    jets = random_jets(COUNTS).double()  # the same numbers in both precisions
    edges = fully_connected(jets.ptr)
    some = edges[:, torch.randperm(edges.size(1), generator=_generator())[: edges.size(1) // 3]]
    for name, arguments in ARGUMENTS.items():
        model = drawn(partial(MODELS[name], node_features="full", num_classes=3, **arguments))
        yield Case(f"{name}, evaluation", model, (jets,), False)
        yield Case(f"{name}, training", model, (jets,), True)
        if name != "particlenet":
            yield Case(f"{name}, all edges given", model, (jets, edges), False)
            yield Case(f"{name}, a third of the edges given", model, (jets, some), True)
    for name, rule in RULES.items():
        arguments = ARGUMENTS["iaformer"]
        for change in ({}, {"per_head": True, "renormalize": True}):
            model = drawn(partial(MODELS["iaformer"], **arguments, pruning=replace(rule, **change)))
            yield Case(f"iaformer, {name}{', per head, renormalised' if change else ''}", model, (jets,), True)
    yield from _layers()


def _layers() -> Iterator[Case]:
    random = _generator()
    edge_index = torch.randint(NODES, (2, EDGES), generator=random)
    by_target = edge_index[:, edge_index[1].argsort()]
    x = torch.randn(NODES, 5, generator=random, dtype=torch.float64)
    edge_attr = torch.randn(EDGES, FEATURES, generator=random, dtype=torch.float64)
    layers: dict[str, Callable[[], nn.Module]] = {
        "DifferentialAttentionConv": lambda: DifferentialAttentionConv(5, 6, 3, FEATURES),
        "PairAttentionConv": lambda: PairAttentionConv(5, 6, 3, FEATURES),
        "InteractionAttentionConv": lambda: InteractionAttentionConv(5, 6, 3, FEATURES, bias=True),
        "DifferentialTransformerConv": lambda: DifferentialTransformerConv(5, 12, 3, FEATURES),
        "EdgeConv": lambda: EdgeConv(5, (11, 13)),
    }
    for name, make in layers.items():
        for order, edges in (("unsorted", edge_index), ("sorted by target", by_target)):
            inputs: tuple[Tensor, ...] = (x, edges) if name == "EdgeConv" else (x, edges, edge_attr)
            yield Case(f"{name}, {order}", drawn(make), inputs, True)


def drawn(make: Callable[[], nn.Module]) -> nn.Module:
    """A module in float64 with random weights, norms and statistics included, so that no symmetry hides a mistake."""
    torch.manual_seed(1)
    module = make().double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d):
                part.running_mean.normal_(std=0.3)  # type: ignore[union-attr]
                part.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return module


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)
