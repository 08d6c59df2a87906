import numpy as np
import pytest

pytest.importorskip("awkward", reason="reading ROOT files needs pip install 'iagraph[data]'")
pytest.importorskip("uproot", reason="reading ROOT files needs pip install 'iagraph[data]'")

import awkward as ak
import uproot
from data.conftest import assert_same
from reader_files import (
    KINDS,
    TEN,
    outcome,
    pad,
    random_momenta,
    read,
    real_excerpt,
    real_file,
    worst,
    write_jetclass,
)

from iagraph.data import StoreError
from iagraph.data.readers import jetclass, open_jets
from iagraph.data.readers.root import RootTable

COUNTS = [3, 0, 5, 1, 7, 2, 4]
LABEL = [9, 1, 0, 3, 8, 5, 0]
CHARGED, NEUTRAL, PHOTON, ELECTRON, MUON = range(5)


@pytest.fixture
def momenta():
    return random_momenta(COUNTS)


class TestJetClassJets:
    @pytest.fixture
    def excerpt(self):
        return real_excerpt("jetclass_excerpt.npz")

    def test_all_jets_and_particles_are_read(self, tmp_path, excerpt):
        momenta, label = excerpt
        reader = open_jets(write_jetclass(tmp_path / "a", momenta, label))
        assert (reader.jets, reader.classes) == (250, TEN)
        assert reader.format.startswith("JetClass")
        jets = read(reader)
        assert jets.label.tolist() == label.tolist()
        assert np.unique(jets.label).tolist() == list(range(10))
        assert jets.counts.tolist() == (momenta[..., 0] > 0).sum(1).tolist()

    def test_momenta_of_the_file(self, tmp_path, excerpt):
        momenta, label = excerpt
        jets = read(open_jets(write_jetclass(tmp_path / "a", momenta, label)))
        energy, momentum = worst(jets, momenta[momenta[..., 0] > 0])
        assert energy < 2e-7
        assert momentum < 1.5e-7

    @pytest.mark.parametrize("jets_per_part", [1, 7, 41, 60, 61, 10**9])
    def test_parts_add_up_to_the_whole(self, tmp_path, excerpt, jets_per_part):
        momenta, label = excerpt
        reader = open_jets(write_jetclass(tmp_path / "a", momenta[:61], label[:61], basket=20))
        assert_same(read(reader, jets_per_part), read(reader))


class TestJetClass2Jets:
    @pytest.fixture
    def tree(self):
        with uproot.open(real_file("JetClassII_example.root")) as file:
            yield file["tree"]

    def test_jetclass_2_branches_with_jetclass_labels(self, tmp_path, tree):
        names = ("part_energy", "part_px", "part_py", "part_pz")
        flat = {name: ak.to_numpy(ak.flatten(tree[name].array())) for name in tree.keys(filter_name="part_*")}
        counts = ak.to_numpy(ak.num(tree["part_px"].array()))
        momenta = pad(np.column_stack([flat[name] for name in names]), counts)
        kind = np.argmax([flat[f"part_{name}"] for name in KINDS], axis=0)
        impact = [flat[f"part_{name}"] for name in ("d0val", "d0err", "dzval", "dzerr")]
        label = np.arange(100) % 10
        path = write_jetclass(
            tmp_path / "a", momenta, label, kind=kind, charge=flat["part_charge"], impact=impact, basket=13
        )
        jets = read(open_jets(path), 7)
        assert jets.counts.tolist() == counts.tolist()
        assert jets.label.tolist() == label.tolist()
        energy, momentum = worst(jets, np.column_stack([flat[name] for name in names]))
        assert energy < 2e-7
        assert momentum < 1.5e-7
        for name, values in zip(("d0", "d0_error", "dz", "dz_error"), impact, strict=True):
            assert jets.particles[name].dtype == np.float32
            np.testing.assert_array_equal(jets.particles[name], values)
        sign = flat["part_charge"]
        expected = np.choose(kind, [211 * sign, 130 + 0 * sign, 22 + 0 * sign, -11 * sign, -13 * sign])
        assert jets.particles["pid"].tolist() == expected.tolist()
        pions = np.abs(jets.particles["pid"]) == 211
        assert abs(np.median(jets.particles["mass"][pions]) - 0.1396) < 1e-3

    def test_lists_written_by_root(self, monkeypatch, tree):
        # uproot cannot write std::vector branches, as the published files have them, so only the labels are made up.
        table = RootTable(real_file("JetClassII_example.root"), "tree")
        (part,) = table.parts([], jetclass.PARTICLE_BRANCHES, 100)
        labels = {name: (np.arange(100) % 10 == k).astype(np.float32) for k, name in enumerate(jetclass.LABELS)}
        reader = object.__new__(jetclass.JetClassReader)
        jets = reader._jets(part._replace(numbers=labels), 0)
        jets.validate("jets")
        assert jets.counts.tolist() == tree["jet_nparticles"].array().tolist()
        assert jets.label.tolist() == (np.arange(100) % 10).tolist()

    def test_published_excerpt_has_classes_of_jetclass_2(self):
        with pytest.raises(StoreError, match=r"has no branches label_\*, .*jet_label is that of JetClass-II"):
            open_jets(real_file("JetClassII_example.root"))


