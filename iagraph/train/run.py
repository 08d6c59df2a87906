"""Training runs, from a configuration to a run folder, and their evaluation (:mod:`iagraph.train.evaluate`).

A run folder holds ``config.yaml`` (every key), ``model.pt`` (weights), ``model.json`` (their description),
``trained_on.npy`` (digests of the training jets), ``metrics.json``, ``report.md``, ``predictions.npz``, ``figures/``,
``log/`` (CSV and TensorBoard) and ``checkpoints/``, from which an interrupted run resumes and a finished one can be
extended (:mod:`iagraph.train.checkpoints`).
"""

from __future__ import annotations

import math
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning import Callback, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from iagraph.data import JetDataset
from iagraph.files import remove_unfinished, replaced, user_path, write_text
from iagraph.machine import usable_cores
from iagraph.memory import return_freed_memory
from iagraph.models.registry import TrainedModel
from iagraph.plotting import save_figure
from iagraph.train.checkpoints import (
    BEST,
    END,
    LAST,
    ORIGIN,
    AtomicCheckpointIO,
    BestWeights,
    KeptWeights,
    ResumeCheckpoint,
    load_checkpoint,
    moving_average,
    read_state,
    restore_log,
    state_file,
)
from iagraph.train.compiled import InSlots
from iagraph.train.config import PATHS, Config, changed, differences, dump_config, load_config
from iagraph.train.datamodule import JetDataModule
from iagraph.train.distillation import load_teacher, targets
from iagraph.train.evaluate import evaluate
from iagraph.train.evaluation import MultiplicityTagger, evaluate_tagger
from iagraph.train.extension import EXTENDABLE, check_extension
from iagraph.train.figures import loss_curves
from iagraph.train.folder import (
    RunError,
    alone,
    kept_epochs,
    make_folder,
    new_model,
    new_run_folder,
    read_history,
    save_model,
    weights_of_epoch,
)
from iagraph.train.module import Tagger
from iagraph.train.origin import origin, seen_before
from iagraph.train.processes import check_started_alone, rank, share_folder, shared_folder
from iagraph.train.progress import EpochLines, TrainingCost, training_record
from iagraph.train.trainer import make_trainer, quiet, shows_bar

__all__ = ["evaluate", "resume", "train"]


@quiet()
def train(config: Config, callbacks: Sequence[Callback] = (), into: str | Path | None = None) -> Path:
    """Train, evaluate and record a model.

    Args:
        config: the configuration.
        callbacks: further Lightning callbacks.
        into: the run folder. If it holds an interrupted run of the same configuration, this is resumed; a finished one
            is left unchanged, so a cluster may rerun the command.

    Returns:
        The run folder: ``into``, or ``OUTPUT/NAME-001`` or the next free number.

    Raises:
        StoreError: the jets are missing, damaged or do not fit the configuration, or the initial weights or the teacher
            were trained on validation or test jets.
        RunError, CheckpointError: the device is missing, the initial weights or the teacher do not fit, the run folder
            cannot be created, ``into`` holds anything else, or the first epoch was interrupted.
        FloatingPointError: the loss is not finite.
    """
    into = None if into is None else user_path(into)
    if into is None or not into.exists():
        return _train(config, into, callbacks)
    if not (into / "config.yaml").is_file():
        if not into.is_dir() or any(path.name != "checkpoints" for path in into.iterdir()):
            raise RunError(f"{into}: exists and holds no run; give another folder")
        return _train(config, into, callbacks, resuming=True)  # killed before anything was written
    theirs = load_config(into / "config.yaml")
    if theirs != config:
        keys = list(differences(config, theirs))
        advice = f", or resume it: iagraph train --resume {into} {' '.join(f'{key}=...' for key in keys)}"
        advice = advice if set(keys) <= {*EXTENDABLE, *PATHS} else ""
        raise RunError(f"{into}: holds a run that differs in {', '.join(keys[:5])}; give another folder{advice}")
    return into if _is_finished(into) else _train(config, into, callbacks, resuming=True)


