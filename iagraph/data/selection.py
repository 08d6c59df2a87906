"""Selection of a recipe's jets from Pythia8 events, with FastJet, vectorised over events."""

from collections.abc import Sequence
from typing import Any

import awkward as ak
import fastjet
import numpy as np

from iagraph.data.detector import DETECTORS, Detector, Particles
from iagraph.data.jets import Jets, offsets_of
from iagraph.data.recipe import GenerateConfig
from iagraph.kinematics import Impact

NEUTRINOS = (12, 14, 16)
RESONANCE, PARTON = 22, 23  # Pythia's |status| of outgoing particles of the hard process; tops and W are resonances
RESONANCES = {"t": 6, "Z": 23, "W": 24, "H": 25}
PRODUCTS = {"q": (1, 2, 3, 4, 5), "g": (21,), "l": (11, 13), "nu": NEUTRINOS}
BOSONS = (RESONANCES["Z"], RESONANCES["W"])


def round_mantissa(values: np.ndarray, bits: int) -> np.ndarray:
    """float32 values rounded to ``bits`` mantissa bits: relative error at most 2^-(bits + 1).

    The cleared bits compress to almost nothing; CMS does the same in NanoAOD.
    """
    drop = 23 - bits
    integers = values.astype(np.float32).view(np.uint32)
    rounded = (integers + ((1 << drop) >> 1)) >> drop << drop
    return rounded.view(np.float32)


def _is_one_of(ids: Any, species: Sequence[int]) -> Any:
    return ak.unflatten(np.isin(np.abs(ak.to_numpy(ak.flatten(ids))), species), ak.num(ids))


def _near(phi: np.ndarray, axis: np.ndarray) -> np.ndarray:
    # Shift phi by a multiple of 2 pi, to within pi of the axis.
    return axis + (phi - axis + np.pi) % (2 * np.pi) - np.pi


def contains_decay(record: Any, decay: str, rapidity: np.ndarray, phi: np.ndarray, radius: float) -> np.ndarray:
    """Whether a resonance and the visible products of its decay lie within ``radius`` of the event's jet axis.

    Distances are sqrt(dy^2 + dphi^2), as anti-kT measures them. A shower copies a particle whenever its momentum
    changes: for resonances, the last copy is used, which decays; for the products, the first one, before they radiate.
    W and Z are replaced with their products, so that t -> b W -> b q q' is ``t -> q q q``.

    Args:
        record: the particles that ``pythia.nextBatch`` returns, for events with one jet each.
        decay: the resonance and its products; see :class:`~iagraph.data.recipe.Process`.
        rapidity: rapidity of the jets, (events,).
        phi: azimuth of the jets, (events,).
        radius: largest distance from the jet's axis, of the resonance and of each product but neutrinos.

    Returns:
        (events,), bool.
    """
    name, wanted = decay.split(" -> ")
    # One flat table over all events; Pythia's daughter indices start anew in each event.
    counts = ak.to_numpy(ak.num(record.id))
    event, first = np.repeat(np.arange(len(counts)), counts), np.repeat(np.cumsum(counts) - counts, counts)
    ids, status, *daughters = (ak.to_numpy(ak.flatten(record[x])) for x in ("id", "status", "daughter1", "daughter2"))
    species, children = np.abs(ids), np.stack([daughter + first for daughter in daughters], axis=1)

    def last_copy(row: np.ndarray) -> np.ndarray:
        while (same := ids[children[row]] == ids[row, None]).any():
            row = np.where(same[:, 0], children[row, 0], np.where(same[:, 1], children[row, 1], row))
        return row

    resonance = last_copy(np.flatnonzero((species == RESONANCES[name]) & (np.abs(status) == RESONANCE)))
    products = np.repeat(children[resonance], 2, axis=1)  # (resonances, 4), each twice
    real = np.tile([True, False, True, False], (len(products), 1))
    for place in (0, 2):
        boson = np.isin(species[products[:, place]], BOSONS)
        products[boson, place : place + 2] = children[last_copy(products[boson, place])]
        real[boson, place + 1] = True
    kinds = {kind: real & np.isin(species[products], group) for kind, group in PRODUCTS.items()}
    numbers = {kind: wanted.split().count(kind) for kind in kinds}
    matched = real.sum(axis=1) == sum(numbers.values())
    for kind, found in kinds.items():
        matched &= found.sum(axis=1) == numbers[kind]
    visible = np.column_stack([np.ones(len(real), bool), real & ~kinds["nu"]])[matched]
    decayed = np.column_stack([resonance, products])[matched]  # (decays, 5)
    px, py, pz, energy = (ak.to_numpy(ak.flatten(record.p[axis]))[decayed] for axis in ("px", "py", "pz", "e"))
    y, axis_y, axis_phi = np.arctanh(pz / energy), rapidity[event[decayed]], phi[event[decayed]]
    distance = np.hypot(y - axis_y, _near(np.arctan2(py, px), axis_phi) - axis_phi)
    inside = ((distance < radius) | ~visible).all(axis=1)
    contained = np.zeros(len(counts), dtype=bool)
    contained[event[decayed[inside, 0]]] = True
    return contained


