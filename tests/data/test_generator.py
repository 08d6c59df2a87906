import math
import multiprocessing
import os
import threading
import time
import tracemalloc
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pythia8mc", reason="generating jets needs pip install 'iagraph[generate]'")
pytest.importorskip("fastjet", reason="generating jets needs pip install 'iagraph[generate]'")

import awkward as ak
import pythia8mc
from data.conftest import numbered_jets

from iagraph.data import generator
from iagraph.data.generator import GenerateError, generate, plan, run_task
from iagraph.data.parts import Counts, Parts, Result, Task
from iagraph.data.recipe import GenerateConfig
from iagraph.data.sample import SAMPLES
from iagraph.data.selection import contains_decay, round_mantissa, select_jets
from iagraph.data.store import StoreError, read_store, store_info
from iagraph.files import LockedError, locked
from iagraph.yaml_config import ConfigError, load_model

RECIPE = Path(__file__).parents[2] / "configs" / "generate_qg.yaml"
TOP_RECIPE = RECIPE.with_name("generate_top.yaml")
PION, NEUTRON, PHOTON = (211, 0.13957), (2112, 0.93957), (22, 0.0)


@pytest.fixture(scope="module")
def config():
    return load_model(GenerateConfig, RECIPE)


@pytest.fixture(scope="module")
def top_config():
    """The recipe without its detector, so that hand-made jets keep their particles, and quicker."""
    config = load_model(GenerateConfig, TOP_RECIPE, ["detector=none"])
    return config.model_copy(update={"pythia": [*config.pythia, "PartonLevel:MPI = off"]})


RESULTS = {}


def in_this_process(most=math.inf):
    """For `_run_tasks`: a number of tasks, then Ctrl-C. Tasks are cached, as their jets are always the same."""

    def run_tasks(tasks, config, parts, workers):
        for done, task in enumerate(task for task in tasks if not parts.holds(task)):
            if done == most:
                raise KeyboardInterrupt
            if (key := (task, config.model_dump_json())) not in RESULTS:
                RESULTS[key] = run_task(task, config)
            parts.keep(RESULTS[key])

    return run_tasks


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """The same 25 jets made by two workers, in this process, and as two shards."""
    folder = tmp_path_factory.mktemp("generated")
    runs = {"two": {"workers": 2}, "one": {}, "shard1": {"shard": (1, 2)}, "shard2": {"shard": (2, 2)}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generator, "TASK_JETS", 7)
        for name, options in runs.items():
            if name != "two":  # without new processes, which take seconds to start
                patch.setattr(generator, "_run_tasks", in_this_process())
            generate(RECIPE, folder / f"{name}.h5", jets=25, **options)
    return {name: folder / f"{name}.h5" for name in runs}


