import struct
import zipfile

import numpy as np
import pytest
from data.conftest import assert_same
from hypothesis import given, settings
from hypothesis import strategies as st
from reader_files import momenta_of, outcome, pad, read, real_excerpt

from iagraph.data import StoreError
from iagraph.data.readers import open_jets

COUNTS = [3, 0, 5, 1, 7, 2, 4]
LABEL = [0, 1, 1, 0, 1, 0, 0]
# From the particle listings of the Review of Particle Physics, in MeV.
MEV = {11: 0.51099895, 13: 105.6583755, 22: 0, 130: 497.611, 211: 139.57039, 310: 497.611, 321: 493.677}
MEV |= {2112: 939.56542, 2212: 938.27209, 3122: 1115.683, 3112: 1197.449, 3222: 1189.37, 3312: 1321.71, 3322: 1314.86}


def random_jets(counts, seed=0, dtype=np.float64):
    """X: pt, rapidity, phi, pid of random particles, padded."""
    rng, total = np.random.default_rng(seed), int(np.sum(counts))
    pid = rng.choice([22, 211, -211, 130, 321, -321, 2112, -2112, 2212, -2212, 11, -11, 13, -13], total)
    kinematics = rng.exponential(5, total) + 1e-3, rng.uniform(-2.1, 2.1, total), rng.uniform(-3.5, 6.5, total)
    return pad(np.column_stack([*kinematics, pid]).astype(dtype), counts)


@pytest.fixture
def x():
    return random_jets(COUNTS)


def write(path, x, y=LABEL, *, save=np.savez_compressed, **others):
    with path.open("wb") as file:
        save(file, X=x, y=np.asarray(y, np.float64), **others)
    return path


class TestRealJets:
    @pytest.fixture
    def real(self):
        """Real jets; their species, which the excerpt lacks, are those of the nearest mass."""
        p4, label = real_excerpt("qg_excerpt.npz")
        present = p4[..., 0] > 0
        energy, px, py, pz = p4[present].astype(np.float64).T
        pids, masses = np.array(list(MEV)), np.array(list(MEV.values())) / 1000
        mass = np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0))
        nearest = np.abs(mass[:, None] - masses).argmin(1)
        pt, sign = np.hypot(px, py), np.where(np.arange(len(px)) % 2, 1, -1)
        rapidity = np.arcsinh(pz / np.hypot(pt, masses[nearest]))
        flat = np.column_stack([pt, rapidity, np.arctan2(py, px), pids[nearest] * sign])
        return pad(flat, present.sum(1)), label, p4[present]

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    def test_all_jets_and_particles_are_read(self, tmp_path, real, save, dtype):
        x, label, p4 = real
        reader = open_jets(write(tmp_path / "a", x.astype(dtype), label, save=save))
        assert (reader.jets, reader.classes) == (1000, ("gluon", "quark"))
        assert reader.format.startswith("EnergyFlow")
        jets, flat = read(reader), x[x[..., 0] > 0]
        assert jets.label.tolist() == label.tolist()
        assert jets.counts.tolist() == (x[..., 0] > 0).sum(1).tolist()
        for k, name in enumerate(("pt", "rapidity", "phi")):
            np.testing.assert_array_equal(jets.particles[name], flat[:, k].astype(np.float32))
        assert jets.particles["pid"].tolist() == flat[:, 3].tolist()
        np.testing.assert_array_equal(
            jets.particles["mass"], np.float32([MEV[pid] / 1000 for pid in np.abs(flat[:, 3]).astype(int)])
        )
        deviation = np.abs(momenta_of(jets) - p4) / p4[:, :1]
        assert deviation.max() < 1e-6

    @pytest.mark.parametrize("jets_per_part", [1, 7, 250, 999, 1000, 10**9])
    def test_parts_add_up_to_the_whole(self, tmp_path, real, jets_per_part):
        reader = open_jets(write(tmp_path / "a", *real[:2]))
        assert_same(read(reader, jets_per_part), read(reader))


