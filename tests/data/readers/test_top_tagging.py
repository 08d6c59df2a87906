import builtins
import pickle
import sys

import h5py
import numpy as np
import pytest
from data.conftest import assert_same
from hypothesis import given, settings
from hypothesis import strategies as st
from reader_files import outcome, pickled, random_momenta, read, real_file, top_columns, worst, write_top

from iagraph.data import StoreError
from iagraph.data.readers import open_jets

COUNTS = [3, 0, 5, 1, 7, 2, 4]
LABEL = [0, 1, 1, 0, 1, 0, 0]


@pytest.fixture
def momenta():
    return random_momenta(COUNTS, slots=11, mass=False)


@pytest.fixture(scope="module")
def excerpt():
    pytest.importorskip("hdf5plugin")
    return open_jets(real_file("top_excerpt.h5"))


@pytest.fixture(scope="module")
def rows(excerpt):
    with h5py.File(excerpt.path) as file:
        rows = file["table/table"][:]
    return rows["values_block_0"][:, :800].reshape(1000, 200, 4), rows["values_block_1"]


class TestRealJets:
    def test_all_jets_and_particles_are_read(self, excerpt, rows):
        assert (excerpt.jets, excerpt.classes) == (1000, ("QCD", "top"))
        assert excerpt.format.startswith("top quark tagging")
        jets = read(excerpt)
        assert jets.label.tolist() == rows[1][:, 1].tolist()
        assert jets.counts.tolist() == (rows[0][..., 0] > 0).sum(1).tolist()
        assert (jets.counts.min(), jets.counts.max()) == (8, 114)
        assert sorted(jets.particles) == ["mass", "phi", "pt", "rapidity"]

    def test_massless_particles_keep_the_momenta_of_the_file(self, excerpt, rows):
        jets = read(excerpt)
        assert not jets.particles["mass"].any()
        energy, momentum = worst(jets, rows[0][rows[0][..., 0] > 0])
        assert energy < 2e-7  # measured: 1.63e-7
        assert momentum < 1.5e-7  # measured: 1.34e-7

    def test_jets_are_within_the_published_selection(self, excerpt, rows):
        jets = read(excerpt)
        pt, phi = jets.particles["pt"].astype(float), jets.particles["phi"].astype(float)
        px, py = (np.add.reduceat(pt * trigonometric(phi), jets.offsets[:-1]) for trigonometric in (np.cos, np.sin))
        assert np.hypot(px, py).min() > 550
        assert np.hypot(px, py).max() < 650

    @pytest.mark.parametrize("jets_per_part", [1, 7, 41, 250, 999, 1000, 10**9])
    def test_parts_add_up_to_the_whole(self, excerpt, jets_per_part):
        assert_same(read(excerpt, jets_per_part), read(excerpt))


def test_particles_in_any_slot(tmp_path, momenta):
    order = np.argsort(np.random.default_rng(3).random(momenta.shape[:2]), axis=1)
    shuffled = np.take_along_axis(momenta, order[..., None], axis=1)
    jets = read(open_jets(write_top(tmp_path / "a.h5", shuffled, LABEL)))
    assert jets.counts.tolist() == COUNTS
    assert jets.label.tolist() == LABEL
    assert worst(jets, shuffled[shuffled[..., 0] > 0])[1] < 3e-7


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "f8"},
        {"dtype": ">f4"},
        {"compression": "gzip", "shuffle": True},
        {"compression": "lzf"},
        {"chunks": None},
        {"chunks": (1,)},
        {"flags": ("is_signal_new",)},
    ],
    ids=str,
)
def test_equivalent_storage_layouts(tmp_path, momenta, options):
    jets = read(open_jets(write_top(tmp_path / "a.h5", momenta, LABEL, **options)), 3)
    assert_same(jets, read(open_jets(write_top(tmp_path / "b.h5", momenta, LABEL))))


def test_blosc(tmp_path, momenta):
    hdf5plugin = pytest.importorskip("hdf5plugin")
    for name in ("blosclz", "lz4", "zlib", "zstd"):
        path = write_top(tmp_path / f"{name}.h5", momenta, LABEL, **hdf5plugin.Blosc(cname=name))
        assert_same(read(open_jets(path)), read(open_jets(write_top(tmp_path / "plain.h5", momenta, LABEL))))


@settings(max_examples=25)
@given(counts=st.lists(st.integers(0, 5), max_size=13), jets_per_part=st.sampled_from([1, 2, 3, 5, 13, 100]))
def test_ragged_jets_of_all_kinds(tmp_path_factory, counts, jets_per_part):
    momenta = random_momenta(counts)
    path = write_top(tmp_path_factory.mktemp("top") / "a.h5", momenta, [k % 2 for k in range(len(counts))])
    reader = open_jets(path)
    assert reader.jets == len(counts)
    jets = read(reader, jets_per_part)
    if counts:
        assert jets.counts.tolist() == counts
        assert jets.label.tolist() == [k % 2 for k in range(len(counts))]


