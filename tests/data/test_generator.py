import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pythia8mc", reason="generating jets needs pip install 'iagraph[generate]'")
pytest.importorskip("fastjet", reason="generating jets needs pip install 'iagraph[generate]'")

import awkward as ak

from iagraph.data import generator
from iagraph.data.generator import (
    GenerateConfig,
    GenerateError,
    Task,
    generate,
    plan,
    round_mantissa,
    run_task,
    select_jets,
)
from iagraph.data.store import StoreError, read_store, store_info
from iagraph.yaml_config import ConfigError, load_model

RECIPE = Path(__file__).parents[2] / "configs" / "generate_qg.yaml"
PION, NEUTRON, PHOTON = (211, 0.13957), (2112, 0.93957), (22, 0.0)


@pytest.fixture(scope="module")
def config():
    return load_model(GenerateConfig, RECIPE)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """The same 25 jets made by two workers, by one, and as two shards."""
    folder = tmp_path_factory.mktemp("generated")
    runs = {"two": {"workers": 2}, "one": {}, "shard1": {"shard": (1, 2)}, "shard2": {"shard": (2, 2)}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generator, "TASK_JETS", 7)
        for name, options in runs.items():
            if "shard" in options:  # without processes of their own, which take seconds to start
                patch.setattr(
                    generator, "_run_tasks", lambda tasks, config, _: [run_task(task, config) for task in tasks]
                )
            generate(RECIPE, folder / f"{name}.h5", jets=25, **options)
    return {name: folder / f"{name}.h5" for name in runs}


def particle(species, pt, y, phi, status=1):
    pid, mass = species
    transverse = math.hypot(pt, mass)
    momentum = {"px": pt * math.cos(phi), "py": pt * math.sin(phi), "pz": transverse * math.sinh(y)}
    return {"id": pid, "status": status, "m": mass, "p": momentum | {"e": transverse * math.cosh(y)}}


def events(*records):
    hard = particle((21, 0.0), 500.0, 0.0, 0.0, status=-23)
    return ak.Array([{"prt": [hard, *record]} for record in records])


def test_hand_made_jet_has_the_hand_computed_particles(config):
    # Two particles on either side of phi = pi, a neutrino and an intermediate particle in the jet, one beyond R = 0.4.
    jets = select_jets(
        events(
            [
                particle(PION, 120.0, 1.0, 3.1),
                particle(NEUTRON, 400.0, 1.1, -3.1),
                particle((-14, 0.0), 900.0, 1.1, 3.1),
                particle((111, 0.135), 900.0, 1.1, 3.1, status=-91),
                particle(PHOTON, 30.0, 1.7, 3.1),
            ]
        ),
        config,
        label=0,
    )
    assert jets.counts.tolist() == [2]
    assert jets.particles["pid"].tolist() == [2112, 211]
    assert jets.particles["mass"] == pytest.approx([0.93957, 0.13957])
    assert jets.particles["pt"] == pytest.approx([400.0, 120.0], rel=2**-14)
    assert jets.particles["rapidity"] == pytest.approx([1.1, 1.0], rel=2**-14)
    # px, py of the sum put the jet at phi = -3.1 - delta; the pion follows it below -pi.
    assert jets.particles["phi"] == pytest.approx([-3.1, 3.1 - 2 * math.pi], rel=2**-14)


@pytest.mark.parametrize("status", ["kept", "soft", "hard", "forward", "beside the hardest", "wrong parton"])
def test_window_and_parton(config, status):
    pt, y = {"soft": (499.0, 0.0), "hard": (551.0, 0.0), "forward": (520.0, -1.71)}.get(status, (520.0, -1.69))
    record = [particle(PION, pt, y, 1.0)]
    if status == "beside the hardest":
        record.append(particle(PION, 600.0, 0.0, -2.0))
    label = 1 if status == "wrong parton" else 0
    # An event that passes comes along where it can, so that nothing is kept only because all or none are.
    assert len(select_jets(events(record), config, label)) == (status == "kept")
    kept = select_jets(
        events([particle(PION, 530.0, 0.5, 2.0)], record, [particle(PHOTON, 510.0, 0.5, 2.0)]), config, 0
    )
    pids = kept.particles["pid"].tolist()
    assert pids == ([211, 211, 22] if status in ("kept", "wrong parton") else [211, 22])


