"""Which community does a node belong to? The graph alone is uninformative: a node has equally many edges to each of the
four. But edges have noisy features, with different distributions within and between communities.
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from iagraph.nn import DifferentialAttentionConv, DifferentialTransformerConv, InteractionAttentionConv

CLASSES, WIDTH, HEADS, EDGE_DIM = 4, 32, 4, 3
LAYERS = {
    "no edges": None,
    "attention, edge features unused": lambda: InteractionAttentionConv(WIDTH, WIDTH, HEADS),
    "differential, edge features unused": lambda: DifferentialTransformerConv(WIDTH, WIDTH, HEADS),
    "differential from edge features": lambda: DifferentialAttentionConv(WIDTH, WIDTH, HEADS, EDGE_DIM),
    "differential from both": lambda: DifferentialTransformerConv(WIDTH, WIDTH, HEADS, EDGE_DIM),
}


def communities(nodes, degree):
    """Node features, edges, edge features, labels, and the mask of known labels: one in five."""
    y = torch.randint(CLASSES, (nodes,))
    x = torch.randn(nodes, CLASSES) + one_hot(y, CLASSES)
    edge_index = torch.randint(nodes, (2, nodes * degree))
    together = (y[edge_index[0]] == y[edge_index[1]]).float().unsqueeze(1)
    edge_attr = torch.randn(edge_index.size(1), EDGE_DIM) + 1.5 * together
    return x, edge_index, edge_attr, y, torch.rand(nodes) < 0.2


class Net(nn.Module):
    """Two residual layers of attention."""

    def __init__(self, make):
        super().__init__()
        self.embed = nn.Linear(CLASSES, WIDTH)
        self.convs = nn.ModuleList([] if make is None else [make(), make()])
        self.read = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, CLASSES))

    def forward(self, x, edge_index, edge_attr):
        """Logits of the nodes."""
        x = self.embed(x)
        for conv in self.convs:
            x = x + conv(x, edge_index, None if conv.edge_dim is None else edge_attr)
        return self.read(x)


def accuracy(make, seed, epochs):
    """Accuracy on the unknown labels of a graph after training on the known ones."""
    torch.manual_seed(seed)
    *inputs, y, known = communities(1500, 16)
    net = Net(make)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(epochs):
        optimizer.zero_grad()
        cross_entropy(net(*inputs)[known], y[known]).backward()
        optimizer.step()
    return (net.eval()(*inputs).argmax(1) == y)[~known].float().mean().item()


def main(seeds=3, epochs=40):
    """Print and return the accuracies of each layer, one per seed."""
    print(f"accuracy on nodes of unknown label, mean of {seeds} graphs (range); guessing has {1 / CLASSES}")
    found = {name: [accuracy(make, seed, epochs) for seed in range(seeds)] for name, make in LAYERS.items()}
    for name, values in found.items():
        print(f"{name:36} {torch.tensor(values).mean():.3f} ({min(values):.3f} to {max(values):.3f})")
    return found


if __name__ == "__main__":
    main()