def select(events, config, label):
    return select_jets(events, config, label, np.random.default_rng(1))


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
    jets = select(
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
def test_selection_window_and_parton(config, status):
    pt, y = {"soft": (499.0, 0.0), "hard": (551.0, 0.0), "forward": (520.0, -1.71)}.get(status, (520.0, -1.69))
    record = [particle(PION, pt, y, 1.0)]
    if status == "beside the hardest":
        record.append(particle(PION, 600.0, 0.0, -2.0))
    label = 1 if status == "wrong parton" else 0
    # A passing event is added where possible, so that not all or none are kept.
    assert len(select(events(record), config, label)) == (status == "kept")
    kept = select(events([particle(PION, 530.0, 0.5, 2.0)], record, [particle(PHOTON, 510.0, 0.5, 2.0)]), config, 0)
    pids = kept.particles["pid"].tolist()
    assert pids == ([211, 211, 22] if status in ("kept", "wrong parton") else [211, 22])


def test_window_in_rapidity_or_pseudorapidity(config, top_config):
    # A jet of mass 173 and pt 600 GeV at y = 1.97 has eta = asinh(sinh(y) sqrt(1 + (173 / 600)^2)) = 2.009.
    heavy = events([particle((211, 173.0), 600.0, 1.97, 0.3)], [particle((-211, 173.0), 600.0, -1.95, 0.3)])
    jet = top_config.jet
    kept = select(heavy, top_config, label=0)
    assert kept.particles["pid"].tolist() == [-211]
    rapidity_window = jet.model_copy(update={"rapidity_max": jet.pseudorapidity_max, "pseudorapidity_max": None})
    assert len(select(heavy, top_config.model_copy(update={"jet": rapidity_window}), label=0)) == 2


def top_event(pion=PION, **changes):
    """A jet of one pion at y = 0.5, phi = 3.1; tops around it, with copies as showers leave them.

    t -> t -> g t, t -> W b, W -> W -> c s; anti-t -> anti-t -> b W, W -> e nu. Of `changes`, a number is another phi, a
    mapping replaces other entries.
    """
    chain = {
        "system": (90, 0, 0, 3.1),
        "first top": (6, 3, 3, 1.0),
        "first antitop": (-6, 4, 4, 1.0),
        "top before gluon": (6, 5, 6, 1.0),
        "antitop": (-6, 7, 8, 3.1),
        "gluon": (21, 0, 0, 1.0),
        "top": (6, 9, 10, 3.1 + 0.79 - 2 * math.pi),
        "antibottom": (-5, 0, 0, 3.1),
        "W-": (-24, 11, 12, 3.1),
        "first W": (24, 13, 13, 1.0),
        "bottom": (5, 0, 0, 3.1 - 0.79),
        "electron": (11, 0, 0, 3.1),
        "antineutrino": (-12, 0, 0, 3.1),
        "W": (24, 14, 15, 1.0),
        "charm": (4, 0, 0, 3.1),
        "antistrange": (-3, 0, 0, 3.1 - 2 * math.pi),
    }
    rows = []
    for name, (pid, daughter1, daughter2, phi) in chain.items():
        status = -22 if name.startswith("first") else -44
        row = particle((pid, 1.0), 300.0, 0.5, phi, status) | {"daughter1": daughter1, "daughter2": daughter2}
        change = changes.pop(name.replace(" ", "_"), {})
        if isinstance(change, float):
            row |= particle((pid, 1.0), 300.0, 0.5, change, status)
        rows.append(row | (change if isinstance(change, dict) else {}))
    assert not changes
    return [*rows, particle(pion, 600.0, 0.5, 3.1) | {"daughter1": 0, "daughter2": 0}]


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, True),
        ({"top": 3.1 - 0.81}, False),
        ({"bottom": 3.1 - 0.81}, False),
        ({"charm": 3.1 + 0.81 - 2 * math.pi}, False),
        ({"antistrange": 3.1 - 0.81}, False),
        ({"first_top": 3.1, "top": 1.0}, False),  # an earlier copy is not enough
        ({"W": 3.1, "charm": 1.0}, False),
        ({"bottom": {"id": 3}}, True),
        ({"charm": {"id": -11}, "antistrange": {"id": 12}}, False),
        ({"top": {"daughter1": 0, "daughter2": 0}}, False),
        ({"top": {"daughter1": 10, "daughter2": 9}}, True),
        ({"top_before_gluon": {"daughter1": 6, "daughter2": 5}}, True),
        ({"first_antitop": {"status": -44}, "antitop": 1.0}, True),
        ({"first_top": {"status": -44}}, False),
    ],
)
def test_hand_made_tops_are_matched(top_config, changes, kept):
    batch = [top_event((-211, 0.14)), top_event(**changes), top_event((-211, 0.14)), top_event(bottom=1.0)]
    pids = select(ak.Array([{"prt": record} for record in batch]), top_config, label=1).particles["pid"]
    assert pids.tolist() == ([-211, 211, -211] if kept else [-211, -211])
    alone = ak.Array([{"prt": top_event(**changes)}])
    assert len(select(alone, top_config, label=1)) == kept
    harder = top_config.jet.model_copy(update={"pt_min": 610.0})
    assert len(select(alone, top_config.model_copy(update={"jet": harder}), label=1)) == 0


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, True),
        ({"antineutrino": 1.0}, True),
        ({"electron": 3.1 - 0.81}, False),
        ({"antibottom": 3.1 + 0.81 - 2 * math.pi}, False),
        ({"antitop": 1.0}, False),
        ({"electron": {"id": 15}, "antineutrino": {"id": -16}}, False),  # taus are no leptons here
        ({"electron": {"id": 1}, "antineutrino": {"id": -2}}, False),
    ],
)
def test_hand_made_semileptonic_tops_are_matched(top_config, changes, kept):
    top = top_config.processes[1].model_copy(update={"decay": "t -> q l nu"})
    config = top_config.model_copy(update={"processes": [top]})
    assert len(select(ak.Array([{"prt": top_event(**changes)}]), config, label=0)) == kept


