import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="reading parquet files needs pip install 'iagraph[data]'")
pytest.importorskip("uproot", reason="reading ROOT files needs pip install 'iagraph[data]'")

import awkward as ak
import uproot
from data.conftest import assert_same
from reader_files import random_momenta, read, real_file, write_jetclass

from iagraph.data import StoreError, read_store, store_info
from iagraph.data.convert import convert
from iagraph.data.readers import open_jets
from iagraph.data.readers.mapped import load_map

COUNTS = [3, 0, 5, 1, 7, 2, 4]
LABEL = np.array([0, 1, 1, 0, 2, 1, 0])
ONE_HOT = "one_hot: {QCD: is_qcd, top: is_top, W: is_w}\n"
NUMBERED = "label: {branch: kind, classes: {0: QCD, 1: top, 2: W}}\n"


@pytest.fixture
def columns():
    """Branches in all conventions, of particles with and without mass, in float64."""
    vectors = random_momenta(COUNTS).astype(np.float64)
    energy, px, py, pz = vectors[vectors[..., 0] > 0].T
    p2 = px**2 + py**2 + pz**2
    mass = np.sqrt(np.maximum(energy**2 - p2, 0))
    mass[mass < 1e-3 * energy] = 0  # rounding of the energy, which readers also treat as massless
    energy, pt = np.sqrt(p2 + mass**2), np.hypot(px, py)
    flat = {"x": px, "y": py, "z": pz, "e": energy, "pt": pt, "eta": np.arcsinh(pz / pt), "phi": np.arctan2(py, px)}
    flat |= {"rap": np.arcsinh(pz / np.sqrt(pt**2 + mass**2)), "m": mass, "pdg": np.arange(len(px)) - 11.0}
    branches = {name: ak.unflatten(np.ascontiguousarray(values), COUNTS) for name, values in flat.items()}
    return branches | {"kind": LABEL} | {f"is_{name}": k == LABEL for k, name in enumerate(("qcd", "top", "w"))}


def write_root(path, columns, tree="Events"):
    with uproot.recreate(path) as file:
        types = {k: v.type.content if isinstance(v, ak.Array) else v.dtype for k, v in columns.items()}
        file.mktree(tree, types)
        file[tree].extend(columns)
    return path


def write_rntuple(path, columns, tree="Events"):
    with uproot.recreate(path) as file:
        if not hasattr(file, "mkrntuple"):
            pytest.skip(f"uproot {uproot.__version__} does not write RNTuple")
        file.mkrntuple(tree, columns)
    return path


def write_parquet(path, columns):
    ak.to_parquet(ak.Array({name: ak.to_packed(values) for name, values in columns.items()}), path)
    return path


WRITERS = {"TTree": write_root, "RNTuple": write_rntuple, "parquet": write_parquet}


@pytest.fixture
def mapped(tmp_path):
    def mapped(particles, labels=NUMBERED, tree="Events"):
        path = tmp_path / "map.yaml"
        path.write_text(f"tree: {tree}\nparticles: {{{particles}}}\n{labels}")
        return load_map(path)

    return mapped


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize(
    "particles",
    [
        "px: x, py: y, pz: z, energy: e",
        "pt: pt, eta: eta, phi: phi, mass: m",
        "pt: pt, eta: eta, phi: phi, energy: e",
        "pt: pt, rapidity: rap, phi: phi, mass: m",
    ],
)
@pytest.mark.parametrize("labels", [ONE_HOT, NUMBERED], ids=["one_hot", "numbered"])
def test_all_conventions_give_the_same_jets(tmp_path, columns, mapped, write, particles, labels):
    path = write(tmp_path / "jets", columns)
    reader = open_jets(path, mapped(particles, labels))
    jets = read(reader, 3)
    assert (reader.jets, jets.classes) == (7, ("QCD", "top", "W"))
    assert jets.label.tolist() == LABEL.tolist()
    assert jets.counts.tolist() == COUNTS
    for name, branch in {"pt": "pt", "rapidity": "rap", "phi": "phi"}.items():
        np.testing.assert_allclose(jets.particles[name], ak.flatten(columns[branch]), rtol=1e-6, atol=1e-6)
    # Energies far above a mass, which is a difference of them, lose digits of it.
    np.testing.assert_allclose(jets.particles["mass"], ak.flatten(columns["m"]), atol=1e-3)


@pytest.mark.parametrize("angle", ["eta: eta", "rapidity: eta"])
def test_without_mass_particles_are_massless(tmp_path, columns, mapped, angle):
    jets = read(open_jets(write_parquet(tmp_path / "jets", columns), mapped(f"pt: pt, {angle}, phi: phi, pid: pdg")))
    assert not jets.particles["mass"].any()
    np.testing.assert_allclose(jets.particles["rapidity"], ak.flatten(columns["eta"]), rtol=1e-6)
    assert jets.particles["pid"].tolist() == list(range(-11, 11))


def test_jetclass_2_jets_with_their_own_classes(tmp_path):
    path = real_file("JetClassII_example.root")
    with uproot.open(path) as file:
        numbers = file["tree"]["jet_label"].array(library="np")
        d0 = ak.to_numpy(ak.flatten(file["tree"]["part_d0val"].array()))
    known = sorted(set(numbers.tolist()))
    (tmp_path / "map.yaml").write_text(
        "tree: tree\n"
        "particles:\n  px: part_px\n  py: part_py\n  pz: part_pz\n  energy: part_energy\n  d0: part_d0val\n"
        f"label:\n  branch: jet_label\n  classes: {{{', '.join(f'{n}: kind_{n % 2}' for n in known)}}}\n"
    )
    convert([path], tmp_path / "out.h5", branches=load_map(tmp_path / "map.yaml"))
    jets = read_store(tmp_path / "out.h5")
    assert len(jets) == 100
    assert [jets.classes[k] for k in jets.label] == [f"kind_{n % 2}" for n in numbers]
    np.testing.assert_array_equal(jets.particles["d0"], d0)
    (recorded,) = store_info(tmp_path / "out.h5").provenance["files"]
    assert recorded["provenance"]["map"]["particles"]["d0"] == "part_d0val"