@pytest.mark.parametrize(
    ("component", "value", "message"),
    [
        (0, -1.0, r"jet 4, particle 6: \(E, px, py, pz\) = \(-1, .*expected finite numbers and E > 0"),
        (0, np.nan, r"jet 4, particle 6: .*nan"),
        (0, 0.0, r"jet 4, particle 6: \(E, px, py, pz\) = \(0, .*E > 0"),
        (2, np.inf, r"jet 4, particle 6: .*inf"),
        (0, 1e-3, r"jet 4, particle 6: E = 0\.001\d* GeV is below \|p\|"),
        (slice(None), (2, 0, 0, 2), r"jet 4, particle 6: .*along the beam"),
    ],
)
@pytest.mark.parametrize("jets_per_part", [1, 3, 100])
def test_bad_particles_are_named_by_jet_and_column(tmp_path, momenta, component, value, message, jets_per_part):
    momenta[4, 6, component] = value
    momenta[5, 1, component] = value
    with pytest.raises(StoreError, match=rf"a\.h5: {message}"):
        read(open_jets(write_top(tmp_path / "a.h5", momenta, LABEL)), jets_per_part)


def test_float64_overflow_of_float32_is_an_error(tmp_path, momenta):
    momenta = momenta.astype(np.float64)
    momenta[4, 6] = (1e200, 1e200, 0, 0)
    with pytest.raises(StoreError, match=r"jet 4, particle 6: .*finite"):
        read(open_jets(write_top(tmp_path / "a.h5", momenta, LABEL, dtype="f8")))
    momenta[4, 6] = (5e39, 3e39, 0, 4e39)
    with pytest.raises(StoreError, match=r"jet 4, particle 6: pt = inf, expected finite"):
        read(open_jets(write_top(tmp_path / "a.h5", momenta, LABEL, dtype="f8")), 3)


def test_labels_are_zero_or_one(tmp_path, momenta):
    with pytest.raises(StoreError, match=r"a\.h5: jet 5: is_signal_new = 2, expected 0 or 1"):
        read(open_jets(write_top(tmp_path / "a.h5", momenta, [0, 1, 0, 1, 1, 2, 3])), 2)


def swapped(slots):
    columns = top_columns(slots)
    columns[4], columns[5] = columns[5], columns[4]
    return columns


@pytest.mark.parametrize("columns", [swapped(11), sorted(top_columns(11)), top_columns(11)[::-1]])
def test_columns_are_found_by_name_in_any_order(tmp_path, momenta, columns):
    standard = write_top(tmp_path / "a.h5", momenta, LABEL)
    with h5py.File(standard) as file:
        rows = file["table/table"]["values_block_0"]
    order = [top_columns(11).index(name) for name in columns]
    with h5py.File(write_top(tmp_path / "b.h5", momenta, LABEL, columns=columns), "r+") as file:
        table = file["table/table"]
        changed = table[:]
        changed["values_block_0"] = rows[:, order]
        table[:] = changed
    assert_same(read(open_jets(tmp_path / "b.h5"), 3), read(open_jets(standard)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"columns": ["PX_99", *top_columns(11)[1:]]},
            r"has the columns PX_99, PX_0, .*\.\.\., but no E_0; expected E_0",
        ),
        ({"columns": ["a", *top_columns(11)[1:40], "b", *top_columns(11)[41:]]}, r"has the columns a, .* but no E_0;"),
        ({"columns": [*top_columns(11)[:40], "b", *top_columns(11)[41:]]}, r"has the columns .* but no E_10; expected"),
        ({"columns": [f"x{i}" for i in range(48)]}, r"has the columns x0, x1, .* but no E_0; expected E_0"),
        ({"columns": top_columns(12)}, r"values_block_0 has 48 columns, but 52 names"),
        ({"columns": [*top_columns(11)[:-1], "E_0"]}, r"/table/table has two columns of one name"),
        ({"flags": ("ttv", "is_signal")}, r"has the columns E_0, .* but no is_signal_new"),
    ],
)
def test_columns_that_are_missing_are_named(tmp_path, momenta, options, message):
    with pytest.raises(StoreError, match=rf"a\.h5: {message}"):
        open_jets(write_top(tmp_path / "a.h5", momenta, LABEL, **options))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (None, r"no attribute values_block_0_kind, where pandas records column names"),
        (np.bytes_(b"garbage"), r"incomplete or damaged"),
        (np.int64(5), r"no attribute values_block_0_kind"),
        # Protocol 0 of a call: unpickling this would make a file.
        (np.bytes_(b"cbuiltins\nopen\n(Vmade-by-pickle\nVw\ntR."), r"48 columns, but 2 names"),
    ],
)
def test_column_names_are_read_without_unpickling(tmp_path, monkeypatch, momenta, record, message):
    monkeypatch.chdir(tmp_path)
    with h5py.File(write_top(tmp_path / "a.h5", momenta, LABEL), "r+") as file:
        del file["table/table"].attrs["values_block_0_kind"]
        if record is not None:
            file["table/table"].attrs["values_block_0_kind"] = record
    with pytest.raises(StoreError, match=message):
        open_jets(tmp_path / "a.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_column_names_in_any_pickle_protocol(tmp_path, momenta, protocol):
    with h5py.File(write_top(tmp_path / "a.h5", momenta, LABEL), "r+") as file:
        file["table/table"].attrs["values_block_0_kind"] = np.bytes_(pickle.dumps(top_columns(11), protocol))
    assert read(open_jets(tmp_path / "a.h5")).counts.tolist() == COUNTS


def test_column_names_pickled_by_python_2(tmp_path, momenta):
    names = b"".join(b"S'%s'\np%d\na" % (name.encode(), k) for k, name in enumerate(top_columns(11), start=1))
    with h5py.File(write_top(tmp_path / "a.h5", momenta, LABEL), "r+") as file:
        file["table/table"].attrs["values_block_0_kind"] = np.bytes_(b"(lp0\n" + names + b".")
    assert read(open_jets(tmp_path / "a.h5")).counts.tolist() == COUNTS


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        ([("index", "i8"), ("values_block_0", "f4", (48,))], "no is_signal_new"),
        ([("index", "i8"), ("values_block_1", "i8", (2,))], "has the columns ttv, is_signal_new, but no E_0"),
        ([("values_block_0", "f4"), ("values_block_1", "i8", (2,))], "values_block_0 has 1 columns, but 48 names"),
        (
            [("values_block_0", "S4", (48,)), ("values_block_1", "i8", (2,))],
            "holds objects or strings, expected numbers",
        ),
        ([("values_block_0", "f4", (12, 4)), ("values_block_1", "i8", (2,))], "expected rows of numbers"),
    ],
)
def test_other_tables_are_refused(tmp_path, dtype, message):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        table = file.create_dataset("table/table", data=np.zeros(5, dtype))
        table.attrs["values_block_0_kind"] = pickled(top_columns(11))
        table.attrs["values_block_1_kind"] = pickled(["ttv", "is_signal_new"])
    with pytest.raises(StoreError, match=rf"a\.h5: .*{message}"):
        open_jets(tmp_path / "a.h5")


