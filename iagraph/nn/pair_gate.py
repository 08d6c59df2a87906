"""Gates, which choose the pairs of nodes to encode."""

from __future__ import annotations

from abc import abstractmethod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, logsigmoid

from iagraph.graph import Graph
from iagraph.nn.encoders import ThinLinear
from iagraph.nn.pruning import EdgeBudget


class Gate(nn.Module):
    """Keeps the best pairs of each graph, as many as a budget allows, and all self-pairs.

    Subclasses say how to rate pairs, and which bias the kept ones carry.

    Args:
        budget: how many pairs to keep.

    Attributes:
        tightness: how strictly the budget applies in training, from 0 (not at all) to 1 (fully); always fully in
            evaluation.
    """

    def __init__(self, budget: EdgeBudget) -> None:
        super().__init__()
        self.budget = budget
        self.tightness = 1.0

    @abstractmethod
    def rate(self, features: Tensor) -> Tensor:
        """The rating of pairs, shape [pairs, features] to [pairs]; higher is better."""

    @abstractmethod
    def bias(self, features: Tensor, rating: Tensor) -> Tensor:
        """The bias for attention of kept pairs, shape [kept], from their features and their rating, which has no
        gradient.
        """

    @property
    def current_budget(self) -> EdgeBudget:
        """The budget that applies now: in training, relaxed to :attr:`tightness`."""
        return cast(EdgeBudget, self.budget.relaxed(self.tightness)) if self.training else self.budget

    def forward(self, features: Tensor, graph: Graph) -> tuple[Graph, Tensor, Tensor]:
        """The graph with only the pairs that the gate keeps.

        Args:
            features: features of the pairs of ``graph``, shape [pairs, features].
            graph: the graph.

        Returns:
            The graph; the features of its pairs, shape [kept, features]; and their bias, shape [kept].
        """
        if torch.is_grad_enabled():
            with torch.no_grad():
                rating = self._precise_rate(features)
        else:  # torch.export cannot follow the change of mode
            rating = self._precise_rate(features)
        graph, kept = graph.keep_strongest_pairs(rating, self.current_budget.number)
        features = features.t().index_select(1, kept).t()  # stored feature by feature
        return graph, features, self.bias(features, rating.index_select(0, kept))

    def _precise_rate(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):  # 16 bits can hardly tell pairs apart
            return self.rate(features)


class PairGate(Gate):
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
    """

    def __init__(self, features: int, hidden: int, budget: EdgeBudget) -> None:
        super().__init__(budget)
        self.hidden = ThinLinear(features, hidden)
        self.lin = nn.Linear(hidden, 1)

    @torch.no_grad()
    def start_with(self, weights: Tensor) -> None:
        r"""Start with a gate that is linear in the features, :math:`g_{ij} = \mathbf{a} \cdot \mathbf{f}_{ij}`.

        Two hidden units suffice, as :math:`\mathrm{GELU}(g) - \mathrm{GELU}(-g) = g`; the others start with weight 0.
        (A gate with a single hidden unit starts as :math:`\mathrm{GELU}(g)`.)

        Args:
            weights: :math:`\mathbf{a}`, shape [features].
        """
        for parameter in (self.hidden.bias[:2], self.lin.weight, self.lin.bias):
            parameter.zero_()
        signs = torch.tensor([1.0, -1.0])[: self.lin.in_features]
        self.hidden.weight[:2] = signs.unsqueeze(1) * weights
        self.lin.weight[0, :2] = signs

    def rate(self, features: Tensor) -> Tensor:
        """The gate :math:`g` of pairs, shape [pairs, features] to [pairs]."""
        return self.lin(gelu(self.hidden(features))).squeeze(1)

    def bias(self, features: Tensor, rating: Tensor) -> Tensor:
        r""":math:`\ln \sigma(g)`, shape [kept]. Gradients reach only kept pairs, so these are rated again: that is
        cheaper than storing the activations of all.
        """
        return logsigmoid(self._precise_rate(features) if torch.is_grad_enabled() else rating)


class FixedGate(Gate):
    """Keeps the pairs with the largest value of a feature, or pairs at random, and learns nothing: a control.

    Random pairs differ from call to call in training, while evaluation makes the same choice for the same batch.

    Args:
        feature: index of the feature; None for random pairs.
        budget: how many pairs to keep.
    """

    def __init__(self, feature: int | None, budget: EdgeBudget) -> None:
        super().__init__(budget)
        self.feature = feature

    def rate(self, features: Tensor) -> Tensor:
        """The feature, or random numbers, shape [pairs, features] to [pairs]."""
        if self.feature is not None:
            return features[:, self.feature]
        generator = None if self.training else torch.Generator(features.device).manual_seed(1)
        return torch.rand(len(features), generator=generator, device=features.device)

    def bias(self, features: Tensor, rating: Tensor) -> Tensor:
        """No bias: zeros, shape [kept]."""
        return features.new_zeros(len(features))
