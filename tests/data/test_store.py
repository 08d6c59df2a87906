import errno
import hashlib
import resource

import h5py
import numpy as np
import pytest
from data.conftest import assert_same
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from iagraph.data.jets import Jets, StoreError
from iagraph.data.sample import resolve
from iagraph.data.store import FORMAT, read_store, store_info
from iagraph.data.writer import write_store

CLASSES = ("gluon", "quark")
COLUMNS = ("pt", "rapidity", "phi", "mass")


def make_jets(counts, seed=0):
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    particles = {name: rng.random(offsets[-1], dtype=np.float32) for name in COLUMNS}
    particles["pid"] = rng.choice([-211, 22, 2112], offsets[-1]).astype(np.int32)
    return Jets(particles, offsets, rng.integers(0, 2, len(counts)), CLASSES)


@st.composite
def ragged_jets(draw):
    counts = draw(st.lists(st.integers(0, 7), max_size=11))
    total = sum(counts)
    finite = st.floats(-1e6, 1e6, width=32)
    positive = st.floats(0, 1e6, width=32)
    elements = {
        "pt": st.floats(0, 1e6, width=32, exclude_min=True),
        "rapidity": st.floats(-20, 20, width=32),
        "phi": finite,
        "mass": positive,
        "displacement": finite,
    }
    particles = {name: draw(hnp.arrays(np.float32, total, elements=kind)) for name, kind in elements.items()}
    if draw(st.booleans()):
        particles["pid"] = draw(hnp.arrays(np.int32, total))
    label = draw(hnp.arrays(np.int64, len(counts), elements=st.integers(0, 2)))
    return Jets(particles, np.cumsum([0, *counts], dtype=np.int64), label, ("a", "b", "ünï"))


@settings(max_examples=40)
@given(jets=ragged_jets(), share=st.floats(0, 1))
def test_round_trip_is_exact_and_parts_add_up(tmp_path_factory, jets, share):
    path = tmp_path_factory.mktemp("store") / "jets.h5"
    first = int(share * len(jets))
    write_store(path, jets, splits={"zeta": first, "alpha": len(jets) - first}, provenance={"why": ["ünï", 1.5]})
    assert_same(read_store(path), Jets(dict(sorted(jets.particles.items())), jets.offsets, jets.label, jets.classes))
    parts = [read_store(path, "zeta"), read_store(path, "alpha")]
    assert [len(part) for part in parts] == [first, len(jets) - first]
    assert_same(Jets.concatenate(parts), read_store(path))
    info = store_info(path)
    assert (info.jets, info.particles, info.classes) == (len(jets), jets.offsets[-1], jets.classes)
    assert list(info.splits) == ["zeta", "alpha"]
    assert info.provenance == {"why": ["ünï", 1.5]}
    assert info.bytes == path.stat().st_size


@given(jets=ragged_jets(), data=st.data())
def test_take_equals_picking_jet_by_jet(jets, data):
    picks = data.draw(st.lists(st.integers(-len(jets), len(jets) - 1), max_size=9) if len(jets) else st.just([]))
    taken = jets.take(picks)
    assert len(taken) == len(picks)
    for new, old in enumerate(picks):
        old %= len(jets)
        assert taken.label[new] == jets.label[old]
        for name, column in jets.particles.items():
            expected = column[jets.offsets[old] : jets.offsets[old + 1]]
            np.testing.assert_array_equal(taken.particles[name][taken.offsets[new] : taken.offsets[new + 1]], expected)
    mask = jets.counts > 2
    assert_same(jets.take(mask), jets.take(np.flatnonzero(mask)))


