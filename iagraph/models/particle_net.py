"""ParticleNet (arXiv 1902.08570): edge convolutions over the nearest neighbours of each particle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from iagraph.jets import JetInput, jets_and_edges
from iagraph.kinematics import NODE_FEATURES, WEAVER_SCALING, feature_names
from iagraph.nn import BatchNorm, EdgeConv, Standardize
from iagraph.nn.encoders import through


class ParticleNet(nn.Module):
    r"""Jet tagger made of dynamic edge convolutions, from
    `"ParticleNet: Jet Tagging via Particle Clouds" <https://arxiv.org/abs/1902.08570>`_.

    Batch norm of the features, then blocks of :class:`~iagraph.nn.EdgeConv` over the k nearest neighbours, which are
    recomputed in each block: first in :math:`(\Delta\eta, \Delta\phi)`, then among the node vectors. Then the mean
    over a jet's particles, a hidden layer with ReLU and dropout, and a linear map to the logits.

    With the same weights the logits in evaluation mode equal those of ParticleNet in weaver-core, the authors'
    implementation, with the arguments of its published networks; weights are exchanged by
    :func:`~iagraph.models.load_weaver` and :func:`~iagraph.models.save_weaver`. The two differ as follows:

    - In training, weaver's batch norms count padded slots; here only particles and their edges count.
    - In a jet of fewer than k + 1 particles, neighbours are missing. weaver then takes padded slots, whose vectors are
      zero, and fails if the batch has no more than k slots; here a missing neighbour is a node of zeros in any batch.
    - A particle is never its own neighbour. weaver drops the nearest one as the particle itself, although it may be
      another one at the same place.

    Ties between equally distant neighbours, as on a grid, are broken arbitrarily, so that logits can then depend on the
    order of the particles, here and in weaver alike.

    Args:
        node_features: name of the node feature set, a key of :data:`iagraph.kinematics.NODE_FEATURES`.
        num_classes: number of logits per jet.
        channels: for each block, the sizes of its edge convolution.
        neighbors: number of neighbours, k.
        head_hidden: size of the hidden layer.
        dropout: probability with which entries of the hidden layer are dropped in training.

    Raises:
        ValueError: an unknown feature set, no block, a block without channels, or ``neighbors`` below 1.
    """

    def __init__(
        self,
        node_features: str = "kin",
        num_classes: int = 2,
        channels: Sequence[Sequence[int]] = ((64, 64, 64), (128, 128, 128), (256, 256, 256)),
        neighbors: int = 16,
        head_hidden: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if not channels or not all(channels) or neighbors < 1:
            raise ValueError(f"there must be a block with channels and a neighbour, not {channels} and {neighbors}")
        self.node_features, self.neighbors = node_features, neighbors
        names = feature_names(node_features, NODE_FEATURES)
        rapidity = "delta_eta" if "delta_eta" in names else "delta_rapidity"
        self.position = [names.index(rapidity), names.index("delta_phi")]
        self.scale_particles = Standardize([WEAVER_SCALING[name] for name in names])
        self.particle_norm = BatchNorm(len(names))
        widths = [len(names), *(sizes[-1] for sizes in channels)]
        self.convs = nn.ModuleList(
            EdgeConv(width, sizes) for (width, _), sizes in zip(pairwise(widths), channels, strict=True)
        )
        self.head = nn.Sequential(
            nn.Linear(widths[-1], head_hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(head_hidden, num_classes)
        )

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights, in which the network computes, whatever the precision of the jets."""
        return self.particle_norm.weight.dtype

    def forward(self, jets: JetInput) -> Tensor:
        """Logits of jets, shape [jets, num_classes]. A jet without particles gets the head's output for zeros.

        Args:
            jets: the jets, as a batch or as graphs of PyTorch Geometric, whose edges are ignored.

        Raises:
            ValueError: the graphs are not jets.
        """
        jets, _ = jets_and_edges(jets, None)
        features = jets.node_features(self.node_features)
        graph = jets.graph()
        x = through([self.particle_norm], self.scale_particles(features).to(self.dtype), jets.counted)
        points = torch.stack([features[:, column] for column in self.position], dim=1)
        for conv in cast(Iterable[EdgeConv], self.convs):
            points = x = conv.convolve(x, graph.nearest(points, self.neighbors), jets.counted)
        # 16 bits would round the scores of many jets to the same number.
        with torch.autocast(x.device.type, enabled=False):
            return self.head(graph.mean(x.to(self.dtype)))
