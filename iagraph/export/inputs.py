"""Inputs of an exported model: names, units, shapes, and conversion from ragged jets."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from iagraph.jets import JetBatch
from iagraph.kinematics import NODE_FEATURES, Impact

MEANINGS = {
    "four_momenta": "[jets, particles, 4] float32: pt [GeV], rapidity (not pseudorapidity), phi [rad], mass [GeV]",
    "num_particles": "[jets] int64: number of particles of each jet, in the first slots; the rest is ignored",
    "pid": "[jets, particles] int32: signed PDG identifiers",
    "impact": "[jets, particles, 4] float32: d0, its error, dz, its error [mm]; zero for particles without a track",
    "probabilities": "[jets, classes] float32: probability of each class, for the class fractions of training",
    "logits": "[jets, classes] float32: inputs of the softmax",
}
"""Description of each input and output, by name."""

COLUMNS = {"pid": ("pid",), "impact": Impact._fields}
"""Columns of stores that an input is made of, for inputs that not all stores have."""

OUTPUTS = ("probabilities", "logits")


def meaning(name: str, float_inputs: bool = False) -> str:
    """Description of an input or output; with ``float_inputs``, numbers of particles and species are float32."""
    return re.sub(r"\bint\d+", "float32", MEANINGS[name]) if float_inputs else MEANINGS[name]


def input_names(model: nn.Module) -> tuple[str, ...]:
    """The inputs that a model needs for its node features.

    Raises:
        TypeError: this is not a model of jets.
    """
    if not hasattr(model, "node_features"):
        raise TypeError(f"{type(model).__name__} cannot be exported; give a model from iagraph.models")
    features: Any = NODE_FEATURES[str(model.node_features)]
    names = ["four_momenta", "num_particles"]
    names += ["pid"] if "charge" in features else []
    names += ["impact"] if "d0_error" in features else []
    return tuple(names)


def slots_of(jets: JetBatch, names: tuple[str, ...], slots: int | None = None) -> dict[str, Tensor]:
    """Inputs of an exported model for these jets, by name.

    Args:
        jets: the jets.
        names: names of the inputs.
        slots: number of particles that each jet is zero-padded to; None for the number in the largest jet.

    Raises:
        ValueError: a jet has more particles than there are slots, or the jets lack an input.
    """
    padded = jets.padded(slots)
    inputs = {"num_particles": jets.ptr.diff()}
    for name, columns in (("four_momenta", padded.momenta), ("impact", padded.impact)):
        if columns is not None:
            inputs[name] = torch.stack(tuple(columns), dim=1).float().unflatten(0, padded.real.shape)
    if padded.pid is not None:
        inputs["pid"] = padded.pid.int().view_as(padded.real)
    for name in names:
        if name not in inputs:
            raise ValueError(f"the model needs {name}, which these jets do not have")
    return {name: inputs[name] for name in names}


def example_inputs(names: tuple[str, ...], float_inputs: bool = False) -> tuple[Tensor, ...]:
    """Inputs for tracing a model: values are arbitrary, sizes distinct."""
    jets, slots = 3, 5
    makes = {"num_particles": torch.arange(jets), "pid": torch.zeros(jets, slots, dtype=torch.int32)}
    values = tuple(makes.get(name, torch.ones(jets, slots, len(Impact._fields))) for name in names)
    return tuple(map(Tensor.float, values)) if float_inputs else values


def dynamic_axes(names: tuple[str, ...]) -> list[dict[int, str]]:
    """Dynamic axes of each input or output: for the index of each axis, the name of what it counts."""
    of_jets = ("num_particles", *OUTPUTS)
    return [{0: "jets"} if name in of_jets else {0: "jets", 1: "particles"} for name in names]
