"""A trained model as it is exported: jets in slots, its own weights and layers."""

from __future__ import annotations

from torch import Tensor, nn

from iagraph.export.slots import view_of_slots
from iagraph.jets import PaddedJets
from iagraph.views import WHOLE, JetView


class PaddedTagger(nn.Module):
    """From four-momenta in slots to probabilities and logits.

    Args:
        model: one of :mod:`iagraph.models`; its weights are shared, not copied.
        view: what it sees of jets.
    """

    def __init__(self, model: nn.Module, view: JetView = WHOLE) -> None:
        super().__init__()
        self.model, self.view = model, view

    def forward(
        self, four_momenta: Tensor, num_particles: Tensor, pid: Tensor | None = None, impact: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Probabilities and logits, each of shape [jets, classes]; inputs as in :class:`~iagraph.jets.PaddedJets`."""
        seen = view_of_slots(self.view, four_momenta, num_particles, pid, impact)
        logits = self.model(PaddedJets(*seen, compact=True))
        return logits.softmax(1), logits