def test_equal_jets_give_equal_bytes_and_fingerprints_follow_the_content(tmp_path):
    paths = [tmp_path / name for name in ("a.h5", "b.h5", "c.h5")]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        write_store(path, make_jets([3, 0, 5], seed), splits={"train": 3}, provenance={"x": 1, "y": 2})
    assert paths[0].read_bytes() == paths[1].read_bytes()
    fingerprints = [store_info(path).fingerprint for path in paths]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]
    jets = make_jets([3, 0, 5], 1)
    moved = Jets(jets.particles, np.array([0, 3, 4, 8]), jets.label, jets.classes)
    write_store(paths[2], moved)
    assert store_info(paths[2]).fingerprint != fingerprints[0]


def test_twenty_bytes_per_particle_at_most(tmp_path):
    write_store(tmp_path / "jets.h5", make_jets([50] * 4000))
    with h5py.File(tmp_path / "jets.h5") as file:
        assert sum(column.dtype.itemsize for column in file["particles"].values()) == 20
        assert {name: column.attrs["unit"].decode() for name, column in file["particles"].items()} == {
            "pt": "GeV",
            "rapidity": "1",
            "phi": "rad",
            "mass": "GeV",
            "pid": "PDG id",
        }
        assert all(column.chunks[0] < len(column) for column in file["particles"].values())


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), MemoryError()]
)
@pytest.mark.parametrize("calls", [0, 3, 6])
def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failure, calls):
    path = tmp_path / "jets.h5"
    write_store(path, make_jets([2, 3]))
    before = path.read_bytes()
    original, made = h5py.Group.create_dataset, []

    def create_dataset(self, *args, **kwargs):
        if len(made) == calls:
            raise failure
        made.append(args)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(h5py.Group, "create_dataset", create_dataset)
    with pytest.raises(StoreError if isinstance(failure, OSError) else type(failure)) as caught:
        write_store(path, make_jets([4, 5]))
    if isinstance(failure, OSError):
        assert str(path) in str(caught.value)
        assert "space" in str(caught.value)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["jets.h5"]