@pytest.mark.parametrize(("jets_per_part", "basket"), [(1, 3), (2, 3), (3, 1), (3, 100), (7, 2), (8, 3), (100, 7)])
def test_columns_equal_those_of_the_file(tmp_path, momenta, jets_per_part, basket):
    impact = np.random.default_rng(2).normal(size=(4, 22)).astype(np.float32)
    jets = read(open_jets(write_jetclass(tmp_path / "a", momenta, LABEL, impact=impact, basket=basket)), jets_per_part)
    assert jets.counts.tolist() == COUNTS
    assert jets.label.tolist() == LABEL
    assert list(jets.particles)[:4] == ["pt", "rapidity", "phi", "mass"]
    assert {name: column.dtype.name for name, column in jets.particles.items() if name == "pid"} == {"pid": "int32"}
    for name, values in zip(("d0", "d0_error", "dz", "dz_error"), impact, strict=True):
        np.testing.assert_array_equal(jets.particles[name], values)
    assert max(worst(jets, momenta[momenta[..., 0] > 0])) < 3e-7


def test_species_by_hand(tmp_path):
    kinds = [CHARGED, CHARGED, NEUTRAL, PHOTON, ELECTRON, ELECTRON, MUON, MUON, 5]  # 5: no flag
    charge = [1, -1, 0, 0, -1, 1, -1, 1, 0]
    path = write_jetclass(tmp_path / "a", random_momenta([4, 5]), [0, 1], kind=kinds, charge=charge)
    assert read(open_jets(path)).particles["pid"].tolist() == [211, -211, 130, 22, 11, -11, 13, -13, 0]


@pytest.mark.parametrize(
    ("kind", "charge"),
    [(CHARGED, 0), (NEUTRAL, 1), (PHOTON, -1), (ELECTRON, 0), (MUON, 0), (5, 1), (CHARGED, 2), (CHARGED, np.nan)],
)
def test_impossible_species_are_named(tmp_path, momenta, kind, charge):
    kinds, charges = np.full(22, NEUTRAL), np.zeros(22)
    kinds[11], charges[11] = kind, charge
    path = write_jetclass(tmp_path / "a", momenta, LABEL, kind=kinds, charge=charges)
    with pytest.raises(
        StoreError, match=rf"a: jet 4, particle 2: charge {charge:g} and flags .* disagree, expected at most one"
    ):
        read(open_jets(path), 3)


def one_jet_per_number(values):
    return ak.unflatten(np.asarray(values), COUNTS)


@pytest.mark.parametrize("flags", [(1, 1), (2, 0), (-1, 0)])
def test_flags_must_be_zero_or_one_and_exclusive(tmp_path, momenta, flags):
    values = np.zeros((2, 22), np.int32)
    values[:, 11] = flags
    extra = {f"part_{KINDS[k]}": one_jet_per_number(row) for k, row in zip((NEUTRAL, PHOTON), values, strict=True)}
    path = write_jetclass(tmp_path / "a", momenta, LABEL, kind=np.full(22, 5), extra=extra)
    with pytest.raises(StoreError, match=r"a: jet 4, particle 2: charge 0 and flags .*disagree"):
        read(open_jets(path))