def last_copies(event, species):
    those = [i for i in range(event.size()) if abs(event[i].id()) == species and abs(event[i].status()) != 21]
    return [i for i in those if all(event[d].id() != event[i].id() for d in event[i].daughterList())]


def decay_products(event, resonance):
    daughters = list(event[resonance].daughterList())
    products = []
    for d in daughters:
        products += list(event[event[d].iBotCopyId()].daughterList()) if abs(event[d].id()) == 24 else [d]
    # Numbers: the next event overwrites the particles.
    return [(abs(event[i].id()), event[i].y(), event[i].phi()) for i in (resonance, *products)]


HIGGS = ["HiggsSM:ffbar2HZ = on", "PhaseSpace:pTHatMin = 400.", "23:onMode = off", "23:onIfAny = 12", "25:onMode = off"]
HIGGS += ["25:onIfMatch = 24 -24"]


@pytest.mark.parametrize(
    ("hard", "decay", "kinds"),
    [
        (["24:onIfAny = 1 2 3 4 5"], "t -> q q q", [(1, 5)] * 3),
        (["24:onIfAny = 1 2 3 4 5 11 13 15"], "t -> q q q", [(1, 5)] * 3),
        (["24:onMode = off", "24:onIfAny = 11 13 15"], "t -> q l nu", [(1, 5), (11, 13), (12, 14)]),
        ([*HIGGS, "24:onMode = on"], "H -> q q l nu", [(1, 5), (1, 5), (11, 13), (12, 14)]),
    ],
)
def test_matching_equals_a_loop_over_events(top_config, hard, decay, kinds):
    count = 60
    runs = [pythia8mc.Pythia("", False) for _ in range(2)]
    common = top_config.pythia if HIGGS[0] in hard else [*top_config.pythia, *top_config.processes[1].pythia]
    for pythia in runs:
        for setting in [*common, *hard, "Random:setSeed = on"]:
            assert pythia.readString(setting)
        assert pythia.readString("HadronLevel:all = off")
        assert pythia.readString("Print:quiet = on")
        assert pythia.init()
    record = runs[0].nextBatch(count).prt
    walked = []
    for _ in range(count):
        assert runs[1].next()
        resonances = last_copies(runs[1].event, 6 if decay[0] == "t" else 25)
        walked.append([decay_products(runs[1].event, i) for i in resonances])
    assert {len(tops) for tops in walked} == {2 if decay[0] == "t" else 1}
    generator = np.random.default_rng(11)
    near = [tops[generator.integers(len(tops))][0] for tops in walked]
    rapidity, phi = (np.array([axis[i] for axis in near]) + generator.normal(0, 0.2, count) for i in (1, 2))

    def contained(axis, resonance, *products):
        return (
            len(products) == len(kinds)
            and all(
                low <= species <= high and (species in (12, 14) or distance(axis, place) < 0.8)
                for (low, high), (species, *place) in zip(kinds, sorted(products), strict=True)
            )
            and distance(axis, resonance[1:]) < 0.8
        )

    def distance(axis, place):
        return math.hypot(place[0] - axis[0], math.remainder(place[1] - axis[1], 2 * math.pi))

    axes = zip(rapidity, phi, strict=True)
    expected = [any(contained(axis, *chain) for chain in chains) for axis, chains in zip(axes, walked, strict=True)]
    assert 5 < sum(expected) < count - 5
    assert contains_decay(record, decay, rapidity, phi, 0.8).tolist() == expected


