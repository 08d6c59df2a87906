"""Evaluation of finished runs on their own test jets or on others; measured by :mod:`iagraph.train.evaluation`."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np

from iagraph.data import JetDataset, Jets, JetSource, StoredJets, resolve
from iagraph.files import PRETRAINED, run_path, user_files, user_path
from iagraph.train.datamodule import (
    MAX_DUPLICATES,
    check_jets,
    compare_masses,
    fingerprints,
    known_fraction,
    make_loader,
    open_role,
    overlap,
    part_of,
    read_all,
)
from iagraph.train.evaluation import evaluate_tagger
from iagraph.train.folder import RunError, load_run, make_folder
from iagraph.train.module import Tagger
from iagraph.train.trainer import make_trainer, quiet, shows_bar

__all__ = ["evaluate"]


@quiet()
def evaluate(run: str | Path, file: str | None = None, device: str | None = None) -> Path:
    """Evaluate the model of a run on its own test jets or on another store.

    Args:
        run: a run folder, or ``pretrained:NAME``.
        file: a jet store, or a pattern such as ``jets/*.h5``; of stores with splits, only ``test`` is used.
        device: kind of device, for example cpu; None uses the device of the run.

    Returns:
        The folder of the evaluation, in the run or, for a model of the package, in ``runs/pretrained-NAME``. It has the
        name of the (first) file and the start of its fingerprint or, for several files, of a digest of theirs.

    Raises:
        RunError: the folder holds no finished run, the device is not available, or the model was trained on more than
            :data:`MAX_DUPLICATES` of the jets (if they are streamed: on any of them, by position in their files).
        ConfigError: the configuration of the run is no longer valid.
        StoreError: the jets are missing, damaged or do not fit the model.
    """
    run = run_path(run)
    config, classes, model, baseline, trained_on, massive, _ = load_run(run)
    files = config.data.test if file is None else user_files([file])
    stores = open_role(files, "test", config.data)
    source: JetSource
    if config.data.in_memory:
        jets = read_all(stores)
        _check_not_trained_on(run, jets, ", ".join(files))
        source = JetDataset(jets, config.data.max_particles, config.data.masses)
    else:
        for store in stores:
            if any(overlap(part_of(store), part) for part in trained_on):
                raise RunError(f"{store.path}: the model was trained on jets of this file; evaluate it on others")
        source = StoredJets(stores, config.data.max_particles, config.data.masses)
    check_jets(source, config.data, classes, ", ".join(files))
    compare_masses(massive, source, ", ".join(files))
    signal = None if config.data.signal is None else classes.index(config.data.signal)
    tagger = Tagger(model, config.train, signal)
    predictor = make_trainer(
        config, enable_progress_bar=shows_bar(False), **({} if device is None else {"accelerator": device})
    )
    loader = make_loader(source, config.data)
    evaluation = evaluate_tagger(tagger, predictor, loader, source, baseline, config.data)
    prints = fingerprints(files, stores)
    print_of_all = sha256("".join(prints.values()).encode()).hexdigest() if len(files) > 1 else prints[files[0]]
    more = f"-and-{len(files) - 1}-more" if len(files) > 1 else ""
    name = f"evaluation-{resolve(files[0]).stem}{more}-{print_of_all[:8]}"
    place = user_path(config.output) / f"pretrained-{run.name}" if run.parent == PRETRAINED else run
    folder = make_folder(place / name, exist_ok=True)
    evaluation.write(folder, config.model.name, prints)
    return folder


def _check_not_trained_on(run: Path, jets: Jets, where: str) -> None:
    try:
        trained_on = np.load(run / "trained_on.npy", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise RunError(f"{run / 'trained_on.npy'}: damaged ({error}); copy the run again") from error
    known = known_fraction(jets.digests(), trained_on)
    if known > MAX_DUPLICATES:
        raise RunError(f"{where}: the model was trained on {known:.0%} of these jets; evaluate it on others")