@quiet()
def resume(folder: str | Path, changes: Sequence[str] = ()) -> Path:
    """Resume an interrupted run after its last finished epoch; with changes, also extend a finished one.

    In a single CPU process, the result is that of an uninterrupted run: the same weights, log and predictions. Rounding
    depends on the number of threads, so the run's own number is used, or fewer, with a message, if there are fewer
    cores or ``OMP_NUM_THREADS`` allows no more.

    With more epochs, learning rate and tightening follow the new schedule from the next step on: after 10 of 10 epochs,
    a run extended to 20 continues in the middle of the cosine. Best weights, optimiser state and log are kept, and
    patience restarts. With only more patience, the run continues as if this patience had been set from the start.

    Args:
        folder: the run folder, which may have been moved.
        changes: ``train.epochs=20``, ``train.patience=5`` or both; and new paths of jets, initial weights or teacher,
            if these were moved.

    Returns:
        The folder.

    Raises:
        RunError: the folder holds no run, or a finished one without ``changes``; the jets differ from those of the run;
            another process is training it; or the changes are not possible.
        CheckpointError, ConfigError, StoreError, FloatingPointError: as in :func:`train`.
    """
    folder = user_path(folder)
    if not (folder / "config.yaml").is_file():
        raise RunError(f"{folder}: holds no config.yaml; give the folder of an interrupted run")
    before = load_config(folder / "config.yaml")
    config = load_config(folder / "config.yaml", changes)
    if changed(before, config):
        check_extension(folder, before, config)
    elif _is_finished(folder):
        raise RunError(
            f"{folder}: has finished, see report.md; to train it further: "
            f"iagraph train --resume {folder} train.epochs={2 * config.train.epochs}"
        )
    return _train(config, folder, (), resuming=True)


def _is_finished(folder: Path) -> bool:
    return (folder / "metrics.json").exists() and not (folder / "checkpoints" / LAST).exists()


@quiet()
def train_into(folder: Path, config: Config) -> None:
    """Train, evaluate and record one model of a comparison, silently and without evaluating an interrupted run.

    Args:
        folder: the run folder. If it holds an interrupted run of the same configuration, this is resumed, even if the
            files of its jets, initial weights or teacher were moved.
        config: the configuration; its name and output are only recorded.

    Raises:
        StoreError, RunError, FloatingPointError: as in :func:`train`; RunError also if the training was interrupted, or
            the folder holds anything else.
    """
    resuming = folder.exists()
    if resuming and changed(load_config(folder / "config.yaml"), config):
        raise RunError(f"{folder}: holds another run; give another folder")
    _train(config, folder, (), silent=True, resuming=resuming)


def _train(
    config: Config, folder: Path | None, callbacks: Sequence[Callback], silent: bool = False, resuming: bool = False
) -> Path:
    """Train in ``folder``, by default the next numbered one; Ctrl-C ends training early unless ``silent``.

    All processes train; the first one does the rest.
    """
    seed_everything(config.seed, verbose=False)
    data = JetDataModule(config.data, config.seed, config.train.jets_per_epoch)
    baseline = MultiplicityTagger.fit(data.datasets["train"])
    model = new_model(config, data.classes)
    teacher = None if config.distill is None else load_teacher(config.distill.teacher, data.datasets["train"])
    data.add_seen(*seen_before(config))
    started_from = origin(config)
    jets, loss_weights = data.jets_per_epoch, data.loss_weights(config.train.class_weights)
    tagger = Tagger(model, config.train, data.signal, jets, config.fine_tune, loss_weights)
    predictor = make_trainer(config, enable_progress_bar=shows_bar(silent))  # fails early without the device
    if rank():
        folder = shared_folder() if folder is None else folder
        _fit(config, tagger, data, teacher, started_from, folder, callbacks, silent)
        return folder
    numbered = folder is None
    if folder is None:
        check_started_alone()
        folder = new_run_folder(user_path(config.output), config.name)
    elif not resuming:
        make_folder(folder)
    share_folder(folder)
    kept = make_folder(folder / "checkpoints", exist_ok=True)
    with alone(kept):
        if read_state(kept, _inputs(data, started_from), config.train) is not None:  # before anything is changed
            load_checkpoint(kept / BEST)
        remove_unfinished(folder)
        if resuming and not (kept / LAST).exists() and (kept / END).exists():  # first, to mark the run as unfinished
            with replaced(kept / LAST) as file:
                file.write((kept / END).read_bytes())
        if not (folder / "config.yaml").exists() or load_config(folder / "config.yaml") != config:
            write_text(folder / "config.yaml", dump_config(config))
        over = True
        if not silent:
            print(f"{folder}: {jets:,} training jets per epoch, at most {config.train.epochs} epochs", flush=True)
        try:
            _fit(config, tagger, data, teacher, started_from, folder, callbacks, silent)
        except KeyboardInterrupt:  # while the teacher saw the jets; in training, Lightning turns it into an exit
            if numbered:
                shutil.rmtree(folder)
            raise
        except SystemExit as interrupted:
            if silent:
                raise RunError(f"interrupted: {folder} holds no finished run") from interrupted
            signal.signal(signal.SIGINT, signal.default_int_handler)  # Ctrl-C, which Lightning turned into an exit
            if not (kept / BEST).exists():
                if numbered:
                    shutil.rmtree(folder)  # so that the next run has its number
                raise RunError("interrupted in the first epoch: no model was written") from interrupted
            print(
                f"\ninterrupted: evaluating the best epoch; resume the training with: iagraph train --resume {folder}"
            )
            over = False
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}; {_kept_weights(kept)}") from error
        return_freed_memory()
        tagger.load_state_dict(load_checkpoint(kept / BEST)["state_dict"])
        save_model(folder, config, model, data, baseline, started_from)
        save_figure(loss_curves(read_history(folder)), folder / "figures" / "loss")
        loader = data.test_dataloader()
        evaluation = evaluate_tagger(tagger, predictor, loader, data.datasets["test"], baseline, config.data)
        evaluation.write(folder, config.model.name, data.fingerprints["test"], training_record(kept))
        if over:
            (kept / LAST).replace(kept / END)
    return folder


