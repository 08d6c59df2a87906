"""Edge convolution with batch norms and a shortcut."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from torch_geometric.nn import MessagePassing

from iagraph.nn.edge_maps import folded_maps, normed_maps
from iagraph.nn.encoders import BatchNorm


class EdgeConv(MessagePassing):
    r"""The edge convolution block of `"ParticleNet" <https://arxiv.org/abs/1902.08570>`_.

    .. math::
        \mathbf{x}^{\prime}_i = \operatorname{ReLU} \left( \mathbf{S} \mathbf{x}_i + \frac{1}{|\mathcal{N}(i)|}
        \sum_{j \in \mathcal{N}(i)} h(\mathbf{x}_i, \mathbf{x}_j - \mathbf{x}_i) \right)

    with :math:`h` some linear maps, each followed by batch norm and ReLU, and :math:`\mathbf{S}` a linear map with
    batch norm, or the identity where the sizes are equal. The first map is linear in both arguments and therefore
    applied per node, not per edge: :math:`\mathbf{A} \mathbf{x}_i + \mathbf{B} (\mathbf{x}_j - \mathbf{x}_i) =
    (\mathbf{A} - \mathbf{B}) \mathbf{x}_i + \mathbf{B} \mathbf{x}_j`.

    Args:
        in_channels: size of the node vectors.
        channels: sizes after each map of :math:`h`; the last is that of the result.

    Shapes:
        - input: node vectors :math:`(|\mathcal{V}|, F_{in})`, edge indices :math:`(2, |\mathcal{E}|)`
        - output: node vectors :math:`(|\mathcal{V}|, F_{out})`

    Raises:
        ValueError: there are no ``channels``.
    """

    def __init__(self, in_channels: int, channels: Sequence[int]) -> None:
        super().__init__(aggr="mean", node_dim=0)
        if not channels:
            raise ValueError("an edge convolution needs a linear map: give channels")
        self.in_channels = in_channels
        self.channels = tuple(channels)
        widths = [2 * in_channels, *channels]
        self.linears = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(BatchNorm(width) for width in channels)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != channels[-1]:
            self.shortcut = nn.Sequential(nn.Linear(in_channels, channels[-1], bias=False), BatchNorm(channels[-1]))

    def reset_parameters(self) -> None:
        """Draws new weights and forgets the statistics of the batch norms."""
        super().reset_parameters()
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.BatchNorm1d):
                module.reset_parameters()

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Runs the layer on any graph; a node without incoming edges gets the shortcut alone.

        Args:
            x: node vectors.
            edge_index: edges, rows (source, target).
        """
        center, other = self._first_map(x)
        # propagate_type: (center: Tensor, other: Tensor)
        mean = self.propagate(edge_index, center=center, other=other, size=(x.size(0), x.size(0)))
        return (self.shortcut(x) + mean).relu()

    def message(self, center_i: Tensor, other_j: Tensor) -> Tensor:
        """What an edge carries, shape [edges, channels]."""
        return self._other_maps(center_i + other_j)

    def convolve(self, x: Tensor, neighbors: Tensor) -> Tensor:
        """Runs the layer on nodes with k neighbours each.

        Args:
            x: node vectors, shape [nodes, in_channels].
            neighbors: the neighbours of each node, shape [nodes, k]. One that is missing (-1) counts as a node of
                zeros: the published networks were trained with padding that acts like this.

        Returns:
            Node vectors, shape [nodes, channels].
        """
        sources = torch.where(neighbors < 0, x.size(0), neighbors)
        norms = list(cast(Sequence[BatchNorm], self.norms))
        weights = [cast(nn.Linear, linear).weight for linear in self.linears]
        of_batch = {norm.training and neighbors.numel() > 1 for norm in norms}
        # Sixteen bits would round the gradients of folded weights, of which small differences are those of the norms.
        rounded = torch.is_autocast_enabled(x.device.type) and torch.is_grad_enabled()
        if len(of_batch) > 1 or any(type(norm) is not BatchNorm for norm in norms) or (rounded and of_batch == {False}):
            # Some norms are frozen, or were exchanged for others, such as those that share statistics among devices.
            center, other = self._first_map(x)
            edges = (center.unsqueeze(1) + embedding(sources, _with_zeros(other))).flatten(0, 1)
            mean = self._other_maps(edges).view(*neighbors.shape, self.channels[-1]).mean(dim=1)
        elif of_batch == {True}:
            center, other = self._first_map(x)
            mean = normed_maps(center, _with_zeros(other), sources, weights[1:], norms)
        else:
            scales, biases = zip(*(norm.as_affine() for norm in norms), strict=True)
            weights = [scale.unsqueeze(1) * weight for scale, weight in zip(scales, weights, strict=True)]
            center, other = _of_both_ends(x, weights[0], biases[0])
            mean = folded_maps(center, _with_zeros(other), sources, weights[1:], biases[1:])
        return (self.shortcut(x) + mean).relu()

    def _first_map(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the first linear map makes of a target and of a source, to be added."""
        return _of_both_ends(x, cast(nn.Linear, self.linears[0]).weight)

    def _other_maps(self, edges: Tensor) -> Tensor:
        edges = self.norms[0](edges).relu()
        for linear, norm in zip(self.linears[1:], self.norms[1:], strict=True):
            edges = norm(linear(edges)).relu()
        return edges

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.channels})"


def _of_both_ends(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A linear map of (x_i, x_j - x_i), as what it makes of i and what of j."""
    of_center, of_difference = weight.chunk(2, dim=1)
    center = nn.functional.linear(x, of_center - of_difference, bias)
    return center, nn.functional.linear(x, of_difference)


def _with_zeros(rows: Tensor) -> Tensor:
    """The rows and one of zeros, for neighbours that are missing."""
    return torch.cat([rows, rows.new_zeros(1, rows.size(1))])