def test_detector_propagates_particles_from_their_vertices(top_config):
    config = top_config.model_copy(update={"detector": "atlas"})
    pions = [particle(PION, 50.0, 0.5 + 0.02 * number, 0.3) for number in range(12)]
    origin = dict.fromkeys(("px", "py", "pz", "e"), 0.0)

    def jets(vertex):
        hard = particle((21, 0.0), 500.0, 0.0, 0.0, status=-23)
        record = [hard | {"vProd": origin}, *(pion | {"vProd": vertex} for pion in pions)]
        return select(ak.Array([{"prt": record}, {"prt": record[:1]}, {"prt": record}]), config, 0)

    made = jets(origin)
    assert len(made) == 2
    tracks = np.add.reduceat(1 * (np.abs(made.particles["pid"]) == PION[0]), made.offsets[:-1])
    assert ((tracks > 8) & (tracks <= 12)).all()
    assert as_set(jets(None)) == as_set(made)  # Pythia leaves out vertices at the origin
    assert len(jets(origin | {"py": 1200.0})) == 0  # mm: beyond the tracker


def with_harder_events(config):
    """A recipe of harder events, of which more pass: some hundreds are enough."""
    settings = [setting.replace("pTHatMin = 300.", "pTHatMin = 500.") for setting in config.pythia]
    assert settings != config.pythia
    return config.model_copy(update={"pythia": settings})


def test_detector_makes_massless_objects_that_depend_only_on_the_seed(top_config):
    detector = load_model(GenerateConfig, TOP_RECIPE).detector
    assert detector == "atlas"
    quick = with_harder_events(top_config).model_copy(update={"detector": detector})
    jets, first = (run_task(Task(1, 0, number, seed=4), quick).jets for number in (30, 3))
    assert as_set(jets.take(range(3))) == as_set(first)
    assert not jets.particles["mass"].any()
    assert set(jets.particles["pid"]) <= {11, -11, 13, -13, 22, 130, 211, -211}
    px, py, pz, energy = momentum(jets)
    pt, mass = np.hypot(px, py), np.sqrt(energy**2 - px**2 - py**2 - pz**2)
    assert ((pt > 549.9) & (pt < 650.1)).all()
    assert abs(np.median(mass) - 173) < 12
    assert 40 < jets.counts.mean() < 60  # 74 without the detector


def test_top_jets_have_the_mass_of_the_top(top_config):
    quick = with_harder_events(top_config)
    qcd, top = (run_task(Task(label, 0, 60, seed=3 + label), quick).jets for label in (0, 1))
    for jets in (qcd, top):
        px, py, pz, _ = momentum(jets)
        pt = np.hypot(px, py)
        assert ((pt > 549.9) & (pt < 650.1)).all()
        assert (np.abs(np.arcsinh(pz / pt)) < 2.0002).all()
        assert set(np.abs(jets.particles["pid"])) <= {11, 13, 22, 130, 211, 321, 2112, 2212}
    masses = []
    for jets in (qcd, top):
        px, py, pz, energy = momentum(jets)
        masses.append(np.sqrt(energy**2 - px**2 - py**2 - pz**2))
    assert abs(np.median(masses[1]) - 173) < 8
    assert np.mean(np.abs(masses[1] - 173) < 25) > 0.6
    assert np.mean(np.abs(masses[0] - 173) < 25) < 0.25
    assert np.mean(masses[0] < 100) > 0.5
    assert top.counts.mean() > qcd.counts.mean()


