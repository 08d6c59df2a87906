"""A gate that decides which pairs of nodes are worth an encoder."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, logsigmoid

from iagraph.graph import Graph
from iagraph.nn.encoders import ThinLinear
from iagraph.nn.pruning import EdgeBudget


class PairGate(nn.Module):
    r"""Lets the best pairs of each graph through, by a small perceptron of their raw features.

    .. math::
        g_{ij} = \mathbf{w} \cdot \mathrm{GELU}(\mathbf{W} \mathbf{f}_{ij} + \mathbf{b}) + c

    Of each graph the pairs of highest :math:`g` survive, as many as the budget allows, and those of a node with itself.
    The choice has no gradient; what survives carries :math:`\ln \sigma(g)`, by which attention is to be biased, so that
    the gate learns which pairs deserve more weight.

    Args:
        features: number of pair features.
        hidden: hidden width.
        budget: how many survive.

    Attributes:
        tightness: how much of the budget's cut is made in training mode, 0 for none to 1; in evaluation all of it is.
    """

    def __init__(self, features: int, hidden: int, budget: EdgeBudget) -> None:
        super().__init__()
        self.budget = budget
        self.tightness = 1.0
        self.hidden = ThinLinear(features, hidden)
        self.lin = nn.Linear(hidden, 1)

    def rate(self, features: Tensor) -> Tensor:
        """What the gate makes of pairs, shape [pairs, features] to [pairs, 1]."""
        return self.lin(gelu(self.hidden(features)))

    @property
    def current_budget(self) -> EdgeBudget:
        """The budget as far as the cut is made."""
        return cast(EdgeBudget, self.budget.relaxed(self.tightness)) if self.training else self.budget

    def forward(self, features: Tensor, graph: Graph) -> tuple[Graph, Tensor, Tensor]:
        r"""The graph of the pairs that survive.

        Args:
            features: of the pairs of the graph, shape [pairs, features].
            graph: the graph.

        Returns:
            The graph; the features of its pairs, shape [survivors, features]; and the logarithm of :math:`\sigma(g)` of
            each, shape [survivors].
        """
        with torch.autocast(features.device.type, enabled=False):  # sixteen bits hardly tell pairs apart
            g = self.rate(features).squeeze(1)
        graph, survivors = graph.keep_strongest_pairs(g.detach(), self.current_budget.number)
        kept = features.t().index_select(1, survivors).t()  # features of pairs lie in memory one after the other
        return graph, kept, logsigmoid(g.index_select(0, survivors))