def test_map_of_jetclass_agrees_with_its_reader(tmp_path, mapped):
    path = write_jetclass(tmp_path / "a.root", random_momenta(COUNTS), LABEL)
    kinematics = "px: part_px, py: part_py, pz: part_pz, energy: part_energy"
    one_hot = "one_hot: {QCD: label_QCD, Hbb: label_Hbb, Hcc: label_Hcc}\n"
    jets, whole = read(open_jets(path, mapped(kinematics, one_hot, "tree"))), read(open_jets(path))
    for name, values in jets.particles.items():
        np.testing.assert_array_equal(values, whole.particles[name])
    assert jets.label.tolist() == whole.label.tolist()


def test_documented_example_is_a_valid_map(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    (example,) = [text for text in re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL) if "particles:" in text]
    (tmp_path / "map.yaml").write_text(example)
    found = load_map(tmp_path / "map.yaml")
    assert (found.tree, found.label.classes) == ("Events", {0: "QCD", 21: "QCD", 5: "bottom"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("particles: {px: a}\none_hot: {a: b}", r"'particles' should have px, py, pz and energy; or .* found px"),
        ("particles: {}\none_hot: {a: b}", r"found none of them"),
        ("particles: {pt: a, eta: b, rapidity: c, phi: d}\none_hot: {a: b}", r"found eta, phi, pt, rapidity"),
        ("particles: {pt: a, rapidity: c, phi: d, energy: e}\none_hot: {a: b}", r"found energy, phi, pt, rapidity"),
        ("particles: {pt: a, eta: c, phi: d, massless: true}\none_hot: {a: b}", r"massless: true only with energy"),
        ("particles: {pt: a, eta: b, phi: c}", r"should have one of 'label' and 'one_hot'"),
        ("particles: {pt: a, eta: b, phi: c, charge: q}\none_hot: {a: b}", r"unknown key 'particles.charge'"),
        ("particles: {pt: 5, eta: b, phi: c}\none_hot: {a: b}", r"'particles.pt' should .*, found 5"),
        ("particles: {pt: a, eta: b, phi: c}\nlabel: {branch: x, classes: {}}", r"'label.classes' .* at least 1"),
    ],
)
def test_a_wrong_map_is_explained(tmp_path, text, message):
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(StoreError, match=rf"map\.yaml: .*{message}"):
        load_map(tmp_path / "map.yaml")


@pytest.mark.parametrize(
    ("particles", "labels", "tree", "message"),
    [
        ("pt: pt, eta: eta, phi: phi", NUMBERED, "tree", r"holds Events \(TTree\), expected a tree 'tree'"),
        ("pt: pT, eta: eta, phi: phi", NUMBERED, "Events", r"tree 'Events' lacks the branches pT; correct the map"),
        ("pt: kind, eta: eta, phi: phi", NUMBERED, "Events", r"branch kind is int64_t, expected a list per jet"),
        ("pt: pt, eta: eta, phi: phi", "one_hot: {a: pt}", "Events", r"branch pt is double\[\], expected one number"),
        (
            "pt: pt, eta: eta, phi: phi",
            "label: {branch: kind, classes: {0: QCD, 1: top}}",
            "Events",
            r"jet 4: kind = 2, expected one of 0, 1",
        ),
        ("pt: pt, eta: eta, phi: phi", "one_hot: {a: is_top, b: is_w}", "Events", r"jet 0: is_top, is_w are \[0.0, 0"),
        ("pt: pt, eta: eta, phi: phi, pid: eta", NUMBERED, "Events", r"jet 0, particle 0: pid = .*an integer"),
        ("px: x, py: y, pz: z, energy: e, massless: true", NUMBERED, "Events", r"jet 0, particle 0: E = .* is not \|p"),
    ],
)
def test_files_that_do_not_fit_a_map(tmp_path, columns, mapped, particles, labels, tree, message):
    path = write_root(tmp_path / "a.root", columns)
    with pytest.raises(StoreError, match=rf"a\.root: {message}"):
        read(open_jets(path, mapped(particles, labels, tree)))


def test_particles_without_pt_and_files_without_branches(tmp_path, columns, mapped):
    columns["pt"] = columns["pt"] * (columns["pdg"] != 0)
    with pytest.raises(StoreError, match=r"a: jet 4, particle 2: pt = 0, expected pt > 0"):
        read(open_jets(write_parquet(tmp_path / "a", columns), mapped("pt: pt, eta: eta, phi: phi")))
    (tmp_path / "b").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(StoreError, match=r"b: neither a ROOT nor a parquet file"):
        open_jets(tmp_path / "b", mapped("pt: pt, eta: eta, phi: phi"))
    (tmp_path / "map.yaml").write_text("particles: {pt: pt, eta: eta, phi: phi}\none_hot: {QCD: is_qcd}")
    with pytest.raises(StoreError, match=r"c: a ROOT file, but the branch map names no tree"):
        open_jets(write_root(tmp_path / "c", columns), load_map(tmp_path / "map.yaml"))
    assert_same(
        read(open_jets(tmp_path / "c", mapped("px: x, py: y, pz: z, energy: e"))),
        read(open_jets(tmp_path / "a", mapped("px: x, py: y, pz: z, energy: e"))),
    )
