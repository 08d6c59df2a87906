"""A training run from a configuration to a folder that holds all of it, and the judgement of a run on other jets.

A run folder holds ``config.yaml`` (every key), ``model.pt`` (weights) and ``model.json`` (what it takes to use them),
``metrics.json``, ``report.md``, ``predictions.npz``, ``figures/``, ``log/`` (CSV and TensorBoard) and ``checkpoints/``.
"""

from __future__ import annotations

import csv
import json
import logging
import pickle
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
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import iagraph
from iagraph.data import JetDataset, StoreError, jet_loader, resolve, store_info
from iagraph.models import IAFormer
from iagraph.train.config import Config, dump_config, load_config
from iagraph.train.datamodule import JetDataModule, check_jets, fingerprints, read_role
from iagraph.train.evaluation import Evaluation, MultiplicityTagger, evaluate_tagger
from iagraph.train.figures import loss_curves, save_figure
from iagraph.train.module import Tagger
from iagraph.yaml_config import ConfigError


class RunError(RuntimeError):
    """A run cannot start, its folder cannot be made, or is not one. The message says what to do."""


USER_ERRORS = (ConfigError, StoreError, RunError, FloatingPointError)
"""What a script reports in one line, without a traceback."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's advice on workers, which ignores that a batch is one gather, and its notes on hardware."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            warnings.filterwarnings("ignore", ".*treespec, LeafSpec.*")
            yield
    finally:
        logger.setLevel(level)


@_quiet()
def train(config: Config) -> Path:
    """Trains, evaluates and records a model.

    Args:
        config: the configuration.

    Returns:
        The run folder, ``OUTPUT/NAME-001`` or the next free number.

    Raises:
        StoreError: the jets are missing, damaged or do not fit the configuration.
        RunError: the device is not there, or the run folder cannot be made.
        FloatingPointError: the loss is not finite.
    """
    seed_everything(config.seed, verbose=False)
    data = JetDataModule(config.data, config.seed)
    baseline = MultiplicityTagger.fit(data.datasets["train"])
    model = build_model(config, data.classes)
    tagger = Tagger(model, config.train, data.signal)
    judge = make_trainer(config)  # before anything is written: is the device there?
    folder = new_run_folder(Path(config.output), config.name)
    (folder / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    best = ModelCheckpoint(folder / "checkpoints", "best", monitor="val_loss")
    trainer = make_trainer(
        config,
        max_epochs=config.train.epochs,
        accumulate_grad_batches=config.train.accumulate,
        gradient_clip_val=config.train.clip,
        callbacks=[best, EarlyStopping("val_loss", patience=config.train.patience), LearningRateMonitor("step")],
        logger=[CSVLogger(folder, "log", ""), TensorBoardLogger(folder, "log", "")],
        default_root_dir=folder,
        enable_checkpointing=True,
        log_every_n_steps=min(10, len(data.train_dataloader())),
    )
    trainer.fit(tagger, datamodule=data)
    tagger.load_state_dict(torch.load(best.best_model_path, weights_only=True)["state_dict"])
    save_model(folder, model, data, baseline)
    save_figure(loss_curves(read_history(folder)), folder / "figures" / "loss")
    loader = data.test_dataloader()
    evaluation = evaluate_tagger(tagger, judge, loader, data.datasets["test"], baseline, config.data.signal)
    evaluation.write(folder, config.model.name)
    return folder


@_quiet()
def evaluate(run: Path, file: str | None = None, device: str | None = None) -> Path:
    """Judges the model of a run again: on its own test jets, or on those of another store.

    Args:
        run: a run folder.
        file: a jet store; if it records splits, its part ``test`` is used.
        device: kind of device, cpu for example; None takes that of the run.

    Returns:
        The folder inside the run that holds the record; its name tells the file and the start of its fingerprint.

    Raises:
        RunError: the folder holds no finished run, the device is not there, or the jets are those of the training.
        StoreError: the jets are missing, damaged or do not fit the model.
    """
    config, description, model = load_run(run)
    files = config.data.test if file is None else [file]
    _check_not_trained_on(files, description)
    jets = read_role(files, "test")
    check_jets(jets, config.data, description["classes"], ", ".join(files))
    dataset = JetDataset(jets, config.data.max_particles)
    loader = jet_loader(dataset, config.data.batch_size, workers=config.data.workers)
    tagger = Tagger(model, config.train, description["classes"].index(config.data.signal))
    baseline = MultiplicityTagger(**description["multiplicity"])
    judge = make_trainer(config, **({} if device is None else {"accelerator": device}))
    evaluation: Evaluation = evaluate_tagger(tagger, judge, loader, dataset, baseline, config.data.signal)
    path = resolve(files[0])
    folder = make_folder(run / f"evaluation-{path.stem}-{store_info(path).fingerprint[:8]}", exist_ok=True)
    evaluation.write(folder, config.model.name)
    return folder


def build_model(config: Config, classes: Sequence[str]) -> IAFormer:
    """The model that a configuration describes, with new weights."""
    settings = config.model.model_dump(exclude={"name"})
    return IAFormer(config.data.node_features, config.data.pair_features, len(classes), **settings)


def make_trainer(config: Config, **settings: Any) -> Trainer:
    """Lightning's trainer on the device and in the precision of the configuration; by default it only predicts.

    Raises:
        RunError: the device is not there.
    """
    defaults = {
        "accelerator": config.train.device,
        "devices": 1,
        "precision": config.train.precision,
        "logger": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
    }
    try:
        return Trainer(**(defaults | settings))
    except MisconfigurationException as error:
        raise RunError(f"device '{(defaults | settings)['accelerator']}': {error}; use another one") from error


def new_run_folder(output: Path, name: str) -> Path:
    """Makes the first free one of ``output/name-001``, ``output/name-002``, ..., also when others do so meanwhile.

    Raises:
        RunError: the folder cannot be made.
    """
    number = 1
    while True:
        try:
            return make_folder(output / f"{name}-{number:03}")
        except FileExistsError:
            number += 1


def make_folder(path: Path, exist_ok: bool = False) -> Path:
    """Makes a folder.

    Raises:
        FileExistsError: it is there already.
        RunError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=exist_ok)
    except FileExistsError:
        raise
    except OSError as error:
        raise RunError(f"{path}: cannot make this folder ({error.strerror}); is it the right place?") from error
    return path


