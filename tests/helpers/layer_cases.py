"""Every layer that sends messages, with graphs to run it on."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch

from iagraph.nn import (
    AttentionConv,
    DifferentialAttentionConv,
    DifferentialTransformerConv,
    EdgeConv,
    InteractionAttentionConv,
    PairAttentionConv,
)

EDGES = torch.tensor([[0, 1, 2, 4, 3, 3, 0, 2], [1, 1, 1, 0, 0, 3, 3, 3]])  # none at 5 and 6, none arrives at 2 and 4
NODES, SIZE = 7, 5
BIPARTITE = torch.tensor([[0, 1, 2, 4, 3, 3], [1, 1, 1, 0, 0, 2]])  # from five nodes to three


class Case(NamedTuple):
    make: Callable[..., torch.nn.Module]
    edge_dim: int
    text: str


CASES = {
    "differential": Case(
        lambda size=SIZE: DifferentialAttentionConv(size, 6, 3, 11),
        11,
        "DifferentialAttentionConv({}, 6, heads=3, edge_dim=11)",
    ),
    "pair": Case(
        lambda size=SIZE: PairAttentionConv(size, 6, 3, 11), 11, "PairAttentionConv({}, 6, heads=3, edge_dim=11)"
    ),
    "interaction": Case(
        lambda size=SIZE: InteractionAttentionConv(size, 6, 3, 11, bias=True),
        11,
        "InteractionAttentionConv({}, 6, heads=3, edge_dim=11)",
    ),
    "plain": Case(
        lambda size=SIZE: InteractionAttentionConv(size, 6, 3),
        0,
        "InteractionAttentionConv({}, 6, heads=3, edge_dim=None)",
    ),
    "differential transformer": Case(
        lambda size=SIZE: DifferentialTransformerConv(size, 12, 3),
        0,
        "DifferentialTransformerConv({}, 12, heads=3, edge_dim=None)",
    ),
    "differential of both": Case(
        lambda size=SIZE: DifferentialTransformerConv(size, 12, 3, 11),
        11,
        "DifferentialTransformerConv({}, 12, heads=3, edge_dim=11)",
    ),
    "edge": Case(lambda size=SIZE: EdgeConv(size, (11, 13)), 0, "EdgeConv({}, (11, 13))"),
}
ATTENTION = {name: case for name, case in CASES.items() if name != "edge"}

every_layer = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
every_attention = pytest.mark.parametrize("case", ATTENTION.values(), ids=ATTENTION)


def made(case, size=SIZE, seed=1):
    torch.manual_seed(seed)
    return case.make(size).double().eval()


def features(case, edges=EDGES, seed=2):
    """Edge features as a tuple of arguments, empty for a layer without edge features."""
    random = torch.Generator().manual_seed(seed)
    shape = (edges.size(1), case.edge_dim)
    return (torch.randn(shape, generator=random, dtype=torch.float64),) if case.edge_dim else ()


def vectors(rows=NODES, size=SIZE, seed=3):
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def width(conv):
    return conv.out_channels if isinstance(conv, AttentionConv) else conv.channels[-1]
