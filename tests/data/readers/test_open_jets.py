import gzip
import io
import os
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
from data.conftest import assert_same
from reader_files import random_momenta, read, write_jetclass, write_top

from iagraph.data import Jets, StoreError, read_store, resolve, write_store
from iagraph.data.readers import Reader, open_jets

COUNTS = [3, 0, 5, 1, 7, 2, 4]
LABEL = [0, 1, 1, 0, 1, 0, 0]


def write_energyflow(path, momenta, label):
    with path.open("wb") as file:  # given a path, numpy would append .npz
        x = np.concatenate([np.abs(momenta[..., :1]), np.tanh(momenta[..., 1:3]), 22 * (momenta[..., :1] > 0)], axis=2)
        np.savez(file, X=x, y=label)
    return path


WRITERS = {"top": write_top, "EnergyFlow": write_energyflow, "JetClass": write_jetclass}


@pytest.fixture(params=WRITERS)
def write(request):
    if request.param == "JetClass":
        pytest.importorskip("uproot", reason="reading ROOT files needs pip install 'iagraph[data]'")
    return WRITERS[request.param]


def make_store(path, classes=("a", "b", "c")):
    rng = np.random.default_rng(0)
    columns = {name: rng.random(22, np.float32) for name in ("mass", "phi", "pt", "rapidity", "strange")}
    jets = Jets(columns, np.cumsum([0, *COUNTS]), np.array(LABEL), classes)
    write_store(path, jets, splits={"train": 4, "test": 3})
    return jets


@pytest.mark.parametrize("name", ["jets", "jets.txt", "jets.h5", "jets.npz", "jets.root"])
def test_formats_are_recognised_by_content(tmp_path, write, name):
    reader = open_jets(str(write(tmp_path / name, random_momenta(COUNTS), LABEL)))
    assert isinstance(reader, Reader)
    assert (reader.path, reader.jets) == (tmp_path / name, 7)
    assert read(reader, 3).counts.tolist() == COUNTS


def test_formats_have_readable_names(tmp_path):
    path = write_top(tmp_path / "a", random_momenta(COUNTS), LABEL)
    assert open_jets(path).format == "top quark tagging reference data (HDF5)"
    path = write_energyflow(tmp_path / "b", random_momenta(COUNTS), LABEL)
    assert open_jets(path).format == "EnergyFlow quark/gluon jets (npz)"
    make_store(tmp_path / "c")
    assert open_jets(tmp_path / "c").format == "iagraph jets"


@pytest.mark.parametrize("jets_per_part", [1, 2, 3, 6, 7, 8, 10**9])
def test_stores_are_read_with_all_columns(tmp_path, jets_per_part):
    jets = make_store(tmp_path / "a")
    reader = open_jets(tmp_path / "a")
    assert (reader.jets, reader.classes) == (7, ("a", "b", "c"))
    assert_same(read(reader, jets_per_part), jets)


@pytest.mark.parametrize("name", ["sample:qg", resolve("sample:qg")])
def test_the_sample(name):
    reader = open_jets(name)
    assert reader.jets == 18_000
    assert_same(read(reader, 5000), read_store(resolve("sample:qg")))


def test_readers_can_be_reused_and_abandoned(tmp_path, write):
    reader = open_jets(write(tmp_path / "a", random_momenta(COUNTS), LABEL))
    parts = reader.parts(2)
    first = next(parts)
    assert_same(next(reader.parts(2)), first)
    parts.close()
    assert read(reader).counts.tolist() == COUNTS


def test_parts_are_independent_copies(tmp_path, write):
    reader = open_jets(write(tmp_path / "a", random_momenta(COUNTS), LABEL))
    whole, parts = read(reader), []
    for part in reader.parts(3):
        parts.append(part.take(np.arange(len(part))))
        for column in part.particles.values():
            column[:] = 7
    assert_same(Jets.concatenate(parts), whole)


@pytest.mark.parametrize("jets_per_part", [0, -1])
def test_parts_must_hold_jets(tmp_path, jets_per_part):
    make_store(tmp_path / "a")
    with pytest.raises(StoreError, match=rf"a: jets_per_part is {jets_per_part}, expected 1 or more"):
        next(open_jets(tmp_path / "a").parts(jets_per_part))


def test_files_that_change_between_opening_and_reading(tmp_path, write):
    path = write(tmp_path / "a", random_momenta(COUNTS), LABEL)
    reader = open_jets(path)
    write(path, random_momenta([*COUNTS, 3]), [*LABEL, 1])
    with pytest.raises(StoreError, match=r"a: found 8 jets, expected 7; do not modify a file"):
        list(reader.parts())
    path.unlink()
    with pytest.raises(StoreError, match=r"a: "):
        list(reader.parts())


