"""ParT and ParticleNet from weaver-core (https://github.com/hqucms/weaver-core), the implementations of their authors,
with our weights, for comparison. weaver-core must be installed.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.rivals import padded
from iagraph.jets import JetBatch
from iagraph.kinematics import NODE_FEATURES, to_cartesian
from iagraph.models import ParticleNet, ParticleTransformer
from iagraph.models.weaver import to_weaver


class WeaverParticleTransformer(nn.Module):
    """weaver's ParT with the arguments of networks/example_ParticleTransformer.py of jet-universe/particle_transformer,
    in a wrapper with the same signature as in that file.

    Args:
        inputs: number of node features.
        classes: number of logits.
        changes: arguments of weaver's class that replace or extend these.
    """

    exact_pairs = False
    """Pass four-vectors in their own precision instead of that of the features."""

    def __init__(self, inputs: int, classes: int, **changes: Any) -> None:
        super().__init__()
        arguments: dict[str, Any] = {
            "pair_input_dim": 4,
            "use_pre_activation_pair": False,
            "embed_dims": [128, 512, 128],
            "pair_embed_dims": [64, 64, 64],
            "num_heads": 8,
            "num_layers": 8,
            "num_cls_layers": 2,
            "block_params": None,
            "cls_block_params": {"dropout": 0, "attn_dropout": 0, "activation_dropout": 0},
            "fc_params": [],
            "activation": "gelu",
            "trim": True,
            "for_inference": False,
        }
        self.mod = _weaver("ParticleTransformer")(input_dim=inputs, num_classes=classes, **arguments | changes)

    def forward(self, points: Tensor, features: Tensor, vectors: Tensor, mask: Tensor) -> Tensor:
        """Logits, shape [jets, num_classes], from the results of :func:`weaver_inputs`."""
        return self.mod(features, v=vectors if self.exact_pairs else vectors.to(features), mask=mask)


class WeaverParticleNet(nn.Module):
    """weaver's ParticleNet with the arguments of networks/example_ParticleNet.py, in a wrapper with its signature.

    Args:
        inputs: number of node features.
        classes: number of logits.
        changes: arguments of weaver's class that replace or extend these.
    """

    def __init__(self, inputs: int, classes: int, **changes: Any) -> None:
        super().__init__()
        arguments: dict[str, Any] = {
            "conv_params": [(16, (64, 64, 64)), (16, (128, 128, 128)), (16, (256, 256, 256))],
            "fc_params": [(256, 0.1)],
            "use_fusion": False,
            "use_fts_bn": True,
            "use_counts": True,
            "for_inference": False,
        }
        self.mod = _weaver("ParticleNet")(input_dims=inputs, num_classes=classes, **arguments | changes)

    def forward(self, points: Tensor, features: Tensor, vectors: Tensor, mask: Tensor) -> Tensor:
        """Logits, shape [jets, num_classes], from the results of :func:`weaver_inputs`."""
        return self.mod(points, features, mask)


WeaverNetwork = WeaverParticleTransformer | WeaverParticleNet


def with_weights(network: WeaverNetwork, model: ParticleTransformer | ParticleNet) -> WeaverNetwork:
    """A weaver network with our weights that trims its inputs from the first batch on; weaver starts with the sixth."""
    network.mod.load_state_dict(to_weaver(model))
    trimmer = network.mod.trimmer
    trimmer._counter.fill_(trimmer.warmup_steps)
    return network


def weaver_inputs(
    model: ParticleTransformer | ParticleNet, jets: JetBatch, slots: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs of weaver's networks, as from its loader.

    Returns:
        Positions relative to the jet, scaled node features, four-vectors, and a mask of real particles; each of shape
        [jets, variables, slots], zero in padding.

    Raises:
        ValueError: a jet has more particles than slots.
    """
    features, names = jets.node_features(model.node_features), NODE_FEATURES[model.node_features]
    points = features[:, [names.index("delta_eta"), names.index("delta_phi")]]
    vectors = torch.stack(to_cartesian(jets.momenta), dim=1)
    columns = (points, model.scale_particles(features), vectors, torch.ones_like(features[:, :1]))
    tables = (padded(values, jets, slots)[0].transpose(1, 2).contiguous() for values in columns)
    points, features, vectors, mask = tables
    return points, features, vectors, mask


def _weaver(name: str) -> Any:
    """A network class of weaver, in the module of the same name."""
    try:
        return getattr(importlib.import_module(f"weaver.nn.model.{name}"), name)
    except ImportError as error:
        raise ImportError(f"comparing with weaver-core needs {error.name}: pip install 'iagraph[test]'") from error
