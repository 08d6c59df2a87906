"""Parquet files in the layouts of other converters."""

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="reading parquet files needs pip install 'iagraph[data]'")

import awkward as ak
import pyarrow as pa
from data.conftest import assert_same
from pyarrow import parquet
from reader_files import outcome, random_momenta, read, real_excerpt, real_file, top_columns, write_top

from iagraph.data import StoreError
from iagraph.data.convert import convert
from iagraph.data.readers import open_jets

COUNTS = [3, 0, 5, 1, 7, 2, 4]
LABEL = np.array([0, 1, 1, 0, 1, 0, 0])
MOMENTUM = ("part_energy", "part_px", "part_py", "part_pz")


def weaver(path, momenta, label, pid=None, **options):
    """What weaver's converters write of (E, px, py, pz), zero-padded; as they do, in one row group with LZ4."""
    present = momenta[..., 0] > 0
    counts, flat = present.sum(axis=1), momenta[present]
    lists = dict(zip(MOMENTUM, map(np.ascontiguousarray, flat.T), strict=True))
    lists |= {"part_deta": flat[:, 1].copy(), "part_dphi": flat[:, 1].copy()}
    if pid is not None:
        lists |= {"part_pid": pid.astype(np.float32), "part_charge": np.sign(pid).astype(np.float32)}
    columns = {"label": label, "jet_pt": np.ones(len(label)), "jet_nparticles": counts}
    columns = {name: np.ascontiguousarray(values) for name, values in columns.items()}
    columns |= {name: ak.unflatten(values, counts) for name, values in lists.items()}
    table = ak.to_arrow_table(ak.Array(columns), list_to32=options.pop("list_to32", False), extensionarray=False)
    parquet.write_table(table, path, compression="lz4", **options)
    return path


def massless(kinematics):
    """(E, px, py, pz) in the arithmetic of float32 of massless particles (pt, rapidity, phi), as the converter does."""
    pt, y, phi = (kinematics[..., k].astype(np.float32) for k in range(3))
    return np.stack([pt * np.cosh(y), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(y)], axis=-1)


def random_quark_gluon(counts):
    rng = np.random.default_rng(1)
    x = np.zeros((len(counts), max(counts), 4))
    present = np.arange(max(counts)) < np.array(counts)[:, None]
    total = sum(counts)
    x[present] = np.stack(
        [
            rng.exponential(5, total) + 0.01,
            rng.uniform(-1.7, 1.7, total),
            rng.uniform(-3, 3, total),
            rng.choice([22, 211, -211, 130, -11, 2212], total),
        ],
        axis=1,
    )
    return x, present


@pytest.mark.parametrize("jets_per_part", [1, 3, 100])
@pytest.mark.parametrize("options", [{}, {"row_group_size": 2}, {"list_to32": True}], ids=str)
def test_weaver_top_jets_equal_those_of_the_reference(tmp_path, jets_per_part, options):
    momenta = random_momenta(COUNTS, mass=False)
    reader = open_jets(weaver(tmp_path / "a", momenta, LABEL, **options))
    assert (reader.jets, reader.classes) == (7, ("QCD", "top"))
    assert reader.format.startswith("top tagging of weaver")
    assert_same(read(reader, jets_per_part), read(open_jets(write_top(tmp_path / "b", momenta, LABEL))))


def test_real_top_jets_of_weaver_and_flat_ones(tmp_path):
    pytest.importorskip("hdf5plugin")
    import h5py

    jets = read(open_jets(real_file("top_excerpt.h5")))
    with h5py.File(real_file("top_excerpt.h5")) as file:
        rows = file["table/table"][:]
    values, label = rows["values_block_0"][:, :800], rows["values_block_1"][:, 1]
    assert_same(read(open_jets(weaver(tmp_path / "a", values.reshape(1000, 200, 4), label)), 300), jets)
    arrays = dict(zip(top_columns(200), values.T, strict=False)) | {"is_signal_new": label}
    for number, begin in enumerate((0, 600)):
        table = pa.table({name: column[begin : begin + 600] for name, column in arrays.items()})
        parquet.write_table(table, tmp_path / f"train-0000{number}-of-00002.parquet", row_group_size=250)
    convert([tmp_path / "train-*.parquet"], tmp_path / "out.h5")
    assert_same(read(open_jets(tmp_path / "out.h5")), jets)


def test_quark_gluon_jets_are_massless_with_the_published_rapidity(tmp_path):
    x, present = random_quark_gluon(COUNTS)
    reader = open_jets(weaver(tmp_path / "a", massless(x), LABEL.astype(np.float64), x[present][:, 3]))
    assert reader.classes == ("gluon", "quark")
    assert reader.format.startswith("quark/gluon jets of weaver")
    jets = read(reader, 3)
    assert jets.label.tolist() == LABEL.tolist()
    assert jets.counts.tolist() == COUNTS
    assert not jets.particles["mass"].any()
    for column, name in enumerate(("pt", "rapidity", "phi")):
        np.testing.assert_allclose(jets.particles[name], x[present][:, column], rtol=1e-6, atol=1e-6)
    assert jets.particles["pid"].tolist() == x[present][:, 3].astype(int).tolist()