def _observed(final: Any, detector: Detector, generator: np.random.Generator) -> tuple[Any, Any]:
    """Momenta, and other columns, of the objects that a detector makes of the final particles of each event."""
    counts = ak.to_numpy(ak.num(final.id))
    p, vertex = final.p, final.vProd
    origin = (ak.fill_none(vertex[axis], 0.0) for axis in ("px", "py", "pz"))  # Pythia leaves out vertices at 0
    columns = (final.id, p.px, p.py, p.pz, p.e, *origin)
    flat = (ak.to_numpy(ak.flatten(column)) for column in columns)
    objects = detector.observe(Particles(np.repeat(np.arange(len(counts)), counts), *flat), generator)
    number = np.bincount(objects.event, minlength=len(counts))
    pt, eta, phi, mass = objects.pt, objects.eta, objects.phi, objects.mass
    momenta = {"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pt * np.sinh(eta)}
    momenta["E"] = np.hypot(pt * np.cosh(eta), mass)
    others = {"pid": objects.pid, "mass": mass}
    if detector.tracker.impact.size:
        others |= dict(zip(Impact._fields, objects.impact, strict=True))
    return (
        ak.unflatten(ak.zip(momenta, with_name="Momentum4D"), number),
        ak.unflatten(ak.zip(others), number),
    )


def select_jets(events: Any, config: GenerateConfig, label: int, generator: np.random.Generator) -> Jets:
    """The hardest jet of every event, if selected, with particles in descending order of pt.

    y = asinh(pz / mT) with mT^2 = m^2 + pT^2 is the rapidity ln((E + pz) / (E - pz)) / 2 of a massive particle, without
    cancellation. A particle's phi lies within pi of the jet's phi, so it may lie outside [-pi, pi).

    Args:
        events: the result of ``pythia.nextBatch``.
        config: the recipe.
        label: the class of these events.
        generator: random numbers for the recipe's detector, if it has one.
    """
    record, window, process = events.prt, config.jet, config.processes[label]
    hard = record.id[_is_one_of(record.status, (RESONANCE, PARTON))]
    final = record[(record.status > 0) & ~_is_one_of(record.id, NEUTRINOS)]
    if detector := DETECTORS[config.detector]:
        momenta, others = _observed(final, detector, generator)
    else:
        p = final.p
        momenta = ak.zip({"px": p.px, "py": p.py, "pz": p.pz, "E": p.e}, with_name="Momentum4D")
        others = ak.zip({"pid": final.id, "mass": final.m})
    cluster = fastjet.ClusterSequence(momenta, fastjet.JetDefinition(fastjet.antikt_algorithm, window.radius))
    jets, members = cluster.inclusive_jets(window.pt_min), cluster.constituent_index(window.pt_min)
    usable = ak.any(_is_one_of(hard, process.partons), axis=1) & (ak.num(jets) > 0)
    jets, members, momenta, others = (part[usable] for part in (jets, members, momenta, others))
    hardest = ak.argmax(np.hypot(jets.px, jets.py), axis=1, keepdims=True)
    # argmax returns an option type, although every usable event has a jet.
    jet, members = ak.drop_none(jets[hardest][:, 0]), ak.drop_none(members[hardest][:, 0])
    jet_px, jet_py, jet_pz, jet_e = (ak.to_numpy(jet[name], allow_missing=False) for name in ("px", "py", "pz", "E"))
    jet_pt, jet_phi, jet_rapidity = np.hypot(jet_px, jet_py), np.arctan2(jet_py, jet_px), np.arctanh(jet_pz / jet_e)
    inside = jet_pt < window.pt_max
    if window.rapidity_max is not None:
        inside &= np.abs(jet_rapidity) < window.rapidity_max
    if window.pseudorapidity_max is not None:
        inside &= np.abs(np.arcsinh(jet_pz / jet_pt)) < window.pseudorapidity_max
    if process.decay is not None:
        inside &= contains_decay(record[usable], process.decay, jet_rapidity, jet_phi, window.radius)
    members = members[inside]
    counts = ak.to_numpy(ak.num(members), allow_missing=False)
    columns = [momenta[inside][members], others[inside][members]]
    flat = {name: ak.to_numpy(ak.flatten(part[name])) for part in columns for name in ak.fields(part)}
    px, py, pz, mass, pid = (flat.pop(name) for name in ("px", "py", "pz", "mass", "pid"))
    pt, phi = np.hypot(px, py), _near(np.arctan2(py, px), np.repeat(jet_phi[inside], counts))
    order = np.lexsort((-pt, np.repeat(np.arange(len(counts)), counts)))
    rounded = {"pt": pt, "rapidity": np.arcsinh(pz / np.hypot(mass, pt)), "phi": phi}
    rounded |= {name: flat[name] for name in Impact._fields if name in flat}
    particles = {name: round_mantissa(values[order], config.mantissa_bits) for name, values in rounded.items()}
    particles |= {"mass": mass[order].astype(np.float32), "pid": pid[order].astype(np.int32)}
    offsets = offsets_of(counts)
    classes = tuple(process.name for process in config.processes)
    return Jets(particles, offsets, np.full(len(counts), label), classes)
