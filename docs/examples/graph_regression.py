"""The energy of molecule-like clusters of charged atoms. Atoms closer than a cutoff are bonded; the target is the
screened Coulomb energy of all bonds, per atom. All nets see charges and numbers of bonds, some also bond lengths.
"""

import torch
from torch_geometric.data import Batch, Data
from torch_geometric.nn import MLP, global_mean_pool

from iagraph.models import GraphTransformer
from iagraph.nn import (
    DifferentialAttentionConv,
    DifferentialTransformerConv,
    InteractionAttentionConv,
    PairAttentionConv,
)

CHARGES, CUTOFF, WIDTH, HEADS, EDGE_DIM = torch.tensor([-1.0, 1.0, 2.0]), 2.0, 32, 4, 9
LAYERS = {
    "no bonds": None,
    "attention, lengths unused": lambda: InteractionAttentionConv(WIDTH, WIDTH, HEADS),
    "attention from lengths": lambda: PairAttentionConv(WIDTH, WIDTH, HEADS, EDGE_DIM),
    "differential from lengths": lambda: DifferentialAttentionConv(WIDTH, WIDTH, HEADS, EDGE_DIM),
    "differential from both": lambda: DifferentialTransformerConv(WIDTH, WIDTH, HEADS, EDGE_DIM),
}


def molecule(atoms):
    """A graph with edges in both directions; edge features are Gaussians of the length and a self-loop flag."""
    place, kind = 1.2 * torch.randn(atoms, 3), torch.randint(3, (atoms,))
    distance = torch.cdist(place, place)
    edge_index = source, target = (distance < CUTOFF).nonzero().t()
    length, itself = distance[source, target], source == target
    energy = CHARGES[kind[source]] * CHARGES[kind[target]] * torch.exp(-length) / (length + 0.3)
    radial = torch.exp(-((length.unsqueeze(1) - torch.linspace(0, CUTOFF, EDGE_DIM - 1)) ** 2) / 0.1)
    x = torch.cat([torch.nn.functional.one_hot(kind, 3), torch.bincount(target).unsqueeze(1) / 10], dim=1)
    energy, edge_attr = energy[~itself].sum() / atoms, torch.cat([radial, itself.unsqueeze(1)], dim=1)
    return Data(x=x, edge_index=edge_index, edge_attr=edge_attr, y=energy)


class Net(torch.nn.Module):
    """Two layers of attention, then the energy of each atom and the mean over atoms."""

    def __init__(self, make):
        super().__init__()
        self.embed = torch.nn.Linear(4, WIDTH)
        self.convs = torch.nn.ModuleList([] if make is None else [make(), make()])
        self.read = MLP([WIDTH, 2 * WIDTH, 2 * WIDTH, 1], act="gelu", norm=None)

    def forward(self, data):
        """Energies of the graphs."""
        x = self.embed(data.x)
        for conv in self.convs:
            x = x + conv(x, data.edge_index, None if conv.edge_dim is None else data.edge_attr)
        return global_mean_pool(self.read(x), data.batch).squeeze(1)


class WholeNetwork(GraphTransformer):
    """The network of IAFormer on these graphs."""

    def __init__(self):
        super().__init__(4, WIDTH, num_layers=2, out_channels=1, heads=HEADS, edge_dim=EDGE_DIM)

    def forward(self, data):
        """Energies of the graphs."""
        return super().forward(data.x, data.edge_index, data.edge_attr, data.batch).squeeze(1)


def error(make, seed, epochs):
    """Root mean square error on 500 graphs over the spread of their energies, after training on 1,000 others."""
    torch.manual_seed(seed)
    *train, test = (Batch.from_data_list([molecule(6 + k % 9) for k in range(size)]) for size in [50] * 20 + [500])
    net = WholeNetwork() if make is WholeNetwork else Net(make)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for batch in train * epochs:
        optimizer.zero_grad()
        (net(batch) - batch.y).square().mean().backward()
        optimizer.step()
    return ((net.eval()(test) - test.y).square().mean().sqrt() / test.y.std()).item()


def main(seeds=3, epochs=15):
    """Print and return the errors of each layer, one per seed."""
    print(f"error over spread of the energies, mean of {seeds} seeds (range); guessing the mean has 1")
    networks = LAYERS | {"whole network of IAFormer": WholeNetwork}
    found = {name: [error(make, seed, epochs) for seed in range(seeds)] for name, make in networks.items()}
    for name, values in found.items():
        print(f"{name:26} {torch.tensor(values).mean():.3f} ({min(values):.3f} to {max(values):.3f})")
    return found


if __name__ == "__main__":
    main()
