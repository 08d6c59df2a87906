"""Runs as opened by studies: models, test jets and names, and checks that runs have the same jets."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import nn

from iagraph.data import JetDataset, JetSource, StoredJets
from iagraph.estimates import Truth
from iagraph.interpret.recording import AttentionModel
from iagraph.jets import JetBatch
from iagraph.models import ParticleTransformer
from iagraph.models.attention_tagger import AttentionTagger
from iagraph.models.registry import names_of
from iagraph.models.state_dicts import CheckpointError, read_state_dict
from iagraph.studies.output import check_output
from iagraph.train.config import Config
from iagraph.train.datamodule import check_jets, open_role, read_all
from iagraph.train.evaluation import evenly_spaced
from iagraph.train.folder import Run, RunError, build_model, load_run, weights_of_epoch

BATCH = 64
UNTRAINED_SEED = 1
T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """Arguments of a study from the command line.

    Attributes:
        runs: folders of finished runs.
        folder: output folder; becomes an absolute path.
        jets: largest number of test jets to use from each run.
        command: the command line, for the record.
    """

    runs: Sequence[Path]
    folder: Path
    jets: int
    command: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", self.folder.resolve())


@dataclass(frozen=True)
class OpenRun:
    """A finished run and its test jets.

    Attributes:
        path: its folder.
        name: the shortest suffix of its path that is unique among the runs.
        run: its configuration, classes and model.
        model: the model, in evaluation mode on :attr:`device`; it may lack attention if the run was opened with
            ``needs_attention=False``.
        batches: some of its test jets, with labels, on the CPU.
        device: the device for computations.
    """

    path: Path
    name: str
    run: Run
    model: AttentionModel
    batches: list[JetBatch]
    device: torch.device

    @property
    def jets(self) -> int:
        """The number of jets."""
        return sum(map(len, self.batches))

    @cached_property
    def truth(self) -> Truth:
        """Classes of the jets, and the signal class for the AUC."""
        return truth_of(self.run, self.batches)

    def untrained(self) -> AttentionModel:
        """The run's model with reproducible random weights; the global random state is unchanged."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(UNTRAINED_SEED)
            model: nn.Module = build_model(self.run.config, self.run.classes)
        return cast(AttentionModel, model.to(self.device).eval())

    def at_epoch(self, epoch: int) -> OpenRun:
        """The run with the weights that it kept after an epoch, counted from 1.

        Raises:
            RunError: the file of the weights is damaged.
        """
        file = weights_of_epoch(self.path, epoch)
        model: nn.Module = build_model(self.run.config, self.run.classes)
        try:
            model.load_state_dict(read_state_dict(file))
        except (CheckpointError, RuntimeError) as error:  # RuntimeError: of another network
            reason = " ".join(str(error).split())[:300]
            raise RunError(f"{file}: cannot be used ({reason}); delete it to leave out this epoch") from error
        return replace(self, model=cast(AttentionModel, model.to(self.device).eval()))


def open_run(path: Path, jets: int, needs_attention: bool = True, name: str = "") -> OpenRun:
    """Open a finished run with evenly spaced test jets.

    Args:
        path: folder of the run.
        jets: largest number of jets.
        needs_attention: False accepts runs of any model, for studies that use only logits.
        name: name of the run; default: that of its folder.

    Raises:
        RunError: the folder holds no finished run, the model lacks attention among particles, or a class has no jets.
        ConfigError, StoreError: the configuration of the run or its test jets are wrong.
    """
    run = load_run(path)
    if needs_attention and not isinstance(run.model, AttentionTagger | ParticleTransformer):
        names = names_of(AttentionTagger, ParticleTransformer)
        raise RunError(
            f"{path}: {run.config.model.name} has no attention among particles; these have: {', '.join(names)}"
        )
    source = open_studied_jets(path, run, jets)
    device = where_measured([path])
    model = cast(AttentionModel, run.model)  # or a model without attention, if one was asked for
    return OpenRun(path, name or path.resolve().name, run, model.to(device).eval(), some_batches(source, jets), device)


def open_runs(study: str, plan: Plan, needs_attention: bool = True) -> list[OpenRun]:
    """Open the runs of a kind of study, with unique names.

    Raises:
        RunError: the output folder cannot be used, a run is given twice; or as in :func:`open_run`.
    """
    check_output(plan.folder, study, plan.runs[0])
    return [
        open_run(path, plan.jets, needs_attention, name)
        for path, name in zip(plan.runs, labels(plan.runs), strict=True)
    ]