def _fit(
    config: Config,
    tagger: Tagger,
    data: JetDataModule,
    teacher: TrainedModel | None,
    started_from: dict[str, str],
    folder: Path,
    callbacks: Sequence[Callback],
    silent: bool,
) -> None:
    """Train, from the saved state if there is one."""
    kept = folder / "checkpoints"
    inputs = _inputs(data, started_from)
    state = read_state(kept, inputs, config.train)
    csv = CSVLogger(folder, "log", "")
    if not rank():
        if state is None:  # of an unfinished first epoch, or of a training that is begun again
            shutil.rmtree(folder / "log", ignore_errors=True)
            for epoch in kept_epochs(folder):
                weights_of_epoch(folder, epoch).unlink()
        restore_log(csv, "" if state is None else state.log)
    resume_checkpoint = ResumeCheckpoint(kept, csv, inputs, config.train, state)
    if state is not None:
        _use_threads(state.threads, silent)
        if state.over:
            return
    if config.train.compile:
        tagger.in_slots = InSlots(tagger.model, config.data.batch_size)
    processes = config.train.devices * config.train.machines
    steps = data.jets_per_epoch // (processes * config.data.batch_size)
    trainer = make_trainer(
        config,
        devices=config.train.devices,
        num_nodes=config.train.machines,
        strategy="ddp" if processes > 1 else "auto",
        max_epochs=config.train.epochs,
        accumulate_grad_batches=config.train.accumulate,
        gradient_clip_val=config.train.clip,
        callbacks=[
            TrainingCost(),
            BestWeights(kept, averaged=config.train.ema is not None),
            *([] if config.train.keep_every is None else [KeptWeights(folder, config.train.keep_every)]),
            EarlyStopping("val_loss", patience=config.train.patience),
            LearningRateMonitor("step"),
            *([] if config.train.ema is None else [moving_average(config.train.ema)]),
            *([] if silent or shows_bar(silent) else [EpochLines()]),
            *callbacks,
            resume_checkpoint,
        ],
        logger=[csv, TensorBoardLogger(folder, "log", "", purge_step=0 if state is None else state.steps)],
        plugins=[AtomicCheckpointIO()],
        default_root_dir=folder,
        enable_checkpointing=True,
        enable_progress_bar=shows_bar(silent),
        log_every_n_steps=max(1, min(10, steps)),
    )
    if teacher is not None and config.distill is not None:  # with the threads and on the device of the training
        jets = data.datasets["train"]
        assert isinstance(jets, JetDataset)  # as the configuration checked
        jets.targets = targets(teacher, jets, config.distill.weight, trainer.strategy.root_device)
    trainer.fit(tagger, datamodule=data, ckpt_path=None if state is None else state_file(kept))


def _inputs(data: JetDataModule, started_from: dict[str, str]) -> dict[str, dict[str, str]]:
    """Fingerprints of what a run begins with and can only be resumed with."""
    return data.fingerprints | {ORIGIN: started_from}


def _use_threads(number: int | None, silent: bool) -> None:
    """Use as many threads as before the interruption, as rounding depends on them, but no more than there are cores; or
    if ``silent`` or ``OMP_NUM_THREADS`` is set, no more than this process was given.
    """
    if number in (None, torch.get_num_threads()):
        return
    given = silent or "OMP_NUM_THREADS" in os.environ
    most = torch.get_num_threads() if given else math.floor(usable_cores())
    threads = max(1, min(number, most))
    if not silent:
        before = "as" if threads == number else f"instead of {number}"
        changed_digits = "" if threads == number else ": the result may differ in the last digits"
        print(f"threads: {threads}, {before} before the interruption{changed_digits}", flush=True)
    torch.set_num_threads(threads)


def _kept_weights(kept: Path) -> str:
    """Describe what is kept of a run that failed."""
    if not (kept / LAST).exists():
        return "no epoch was finished, so nothing is kept"
    epochs = load_checkpoint(kept / LAST)["epoch"] + 1
    return (
        f"the best weights of the {epochs} epoch{'s' if epochs > 1 else ''} before are kept in {kept / BEST}; resuming "
        "would fail again, so retrain"
    )
