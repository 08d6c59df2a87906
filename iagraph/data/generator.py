"""Jets from Pythia8 and FastJet: one class of jets per hard process, written to one jet store.

The recipe (processes, settings, jet definition) is a YAML file, see `GenerateConfig`. The work is cut into tasks of a
fixed number of jets of one class, each with a random seed of its own. So the result depends neither on the number of
workers nor, shard by shard, on the number of machines.
"""

import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from iagraph.data.store import Jets, StoreError, write_store

try:
    import awkward as ak
    import fastjet
    import pythia8mc
    from pydantic import BaseModel, ConfigDict, Field
    from tqdm import tqdm
except ImportError as error:
    raise ImportError(f"generating jets needs {error.name}: pip install 'iagraph[generate]'") from error

from iagraph.yaml_config import load_model

TASK_JETS = 250  # some 30 s of work: starting Pythia (0.5 s) does not matter, and the progress bar moves
BATCH_EVENTS = 250  # events in memory at once, some 100 MB
SEEDS = 900_000_000  # Pythia takes seeds from 1 to this
NEUTRINOS = (12, 14, 16)
PROTON_MASS_SCALE = 1.0
OUTGOING_HARD_PARTON = -23  # Pythia's status code


class GenerateError(RuntimeError):
    """Pythia refused a setting, or no event passes the selection."""


class Section(BaseModel):
    """A part of the configuration: an unknown key is an error, and so is a value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Process(Section):
    """One class of jets."""

    name: str = Field(description="Name of the class; its place in the list is the label.")
    pythia: list[str] = Field(description="Pythia settings that switch the hard process on.")
    partons: list[int] = Field(description="|PDG id| allowed for the outgoing parton of the hard process.")


class JetSelection(Section):
    """The hardest jet of an event is kept if it lies in this window."""

    radius: float = Field(gt=0, description="R of the anti-kT algorithm.")
    pt_min: float = Field(gt=0, description="GeV")
    pt_max: float = Field(gt=0, description="GeV")
    rapidity_max: float = Field(gt=0, description="Upper end of |y|.")


class Splits(Section):
    """Relative shares of the parts of the store, in file order."""

    train: float = Field(ge=0)
    val: float = Field(ge=0)
    test: float = Field(ge=0)


class GenerateConfig(Section):
    """A recipe for jets."""

    processes: list[Process] = Field(min_length=1, description="One class of jets each, in equal numbers.")
    pythia: list[str] = Field(description="Pythia settings common to all processes.")
    jet: JetSelection
    splits: Splits
    seed: int = Field(ge=0, description="Equal seeds give equal files, byte for byte.")
    mantissa_bits: int = Field(
        ge=1, le=23, description="pt, rapidity and phi are rounded to a relative precision of 2^-(bits + 1)."
    )


@dataclass(frozen=True)
class Task:
    """`jets` jets of class `label`; `seed` is Pythia's."""

    label: int
    number: int
    jets: int
    seed: int


@dataclass(frozen=True)
class Result:
    """The jets of a task, and how many events they took: cross_section is Pythia's estimate in mb."""

    task: Task
    jets: Jets
    events: int
    selected: int
    cross_section: float


def plan(classes: int, jets: int, seed: int, shard: tuple[int, int] = (1, 1)) -> list[Task]:
    """The tasks that make `jets` jets, or one shard's share of them.

    The first classes get one jet more where the number does not divide. Seeds count up from a start that depends on
    `seed`, so no two tasks of a run share one, on however many machines it is made.

    Args:
        classes: Number of classes.
        jets: Number of jets of all classes and shards together.
        seed: The run's seed.
        shard: (K, M), K from 1 to M: every M-th task of each class, beginning with the K-th.
    """
    start = int(np.random.default_rng(seed).integers(SEEDS))
    tasks = []
    for label in range(classes):
        total = jets // classes + (label < jets % classes)
        for number in range(shard[0] - 1, -(-total // TASK_JETS), shard[1]):
            count = min(TASK_JETS, total - number * TASK_JETS)
            tasks.append(Task(label, number, count, 1 + (start + number * classes + label) % SEEDS))
    return tasks


def round_mantissa(values: np.ndarray, bits: int) -> np.ndarray:
    """float32 values rounded to the nearest with `bits` mantissa bits: relative error at most 2^-(bits + 1).

    The cleared bits compress to almost nothing; CMS stores its NanoAOD in the same way.
    """
    drop = 23 - bits
    integers = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    rounded = (integers + ((1 << drop) >> 1)) >> drop << drop
    return rounded.astype(np.uint32).view(np.float32)


def select_jets(events: Any, config: GenerateConfig, label: int) -> Jets:
    """The hardest jet of every event where it lies in the window, with its particles in order of falling pt.

    A particle's rapidity is that of the massive particle, y = asinh(pz / mT) with mT^2 = m^2 + pT^2, which equals
    ln((E + pz) / (E - pz)) / 2 without its cancellation. phi lies within pi of the jet's phi, outside [-pi, pi) if need be.

    Args:
        events: What `pythia.nextBatch` returns.
        config: The recipe.
        label: The class that these events belong to.
    """
    record, window = events.prt, config.jet
    hard = record.id[record.status == OUTGOING_HARD_PARTON]
    allowed = (
        ak.any([abs(hard) == 0, *()], axis=-1)
        if False
        else ak.any(_is_one_of(hard, config.processes[label].partons), axis=1)
    )
    final = (record.status > 0) & ~_is_one_of(record.id, NEUTRINOS)
    pid, mass = record.id[final], record.m[final]
    momenta = ak.zip(
        {"px": record.p.px[final], "py": record.p.py[final], "pz": record.p.pz[final], "E": record.p.e[final]},
        with_name="Momentum4D",
    )
    cluster = fastjet.ClusterSequence(momenta, fastjet.JetDefinition(fastjet.antikt_algorithm, window.radius))
    return cluster
