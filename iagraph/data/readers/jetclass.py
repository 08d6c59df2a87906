"""Reader of JetClass (Qu, Li, Qian; Zenodo 6619768): ROOT files with a tree ``tree``, one entry per jet."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from iagraph.data.jets import Jets, StoreError, offsets_of
from iagraph.data.readers.base import Reader, reading, refuse
from iagraph.data.readers.cartesian import momentum_columns
from iagraph.data.readers.columns import ColumnPart, check_columns, label_of_flags, particle_names, same_counts
from iagraph.data.readers.root import RootTable

TREE = "tree"
CLASSES = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
LABELS = tuple(f"label_{name}" for name in CLASSES)
MOMENTUM = ("part_px", "part_py", "part_pz", "part_energy")
SPECIES = ("isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon")
IMPACT = {"d0": "part_d0val", "d0_error": "part_d0err", "dz": "part_dzval", "dz_error": "part_dzerr"}
PARTICLE_BRANCHES = (*MOMENTUM, "part_charge", *(f"part_{name}" for name in SPECIES), *IMPACT.values())


class JetClassReader(Reader):
    """Jets with ``pt``, ``rapidity``, ``phi``, ``mass``, ``pid`` and the impact parameters of the tracks in mm.

    The detector distinguishes five kinds of particles; ``pid`` is that of each kind's most frequent species: charged
    hadrons +-211, neutral hadrons 130, photons 22, electrons +-11, muons +-13, signed by charge; 0 for a neutral
    particle of unknown kind. ``d0``, ``d0_error``, ``dz`` and ``dz_error`` are as in the file, 0 for neutral particles.

    Raises:
        StoreError: the tree has an unexpected layout, such as that of JetClass-II with its 188 numbered classes.
    """

    format = "JetClass (ROOT)"
    classes = CLASSES

    def __init__(self, path: Path) -> None:
        self.path, self._table = path, RootTable(path, TREE)
        self.jets = self._table.rows
        with reading(path):
            if not any(label in self._table.names for label in LABELS):
                numbered = "jet_label" in self._table.names
                raise StoreError(
                    f"has no branches label_*, which give the class in JetClass"
                    f"{'; jet_label is that of JetClass-II, with other classes' if numbered else ''}; name the "
                    "branches with --map"
                )
            check_columns(self._table, LABELS, PARTICLE_BRANCHES, "use the files of Zenodo 6619768")

    def _parts(self, jets_per_part: int) -> Iterator[Jets]:
        begin = 0
        for part in self._table.parts(LABELS, PARTICLE_BRANCHES, jets_per_part):
            yield self._jets(part, begin)
            begin += len(part.numbers[LABELS[0]])

    @np.errstate(over="ignore")  # float32 overflows to infinity, which validation rejects
    def _jets(self, part: ColumnPart, begin: int) -> Jets:
        offsets = offsets_of(same_counts(part.lists, begin))
        name = particle_names(offsets, begin)
        flat = {branch: column.values for branch, column in part.lists.items()}
        px, py, pz, energy = (flat[branch] for branch in MOMENTUM)
        columns = momentum_columns(px, py, pz, energy, name)
        columns["pid"] = _pid(flat["part_charge"], np.stack([flat[f"part_{kind}"] for kind in SPECIES]), name)
        columns |= {column: flat[branch].astype(np.float32) for column, branch in IMPACT.items()}
        label = label_of_flags([part.numbers[branch] for branch in LABELS], CLASSES, "label_*", begin)
        return Jets(columns, offsets, label, self.classes)


def _pid(charge: np.ndarray, kinds: np.ndarray, name: Callable[[int], str]) -> np.ndarray:
    """PDG ids from charge, [P], and the five flags of ``SPECIES``, [5, P]."""
    kinds = kinds.astype(np.float64)
    is_charged = kinds[[0, 3, 4]].any(axis=0)
    refuse(
        ((kinds != 0) & (kinds != 1)).any(axis=0) | (kinds.sum(axis=0) > 1) | (np.abs(charge) != is_charged),
        lambda i: (
            f"{name(i)}: charge {charge[i]:g} and flags {dict(zip(SPECIES, kinds[:, i].tolist(), strict=True))} "
            f"disagree, expected at most one flag, charge 1 or -1 for charged hadrons, electrons and muons, else 0"
        ),
    )
    charged_hadron, neutral_hadron, photon, electron, muon = kinds
    pid = charge * (211 * charged_hadron - 11 * electron - 13 * muon) + 130 * neutral_hadron + 22 * photon
    return pid.astype(np.int32)
