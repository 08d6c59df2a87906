"""Files in the published layouts for tests of the readers, with the expected jets."""

import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from iagraph.data import Jets, StoreError
from iagraph.data.readers import open_jets

REAL = Path(os.environ.get("IAGRAPH_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
KINDS = ("isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon")
TEN = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")


def real_file(name):
    """A file of real jets; the test is skipped where it is absent."""
    if not (REAL / name).is_file():
        pytest.skip(f"needs {name} in $IAGRAPH_TEST_DATA, here {REAL}")
    return REAL / name


def real_excerpt(name):
    """Four-momenta (E, px, py, pz) padded to (jets, slots, 4), and labels, of an excerpt with columns px, py, pz, E."""
    with np.load(real_file(name)) as file:
        p4, counts, label = file["p4"], file["counts"], file["label"]
    return pad(p4[:, [3, 0, 1, 2]], counts), label


def pad(flat, counts):
    """Flat values of shape (particles, columns) as zero-padded ones of shape (jets, slots, columns)."""
    padded = np.zeros((len(counts), max([1, *counts]), flat.shape[1]), flat.dtype)
    padded[np.arange(padded.shape[1]) < np.asarray(counts)[:, None]] = flat
    return padded


def random_momenta(counts, seed=0, slots=None, mass=True):
    """(E, px, py, pz) of random particles, float32, padded."""
    rng, total = np.random.default_rng(seed), int(np.sum(counts))
    p = rng.normal(size=(total, 3)) * rng.exponential(10, (total, 1))
    energy = np.sqrt((p**2).sum(1) + (rng.choice([0, 0.14, 0.94], total) if mass else 0) ** 2)
    padded = pad(np.column_stack([energy, p]).astype(np.float32), counts)
    missing = (slots or padded.shape[1]) - padded.shape[1]
    return np.pad(padded, [(0, 0), (0, missing), (0, 0)])


def pickled(names):
    """A list as PyTables stores it in an attribute."""
    return np.bytes_(pickle.dumps(list(names), protocol=0))


def top_columns(slots):
    return [f"{name}_{i}" for i in range(slots) for name in ("E", "PX", "PY", "PZ")] + [
        f"truth{name}" for name in ("E", "PX", "PY", "PZ")
    ]


def write_top(path, momenta, label, *, columns=None, flags=("ttv", "is_signal_new"), dtype="f4", **storage):
    """A file as pandas writes it; `momenta` of shape (jets, slots, 4) are E, PX, PY, PZ."""
    columns = top_columns(momenta.shape[1]) if columns is None else columns
    blocks = [("values_block_0", dtype, (4 * momenta.shape[1] + 4,)), ("values_block_1", "i8", (len(flags),))]
    rows = np.zeros(len(momenta), [("index", "i8"), *blocks])
    rows["index"] = np.arange(len(rows))
    rows["values_block_0"][:, :-4] = momenta.reshape(len(rows), 4 * momenta.shape[1])
    rows["values_block_0"][:, -4:] = 173.0
    rows["values_block_1"][:, -1] = label
    with h5py.File(path, "w") as file:
        if storage.get("chunks", True) is not None:
            storage = {"chunks": (41,), "maxshape": (None,)} | storage
        table = file.create_dataset("table/table", data=rows, **storage)
        table.attrs["values_block_0_kind"] = pickled(columns)
        table.attrs["values_block_1_kind"] = pickled(flags)
    return path


def write_jetclass(path, momenta, label, *, kind=None, charge=None, impact=None, drop=(), extra=(), **options):
    """A tree as JetClass has it; `momenta` as in `write_top`, `kind` and `charge` per particle, `impact` [4, P]."""
    ak, uproot = pytest.importorskip("awkward"), pytest.importorskip("uproot")
    present = momenta.any(axis=2)
    counts, flat = present.sum(axis=1), momenta[present]
    rng = np.random.default_rng(1)
    kind = rng.integers(0, 5, len(flat)) if kind is None else np.asarray(kind)
    if charge is None:
        charge = np.where(np.isin(kind, [0, 3, 4]), rng.choice([-1, 1], len(flat)), 0)
    impact = rng.normal(size=(4, len(flat))) if impact is None else np.asarray(impact)
    values = dict(zip(("part_energy", "part_px", "part_py", "part_pz"), flat.T.astype(np.float32), strict=True))
    values |= {f"part_{name}": (kind == i).astype(np.int32) for i, name in enumerate(KINDS)}
    values |= dict(zip(("part_d0val", "part_d0err", "part_dzval", "part_dzerr"), impact.astype("f4"), strict=True))
    values["part_charge"] = np.asarray(charge, np.float32)
    branches = {name: ak.unflatten(column, counts) for name, column in values.items()}
    types = {name: f"var * {column.dtype}" for name, column in values.items()}
    for i, name in enumerate(TEN):
        branches[f"label_{name}"] = np.asarray(np.asarray(label) == i, np.int32)
        types[f"label_{name}"] = "int32"
    for name, column in dict(extra).items():
        branches[name] = column
        types[name] = str(column.type).split(" * ", 1)[1] if isinstance(column, ak.Array) else column.dtype
    for name in drop:
        del branches[name], types[name]
    if options.get("rntuple"):
        with uproot.recreate(path) as file:
            if not hasattr(file, "mkrntuple"):
                pytest.skip(f"uproot {uproot.__version__} does not write RNTuple")
            # Fields of an RNTuple need lists without another type inside.
            file.mkrntuple(options.get("tree", "tree"), branches)
        return path
    with uproot.recreate(path, compression=uproot.LZ4(1)) as file:
        file.mktree(options.get("tree", "tree"), types)
        for begin in range(0, len(label), options.get("basket", 97)):
            end = begin + options.get("basket", 97)
            file[options.get("tree", "tree")].extend({name: column[begin:end] for name, column in branches.items()})
    return path


def read(reader, jets_per_part=10_000):
    """All jets, and a check that parts are as large as promised."""
    parts = list(reader.parts(jets_per_part))
    sizes = [len(part) for part in parts]
    assert sum(sizes) == reader.jets
    assert all(size == jets_per_part for size in sizes[:-1])
    return Jets.concatenate(parts) if parts else None


def outcome(path, jets_per_part=10_000):
    """All jets of a file that may be damaged, or None if damage was detected; the error must name the file."""
    try:
        jets = read(open_jets(path), jets_per_part)
    except StoreError as error:
        message = str(error)
    else:
        assert jets is not None, "a damaged file has lost all its jets, and nobody noticed"
        return jets
    assert message.startswith(f"{path}: ")
    return None


def momenta_of(jets):
    """(E, px, py, pz) of the columns, in float64, by a different formula than that of the readers."""
    pt, y, phi, mass = (jets.particles[name].astype(np.float64) for name in ("pt", "rapidity", "phi", "mass"))
    plus = np.sqrt(pt**2 + mass**2) * np.exp(y)
    minus = np.sqrt(pt**2 + mass**2) * np.exp(-y)
    return np.column_stack([(plus + minus) / 2, pt * np.cos(phi), pt * np.sin(phi), (plus - minus) / 2])


def worst(jets, flat):
    """The largest deviation from flat (E, px, py, pz), in units of the particle's energy: of E, and of the others."""
    deviation = np.abs(momenta_of(jets) - flat.astype(np.float64)) / flat[:, :1].astype(np.float64)
    return deviation[:, 0].max(), deviation[:, 1:].max()
