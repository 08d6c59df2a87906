"""Reader of JetClass (Qu, Li, Qian; Zenodo 6619768): ROOT files with a tree `tree`, one entry per jet."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from iagraph.data.jets import Jets, StoreError, offsets_of
from iagraph.data.readers.base import Reader, reading, refuse
from iagraph.data.readers.cartesian import momentum_columns

try:
    import awkward as ak
    import uproot
except ImportError as error:
    raise ImportError(f"reading ROOT files needs {error.name}: pip install 'iagraph[data]'") from error

TREE = "tree"
CLASSES = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
LABELS = tuple(f"label_{name}" for name in CLASSES)
MOMENTUM = ("part_px", "part_py", "part_pz", "part_energy")
SPECIES = ("isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon")
IMPACT = {"d0": "part_d0val", "d0_error": "part_d0err", "dz": "part_dzval", "dz_error": "part_dzerr"}
PARTICLE_BRANCHES = (*MOMENTUM, "part_charge", *(f"part_{name}" for name in SPECIES), *IMPACT.values())


class JetClassReader(Reader):
    """Jets with `pt`, `rapidity`, `phi`, `mass`, `pid` and the impact parameters of the tracks in mm.

    The detector tells five kinds of particles apart. As `pid` they are the species that are most frequent: charged
    hadrons +-211, neutral hadrons 130, photons 22, electrons +-11, muons +-13, with the sign by the charge; 0 is a
    neutral particle of no kind. `d0`, `d0_error`, `dz` and `dz_error` are as in the file, 0 for neutral particles.

    Raises:
        StoreError: If the tree is not of this layout, as in JetClass-II, whose 188 classes are numbered.
    """

    format = "JetClass (ROOT)"
    classes = CLASSES

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path), self._tree() as tree:
            self.jets = tree.num_entries
            if not self.jets:  # files are written with an empty tree first, which damage may bring back
                raise StoreError(f"tree '{TREE}' has no entries; download or copy it anew")

    @contextmanager
    def _tree(self) -> Iterator[Any]:
        # A path would be searched for colons, asterisks and protocols. No cache, as each part is read once.
        with self.path.open("rb") as binary, uproot.open(binary, array_cache=None) as file:
            found = file.classnames(recursive=False, cycle=False)
            if found.get(TREE) != "TTree":
                raise StoreError(f"holds {', '.join(found) or 'nothing'}, expected a tree '{TREE}' (TTree)")
            tree = file[TREE]
            _check_branches(tree)
            yield tree

    def _parts(self, jets_per_part: int) -> Iterator[Jets]:
        begin = 0
        with self._tree() as tree:
            for entries in tree.iterate([*LABELS, *PARTICLE_BRANCHES], step_size=jets_per_part):
                yield self._jets(entries, begin)
                begin += len(entries)

    @np.errstate(over="ignore")  # what float32 cannot hold becomes infinite, which is noticed
    def _jets(self, entries: Any, begin: int) -> Jets:
        offsets = offsets_of(ak.to_numpy(ak.num(entries[MOMENTUM[0]])))

        def name(i: int) -> str:
            jet = int(np.searchsorted(offsets, i, side="right")) - 1
            return f"jet {begin + jet}, particle {i - offsets[jet]}"

        flat = {branch: self._flat(entries, branch, offsets, begin) for branch in PARTICLE_BRANCHES}
        px, py, pz, energy = (flat[branch] for branch in MOMENTUM)
        columns = momentum_columns(px, py, pz, energy, name)
        columns["pid"] = _pid(flat["part_charge"], np.stack([flat[f"part_{kind}"] for kind in SPECIES]), name)
        columns |= {column: flat[branch].astype(np.float32) for column, branch in IMPACT.items()}
        return Jets(columns, offsets, self._label(entries, begin), self.classes)

    def _flat(self, entries: Any, branch: str, offsets: np.ndarray, begin: int) -> np.ndarray:
        """The values of all particles one after another."""
        found, expected = ak.to_numpy(ak.num(entries[branch])), np.diff(offsets)
        refuse(
            found != expected,
            lambda i: f"jet {begin + i}: {branch} has {found[i]} values, expected {expected[i]} as {MOMENTUM[0]} has",
        )
        return ak.to_numpy(ak.flatten(entries[branch]))

    def _label(self, entries: Any, begin: int) -> np.ndarray:
        flags = np.stack([ak.to_numpy(entries[label]) for label in LABELS], axis=1).astype(np.float64)
        is_one = flags == 1
        refuse(
            (is_one.sum(axis=1) != 1) | ((flags != 0) & ~is_one).any(axis=1),
            lambda i: (
                f"jet {begin + i}: label_* are {flags[i].tolist()}, expected 1 for one of {', '.join(CLASSES)} "
                f"and 0 for the others"
            ),
        )
        return flags.argmax(axis=1)


def _check_branches(tree: Any) -> None:
    names = tree.keys(recursive=False)
    if not any(label in names for label in LABELS):
        numbered = "; jet_label is there, as in JetClass-II, whose classes are others" if "jet_label" in names else ""
        raise StoreError(f"has no branches label_*, by which JetClass names the class of a jet{numbered}")
    if missing := [branch for branch in (*PARTICLE_BRANCHES, *LABELS) if branch not in names]:
        raise StoreError(f"tree '{TREE}' lacks the branches {', '.join(missing)}; take the files of Zenodo 6619768")
    for branch in (*PARTICLE_BRANCHES, *LABELS):
        jagged = isinstance(tree[branch].interpretation, uproot.AsJagged)
        if jagged != (branch in PARTICLE_BRANCHES):
            expected = "a list per jet" if branch in PARTICLE_BRANCHES else "one number per jet"
            raise StoreError(f"branch {branch} is {tree[branch].typename}, expected {expected}")


def _pid(charge: np.ndarray, kinds: np.ndarray, name: Callable[[int], str]) -> np.ndarray:
    """PDG ids from the charge, [P], and the five flags of `SPECIES`, [5, P]."""
    kinds = kinds.astype(np.float64)
    is_charged = kinds[[0, 3, 4]].any(axis=0)
    refuse(
        ((kinds != 0) & (kinds != 1)).any(axis=0) | (kinds.sum(axis=0) > 1) | (np.abs(charge) != is_charged),
        lambda i: (
            f"{name(i)}: charge {charge[i]:g} and flags {dict(zip(SPECIES, kinds[:, i].tolist(), strict=True))} "
            f"do not fit, expected one flag at most, charge 1 or -1 for charged hadrons, electrons and muons, else 0"
        ),
    )
    charged_hadron, neutral_hadron, photon, electron, muon = kinds
    pid = charge * (211 * charged_hadron - 11 * electron - 13 * muon) + 130 * neutral_hadron + 22 * photon
    return pid.astype(np.int32)
