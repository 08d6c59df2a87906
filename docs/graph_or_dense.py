"""Measure when an edge list beats dense attention: the tables of docs/graph_or_dense.md.

python docs/graph_or_dense.py
"""

import argparse
import time
from collections.abc import Callable
from statistics import median, stdev

import torch
from torch import Tensor

from iagraph.cli.arguments import positive
from iagraph.data import JetDataset, read_store, resolve
from iagraph.graph import fully_connected
from iagraph.models import IAFormer
from iagraph.nn import DifferentialAttentionConv

FRACTIONS = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05)
GRAPHS = ((50, 50), (50, 8), (200, 200), (200, 50), (200, 8), (1000, 1000), (1000, 100), (1000, 8))
CHANNELS, HEADS, EDGE_DIM = 32, 8, 4

Row = dict[str, str]


def jets_with_fewer_pairs(repeats: int, jets: int) -> list[Row]:
    """IAFormer of the first recipe on dense blocks, and on edge lists with a random fraction of the pairs."""
    torch.manual_seed(1)
    batch = JetDataset(read_store(resolve("sample:qg"), "test"))[:jets]
    model = IAFormer("kinpid", blocks=3, heads=8, particle_hidden=(128, 64), pair_hidden=(64,))
    edges = fully_connected(batch.ptr)
    source, target = edges.sort(dim=0).values
    uniform = torch.rand(int(batch.ptr[-1]), int(batch.ptr[-1]))[source, target]  # one for both directions of a pair
    lists = {f"list, {kept:g} of the pairs": edges[:, (uniform < kept) | (source == target)] for kept in FRACTIONS}

    def step(edge_index: Tensor | None, train: bool) -> Callable[[], None]:
        def run() -> None:
            with torch.set_grad_enabled(train):
                logits = model.train(train)(batch, edge_index)
            if train:
                torch.nn.functional.cross_entropy(logits, batch.y).backward()

        return run

    forms = {"dense blocks, all pairs": None, **lists}
    forward = cpu_times([step(edge_index, False) for edge_index in forms.values()], repeats, 1e3 / jets)
    both = cpu_times([step(edge_index, True) for edge_index in forms.values()], repeats, 1e3 / jets)
    return [{"": name, "inference, ms/jet": forward[i], "training, ms/jet": both[i]} for i, name in enumerate(forms)]


def graphs_of_any_kind(repeats: int) -> list[Row]:
    """One layer on a random graph, as message passing and as masked dense attention with the same weights."""
    rows = []
    for nodes, degree in GRAPHS:
        torch.manual_seed(1)
        conv = DifferentialAttentionConv(CHANNELS, CHANNELS, HEADS, EDGE_DIM)
        source = torch.stack([torch.randperm(nodes)[:degree].sort().values for _ in range(nodes)]).flatten()
        edge_index = torch.stack([source, torch.arange(nodes).repeat_interleave(degree)])
        x, edge_attr = torch.randn(nodes, CHANNELS), torch.randn(nodes * degree, EDGE_DIM)
        features = torch.zeros(nodes, nodes, EDGE_DIM)
        features[edge_index[1], edge_index[0]] = edge_attr
        absent = torch.ones(nodes, nodes, dtype=torch.bool)
        absent[edge_index[1], edge_index[0]] = False
        torch.testing.assert_close(dense(conv, x, features, absent), conv(x, edge_index, edge_attr))
        forms: list[Callable[[], Tensor]] = [
            lambda conv=conv, x=x, e=edge_index, a=edge_attr: conv(x, e, a),
            lambda conv=conv, x=x, f=features, m=absent: dense(conv, x, f, m),
        ]
        steps = [lambda form=form: form().square().sum().backward() for form in forms]
        as_list, as_dense = cpu_times(steps, repeats, 1e3)
        rows.append({"nodes": f"{nodes}", "edges per node": f"{degree}", "list, ms": as_list, "dense, ms": as_dense})
    return rows


def dense(conv: DifferentialAttentionConv, x: Tensor, features: Tensor, absent: Tensor) -> Tensor:
    """The layer as dense attention between all nodes, with non-edges masked."""
    scores = conv.feature_scores(features).masked_fill(absent.unsqueeze(-1), -torch.inf)
    alpha = conv.weights(scores.softmax(dim=1).permute(2, 0, 1))
    value = conv.lin_value(x).unflatten(1, (HEADS, -1))
    return conv.lin_out(torch.einsum("hij,jhc->ihc", alpha, value).flatten(1))


def cpu_times(steps: list[Callable[[], None]], repeats: int, factor: float) -> list[str]:
    """Median CPU time of each step and standard deviation of its runs; steps in turn, after one run for warming up."""
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(repeats + 1):
        for step, own in zip(steps, times, strict=True):
            start = time.process_time()
            step()
            own.append(factor * (time.process_time() - start))
    return [f"{median(own[1:]):.2f} +- {stdev(own[1:]):.2f}" for own in times]


def markdown(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measure on one thread, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=positive, default=7, help="timed runs of each step, at least 2 (default: 7)")
    parser.add_argument("--jets", type=positive, default=64, help="jets in the batch (default: 64)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(markdown(jets_with_fewer_pairs(arguments.repeats, arguments.jets)), end="\n\n")
    print(markdown(graphs_of_any_kind(arguments.repeats)))


if __name__ == "__main__":
    main()
