"""IAFormer (arXiv 2505.03258): a transformer whose attention comes from pairs of particles alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch_geometric.nn.aggr import MeanAggregation

from iagraph.graphs import JetBatch
from iagraph.kinematics import NODE_FEATURES, PAIR_FEATURES, SCALING, feature_names
from iagraph.nn import DifferentialAttentionConv, PairEncoder, ParticleEncoder, Standardize
from iagraph.topology import CompleteGraph, EdgeListGraph

PAIRS_IN_CACHE = 4096
"""Pairs that a CPU encodes at once: what stays in cache takes little more than half the time of one large piece."""


class IAFormerBlock(nn.Module):
    r"""Differential attention and a feed-forward network, each with a residual connection.

    .. math::
        x \leftarrow x + \mathrm{LN}(\mathrm{Attention}(\mathrm{LN}(x))), \qquad x \leftarrow x + \mathrm{FFN}(x)

    with FFN = LN, linear to four times the width, GELU, LN, linear back.

    Args:
        width: size of the node vectors.
        heads: number of attention heads.
        pair_width: size of the pair vectors.
        beta: where the weight of the second attention map starts.
        beta_per_head: learn it for each head.
    """

    def __init__(self, width: int, heads: int, pair_width: int, beta: float, beta_per_head: bool = False) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(width)
        self.conv = DifferentialAttentionConv(width, width, heads, pair_width, beta, beta_per_head)
        self.norm_out = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.LayerNorm(4 * width),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor, graph: CompleteGraph | EdgeListGraph, pair_scores: Tensor) -> Tensor:
        """New node vectors, shape [nodes, width]; scores as in :meth:`DifferentialAttentionConv.attend`."""
        x = x + self.norm_out(self.conv.attend(self.norm_in(x), graph, pair_scores))
        return x + self.feed_forward(x)


class IAFormer(nn.Module):
    r"""Jet tagger with differential attention over pairs of particles.

    The pair encoder runs once per unordered pair of real particles and is shared by all blocks; the scores of all
    blocks are linear in its output and come from one matrix product. The read-out is the mean over a jet's particles.

    Differences to the authors' code: nothing is padded and nothing attends to padding; a particle's pair with itself is
    marked instead of zero; the read-out does not depend on the order of particles; rapidity instead of
    pseudorapidity, wrapped angles; scaled inputs; beta is a sigmoid instead of a clipped number. It starts at
    :math:`1 - e^{-1/L}` for L blocks; theirs at that number times the exponential of a random product.

    Args:
        node_features: name of the node feature set, a key of :data:`iagraph.kinematics.NODE_FEATURES`.
        pair_features: name of the pair feature set, a key of :data:`iagraph.kinematics.PAIR_FEATURES`.
        num_classes: number of logits per jet.
        width: size of the node vectors, a multiple of ``heads``.
        blocks: number of blocks L.
        heads: attention heads per block.
        particle_hidden: hidden widths of the particle encoder.
        pair_hidden: hidden widths of the pair encoder.
        pair_width: size of the pair vectors.
        beta_per_head: learn beta for each head instead of each block.

    Raises:
        ValueError: an unknown feature set, no block, or ``width`` is no multiple of ``heads``.
    """

    def __init__(
        self,
        node_features: str = "kin",
        pair_features: str = "invariant",
        num_classes: int = 2,
        width: int = 32,
        blocks: int = 4,
        heads: int = 16,
        particle_hidden: Sequence[int] = (256, 128),
        pair_hidden: Sequence[int] = (256, 128),
        pair_width: int = 64,
        beta_per_head: bool = False,
    ) -> None:
        super().__init__()
        if blocks < 1:
            raise ValueError(f"blocks must be at least 1, not {blocks}")
        self.node_features, self.pair_features = node_features, pair_features
        node_names = feature_names(node_features, NODE_FEATURES)
        pair_names = (*feature_names(pair_features, PAIR_FEATURES), "is_self")
        self.scale_particles = Standardize([SCALING[name] for name in node_names])
        self.scale_pairs = Standardize([SCALING[name] for name in pair_names])
        self.particle_encoder = ParticleEncoder(len(node_names), particle_hidden, width)
        self.pair_encoder = PairEncoder(len(pair_names), pair_hidden, pair_width)
        beta = 1 - math.exp(-1 / blocks)
        self.blocks = nn.ModuleList(IAFormerBlock(width, heads, pair_width, beta, beta_per_head) for _ in range(blocks))
        self.readout = MeanAggregation()
        self.head = nn.Linear(width, num_classes)

    def forward(self, jets: JetBatch, edge_index: Tensor | None = None) -> Tensor:
        """Logits of jets.

        Args:
            jets: the jets. One without particles gets the bias of the last layer.
            edge_index: which particles see which, rows (source, target), if not all of a jet; shape [2, edges].

        Returns:
            Shape [jets, num_classes].

        Raises:
            ValueError: an edge joins two jets.
        """
        if edge_index is not None and bool((jets.batch[edge_index[0]] != jets.batch[edge_index[1]]).any()):
            raise ValueError("edge_index joins particles of different jets: remove these edges")
        x = self.particle_encoder(self.scale_particles(jets.node_features(self.node_features)))
        graph: CompleteGraph | EdgeListGraph
        graph = CompleteGraph.from_ptr(jets.ptr) if edge_index is None else EdgeListGraph(edge_index, x.size(0))
        for block, scores in zip(self.blocks, self.pair_scores(jets, graph), strict=True):
            x = block(x, graph, scores)
        # Sixteen bits would round the scores of many jets to the same number.
        with torch.autocast(x.device.type, enabled=False):
            return self.head(self.readout(x.to(self.head.weight.dtype), jets.batch, dim_size=len(jets)))

    def convs(self) -> list[DifferentialAttentionConv]:
        """The attention layers, first block first."""
        return [module for module in self.modules() if isinstance(module, DifferentialAttentionConv)]

    def pair_scores(self, jets: JetBatch, graph: CompleteGraph | EdgeListGraph) -> tuple[Tensor, ...]:
        """For each block, the scores of the pairs of ``graph``, shape [2 * heads, pairs]."""
        features = jets.edge_features(self.pair_features, graph.first, graph.second).t()
        linears = [conv.lin_score for conv in self.convs()]
        weight = torch.cat([linear.weight for linear in linears])
        at_once = PAIRS_IN_CACHE if features.device.type == "cpu" else max(features.size(0), 1)
        pieces = [weight @ self.pair_encoder(self.scale_pairs(f)).t() for f in features.split(at_once)]
        return torch.cat(pieces, dim=1).split([linear.out_features for linear in linears])
