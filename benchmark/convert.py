"""Jets per second and memory of converting the published formats, from files of two sizes in their layouts."""

from __future__ import annotations

import pickle
import tempfile
import time
import zipfile
from pathlib import Path

import awkward as ak
import h5py
import hdf5plugin
import numpy as np
import uproot
from numpy.typing import NDArray

from benchmark.measure import Report, in_new_process
from benchmark.sample import repeated
from iagraph.data import Jets, read_store, resolve
from iagraph.data.convert import convert

SLOTS = 200
FLAGS = ("isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon")
CLASSES = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")


def benchmark_convert(jets: int) -> Report:
    """Convert files with this number of jets, and a quarter of it, made from jets of the sample.

    Memory that does not grow from one to the other does not depend on the size of the file.
    """
    report = Report("Converting published formats to the jet store")
    sample = read_store(resolve("sample:qg"))
    with tempfile.TemporaryDirectory() as folder:
        for name, write in (
            ("Top tagging, HDF5", _top),
            ("EnergyFlow, npz", _energyflow),
            ("JetClass, ROOT", _jetclass),
        ):
            for number in (jets // 4, jets):
                path, out = Path(folder) / "jets", Path(folder) / "store.h5"
                write(path, sample, number)
                seconds, memory = in_new_process(_seconds, path, out)
                size, stored = path.stat().st_size / 1e6, out.stat().st_size / 1e6
                row = {"format": name, "jets": number, "file [MB]": size, "store [MB]": stored}
                report.rows.append(row | {"jets/s": number / seconds, "peak memory [MB]": memory})
    report.notes = ["one process; summary and reading included; peak memory includes Python and its packages"]
    return report


def _seconds(path: Path, out: Path) -> float:
    start = time.perf_counter()
    convert([path], out, force=True)
    return time.perf_counter() - start


def _padded(jets: Jets, columns: list[NDArray[np.float32]], slots: int) -> NDArray[np.float32]:
    padded = np.zeros((len(jets), slots, len(columns)), np.float32)
    padded[np.arange(slots) < jets.counts[:, None]] = np.stack(columns, axis=1)
    return padded


def _cartesian(jets: Jets) -> list[NDArray[np.float32]]:
    """Energy and momentum of massless particles."""
    pt, y, phi = (jets.particles[name] for name in ("pt", "rapidity", "phi"))
    return [pt * np.cosh(y), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(y)]


def _top(path: Path, sample: Jets, jets: int) -> None:
    row = [("index", "i8"), ("values_block_0", "f4", (4 * SLOTS + 4,)), ("values_block_1", "i8", (2,))]
    with h5py.File(path, "w") as file:
        options = {"maxshape": (None,), "chunks": (40,), **hdf5plugin.Blosc(cname="blosclz", clevel=9)}
        table = file.create_dataset("table/table", (0,), row, **options)
        momenta = [f"{name}_{slot}" for slot in range(SLOTS) for name in ("E", "PX", "PY", "PZ")]
        names = [*momenta, "truthE", "truthPX", "truthPY", "truthPZ"], ["ttv", "is_signal_new"]
        for block, columns in enumerate(names):  # as PyTables keeps lists
            table.attrs[f"values_block_{block}_kind"] = np.bytes_(pickle.dumps(columns, protocol=0))
        for part in repeated(sample, jets):
            rows = np.zeros(len(part), row)
            rows["values_block_0"][:, :-4] = _padded(part, _cartesian(part), SLOTS).reshape(len(part), -1)
            rows["values_block_1"][:, 1] = part.label
            table.resize((len(table) + len(part),))
            table[-len(part) :] = rows


def _energyflow(path: Path, sample: Jets, jets: int) -> None:
    slots = int(sample.counts.max())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("X.npy", "w", force_zip64=True) as file:
            header = {"descr": "<f8", "fortran_order": False, "shape": (jets, slots, 4)}
            np.lib.format.write_array_header_1_0(file, header)
            for part in repeated(sample, jets):
                columns = [part.particles[name] for name in ("pt", "rapidity", "phi", "pid")]
                file.write(_padded(part, columns, slots).astype("<f8").tobytes())
        with archive.open("y.npy", "w") as file:
            label = np.concatenate([part.label for part in repeated(sample, jets)])
            np.lib.format.write_array(file, label.astype(float))


def _jetclass(path: Path, sample: Jets, jets: int) -> None:
    with uproot.recreate(path) as file:
        for number, part in enumerate(repeated(sample, jets)):
            energy, px, py, pz = _cartesian(part)
            pid = np.abs(part.particles["pid"])
            charge = np.where(np.isin(pid, (11, 13)), -1, 1) * np.sign(part.particles["pid"])
            kinds = (np.isin(pid, (211, 321, 2212)), np.isin(pid, (130, 2112)), pid == 22, pid == 11, pid == 13)
            flat = {"px": px, "py": py, "pz": pz, "energy": energy, "charge": np.where(kinds[1] | kinds[2], 0, charge)}
            flat |= dict(zip(FLAGS, kinds, strict=True)) | dict.fromkeys(("d0val", "d0err", "dzval", "dzerr"), px)
            branches = {f"part_{name}": ak.unflatten(np.float32(flat[name]), part.counts) for name in flat}
            labels = {f"label_{name}": part.label == index for index, name in enumerate(CLASSES)}
            branches |= {name: values.astype(np.float32) for name, values in labels.items()}
            if number == 0:
                file.mktree(
                    "tree",
                    {name: values.type if name.startswith("part") else "f4" for name, values in branches.items()},
                )
            file["tree"].extend(branches)