def test_full_disk_is_an_error_and_leaves_no_file(tmp_path):
    # With a limit on file sizes, the system itself refuses a write half-way, as with a full disk.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"jets\.h5: cannot write .*free space"):
            write_store(tmp_path / "jets.h5", make_jets([50] * 2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_truncation_anywhere_is_an_error(tmp_path):
    path = tmp_path / "jets.h5"
    write_store(path, make_jets([30] * 40), splits={"train": 40})
    whole = path.read_bytes()
    for size in {0, 1, 7, 8, 100, len(whole) - 1, *np.linspace(0, len(whole) - 1, 60).astype(int).tolist()}:
        path.write_bytes(whole[:size])
        for read in (read_store, store_info, lambda file: read_store(file, "train")):
            with pytest.raises(StoreError, match=r"jets\.h5.*(damaged|format)"):
                read(path)


def test_flipped_bits_never_change_jets_silently(tmp_path):
    path = tmp_path / "jets.h5"
    jets = make_jets([30] * 40)
    write_store(path, jets)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    noticed = 0
    for position in rng.integers(0, len(whole), 150):
        changed = bytearray(whole)
        changed[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            assert_same(read_store(path), jets.take(np.arange(40)))
        except StoreError:
            noticed += 1
    assert noticed > 75


@pytest.mark.parametrize(
    ("column", "value", "jets", "message"),
    [
        ("rapidity", np.nan, [2, 0, 3, 4], r"jet 2, particle 1: rapidity = nan, expected finite"),
        ("phi", np.inf, [2, 0, 3, 4], r"jet 2, particle 1: phi = inf, expected finite"),
        ("rapidity", -20.1, [2, 0, 3, 4], r"jet 2, particle 1: rapidity = -20.1\d*, expected finite, at most 20;"),
        ("mass", 1.1e8, [2, 0, 3, 4], r"jet 2, particle 1: mass = 110000000.0, expected finite .* at most 1e\+08;"),
        ("pt", -1.0, [2, 0, 3, 4], r"jet 2, particle 1: pt = -1.0, expected finite and above 0"),
        (
            "pt",
            0.0,
            [2, 0, 3, 4],
            r"jet 2, particle 1: pt = 0.0, expected finite and above 0.*; Jets.from_padded removes",
        ),
        ("mass", -0.5, [3, 2], r"jet 1, particle 0: mass = -0.5"),
    ],
)
def test_first_bad_value_is_named(column, value, jets, message, tmp_path):
    bad = make_jets(jets)
    bad.particles[column][3:] = value
    bad.particles["phi"][4:] = np.nan
    with pytest.raises(StoreError, match=message):
        write_store(tmp_path / "jets.h5", bad)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offsets": np.array([0, 3, 2, 5])}, r"jet 1 has offsets \[3, 2\]"),
        ({"offsets": np.array([0, 3, 5])}, r"found 3 offsets, expected 4"),
        ({"offsets": np.array([1, 2, 3, 5])}, r"the first one 0"),
        ({"offsets": np.array([0, 1, 2, 4])}, r"pt has 5 values, expected 4"),
        ({"offsets": np.array([0, 1, 2, 5], np.int32)}, r"offsets is int32"),
        ({"label": np.array([0, 1, 2])}, r"jet 2 has label 2"),
        ({"label": np.array([0, -1, 0])}, r"jet 1 has label -1"),
    ],
)
def test_wrong_structure_is_named(change, message):
    jets = make_jets([1, 2, 2])
    values = {"particles": jets.particles, "offsets": jets.offsets, "label": jets.label, "classes": jets.classes}
    with pytest.raises(StoreError, match=f"^somewhere: .*{message}"):
        Jets(**(values | change)).validate("somewhere")


def test_wrong_columns_are_named():
    jets = make_jets([1, 2])
    for name, array, message in (
        ("pt", np.zeros(3), r"pt is float64 of shape \(3,\), expected 1-D float32"),
        ("pt", [1.0, 2.0, 3.0], "pt is a list, expected a NumPy array of float32"),
        ("extra", np.zeros((3, 2)), r"extra is float64 of shape \(3, 2\)"),
        ("extra", np.array(["a", "b", "c"]), r"extra is <U1"),
    ):
        with pytest.raises(StoreError, match=message):
            Jets({**jets.particles, name: array}, jets.offsets, jets.label, CLASSES).validate("here")
    del jets.particles["mass"]
    with pytest.raises(StoreError, match=r"lacks mass, expected pt, rapidity, phi, mass"):
        jets.validate("here")


def test_concatenate_refuses_incompatible_jets():
    jets = make_jets([1, 2])
    relabelled = Jets(jets.particles, jets.offsets, jets.label, ("quark", "gluon"))
    fewer = Jets({name: jets.particles[name] for name in COLUMNS}, jets.offsets, jets.label, CLASSES)
    for parts in ([jets, relabelled], [jets, fewer], []):
        with pytest.raises(StoreError, match=r"Jets\.concatenate"):
            Jets.concatenate(parts)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(StoreError, match=r"absent\.h5: no such file"):
        read_store(tmp_path / "absent.h5")
    with pytest.raises(StoreError, match=r"no such file"):
        read_store(tmp_path)
    (tmp_path / "text.h5").write_text("pt,phi\n1,2\n" * 1000)
    with pytest.raises(StoreError, match=r"text\.h5: no jet store, which is HDF5"):
        read_store(tmp_path / "text.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["table"] = np.arange(5)
    with pytest.raises(StoreError, match=r"foreign\.h5: format is None, expected 'iagraph jets'; convert"):
        read_store(tmp_path / "foreign.h5")
    with pytest.raises(StoreError, match=r"cannot write .*check folder"):
        write_store(tmp_path / "absent" / "jets.h5", make_jets([1]))
    with pytest.raises(StoreError, match=r"cannot write .*check folder"):
        write_store(tmp_path / "text.h5" / "jets.h5", make_jets([1]))


def _delete(name):
    return lambda file: file.__delitem__(name)


def _resize(name, size):
    return lambda file: file[name].resize((size,))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.attrs.__setitem__("version", 3), r"version is 3, expected 2; update iagraph"),
        (
            lambda file: file.attrs.__setitem__("format", FORMAT),
            r"'format' is not a fixed-length string; if .* recreate it",
        ),
        (_delete("particles/mass"), r"lack mass"),
        (_delete("jets/label"), r"label"),
        (_delete("jets/offsets"), r"offsets"),
        (_delete("particles"), r"particles"),
        (lambda file: file.attrs.__delitem__("fingerprint"), r"no attribute 'fingerprint'; copy"),
        (_resize("particles/phi", 4), r"particles/phi has 4 values, expected 5"),
        (_resize("jets/offsets", 2), r"values, expected"),
        (_resize("jets/offsets", 0), r"damaged"),
        (
            lambda file: file.attrs.__setitem__("splits", np.bytes_('{"train": 9}')),
            r"splits .* do not add up to 2 jets",
        ),
        (lambda file: file["particles/phi"].__setitem__(3, np.nan), r"jet 1, particle 1: phi = nan"),
        (lambda file: file["particles/phi"].__setitem__(3, 0.5), r"fingerprint; copy"),
        (lambda file: file["jets/label"].__setitem__(1, 7), r"jet 1 has label 7"),
    ],
)
def test_damaged_stores_name_the_problem(tmp_path, damage, message):
    path = tmp_path / "jets.h5"
    write_store(path, make_jets([2, 3]), splits={"train": 2})
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(StoreError, match=rf"jets\.h5: .*{message}"):
        read_store(path)


