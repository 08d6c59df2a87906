"""Time per jet and peak memory of training and inference against the number of particles per jet, with a figure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmark.measure import PeakMemory, Report, in_new_process, seconds_of
from iagraph.data import JetDataset, Jets, read_store, resolve
from iagraph.jets import JetBatch
from iagraph.memory import tune_memory
from iagraph.models import IAFormer, ParticleNet, ParticleTransformer
from iagraph.plotting import COLOURS

PARTICLES = (10, 20, 50, 100, 200, 500, 1000)
PAIRS = 64 * 44 * 45 // 2
"""Pairs of a batch of 64 jets with 44 particles, the average of the sample."""

MODELS: dict[str, Callable[[], nn.Module]] = {
    "IAFormer": partial(IAFormer, "kinpid", "iaformer"),
    "ParT": partial(ParticleTransformer, "kinpid"),
    "ParticleNet": partial(ParticleNet, "kinpid"),
}
MODES = ("inference", "training")
GREY = "0.45"


def benchmark_cost(repeats: int, particles: Sequence[int] = PARTICLES) -> Report:
    """Training steps and inference of the published networks, in a new process per network and number of particles.

    Args:
        repeats: timed runs of each point.
        particles: numbers of particles per jet, ascending.
    """
    rows = [in_new_process(measure_point, name, number, repeats)[0] for name in MODELS for number in particles]
    report = Report("Cost against the number of particles per jet", rows)
    report.notes = [
        *(note for name in MODELS for note in growth_notes([row for row in rows if row["model"] == name])),
        f"batches of about {PAIRS:,} pairs, at least one jet; a jet of n particles has n (n + 1) / 2 of them",
        "each jet is a sequence of particles of the quark/gluon sample: several of its jets joined, or part of one",
        f"time: median of {repeats}, +- half their range; a training step is zero_grad, forward, cross entropy, "
        "backward and AdamW's step, inference runs under torch.inference_mode",
        "peak memory: of a process, above its memory before the first step; includes gradients and AdamW's state",
    ]
    return report


def measure_point(name: str, particles: int, repeats: int) -> dict[str, Any]:
    """Time and peak memory of a network for jets with a fixed number of particles.

    Memory is best measured in a new process, first for inference, which needs less.

    Args:
        name: a key of :data:`MODELS`.
        particles: particles of each jet.
        repeats: timed runs, after one for warming up.
    """
    torch.manual_seed(1)
    jets = jets_of(read_store(resolve("sample:qg")), particles, jets_per_batch(particles))
    about = {"model": name, "particles": particles, "jets per batch": len(jets)}
    return about | measure_steps(MODELS[name](), jets, repeats)


def measure_steps(model: nn.Module, batch: JetBatch, repeats: int) -> dict[str, Any]:
    """Time and peak memory of a network's inference and training steps.

    Args:
        model: the network.
        batch: with labels.
        repeats: timed runs, after one for warming up.
    """
    tiny = IAFormer(width=16, blocks=1, particle_hidden=(1,), pair_hidden=(1,), pair_width=1)
    Steps(tiny, batch.part(0, 1)).training()  # so that lazy imports are not measured
    steps, jets = Steps(model, batch), len(batch)
    row: dict[str, Any] = {}
    memory = PeakMemory()
    tune_memory()  # only now: reuse of memory freed earlier would not be measured
    for mode, run in zip(MODES, (steps.inference, steps.training), strict=True):
        seconds: list[float] = []
        peak = memory.of(partial(_time, run, repeats, seconds))
        row[f"{mode} [ms/jet]"] = 1e3 * statistics.median(seconds) / jets
        row[f"{mode} +- [ms/jet]"] = 1e3 * (max(seconds) - min(seconds)) / 2 / jets
        row[f"{mode} peak [MB]"] = peak
    return row


def _time(run: Callable[[], object], repeats: int, seconds: list[float]) -> None:
    seconds += seconds_of(run, repeats)


class Steps:
    """A network and the jets on which it is trained or run repeatedly.

    Args:
        model: the network.
        jets: with labels.
    """

    def __init__(self, model: nn.Module, jets: JetBatch) -> None:
        self.model, self.jets = model, jets
        self.optimizer = torch.optim.AdamW(model.parameters())

    def training(self) -> None:
        """A training step."""
        self.model.train()
        self.optimizer.zero_grad()
        cross_entropy(self._logits(), cast(Tensor, self.jets.y)).backward()
        self.optimizer.step()

    def inference(self) -> None:
        """Logits in evaluation mode."""
        self.model.eval()
        with torch.inference_mode():
            self._logits()

    def _logits(self) -> Tensor:
        return self.model(replace(self.jets))  # a new batch, as batches cache derived quantities


def jets_per_batch(particles: int) -> int:
    """Number of jets with this number of particles that have about :data:`PAIRS` pairs, at least one."""
    return max(1, round(PAIRS / pairs(particles)))


def pairs(particles: int) -> int:
    """Number of unordered pairs of a jet, self-pairs included."""
    return particles * (particles + 1) // 2


def jets_of(sample: Jets, particles: int, jets: int) -> JetBatch:
    """Jets with the same number of particles, cut from the particles of a sample, repeated if necessary.

    Args:
        sample: the jets whose particles are taken, in order.
        particles: particles of each jet.
        jets: number of jets.
    """
    wanted = np.arange(particles * jets) % sample.offsets[-1]
    columns = {name: column[wanted] for name, column in sample.particles.items()}
    label = np.arange(jets) % len(sample.classes)
    return JetDataset(Jets(columns, np.arange(jets + 1) * particles, label, sample.classes))[:]


def growth_notes(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The fastest growth of a model's time relative to the number of pairs: a line each for inference and training.

    Args:
        rows: rows of the report for one model, in ascending order of particles.
    """
    notes = []
    for mode in MODES:
        time, error = f"{mode} [ms/jet]", f"{mode} +- [ms/jet]"
        growths = []
        for row, following in pairwise(rows):
            more_pairs = pairs(following["particles"]) / pairs(row["particles"])
            growth = following[time] / row[time] / more_pairs
            spread = growth * math.hypot(row[error] / row[time], following[error] / following[time])
            growths.append((growth, spread, row["particles"], following["particles"]))
        growth, spread, begin, end = max(growths)
        notes.append(
            f"{rows[0]['model']}, {mode}: time grows at most {growth:.2f} +- {spread:.2f} times as fast as the number "
            f"of pairs, from {begin} to {end} particles"
        )
    return notes


