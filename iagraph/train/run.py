"""A training run from a configuration to a folder that holds all of it, and the judgement of a run on other jets.

A run folder holds ``config.yaml`` (every key), ``model.pt`` (weights) and ``model.json`` (what it takes to use them),
``metrics.json``, ``report.md``, ``predictions.npz``, ``figures/``, ``log/`` (CSV and TensorBoard) and ``checkpoints/``.
"""

from __future__ import annotations

import csv
import json
import logging
import platform
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

import iagraph
from iagraph.data import JetDataset, StoreError, jet_loader, resolve
from iagraph.models import IAFormer
from iagraph.train.config import Config, dump_config, load_config
from iagraph.train.datamodule import JetDataModule, check_jets, read_role
from iagraph.train.evaluation import Evaluation, MultiplicityTagger, evaluate_tagger
from iagraph.train.figures import loss_curves, save_figure
from iagraph.train.module import Tagger
from iagraph.yaml_config import ConfigError


class RunError(RuntimeError):
    """A run folder cannot be made, or is not one. The message names it and says what to do."""


USER_ERRORS = (ConfigError, StoreError, RunError, FloatingPointError)
"""What a script reports in one line, without a traceback."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's advice on workers, which ignores that a batch is one gather, and its notes on hardware."""
    level = logging.getLogger("lightning.pytorch").level
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*treespec, LeafSpec.*")
        try:
            yield
        finally:
            logging.getLogger("lightning.pytorch").setLevel(level)


def _read_description(run: Path) -> dict[str, Any]:
    missing = [name for name in ("config.yaml", "model.pt", "model.json") if not (run / name).is_file()]
    if missing:
        raise RunError(f"{run}: holds no {', '.join(missing)}; give the folder of a run that has finished training")
    return json.loads((run / "model.json").read_text(encoding="utf-8"))


@_quiet()
def train(config: Config) -> Path:
    """Trains, evaluates and records a model.

    Args:
        config: the configuration.

    Returns:
        The run folder, ``OUTPUT/NAME-001`` or the next free number.

    Raises:
        StoreError: the jets are missing, damaged or do not fit the configuration.
        RunError: the run folder cannot be made.
        FloatingPointError: the loss is not finite.
    """
    seed_everything(config.seed, verbose=False)
    data = JetDataModule(config.data, config.seed)
    model = build_model(config, data.classes)
    folder = new_run_folder(Path(config.output), config.name)
    (folder / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    tagger = Tagger(model, config.train, data.signal)
    best = ModelCheckpoint(folder / "checkpoints", "best", monitor="val_loss", save_last=True)
    callbacks = [best, EarlyStopping("val_loss", patience=config.train.patience), LearningRateMonitor("step")]
    loggers = [CSVLogger(folder, "log", ""), TensorBoardLogger(folder, "log", "")]
    trainer = make_trainer(
        config,
        max_epochs=config.train.epochs,
        accumulate_grad_batches=config.train.accumulate,
        gradient_clip_val=config.train.clip,
        callbacks=callbacks,
        logger=loggers,
        default_root_dir=folder,
        log_every_n_steps=min(10, len(data.train_dataloader())),
    )
    trainer.fit(tagger, datamodule=data)
    tagger.load_state_dict(torch.load(best.best_model_path, weights_only=True)["state_dict"])
    baseline = MultiplicityTagger.fit(data.jets["train"])
    save_model(folder, model, config, data, baseline)
    save_figure(loss_curves(read_history(folder)), folder / "figures" / "loss")
    evaluation = _evaluate(tagger, config, data.datasets["test"], baseline)
    evaluation.write(folder, config.model.name)
    return folder


@_quiet()
def evaluate(run: Path, file: str | None = None) -> Path:
    """Judges the model of a run again: on its own test jets, or on those of another store.

    Args:
        run: a run folder.
        file: a jet store; if it records splits, its part ``test`` is used.

    Returns:
        The folder inside the run that holds the record.

    Raises:
        RunError: the folder holds no finished run.
        StoreError: the jets are missing, damaged or do not fit the model.
    """
    description, config = _read_description(run), load_config(run / "config.yaml")
    model = build_model(config, description["classes"])
    model.load_state_dict(torch.load(run / "model.pt", weights_only=True, map_location="cpu"))
    files = config.data.test if file is None else [file]
    jets = read_role(files, "test", config.data.max_particles)
    check_jets(jets, config.data, description["classes"], ", ".join(files))
    tagger = Tagger(model, config.train, description["classes"].index(config.data.signal))
    baseline = MultiplicityTagger(**description["multiplicity"])
    evaluation = _evaluate(tagger, config, JetDataset(jets), baseline)
    folder = make_folder(run / f"evaluation-{resolve(files[0]).stem}", exist_ok=True)
    evaluation.write(folder, config.model.name)
    return folder


def build_model(config: Config, classes: Sequence[str]) -> IAFormer:
    """The model that a configuration describes, with new weights."""
    settings = config.model.model_dump(exclude={"name"})
    data = config.data
    return IAFormer(data.node_features, data.pair_features, len(classes), **settings)


def make_trainer(config: Config, **settings: Any) -> Trainer:
    """Lightning's trainer on the device and in the precision of the configuration."""
    quiet = {"enable_model_summary": False, "logger": False, "enable_checkpointing": "callbacks" in settings}
    return Trainer(accelerator=config.train.device, devices=1, precision=config.train.precision, **(quiet | settings))


def new_run_folder(output: Path, name: str) -> Path:
    """Makes the first free one of ``output/name-001``, ``output/name-002``, ...

    Raises:
        RunError: the folder cannot be made.
    """
    number = 1
    while (output / f"{name}-{number:03}").exists():
        number += 1
    return make_folder(output / f"{name}-{number:03}")


def make_folder(path: Path, exist_ok: bool = False) -> Path:
    """Makes a folder, or says why it cannot."""
    try:
        path.mkdir(parents=True, exist_ok=exist_ok)
    except OSError as error:
        raise RunError(
            f"{path}: cannot make this folder ({error.strerror}); choose another with output=FOLDER"
        ) from error
    return path


def save_model(
    folder: Path, model: IAFormer, config: Config, data: JetDataModule, baseline: MultiplicityTagger
) -> None:
    """Writes ``model.pt``, plain tensors, and ``model.json``: classes, data, versions."""
    torch.save(model.state_dict(), folder / "model.pt")
    description = {
        "classes": data.classes,
        "multiplicity": asdict(baseline),
        "data": data.fingerprints,
        "versions": {
            "iagraph": iagraph.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    (folder / "model.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def read_history(folder: Path) -> list[dict[str, float]]:
    """Loss and AUC after each epoch, the first one being number 1, from Lightning's CSV log."""
    epochs: dict[int, dict[str, float]] = {}
    with (folder / "log" / "metrics.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            values = {key: float(row[key]) for key in ("train_loss", "val_loss", "val_auc") if row.get(key)}
            if values:
                epochs.setdefault(int(row["epoch"]), {"epoch": float(row["epoch"]) + 1}).update(values)
    return [epochs[epoch] for epoch in sorted(epochs)]


def _evaluate(tagger: Tagger, config: Config, jets: JetDataset, baseline: MultiplicityTagger) -> Evaluation:
    loader = jet_loader(jets, config.data.batch_size, workers=config.data.workers)
    return evaluate_tagger(tagger, make_trainer(config), loader, jets, baseline, config.data.signal)
