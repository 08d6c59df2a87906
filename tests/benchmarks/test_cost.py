import os
import re

import numpy as np
import pytest
import torch
from data.conftest import numbered_jets

from benchmark import cost
from benchmark.measure import PeakMemory, in_new_process
from iagraph.models import PlainTransformer
from iagraph.plotting import save_figure


def _allocate(first, second):
    memory = PeakMemory()
    return memory.of(lambda: np.ones(first * 125_000)), memory.of(lambda: np.ones(second * 125_000))


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="this system cannot reset the peak memory of a process"
)
def test_peak_memory_excludes_earlier_calls():
    (first, second), total = in_new_process(_allocate, 307, 101)
    assert first == pytest.approx(307, abs=5)
    assert second == pytest.approx(101, abs=5)
    assert total > 101


@pytest.mark.parametrize("particles", cost.PARTICLES)
def test_batches_have_about_the_same_number_of_pairs(particles):
    pairs = particles * (particles + 1) / 2
    jets = cost.jets_per_batch(particles)
    assert jets == 1 or abs(jets * pairs - cost.PAIRS) <= pairs / 2
    assert jets > 1 or 2 * pairs > cost.PAIRS


def test_jets_are_cut_from_consecutive_particles():
    sample = numbered_jets([3, 0, 5, 2])
    jets = cost.jets_of(sample, particles=7, jets=3)  # 21 particles, of 10
    assert jets.ptr.tolist() == [0, 7, 14, 21]
    pt, pid = sample.particles["pt"].tolist(), sample.particles["pid"].tolist()
    assert jets.momenta.pt.tolist() == (3 * pt)[:21]
    assert jets.pid.tolist() == (3 * pid)[:21]
    assert jets.y.tolist() == [0, 1, 0]


def test_training_step_changes_all_weights_and_inference_none():
    torch.manual_seed(1)
    model = PlainTransformer("kinpid", width=4, blocks=1, heads=2, particle_hidden=(3,))
    jets = cost.jets_of(numbered_jets([5, 7]), 3, 4)
    steps = cost.Steps(model, jets)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    steps.inference()
    assert not model.training
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    steps.training()
    assert model.training
    unmoved = [name for name, weight in model.named_parameters() if torch.equal(before[name], weight)]
    assert unmoved == []


@pytest.fixture
def report(monkeypatch):
    """The report of two tiny networks, measured in this process."""
    tiny = {"width": 4, "blocks": 1, "heads": 2, "particle_hidden": (3,)}
    monkeypatch.setattr(cost, "MODELS", {name: lambda: PlainTransformer("kinpid", **tiny) for name in ("one", "other")})
    monkeypatch.setattr(cost, "PAIRS", 60)
    monkeypatch.setattr(cost, "read_store", lambda path: numbered_jets([5, 0, 7]))
    monkeypatch.setattr(cost, "in_new_process", lambda function, *arguments: (function(*arguments), 1.0))
    return cost.benchmark_cost(repeats=2, particles=(2, 3, 11))


def test_report_has_every_network_and_number_of_particles(report):
    found = [(row["model"], row["particles"], row["jets per batch"]) for row in report.rows]
    assert found == [(name, *point) for name in ("one", "other") for point in ((2, 20), (3, 10), (11, 1))]
    for row in report.rows:
        assert all(row[f"{mode} [ms/jet]"] > 0 for mode in cost.MODES)
        assert all(row[f"{mode} peak [MB]"] >= 0 for mode in cost.MODES)
    assert report.notes[0].startswith("one, inference: ")
    assert report.notes[3].startswith("other, training: ")
    assert report.markdown().count("\n| one |") == 3


def test_growth_is_relative_to_the_number_of_pairs():
    # Pairs: 3, 6, 66. Time grows by 3 and 11, pairs by 2 and 11.
    times = {2: 1.0, 3: 3.0, 11: 33.0}
    rows = [
        {"model": "m", "particles": n}
        | {f"{mode} [ms/jet]": time for mode in cost.MODES}
        | {f"{mode} +- [ms/jet]": 0.06 * time if n == 2 else 0.08 * time for mode in cost.MODES}
        for n, time in times.items()
    ]
    notes = cost.growth_notes(rows)
    assert [note.split(":")[0] for note in notes] == ["m, inference", "m, training"]
    for note in notes:  # 1.5 * sqrt(0.06^2 + 0.08^2) = 0.15
        assert re.findall(r"[\d.]+", note) == ["1.50", "0.15", "2", "3"]


def test_figure_shows_all_rows_and_a_line_proportional_to_pairs(report, tmp_path, drawn):
    for row in report.rows:  # tiny networks may need no additional memory
        row |= {f"{mode} peak [MB]": row["particles"] + index for index, mode in enumerate(cost.MODES)}
    figure = cost.figure_of(report.rows)
    time, memory = figure.axes
    *_, as_pairs = time.get_lines()
    x, y = as_pairs.get_data()
    assert list(x) == [2, 3, 11]
    assert np.asarray(y) / y[0] == pytest.approx([1, 2, 22])
    for axes, what in ((time, "[ms/jet]"), (memory, "peak [MB]")):
        drawn = [list(line.get_ydata()) for line in axes.get_lines()]
        for name in ("one", "other"):
            for mode in cost.MODES:
                assert [row[f"{mode} {what}"] for row in report.rows if row["model"] == name] in drawn
        assert axes.get_xscale() == axes.get_yscale() == "log"
        assert axes.get_xlabel() == "particles per jet"
    assert time.get_ylabel().endswith("[ms]")
    assert memory.get_ylabel().endswith("[MB]")
    save_figure(figure, tmp_path / "cost")
    assert (tmp_path / "cost.png").is_file()