def test_rapidity_uses_the_mass(config):
    jets = select(events([particle(NEUTRON, 510.0, 1.2, 0.3), particle(NEUTRON, 0.5, 1.2, 0.3)]), config, 0)
    # Slow and heavy: pseudorapidity asinh(sinh(y) mT / pT) would be 1.92 for the soft neutron.
    assert jets.particles["rapidity"] == pytest.approx([1.2, 1.2], rel=2**-14)


@given(st.floats(2.0**-60, 2.0**60, width=32), st.integers(1, 23), st.booleans())
def test_rounding_clears_bits_and_is_to_nearest(value, bits, negative):
    value = -value if negative else value
    rounded = round_mantissa(np.array([value]), bits)
    assert abs(float(rounded[0]) - value) <= abs(value) * 2.0 ** -(bits + 1)
    assert rounded.view(np.uint32)[0] % 2 ** (23 - bits) == 0
    assert round_mantissa(rounded, bits)[0] == rounded[0]


@given(classes=st.integers(1, 3), jets=st.integers(1, 3000), shards=st.integers(1, 5), seed=st.integers(0, 2**40))
def test_shards_partition_tasks_and_seeds(classes, jets, shards, seed):
    whole = plan(classes, jets, seed)
    assert sum(task.jets for task in whole) == jets
    per_class = [sum(task.jets for task in whole if task.label == label) for label in range(classes)]
    assert max(per_class) - min(per_class) <= 1
    assert len({task.seed for task in whole}) == len(whole)
    assert all(1 <= task.seed <= 900_000_000 for task in whole)
    parts = [task for share in range(shards) for task in plan(classes, jets, seed, (share + 1, shards))]
    assert sorted(parts) == sorted(whole)


def test_killed_worker_is_reported_and_the_call_can_be_repeated(stores, tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "TASK_JETS", 7)
    out, others = tmp_path / "jets.h5", set(multiprocessing.active_children())

    def kill_worker():
        while not list(tmp_path.glob("jets.h5.parts/*.h5")):
            time.sleep(0.01)
        for worker in set(multiprocessing.active_children()) - others:
            worker.kill()

    killer = threading.Thread(target=kill_worker)
    killer.start()
    told = r"^a worker was killed; [123] of 4 tasks are kept in .*jets\.h5\.parts; the same command .* --workers"
    with pytest.raises(GenerateError, match=told):
        generate(RECIPE, out, jets=25, workers=1)
    killer.join()
    assert not out.exists()
    monkeypatch.setattr(generator, "_run_tasks", in_this_process(most=3))
    generate(RECIPE, out, jets=25)
    assert out.read_bytes() == stores["one"].read_bytes()
    assert list(tmp_path.iterdir()) == [out]


def test_interruptions_keep_finished_tasks_of_the_same_jets(stores, tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "TASK_JETS", 7)
    out, parts = tmp_path / "jets.h5", tmp_path / "jets.h5.parts"

    def interrupted(most, message, **options):
        monkeypatch.setattr(generator, "_run_tasks", in_this_process(most))
        with pytest.raises(KeyboardInterrupt, match=rf"jets\.h5 was not written; {message}"):
            generate(RECIPE, out, jets=25, **options)

    interrupted(0, "no task had finished")
    assert list(tmp_path.iterdir()) == []
    interrupted(2, r"2 of 4 tasks are kept in .*jets\.h5\.parts; the same command resumes")
    for difference, options in {
        "config.seed": {"overrides": ["seed=7"], "jets": 25},
        "jets": {"jets": 24},
        "config.jet.pt_max, shard": {"overrides": ["jet.pt_max=551.0"], "jets": 25, "shard": (1, 2)},
    }.items():
        found = (
            rf"jets\.h5\.parts: holds 2 finished tasks of another generation \(differs in {difference}\); .* --force"
        )
        with pytest.raises(StoreError, match=found):
            generate(RECIPE, out, **options)
    damaged = min(parts.glob("*.h5"))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    (parts / ".killed.h5.12ab.tmp").touch()
    monkeypatch.setattr(generator, "_run_tasks", in_this_process())
    with pytest.raises(StoreError, match=rf"{damaged.name}: damaged and removed; rerun the same command"):
        generate(RECIPE, out, jets=25)
    with locked(parts / ".lock"), pytest.raises(LockedError, match=rf"^process {os.getpid()} on .*jets\.h5\.parts"):
        generate(RECIPE, out, jets=25)
    generate(RECIPE, out, jets=25)
    assert out.read_bytes() == stores["one"].read_bytes()
    assert list(tmp_path.iterdir()) == [out]
    interrupted(1, "1 of 4 tasks are kept", force=True)
    interrupted(0, "no task had finished", force=True, overrides=["seed=7"])
    assert list(tmp_path.iterdir()) == [out]


