"""A trained model as it is exported: jets in slots, its own weights and layers."""

from __future__ import annotations

from torch import Tensor, nn

from iagraph.jets import PaddedJets


class PaddedTagger(nn.Module):
    """From four-momenta in slots to probabilities and logits.

    Args:
        model: one of :mod:`iagraph.models`; its weights are shared, not copied.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, four_momenta: Tensor, num_particles: Tensor, pid: Tensor | None = None, impact: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Probabilities and logits, each of shape [jets, classes]; inputs as in :class:`~iagraph.jets.PaddedJets`."""
        logits = self.model(PaddedJets(four_momenta, num_particles, pid, impact, compact=True))
        return logits.softmax(1), logits
