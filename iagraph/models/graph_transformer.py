"""The network of IAFormer on any graph, with the arguments of PyTorch Geometric's models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.typing import Adj

from iagraph.graph import SparseGraph
from iagraph.models.attention_network import AttentionNetwork
from iagraph.models.iaformer import initial_beta
from iagraph.nn import AttentionConv, DifferentialAttentionConv, InteractionAttentionConv, PairEncoder, PruningRule
from iagraph.nn.adjacency import check_batch, edges_of


class GraphTransformer(AttentionNetwork):
    r"""Node encoder, blocks of differential attention, and a linear map to the result for each graph or node.

    .. math::
        \alpha_{ij} = \operatorname{softmax}_j(W_1 \mathbf{e}_{ij})
                      - \beta \operatorname{softmax}_j(W_2 \mathbf{e}_{ij})

    where :math:`\mathbf{e}_{ij}` are the edge's features after an encoder shared by all blocks (arXiv 2505.03258).
    Without edge features, attention comes from queries and keys (:class:`~iagraph.nn.InteractionAttentionConv`). With
    edge features, this is the network of :class:`~iagraph.models.IAFormer` and accepts its weights, except for the
    constants that scale features: given the scaled features of jets, it returns the same logits.

    No edge is added: include self-loops in ``edge_index`` if a node should see itself.

    Args:
        in_channels: number of node features.
        hidden_channels: size of the node vectors, a multiple of ``heads``.
        num_layers: number of blocks.
        out_channels: size of the result.
        heads: attention heads per block.
        edge_dim: number of edge features; None if there are none.
        pruning: which edges a block keeps for itself and the following ones (:mod:`iagraph.nn.pruning`); None keeps
            all.
        node_hidden: hidden widths of the node encoder.
        edge_hidden: hidden widths of the edge encoder.
        edge_width: size of the encoded edges.
        per_node: return a result for each node instead of each graph.

    Shapes:
        - input: node features :math:`(|\mathcal{V}|, F_{in})`, edge indices :math:`(2, |\mathcal{E}|)` or a sparse
          adjacency, edge features :math:`(|\mathcal{E}|, D)`, the graph of each node :math:`(|\mathcal{V}|)`
        - output: :math:`(\text{graphs}, F_{out})`, or :math:`(|\mathcal{V}|, F_{out})` if ``per_node``

    Raises:
        ValueError: there is no block or node feature, or ``hidden_channels`` is not a multiple of ``heads``.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_layers: int,
        out_channels: int,
        heads: int = 8,
        edge_dim: int | None = None,
        pruning: PruningRule | None = None,
        node_hidden: Sequence[int] = (),
        edge_hidden: Sequence[int] = (64,),
        edge_width: int = 64,
        per_node: bool = False,
    ) -> None:
        if in_channels < 1:
            raise ValueError(f"in_channels is {in_channels}: give the number of node features")
        options: dict[str, Any] = {"edge_width": None if edge_dim is None else edge_width, "pruning": pruning}
        super().__init__(in_channels, out_channels, hidden_channels, num_layers, heads, node_hidden, **options)
        self.in_channels, self.edge_dim, self.per_node = in_channels, edge_dim, per_node
        if edge_dim is not None:
            self.pair_encoder = PairEncoder(edge_dim, edge_hidden, edge_width)

    def init_conv(  # type: ignore[override]
        self, width: int, heads: int, blocks: int, edge_width: int | None, pruning: PruningRule | None
    ) -> AttentionConv:
        """Differential attention, or plain attention without edge features."""
        if edge_width is None:
            return InteractionAttentionConv(width, width, heads, pruning=pruning)
        return DifferentialAttentionConv(width, width, heads, edge_width, initial_beta(blocks), pruning=pruning)

    def forward(
        self,
        x: Tensor,
        edge_index: Adj,
        edge_attr: Tensor | None = None,
        batch: Tensor | None = None,
        batch_size: int | None = None,
        return_attention_weights: bool = False,
    ) -> Tensor | tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
        """Runs the network.

        Args:
            x: node features, shape [nodes, in_channels].
            edge_index: edges, rows (source, target), as a tensor or an ``EdgeIndex``; or a sparse adjacency.
            edge_attr: edge features, shape [edges, edge_dim]; None takes the values of a sparse adjacency.
            batch: the graph of each node; None for a single graph.
            batch_size: number of graphs; None takes it from ``batch``.
            return_attention_weights: return ``(out, weights)``, with ``(edge_index, alpha, edge_ids)`` for each block:
                the kept edges, their weights, shape [edges, heads], and their indices among the given edges.

        Raises:
            ValueError: ``edge_index`` is not a graph of these nodes, features are missing or have wrong sizes, or
                ``batch`` does not fit the nodes or ``batch_size``.
        """
        edges = edges_of(edge_index, x.size(0), None)
        edge_attr = edges.values if edge_attr is None and self.edge_dim is not None else edge_attr
        if self.edge_dim is None and edge_attr is not None:
            raise ValueError("edge_attr is given, but this network was made without edge_dim")
        if edge_attr is not None and edge_attr.ndim == 1:
            edge_attr = edge_attr.unsqueeze(1)
        _check("x", x, x.size(0), self.in_channels, "nodes")
        if self.edge_dim is not None:
            if edge_attr is None:
                raise ValueError(f"edge_attr is missing: this network takes [edges, {self.edge_dim}]")
            _check("edge_attr", edge_attr, edges.edge_index.size(1), self.edge_dim, "edges")
        check_batch(batch, x.size(0))
        if batch is None:
            batch_size = 1
        elif batch_size is None:
            batch_size = int(batch.max()) + 1 if batch.numel() else 0
        elif batch.device.type == "cpu" and not torch.compiler.is_compiling() and bool((batch >= batch_size).any()):
            raise ValueError(f"batch has the graph {int(batch.max())}, but batch_size is {batch_size}")
        graph = SparseGraph.scored_per_edge(edges.edge_index, x.size(0), batch, num_graphs=batch_size)
        x, weights = self.particle_encoder(x), []
        for output in self.run_blocks(x, graph, edge_attr if self.edge_dim is not None else None):
            x = output.x
            if return_attention_weights:
                weights.append(output.edge_weights())
        out = self.head(x) if self.per_node else self.read_out(x, graph)
        return (out, weights) if return_attention_weights else out

    def reset_parameters(self) -> None:
        """Draws new weights."""
        for module in self.modules():
            reset: Any = None if module is self else getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()


def _check(name: str, values: Tensor, rows: int, columns: int, of_what: str) -> None:
    if values.shape != (rows, columns):
        found = list(values.shape)
        raise ValueError(f"{name} has shape {found}: this network takes [{of_what}, {columns}], {rows} rows")
