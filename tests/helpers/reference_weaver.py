"""ParT and ParticleNet of weaver-core and their inputs, independent of our features.

Inputs: data/JetClass/JetClass_{kin,kinpid,full}.yaml of jet-universe/particle_transformer, in NumPy and float64.
Where a jet is asked for, it is the vector sum of the particles, and delta_eta is a difference of rapidities.
"""

import numpy as np
import torch

from benchmark.weaver_networks import WeaverParticleNet, WeaverParticleTransformer

INPUTS = {"kin": 7, "kinpid": 13, "full": 17}
CHARGED, NEUTRAL = [211, 321, 2212], [130, 2112]


particle_transformer, particle_net = WeaverParticleTransformer, WeaverParticleNet


def with_exact_pair_features(net):
    """ParT whose pair features are computed in float64 and rounded: in float32 its E^2 - p^2 is mere rounding."""
    features = net.mod.pair_embed.pairwise_lv_fts
    net.mod.pair_embed.pairwise_lv_fts = lambda xi, xj: features(xi, xj).float()
    net.exact_pairs = True
    return net


def inputs(jets, name, dtype=torch.float64, slots=0):
    """(points, features, vectors, mask) of a JetBatch, padded with zeros to at least 17 slots: ParticleNet takes one
    particle and its 16 neighbours. Shapes (jets, variables, slots); vectors are always in float64.
    """
    slots = max(slots, 17, int(jets.ptr.diff().max()))
    pt, y, phi, mass = (component.numpy().astype(np.float64) for component in jets.momenta)
    px, py = pt * np.cos(phi), pt * np.sin(phi)
    pz, energy = np.hypot(mass, pt) * np.sinh(y), np.hypot(mass, pt) * np.cosh(y)
    vectors = np.stack([px, py, pz, energy])
    rows = []
    for begin, end in zip(jets.ptr[:-1].tolist(), jets.ptr[1:].tolist(), strict=True):
        here = slice(begin, end)
        jet = vectors[:, here].sum(1)
        jet_pt, jet_y = np.hypot(jet[0], jet[1]), 0.5 * np.log((jet[3] + jet[2]) / (jet[3] - jet[2]))
        deta = (y[here] - jet_y) * (1 if jet_y >= 0 else -1)
        dphi = np.angle(np.exp(1j * (phi[here] - np.arctan2(jet[1], jet[0]))))
        columns = [
            scaled(np.log(pt[here]), 1.7, 0.7),
            scaled(np.log(energy[here]), 2.0, 0.7),
            scaled(np.log(pt[here] / jet_pt), -4.7, 0.7),
            scaled(np.log(energy[here] / jet[3]), -4.7, 0.7),
            scaled(np.hypot(deta, dphi), 0.2, 4.0),
        ]
        columns += species(jets.pid[here].numpy()) if name != "kin" else []
        if name == "full":
            d0, d0_error, dz, dz_error = (value[here].numpy().astype(np.float64) for value in jets.impact)
            columns += [np.tanh(d0), np.clip(d0_error, 0, 1), np.tanh(dz), np.clip(dz_error, 0, 1)]
        rows.append(
            (np.stack([deta, dphi]), np.stack([*columns, deta, dphi]), vectors[:, here], np.ones((1, end - begin)))
        )
    padded = [
        np.stack([np.pad(row, [(0, 0), (0, slots - row.shape[1])]) for row in each]) for each in zip(*rows, strict=True)
    ]
    points, features, momenta, mask = map(torch.tensor, padded)
    return points.to(dtype), features.to(dtype), momenta, mask.to(dtype)


def scaled(value, subtract, multiply):
    """weaver's standardisation of a variable with given numbers."""
    return np.clip((value - subtract) * multiply, -5, 5)


def species(pid):
    """part_charge, part_isChargedHadron, part_isNeutralHadron, part_isPhoton, part_isElectron, part_isMuon."""
    size = np.abs(pid)
    # All charged particles here have the sign of their number, leptons the opposite one (none of them is a Sigma-).
    lepton, charged = np.isin(size, [11, 13]), np.isin(size, CHARGED)
    charge = np.where(lepton, -np.sign(pid), np.where(charged, np.sign(pid), 0))
    return [1.0 * value for value in (charge, charged, np.isin(size, NEUTRAL), size == 22, size == 11, size == 13)]
