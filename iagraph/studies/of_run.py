"""What studies of trained models share: the runs that they open, their jets, and where what they find goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from iagraph.jets import JetBatch
from iagraph.models import ParticleTransformer
from iagraph.models.attention_tagger import AttentionTagger
from iagraph.models.registry import names_of
from iagraph.studies.measuring import open_studied_jets, some_batches, where_measured
from iagraph.studies.recording import AttentionModel
from iagraph.train.folder import Run, RunError, load_run


@dataclass(frozen=True)
class Plan:
    """What is asked for on the command line.

    Attributes:
        runs: folders of finished runs.
        folder: where all of it goes.
        jets: number of test jets of each run.
        command: what was typed, for the record.
    """

    runs: Sequence[Path]
    folder: Path
    jets: int
    command: str = ""


@dataclass(frozen=True)
class OpenRun:
    """A finished run and its test jets.

    Attributes:
        path: its folder.
        run: its configuration, classes and model.
        model: the model, in evaluation mode on :attr:`device`; it has attention unless the run was opened without
            asking for it.
        batches: some of its test jets, with labels, on the CPU.
        device: where to compute.
    """

    path: Path
    run: Run
    model: AttentionModel
    batches: list[JetBatch]
    device: torch.device

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.path.resolve().name

    @property
    def jets(self) -> int:
        """The number of jets."""
        return sum(map(len, self.batches))


def open_run(path: Path, jets: int, needs_attention: bool = True) -> OpenRun:
    """A finished run of a model with attention, with so many of its test jets, evenly spaced.

    Args:
        path: folder of the run.
        jets: number of jets.
        needs_attention: False opens runs of any model, for studies that look at logits alone.

    Raises:
        RunError: the folder holds no finished run, the model has no attention among particles, or none of the jets is
            of some class.
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
    return OpenRun(path, run, model.to(device).eval(), some_batches(source, jets), device)