def save_model(folder: Path, model: IAFormer, data: JetDataModule, baseline: MultiplicityTagger) -> None:
    """Writes ``model.pt``, plain tensors, and ``model.json``: classes, data, versions."""
    torch.save(model.state_dict(), folder / "model.pt")
    versions = {"iagraph": iagraph.__version__, "torch": torch.__version__, "python": platform.python_version()}
    description = {
        "classes": data.classes,
        "multiplicity": asdict(baseline),
        "data": data.fingerprints,
        "versions": versions,
    }
    (folder / "model.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def load_run(run: Path) -> tuple[Config, dict[str, Any], IAFormer]:
    """Configuration, description and trained model of a run.

    Raises:
        RunError: the folder holds no finished run, or its weights are damaged.
        ConfigError: its configuration has been changed into something invalid.
    """
    missing = [name for name in ("config.yaml", "model.pt", "model.json") if not (run / name).is_file()]
    if missing:
        raise RunError(f"{run}: holds no {', '.join(missing)}; give the folder of a run that has finished training")
    config = load_config(run / "config.yaml")
    try:
        description = json.loads((run / "model.json").read_text(encoding="utf-8"))
        model = build_model(config, description["classes"])
        model.load_state_dict(torch.load(run / "model.pt", weights_only=True, map_location="cpu"))
    except (ValueError, KeyError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"{run}: model.pt or model.json is damaged or does not fit config.yaml ({reason})") from error
    return config, description, model


def read_history(folder: Path) -> list[dict[str, float]]:
    """Loss and AUC after each epoch, the first one being number 1, from Lightning's CSV log."""
    epochs: dict[int, dict[str, float]] = {}
    with (folder / "log" / "metrics.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            values = {key: float(row[key]) for key in ("train_loss", "val_loss", "val_auc") if row.get(key)}
            if values:
                epochs.setdefault(int(row["epoch"]), {"epoch": float(row["epoch"]) + 1}).update(values)
    return [epochs[epoch] for epoch in sorted(epochs)]


def _check_not_trained_on(files: Sequence[str], description: dict[str, Any]) -> None:
    trained_on = description["data"]["train"].values()
    for name, fingerprint in fingerprints(files).items():
        if fingerprint in trained_on and not store_info(resolve(name)).splits:
            raise RunError(f"{name}: the model was trained on these very jets; judge it on others")
