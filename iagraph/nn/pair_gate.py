"""A gate that decides which pairs of nodes are worth an encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, logsigmoid

from iagraph.nn.encoders import ThinLinear
from iagraph.nn.pruning import Candidates, EdgeBudget


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

    def forward(self, features: Tensor, first: Tensor, second: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        r"""Which pairs survive, and their bias.

        Args:
            features: shape [pairs, features].
            first: one node of each pair, shape [pairs].
            second: the other node.
            batch: the graph of each node, shape [nodes].

        Returns:
            Numbers of the surviving pairs, ascending, and the logarithm of :math:`\sigma(g)` of each; both of shape
            [survivors].
        """
        with torch.autocast(features.device.type, enabled=False):  # sixteen bits hardly tell pairs apart
            g = self.rate(features)
        budget = self.budget.relaxed(self.tightness) if self.training else self.budget
        itself = (first == second).unsqueeze(1)
        pairs = Candidates(first, second, batch.index_select(0, first), batch.numel())
        chosen = budget.choose(g.detach().masked_fill(itself, -torch.inf), pairs) | itself
        survivors = chosen.squeeze(1).nonzero().squeeze(1)
        return survivors, logsigmoid(g.squeeze(1).index_select(0, survivors))
