"""What a model sees of jets in slots, as :class:`iagraph.views.JetView` makes it of ragged ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from iagraph.views import JetView

MASS = 3
"""Which component of ``four_momenta`` is the mass; the first one is pT."""


def view_of_slots(
    view: JetView, four_momenta: Tensor, num_particles: Tensor, pid: Tensor | None, impact: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """What is seen, in the order of the arguments of :class:`~iagraph.jets.PaddedJets`.

    With ``max_particles`` there are that many slots afterwards, which hold the particles of highest pT in descending
    order of pT, of equal ones those that come first.

    Args:
        view: what is seen.
        four_momenta: pT, rapidity, azimuth and mass, shape [jets, slots, 4].
        num_particles: how many slots of each jet hold a particle, the first ones; shape [jets].
        pid: shape [jets, slots], or None.
        impact: shape [jets, slots, 4], or None.
    """
    if (most := view.max_particles) is not None:
        pt = four_momenta[:, :, 0]
        real = torch.arange(pt.size(1), device=pt.device) < num_particles.unsqueeze(1)
        # So many more slots that there are enough of them, however many there were.
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
