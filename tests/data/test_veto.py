"""The veto of a recipe drops events early, and hardly any that would give a jet."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pythia8mc", reason="generating jets needs pip install 'iagraph[generate]'")
pytest.importorskip("fastjet", reason="generating jets needs pip install 'iagraph[generate]'")

import pythia8mc

from iagraph.data import generator
from iagraph.data.generator import GenerateError, run_task
from iagraph.data.parts import Task
from iagraph.data.recipe import GenerateConfig, Veto
from iagraph.data.selection import select_jets
from iagraph.yaml_config import ConfigError, load_model

TOP_RECIPE = Path(__file__).parents[2] / "configs" / "generate_top.yaml"


class Parton:
    def __init__(self, pt, final=True):
        self.pt, self.final = pt, final

    def pT(self):
        return self.pt

    def isFinal(self):
        return self.final


class Event(list):
    def size(self):
        return len(self)


@pytest.fixture
def quick():
    """The recipe for top jets, without its slowest parts."""
    config = load_model(GenerateConfig, TOP_RECIPE, ["detector=none"])
    return config.model_copy(update={"pythia": [*config.pythia, "PartonLevel:MPI = off", "PhaseSpace:pTHatMin = 500."]})


@pytest.mark.parametrize(
    ("partons", "position", "dropped"),
    [
        ([(400.0, True), (400.0, True), (99.0, True)], 0, True),  # half of 899 GeV
        ([(400.0, True), (400.0, True), (101.0, True)], 0, False),
        ([(400.0, True), (400.0, True), (101.0, False)], 3, True),  # one has decayed
        ([(400.0, True), (400.0, True), (99.0, True)], 5, False),  # the shower of a decay
    ],
)
def test_half_of_the_scalar_sum_decides(partons, position, dropped):
    veto = generator._ShowerVeto(Veto(scale=100, pt_min=450), "QCD")
    assert veto.canVetoPT()
    assert veto.scaleVetoPT() == 100
    assert veto.doVetoPT(position, Event(Parton(*parton) for parton in partons)) is dropped


def test_pythia_asks_the_veto_and_is_not_changed_by_it(quick):
    """Without dropped events, the same jets; with them, more jets from as many events."""
    task = Task(label=0, number=0, jets=3, seed=11)
    results = []
    for pt_min in (None, 1.0, 520.0):
        veto = Veto(scale=100, pt_min=pt_min) if pt_min else None
        results.append(run_task(task, quick.model_copy(update={"veto": veto})))
    none, idle, strict = results
    for column, values in none.jets.particles.items():
        np.testing.assert_array_equal(values, idle.jets.particles[column])
    assert none.counts == idle.counts
    assert strict.counts.events == none.counts.events
    assert strict.counts.selected > 1.2 * none.counts.selected


def test_a_veto_of_all_events_ends(quick, monkeypatch):
    monkeypatch.setattr(generator, "PATIENCE", 30)
    config = quick.model_copy(update={"veto": Veto(scale=100, pt_min=4000)})
    with pytest.raises(GenerateError, match=r"process top: the veto dropped 30 events in a row; lower veto\.pt_min"):
        run_task(Task(label=1, number=0, jets=1, seed=3), config)


def test_a_veto_within_the_window_is_refused():
    with pytest.raises(ConfigError, match=r"veto\.pt_min should be below jet\.pt_min, 550"):
        load_model(GenerateConfig, TOP_RECIPE, ["veto.pt_min=550"])


@pytest.mark.slow
@pytest.mark.parametrize("label", [0, 1])
def test_hardly_any_jets_come_from_events_that_the_veto_ends(label):
    config = load_model(GenerateConfig, TOP_RECIPE)
    asked = []

    class Watched(generator._ShowerVeto):
        def doVetoPT(self, position, event):
            if position < generator.RESONANCE_SHOWER:
                asked.append(super().doVetoPT(position, event))
            return False

    watched, pythia = Watched(config.veto, "process"), pythia8mc.Pythia("", False)
    settings = [*config.pythia, *config.processes[label].pythia, "Random:setSeed = on", "Random:seed = 8"]
    assert all(pythia.readString(setting) for setting in ["Print:quiet = on", *settings])
    pythia.setUserHooksPtr(watched)
    assert pythia.init()
    events = pythia.nextBatch(1500)
    random = np.random.default_rng(2)
    selected = [len(select_jets(events[row : row + 1], config, label, random)) > 0 for row in range(1500)]
    dropped = np.array(asked)
    assert len(dropped) == len(events)
    assert 0.6 < dropped.mean() < 0.8
    assert sum(selected) > 25
    assert (dropped & selected).sum() < 0.1 * sum(selected)  # 2.9 +- 0.7 % of many QCD jets
