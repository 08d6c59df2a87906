"""From the events of Pythia8 to the jets of a recipe, with FastJet and vectorised over events."""

from collections.abc import Sequence
from typing import Any

import awkward as ak
import fastjet
import numpy as np

from iagraph.data.jets import Jets, offsets_of
from iagraph.data.recipe import GenerateConfig

NEUTRINOS = (12, 14, 16)
RESONANCE, PARTON = 22, 23  # Pythia's |status| of what leaves the hard process; tops and W are resonances
TOP, W, QUARKS = 6, 24, (1, 2, 3, 4, 5)


def round_mantissa(values: np.ndarray, bits: int) -> np.ndarray:
    """float32 values rounded to the nearest with `bits` mantissa bits: relative error at most 2^-(bits + 1).

    The cleared bits compress to almost nothing; CMS stores its NanoAOD in the same way.
    """
    drop = 23 - bits
    integers = values.astype(np.float32).view(np.uint32)
    rounded = (integers + ((1 << drop) >> 1)) >> drop << drop
    return rounded.view(np.float32)


def _is_one_of(ids: Any, species: Sequence[int]) -> Any:
    return ak.unflatten(np.isin(np.abs(ak.to_numpy(ak.flatten(ids))), species), ak.num(ids))


def _near(phi: np.ndarray, axis: np.ndarray) -> np.ndarray:
    # The same direction, within pi of the axis.
    return axis + (phi - axis + np.pi) % (2 * np.pi) - np.pi


def holds_hadronic_top(record: Any, rapidity: np.ndarray, phi: np.ndarray, radius: float) -> np.ndarray:
    """Whether a top and the three quarks of its decay t -> b W -> b q q' lie within `radius` of the event's jet.

    Distances are sqrt(dy^2 + dphi^2), as anti-kT measures them. A shower writes a particle anew whenever it changes its
    momentum. So the top and the W are the last of their copies, those which decay; the quarks are as they leave the
    decay, before they radiate. The b may be another quark, since ``|Vtb|`` < 1.

    Args:
        record: The particles of `pythia.nextBatch`, events with one jet each.
        rapidity: Rapidity of the jets, (events,).
        phi: Azimuth of the jets, (events,).
        radius: Limit of the distance between the jet's axis and each of the four.

    Returns:
        (events,), bool.
    """
    # One table of the particles of all events; Pythia counts daughters from the beginning of an event.
    counts = ak.to_numpy(ak.num(record.id))
    event, first = np.repeat(np.arange(len(counts)), counts), np.repeat(np.cumsum(counts) - counts, counts)
    ids, status, *daughters = (ak.to_numpy(ak.flatten(record[x])) for x in ("id", "status", "daughter1", "daughter2"))
    species, children = np.abs(ids), np.stack([daughter + first for daughter in daughters], axis=1)

    def last_copy(row: np.ndarray) -> np.ndarray:
        while (same := ids[children[row]] == ids[row, None]).any():
            row = np.where(same[:, 0], children[row, 0], np.where(same[:, 1], children[row, 1], row))
        return row

    top = last_copy(np.flatnonzero((species == TOP) & (np.abs(status) == RESONANCE)))
    top = top[(species[children[top]] == W).any(axis=1)]  # one that Pythia was told not to decay has no W
    b, w = np.take_along_axis(children[top], np.argsort(species[children[top]] == W, axis=1), axis=1).T
    partons = np.column_stack([top, b, children[last_copy(w)]])  # (tops, 4)
    partons = partons[np.isin(species[partons[:, 1:]], QUARKS).all(axis=1)]  # not those of leptonic decays
    px, py, pz, energy = (ak.to_numpy(ak.flatten(record.p[name]))[partons] for name in ("px", "py", "pz", "e"))
    y, axis_y, axis_phi = np.arctanh(pz / energy), rapidity[event[partons]], phi[event[partons]]
    distance = np.hypot(y - axis_y, _near(np.arctan2(py, px), axis_phi) - axis_phi)
    holds = np.zeros(len(counts), dtype=bool)
    holds[event[partons[(distance < radius).all(axis=1), 0]]] = True
    return holds


def select_jets(events: Any, config: GenerateConfig, label: int) -> Jets:
    """The hardest jet of every event that passes the selection, its particles in order of falling pt.

    y = asinh(pz / mT) with mT^2 = m^2 + pT^2 is the rapidity ln((E + pz) / (E - pz)) / 2 of the massive particle, free
    of cancellation. phi lies within pi of the jet's phi, outside [-pi, pi) if need be.

    Args:
        events: What `pythia.nextBatch` returns.
        config: The recipe.
        label: The class of these events.
    """
    record, window, process = events.prt, config.jet, config.processes[label]
    hard = record.id[_is_one_of(record.status, (RESONANCE, PARTON))]
    final = (record.status > 0) & ~_is_one_of(record.id, NEUTRINOS)
    pid, mass, p = record.id[final], record.m[final], record.p[final]
    momenta = ak.zip({"px": p.px, "py": p.py, "pz": p.pz, "E": p.e}, with_name="Momentum4D")
    cluster = fastjet.ClusterSequence(momenta, fastjet.JetDefinition(fastjet.antikt_algorithm, window.radius))
    jets, members = cluster.inclusive_jets(window.pt_min), cluster.constituent_index(window.pt_min)
    usable = ak.any(_is_one_of(hard, process.partons), axis=1) & (ak.num(jets) > 0)
    jets, members, momenta, pid, mass = (part[usable] for part in (jets, members, momenta, pid, mass))
    hardest = ak.argmax(np.hypot(jets.px, jets.py), axis=1, keepdims=True)
    # argmax might find nothing, so its results could miss; they cannot here, as every usable event has a jet.
    jet, members = ak.drop_none(jets[hardest][:, 0]), ak.drop_none(members[hardest][:, 0])
    jet_px, jet_py, jet_pz, jet_e = (ak.to_numpy(jet[name], allow_missing=False) for name in ("px", "py", "pz", "E"))
    jet_pt, jet_phi, jet_rapidity = np.hypot(jet_px, jet_py), np.arctan2(jet_py, jet_px), np.arctanh(jet_pz / jet_e)
    inside = jet_pt < window.pt_max
    if window.rapidity_max is not None:
        inside &= np.abs(jet_rapidity) < window.rapidity_max
    if window.pseudorapidity_max is not None:
        inside &= np.abs(np.arcsinh(jet_pz / jet_pt)) < window.pseudorapidity_max
    if process.top_radius is not None:
        inside &= holds_hadronic_top(record[usable], jet_rapidity, jet_phi, process.top_radius)
    members = members[inside]
    counts = ak.to_numpy(ak.num(members), allow_missing=False)
    px, py, pz, m, ids = (
        ak.to_numpy(ak.flatten(values[inside][members])) for values in (momenta.px, momenta.py, momenta.pz, mass, pid)
    )
    pt, phi = np.hypot(px, py), _near(np.arctan2(py, px), np.repeat(jet_phi[inside], counts))
    order = np.lexsort((-pt, np.repeat(np.arange(len(counts)), counts)))
    kinematics = {"pt": pt, "rapidity": np.arcsinh(pz / np.hypot(m, pt)), "phi": phi}
    particles = {name: round_mantissa(values[order], config.mantissa_bits) for name, values in kinematics.items()}
    particles |= {"mass": m[order].astype(np.float32), "pid": ids[order].astype(np.int32)}
    offsets = offsets_of(counts)
    classes = tuple(process.name for process in config.processes)
    return Jets(particles, offsets, np.full(len(counts), label), classes)
