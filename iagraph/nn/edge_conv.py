"""Edge convolution with batch norms and a shortcut."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.dense.linear import Linear, is_uninitialized_parameter
from torch_geometric.typing import Adj

from iagraph.kernels.edge_maps import folded_maps, normed_maps
from iagraph.kernels.linear import hooked, plain
from iagraph.kernels.switch import fast
from iagraph.nn.adjacency import edges_of
from iagraph.nn.encoders import BatchNorm, through
from iagraph.nn.lazy_linear import make_linear


class EdgeConv(MessagePassing):
    r"""The edge convolution block of `"ParticleNet" <https://arxiv.org/abs/1902.08570>`_.

    .. math::
        \mathbf{x}^{\prime}_i = \operatorname{ReLU} \left( \mathbf{S} \mathbf{x}_i + \frac{1}{|\mathcal{N}(i)|}
        \sum_{j \in \mathcal{N}(i)} h(\mathbf{x}_i, \mathbf{x}_j - \mathbf{x}_i) \right)

    where :math:`h` is a chain of linear maps, each followed by batch norm and ReLU, and :math:`\mathbf{S}` is a linear
    map with batch norm, or the identity if both sizes are given and equal. The first map is linear in both arguments
    and therefore applied per node, not per edge: :math:`\mathbf{A} \mathbf{x}_i + \mathbf{B} (\mathbf{x}_j -
    \mathbf{x}_i) = (\mathbf{A} - \mathbf{B}) \mathbf{x}_i + \mathbf{B} \mathbf{x}_j`.

    Args:
        in_channels: size of the node vectors; -1 takes it from the first input.
        channels: output size of each map of :math:`h`; the last is the size of the result.

    Shapes:
        - input: node vectors :math:`(|\mathcal{V}|, F_{in})` or
          :math:`((|\mathcal{V}_s|, F_{in}), (|\mathcal{V}_t|, F_{in}))` if bipartite, edge indices
          :math:`(2, |\mathcal{E}|)`
        - output: node vectors :math:`(|\mathcal{V}|, F_{out})` or :math:`(|\mathcal{V}_t|, F_{out})`

    Raises:
        ValueError: ``channels`` is empty.
    """

    def __init__(self, in_channels: int, channels: Sequence[int]) -> None:
        super().__init__(aggr="mean", node_dim=0)
        if not channels:
            raise ValueError("an edge convolution needs a linear map: give channels")
        self.in_channels = in_channels
        self.channels = tuple(channels)
        widths = [in_channels if in_channels == -1 else 2 * in_channels, *channels]
        self.linears = nn.ModuleList(make_linear(a, b) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(BatchNorm(width) for width in channels)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != channels[-1]:
            self.shortcut = nn.Sequential(make_linear(in_channels, channels[-1]), BatchNorm(channels[-1]))

    def reset_parameters(self) -> None:
        """Draws new weights and resets the statistics of the batch norms."""
        super().reset_parameters()
        for module in self.modules():
            if isinstance(module, nn.Linear | Linear | nn.BatchNorm1d):
                module.reset_parameters()

    def forward(self, x: Tensor | tuple[Tensor, Tensor | None], edge_index: Adj) -> Tensor:
        """Runs the layer on any graph; a node without incoming edges gets the shortcut alone.

        Args:
            x: node vectors, or a tuple (vectors of sources, vectors of targets).
            edge_index: edges, rows (source, target), as a tensor or an ``EdgeIndex``; or a sparse PyTorch tensor, the
                transposed adjacency, shape [targets, sources].

        Raises:
            ValueError: ``edge_index`` is not a graph of these nodes, or the targets of a bipartite graph lack vectors.
        """
        source, target = (x, x) if isinstance(x, Tensor) else x
        if target is None:
            raise ValueError("edges are made of the targets' vectors, too: give x = (source, target)")
        edges = edges_of(edge_index, source.size(0), target.size(0))
        center, other = self._first_map(source, target)
        # propagate_type: (center: Tensor, other: Tensor)
        mean = self.propagate(edges.edge_index, center=center, other=other, size=(source.size(0), target.size(0)))
        return (self.shortcut(target) + mean).relu()

    def message(self, center_i: Tensor, other_j: Tensor) -> Tensor:
        """Messages of edges, shape [edges, channels]."""
        return self._other_maps(center_i + other_j)

    def convolve(self, x: Tensor, neighbors: Tensor, real: Tensor | None = None) -> Tensor:
        """Runs the layer on nodes with k neighbours each.

        Args:
            x: node vectors, shape [nodes, in_channels].
            neighbors: the neighbours of each node, shape [nodes, k]. A missing one (-1) counts as a node with a zero
                vector: the published networks were trained with such padding.
            real: True for nodes that are not padding, shape [nodes]; batch norms take their statistics from these. None
                if all are real.

        Returns:
            Node vectors, shape [nodes, channels].
        """
        self._take_size(x)
        sources = torch.where(neighbors < 0, x.size(0), neighbors)
        norms = list(cast(Sequence[BatchNorm], self.norms))
        of_batch = {norm.training and neighbors.numel() > 1 for norm in norms}
        # In 16 bits the gradients of the norms would be lost, as small differences of gradients of folded weights.
        rounded = torch.is_autocast_enabled(x.device.type) and torch.is_grad_enabled()
        usual = all(type(norm) is BatchNorm and not hooked(norm) for norm in norms) and all(map(_usual, self.linears))
        kernels = fast() and usual and len(of_batch) == 1
        weights = [cast(nn.Linear, linear).weight for linear in self.linears] if kernels else []
        if not kernels or (rounded and of_batch == {False}) or (real is not None and of_batch == {True}):
            # Kernels are off or do not apply: norms partly frozen, other modules (synchronised), 16 bits, padding.
            center, other = self._first_map(x, x)
            edges = (center.unsqueeze(1) + embedding(sources, _with_zeros(other))).flatten(0, 1)
            real_edges = None if real is None else real.repeat_interleave(neighbors.size(1))
            mean = self._other_maps(edges, real_edges).view(*neighbors.shape, self.channels[-1]).mean(dim=1)
        elif of_batch == {True}:
            center, other = self._first_map(x, x)
            mean = normed_maps(center, _with_zeros(other), sources, weights[1:], norms)
        else:
            scales, biases = zip(*(norm.as_affine() for norm in norms), strict=True)
            weights = [scale.unsqueeze(1) * weight for scale, weight in zip(scales, weights, strict=True)]
            center, other = _of_both_ends(x, x, weights[0], biases[0])
            mean = folded_maps(center, _with_zeros(other), sources, weights[1:], biases[1:])
        shortcut = through(self.shortcut, x, real) if isinstance(self.shortcut, nn.Sequential) else x
        return (shortcut + mean).relu()

    def _first_map(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The parts of the first linear map's output that come from targets and from sources; they add up to it."""
        self._take_size(source)
        first = cast(nn.Linear, self.linears[0])
        if _usual(first):
            return _of_both_ends(source, target, first.weight)
        units = torch.eye(2 * source.size(1), dtype=source.dtype, device=source.device)
        bias = first(torch.zeros_like(units[0]))
        return _of_both_ends(source, target, (first(units) - bias).t(), bias)

    def _take_size(self, x: Tensor) -> None:
        """Initialises a lazy first map, which is never called otherwise, as only its weights are used."""
        if is_uninitialized_parameter(getattr(self.linears[0], "weight", None)):
            self.linears[0](x.new_empty(0, 2 * x.size(1)))

    def _other_maps(self, edges: Tensor, real: Tensor | None = None) -> Tensor:
        counted = () if real is None else (real,)
        edges = self.norms[0](edges, *counted).relu()
        for linear, norm in zip(self.linears[1:], self.norms[1:], strict=True):
            edges = norm(linear(edges), *counted).relu()
        return edges

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.channels})"


def _usual(linear: nn.Module) -> bool:
    """Whether a map is the product with its weight: no adapter, no hooks such as those of ``torch.nn.utils.prune``."""
    return plain(linear) and linear.bias is None


def _of_both_ends(source: Tensor, target: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A linear map of (x_i, x_j - x_i), split into a part of the target i and a part of the source j."""
    of_center, of_difference = weight.chunk(2, dim=1)
    center = nn.functional.linear(target, of_center - of_difference, bias)
    return center, nn.functional.linear(source, of_difference)


def _with_zeros(rows: Tensor) -> Tensor:
    """The rows and a row of zeros for missing neighbours."""
    return torch.cat([rows, rows.new_zeros(1, rows.size(1))])