def test_memory_does_not_grow_with_tasks(tmp_path, config, monkeypatch):
    monkeypatch.setattr(generator, "PART", 1000)
    jets = numbered_jets(np.full(1000, 30))

    def peak(number):
        tasks = [Task(number % 2, number, 1000, seed=1) for number in range(number)]
        parts = Parts(tmp_path / "jets.h5", {})
        with parts.opened(force=True):
            for task in tasks:
                parts.keep(Result(task, jets, Counts(2000, 1000, 1e-9)))
            tracemalloc.start()
            generator._write(tmp_path / "jets.h5", tasks, config, parts, {"shard": [1, 1]})
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            parts.remove()
        assert store_info(tmp_path / "jets.h5").jets == number * 1000
        return most

    peak(2)  # lazy imports
    assert peak(24) < 1.3 * peak(3)


def as_set(*samples):
    def key(jets, b):
        rows = slice(jets.offsets[b], jets.offsets[b + 1])
        return (int(jets.label[b]), *(jets.particles[name][rows].tobytes() for name in sorted(jets.particles)))

    return Counter(key(jets, b) for jets in samples for b in range(len(jets)))


def test_output_does_not_depend_on_workers_or_shards(stores):
    assert stores["one"].read_bytes() == stores["two"].read_bytes()
    whole = as_set(read_store(stores["one"]))
    assert max(whole.values()) == 1
    assert as_set(read_store(stores["shard1"]), read_store(stores["shard2"])) == whole
    assert [store_info(stores[name]).jets for name in ("one", "shard1", "shard2")] == [25, 14, 11]


def test_recipe_reproduces_the_sample_bit_for_bit(config):
    made_with = store_info(SAMPLES["sample:qg"]).provenance["versions"]
    if changed := [name for name in ("fastjet", "numpy", "pythia8mc") if made_with[name] != version(name)]:
        pytest.skip(f"another release may make other jets: {', '.join(changed)}")
    fresh = [run_task(task._replace(jets=3), config).jets for task in plan(2, 2, seed=1)]
    assert not as_set(*fresh) - as_set(read_store(SAMPLES["sample:qg"]))


def momentum(jets):
    """px, py, pz, E of the jets, which are the sums of their particles."""
    pt, rapidity, phi, mass = (jets.particles[name].astype(float) for name in ("pt", "rapidity", "phi", "mass"))
    transverse = np.hypot(pt, mass)
    parts = pt * np.cos(phi), pt * np.sin(phi), transverse * np.sinh(rapidity), transverse * np.cosh(rapidity)
    return [np.add.reduceat(values, jets.offsets[:-1]) for values in parts]


def test_fresh_jets_follow_the_recipe(stores, config):
    jets, info = read_store(stores["one"]), store_info(stores["one"])
    assert info.classes == ("gluon", "quark")
    assert np.bincount(jets.label).tolist() == [13, 12]
    assert 0 < jets.label[:13].sum() < 12  # mixed
    assert info.splits == {"train": 14, "val": 3, "test": 8}
    pt, rapidity, phi = (jets.particles[name].astype(float) for name in ("pt", "rapidity", "phi"))
    px, py, pz, energy = momentum(jets)
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