def test_splits_must_add_up_and_unknown_splits_list_the_known(tmp_path):
    path = tmp_path / "jets.h5"
    for splits in ({"train": 1}, {"train": 4, "test": -2}):
        with pytest.raises(StoreError, match="add up to 2 jets"):
            write_store(path, make_jets([2, 3]), splits=splits)
    write_store(path, make_jets([2, 3]), splits={"train": 2, "test": 0})
    with pytest.raises(StoreError, match=r"no split 'val'; available: train, test"):
        read_store(path, "val")


def test_embedded_sample_matches_its_recipe():
    path = resolve("sample:qg")
    info, jets = store_info(path), read_store(path)
    assert info.splits == {"train": 10000, "val": 2000, "test": 6000}
    assert info.classes == ("gluon", "quark")
    assert info.bytes <= 6_000_000
    assert np.bincount(jets.label).tolist() == [9000, 9000]
    for label, expected in ((0, 53), (1, 33)):
        assert abs(jets.counts[jets.label == label].mean() - expected) < 1
    species = {11, 13, 22, 130, 211, 321, 2112, 2212}
    assert set(np.unique(np.abs(jets.particles["pid"]))) == species
    for pid in species:
        assert len(np.unique(jets.particles["mass"][np.abs(jets.particles["pid"]) == pid])) == 1
    # The four-momenta add up to a jet in the window of the recipe, but for the rounding of the file.
    pt, rapidity, phi, mass = (jets.particles[name].astype(float) for name in COLUMNS)
    transverse = np.hypot(pt, mass)
    momenta = pt * np.cos(phi), pt * np.sin(phi), transverse * np.sinh(rapidity), transverse * np.cosh(rapidity)
    px, py, pz, energy = (np.add.reduceat(values, jets.offsets[:-1]) for values in momenta)
    assert 499.99 < np.hypot(px, py).min() < 500.1
    assert 549.9 < np.hypot(px, py).max() < 550.01
    assert 1.69 < np.abs(np.arctanh(pz / energy)).max() < 1.7001
    assert np.abs(phi - np.repeat(np.arctan2(py, px), jets.counts)).max() < np.pi
    # Parts are alike, and no jet is in it twice.
    for split in info.splits:
        assert abs(read_store(path, split).label.mean() - 0.5) < 0.05
    digests = {hashlib.sha256(part.tobytes()).digest() for part in np.split(jets.particles["pt"], jets.offsets[1:-1])}
    assert len(digests) == len(jets)
