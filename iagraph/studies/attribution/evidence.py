"""What a model says for a class, as a function of the scaled features of particles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from iagraph.jets import JetBatch
from iagraph.studies.recording import AttentionModel


def evidence(logits: Tensor, classes: Tensor) -> Tensor:
    r"""The logit of a class of each jet minus the mean of those of all others.

    .. math::
        e_k = \ell_k - \frac{1}{K - 1} \sum_{c \neq k} \ell_c

    Of two classes it is the difference of their logits, the log-odds of the signal. Unlike a log-probability it is
    linear in the logits and does not saturate, so that relevance can add up to it.

    Args:
        logits: shape [jets, classes].
        classes: the class of each jet that is asked for, shape [jets].

    Returns:
        Shape [jets].

    Raises:
        ValueError: there is a single class.
    """
    if logits.size(1) < 2:
        raise ValueError("the evidence for a class is a difference of logits: two classes at least are needed, found 1")
    own = logits.gather(1, classes.unsqueeze(1)).squeeze(1)
    return own - (logits.sum(1) - own) / (logits.size(1) - 1)


@torch.no_grad()
def scaled_features(model: AttentionModel, jets: JetBatch) -> Tensor:
    """The node features of a model as its encoder sees them, scaled and clipped; shape [particles, features]."""
    return model.scale_particles(jets.node_features(model.node_features)).to(model.head.weight.dtype)


@contextmanager
def fed(model: AttentionModel, features: Tensor) -> Iterator[None]:
    """Within it, the model takes these scaled node features instead of those of the jets that it is given.

    What it knows of pairs still comes from the momenta of the jets and is constant. Only
    :class:`~iagraph.models.LearnedPairIAFormer` makes it of the particles' vectors.

    Args:
        model: the model.
        features: shape [particles, features].
    """
    hook = model.scale_particles.register_forward_hook(lambda *_: features)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Within it, no gradients of parameters are computed: encoders of pairs need no backward pass then."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