def test_rapidity_is_that_of_the_massive_particle(config):
    jets = select_jets(events([particle(NEUTRON, 510.0, 1.2, 0.3), particle(NEUTRON, 0.5, 1.2, 0.3)]), config, 0)
    # Slow and heavy: pseudorapidity asinh(sinh(y) mT / pT) would be 1.92 for the soft neutron.
    assert jets.particles["rapidity"] == pytest.approx([1.2, 1.2], rel=2**-14)


@given(st.floats(2.0**-60, 2.0**60, width=32), st.integers(1, 23), st.booleans())
def test_rounding_is_to_the_nearest_with_cleared_bits(value, bits, negative):
    value = -value if negative else value
    rounded = round_mantissa(np.array([value]), bits)
    assert abs(float(rounded[0]) - value) <= abs(value) * 2.0 ** -(bits + 1)
    assert rounded.view(np.uint32)[0] % 2 ** (23 - bits) == 0
    assert round_mantissa(rounded, bits)[0] == rounded[0]


@given(classes=st.integers(1, 3), jets=st.integers(1, 3000), shards=st.integers(1, 5), seed=st.integers(0, 2**40))
def test_shards_partition_the_tasks_and_no_two_share_a_seed(classes, jets, shards, seed):
    whole = plan(classes, jets, seed)
    assert sum(task.jets for task in whole) == jets
    per_class = [sum(task.jets for task in whole if task.label == label) for label in range(classes)]
    assert max(per_class) - min(per_class) <= 1
    assert len({task.seed for task in whole}) == len(whole)
    assert all(1 <= task.seed <= 900_000_000 for task in whole)
    parts = [task for share in range(shards) for task in plan(classes, jets, seed, (share + 1, shards))]
    assert sorted(parts) == sorted(whole)


def as_set(*paths):
    def key(jets, b):
        columns = (column[jets.offsets[b] : jets.offsets[b + 1]].tobytes() for column in jets.particles.values())
        return (int(jets.label[b]), *columns)

    return Counter(key(jets, b) for jets in map(read_store, paths) for b in range(len(jets)))


def test_bytes_do_not_depend_on_workers_and_shards_are_the_whole(stores):
    assert stores["one"].read_bytes() == stores["two"].read_bytes()
    whole = as_set(stores["one"])
    assert max(whole.values()) == 1
    assert as_set(stores["shard1"], stores["shard2"]) == whole
    assert [store_info(stores[name]).jets for name in ("one", "shard1", "shard2")] == [25, 14, 11]


def test_fresh_jets_follow_the_recipe(stores, config):
    jets, info = read_store(stores["one"]), store_info(stores["one"])
    assert info.classes == ("gluon", "quark")
    assert np.bincount(jets.label).tolist() == [13, 12]
    assert 0 < jets.label[:13].sum() < 12  # mixed
    assert info.splits == {"train": 14, "val": 3, "test": 8}
    pt, rapidity, phi, mass = (jets.particles[name].astype(float) for name in ("pt", "rapidity", "phi", "mass"))
    transverse = np.hypot(pt, mass)
    momenta = pt * np.cos(phi), pt * np.sin(phi), transverse * np.sinh(rapidity), transverse * np.cosh(rapidity)
    px, py, pz, energy = (np.add.reduceat(values, jets.offsets[:-1]) for values in momenta)
    jet_pt, jet_y = np.hypot(px, py), np.arctanh(pz / energy)
    assert ((jet_pt > 499.95) & (jet_pt < 550.05)).all()
    assert (np.abs(jet_y) < 1.7001).all()
    distance = np.hypot(rapidity - np.repeat(jet_y, jets.counts), phi - np.repeat(np.arctan2(py, px), jets.counts))
    assert distance.max() < 1.0  # around the jet, not on the other side of +-pi
    assert set(np.abs(jets.particles["pid"])) <= {11, 13, 22, 130, 211, 321, 2112, 2212}
    falling = np.diff(pt) <= 0
    falling[jets.offsets[1:-1] - 1] = True
    assert falling.all()
    assert jets.counts[jets.label == 0].mean() > jets.counts[jets.label == 1].mean()


