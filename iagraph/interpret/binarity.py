r"""How binary attention is: weights, largest weights, entropies, and which scores decide the largest source.

For differential attention, :math:`\alpha = m_1 - \beta m_2`, fractions of :math:`|\alpha|` replace softmax weights, and
its two softmax maps are examined as well. Where scores come from queries and keys (A) and from pairs (U), arXiv
2512.00210 asks whether U changes which source has the largest score, the "largest source" of A. Differential attention
has no A; the analogue is whether :math:`m_1` and :math:`\beta m_2` have the same largest source.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from iagraph.interpret.recording import LayerAttention
from iagraph.interpret.rows import Rows, entropy, fractions, is_non_binary, largest_source, per_jet, spread
from iagraph.interpret.sums import JetSums, histogram, of_layer, stacked
from iagraph.jets import JetBatch

WEIGHT_EDGES = torch.linspace(-1, 1, 101, dtype=torch.float64)
FRACTION_EDGES = torch.linspace(0, 1, 51, dtype=torch.float64)
DECADE_EDGES = torch.tensor([0, *(10.0**power for power in range(7)), torch.inf], dtype=torch.float64)
"""Bins of :math:`|A| / |U|`: 0 to 1, 1 to 10, ..., a million and more."""


def is_differential(layer: LayerAttention) -> bool:
    """Whether each head of a layer subtracts a second map from its first."""
    return layer.maps.size(1) == 2 * layer.alpha.size(1)


def row_flags(layer: LayerAttention, rows: Rows) -> dict[str, Tensor]:
    """Flags of rows, each of shape [particles, heads].

    - ``row``: there is an edge; ``row_others``: there is an edge from another particle;
    - ``non_binary``: the largest fraction is below 0.8; ``non_binary_others``: likewise, with fractions among the edges
      from other particles only;
    - ``non_binary_first``, ``non_binary_second``: likewise for the two maps of differential attention;
    - ``flip`` (if A and U exist): A + U and A have different largest sources; ``maps_differ``: so have the two maps of
      differential attention; ``subtraction``: so have its final weights and the first map;
    - ``flip_and_non_binary``, ``maps_differ_and_non_binary``: both flags;
    - ``pair_spreads_more`` (if A and U exist): U has a larger spread within the row than A.
    """
    alpha = rows.place(layer.alpha)
    shape = alpha.shape[:2]
    flags = {
        "row": rows.real.any(1, keepdim=True).expand(shape),
        "row_others": rows.others.any(1, keepdim=True).expand(shape),
        "non_binary": is_non_binary(fractions(alpha)),
        "non_binary_others": is_non_binary(fractions(alpha * rows.others.unsqueeze(1))),
    }
    if is_differential(layer):
        first, second = rows.place(layer.maps).chunk(2, dim=1)
        largest = largest_source(first, rows.real)
        flags["non_binary_first"], flags["non_binary_second"] = (
            is_non_binary(fractions(each)) for each in (first, second)
        )
        flags["maps_differ"] = largest != largest_source(second, rows.real)
        flags["subtraction"] = largest != largest_source(alpha, rows.real)
        flags["maps_differ_and_non_binary"] = flags["maps_differ"] & flags["non_binary"]
    elif layer.content is not None and layer.pair is not None:
        content, pair = rows.place(layer.content), rows.place(layer.pair)
        flags["flip"] = largest_source(content, rows.real) != largest_source(content + pair, rows.real)
        flags["flip_and_non_binary"] = flags["flip"] & flags["non_binary"]
        flags["pair_spreads_more"] = spread(pair, rows.real) > spread(content, rows.real)
    return flags


def row_numbers(layer: LayerAttention, rows: Rows) -> dict[str, Tensor]:
    r"""Numerical properties of rows, each of shape [particles, heads].

    - ``entropy``: H in nats; ``neighbours``: :math:`e^H`; ``relative``: :math:`e^H` over the number of edges;
    - ``self``: the fraction on the particle itself;
    - ``content_spread``, ``pair_spread``: standard deviations of A and of U within the row, if they exist; not for
      differential attention.
    """
    fraction = fractions(rows.place(layer.alpha))
    number = rows.real.sum(1, keepdim=True)
    nats = entropy(fraction)
    neighbours = torch.where(number > 0, nats.exp(), torch.zeros_like(nats))
    numbers = {
        "entropy": nats,
        "neighbours": neighbours,
        "relative": neighbours / number.clamp(min=1),
        "self": (fraction * (rows.real & ~rows.others).unsqueeze(1)).sum(-1),
    }
    if not is_differential(layer):
        for name, scores in (("content", layer.content), ("pair", layer.pair)):
            if scores is not None:
                numbers[f"{name}_spread"] = spread(rows.place(scores), rows.real)
    return numbers


def score_ratios(content: Tensor, pair: Tensor) -> Tensor:
    r"""Counts of :math:`|A_{ij}| / |U_{ij}|` in decades (:data:`DECADE_EDGES`), shape [8].

    A ratio is infinite if only U is zero, and not counted if both are.

    Args:
        content: A of each edge, any shape.
        pair: U of the same edges in the same order, of the same shape.
    """
    quotient = content.double().abs() / pair.double().abs()
    return histogram(quotient[~quotient.isnan()], DECADE_EDGES)


def layer_binarity(layer: LayerAttention, jets: JetBatch) -> tuple[JetSums, dict[str, Tensor]]:
    """All measurements of this module for one layer.

    Returns:
        Sums per jet of :func:`row_flags` and :func:`row_numbers`, numbers of particles with at least one flagged row
        (``... tokens``), and histograms ``weights``, ``largest``, ``ratio`` and ``ratio_others``; and for each flag,
        whether each particle has at least one such row, shape [particles].
    """
    rows = Rows.of(layer.edge_index, jets.batch.numel())
    flags, count = row_flags(layer, rows), len(jets)
    once = {name: flag.any(1) for name, flag in flags.items()}
    sums = {name: per_jet(values, jets.batch, count) for name, values in {**flags, **row_numbers(layer, rows)}.items()}
    sums |= {f"{name} tokens": per_jet(flag, jets.batch, count) for name, flag in once.items()}
    largest = fractions(rows.place(layer.alpha)).amax(-1)
    counts = {
        "weights": histogram(layer.alpha, WEIGHT_EDGES),
        "largest": histogram(largest[flags["row"]], FRACTION_EDGES),
    }
    if layer.content is not None and layer.pair is not None:
        others = layer.edge_index[0] != layer.edge_index[1]
        counts["ratio"] = score_ratios(layer.content, layer.pair)
        counts["ratio_others"] = score_ratios(layer.content[others], layer.pair[others])
    return of_layer(sums, counts), once


def binarity(layers: Sequence[LayerAttention], jets: JetBatch) -> JetSums:
    """:func:`layer_binarity` for all layers; :attr:`JetSums.jets` counts particles with a flagged row in any layer."""
    parts, ever = [], dict[str, Tensor]()
    for layer in layers:
        part, once = layer_binarity(layer, jets)
        parts.append(part)
        ever = {name: flag | ever[name] if name in ever else flag for name, flag in once.items()}
    anywhere = {f"{name} tokens": per_jet(flag, jets.batch, len(jets)).cpu() for name, flag in ever.items()}
    return stacked(parts).merged(JetSums(jets=anywhere))


def correlation(sums: Tensor) -> Tensor:
    r"""Pearson's correlation of two flags, :math:`(n_{ab} n - n_a n_b) / \sqrt{n_a (n - n_a) n_b (n - n_b)}`.

    Args:
        sums: :math:`n, n_a, n_b, n_{ab}`, the numbers of all rows, and of rows with one flag, the other, and both;
            shape [..., 4].

    Returns:
        Shape [...]; NaN if a flag is constant.
    """
    n, a, b, both = sums.unbind(-1)
    return (both * n - a * b) / (a * (n - a) * b * (n - b)).sqrt()