def open_one(study: str, plan: Plan) -> OpenRun:
    """Open the run of a kind of study that takes a single run.

    Raises:
        RunError: the output folder cannot be used, not exactly one run is given; or as in :func:`open_run`.
        ConfigError, StoreError: as in :func:`open_run`.
    """
    check_output(plan.folder, study, plan.runs[0])
    if len(plan.runs) != 1:
        raise RunError(f"the study '{study}' takes one run, not {len(plan.runs)}: run it once for each")
    return open_run(plan.runs[0], plan.jets)


def truth_of(run: Run, batches: Sequence[JetBatch]) -> Truth:
    """Classes of labelled jets, and the signal class of a run."""
    labels = np.concatenate([jets.y.numpy() for jets in batches if jets.y is not None])
    signal = run.config.data.signal
    return Truth(labels, None if signal is None else run.classes.index(signal))


def open_test_jets(config: Config) -> JetSource:
    """The test jets of a run, in memory or read from files, according to its configuration; with species, if known.

    Raises:
        StoreError: a file is missing or damaged.
    """
    stores = open_role(config.data.test, "test", config.data, species=True)
    if config.data.in_memory:
        return JetDataset(read_all(stores), config.data.max_particles, config.data.masses)
    return StoredJets(stores, config.data.max_particles, config.data.masses)


def open_studied_jets(path: Path, run: Run, number: int) -> JetSource:
    """All test jets of a run, after a check that ``number`` evenly spaced ones, to be studied, include every class.

    Raises:
        RunError: a class has no jets among those to be studied.
        StoreError: a file is missing or damaged, or its jets do not fit the model.
    """
    jets = open_test_jets(run.config)
    check_jets(jets, run.config.data, run.classes, ", ".join(run.config.data.test))
    labels = jets.label[evenly_spaced(len(jets), number)]
    for label, name in enumerate(run.classes):
        if not (labels == label).any():
            raise RunError(f"{path}: none of the {len(labels)} jets is of the class '{name}': use more jets (--jets)")
    return jets


def some_batches(jets: JetSource, number: int) -> list[JetBatch]:
    """At most ``number`` evenly spaced jets, in batches of :data:`BATCH`."""
    places = evenly_spaced(len(jets), number)
    return [jets[places[begin : begin + BATCH]] for begin in range(0, len(places), BATCH)]


def where_measured(runs: Sequence[Path]) -> torch.device:
    """The device on which these runs were evaluated, if they share one that is available here; otherwise the CPU."""
    used = {read_json(run / "metrics.json", lambda found: str(found["cost"]["measured_on"]["device"])) for run in runs}
    # Runs may come from a machine with different devices.
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    device = used.pop() if len(used) == 1 else "cpu"
    return torch.device(device if here.get(device) else "cpu")


def read_json(path: Path, take: Callable[[Any], T]) -> T:
    """Result of ``take`` for the content of a JSON file of a finished run.

    Raises:
        RunError: the file is missing, damaged, or incomplete.
    """
    try:
        return take(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"no key {error}" if isinstance(error, KeyError) else error
        raise RunError(f"{path}: missing or damaged ({reason}); delete the folder of this run to retrain it") from error


def labels(paths: Sequence[Path]) -> list[str]:
    """A name for each run: the shortest unique suffix of its path.

    Raises:
        RunError: a folder is given twice.
    """
    parts = [path.resolve().parts for path in paths]
    for number, folder in enumerate(parts):
        if folder in parts[:number]:
            raise RunError(f"{paths[number]}: this run is given twice; give each run once")
    return ["/".join(_shortest_end(folder, parts)) for folder in parts]


def _shortest_end(folder: tuple[str, ...], folders: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    length = 1
    while sum(other[-length:] == folder[-length:] for other in folders) > 1:
        length += 1
    return folder[-length:]


def same_jets(one: OpenRun, other: OpenRun) -> bool:
    """Whether two runs have the same jets in the same order and the same class names."""
    if one.run.classes != other.run.classes or len(one.batches) != len(other.batches):
        return False
    return all(map(_equal, one.batches, other.batches))


def check_same_jets(runs: Sequence[OpenRun]) -> None:
    """Check that all runs have the same jets in the same order.

    Raises:
        RunError: the jets of a run differ from those of the first.
    """
    for run in runs[1:]:
        if not same_jets(run, runs[0]):
            raise RunError(
                f"{run.path}: its test jets ('data.test', 'data.max_particles', 'data.masses', classes) are not those "
                f"of {runs[0].path}, but only results on the same jets can be compared; give runs with the same test "
                "jets, or study these one by one"
            )


def _equal(one: JetBatch, other: JetBatch) -> bool:
    assert one.y is not None
    assert other.y is not None
    if not (one.ptr.equal(other.ptr) and one.y.equal(other.y)):
        return False
    return all(a.equal(b) for a, b in zip(one.momenta, other.momenta, strict=True))
