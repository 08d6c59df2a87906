"""Particle Transformer, ParT (arXiv 2202.03772): attention biased by pairs; a class token reads out the jet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from iagraph.graph import Graph
from iagraph.graph.protocol import Scores
from iagraph.jets import JetBatch, JetInput, jets_and_edges
from iagraph.kernels.dropout import Dropout
from iagraph.kinematics import NODE_FEATURES, PAIR_FEATURES, WEAVER_SCALING, feature_names
from iagraph.memory import cut_for_cache
from iagraph.nn import BatchNorm, InteractionAttentionConv, Standardize
from iagraph.nn.encoders import through
from iagraph.nn.pair_biases import PairBiases

NODES_AT_ONCE = 512
"""Number of nodes whose wide hidden vectors a CPU computes at once: 1 MB in layers of 512, which stays in cache."""


class ParticleTransformerBlock(nn.Module):
    r"""Particle attention block (Fig. 3b), with the scales of NormFormer (arXiv 2110.09456).

    .. math::
        x \leftarrow x + \mathrm{LN}(\gamma \odot \mathrm{Attention}(\mathrm{LN}(x), U)), \qquad
        x \leftarrow \lambda \odot x + \mathrm{FFN}(x)

    with a scale :math:`\gamma` per head, a scale :math:`\lambda` per channel, and FFN = LN, linear to four times the
    width, GELU, LN, linear back; dropout on the attention weights, within FFN and before each sum.

    Args:
        width: size of the node vectors, a multiple of ``heads``.
        heads: number of attention heads.
        dropout: probability with which entries are dropped in training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(width)
        self.conv = InteractionAttentionConv(width, width, heads, bias=True, dropout=dropout)
        self.head_scale = nn.Parameter(torch.ones(heads))
        self.norm_out = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            Dropout(dropout),
            nn.LayerNorm(4 * width),
            nn.Linear(4 * width, width),
        )
        self.residual_scale = nn.Parameter(torch.ones(width))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, graph: Graph, scores: Scores | None) -> Tensor:
        """New node vectors, shape [nodes, width]; arguments as in :meth:`InteractionAttentionConv.attend`."""
        return self.add(x, self.conv.attend(self.norm_in(x), graph, scores).x)

    @torch.no_grad()
    def shrink(self, factor: float) -> None:
        """Divides the last linear map of the attention and of the feed-forward network by a factor."""
        self.conv.lin_out.weight /= factor
        cast(nn.Linear, self.feed_forward[-1]).weight /= factor

    def add(self, x: Tensor, attended: Tensor) -> Tensor:
        """Adds the result of the attention to ``x``, then the result of the feed-forward network."""
        scale = self.head_scale.repeat_interleave(x.size(1) // self.head_scale.numel())
        x = x + self.dropout(self.norm_out(scale * attended))
        return self.residual_scale * x + self.dropout(_in_parts(self.feed_forward, x))


class ClassAttentionBlock(ParticleTransformerBlock):
    """Class attention block (Fig. 3c): the token of a jet attends to all its particles and to itself.

    Args:
        width: size of the vectors, a multiple of ``heads``.
        heads: number of attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads, dropout=0.0)

    def forward(self, token: Tensor, x: Tensor, graph: Graph) -> Tensor:  # type: ignore[override]
        """New tokens.

        Args:
            token: shape [jets, width].
            x: node vectors, shape [nodes, width].
            graph: the graph with tokens (:meth:`~iagraph.graph.Graph.with_tokens`).

        Returns:
            Shape [jets, width].
        """
        sources = self.norm_in(torch.cat([token, x]))
        return self.add(token, self.conv.attend((sources, token), graph).x)


class ParticleTransformer(nn.Module):
    r"""Jet tagger with particle attention and class attention, from
    `"Particle Transformer for Jet Tagging" <https://arxiv.org/abs/2202.03772>`_ (ParT).

    An encoder with batch-normed inputs turns particles into vectors; another one turns pairs into biases
    :math:`U_{ij}`, one number per head, shared by all blocks. The class token, initially the same for all jets, attends
    to the particles in ``class_blocks``, followed by a final LN and a linear map to the logits.

    With the same weights the logits in evaluation mode equal those of ParticleTransformer in weaver-core, the authors'
    implementation, with the arguments of its published networks; weights are exchanged by
    :func:`~iagraph.models.load_weaver` and :func:`~iagraph.models.save_weaver`. The two differ as follows:

    - weaver's pair masses are :math:`E^2 - |\vec p|^2`, which in float32 is pure rounding error for collinear particles
      and for self-pairs; that shifts its logits by about 1e-2. Here nothing cancels, and the masses equal weaver's in
      float64 (whose rounding errors exceed the floor of 1e-8 GeV^2 only at several TeV). The published weights were
      trained with the rounded masses.
    - In training, weaver's batch norm of the inputs counts padded slots, and its batches are cut at a random length;
      here all particles count, and nothing else.

    Args:
        node_features: name of the node feature set, a key of :data:`iagraph.kinematics.NODE_FEATURES`.
        pair_features: name of the pair feature set, a key of :data:`iagraph.kinematics.PAIR_FEATURES`; None leaves out
            the pair encoder, so that attention comes from queries and keys alone.
        num_classes: number of logits per jet.
        width: size of the vectors, a multiple of ``heads``.
        blocks: number of particle attention blocks.
        class_blocks: number of class attention blocks.
        heads: attention heads per block.
        particle_hidden: hidden widths of the particle encoder.
        pair_hidden: hidden widths of the pair encoder.
        dropout: probability with which the particle attention blocks drop entries in training.

    Raises:
        ValueError: an unknown feature set, no block of either kind, or ``width`` is not a multiple of ``heads``.
    """

    def __init__(
        self,
        node_features: str = "kin",
        pair_features: str | None = "part",
        num_classes: int = 2,
        width: int = 128,
        blocks: int = 8,
        class_blocks: int = 2,
        heads: int = 8,
        particle_hidden: Sequence[int] = (128, 512),
        pair_hidden: Sequence[int] = (64, 64, 64),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if min(width, blocks, class_blocks) < 1:
            raise ValueError(f"width and blocks of each kind must be at least 1, not {width}, {blocks}, {class_blocks}")
        self.node_features, self.pair_features = node_features, pair_features
        names = feature_names(node_features, NODE_FEATURES)
        self.scale_particles = Standardize([WEAVER_SCALING[name] for name in names])
        self.particle_norm = BatchNorm(len(names))
        self.particle_encoder = _particle_encoder([len(names), *particle_hidden, width])
        self.pair_encoder = None
        if pair_features is not None:
            self.pair_encoder = PairBiases([len(feature_names(pair_features, PAIR_FEATURES)), *pair_hidden, heads])
        self.blocks = nn.ModuleList(ParticleTransformerBlock(width, heads, dropout) for _ in range(blocks))
        self.class_blocks = nn.ModuleList(ClassAttentionBlock(width, heads) for _ in range(class_blocks))
        self.class_token = nn.Parameter(torch.empty(width))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)
        self._initialise()

    def forward(self, jets: JetInput, edge_index: Tensor | None = None) -> Tensor:
        """Logits of jets.

        Args:
            jets: the jets, as a batch or as graphs of PyTorch Geometric. In a jet without particles the class token
                attends only to itself.
            edge_index: edges within jets, rows (source, target), shape [2, edges]; None for those of the graphs, if
                any, or else all edges.

        Returns:
            Shape [jets, num_classes].

        Raises:
            ValueError: an edge joins two jets, or the graphs are not jets.
        """
        jets, edge_index = jets_and_edges(jets, edge_index)
        watched = any(conv.watched() for conv in self.convs())
        graph = jets.prunable_graph(edge_index) if watched else jets.graph(edge_index)
        # Computed in the precision of the weights, not of the jets.
        features = self.scale_particles(jets.node_features(self.node_features)).to(self.norm.weight.dtype)
        x = _in_parts(self.particle_encoder, through([self.particle_norm], features, jets.counted))
        bias = self.pair_bias(jets, graph, x.dtype)
        for block in self.blocks:
            x = block(x, graph, bias)
        return self.read_out(x, graph)

    def read_out(self, x: Tensor, graph: Graph) -> Tensor:
        """Logits of jets, shape [jets, num_classes], from vectors of their particles, shape [particles, width]."""
        token = self.class_token.expand(graph.num_graphs, -1)
        graph = graph.with_tokens()
        for block in self.class_blocks:
            token = block(token, x, graph)
        # 16 bits would round the scores of many jets to the same number.
        with torch.autocast(x.device.type, enabled=False):
            return self.head(self.norm(token.to(self.norm.weight.dtype)))

    def pair_bias(self, jets: JetBatch, graph: Graph, dtype: torch.dtype) -> Scores | None:
        """Biases of the pairs of a graph, in the form that the blocks expect."""
        if self.pair_encoder is None:
            return None
        assert self.pair_features is not None
        *pairs, _ = jets.edge_features(self.pair_features, graph.first, graph.second)  # without the flag of self-pairs
        biases = self.pair_encoder(torch.stack(pairs, dim=1).to(dtype), graph.counted_pairs)
        return graph.scores(biases.split(list(graph.pair_counts), dim=1))

    def convs(self) -> list[InteractionAttentionConv]:
        """The attention layers among particles, first block first."""
        return [module for module in self.blocks.modules() if isinstance(module, InteractionAttentionConv)]

    def _initialise(self) -> None:
        """Sets the authors' initial weights: deeper blocks add less at first, the pair encoder keeps PyTorch's own."""
        nn.init.trunc_normal_(self.class_token, std=0.02)
        for part in (self.particle_encoder, self.blocks, self.class_blocks, self.head):
            for module in part.modules():
                if isinstance(module, nn.Linear):
                    nn.init.xavier_uniform_(module.weight)
                    nn.init.zeros_(module.bias)
        for depth, block in enumerate(self.blocks, start=1):
            cast(ParticleTransformerBlock, block).shrink(math.sqrt(2 * depth))


def _particle_encoder(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.LayerNorm(width_in), nn.Linear(width_in, width_out), nn.GELU()]
    return nn.Sequential(*layers)


def _in_parts(module: nn.Module, x: Tensor) -> Tensor:
    """Passes node vectors through a module that acts on each; on a CPU in parts, in half the time and memory."""
    return torch.cat([module(part) for part in x.split(NODES_AT_ONCE)]) if cut_for_cache(x) else module(x)