@settings(max_examples=25)
@given(
    counts=st.lists(st.integers(0, 5), max_size=13),
    jets_per_part=st.sampled_from([1, 2, 3, 5, 13, 100]),
    save=st.sampled_from([np.savez, np.savez_compressed]),
    dtype=st.sampled_from([np.float64, np.float32, ">f8"]),
)
def test_ragged_jets_of_all_kinds(tmp_path_factory, counts, jets_per_part, save, dtype):
    x = random_jets(counts, dtype=dtype)
    label = [k % 2 for k in range(len(counts))]
    reader = open_jets(write(tmp_path_factory.mktemp("qg") / "a.npz", x, label, save=save))
    assert reader.jets == len(counts)
    jets = read(reader, jets_per_part)
    if counts:
        assert jets.counts.tolist() == counts
        assert jets.label.tolist() == label
        np.testing.assert_array_equal(jets.particles["rapidity"], x[x[..., 0] > 0][:, 1].astype(np.float32))


def test_particles_in_any_slot(tmp_path, x):
    order = np.argsort(np.random.default_rng(3).random(x.shape[:2]), axis=1)
    shuffled = np.take_along_axis(x, order[..., None], axis=1)
    jets = read(open_jets(write(tmp_path / "a.npz", shuffled)))
    assert jets.counts.tolist() == COUNTS
    assert jets.particles["pid"].tolist() == shuffled[shuffled[..., 0] > 0][:, 3].tolist()


def test_without_species_particles_are_massless_and_have_no_pid(tmp_path, x):
    jets = read(open_jets(write(tmp_path / "a.npz", x[..., :3].copy())), 2)
    assert sorted(jets.particles) == ["mass", "phi", "pt", "rapidity"]
    assert not jets.particles["mass"].any()
    assert jets.counts.tolist() == COUNTS


def test_no_slots_and_labels_of_other_types(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.zeros((3, 0, 4)), y=np.array([True, False, True]))
    jets = read(open_jets(tmp_path / "a.npz"), 2)
    assert jets.counts.tolist() == [0, 0, 0]
    assert jets.label.tolist() == [1, 0, 1]


def test_extra_arrays_and_later_versions_of_arrays_are_accepted(tmp_path, x):
    plain = read(open_jets(write(tmp_path / "a.npz", x)))
    assert_same(read(open_jets(write(tmp_path / "b.npz", x, other=np.array([{}], object)))), plain)
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        for name, array in (("X", x), ("y", np.asarray(LABEL))):
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, array, version=(2, 0) if name == "X" else (3, 0))
    assert_same(read(open_jets(tmp_path / "c.npz")), plain)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, -1.0, r"jet 4, particle 6: pt = -1.0, expected finite and above 0"),
        (0, np.nan, r"jet 4, particle 6: pt = nan"),
        (0, 1e39, r"jet 4, particle 6: pt = inf, expected finite"),
        (1, np.inf, r"jet 4, particle 6: rapidity = inf"),
        (2, np.nan, r"jet 4, particle 6: phi = nan"),
        (3, 12345, r"jet 4, particle 6: unknown species 12345, expected a PDG id of 11, 12, 13,.* 211, "),
        (3, 0, r"jet 4, particle 6: unknown species 0"),
        (3, 0.1, r"jet 4, particle 6: unknown species 0\.1"),
        (3, np.nan, r"jet 4, particle 6: unknown species nan"),
    ],
)
@pytest.mark.parametrize("jets_per_part", [1, 3, 100])
def test_bad_values_are_named(tmp_path, x, column, value, message, jets_per_part):
    x[4, 6, column] = x[5, 1, column] = value
    with pytest.raises(StoreError, match=rf"a\.npz: {message}"):
        read(open_jets(write(tmp_path / "a.npz", x)), jets_per_part)


