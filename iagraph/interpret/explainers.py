"""Taggers wrapped for the explainers of PyTorch Geometric."""

from __future__ import annotations

import copy
from contextlib import ExitStack
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.explain import Explanation
from torch_geometric.explain.algorithm import ExplainerAlgorithm
from torch_geometric.explain.config import ModelTaskLevel
from torch_geometric.nn import MessagePassing

from iagraph.graph import fully_connected
from iagraph.interpret.recording import AttentionModel
from iagraph.interpret.relevance import fed, scaled_features
from iagraph.jets import JetBatch
from iagraph.nn import AttentionConv


class Explainable(nn.Module):
    r"""A tagger with fixed jets as a function of node features and edges, for ``torch_geometric.explain.Explainer``.

    .. code-block:: python

        explainable = Explainable(model, jets)
        explainer = Explainer(explainable, GNNExplainer(), "model", MODEL_CONFIG, "attributes", "object")
        explanation = explainer(explainable.x, explainable.edge_index)

    It wraps a copy of the model in evaluation mode with frozen parameters. Edge masks and hooks act on the messages of
    all attention layers among particles: a masked edge sends no message but keeps its place in the softmax. Class
    attention, whose edges lead to tokens, is not masked (PyTorch Geometric's ``explain = False``). Pair features come
    from the momenta of the jets and do not follow a mask of ``x``.

    Args:
        model: the tagger.
        jets: the jets, on its device; explainers return one mask for all of them.

    Attributes:
        x: scaled node features of the jets, shape [particles, features].
        edge_index: all edges within jets in the order of :func:`~iagraph.graph.fully_connected`. Any other list of
            edges may be explained instead; masks follow its order.

    Raises:
        ValueError: the model drops edges, so its layers do not see all edges that an explainer masks.
    """

    def __init__(self, model: AttentionModel, jets: JetBatch) -> None:
        super().__init__()
        if getattr(model, "drops_edges", False):
            raise ValueError(
                f"this {type(model).__name__} drops edges, but explainers of PyTorch Geometric need layers that see "
                "all edges that they mask: explain a model without gate and rule"
            )
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.jets = jets
        for module in self.model.modules():
            if isinstance(module, MessagePassing):
                module.explain = False
        for conv in self.model.convs():
            conv.explain = None  # explainers may set it
        self.x = scaled_features(self.model, jets)
        self.edge_index = fully_connected(jets.ptr)
        self.eval()  # explainers restore the mode in which they find the model

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Logits of the jets, shape [jets, classes].

        Args:
            x: scaled node features, shape [particles, features].
            edge_index: edges within jets, rows (source, target), shape [2, edges].
        """
        with fed(self.model, x):
            return self.model(self.jets, edge_index)


MODEL_CONFIG = {"mode": "multiclass_classification", "task_level": "graph", "return_type": "raw"}
"""``model_config`` of an :class:`Explainable`."""


class AbsoluteAttentionExplainer(ExplainerAlgorithm):
    r"""PyTorch Geometric's ``AttentionExplainer`` with :math:`|\alpha|` in place of :math:`\alpha`.

    ``AttentionExplainer`` reduces weights over heads and layers, by default to the largest. With signed weights, as in
    differential attention, a strongly subtracted edge would count less than an ignored one, and heads of opposite signs
    would cancel in a mean. For unsigned attention both explainers agree.

    Args:
        reduce: "max" or "mean" over heads and layers.
    """

    def __init__(self, reduce: Literal["max", "mean"] = "max") -> None:
        super().__init__()
        self.reduce = reduce

    def forward(
        self, model: nn.Module, x: Tensor, edge_index: Tensor, *, target: Tensor, index: Any = None, **kwargs: Any
    ) -> Explanation:
        """The explanation, whose ``edge_mask`` has the shape [edges].

        Raises:
            ValueError: no explainable layer of the model sends messages with attention weights.
        """
        weights: list[Tensor] = []

        def note(module: MessagePassing, inputs: tuple[dict[str, Any]], message: Tensor) -> None:
            weights.append(inputs[0]["alpha"].abs())

        with torch.no_grad(), ExitStack() as hooks:
            for layer in model.modules():
                if isinstance(layer, AttentionConv) and layer.explain is not False:
                    hooks.enter_context(layer.register_message_forward_hook(note))
            model(x, edge_index, **kwargs)
        if not weights:
            raise ValueError("found no attention weights: give a model with attention layers, taggers as Explainable")
        heads = torch.cat(weights, dim=1)
        return Explanation(edge_mask=heads.amax(1) if self.reduce == "max" else heads.mean(1))

    def supports(self) -> bool:
        """Whether the task is on whole graphs and no node mask is requested."""
        return self.explainer_config.node_mask_type is None and self.model_config.task_level == ModelTaskLevel.graph
