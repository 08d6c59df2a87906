"""Measurements that accumulate over batches: sums per jet, which also give errors, and histograms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from iagraph.estimates import ratio
from iagraph.metrics import Estimate


@dataclass(frozen=True)
class JetSums:
    """Sums and histograms, all on the CPU in float64.

    Attributes:
        layers: sums per jet and layer by name, shape [jets, layers].
        jets: sums per jet for all layers together by name, shape [jets].
        histograms: counts, or weights, per layer by name, shape [layers, bins].
    """

    layers: Mapping[str, Tensor] = field(default_factory=dict)
    jets: Mapping[str, Tensor] = field(default_factory=dict)
    histograms: Mapping[str, Tensor] = field(default_factory=dict)

    def ratio(self, numerator: str, denominator: str, layer: int | None = None, jets: Tensor | None = None) -> Estimate:
        """A ratio of two sums with its error (:func:`~iagraph.estimates.ratio`).

        Args:
            numerator: name in :attr:`layers`.
            denominator: name in :attr:`layers`.
            layer: index of the layer; None for the sums over all layers.
            jets: mask of jets, shape [jets]; None for all.
        """
        above, below = (
            sums.sum(1) if layer is None else sums[:, layer]
            for sums in (self.layers[numerator], self.layers[denominator])
        )
        return ratio(above, below) if jets is None else ratio(above[jets], below[jets])

    def merged(self, other: JetSums) -> JetSums:
        """Union of two sets of quantities of the same jets."""
        return JetSums(
            {**self.layers, **other.layers}, {**self.jets, **other.jets}, {**self.histograms, **other.histograms}
        )


def added(parts: Iterable[JetSums]) -> JetSums:
    """Concatenate the sums of batches and add their histograms; memory grows by a few numbers per jet."""
    layers: dict[str, list[Tensor]] = {}
    jets: dict[str, list[Tensor]] = {}
    histograms: dict[str, Tensor] = {}
    for part in parts:
        for name, sums in part.layers.items():
            layers.setdefault(name, []).append(sums)
        for name, sums in part.jets.items():
            jets.setdefault(name, []).append(sums)
        for name, counts in part.histograms.items():
            histograms[name] = histograms[name] + counts if name in histograms else counts
    return JetSums(
        {name: torch.cat(each) for name, each in layers.items()},
        {name: torch.cat(each) for name, each in jets.items()},
        histograms,
    )


def stacked(layers: Iterable[JetSums]) -> JetSums:
    """Stack quantities of single layers into those of a model; :attr:`JetSums.jets` is left empty."""
    parts = list(layers)
    return JetSums(
        {name: torch.cat([part.layers[name] for part in parts], 1) for name in parts[0].layers},
        {},
        {name: torch.cat([part.histograms[name] for part in parts]) for name in parts[0].histograms},
    )


def of_layer(sums: Mapping[str, Tensor], histograms: Mapping[str, Tensor]) -> JetSums:
    """``JetSums`` of one layer from its sums per jet, shape [jets], and counts, shape [bins]."""
    return JetSums(
        {name: values.double().cpu().unsqueeze(1) for name, values in sums.items()},
        {},
        {name: counts.double().cpu().unsqueeze(0) for name, counts in histograms.items()},
    )


def histogram(values: Tensor, edges: Tensor, weights: Tensor | None = None) -> Tensor:
    """Counts, or sums of weights, in bins; the outer bins include values beyond their edges.

    Args:
        values: any shape.
        edges: ascending, shape [bins + 1]; a bin includes its lower edge, the last bin both edges.
        weights: same shape as the values; None to count.

    Returns:
        Shape [bins], float64.
    """
    bins = edges.numel() - 1
    place = torch.bucketize(values.detach().flatten().double(), edges.to(values.device), right=True) - 1
    weights = None if weights is None else weights.detach().flatten().double()
    return torch.bincount(place.clamp(0, bins - 1), weights, minlength=bins).double()