def test_provenance_repeats_the_run_but_neither_time_nor_place(stores, config):
    provenance = store_info(stores["shard2"]).provenance
    assert GenerateConfig.model_validate(provenance["config"]) == config
    assert (provenance["jets"], provenance["shard"]) == (25, [2, 2])
    assert set(provenance["versions"]) == {"fastjet", "iagraph", "numpy", "pythia8mc"}
    for statistics in provenance["processes"].values():
        assert 0.01 < statistics["efficiency"] < 0.3
        assert 1e-11 < statistics["cross_section_mb"] < 1e-8
    assert str(stores["one"].parent) not in str(provenance)


def test_settings_that_pythia_refuses_are_named(config):
    task = Task(label=0, number=0, jets=1, seed=7)
    with pytest.raises(GenerateError, match=r"gluon: Pythia does not know 'PhaseSpace:pTHat = 4\.'"):
        run_task(task, config.model_copy(update={"pythia": ["PhaseSpace:pTHat = 4."]}))
    with pytest.raises(GenerateError, match=r"gluon: Pythia cannot start with .*Beams:idA"):
        run_task(task, config.model_copy(update={"pythia": ["Beams:idA = 9999"]}))


def test_hopeless_selection_ends(config, monkeypatch):
    monkeypatch.setattr(generator, "PATIENCE", 100)
    window = config.jet.model_copy(update={"pt_min": 5000.0, "pt_max": 5500.0})
    with pytest.raises(GenerateError, match=r"gluon: no jet in 100 events; correct"):
        run_task(Task(label=0, number=0, jets=1, seed=7), config.model_copy(update={"jet": window}))


def test_nothing_is_generated_for_a_file_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "_run_tasks", lambda *_: pytest.fail("generated all the same"))
    (tmp_path / "old.h5").write_text("old")
    with pytest.raises(StoreError, match=r"old\.h5: exists already; .* --force"):
        generate(RECIPE, tmp_path / "old.h5", jets=4)
    with pytest.raises(StoreError, match="cannot write into its folder"):
        generate(RECIPE, tmp_path / "absent" / "new.h5", jets=4)
    with pytest.raises(StoreError, match="cannot write into its folder"):
        generate(RECIPE, tmp_path / "old.h5" / "new.h5", jets=4)
    with pytest.raises(GenerateError, match="shard 2/2 of 4 jets is empty"):
        generate(RECIPE, tmp_path / "new.h5", jets=4, shard=(2, 2))
    assert (tmp_path / "old.h5").read_text() == "old"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("mantissa_bits", "mantisa_bits", r"unknown key 'mantisa_bits'; did you mean 'mantissa_bits'"),
        ("radius:", "radiuss:", r"unknown key 'jet\.radiuss'; did you mean 'jet\.radius'"),
        ("partons: [21]", "parton: [21]", r"unknown key 'processes\.0\.parton'; did you mean 'processes\.partons'"),
        ("seed: 2", "seed: one", r"'seed' should be a valid integer, found \"one\""),
        ("pt_min: 500.0", "pt_min: -1", r"'jet\.pt_min' should be greater than 0, found -1"),
    ],
)
def test_wrong_recipes_name_the_key(tmp_path, old, new, message):
    text = RECIPE.read_text()
    assert old in text
    (tmp_path / "recipe.yaml").write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=rf"recipe\.yaml: {message}"):
        generate(tmp_path / "recipe.yaml", tmp_path / "out.h5", jets=4)