@pytest.mark.parametrize("values", [{}, {"Hbb": 1, "QCD": 1}, {"QCD": 2}, {"QCD": 0.5, "Hbb": 0.5}, {"QCD": np.nan}])
def test_labels_must_name_one_class(tmp_path, momenta, values):
    labels = {f"label_{name}": np.float32(np.array(LABEL) == k) for k, name in enumerate(TEN)}
    for name in TEN:
        labels[f"label_{name}"][5] = values.get(name, 0)
    path = write_jetclass(tmp_path / "a", momenta, LABEL, extra=labels)
    with pytest.raises(StoreError, match=r"a: jet 5: label_\* are \[.*\], expected 1 for one of QCD, Hbb"):
        read(open_jets(path), 2)


@pytest.mark.parametrize(
    ("component", "value", "message"),
    [
        (0, -1.0, r"\(E, px, py, pz\) = \(-1, .*expected finite numbers and E > 0"),
        (0, 0.0, r"\(E, px, py, pz\) = \(0, .*expected finite numbers and E > 0"),
        (0, np.nan, r".*nan"),
        (3, np.inf, r".*inf"),
        (0, 1e-3, r"E = 0\.001\d* GeV is below \|p\|"),
        (slice(None), (2, 0, 0, 2), r".*along the beam"),
    ],
)
def test_bad_particles_are_named(tmp_path, momenta, component, value, message):
    momenta[4, 6, component] = value
    with pytest.raises(StoreError, match=rf"a: jet 4, particle 6: {message}"):
        read(open_jets(write_jetclass(tmp_path / "a", momenta, LABEL)), 3)


@pytest.mark.parametrize(("row", "name"), [(0, "d0"), (1, "d0_error"), (2, "dz"), (3, "dz_error")])
def test_impact_parameters_must_be_finite(tmp_path, momenta, row, name):
    impact = np.zeros((4, 22))
    impact[row, 15] = np.nan
    with pytest.raises(StoreError, match=rf"a: jet 4, particle 6: {name} = nan, expected finite"):
        read(open_jets(write_jetclass(tmp_path / "a", momenta, LABEL, impact=impact)), 3)


def test_lists_of_different_lengths_are_named(tmp_path, momenta):
    counts = [3, 0, 5, 1, 6, 3, 4]
    extra = {"part_dzerr": ak.unflatten(np.zeros(22, np.float32), counts)}
    path = write_jetclass(tmp_path / "a", momenta, LABEL, extra=extra)
    with pytest.raises(StoreError, match=r"a: jet 4: part_dzerr has 6 values, expected 7 as in part_px"):
        read(open_jets(path), 3)


def test_missing_branches_are_named(tmp_path, momenta):
    path = write_jetclass(tmp_path / "a", momenta, LABEL, drop=["part_d0val", "label_Wqq"])
    with pytest.raises(StoreError, match=r"a: tree 'tree' lacks the branches part_d0val, label_Wqq; use the files"):
        open_jets(path)
    path = write_jetclass(tmp_path / "a", momenta, LABEL, drop=[f"label_{name}" for name in TEN])
    with pytest.raises(StoreError, match=r"a: has no branches label_\*, which give the class in JetClass;"):
        open_jets(path)


def test_branches_of_wrong_shape_are_named(tmp_path, momenta):
    path = write_jetclass(tmp_path / "a", momenta, LABEL, extra={"part_pz": np.zeros(7, np.float32)})
    with pytest.raises(StoreError, match=r"a: branch part_pz is float, expected a list per jet"):
        open_jets(path)
    path = write_jetclass(tmp_path / "a", momenta, LABEL, extra={"label_Tbl": one_jet_per_number(np.zeros(22))})
    with pytest.raises(StoreError, match=r"a: branch label_Tbl is double\[\], expected one number per jet"):
        open_jets(path)


