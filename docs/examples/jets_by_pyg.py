"""A custom training loop on jets with only PyTorch Geometric around the model: ``Data`` and ``DataLoader``."""

import torch
from torch.nn.functional import cross_entropy
from torch_geometric.loader import DataLoader

from iagraph.data import JetDataset, read_store, resolve
from iagraph.metrics import roc_auc
from iagraph.models import IAFormer


def graphs(split, number):
    """Jets of the sample as ``Data``: pt, rapidity, phi, mass, pid of each particle, and the class."""
    return JetDataset(read_store(resolve("sample:qg"), split))[:number].to_data_list()


def main(jets=2000, epochs=3, seed=1):
    """Train and test on jets; print and return the AUC of the model and of the number of particles."""
    torch.manual_seed(seed)
    train, test = graphs("train", jets), graphs("test", 1000)
    model = IAFormer("kinpid", width=16, blocks=2, heads=4, particle_hidden=[64], pair_hidden=[32], pair_width=32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for batch in DataLoader(train, batch_size=64, shuffle=True):
            optimizer.zero_grad()
            cross_entropy(model(batch), batch.y).backward()
            optimizer.step()
    with torch.inference_mode():
        logits = torch.cat([model.eval()(batch) for batch in DataLoader(test, batch_size=64)])
    label = torch.cat([graph.y for graph in test]).numpy()
    few = torch.tensor([-float(graph.num_nodes) for graph in test])
    found = {"IAFormer": (logits[:, 1] - logits[:, 0]), "few particles": few}
    areas = {name: [roc_auc(label, score.numpy(), signal=1).value] for name, score in found.items()}
    print(", ".join(f"{name}: AUC {value:.3f}" for name, (value,) in areas.items()))
    return areas


if __name__ == "__main__":
    main()
