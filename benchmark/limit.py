"""Upper limit of the speed of IAFormer: its matrix products at the rate of a single large one."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from iagraph.jets import JetBatch
from iagraph.models import IAFormer


def multiply_adds(model: IAFormer, jets: JetBatch) -> tuple[int, int]:
    """Unavoidable multiply-adds of a training step and of inference.

    Encoder and scores of each unordered pair of particles of a jet, a particle with itself included; the linear maps of
    each particle; a value per channel, block and directed edge; the last map. The backward pass makes as many for the
    gradients of the weights, and as many for those of the inputs, but not of the features, which are unused.

    Args:
        model: whose sizes count.
        jets: whose particles count.
    """
    counts = jets.ptr.diff()
    particles, edges, pairs = int(counts.sum()), int((counts**2).sum()), int((counts * (counts + 1) // 2).sum())
    score_maps = [conv.lin_score for conv in model.convs() if conv.lin_score is not None]
    per_pair = _weights([model.pair_encoder, *score_maps])
    per_particle = _weights([model.particle_encoder, model.blocks]) - _weights(score_maps)
    inference = pairs * per_pair + particles * per_particle + len(jets) * _weights([model.head])
    inference += edges * sum(conv.out_channels for conv in model.convs())
    features = pairs * _first_map(model.pair_encoder) + particles * _first_map(model.particle_encoder)
    return 3 * inference - features, inference


def _weights(modules: Sequence[nn.Module]) -> int:
    """Multiply-adds of the linear maps in modules, for one vector each."""
    return sum(linear.weight.numel() for module in modules for linear in _linears(module))


def _first_map(encoder: nn.Module) -> int:
    return _linears(encoder)[0].weight.numel()


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [part for part in module.modules() if isinstance(part, nn.Linear)]
