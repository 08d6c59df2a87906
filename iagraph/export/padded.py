"""A trained model in the form that is exported: it takes padded jets and includes the model's view of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from iagraph.jets import PaddedJets
from iagraph.views import WHOLE, JetView

MASS = 3
"""Index of the mass in ``four_momenta``; pT is the first."""


class PaddedTagger(nn.Module):
    """Maps padded four-momenta to probabilities and logits.

    Args:
        model: one of :mod:`iagraph.models`; its weights are shared, not copied.
        view: the model's view of jets.
    """

    def __init__(self, model: nn.Module, view: JetView = WHOLE) -> None:
        super().__init__()
        self.model, self.view = model, view

    def forward(
        self, four_momenta: Tensor, num_particles: Tensor, pid: Tensor | None = None, impact: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Probabilities and logits, each of shape [jets, classes]; inputs as in :class:`~iagraph.jets.PaddedJets`."""
        seen = padded_view(self.view, four_momenta, num_particles, pid, impact)
        logits = self.model(PaddedJets(*seen, compact=True))
        return logits.softmax(1), logits


def padded_view(
    view: JetView, four_momenta: Tensor, num_particles: Tensor, pid: Tensor | None, impact: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """A view of padded jets, equivalent to :class:`iagraph.views.JetView` on ragged ones.

    With ``max_particles``, the result has that many slots, with the particles of highest pT in descending order;
    particles of equal pT stay in order. Arguments and results are those of :class:`~iagraph.jets.PaddedJets`.

    Args:
        view: the view.
        four_momenta: pT, rapidity, azimuth and mass, shape [jets, slots, 4].
        num_particles: number of particles of each jet, in the first slots; shape [jets].
        pid: shape [jets, slots], or None.
        impact: shape [jets, slots, 4], or None.
    """
    if (most := view.max_particles) is not None:
        pt = four_momenta[:, :, 0]
        real = torch.arange(pt.size(1), device=pt.device) < num_particles.unsqueeze(1)
        # Padding by ``most`` slots ensures that there are at least ``most`` slots.
        falling = pad(pt.where(real, -torch.inf), (0, most), value=-torch.inf).sort(dim=1, descending=True, stable=True)
        slot = falling.indices[:, :most]
        place = slot.unsqueeze(2).expand(-1, -1, four_momenta.size(2))
        four_momenta = pad(four_momenta, (0, 0, 0, most)).gather(1, place)
        pid = None if pid is None else pad(pid, (0, most)).gather(1, slot)
        impact = None if impact is None else pad(impact, (0, 0, 0, most)).gather(1, place)
        num_particles = num_particles.clamp(max=most)
    if view.masses == "zero":
        four_momenta = torch.cat([four_momenta[:, :, :MASS], torch.zeros_like(four_momenta[:, :, MASS:])], dim=2)
    return four_momenta, num_particles, pid, impact