def test_memory_does_not_grow_with_the_file(tmp_path, write):
    peaks = []
    for jets in (2 * 97 + 1, 8 * 2 * 97 + 1):
        momenta = random_momenta(np.full(jets, 40))
        reader = open_jets(write(tmp_path / f"{jets}", momenta, np.arange(jets) % 2))
        next(reader.parts(97))  # allocated once and kept
        tracemalloc.start()
        assert sum(map(len, reader.parts(97))) == jets
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 100_000  # the larger file holds 1 MB of momenta


def html():
    return b"\n <!DOCTYPE html>\n<html><head><title>504 Gateway Time-out</title></head></html>"


def tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("JetClass/HToBB_000.root"))
    return file.getvalue()


def npy():
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"empty; download or copy it again"),
        (b"\x00" * 5, r"begins with the bytes 00 00 00 00 00"),
        (html(), r"a web page, perhaps a server's error message; download it again"),
        (b"<HTML><body>no</body>", r"a web page"),
        (b"pt,phi\n1,2\n" * 1000, r"text that begins 'pt,phi\\n1,2"),
        ("größe".encode() * 100, r"text that begins 'größe"),
        (tar(), r"an archive; unpack it"),
        (gzip.compress(b"root"), r"an archive; unpack it"),
        (npy(), r"a single NumPy array \(npy\)"),
        (b"\x89HDF\r\n", r"text|begins with"),
    ],
    ids=range(10),
)
def test_other_files_are_described(tmp_path, content, message):
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(StoreError, match=rf"a\.h5: ({message}).*; expected jets of the top quark tagging reference"):
        open_jets(tmp_path / "a.h5")


@pytest.mark.parametrize("magic", [b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"root"])
@pytest.mark.parametrize("size", [0, 1, 1000])
def test_garbage_after_a_signature_is_damage(tmp_path, magic, size):
    (tmp_path / "a").write_bytes(magic + np.random.default_rng(0).bytes(size))
    with pytest.raises(StoreError, match=r"a: incomplete or damaged \(.*\); download or copy it again"):
        open_jets(tmp_path / "a")


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(StoreError, match=r"absent\.h5: no such file; check the path"):
        open_jets(tmp_path / "absent.h5")
    with pytest.raises(StoreError, match=r": a folder; name a file in it"):
        open_jets(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "absent.h5")
    with pytest.raises(StoreError, match=r"link: no such file"):
        open_jets(tmp_path / "link")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path):
    make_store(tmp_path / "a")
    (tmp_path / "a").chmod(0)
    with pytest.raises(StoreError, match=r"a: cannot be read .*; check permissions"):
        open_jets(tmp_path / "a")


def test_other_hdf5_and_zip_files_are_described(tmp_path):
    with h5py.File(tmp_path / "a", "w") as file:
        file["x"] = file["y"] = np.arange(3)
    with pytest.raises(StoreError, match=r"a: HDF5 with x, y; expected jets of the top"):
        open_jets(tmp_path / "a")
    with h5py.File(tmp_path / "b", "w"):
        pass
    with pytest.raises(StoreError, match=r"b: HDF5 with nothing in it; expected"):
        open_jets(tmp_path / "b")
    with zipfile.ZipFile(tmp_path / "c", "w") as archive:
        archive.writestr("README.txt", "jets")
    with pytest.raises(StoreError, match=r"c: holds README, expected EnergyFlow's arrays X and y"):
        open_jets(tmp_path / "c")


def test_hdf5_after_a_user_block(tmp_path):
    path = write_top(tmp_path / "a", random_momenta(COUNTS), LABEL)
    (tmp_path / "b").write_bytes(bytes(512) + path.read_bytes())
    assert_same(read(open_jets(tmp_path / "b")), read(open_jets(path)))


def test_a_damaged_store_is_an_error(tmp_path):
    make_store(tmp_path / "a")
    whole = (tmp_path / "a").read_bytes()
    for size in np.linspace(8, len(whole) - 1, 20).astype(int):
        (tmp_path / "a").write_bytes(whole[:size])
        with pytest.raises(StoreError, match=r"a: .*damaged"):
            read(open_jets(tmp_path / "a"))


def test_packages_are_needed_only_for_their_formats(tmp_path):
    energyflow = write_energyflow(tmp_path / "a", random_momenta(COUNTS), LABEL)
    top = write_top(tmp_path / "b", random_momenta(COUNTS), LABEL, compression="gzip")
    (tmp_path / "c").write_bytes(b"root" + bytes(500))
    code = f"""
import sys
sys.modules.update(dict.fromkeys(("uproot", "awkward", "hdf5plugin")))
from iagraph.data.readers import open_jets
print(sum(map(len, open_jets({str(energyflow)!r}).parts())), sum(map(len, open_jets({str(top)!r}).parts())))
try:
    open_jets({str(tmp_path / "c")!r})
except ImportError as error:
    print(error)
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines() == ["7 7", "reading ROOT files needs awkward: pip install 'iagraph[data]'"]