def test_real_quark_gluon_jets(tmp_path):
    momenta, label = real_excerpt("qg_excerpt.npz")
    energy, px, py, pz = np.moveaxis(momenta.astype(np.float64), -1, 0)
    present, pt = energy > 0, np.hypot(px, py)
    with np.errstate(invalid="ignore", divide="ignore"):
        x = np.stack([pt, np.nan_to_num(np.arcsinh(pz / pt)), np.arctan2(py, px)], axis=-1)
    jets = read(open_jets(weaver(tmp_path / "a", massless(x), label, np.full(present.sum(), 211))))
    assert len(jets) == 1000
    np.testing.assert_allclose(jets.particles["rapidity"], x[present][:, 1], rtol=1e-5, atol=1e-6)


def test_masses_are_not_dropped_silently(tmp_path):
    momenta = random_momenta(COUNTS)
    pid = np.full(sum(COUNTS), 211)
    with pytest.raises(StoreError, match=r"a: jet \d, particle \d: E = .* is not \|p\| = .*, expected a massless"):
        read(open_jets(weaver(tmp_path / "a", momenta, LABEL, pid)))


@pytest.mark.parametrize("label", [LABEL, LABEL.astype(bool), LABEL.astype(np.int8), LABEL.astype(np.float64)])
def test_flat_columns_in_any_order(tmp_path, label):
    momenta = random_momenta(COUNTS, mass=False)
    names = top_columns(7)[:28]
    columns = {"ttv": np.zeros(7)} | dict(sorted(zip(names, momenta.reshape(7, 28).T, strict=True)))
    parquet.write_table(pa.table(columns | {"is_signal_new": label}), tmp_path / "a")
    reader = open_jets(tmp_path / "a")
    assert reader.format == "top quark tagging reference data (parquet)"
    assert_same(read(reader, 3), read(open_jets(write_top(tmp_path / "b", momenta, LABEL))))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1.0], "y": [2.0]}, r"parquet with the columns x, y; expected those of weaver's converters .*--map"),
        ({"E_0": [1.0], "PX_0": [1.0], "PY_0": [0.0], "is_signal_new": [1]}, r"has the columns E_0, PX_0.*but no PZ_0"),
        (
            {"E_0": [1.0], "PX_0": [1.0], "PY_0": [0.0], "PZ_0": [0.0], "is_signal_new": ["top"]},
            r"column is_signal_new is (large_)?string, expected one number per jet",
        ),
        (
            {"E_0": [1.0], "PX_0": [1.0], "PY_0": [0.0], "PZ_0": [0.0], "is_signal_new": [None]},
            r"column is_signal_new is null, expected one number",
        ),
        ({"label": [1], **{name: [1.0] for name in MOMENTUM}}, r"is double, expected a list per jet"),
        ({"label": [2], **{name: [["a"]] for name in MOMENTUM}}, r"list<.*string>, expected a list"),
    ],
)
def test_unexpected_columns_are_named(tmp_path, columns, message):
    parquet.write_table(pa.table(columns), tmp_path / "a")
    with pytest.raises(StoreError, match=rf"a: .*{message}"):
        open_jets(tmp_path / "a")


def test_missing_values_are_named(tmp_path):
    lists = {name: pa.array([[1.0 + (name == "part_energy")], [2.0, None]]) for name in MOMENTUM}
    parquet.write_table(pa.table(lists | {"label": [0, 1]}), tmp_path / "a")
    with pytest.raises(StoreError, match=r"a: jet 1: part_\w+ holds null"):
        read(open_jets(tmp_path / "a"), 1)
    parquet.write_table(pa.table(lists | {"label": pa.array([0, None])}), tmp_path / "a")
    with pytest.raises(StoreError, match=r"a: jet 1: label is null"):
        read(open_jets(tmp_path / "a"), 1)


def test_truncation_anywhere_is_an_error(tmp_path):
    whole = weaver(tmp_path / "a", random_momenta(COUNTS), LABEL).read_bytes()
    for size in {4, 100, len(whole) - 1, *np.linspace(4, len(whole) - 1, 30).astype(int).tolist()}:
        (tmp_path / "a").write_bytes(whole[:size])
        with pytest.raises(StoreError, match=r"a: "):
            read(open_jets(tmp_path / "a"))


def test_flipped_bits_give_jets_or_an_error_that_names_the_file(tmp_path):
    whole = weaver(tmp_path / "a", random_momenta(COUNTS), LABEL).read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(whole), 100):
        changed = bytearray(whole)
        changed[position] ^= 1 << int(rng.integers(8))
        (tmp_path / "a").write_bytes(changed)
        outcome(tmp_path / "a")