def test_files_without_a_table_are_refused(tmp_path):
    with h5py.File(tmp_path / "array", "w") as file:
        file["table/table"] = np.zeros((3, 4))
    with h5py.File(tmp_path / "group", "w") as file:
        file.create_group("table/table")
    for name in ("array", "group"):
        with pytest.raises(StoreError, match=rf"{name}: has no table /table/table; write it with DataFrame.to_hdf"):
            open_jets(tmp_path / name)


def test_missing_packages_and_filters_are_named(tmp_path, monkeypatch, momenta):
    path = write_top(tmp_path / "a.h5", momenta, LABEL, compression="gzip")
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: False)
    pytest.importorskip("hdf5plugin")
    with pytest.raises(StoreError, match=r"a\.h5: is compressed with .*deflate.*unknown to hdf5plugin"):
        open_jets(path)
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "hdf5plugin":
            raise ModuleNotFoundError("No module named 'hdf5plugin'", name=name)
        return original(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "hdf5plugin")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"a\.h5 is compressed .* needs hdf5plugin: pip install 'iagraph\[data\]'"):
        open_jets(path)


def test_unwritten_rows_are_not_empty_jets(tmp_path, momenta):
    with h5py.File(write_top(tmp_path / "a.h5", momenta, LABEL, chunks=(4,)), "r+") as file:
        file["table/table"].resize((9,))
    with pytest.raises(StoreError, match=r"a\.h5: /table/table lacks some of its 9 rows; download or copy it again"):
        open_jets(tmp_path / "a.h5")


def test_truncation_anywhere_is_an_error(tmp_path, momenta):
    path = write_top(tmp_path / "a.h5", momenta, LABEL, compression="gzip")
    whole = path.read_bytes()
    for size in {0, 1, 7, 8, 9, 100, len(whole) - 1, *np.linspace(0, len(whole) - 1, 40).astype(int).tolist()}:
        path.write_bytes(whole[:size])
        with pytest.raises(StoreError, match=r"a\.h5"):
            read(open_jets(path))


def test_flipped_bits_give_jets_or_an_error_that_names_the_file(tmp_path, momenta):
    path = write_top(tmp_path / "a.h5", momenta, LABEL, compression="gzip", fletcher32=True)
    whole, rng, original = path.read_bytes(), np.random.default_rng(0), read(open_jets(path))
    noticed = 0
    for position in rng.integers(0, len(whole), 150):
        changed = bytearray(whole)
        changed[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        jets = outcome(path)
        noticed += jets is None
        assert (jets or original).counts.tolist() == original.counts.tolist()
    assert noticed > 10
