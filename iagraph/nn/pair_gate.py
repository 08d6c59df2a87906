"""A gate that chooses which pairs of nodes to encode."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, logsigmoid

from iagraph.graph import Graph
from iagraph.nn.encoders import ThinLinear
from iagraph.nn.pruning import EdgeBudget


class PairGate(nn.Module):
    r"""Keeps the best pairs of each graph, as rated by a small perceptron from their raw features.

    .. math::
        g_{ij} = \mathbf{w} \cdot \mathrm{GELU}(\mathbf{W} \mathbf{f}_{ij} + \mathbf{b}) + c

    In each graph it keeps the pairs with the highest :math:`g`, as many as the budget allows, and all self-pairs. The
    choice has no gradient; kept pairs carry :math:`\ln \sigma(g)` as a bias for attention, so that the gate learns
    which pairs deserve more weight.

    Args:
        features: number of pair features.
        hidden: hidden width.
        budget: how many pairs to keep.

    Attributes:
        tightness: how strictly the budget applies in training, from 0 (not at all) to 1 (fully); always fully in
            evaluation.
    """

    def __init__(self, features: int, hidden: int, budget: EdgeBudget) -> None:
        super().__init__()
        self.budget = budget
        self.tightness = 1.0
        self.hidden = ThinLinear(features, hidden)
        self.lin = nn.Linear(hidden, 1)

    @torch.no_grad()
    def start_with(self, feature: int) -> None:
        r"""Start with the gate equal to one of the features, :math:`g_{ij} = f_{ij}`.

        Two hidden units suffice, as :math:`\mathrm{GELU}(f) - \mathrm{GELU}(-f) = f`; the others start with weight 0.
        (A gate with a single hidden unit starts as :math:`\mathrm{GELU}(f)`.)

        Args:
            feature: index of the feature.
        """
        for parameter in (self.hidden.weight[:2], self.hidden.bias[:2], self.lin.weight, self.lin.bias):
            parameter.zero_()
        signs = torch.tensor([1.0, -1.0])[: self.lin.in_features]
        self.hidden.weight[:2, feature] = self.lin.weight[0, :2] = signs

    def rate(self, features: Tensor) -> Tensor:
        """The gate :math:`g` of pairs, shape [pairs, features] to [pairs, 1]."""
        return self.lin(gelu(self.hidden(features)))

    @property
    def current_budget(self) -> EdgeBudget:
        """The budget that applies now: in training, relaxed to :attr:`tightness`."""
        return cast(EdgeBudget, self.budget.relaxed(self.tightness)) if self.training else self.budget

    def forward(self, features: Tensor, graph: Graph) -> tuple[Graph, Tensor, Tensor]:
        r"""The graph with only the pairs that the gate keeps.

        Args:
            features: features of the pairs of ``graph``, shape [pairs, features].
            graph: the graph.

        Returns:
            The graph; the features of its pairs, shape [kept, features]; and their :math:`\ln \sigma(g)`, shape [kept].
        """
        with torch.autocast(features.device.type, enabled=False):  # 16 bits can hardly tell pairs apart
            g = self.rate(features).squeeze(1)
        graph, kept = graph.keep_strongest_pairs(g.detach(), self.current_budget.number)
        features = features.t().index_select(1, kept).t()  # stored feature by feature
        return graph, features, logsigmoid(g.index_select(0, kept))