def test_other_trees_are_refused(tmp_path, momenta):
    with pytest.raises(StoreError, match=r"a: holds Events \(TTree\), expected a tree 'tree' .*--map"):
        open_jets(write_jetclass(tmp_path / "a", momenta, LABEL, tree="Events"))
    with uproot.recreate(tmp_path / "b") as file:
        file["tree"] = np.histogram([1, 2])
    with pytest.raises(StoreError, match=r"b: holds tree \(TH1\w\), expected a tree 'tree' \(TTree or RNTuple\)"):
        open_jets(tmp_path / "b")
    with uproot.recreate(tmp_path / "c"):
        pass
    with pytest.raises(StoreError, match=r"c: holds nothing"):
        open_jets(tmp_path / "c")


@pytest.mark.parametrize("jets_per_part", [1, 3, 100])
def test_trees_written_as_rntuple(tmp_path, momenta, jets_per_part):
    reader = open_jets(write_jetclass(tmp_path / "a", momenta, LABEL, rntuple=True))
    with uproot.open(tmp_path / "a") as file:
        assert file.classnames(cycle=False) == {"tree": "ROOT::RNTuple"}
    assert_same(read(reader, jets_per_part), read(open_jets(write_jetclass(tmp_path / "b", momenta, LABEL))))


def test_rntuples_of_wrong_layout_are_named(tmp_path, momenta):
    path = write_jetclass(tmp_path / "a", momenta, LABEL, drop=["part_d0val"], rntuple=True)
    with pytest.raises(StoreError, match=r"a: tree 'tree' lacks the branches part_d0val; use the files"):
        open_jets(path)
    path = write_jetclass(tmp_path / "a", momenta, LABEL, extra={"part_pz": np.zeros(7, np.float32)}, rntuple=True)
    with pytest.raises(StoreError, match=r"a: branch part_pz is float, expected a list per jet"):
        open_jets(path)


def test_no_jets(tmp_path):
    with pytest.raises(StoreError, match=r"a: tree 'tree' has no entries; download or copy it again"):
        open_jets(write_jetclass(tmp_path / "a", random_momenta([]), []))


def test_jets_without_particles_only(tmp_path):
    jets = read(open_jets(write_jetclass(tmp_path / "a", random_momenta([0, 0, 0]), [4, 0, 9])), 2)
    assert jets.counts.tolist() == [0, 0, 0]
    assert jets.label.tolist() == [4, 0, 9]


def test_file_names_are_taken_literally(tmp_path, momenta):
    for name in ("a:tree", "b*[0].root", "http:::c", "zip::d.root"):
        assert read(open_jets(write_jetclass(tmp_path / "plain", momenta, LABEL).rename(tmp_path / name))).label[0] == 9


def test_truncation_anywhere_is_an_error(tmp_path, momenta):
    path = write_jetclass(tmp_path / "a", momenta, LABEL)
    whole = path.read_bytes()
    for size in {0, 1, 3, 4, 100, len(whole) // 2, *np.linspace(0, len(whole) - 200, 30).astype(int).tolist()}:
        path.write_bytes(whole[:size])
        with pytest.raises(StoreError, match=r"a: "):
            read(open_jets(path))


def test_flipped_bits_of_compressed_values_are_detected(tmp_path, momenta):
    # ROOT has no checksums, LZ4 has. Real jets are hardly compressed, so that their damage can go undetected.
    equal = np.repeat(momenta[4:5], 997, axis=0)
    path = write_jetclass(tmp_path / "a", equal, [3] * 997, kind=[PHOTON] * 6979, impact=np.ones((4, 6979)), basket=997)
    whole, rng, original = path.read_bytes(), np.random.default_rng(0), read(open_jets(path))
    noticed = 0
    for position in rng.integers(0, len(whole), 30):
        changed = bytearray(whole)
        changed[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        jets = outcome(path)
        noticed += jets is None
        assert_same(jets or original, original)
    assert noticed > 5