def test_provenance_reproduces_the_run(stores, config):
    provenance = store_info(stores["shard2"]).provenance
    assert GenerateConfig.model_validate(provenance["config"]) == config
    assert set(provenance["config"]["jet"]) == {"radius", "pt_min", "pt_max", "rapidity_max"}  # not what it lacks
    assert (provenance["jets"], provenance["shard"]) == (25, [2, 2])
    assert set(provenance["versions"]) == {"fastjet", "iagraph", "numpy", "pythia8mc"}
    for statistics in provenance["processes"].values():
        assert 0.01 < statistics["efficiency"] < 0.3
        assert 1e-11 < statistics["cross_section_mb"] < 1e-8
    assert str(stores["one"].parent) not in str(provenance)


def test_invalid_pythia_settings_are_named(config):
    task = Task(label=0, number=0, jets=1, seed=7)
    with pytest.raises(
        GenerateError, match=r"gluon: Pythia does not know 'PhaseSpace:pTHat = 4\.'; .* Its output: PYTHIA"
    ):
        run_task(task, config.model_copy(update={"pythia": ["PhaseSpace:pTHat = 4."]}))
    with pytest.raises(GenerateError, match=r"gluon: Pythia cannot start with .*Beams:idA.* output: PYTHIA"):
        run_task(task, config.model_copy(update={"pythia": ["Beams:idA = 9999"]}))


def test_mismatched_pythia_data_show_the_output_of_pythia(config, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHIA8DATA", str(tmp_path))
    with pytest.raises(GenerateError) as caught:
        run_task(Task(label=0, number=0, jets=1, seed=7), config)
    told = str(caught.value)
    assert told.startswith("process gluon: Pythia cannot start. Its output: PYTHIA")
    assert str(tmp_path) in told
    assert "configuration" not in told


def test_selection_without_jets_ends(config, monkeypatch):
    monkeypatch.setattr(generator, "PATIENCE", 100)
    window = config.jet.model_copy(update={"pt_min": 5000.0, "pt_max": 5500.0})
    with pytest.raises(GenerateError, match=r"gluon: no jet selected in 100 events; correct"):
        run_task(Task(label=0, number=0, jets=1, seed=7), config.model_copy(update={"jet": window}))


def test_unwritable_output_is_refused_before_generation(tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "_run_tasks", lambda *_: pytest.fail("generated all the same"))
    (tmp_path / "old.h5").write_text("old")
    with pytest.raises(StoreError, match=r"old\.h5: already exists; .* --force"):
        generate(RECIPE, tmp_path / "old.h5", jets=4)
    with pytest.raises(StoreError, match="cannot write to its folder"):
        generate(RECIPE, tmp_path / "absent" / "new.h5", jets=4)
    with pytest.raises(StoreError, match="cannot write to its folder"):
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
        ("seed: 2", "seed: one", r"'seed' should .*, found \"one\""),
        ("pt_min: 500.0", "pt_min: -1", r"'jet\.pt_min' should .* 0, found -1"),
        ("rapidity_max: 1.7", "", r"'jet' should have exactly one of rapidity_max and pseudorapidity_max"),
        ("rapidity_max: 1.7", "rapidity_max: 1.7\n  pseudorapidity_max: 2.0", "'jet' should have exactly one"),
        ("seed: 2", "seed: 2\ndetector: lhcb", r"'detector' should be 'atlas', 'cms' or 'none', found \"lhcb\""),
        (
            "partons: [21]",
            "partons: [21]\n    decay: t -> b l nu",
            r"'processes\.0\.decay' should be t, W, Z or H, .*b l nu",
        ),
        ("partons: [21]", "partons: [21]\n    decay: t -> q", r"'processes\.0\.decay' should be .* at least two of"),
    ],
)
def test_wrong_recipes_name_the_key(tmp_path, old, new, message):
    text = RECIPE.read_text()
    assert old in text
    (tmp_path / "recipe.yaml").write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=rf"recipe\.yaml: {message}"):
        generate(tmp_path / "recipe.yaml", tmp_path / "out.h5", jets=4)