def test_labels_are_zero_or_one(tmp_path, x):
    for value in (2, 0.5, np.nan):
        with pytest.raises(StoreError, match=rf"a\.npz: jet 5: y = {value}.*, expected 0 or 1"):
            read(open_jets(write(tmp_path / "a.npz", x, [0, 1, 0, 1, 1, value, value])), 2)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"p4": np.zeros((3, 4)), "counts": np.ones(3)},
            r"holds p4, counts, expected EnergyFlow's arrays X and y; add X",
        ),
        ({"X": np.zeros((3, 2, 4))}, r"holds X, .*add y"),
        ({"x": np.zeros((3, 2, 4)), "y": np.zeros(3)}, r"holds x, y, .*add X"),
        ({"X": np.zeros((3, 2, 4)), "y": np.zeros(4)}, r"y is float64 of shape \(4,\), expected \(3,\) numbers"),
        ({"X": np.zeros((3, 2, 4)), "y": np.zeros((3, 2))}, r"y is float64 of shape \(3, 2\)"),
        ({"X": np.zeros((3, 2, 4)), "y": np.array(["g", "q", "g"])}, r"y is <U1 of shape \(3,\)"),
        ({"X": np.zeros((3, 2, 5)), "y": np.zeros(3)}, r"X is float64 of shape \(3, 2, 5\), expected floats of shape"),
        ({"X": np.zeros((3, 4)), "y": np.zeros(3)}, r"X is float64 of shape \(3, 4\)"),
        ({"X": np.zeros((3, 2, 4), int), "y": np.zeros(3)}, r"X is int64 of shape"),
        ({"X": np.zeros((3, 2, 4), complex), "y": np.zeros(3)}, r"X is complex128 of shape"),
        ({"X": np.array([None, {}]), "y": np.zeros(2)}, r"X holds Python objects, .*pad the jets with zeros"),
        ({"X": np.asfortranarray(np.ones((3, 2, 4))), "y": np.zeros(3)}, r"X is in Fortran order, expected C order"),
        ({}, r"holds nothing, expected EnergyFlow's arrays X and y; add X and y"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(StoreError, match=rf"a\.npz: {message}"):
        open_jets(tmp_path / "a.npz")


def test_lengths_must_fit_the_headers(tmp_path, x):
    for change in (-8, 8):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            for name, array in (("X", x), ("y", np.asarray(LABEL))):
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
                    data = array.tobytes()
                    file.write(data[:change] if change < 0 else data + bytes(change))
        with pytest.raises(StoreError, match=r"a\.npz: X has \d+ bytes, expected \d+ for shape \(7, 7, 4\)"):
            open_jets(tmp_path / "a.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_truncation_anywhere_is_an_error(tmp_path, x, save):
    path = write(tmp_path / "a.npz", x, save=save)
    whole = path.read_bytes()
    for size in {0, 1, 3, 4, 100, len(whole) - 1, *np.linspace(0, len(whole) - 1, 40).astype(int).tolist()}:
        path.write_bytes(whole[:size])
        with pytest.raises(StoreError, match=r"a\.npz"):
            read(open_jets(path))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_flipped_bits_never_change_jets_silently(tmp_path, x, save):
    path = write(tmp_path / "a.npz", x, save=save)
    whole, rng, original = path.read_bytes(), np.random.default_rng(0), read(open_jets(path))
    noticed = 0
    for position in rng.integers(0, len(whole), 300):
        changed = bytearray(whole)
        changed[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        jets = outcome(path, 3)
        noticed += jets is None
        assert_same(jets or original, original)
    assert noticed > 150


def test_a_changed_array_fails_its_checksum(tmp_path, x):
    path = write(tmp_path / "a.npz", x, save=np.savez)
    changed = path.read_bytes().replace(struct.pack("<d", x[0, 0, 0]), struct.pack("<d", x[0, 0, 0] + 1))
    path.write_bytes(changed)
    with pytest.raises(StoreError, match=r"a\.npz: incomplete or damaged .*X\.npy"):
        read(open_jets(path))


@pytest.mark.parametrize("particle", [(0, 0.3, 0.4, -211), (1e-60, 0.3, 0.4, 22), (0, 0, 0, 22)])
def test_a_particle_without_pt_is_not_dropped_silently(tmp_path, particle):
    X = np.zeros((2, 3, 4))
    X[:, 0] = 5.0, 0.1, 0.2, 22
    X[1, 2] = particle
    np.savez(tmp_path / "a.npz", X=X, y=np.array([0, 1]))
    with pytest.raises(StoreError, match=r"a\.npz: jet 1, particle 2: .*expected pt > 0, or all zeros"):
        read(open_jets(tmp_path / "a.npz"))