def figure_of(rows: Sequence[dict[str, Any]]) -> Figure:
    """Time per jet and peak memory against the number of particles, with a line proportional to the number of pairs.

    Args:
        rows: the rows of the report.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    time, memory = figure.subplots(1, 2)
    for index, name in enumerate(dict.fromkeys(row["model"] for row in rows)):
        own = [row for row in rows if row["model"] == name]
        particles = [row["particles"] for row in own]
        for mode, line, fill in zip(MODES, ("--", "-"), ("none", "full"), strict=True):
            look: dict[str, Any] = {"color": COLOURS[index], "marker": "os^"[index], "linestyle": line, "markersize": 5}
            look |= {"fillstyle": fill, "label": f"{name}, {mode}"}
            errors = [row[f"{mode} +- [ms/jet]"] for row in own]
            time.errorbar(particles, [row[f"{mode} [ms/jet]"] for row in own], errors, **look)
            memory.plot(particles, [row[f"{mode} peak [MB]"] for row in own], **look)
    numbers = sorted({row["particles"] for row in rows})
    middle = numbers[len(numbers) // 2]
    through = next(row[f"{MODES[0]} [ms/jet]"] for row in rows if row["particles"] == middle)
    as_pairs = [through * pairs(number) / pairs(middle) for number in numbers]
    time.plot(numbers, as_pairs, color=GREY, linewidth=5, alpha=0.35, zorder=0, label="proportional to pairs")
    time.set(ylabel="time per jet [ms]")
    memory.set(ylabel="peak memory [MB]")
    memory.set_title(f"batches of about {PAIRS:,} pairs, at least one jet", fontsize=9)
    for axes in (time, memory):
        axes.set(xscale="log", yscale="log", xlabel="particles per jet")
        axes.set_xticks(numbers, list(map(str, numbers)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
    time.legend(fontsize=8, frameon=False)
    return figure
